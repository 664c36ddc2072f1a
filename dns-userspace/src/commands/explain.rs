//! `records --explain`: where the records of a name come from, and who answers for them.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Context;
use dns_common::Verdict;

use crate::answers::encode::BlobEncoder;
use crate::answers::query::CLASS_IN;
use crate::answers::{Policy, fast};
use crate::config::{Config, XdpMode};
use crate::mesos::{Defects, State};
use crate::records::{self, Resolve, explain, to_zone};
use crate::zones::{Editor, Name, Rtype, Snapshot, Zone};

/// What is said of a name.
///
/// # Errors
/// When the domain is too long for DNS.
pub(super) fn text(
    config: &Config,
    state: &State,
    name: &str,
    interfaces: &[IpAddr],
    resolve: Resolve<'_>,
) -> anyhow::Result<(Vec<u8>, Defects)> {
    let settings = config.record_settings(interfaces);
    let (found, defects) = explain::explain(state, &config.masters, &settings, resolve, name);
    let snapshot = snapshot(config, state, &settings, resolve)?;
    let mut lines = authority(config, &snapshot, name);
    lines.extend(found.iter().map(|one| {
        let rtype = match one.rtype {
            "A" => Rtype::A,
            "AAAA" => Rtype::AAAA,
            _ => Rtype::SRV,
        };
        let name = one.dns_name.as_ref().map(|name| Name::from_text(name));
        match name {
            Some(Ok(name)) => {
                let kernel = kernel(config, &snapshot, &name, rtype);
                format!("{one}\n    kernel: {kernel}")
            }
            _ => one.to_string(),
        }
    }));
    if lines.is_empty() {
        lines.push(format!("no record has the name {name}"));
    }
    Ok((lines.join("\n").into_bytes(), defects))
}

/// The records that a zone has of itself, if this is its name.
fn authority(config: &Config, snapshot: &Snapshot, name: &str) -> Vec<String> {
    let name = Name::from_text(name).ok();
    let mut zones = snapshot.zones().iter();
    let zone = zones.find(|zone| Some(&zone.apex) == name.as_ref());
    let Some(mut zone) = zone.map(|zone| Zone::clone(zone)) else {
        return Vec::new();
    };
    zone.soa.serial = config.soa_serial;
    let rrsets = [Some(zone.soa_rrset()), zone.ns_rrset()];
    let lines = rrsets.into_iter().flatten().flat_map(|rrset| {
        let rtype = rrset.rtype();
        let kernel = kernel(config, snapshot, &zone.apex, rtype);
        let line = |data| {
            format!(
                "{} {rtype} {data}\n    rule: the zone itself, by SOAMname and its like\n    \
                 DNS: served\n    kernel: {kernel}",
                zone.apex
            )
        };
        rrset.data().iter().map(line).collect::<Vec<_>>()
    });
    lines.collect()
}

/// The zone as it would be served.
fn snapshot(
    config: &Config,
    state: &State,
    settings: &records::Settings,
    resolve: Resolve<'_>,
) -> anyhow::Result<Arc<Snapshot>> {
    let zone = to_zone::zone(settings, config.recurse_on)
        .with_context(|| format!("domain {:?}", settings.domain))?;
    let apex = zone.apex.clone();
    let set = records::build(state, &config.masters, settings, resolve);
    let content = to_zone::zone_content(&set, settings, &apex).rrsets;
    let mut editor = Editor::new(0, vec![zone], Arc::new(BlobEncoder), config.soa_serial)?;
    editor.replace(&apex, content)?;
    editor.commit(config.soa_serial);
    Ok(Arc::clone(editor.snapshot()))
}

/// What the kernel does with a question for the records, by its own responder.
fn kernel(config: &Config, snapshot: &Snapshot, name: &Name, rtype: Rtype) -> String {
    let policy = Policy {
        sets_truncate_bit: config.set_truncate_bit,
        ..Policy::default()
    };
    let ask = |edns| {
        let mut message = question(name, rtype, edns);
        let octets = message.len();
        message.resize(usize::from(u16::MAX), 0);
        fast::answer(snapshot, &policy, &mut message, octets).0
    };
    let what = match (ask(None), ask(Some(policy.max_udp_octets))) {
        (Verdict::Answered, _) => "answers".to_owned(),
        (plain, Verdict::Answered) => format!(
            "answers queries with EDNS of enough octets; {}",
            match plain {
                Verdict::Truncated => "others get TC and come over TCP",
                _ => "others go to user space",
            }
        ),
        (_, Verdict::Truncated) => "says TC, and user space answers over TCP".to_owned(),
        (_, Verdict::TooBig) => "leaves it to user space: the records fit no datagram".to_owned(),
        (_, verdict) => format!("leaves it to user space ({})", verdict.name()),
    };
    if config.xdp.interfaces.is_empty() || config.xdp.mode == XdpMode::Off {
        return format!("{what}, were XDP configured");
    }
    if snapshot.len() > config.xdp.max_names as usize {
        return format!("{what}, as far as there is room: xdp.max_names is exceeded");
    }
    what
}

/// A query, with an OPT record that offers so many octets.
fn question(name: &Name, rtype: Rtype, edns: Option<u16>) -> Vec<u8> {
    let counts = [1, 0, 0, u16::from(edns.is_some())];
    let mut message = vec![0; 4];
    let mut push = |field: u16| message.extend_from_slice(&field.to_be_bytes());
    counts.into_iter().for_each(&mut push);
    message.extend_from_slice(name.wire());
    for field in [rtype.0, CLASS_IN] {
        message.extend_from_slice(&field.to_be_bytes());
    }
    if let Some(octets) = edns {
        message.push(0);
        for field in [Rtype::OPT.0, octets, 0, 0, 0] {
            message.extend_from_slice(&field.to_be_bytes());
        }
    }
    message
}
