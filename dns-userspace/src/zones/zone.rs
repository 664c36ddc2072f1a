//! A zone's own facts: its apex, its authority records and how it answers what it does not hold.
//! The names below the apex are in the [`Snapshot`](super::Snapshot).

use super::{Name, Node, Rdata, Rrset, Rtype, rrset::Soa};

/// At most this many zones are served: the kernel keeps one word of zone facts for each.
pub const MAX_ZONES: usize = 64;

/// A zone's place in [`Snapshot::zones`](super::Snapshot::zones), below [`MAX_ZONES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ZoneIndex(pub u8);

/// What is known of a zone besides its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The topmost name.
    pub apex: Name,
    /// The start of authority; its serial belongs to the [`Editor`](super::Editor).
    pub soa: Soa,
    /// TTL of the SOA record, in seconds.
    pub soa_ttl: u32,
    /// The name servers, unless the content has an NS RRset at the apex.
    pub ns: Vec<Name>,
    /// TTL of the NS records, in seconds.
    pub ns_ttl: u32,
    /// The RA bit of responses: `RecurseOn` of mesos-dns, off in the zones of dcos-dns.
    pub recursion_available: bool,
    /// Whether the serial stays as it is when the content changes, as in the zones of dcos-dns, or
    /// where it comes from another server ([`Editor::set_soa`](super::Editor::set_soa)).
    pub fixed_serial: bool,
    /// The rcode of an SRV question for a name that does not exist. mesos-dns says NOERROR where
    /// RFC 2308, section 2.1 wants NXDOMAIN.
    pub unknown_srv_is_nodata: bool,
    /// The rcode when an alias of this zone leads to a name of ours that does not exist. dcos-dns
    /// says NOERROR where RFC 6604, section 3 wants NXDOMAIN.
    pub alias_to_nothing_is_nodata: bool,
    /// Whether an alias is followed for a question of type ANY, as in dcos-dns. RFC 1034, section
    /// 4.3.2 follows it only where the type asked for is not that of the alias, and ANY is.
    pub any_follows_aliases: bool,
    /// Whether the records of an answer of several types are rotated as one list, as dcos-dns does
    /// it, and not each type by itself.
    pub rotates_types_together: bool,
    /// Each `.*` in the question is removed before the look-up, as mesos-dns does.
    pub ignores_stars: bool,
    /// Whether the label `*` stands for names that do not exist (RFC 4592). In mesos-dns a task may
    /// have it as its name, and it is a name like any other.
    pub expands_wildcards: bool,
    /// How many names begin with the label `*`: where there is one, a name which is not found may
    /// still have an answer. Kept by the [`Editor`](super::Editor); 0 where none is expanded.
    pub wildcards: u32,
    /// Whether the content is known. Until then a name that is not found is SERVFAIL, never
    /// NXDOMAIN.
    pub complete: bool,
    /// Whether there is nothing to answer from, as in a secondary zone before its first transfer
    /// or after it expired (RFC 1035, section 3.3.13): every question is SERVFAIL.
    pub withdrawn: bool,
}

impl Zone {
    /// Whether `node`, which is in this zone, stands for names that do not exist.
    #[must_use]
    pub fn expands(&self, node: &Node) -> bool {
        self.expands_wildcards && node.is_wildcard()
    }

    /// A zone with the authority records given and the behaviour of the RFCs; incomplete.
    #[must_use]
    pub const fn new(apex: Name, soa: Soa, soa_ttl: u32, ns: Vec<Name>, ns_ttl: u32) -> Self {
        Self {
            apex,
            soa,
            soa_ttl,
            ns,
            ns_ttl,
            recursion_available: false,
            fixed_serial: false,
            unknown_srv_is_nodata: false,
            alias_to_nothing_is_nodata: false,
            any_follows_aliases: false,
            rotates_types_together: false,
            ignores_stars: false,
            expands_wildcards: true,
            wildcards: 0,
            complete: false,
            withdrawn: false,
        }
    }

    /// Seconds a negative answer may be kept: the lesser of the SOA's TTL and its MINIMUM
    /// (RFC 2308, section 5).
    #[must_use]
    pub fn negative_ttl(&self) -> u32 {
        self.soa_ttl.min(self.soa.minimum)
    }

    /// The SOA RRset of the apex.
    #[must_use]
    pub fn soa_rrset(&self) -> Rrset {
        self.soa_with_ttl(self.soa_ttl)
    }

    /// The SOA RRset of the authority section of a negative answer (RFC 2308, section 3).
    #[must_use]
    pub fn negative_soa(&self) -> Rrset {
        self.soa_with_ttl(self.negative_ttl())
    }

    fn soa_with_ttl(&self, ttl: u32) -> Rrset {
        Rrset::new(
            Rtype::SOA,
            ttl,
            vec![Rdata::Soa(Box::new(self.soa.clone()))],
        )
    }

    /// The NS RRset of the apex; `None` without name servers.
    #[must_use]
    pub fn ns_rrset(&self) -> Option<Rrset> {
        if self.ns.is_empty() {
            return None;
        }
        let data = self.ns.iter().cloned().map(Rdata::Ns);
        Some(Rrset::new(Rtype::NS, self.ns_ttl, data))
    }
}
