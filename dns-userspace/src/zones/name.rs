//! Domain names in lower-case wire form, the one form that zones, answers and the kernel compare.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// A name may have at most this many octets in wire form, the root label included
/// (RFC 1035, section 2.3.4).
pub const MAX_NAME_OCTETS: usize = 255;
/// A label may have at most this many octets (RFC 1035, section 2.3.4).
pub const MAX_LABEL_OCTETS: usize = 63;

/// Why a text is no domain name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Two dots in a row, or a dot at the front.
    #[error("empty label")]
    EmptyLabel,
    /// A label of more than 63 octets.
    #[error("label longer than 63 octets")]
    LongLabel,
    /// More than 255 octets in wire form.
    #[error("name longer than 255 octets")]
    LongName,
    /// A backslash that starts no valid escape (RFC 1035, section 5.1).
    #[error("bad escape")]
    BadEscape,
    /// Wire octets that are no uncompressed name.
    #[error("malformed wire name")]
    Malformed,
}

/// A fully qualified domain name: uncompressed wire form with ASCII letters in lower case
/// (RFC 4343), the root label last. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name(Arc<[u8]>);

impl Name {
    /// Reads presentation format. A missing final dot is added; `\.` and `\DDD` are understood;
    /// letters are folded.
    ///
    /// # Errors
    /// Says which limit of RFC 1035 the text breaks.
    pub fn from_text(text: &str) -> Result<Self, NameError> {
        let mut rest = text.as_bytes();
        if let [] | [b'.'] = rest {
            return Ok(Self::root());
        }
        let mut wire = Draft::default();
        while !rest.is_empty() {
            let label_start = wire.octets;
            wire.push(&[0]);
            loop {
                let is_special = |octet: &u8| matches!(octet, b'.' | b'\\');
                let run = rest.iter().position(is_special).unwrap_or(rest.len());
                let (plain, special) = rest.split_at(run);
                wire.push(plain);
                let [b'\\', escaped @ ..] = special else {
                    rest = special.get(1..).unwrap_or_default();
                    break;
                };
                let (octet, used) = unescape(escaped)?;
                wire.push(&[octet]);
                rest = escaped.get(used..).unwrap_or_default();
            }
            wire.close_label(label_start)?;
        }
        wire.push(&[0]);
        wire.finish()
    }

    /// Reads an uncompressed wire name that fills `wire` exactly; letters are folded.
    ///
    /// # Errors
    /// [`NameError::Malformed`] for anything else, compression pointers included.
    pub fn from_wire(wire: &[u8]) -> Result<Self, NameError> {
        match Self::split_from_wire(wire)? {
            (name, []) => Ok(name),
            _ => Err(NameError::Malformed),
        }
    }

    /// Reads the uncompressed wire name that `wire` begins with, and gives what follows it.
    ///
    /// # Errors
    /// As [`Self::from_wire`].
    pub(super) fn split_from_wire(wire: &[u8]) -> Result<(Self, &[u8]), NameError> {
        let mut at = 0;
        loop {
            let &len = wire.get(at).ok_or(NameError::Malformed)?;
            if len == 0 {
                break;
            }
            if usize::from(len) > MAX_LABEL_OCTETS {
                return Err(NameError::Malformed);
            }
            at += 1 + usize::from(len);
        }
        let (name, rest) = wire.split_at_checked(at + 1).ok_or(NameError::Malformed)?;
        Ok((Self::checked(name.to_ascii_lowercase())?, rest))
    }

    fn checked(wire: Vec<u8>) -> Result<Self, NameError> {
        if wire.len() > MAX_NAME_OCTETS {
            return Err(NameError::LongName);
        }
        Ok(Self(wire.into()))
    }

    /// The root.
    #[must_use]
    pub fn root() -> Self {
        Self(Arc::from([0u8].as_slice()))
    }

    /// The wire form: length octets and folded labels, ending in the root label.
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The labels, leftmost first, the root label left out.
    pub fn labels(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        let (starts, count) = self.label_starts();
        (0..count).filter_map(move |nth| {
            let rest = self.wire().get(usize::from(*starts.get(nth)?)..)?;
            let (&len, tail) = rest.split_first()?;
            tail.get(..usize::from(len))
        })
    }

    /// This name's wire form, then that of its parent, and so on up to the root.
    pub fn suffixes(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = Some(self.wire());
        std::iter::from_fn(move || {
            let current = rest?;
            rest = match current.split_first() {
                Some((&len, tail)) if len > 0 => tail.get(usize::from(len)..),
                _ => None,
            };
            Some(current)
        })
    }

    /// The offset of each label's length octet, leftmost first; the root label is left out. 255
    /// octets hold at most 127 labels.
    fn label_starts(&self) -> ([u8; MAX_NAME_OCTETS / 2], usize) {
        let mut starts = [0; MAX_NAME_OCTETS / 2];
        let (mut at, mut count) = (0, 0);
        while let (Some(&len), Some(slot)) =
            (self.wire().get(usize::from(at)), starts.get_mut(count))
        {
            if len == 0 {
                break;
            }
            *slot = at;
            count += 1;
            at += 1 + len;
        }
        (starts, count)
    }

    /// The name without its leftmost label; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let (&len, tail) = self.wire().split_first()?;
        if len == 0 {
            return None;
        }
        Some(Self(Arc::from(tail.get(usize::from(len)..)?)))
    }

    /// Whether this name is `ancestor` or lies below it.
    #[must_use]
    pub fn is_at_or_below(&self, ancestor: &Self) -> bool {
        let (own, other) = (self.wire(), ancestor.wire());
        let Some(cut) = own.len().checked_sub(other.len()) else {
            return false;
        };
        own.get(cut..) == Some(other) && self.label_starts_at(cut)
    }

    /// `self` as a prefix put in place of the suffix `old` by `new` (a rename, or DNAME
    /// substitution of RFC 6672, section 2.2). `None` if `old` is no suffix or the result is too
    /// long.
    #[must_use]
    pub fn with_suffix_replaced(&self, old: &Self, new: &Self) -> Option<Self> {
        if !self.is_at_or_below(old) {
            return None;
        }
        let keep = self.wire().len().checked_sub(old.wire().len())?;
        let mut wire = self.wire().get(..keep)?.to_vec();
        wire.extend_from_slice(new.wire());
        Self::checked(wire).ok()
    }

    fn label_starts_at(&self, offset: usize) -> bool {
        let mut at = 0;
        while at < offset {
            match self.wire().get(at) {
                None | Some(0) => return false,
                Some(&len) => at += 1 + usize::from(len),
            }
        }
        at == offset
    }
}

/// A map by name can be asked with a wire form: both hash and compare as the octets.
impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.wire()
    }
}

/// A wire name while it is written. What is too long is counted and not kept.
struct Draft {
    wire: [u8; MAX_NAME_OCTETS],
    octets: usize,
}

impl Default for Draft {
    fn default() -> Self {
        Self {
            wire: [0; MAX_NAME_OCTETS],
            octets: 0,
        }
    }
}

impl Draft {
    fn push(&mut self, octets: &[u8]) {
        let end = self.octets + octets.len();
        if let Some(place) = self.wire.get_mut(self.octets..end) {
            place.copy_from_slice(octets);
        }
        self.octets = end;
    }

    /// Writes the length of the label whose length octet is at `start`.
    fn close_label(&mut self, start: usize) -> Result<(), NameError> {
        let octet = match self.octets - start - 1 {
            0 => return Err(NameError::EmptyLabel),
            len @ 1..=MAX_LABEL_OCTETS => len as u8,
            _ => return Err(NameError::LongLabel),
        };
        if let Some(slot) = self.wire.get_mut(start) {
            *slot = octet;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Name, NameError> {
        let wire = self.wire.get_mut(..self.octets);
        let wire = wire.ok_or(NameError::LongName)?;
        // Length octets are below the letters.
        wire.make_ascii_lowercase();
        Ok(Name(Arc::from(&*wire)))
    }
}

fn unescape(rest: &[u8]) -> Result<(u8, usize), NameError> {
    match rest {
        [a @ b'0'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9', ..] => {
            let value = u32::from(a - b'0') * 100 + u32::from(b - b'0') * 10 + u32::from(c - b'0');
            Ok((u8::try_from(value).map_err(|_| NameError::BadEscape)?, 3))
        }
        [b'0'..=b'9', ..] | [] => Err(NameError::BadEscape),
        [other, ..] => Ok((*other, 1)),
    }
}

/// Presentation format with the final dot (RFC 1035, section 5.1).
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.wire().len() <= 1 {
            return f.write_str(".");
        }
        for label in self.labels() {
            for &octet in label {
                match octet {
                    b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                        write!(f, "\\{}", char::from(octet))?;
                    }
                    0x21..=0x7e => write!(f, "{}", char::from(octet))?,
                    _ => write!(f, "\\{octet:03}")?,
                }
            }
            f.write_str(".")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The canonical order of RFC 4034, section 6.1: by label from the right, so that a name comes
/// right before everything below it.
impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.labels().rev().cmp(other.labels().rev())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    #[test]
    fn text_is_folded_and_completed() {
        assert_eq!(name("Web.Mesos").wire(), b"\x03web\x05mesos\0");
        assert_eq!(name("web.mesos.").to_string(), "web.mesos.");
        assert_eq!(name(".").wire(), b"\0");
    }

    #[test]
    fn escapes_survive_the_round_trip() {
        let dotted = name(r"a\.b\000c.mesos");
        assert_eq!(dotted.wire(), b"\x05a.b\0c\x05mesos\0");
        assert_eq!(name(&dotted.to_string()), dotted);
    }

    #[test]
    fn limits_of_rfc1035_hold() {
        assert_eq!(Name::from_text("a..b"), Err(NameError::EmptyLabel));
        assert_eq!(Name::from_text(".a"), Err(NameError::EmptyLabel));
        assert_eq!(Name::from_text(&"a".repeat(64)), Err(NameError::LongLabel));
        let long = [
            "a".repeat(63),
            "b".repeat(63),
            "c".repeat(63),
            "d".repeat(61),
        ]
        .join(".");
        assert_eq!(name(&long).wire().len(), 255);
        assert_eq!(
            Name::from_text(&format!("{long}d")),
            Err(NameError::LongName)
        );
    }

    #[test]
    fn a_suffix_must_start_at_a_label() {
        assert!(name("a.mesos").is_at_or_below(&name("mesos")));
        assert!(name("mesos").is_at_or_below(&name("mesos")));
        assert!(!name("xmesos").is_at_or_below(&name("mesos")));
        assert!(name("mesos").is_at_or_below(&Name::root()));
        // 5 is the length octet of "mesos" inside a label.
        assert!(
            !Name::from_wire(b"\x07a\x05mesos\0")
                .unwrap()
                .is_at_or_below(&name("mesos"))
        );
    }

    #[test]
    fn canonical_order_puts_a_name_before_its_descendants() {
        let mut names = [
            name("z.a.mesos"),
            name("b.mesos"),
            name("mesos"),
            name("a.mesos"),
        ];
        names.sort();
        let texts: Vec<String> = names.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["mesos.", "a.mesos.", "z.a.mesos.", "b.mesos."]);
    }
}
