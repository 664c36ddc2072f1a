//! Where the records of one name come from, for people who wonder.

use std::fmt;

use super::addresses::Address;
use super::set::{Builder, NameId};
use super::sink::{Rule, Sink, Subject};
use super::to_zone::{has_readable_port, reachable_cut_name, reachable_name};
use super::{Resolve, Settings, generate};
use crate::mesos::{Defects, State};
use crate::zones::Name;

/// One record of the name, with its origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The owner as mesos-dns shows it.
    pub name: String,
    /// The owner in DNS; `None` if no query finds it, or an SRV record has no target.
    pub dns_name: Option<String>,
    /// Whether the target of an SRV record is none that mesos-dns could send.
    pub lacks_target: bool,
    /// `A`, `AAAA` or `SRV`.
    pub rtype: &'static str,
    /// The value as mesos-dns shows it.
    pub data: String,
    /// The rule that made it.
    pub rule: Rule,
    /// What it was made of.
    pub origin: Origin,
}

/// What a record was made of, as far as it applies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origin {
    /// The framework's name.
    pub framework: Option<String>,
    /// The task's id.
    pub task: Option<String>,
    /// The agent's id.
    pub agent: Option<String>,
    /// Time of the status whose addresses count, in seconds since 1970.
    pub status_time: Option<f64>,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.rtype, self.data)?;
        write!(f, "\n    rule: {}", self.rule.describe())?;
        if let Rule::TaskAddress(source) = self.rule {
            write!(f, ", source {source}")?;
        }
        for (what, value) in [
            ("framework", &self.origin.framework),
            ("task", &self.origin.task),
            ("agent", &self.origin.agent),
        ] {
            if let Some(value) = value {
                write!(f, "\n    {what}: {value}")?;
            }
        }
        if self.origin.task.is_some() {
            match self.origin.status_time {
                Some(time) => write!(f, "\n    status: TASK_RUNNING since {time}")?,
                None => f.write_str("\n    status: TASK_RUNNING, no status of that state")?,
            }
        }
        match &self.dns_name {
            None if self.lacks_target => {
                f.write_str("\n    DNS: not served, its target is no name")
            }
            None => f.write_str("\n    DNS: not served, no query can match this name"),
            Some(dns) if *dns == self.name => f.write_str("\n    DNS: served"),
            Some(dns) => write!(f, "\n    DNS: served as {dns}"),
        }
    }
}

/// Explains every record of `name`, which may lack its final dot and be in any case. The name may
/// be as mesos-dns shows it or as DNS serves it.
#[must_use]
pub fn explain(
    state: &State,
    candidates: &[String],
    settings: &Settings,
    resolve: Resolve<'_>,
    name: &str,
) -> (Vec<Explanation>, Defects) {
    let mut explainer = Explainer {
        wanted: format!("{}.", name.trim_end_matches('.')).to_lowercase(),
        name_server: &settings.name_server.name,
        apex: Name::from_text(&settings.domain).ok(),
        names: Builder::default(),
        owners: Vec::new(),
        origin: Origin::default(),
        found: Vec::new(),
    };
    let defects = generate(state, candidates, settings, resolve, &mut explainer);
    (explainer.found, defects)
}

struct Explainer<'a> {
    wanted: String,
    name_server: &'a str,
    apex: Option<Name>,
    names: Builder,
    /// Names that are asked for, with their names in DNS.
    owners: Vec<(NameId, Option<String>)>,
    origin: Origin,
    found: Vec<Explanation>,
}

impl Explainer<'_> {
    fn served(&self, name: Option<Name>) -> Option<String> {
        let apex = self.apex.as_ref()?;
        let name = name.filter(|name| name.is_at_or_below(apex))?;
        Some(name.to_string())
    }

    fn note(
        &mut self,
        owner: NameId,
        rtype: &'static str,
        data: String,
        rule: Rule,
        lacks_target: bool,
    ) {
        let Some((_, dns_name)) = self.owners.iter().find(|(id, _)| *id == owner) else {
            return;
        };
        let one = Explanation {
            name: self.names.text(owner).to_owned(),
            dns_name: dns_name.clone().filter(|_| !lacks_target),
            lacks_target,
            rtype,
            data,
            rule,
            origin: self.origin.clone(),
        };
        if !self.found.contains(&one) {
            self.found.push(one);
        }
    }
}

impl Sink for Explainer<'_> {
    type Name = NameId;

    fn enter(&mut self, subject: Subject<'_>) {
        match subject {
            Subject::Framework(framework) | Subject::TasksOf(framework) => {
                self.origin = Origin {
                    framework: Some(framework.name.to_string()),
                    ..Origin::default()
                };
            }
            Subject::Agent(agent) => {
                self.origin = Origin {
                    agent: Some(agent.id.to_string()),
                    ..Origin::default()
                };
            }
            Subject::NameServer | Subject::Masters => self.origin = Origin::default(),
            Subject::Task(task) => {
                self.origin.task = Some(task.id.to_string());
                self.origin.agent = Some(task.agent_id.to_string());
                self.origin.status_time = task.status_time;
            }
        }
    }

    fn name(&mut self, text: &str) -> NameId {
        let id = self.names.name(text);
        if text.to_lowercase() == self.wanted && !self.owners.iter().any(|(known, _)| *known == id)
        {
            let name = if text == self.name_server {
                Name::from_text(text).ok()
            } else {
                reachable_name(text)
            };
            let served = self.served(name);
            self.owners.push((id, served));
        }
        id
    }

    fn name_cut_for_dns(&mut self, text: &str, dns: &str) -> NameId {
        let id = self.names.name(text);
        let asked = text.to_lowercase() == self.wanted || dns == self.wanted;
        if asked && !self.owners.iter().any(|(known, _)| *known == id) {
            let served = self.served(reachable_cut_name(text, dns));
            self.owners.push((id, served));
        }
        id
    }

    fn address(&mut self, owner: NameId, address: &Address, rule: Rule) {
        self.names.address(owner, address, rule);
        let rtype = if address.ip().is_ipv4() { "A" } else { "AAAA" };
        self.note(owner, rtype, address.to_string(), rule, false);
    }

    fn service(&mut self, owner: NameId, target: NameId, port: i64, rule: Rule) {
        let target = self.names.text(target);
        let lacks_target = !has_readable_port(target);
        let data = format!("{target}:{port}");
        self.note(owner, "SRV", data, rule, lacks_target);
    }

    fn service_in_dns_only(&mut self, owner: NameId, target: NameId, port: i64, rule: Rule) {
        self.service(owner, target, port, rule);
    }

    fn has_address(&self, owner: NameId, address: &Address) -> bool {
        self.names.has_address(owner, address)
    }
}
