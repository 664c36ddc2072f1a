//! JSON objects by the rules of Go's decoder: names in any case, and the last of several counts;
//! text that is no Unicode is repaired, and what nobody reads may be anything that JSON has.

use serde_json::{Map, Value};

use crate::mesos::json::{Kind, Reader, SyntaxError};

/// Lists and objects of a value that is read may be nested this deep.
const MAX_DEPTH: usize = 64;

/// The members of an object in document order, repetitions included.
pub(super) type Members = Vec<(String, Result<Value, Unusable>)>;

/// What is wrong with a value that is well-formed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unusable {
    /// A number beyond what 64 bits can say.
    #[error("the number {0} is out of range")]
    Number(String),
    /// More nesting than anything that is read has.
    #[error("lists and objects are nested more than {MAX_DEPTH} deep")]
    Depth,
}

/// Reads an object. Of the members that nobody asks for only the form is looked at; they are null.
///
/// # Errors
/// What is expected where, when the text is no JSON object.
pub(super) fn read(body: &[u8], is_known: impl Fn(&str) -> bool) -> Result<Members, String> {
    let mut members = Vec::new();
    let mut reader = Reader::new(body);
    let read = reader.object(|reader, key| {
        let mut unusable = None;
        let value = if is_known(key) {
            value(reader, 0, &mut unusable)?
        } else {
            reader.skip()?;
            Value::Null
        };
        members.push((key.to_owned(), unusable.map_or(Ok(value), Err)));
        Ok(())
    });
    read.and_then(|()| reader.end())
        .map_err(|error| told(&error, body))?;
    Ok(members)
}

/// Reads a value to its end; what is not usable of it is null and noted, the first of several.
fn value(
    reader: &mut Reader<'_>,
    depth: usize,
    unusable: &mut Option<Unusable>,
) -> Result<Value, SyntaxError> {
    Ok(match reader.kind()? {
        Kind::Null => {
            reader.skip()?;
            Value::Null
        }
        Kind::Bool => Value::Bool(reader.boolean()?),
        Kind::String => Value::String(reader.string()?.into_owned()),
        Kind::Number => {
            let text = reader.number()?;
            match serde_json::from_str(text) {
                Ok(number) => Value::Number(number),
                Err(_) => {
                    unusable.get_or_insert_with(|| Unusable::Number(text.to_owned()));
                    Value::Null
                }
            }
        }
        Kind::Array | Kind::Object if depth == MAX_DEPTH => {
            reader.skip()?;
            unusable.get_or_insert(Unusable::Depth);
            Value::Null
        }
        Kind::Array => {
            let mut list = Vec::new();
            reader.array(|reader| {
                list.push(value(reader, depth + 1, unusable)?);
                Ok(())
            })?;
            Value::Array(list)
        }
        Kind::Object => {
            let mut members = Map::new();
            reader.object(|reader, key| {
                members.insert(key.to_owned(), value(reader, depth + 1, unusable)?);
                Ok(())
            })?;
            Value::Object(members)
        }
    })
}

/// An error by line and column, without any value: it may be a secret.
fn told(error: &SyntaxError, body: &[u8]) -> String {
    let before = body.get(..error.offset).unwrap_or(body);
    let line = before.split(|&byte| byte == b'\n');
    let column = line.clone().next_back().unwrap_or_default().len() + 1;
    let line = line.count();
    format!("{} expected at line {line} column {column}", error.expected)
}

/// The texts of an object under some names; empty where there is none, or `null`.
///
/// # Errors
/// What is wrong, and where, without any value: it may be a secret.
pub(crate) fn texts<const N: usize>(body: &[u8], names: [&str; N]) -> Result<[String; N], String> {
    let place = |key: &str| names.iter().position(|name| name.eq_ignore_ascii_case(key));
    let mut texts = [const { String::new() }; N];
    for (key, value) in read(body, |key| place(key).is_some())? {
        let slots = place(&key).and_then(|at| names.get(at).zip(texts.get_mut(at)));
        let Some((name, slot)) = slots else {
            continue;
        };
        match value {
            Ok(Value::String(text)) => *slot = text,
            Ok(Value::Null) => {}
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
        assert_eq!(read(r#"{"uid":1e400}"#), Err("uid is no text".into()));
        let error = read("{\"uid\":\"hush\"\n}}").unwrap_err();
        assert_eq!(error, "the end of the document expected at line 2 column 2");
        let error = read("\"hush\"").unwrap_err();
        assert_eq!(error, "an object expected at line 1 column 1");
    }
}
