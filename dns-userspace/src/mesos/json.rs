//! A pull reader for JSON that never builds a tree: the state document is large and little of it
//! is read.
//!
//! It is strict about form (RFC 8259: a truncated body or text after the value is an error) and
//! tolerant about content: the caller asks for the kind of the next value and may skip it, so a
//! member of the wrong type is the caller's decision and not a failure of the document. Octets
//! that are not UTF-8 and lone surrogates become U+FFFD, one per octet or surrogate, as in the Go
//! decoder of mesos-dns.

use std::borrow::Cow;

/// Lists and objects may be nested this deep, as in the Go decoder.
const MAX_DEPTH: usize = 10_000;

/// The document breaks the JSON grammar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed JSON at byte {offset}: {expected} expected")]
pub struct SyntaxError {
    /// Octets from the start of the document.
    pub offset: usize,
    /// What the grammar asks for at that place.
    pub expected: &'static str,
}

/// What the next value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A number.
    Number,
    /// A string.
    String,
    /// A list.
    Array,
    /// An object.
    Object,
}

/// Reads one document from front to back.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

type Result<T> = std::result::Result<T, SyntaxError>;

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The kind of the next value, which stays unread.
    ///
    /// # Errors
    /// When no value can start here.
    pub fn kind(&mut self) -> Result<Kind> {
        match self.peek() {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            _ => Err(self.error("a value")),
        }
    }

    /// Reads past the next value, whatever it is, checking its form.
    ///
    /// # Errors
    /// When the value is malformed.
    pub fn skip(&mut self) -> Result<()> {
        let mut open: Vec<u8> = Vec::new();
        loop {
            match self.kind()? {
                Kind::Object => {
                    self.at += 1;
                    if self.peek() != Some(b'}') {
                        self.skip_key()?;
                        self.enter(&mut open, b'}')?;
                        continue;
                    }
                    self.at += 1;
                }
                Kind::Array => {
                    self.at += 1;
                    if self.peek() != Some(b']') {
                        self.enter(&mut open, b']')?;
                        continue;
                    }
                    self.at += 1;
                }
                Kind::String => {
                    self.scan_string()?;
                }
                Kind::Number => {
                    self.number()?;
                }
                Kind::Bool | Kind::Null => self.word()?,
            }
            loop {
                let Some(&close) = open.last() else {
                    return Ok(());
                };
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if close == b'}' {
                            self.skip_key()?;
                        }
                        break;
                    }
                    Some(byte) if byte == close => {
                        self.at += 1;
                        open.pop();
                    }
                    _ => return Err(self.error("a comma or the end of the list or object")),
                }
            }
        }
    }

    /// Reads a string.
    ///
    /// # Errors
    /// When the next value is no well-formed string.
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        let (raw, escaped) = self.scan_string()?;
        if escaped {
            Ok(Cow::Owned(unescape(raw)))
        } else {
            Ok(match std::str::from_utf8(raw) {
                Ok(text) => Cow::Borrowed(text),
                Err(_) => Cow::Owned(replace_invalid(raw)),
            })
        }
    }

    /// Reads `true` or `false`.
    ///
    /// # Errors
    /// When the next value is neither.
    pub fn boolean(&mut self) -> Result<bool> {
        let is_true = match self.peek() {
            Some(b't') => true,
            Some(b'f') => false,
            _ => return Err(self.error("true or false")),
        };
        self.word()?;
        Ok(is_true)
    }

    /// Reads a number, as its text.
    ///
    /// # Errors
    /// When the next value is no well-formed number.
    pub fn number(&mut self) -> Result<&'a str> {
        self.peek();
        let start = self.at;
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        match self.byte() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return Err(self.error("a digit")),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.byte() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.byte() {
                self.at += 1;
            }
            self.digits()?;
        }
        let text = self.bytes.get(start..self.at).unwrap_or_default();
        std::str::from_utf8(text).map_err(|_| self.error("a number"))
    }

    /// Reads an object, calling `member` at each value with its key.
    ///
    /// # Errors
    /// When the next value is no well-formed object, and what `member` reports; `member` must read
    /// or skip exactly one value.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &str) -> Result<()>) -> Result<()> {
        self.token(b'{', "an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.error("a key"));
            }
            let key = self.string()?;
            self.token(b':', "a colon")?;
            member(self, &key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("a comma or the end of the object")),
            }
        }
    }

    /// Reads a list, calling `element` at each value.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Result<()>) -> Result<()> {
        self.token(b'[', "a list")?;
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(self.error("a comma or the end of the list")),
            }
        }
    }

    /// Makes sure that nothing but blanks follows.
    ///
    /// # Errors
    /// When text follows the document.
    pub fn end(&mut self) -> Result<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.error("the end of the document")),
        }
    }

    fn error(&self, expected: &'static str) -> SyntaxError {
        SyntaxError {
            offset: self.at,
            expected,
        }
    }

    fn byte(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The next byte that is no blank.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.byte() {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other,
            }
        }
    }

    fn token(&mut self, byte: u8, expected: &'static str) -> Result<()> {
        if self.peek() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(self.error(expected))
    }

    fn enter(&self, open: &mut Vec<u8>, close: u8) -> Result<()> {
        if open.len() >= MAX_DEPTH {
            return Err(self.error("less nesting"));
        }
        open.push(close);
        Ok(())
    }

    fn skip_key(&mut self) -> Result<()> {
        if self.peek() != Some(b'"') {
            return Err(self.error("a key"));
        }
        self.scan_string()?;
        self.token(b':', "a colon")
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.byte() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.error("a digit"));
        }
        Ok(())
    }

    fn word(&mut self) -> Result<()> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        for word in [b"true".as_slice(), b"false", b"null"] {
            if rest.starts_with(word) {
                self.at += word.len();
                return Ok(());
            }
        }
        Err(self.error("true, false or null"))
    }

    /// Reads past a string; gives what is between the quotes and whether it holds a backslash.
    fn scan_string(&mut self) -> Result<(&'a [u8], bool)> {
        self.token(b'"', "a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(stop) = end_of_plain(rest) else {
                self.at = self.bytes.len();
                return Err(self.error("the end of a string"));
            };
            self.at += stop;
            match self.byte() {
                Some(b'"') => {
                    let raw = self.bytes.get(start..self.at).unwrap_or_default();
                    self.at += 1;
                    return Ok((raw, escaped));
                }
                Some(b'\\') => {
                    escaped = true;
                    self.at += 1;
                    self.scan_escape()?;
                }
                _ => return Err(self.error("no control character in a string")),
            }
        }
    }

    fn scan_escape(&mut self) -> Result<()> {
        match self.byte() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                for _ in 0..4 {
                    self.at += 1;
                    if !self.byte().is_some_and(|byte| byte.is_ascii_hexdigit()) {
                        return Err(self.error("four hexadecimal digits"));
                    }
                }
                self.at += 1;
            }
            _ => return Err(self.error("an escape")),
        }
        Ok(())
    }
}

/// Where the first octet is that is not plain text inside a string: a quote, a backslash, or a
/// control character. Eight octets are looked at in one step, for most of a state is skipped.
fn end_of_plain(rest: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // The high bit of each octet of `word` that is below `limit`, which is at most 0x80. Octets
    // after the first such one may be marked wrongly, by a borrow; whether there is one is right.
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let is_end = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    let mut at = 0;
    while let Some(octets) = rest.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
        let word = u64::from_le_bytes(*octets);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        if (quote | backslash | below(word, 0x20)) != 0 {
            break;
        }
        at += 8;
    }
    let tail = rest.get(at..)?;
    tail.iter().position(is_end).map(|found| at + found)
}

/// The four hexadecimal digits of a `\u` escape at the front of `rest`, backslash included.
fn unit(rest: &[u8]) -> Option<u32> {
    match rest {
        [b'\\', b'u', digits @ ..] => {
            let digits = std::str::from_utf8(digits.get(..4)?).ok()?;
            u32::from_str_radix(digits, 16).ok()
        }
        _ => None,
    }
}

/// Undoes the escapes of a string whose form was checked.
fn unescape(raw: &[u8]) -> String {
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw;
    let put = |out: &mut Vec<u8>, letter: char| {
        out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
    };
    while let Some((&byte, tail)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = tail;
            continue;
        }
        let Some(high) = unit(rest) else {
            let Some((&letter, tail)) = tail.split_first() else {
                break;
            };
            out.push(match letter {
                b'b' => 8,
                b'f' => 12,
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                other => other,
            });
            rest = tail;
            continue;
        };
        rest = rest.get(6..).unwrap_or_default();
        let low = unit(rest).filter(|low| (0xdc00..0xe000).contains(low));
        match (high, low) {
            (0xd800..0xdc00, Some(low)) => {
                let scalar = 0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                put(&mut out, char::from_u32(scalar).unwrap_or('\u{fffd}'));
                rest = rest.get(6..).unwrap_or_default();
            }
            (high, _) => put(&mut out, char::from_u32(high).unwrap_or('\u{fffd}')),
        }
    }
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(error) => replace_invalid(error.as_bytes()),
    }
}

/// Replaces every octet that belongs to no UTF-8 sequence by U+FFFD.
fn replace_invalid(raw: &[u8]) -> String {
    let mut text = String::with_capacity(raw.len() + 8);
    let mut rest = raw;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                return text;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                text.push('\u{fffd}');
                rest = after.get(1..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn well_formed(text: &[u8]) -> bool {
        let mut reader = Reader::new(text);
        reader.skip().and_then(|()| reader.end()).is_ok()
    }

    fn string(text: &[u8]) -> String {
        Reader::new(text).string().unwrap().into_owned()
    }

    #[test]
    fn broken_unicode_becomes_replacement_characters() {
        assert_eq!(string(b"\"a\xffb\""), "a\u{fffd}b");
        assert_eq!(string(b"\"\xe6\x97\""), "\u{fffd}\u{fffd}");
        assert_eq!(string(br#""\ud800x""#), "\u{fffd}x");
        assert_eq!(string(br#""\udc00\ud83d\ude00""#), "\u{fffd}😀");
        assert_eq!(string(br#""\ud800\ud800""#), "\u{fffd}\u{fffd}");
        assert_eq!(string(b"\"\\u0041\xff\\n\""), "A\u{fffd}\n");
    }

    #[test]
    fn truncated_and_trailing_text_are_errors() {
        for text in [
            "",
            " ",
            "{",
            "[1,",
            "\"a",
            "{\"a\":1",
            "{} x",
            "[1]]",
            "\u{feff}{}",
            "{\"a\"}",
            "01",
            "1.",
            "-",
            "1e",
            "tru",
            "[1,]",
            "{,}",
            "\"\\x\"",
            "\"\n\"",
            "{1:2}",
        ] {
            assert!(!well_formed(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(well_formed(&deep(MAX_DEPTH)));
        assert!(!well_formed(&deep(MAX_DEPTH + 2)));
        assert!(!well_formed(&vec![b'['; 1_000_000]));
    }

    proptest! {
        #[test]
        fn accepts_what_serde_json_accepts(text in r#"[\[\]{}:,"a0-9.eE+\\u -]{0,24}"#) {
            let other = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
            prop_assert_eq!(well_formed(text.as_bytes()), other);
        }

        #[test]
        fn any_text_survives_the_round_trip(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(string(json.as_bytes()), text);
        }

        #[test]
        fn plain_text_ends_where_its_first_other_octet_is(
            bytes in prop::collection::vec(prop_oneof![8 => 0x20_u8.., 1 => any::<u8>()], 0..40)
        ) {
            let end = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
            prop_assert_eq!(end_of_plain(&bytes), bytes.iter().position(end));
        }

        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let mut reader = Reader::new(&bytes);
            let _ = reader.string();
            let _ = Reader::new(&bytes).skip();
        }
    }
}
