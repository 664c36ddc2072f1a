//! `docs/configuration.md` says what the program does: its sample holds every key at its default,
//! and every key is explained.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{collections::BTreeSet, fs, path::Path};

use dns_userspace::config::{
    Checked, Surroundings, check_text, dcos::KEYS as DCOS_KEYS, mesos_dns::KEYS,
};
use serde_json::{Value, json};

fn document() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    fs::read_to_string(path).unwrap()
}

fn sample(document: &str) -> &str {
    let (_, rest) = document.split_once("```json\n").unwrap();
    rest.split_once("```").unwrap().0
}

fn check(text: &str) -> Checked {
    check_text(
        text.as_bytes(),
        Path::new("/c.json"),
        &Surroundings::default(),
    )
}

#[test]
fn the_sample_is_the_defaults() {
    let document = document();
    let checked = check(sample(&document));
    assert_eq!((checked.problems, checked.warnings), (vec![], vec![]));
    let bare = check(r#"{"Masters": ["10.0.0.1:5050"]}"#);
    assert_eq!(checked.config.unwrap(), bare.config.unwrap());
}

#[test]
fn the_sample_has_every_key_in_its_order() {
    let document = document();
    let sample: Value = serde_json::from_str(sample(&document)).unwrap();
    let keys: Vec<&String> = sample.as_object().unwrap().keys().collect();
    // An object dcos, empty or not, is more than the default.
    let expected: Vec<&str> = KEYS.into_iter().filter(|key| *key != "dcos").collect();
    assert_eq!(keys, expected);
}

/// The sample of the object `dcos`, the second of the document.
fn dcos_sample(document: &str) -> Value {
    let (_, rest) = document.split_once("## The object `dcos`").unwrap();
    serde_json::from_str(sample(rest)).unwrap()
}

fn with_dcos(dcos: &Value) -> Checked {
    check(&json!({"Masters": ["10.0.0.1:5050"], "dcos": dcos}).to_string())
}

#[test]
fn the_sample_of_dcos_is_its_defaults() {
    let sample = dcos_sample(&document());
    let checked = with_dcos(&sample);
    assert_eq!((checked.problems, checked.warnings), (vec![], vec![]));
    let bare = with_dcos(&json!({}));
    assert_eq!(checked.config.unwrap().dcos, bare.config.unwrap().dcos);
}

#[test]
fn the_sample_of_dcos_has_every_key() {
    let sample = dcos_sample(&document());
    let keys: BTreeSet<&str> = sample
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(keys, DCOS_KEYS.into_iter().collect());
    // The list is that of the reader: each of its keys is known, and none besides.
    for key in DCOS_KEYS {
        let warnings = with_dcos(&json!({ key: null })).warnings;
        assert!(warnings.is_empty(), "{key}: {warnings:?}");
    }
}

#[test]
fn every_key_is_explained() {
    let document = document();
    let rows: String = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .filter_map(|line| line.split(" | ").next())
        .collect();
    let sample: Value = serde_json::from_str(sample(&document)).unwrap();
    let objects = ["xdp", "cache", "transfer", "reverse", "server"];
    let members = objects.map(|object| sample[object].as_object().unwrap());
    let inner = sample["server"].as_object().unwrap().values();
    let inner = inner.filter_map(Value::as_object);
    let members = members.into_iter().chain(inner).map(|one| one.keys());
    let members = members.into_iter().flatten().map(String::as_str);
    let members = members.chain(DCOS_KEYS);
    let keys = KEYS.into_iter().filter(|key| {
        ![
            "xdp",
            "cache",
            "transfer",
            "secondary",
            "reverse",
            "server",
            "dcos",
        ]
        .contains(key)
    });
    for key in keys.chain(members) {
        assert!(rows.contains(&format!("`{key}`")), "{key} has no row");
    }
    for object in [
        "object `xdp`",
        "object `cache`",
        "object `transfer`",
        "list `secondary`",
        "object `reverse`",
        "object `server`",
        "object `dcos`",
    ] {
        assert!(document.contains(&format!("## The {object}")));
    }
}
