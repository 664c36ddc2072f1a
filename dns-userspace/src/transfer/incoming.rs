//! A transfer as it comes in: the records of all its messages become a zone or changes of one.

use std::collections::{BTreeMap, HashMap};

use super::wire::{CLASS_IN, Record};
use crate::zones::{Name, Rdata, Rrset, Rtype, Snapshot, Soa, serial};

/// The records of a name, with their TTLs, by type.
type Records = BTreeMap<Rtype, Vec<(u32, Rdata)>>;

/// What a primary sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// The serial that is held is the latest.
    Nothing,
    /// A whole zone.
    Whole(Whole),
    /// What changed since the serial that is held.
    Changes(Changes),
}

/// A whole zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// Its SOA.
    pub soa: Soa,
    /// TTL of the SOA, in seconds.
    pub soa_ttl: u32,
    /// Everything else.
    pub records: Vec<(Name, Rrset)>,
}

/// What leads from one version of a zone to another.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// The serial that it starts from.
    pub from: u32,
    /// The SOA that it leads to.
    pub soa: Soa,
    /// TTL of that, in seconds.
    pub soa_ttl: u32,
    /// Records that go and come, in order. No SOA is among them.
    edits: Vec<Edit>,
}

#[derive(Debug, Clone, PartialEq)]
enum Edit {
    Delete(Name, Rdata),
    Add(Name, u32, Rdata),
}

/// Why a transfer makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It does not begin with the SOA of the zone.
    #[error("the transfer does not begin with the SOA of the zone")]
    NoSoa,
    /// The versions of an incremental transfer do not follow each other.
    #[error("the versions of the transfer do not follow each other")]
    BrokenChain,
    /// It goes on where it should end.
    #[error("the transfer goes on behind its end")]
    Surplus,
    /// It deletes what is not there, or starts from what we do not have.
    #[error("the changes do not fit to what is held")]
    Mismatch,
}

/// Where an incoming transfer is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Start,
    /// The first SOA is there; the second record tells which kind of transfer this is.
    Second,
    Whole,
    /// Records that are gone in the version after that of this serial.
    Deleting,
    /// Records that came with the version of this serial.
    Adding(u32),
    End,
}

/// Puts a transfer together (RFC 5936, section 2.2; RFC 1995, section 4).
pub(super) struct Assembly {
    zone: Name,
    held: Option<u32>,
    stage: Stage,
    last: Option<(Soa, u32)>,
    /// The serial that deletions and additions have reached.
    reached: u32,
    whole: HashMap<(Name, Rtype), (u32, Vec<Rdata>)>,
    edits: Vec<Edit>,
}

impl Assembly {
    /// For the zone of this name; with the serial that is held if the request was for changes.
    pub(super) fn new(zone: &Name, held: Option<u32>) -> Self {
        Self {
            zone: zone.clone(),
            held,
            stage: Stage::Start,
            last: None,
            reached: held.unwrap_or_default(),
            whole: HashMap::new(),
            edits: Vec::new(),
        }
    }

    /// Takes the answer section of the next message; whether it was the last.
    pub(super) fn take(&mut self, records: Vec<Record>) -> Result<bool, Unusable> {
        for record in records {
            if record.class != CLASS_IN || !record.owner.is_at_or_below(&self.zone) {
                continue;
            }
            self.step(record)?;
        }
        // A lone SOA says that there is nothing newer; were there more to come, it would be newer.
        if self.stage == Stage::Second && self.is_current() {
            self.stage = Stage::End;
        }
        if self.stage == Stage::Start {
            return Err(Unusable::NoSoa);
        }
        Ok(self.stage == Stage::End)
    }

    fn is_current(&self) -> bool {
        match (&self.last, self.held) {
            (Some((soa, _)), Some(held)) => !serial::is_after(soa.serial, held),
            _ => false,
        }
    }

    fn step(&mut self, record: Record) -> Result<(), Unusable> {
        let soa = match &record.data {
            Rdata::Soa(soa) if record.owner == self.zone => Some((**soa).clone()),
            Rdata::Soa(_) => return Ok(()),
            _ => None,
        };
        let last = self.last.as_ref().map(|(soa, _)| soa.serial);
        match (&self.stage, soa) {
            (Stage::Start, Some(soa)) => {
                self.last = Some((soa, record.ttl));
                self.stage = Stage::Second;
            }
            (Stage::Start, None) => return Err(Unusable::NoSoa),
            (Stage::Second, Some(soa)) if self.held == Some(soa.serial) => {
                self.stage = Stage::Deleting;
            }
            (Stage::Second | Stage::Whole, Some(soa)) => {
                if Some(soa.serial) != last {
                    return Err(Unusable::BrokenChain);
                }
                self.stage = Stage::End;
            }
            (Stage::Second | Stage::Whole, None) => {
                self.stage = Stage::Whole;
                self.add_to_whole(record);
            }
            (Stage::Deleting, Some(soa)) => self.stage = Stage::Adding(soa.serial),
            (Stage::Deleting, None) => self.edits.push(Edit::Delete(record.owner, record.data)),
            (&Stage::Adding(reached), Some(soa)) => {
                self.reached = reached;
                if soa.serial != reached {
                    return Err(Unusable::BrokenChain);
                }
                // The SOA of the latest version ends all; that of another begins its deletions.
                self.stage = if Some(reached) == last {
                    Stage::End
                } else {
                    Stage::Deleting
                };
            }
            (Stage::Adding(_), None) => {
                let edit = Edit::Add(record.owner, record.ttl, record.data);
                self.edits.push(edit);
            }
            (Stage::End, _) => return Err(Unusable::Surplus),
        }
        Ok(())
    }

    fn add_to_whole(&mut self, record: Record) {
        let key = (record.owner, record.data.rtype());
        let (ttl, data) = self.whole.entry(key).or_insert((record.ttl, Vec::new()));
        *ttl = record.ttl.min(*ttl);
        data.push(record.data);
    }

    /// What it came to, after [`Self::take`] said that this is all.
    pub(super) fn finish(self) -> Result<Incoming, Unusable> {
        let (soa, soa_ttl) = self.last.ok_or(Unusable::NoSoa)?;
        if let Some(from) = self
            .held
            .filter(|_| !self.edits.is_empty() || self.whole.is_empty())
        {
            if !serial::is_after(soa.serial, from) {
                return Ok(Incoming::Nothing);
            }
            return Ok(Incoming::Changes(Changes {
                from,
                soa,
                soa_ttl,
                edits: self.edits,
            }));
        }
        let records = self.whole.into_iter();
        let records =
            records.map(|((owner, rtype), (ttl, data))| (owner, Rrset::new(rtype, ttl, data)));
        Ok(Incoming::Whole(Whole {
            soa,
            soa_ttl,
            records: records.collect(),
        }))
    }
}

impl Changes {
    /// The whole content of each name that changes, in the version that this leads to.
    ///
    /// # Errors
    /// They do not fit to the zone as it is in `snapshot`.
    pub fn names(
        &self,
        zone: &Name,
        snapshot: &Snapshot,
    ) -> Result<Vec<(Name, Vec<Rrset>)>, Unusable> {
        let held = snapshot.zones().iter().find(|one| one.apex == *zone);
        if !held.is_some_and(|held| held.soa.serial == self.from && held.complete) {
            return Err(Unusable::Mismatch);
        }
        let mut names: BTreeMap<&Name, Records> = BTreeMap::new();
        for edit in &self.edits {
            let (Edit::Delete(owner, data) | Edit::Add(owner, _, data)) = edit;
            // Glue below a cut may be in a zone that is here, too.
            let enclosing = snapshot.enclosing_zone(owner);
            if enclosing.is_none_or(|(_, enclosing)| enclosing.apex != *zone) {
                continue;
            }
            let rrsets = names
                .entry(owner)
                .or_insert_with(|| present(snapshot, owner));
            let records = rrsets.entry(data.rtype()).or_default();
            match edit {
                Edit::Delete(..) => {
                    let at = records.iter().position(|(_, one)| one == data);
                    records.swap_remove(at.ok_or(Unusable::Mismatch)?);
                }
                Edit::Add(_, ttl, _) => {
                    records.retain(|(_, one)| one != data);
                    records.push((*ttl, data.clone()));
                }
            }
        }
        let rrset = |(rtype, records): (Rtype, Vec<(u32, Rdata)>)| {
            // One TTL for all (RFC 2181, section 5.2).
            let ttl = records.iter().map(|(ttl, _)| *ttl).min()?;
            let data = records.into_iter().map(|(_, data)| data);
            Some(Rrset::new(rtype, ttl, data))
        };
        let content = |(owner, rrsets): (&Name, Records)| {
            (
                owner.clone(),
                rrsets.into_iter().filter_map(rrset).collect(),
            )
        };
        Ok(names.into_iter().map(content).collect())
    }
}

fn present(snapshot: &Snapshot, owner: &Name) -> Records {
    let rrsets = snapshot.node(owner).map(|node| node.rrsets());
    let rrsets = rrsets.unwrap_or_default().iter();
    rrsets
        .filter(|one| one.rtype() != Rtype::SOA)
        .map(|one| {
            let data = one.data().iter();
            let records = data.map(|data| (one.ttl(), data.clone())).collect();
            (one.rtype(), records)
        })
        .collect()
}

#[cfg(test)]
#[path = "incoming_tests.rs"]
mod tests;
