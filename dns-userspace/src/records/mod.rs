//! Cluster state to resource records. Pure: no I/O, no clock, no lock.
//!
//! ```text
//! State + candidates + Settings  →  generate  →  MesosRecords (texts, as mesos-dns shows them)
//!                                                      ↘  to_zone  →  Name, Rrset
//! ```
//!
//! The texts are those of mesos-dns to the letter, so that its HTTP listings can be reproduced.
//! What DNS can carry of them is decided in [`to_zone`]. Where state comes from events, [`live`]
//! keeps the same content up to date by single changes.

pub mod addresses;
pub mod counted;
pub mod dcos;
pub mod explain;
pub mod fixed;
pub mod go_json;
pub mod label;
pub mod live;
pub mod mesos;
pub mod report;
pub mod reverse;
pub mod set;
pub mod sink;
pub mod to_zone;

pub use addresses::{Address, IpSource};
pub use label::LabelRule;
pub use mesos::Resolve;
pub use set::{MesosRecords, NameId, Service};

use crate::mesos::{Defects, State};
use mesos::AgentAddresses;
use set::Builder;
use sink::{Sink, Subject};

/// What generation depends on beside the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The domain, in lower case and without final dot.
    pub domain: String,
    /// Where a task's addresses are looked for, the best first.
    pub ip_sources: Vec<IpSource>,
    /// How names become labels.
    pub labels: LabelRule,
    /// The name server's own record.
    pub name_server: NameServer,
    /// TTL of every record, in seconds.
    pub ttl: u32,
    /// Weight of every SRV record; the priority is always 0.
    pub srv_weight: u16,
    /// The start of authority.
    pub soa: SoaSettings,
    /// Which addresses are led back to names.
    pub reverse: reverse::Reverse,
}

/// The name server's own record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameServer {
    /// The full name with its final dot, as configured.
    pub name: String,
    /// Its addresses, see [`fixed::listener_addresses`].
    pub addresses: Vec<Address>,
}

/// The configured fields of the start of authority, times in seconds. The primary name server is
/// [`NameServer::name`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoaSettings {
    /// Mailbox, as a full name with its final dot.
    pub rname: String,
    /// Refresh interval of secondaries.
    pub refresh: u32,
    /// Retry interval of secondaries.
    pub retry: u32,
    /// Expiry of secondaries.
    pub expire: u32,
    /// TTL of negative answers (RFC 2308, section 4).
    pub minimum: u32,
}

/// Generates every record of `state`, in the order of mesos-dns. `candidates` are the masters as
/// `host:port`, in the order in which they are numbered.
pub fn generate<S: Sink>(
    state: &State,
    candidates: &[String],
    settings: &Settings,
    resolve: Resolve<'_>,
    sink: &mut S,
) -> Defects {
    let mut defects = Defects::default();
    for framework in &state.frameworks {
        sink.enter(Subject::Framework(framework));
        mesos::framework_records(framework, settings, resolve, sink, &mut defects);
    }
    let mut agents = AgentAddresses::default();
    for agent in &state.agents {
        sink.enter(Subject::Agent(agent));
        let addresses = mesos::agent_addresses(agent, resolve, &mut defects);
        mesos::agent_records(agent, &addresses, settings, sink);
        agents.insert(&agent.id, addresses);
    }
    sink.enter(Subject::NameServer);
    fixed::name_server_records(&settings.name_server, sink);
    sink.enter(Subject::Masters);
    fixed::master_records(
        &state.leader,
        candidates,
        settings,
        resolve,
        sink,
        &mut defects,
    );
    mesos::all_task_records(state, &agents, settings, sink);
    defects
}

/// The record set of `state`. What was left out is counted in [`MesosRecords::defects`]; what the
/// reading of the state left out is not in there.
#[must_use]
pub fn build(
    state: &State,
    candidates: &[String],
    settings: &Settings,
    resolve: Resolve<'_>,
) -> MesosRecords {
    let tasks = state.frameworks.iter().map(|one| one.tasks.len());
    let mut builder = Builder::for_tasks(tasks.sum());
    let defects = generate(state, candidates, settings, resolve, &mut builder);
    builder.finish(defects)
}
