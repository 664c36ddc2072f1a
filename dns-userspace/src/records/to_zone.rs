//! The record set to the content of a DNS zone: texts become names and RRsets, and what DNS cannot
//! carry is left out and counted.
//!
//! A name of mesos-dns is served exactly when a query could match it there: lookups are in lower
//! case and special octets in them are escaped, so a raw discovery name with capitals, blanks or
//! non-ASCII letters is in the listings but no query hits it. It must not become reachable by
//! folding: `Web.marathon.mesos` in the listing and `web.marathon.mesos` in DNS may be two
//! different tasks.

use std::collections::HashMap;
use std::net::IpAddr;

use super::label::hashed_label;
use super::{MesosRecords, NameId, Service, Settings};
use crate::mesos::{Defect, Defects};
use crate::zones::name::MAX_LABEL_OCTETS;
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
    // `.*` is removed from every question before it is looked up.
    if text.contains(".*") {
        return None;
    }
    let plain = |byte: u8| {
        matches!(byte, 0x21..=0x7e)
            && !byte.is_ascii_uppercase()
            && !matches!(byte, b'"' | b'(' | b')' | b';' | b'@' | b'\\')
    };
    if !text.bytes().all(plain) {
        return None;
    }
    Name::from_text(text).ok()
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
    let apex = Name::from_text(&settings.domain)?;
    let name = |text: &str| Name::from_text(text).unwrap_or_else(|_| apex.clone());
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
    let mut zone = Zone::new(apex, soa, settings.ttl, vec![mname], settings.ttl);
    zone.recursion_available = recursion_available;
    zone.unknown_srv_is_nodata = true;
    zone.ignores_stars = true;
    Ok(zone)
}

/// Turns a record set into RRsets under `apex`; owners elsewhere are left out.
#[must_use]
pub fn zone_content(records: &MesosRecords, settings: &Settings, apex: &Name) -> ZoneContent {
    let mut names = Names::new(records, settings);
    let mut content = ZoneContent::default();
    let ttl = settings.ttl;
    for (owner, values) in records.a().chain(records.aaaa()) {
        let Some(name) = names.owner(owner, apex, &mut content.defects) else {
            continue;
        };
        let data: Vec<Rdata> = values
            .iter()
            .map(|value| match value.ip() {
                IpAddr::V4(ip) => Rdata::A(ip),
                IpAddr::V6(ip) => Rdata::Aaaa(ip),
            })
            .collect();
        let rtype = data.first().map_or(Rtype::A, Rdata::rtype);
        content.rrsets.push((name, Rrset::new(rtype, ttl, data)));
    }
    for (owner, values) in records.srv().chain(records.srv_in_dns_only()) {
        let Some(name) = names.owner(owner, apex, &mut content.defects) else {
            continue;
        };
        let data: Vec<Rdata> = values
            .iter()
            .filter_map(|service| names.service(service, settings, &mut content.defects))
            .collect();
        if !data.is_empty() {
            content
                .rrsets
                .push((name, Rrset::new(Rtype::SRV, ttl, data)));
        }
    }
    content
}

/// Names of the record set as DNS names, each made once.
struct Names<'a> {
    records: &'a MesosRecords,
    /// The configured name of the name server, which is served in any case it is written in.
    name_server: Option<NameId>,
    made: HashMap<NameId, Option<Name>>,
    /// Which text has a cut name.
    cut: HashMap<Name, NameId>,
}

impl<'a> Names<'a> {
    fn new(records: &'a MesosRecords, settings: &Settings) -> Self {
        Self {
            records,
            name_server: records.find(&settings.name_server.name),
            made: HashMap::with_capacity(records.len() / 2),
            cut: HashMap::new(),
        }
    }

    fn name(&mut self, id: NameId, defects: &mut Defects) -> Option<Name> {
        if let Some(made) = self.made.get(&id) {
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
        self.made.insert(id, name.clone());
        name
    }

    /// The cut name of a text, or one with a hash in place of the long label if another text was
    /// cut to the same.
    fn cut_name(&mut self, id: NameId, text: &str, form: &str) -> Option<Name> {
        let name = reachable_name(form)?;
        match self.cut.get(&name) {
            Some(other) if *other != id => {
                let labels: Vec<String> = text
                    .split('.')
                    .map(|label| {
                        if label.len() > MAX_LABEL_OCTETS {
                            hashed_label(label)
                        } else {
                            label.to_owned()
                        }
                    })
                    .collect();
                reachable_name(&labels.join("."))
            }
            _ => {
                self.cut.insert(name.clone(), id);
                Some(name)
            }
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
        // There the port is told from the target by the last colon; a second one, or a bracket,
        // makes the value unreadable and it is left out.
        let text = self.records.name(service.target);
        let target = if text.contains([':', '[', ']']) {
            None
        } else {
            self.name(service.target, defects)
        };
        let Some(target) = target else {
            defects.note(Defect::ServiceTarget, || self.records.service_text(service));
            return None;
        };
        // Numbers are not checked for their range there, and reach the wire modulo 2^16.
        let port = u16::try_from(service.port.rem_euclid(1 << 16)).unwrap_or_default();
        Some(Rdata::Srv(0, settings.srv_weight, port, target))
    }
}
