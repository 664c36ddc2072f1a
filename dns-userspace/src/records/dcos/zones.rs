//! The zones of DC/OS besides those of tasks and VIPs: what every zone has at its apex, the fixed
//! zones, the copy of `.mesos`, and the operator's own static zones.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::Deserialize;

use super::directory::address;
use super::label::label;
use crate::records::counted::rrsets_of;
use crate::zones::rrset::Soa;
use crate::zones::{Name, NameError, Rdata, Rrset, Rtype, Zone};

/// TTL of all records but NS, in seconds.
pub const TTL: u32 = 5;
/// TTL of the NS record of each zone, in seconds.
pub const NS_TTL: u32 = 3600;

/// The parent of all names of the cluster.
pub const DIRECTORY: &str = "thisdcos.directory";
/// The zone of tasks.
pub const DCOS: &str = "dcos.thisdcos.directory";
/// The zone of VIPs.
pub const L4LB: &str = "l4lb.thisdcos.directory";
/// The copy of `.mesos`.
pub const MESOS: &str = "mesos.thisdcos.directory";
/// The zone that says where one is.
pub const THISNODE: &str = "thisnode.thisdcos.directory";
/// Readiness and the name server.
pub const SPARTAN: &str = "spartan";
/// The loopback address.
pub const LOCALHOST: &str = "localhost";
/// The ZooKeeper servers.
pub const ZK: &str = "zk";

/// The address of `ns.spartan`, and of the dummy interface it is named after.
pub const SPARTAN_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// How many `zk-N` there are, whatever the number of masters.
const ZK_NAMES: usize = 5;

/// A zone and all its records but the authority records.
#[derive(Debug, Clone)]
pub struct ZoneContent {
    /// What is known of the zone besides its names.
    pub zone: Zone,
    /// The records below and at the apex.
    pub records: Vec<(Name, Rrset)>,
}

impl ZoneContent {
    /// A zone with the authority records that all zones of DC/OS have.
    ///
    /// # Errors
    /// If `apex` is no name.
    pub fn new(apex: &str, records: Vec<(Name, Rrset)>) -> Result<Self, NameError> {
        Ok(Self {
            zone: dcos_zone(Name::from_text(apex)?)?,
            records,
        })
    }
}

/// A zone with the authority records that all zones of DC/OS have: the serial is always 1.
///
/// # Errors
/// None in fact: the names it is made of are constants.
pub fn dcos_zone(apex: Name) -> Result<Zone, NameError> {
    let server = Name::from_text("ns.spartan")?;
    let soa = Soa {
        mname: server.clone(),
        rname: Name::from_text("support.mesosphere.com")?,
        serial: 1,
        refresh: 60,
        retry: 180,
        expire: 86400,
        minimum: 1,
    };
    let mut zone = Zone::new(apex, soa, TTL, vec![server], NS_TTL);
    zone.fixed_serial = true;
    zone.any_follows_aliases = true;
    zone.rotates_types_together = true;
    zone.expands_wildcards = false;
    Ok(zone)
}

/// `spartan`: the readiness signal and the name server of all zones.
///
/// # Errors
/// None in fact.
pub fn spartan() -> Result<ZoneContent, NameError> {
    ZoneContent::new(
        SPARTAN,
        vec![
            addresses("ready.spartan", [Ipv4Addr::LOCALHOST.into()])?,
            addresses("ns.spartan", [SPARTAN_ADDRESS.into()])?,
        ],
    )
}

/// `localhost`: IPv4 only, as in dcos-dns.
///
/// # Errors
/// None in fact.
pub fn localhost() -> Result<ZoneContent, NameError> {
    let record = addresses(LOCALHOST, [Ipv4Addr::LOCALHOST.into()])?;
    ZoneContent::new(LOCALHOST, vec![record])
}

/// `zk`: `zk-1` to `zk-5`, the masters' addresses over and over. Without masters it is empty.
///
/// # Errors
/// None in fact.
pub fn zk(masters: &[IpAddr]) -> Result<ZoneContent, NameError> {
    let records = (1..=ZK_NAMES)
        .zip(masters.iter().cycle())
        .map(|(n, &ip)| addresses(&format!("zk-{n}.zk"), [ip]))
        .collect::<Result<_, _>>()?;
    ZoneContent::new(ZK, records)
}

/// `thisnode.thisdcos.directory`: the node's own address at the apex, its public ones at `public`.
///
/// # Errors
/// None in fact.
pub fn thisnode(node_ip: Option<IpAddr>, public_ips: &[IpAddr]) -> Result<ZoneContent, NameError> {
    let mut records = split(THISNODE, node_ip)?;
    records.extend(split(
        &format!("public.{THISNODE}"),
        public_ips.iter().copied(),
    )?);
    ZoneContent::new(THISNODE, records)
}

fn addresses(
    name: &str,
    ips: impl IntoIterator<Item = IpAddr>,
) -> Result<(Name, Rrset), NameError> {
    let data: Vec<Rdata> = ips.into_iter().map(address).collect();
    let rtype = data.first().map_or(Rtype::A, Rdata::rtype);
    Ok((Name::from_text(name)?, Rrset::new(rtype, TTL, data)))
}

/// Addresses of both families at one name.
fn split(
    name: &str,
    ips: impl IntoIterator<Item = IpAddr>,
) -> Result<Vec<(Name, Rrset)>, NameError> {
    let name = Name::from_text(name)?;
    let rrsets = rrsets_of(ips.into_iter().map(address), TTL);
    Ok(rrsets.into_iter().map(|one| (name.clone(), one)).collect())
}

/// The answer of mesos-dns to `GET /v1/axfr`, as far as it is read.
#[derive(Debug, Clone, Deserialize)]
pub struct Axfr {
    #[serde(rename = "Domain")]
    domain: String,
    #[serde(rename = "Records")]
    records: AxfrRecords,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct AxfrRecords {
    #[serde(rename = "As")]
    a: Option<AxfrMap>,
    #[serde(rename = "AAAAs")]
    aaaa: Option<AxfrMap>,
    #[serde(rename = "SRVs")]
    srv: Option<AxfrMap>,
}

type AxfrMap = BTreeMap<String, Vec<String>>;

impl Axfr {
    /// Reads the JSON text.
    ///
    /// # Errors
    /// If it is no such answer.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// The zone `mesos.thisdcos.directory`: the same records with that suffix, TTL 5, SRV
    /// priority and weight 1. Names outside the domain and values that make no sense are left
    /// out.
    ///
    /// # Errors
    /// If the domain is no name.
    pub fn mirror(&self) -> Result<ZoneContent, NameError> {
        let domain = Name::from_text(&self.domain)?;
        let kinds = [
            (&self.records.a, Rtype::A),
            (&self.records.aaaa, Rtype::AAAA),
            (&self.records.srv, Rtype::SRV),
        ];
        let mut records = Vec::new();
        for (map, rtype) in kinds {
            for (name, values) in map.iter().flatten() {
                let Ok(name) = Name::from_text(name) else {
                    continue;
                };
                let data = values.iter().filter_map(|text| axfr_data(rtype, text));
                records.push((name, Rrset::new(rtype, TTL, data)));
            }
        }
        mirror(&domain, records.iter().map(|(name, rrset)| (name, rrset)))
    }
}

fn axfr_data(rtype: Rtype, text: &str) -> Option<Rdata> {
    match rtype {
        Rtype::A => text.parse().map(Rdata::A).ok(),
        Rtype::AAAA => text.parse().map(Rdata::Aaaa).ok(),
        _ => {
            let (host, port) = text.rsplit_once(':')?;
            let target = Name::from_text(host).ok()?;
            Some(Rdata::Srv(0, 0, port.parse().ok()?, target))
        }
    }
}

/// The zone `mesos.thisdcos.directory` from the records of the mesos-dns domain: addresses and
/// services, SRV targets included, under the other suffix.
///
/// # Errors
/// None in fact.
pub fn mirror<'a>(
    domain: &Name,
    records: impl Iterator<Item = (&'a Name, &'a Rrset)>,
) -> Result<ZoneContent, NameError> {
    let apex = Name::from_text(MESOS)?;
    let records = records.filter_map(|(name, rrset)| {
        Some((
            name.with_suffix_replaced(domain, &apex)?,
            mirrored(domain, &apex, rrset)?,
        ))
    });
    ZoneContent::new(MESOS, records.collect())
}

/// An RRset of the mesos-dns domain as it stands in its copy at `apex`; `None` if it has no place
/// there.
#[must_use]
pub fn mirrored(domain: &Name, apex: &Name, rrset: &Rrset) -> Option<Rrset> {
    let data: Vec<Rdata> = rrset
        .data()
        .iter()
        .filter_map(|rdata| match rdata {
            Rdata::A(_) | Rdata::Aaaa(_) => Some(rdata.clone()),
            Rdata::Srv(_, _, port, target) => {
                let target = target.with_suffix_replaced(domain, apex);
                target.map(|target| Rdata::Srv(1, 1, *port, target))
            }
            _ => None,
        })
        .collect();
    (!data.is_empty()).then(|| Rrset::new(rrset.rtype(), TTL, data))
}

/// A record of a static zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticRecord {
    /// The owner below the apex, or `@` for the apex.
    pub name: String,
    /// Seconds to keep it.
    pub ttl: u32,
    /// The data.
    pub data: Rdata,
}

/// Why a static zone cannot be served.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StaticZoneError {
    /// The apex is no name.
    #[error("{0:?} is no zone name: {1}")]
    Apex(String, NameError),
    /// The zone would hide one the cluster has.
    #[error("{0:?} is a zone of the cluster itself")]
    Taken(String),
    /// An owner is no name below the apex.
    #[error("{0:?} is no owner name: {1}")]
    Owner(String, NameError),
    /// A CNAME beside other data.
    #[error("{0} has a CNAME and other records (RFC 2181, section 10.1)")]
    CnameAndOther(Name),
    /// A DNAME beside another one.
    #[error("{0} has several DNAMEs (RFC 6672, section 2.4)")]
    SeveralDnames(Name),
    /// Records below a DNAME.
    #[error("{0} lies below a DNAME (RFC 6672, section 2.3)")]
    BelowDname(Name),
}

/// A zone of the operator. Under `thisdcos.directory`, owners are mangled by [`label`] as in
/// dcos-dns; elsewhere they are taken as written.
///
/// # Errors
/// Says which rule the zone breaks.
pub fn static_zone(apex: &str, records: &[StaticRecord]) -> Result<ZoneContent, StaticZoneError> {
    let bad_apex = |error| StaticZoneError::Apex(apex.to_owned(), error);
    let name = Name::from_text(apex).map_err(bad_apex)?;
    let in_directory =
        is_in_directory(&name).ok_or_else(|| StaticZoneError::Taken(apex.to_owned()))?;
    let mut data: BTreeMap<Name, Vec<&StaticRecord>> = BTreeMap::new();
    for record in records {
        let owner = match record.name.as_str() {
            "@" | "" => name.clone(),
            other => {
                let relative = if in_directory {
                    label(other)
                } else {
                    other.trim_end_matches('.').to_owned()
                };
                Name::from_text(&format!("{relative}.{name}"))
                    .map_err(|error| StaticZoneError::Owner(other.to_owned(), error))?
            }
        };
        data.entry(owner).or_default().push(record);
    }
    let mut content = Vec::new();
    for (owner, records) in &data {
        let count = |rtype| records.iter().filter(|r| r.data.rtype() == rtype).count();
        // The apex always has SOA and NS.
        let others = records.len() - count(Rtype::CNAME) + usize::from(*owner == name);
        if count(Rtype::CNAME) > 0 && others + count(Rtype::CNAME) > 1 {
            return Err(StaticZoneError::CnameAndOther(owner.clone()));
        }
        if count(Rtype::DNAME) > 1 {
            return Err(StaticZoneError::SeveralDnames(owner.clone()));
        }
        if count(Rtype::DNAME) > 0
            && let Some(below) = data
                .keys()
                .find(|other| *other != owner && other.is_at_or_below(owner))
        {
            return Err(StaticZoneError::BelowDname(below.clone()));
        }
        content.extend(records.iter().map(|record| {
            let rrset = Rrset::new(record.data.rtype(), record.ttl, vec![record.data.clone()]);
            (owner.clone(), rrset)
        }));
    }
    let mut zone = dcos_zone(name).map_err(bad_apex)?;
    zone.expands_wildcards = true;
    Ok(ZoneContent {
        zone,
        records: content,
    })
}

/// Whether the apex lies under `thisdcos.directory`; `None` if it would hide names of the cluster.
fn is_in_directory(apex: &Name) -> Option<bool> {
    let labels: Vec<&[u8]> = apex.labels().rev().collect();
    match labels.as_slice() {
        [
            b"directory",
            b"thisdcos",
            b"dcos" | b"l4lb" | b"dclb" | b"mesos" | b"thisnode",
            ..,
        ] => None,
        [b"directory", b"thisdcos", _, ..] => Some(true),
        [b"directory" | b"global", b"thisdcos", ..]
        | [b"directory", b"dcos", ..]
        | [b"directory" | b"global"]
        | [b"mesos" | b"spartan" | b"localhost" | b"zk", ..]
        | [] => None,
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str, data: Rdata) -> StaticRecord {
        StaticRecord {
            name: name.into(),
            ttl: TTL,
            data,
        }
    }

    fn cname(target: &str) -> Rdata {
        Rdata::Cname(Name::from_text(target).unwrap())
    }

    fn dname(target: &str) -> Rdata {
        Rdata::Dname(Name::from_text(target).unwrap())
    }

    fn owners(content: &ZoneContent) -> Vec<String> {
        content
            .records
            .iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    #[test]
    fn zk_names_repeat_the_masters() {
        let data = |masters: &[IpAddr]| {
            let content = zk(masters).unwrap();
            content
                .records
                .iter()
                .map(|(name, rrset)| format!("{name} {}", rrset.data()[0]))
                .collect::<Vec<_>>()
        };
        let (a, b, c) = (
            [10, 0, 0, 1].into(),
            [10, 0, 0, 2].into(),
            [10, 0, 0, 3].into(),
        );
        assert_eq!(
            data(&[a, b, c]),
            [
                "zk-1.zk. 10.0.0.1",
                "zk-2.zk. 10.0.0.2",
                "zk-3.zk. 10.0.0.3",
                "zk-4.zk. 10.0.0.1",
                "zk-5.zk. 10.0.0.2"
            ]
        );
        assert_eq!(data(&[a]).len(), 5);
        assert!(data(&[]).is_empty());
    }

    #[test]
    fn owners_are_mangled_under_the_directory_only() {
        let records = [record("Ext_Name", cname("www.example.com"))];
        let inside = static_zone("component.thisdcos.directory", &records).unwrap();
        assert_eq!(owners(&inside), ["ext-name.component.thisdcos.directory."]);
        let outside = static_zone("contoso.com", &records).unwrap();
        assert_eq!(owners(&outside), ["ext_name.contoso.com."]);
        let apex = [record("@", dname("mesos.x.dcos.directory"))];
        assert_eq!(
            owners(&static_zone("contoso.com", &apex).unwrap()),
            ["contoso.com."]
        );
    }

    #[test]
    fn zones_of_the_cluster_are_not_for_the_operator() {
        for apex in [
            "l4lb.thisdcos.directory",
            "a.mesos.thisdcos.directory",
            "dcos.thisdcos.directory",
            "thisdcos.directory",
            "directory",
            "x.thisdcos.global",
            "y.dcos.directory",
            "mesos",
            "zk",
            "a.spartan",
            "localhost",
            ".",
        ] {
            assert_eq!(
                static_zone(apex, &[]).map(|_| ()),
                Err(StaticZoneError::Taken(apex.into()))
            );
        }
    }

    #[test]
    fn aliases_do_not_share_their_place() {
        let both = [
            record("a", cname("b.example")),
            record("a", Rdata::A([1, 1, 1, 1].into())),
        ];
        assert!(matches!(
            static_zone("example.com", &both),
            Err(StaticZoneError::CnameAndOther(_))
        ));
        let apex = [record("@", cname("b.example"))];
        assert!(matches!(
            static_zone("example.com", &apex),
            Err(StaticZoneError::CnameAndOther(_))
        ));
        let two = [
            record("a", dname("b.example")),
            record("a", dname("c.example")),
        ];
        assert!(matches!(
            static_zone("example.com", &two),
            Err(StaticZoneError::SeveralDnames(_))
        ));
        let below = [
            record("a", dname("b.example")),
            record("x.a", cname("c.example")),
        ];
        assert!(matches!(
            static_zone("example.com", &below),
            Err(StaticZoneError::BelowDname(_))
        ));
    }
}
