//! Reading the `config.json` of mesos-dns: types, defaults, and the rules of Go's JSON decoder
//! (keys in any case, the last of several wins, `null` is the default or the empty list).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::found::Found;
use super::members;
use super::{
    Authentication, Config, Credentials, Problem, Secret, Server, Tls, Transfer, Xdp, cache, dcos,
    reverse, transfer,
};
use crate::forwarder::CacheSettings;
use crate::records::reverse::Reverse;
use crate::zones::Name;

/// Every key, spelled as `/v1/config` spells it.
pub const KEYS: [&str; 45] = [
    "RefreshSeconds",
    "Port",
    "Timeout",
    "StateTimeoutSeconds",
    "ZkDetectionTimeout",
    "HttpPort",
    "TTL",
    "SRVRecordDefaultWeight",
    "SOASerial",
    "SOARefresh",
    "SOARetry",
    "SOAExpire",
    "SOAMinttl",
    "SOAMname",
    "SOARname",
    "Masters",
    "ZoneResolvers",
    "Resolvers",
    "IPSources",
    "Zk",
    "Domain",
    "File",
    "Listener",
    "HTTPListener",
    "RecurseOn",
    "DnsOn",
    "HttpOn",
    "ExternalOn",
    "EnforceRFC952",
    "SetTruncateBit",
    "EnumerationOn",
    "MesosHTTPSOn",
    "CACertFile",
    "CertFile",
    "KeyFile",
    "MesosCredentials",
    "IAMConfigFile",
    "MesosAuthentication",
    "xdp",
    "cache",
    "transfer",
    "secondary",
    "reverse",
    "server",
    "dcos",
];

/// Keys of older versions, which their files still carry.
const LEGACY_KEYS: [&str; 3] = ["ns", "email", "mname"];

/// What was read, with everything found on the way. Validation goes on with it.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) path: PathBuf,
    pub(super) config: Config,
    /// `IPSources` as written; the typed list follows in validation.
    pub(super) ip_sources: Vec<String>,
    /// `StateTimeoutSeconds` as written.
    pub(super) state_timeout: i64,
    /// `MesosAuthentication` as written.
    pub(super) authentication: String,
    pub(super) problems: Vec<Problem>,
    /// Numbers that mesos-dns takes and cannot work with; they come after its own checks.
    pub(super) late: Vec<Problem>,
    pub(super) warnings: Vec<String>,
    /// The keys of TSIG that `transfer` and `secondary` name, with where they do.
    pub(super) named_keys: BTreeMap<&'static str, Vec<(String, Name)>>,
}

impl Reading {
    /// Notes what is wrong within an object.
    fn note(&mut self, wrong: Vec<dcos::Wrong>) {
        let problems = wrong.into_iter().map(|wrong| Problem {
            file: self.path.clone(),
            key: Some(wrong.key),
            value: Some(wrong.value),
            message: wrong.message,
            accepted: Some(wrong.accepted),
        });
        self.problems.extend(problems);
    }

    /// Takes an object, with all that was found on the way.
    fn take<T>(&mut self, key: &'static str, found: transfer::Found<T>) -> T {
        self.named_keys.insert(key, found.named_keys);
        self.note(found.wrong);
        self.warnings.extend(found.warnings);
        found.value
    }

    /// Notes a value that no key can have.
    fn unusable(&mut self, key: &str, unusable: &members::Unusable) {
        let value = match unusable {
            members::Unusable::Number(text) => Some(text.clone()),
            members::Unusable::Depth => None,
        };
        let key = known(key).unwrap_or(key);
        self.problems.push(Problem {
            file: self.path.clone(),
            key: Some(key.to_owned()),
            value,
            message: format!(
                "failed to unmarshal config file \"{}\": {key}: {unusable}",
                self.path.display()
            ),
            accepted: Some("numbers of 64 bits, and lists and objects as documented"),
        });
    }

    /// Notes a problem with a key, unless the key could not even be read.
    pub(super) fn problem(
        &mut self,
        key: &str,
        value: &impl fmt::Debug,
        message: String,
        accepted: &'static str,
    ) {
        let unreadable = |one: &Problem| one.key.as_deref() == Some(key);
        if !self.problems.iter().any(unreadable) {
            self.problems.push(Problem {
                file: self.path.clone(),
                key: Some(key.to_owned()),
                value: Some(format!("{value:?}")),
                message,
                accepted: Some(accepted),
            });
        }
    }
}

fn defaults(path: &Path) -> Config {
    Config {
        refresh_seconds: 60,
        port: 53,
        timeout_seconds: 5,
        state_timeout_seconds: 300,
        zk_detection_timeout_seconds: 30,
        http_port: 8123,
        ttl: 60,
        srv_weight: 1,
        soa_serial: 0,
        soa_refresh: 60,
        soa_retry: 600,
        soa_expire: 86400,
        soa_minttl: None,
        soa_mname: "ns1.mesos".into(),
        soa_rname: "root.ns1.mesos".into(),
        masters: Vec::new(),
        zone_resolvers: BTreeMap::new(),
        resolvers: vec!["8.8.8.8".into()],
        ip_sources: Vec::new(),
        zk: String::new(),
        domain: "mesos".into(),
        file: path.display().to_string(),
        listener: "0.0.0.0".into(),
        http_listener: "0.0.0.0".into(),
        recurse_on: true,
        dns_on: true,
        http_on: true,
        external_on: true,
        enforce_rfc952: false,
        set_truncate_bit: true,
        enumeration_on: true,
        mesos_https_on: false,
        ca_cert_file: String::new(),
        cert_file: String::new(),
        key_file: String::new(),
        tls: Tls::default(),
        mesos_credentials: Credentials::default(),
        iam_config_file: String::new(),
        authentication: Authentication::None,
        xdp: Xdp::default(),
        cache: CacheSettings::default(),
        transfer: Transfer::default(),
        secondary: Vec::new(),
        reverse: Reverse {
            networks: Vec::new(),
            pointers: true,
        },
        server: Server::default(),
        dcos: None,
    }
}

/// Reads the file's content. What is no Unicode becomes U+FFFD.
pub(super) fn read(body: &[u8], path: &Path) -> Reading {
    let mut reading = Reading {
        path: path.to_owned(),
        config: defaults(path),
        ip_sources: ["netinfo", "mesos", "host"].map(String::from).into(),
        state_timeout: 300,
        authentication: String::new(),
        problems: Vec::new(),
        late: Vec::new(),
        warnings: Vec::new(),
        named_keys: BTreeMap::new(),
    };
    match members::read(body, |key| known(key).is_some()) {
        Ok(members) => {
            for (key, value) in members {
                match value {
                    Ok(value) => read_key(&mut reading, &key, &value),
                    Err(unusable) => reading.unusable(&key, &unusable),
                }
            }
        }
        Err(error) => reading.problems.push(Problem {
            file: path.to_owned(),
            key: None,
            value: None,
            message: format!(
                "failed to unmarshal config file \"{}\": {error}",
                path.display()
            ),
            accepted: None,
        }),
    }
    reading
}

/// A key as `/v1/config` spells it.
fn known(key: &str) -> Option<&'static str> {
    let mut keys = KEYS.into_iter();
    keys.find(|one| one.eq_ignore_ascii_case(key))
}

fn read_key(reading: &mut Reading, key: &str, value: &Value) {
    let Some(key) = known(key) else {
        let legacy = LEGACY_KEYS.iter().any(|one| one.eq_ignore_ascii_case(key));
        reading.warnings.push(if legacy {
            format!("key {key:?} of an older mesos-dns has no effect")
        } else {
            format!("unknown key {key:?} is ignored")
        });
        return;
    };
    let config = &mut reading.config;
    let mut found = Found {
        path: &reading.path,
        key,
        problems: &mut reading.problems,
        late: &mut reading.late,
    };
    match key {
        "RefreshSeconds" => found.seconds(value, &mut config.refresh_seconds, 1),
        "Port" => found.port(value, &mut config.port),
        "Timeout" => {
            found.seconds(value, &mut config.timeout_seconds, 0);
            if config.timeout_seconds == 0 {
                config.timeout_seconds = 5;
            }
        }
        "StateTimeoutSeconds" => {
            // Whether it is positive is checked in its turn.
            found.number(value, "int", &mut reading.state_timeout);
            found.clamped_seconds(value, &mut config.state_timeout_seconds);
        }
        "ZkDetectionTimeout" => {
            found.number(value, "int", &mut 0_i64);
            found.clamped_seconds(value, &mut config.zk_detection_timeout_seconds);
        }
        "HttpPort" => found.port(value, &mut config.http_port),
        "TTL" => found.ttl(value, &mut config.ttl),
        "SRVRecordDefaultWeight" => found.number(value, "uint16", &mut config.srv_weight),
        "SOASerial" => found.number(value, "uint32", &mut config.soa_serial),
        "SOARefresh" => found.number(value, "uint32", &mut config.soa_refresh),
        "SOARetry" => found.number(value, "uint32", &mut config.soa_retry),
        "SOAExpire" => found.number(value, "uint32", &mut config.soa_expire),
        "SOAMinttl" => {
            let mut minttl = None;
            found.number_or_null(value, "uint32", &mut minttl);
            config.soa_minttl = minttl.or(config.soa_minttl);
        }
        "SOAMname" => found.text(value, &mut config.soa_mname),
        "SOARname" => found.text(value, &mut config.soa_rname),
        "Masters" => found.texts(value, &mut config.masters),
        "ZoneResolvers" => found.zones(value, &mut config.zone_resolvers),
        "Resolvers" => found.texts(value, &mut config.resolvers),
        "IPSources" => found.texts(value, &mut reading.ip_sources),
        "Zk" => found.text(value, &mut config.zk),
        "Domain" => found.text(value, &mut config.domain),
        "File" => found.text(value, &mut config.file),
        "Listener" => found.text(value, &mut config.listener),
        "HTTPListener" => found.text(value, &mut config.http_listener),
        "RecurseOn" => found.flag(value, &mut config.recurse_on),
        "DnsOn" => found.flag(value, &mut config.dns_on),
        "HttpOn" => found.flag(value, &mut config.http_on),
        "ExternalOn" => found.flag(value, &mut config.external_on),
        "EnforceRFC952" => found.flag(value, &mut config.enforce_rfc952),
        "SetTruncateBit" => found.flag(value, &mut config.set_truncate_bit),
        "EnumerationOn" => found.flag(value, &mut config.enumeration_on),
        "MesosHTTPSOn" => found.flag(value, &mut config.mesos_https_on),
        "CACertFile" => found.text(value, &mut config.ca_cert_file),
        "CertFile" => found.text(value, &mut config.cert_file),
        "KeyFile" => found.text(value, &mut config.key_file),
        "MesosCredentials" => found.credentials(value, &mut config.mesos_credentials),
        "IAMConfigFile" => found.text(value, &mut config.iam_config_file),
        "MesosAuthentication" => found.text(value, &mut reading.authentication),
        "server" => {
            let unknown = found.server(value, &mut config.server).into_iter();
            let unknown = unknown.map(|key| format!("unknown key {key:?} is ignored"));
            reading.warnings.extend(unknown);
        }
        "dcos" => read_dcos(reading, value),
        "transfer" => {
            let found = transfer::read(value);
            reading.config.transfer = reading.take("transfer", found);
        }
        "secondary" => {
            let found = transfer::read_secondaries(value);
            reading.config.secondary = reading.take("secondary", found);
        }
        _ => {
            let unknown = match key {
                "cache" => cache::read(&mut found, value, &mut config.cache),
                "reverse" => reverse::read(&mut found, value, &mut config.reverse),
                _ => found.xdp(value, &mut config.xdp),
            };
            reading.warnings.extend(
                unknown
                    .into_iter()
                    .map(|member| format!("unknown key \"{key}.{member}\" is ignored")),
            );
        }
    }
}

/// Reads `dcos`.
fn read_dcos(reading: &mut Reading, value: &Value) {
    let dcos::Reading {
        dcos,
        wrong,
        unknown,
    } = dcos::read(value);
    reading.note(wrong);
    let unknown = unknown.into_iter();
    let unknown = unknown.map(|key| format!("unknown key \"dcos.{key}\" is ignored"));
    reading.warnings.extend(unknown);
    reading.config.dcos = (!value.is_null()).then_some(dcos);
}

impl Found<'_> {
    fn zones(&mut self, value: &Value, slot: &mut BTreeMap<String, Vec<String>>) {
        match value {
            Value::Object(zones) => {
                for (zone, servers) in zones {
                    let mut list = Vec::new();
                    self.texts(servers, &mut list);
                    slot.insert(zone.clone(), list);
                }
            }
            Value::Null => slot.clear(),
            other => self.wrong_type(
                other,
                "map[string][]string",
                "an object of lists of strings",
            ),
        }
    }

    fn credentials(&mut self, value: &Value, slot: &mut Credentials) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let mut text = String::new();
                    if key.eq_ignore_ascii_case("Principal") {
                        self.text(value, &mut text);
                        slot.principal = text;
                    } else if key.eq_ignore_ascii_case("Secret") {
                        self.text(value, &mut text);
                        slot.secret = Secret::new(text);
                    }
                }
            }
            Value::Null => {}
            other => self.wrong_type(
                other,
                "basic.Credentials",
                "an object with Principal and Secret",
            ),
        }
    }
}
