//! What a snapshot says of a name and a type: the algorithm of RFC 1034, section 4.3.2, with
//! DNAME (RFC 6672), wildcards (RFC 4592) and negative answers (RFC 2308), over all our zones.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use super::edns::ExtendedError;
use crate::zones::{Name, Node, Rdata, Rrset, Rtype, Snapshot, Zone};

/// A chain of aliases is followed this far; a longer one is a mistake of the operator.
pub const MAX_ALIASES: usize = 16;

/// A response code (RFC 1035, section 4.1.1; RFC 6895, section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rcode(pub u16);

impl Rcode {
    /// No error.
    pub const NOERROR: Self = Self(0);
    /// The question could not be read.
    pub const FORMERR: Self = Self(1);
    /// The server failed.
    pub const SERVFAIL: Self = Self(2);
    /// The name does not exist.
    pub const NXDOMAIN: Self = Self(3);
    /// The kind of query is not served.
    pub const NOTIMP: Self = Self(4);
    /// The server does not want to answer.
    pub const REFUSED: Self = Self(5);
    /// A DNAME leads to a name that is too long (RFC 6672, section 2.2).
    pub const YXDOMAIN: Self = Self(6);
    /// The server is not authoritative for the zone, or the signature does not hold (RFC 8945).
    pub const NOTAUTH: Self = Self(9);
    /// The EDNS version is not known (RFC 6891, section 6.1.3).
    pub const BADVERS: Self = Self(16);
    /// The server wants a good server cookie first (RFC 7873, section 8).
    pub const BADCOOKIE: Self = Self(23);
}

impl fmt::Display for Rcode {
    /// Its name (RFC 6895, section 2.3), or its number where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 11] = [
            "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN",
            "YXRRSET", "NXRRSET", "NOTAUTH", "NOTZONE",
        ];
        match (NAMES.get(usize::from(self.0)), *self) {
            (Some(name), _) => f.write_str(name),
            (None, Self::BADVERS) => f.write_str("BADVERS"),
            (None, Self::BADCOOKIE) => f.write_str("BADCOOKIE"),
            (None, Self(code)) => write!(f, "code {code}"),
        }
    }
}

/// An RRset with its owner, as it is put into a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'s> {
    /// The owner name.
    pub owner: Name,
    /// The records.
    pub rrset: Cow<'s, Rrset>,
}

/// What there is to say to a question, not yet bounded by a message's size.
#[derive(Debug, Clone)]
pub struct Resolution<'s> {
    /// The response code.
    pub rcode: Rcode,
    /// The AA bit: whether the first owner name is in a zone of ours.
    pub authoritative: bool,
    /// The RA bit, by the zone of the question.
    pub recursion_available: bool,
    /// Aliases in the order they were followed, then what they lead to.
    pub answer: Vec<Entry<'s>>,
    /// The SOA of a negative answer, or the name servers of a referral.
    pub authority: Vec<Entry<'s>>,
    /// Addresses of the targets in the sections before.
    pub additional: Vec<Entry<'s>>,
    /// Whether records of several types are rotated as one list, by the zone of the question.
    pub rotates_types_together: bool,
    /// Whether a response without the additional section is incomplete, as a referral without
    /// glue is (RFC 9471, section 3).
    pub needs_additional: bool,
    /// The extended error that explains the response code.
    pub extended_error: Option<ExtendedError>,
}

impl Resolution<'_> {
    /// Leaves out all RRsets of the name at the end of the chain but the first, which is the one
    /// with its address where there is one (RFC 8482, section 4.1).
    pub(super) fn keep_one_rrset(&mut self) {
        let is_alias =
            |entry: &Entry<'_>| matches!(entry.rrset.rtype(), Rtype::CNAME | Rtype::DNAME);
        let before = self.answer.iter().take_while(|one| is_alias(one)).count();
        self.answer.truncate(before + 1);
        self.additional.clear();
    }
}

/// Answers a question of class IN from `snapshot`; `None` if the name is in none of its zones.
#[must_use]
pub fn resolve<'s>(snapshot: &'s Snapshot, name: &Name, rtype: Rtype) -> Option<Resolution<'s>> {
    resolve_within(snapshot, name, rtype, usize::MAX)
}

/// As [`resolve`], for a message of at most `room` octets: where the answer alone is more than that,
/// nobody looks for the addresses of its targets, of which there may be thousands.
pub(super) fn resolve_within<'s>(
    snapshot: &'s Snapshot,
    name: &Name,
    rtype: Rtype,
    room: usize,
) -> Option<Resolution<'s>> {
    let (_, zone) = snapshot.enclosing_zone(name)?;
    let mut resolver = Resolver::new(snapshot, zone, rtype);
    resolver.room = room;
    let key = if zone.ignores_stars {
        without_stars(name)
    } else {
        None
    };
    resolver.follow(zone, key.as_ref().unwrap_or(name));
    let mut resolution = resolver.resolution;
    if key.is_some() {
        // mesos-dns gives an SRV record the name as it was asked, an address the name it found.
        for entry in &mut resolution.answer {
            if entry.rrset.rtype() == Rtype::SRV {
                entry.owner = name.clone();
            }
        }
    }
    Some(resolution)
}

/// What [`resolve`] gives for the name of `node` and a type that it has, where nothing but the node
/// decides: it has no alias, and neither it nor a name above governs it from elsewhere.
pub(super) fn resolve_at<'s>(
    snapshot: &'s Snapshot,
    node: &'s Node,
    rtype: Rtype,
) -> Option<Resolution<'s>> {
    let zone = snapshot.zone(node.zone())?;
    let mut resolver = Resolver::new(snapshot, zone, rtype);
    resolver.data(node, node.owner());
    resolver.add_addresses();
    Some(resolver.resolution)
}

struct Resolver<'s> {
    snapshot: &'s Snapshot,
    rtype: Rtype,
    resolution: Resolution<'s>,
    /// The names that aliases were followed from.
    aliased: Vec<Name>,
    /// Octets of the message at most.
    room: usize,
}

/// What one name of a chain gives.
enum Step<'s> {
    Answer,
    Alias(Name),
    NoData,
    NxDomain,
    Referral(&'s Arc<Node>),
    TooLong,
}

impl<'s> Resolver<'s> {
    const fn new(snapshot: &'s Snapshot, zone: &Zone, rtype: Rtype) -> Self {
        Self {
            snapshot,
            rtype,
            resolution: Resolution {
                rcode: Rcode::NOERROR,
                authoritative: true,
                recursion_available: zone.recursion_available,
                answer: Vec::new(),
                authority: Vec::new(),
                additional: Vec::new(),
                rotates_types_together: zone.rotates_types_together,
                needs_additional: false,
                extended_error: None,
            },
            aliased: Vec::new(),
            room: usize::MAX,
        }
    }

    fn follow(&mut self, first_zone: &'s Zone, first: &Name) {
        let mut current = first.clone();
        // Where an alias leaves our zones, the client goes on by itself.
        while let Some(zone) = self.zone_for(&current) {
            if zone.withdrawn {
                self.not_ready();
                break;
            }
            let step = self.step(zone, &current);
            match step {
                Step::Alias(target) => {
                    self.aliased.push(current);
                    if self.aliased.contains(&target) || self.aliased.len() > MAX_ALIASES {
                        self.resolution.rcode = Rcode::SERVFAIL;
                        self.resolution.answer.truncate(1);
                        break;
                    }
                    current = target;
                    continue;
                }
                Step::Answer => {}
                Step::NoData | Step::NxDomain if !zone.complete => self.not_ready(),
                Step::NoData => self.add_negative_soa(zone),
                Step::NxDomain => {
                    let quirk = if self.aliased.is_empty() {
                        self.rtype == Rtype::SRV && zone.unknown_srv_is_nodata
                    } else {
                        first_zone.alias_to_nothing_is_nodata
                    };
                    if !quirk {
                        self.resolution.rcode = Rcode::NXDOMAIN;
                    }
                    self.add_negative_soa(zone);
                }
                Step::Referral(cut) => self.refer(cut),
                Step::TooLong => self.resolution.rcode = Rcode::YXDOMAIN,
            }
            break;
        }
        self.add_addresses();
    }

    fn not_ready(&mut self) {
        self.resolution.rcode = Rcode::SERVFAIL;
        self.resolution.authoritative = false;
        self.resolution.extended_error = Some(ExtendedError::NOT_READY);
    }

    /// The zone that speaks for `name`. DS at an apex belongs to the parent's side of the cut
    /// (RFC 4035, section 3.1.4.1), if that is ours.
    fn zone_for(&self, name: &Name) -> Option<&'s Zone> {
        let (_, zone) = self.snapshot.enclosing_zone(name)?;
        if self.rtype == Rtype::DS && zone.apex == *name {
            let parent = name.parent();
            let above = parent.and_then(|parent| self.snapshot.enclosing_zone(&parent));
            return Some(above.map_or(zone, |(_, above)| above));
        }
        Some(zone)
    }

    fn step(&mut self, zone: &Zone, name: &Name) -> Step<'s> {
        if let Some(node) = self.snapshot.node(name).filter(|node| !node.is_occluded()) {
            if node.is_delegation() && self.rtype != Rtype::DS {
                return Step::Referral(node);
            }
            return self.data(node, name);
        }
        for suffix in name.suffixes().skip(1) {
            if suffix.len() < zone.apex.wire().len() {
                break;
            }
            let Some(node) = self.snapshot.lookup(suffix) else {
                continue;
            };
            if node.is_occluded() {
                continue;
            }
            if node.is_delegation() {
                return Step::Referral(node);
            }
            if let Some(dname) = node.rrset(Rtype::DNAME) {
                return self.substitute(node, dname, name);
            }
            if zone.wildcards == 0 {
                return Step::NxDomain;
            }
            // `node` is the closest encloser (RFC 4592, section 3.3.1).
            let wildcard = [b"\x01*".as_slice(), suffix].concat();
            return match self.snapshot.lookup(&wildcard) {
                Some(wildcard) => self.data(wildcard, name),
                None => Step::NxDomain,
            };
        }
        Step::NxDomain
    }

    /// Takes what `node` has of the type asked for; the owner is `name`, which differs from the
    /// node's under a wildcard.
    fn data(&mut self, node: &'s Node, name: &Name) -> Step<'s> {
        // A name that is no other than the node's shares its allocation.
        let owner = if node.owner() == name {
            node.owner()
        } else {
            name
        };
        let zone = self.snapshot.zone(node.zone());
        let follows = match self.rtype {
            Rtype::CNAME => false,
            Rtype::ANY => zone.is_some_and(|zone| zone.any_follows_aliases),
            // What signs an alias is at its own name (RFC 4035, section 2.5).
            _ => node.rrset(self.rtype).is_none(),
        };
        if let Some(cname) = node.rrset(Rtype::CNAME).filter(|_| follows) {
            self.push_answer(owner, Cow::Borrowed(cname));
            return match cname.data() {
                [Rdata::Cname(target), ..] => Step::Alias(target.clone()),
                _ => Step::NoData,
            };
        }
        let before = self.resolution.answer.len();
        for rrset in node.rrsets() {
            if self.rtype == rrset.rtype() || self.rtype == Rtype::ANY {
                self.push_answer(owner, Cow::Borrowed(rrset));
            }
        }
        if self.resolution.answer.len() > before {
            Step::Answer
        } else {
            Step::NoData
        }
    }

    /// DNAME substitution with the CNAME made from it (RFC 6672, sections 2.2 and 3.1).
    fn substitute(&mut self, node: &'s Node, dname: &'s Rrset, name: &Name) -> Step<'s> {
        self.push_answer(node.owner(), Cow::Borrowed(dname));
        let [Rdata::Dname(target), ..] = dname.data() else {
            return Step::NoData;
        };
        let Some(target) = name.with_suffix_replaced(node.owner(), target) else {
            return Step::TooLong;
        };
        let data = vec![Rdata::Cname(target.clone())];
        let cname = Rrset::new(Rtype::CNAME, dname.ttl(), data);
        self.push_answer(name, Cow::Owned(cname));
        if self.rtype == Rtype::CNAME {
            return Step::Answer;
        }
        Step::Alias(target)
    }

    fn push_answer(&mut self, owner: &Name, rrset: Cow<'s, Rrset>) {
        self.resolution.answer.push(Entry {
            owner: owner.clone(),
            rrset,
        });
    }

    fn add_negative_soa(&mut self, zone: &Zone) {
        self.resolution.authority.push(Entry {
            owner: zone.apex.clone(),
            rrset: Cow::Owned(zone.negative_soa()),
        });
    }

    fn refer(&mut self, cut: &'s Node) {
        let Some(ns) = cut.rrset(Rtype::NS) else {
            return;
        };
        if self.aliased.is_empty() {
            self.resolution.authoritative = false;
        }
        self.resolution.needs_additional = true;
        self.resolution.authority.push(Entry {
            owner: cut.owner().clone(),
            rrset: Cow::Borrowed(ns),
        });
    }

    /// Whether the records of the answer section, written as short as can be, take more than all room.
    fn answer_is_more_than_fits(&self) -> bool {
        /// The root as owner, type, class, TTL and length.
        const FIXED_OCTETS: usize = 11;
        /// Priority, weight and port.
        const SERVICE_OCTETS: usize = 6;
        let mut octets = 0;
        let mut data = self
            .resolution
            .answer
            .iter()
            .flat_map(|one| one.rrset.data());
        data.any(|data| {
            octets += FIXED_OCTETS;
            if let Rdata::Srv(_, _, _, target) = data {
                octets += SERVICE_OCTETS + target.wire().len();
            }
            octets > self.room
        })
    }

    /// Adds A and AAAA of every distinct target of the SRV and NS records (RFC 2782, RFC 1034
    /// section 4.3.2 step 6), as far as our zones or their glue have them.
    fn add_addresses(&mut self) {
        if self.answer_is_more_than_fits() {
            return;
        }
        let resolution = &mut self.resolution;
        let mut targets: Vec<&Name> = Vec::new();
        for entry in resolution.answer.iter().chain(&resolution.authority) {
            for data in entry.rrset.data() {
                if let Rdata::Srv(_, _, _, target) | Rdata::Ns(target) = data {
                    targets.push(target);
                }
            }
        }
        targets.sort_unstable_by_key(|target| target.wire());
        targets.dedup();
        let mut additional = Vec::new();
        for target in targets {
            let Some(node) = self.snapshot.node(target) else {
                continue;
            };
            for rtype in [Rtype::A, Rtype::AAAA] {
                let answered = resolution
                    .answer
                    .iter()
                    .any(|entry| entry.owner == *target && entry.rrset.rtype() == rtype);
                if let Some(rrset) = node.rrset(rtype).filter(|_| !answered) {
                    additional.push(Entry {
                        owner: node.owner().clone(),
                        rrset: Cow::Borrowed(rrset),
                    });
                }
            }
        }
        resolution.additional = additional;
    }
}

/// `name` with each `.*` of its text removed, as mesos-dns looks names up: `web.*.mesos` is
/// `web.mesos`, and a leading `*.` stays. `None` if there is none, or nothing valid is left.
fn without_stars(name: &Name) -> Option<Name> {
    if !has_inner_star(name) {
        return None;
    }
    let mut labels: Vec<Vec<u8>> = Vec::new();
    for label in name.labels() {
        match (labels.last_mut(), label.strip_prefix(b"*")) {
            (Some(previous), Some(rest)) => previous.extend_from_slice(rest),
            _ => labels.push(label.to_vec()),
        }
    }
    let mut wire = Vec::with_capacity(name.wire().len());
    for label in &labels {
        wire.push(u8::try_from(label.len()).ok()?);
        wire.extend_from_slice(label);
    }
    wire.push(0);
    Name::from_wire(&wire).ok()
}

/// Whether a label after the first begins with a star: where stars are ignored, a name that no
/// question leads to.
pub(super) fn has_inner_star(name: &Name) -> bool {
    name.wire().contains(&b'*') && name.labels().skip(1).any(|label| label.starts_with(b"*"))
}

#[cfg(test)]
#[path = "resolve_tests.rs"]
pub(crate) mod tests;
