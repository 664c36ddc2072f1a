//! The record set to the content of a DNS zone: texts become names and RRsets, and what DNS cannot
//! carry is left out and counted.
//!
//! A name of mesos-dns is served exactly when a query could match it there: lookups are in lower
//! case and special octets in them are escaped, so a raw discovery name with capitals, blanks or
//! non-ASCII letters is in the listings but no query hits it. It must not become reachable by
//! folding: `Web.marathon.mesos` in the listing and `web.marathon.mesos` in DNS may be two
//! different tasks.

use std::collections::HashMap;

use super::addresses::Address;
use super::label::hashed_labels;
use super::{MesosRecords, NameId, Service, Settings};
use crate::mesos::{Defect, Defects};
use crate::zones::{Name, NameError, Rdata, Rrset, Rtype, Soa, Zone};

/// What a record set gives a zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ZoneContent {
    /// RRsets by owner. An owner and type may occur more than once; they belong together.
    pub rrsets: Vec<(Name, Rrset)>,
    /// What DNS cannot carry.
    pub defects: Defects,
}

/// The name under which a text is found by a query, or `None` if no query matches it.
#[must_use]
pub fn reachable_name(text: &str) -> Option<Name> {
    if !has_matchable_octets(text) {
        return None;
    }
    Name::from_text(text).ok()
}

/// As [`reachable_name`], for a text that DNS carries in the shorter form `form`: what made the
/// text unreachable, its length apart, still does.
#[must_use]
pub fn reachable_cut_name(text: &str, form: &str) -> Option<Name> {
    if !has_matchable_octets(text) {
        return None;
    }
    reachable_name(form)
}

/// Whether mesos-dns can send an SRV record with this target. There the port is told from the
/// target by the last colon; a second one, or a bracket, makes the value unreadable.
pub(super) fn has_readable_port(target: &str) -> bool {
    let hides = |octet| matches!(octet, b':' | b'[' | b']');
    !target.bytes().any(hides)
}

/// A port as it reaches the wire: numbers are not checked for their range in mesos-dns, and sent
/// modulo 2^16.
pub(super) fn wire_port(port: i64) -> u16 {
    u16::try_from(port.rem_euclid(1 << 16)).unwrap_or_default()
}

/// Whether a folded and escaped question can have these octets.
fn has_matchable_octets(text: &str) -> bool {
    let plain = |byte: u8| {
        matches!(byte, 0x21..=0x7e)
            && !byte.is_ascii_uppercase()
            && !matches!(byte, b'"' | b'(' | b')' | b';' | b'@' | b'\\')
    };
    // `.*` is removed from every question before it is looked up.
    text.bytes().all(plain) && !(text.contains('*') && text.contains(".*"))
}

/// The zone that holds the record set: its apex and authority records. The serial is left to the
/// zone's editor.
///
/// A primary name server or mailbox that is no domain name, which mesos-dns accepts and then
/// cannot send, is replaced by the apex.
///
/// # Errors
/// When the configured domain breaks a limit of DNS.
pub fn zone(settings: &Settings, recursion_available: bool) -> Result<Zone, NameError> {
    let mut zone = bare_zone(Name::from_text(&settings.domain)?, settings)?;
    zone.recursion_available = recursion_available;
    zone.unknown_srv_is_nodata = true;
    zone.ignores_stars = true;
    zone.expands_wildcards = false;
    Ok(zone)
}

/// A zone with the configured authority records that behaves by the RFCs.
pub(super) fn bare_zone(apex: Name, settings: &Settings) -> Result<Zone, NameError> {
    let domain = Name::from_text(&settings.domain)?;
    let name = |text: &str| Name::from_text(text).unwrap_or_else(|_| domain.clone());
    let mname = name(&settings.name_server.name);
    let soa = Soa {
        mname: mname.clone(),
        rname: name(&settings.soa.rname),
        serial: 0,
        refresh: settings.soa.refresh,
        retry: settings.soa.retry,
        expire: settings.soa.expire,
        minimum: settings.soa.minimum,
    };
    let ttl = settings.ttl;
    Ok(Zone::new(apex, soa, ttl, vec![mname], ttl))
}

/// Turns a record set into RRsets under `apex`; owners elsewhere are left out.
#[must_use]
pub fn zone_content(records: &MesosRecords, settings: &Settings, apex: &Name) -> ZoneContent {
    let mut names = Names::new(records, settings);
    let mut content = ZoneContent {
        rrsets: Vec::with_capacity(records.owner_count()),
        defects: Defects::default(),
    };
    let ttl = settings.ttl;
    for (owner, values) in records.a().chain(records.aaaa()) {
        let Some(name) = names.owner(owner, apex, &mut content.defects) else {
            continue;
        };
        let data = values.iter().map(Address::rdata);
        let rtype = data.clone().next().map_or(Rtype::A, |one| one.rtype());
        content.rrsets.push((name, Rrset::new(rtype, ttl, data)));
    }
    for (owner, values) in records.srv().chain(records.srv_in_dns_only()) {
        let Some(name) = names.owner(owner, apex, &mut content.defects) else {
            continue;
        };
        let data = values
            .iter()
            .filter_map(|service| names.service(service, settings, &mut content.defects));
        let rrset = Rrset::new(Rtype::SRV, ttl, data);
        if !rrset.data().is_empty() {
            content.rrsets.push((name, rrset));
        }
    }
    content
}

/// Names of the record set as DNS names, each made once.
struct Names<'a> {
    records: &'a MesosRecords,
    /// The configured name of the name server, which is served in any case it is written in.
    name_server: Option<NameId>,
    /// By [`NameId::index`]; the outer option says whether it was asked for.
    made: Vec<Option<Option<Name>>>,
    /// Which text has a cut name: the first of those that are cut to the same.
    cut: HashMap<Name, NameId>,
}

impl<'a> Names<'a> {
    fn new(records: &'a MesosRecords, settings: &Settings) -> Self {
        let mut cut = HashMap::new();
        for (id, form) in records.dns_forms() {
            if let Some(name) = reachable_cut_name(records.name(id), form) {
                cut.entry(name).or_insert(id);
            }
        }
        Self {
            records,
            name_server: records.find(&settings.name_server.name),
            made: vec![None; records.name_count()],
            cut,
        }
    }

    fn name(&mut self, id: NameId, defects: &mut Defects) -> Option<Name> {
        if let Some(Some(made)) = self.made.get(id.index()) {
            return made.clone();
        }
        let text = self.records.name(id);
        let name = match self.records.dns_form(id) {
            Some(form) => self.cut_name(id, text, form),
            None if self.name_server == Some(id) => Name::from_text(text).ok(),
            None => reachable_name(text),
        };
        if name.is_none() {
            defects.note(Defect::UnreachableName, || text.to_owned());
        }
        if let Some(slot) = self.made.get_mut(id.index()) {
            *slot = Some(name.clone());
        }
        name
    }

    /// The cut name of a text, or one with a hash in place of the long label if another text was
    /// cut to the same.
    fn cut_name(&self, id: NameId, text: &str, form: &str) -> Option<Name> {
        let name = reachable_cut_name(text, form)?;
        match self.cut.get(&name) {
            Some(other) if *other != id => reachable_name(&hashed_labels(text)),
            _ => Some(name),
        }
    }

    fn owner(&mut self, id: NameId, apex: &Name, defects: &mut Defects) -> Option<Name> {
        self.name(id, defects)
            .filter(|name| name.is_at_or_below(apex))
    }

    fn service(
        &mut self,
        service: &Service,
        settings: &Settings,
        defects: &mut Defects,
    ) -> Option<Rdata> {
        let target = if has_readable_port(self.records.name(service.target)) {
            self.name(service.target, defects)
        } else {
            None
        };
        let Some(target) = target else {
            defects.note(Defect::ServiceTarget, || self.records.service_text(service));
            return None;
        };
        let port = wire_port(service.port);
        Some(Rdata::Srv(0, settings.srv_weight, port, target))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::records::set::Builder;
    use crate::records::sink::{Rule, Sink};
    use crate::records::{IpSource, LabelRule, NameServer, SoaSettings};
    use std::net::IpAddr;

    pub(in crate::records) fn settings() -> Settings {
        Settings {
            domain: "mesos".into(),
            ip_sources: vec![IpSource::Host],
            labels: LabelRule::Rfc1123,
            name_server: NameServer {
                name: "ns1.mesos.".into(),
                addresses: Vec::new(),
            },
            ttl: 60,
            srv_weight: 1,
            soa: SoaSettings {
                rname: "root.ns1.mesos.".into(),
                refresh: 60,
                retry: 600,
                expire: 86400,
                minimum: 60,
            },
            reverse: Default::default(),
        }
    }

    fn content(fill: impl FnOnce(&mut Builder)) -> ZoneContent {
        let mut builder = Builder::default();
        fill(&mut builder);
        let set = builder.finish(Defects::default());
        zone_content(&set, &settings(), &Name::from_text("mesos").unwrap())
    }

    /// Two tasks whose names and hashes are cut to the same must not share addresses.
    #[test]
    fn texts_cut_to_the_same_name_get_different_names() {
        let long = |last: &str| format!("{}{last}-7f4dq-s1.fw.mesos.", "n".repeat(60));
        let form = format!("{}-7f4dq-s1.fw.mesos.", "n".repeat(54));
        let made = content(|builder| {
            for (last, host) in [("a", 1), ("b", 2)] {
                let owner = builder.name_cut_for_dns(&long(last), &form);
                let address = IpAddr::from([10, 0, 0, host]).into();
                builder.address(owner, &address, Rule::AgentAddress);
                let service = builder.name(&format!("_{last}._tcp.fw.mesos."));
                builder.service(service, owner, 80, Rule::ResourcePort);
            }
        });
        let owners: Vec<&Name> = made
            .rrsets
            .iter()
            .filter(|(_, rrset)| rrset.rtype() == Rtype::A)
            .map(|(owner, _)| owner)
            .collect();
        assert_eq!(owners.len(), 2);
        assert_ne!(owners[0], owners[1]);
        // Each service leads to its own.
        for (owner, rrset) in &made.rrsets {
            if let [Rdata::Srv(_, _, 80, target)] = rrset.data() {
                let first = owner.to_string().starts_with("_a.");
                assert_eq!(target, owners[usize::from(!first)]);
            }
        }
        assert!(made.defects.is_empty(), "{}", made.defects);
    }

    #[test]
    fn a_target_that_hides_its_port_is_left_out() {
        let made = content(|builder| {
            let owner = builder.name("_a._tcp.fw.mesos.");
            for target in ["a:b.fw.mesos.", "[a.fw.mesos.", "good.fw.mesos."] {
                let target = builder.name(target);
                builder.service(owner, target, 80, Rule::DiscoveryPort);
            }
        });
        assert_eq!(made.rrsets.len(), 1);
        assert_eq!(made.rrsets[0].1.data().len(), 1);
        assert_eq!(made.defects.count(Defect::ServiceTarget), 2);
    }

    #[test]
    fn names_outside_the_zone_are_left_out() {
        let made = content(|builder| {
            let owner = builder.name("ns1.example.org.");
            let address = IpAddr::from([10, 0, 0, 1]).into();
            builder.address(owner, &address, Rule::NameServer);
        });
        assert_eq!(made, ZoneContent::default());
    }

    /// Accepted there, and impossible to send.
    #[test]
    fn a_primary_that_is_no_name_becomes_the_apex() {
        let mut settings = settings();
        settings.name_server.name = "a..b.".into();
        let zone = zone(&settings, true).unwrap();
        assert_eq!(zone.soa.mname, zone.apex);
        assert_eq!(zone.soa.rname.to_string(), "root.ns1.mesos.");
    }

    #[test]
    fn only_what_a_query_can_match_is_reachable() {
        for text in [
            "web.fw.mesos.",
            "big.dog.fw.mesos.",
            "_a._tcp.mesos.",
            "*.mesos.",
        ] {
            assert_eq!(reachable_name(text).unwrap().to_string(), text);
        }
        for text in [
            "Web.fw.mesos.",
            "日.fw.mesos.",
            "a b.fw.mesos.",
            r"a\.b.fw.mesos.",
            "a@b.fw.mesos.",
            "a.*.fw.mesos.",
            "a..mesos.",
            ".mesos.",
        ] {
            assert_eq!(reachable_name(text), None, "{text}");
        }
        assert_eq!(reachable_name(&format!("{}.mesos.", "a".repeat(64))), None);
    }

    /// The hash that stands for a long label has only letters that a query can match.
    #[test]
    fn a_cut_makes_no_unmatchable_name_reachable() {
        let form = "ysfqj71189g8nfdd3ozao6ww9y7psurj.fw.mesos.";
        let long = "日".repeat(30);
        assert_eq!(reachable_cut_name(&format!("{long}.fw.mesos."), form), None);
        let long = "a".repeat(90);
        assert!(reachable_cut_name(&format!("{long}.fw.mesos."), form).is_some());
    }
}
