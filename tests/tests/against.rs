//! `check --against`: our records beside those of a running mesos-dns, here what one was captured
//! to serve.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{fs, path::Path};

use dns_userspace::commands::check::{self, Arguments};
use serde_json::{Value, json};
use tests::fake_master::{Behaviour, FakeMaster};

/// A master with the state of a capture, a mesos-dns with the listing of that capture, and what
/// the command prints and ends with.
fn compare(change: impl Fn(&mut Value)) -> (u8, String) {
    // As main does. An error means that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/mesos-dns");
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(fixtures.join(name)).unwrap()).unwrap()
    };
    let master = FakeMaster::start().unwrap();
    let address = master.address().to_string();
    // The master of the capture was at another port, which shows in one record.
    let here = |value: &Value| -> Value {
        serde_json::from_str(&value.to_string().replace("127.0.0.1:15050", &address)).unwrap()
    };
    master.serve_state(&here(&read("edge.json")));
    let mut listing = read("edge.f1.axfr.json");
    let port = format!("leader.mesos.:{}", master.address().port());
    let text = listing.to_string().replace("leader.mesos.:15050", &port);
    listing = serde_json::from_str(&text).unwrap();
    change(&mut listing);
    let running = FakeMaster::start().unwrap();
    let body = Behaviour::Body(200, listing.to_string().into());
    running.behave_at("/v1/axfr", body);
    let mut config = here(&read("f1.config.json"));
    config["masters"] = json!([address]);
    let name = format!("mesos-xdns-against-{}.json", master.address().port());
    let file = std::env::temp_dir().join(name);
    fs::write(&file, config.to_string()).unwrap();
    let arguments = Arguments {
        config: file.clone(),
        against: Some(format!("http://{}/", running.address())),
    };
    let mut out = Vec::new();
    let status = check::run(&arguments, &mut out).unwrap();
    fs::remove_file(file).unwrap();
    (status, String::from_utf8(out).unwrap())
}

#[test]
fn a_captured_listing_is_equal() {
    let (status, text) = compare(|_| {});
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("the same from"), "{text}");
}

#[test]
fn differences_are_printed_in_order() {
    let (status, text) = compare(|listing| {
        listing["TTL"] = 30.into();
        let records = listing["Records"]["As"].as_object_mut().unwrap();
        records.insert("zz.mesos.".to_owned(), json!(["10.9.9.9"]));
        records["leader.mesos."] = json!(["127.0.0.9"]);
    });
    assert_eq!(status, 1, "{text}");
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(['-', '+']))
        .collect();
    assert_eq!(
        lines,
        [
            "- TTL 30",
            "+ TTL 60",
            "+ leader.mesos. A 127.0.0.1",
            "- leader.mesos. A 127.0.0.9",
            "- zz.mesos. A 10.9.9.9",
        ],
        "{text}"
    );
    assert!(text.contains("5 differences"), "{text}");
}
