//! Reading the `config.json` of mesos-dns: types, defaults, and the rules of Go's JSON decoder
//! (keys in any case, the last of several wins, `null` is the default or the empty list).

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{MapAccess, Visitor};
use serde_json::Value;

use super::{
    Authentication, Config, Credentials, OnExit, Problem, Secret, Server, Tls, Transfer, Xdp,
    XdpMode, cache, dcos, reverse, transfer,
};
use crate::forwarder::CacheSettings;
use crate::records::reverse::Reverse;

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
    fn take<T>(&mut self, found: transfer::Found<T>) -> T {
        self.note(found.wrong);
        self.warnings.extend(found.warnings);
        found.value
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

/// The members of an object in document order, repetitions included.
struct Members(Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// Reads the file's content. Octets that are not UTF-8 become U+FFFD.
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
    };
    match serde_json::from_str::<Members>(&String::from_utf8_lossy(body)) {
        Ok(Members(members)) => {
            for (key, value) in members {
                read_key(&mut reading, &key, &value);
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

fn read_key(reading: &mut Reading, key: &str, value: &Value) {
    let Some(key) = KEYS.iter().find(|one| one.eq_ignore_ascii_case(key)) else {
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
    match *key {
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
            reading.config.transfer = reading.take(found);
        }
        "secondary" => {
            let found = transfer::read_secondaries(value);
            reading.config.secondary = reading.take(found);
        }
        _ => {
            let unknown = match *key {
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

/// One member, on its way to its place.
pub(super) struct Found<'a> {
    path: &'a Path,
    key: &'a str,
    problems: &'a mut Vec<Problem>,
    late: &'a mut Vec<Problem>,
}

impl Found<'_> {
    fn make(&self, value: &Value, message: String, accepted: &'static str) -> Problem {
        Problem {
            file: self.path.to_owned(),
            key: Some(self.key.to_owned()),
            value: Some(shown(self.key, value)),
            message,
            accepted: Some(accepted),
        }
    }

    /// The decoder's words for a wrong type.
    fn wrong_type(&mut self, value: &Value, go_type: &str, accepted: &'static str) {
        let kind = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if go_type.contains("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let message = format!(
            "failed to unmarshal config file \"{}\": json: cannot unmarshal {kind} into Go struct \
             field Config.{} of type {go_type}",
            self.path.display(),
            self.key
        );
        let problem = self.make(value, message, accepted);
        self.problems.push(problem);
    }

    /// Notes a value of the right type that cannot be worked with.
    pub(super) fn too_far(&mut self, value: &Value, message: &str, accepted: &'static str) {
        let message = format!("{} {message}: {value}", self.key);
        let problem = self.make(value, message, accepted);
        self.late.push(problem);
    }

    pub(super) fn text(&mut self, value: &Value, slot: &mut String) {
        match value {
            Value::String(text) => slot.clone_from(text),
            Value::Null => {}
            other => self.wrong_type(other, "string", "a string"),
        }
    }

    pub(super) fn flag(&mut self, value: &Value, slot: &mut bool) {
        match value {
            Value::Bool(flag) => *slot = *flag,
            Value::Null => {}
            other => self.wrong_type(other, "bool", "true or false"),
        }
    }

    /// A whole number; `None` for null and for what is none, which is noted.
    fn integer(&mut self, value: &Value, go_type: &str) -> Option<i64> {
        match value {
            Value::Null => return None,
            Value::Number(number) => {
                if let Some(whole) = number.as_i64() {
                    return Some(whole);
                }
            }
            _ => {}
        }
        self.wrong_type(value, go_type, "a whole number");
        None
    }

    fn number_or_null<T: TryFrom<i64>>(
        &mut self,
        value: &Value,
        go_type: &str,
        slot: &mut Option<T>,
    ) {
        if let Some(whole) = self.integer(value, go_type) {
            match T::try_from(whole) {
                Ok(fitting) => *slot = Some(fitting),
                Err(_) => self.wrong_type(value, go_type, range_of(go_type)),
            }
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self, value: &Value, go_type: &str, slot: &mut T) {
        let mut found = None;
        self.number_or_null(value, go_type, &mut found);
        if let Some(found) = found {
            *slot = found;
        }
    }

    fn port(&mut self, value: &Value, slot: &mut u16) {
        if let Some(whole) = self.integer(value, "int") {
            match u16::try_from(whole) {
                Ok(port) => *slot = port,
                Err(_) => self.too_far(value, "is no port", "a whole number from 0 to 65535"),
            }
        }
    }

    fn seconds(&mut self, value: &Value, slot: &mut u32, least: u32) {
        if let Some(whole) = self.integer(value, "int") {
            match u32::try_from(whole) {
                Ok(seconds) if seconds >= least => *slot = seconds,
                _ if least == 0 => {
                    self.too_far(value, "is out of range", "seconds, 0 to 4294967295");
                }
                _ => self.too_far(value, "is out of range", "seconds, 1 to 4294967295"),
            }
        }
    }

    /// Takes a number that was checked to be one; a negative one is 0.
    fn clamped_seconds(&self, value: &Value, slot: &mut u32) {
        if let Some(whole) = value.as_i64() {
            *slot = u32::try_from(whole.max(0)).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn ttl(&mut self, value: &Value, slot: &mut u32) {
        let mut found: Option<i32> = None;
        self.number_or_null(value, "int32", &mut found);
        if let Some(seconds) = found {
            match u32::try_from(seconds) {
                Ok(ttl) => *slot = ttl,
                Err(_) => self.too_far(value, "is negative", "seconds, 0 to 2147483647"),
            }
        }
    }

    pub(super) fn texts(&mut self, value: &Value, slot: &mut Vec<String>) {
        let Some(list) = self.list(value, "[]string") else {
            return;
        };
        slot.clear();
        for element in list {
            match element {
                Value::String(text) => slot.push(text.clone()),
                Value::Null => slot.push(String::new()),
                other => self.wrong_type(other, "string", "a list of strings"),
            }
        }
    }

    fn list<'v>(&mut self, value: &'v Value, go_type: &str) -> Option<&'v [Value]> {
        match value {
            Value::Array(list) => Some(list),
            Value::Null => Some(&[]),
            other => {
                self.wrong_type(other, go_type, "a list of strings");
                None
            }
        }
    }

    fn zones(&mut self, value: &Value, slot: &mut BTreeMap<String, Vec<String>>) {
        match value {
            Value::Object(zones) => {
                for (zone, servers) in zones {
                    let mut list = Vec::new();
                    self.texts(servers, &mut list);
                    slot.entry(zone.to_lowercase()).or_default().extend(list);
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

    /// The members of an object of ours; none for null and for what is no object, which is noted.
    pub(super) fn members<'v>(
        &mut self,
        value: &'v Value,
    ) -> Option<&'v serde_json::Map<String, Value>> {
        match value {
            Value::Object(members) => return Some(members),
            Value::Null => {}
            other => self.wrong_type(other, "object", "an object"),
        }
        None
    }

    /// The key, with its path.
    pub(super) const fn key(&self) -> &str {
        self.key
    }

    /// A member of this object, by its full name.
    pub(super) fn member<'b>(&'b mut self, full: &'b str) -> Found<'b> {
        Found {
            path: self.path,
            key: full,
            problems: &mut *self.problems,
            late: &mut *self.late,
        }
    }

    /// Reads `xdp`; gives the keys it does not know.
    fn xdp(&mut self, value: &Value, slot: &mut Xdp) -> Vec<String> {
        let mut unknown = Vec::new();
        let Some(members) = self.members(value) else {
            return unknown;
        };
        for (key, value) in members {
            let lower = key.to_ascii_lowercase();
            let full = format!("xdp.{lower}");
            let mut member = self.member(&full);
            match lower.as_str() {
                "interfaces" => member.texts(value, &mut slot.interfaces),
                "mode" => member.word(
                    value,
                    &mut slot.mode,
                    &[
                        ("auto", XdpMode::Auto),
                        ("native", XdpMode::Native),
                        ("generic", XdpMode::Generic),
                        ("tc", XdpMode::Tc),
                        ("off", XdpMode::Off),
                    ],
                    "auto, native, generic, tc or off",
                ),
                "allow_generic" => member.flag(value, &mut slot.allow_generic),
                "tc" => member.flag(value, &mut slot.tc),
                "max_names" => {
                    let mut names = slot.max_names;
                    member.number(value, "uint32", &mut names);
                    if names == 0 {
                        member.too_far(value, "is too small", "a whole number from 1");
                    } else {
                        slot.max_names = names;
                    }
                }
                "pin_path" => {
                    let mut path = slot.pin_path.display().to_string();
                    member.text(value, &mut path);
                    if path.starts_with('/') {
                        slot.pin_path = path.into();
                    } else {
                        member.too_far(value, "is not absolute", "an absolute path");
                    }
                }
                "on_exit" => member.word(
                    value,
                    &mut slot.on_exit,
                    &[("keep", OnExit::Keep), ("detach", OnExit::Detach)],
                    "keep or detach",
                ),
                "lease_seconds" => member.number(value, "uint32", &mut slot.lease_seconds),
                _ => unknown.push(key.clone()),
            }
        }
        unknown
    }

    fn word<T: Copy>(
        &mut self,
        value: &Value,
        slot: &mut T,
        words: &[(&str, T)],
        accepted: &'static str,
    ) {
        match value {
            Value::Null => {}
            Value::String(text) => match words.iter().find(|(word, _)| word == text) {
                Some((_, meaning)) => *slot = *meaning,
                None => self.too_far(value, "is not known", accepted),
            },
            other => self.wrong_type(other, "string", accepted),
        }
    }
}

fn range_of(go_type: &str) -> &'static str {
    match go_type {
        "uint16" => "a whole number from 0 to 65535",
        "uint32" => "a whole number from 0 to 4294967295",
        "int32" => "a whole number from 0 to 2147483647",
        _ => "a whole number",
    }
}

/// A value for an error text: JSON, shortened, and nothing of what may be secret.
fn shown(key: &str, value: &Value) -> String {
    /// Enough to recognise a value by.
    const MAX_LETTERS: usize = 60;
    if key == "MesosCredentials" || key == "transfer" {
        return "(not shown)".into();
    }
    let text = value.to_string();
    match text.char_indices().nth(MAX_LETTERS) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}
