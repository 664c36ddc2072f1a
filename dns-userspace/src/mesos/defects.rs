//! What was left out and why: one bad record harms only itself, and is counted here.

use std::fmt;

/// Why a part of the state gave no records, or fewer than it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Defect {
    /// A list element or a member that must be an object, a list or a string is something else.
    WrongType,
    /// An agent has no process id, or one that cannot be read.
    AgentPid,
    /// A framework has a process id that cannot be read.
    FrameworkPid,
    /// A port resource, or a piece of it, is no range such as `[31000-31001]`.
    PortRange,
    /// A task asks for more ports than there are.
    TooManyPorts,
    /// A number is outside its range or no whole number.
    Number,
    /// A host name of an agent, a framework or a master has no address.
    UnresolvedHost,
    /// The leader is not of the form `master@host:port`.
    LeaderAddress,
    /// A name holds a label that DNS cannot carry: empty, too long, or with letters or octets that
    /// no query can match.
    UnreachableName,
    /// An SRV value has a target that cannot be told from its port, or that DNS cannot carry.
    ServiceTarget,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::WrongType,
        Self::AgentPid,
        Self::FrameworkPid,
        Self::PortRange,
        Self::TooManyPorts,
        Self::Number,
        Self::UnresolvedHost,
        Self::LeaderAddress,
        Self::UnreachableName,
        Self::ServiceTarget,
    ];

    /// A stable word for logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrongType => "wrong_type",
            Self::AgentPid => "agent_pid",
            Self::FrameworkPid => "framework_pid",
            Self::PortRange => "port_range",
            Self::TooManyPorts => "too_many_ports",
            Self::Number => "number",
            Self::UnresolvedHost => "unresolved_host",
            Self::LeaderAddress => "leader_address",
            Self::UnreachableName => "unreachable_name",
            Self::ServiceTarget => "service_target",
        }
    }
}

/// One reason: how often it applied, and the first place where it did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The reason.
    pub reason: Defect,
    /// How many times it was met.
    pub count: u64,
    /// Where it was met first, for the log.
    pub first: String,
}

/// Counts of what was left out, by reason. Two refreshes with the same troubles compare equal, so
/// that a caller reports each state of affairs once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defects {
    entries: Vec<Entry>,
}

impl Defects {
    /// Counts one case; `place` is only asked for the first of its reason.
    pub fn note(&mut self, reason: Defect, place: impl FnOnce() -> String) {
        match self.entries.iter_mut().find(|one| one.reason == reason) {
            Some(entry) => entry.count = entry.count.saturating_add(1),
            None => self.entries.push(Entry {
                reason,
                count: 1,
                first: place(),
            }),
        }
    }

    /// Whether nothing was left out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The reasons met, in the order in which they were met first.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// How often `reason` applied.
    #[must_use]
    pub fn count(&self, reason: Defect) -> u64 {
        self.entries
            .iter()
            .find(|one| one.reason == reason)
            .map_or(0, |one| one.count)
    }

    /// How many cases there are of any reason.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.entries.iter().map(|one| one.count).sum()
    }

    /// Takes back the counts of `other`, which were added before.
    pub fn retract(&mut self, other: &Self) {
        for entry in &other.entries {
            let mut own = self.entries.iter_mut();
            if let Some(own) = own.find(|one| one.reason == entry.reason) {
                own.count = own.count.saturating_sub(entry.count);
            }
        }
        self.entries.retain(|one| one.count > 0);
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for entry in &other.entries {
            match self
                .entries
                .iter_mut()
                .find(|one| one.reason == entry.reason)
            {
                Some(own) => own.count = own.count.saturating_add(entry.count),
                None => self.entries.push(entry.clone()),
            }
        }
    }
}

/// `reason: count (first: place); …`
impl fmt::Display for Defects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, entry) in self.entries.iter().enumerate() {
            if i > 0 {
                f.write_str("; ")?;
            }
            let reason = entry.reason.as_str();
            write!(f, "{reason}: {} (first: {})", entry.count, entry.first)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_named_once_and_counted() {
        let mut defects = Defects::default();
        defects.note(Defect::AgentPid, || "agent a".into());
        defects.note(Defect::AgentPid, || "agent b".into());
        defects.note(Defect::Number, || "port".into());
        let mut sum = Defects::default();
        sum.merge(&defects);
        sum.merge(&defects);
        assert_eq!(sum.count(Defect::AgentPid), 4);
        assert_eq!(sum.total(), 6);
        sum.retract(&defects);
        assert_eq!(sum, defects);
        sum.retract(&defects);
        assert!(sum.is_empty());
        assert_eq!(
            defects.to_string(),
            "agent_pid: 2 (first: agent a); number: 1 (first: port)"
        );
    }
}
