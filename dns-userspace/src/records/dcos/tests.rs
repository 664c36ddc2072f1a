use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde_json::{Value, json};

use super::vips::{VipHost, mapped_ports, vip_domain};
use super::zones::Axfr;
use super::*;
use crate::mesos::events::Event;
use crate::mesos::tasks::TaskModel;
use crate::zones::{Rdata, Rtype};

const ID: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/dcos/", $name))
    };
}

fn undotted(name: &Name) -> String {
    name.to_string().trim_end_matches('.').to_owned()
}

/// A record as the fixtures have it: names without the final dot.
fn rows(name: &Name, rrset: &Rrset) -> Vec<(String, String, String, u32)> {
    let data = |rdata: &Rdata| match rdata {
        Rdata::Srv(priority, weight, port, target) => {
            format!("{priority} {weight} {port} {}", undotted(target))
        }
        Rdata::Ns(target) | Rdata::Cname(target) => undotted(target),
        Rdata::Soa(soa) => rdata
            .to_string()
            .replace(&soa.mname.to_string(), &undotted(&soa.mname))
            .replace(&soa.rname.to_string(), &undotted(&soa.rname)),
        other => other.to_string(),
    };
    let row = |rdata| {
        (
            undotted(name),
            rrset.rtype().to_string(),
            data(rdata),
            rrset.ttl(),
        )
    };
    rrset.data().iter().map(row).collect()
}

fn served(content: &ZoneContent) -> BTreeSet<(String, String, String, u32)> {
    let zone = &content.zone;
    let apex = [zone.soa_rrset(), zone.ns_rrset().unwrap()];
    let apex = apex.iter().map(|rrset| (&zone.apex, rrset));
    content
        .records
        .iter()
        .map(|(name, rrset)| (name, rrset))
        .chain(apex)
        .flat_map(|(name, rrset)| rows(name, rrset))
        .collect()
}

fn wanted(rows: &Value) -> BTreeSet<(String, String, String, u32)> {
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let ttl = u32::try_from(row["ttl"].as_u64().unwrap()).unwrap();
            (text(row, "name"), text(row, "type"), text(row, "data"), ttl)
        })
        .collect()
}

fn zone<'a>(content: &'a [ZoneContent], apex: &str) -> &'a ZoneContent {
    let apex = Name::from_text(apex).unwrap();
    content.iter().find(|one| one.zone.apex == apex).unwrap()
}

/// What a reader of the updates holds: every name of the zones.
#[derive(Default)]
struct Reader(BTreeMap<Name, Vec<Rrset>>);

impl Reader {
    fn take(&mut self, update: Update) {
        for content in update.zones {
            self.0
                .retain(|name, _| !name.is_at_or_below(&content.zone.apex));
            for (name, rrset) in content.records {
                self.0.entry(name).or_default().push(rrset);
            }
        }
        for (name, rrsets) in update.names {
            if rrsets.is_empty() {
                self.0.remove(&name);
            } else {
                self.0.insert(name, rrsets);
            }
        }
    }

    fn rows(&self) -> BTreeSet<(String, String, String, u32)> {
        self.0
            .iter()
            .flat_map(|(name, rrsets)| rrsets.iter().flat_map(|one| rows(name, one)))
            .collect()
    }
}

fn assert_fixture(input: &str, expected: &str) {
    let expected: Value = serde_json::from_str(expected).unwrap();
    let settings = Settings {
        cluster_id: Some(ClusterId::from_text(ID).unwrap()),
        ..Settings::default()
    };
    let mut zones = DcosZones::new(&settings, &[]).unwrap();
    let leader: IpAddr = expected["node_ip"].as_str().unwrap().parse().unwrap();
    let mut reader = Reader::default();
    reader.take(zones.first().unwrap());
    reader.take(zones.set_leader(Some(leader)));
    let mut model = TaskModel::default();
    let lines = input.lines().filter(|line| !line.trim().is_empty());
    for (at, line) in lines.enumerate() {
        let event = Event::from_json(line.as_bytes()).unwrap();
        let update = zones.apply(&model.apply(&event, &|_| None)).unwrap();
        reader.take(update);
        let Some(step) = expected["timeline"].get(at) else {
            continue;
        };
        let dcos = zones.dcos().unwrap();
        let mut names: BTreeSet<String> = dcos
            .records
            .iter()
            .map(|(name, _)| undotted(name))
            .collect();
        names.insert(DCOS.into());
        match &step["dns_names"] {
            Value::Number(count) => assert_eq!(count.as_u64(), Some(names.len() as u64)),
            listed => assert_eq!(listed, &json!(names), "line {}", at + 1),
        }
    }
    let content = zones.content().unwrap();
    assert_eq!(
        served(zone(&content, DCOS)),
        wanted(&expected["zones"][DCOS])
    );
    // The fixture has this zone before its authority records are added.
    let mut l4lb = served(zone(&content, L4LB));
    l4lb.retain(|row| row.1 != "SOA" && row.1 != "NS");
    assert_eq!(l4lb, wanted(&expected["zones"][L4LB]));

    // Whoever follows the updates has what the zones hold, aliases included.
    let mut whole = Reader::default();
    for one in content {
        whole.take(Update {
            zones: vec![one],
            names: Vec::new(),
        });
    }
    assert_eq!(reader.rows(), whole.rows());
    assert!(whole.0.keys().any(|name| name.to_string().contains(ID)));

    assert_eq!(
        vips(&zones),
        sorted(expected["vips"].as_array().unwrap().clone())
    );
    let mapped: Vec<Value> = model
        .visible()
        .flat_map(|(_, task)| mapped_ports(task))
        .map(|port| {
            json!({"protocol": port.protocol.as_str(), "host_port": port.host_port,
                "task_ip": port.task_ip, "port": port.port})
        })
        .collect();
    let wanted_ports = expected["port_mappings_local"].as_array().unwrap().clone();
    assert_eq!(sorted(mapped), sorted(wanted_ports));
}

fn sorted(mut values: Vec<Value>) -> Vec<Value> {
    values.iter_mut().for_each(Value::sort_all_objects);
    values.sort_by_key(ToString::to_string);
    values
}

fn vips(zones: &DcosZones) -> Vec<Value> {
    let listed = zones.vips().iter().map(|(key, backends)| {
        let backends: Vec<Value> = backends
            .map(|one| {
                json!({"agent_ip": one.agent_ip, "ip": one.ip, "port": one.port, "weight": one.weight})
            })
            .collect();
        let VipHost::Named(vip) = &key.host else {
            panic!("{key} is no named VIP");
        };
        json!({"kind": "named", "protocol": key.protocol.as_str(), "label": vip.label,
            "framework": vip.framework, "port": key.port, "fqdn": vip_domain(vip),
            "hash_name": vip.hash_name(), "vip_ips": zones.vips().addresses(key),
            "backends": backends})
    });
    sorted(listed.collect())
}

#[test]
fn every_network_mode_has_the_names_of_dcos_dns() {
    assert_fixture(
        fixture!("operator-api.json"),
        fixture!("operator-api.expected.json"),
    );
}

#[test]
fn a_service_torn_down_has_the_names_of_dcos_dns() {
    assert_fixture(
        fixture!("hello-world.json"),
        fixture!("hello-world.expected.json"),
    );
}

#[test]
fn a_master_fail_over_has_the_names_of_dcos_dns() {
    assert_fixture(
        fixture!("recovered-agents.json"),
        fixture!("recovered-agents.expected.json"),
    );
}

#[test]
fn one_port_with_two_protocols_is_two_vips_with_one_address() {
    assert_fixture(
        fixture!("tcp-and-udp.json"),
        fixture!("tcp-and-udp.expected.json"),
    );
}

#[test]
fn a_health_check_without_verdict_weighs_nothing() {
    assert_fixture(
        fixture!("unhealthy.json"),
        fixture!("unhealthy.expected.json"),
    );
}

#[test]
fn both_kinds_of_vip_labels_make_vips() {
    assert_fixture(
        fixture!("vip-labels.json"),
        fixture!("vip-labels.expected.json"),
    );
}

#[test]
fn the_mirror_matches_dcos_dns() {
    let expected: Value = serde_json::from_str(fixture!("axfr.expected.json")).unwrap();
    let axfr = Axfr::from_json(fixture!("axfr.json").as_bytes()).unwrap();
    let mirror = axfr.mirror().unwrap();
    assert_eq!(served(&mirror), wanted(&expected["zones"][MESOS]));
}

#[test]
fn a_mirrored_name_is_the_same_one_by_one() {
    let axfr = Axfr::from_json(fixture!("axfr.json").as_bytes()).unwrap();
    let settings = Settings {
        cluster_id: Some(ClusterId::from_text(ID).unwrap()),
        ..Settings::default()
    };
    let mut zones = DcosZones::new(&settings, &[]).unwrap();
    let mut whole = Reader::default();
    whole.take(zones.set_mirror(axfr.mirror().unwrap()).unwrap());
    let (domain, apex) = (
        Name::from_text("mesos").unwrap(),
        Name::from_text(MESOS).unwrap(),
    );
    let mut single = Reader::default();
    for (name, rrsets) in &whole.0 {
        let back = Rename {
            asked: domain.clone(),
            held: apex.clone(),
        };
        if let Some((name, rrsets)) = back.node(name, rrsets) {
            single.take(zones.mirror_name(&domain, &name, &rrsets).unwrap());
        }
    }
    assert_eq!(single.rows(), whole.rows());
}

#[test]
fn static_zones_and_masters_have_aliases_too() {
    let target = Name::from_text("master.dcos.thisdcos.directory").unwrap();
    let settings = Settings {
        node_ip: Some([127, 0, 0, 1].into()),
        masters: vec![[127, 0, 0, 1].into()],
        cluster_id: Some(ClusterId::from_text(ID).unwrap()),
        static_zones: vec![(
            "component.thisdcos.directory".into(),
            vec![StaticRecord {
                name: "registry".into(),
                ttl: 5,
                data: Rdata::Cname(target.clone()),
            }],
        )],
        ..Settings::default()
    };
    let zones = DcosZones::new(&settings, &[]).unwrap();
    let content = zones.content().unwrap();
    let alias = zone(&content, "component.thisdcos.global");
    let (name, rrset) = &alias.records[0];
    assert_eq!(name.to_string(), "registry.component.thisdcos.global.");
    assert_eq!(rrset.data(), [Rdata::Cname(target)]);
    let alias = zone(&content, &format!("dcos.{ID}.dcos.directory"));
    assert_eq!(
        alias.records[0].0.to_string(),
        format!("master.dcos.{ID}.dcos.directory.")
    );
    assert_eq!(alias.zone.negative_soa().ttl(), 1);
    assert_eq!(zone(&content, "zk").records.len(), 5);
    let (name, rrset) = &zone(&content, "thisnode.thisdcos.global").records[0];
    assert_eq!(
        (name.to_string().as_str(), rrset.rtype()),
        ("thisnode.thisdcos.global.", Rtype::A)
    );
    for old in [
        "dclb.thisdcos.directory",
        "dclb.thisdcos.global",
        "l4lb.thisdcos.global",
    ] {
        assert!(zone(&content, old).records.is_empty());
    }
    assert_eq!(content.len(), zones.zones().unwrap().len());

    // Names of masters are there before any task is known.
    let mut reader = Reader::default();
    reader.take(zones.first().unwrap());
    for name in [
        "master.dcos.thisdcos.directory",
        "master.dcos.thisdcos.global",
    ] {
        assert!(
            reader.0.contains_key(&Name::from_text(name).unwrap()),
            "{name}"
        );
    }
}

#[test]
fn names_follow_the_masters() {
    let mut zones = DcosZones::new(&Settings::default(), &[]).unwrap();
    let mut reader = Reader::default();
    reader.take(zones.first().unwrap());
    reader.take(
        zones
            .set_masters(&[[10, 0, 0, 1].into(), [10, 0, 0, 2].into()])
            .unwrap(),
    );
    reader.take(zones.set_masters(&[[10, 0, 0, 2].into()]).unwrap());
    reader.take(zones.set_leader(Some([10, 0, 0, 2].into())));
    reader.take(zones.set_public_ips(&["fd00::1".parse().unwrap()]).unwrap());
    let rows: Vec<String> = reader
        .rows()
        .into_iter()
        .map(|(name, rtype, data, _)| format!("{name} {rtype} {data}"))
        .collect();
    for row in [
        "leader.dcos.thisdcos.directory A 10.0.0.2",
        "master.dcos.thisdcos.directory A 10.0.0.2",
        "zk-1.zk A 10.0.0.2",
        "zk-5.zk A 10.0.0.2",
        "public.thisnode.thisdcos.directory AAAA fd00::1",
    ] {
        assert!(rows.iter().any(|one| one == row), "{row} in {rows:?}");
    }
    assert!(!rows.iter().any(|row| row.ends_with("10.0.0.1")));
}

#[test]
fn an_id_that_comes_later_gives_the_same_zones() {
    let id = ClusterId::from_text(ID).unwrap();
    let settings = Settings {
        node_ip: Some([10, 0, 0, 9].into()),
        masters: vec![[10, 0, 0, 1].into()],
        ..Settings::default()
    };
    let known = Settings {
        cluster_id: Some(id),
        ..settings.clone()
    };
    for synced in [false, true] {
        let mut late = DcosZones::new(&settings, &[]).unwrap();
        let mut early = DcosZones::new(&known, &[]).unwrap();
        let mut reader = Reader::default();
        reader.take(late.first().unwrap());
        if synced {
            let event = fixture!("operator-api.json").lines().next().unwrap();
            let event = Event::from_json(event.as_bytes()).unwrap();
            let changes = TaskModel::default().apply(&event, &|_| None);
            reader.take(late.apply(&changes).unwrap());
            early.apply(&changes).unwrap();
        }
        let before = late.zones().unwrap().len();
        let (zones, update) = late.set_cluster_id(id).unwrap();
        assert_eq!(before + zones.len(), early.zones().unwrap().len());
        reader.take(update);
        let mut whole = Reader::default();
        for one in early.content().unwrap() {
            whole.take(Update {
                zones: vec![one],
                names: Vec::new(),
            });
        }
        if synced {
            assert_eq!(reader.rows(), whole.rows());
        }
        let alias = format!("thisnode.{ID}.dcos.directory");
        assert!(reader.0.contains_key(&Name::from_text(&alias).unwrap()));
    }
}
