//! Every key, every check and every text of a configuration.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::*;
use crate::forwarder::TtlBounds;

const PATH: &str = "/etc/mesos-dns/config.json";

fn host() -> Surroundings {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    Surroundings {
        home: None,
        directory: "/".into(),
        name_servers: vec![ip("10.0.0.1"), ip("10.0.0.2")],
        addresses: vec![ip("127.0.0.1"), ip("10.0.0.1")],
        is_served: true,
    }
}

fn checked(body: &str) -> Checked {
    check_text(body.as_bytes(), Path::new(PATH), &host())
}

/// Members added to a configuration that is otherwise valid.
fn with(members: &str) -> Checked {
    checked(&format!(r#"{{"masters":["10.1.0.1:5050"],{members}}}"#))
}

fn config(members: &str) -> Config {
    let checked = with(members);
    assert_eq!(checked.problems, [], "{members}");
    checked.config.unwrap()
}

fn tls_fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/tls")
        .join(name)
}

/// A file of this test with some content.
fn file(name: &str, content: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("mesos-xdns-{}-{name}", std::process::id()));
    fs::write(&path, content).unwrap();
    path
}

#[test]
fn defaults_are_those_of_mesos_dns() {
    let config = config(r#""Zk":"""#);
    assert_eq!(config.refresh_seconds, 60);
    assert_eq!((config.port, config.http_port), (53, 8123));
    assert_eq!(config.timeout_seconds, 5);
    assert_eq!(config.state_timeout_seconds, 300);
    assert_eq!(config.zk_detection_timeout_seconds, 30);
    assert_eq!((config.ttl, config.srv_weight), (60, 1));
    assert_eq!(
        (config.soa_refresh, config.soa_retry, config.soa_expire),
        (60, 600, 86400)
    );
    assert_eq!(config.soa_minttl, None);
    assert_eq!(config.soa_mname, "ns1.mesos.");
    assert_eq!(config.soa_rname, "root.ns1.mesos.");
    assert_eq!(config.resolvers, ["8.8.8.8"]);
    assert_eq!(
        config.ip_sources,
        [IpSource::Netinfo, IpSource::Mesos, IpSource::Host]
    );
    assert_eq!(config.domain, "mesos");
    assert_eq!(config.file, PATH);
    assert_eq!(
        (&*config.listener, &*config.http_listener),
        ("0.0.0.0", "0.0.0.0")
    );
    assert!(config.recurse_on && config.dns_on && config.http_on && config.external_on);
    assert!(config.set_truncate_bit && config.enumeration_on);
    assert!(!config.enforce_rfc952 && !config.mesos_https_on);
    assert_eq!(config.xdp, Xdp::default());
    assert_eq!(config.cache, CacheSettings::default());
}

#[test]
fn every_key_is_read_in_any_case() {
    let config = config(
        r#""REFRESHSECONDS":7,"port":5353,"timeout":2,"stateTimeoutSeconds":9,"zkdetectiontimeout":-3,
        "HTTPPort":80,"Ttl":5,"srvrecorddefaultweight":10,"SOASerial":42,"soarefresh":1,"soaretry":2,
        "soaexpire":3,"soaminttl":4,"soamname":"NS.Mesos..","SOARname":"me@x@y.","zk":"zk://a/b",
        "ZoneResolvers":{"Corp.Example":["10.0.0.9:53","[2001:db8::1]:53","2001:db8::2"]},
        "resolvers":["1.1.1.1","1.0.0.1:54"],"ipsources":["host","docker"],"domain":"Example.ORG",
        "file":"elsewhere","listener":"::1","httplistener":"localhost","recurseon":false,"dnson":false,
        "externalon":true,"enforcerfc952":true,"settruncatebit":false,"enumerationon":false,
        "mesoshttpson":true,"mesoscredentials":{"PRINCIPAL":"me","secret":"hush"},
        "mesosauthentication":"basic",
        "XDP":{"interfaces":["eth0"],"mode":"generic","max_names":7,"pin_path":"/p","on_exit":"detach",
        "allow_generic":true,"tc":false,"lease_seconds":9},
        "Cache":{"MAX_BYTES":0,"min_ttl":1,"max_ttl":2,"negative_max_ttl":3,"serve_stale":4,
        "prefetch":5}"#,
    );
    assert_eq!(config.refresh_seconds, 7);
    assert_eq!((config.port, config.http_port), (5353, 80));
    assert_eq!(
        (config.timeout_seconds, config.state_timeout_seconds),
        (2, 9)
    );
    assert_eq!(config.zk_detection_timeout_seconds, 0);
    assert_eq!((config.ttl, config.srv_weight), (5, 10));
    assert_eq!((config.soa_serial, config.soa_minttl), (42, Some(4)));
    assert_eq!(
        (config.soa_refresh, config.soa_retry, config.soa_expire),
        (1, 2, 3)
    );
    assert_eq!(config.soa_mname, "NS.Mesos.");
    assert_eq!(config.soa_rname, "me.x.y.");
    assert_eq!(config.zk, "zk://a/b");
    assert_eq!(config.zone_resolvers["Corp.Example"].len(), 3);
    assert_eq!(config.resolvers, ["1.1.1.1", "1.0.0.1:54"]);
    assert_eq!(config.ip_sources, [IpSource::Host, IpSource::Docker]);
    assert_eq!(config.domain, "example.org");
    assert_eq!(config.file, "elsewhere");
    assert_eq!(
        (&*config.listener, &*config.http_listener),
        ("::1", "localhost")
    );
    assert!(!config.recurse_on && !config.dns_on && !config.set_truncate_bit);
    assert!(config.enforce_rfc952 && !config.enumeration_on && config.mesos_https_on);
    assert_eq!(config.authentication, Authentication::Basic);
    assert_eq!(config.mesos_credentials.secret.expose(), "hush");
    assert_eq!(
        config.xdp,
        Xdp {
            interfaces: vec!["eth0".into()],
            mode: XdpMode::Generic,
            allow_generic: true,
            tc: false,
            max_names: 7,
            pin_path: "/p".into(),
            on_exit: OnExit::Detach,
            lease_seconds: 9,
            trace: false,
        }
    );
    assert_eq!(
        config.cache,
        CacheSettings {
            max_octets: 0,
            ttl: TtlBounds {
                min: 1,
                max: 2,
                negative_max: 3,
            },
            serve_stale: 4,
            prefetch: 5,
        }
    );
}

#[test]
fn the_last_of_several_wins_and_null_is_the_default() {
    let config = config(
        r#""TTL":1,"ttl":2,"Ttl":3,"port":7,"Port":null,"Timeout":0,"Resolvers":["9.9.9.9"]"#,
    );
    assert_eq!((config.ttl, config.port, config.timeout_seconds), (3, 7, 5));
}

#[test]
fn an_empty_list_of_resolvers_takes_those_of_the_host() {
    for empty in ["[]", "null"] {
        let config = config(&format!(r#""Resolvers":{empty}"#));
        assert_eq!(config.resolvers, ["10.0.0.2"], "{empty}");
    }
    // Without forwarding nobody looks.
    assert_eq!(
        config(r#""Resolvers":[],"ExternalOn":false"#).resolvers,
        Vec::<String>::new()
    );
}

#[test]
fn the_secret_is_never_shown() {
    let checked = with(
        r#""MesosCredentials":{"Principal":"me","Secret":"hush"},"MesosAuthentication":"basic""#,
    );
    assert!(!format!("{checked:?}").contains("hush"));
    let wrong = with(r#""MesosCredentials":["hush"]"#);
    assert_eq!(wrong.problems.len(), 1);
    assert!(!format!("{wrong:?}").contains("hush"));
    let wrong = with(r#""MesosCredentials":{"Secret":["hush"]}"#);
    assert!(!format!("{wrong:?}").contains("hush"));
    assert_eq!(Secret::new("hush".into()).to_string(), "********");
}

#[test]
fn unknown_and_legacy_keys_are_named() {
    let warnings =
        with(r#""ns":"x","Mname":"y","Colour":1,"xdp":{"colour":2},"cache":{"size":3}"#).warnings;
    assert_eq!(
        warnings,
        [
            "key \"ns\" of an older mesos-dns has no effect",
            "key \"Mname\" of an older mesos-dns has no effect",
            "unknown key \"Colour\" is ignored",
            "unknown key \"xdp.colour\" is ignored",
            "unknown key \"cache.size\" is ignored",
        ]
    );
}

#[test]
fn credentials_without_authentication_are_warned_about() {
    let warnings = with(r#""MesosCredentials":{"Principal":"me"},"IAMConfigFile":"/x""#).warnings;
    assert_eq!(warnings.len(), 2);
    assert_eq!(
        warnings[0],
        "Warning! MesosCredentials is configured, but MesosAuthentication is set to none. This is \
         probably not intentional"
    );
}

/// Members, the key at fault, and the words of mesos-dns.
#[rustfmt::skip]
const REFUSED: &[(&str, &str, &str)] = &[
    (r#""DnsOn":false,"HttpOn":false"#, "DnsOn", "service validation failed: either DNS or HTTP server should be on"),
    (r#""Masters":[]"#, "Masters", "service validation failed: specify Mesos masters or Zookeeper in config.json"),
    (r#""Masters":["127.0.0.1"]"#, "Masters", "error validating masters: illegal host:port specified: 127.0.0.1. Error: address 127.0.0.1: missing port in address"),
    (r#""Masters":["::1:5050"]"#, "Masters", "error validating masters: illegal host:port specified: ::1:5050. Error: address ::1:5050: too many colons in address"),
    (r#""Masters":["127.0.0.1:0"]"#, "Masters", "error validating masters: illegal host:port specified: 127.0.0.1:0"),
    (r#""Masters":["127.0.0.1:65536"]"#, "Masters", "error validating masters: illegal host:port specified: 127.0.0.1:65536"),
    (r#""Masters":["a:1","a:1"]"#, "Masters", "error validating masters: duplicate found: a:1"),
    (r#""Masters":["[::1]:1","[0::1]:1"]"#, "Masters", "error validating masters: duplicate found: [0::1]:1"),
    (r#""Resolvers":["dns.google"]"#, "Resolvers", "error validating resolvers: illegal ip specified: dns.google"),
    (r#""Resolvers":["1.1.1.1","1.1.1.1:53"]"#, "Resolvers", "error validating resolvers: duplicate found: 1.1.1.1:53"),
    (r#""Resolvers":["1.1.1.1:0"]"#, "Resolvers", "error validating resolvers: illegal host:port specified: 1.1.1.1:0"),
    (r#""ZoneResolvers":{"a.b":[]}"#, "ZoneResolvers", "field ZoneResolver a.b is empty"),
    (r#""ZoneResolvers":{"x.":["1.1.1.1"]}"#, "ZoneResolvers", "invalid domain name: x."),
    (r#""ZoneResolvers":{"Mesos":["1.1.1.1"]}"#, "ZoneResolvers", "can't specify ZoneResolver for Mesos domain (mesos)"),
    (r#""ZoneResolvers":{"a.com":["1.1.1.1"],"com":["1.1.1.1"]}"#, "ZoneResolvers", "ambiguous zone resolvers: .a.com is masked by .com"),
    (r#""ZoneResolvers":{"x.mesos":["1.1.1.1"]}"#, "ZoneResolvers", "ambiguous zone resolvers: .x.mesos is masked by .mesos"),
    (r#""ZoneResolvers":{"a.b":["x"]}"#, "ZoneResolvers", "illegal ip specified: x"),
    (r#""IPSources":[]"#, "IPSources", "IPSources validation failed: empty ip sources"),
    (r#""IPSources":["host","host"]"#, "IPSources", "IPSources validation failed: duplicate ip source specified"),
    (r#""IPSources":["rkt"]"#, "IPSources", "IPSources validation failed: invalid ip source \"rkt\""),
    (r#""StateTimeoutSeconds":0"#, "StateTimeoutSeconds", "Invalid HTTP Timeout: 0"),
    (r#""StateTimeoutSeconds":-5"#, "StateTimeoutSeconds", "Invalid HTTP Timeout: -5"),
    (r#""Domain":"mesos.""#, "Domain", "mesos. is not a valid domain name"),
    (r#""Domain":"a_b""#, "Domain", "a_b is not a valid domain name"),
    (r#""CACertFile":"/nowhere/ca""#, "CACertFile", "CACertFile open failed: open /nowhere/ca: no such file or directory"),
    (r#""CertFile":"/nowhere/c""#, "KeyFile", "Missing private key"),
    (r#""KeyFile":"/nowhere/k""#, "CertFile", "Missing certificate"),
    (r#""CertFile":"/nowhere/c","KeyFile":"/nowhere/k""#, "CertFile", "open /nowhere/c: no such file or directory"),
    (r#""MesosAuthentication":"kerberos""#, "MesosAuthentication", "unregistered factory requested"),
    (r#""MesosAuthentication":"basic""#, "MesosCredentials", "invalid HTTP Basic configuration"),
    (r#""MesosAuthentication":"iam""#, "IAMConfigFile", "missing configuration for specified authentication mechanism"),
    (r#""MesosAuthentication":"iam","IAMConfigFile":"/nowhere/i""#, "IAMConfigFile", "failed to load IAM config from file \"/nowhere/i\": open /nowhere/i: no such file or directory"),
    // What mesos-dns takes and cannot work with.
    (r#""Listener":"localhost""#, "Listener", "Listener \"localhost\" is not an IP address"),
    (r#""Masters":["127.1:5050"]"#, "Masters", "error validating masters: illegal host:port specified: 127.1:5050. Error: \"127.1\" is neither a name nor an IP address"),
    (r#""Masters":["0177.0.0.1:5050"]"#, "Masters", "error validating masters: illegal host:port specified: 0177.0.0.1:5050. Error: \"0177.0.0.1\" is neither a name nor an IP address"),
    (r#""Masters":[":5050"]"#, "Masters", "error validating masters: illegal host:port specified: :5050. Error: \"\" is neither a name nor an IP address"),
    (r#""Resolvers":["127.0.0.1"]"#, "Resolvers", "upstream 127.0.0.1:53 is this server itself, listening at 127.0.0.1:53"),
    (r#""Listener":"10.9.9.9","Port":54,"Resolvers":["10.9.9.9","10.9.9.9:54"]"#, "Resolvers", "upstream 10.9.9.9:54 is this server itself, listening at 10.9.9.9:54"),
    (r#""ZoneResolvers":{"a.b":["10.0.0.1"]}"#, "ZoneResolvers", "upstream 10.0.0.1:53 is this server itself, listening at 10.0.0.1:53"),
    (r#""Listener":"10.0.0.1","dcos":{"upstreams":["198.51.100.2"]}"#, "dcos.upstreams", "upstream 198.51.100.2:53 is this server itself, listening at 198.51.100.2:53"),
    (r#""dcos":{"forward_zones":{"a.b":["10.0.0.1"]}}"#, "dcos.forward_zones", "upstream 10.0.0.1:53 is this server itself, listening at 10.0.0.1:53"),
    (r#""Port":8123"#, "HttpPort", "HttpPort: 0.0.0.0:8123 is taken by Port"),
    (r#""Listener":"10.0.0.1","Port":8123,"HTTPListener":"""#, "HttpPort", "HttpPort: [::]:8123 is taken by Port"),
    (r#""HttpPort":62080,"dcos":{}"#, "dcos.rest_listener", "dcos.rest_listener: 127.0.0.1:62080 is taken by HttpPort"),
    (r#""Listener":"10.0.0.1","dcos":{"listeners":["10.0.0.2","10.0.0.2:53"]}"#, "dcos.listeners", "dcos.listeners: 10.0.0.2:53 is taken by dcos.listeners"),
    (r#""RefreshSeconds":0"#, "RefreshSeconds", "RefreshSeconds is out of range: 0"),
    (r#""RefreshSeconds":-1"#, "RefreshSeconds", "RefreshSeconds is out of range: -1"),
    (r#""Timeout":-1"#, "Timeout", "Timeout is out of range: -1"),
    (r#""TTL":-1"#, "TTL", "TTL is negative: -1"),
    (r#""Port":70000"#, "Port", "Port is no port: 70000"),
    (r#""xdp":{"mode":"fast"}"#, "xdp.mode", "xdp.mode is not known: \"fast\""),
    (r#""xdp":{"max_names":0}"#, "xdp.max_names", "xdp.max_names is too small: 0"),
    (r#""xdp":{"pin_path":"bpf"}"#, "xdp.pin_path", "xdp.pin_path is not absolute: \"bpf\""),
    (r#""cache":{"max_bytes":1}"#, "cache.max_bytes", "cache.max_bytes is too small: 1"),
    (r#""cache":{"min_ttl":-1}"#, "cache.min_ttl", "cache.min_ttl is negative: -1"),
    (r#""cache":{"min_ttl":9,"Max_TTL":8}"#, "cache.max_ttl", "cache.max_ttl leaves no TTL: min_ttl passes max_ttl: 8"),
    (r#""cache":{"serve_stale":604801}"#, "cache.serve_stale", "cache.serve_stale is too large: 604801"),
    (r#""reverse":{"networks":["10.0.0.1/8"]}"#, "reverse.networks", "reverse.networks is no network: \"10.0.0.1/8\""),
    (r#""cache":{"prefetch":91}"#, "cache.prefetch", "cache.prefetch is too large: 91"),
];

#[test]
fn what_cannot_work_is_refused_in_the_words_of_mesos_dns() {
    for &(members, key, message) in REFUSED {
        let problems = with(members).problems;
        assert_eq!(problems.len(), 1, "{members}: {problems:?}");
        let problem = &problems[0];
        assert_eq!(problem.message, message, "{members}");
        assert_eq!(problem.key.as_deref(), Some(key), "{members}");
        let text = problem.to_string();
        assert!(
            text.starts_with(&format!("{PATH}: {message} ({key} = ")),
            "{text}"
        );
        assert!(problem.accepted.is_some(), "{members}");
    }
}

/// Members and the decoder's words after its prefix.
#[rustfmt::skip]
const WRONG_TYPES: [(&str, &str); 14] = [
    (r#""Port":"53""#, "string into Go struct field Config.Port of type int"),
    (r#""port":53.5"#, "number 53.5 into Go struct field Config.Port of type int"),
    (r#""RefreshSeconds":true"#, "bool into Go struct field Config.RefreshSeconds of type int"),
    (r#""TTL":2147483648"#, "number 2147483648 into Go struct field Config.TTL of type int32"),
    (r#""SRVRecordDefaultWeight":65536"#, "number 65536 into Go struct field Config.SRVRecordDefaultWeight of type uint16"),
    (r#""SOARefresh":-1"#, "number -1 into Go struct field Config.SOARefresh of type uint32"),
    (r#""SOAMinttl":4294967296"#, "number 4294967296 into Go struct field Config.SOAMinttl of type uint32"),
    (r#""Masters":"a:1""#, "string into Go struct field Config.Masters of type []string"),
    (r#""Masters":[1]"#, "number into Go struct field Config.Masters of type string"),
    (r#""Domain":1"#, "number into Go struct field Config.Domain of type string"),
    (r#""DnsOn":"yes""#, "string into Go struct field Config.DnsOn of type bool"),
    (r#""ZoneResolvers":[]"#, "array into Go struct field Config.ZoneResolvers of type map[string][]string"),
    (r#""ZkDetectionTimeout":{}"#, "object into Go struct field Config.ZkDetectionTimeout of type int"),
    (r#""StateTimeoutSeconds":"5""#, "string into Go struct field Config.StateTimeoutSeconds of type int"),
];

#[test]
fn wrong_types_are_refused_in_the_words_of_the_decoder() {
    for (members, words) in WRONG_TYPES {
        let problems = with(members).problems;
        assert_eq!(problems.len(), 1, "{members}: {problems:?}");
        assert_eq!(
            problems[0].message,
            format!("failed to unmarshal config file \"{PATH}\": json: cannot unmarshal {words}")
        );
    }
}

/// What is off, elsewhere, or of another family is not in the way.
#[test]
fn addresses_that_can_be_together_are_taken() {
    for members in [
        r#""ExternalOn":false,"Resolvers":["127.0.0.1"]"#,
        r#""Listener":"10.0.0.2","Resolvers":["10.0.0.1"]"#,
        r#""Listener":"10.0.0.2","Port":8123,"HTTPListener":"10.0.0.1""#,
        r#""Listener":"::","Port":8123,"HTTPListener":"10.0.0.1""#,
        r#""HttpOn":false,"Port":8123"#,
        r#""DnsOn":false,"Port":8123"#,
        r#""Port":0,"HttpPort":0"#,
        r#""HttpPort":62080,"dcos":{"enabled":false}"#,
        r#""dcos":{"listeners":["10.0.0.1","10.0.0.1"]}"#,
    ] {
        config(members);
    }
}

/// Go's decoder skips what it does not know, and repairs text (mesos-dns takes all of these).
#[test]
fn unknown_keys_may_have_any_value_of_json() {
    let deep = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
    for value in [
        "1e400",
        "-1E+999999",
        r#""\ud800x""#,
        r#"{"\udc00":[1e400]}"#,
        &deep,
    ] {
        let checked = with(&format!(r#""_remark":{value},"\ud800":0"#));
        assert_eq!(checked.problems, []);
        assert_eq!(checked.warnings.len(), 2, "{:?}", checked.warnings);
    }
    assert_eq!(
        config(r#""File":"\ud800x\udfff""#).file,
        "\u{fffd}x\u{fffd}"
    );
    assert_eq!(config(r#""TTL":7,"SOASerial":null"#).ttl, 7);
}

#[test]
fn numbers_and_nesting_beyond_all_bounds_are_refused_by_name() {
    let deep = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
    for (key, value, shown, words) in [
        (
            "TTL",
            "1e400",
            Some("1e400"),
            "TTL: the number 1e400 is out of range",
        ),
        (
            "xdp",
            r#"{"a":[1e400]}"#,
            Some("1e400"),
            "xdp: the number 1e400 is out of range",
        ),
        (
            "Masters",
            &deep,
            None,
            "Masters: lists and objects are nested more than 64 deep",
        ),
    ] {
        // In any case, and what follows is read.
        let lower = key.to_lowercase();
        let problems = checked(&format!(
            r#"{{"zk":"zk://10.0.0.1:1/m","{lower}":{value},"Port":-1}}"#
        ));
        let [problem, port] = &problems.problems[..] else {
            panic!("{key}: {problems:?}");
        };
        assert_eq!(problem.key.as_deref(), Some(key));
        assert_eq!(problem.value.as_deref(), shown);
        let message = format!("failed to unmarshal config file \"{PATH}\": {words}");
        assert_eq!(problem.message, message);
        assert_eq!(port.key.as_deref(), Some("Port"));
    }
}

#[test]
fn text_that_is_no_json_object_is_refused() {
    for body in [
        "",
        "{",
        "{} x",
        "\u{feff}{}",
        "[]",
        "{/* */}",
        r#"{"a":1,}"#,
    ] {
        let problems = checked(body).problems;
        assert_eq!(problems.len(), 1, "{body}");
        let start = format!("failed to unmarshal config file \"{PATH}\": ");
        assert!(problems[0].message.starts_with(&start), "{}", problems[0]);
    }
}

#[test]
fn a_missing_file_is_named_with_its_absolute_path() {
    let problem = load(Path::new("nowhere.json"), &host()).unwrap_err();
    assert_eq!(
        problem.message,
        "missing configuration file: \"/nowhere.json\""
    );
}

#[test]
fn a_check_finds_everything_and_a_load_the_first() {
    let body = r#"{"Masters":["a"],"IPSources":["rkt"],"Domain":"a_b","Listener":"x","TTL":-1,
        "Resolvers":["x"],"RefreshSeconds":0}"#;
    let keys: Vec<String> = checked(body)
        .problems
        .into_iter()
        .filter_map(|problem| problem.key)
        .collect();
    assert_eq!(
        keys,
        [
            "Masters",
            "Resolvers",
            "IPSources",
            "Domain",
            "Listener",
            "TTL",
            "RefreshSeconds"
        ]
    );
    let path = file("several.json", body);
    let problem = load(&path, &host()).unwrap_err();
    assert_eq!(problem.key.as_deref(), Some("Masters"));
    fs::remove_file(path).unwrap();
}

#[test]
fn masters_may_be_names() {
    let config = config(r#""Masters":["master.example:5050","[::1]:5050"]"#);
    assert_eq!(config.masters.len(), 2);
}

#[test]
fn certificates_are_read_and_matched() {
    let [certificate, key, other] = ["client.pem", "client.key", "other.key"].map(tls_fixture);
    let members = |certificate: &Path, key: &Path| {
        format!(
            r#""CACertFile":{:?},"CertFile":{certificate:?},"KeyFile":{key:?}"#,
            tls_fixture("client.pem")
        )
    };
    let config = config(&members(&certificate, &key));
    assert!(config.tls.ca.is_some() && config.tls.identity.is_some());
    assert!(!format!("{config:?}").contains("PRIVATE"));

    for (certificate, key, at_fault) in [
        (&certificate, &other, "KeyFile"),
        (&certificate, &certificate, "KeyFile"),
        (&key, &other, "CertFile"),
    ] {
        let problems = with(&members(certificate, key)).problems;
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].key.as_deref(), Some(at_fault));
    }
    let problems = with(&format!(r#""CACertFile":{key:?}"#)).problems;
    assert_eq!(problems[0].message, "CACertFile parsing failed: <nil>");
}

#[test]
fn the_iam_file_is_read_and_checked() {
    let with_file = |name: &str, content: &str| {
        let path = file(name, content);
        let checked = with(&format!(
            r#""MesosAuthentication":"iam","IAMConfigFile":{path:?}"#
        ));
        fs::remove_file(path).unwrap();
        checked
    };
    let account = |key: &str| {
        let key = fs::read_to_string(tls_fixture(key)).unwrap();
        let endpoint = "https://x/login";
        serde_json::json!({"Uid": "me", "PRIVATE_KEY": key, "login_Endpoint": endpoint}).to_string()
    };
    let good = with_file("iam.json", &account("iam.key"));
    assert!(!format!("{good:?}").contains("PRIVATE"));
    let Authentication::Iam(iam) = good.config.unwrap().authentication else {
        panic!("not iam");
    };
    assert_eq!((&*iam.uid, &*iam.login_endpoint), ("me", "https://x/login"));

    let problems = with_file("iam-half.json", r#"{"uid":"me"}"#).problems;
    assert_eq!(problems[0].message, "invalid HTTP IAM configuration");
    let problems = with_file("iam-bad.json", r#"{"uid":"me","private_key":["hush"]}"#).problems;
    assert_eq!(
        problems[0].message,
        "invalid IAM JSON: private_key is no text"
    );
    assert!(!format!("{problems:?}").contains("hush"));
    // An elliptic curve cannot sign by RS256, and neither can a certificate.
    for other in ["client.key", "client.pem"] {
        let problems = with_file("iam-other.json", &account(other)).problems;
        let text = problems[0].to_string();
        assert!(
            text.contains("private_key of the IAM account cannot be used: ")
                && text.contains("iam-other.json\""),
            "{text}"
        );
        assert!(!text.contains("PRIVATE") && !text.contains("MII"), "{text}");
    }
}

#[test]
fn record_settings_follow_the_configuration() {
    let settings =
        config(r#""EnforceRFC952":true,"TTL":9,"listener":"0.0.0.0""#).record_settings(&[
            "127.0.0.1".parse().unwrap(),
            "10.0.0.1".parse().unwrap(),
            "fe80::1".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        ]);
    assert_eq!(settings.labels, LabelRule::Rfc952);
    assert_eq!(settings.soa.minimum, 9);
    let shown: Vec<String> = settings
        .name_server
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(shown, ["10.0.0.1", "2001:db8::1"]);
    let settings = config(r#""SOAMinttl":7,"Listener":"::""#).record_settings(&[]);
    assert_eq!(settings.soa.minimum, 7);
    assert_eq!(settings.name_server.addresses[0].to_string(), "::");
}

#[test]
fn what_is_served_over_tls_needs_a_good_certificate() {
    let [certificate, key, other] = ["client.pem", "client.key", "other.key"].map(|name| {
        let path = tls_fixture(name);
        format!("{:?}", path.display().to_string())
    });
    let none = r#""/none.key""#.to_owned();
    let tls = |members: &str| format!(r#""server":{{"tls":{{{members}}}}}"#);
    let listeners = r#""listeners":["0.0.0.0:853","[::]:853"]"#;
    let good = format!(r#"{listeners},"certificate":{certificate},"key":{key}"#);
    let server = config(&tls(&good)).server;
    assert_eq!(server.tls.listeners.len(), 2);
    assert!(server.https.listeners.is_empty());
    // What is off is not looked at.
    config(&tls(r#""certificate":"/nonexistent""#));
    for (members, problem) in [
        (
            format!(r#"{listeners},"key":{key}"#),
            "server.tls.certificate is missing beside listeners (server.tls.certificate = \"\"; accepted: a file in PEM \
             with the chain, its own certificate first)",
        ),
        (
            format!(r#"{listeners},"certificate":{certificate}"#),
            "server.tls.key is missing beside listeners (server.tls.key = \"\"; accepted: a file in PEM with the \
             private key of the certificate)",
        ),
        (
            format!(r#"{listeners},"certificate":"/none.pem","key":{key}"#),
            "open /none.pem: no such file or directory (server.tls.certificate = \"/none.pem\"; \
             accepted: a certificate and its key, each a file in PEM)",
        ),
        (
            r#""listeners":["0.0.0.0"]"#.to_owned(),
            "server.tls.listeners is not understood: \"0.0.0.0\" (server.tls.listeners = \"0.0.0.0\"; accepted: a list of \
             address:port such as 0.0.0.0:853)",
        ),
    ] {
        let problems = with(&tls(&members)).problems;
        let [found] = &problems[..] else {
            panic!("{members}: {problems:?}");
        };
        assert_eq!(found.to_string(), format!("{PATH}: {problem}"), "{members}");
    }
    // The file that is at fault is the one that is named.
    for (files, at_fault) in [
        ((&certificate, &other), ("key", &other)),
        ((&certificate, &none), ("key", &none)),
        ((&certificate, &certificate), ("key", &certificate)),
        ((&key, &other), ("certificate", &key)),
    ] {
        let members = format!(r#"{listeners},"certificate":{},"key":{}"#, files.0, files.1);
        let problems = with(&tls(&members)).problems;
        let [problem] = &problems[..] else {
            panic!("{members}: {problems:?}");
        };
        let place = format!("server.tls.{}", at_fault.0);
        assert_eq!(problem.key.as_ref(), Some(&place), "{members}");
        assert_eq!(problem.value.as_ref(), Some(at_fault.1), "{members}");
        let path = at_fault.1.trim_matches('"');
        assert!(problem.message.contains(path), "{problem}");
    }
    let unknown = with(r#""server":{"https":{"path":"/dns-query"}}"#);
    assert!(format!("{:?}", unknown.warnings).contains("server.https.path"));
}

#[test]
fn what_is_not_served_here_may_have_our_addresses() {
    let body = r#"{"masters":["10.1.0.1:5050"],"resolvers":["10.0.0.1"]}"#;
    let problems =
        |host: &Surroundings| check_text(body.as_bytes(), Path::new(PATH), host).problems;
    let elsewhere = Surroundings {
        is_served: false,
        ..host()
    };
    assert_eq!(problems(&host()).len(), 1);
    assert_eq!(problems(&elsewhere), []);
}

#[test]
fn an_address_is_listened_at_once() {
    let [certificate, key] = ["client.pem", "client.key"].map(tls_fixture);
    let of = |name: &str, at: &str| {
        format!(r#""{name}":{{"listeners":["{at}"],"certificate":{certificate:?},"key":{key:?}}}"#)
    };
    let both = |tls: &str, https: &str| {
        let members = format!(r#""server":{{{},{}}}"#, of("tls", tls), of("https", https));
        with(&members).problems
    };
    assert_eq!(both("10.0.0.1:853", "10.0.0.1:443"), []);
    assert_eq!(both("0.0.0.0:853", "[::]:853"), []);
    for (tls, https, key, message) in [
        (
            "10.0.0.1:853",
            "0.0.0.0:853",
            "server.https.listeners",
            "server.https.listeners: 0.0.0.0:853 is taken by server.tls.listeners",
        ),
        (
            "10.0.0.1:53",
            "10.0.0.1:443",
            "server.tls.listeners",
            "server.tls.listeners: 10.0.0.1:53 is taken by Port",
        ),
        (
            "10.0.0.1:853",
            "10.0.0.1:8123",
            "server.https.listeners",
            "server.https.listeners: 10.0.0.1:8123 is taken by HttpPort",
        ),
    ] {
        let problems = both(tls, https);
        let [problem] = &problems[..] else {
            panic!("{tls} {https}: {problems:?}");
        };
        let found = (problem.key.as_deref(), &*problem.message);
        assert_eq!(found, (Some(key), message));
    }
}
