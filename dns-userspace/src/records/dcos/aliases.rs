//! Other names for the zones of the cluster, and where a question belongs that none of our zones
//! answers.
//!
//! dcos-dns renames the question and renames the answer back. Here each alias is a zone of its
//! own with renamed content, so that the kernel can answer it like any other. The two differ for
//! a chain of CNAMEs that leaves the zone and comes back: dcos-dns then renames its end as well.

use super::cluster_id::ClusterId;
use super::zones::{DIRECTORY, L4LB, ZoneContent};
use crate::zones::{Name, NameError, Rdata, Rrset, Zone};

/// Who answers a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// We do, from the zone of the same or, with a rename, of the other name; if there is no such
    /// zone the answer is REFUSED.
    Internal(Option<Rename>),
    /// mesos-dns on the masters.
    Masters,
    /// The forward zones of the operator or else the default upstreams.
    Forward,
}

/// A suffix and what stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The suffix as asked for.
    pub asked: Name,
    /// The suffix the zone has.
    pub held: Name,
}

impl Rename {
    /// An owner or target of our zone under the name asked for. Names outside stay.
    #[must_use]
    pub fn back(&self, name: &Name) -> Name {
        name.with_suffix_replaced(&self.held, &self.asked)
            .unwrap_or_else(|| name.clone())
    }

    /// The data of an RRset under the name asked for: targets of CNAME, NS and SRV and the names
    /// of SOA are renamed, as in dcos-dns, and those of DNAME.
    #[must_use]
    pub fn rrset(&self, rrset: &Rrset) -> Rrset {
        let data = rrset.data().iter().map(|rdata| self.rdata(rdata));
        Rrset::new(rrset.rtype(), rrset.ttl(), data)
    }

    fn rdata(&self, rdata: &Rdata) -> Rdata {
        match rdata {
            Rdata::Cname(name) => Rdata::Cname(self.back(name)),
            Rdata::Dname(name) => Rdata::Dname(self.back(name)),
            Rdata::Ns(name) => Rdata::Ns(self.back(name)),
            Rdata::Srv(priority, weight, port, target) => {
                Rdata::Srv(*priority, *weight, *port, self.back(target))
            }
            Rdata::Soa(soa) => {
                let mut soa = soa.clone();
                soa.mname = self.back(&soa.mname);
                soa.rname = self.back(&soa.rname);
                Rdata::Soa(soa)
            }
            Rdata::A(_) | Rdata::Aaaa(_) | Rdata::Ptr(_) | Rdata::Txt(_) | Rdata::Opaque(..) => {
                rdata.clone()
            }
        }
    }

    /// The alias of one name of the zone and its records; `None` if the alias would be too long.
    #[must_use]
    pub fn node(&self, name: &Name, rrsets: &[Rrset]) -> Option<(Name, Vec<Rrset>)> {
        let name = name.with_suffix_replaced(&self.held, &self.asked)?;
        Some((name, rrsets.iter().map(|one| self.rrset(one)).collect()))
    }

    /// A zone's facts under the alias.
    #[must_use]
    pub fn zone(&self, zone: &Zone) -> Zone {
        let mut alias = zone.clone();
        alias.apex = self.back(&zone.apex);
        alias.soa.mname = self.back(&zone.soa.mname);
        alias.soa.rname = self.back(&zone.soa.rname);
        alias.ns = zone.ns.iter().map(|server| self.back(server)).collect();
        alias
    }

    /// A whole zone under the alias; names that would be too long are left out.
    #[must_use]
    pub fn content(&self, content: &ZoneContent) -> ZoneContent {
        let records = content.records.iter().filter_map(|(name, rrset)| {
            let name = name.with_suffix_replaced(&self.held, &self.asked)?;
            Some((name, self.rrset(rrset)))
        });
        ZoneContent {
            zone: self.zone(&content.zone),
            records: records.collect(),
        }
    }
}

/// Every other name of the zone at `apex`; none for a zone outside `thisdcos.directory`.
///
/// # Errors
/// If an alias would be too long a name.
pub fn aliases(apex: &Name, cluster: Option<&ClusterId>) -> Result<Vec<Rename>, NameError> {
    let directory = Name::from_text(DIRECTORY)?;
    if !apex.is_at_or_below(&directory) {
        return Ok(Vec::new());
    }
    let Some(held) = last_labels(apex, 3) else {
        return Ok(Vec::new());
    };
    let mut others = vec![Name::from_text("thisdcos.global")?];
    if let Some(id) = cluster {
        others.push(Name::from_text(&format!("{id}.dcos.directory"))?);
    }
    let mut suffixes: Vec<Name> = others
        .iter()
        .filter_map(|other| held.with_suffix_replaced(&directory, other))
        .collect();
    if held == Name::from_text(L4LB)? {
        for old in ["dclb.thisdcos.directory", "dclb.thisdcos.global"] {
            suffixes.push(Name::from_text(old)?);
        }
    }
    Ok(suffixes
        .into_iter()
        .map(|asked| Rename {
            asked,
            held: held.clone(),
        })
        .collect())
}

/// Where a name belongs, by the rules of the router of dcos-dns. A zone of the operator outside
/// these rules is not known here and has to be looked for first.
#[must_use]
pub fn route(name: &Name, cluster: Option<&ClusterId>) -> Route {
    let labels: Vec<&[u8]> = name.labels().rev().collect();
    let renamed = |count: usize, held: &[u8]| {
        let asked = last_labels(name, count);
        let held = Name::from_text(&format!("{}.{DIRECTORY}", as_text(held)));
        match (asked, held) {
            (Some(asked), Ok(held)) => Route::Internal(Some(Rename { asked, held })),
            _ => Route::Forward,
        }
    };
    match labels.as_slice() {
        [b"directory" | b"global", b"thisdcos", b"dclb", ..] => renamed(3, b"l4lb"),
        [b"global", b"thisdcos", top, ..] => renamed(3, top),
        [b"directory", b"dcos", id, top, ..]
            if cluster.is_some_and(|own| own.to_string().as_bytes() == *id) =>
        {
            renamed(4, top)
        }
        [b"mesos", ..] => Route::Masters,
        [b"localhost" | b"zk" | b"spartan", ..] | [b"directory", b"thisdcos", _, ..] => {
            Route::Internal(None)
        }
        _ => Route::Forward,
    }
}

/// A label in presentation format.
fn as_text(label: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(label.len());
    for &octet in label {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') {
            text.push(char::from(octet));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "\\{octet:03}");
        }
    }
    text
}

/// The suffix of `count` labels.
fn last_labels(name: &Name, count: usize) -> Option<Name> {
    let mut suffix = name.clone();
    for _ in 0..name.labels().count().checked_sub(count)? {
        suffix = suffix.parent()?;
    }
    Some(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn routed(text: &str) -> Route {
        route(&name(text), Some(&ClusterId::from_text(ID).unwrap()))
    }

    fn rename(asked: &str, held: &str) -> Route {
        Route::Internal(Some(Rename {
            asked: name(asked),
            held: name(held),
        }))
    }

    #[test]
    fn the_first_rule_wins() {
        let own = format!("dcos.{ID}.dcos.directory");
        for (asked, wanted) in [
            (
                "a.b.dclb.thisdcos.directory",
                rename("dclb.thisdcos.directory", L4LB),
            ),
            (
                "a.b.dclb.thisdcos.global",
                rename("dclb.thisdcos.global", L4LB),
            ),
            (
                "a.l4lb.thisdcos.global",
                rename("l4lb.thisdcos.global", L4LB),
            ),
            (
                "A.Foo.ThisDCOS.global",
                rename("foo.thisdcos.global", "foo.thisdcos.directory"),
            ),
            (&format!("a.{own}"), rename(&own, "dcos.thisdcos.directory")),
            ("leader.mesos", Route::Masters),
            ("mesos", Route::Masters),
            ("localhost", Route::Internal(None)),
            ("zk-1.zk", Route::Internal(None)),
            ("ready.spartan", Route::Internal(None)),
            ("x.foo.thisdcos.directory", Route::Internal(None)),
            ("thisdcos.directory", Route::Forward),
            ("thisdcos.global", Route::Forward),
            ("dcos.directory", Route::Forward),
            (&format!("{ID}.dcos.directory"), Route::Forward),
            (
                &format!("a.dcos.{}.dcos.directory", ID.replace('y', "b")),
                Route::Forward,
            ),
            ("1.0.0.10.in-addr.arpa", Route::Forward),
            ("example.com", Route::Forward),
            (".", Route::Forward),
        ] {
            assert_eq!(routed(asked), wanted, "{asked}");
        }
    }

    #[test]
    fn each_alias_leads_back_to_its_zone() {
        let id = ClusterId::from_text(ID).unwrap();
        for (apex, count) in [
            ("dcos.thisdcos.directory", 2),
            (L4LB, 4),
            ("a.component.thisdcos.directory", 2),
            ("spartan", 0),
            ("example.com", 0),
        ] {
            let found = aliases(&name(apex), Some(&id)).unwrap();
            assert_eq!(found.len(), count, "{apex}");
            for alias in found {
                let below = name(&format!("x.{}", alias.asked));
                assert_eq!(route(&below, Some(&id)), Route::Internal(Some(alias)));
            }
        }
    }

    #[test]
    fn only_names_of_the_zone_are_renamed() {
        let renaming = Rename {
            asked: name("component.thisdcos.global"),
            held: name("component.thisdcos.directory"),
        };
        let inside = Rdata::Cname(name("a.component.thisdcos.directory"));
        let outside = Rdata::Cname(name("master.dcos.thisdcos.directory"));
        assert_eq!(
            renaming.rdata(&inside),
            Rdata::Cname(name("a.component.thisdcos.global"))
        );
        assert_eq!(renaming.rdata(&outside), outside);
    }
}
