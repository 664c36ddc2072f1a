//! Task and framework names to DNS labels, by the two rules of mesos-dns, and the short texts that
//! make a task's canonical name unique.

use std::borrow::Cow;

use sha1::{Digest, Sha1};

use crate::zones::name::MAX_LABEL_OCTETS;

/// The alphabet of z-base-32, most significant five bits first.
const Z_BASE_32: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";
/// Letters of a task id's hash that go into names: 25 bits.
const HASH_LETTERS: usize = 5;

/// Which labels are legal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LabelRule {
    /// RFC 1123, section 2.1: a digit may come first; 63 octets.
    #[default]
    Rfc1123,
    /// RFC 952: a letter comes first; 24 octets.
    Rfc952,
}

impl LabelRule {
    const fn max_octets(self) -> usize {
        match self {
            Self::Rfc1123 => MAX_LABEL_OCTETS,
            Self::Rfc952 => 24,
        }
    }

    /// Makes one label of any text: lower-case letters, digits and hyphens. A dot, an underscore
    /// and a hyphen become a hyphen; everything else goes, without folding. May give nothing.
    #[must_use]
    pub fn label(self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for letter in text.chars() {
            let kept = match letter {
                'A'..='Z' => letter.to_ascii_lowercase(),
                'a'..='z' | '0'..='9' => letter,
                '-' | '.' | '_' => '-',
                _ => continue,
            };
            // What is trimmed on the left is never put in.
            let trimmed = kept == '-' || (self == Self::Rfc952 && kept.is_ascii_digit());
            if !out.is_empty() || !trimmed {
                out.push(kept);
            }
        }
        let size = out.len().min(self.max_octets());
        let (head, rest) = out.split_at_checked(size).unwrap_or((&out, ""));
        let kept = head.trim_end_matches('-').len();
        // A run of hyphens on the cut is squeezed out, and its place filled from behind.
        let fill: String = rest
            .trim_start_matches('-')
            .chars()
            .take(size - kept)
            .collect();
        out.truncate(kept);
        out.push_str(&fill);
        out
    }

    /// Makes a sequence of labels of a text with dots; labels that come to nothing are left out.
    #[must_use]
    pub fn fragment(self, text: &str) -> String {
        let labels: Vec<String> = text
            .split('.')
            .map(|part| self.label(part))
            .filter(|label| !label.is_empty())
            .collect();
        labels.join(".")
    }
}

fn z_base_32(octets: &[u8], letters: usize) -> String {
    let bit = |at: usize| {
        let octet = octets.get(at / 8).copied().unwrap_or(0);
        usize::from(octet >> (7 - at % 8) & 1)
    };
    (0..letters)
        .map(|letter| (0..5).fold(0, |value, i| value << 1 | bit(letter * 5 + i)))
        .filter_map(|value| Z_BASE_32.get(value).copied().map(char::from))
        .collect()
}

/// The hash of a task id in its canonical name: five letters of z-base-32 of its SHA-1.
#[must_use]
pub fn task_hash(id: &str) -> String {
    z_base_32(&Sha1::digest(id.as_bytes()), HASH_LETTERS)
}

/// A label that stands for a text too long to be cut: the whole SHA-1, 32 letters.
#[must_use]
pub fn hashed_label(text: &str) -> String {
    z_base_32(&Sha1::digest(text.as_bytes()), 32)
}

/// A name of which the labels too long for DNS stand for their hashes.
#[must_use]
pub fn hashed_labels(name: &str) -> String {
    let labels: Vec<Cow<'_, str>> = name
        .split('.')
        .map(|label| match label.len() > MAX_LABEL_OCTETS {
            true => Cow::Owned(hashed_label(label)),
            false => Cow::Borrowed(label),
        })
        .collect();
    labels.join(".")
}

/// What follows the last hyphen of an agent's id, in lower case and otherwise raw.
#[must_use]
pub fn agent_tail(id: &str) -> Cow<'_, str> {
    let tail = id.rsplit('-').next().unwrap_or(id);
    if tail.chars().any(char::is_uppercase) {
        Cow::Owned(tail.to_lowercase())
    } else {
        Cow::Borrowed(tail)
    }
}

/// The leftmost labels of a task's canonical name, `name-hash-tail`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canonical {
    /// As mesos-dns builds it, which may break the 63 octets of a label.
    pub text: String,
    /// As DNS carries it, where that differs: the name is cut so that hash and tail stay whole.
    pub dns: Option<String>,
}

/// Builds the canonical labels of the task with hash `hash` on the agent with tail `tail`.
///
/// mesos-dns cannot send an answer that holds a label of more than 63 octets; the cut form makes
/// such a task reachable. It depends on nothing but the task, so it is stable, and the hash keeps
/// it apart from tasks whose names begin alike.
#[must_use]
pub fn canonical(name: &str, hash: &str, tail: &str) -> Canonical {
    let text = [name, "-", hash, "-", tail].concat();
    let (before, last) = match name.rsplit_once('.') {
        Some((before, last)) => (Some(before), last),
        None => (None, name),
    };
    let (first, after) = match tail.split_once('.') {
        Some((first, after)) => (first, Some(after)),
        None => (tail, None),
    };
    let fixed = hash.len() + first.len() + 2;
    if last.len() + fixed <= MAX_LABEL_OCTETS {
        return Canonical { text, dns: None };
    }
    let room = MAX_LABEL_OCTETS.saturating_sub(fixed);
    let cut = last
        .get(..room.min(last.len()))
        .unwrap_or_default()
        .trim_end_matches('-');
    let label = if cut.is_empty() {
        hashed_label(&text)
    } else {
        [cut, "-", hash, "-", first].concat()
    };
    let parts = [before, Some(&label), after];
    let dns = Some(parts.into_iter().flatten().collect::<Vec<_>>().join("."));
    Canonical { text, dns }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(serde::Deserialize)]
    struct Row {
        r#in: String,
        rfc1123: String,
        rfc952: String,
        frag1123: String,
        frag952: String,
        hash: String,
    }

    #[test]
    fn captured_labels_are_reproduced() {
        let table = include_str!("../../../tests/fixtures/mesos-dns/labels.json");
        let rows: Vec<Row> = serde_json::from_str(table).unwrap();
        assert_eq!(rows.len(), 53);
        for row in rows {
            let text = &row.r#in;
            assert_eq!(LabelRule::Rfc1123.label(text), row.rfc1123, "{text:?}");
            assert_eq!(LabelRule::Rfc952.label(text), row.rfc952, "{text:?}");
            assert_eq!(LabelRule::Rfc1123.fragment(text), row.frag1123, "{text:?}");
            assert_eq!(LabelRule::Rfc952.fragment(text), row.frag952, "{text:?}");
            assert_eq!(task_hash(text), row.hash, "{text:?}");
        }
    }

    #[test]
    fn hyphens_on_the_cut_are_filled_from_behind() {
        let text = |hyphens: usize| format!("hello{}f", "-".repeat(hyphens));
        assert_eq!(LabelRule::Rfc1123.label(&text(58)), "hellof");
        assert_eq!(LabelRule::Rfc1123.label(&text(56)), text(56));
        assert_eq!(
            LabelRule::Rfc952.label("89fdgsf---gs7-fgs--d7fddg---123"),
            "fdgsf---gs7-fgs--d7fddg1"
        );
    }

    #[test]
    fn kelvin_is_removed_and_not_folded() {
        assert_eq!(LabelRule::Rfc1123.label("a\u{212a}b"), "ab");
    }

    #[test]
    fn tails_are_what_follows_the_last_hyphen() {
        for (id, tail) in [
            ("2014-5349-S12", "s12"),
            ("NODASH", "nodash"),
            ("x-", ""),
            ("A.b-S1.x", "s1.x"),
        ] {
            assert_eq!(agent_tail(id), tail);
        }
    }

    #[test]
    fn a_long_canonical_label_is_cut_before_its_hash() {
        let name = "n".repeat(63);
        let cut = canonical(&name, "7f4dq", "s1");
        assert_eq!(cut.text, format!("{name}-7f4dq-s1"));
        assert_eq!(cut.dns.unwrap(), format!("{}-7f4dq-s1", "n".repeat(54)));
        assert_eq!(canonical(&"n".repeat(54), "7f4dq", "s1").dns, None);
    }

    #[test]
    fn a_cut_never_ends_in_a_hyphen() {
        let name = format!("{}---{}", "n".repeat(53), "m".repeat(7));
        let cut = canonical(&name, "7f4dq", "s1").dns.unwrap();
        assert_eq!(cut, format!("{}-7f4dq-s1", "n".repeat(53)));
    }

    #[test]
    fn a_long_tail_leaves_only_a_hash() {
        let one = canonical("web", "7f4dq", &"t".repeat(60)).dns.unwrap();
        let other = canonical("web", "7f4dr", &"t".repeat(60)).dns.unwrap();
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }

    #[test]
    fn only_the_label_with_the_hash_is_cut() {
        let cut = canonical(&format!("big.{}", "n".repeat(60)), "7f4dq", "s1.x");
        assert_eq!(
            cut.dns.unwrap(),
            format!("big.{}-7f4dq-s1.x", "n".repeat(54))
        );
    }

    proptest! {
        #[test]
        fn labels_are_legal(text in any::<String>()) {
            for (rule, max) in [(LabelRule::Rfc1123, 63), (LabelRule::Rfc952, 24)] {
                let label = rule.label(&text);
                prop_assert!(label.len() <= max);
                prop_assert!(label.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-')));
                prop_assert!(!label.starts_with('-'));
                let fragment = rule.fragment(&text);
                prop_assert!(fragment.is_empty() || fragment.split('.').all(|part| !part.is_empty()));
            }
        }

        #[test]
        fn canonical_labels_fit(name in any::<String>(), tail in any::<String>()) {
            let label = LabelRule::Rfc1123.label(&name);
            let tail: String = tail.replace('.', "");
            let made = canonical(&label, "7f4dq", &tail);
            prop_assert!(made.dns.unwrap_or(made.text).len() <= 63);
        }
    }
}
