//! The records made from events are those of the state document of the same cluster, after every
//! event, and the names said to have changed are those that did.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use dns_userspace::config::{Surroundings, check_text};
use dns_userspace::mesos;
use dns_userspace::mesos::State;
use dns_userspace::mesos::events::Event;
use dns_userspace::mesos::state_model::{StateChanges, StateModel};
use dns_userspace::records::live::LiveRecords;
use dns_userspace::records::{self, Settings, to_zone};
use dns_userspace::zones::{Name, Rrset};
use proptest::prelude::*;
use serde_json::{Value, json};
use tests::cluster::{Cluster, step};

const LEADER: &str = "master@10.0.0.2:5050";

/// Every record as text, by name.
type Content = BTreeMap<Name, BTreeSet<String>>;

fn settings(changes: &Value) -> Arc<Settings> {
    let mut config = json!({"Masters": candidates(), "Listener": "10.0.0.53"});
    let members = changes.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(members);
    let checked = check_text(
        config.to_string().as_bytes(),
        Path::new("/config.json"),
        &Surroundings::default(),
    );
    assert!(checked.problems.is_empty(), "{:?}", checked.problems);
    Arc::new(checked.config.unwrap().record_settings(&[]))
}

fn candidates() -> Vec<String> {
    // The third is where a scheduler may be, and the last a double.
    [
        "10.0.0.1:5050",
        "10.0.0.2:5050",
        "10.2.0.3:5050",
        "10.0.0.1:5051",
    ]
    .map(String::from)
    .to_vec()
}

fn apex() -> Name {
    Name::from_text("mesos").unwrap()
}

fn collected(content: impl IntoIterator<Item = (Name, Rrset)>) -> Content {
    let mut all = Content::new();
    for (name, rrset) in content {
        let records = all.entry(name).or_default();
        for data in rrset.data() {
            records.insert(format!("{} {} {data}", rrset.ttl(), rrset.rtype()));
        }
    }
    all
}

/// A full build of a state.
fn full(state: &State, settings: &Settings) -> Content {
    let built = records::build(state, &candidates(), settings, &|_| Vec::new());
    collected(to_zone::zone_content(&built, settings, &apex()).rrsets)
}

fn polled(cluster: &Cluster) -> State {
    let body = cluster.state(LEADER).to_string();
    let (state, defects) = mesos::parse(body.as_bytes()).unwrap();
    assert!(defects.is_empty(), "{defects}");
    state
}

/// Records kept from events, and the model behind them.
struct Followed {
    model: StateModel,
    live: LiveRecords,
    content: Content,
}

impl Followed {
    fn new(settings: &Arc<Settings>) -> Self {
        let live = LiveRecords::new(Arc::clone(settings), apex(), LEADER.into(), candidates());
        Self {
            model: StateModel::default(),
            content: collected(live.content()),
            live,
        }
    }

    fn take(&mut self, event: &Value) -> Result<(), TestCaseError> {
        let event = Event::from_json(event.to_string().as_bytes()).unwrap();
        let changes = self.model.apply(&event);
        let changed = self.live.apply(&changes);
        self.check_changed(changed)
    }

    /// As a fetched state does, of which schedulers are taken.
    fn poll(&mut self, state: &State) -> Result<(), TestCaseError> {
        let schedulers = state.frameworks.iter();
        let schedulers = schedulers.map(|one| (one.id.clone(), one.scheduler.clone()));
        let changed = self.live.set_schedulers(schedulers);
        self.check_changed(changed)
    }

    fn check_changed(
        &mut self,
        changed: impl IntoIterator<Item = Name>,
    ) -> Result<(), TestCaseError> {
        for name in changed {
            let rrsets = self.live.rrsets(&name);
            let records = collected(rrsets.into_iter().map(|one| (name.clone(), one)));
            self.content.remove(&name);
            self.content.extend(records);
        }
        let all = collected(self.live.content());
        prop_assert_eq!(&self.content, &all, "a name changed and was not told");
        Ok(())
    }
}

fn check(cluster: &Cluster, followed: &Followed, settings: &Settings) -> Result<(), TestCaseError> {
    let state = polled(cluster);
    let wanted = full(&state, settings);
    prop_assert_eq!(&followed.content, &wanted);
    prop_assert_eq!(full(&followed.live.state(), settings), wanted);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn records_from_events_are_those_of_the_state(
        before in prop::collection::vec(step(), 0..25),
        steps in prop::collection::vec((step(), 0_u8..20), 1..40),
        sources in prop::sample::subsequence(vec!["netinfo", "mesos", "docker", "host"], 1..=4),
        enforce in any::<bool>(),
    ) {
        let settings = settings(&json!({"IPSources": sources, "EnforceRFC952": enforce}));
        let mut cluster = Cluster::default();
        for step in &before {
            cluster.apply(step);
        }
        let mut followed = Followed::new(&settings);
        followed.take(&cluster.subscribed())?;
        followed.poll(&polled(&cluster))?;
        check(&cluster, &followed, &settings)?;
        for (step, chance) in &steps {
            match chance {
                // A stream is lost, and the next one begins with the whole after a change.
                0 => {
                    cluster.apply(step);
                    followed.model = StateModel::default();
                    followed.take(&cluster.subscribed())?;
                }
                1 => {
                    for event in cluster.apply(step) {
                        followed.take(&event)?;
                    }
                    followed.live = followed.live.with_settings(Arc::clone(&settings), apex());
                    followed.check_changed([])?;
                }
                _ => for event in cluster.apply(step) {
                    followed.take(&event)?;
                },
            }
            followed.poll(&polled(&cluster))?;
            check(&cluster, &followed, &settings)?;
        }
        // Everything can leave.
        followed.live.apply(&StateChanges { resync: true, list: Vec::new() });
        let empty = Followed::new(&settings);
        prop_assert_eq!(collected(followed.live.content()), empty.content);
        prop_assert!(followed.live.defects() == empty.live.defects());
    }
}
