//! The last changes of each zone, so that a secondary is sent what changed and not the whole zone
//! (RFC 1995).

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wire::Line;
use crate::zones::{Diff, Name, Node, Rrset, Rtype, Snapshot, Zone, ZoneIndex};

/// Versions of one zone at most; then the oldest goes, however little it changed.
const MAX_STEPS: usize = 4096;

/// A name as it was and as it is.
type Pair = (Option<Arc<Node>>, Option<Arc<Node>>);

/// What leads from one version of a zone to the next. Names are held as the zone has them, so the
/// history costs little more than what is no longer in the zone.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) before: Arc<Zone>,
    pub(super) after: Arc<Zone>,
    changes: Vec<Pair>,
}

impl Step {
    /// The records that the version before had and the one after has not; no SOA is among them.
    pub(super) fn deleted(&self) -> impl Iterator<Item = Line<'_>> {
        let changes = self.changes.iter();
        changes.flat_map(|(before, after)| missing(before.as_deref(), after.as_deref()))
    }

    /// The records that the version after has and the one before has not; no SOA is among them.
    pub(super) fn added(&self) -> impl Iterator<Item = Line<'_>> {
        let changes = self.changes.iter();
        changes.flat_map(|(before, after)| missing(after.as_deref(), before.as_deref()))
    }
}

/// The records of `from` that `other` does not have.
fn missing<'n>(from: Option<&'n Node>, other: Option<&'n Node>) -> impl Iterator<Item = Line<'n>> {
    from.into_iter().flat_map(move |node| {
        let rrsets = node.rrsets().iter();
        let rrsets = rrsets.filter(|one| one.rtype() != Rtype::SOA);
        rrsets.flat_map(move |rrset| {
            let same = other.and_then(|other| other.rrset(rrset.rtype()));
            let same = same.filter(|one| one.ttl() == rrset.ttl());
            let is_missing = move |data| !same.map_or(&[][..], Rrset::data).contains(data);
            rrset
                .data()
                .iter()
                .filter(move |&data| is_missing(data))
                .map(move |data| Line::new(node.owner(), rrset.ttl(), data))
        })
    })
}

/// The changes of all zones, bounded.
#[derive(Debug)]
pub(super) struct History {
    zones: Mutex<HashMap<Name, VecDeque<Arc<Step>>>>,
    /// Changed names that are kept for each zone at most.
    max_names: usize,
}

impl History {
    pub(super) fn new(max_names: usize) -> Self {
        Self {
            zones: Mutex::default(),
            max_names,
        }
    }

    fn zones(&self) -> MutexGuard<'_, HashMap<Name, VecDeque<Arc<Step>>>> {
        self.zones.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what leads from one snapshot to the next; gives the step of each zone whose serial
    /// moved.
    pub(super) fn note(&self, before: &Snapshot, after: &Snapshot, diff: &Diff) -> Vec<Arc<Step>> {
        let mut changes = by_zone(before, after, diff);
        let mut steps = Vec::new();
        let mut zones = self.zones();
        zones.retain(|apex, _| after.zones().iter().any(|zone| zone.apex == *apex));
        for zone in after.zones() {
            let changes = changes.remove(&zone.apex).unwrap_or_default();
            let older = before.zones().iter().find(|one| one.apex == zone.apex);
            let is_whole = |zone: &Zone| zone.complete && !zone.withdrawn;
            let Some(older) = older.filter(|one| is_whole(one) && is_whole(zone)) else {
                // What was not whole was transferred to nobody.
                zones.remove(&zone.apex);
                continue;
            };
            if older.soa.serial == zone.soa.serial {
                if !changes.is_empty() {
                    zones.remove(&zone.apex);
                }
                continue;
            }
            let kept = zones.entry(zone.apex.clone()).or_default();
            if kept.back().is_some_and(|last| last.after.soa != older.soa) {
                kept.clear();
            }
            let step = Arc::new(Step {
                before: Arc::clone(older),
                after: Arc::clone(zone),
                changes,
            });
            kept.push_back(Arc::clone(&step));
            steps.push(step);
            let mut names: usize = kept.iter().map(|step| step.changes.len()).sum();
            while names > self.max_names || kept.len() > MAX_STEPS {
                let oldest = kept.pop_front();
                names -= oldest.map_or(names, |step| step.changes.len());
            }
        }
        steps
    }

    /// What leads from a serial to another, if all of it is kept.
    pub(super) fn between(&self, apex: &Name, from: u32, to: u32) -> Option<Vec<Arc<Step>>> {
        let zones = self.zones();
        let kept = zones.get(apex)?;
        let first = kept
            .iter()
            .position(|step| step.before.soa.serial == from)?;
        let last = kept.iter().position(|step| step.after.soa.serial == to)?;
        (first <= last).then(|| kept.range(first..=last).cloned().collect())
    }
}

/// The names that changed, by the zone they are in.
fn by_zone(before: &Snapshot, after: &Snapshot, diff: &Diff) -> HashMap<Name, Vec<Pair>> {
    let mut by_zone: HashMap<Name, Vec<_>> = HashMap::new();
    let mut put = |snapshot: &Snapshot, zone: ZoneIndex, change| {
        if let Some(zone) = snapshot.zone(zone) {
            by_zone.entry(zone.apex.clone()).or_default().push(change);
        }
    };
    for node in &diff.added {
        put(after, node.zone(), (None, Some(Arc::clone(node))));
    }
    for change in &diff.changed {
        let pair = (
            Some(Arc::clone(&change.before)),
            Some(Arc::clone(&change.after)),
        );
        put(after, change.after.zone(), pair);
    }
    for node in &diff.removed {
        put(before, node.zone(), (Some(Arc::clone(node)), None));
    }
    by_zone
}

impl Step {
    /// How many names changed.
    pub(super) fn names(&self) -> usize {
        self.changes.len()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::zones::{Editor, NoEncoder, Rdata, Soa};

    pub(in crate::transfer) fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    pub(in crate::transfer) fn zone(apex: &str, serial: u32) -> Zone {
        let soa = Soa {
            mname: name("ns1.mesos"),
            rname: name("root.ns1.mesos"),
            serial,
            refresh: 60,
            retry: 600,
            expire: 86400,
            minimum: 60,
        };
        Zone::new(name(apex), soa, 60, vec![name("ns1.mesos")], 60)
    }

    pub(in crate::transfer) fn editor(serial: u32) -> Editor {
        let zones = vec![zone("mesos", serial)];
        Editor::new(1, zones, Arc::new(NoEncoder), serial).unwrap()
    }

    pub(in crate::transfer) fn a(ttl: u32, last: &[u8]) -> Rrset {
        let data = last.iter().map(|&one| Rdata::A([10, 0, 0, one].into()));
        Rrset::new(Rtype::A, ttl, data)
    }

    fn texts<'l>(lines: impl Iterator<Item = Line<'l>>) -> Vec<String> {
        let text = |line: Line<'_>| format!("{} {} {}", line.owner, line.ttl, line.data);
        let mut texts: Vec<String> = lines.map(text).collect();
        texts.sort();
        texts
    }

    /// A history that has seen these contents, one after the other; with the last serial.
    fn history(max_names: usize, contents: &[&[(&str, Rrset)]]) -> (History, u32) {
        let history = History::new(max_names);
        let mut editor = editor(100);
        for content in contents {
            let before = Arc::clone(editor.snapshot());
            let content = content.iter();
            let content = content.map(|(owner, rrset)| (name(owner), rrset.clone()));
            editor.replace(&name("mesos"), content.collect()).unwrap();
            let diff = editor.commit(1);
            history.note(&before, editor.snapshot(), &diff);
        }
        let serial = editor.snapshot().zones()[0].soa.serial;
        (history, serial)
    }

    #[test]
    fn a_step_has_the_records_that_differ_and_no_others() {
        let (history, last) = history(
            100,
            &[
                &[
                    ("a.mesos", a(60, &[1, 2])),
                    ("b.mesos", a(60, &[3])),
                    ("x.y.mesos", a(60, &[9])),
                ],
                &[
                    ("a.mesos", a(60, &[2, 4])),
                    ("b.mesos", a(30, &[3])),
                    ("c.mesos", a(60, &[5])),
                ],
            ],
        );
        let steps = history.between(&name("mesos"), last - 1, last).unwrap();
        assert_eq!(steps.len(), 1);
        let deleted = [
            "a.mesos. 60 10.0.0.1",
            "b.mesos. 60 10.0.0.3",
            "x.y.mesos. 60 10.0.0.9",
        ];
        assert_eq!(texts(steps[0].deleted()), deleted);
        let added = [
            "a.mesos. 60 10.0.0.4",
            "b.mesos. 30 10.0.0.3",
            "c.mesos. 60 10.0.0.5",
        ];
        assert_eq!(texts(steps[0].added()), added);
        // The zone was not complete before its first content.
        assert!(history.between(&name("mesos"), 100, last).is_none());
    }

    #[test]
    fn the_oldest_versions_are_forgotten() {
        let contents: Vec<[(&str, Rrset); 1]> =
            (0..9).map(|last| [("a.mesos", a(60, &[last]))]).collect();
        let contents: Vec<&[(&str, Rrset)]> = contents.iter().map(|one| &one[..]).collect();
        // Each version changes the apex and one name.
        let (history, last) = history(6, &contents);
        let reach = |versions: u32| {
            let steps = history.between(&name("mesos"), last - versions, last);
            steps.map(|steps| steps.len())
        };
        assert_eq!((reach(1), reach(3), reach(4)), (Some(1), Some(3), None));
        assert!(history.between(&name("mesos"), last, last - 1).is_none());
    }
}
