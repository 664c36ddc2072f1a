//! `docs/encryption.md`: a resolver that asks us over TLS, with the files that the document shows.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::fs;

use serde_json::json;
use tests::{
    daemon,
    dig::Dig,
    fake_master::FakeMaster,
    how_to::{Files, files},
    keys::{Keys, SERVER_NAME},
    name_server::unbound,
    needs_daemon, needs_root, needs_tool,
    netns::Netns,
    network::Network,
    running::wait_for,
};

const DOCUMENT: &str = include_str!("../../docs/encryption.md");
const OURS: &str = "192.0.2.1";
const UNBOUND: &str = "192.0.2.3";
const MASTER: &str = "192.0.2.11";

fn shown(heading: &str) -> Files {
    files(DOCUMENT, heading).unwrap()
}

fn start_master(host: &Netns) -> FakeMaster {
    let master = host.enter(|| FakeMaster::start_at(format!("{MASTER}:5050").parse()?));
    let master = master.unwrap();
    master.serve_state(&json!({"leader": format!("master@{MASTER}:5050"),
        "slaves": [], "frameworks": []}));
    master
}

#[test]
fn unbound_forwards_over_tls_and_believes_nobody_else() {
    needs_root!();
    needs_tool!(
        "dig", "ip", "kdig", "nsenter", "openssl", "unbound", "unshare"
    );
    needs_daemon!();
    assert_eq!(SERVER_NAME, "dns.example.com", "the name of the document");
    let mut network = Network::new().unwrap();
    let master_host = network.host("master", MASTER).unwrap();
    let our_host = network.host("mesos-xdns", OURS).unwrap();
    let unbound_host = network.host("unbound", UNBOUND).unwrap();
    let _master = start_master(&master_host);
    let (keys, others) = (Keys::new(), Keys::new());
    keys.certificates(&["server", "other"]);
    others.certificates(&[]);
    // The files of the document lie in a folder of the test.
    let ours = shown("mesos-xdns");
    let place = ours.at("/etc/mesos-dns").unwrap();
    let config = ours.at("/etc/mesos-dns/config.json").unwrap();
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace("/etc/mesos-dns", place.to_str().unwrap());
    fs::write(&config, text).unwrap();
    fs::write(place.join("certificate.pem"), keys.read("server.pem")).unwrap();
    fs::write(place.join("key.pem"), keys.read("server.key")).unwrap();
    let mut daemon = daemon::start(&our_host, &config).unwrap();
    for what in ["DNS over TLS is served", "DNS over HTTPS is served"] {
        daemon.wait_for(what, tests::running::LIMIT).unwrap();
    }

    let ask = |authority: &Keys| {
        let mut theirs = shown("Unbound, which asks over TLS");
        let bundle = String::from_utf8(authority.read("ca.pem")).unwrap();
        theirs
            .write_default("/etc/unbound/ca.pem", &bundle)
            .unwrap();
        let unbound = unbound(&unbound_host, theirs).unwrap();
        let dig = Dig::at(UNBOUND)
            .from(network.client())
            .option("+timeout=10");
        let response = dig.ask("leader.mesos", "A").unwrap();
        drop(unbound);
        response
    };
    let response = ask(&keys);
    assert_eq!(
        (response.status.as_str(), response.data("A")),
        ("NOERROR", vec![MASTER])
    );
    assert_eq!(ask(&others).status, "SERVFAIL");

    // The commands of the document.
    let ca = format!("+tls-ca={}", keys.path("ca.pem").display());
    let name = format!("+tls-hostname={SERVER_NAME}");
    for way in ["+tls", "+https"] {
        let mut kdig = network.client().command("kdig");
        kdig.args([&format!("@{OURS}"), way, &ca, &name, "leader.mesos"]);
        let output = kdig.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(MASTER), "{said}");
    }

    // A renewal: Unbound's next connection shows that it is another certificate, and believes it.
    let shown = |expected: &str| {
        let openssl = || {
            let mut openssl = network.client().command("openssl");
            openssl.args(["s_client", "-connect", &format!("{OURS}:853"), "-brief"]);
            openssl.stdin(std::process::Stdio::null());
            String::from_utf8_lossy(&openssl.output().unwrap().stderr).into_owned()
        };
        wait_for("the certificate", openssl, |said| said.contains(expected)).unwrap();
    };
    shown("CN = server");
    for (to, from) in [("certificate.pem", "other.pem"), ("key.pem", "other.key")] {
        fs::write(place.join(to), keys.read(from)).unwrap();
    }
    shown("CN = other");
    let line = "the certificate was read again";
    daemon.wait_for(line, tests::running::LIMIT).unwrap();
    assert_eq!(ask(&keys).data("A"), [MASTER]);
}
