//! One name of a zone with its RRsets, and the answers that were finished for it.

use std::sync::{Arc, OnceLock};

use super::blob::Blob;
use super::few::Few;
use super::{Name, Rrset, Rtype, Snapshot, Zone, ZoneIndex};

/// Turns a node into its finished answers, in the form that the kernel's map holds.
///
/// Called once for each node that appears or changes, or whose SRV or NS records lead to a name
/// whose addresses change, when the snapshot it belongs to is complete
/// and before any reader sees it.
pub trait Encoder: Send + Sync {
    /// The finished answers of `node`; `None` leaves the name to the slow path. `led_to` are the
    /// nodes of the names that its SRV, NS and CNAME records lead to, in the order of the records.
    fn encode(
        &self,
        snapshot: &Snapshot,
        node: &Node,
        led_to: &[Option<&Arc<Node>>],
    ) -> Option<Blob>;

    /// The finished SOA that denies names and types of `zone`; `None` leaves them to the slow path.
    fn encode_denial(&self, zone: &Zone) -> Option<Box<[u8]>>;
}

/// Encodes nothing: every question takes the slow path.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoEncoder;

impl Encoder for NoEncoder {
    fn encode(&self, _: &Snapshot, _: &Node, _: &[Option<&Arc<Node>>]) -> Option<Blob> {
        None
    }

    fn encode_denial(&self, _: &Zone) -> Option<Box<[u8]>> {
        None
    }
}

/// A name that exists: with RRsets, or without as an empty non-terminal (RFC 4592, section
/// 2.2.2). Immutable once it is in a snapshot.
#[derive(Debug)]
pub struct Node {
    owner: Name,
    rrsets: Few<Rrset>,
    blob: OnceLock<Blob>,
    zone: ZoneIndex,
    apex: bool,
    occluded: bool,
}

impl Node {
    pub(super) fn new(
        owner: Name,
        zone: ZoneIndex,
        rrsets: Few<Rrset>,
        apex: bool,
        occluded: bool,
    ) -> Self {
        Self {
            owner,
            rrsets,
            blob: OnceLock::new(),
            zone,
            apex,
            occluded,
        }
    }

    /// The same name with the same records, to be encoded again.
    pub(super) fn without_blob(&self) -> Self {
        Self {
            owner: self.owner.clone(),
            rrsets: self.rrsets.clone(),
            blob: OnceLock::new(),
            ..*self
        }
    }

    pub(super) fn encode(
        &self,
        snapshot: &Snapshot,
        encoder: &dyn Encoder,
        led_to: &[Option<&Arc<Self>>],
    ) {
        if let Some(blob) = encoder.encode(snapshot, self, led_to) {
            // A node is encoded once, by the one writer; a second blob would be the same.
            let _ = self.blob.set(blob);
        }
    }

    /// The name, folded.
    #[must_use]
    pub const fn owner(&self) -> &Name {
        &self.owner
    }

    /// The zone the name belongs to.
    #[must_use]
    pub const fn zone(&self) -> ZoneIndex {
        self.zone
    }

    /// The RRsets, ascending by type, none of them empty.
    #[must_use]
    pub fn rrsets(&self) -> &[Rrset] {
        &self.rrsets
    }

    /// The RRset of one type.
    #[must_use]
    pub fn rrset(&self, rtype: Rtype) -> Option<&Rrset> {
        self.rrsets.iter().find(|one| one.rtype() == rtype)
    }

    /// The finished answers, where an [`Encoder`] made some.
    #[must_use]
    pub fn blob(&self) -> Option<&[u8]> {
        self.blob.get().map(|blob| &**blob)
    }

    /// The same, with where they are.
    pub(crate) fn finished(&self) -> Option<&Blob> {
        self.blob.get()
    }

    /// Whether this is the apex of its zone.
    #[must_use]
    pub const fn is_apex(&self) -> bool {
        self.apex
    }

    /// Whether the name exists only because a name below it does.
    #[must_use]
    pub fn is_empty_non_terminal(&self) -> bool {
        self.rrsets.is_empty()
    }

    /// Whether another server has authority from this name on: NS below the apex (RFC 1034,
    /// section 4.2.1).
    #[must_use]
    pub fn is_delegation(&self) -> bool {
        !self.apex && self.rrset(Rtype::NS).is_some()
    }

    /// Whether the names below this one are elsewhere: a delegation or a DNAME.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.is_delegation() || self.rrset(Rtype::DNAME).is_some()
    }

    /// Whether the name lies below a [cut](Self::is_cut), so that its RRsets are glue and never
    /// an answer.
    #[must_use]
    pub const fn is_occluded(&self) -> bool {
        self.occluded
    }

    /// Whether the leftmost label is `*` (RFC 4592, section 2.1.1).
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.owner.wire().starts_with(b"\x01*")
    }

    /// Whether answers that lead to this name differ from those with `other` in its place.
    pub(super) fn leads_elsewhere_than(&self, other: &Self) -> bool {
        self.occluded != other.occluded
            || [Rtype::A, Rtype::AAAA, Rtype::CNAME]
                .into_iter()
                .any(|rtype| self.rrset(rtype) != other.rrset(rtype))
    }

    /// Whether both say the same of the same name.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.owner == other.owner
            && self.zone == other.zone
            && self.rrsets == other.rrsets
            && self.occluded == other.occluded
    }
}

/// Brings the RRsets of one name into the form of [`Node::rrsets`]: empty ones dropped, those of
/// one type merged, a CNAME kept only where it is alone (RFC 1034, section 3.6.2) but for what signs
/// it, one CNAME or DNAME record at most (RFC 2181, section 10.1; RFC 6672, section 2.4). Data beside
/// a CNAME wins, because an address that is known serves a client better than an alias.
pub(super) fn tidy(rrsets: Few<Rrset>) -> Few<Rrset> {
    if let [one] = &*rrsets
        && (one.data().len() == 1 || !one.data().is_empty() && !is_alias(one))
    {
        return rrsets;
    }
    let mut rrsets = rrsets.into_vec();
    rrsets.retain(|one| !one.data().is_empty());
    rrsets.sort_by_key(Rrset::rtype);
    let mut tidied: Vec<Rrset> = Vec::with_capacity(rrsets.len());
    for one in rrsets {
        match tidied.last_mut() {
            Some(last) if last.rtype() == one.rtype() => last.merge(&one),
            _ => tidied.push(one),
        }
    }
    let is_data = |one: &Rrset| one.rtype() != Rtype::CNAME && !one.rtype().may_be_beside_cname();
    if tidied.iter().any(is_data) {
        tidied.retain(|one| one.rtype() != Rtype::CNAME);
    }
    for one in &mut tidied {
        if is_alias(one) {
            one.keep_first();
        }
    }
    tidied.into()
}

fn is_alias(rrset: &Rrset) -> bool {
    [Rtype::CNAME, Rtype::DNAME].contains(&rrset.rtype())
}
