//! `/v1/config`: the settings in effect, in the order and spelling of mesos-dns, secrets masked.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::config::Config;
use crate::records::go_json;

/// What mesos-dns shows for `SOAMinttl` when the file has none.
const SOA_MINTTL: u32 = 60;

/// The body; `serial` is that of the zone.
pub(super) fn config_body(config: &Config, serial: u32) -> serde_json::Result<Vec<u8>> {
    go_json::to_vec(&Body {
        refresh_seconds: config.refresh_seconds,
        port: config.port,
        timeout: config.timeout_seconds,
        state_timeout_seconds: config.state_timeout_seconds,
        zk_detection_timeout: config.zk_detection_timeout_seconds,
        http_port: config.http_port,
        ttl: config.ttl,
        srv_weight: config.srv_weight,
        soa_serial: serial,
        soa_refresh: config.soa_refresh,
        soa_retry: config.soa_retry,
        soa_expire: config.soa_expire,
        soa_minttl: config.soa_minttl.unwrap_or(SOA_MINTTL),
        soa_mname: &config.soa_mname,
        soa_rname: &config.soa_rname,
        masters: (!config.masters.is_empty()).then_some(&config.masters),
        zone_resolvers: &config.zone_resolvers,
        resolvers: &config.resolvers,
        ip_sources: config.ip_sources.iter().map(|one| one.as_str()).collect(),
        zk: without_password(&config.zk),
        domain: &config.domain,
        file: &config.file,
        listener: &config.listener,
        http_listener: &config.http_listener,
        recurse_on: config.recurse_on,
        dns_on: config.dns_on,
        http_on: config.http_on,
        external_on: config.external_on,
        enforce_rfc952: config.enforce_rfc952,
        set_truncate_bit: config.set_truncate_bit,
        enumeration_on: config.enumeration_on,
        mesos_https_on: config.mesos_https_on,
        ca_cert_file: &config.ca_cert_file,
        cert_file: &config.cert_file,
        key_file: &config.key_file,
        mesos_credentials: Credentials {
            principal: &config.mesos_credentials.principal,
            secret: config.mesos_credentials.secret.to_string(),
        },
        iam_config_file: &config.iam_config_file,
        mesos_authentication: config.authentication.as_str(),
    })
}

/// The URL with stars for the password of `user:password@`.
fn without_password(url: &str) -> String {
    let shown = || {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split('/').next()?;
        let (user, _) = authority.rsplit_once('@')?;
        let hosts = rest.strip_prefix(user)?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:********{hosts}"))
    };
    shown().unwrap_or_else(|| url.to_owned())
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Body<'a> {
    refresh_seconds: u32,
    port: u16,
    timeout: u32,
    state_timeout_seconds: u32,
    zk_detection_timeout: u32,
    http_port: u16,
    #[serde(rename = "TTL")]
    ttl: u32,
    #[serde(rename = "SRVRecordDefaultWeight")]
    srv_weight: u16,
    #[serde(rename = "SOASerial")]
    soa_serial: u32,
    #[serde(rename = "SOARefresh")]
    soa_refresh: u32,
    #[serde(rename = "SOARetry")]
    soa_retry: u32,
    #[serde(rename = "SOAExpire")]
    soa_expire: u32,
    #[serde(rename = "SOAMinttl")]
    soa_minttl: u32,
    #[serde(rename = "SOAMname")]
    soa_mname: &'a str,
    #[serde(rename = "SOARname")]
    soa_rname: &'a str,
    masters: Option<&'a Vec<String>>,
    zone_resolvers: &'a BTreeMap<String, Vec<String>>,
    resolvers: &'a [String],
    #[serde(rename = "IPSources")]
    ip_sources: Vec<&'static str>,
    zk: String,
    domain: &'a str,
    file: &'a str,
    listener: &'a str,
    #[serde(rename = "HTTPListener")]
    http_listener: &'a str,
    recurse_on: bool,
    dns_on: bool,
    http_on: bool,
    external_on: bool,
    #[serde(rename = "EnforceRFC952")]
    enforce_rfc952: bool,
    set_truncate_bit: bool,
    enumeration_on: bool,
    #[serde(rename = "MesosHTTPSOn")]
    mesos_https_on: bool,
    #[serde(rename = "CACertFile")]
    ca_cert_file: &'a str,
    cert_file: &'a str,
    key_file: &'a str,
    mesos_credentials: Credentials<'a>,
    #[serde(rename = "IAMConfigFile")]
    iam_config_file: &'a str,
    mesos_authentication: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials<'a> {
    principal: &'a str,
    secret: String,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Surroundings, check_text};

    #[test]
    fn no_secret_is_shown() {
        let text = r#"{"Zk": "zk://user:hun/t@er2@h:1,i:2/mesos", "MesosAuthentication": "basic",
            "MesosCredentials": {"Principal": "p", "Secret": "hunter3"}}"#;
        let checked = check_text(
            text.as_bytes(),
            Path::new("/c.json"),
            &Surroundings::default(),
        );
        // Such a password is refused by the reading of the URL, which is asked first.
        assert!(checked.config.is_none());
        let text = text.replace("hun/t@er2", "hun:t@er2");
        let checked = check_text(
            text.as_bytes(),
            Path::new("/c.json"),
            &Surroundings::default(),
        );
        let body = config_body(&checked.config.unwrap(), 7).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(!body.contains("er2") && !body.contains("hunter3"), "{body}");
        assert!(
            body.contains("\"Zk\": \"zk://user:********@h:1,i:2/mesos\""),
            "{body}"
        );
        assert!(
            body.contains("\"Principal\": \"p\",\n   \"Secret\": \"********\""),
            "{body}"
        );
        assert!(body.contains("\"Masters\": null"), "{body}");
    }

    /// As Go shows a map: the names as they are, in the order of their octets.
    #[test]
    fn zones_are_shown_as_they_are_written() {
        let text = r#"{"Masters": ["10.0.0.1:5050"],
            "ZoneResolvers": {"b.example": ["192.0.2.1"], "Corp.Example": ["192.0.2.2:54"]}}"#;
        let checked = check_text(
            text.as_bytes(),
            Path::new("/c.json"),
            &Surroundings::default(),
        );
        let body = config_body(&checked.config.unwrap(), 7).unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let shown = body["ZoneResolvers"].to_string();
        assert_eq!(
            shown,
            r#"{"Corp.Example":["192.0.2.2:54"],"b.example":["192.0.2.1"]}"#
        );
    }

    #[test]
    fn a_url_without_password_is_shown_as_it_is() {
        for url in [
            "",
            "zk://h:1/mesos",
            "zk://user@h:1/mesos",
            "file:///etc/zk",
        ] {
            assert_eq!(without_password(url), url);
        }
    }
}
