//! Zones to finished answers: what [`resolve`] says of a name, for each of its types, as the blob
//! that `dns_common` answers from in the kernel and in user space.

use std::sync::Arc;

use dns_common::blob::{self, Entry, Head, entry_flags, flags};
use dns_common::wire;

use super::message::{Layout, Suffixes, lay_out};
use super::query::{HEADER_OCTETS, Query};
use super::resolve::{Entry as Answered, Rcode, Resolution, has_inner_star, resolve, resolve_at};
use crate::zones::blob::Blob;
use crate::zones::node::Encoder;
use crate::zones::{Node, Rdata, Rrset, Rtype, Snapshot, Zone};

/// Encodes nodes as blobs.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlobEncoder;

impl Encoder for BlobEncoder {
    fn encode(
        &self,
        snapshot: &Snapshot,
        node: &Node,
        led_to: &[Option<&Arc<Node>>],
    ) -> Option<Blob> {
        encode(snapshot, node, led_to).map(Blob::from)
    }

    fn encode_denial(&self, zone: &Zone) -> Option<Box<[u8]>> {
        if zone.complete {
            encode_denial(zone)
        } else {
            None
        }
    }
}

/// The finished answers of a node: see [`Encoder::encode`].
#[must_use]
pub fn encode(
    snapshot: &Snapshot,
    node: &Node,
    led_to: &[Option<&Arc<Node>>],
) -> Option<Box<[u8]>> {
    let zone = snapshot.zone(node.zone())?;
    let owner = node.owner().wire();
    let governed = node.is_occluded() || node.is_cut() || zone.expands(node) || zone.withdrawn;
    let mut answers = if governed {
        Vec::new()
    } else {
        finish_all(snapshot, node, led_to)
    };
    let mut blob_flags = 0;
    if zone.recursion_available {
        blob_flags |= flags::RA;
    }
    if governed {
        blob_flags |= flags::PASS | flags::OPAQUE;
    }
    if zone.ignores_stars && owner.contains(&b'*') {
        // A question for what is below asks for another name.
        blob_flags |= flags::OPAQUE;
        if has_inner_star(node.owner()) {
            blob_flags |= flags::PASS;
        }
    }
    loop {
        let head = Head::new(
            u8::try_from(owner.len()).ok()?,
            0,
            node.zone().0,
            blob_flags,
            u8::try_from(owner.len().checked_sub(zone.apex.wire().len())?).ok()?,
        );
        if let Some(blob) = assemble(head, owner, &answers) {
            return Some(blob);
        }
        // The largest answer goes the slow way, that the others need not.
        match answers.iter_mut().max_by_key(|one| one.body.len()) {
            Some(largest) if !largest.body.is_empty() => {
                *largest = Finished::unfit(Rtype(largest.entry.rtype));
            }
            _ => {
                answers.clear();
                blob_flags |= flags::PASS;
            }
        }
    }
}

/// The blob of the SOA that denies names and types of `zone`: see [`dns_common::Table::soa`].
#[must_use]
pub fn encode_denial(zone: &Zone) -> Option<Box<[u8]>> {
    let mut body = Vec::new();
    for data in zone.negative_soa().data() {
        body.extend_from_slice(&Rtype::SOA.0.to_be_bytes());
        body.extend_from_slice(&wire::rtype::CLASS_IN.to_be_bytes());
        body.extend_from_slice(&zone.negative_ttl().to_be_bytes());
        let mut rdata = Vec::new();
        data.write(&mut rdata);
        body.extend_from_slice(&u16::try_from(rdata.len()).ok()?.to_be_bytes());
        body.extend_from_slice(&rdata);
    }
    // The owner depends on the question and is not stored.
    let entry = Entry {
        rtype: Rtype::SOA.0,
        authorities: 1,
        tail_octets: u16::try_from(body.len()).ok()?,
        ..Entry::default()
    };
    let mut zone_flags = 0;
    if zone.wildcards == 0 {
        zone_flags |= flags::DENIES_NAMES;
    }
    if zone.unknown_srv_is_nodata {
        zone_flags |= flags::EVERY_SERVICE;
    }
    let finished = Finished {
        entry,
        starts: Vec::new(),
        body,
    };
    assemble(Head::new(0, 0, 0, zone_flags, 0), &[], &[finished])
}

/// The answer to one type, before it has its place in the blob.
struct Finished {
    entry: Entry,
    /// Where each rotating record starts, relative to the first, if they differ in size.
    starts: Vec<u16>,
    body: Vec<u8>,
}

impl Finished {
    /// Only says that the type exists: its answer goes the slow way.
    fn unfit(rtype: Rtype) -> Self {
        let entry = Entry {
            rtype: rtype.0,
            flags: entry_flags::UNFIT,
            ..Entry::default()
        };
        Self {
            entry,
            starts: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Type and octets, if this is one record of the name asked and nothing else.
    fn as_first(&self) -> Option<(u8, u8)> {
        let entry = &self.entry;
        let alone = entry.counts() == 1
            && entry.rotating == 1
            && entry.head_octets == 0
            && entry.tail_octets == 0
            && entry.rtype != blob::ANY_OTHER_TYPE
            && entry.rtype < wire::rtype::FIRST_META;
        if !alone {
            return None;
        }
        Some((
            u8::try_from(entry.rtype).ok()?,
            u8::try_from(self.body.len()).ok()?,
        ))
    }

    fn can_be_first(&self) -> bool {
        self.as_first().is_some()
    }
}

/// Puts the parts one behind the other; `None` if they do not fit.
fn assemble(head: Head, owner: &[u8], answers: &[Finished]) -> Option<Box<[u8]>> {
    let place = answers.iter().position(Finished::can_be_first);
    let first = place.and_then(|place| answers.get(place));
    let head = first
        .and_then(Finished::as_first)
        .map_or(head, |(rtype, octets)| head.with_first(rtype, octets));
    let listed = || {
        let others = answers
            .iter()
            .enumerate()
            .filter(|(at, _)| Some(*at) != place);
        others.map(|(_, one)| one)
    };
    let head = head.with_entries(u8::try_from(listed().count()).ok()?);
    let directory_at = usize::try_from(head.directory_at()).ok()?;
    let mut at = directory_at + listed().count() * blob::ENTRY_OCTETS as usize;
    if listed().count() > blob::MAX_ENTRIES as usize {
        return None;
    }
    let bodies: usize = listed()
        .map(|one| 2 * one.starts.len() + one.body.len())
        .sum();
    let mut octets = Vec::with_capacity((at + bodies).next_multiple_of(8));
    octets.extend_from_slice(&head.get().to_le_bytes());
    octets.extend_from_slice(owner);
    octets.resize(usize::try_from(head.first_at()).ok()?, 0);
    octets.extend_from_slice(first.map_or(&[], |one| &one.body));
    octets.resize(directory_at, 0);
    for one in listed() {
        at += 2 * one.starts.len();
        let entry = Entry {
            body_at: u16::try_from(at).ok()?,
            ..one.entry
        };
        let (low, high) = entry.words();
        octets.extend_from_slice(&low.to_le_bytes());
        octets.extend_from_slice(&high.to_le_bytes());
        at += one.body.len();
    }
    for one in listed() {
        for start in &one.starts {
            octets.extend_from_slice(&start.to_le_bytes());
        }
        octets.extend_from_slice(&one.body);
    }
    octets.resize(octets.len().next_multiple_of(8), 0);
    let units = octets.len().div_ceil(blob::SLOT_OCTETS as usize);
    *octets.get_mut(blob::UNITS_AT)? = u8::try_from(units).ok()?;
    (octets.len() <= blob::MAX_OCTETS as usize).then(|| octets.into_boxed_slice())
}

/// The answers to every type that a node has something to say to.
fn finish_all(snapshot: &Snapshot, node: &Node, led_to: &[Option<&Arc<Node>>]) -> Vec<Finished> {
    let mut rtypes: Vec<Rtype> = node.rrsets().iter().map(Rrset::rtype).collect();
    let is_alias = rtypes.contains(&Rtype::CNAME);
    if is_alias {
        rtypes.extend([Rtype::A, Rtype::AAAA]);
    }
    // Without an alias, and without stars that are taken out of the question, the node decides.
    let decides = !is_alias && !node.owner().wire().contains(&b'*');
    let finished = |rtype| {
        if !decides {
            let resolution = resolve(snapshot, node.owner(), rtype)?;
            return finish(snapshot, node, &resolution, rtype);
        }
        let rrset = node.rrset(rtype)?;
        if [Rtype::A, Rtype::AAAA].contains(&rtype) {
            return finish_addresses(node, rrset);
        }
        finish_services(node, rrset, led_to)
            .or_else(|| finish(snapshot, node, &resolve_at(snapshot, node, rtype)?, rtype))
    };
    let mut answers: Vec<Finished> = rtypes
        .into_iter()
        .map(|rtype| finished(rtype).unwrap_or_else(|| Finished::unfit(rtype)))
        .collect();
    if is_alias {
        // An alias has an answer to every type; where it leads is for `resolve` to find.
        answers.push(Finished::unfit(Rtype(blob::ANY_OTHER_TYPE)));
    }
    answers
}

/// Points at the name in the question.
const POINTER_TO_QUESTION: [u8; 2] = [0xc0, HEADER_OCTETS as u8];

/// What [`finish`] gives for the addresses of a node that decides by itself, without the detour: most
/// names have one address and nothing else, and there may be a million of them.
fn finish_addresses(node: &Node, rrset: &Rrset) -> Option<Finished> {
    let owner = match node.owner().wire() {
        // The root is shorter than a pointer.
        root @ [0] => root,
        _ => &POINTER_TO_QUESTION,
    };
    let data = rrset.data();
    let is_ipv4 = rrset.rtype() == Rtype::A;
    let stride = owner.len() + 10 + if is_ipv4 { 4 } else { 16 };
    let turning = stride.checked_mul(data.len())?;
    let before = HEADER_OCTETS + node.owner().wire().len() + 4;
    if before + turning > wire::MAX_UDP_OCTETS as usize {
        return None;
    }
    let copies = if data.len() > 1 { 2 } else { 1 };
    let mut body = Vec::with_capacity(turning * copies);
    for one in data {
        push_address(&mut body, owner, rrset, one)?;
    }
    if copies > 1 {
        body.extend_from_within(..);
    }
    let entry = Entry {
        rtype: rrset.rtype().0,
        answers: u8::try_from(data.len()).ok()?,
        rotating: u8::try_from(data.len()).ok()?,
        rotating_octets: u16::try_from(turning).ok()?,
        stride: if data.len() > 1 {
            u8::try_from(stride).ok()?
        } else {
            0
        },
        ..Entry::default()
    };
    Some(Finished {
        entry,
        starts: Vec::new(),
        body,
    })
}

/// Type, class and TTL of a record behind its owner.
fn push_head(body: &mut Vec<u8>, owner: &[u8], rrset: &Rrset) {
    body.extend_from_slice(owner);
    body.extend_from_slice(&rrset.rtype().0.to_be_bytes());
    body.extend_from_slice(&wire::rtype::CLASS_IN.to_be_bytes());
    body.extend_from_slice(&rrset.ttl().to_be_bytes());
}

/// An address record; `None` if it is none.
fn push_address(body: &mut Vec<u8>, owner: &[u8], rrset: &Rrset, data: &Rdata) -> Option<()> {
    push_head(body, owner, rrset);
    match data {
        Rdata::A(ip) => {
            body.extend_from_slice(&[0, 4]);
            body.extend_from_slice(&ip.octets());
        }
        Rdata::Aaaa(ip) => {
            body.extend_from_slice(&[0, 16]);
            body.extend_from_slice(&ip.octets());
        }
        _ => return None,
    }
    Some(())
}

/// What [`finish`] gives for the SRV records of a node that decides by itself, without the detour: a
/// task has several such names. `None` for anything else, and for one with other records that lead
/// elsewhere.
fn finish_services(node: &Node, rrset: &Rrset, led_to: &[Option<&Arc<Node>>]) -> Option<Finished> {
    /// Priority, weight and port.
    const BEFORE_TARGET: usize = 6;
    let (owner, data) = (node.owner(), rrset.data());
    // The root is shorter than a pointer.
    if rrset.rtype() != Rtype::SRV || owner.wire().len() <= 1 || led_to.len() != data.len() {
        return None;
    }
    let mut body = Vec::with_capacity(wire::MAX_UDP_OCTETS as usize);
    let mut starts = Vec::with_capacity(data.len());
    let mut targets = Vec::with_capacity(data.len());
    for (one, node) in data.iter().zip(led_to) {
        let Rdata::Srv(priority, weight, port, target) = one else {
            return None;
        };
        starts.push(u16::try_from(body.len()).ok()?);
        push_head(&mut body, &POINTER_TO_QUESTION, rrset);
        let rdata_octets = BEFORE_TARGET + target.wire().len();
        body.extend_from_slice(&u16::try_from(rdata_octets).ok()?.to_be_bytes());
        for field in [priority, weight, port] {
            body.extend_from_slice(&field.to_be_bytes());
        }
        body.extend_from_slice(target.wire());
        targets.push((target, node));
    }
    let before = HEADER_OCTETS + owner.wire().len() + 4;
    let turning = body.len();
    let mut places = Suffixes::default();
    places.note(owner, HEADER_OCTETS, |_| {});
    match targets.as_slice() {
        [(target, _)] => places.note(target, before + turning - target.wire().len(), |_| {}),
        // Nothing points at a record that changes its place.
        _ => body.extend_from_within(..),
    }
    targets.sort_unstable_by_key(|(target, _)| target.wire());
    targets.dedup_by_key(|(target, _)| *target);
    let tail_at = body.len();
    let mut additionals = 0;
    let mut name = Vec::new();
    for (target, node) in targets {
        for rtype in [Rtype::A, Rtype::AAAA] {
            let Some(addresses) = node.and_then(|node| node.rrset(rtype)) else {
                continue;
            };
            for one in addresses.data() {
                name.clear();
                places.write(target, &mut name);
                places.note(target, before + turning + (body.len() - tail_at), |_| {});
                push_address(&mut body, &name, addresses, one)?;
            }
            additionals += addresses.data().len();
        }
    }
    let tail_octets = body.len() - tail_at;
    if before + turning + tail_octets > wire::MAX_UDP_OCTETS as usize {
        return None;
    }
    let rotating_octets = u16::try_from(turning).ok()?;
    let stride = stride(&mut starts, rotating_octets);
    let entry = Entry {
        rtype: rrset.rtype().0,
        answers: u8::try_from(data.len()).ok()?,
        additionals: u8::try_from(additionals).ok()?,
        rotating: u8::try_from(data.len()).ok()?,
        rotating_octets,
        tail_octets: u16::try_from(tail_octets).ok()?,
        stride,
        ..Entry::default()
    };
    Some(Finished {
        entry,
        starts,
        body,
    })
}

/// The size of each rotating record, if all have the same and there are several; then it is not said
/// where each of them starts.
fn stride(starts: &mut Vec<u16>, rotating_octets: u16) -> u8 {
    let stride = starts.get(1).copied().unwrap_or_default();
    let ends = starts.iter().skip(1).chain([&rotating_octets]);
    let is_even = starts
        .iter()
        .zip(ends)
        .all(|(start, end)| start + stride == *end);
    let stride = if is_even {
        u8::try_from(stride).unwrap_or_default()
    } else {
        0
    };
    if starts.len() < 2 || stride != 0 {
        starts.clear();
    }
    stride
}

/// What `resolution` answers to a question for `rtype`, if it changes only when the node, an alias that it
/// leads to or the addresses of a name in its records do, and if a datagram can hold it.
fn finish(
    snapshot: &Snapshot,
    node: &Node,
    resolution: &Resolution<'_>,
    rtype: Rtype,
) -> Option<Finished> {
    let plain = resolution.rcode == Rcode::NOERROR
        && resolution.authoritative
        && resolution.authority.is_empty()
        && !resolution.needs_additional
        && resolution.extended_error.is_none();
    let (last, first) = resolution.answer.split_last()?;
    // What a wildcard or a DNAME gives changes with them, which the node does not hear of.
    let is_own = |one: &Answered<'_>| {
        let node = snapshot.node(&one.owner);
        node.is_some_and(|node| node.rrset(one.rrset.rtype()).is_some())
    };
    let is_alias =
        |one: &Answered<'_>| one.rrset.rtype() == Rtype::CNAME && one.rrset.data().len() == 1;
    if !plain || !resolution.answer.iter().all(is_own) || !first.iter().all(is_alias) {
        return None;
    }
    let owner = node.owner().wire();
    let mut question = Vec::with_capacity(owner.len() + 4);
    question.extend_from_slice(owner);
    question.extend_from_slice(&rtype.0.to_be_bytes());
    question.extend_from_slice(&wire::rtype::CLASS_IN.to_be_bytes());
    let query = Query {
        id: 0,
        flags: 0,
        question: &question,
        name: node.owner().clone(),
        rtype,
        class: wire::rtype::CLASS_IN,
        edns: None,
    };
    let layout = lay_out(&query, resolution);
    if layout.octets.len() > wire::MAX_UDP_OCTETS as usize {
        return None;
    }
    cut(rtype, &layout, first.len(), last.rrset.data().len())
}

/// Cuts a response into the part before the last RRset of its answer section, that RRset, and what
/// follows.
fn cut(rtype: Rtype, layout: &Layout, before: usize, rotating: usize) -> Option<Finished> {
    let start = |record: usize| layout.starts.get(record).copied();
    let piece = |from: usize, to: usize| layout.octets.get(start(from)?..start(to)?);
    let records = layout.starts.len().checked_sub(1)?;
    let head = piece(0, before)?;
    let turning = piece(before, before + rotating)?;
    let tail = piece(before + rotating, records)?;
    let mut starts = Vec::with_capacity(rotating);
    for record in before..before + rotating {
        starts.push(u16::try_from(start(record)?.checked_sub(start(before)?)?).ok()?);
    }
    let rotating_octets = u16::try_from(turning.len()).ok()?;
    let count = u8::try_from(rotating).ok()?;
    let stride = stride(&mut starts, rotating_octets);
    let [answers, authorities, additionals] = layout.counts;
    let mut body = Vec::with_capacity(head.len() + 2 * turning.len() + tail.len());
    body.extend_from_slice(head);
    body.extend_from_slice(turning);
    if count > 1 {
        body.extend_from_slice(turning);
    }
    body.extend_from_slice(tail);
    let entry = Entry {
        rtype: rtype.0,
        answers: u8::try_from(answers).ok()?,
        authorities: u8::try_from(authorities).ok()?,
        additionals: u8::try_from(additionals).ok()?,
        rotating: count,
        head_octets: u16::try_from(head.len()).ok()?,
        body_at: 0,
        rotating_octets,
        tail_octets: u16::try_from(tail.len()).ok()?,
        stride,
        flags: 0,
    };
    Some(Finished {
        entry,
        starts,
        body,
    })
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
