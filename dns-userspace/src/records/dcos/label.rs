//! Task, framework and VIP names to labels, by the rules of dcos-dns.
//!
//! They differ from those of mesos-dns in that a label may start with a digit, and that an
//! over-long label is filled up with what follows its trailing hyphens. dcos-dns takes them from
//! the `label` and `domain_frag` functions of its `mesos_state` library.

use crate::zones::name::MAX_LABEL_OCTETS;

/// Turns a name into one label of at most 63 octets: letters in lower case, digits and inner
/// hyphens, with `-`, `_` and `.` all written as `-`. The result may be empty.
#[must_use]
pub fn label(name: &str) -> String {
    let mut out = String::with_capacity(name.len().min(MAX_LABEL_OCTETS));
    let mut full_once = false;
    for byte in name.bytes() {
        let octet = match byte {
            b'A'..=b'Z' => byte.to_ascii_lowercase(),
            b'a'..=b'z' | b'0'..=b'9' => byte,
            // Nothing is separated before the first letter or digit, nor once the label has been
            // full: only letters and digits fill the room of stripped hyphens.
            b'-' | b'_' | b'.' if !out.is_empty() && !full_once => b'-',
            _ => continue,
        };
        if out.len() == MAX_LABEL_OCTETS {
            break;
        }
        out.push(char::from(octet));
        if out.len() == MAX_LABEL_OCTETS {
            full_once = true;
            strip_hyphens(&mut out);
        }
    }
    strip_hyphens(&mut out);
    out
}

fn strip_hyphens(text: &mut String) {
    let kept = text.trim_end_matches('-').len();
    text.truncate(kept);
}

/// Turns a VIP label or a framework name into a part of a domain name: dots are kept, each piece
/// between them goes through [`label`]. A piece of which nothing is left stays as an empty label,
/// because the VIP allocator hashes this text; [`domain_labels`] leaves such pieces out.
#[must_use]
pub fn domain_frag(name: &str) -> String {
    pieces(name).collect::<Vec<_>>().join(".")
}

/// Like [`domain_frag`], but without empty labels, so that it can stand in a name. Empty if
/// nothing is left at all.
#[must_use]
pub fn domain_labels(name: &str) -> String {
    pieces(name)
        .filter(|piece| !piece.is_empty())
        .collect::<Vec<_>>()
        .join(".")
}

fn pieces(name: &str) -> impl Iterator<Item = String> {
    name.split('.').filter(|piece| !piece.is_empty()).map(label)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn labels_match_dcos_dns() {
        let text = include_str!("../../../../tests/fixtures/dcos/vip-vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let labels = vectors["labels"].as_array().unwrap();
        assert!(labels.len() >= 9);
        for vector in labels {
            let input = vector["input"].as_str().unwrap();
            assert_eq!(label(input), vector["label"].as_str().unwrap(), "{input}");
            assert_eq!(
                format!("{}.fw", domain_frag(input)),
                vector["vip_hash_name_with_framework_fw"].as_str().unwrap(),
                "{input}"
            );
        }
    }

    #[test]
    fn empty_pieces_are_left_out_of_names_only() {
        assert_eq!(domain_frag("a.$$.b"), "a..b");
        assert_eq!(domain_labels("a.$$.b"), "a.b");
        assert_eq!(domain_labels("$$$"), "");
    }

    proptest! {
        #[test]
        fn a_label_is_always_valid_and_stable(name in ".{0,120}") {
            let once = label(&name);
            prop_assert!(once.len() <= MAX_LABEL_OCTETS);
            prop_assert!(!once.starts_with('-') && !once.ends_with('-'));
            prop_assert!(once.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
            prop_assert_eq!(label(&once), once.clone());
        }
    }
}
