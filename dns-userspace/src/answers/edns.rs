//! EDNS options (RFC 6891, section 6.1.2): read out of queries, written into responses, whoever
//! made these.

use super::query::HEADER_OCTETS;
use crate::zones::Rtype;

/// Codes of options (the registry "DNS EDNS0 Option Codes").
pub mod option {
    /// NSID (RFC 5001).
    pub const NSID: u16 = 3;
    /// COOKIE (RFC 7873).
    pub const COOKIE: u16 = 10;
    /// edns-tcp-keepalive (RFC 7828).
    pub const KEEPALIVE: u16 = 11;
    /// Padding (RFC 7830).
    pub const PADDING: u16 = 12;
    /// Extended DNS Error (RFC 8914).
    pub const EXTENDED_ERROR: u16 = 15;
}

/// Octets of an option before its data.
pub const OPTION_HEADER_OCTETS: usize = 4;

/// Octets of edns-tcp-keepalive in a response (RFC 7828, section 3.1).
pub const KEEPALIVE_OCTETS: usize = OPTION_HEADER_OCTETS + 2;

/// Octets that an [`ExtendedError`] takes.
pub const EXTENDED_ERROR_OCTETS: usize = OPTION_HEADER_OCTETS + 2;

/// Why a response is what it is, without text (RFC 8914, section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExtendedError(pub u16);

impl ExtendedError {
    /// The data is older than its TTL (section 4.4).
    pub const STALE_ANSWER: Self = Self(3);
    /// A failure that was met a moment ago (section 4.14).
    pub const CACHED_ERROR: Self = Self(13);
    /// The server is not yet up to answering (section 4.15).
    pub const NOT_READY: Self = Self(14);
    /// The client must not ask (section 4.19).
    pub const PROHIBITED: Self = Self(18);
    /// NXDOMAIN from data older than its TTL (section 4.20).
    pub const STALE_NXDOMAIN: Self = Self(19);
    /// Recursion is wanted and not had, of a name that is not ours (section 4.21).
    pub const NOT_AUTHORITATIVE: Self = Self(20);
    /// The kind of query is not served (section 4.22).
    pub const NOT_SUPPORTED: Self = Self(21);
    /// No upstream answered (section 4.23).
    pub const NO_REACHABLE_AUTHORITY: Self = Self(22);
    /// The way to the upstreams is broken (section 4.24).
    pub const NETWORK_ERROR: Self = Self(23);

    /// The data of the option.
    #[must_use]
    pub const fn data(self) -> [u8; 2] {
        self.0.to_be_bytes()
    }

    /// Adds it to a finished response that has an OPT record, as each has whose query had. Whether
    /// it did: [`EXTENDED_ERROR_OCTETS`] must fit within `limit`.
    pub fn explain(self, response: &mut Vec<u8>, limit: usize) -> bool {
        response.len() + EXTENDED_ERROR_OCTETS <= limit
            && rewrite(
                response,
                |_| true,
                &[(option::EXTENDED_ERROR, &self.data())],
            )
    }
}

/// The options in the data of an OPT record, as far as they are whole.
pub fn options(mut data: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let [code0, code1, high, low, rest @ ..] = data else {
            return None;
        };
        let octets = usize::from(u16::from_be_bytes([*high, *low]));
        let (option, after) = rest.split_at_checked(octets)?;
        data = after;
        Some((u16::from_be_bytes([*code0, *code1]), option))
    })
}

/// Adds options to the OPT record of a finished response, and takes out those whose code `keeps`
/// denies. Changes nothing and says so where there is no OPT record at the end of the response, or
/// where the options do not fit into a message.
pub fn rewrite(response: &mut Vec<u8>, keeps: impl Fn(u16) -> bool, more: &[(u16, &[u8])]) -> bool {
    let Some(data_at) = opt_data(response) else {
        return false;
    };
    let old = response.get(data_at..).unwrap_or_default();
    let kept = options(old).filter(|(code, _)| keeps(*code));
    let mut data = Vec::with_capacity(old.len() + 32);
    for (code, option) in kept.chain(more.iter().copied()) {
        let Ok(octets) = u16::try_from(option.len()) else {
            return false;
        };
        data.extend_from_slice(&code.to_be_bytes());
        data.extend_from_slice(&octets.to_be_bytes());
        data.extend_from_slice(option);
    }
    let Ok(octets) = u16::try_from(data.len()) else {
        return false;
    };
    if data_at + data.len() > usize::from(u16::MAX) {
        return false;
    }
    response.truncate(data_at - 2);
    response.extend_from_slice(&octets.to_be_bytes());
    response.extend_from_slice(&data);
    true
}

/// Seconds for which a response holds: the least TTL of its records, OPT aside, and for a denial
/// the last field of the SOA too (RFC 8484, section 5.1). `None` for one without records.
#[must_use]
pub fn lifetime(message: &[u8]) -> Option<u32> {
    let count = |at| Some(usize::from(u16_at(message, at)?));
    let mut at = HEADER_OCTETS;
    for _ in 0..count(4)? {
        at = after_name(message, at)?.checked_add(4)?;
    }
    let answers = count(6)?;
    let mut least: Option<u32> = None;
    for _ in 0..answers + count(8)? + count(10)? {
        let fixed = after_name(message, at)?;
        let data = fixed + 10;
        at = data + usize::from(u16_at(message, fixed + 8)?);
        let rtype = u16_at(message, fixed)?;
        if rtype == Rtype::OPT.0 {
            continue;
        }
        let mut ttl = u32_at(message, fixed + 4)?;
        if answers == 0 && rtype == Rtype::SOA.0 {
            let minimum = message.get(data..at)?.last_chunk()?;
            ttl = ttl.min(u32::from_be_bytes(*minimum));
        }
        least = Some(least.map_or(ttl, |least| least.min(ttl)));
    }
    least
}

/// Where the data of the OPT record starts, if that record is the last of the message.
fn opt_data(message: &[u8]) -> Option<usize> {
    let count = |at| Some(usize::from(u16_at(message, at)?));
    let mut at = HEADER_OCTETS;
    for _ in 0..count(4)? {
        at = after_name(message, at)?.checked_add(4)?;
    }
    let records = count(6)? + count(8)? + count(10)?;
    for number in 1..=records {
        let start = at;
        let fixed = after_name(message, at)?;
        let data = fixed.checked_add(10)?;
        at = data.checked_add(usize::from(u16_at(message, fixed + 8)?))?;
        let is_last = number == records && at == message.len();
        if is_last && message.get(start) == Some(&0) && u16_at(message, fixed)? == Rtype::OPT.0 {
            return Some(data);
        }
    }
    None
}

/// The offset after a name, compressed or not. Each step goes forward.
fn after_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match message.get(at)? {
            0 => return at.checked_add(1),
            octets @ 1..=63 => at = at.checked_add(1 + usize::from(*octets))?,
            0xc0.. => return at.checked_add(2),
            _ => return None,
        }
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;
    use hickory_proto::serialize::binary::BinDecodable;

    /// A response to `web.mesos A IN` with one address, and OPT with NSID "a".
    const RESPONSE: &[u8] = b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x01\
        \x03web\x05mesos\x00\x00\x01\x00\x01\
        \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x01\
        \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x05\x00\x03\x00\x01a";

    fn option_codes(response: &[u8]) -> Vec<u16> {
        Message::from_bytes(response).unwrap();
        let data = opt_data(response).unwrap();
        options(&response[data..]).map(|(code, _)| code).collect()
    }

    #[test]
    fn rfc8914_2_the_option_is_a_code_and_text() {
        let mut response = RESPONSE.to_vec();
        assert!(ExtendedError::NOT_READY.explain(&mut response, 512));
        // OPTION-CODE 15, OPTION-LENGTH 2, INFO-CODE 14, no EXTRA-TEXT.
        assert!(response.ends_with(&[0, 15, 0, 2, 0, 14]));
        assert_eq!(option_codes(&response), [3, 15]);
        let mut full = RESPONSE.to_vec();
        assert!(!ExtendedError::NOT_READY.explain(&mut full, RESPONSE.len() + 5));
        assert_eq!(full, RESPONSE);
    }

    #[test]
    fn options_are_taken_out_and_added() {
        let mut response = RESPONSE.to_vec();
        assert!(rewrite(
            &mut response,
            |code| code != 3,
            &[(10, b"12345678")]
        ));
        assert_eq!(option_codes(&response), [10]);
        assert!(rewrite(&mut response, |code| code != 10, &[]));
        assert!(option_codes(&response).is_empty());
    }

    #[test]
    fn without_opt_at_the_end_nothing_changes() {
        let mut bare = RESPONSE[..43].to_vec();
        bare[11] = 0;
        let mut behind = RESPONSE.to_vec();
        behind.push(0);
        for message in [bare, behind, RESPONSE[..50].to_vec(), Vec::new()] {
            let mut response = message.clone();
            assert!(!rewrite(&mut response, |_| true, &[(10, b"12345678")]));
            assert_eq!(response, message);
        }
    }

    #[test]
    fn a_response_holds_as_long_as_the_first_of_its_records() {
        assert_eq!(lifetime(RESPONSE), Some(60));
        let mut two = RESPONSE[..43].to_vec();
        two.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\x0a\x00\x00\x02");
        two[7] = 2;
        two[11] = 0;
        assert_eq!(lifetime(&two), Some(30));
        let mut empty = RESPONSE[..HEADER_OCTETS + 15].to_vec();
        empty[7] = 0;
        empty[11] = 0;
        assert_eq!(lifetime(&empty), None);
        // NODATA: an SOA of 300 seconds that says 20.
        let mut denial = empty;
        denial[9] = 1;
        denial
            .extend_from_slice(b"\xc0\x10\x00\x06\x00\x01\x00\x00\x01\x2c\x00\x18\xc0\x10\xc0\x10");
        for field in [1u32, 2, 3, 4, 20] {
            denial.extend_from_slice(&field.to_be_bytes());
        }
        assert_eq!(lifetime(&denial), Some(20));
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_panic(mut message: Vec<u8>) {
            let _ = lifetime(&message);
            let _ = options(&message).count();
            rewrite(&mut message, |_| true, &[(10, b"12345678")]);
        }
    }
}
