use proptest::prelude::*;

use super::super::vip_address::{DEFAULT_IPV4_RANGE, DEFAULT_IPV6_RANGE, Range};
use super::*;
use crate::zones::Rtype;

fn key(n: usize) -> TaskKey {
    TaskKey {
        framework_id: "F".into(),
        task_id: n.to_string().into(),
    }
}

fn task(port: TaskPort, ips: &[&str]) -> Task {
    Task {
        name: Some("web".into()),
        framework: Some("marathon".into()),
        agent_ip: Some([10, 0, 0, 1].into()),
        task_ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        state: TaskState::Running,
        ports: vec![port],
        ..Task::default()
    }
}

fn port(vip: &str) -> TaskPort {
    TaskPort {
        protocol: Protocol::Tcp,
        port: Some(80),
        host_port: None,
        name: None,
        vips: vec![vip.into()],
    }
}

fn vips() -> Vips {
    Vips::new(Allocator::new(DEFAULT_IPV4_RANGE, DEFAULT_IPV6_RANGE), true)
}

fn set(vips: &mut Vips, n: usize, task: Option<&Task>) -> BTreeSet<Name> {
    let mut changed = BTreeSet::new();
    vips.set_tasks([(&key(n), task)].into_iter(), &mut changed);
    changed
}

fn named(label: &str, framework: &str, port: u64) -> Option<VipKey> {
    Some(VipKey {
        protocol: Protocol::Tcp,
        host: VipHost::Named(VipName {
            framework: framework.into(),
            label: label.into(),
        }),
        port,
    })
}

fn literal(ip: &str, port: u64) -> Option<VipKey> {
    Some(VipKey {
        protocol: Protocol::Tcp,
        host: VipHost::Literal(ip.parse().unwrap()),
        port,
    })
}

#[test]
fn labels_are_split_at_the_last_colon() {
    for (label, wanted) in [
        ("/group/app:80", named("/group/app", "m", 80)),
        ("name:99999", named("name", "m", 99_999)),
        ("a:b:1", named("a:b", "m", 1)),
        ("1.2.3.4:80", literal("1.2.3.4", 80)),
        ("fd01:c::5:80", literal("fd01:c::5", 80)),
        ("1.2.3:80", named("1.2.3", "m", 80)),
        ("name", None),
        ("name:", None),
        ("name:0", None),
        ("name:-1", None),
        ("name:http", None),
    ] {
        assert_eq!(parse_label(label, "m", Protocol::Tcp), wanted, "{label}");
    }
}

#[test]
fn a_port_of_the_agent_takes_the_place_of_the_tasks_own() {
    let mut mapped = port("/web:80");
    mapped.host_port = Some(3000);
    let backends = |task: &Task, ipv6| -> Vec<String> {
        task_vips(task, ipv6)
            .iter()
            .map(|(_, backend)| format!("{}#{}", backend.ip, backend.port))
            .collect()
    };
    let both = ["9.0.0.1", "fd01:b::1"];
    assert_eq!(backends(&task(mapped, &both), true), ["10.0.0.1#3000"]);
    assert_eq!(
        backends(&task(port("/web:80"), &both), true),
        ["9.0.0.1#80", "fd01:b::1#80"]
    );
    assert_eq!(
        backends(&task(port("/web:80"), &both), false),
        ["9.0.0.1#80"]
    );
    assert_eq!(
        backends(&task(port("1.2.3.4:80"), &both), true),
        ["9.0.0.1#80"]
    );
    assert_eq!(
        backends(&task(port("fd00::1:80"), &both), true),
        ["fd01:b::1#80"]
    );
    assert!(backends(&task(port("/web:80"), &[]), true).is_empty());
}

#[test]
fn a_backend_on_its_way_out_keeps_the_name() {
    let mut vips = vips();
    let mut one = task(port("/web:80"), &["9.0.0.1"]);
    assert_eq!(set(&mut vips, 1, Some(&one)).len(), 1);
    one.state = TaskState::Killing;
    assert!(set(&mut vips, 1, Some(&one)).is_empty());
    let weights: Vec<u8> = vips
        .iter()
        .flat_map(|(_, all)| all.map(|b| b.weight).collect::<Vec<_>>())
        .collect();
    assert_eq!(weights, [0]);
    one.state = TaskState::Running;
    one.healthy = Some(false);
    assert!(set(&mut vips, 1, Some(&one)).is_empty());
    assert_eq!(set(&mut vips, 1, None).len(), 1);
    assert!(vips.content().is_empty() && vips.allocator().allocations().is_empty());
}

#[test]
fn the_families_of_a_name_are_those_of_its_backends() {
    let mut vips = vips();
    let rtypes = |vips: &Vips| -> Vec<String> {
        vips.content()
            .iter()
            .map(|(_, rrset)| rrset.rtype().to_string())
            .collect()
    };
    set(&mut vips, 1, Some(&task(port("/web:80"), &["9.0.0.1"])));
    assert_eq!(rtypes(&vips), ["A"]);
    set(&mut vips, 2, Some(&task(port("/web:443"), &["fd01:b::1"])));
    assert_eq!(rtypes(&vips), ["A", "AAAA"]);
    set(&mut vips, 1, None);
    assert_eq!(rtypes(&vips), ["AAAA"]);
}

#[test]
fn labels_of_one_name_have_all_their_addresses_there() {
    let mut vips = vips();
    for (n, label) in ["/foo:80", "foo:80", "FOO:80"].iter().enumerate() {
        set(&mut vips, n, Some(&task(port(label), &["9.0.0.1"])));
    }
    let content = vips.content();
    let [(name, rrset)] = content.as_slice() else {
        panic!("{content:?}");
    };
    assert_eq!(name.to_string(), "foo.marathon.l4lb.thisdcos.directory.");
    let ips: Vec<String> = rrset.data().iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["11.64.238.105", "11.64.238.106", "11.64.238.107"]);
}

#[test]
fn what_is_empty_of_a_name_is_left_out() {
    for (label, framework, wanted) in [
        (
            "/a.-.b",
            "marathon",
            Some("a.b.marathon.l4lb.thisdcos.directory."),
        ),
        ("$$$", "marathon", Some("marathon.l4lb.thisdcos.directory.")),
        ("/web", "$$", Some("web.l4lb.thisdcos.directory.")),
        ("$$$", "$$", None),
    ] {
        let vip = VipName {
            label: label.into(),
            framework: framework.into(),
        };
        let name = vip_name(&vip).map(|name| name.to_string());
        assert_eq!(name.as_deref(), wanted, "{label} {framework}");
    }
}

#[test]
fn addresses_that_come_free_go_to_vips_that_wait() {
    let range = Range {
        first: [11, 0, 0, 0].into(),
        last: [11, 0, 0, 1].into(),
    };
    let mut vips = Vips::new(Allocator::new(range, DEFAULT_IPV6_RANGE), true);
    let ips = ["9.0.0.1", "fd01:b::1"];
    let waiting = |vips: &Vips| -> Vec<String> {
        let all = vips.without_address().keys();
        all.map(|vip| vip.label.clone()).collect()
    };
    let types = |vips: &Vips, label: &str| -> Vec<Rtype> {
        let name = format!("{label}.marathon.l4lb.thisdcos.directory");
        let rrsets = vips.rrsets(&Name::from_text(&name).unwrap());
        rrsets.iter().map(Rrset::rtype).collect()
    };
    set(&mut vips, 1, Some(&task(port("a:80"), &ips)));
    // One attempt, as many as dcos-l4lb makes here.
    set(&mut vips, 2, Some(&task(port("b:80"), &ips)));
    assert_eq!(waiting(&vips), ["b"]);
    let misses: Vec<_> = vips.without_address().values().collect();
    assert_eq!(misses, [&[true, false]], "IPv4, not IPv6");
    assert_eq!(types(&vips, "b"), [Rtype::AAAA]);
    set(&mut vips, 3, Some(&task(port("c:80"), &["fd01:b::2"])));
    assert_eq!(waiting(&vips), ["b"]);
    let changed = set(&mut vips, 1, None);
    assert_eq!(changed.len(), 2, "a goes, b comes: {changed:?}");
    assert_eq!(types(&vips, "b"), [Rtype::A, Rtype::AAAA]);
    assert!(waiting(&vips).is_empty());
    set(&mut vips, 1, Some(&task(port("a:80"), &ips)));
    assert_eq!(waiting(&vips), ["a"]);
    set(&mut vips, 1, None);
    assert!(waiting(&vips).is_empty());
}

/// RFC 1035, section 2.3.4: 255 octets.
#[test]
fn vips_without_a_name_are_known() {
    let mut vips = vips();
    let labels = |count: usize, last: &str| {
        let label = "x".repeat(63);
        port(&format!("{}{last}:80", format!("{label}.").repeat(count)))
    };
    let nameless = |vips: &Vips| vips.without_name().len();
    // With `marathon.l4lb.thisdcos.directory`: 192 + 29 + 34 octets, and one more.
    set(
        &mut vips,
        1,
        Some(&task(labels(3, &"y".repeat(28)), &["9.0.0.1"])),
    );
    assert_eq!((nameless(&vips), vips.content().len()), (0, 1));
    set(
        &mut vips,
        1,
        Some(&task(labels(3, &"y".repeat(29)), &["9.0.0.1"])),
    );
    assert_eq!((nameless(&vips), vips.content().len()), (1, 0));
    set(&mut vips, 1, None);
    assert_eq!(nameless(&vips), 0);
}

#[test]
fn addresses_of_before_a_restart_are_kept_while_in_use() {
    let mut before = vips();
    set(&mut before, 1, Some(&task(port("svc4703:1"), &["9.0.0.1"])));
    // svc1265 hashes to the same address and came second.
    set(&mut before, 2, Some(&task(port("svc1265:1"), &["9.0.0.1"])));
    set(&mut before, 3, Some(&task(port("gone:1"), &["9.0.0.1"])));
    let kept = before.allocator().allocations();
    let mut allocator = Allocator::new(DEFAULT_IPV4_RANGE, DEFAULT_IPV6_RANGE);
    assert_eq!(allocator.restore(&kept), 0);
    let mut after = Vips::new(allocator, true);
    let tasks = [
        (key(1), Arc::new(task(port("svc4703:1"), &["9.0.0.1"]))),
        (key(2), Arc::new(task(port("svc1265:1"), &["9.0.0.1"]))),
    ];
    after.replace_tasks(
        tasks.iter().map(|(key, task)| (key, task)),
        &mut BTreeSet::new(),
    );
    assert_eq!(after.allocator().allocations(), kept[1..]);
}

#[test]
fn the_listing_is_that_of_dcos_net() {
    let mut vips = vips();
    set(&mut vips, 1, Some(&task(port("/app:80"), &["9.0.0.1"])));
    set(
        &mut vips,
        2,
        Some(&task(port("fd00::1:5000"), &["fd01:b::1"])),
    );
    let listing = serde_json::to_string(&vips.listing(false)).unwrap();
    assert_eq!(
        listing,
        r#"[{"vip":"fd00::1:5000","protocol":"tcp","backend":[{"ip":"fd01:b::1","port":80}]},{"vip":"app.marathon.l4lb.thisdcos.directory:80","protocol":"tcp","backend":[{"ip":"9.0.0.1","port":80}]}]"#
    );
}

proptest! {
    /// Two VIPs that want one address get the same ones whatever the order of the tasks.
    #[test]
    fn a_batch_is_allocated_in_the_order_of_names(order in Just((0usize..6).collect::<Vec<_>>()).prop_shuffle()) {
        let labels = ["svc4703:1", "svc1265:1", "svc872:1", "svc6359:1", "/foo:1", "foo:1"];
        let mut vips = vips();
        let tasks: Vec<_> = order.iter().map(|&n| (key(n), task(port(labels[n]), &["9.0.0.1"]))).collect();
        vips.set_tasks(tasks.iter().map(|(key, task)| (key, Some(task))), &mut BTreeSet::new());
        let first = vips.allocator().allocations();
        let ips: Vec<String> = first.iter().map(|a| format!("{} {}", a.vip.label, a.ipv4.unwrap())).collect();
        prop_assert_eq!(ips, [
            "/foo 11.64.238.105", "foo 11.64.238.106", "svc1265 11.29.210.66",
            "svc4703 11.29.210.67", "svc6359 11.141.187.66", "svc872 11.141.187.67",
        ]);
    }

    #[test]
    fn nothing_is_left_when_all_tasks_are_over(steps in prop::collection::vec((0usize..5, 0usize..4), 0..40)) {
        let labels = ["/a:1", "a:1", "b:2", "1.2.3.4:5"];
        let mut vips = vips();
        for (n, label) in steps {
            set(&mut vips, n, Some(&task(port(labels[label]), &["9.0.0.1", "fd01:b::1"])));
        }
        for n in 0..5 {
            set(&mut vips, n, None);
        }
        prop_assert!(vips.content().is_empty());
        prop_assert_eq!(vips.iter().count(), 0);
        prop_assert!(vips.allocator().allocations().is_empty());
    }
}
