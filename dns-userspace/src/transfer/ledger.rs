//! Serials that grow with change and with nothing else, also over restarts.
//!
//! The file has the last serial of each zone and a digest of its content. A zone that comes up with
//! the content of that digest takes its serial back, so that secondaries transfer nothing; one that
//! comes up with another goes on from there, whatever the clock says.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::history::{History, Step};
use super::wire::Line;
use crate::zones::{Diff, Editor, Name, Rtype, Snapshot, Zone, ZoneIndex};

const FILE: &str = "serials.json";

/// The content of a zone as a number that does not depend on the order of its records: the sum of
/// their digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Content(u128);

impl Content {
    fn of_line(line: &Line<'_>) -> u128 {
        let mut octets = line.owner.wire().to_vec();
        octets.extend_from_slice(&line.data.rtype().0.to_be_bytes());
        octets.extend_from_slice(&line.ttl.to_be_bytes());
        line.data.write(&mut octets);
        let digest = digest(&SHA256, &octets);
        let head = digest.as_ref().first_chunk().copied();
        u128::from_be_bytes(head.unwrap_or_default())
    }

    fn add(&mut self, line: &Line<'_>) {
        self.0 = self.0.wrapping_add(Self::of_line(line));
    }

    fn remove(&mut self, line: &Line<'_>) {
        self.0 = self.0.wrapping_sub(Self::of_line(line));
    }

    /// The whole of a zone but its SOA.
    fn of_zone(snapshot: &Snapshot, index: ZoneIndex) -> Self {
        let mut content = Self::default();
        for node in snapshot.nodes().filter(|node| node.zone() == index) {
            for rrset in node.rrsets() {
                if rrset.rtype() != Rtype::SOA {
                    let lines = rrset.data().iter();
                    lines
                        .map(|data| Line::new(node.owner(), rrset.ttl(), data))
                        .for_each(|line| content.add(&line));
                }
            }
        }
        content
    }

    /// With the SOA but its serial, as it is kept.
    fn with_soa(self, zone: &Zone) -> String {
        let mut unnumbered = zone.clone();
        unnumbered.soa.serial = 0;
        let data = super::wire::soa_data(&unnumbered);
        let mut whole = self;
        whole.add(&Line::new(&zone.apex, zone.soa_ttl, &data));
        HEXLOWER.encode(&whole.0.to_be_bytes())
    }
}

/// What is kept of a zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    serial: u32,
    content: String,
}

/// Keeps serials, and notes what changed.
#[derive(Debug)]
pub(super) struct Ledger {
    path: PathBuf,
    /// As in the file, by apex.
    kept: BTreeMap<String, Kept>,
    contents: HashMap<Name, Content>,
    /// Zones that have been whole since the start.
    settled: HashSet<Name>,
    is_failing: bool,
}

impl Ledger {
    /// Reads what was kept. A file that cannot be read costs zones their serials, not the start:
    /// they go on by the clock.
    pub(super) fn open(directory: &Path) -> Self {
        let path = directory.join(FILE);
        let read = match std::fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        };
        let kept = read.unwrap_or_else(|error| {
            warn!(file = %path.display(), %error, "serials of zones begin by the clock");
            BTreeMap::new()
        });
        Self {
            path,
            kept,
            contents: HashMap::new(),
            settled: HashSet::new(),
            is_failing: false,
        }
    }

    /// The serial that a zone begins with; 0 if none was kept.
    pub(super) fn serial(&self, apex: &Name) -> u32 {
        let kept = self.kept.get(&apex.to_string());
        kept.map_or(0, |kept| kept.serial)
    }

    /// Takes in what a commit made of the snapshot that is served, before the new one is. Where a
    /// zone is again what it was before a restart it gets its serial back by a further commit, and
    /// the difference as it is then is returned.
    pub(super) fn enter(
        &mut self,
        editor: &mut Editor,
        served: &Snapshot,
        diff: &Diff,
        history: &History,
        now: u32,
    ) -> Option<Diff> {
        let restored = self.restore(editor);
        let whole = restored.then(|| {
            editor.commit(now);
            Diff::between(served, editor.snapshot())
        });
        let snapshot = editor.snapshot();
        let steps = history.note(served, snapshot, whole.as_ref().unwrap_or(diff));
        for step in &steps {
            self.follow(step);
        }
        let is_changed = self.note(snapshot);
        if is_changed {
            self.save();
        }
        whole
    }

    fn restore(&mut self, editor: &mut Editor) -> bool {
        let snapshot = std::sync::Arc::clone(editor.snapshot());
        let mut restored = false;
        for (index, zone) in (0u8..).zip(snapshot.zones()) {
            if !is_ours(zone) || !zone.complete || self.settled.contains(&zone.apex) {
                continue;
            }
            self.settled.insert(zone.apex.clone());
            let content = Content::of_zone(&snapshot, ZoneIndex(index));
            self.contents.insert(zone.apex.clone(), content);
            let kept = self.kept.get(&zone.apex.to_string());
            let same = kept.filter(|kept| kept.content == content.with_soa(zone));
            if let Some(kept) = same.filter(|kept| kept.serial != zone.soa.serial) {
                let mut soa = zone.soa.clone();
                soa.serial = kept.serial;
                restored |= editor.set_soa(&zone.apex, soa, zone.soa_ttl).is_ok();
            }
        }
        restored
    }

    fn follow(&mut self, step: &Step) {
        if let Some(content) = self.contents.get_mut(&step.after.apex) {
            step.deleted().for_each(|line| content.remove(&line));
            step.added().for_each(|line| content.add(&line));
        }
    }

    /// Notes serials and contents; whether any differ from what is kept.
    fn note(&mut self, snapshot: &Snapshot) -> bool {
        let mut is_changed = false;
        for zone in snapshot.zones() {
            let content = self.contents.get(&zone.apex);
            let Some(content) = content.filter(|_| is_ours(zone) && zone.complete) else {
                continue;
            };
            let now = Kept {
                serial: zone.soa.serial,
                content: content.with_soa(zone),
            };
            let apex = zone.apex.to_string();
            if self.kept.get(&apex) != Some(&now) {
                self.kept.insert(apex, now);
                is_changed = true;
            }
        }
        is_changed
    }

    fn save(&mut self) {
        match self.write() {
            Ok(()) => self.is_failing = false,
            Err(error) => {
                let file = self.path.display();
                if self.is_failing {
                    debug!(%file, %error, "serials are not kept");
                } else {
                    warn!(%file, %error, "serials are not kept, and after a restart go by the clock");
                }
                self.is_failing = true;
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        super::store::replace(&self.path, &serde_json::to_vec(&self.kept)?)
    }
}

/// Whether we choose the serial.
const fn is_ours(zone: &Zone) -> bool {
    !zone.fixed_serial && !zone.withdrawn
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{a, editor, name, zone};
    use super::*;
    use crate::transfer::store::tests::Folder;
    use crate::zones::NoEncoder;
    use std::sync::Arc;

    const NOW: u32 = 1_700_000_000;

    /// One run of the daemon: each content is published at its time; gives the serials.
    fn run(folder: &Folder, contents: &[(u32, u8)]) -> Vec<u32> {
        let mut ledger = Ledger::open(folder.path());
        let history = History::new(100);
        let start = contents.first().map_or(NOW, |(now, _)| *now);
        let own = zone("mesos", ledger.serial(&name("mesos")));
        let mut editor = Editor::new(1, vec![own], Arc::new(NoEncoder), start).unwrap();
        let publish = |(now, last): &(u32, u8)| {
            let served = Arc::clone(editor.snapshot());
            let content = vec![(name("a.mesos"), a(60, &[*last]))];
            editor.replace(&name("mesos"), content).unwrap();
            let diff = editor.commit(*now);
            ledger.enter(&mut editor, &served, &diff, &history, *now);
            editor.snapshot().zones()[0].soa.serial
        };
        contents.iter().map(publish).collect()
    }

    #[test]
    fn a_restart_with_the_same_content_keeps_the_serial() {
        let folder = Folder::new();
        let first = run(&folder, &[(NOW, 1), (NOW + 10, 2)]);
        assert_eq!(first[1], NOW + 10);
        // Twice, so that what was restored is kept as well.
        for _ in 0..2 {
            assert_eq!(run(&folder, &[(NOW + 60, 2)]), [NOW + 10]);
        }
        let last = run(&folder, &[(NOW + 70, 2), (NOW + 80, 2), (NOW + 90, 3)]);
        assert_eq!(last, [NOW + 10, NOW + 10, NOW + 90]);
    }

    #[test]
    fn a_restart_with_other_content_goes_on_whatever_the_clock_says() {
        let folder = Folder::new();
        let first = run(&folder, &[(NOW, 1), (NOW, 2), (NOW, 3)]);
        assert_eq!(first[2] - first[0], 2);
        assert_eq!(run(&folder, &[(NOW - 86_400, 4)]), [first[2] + 1]);
        assert_eq!(run(&folder, &[(NOW - 86_400, 4)]), [first[2] + 1]);
        let behind = run(&folder, &[(NOW - 86_400, 1), (5, 2)]);
        assert_eq!(behind, [first[2] + 2, first[2] + 3]);
    }

    #[test]
    fn a_file_that_makes_no_sense_is_no_reason_not_to_start() {
        let folder = Folder::new();
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        let first = run(&folder, &[(NOW, 1)]);
        assert_eq!(run(&folder, &[(NOW + 9, 1)]), first);
    }

    #[test]
    fn what_was_kept_is_the_content_of_the_zone() {
        let folder = Folder::new();
        let mut ledger = Ledger::open(folder.path());
        let history = History::new(3);
        let mut editor = editor(NOW);
        for round in 0..20u8 {
            let served = Arc::clone(editor.snapshot());
            let content =
                (0..round % 5).map(|n| (name(&format!("t{n}.mesos")), a(60, &[round, n])));
            editor.replace(&name("mesos"), content.collect()).unwrap();
            let diff = editor.commit(NOW);
            ledger.enter(&mut editor, &served, &diff, &history, NOW);
            let anew = Content::of_zone(editor.snapshot(), ZoneIndex(0));
            assert_eq!(ledger.contents[&name("mesos")], anew, "{round}");
        }
    }
}
