//! A resolution as a message of bounded size: sections, compression, rotation, truncation.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::zones::hash::OwnerHasher;
use crate::zones::{Name, Rdata, Rrset, Rtype};

use super::edns::{EXTENDED_ERROR_OCTETS, ExtendedError, option};
use super::query::{CLASS_IN, Edns, HEADER_OCTETS, Query};
use super::resolve::{Entry, Rcode, Resolution};

const AA: u16 = 1 << 10;
const TC: u16 = 1 << 9;
const RA: u16 = 1 << 7;

/// Octets of an OPT record without options.
const OPT_OCTETS: usize = 11;
/// Compression pointers have 14 bits (RFC 1035, section 4.1.4).
const POINTER_LIMIT: usize = 1 << 14;

/// Most messages are no larger.
const USUAL_OCTETS: usize = 256;

/// Key of the hash by which suffixes are found; names are chosen by tenants.
static SEED: LazyLock<u64> = LazyLock::new(rand::random);

/// The bounds of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Octets at most.
    pub limit: usize,
    /// Whether TC is set when something had to be left out. If so, RRsets are left out whole, and
    /// the client comes back over TCP. If not (`SetTruncateBit` false of mesos-dns), nobody comes
    /// back, so as many records as fit are sent.
    pub sets_truncate_bit: bool,
    /// The UDP size that the OPT record of the response offers.
    pub edns_size: u16,
}

/// Writes the response to `query`.
///
/// The question is echoed octet for octet. The records of each RRset in the answer section are
/// rotated left by the message id, as dcos-dns does it: different queries see different first
/// records, and the same query sees the same.
///
/// What does not fit: from the answer and authority sections on, nothing more is written and TC is
/// set; an RRset of the additional section is left out without TC (RFC 2181, section 9), unless it
/// is the glue of a referral (RFC 9471, section 3).
#[must_use]
pub fn write(query: &Query<'_>, resolution: &Resolution<'_>, size: Size) -> Vec<u8> {
    let together = rotated_together(resolution, query.id);
    let (answer, turn) = match &together {
        Some(answer) => (answer, 0),
        None => (&resolution.answer, query.id),
    };
    let mut writer = Writer::new(query, resolution, size);
    let mut truncated = false;
    for entry in answer {
        truncated = truncated || !writer.add(Section::Answer, entry, turn);
    }
    for entry in &resolution.authority {
        truncated = truncated || !writer.add(Section::Authority, entry, 0);
    }
    for entry in &resolution.additional {
        if !truncated && !writer.add(Section::Additional, entry, 0) {
            truncated = resolution.needs_additional;
        }
    }
    let mut flags = query.response_flags();
    if resolution.authoritative {
        flags |= AA;
    }
    if resolution.recursion_available {
        flags |= RA;
    }
    if truncated && size.sets_truncate_bit {
        flags |= TC;
    }
    writer.finish(query, flags, resolution.rcode, resolution.extended_error)
}

/// Writes a response that has a question and a code, and no data: neither AA nor RA are set.
#[must_use]
pub fn write_error(query: &Query<'_>, rcode: Rcode, size: Size) -> Vec<u8> {
    write_empty(query, rcode, None, size)
}

/// As [`write_error`], and says why to a client with EDNS.
#[must_use]
pub fn write_explained(query: &Query<'_>, rcode: Rcode, why: ExtendedError, size: Size) -> Vec<u8> {
    write_empty(query, rcode, Some(why), size)
}

/// Writes a response without records that sends the client to TCP.
#[must_use]
pub fn write_truncated(query: &Query<'_>, size: Size) -> Vec<u8> {
    let mut response = write_error(query, Rcode::NOERROR, size);
    if let Some(flags) = response.get_mut(2) {
        *flags |= (TC >> 8) as u8;
    }
    response
}

fn write_empty(
    query: &Query<'_>,
    rcode: Rcode,
    extended_error: Option<ExtendedError>,
    size: Size,
) -> Vec<u8> {
    let empty = Resolution {
        rcode,
        authoritative: false,
        recursion_available: false,
        answer: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
        rotates_types_together: false,
        needs_additional: false,
        extended_error,
    };
    write(query, &empty, size)
}

/// Writes the header alone.
#[must_use]
pub fn write_header(id: u16, flags: u16, rcode: Rcode) -> Vec<u8> {
    let mut out = vec![0; HEADER_OCTETS];
    set_u16(&mut out, 0, id);
    set_u16(&mut out, 2, flags | (rcode.0 & 0xf));
    out
}

/// Writes the header, and an OPT record for one who has sent `edns`.
#[must_use]
pub fn write_header_with_opt(
    (id, flags): (u16, u16),
    rcode: Rcode,
    edns: Edns<'_>,
    edns_size: u16,
) -> Vec<u8> {
    let mut out = write_header(id, flags, rcode);
    set_u16(&mut out, 10, 1);
    push_opt(&mut out, edns_size, rcode, edns.dnssec_ok, None);
    out
}

/// Writes an OPT record (RFC 6891, section 6.1.2), with why the answer is none (RFC 8914) if that is
/// to be said. DO is that of the query (RFC 3225, section 3).
pub(crate) fn push_opt(
    out: &mut Vec<u8>,
    size: u16,
    rcode: Rcode,
    dnssec_ok: bool,
    extended_error: Option<ExtendedError>,
) {
    out.push(0);
    push_u16(out, Rtype::OPT.0);
    push_u16(out, size);
    let upper = u8::try_from(rcode.0 >> 4).unwrap_or_default();
    let flags = if dnssec_ok { 0x80 } else { 0 };
    out.extend_from_slice(&[upper, 0, flags, 0]);
    match extended_error {
        Some(ExtendedError(code)) => {
            for field in [6, option::EXTENDED_ERROR, 2, code] {
                push_u16(out, field);
            }
        }
        None => push_u16(out, 0),
    }
}

/// A response laid out without regard to size, to be cut into finished answers.
pub(super) struct Layout {
    /// The message; the header's id, flags and counts are not set.
    pub(super) octets: Vec<u8>,
    /// Where each record starts, and where the last one ends.
    pub(super) starts: Vec<usize>,
    /// Records in the answer, authority and additional section.
    pub(super) counts: [u16; 3],
}

/// Lays out the response to `query`, its RRsets not rotated.
pub(super) fn lay_out<'r>(query: &'r Query<'_>, resolution: &'r Resolution<'_>) -> Layout {
    let size = Size {
        limit: usize::from(u16::MAX),
        sets_truncate_bit: true,
        edns_size: 0,
    };
    let mut writer = Writer::new(query, resolution, size);
    let sections = [
        (Section::Answer, &resolution.answer),
        (Section::Authority, &resolution.authority),
        (Section::Additional, &resolution.additional),
    ];
    for (section, entries) in sections {
        for entry in entries {
            writer.add(section, entry, 0);
        }
    }
    writer.starts.push(writer.out.len());
    Layout {
        octets: writer.out,
        starts: writer.starts,
        counts: writer.counts,
    }
}

/// Offsets by suffix: a short list in most messages, and a map in those with many names.
pub(super) struct Suffixes<'r> {
    few: Vec<(&'r [u8], u16)>,
    many: Option<HashMap<&'r [u8], u16, OwnerHasher>>,
}

impl Default for Suffixes<'_> {
    fn default() -> Self {
        // The labels of the name in the question, and some.
        Self {
            few: Vec::with_capacity(8),
            many: None,
        }
    }
}

impl<'r> Suffixes<'r> {
    const FEW: usize = 24;

    fn get(&self, suffix: &[u8]) -> Option<u16> {
        if let Some(many) = &self.many {
            return many.get(suffix).copied();
        }
        let found = self.few.iter().find(|(known, _)| *known == suffix);
        found.map(|(_, offset)| *offset)
    }

    fn insert(&mut self, suffix: &'r [u8], offset: u16) {
        if self.many.is_none() && self.few.len() < Self::FEW {
            self.few.push((suffix, offset));
            return;
        }
        let many = self
            .many
            .get_or_insert_with(|| HashMap::with_hasher(OwnerHasher::new(*SEED)));
        many.extend(self.few.drain(..));
        many.insert(suffix, offset);
    }

    fn remove(&mut self, suffix: &[u8]) {
        match &mut self.many {
            Some(many) => drop(many.remove(suffix)),
            None => self.few.retain(|(known, _)| *known != suffix),
        }
    }

    /// Writes a name as the labels that have no place yet and a pointer to the rest.
    pub(super) fn write(&self, name: &Name, out: &mut Vec<u8>) {
        let whole = name.wire();
        let known = name
            .suffixes()
            .find_map(|suffix| Some((suffix.len(), self.get(suffix)?)));
        if let Some((len, offset)) = known {
            let fresh = whole.get(..whole.len() - len).unwrap_or_default();
            out.extend_from_slice(fresh);
            push_u16(out, 0xc000 | offset);
        } else {
            out.extend_from_slice(whole);
        }
    }

    /// Remembers that `name` can be found at `start` as far as its suffixes have no place yet; tells
    /// of each that has one now.
    pub(super) fn note(&mut self, name: &'r Name, start: usize, mut tell: impl FnMut(&'r [u8])) {
        let whole = name.wire().len();
        for suffix in name.suffixes() {
            let offset = start + (whole - suffix.len());
            // The root is shorter than a pointer.
            if suffix.len() <= 1 || offset >= POINTER_LIMIT || self.get(suffix).is_some() {
                break;
            }
            if let Ok(offset) = u16::try_from(offset) {
                self.insert(suffix, offset);
                tell(suffix);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Section {
    Answer,
    Authority,
    Additional,
}

struct Writer<'r> {
    out: Vec<u8>,
    /// Octets that the sections may fill; OPT comes after.
    room: usize,
    splits_rrsets: bool,
    edns_size: u16,
    counts: [u16; 3],
    /// Where a name that ends in this suffix can point to.
    offsets: Suffixes<'r>,
    /// What was noted since the last RRset that stays.
    noted: Vec<&'r [u8]>,
    /// Where each record starts.
    starts: Vec<usize>,
}

impl<'r> Writer<'r> {
    fn new(query: &'r Query<'_>, resolution: &Resolution<'_>, size: Size) -> Self {
        let mut reserved = 0;
        if query.edns.is_some() {
            reserved = OPT_OCTETS;
            if resolution.extended_error.is_some() {
                reserved += EXTENDED_ERROR_OCTETS;
            }
        }
        let mut out = Vec::with_capacity(USUAL_OCTETS);
        out.extend_from_slice(&[0; HEADER_OCTETS]);
        out.extend_from_slice(query.question);
        let mut writer = Self {
            out,
            room: size.limit.saturating_sub(reserved),
            splits_rrsets: !size.sets_truncate_bit,
            edns_size: size.edns_size,
            counts: [0; 3],
            offsets: Suffixes::default(),
            noted: Vec::new(),
            starts: Vec::new(),
        };
        let before_any = |_: &[u8]| {};
        writer.offsets.note(&query.name, HEADER_OCTETS, before_any);
        writer
    }

    /// Writes one RRset, its records rotated left by `turn`. If it does not fit, takes back what
    /// was written of it and says so; where RRsets may be split, what fits stays.
    fn add<'e: 'r>(&mut self, section: Section, entry: &'e Entry<'_>, turn: u16) -> bool {
        let start = self.out.len();
        let mut count = 0u16;
        for data in rotated(&entry.rrset, turn) {
            let before = self.out.len();
            self.add_record(&entry.owner, &entry.rrset, data);
            if self.out.len() > self.room || count == u16::MAX {
                let keep = if self.splits_rrsets { before } else { start };
                self.take_back(keep);
                if self.splits_rrsets {
                    self.count(section, count);
                }
                return false;
            }
            count += 1;
        }
        self.noted.clear();
        self.count(section, count);
        true
    }

    fn count(&mut self, section: Section, more: u16) {
        let slot = match section {
            Section::Answer => 0,
            Section::Authority => 1,
            Section::Additional => 2,
        };
        if let Some(count) = self.counts.get_mut(slot) {
            *count = count.saturating_add(more);
        }
    }

    fn take_back(&mut self, len: usize) {
        self.out.truncate(len);
        for suffix in self.noted.drain(..) {
            let kept = self.offsets.get(suffix);
            if kept.is_some_and(|offset| usize::from(offset) >= len) {
                self.offsets.remove(suffix);
            }
        }
    }

    fn add_record(&mut self, owner: &'r Name, rrset: &Rrset, data: &'r Rdata) {
        self.starts.push(self.out.len());
        self.add_name(owner);
        self.push_u16(rrset.rtype().0);
        self.push_u16(CLASS_IN);
        self.out.extend_from_slice(&rrset.ttl().to_be_bytes());
        let length_at = self.out.len();
        self.push_u16(0);
        let start = self.out.len();
        data.write(&mut self.out);
        // Names in RDATA are whole, but names after them may point at them; not where records
        // change places, so that an answer is the same octets in any rotation.
        if rrset.data().len() > 1 {
            let length = u16::try_from(self.out.len() - start).unwrap_or(u16::MAX);
            set_u16(&mut self.out, length_at, length);
            return;
        }
        match data {
            Rdata::Srv(_, _, _, target) => self.note_name(target, start + 6),
            Rdata::Cname(target)
            | Rdata::Dname(target)
            | Rdata::Ns(target)
            | Rdata::Ptr(target) => self.note_name(target, start),
            Rdata::A(_) | Rdata::Aaaa(_) | Rdata::Txt(_) | Rdata::Soa(_) | Rdata::Opaque(..) => {}
        }
        let length = u16::try_from(self.out.len() - start).unwrap_or(u16::MAX);
        set_u16(&mut self.out, length_at, length);
    }

    fn add_name(&mut self, name: &'r Name) {
        let start = self.out.len();
        self.offsets.write(name, &mut self.out);
        self.note_name(name, start);
    }

    fn note_name(&mut self, name: &'r Name, start: usize) {
        let noted = &mut self.noted;
        self.offsets.note(name, start, |suffix| noted.push(suffix));
    }

    fn push_u16(&mut self, value: u16) {
        push_u16(&mut self.out, value);
    }

    fn finish(
        mut self,
        query: &Query<'_>,
        flags: u16,
        rcode: Rcode,
        extended_error: Option<ExtendedError>,
    ) -> Vec<u8> {
        let [answers, authorities, mut additionals] = self.counts;
        if let Some(edns) = query.edns {
            additionals = additionals.saturating_add(1);
            push_opt(
                &mut self.out,
                self.edns_size,
                rcode,
                edns.dnssec_ok,
                extended_error,
            );
        }
        set_u16(&mut self.out, 0, query.id);
        set_u16(&mut self.out, 2, flags | (rcode.0 & 0xf));
        for (at, count) in [(4, 1), (6, answers), (8, authorities), (10, additionals)] {
            set_u16(&mut self.out, at, count);
        }
        self.out
    }
}

/// The answer as dcos-dns has it: aliases in their order, then all other records as one list that
/// is rotated left by the message id. `None` where rotating each RRset gives the same, or is wanted.
fn rotated_together<'s>(resolution: &Resolution<'s>, id: u16) -> Option<Vec<Entry<'s>>> {
    let is_alias = |entry: &&Entry<'s>| matches!(entry.rrset.rtype(), Rtype::CNAME | Rtype::DNAME);
    let others = resolution.answer.iter().filter(|entry| !is_alias(entry));
    if !resolution.rotates_types_together || others.clone().count() < 2 {
        return None;
    }
    let mut records: Vec<Entry<'s>> = others
        .flat_map(|entry| {
            let one = |data: &Rdata| {
                let data = vec![data.clone()];
                let rrset = Rrset::new(entry.rrset.rtype(), entry.rrset.ttl(), data);
                Entry {
                    owner: entry.owner.clone(),
                    rrset: Cow::Owned(rrset),
                }
            };
            entry.rrset.data().iter().map(one)
        })
        .collect();
    let turn = usize::from(id).checked_rem(records.len()).unwrap_or(0);
    records.rotate_left(turn);
    let aliases = resolution.answer.iter().filter(is_alias).cloned();
    Some(aliases.chain(records).collect())
}

/// The records of an RRset from the `turn`-th on, then those before.
fn rotated(rrset: &Rrset, turn: u16) -> impl Iterator<Item = &Rdata> {
    let data = rrset.data();
    let first = usize::from(turn).checked_rem(data.len()).unwrap_or(0);
    let (before, after) = data.split_at(first);
    after.iter().chain(before)
}

fn push_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn set_u16(out: &mut [u8], at: usize, value: u16) {
    for (slot, octet) in out.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *slot = octet;
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
