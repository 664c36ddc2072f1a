//! Who this server is, for those who ask in class CHAOS: `version.bind`, `id.server` and their
//! like (RFC 4892). It says what the operator wants it to say, and by default nothing.

use super::message::{Size, write_error};
use super::query::{HEADER_OCTETS, Query};
use super::resolve::Rcode;
use crate::zones::Rtype;

/// Class CHAOS (RFC 1035, section 3.2.4).
const CLASS_CH: u16 = 3;
/// The longest text of a character string.
pub const MAX_TEXT_OCTETS: usize = 255;

/// The texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// For `version.bind` and `version.server`.
    pub version: Option<String>,
    /// For `id.server` and `hostname.bind`.
    pub id: Option<String>,
}

impl Identity {
    /// The response, if there is something to say; not in a version of EDNS that is not ours (RFC 6891,
    /// section 6.1.3).
    #[must_use]
    pub fn answer(&self, query: &Query<'_>, size: Size) -> Option<Vec<u8>> {
        if query.edns.is_some_and(|edns| edns.version != 0) {
            return None;
        }
        if query.class != CLASS_CH || !matches!(query.rtype, Rtype::TXT | Rtype::ANY) {
            return None;
        }
        let text = match query.name.wire() {
            b"\x07version\x04bind\0" | b"\x07version\x06server\0" => self.version.as_ref(),
            b"\x02id\x06server\0" | b"\x08hostname\x04bind\0" => self.id.as_ref(),
            _ => None,
        };
        let text = text?.as_bytes();
        let octets = u8::try_from(text.len()).ok()?;
        let mut record = vec![0xc0, HEADER_OCTETS as u8];
        record.extend(Rtype::TXT.0.to_be_bytes());
        record.extend(CLASS_CH.to_be_bytes());
        record.extend(0u32.to_be_bytes());
        record.extend((u16::from(octets) + 1).to_be_bytes());
        record.push(octets);
        record.extend(text);
        // Behind the question and before OPT, which has no place of its own.
        let mut response = write_error(query, Rcode::NOERROR, size);
        let at = HEADER_OCTETS + query.question.len();
        response.splice(at..at, record);
        for (place, octet) in [(2, 0x04), (7, 1)] {
            if let Some(slot) = response.get_mut(place) {
                *slot |= octet;
            }
        }
        Some(response)
    }
}
