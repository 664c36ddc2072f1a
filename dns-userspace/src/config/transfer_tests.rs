use std::path::Path;

use super::super::{Checked, Config, Surroundings, check_text};
use super::*;

/// 32 octets; a canary too.
const SECRET: &str = "aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMmh1bnQ=";

fn checked(members: &str) -> Checked {
    let text = format!("{{{}}}", members.replace("SECRET", SECRET));
    check_text(
        text.as_bytes(),
        Path::new("/c.json"),
        &Surroundings::default(),
    )
}

fn config(members: &str) -> Config {
    let checked = checked(members);
    assert_eq!((&checked.problems, &checked.warnings), (&vec![], &vec![]));
    checked.config.unwrap()
}

#[test]
fn every_key_reaches_its_place() {
    let config = config(
        r#""masters": ["10.0.0.1:5050"], "transfer": {
            "keys": [{"name": "One.key", "algorithm": "HMAC-SHA512", "secret": "SECRET"},
                     {"name": "two", "secret": "SECRET"}],
            "allow": ["10.0.0.0/8", {"key": "two"},
                      {"address": "2001:db8::1", "key": "one.KEY."}],
            "notify": ["192.0.2.2", "[2001:db8::2]:5353",
                       {"address": "192.0.2.3:54", "key": "two"}],
            "state_directory": "/s", "max_transfers": 3, "timeout": 4, "history_names": 5},
           "secondary": [{"zone": "Example.org", "primaries": ["192.0.2.1", "192.0.2.9:54"],
                          "key": "two", "notify_from": ["192.0.2.128/25"],
                          "answers_as": "mesos-dns"}]"#,
    );
    let transfer = &config.transfer;
    let keys = transfer.keys.iter();
    let keys: Vec<_> = keys
        .map(|key| (key.name.to_string(), key.algorithm))
        .collect();
    let expected = [("one.key.", Algorithm::Sha512), ("two.", Algorithm::Sha256)];
    assert_eq!(keys, expected.map(|(name, one)| (name.to_owned(), one)));
    assert_eq!(transfer.keys[0].secret.expose(), SECRET);
    let allow = transfer.allow.iter();
    let allow: Vec<_> = allow
        .map(|one| (one.prefix.map(|one| one.to_string()), one.key.is_some()))
        .collect();
    let prefix = |text: &str| Some(text.to_owned());
    let expected = [
        (prefix("10.0.0.0/8"), false),
        (None, true),
        (prefix("2001:db8::1/128"), true),
    ];
    assert_eq!(allow, expected);
    let notify = transfer.notify.iter();
    let notify: Vec<_> = notify
        .map(|one| (one.address.to_string(), one.key.is_some()))
        .collect();
    let expected = [
        ("192.0.2.2:53", false),
        ("[2001:db8::2]:5353", false),
        ("192.0.2.3:54", true),
    ];
    assert_eq!(notify, expected.map(|(text, key)| (text.to_owned(), key)));
    assert_eq!(transfer.state_directory, Path::new("/s"));
    let numbers = (transfer.max_transfers, transfer.timeout.as_secs());
    assert_eq!((numbers, transfer.history_names), ((3, 4), 5));
    let secondary = &config.secondary[0];
    assert_eq!(secondary.zone.to_string(), "example.org.");
    let primaries: Vec<_> = secondary
        .primaries
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(primaries, ["192.0.2.1:53", "192.0.2.9:54"]);
    assert_eq!(secondary.answers_as, AnswersAs::MesosDns);
}

#[test]
fn without_masters_there_must_be_a_secondary_zone() {
    config(r#""secondary": [{"zone": "mesos", "primaries": ["192.0.2.1"]}]"#);
    assert_eq!(checked(r#""secondary": []"#).problems.len(), 1);
}

/// Each with the key that is at fault.
const MISTAKES: &[(&str, &str)] = &[
    (r#""transfer": 1"#, "transfer"),
    (r#""transfer": {"keys": {}}"#, "transfer.keys"),
    (
        r#""transfer": {"keys": [{"name": "a"}]}"#,
        "transfer.keys[0]",
    ),
    (
        r#""transfer": {"keys": [{"secret": "SECRET"}]}"#,
        "transfer.keys[0]",
    ),
    (
        r#""transfer": {"keys": [{"name": "a..b", "secret": "SECRET"}]}"#,
        "transfer.keys[0].name",
    ),
    (
        r#""transfer": {"keys": [{"name": "a", "secret": "hunter2hunter2!"}]}"#,
        "transfer.keys[0].secret",
    ),
    (
        r#""transfer": {"keys": [{"name": "a", "secret": ""}]}"#,
        "transfer.keys[0].secret",
    ),
    (
        r#""transfer": {"keys": [{"name": "a", "secret": "SECRET", "algorithm": "hmac-md5"}]}"#,
        "transfer.keys[0].algorithm",
    ),
    (
        r#""transfer": {"keys": [{"name": "a", "secret": "SECRET"},
                                 {"name": "A.", "secret": "SECRET"}]}"#,
        "transfer.keys[1].name",
    ),
    (
        r#""transfer": {"allow": ["192.0.2.1/24"]}"#,
        "transfer.allow[0]",
    ),
    (r#""transfer": {"allow": [{}]}"#, "transfer.allow[0]"),
    (
        r#""transfer": {"allow": [{"key": "nobody"}]}"#,
        "transfer.allow[0].key",
    ),
    (
        r#""transfer": {"allow": [{"address": 7}]}"#,
        "transfer.allow[0].address",
    ),
    (r#""transfer": {"notify": ["host"]}"#, "transfer.notify[0]"),
    (r#""transfer": {"notify": [{}]}"#, "transfer.notify[0]"),
    (
        r#""transfer": {"notify": ["192.0.2.1:0"]}"#,
        "transfer.notify[0]",
    ),
    (
        r#""transfer": {"notify": [{"address": "192.0.2.1", "key": "nobody"}]}"#,
        "transfer.notify[0].key",
    ),
    (
        r#""transfer": {"max_transfers": 0}"#,
        "transfer.max_transfers",
    ),
    (r#""transfer": {"timeout": "1"}"#, "transfer.timeout"),
    (
        r#""transfer": {"history_names": -1}"#,
        "transfer.history_names",
    ),
    (
        r#""transfer": {"state_directory": ""}"#,
        "transfer.state_directory",
    ),
    (r#""secondary": {}"#, "secondary"),
    (
        r#""secondary": [{"primaries": ["192.0.2.1"]}]"#,
        "secondary[0]",
    ),
    (r#""secondary": [{"zone": "a"}]"#, "secondary[0]"),
    (
        r#""secondary": [{"zone": "a", "primaries": []}]"#,
        "secondary[0]",
    ),
    (
        r#""secondary": [{"zone": "a", "primaries": ["x"]}]"#,
        "secondary[0].primaries[0]",
    ),
    (
        r#""secondary": [{"zone": "a", "primaries": ["192.0.2.1"], "key": "nobody"}]"#,
        "secondary[0].key",
    ),
    (
        r#""secondary": [{"zone": "a", "primaries": ["192.0.2.1"], "notify_from": ["x"]}]"#,
        "secondary[0].notify_from[0]",
    ),
    (
        r#""secondary": [{"zone": "a", "primaries": ["192.0.2.1"], "answers_as": "bind"}]"#,
        "secondary[0].answers_as",
    ),
    (
        r#""secondary": [{"zone": "a", "primaries": ["192.0.2.1"]},
                         {"zone": "A.", "primaries": ["192.0.2.1"]}]"#,
        "secondary[1].zone",
    ),
    (
        r#""secondary": [{"zone": "mesos", "primaries": ["192.0.2.1"]}]"#,
        "secondary[0].zone",
    ),
];

#[test]
fn each_mistake_is_one_problem_that_shows_no_secret() {
    for (members, key) in MISTAKES {
        let checked = checked(&format!(r#""masters": ["10.0.0.1:5050"], {members}"#));
        let problems = &checked.problems;
        assert_eq!(problems.len(), 1, "{members}: {problems:?}");
        assert_eq!(problems[0].key.as_deref(), Some(*key), "{members}");
        let text = format!("{} {problems:?}", problems[0]);
        assert!(
            !text.contains("hunter2") && !text.contains(SECRET),
            "{text}"
        );
        assert!(text.contains("accepted: "), "{text}");
    }
}

#[test]
fn entries_keep_their_numbers_beside_others_that_cannot_be_used() {
    let checked = checked(
        r#""masters": ["10.0.0.1:5050"], "transfer": {
            "keys": [{"name": "a"}, {"name": "b", "secret": "SECRET"},
                     {"name": "B", "secret": "SECRET"}],
            "allow": ["x", {"key": "nobody"}],
            "notify": ["host", {"address": "192.0.2.1", "key": "nobody"}, {"address": "192.0.2.2", "key": "b"}]},
           "secondary": [7, {"zone": "z", "primaries": ["192.0.2.1"], "key": "nobody"}]"#,
    );
    let problems = checked.problems.iter();
    let keys: Vec<&str> = problems.filter_map(|one| one.key.as_deref()).collect();
    let expected = [
        "transfer.keys[0]",
        "transfer.keys[2].name",
        "transfer.allow[0]",
        "transfer.notify[0]",
        "secondary[0]",
        // In the order of the objects' names.
        "secondary[1].key",
        "transfer.allow[1].key",
        "transfer.notify[1].key",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn what_is_not_known_or_weak_is_warned_of() {
    let checked = checked(
        r#""masters": ["10.0.0.1:5050"], "transfer": {"colour": 1,
            "keys": [{"name": "a", "secret": "aHVudGVyMg==", "color": 1}]},
           "secondary": [{"zone": "a", "primaries": ["192.0.2.1"], "x": 1}]"#,
    );
    assert_eq!(checked.problems, []);
    let warnings = checked.warnings.join("\n");
    for text in [
        "transfer.colour",
        "transfer.keys[0].color",
        "secondary[0].x",
        "transfer.keys[0].secret has 7 octets",
    ] {
        assert!(warnings.contains(text), "{text}: {warnings}");
    }
    assert!(!warnings.contains("aHVud") && !format!("{checked:?}").contains("aHVud"));
}
