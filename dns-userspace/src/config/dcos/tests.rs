use super::*;
use serde_json::json;

const ID: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";

fn valid(value: &Value) -> Dcos {
    let reading = read(value);
    assert_eq!(reading.wrong, [], "{value}");
    assert!(reading.unknown.is_empty(), "{:?}", reading.unknown);
    reading.dcos
}

#[test]
fn what_is_not_given_is_as_in_packaged_dcos() {
    let dcos = valid(&json!({}));
    assert_eq!(dcos, Dcos::default());
    assert!(dcos.enabled && dcos.ipv6);
    let listeners: Vec<String> = dcos.listeners.iter().map(ToString::to_string).collect();
    assert_eq!(
        listeners,
        [
            "198.51.100.1:53",
            "198.51.100.2:53",
            "198.51.100.3:53",
            "[fd01:d::c633:6401]:53"
        ]
    );
    assert_eq!(dcos.rest_listener.to_string(), "127.0.0.1:62080");
    let api = dcos.operator_api(false, None);
    assert_eq!(api.readiness.settle, Duration::from_secs(10));
    assert_eq!(api.reconnect.longest, Duration::from_secs(30));
}

#[test]
fn every_key_is_read() {
    let dcos = valid(&json!({
        "enabled": false, "node_ip": "10.0.0.1", "masters": ["10.0.0.1", "fd00::1"],
        "public_ips": ["192.0.2.1"], "detect_ip_public": "/bin/detect_ip_public", "ipv6": false,
        "vip_ipv4_range": ["11.0.0.0", "11.255.255.254"],
        "vip_ipv6_range": ["fd01:c::", "fd01:c::ff"], "vip_file": "/x", "cluster_id": ID,
        "static_zones": {
            "component.thisdcos.directory":
                [{"type": "cname", "name": "registry", "value": "master.dcos.thisdcos.directory"}],
            "contoso.com": [{"type": "DNAME", "name": "@", "value": "mesos.x.dcos.directory", "ttl": 60},
                {"type": "TXT", "name": "@", "value": "a".repeat(300)}]},
        "forward_zones": {"Example.com": ["192.0.2.1", "192.0.2.2:5353", "fd00::1", "[fd00::1]:54"]},
        "upstreams": ["9.9.9.9"], "listeners": ["127.0.0.1:5353"], "rest_listener": "127.0.0.1:1",
        "mesos_source": "events", "on_redirect": "wait", "max_record_bytes": 65536,
        "recovered_agents_timeout_seconds": 1.5, "settle_seconds": 0, "reconnect_min_seconds": 1,
        "reconnect_max_seconds": 2, "leader_poll_seconds": 3, "connect_timeout_seconds": 4,
        "response_timeout_seconds": 5, "public_ip_refresh_seconds": 6,
        "upstream_timeout_seconds": 7, "forward_timeout_seconds": 8,
        "tcp_idle_timeout_seconds": 9,
    }));
    assert_eq!(
        dcos.cluster_id,
        ClusterIdSource::Given(ClusterId::from_text(ID).unwrap())
    );
    let forward = &dcos.forward_zones[&Name::from_text("example.com").unwrap()];
    let forward: Vec<String> = forward.iter().map(ToString::to_string).collect();
    assert_eq!(
        forward,
        [
            "192.0.2.1:53",
            "192.0.2.2:5353",
            "[fd00::1]:53",
            "[fd00::1]:54"
        ]
    );
    let contoso = &dcos.static_zones["contoso.com"];
    assert_eq!((contoso[0].ttl, contoso[1].ttl), (60, TTL));
    let Rdata::Txt(strings) = &contoso[1].data else {
        panic!("{contoso:?}");
    };
    assert_eq!(strings.iter().map(Vec::len).collect::<Vec<_>>(), [255, 45]);
    assert_eq!(dcos.times.recovered_agents, Duration::from_millis(1500));
    assert_eq!(
        dcos.operator_api(true, None).on_redirect,
        OnRedirect::Wait(Duration::from_secs(3))
    );
    // Nothing is left as it was, or this test does not look.
    let default = Dcos::default();
    assert!(!dcos.enabled && !dcos.ipv6 && !dcos.follows_redirects);
    assert!(dcos.masters != default.masters && dcos.public_ips != default.public_ips);
    assert!(dcos.vip_ipv4_range != default.vip_ipv4_range);
    assert!(dcos.vip_ipv6_range != default.vip_ipv6_range);
    assert!(dcos.upstreams != default.upstreams && dcos.listeners != default.listeners);
}

#[test]
fn mistakes_name_key_value_and_what_is_accepted() {
    for (member, value) in [
        ("enabled", json!("yes")),
        ("node_ip", json!("node")),
        ("masters", json!("10.0.0.1")),
        ("masters", json!(["10.0.0.1", 7])),
        ("vip_ipv4_range", json!(["11.0.0.1", "11.0.0.0"])),
        ("vip_ipv4_range", json!(["11.0.0.0"])),
        ("vip_ipv6_range", json!(["11.0.0.0", "11.0.0.1"])),
        ("cluster_id", json!("yor6")),
        ("cluster_key_file", json!("/does/not/exist")),
        ("cluster_key_node", json!("navstar_key")),
        ("static_zones", json!([])),
        ("forward_zones", json!(7)),
        ("upstreams", json!(["example.com"])),
        ("rest_listener", json!("62080")),
        ("mesos_source", json!("both")),
        ("on_redirect", json!(true)),
        ("max_record_bytes", json!(1)),
        ("settle_seconds", json!(-1)),
        ("settle_seconds", json!("10")),
        ("reconnect_min_seconds", json!(60)),
        ("reconnect_min_seconds", json!(0)),
    ] {
        let reading = read(&json!({ member: value }));
        let [wrong] = reading.wrong.as_slice() else {
            panic!("{member} = {value}: {:?}", reading.wrong);
        };
        assert_eq!(wrong.key, format!("dcos.{member}"));
        assert_eq!(wrong.value, value.to_string());
        assert!(!wrong.accepted.is_empty());
        assert!(wrong.message.starts_with(&wrong.key), "{}", wrong.message);
    }
    assert_eq!(read(&json!(7)).wrong.len(), 1);
    assert_eq!(read(&json!({"nodeip": 1})).unknown, ["nodeip"]);
    let two = read(&json!({"cluster_id": ID, "cluster_key_node": "/navstar_key"}));
    assert_eq!(two.wrong.len(), 1);
}

#[test]
fn static_zones_are_checked() {
    for zones in [
        json!({"l4lb.thisdcos.directory": []}),
        json!({"a.example": 7}),
        json!({"a.example": [{"type": "MX", "name": "a", "value": "b"}]}),
        json!({"a.example": [{"type": "A", "name": "a", "value": "::1"}]}),
        json!({"a.example": [{"type": "A", "name": "a"}]}),
        json!({"a.example": [{"type": "A", "value": "1.1.1.1"}]}),
        json!({"a.example": [{"type": "A", "name": "a", "value": "1.1.1.1", "ttl": -1}]}),
        json!({"a..example": []}),
        json!({"a.example": [{"type": "CNAME", "name": "a", "value": "b"},
            {"type": "A", "name": "a", "value": "1.1.1.1"}]}),
    ] {
        let reading = read(&json!({"static_zones": zones}));
        assert_eq!(reading.wrong.len(), 1, "{zones}: {:?}", reading.wrong);
    }
}
