//! The clients that the kernel answers, where not all are: the map `ALLOWED` brought to the list of
//! the configuration by difference.
//!
//! The kernel passes up whom it does not find, and user space decides by the same list. So a prefix
//! that is missing costs time and nothing else; only one that cannot be taken away would have the
//! wrong clients answered.

use std::collections::HashSet;
use std::net::IpAddr;

use aya::maps::lpm_trie::Key;
use aya::maps::{LpmTrie, MapData, MapError};
use dns_common::policy::{allowed_ipv4, allowed_ipv6};
use tracing::warn;

use crate::transfer::Prefix;

/// The map.
pub(super) struct Allowed {
    map: LpmTrie<MapData, [u32; 5], u32>,
    /// What is in it.
    held: HashSet<Entry>,
}

/// A key as words.
type Entry = [u64; 3];

impl Allowed {
    /// Takes a map, with what an earlier daemon may have left in it.
    ///
    /// # Errors
    /// Its content cannot be read.
    pub(super) fn new(map: LpmTrie<MapData, [u32; 5], u32>) -> Result<Self, MapError> {
        let held = map.keys().map(|key| Ok(words(&key?)));
        let held = held.collect::<Result<_, MapError>>()?;
        Ok(Self { map, held })
    }

    /// Brings the map to `list`: first those that leave it, then those that come.
    ///
    /// # Errors
    /// One cannot be taken away.
    pub(super) fn set(&mut self, list: &[Prefix]) -> Result<(), MapError> {
        let wanted: HashSet<Entry> = list.iter().map(entry).collect();
        let leaving: Vec<Entry> = self.held.difference(&wanted).copied().collect();
        let mut result = Ok(());
        for one in leaving {
            match self.map.remove(&key(&one)) {
                Ok(()) | Err(MapError::KeyNotFound) => {
                    self.held.remove(&one);
                }
                Err(error) => result = Err(error),
            }
        }
        let coming: Vec<Entry> = wanted.difference(&self.held).copied().collect();
        let mut left_out = None;
        for one in coming {
            match self.map.insert(&key(&one), 1, 0) {
                Ok(()) => {
                    self.held.insert(one);
                }
                Err(error) => left_out = Some(error),
            }
        }
        if let Some(error) = left_out {
            warn!(
                left_out = wanted.difference(&self.held).count(),
                %error,
                "user space alone answers the clients of some prefixes in server.allow_clients"
            );
        }
        result
    }
}

fn key(&[front, high, low]: &Entry) -> Key<[u32; 5]> {
    let halves = |word: u64| (word as u32, (word >> 32) as u32);
    let ((bits, family), (a, b), (c, d)) = (halves(front), halves(high), halves(low));
    Key::new(bits, [family, a, b, c, d])
}

fn words(key: &Key<[u32; 5]>) -> Entry {
    let [family, a, b, c, d] = key.data().map(u64::from);
    [
        u64::from(key.prefix_len()) | family << 32,
        a | b << 32,
        c | d << 32,
    ]
}

fn entry(prefix: &Prefix) -> Entry {
    let bits = u32::from(prefix.bits());
    match prefix.address() {
        IpAddr::V4(ip) => allowed_ipv4(bits, u32::from_le_bytes(ip.octets())),
        IpAddr::V6(ip) => {
            let address = u128::from_le_bytes(ip.octets());
            allowed_ipv6(bits, address as u64, (address >> 64) as u64)
        }
    }
}
