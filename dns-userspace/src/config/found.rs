//! One member of the configuration on its way to its place: values of the expected type, or the
//! problem in the words of Go's JSON decoder.

use std::path::Path;

use serde_json::Value;

use super::Problem;

/// One member, on its way to its place.
pub(super) struct Found<'a> {
    pub(super) path: &'a Path,
    pub(super) key: &'a str,
    pub(super) problems: &'a mut Vec<Problem>,
    pub(super) late: &'a mut Vec<Problem>,
}

impl Found<'_> {
    pub(super) fn make(&self, value: &Value, message: String, accepted: &'static str) -> Problem {
        Problem {
            file: self.path.to_owned(),
            key: Some(self.key.to_owned()),
            value: Some(shown(self.key, value)),
            message,
            accepted: Some(accepted),
        }
    }

    /// The decoder's words for a wrong type.
    pub(super) fn wrong_type(&mut self, value: &Value, go_type: &str, accepted: &'static str) {
        let kind = match value {
            Value::Null => "null".to_owned(),
            Value::Bool(_) => "bool".to_owned(),
            Value::Number(number) if go_type.contains("int") => format!("number {number}"),
            Value::Number(_) => "number".to_owned(),
            Value::String(_) => "string".to_owned(),
            Value::Array(_) => "array".to_owned(),
            Value::Object(_) => "object".to_owned(),
        };
        let message = format!(
            "failed to unmarshal config file \"{}\": json: cannot unmarshal {kind} into Go struct \
             field Config.{} of type {go_type}",
            self.path.display(),
            self.key
        );
        let problem = self.make(value, message, accepted);
        self.problems.push(problem);
    }

    /// Notes a value of the right type that cannot be worked with.
    pub(super) fn too_far(&mut self, value: &Value, message: &str, accepted: &'static str) {
        let message = format!("{} {message}: {value}", self.key);
        let problem = self.make(value, message, accepted);
        self.late.push(problem);
    }

    pub(super) fn text(&mut self, value: &Value, slot: &mut String) {
        match value {
            Value::String(text) => slot.clone_from(text),
            Value::Null => {}
            other => self.wrong_type(other, "string", "a string"),
        }
    }

    pub(super) fn flag(&mut self, value: &Value, slot: &mut bool) {
        match value {
            Value::Bool(flag) => *slot = *flag,
            Value::Null => {}
            other => self.wrong_type(other, "bool", "true or false"),
        }
    }

    /// A whole number; `None` for null and for what is none, which is noted.
    pub(super) fn integer(&mut self, value: &Value, go_type: &str) -> Option<i64> {
        match value {
            Value::Null => return None,
            Value::Number(number) => {
                if let Some(whole) = number.as_i64() {
                    return Some(whole);
                }
            }
            _ => {}
        }
        self.wrong_type(value, go_type, "a whole number");
        None
    }

    pub(super) fn number_or_null<T: TryFrom<i64>>(
        &mut self,
        value: &Value,
        go_type: &str,
        slot: &mut Option<T>,
    ) {
        if let Some(whole) = self.integer(value, go_type) {
            match T::try_from(whole) {
                Ok(fitting) => *slot = Some(fitting),
                Err(_) => self.wrong_type(value, go_type, range_of(go_type)),
            }
        }
    }

    pub(super) fn number<T: TryFrom<i64>>(&mut self, value: &Value, go_type: &str, slot: &mut T) {
        let mut found = None;
        self.number_or_null(value, go_type, &mut found);
        if let Some(found) = found {
            *slot = found;
        }
    }

    pub(super) fn port(&mut self, value: &Value, slot: &mut u16) {
        if let Some(whole) = self.integer(value, "int") {
            match u16::try_from(whole) {
                Ok(port) => *slot = port,
                Err(_) => self.too_far(value, "is no port", "a whole number from 0 to 65535"),
            }
        }
    }

    pub(super) fn seconds(&mut self, value: &Value, slot: &mut u32, least: u32) {
        if let Some(whole) = self.integer(value, "int") {
            match u32::try_from(whole) {
                Ok(seconds) if seconds >= least => *slot = seconds,
                _ if least == 0 => {
                    self.too_far(value, "is out of range", "seconds, 0 to 4294967295");
                }
                _ => self.too_far(value, "is out of range", "seconds, 1 to 4294967295"),
            }
        }
    }

    /// Takes a number that was checked to be one; a negative one is 0.
    pub(super) fn clamped_seconds(&self, value: &Value, slot: &mut u32) {
        if let Some(whole) = value.as_i64() {
            *slot = u32::try_from(whole.max(0)).unwrap_or(u32::MAX);
        }
    }

    pub(super) fn ttl(&mut self, value: &Value, slot: &mut u32) {
        let mut found: Option<i32> = None;
        self.number_or_null(value, "int32", &mut found);
        if let Some(seconds) = found {
            match u32::try_from(seconds) {
                Ok(ttl) => *slot = ttl,
                Err(_) => self.too_far(value, "is negative", "seconds, 0 to 2147483647"),
            }
        }
    }

    pub(super) fn texts(&mut self, value: &Value, slot: &mut Vec<String>) {
        let Some(list) = self.list(value, "[]string") else {
            return;
        };
        slot.clear();
        for element in list {
            match element {
                Value::String(text) => slot.push(text.clone()),
                Value::Null => slot.push(String::new()),
                other => self.wrong_type(other, "string", "a list of strings"),
            }
        }
    }

    pub(super) fn list<'v>(&mut self, value: &'v Value, go_type: &str) -> Option<&'v [Value]> {
        match value {
            Value::Array(list) => Some(list),
            Value::Null => Some(&[]),
            other => {
                self.wrong_type(other, go_type, "a list of strings");
                None
            }
        }
    }

    /// The members of an object of ours; none for null and for what is no object, which is noted.
    pub(super) fn members<'v>(
        &mut self,
        value: &'v Value,
    ) -> Option<&'v serde_json::Map<String, Value>> {
        match value {
            Value::Object(members) => return Some(members),
            Value::Null => {}
            other => self.wrong_type(other, "object", "an object"),
        }
        None
    }

    /// The key, with its path.
    pub(super) const fn key(&self) -> &str {
        self.key
    }

    /// A member of this object, by its full name.
    pub(super) fn member<'b>(&'b mut self, full: &'b str) -> Found<'b> {
        Found {
            path: self.path,
            key: full,
            problems: &mut *self.problems,
            late: &mut *self.late,
        }
    }

    pub(super) fn word<T: Copy>(
        &mut self,
        value: &Value,
        slot: &mut T,
        words: &[(&str, T)],
        accepted: &'static str,
    ) {
        match value {
            Value::Null => {}
            Value::String(text) => match words.iter().find(|(word, _)| word == text) {
                Some((_, meaning)) => *slot = *meaning,
                None => self.too_far(value, "is not known", accepted),
            },
            other => self.wrong_type(other, "string", accepted),
        }
    }
}

fn range_of(go_type: &str) -> &'static str {
    match go_type {
        "uint16" => "a whole number from 0 to 65535",
        "uint32" => "a whole number from 0 to 4294967295",
        "int32" => "a whole number from 0 to 2147483647",
        _ => "a whole number",
    }
}

/// A value for an error text: JSON, shortened, and nothing of what may be secret.
pub(super) fn shown(key: &str, value: &Value) -> String {
    /// Enough to recognise a value by.
    const MAX_LETTERS: usize = 60;
    if key == "MesosCredentials" || key == "transfer" {
        return "(not shown)".into();
    }
    let text = value.to_string();
    match text.char_indices().nth(MAX_LETTERS) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text,
    }
}
