//! Where generated records go: the generation is one, its uses are several (the record set, the
//! listing by task, the explanation, and reference counts of a source that sends single tasks).

use super::addresses::{Address, IpSource};
use crate::mesos::state::{Agent, Framework, Task};

/// What the records that follow are about.
#[derive(Debug, Clone, Copy)]
pub enum Subject<'a> {
    /// A framework's scheduler.
    Framework(&'a Framework),
    /// An agent.
    Agent(&'a Agent),
    /// The name server itself.
    NameServer,
    /// The leading master and the candidates.
    Masters,
    /// The tasks of one framework begin.
    TasksOf(&'a Framework),
    /// A task.
    Task(&'a Task),
}

/// Which rule of `docs/naming.md` made a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// `framework.domain` and `_framework._tcp`.
    Framework,
    /// `slave.domain` and `_slave._tcp`.
    Agent,
    /// The address of the name server.
    NameServer,
    /// `leader.domain`, `_leader._tcp` and `_leader._udp`.
    Leader,
    /// `master.domain` and `masterN.domain`.
    Master,
    /// A task's own address, from a source.
    TaskAddress(IpSource),
    /// The address of a task's agent, under `slave`.
    AgentAddress,
    /// A port of the task's resources.
    ResourcePort,
    /// A port of the task's discovery information.
    DiscoveryPort,
}

impl Rule {
    /// One sentence part for people.
    #[must_use]
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Framework => "scheduler of a framework",
            Self::Agent => "agent",
            Self::NameServer => "address of this name server",
            Self::Leader => "leading master",
            Self::Master => "master candidate",
            Self::TaskAddress(_) => "own address of a task",
            Self::AgentAddress => "address of a task's agent",
            Self::ResourcePort => "port resource of a task",
            Self::DiscoveryPort => "discovery port of a task",
        }
    }
}

/// Takes records as they are generated. Adding a record that is there already does nothing.
pub trait Sink {
    /// A cheap handle of a name, so that a name used for many values is built once.
    type Name: Copy;

    /// Says what the following records are about.
    fn enter(&mut self, _subject: Subject<'_>) {}

    /// The handle of a full name with its final dot, in the case it was built with.
    fn name(&mut self, text: &str) -> Self::Name;

    /// As [`Self::name`], for a name that DNS carries in another form.
    fn name_cut_for_dns(&mut self, text: &str, dns: &str) -> Self::Name;

    /// Adds an A or AAAA value, by the family of the address.
    fn address(&mut self, owner: Self::Name, address: &Address, rule: Rule);

    /// Adds an SRV value; the port is the number as found, whatever its range.
    fn service(&mut self, owner: Self::Name, target: Self::Name, port: i64, rule: Rule);

    /// Adds an SRV value that only DNS serves: mesos-dns has no such record, and its listings do
    /// not show it.
    fn service_in_dns_only(&mut self, owner: Self::Name, target: Self::Name, port: i64, rule: Rule);

    /// Whether `owner` has this address already.
    fn has_address(&self, owner: Self::Name, address: &Address) -> bool;
}
