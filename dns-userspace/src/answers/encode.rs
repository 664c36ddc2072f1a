//! Zones to finished answers: what [`resolve`] says of a name, for each of its types, as the blob
//! that `dns_common` answers from in the kernel and in user space.

use dns_common::blob::{self, Entry, Head, entry_flags, flags};
use dns_common::wire;

use super::resolve::{Rcode, Resolution, resolve};
use crate::zones::node::Encoder;
use crate::zones::{Name, Node, Rdata, Rrset, Rtype, Snapshot, Zone};

/// Octets of a record before its RDATA when its owner is a pointer: owner, type, class, TTL,
/// RDLENGTH.
const RECORD_OCTETS: usize = 12;

/// Encodes nodes as blobs.
#[derive(Debug, Clone, Copy, Default)]
pub struct BlobEncoder;

impl Encoder for BlobEncoder {
    fn encode(&self, snapshot: &Snapshot, node: &Node) -> Option<Box<[u8]>> {
        encode(snapshot, node)
    }

    fn encode_denial(&self, zone: &Zone) -> Option<Box<[u8]>> {
        if zone.complete {
            encode_denial(zone)
        } else {
            None
        }
    }
}

/// The finished answers of a node; `None` where the name must be left to [`resolve`] in full.
#[must_use]
pub fn encode(snapshot: &Snapshot, node: &Node) -> Option<Box<[u8]>> {
    let zone = snapshot.zone(node.zone())?;
    let owner = node.owner().wire();
    if has_zero_octet(node.owner()) {
        return None;
    }
    let mut directory: Vec<Entry> = Vec::new();
    let mut bodies: Vec<u8> = Vec::new();
    let governed = node.is_occluded() || node.is_cut() || node.is_wildcard();
    if !governed {
        for rrset in node.rrsets() {
            let (entry, body) = finish(snapshot, node, rrset.rtype());
            place(&mut directory, &mut bodies, entry, &body);
        }
        if node.rrset(Rtype::CNAME).is_some() {
            // An alias has an answer to every type; where it leads is for `resolve` to find.
            directory.push(unfit(Rtype(blob::ANY_OTHER_TYPE)));
        }
    }
    let mut blob_flags = 0;
    if zone.recursion_available {
        blob_flags |= flags::RA;
    }
    if governed {
        blob_flags |= flags::PASS | flags::OPAQUE;
    }
    let head = Head::new(
        u8::try_from(owner.len()).ok()?,
        u8::try_from(directory.len()).ok()?,
        node.zone().0,
        blob_flags,
        u8::try_from(owner.len().checked_sub(zone.apex.wire().len())?).ok()?,
    );
    assemble(head, owner, &mut directory, &bodies)
}

/// The blob of the SOA that denies names and types of `zone`: see [`dns_common::Table::soa`].
#[must_use]
pub fn encode_denial(zone: &Zone) -> Option<Box<[u8]>> {
    let mut body = Vec::new();
    for data in zone.negative_soa().data() {
        write_record(&mut body, Rtype::SOA, zone.negative_ttl(), data);
    }
    // The owner depends on the question and is not stored.
    let tail = body.get(2..)?;
    let entry = Entry {
        rtype: Rtype::SOA.0,
        authorities: 1,
        tail_octets: u16::try_from(tail.len()).ok()?,
        ..Entry::default()
    };
    assemble(Head::new(0, 1, 0, 0, 0), &[], &mut [entry], tail)
}

/// Whether an octet of a label is zero: the responder takes the first zero for the root.
fn has_zero_octet(name: &Name) -> bool {
    name.labels().any(|label| label.contains(&0))
}

/// Appends a body and, where the records differ in size, the list of starts before it.
fn place(directory: &mut Vec<Entry>, bodies: &mut Vec<u8>, mut entry: Entry, body: &Body) {
    if entry.rotating > 1 && entry.stride == 0 {
        for start in &body.starts {
            bodies.extend_from_slice(&start.to_le_bytes());
        }
    }
    match u16::try_from(bodies.len()) {
        Ok(at) => entry.body_at = at,
        Err(_) => entry = unfit(Rtype(entry.rtype)),
    }
    bodies.extend_from_slice(&body.octets);
    directory.push(entry);
}

/// Puts the parts one behind the other. `body_at` of each entry, relative so far, becomes relative
/// to the blob.
fn assemble(head: Head, owner: &[u8], directory: &mut [Entry], bodies: &[u8]) -> Option<Box<[u8]>> {
    let directory_at = usize::try_from(head.directory_at()).ok()?;
    let bodies_at = directory_at + directory.len() * blob::ENTRY_OCTETS as usize;
    if directory.len() > blob::MAX_ENTRIES as usize
        || bodies_at + bodies.len() > blob::MAX_OCTETS as usize
    {
        return None;
    }
    let mut octets = Vec::with_capacity(bodies_at + bodies.len() + 8);
    octets.extend_from_slice(&head.get().to_le_bytes());
    octets.extend_from_slice(owner);
    octets.resize(directory_at, 0);
    for entry in directory {
        entry.body_at += u16::try_from(bodies_at).ok()?;
        let (low, high) = entry.words();
        octets.extend_from_slice(&low.to_le_bytes());
        octets.extend_from_slice(&high.to_le_bytes());
    }
    octets.extend_from_slice(bodies);
    octets.resize(octets.len().next_multiple_of(8), 0);
    Some(octets.into_boxed_slice())
}

/// A finished body, before it has its place in the blob.
#[derive(Default)]
struct Body {
    octets: Vec<u8>,
    /// Where each rotating record starts, relative to the first.
    starts: Vec<u16>,
}

/// An entry that only says that the type exists: its answer goes the slow way.
fn unfit(rtype: Rtype) -> Entry {
    Entry {
        rtype: rtype.0,
        flags: entry_flags::UNFIT,
        ..Entry::default()
    }
}

/// The answer to a question for `rtype` at `node`.
fn finish(snapshot: &Snapshot, node: &Node, rtype: Rtype) -> (Entry, Body) {
    let Some(resolution) = resolve(snapshot, node.owner(), rtype) else {
        return (unfit(rtype), Body::default());
    };
    finish_own(node, rtype, &resolution).unwrap_or_else(|| (unfit(rtype), Body::default()))
}

/// The answer if it is the node's own RRset and nothing else: then it changes only with the node.
fn finish_own(node: &Node, rtype: Rtype, resolution: &Resolution<'_>) -> Option<(Entry, Body)> {
    let own = node.rrset(rtype)?;
    let is_own = resolution.rcode == Rcode::NOERROR
        && resolution.authoritative
        && resolution.answer.len() == 1
        && resolution.authority.is_empty()
        && resolution.additional.is_empty()
        && resolution
            .answer
            .iter()
            .all(|one| one.owner == *node.owner() && *one.rrset == *own);
    if !is_own || !stands_alone(rtype) {
        return None;
    }
    finish_rrset(own)
}

/// Whether an answer of this type never brings records of other names along.
fn stands_alone(rtype: Rtype) -> bool {
    ![Rtype::SRV, Rtype::NS, Rtype::CNAME, Rtype::DNAME].contains(&rtype)
}

fn finish_rrset(rrset: &Rrset) -> Option<(Entry, Body)> {
    let mut octets = Vec::new();
    let mut starts = Vec::with_capacity(rrset.data().len());
    for data in rrset.data() {
        starts.push(u16::try_from(octets.len()).ok()?);
        write_record(&mut octets, rrset.rtype(), rrset.ttl(), data);
    }
    let least = (wire::HEADER_OCTETS + 5) as usize;
    if octets.len() + least > wire::MAX_UDP_OCTETS as usize {
        return None;
    }
    let rotating = u8::try_from(rrset.data().len()).ok()?;
    let rotating_octets = u16::try_from(octets.len()).ok()?;
    let stride = starts.get(1).copied().unwrap_or(0);
    let is_even = (0u16..)
        .zip(&starts)
        .all(|(i, start)| i.checked_mul(stride) == Some(*start));
    let is_even = is_even && rotating_octets == u16::from(rotating).checked_mul(stride)?;
    if rotating > 1 {
        octets.extend_from_within(..);
    }
    let entry = Entry {
        rtype: rrset.rtype().0,
        answers: rotating,
        rotating,
        rotating_octets,
        stride: if is_even {
            u8::try_from(stride).unwrap_or(0)
        } else {
            0
        },
        ..Entry::default()
    };
    Some((entry, Body { octets, starts }))
}

/// Writes a record whose owner is the name asked.
fn write_record(out: &mut Vec<u8>, rtype: Rtype, ttl: u32, data: &Rdata) {
    let start = out.len();
    out.extend_from_slice(&wire::POINTER_TO_QUESTION.to_be_bytes());
    out.extend_from_slice(&rtype.0.to_be_bytes());
    out.extend_from_slice(&wire::rtype::CLASS_IN.to_be_bytes());
    out.extend_from_slice(&ttl.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    data.write(out);
    let octets = out.len().saturating_sub(start + RECORD_OCTETS);
    if let Some(slot) = out.get_mut(start + RECORD_OCTETS - 2..start + RECORD_OCTETS) {
        // No RDATA of ours comes near 65,535 octets: names and strings are bounded.
        slot.copy_from_slice(&u16::try_from(octets).unwrap_or(u16::MAX).to_be_bytes());
    }
}
