//! The checks of mesos-dns, in its order and with its words, then those it leaves out.

use std::collections::{BTreeSet, HashSet};
use std::fs;

use super::mesos_dns::Reading;
use super::{Authentication, Iam, Secondary, Secret, Surroundings, members, places, server, tls};
use crate::mesos::auth;
use crate::mesos::state::{is_name, parse_ip, split_host_port};
use crate::mesos::zookeeper::ZooKeeperTarget;
use crate::records::IpSource;
use crate::server::certificate::IdentityError;
use crate::zones::Name;

/// Goes through everything; what is wrong is added to the problems of the reading.
pub(super) fn validate(reading: &mut Reading, surroundings: &Surroundings) {
    if reading.problems.iter().any(|problem| problem.key.is_none()) {
        return;
    }
    services(reading);
    masters(reading);
    normalise(reading);
    if reading.config.external_on {
        resolvers(reading, surroundings);
        zone_resolvers(reading);
    }
    ip_sources(reading);
    let timeout = reading.state_timeout;
    if timeout <= 0 {
        let message = format!("Invalid HTTP Timeout: {timeout}");
        reading.problem("StateTimeoutSeconds", &timeout, message, "seconds, from 1");
    }
    domain(reading);
    certificates(reading);
    authentication(reading);
    // What follows is accepted there and then ends the process or cannot work.
    listener(reading);
    zookeeper(reading);
    transfers(reading);
    server::validate(reading);
    if surroundings.is_served {
        places::validate(reading, surroundings);
    }
    let late = std::mem::take(&mut reading.late);
    reading.problems.extend(late);
    warnings(reading);
}

fn services(reading: &mut Reading) {
    let config = &reading.config;
    if !config.dns_on && !config.http_on {
        reading.problem(
            "DnsOn",
            &false,
            "service validation failed: either DNS or HTTP server should be on".into(),
            "true for DnsOn or HttpOn",
        );
    }
    let config = &reading.config;
    let follows_mesos = !config.masters.is_empty() || !config.zk.is_empty();
    if !follows_mesos && config.secondary.is_empty() {
        reading.problem(
            "Masters",
            &config.masters.clone(),
            "service validation failed: specify Mesos masters or Zookeeper in config.json".into(),
            "a list of host:port, or Zk",
        );
    }
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0)
}

fn masters(reading: &mut Reading) {
    let mut seen = HashSet::new();
    for master in reading.config.masters.clone() {
        let wrong = match split_host_port(&master) {
            Err(why) => Some(format!(
                "illegal host:port specified: {master}. Error: address {master}: {why}"
            )),
            Ok((_, port)) if !is_port(port) => {
                Some(format!("illegal host:port specified: {master}"))
            }
            Ok((host, _)) if !is_name(host) && parse_ip(host).is_none() => Some(format!(
                "illegal host:port specified: {master}. Error: {host:?} is neither a name nor an \
                 IP address"
            )),
            Ok((host, port)) => {
                let host = parse_ip(host).map_or(host.to_owned(), |ip| ip.to_string());
                (!seen.insert((host, port.to_owned())))
                    .then(|| format!("duplicate found: {master}"))
            }
        };
        if let Some(wrong) = wrong {
            reading.problem(
                "Masters",
                &master,
                format!("error validating masters: {wrong}"),
                "host:port with a port from 1 to 65535, each once",
            );
        }
    }
}

fn zookeeper(reading: &mut Reading) {
    let zk = reading.config.zk.clone();
    if zk.is_empty() {
        return;
    }
    if let Err(error) = ZooKeeperTarget::load(&zk) {
        // What stands before the hosts may be a password.
        let shown = zk.rsplit_once('@').map(|(_, hosts)| format!("…@{hosts}"));
        let message = format!("error validating Zk: {error}");
        let accepted = "zk://host:port,host:port/path, or file:///path of a file that holds it";
        reading.problem("Zk", &shown.unwrap_or(zk), message, accepted);
    }
}

/// Keys that are named and not there, with where they are named.
fn missing_keys(reading: &Reading) -> Vec<(String, Name)> {
    let keys = &reading.config.transfer.keys;
    let named = reading.named_keys.values().flatten();
    let missing = named.filter(|(_, name)| !keys.iter().any(|one| one.name == *name));
    missing.cloned().collect()
}

fn transfers(reading: &mut Reading) {
    for (place, name) in missing_keys(reading) {
        let message = format!("{place}: there is no key {name}");
        let accepted = "the name of one of transfer.keys";
        reading.problem(&place, &name.to_string(), message, accepted);
    }
    let config = &reading.config;
    let follows_mesos = !config.masters.is_empty() || !config.zk.is_empty();
    let domain = Name::from_text(&config.domain).ok();
    let same = |one: &Secondary| Some(&one.zone) == domain.as_ref();
    if let Some(at) = config.secondary.iter().position(same)
        && follows_mesos
    {
        let place = format!("secondary[{at}].zone");
        let message = format!("{place}: {} is made of the state of Mesos", config.domain);
        let accepted = "another zone than Domain, or neither Masters nor Zk";
        reading.problem(&place, &config.domain.clone(), message, accepted);
    }
}

/// Gives names the form they are shown and used in.
fn normalise(reading: &mut Reading) {
    let config = &mut reading.config;
    let dotted = |text: &str| format!("{}.", text.trim_end_matches('.'));
    config.soa_mname = dotted(&config.soa_mname);
    config.soa_rname = dotted(&config.soa_rname.replace('@', "."));
    config.domain = config.domain.to_lowercase();
}

/// An upstream as `address:port`, or what is wrong with it.
fn upstream(text: &str) -> Result<String, String> {
    let (host, port) = match split_host_port(text) {
        Ok(parts) if parse_ip(text).is_none() => parts,
        _ => (text, "53"),
    };
    let ip = parse_ip(host).ok_or_else(|| format!("illegal ip specified: {host}"))?;
    if !is_port(port) {
        return Err(format!("illegal host:port specified: {text}"));
    }
    Ok(format!("{ip} {port}"))
}

fn each_upstream(list: &[String]) -> Option<(String, String)> {
    let mut seen = HashSet::new();
    list.iter().find_map(|entry| match upstream(entry) {
        Err(wrong) => Some((entry.clone(), wrong)),
        Ok(normal) => {
            (!seen.insert(normal)).then(|| (entry.clone(), format!("duplicate found: {entry}")))
        }
    })
}

const UPSTREAM: &str = "an IP address, with :port or without, each once";

fn resolvers(reading: &mut Reading, surroundings: &Surroundings) {
    if reading.config.resolvers.is_empty() {
        reading.config.resolvers = surroundings.upstreams();
        if reading.config.resolvers.is_empty() {
            reading
                .warnings
                .push("Resolvers is empty and this host has no other name server".into());
        }
    }
    if let Some((entry, wrong)) = each_upstream(&reading.config.resolvers) {
        let message = format!("error validating resolvers: {wrong}");
        reading.problem("Resolvers", &entry, message, UPSTREAM);
    }
}

fn zone_resolvers(reading: &mut Reading) {
    let domain = reading.config.domain.clone();
    let zones = reading.config.zone_resolvers.clone();
    for (zone, servers) in &zones {
        if servers.is_empty() {
            let message = format!("field ZoneResolver {zone} is empty");
            reading.problem("ZoneResolvers", zone, message, UPSTREAM);
        } else if !is_domain(zone) {
            let message = format!("invalid domain name: {zone}");
            let accepted = "a domain without final dot";
            reading.problem("ZoneResolvers", zone, message, accepted);
        } else if zone.eq_ignore_ascii_case(&domain) {
            let message = format!("can't specify ZoneResolver for Mesos domain ({domain})");
            reading.problem("ZoneResolvers", zone, message, "other domains");
        } else if let Some((entry, wrong)) = each_upstream(servers) {
            reading.problem("ZoneResolvers", &entry, wrong, UPSTREAM);
        }
    }
    let all: BTreeSet<String> = zones
        .keys()
        .chain([&domain])
        .map(|zone| format!(".{}", zone.to_lowercase()))
        .collect();
    for inner in &all {
        for outer in &all {
            if inner != outer && inner.ends_with(outer.as_str()) {
                let message = format!("ambiguous zone resolvers: {inner} is masked by {outer}");
                let accepted = "zones of which none is under another or under Domain";
                reading.problem("ZoneResolvers", inner, message, accepted);
            }
        }
    }
}

fn ip_sources(reading: &mut Reading) {
    let mut sources: Vec<IpSource> = Vec::new();
    let mut wrong = None;
    for word in &reading.ip_sources {
        match IpSource::from_word(word) {
            None => {
                wrong = wrong.or_else(|| Some(format!("invalid ip source {word:?}")));
            }
            Some(source) if sources.contains(&source) => {
                wrong = wrong.or_else(|| Some("duplicate ip source specified".into()));
            }
            Some(source) => sources.push(source),
        }
    }
    if reading.ip_sources.is_empty() {
        wrong = Some("empty ip sources".into());
    }
    if let Some(wrong) = wrong {
        let words = reading.ip_sources.clone();
        reading.problem(
            "IPSources",
            &words,
            format!("IPSources validation failed: {wrong}"),
            "host, docker, mesos and netinfo, each at most once",
        );
    }
    reading.config.ip_sources = sources;
}

/// `^[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*$`
fn is_domain(text: &str) -> bool {
    text.split('.').all(|label| {
        !label.is_empty()
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    })
}

fn domain(reading: &mut Reading) {
    let domain = reading.config.domain.clone();
    if !is_domain(&domain) {
        reading.problem(
            "Domain",
            &domain,
            format!("{domain} is not a valid domain name"),
            "labels of letters, digits and hyphens, with dots between them",
        );
    } else if Name::from_text(&domain).is_err() {
        // mesos-dns takes it, and can then answer no query.
        reading
            .warnings
            .push(format!("Domain {domain:?} is too long for DNS"));
    }
}

fn certificates(reading: &mut Reading) {
    let config = &reading.config;
    let (ca, certificate, key) = (
        config.ca_cert_file.clone(),
        config.cert_file.clone(),
        config.key_file.clone(),
    );
    if !ca.is_empty() {
        match tls::read_ca(&ca) {
            Ok(pem) => reading.config.tls.ca = Some(pem),
            Err(wrong) => {
                reading.problem("CACertFile", &ca, wrong, "a file of certificates in PEM");
            }
        }
    }
    match (certificate.is_empty(), key.is_empty()) {
        (true, true) => {}
        (false, true) => {
            let accepted = "both of CertFile and KeyFile, or none";
            reading.problem("KeyFile", &key, "Missing private key".into(), accepted);
        }
        (true, false) => {
            let accepted = "both of CertFile and KeyFile, or none";
            reading.problem(
                "CertFile",
                &certificate,
                "Missing certificate".into(),
                accepted,
            );
        }
        (false, false) => match tls::read_identity(&certificate, &key) {
            Ok(pem) => reading.config.tls.identity = Some(pem),
            Err(error) => {
                let accepted = "a certificate and the key that belongs to it, in PEM";
                let (name, file, message) = match error {
                    IdentityError::Certificate(message) => ("CertFile", certificate, message),
                    IdentityError::Key(message) => ("KeyFile", key, message),
                };
                reading.problem(name, &file, message, accepted);
            }
        },
    }
}

fn iam(reading: &mut Reading, path: &str) -> Option<Iam> {
    let accepted = "a JSON file with uid, private_key and login_endpoint";
    let body = match fs::read(path) {
        Ok(body) => body,
        Err(error) => {
            let why = tls::open_error(path, &error);
            let message = format!("failed to load IAM config from file {path:?}: {why}");
            reading.problem("IAMConfigFile", &path, message, accepted);
            return None;
        }
    };
    let read = members::texts(&body, ["uid", "private_key", "login_endpoint"]);
    let [uid, private_key, login_endpoint] = match read {
        Ok(texts) => texts,
        Err(wrong) => {
            let message = format!("invalid IAM JSON: {wrong}");
            reading.problem("IAMConfigFile", &path, message, accepted);
            return None;
        }
    };
    if uid.is_empty() || private_key.is_empty() || login_endpoint.is_empty() {
        let message = "invalid HTTP IAM configuration".into();
        reading.problem("IAMConfigFile", &path, message, accepted);
        return None;
    }
    let private_key = Secret::new(private_key);
    if let Err(error) = auth::signing_key(&private_key) {
        let accepted = "a file with a private_key of RSA with 2048 to 4096 bits, in PEM";
        reading.problem("IAMConfigFile", &path, error.to_string(), accepted);
        return None;
    }
    Some(Iam {
        uid,
        private_key,
        login_endpoint,
    })
}

fn authentication(reading: &mut Reading) {
    let mechanism = reading.authentication.clone();
    let credentials = &reading.config.mesos_credentials;
    let no_credentials = credentials.principal.is_empty() && credentials.secret.is_empty();
    let iam_file = reading.config.iam_config_file.clone();
    let warning = |what: &str| {
        format!(
            "Warning! {what} is configured, but MesosAuthentication is set to none. This is \
             probably not intentional"
        )
    };
    match mechanism.as_str() {
        "" => {
            if !no_credentials {
                reading.warnings.push(warning("MesosCredentials"));
            }
            if !iam_file.is_empty() {
                reading.warnings.push(warning("IAMConfigFile"));
            }
        }
        "basic" if no_credentials => reading.problem(
            "MesosCredentials",
            &"",
            "invalid HTTP Basic configuration".into(),
            "an object with Principal or Secret",
        ),
        "basic" => reading.config.authentication = Authentication::Basic,
        "iam" if iam_file.is_empty() => reading.problem(
            "IAMConfigFile",
            &iam_file,
            "missing configuration for specified authentication mechanism".into(),
            "a file name",
        ),
        "iam" => {
            if let Some(iam) = iam(reading, &iam_file) {
                reading.config.authentication = Authentication::Iam(iam);
            }
        }
        _ => reading.problem(
            "MesosAuthentication",
            &mechanism,
            "unregistered factory requested".into(),
            "\"\", basic or iam",
        ),
    }
}

fn listener(reading: &mut Reading) {
    let listener = reading.config.listener.clone();
    if parse_ip(&listener).is_none() {
        let message = format!("Listener {listener:?} is not an IP address");
        reading.problem("Listener", &listener, message, "an IPv4 or IPv6 address");
    }
}

fn warnings(reading: &mut Reading) {
    let config = &reading.config;
    let mut warnings = Vec::new();
    let login_by_https = match &config.authentication {
        Authentication::Iam(iam) => iam.login_endpoint.starts_with("https:"),
        Authentication::None | Authentication::Basic => false,
    };
    if (config.mesos_https_on || login_by_https) && config.tls.ca.is_none() {
        let warning = "https without CACertFile: masters and the login service are not verified";
        warnings.push(warning.to_owned());
    }
    for (key, name) in [
        ("SOAMname", &config.soa_mname),
        ("SOARname", &config.soa_rname),
    ] {
        if Name::from_text(name).is_err() {
            warnings.push(format!(
                "{key} {name:?} is no domain name; the zone's own name is used"
            ));
        }
    }
    reading.warnings.extend(warnings);
}
