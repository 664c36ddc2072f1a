//! The cluster's id from its public key, by the command line: a key file in each of its forms, and
//! what is said of one that is none.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tests::{daemon, needs_daemon};

/// The key of an id that dcos-dns was seen to make, in `fixtures/dcos/vip-vectors.json`.
const KEY: [u8; 32] = [
    0x04, 0x09, 0xe8, 0xbb, 0x95, 0xc1, 0xb3, 0xf0, 0x79, 0x89, 0x50, 0xc7, 0xaa, 0x7e, 0x77, 0x86,
    0xb6, 0xee, 0x2a, 0x7e, 0x26, 0x0f, 0xc9, 0x77, 0x8d, 0x27, 0x87, 0xf9, 0xa9, 0x38, 0xbe, 0x53,
];
const ID: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("cluster-key-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }

    /// Runs `records` on the fixture's events, with these members of `dcos`.
    fn records(&self, dcos: Value) -> Output {
        let config = json!({"masters": ["127.0.0.1:5050"], "dcos": dcos});
        let config = self.write("config.json", config.to_string());
        let events = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dcos/operator-api.json");
        Command::new(daemon::binary().unwrap())
            .args(["records", "--format", "json", "--aliases", "--config"])
            .arg(config)
            .arg("--events")
            .arg(events)
            .output()
            .unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The document of a master of DC/OS: octets as code points.
fn document(public: &[u8]) -> String {
    let public: String = public.iter().map(|&octet| char::from(octet)).collect();
    json!({"public": public, "secret": "\u{1}\u{2}not to be shown"}).to_string()
}

/// The names under `dcos.directory`, each with type and data.
fn names_of_the_cluster(output: &Output) -> BTreeSet<(String, String, String)> {
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter()
        .map(|row| (text(row, "name"), text(row, "type"), text(row, "data")))
        .filter(|(name, ..)| name.ends_with(".dcos.directory."))
        .collect()
}

#[test]
fn a_key_file_gives_the_id_in_every_form() {
    needs_daemon!();
    let folder = Folder::new("forms");
    let given = names_of_the_cluster(&folder.records(json!({"cluster_id": ID})));
    let name = format!("none-on-host.marathon.agentip.dcos.{ID}.dcos.directory.");
    assert!(
        given.contains(&(name, "A".to_owned(), "172.17.0.4".to_owned())),
        "{given:?}"
    );
    let forms: [(&str, Vec<u8>); 5] = [
        ("octets", KEY.to_vec()),
        ("text", ID.into()),
        ("text with a newline", format!("{ID}\n").into()),
        ("text in capitals", ID.to_ascii_uppercase().into()),
        ("document", document(&KEY).into()),
    ];
    for (what, content) in forms {
        let file = folder.write("key", content);
        let found = names_of_the_cluster(&folder.records(json!({"cluster_key_file": file})));
        assert_eq!(found, given, "{what}");
    }
    // Another key is another cluster.
    let other = folder.write("key", [0; 32]);
    let found = names_of_the_cluster(&folder.records(json!({"cluster_key_file": other})));
    let zeros = "y".repeat(52);
    assert_eq!(found.len(), given.len());
    for (name, ..) in &found {
        assert!(
            name.ends_with(&format!(".{zeros}.dcos.directory."))
                || *name == format!("{zeros}.dcos.directory."),
            "{name}"
        );
    }
    let none = names_of_the_cluster(&folder.records(json!({})));
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn a_file_that_is_no_key_is_named_with_the_reason() {
    needs_daemon!();
    let folder = Folder::new("errors");
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", Vec::new(), "52 characters, this one has 0"),
        ("short", KEY[..31].to_vec(), "32 octets, this one has 31"),
        ("secret", [KEY, KEY].concat(), "32 octets, this one has 64"),
        ("cut", ID[..51].into(), "52 characters, this one has 51"),
        // One of the characters that the alphabet leaves out.
        ("digit", ID.replace('g', "2").into(), "'2' is no character"),
        (
            "bits",
            format!("{}b", &ID[..51]).into(),
            "is y or o, not 'b'",
        ),
        (
            "other",
            json!({"key": "x"}).to_string().into(),
            "\"public\"",
        ),
        ("wide", "{\"public\": \"\u{416}\"}".into(), "0x416"),
    ];
    for (what, content, reason) in cases {
        let file = folder.write("key", content);
        let output = folder.records(json!({"cluster_key_file": file}));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{what}");
        for part in [
            "config.json",
            "dcos.cluster_key_file",
            file.to_str().unwrap(),
            reason,
        ] {
            assert!(said.contains(part), "{what}: {part:?} is not in {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
    }
    let absent = folder.0.join("absent");
    let output = folder.records(json!({"cluster_key_file": absent}));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("absent") && said.contains("No such file"),
        "{said}"
    );
    let output = folder.records(json!({"cluster_key_file": absent, "cluster_id": ID}));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("is not the only source of the cluster's id"),
        "{said}"
    );
    // The secret key beside it is never shown, also when the document is no good.
    let file = folder.write("key", document(&KEY[..7]));
    let output = folder.records(json!({"cluster_key_file": file}));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("32 octets, this one has 7") && !said.contains("not to be shown"),
        "{said}"
    );
}
