//! The one field of a state that decides where to fetch it from.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

/// Reads the `leader` text of a state and checks that the whole body is one JSON object.
///
/// The rest is skipped without being stored. As for every key of a state, letter case does not
/// matter, the last of several wins, `null` is absent, and text that is not UTF-8 is repaired.
///
/// # Errors
///
/// The place and kind of the first violation of JSON's syntax.
pub(super) fn leader_of(body: &[u8]) -> Result<String, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let leader = reader.deserialize_map(StateVisitor)?;
    reader.end()?;
    Ok(leader)
}

struct StateVisitor;

impl<'de> Visitor<'de> for StateVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the state of a Mesos master, a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<String, A::Error> {
        let mut leader = String::new();
        while let Some(Text(key)) = map.next_key()? {
            if key.eq_ignore_ascii_case("leader") {
                if let Some(Text(text)) = map.next_value()? {
                    leader = text.into_owned();
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(leader)
    }
}

/// A JSON string, taken as octets so that one that is not UTF-8 is no error.
struct Text<'de>(Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_bytes<E: Error>(self, octets: &'de [u8]) -> Result<Text<'de>, E> {
        Ok(Text(String::from_utf8_lossy(octets)))
    }

    fn visit_bytes<E: Error>(self, octets: &[u8]) -> Result<Text<'de>, E> {
        Ok(Text(Cow::Owned(
            String::from_utf8_lossy(octets).into_owned(),
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leader_is_found_among_anything_else() {
        let body = br#"{"slaves":[{"leader":"no"}],"LEADER":"master@10.0.0.1:5050","x":null}"#;
        assert_eq!(leader_of(body).unwrap(), "master@10.0.0.1:5050");
    }

    #[test]
    fn last_leader_wins_and_null_leaves_it() {
        assert_eq!(
            leader_of(br#"{"leader":"a","Leader":"b","leader":null}"#).unwrap(),
            "b"
        );
        assert_eq!(leader_of(b"{}").unwrap(), "");
    }

    #[test]
    fn text_that_is_not_utf8_is_repaired() {
        assert_eq!(
            leader_of(b"{\"\xff\":\"\xff\",\"leader\":\"m\xff\"}").unwrap(),
            "m\u{fffd}"
        );
        assert!(
            leader_of(br#"{"a":"\ud800","leader":"\ud800@h"}"#)
                .unwrap()
                .ends_with("@h")
        );
        assert_eq!(leader_of(br#"{"l\u0065ader":"m\u0040h"}"#).unwrap(), "m@h");
    }

    #[test]
    fn fields_that_nobody_reads_may_have_any_value() {
        let deep = format!("{}{}", "[".repeat(9_000), "]".repeat(9_000));
        for value in ["1e400", r#"{"\udc00":"\ud800"}"#, &deep] {
            let body = format!(r#"{{"x":{value},"leader":"m@h"}}"#);
            assert_eq!(leader_of(body.as_bytes()).unwrap(), "m@h");
        }
    }

    #[test]
    fn what_is_no_state_is_an_error() {
        let bad: [&[u8]; 9] = [
            b"",
            b"{",
            b"null",
            b"[]",
            b"{} x",
            b"\xef\xbb\xbf{}",
            b"{\"leader\":1}",
            b"{\"a\":tru}",
            b"<html>",
        ];
        for body in bad {
            assert!(leader_of(body).is_err(), "{body:?}");
        }
    }
}
