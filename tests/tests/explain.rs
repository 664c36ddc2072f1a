//! `records --explain` as an operator calls it.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::fs;
use std::path::PathBuf;

use dns_userspace::commands::records::{Arguments, Format, run};
use serde_json::json;
use tests::scene::{add_tasks, fake_local};

/// The explanation of a name, where `wide` has 40 addresses and `huge` 200.
fn explain(name: &str, xdp: &serde_json::Value) -> String {
    let mut state = fake_local();
    for (name, count) in [("wide", 40u8), ("huge", 200)] {
        let addresses: Vec<String> = (1..=count).map(|last| format!("10.20.0.{last}")).collect();
        add_tasks(&mut state, name, &addresses);
    }
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let unique = format!("explain-{name}-{}", xdp.as_object().unwrap().len());
    let [state_file, config_file] =
        ["state", "config"].map(|what| folder.join(format!("{unique}-{what}.json")));
    fs::write(&state_file, state.to_string()).unwrap();
    let config = json!({"masters": ["10.0.0.1:5050"], "listener": "10.0.0.53", "xdp": xdp});
    fs::write(&config_file, config.to_string()).unwrap();
    let mut out = Vec::new();
    let arguments = Arguments {
        config: config_file,
        state: Some(state_file),
        events: None,
        axfr: None,
        aliases: false,
        format: Format::Json,
        explain: Some(name.to_owned()),
    };
    run(&arguments, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn each_record_says_whether_the_kernel_answers_it() {
    let xdp = json!({"interfaces": ["eth0"]});
    for (name, records, kernel) in [
        ("nginx.marathon.mesos", 1, "answers"),
        (
            "wide.marathon.mesos",
            40,
            "answers queries with EDNS of enough octets; others get TC and come over TCP",
        ),
        (
            "huge.marathon.mesos",
            200,
            "leaves it to user space: the records fit no datagram",
        ),
    ] {
        let text = explain(name, &xdp);
        let line = format!("    kernel: {kernel}");
        let found = text.lines().filter(|one| *one == line).count();
        assert_eq!(found, records, "{text}");
    }
}

#[test]
fn without_xdp_it_says_what_the_kernel_would_do() {
    let text = explain("nginx.marathon.mesos", &json!({}));
    assert!(
        text.contains("\n    DNS: served\n    kernel: answers, were XDP configured\n"),
        "{text}"
    );
}

/// By the defaults of the configuration.
#[test]
fn the_apex_has_its_authority() {
    for name in ["mesos", "MESOS."] {
        let text = explain(name, &json!({}));
        let records: Vec<&str> = text.lines().filter(|one| !one.starts_with(' ')).collect();
        let expected = [
            "mesos. SOA ns1.mesos. root.ns1.mesos. 0 60 600 86400 60",
            "mesos. NS ns1.mesos.",
        ];
        assert_eq!(records, expected, "{text}");
        let served = text.lines().filter(|one| *one == "    DNS: served");
        assert_eq!(served.count(), 2, "{text}");
    }
    let text = explain("nobody.mesos", &json!({}));
    assert_eq!(text, "no record has the name nobody.mesos\n");
}
