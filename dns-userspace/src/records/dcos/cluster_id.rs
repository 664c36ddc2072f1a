//! The cryptographic cluster id: the z-base-32 text of a cluster's Ed25519 public key, which is
//! a label under `dcos.directory`.

use std::fmt;

/// The alphabet by value of the five bits, as dcos-net has it: that of z-base-32, but with the
/// letter `l` where the original has the digit `1`. The id of the DC/OS documentation contains it.
const ALPHABET: &[u8; 32] = b"ybndrfg8ejkmcpqxotluwisza345h769";

/// Octets of an Ed25519 public key (RFC 8032, section 5.1.5).
pub const PUBLIC_KEY_OCTETS: usize = 32;

/// Characters of the text form: 256 bits in groups of five.
pub const CLUSTER_ID_CHARACTERS: usize = 52;

/// Why a text, a key file or a ZooKeeper node gives no cluster id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClusterIdError {
    /// The text has another length.
    #[error("a cluster id has {CLUSTER_ID_CHARACTERS} characters, this one has {0}")]
    Length(usize),
    /// A character outside the alphabet.
    #[error("{0:?} is no character of a cluster id (ybndrfg8ejkmcpqxotluwisza345h769)")]
    Character(char),
    /// The bits after the key are not zero, which no encoder writes.
    #[error("the last character of a cluster id is y or o, not {0:?}")]
    TrailingBits(char),
    /// A key of another size.
    #[error("a public key has {PUBLIC_KEY_OCTETS} octets, this one has {0}")]
    KeyLength(usize),
    /// The key document is no JSON object with a `public` string.
    #[error("the key document is no JSON object with a string \"public\"")]
    Document,
    /// A code point of the key document is no octet.
    #[error("the public key of the document has the code point {0:#x}, which is no octet")]
    CodePoint(u32),
}

/// The id of one cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClusterId([u8; PUBLIC_KEY_OCTETS]);

impl ClusterId {
    /// The id of a public key.
    #[must_use]
    pub const fn from_key(key: [u8; PUBLIC_KEY_OCTETS]) -> Self {
        Self(key)
    }

    /// Reads the text form; letter case does not matter.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn from_text(text: &str) -> Result<Self, ClusterIdError> {
        let characters = text.chars().count();
        if characters != CLUSTER_ID_CHARACTERS {
            return Err(ClusterIdError::Length(characters));
        }
        let octets = decode(text)?;
        let key = octets
            .as_slice()
            .try_into()
            .map_err(|_| ClusterIdError::KeyLength(octets.len()))?;
        Ok(Self(key))
    }

    /// Reads the document that DC/OS masters keep in the ZooKeeper node `/navstar_key`: a JSON
    /// object whose `public` holds the key's octets as code points U+0000 to U+00FF. The secret
    /// key beside it is not looked at.
    ///
    /// # Errors
    /// Says what is wrong with the document.
    pub fn from_navstar_key(document: &[u8]) -> Result<Self, ClusterIdError> {
        #[derive(serde::Deserialize)]
        struct Document {
            public: String,
        }
        let document: Document =
            serde_json::from_slice(document).map_err(|_| ClusterIdError::Document)?;
        let octets = document
            .public
            .chars()
            .map(|c| u8::try_from(u32::from(c)).map_err(|_| ClusterIdError::CodePoint(c.into())))
            .collect::<Result<Vec<u8>, _>>()?;
        Self::from_octets(&octets)
    }

    /// Reads a public key file: the 32 octets themselves, the text form, or the JSON document of
    /// [`Self::from_navstar_key`].
    ///
    /// # Errors
    /// Says what is wrong with the file.
    pub fn from_key_file(content: &[u8]) -> Result<Self, ClusterIdError> {
        if content.len() == PUBLIC_KEY_OCTETS {
            return Self::from_octets(content);
        }
        let trimmed = content.trim_ascii();
        if trimmed.first() == Some(&b'{') {
            return Self::from_navstar_key(trimmed);
        }
        match std::str::from_utf8(trimmed) {
            Ok(text) if text.is_ascii() => Self::from_text(text),
            _ => Err(ClusterIdError::KeyLength(content.len())),
        }
    }

    fn from_octets(octets: &[u8]) -> Result<Self, ClusterIdError> {
        octets
            .try_into()
            .map(Self)
            .map_err(|_| ClusterIdError::KeyLength(octets.len()))
    }

    /// The public key.
    #[must_use]
    pub const fn key(&self) -> &[u8; PUBLIC_KEY_OCTETS] {
        &self.0
    }
}

/// The text form, in lower case as in a domain name.
impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&encode(&self.0))
    }
}

/// Writes octets in z-base-32: five bits at a time from the most significant, the last group
/// filled with zero bits, no padding.
fn encode(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() * 8 / 5 + 1);
    let (mut bits, mut held) = (0u32, 0u32);
    for &octet in octets {
        bits = (bits << 8) | u32::from(octet);
        held += 8;
        while held >= 5 {
            held -= 5;
            out.push(character(bits >> held));
        }
        bits &= (1 << held) - 1;
    }
    if held > 0 {
        out.push(character(bits << (5 - held)));
    }
    out
}

fn character(value: u32) -> char {
    let index = usize::try_from(value & 31).unwrap_or_default();
    char::from(ALPHABET.get(index).copied().unwrap_or(b'y'))
}

/// Reads z-base-32. Bits that fill no octet must be zero.
fn decode(text: &str) -> Result<Vec<u8>, ClusterIdError> {
    let mut out = Vec::with_capacity(text.len() * 5 / 8);
    let (mut bits, mut held) = (0u32, 0u32);
    for c in text.chars() {
        let folded = c.to_ascii_lowercase();
        let value = ALPHABET
            .iter()
            .zip(0u32..)
            .find_map(|(&known, value)| (char::from(known) == folded).then_some(value))
            .ok_or(ClusterIdError::Character(c))?;
        bits = (bits << 5) | value;
        held += 5;
        if held >= 8 {
            held -= 8;
            out.push(u8::try_from((bits >> held) & 0xff).unwrap_or_default());
        }
        bits &= (1 << held) - 1;
    }
    if bits != 0 {
        return Err(ClusterIdError::TrailingBits(
            text.chars().last().unwrap_or_default(),
        ));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEED: &str = "yor6tqhiag39y6cjkdd4w9uzo45qhku6ra8hl7hpr6d9ukjaz3jo";

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn zbase32_matches_dcos_dns() {
        let text = include_str!("../../../../tests/fixtures/dcos/vip-vectors.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let vectors = vectors["zbase32"].as_array().unwrap();
        assert!(vectors.len() >= 8);
        for vector in vectors {
            let octets = unhex(vector["bytes_hex"].as_str().unwrap());
            let text = vector["zbase32"].as_str().unwrap();
            assert_eq!(encode(&octets), text);
            assert_eq!(decode(text).unwrap(), octets);
        }
    }

    #[test]
    fn the_id_of_the_documentation_is_valid() {
        let id = ClusterId::from_text(SEED).unwrap();
        assert_eq!(id.to_string(), SEED);
        assert_eq!(
            id.key()[..],
            unhex("0409E8BB95C1B3F0798950C7AA7E7786B6EE2A7E260FC9778D2787F9A938BE53")
        );
        assert_eq!(ClusterId::from_text(&SEED.to_uppercase()), Ok(id));
    }

    #[test]
    fn mistakes_are_told() {
        assert_eq!(ClusterId::from_text("yor6"), Err(ClusterIdError::Length(4)));
        assert_eq!(
            ClusterId::from_text(&SEED.replace('g', "2")),
            Err(ClusterIdError::Character('2'))
        );
        let odd = format!("{}b", &SEED[..51]);
        assert_eq!(
            ClusterId::from_text(&odd),
            Err(ClusterIdError::TrailingBits('b'))
        );
        assert_eq!(
            ClusterId::from_navstar_key(b"[]"),
            Err(ClusterIdError::Document)
        );
        assert_eq!(
            ClusterId::from_navstar_key("{\"public\":\"\u{100}\"}".as_bytes()),
            Err(ClusterIdError::CodePoint(0x100))
        );
    }

    #[test]
    fn the_zookeeper_document_and_key_files_are_read() {
        let id = ClusterId::from_text(SEED).unwrap();
        let public: String = id.key().iter().map(|&octet| char::from(octet)).collect();
        let document = serde_json::json!({"public": public, "secret": "x"}).to_string();
        assert_eq!(ClusterId::from_navstar_key(document.as_bytes()), Ok(id));
        assert_eq!(ClusterId::from_key_file(document.as_bytes()), Ok(id));
        assert_eq!(ClusterId::from_key_file(id.key()), Ok(id));
        assert_eq!(
            ClusterId::from_key_file(format!("{SEED}\n").as_bytes()),
            Ok(id)
        );
    }

    proptest! {
        #[test]
        fn every_key_has_an_id(key: [u8; 32]) {
            let id = ClusterId::from_key(key);
            let text = id.to_string();
            prop_assert_eq!(text.len(), CLUSTER_ID_CHARACTERS);
            prop_assert_eq!(ClusterId::from_text(&text), Ok(id));
        }
    }
}
