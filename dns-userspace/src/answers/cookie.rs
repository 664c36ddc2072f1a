//! DNS cookies (RFC 7873) with server cookies that servers of any make agree on if they share a
//! secret (RFC 9018). Pure: the time is an argument.

use std::fmt;
use std::net::IpAddr;

use super::edns::OPTION_HEADER_OCTETS;

/// Octets of a client cookie (RFC 7873, section 4).
pub const CLIENT_OCTETS: usize = 8;
/// Octets of a server cookie of version 1 (RFC 9018, section 4).
pub const SERVER_OCTETS: usize = 16;
/// Octets of the option in a response.
pub const OPTION_OCTETS: usize = OPTION_HEADER_OCTETS + CLIENT_OCTETS + SERVER_OCTETS;
/// Octets of a server secret (RFC 9018, section 4.4).
pub const SECRET_OCTETS: usize = 16;

/// What is hashed for a client of IPv6: client cookie, the first half of the server cookie, address.
const MAX_HASHED_OCTETS: usize = CLIENT_OCTETS + 8 + 16;

/// The only version (RFC 9018, section 4.1).
const VERSION: u8 = 1;
/// Seconds that a cookie is good (RFC 9018, section 4.3).
const GOOD_SECONDS: u32 = 3600;
/// Seconds that it may be ahead of our clock.
const AHEAD_SECONDS: u32 = 300;
/// Seconds after which a good one is replaced.
const FRESH_SECONDS: u32 = 1800;
/// How long a secret of our own making is used.
const DAY_SECONDS: u32 = 86400;

/// A key of the hash. It is never shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; SECRET_OCTETS]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Secret {
    /// The hash of the parts one behind the other, of [`MAX_HASHED_OCTETS`] at most.
    fn hash(&self, parts: &[&[u8]]) -> u64 {
        let mut octets = [0; MAX_HASHED_OCTETS];
        let mut len = 0;
        for octet in parts.iter().copied().flatten() {
            if let Some(slot) = octets.get_mut(len) {
                *slot = *octet;
                len += 1;
            }
        }
        siphash_2_4(&self.0, octets.get(..len).unwrap_or_default())
    }
}

/// The secrets that cookies are made and checked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Secrets {
    /// The first makes cookies, all check them: so that a set of servers can go over to another
    /// secret one by one (RFC 9018, section 5).
    Shared(Vec<Secret>),
    /// Derived from this anew every day; the one of the day before is still good.
    Own(Secret),
}

/// What a COOKIE option of a query comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// The data of the option of the response: client cookie and server cookie.
    pub option: [u8; CLIENT_OCTETS + SERVER_OCTETS],
    /// Whether the query has a server cookie, of whatever making.
    pub has_server_cookie: bool,
    /// Whether the query has a server cookie that we made for this client.
    pub is_good: bool,
}

impl Secrets {
    /// Reads the option that `client` sent at `now`, in seconds of Unix time modulo 2^32. `None` if
    /// its length is none of those allowed: the query is FORMERR then (RFC 7873, section 5.2.2).
    #[must_use]
    pub fn verify(&self, option: &[u8], client: IpAddr, now: u32) -> Option<Verified> {
        let (client_cookie, server_cookie) = option.split_first_chunk::<CLIENT_OCTETS>()?;
        if !server_cookie.is_empty() && !(8..=32).contains(&server_cookie.len()) {
            return None;
        }
        let age = self.age(client_cookie, server_cookie, client, now);
        let server: [u8; SERVER_OCTETS] = match (age, server_cookie.first_chunk()) {
            (Some(Age::Fresh), Some(server)) => *server,
            _ => self.make(client_cookie, client, now),
        };
        let mut response = [0; CLIENT_OCTETS + SERVER_OCTETS];
        let octets = client_cookie.iter().chain(&server);
        for (slot, octet) in response.iter_mut().zip(octets) {
            *slot = *octet;
        }
        Some(Verified {
            option: response,
            has_server_cookie: !server_cookie.is_empty(),
            is_good: age.is_some(),
        })
    }

    fn make(&self, client_cookie: &[u8], client: IpAddr, now: u32) -> [u8; SERVER_OCTETS] {
        let [t0, t1, t2, t3] = now.to_be_bytes();
        let front = [VERSION, 0, 0, 0, t0, t1, t2, t3];
        let hash = match self.all(now).next() {
            Some(secret) => hash(&secret, client_cookie, front, client),
            None => 0,
        };
        let mut cookie = [0; SERVER_OCTETS];
        // The hash function's output is in little-endian order, as its reference has it.
        let octets = front.into_iter().chain(hash.to_le_bytes());
        for (slot, octet) in cookie.iter_mut().zip(octets) {
            *slot = octet;
        }
        cookie
    }

    /// How old a server cookie is; `None` if it is not good.
    fn age(&self, client_cookie: &[u8], cookie: &[u8], client: IpAddr, now: u32) -> Option<Age> {
        let cookie: [u8; SERVER_OCTETS] = cookie.try_into().ok()?;
        let (front, hash_octets) = cookie.split_first_chunk::<8>()?;
        let [version, _, _, _, time @ ..] = *front;
        // Serial number arithmetic (RFC 9018, section 4.3).
        let age = now.wrapping_sub(u32::from_be_bytes(time));
        let is_ahead = age.wrapping_neg() <= AHEAD_SECONDS;
        if version != VERSION || !(age <= GOOD_SECONDS || is_ahead) {
            return None;
        }
        let by = self.all(now).position(|secret| {
            hash(&secret, client_cookie, *front, client).to_le_bytes() == *hash_octets
        })?;
        if by == 0 && (age < FRESH_SECONDS || is_ahead) {
            Some(Age::Fresh)
        } else {
            Some(Age::Old)
        }
    }

    /// The secret that makes cookies, then the others that are good.
    fn all(&self, now: u32) -> impl Iterator<Item = Secret> {
        let (shared, own) = match self {
            Self::Shared(secrets) => (secrets.as_slice(), None),
            Self::Own(secret) => ([].as_slice(), Some(secret)),
        };
        let today = now / DAY_SECONDS;
        // The one of the day before is made only where that of today does not fit.
        let days = own.into_iter().flat_map(move |secret| {
            [today, today.wrapping_sub(1)]
                .into_iter()
                .map(|day| of_day(secret, day))
        });
        shared.iter().copied().chain(days)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// It may be used again as it is.
    Fresh,
    /// It is good, and to be replaced.
    Old,
}

fn of_day(secret: &Secret, day: u32) -> Secret {
    let half = |which: u8| secret.hash(&[&day.to_be_bytes(), &[which]]).to_le_bytes();
    let mut octets = [0; SECRET_OCTETS];
    for (slot, octet) in octets.iter_mut().zip(half(0).into_iter().chain(half(1))) {
        *slot = octet;
    }
    Secret(octets)
}

/// RFC 9018, section 4.4.
fn hash(secret: &Secret, client_cookie: &[u8], front: [u8; 8], client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(ip) => secret.hash(&[client_cookie, &front, &ip.octets()]),
        IpAddr::V6(ip) => secret.hash(&[client_cookie, &front, &ip.octets()]),
    }
}

/// SipHash-2-4 (Aumasson and Bernstein, 2012).
fn siphash_2_4(key: &[u8; SECRET_OCTETS], data: &[u8]) -> u64 {
    let [k0, k1] = {
        let (halves, _) = key.as_chunks::<8>();
        let mut halves = halves.iter().map(|half| u64::from_le_bytes(*half));
        [halves.next().unwrap_or(0), halves.next().unwrap_or(0)]
    };
    let mut state = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let (words, rest) = data.as_chunks::<8>();
    // The last word: what is left, and the length in its top octet.
    let mut last = (data.len() as u64) << 56;
    for (place, octet) in rest.iter().enumerate() {
        last |= u64::from(*octet) << (8 * place);
    }
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    for word in words.chain([last]) {
        let [_, _, _, v3] = &mut state;
        *v3 ^= word;
        rounds(&mut state, 2);
        let [v0, _, _, _] = &mut state;
        *v0 ^= word;
    }
    let [_, _, v2, _] = &mut state;
    *v2 ^= 0xff;
    rounds(&mut state, 4);
    state.into_iter().fold(0, |sum, word| sum ^ word)
}

fn rounds(state: &mut [u64; 4], count: usize) {
    let [mut v0, mut v1, mut v2, mut v3] = *state;
    for _ in 0..count {
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
    }
    *state = [v0, v1, v2, v3];
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap()
    }

    fn secrets(texts: &[&str]) -> Secrets {
        let secret = |text: &&str| Secret(hex(text).try_into().unwrap());
        Secrets::Shared(texts.iter().map(secret).collect())
    }

    fn verify(secrets: &Secrets, query: &str, client: &str, now: u32) -> (String, bool) {
        let client = client.parse().unwrap();
        let verified = secrets.verify(&hex(query), client, now).unwrap();
        let text = data_encoding::HEXLOWER.encode(&verified.option);
        (text, verified.is_good)
    }

    const SECRET: &str = "e5e973e5a6b2a43f48e7dc849e37bfcf";

    #[test]
    fn rfc9018_a_1_learning_a_server_cookie() {
        let learned = verify(
            &secrets(&[SECRET]),
            "2464c4abcf10c957",
            "198.51.100.100",
            1_559_731_985,
        );
        let expected = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        assert_eq!(learned, (expected.to_owned(), false));
    }

    #[test]
    fn rfc9018_a_2_learning_a_renewed_server_cookie() {
        let query = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let client = "198.51.100.100";
        let renewed = verify(&secrets(&[SECRET]), query, client, 1_559_734_385);
        let expected = "2464c4abcf10c957010000005cf7a871d4a564a1442aca77";
        assert_eq!(renewed, (expected.to_owned(), true));
        // Within half an hour it stays.
        let kept = verify(&secrets(&[SECRET]), query, client, 1_559_733_000);
        assert_eq!(kept, (query.to_owned(), true));
    }

    #[test]
    fn rfc9018_a_3_reserved_octets_are_hashed_as_sent() {
        let query = "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5";
        let renewed = verify(&secrets(&[SECRET]), query, "203.0.113.203", 1_559_734_700);
        // The cookie is of 1559727985, which is more than an hour before: it would not be good by
        // section 4.3, and the response is the same either way.
        let expected = "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e";
        assert_eq!(renewed.0, expected);
        let at = verify(&secrets(&[SECRET]), query, "203.0.113.203", 1_559_728_000);
        assert_eq!(at, (query.to_owned(), true));
    }

    #[test]
    fn rfc9018_a_4_ipv6_with_a_secret_rolled_over() {
        let (old, new) = (
            "dd3bdf9344b678b185a6f5cb60fca715",
            "445536bcd2513298075a5d379663c962",
        );
        let query = "22681ab97d52c298010000005cf7c57926556bd0934c72f8";
        let client = "2001:db8:220:1:59de:d0f4:8769:82b8";
        let rolled = verify(&secrets(&[new, old]), query, client, 1_559_741_961);
        let expected = "22681ab97d52c298010000005cf7c609a6bb79d16625507a";
        assert_eq!(rolled, (expected.to_owned(), true));
        let unknown = verify(&secrets(&[new]), query, client, 1_559_741_961);
        assert_eq!(unknown, (expected.to_owned(), false));
    }

    #[test]
    fn rfc9018_4_3_cookies_age() {
        let query = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
        let made = 1_559_731_985;
        let is_good = |now| verify(&secrets(&[SECRET]), query, "198.51.100.100", now).1;
        assert!(is_good(made) && is_good(made + 3600) && is_good(made - 300));
        assert!(!is_good(made + 3601) && !is_good(made - 301));
        let elsewhere = verify(&secrets(&[SECRET]), query, "198.51.100.101", made);
        assert!(!elsewhere.1, "another client");
    }

    #[test]
    fn rfc7873_5_2_2_other_lengths_are_malformed() {
        let client = "198.51.100.100".parse().unwrap();
        for octets in 0..=48 {
            let verified = secrets(&[SECRET]).verify(&vec![1; octets], client, 0);
            let allowed = octets == 8 || (16..=40).contains(&octets);
            assert_eq!(verified.is_some(), allowed, "{octets}");
        }
    }

    #[test]
    fn secrets_of_our_own_change_every_day() {
        let own = Secrets::Own(Secret([7; SECRET_OCTETS]));
        let midnight = DAY_SECONDS * 18_000;
        let (cookie, _) = verify(&own, "2464c4abcf10c957", "192.0.2.1", midnight - 60);
        let (next, is_good) = verify(&own, &cookie, "192.0.2.1", midnight + 60);
        assert!(is_good && next != cookie);
        let (last, is_good) = verify(&own, &next, "192.0.2.1", midnight + 61);
        assert!(is_good && last == next);
    }

    /// The first of the vectors of the reference implementation: key 00 to 0f, data 00 to 0e.
    #[test]
    fn siphash_is_that_of_its_paper() {
        let key: [u8; 16] = std::array::from_fn(|place| place as u8);
        let data: Vec<u8> = (0..15).collect();
        assert_eq!(siphash_2_4(&key, &data), 0xa129_ca61_49be_45e5);
    }
}
