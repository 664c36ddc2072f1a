//! JSON objects by the rules of Go's decoder: names in any case, and the last of several counts.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde_json::Value;

/// The members of an object in document order, repetitions included.
pub(super) struct Members(pub(super) Vec<(String, Value)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// The texts of an object under some names; empty where there is none, or `null`.
///
/// # Errors
/// What is wrong, and where, without any value: it may be a secret.
pub(crate) fn texts<const N: usize>(body: &[u8], names: [&str; N]) -> Result<[String; N], String> {
    let Members(members) = serde_json::from_slice(body).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        format!("{:?} error at {place}", error.classify())
    })?;
    let mut texts = [const { String::new() }; N];
    for (key, value) in members {
        let mut slots = names.iter().zip(&mut texts);
        let Some((name, slot)) = slots.find(|(name, _)| name.eq_ignore_ascii_case(&key)) else {
            continue;
        };
        match value {
            Value::String(text) => *slot = text,
            Value::Null => {}
            _ => return Err(format!("{name} is no text")),
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_found_as_by_go() {
        let read = |body: &str| texts(body.as_bytes(), ["uid", "token"]);
        let texts = |uid: &str, token: &str| Ok([uid.to_owned(), token.to_owned()]);
        assert_eq!(read(r#"{"UID":"a","Token":"b","x":[]}"#), texts("a", "b"));
        assert_eq!(read(r#"{"Uid":"a","uid":"b","uID":null}"#), texts("b", ""));
        assert_eq!(read("{}"), texts("", ""));
        assert_eq!(read(r#"{"uid":["hush"]}"#), Err("uid is no text".into()));
        let error = read("{\"uid\":\"hush\"\n}}").unwrap_err();
        assert_eq!(error, "Syntax error at line 2 column 2");
        assert_eq!(
            read("\"hush\"").unwrap_err(),
            "Data error at line 1 column 6"
        );
    }
}
