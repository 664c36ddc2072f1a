//! Which masters to ask, and in what order: a list from the configuration, or what ZooKeeper
//! knows.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::master::MasterAddress;
use super::zookeeper::{self, Registered, ZooKeeperStatus, ZooKeeperTarget};

/// How masters are found.
#[derive(Clone, Debug)]
pub struct DetectionSettings {
    /// `Masters`: the whole list, or the last resort next to ZooKeeper.
    pub masters: Vec<MasterAddress>,
    /// `Zk`: where masters register themselves.
    pub zookeeper: Option<ZooKeeperTarget>,
    /// `ZkDetectionTimeout`: how long a leader may stay unknown before that is logged and marked
    /// in the status. mesos-dns ends the process at that point. Zero: never.
    pub timeout: Duration,
}

/// Masters to ask, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidates {
    /// The first slot: the leading master by ZooKeeper, or the first of a list.
    pub leader: Option<MasterAddress>,
    /// The other masters: by sequence number in ZooKeeper, or as configured.
    pub others: Vec<MasterAddress>,
    /// Configured masters that ZooKeeper does not list; asked when all before them failed. They
    /// are no part of the list that masters are numbered by.
    pub last_resort: Vec<MasterAddress>,
}

impl Candidates {
    /// The list of a configuration without ZooKeeper.
    pub fn of_list(masters: &[MasterAddress]) -> Self {
        let mut masters = masters.iter().cloned();
        Self {
            leader: masters.next(),
            others: masters.collect(),
            last_resort: Vec::new(),
        }
    }

    /// What ZooKeeper knows, with the configured masters behind.
    ///
    /// While it knows nothing, the configured masters are the others.
    fn of_zookeeper(registered: &Registered, configured: &[MasterAddress]) -> Self {
        if registered.masters.is_empty() {
            return Self {
                leader: None,
                others: configured.to_vec(),
                last_resort: Vec::new(),
            };
        }
        let is_among = |list: &[MasterAddress], master| list.iter().any(|m| m.same_place(master));
        let leader = registered.leader.clone();
        let mut others: Vec<MasterAddress> = Vec::new();
        for master in &registered.masters {
            if !leader.as_ref().is_some_and(|l| l.same_place(master)) && !is_among(&others, master)
            {
                others.push(master.clone());
            }
        }
        let last_resort = configured
            .iter()
            .filter(|master| !is_among(&registered.masters, master))
            .cloned()
            .collect();
        Self {
            leader,
            others,
            last_resort,
        }
    }

    /// The masters by which `masterN` records are numbered: the leader, then the others.
    pub fn listed(&self) -> impl Iterator<Item = &MasterAddress> {
        self.leader.iter().chain(&self.others)
    }

    /// The masters to ask, in order.
    pub fn to_ask(&self) -> impl Iterator<Item = &MasterAddress> {
        self.listed().chain(&self.last_resort)
    }
}

/// A running detection; ends when dropped.
pub struct Detection {
    /// The present list; a change is a detection event.
    pub candidates: watch::Receiver<Candidates>,
    /// The connection to ZooKeeper, where there is one.
    pub zookeeper: Option<watch::Receiver<ZooKeeperStatus>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

#[cfg(test)]
impl Detection {
    /// A detection that the test is the source of.
    pub(super) fn from_parts(
        candidates: watch::Receiver<Candidates>,
        zookeeper: Option<watch::Receiver<ZooKeeperStatus>>,
    ) -> Self {
        Self {
            candidates,
            zookeeper,
            _tasks: Vec::new(),
        }
    }
}

/// Starts detection. Must be called within a tokio runtime.
///
/// With ZooKeeper, the list starts as the configured masters, so they are asked at once whether
/// ZooKeeper can be reached or not. What ZooKeeper said last stays when it is lost.
pub fn detect(settings: &DetectionSettings) -> Detection {
    let configured = settings.masters.clone();
    let Some(target) = settings.zookeeper.clone() else {
        let (_, candidates) = watch::channel(Candidates::of_list(&configured));
        return Detection {
            candidates,
            zookeeper: None,
            _tasks: Vec::new(),
        };
    };
    let (sender, candidates) = watch::channel(Candidates::of_zookeeper(
        &Registered::default(),
        &configured,
    ));
    let (status_sender, status) = watch::channel(ZooKeeperStatus::default());
    let (registered_sender, mut registered) = watch::channel(Registered::default());
    let client = tokio::spawn(zookeeper::follow(target, registered_sender, status_sender));
    let list = tokio::spawn(async move {
        while registered.changed().await.is_ok() {
            let next = Candidates::of_zookeeper(&registered.borrow_and_update(), &configured);
            sender.send_if_modified(|candidates| {
                let differs = *candidates != next;
                *candidates = next;
                differs
            });
        }
    });
    let tasks = vec![AbortOnDropHandle::new(client), AbortOnDropHandle::new(list)];
    Detection {
        candidates,
        zookeeper: Some(status),
        _tasks: tasks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masters(texts: &[&str]) -> Vec<MasterAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn texts<'a>(masters: impl Iterator<Item = &'a MasterAddress>) -> Vec<String> {
        masters.map(ToString::to_string).collect()
    }

    #[test]
    fn list_is_asked_as_configured() {
        let list = masters(&["10.0.0.2:1", "10.0.0.1:1"]);
        assert_eq!(
            texts(Candidates::of_list(&list).to_ask()),
            ["10.0.0.2:1", "10.0.0.1:1"]
        );
        assert_eq!(Candidates::of_list(&[]).to_ask().count(), 0);
    }

    #[test]
    fn leader_comes_first_and_only_once() {
        let registered = Registered {
            leader: Some("10.0.0.2:1".parse().unwrap()),
            masters: masters(&["10.0.0.2:1", "10.0.0.3:1", "10.0.0.1:1", "10.0.0.3:1"]),
        };
        let candidates = Candidates::of_zookeeper(&registered, &[]);
        assert_eq!(
            texts(candidates.listed()),
            ["10.0.0.2:1", "10.0.0.3:1", "10.0.0.1:1"]
        );
    }

    #[test]
    fn configured_masters_are_the_last_resort_and_not_numbered() {
        let registered = Registered {
            leader: Some("10.0.0.2:1".parse().unwrap()),
            masters: masters(&["10.0.0.2:1"]),
        };
        let candidates =
            Candidates::of_zookeeper(&registered, &masters(&["10.0.0.9:1", "10.0.0.2:1"]));
        assert_eq!(texts(candidates.listed()), ["10.0.0.2:1"]);
        assert_eq!(texts(candidates.to_ask()), ["10.0.0.2:1", "10.0.0.9:1"]);
    }

    #[test]
    fn configured_masters_stand_in_when_zookeeper_knows_none() {
        let candidates =
            Candidates::of_zookeeper(&Registered::default(), &masters(&["10.0.0.9:1"]));
        assert_eq!(candidates.leader, None);
        assert_eq!(texts(candidates.listed()), ["10.0.0.9:1"]);
    }
}
