//! Addresses of named VIPs, byte for byte those that dcos-l4lb gives out: a hash of the name says
//! where to start, the next free address is taken.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use sha1::{Digest, Sha1};

use super::label::domain_frag;

/// What a named VIP is known by: the label as written and the framework. Labels that differ in
/// letter case or a slash share a name but not an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VipName {
    /// The framework's name.
    pub framework: String,
    /// The label without its port, as written.
    pub label: String,
}

impl VipName {
    /// The text that is hashed.
    #[must_use]
    pub fn hash_name(&self) -> String {
        format!(
            "{}.{}",
            domain_frag(&self.label),
            domain_frag(&self.framework)
        )
    }
}

/// The first and the last address to give out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range<T> {
    /// The first address.
    pub first: T,
    /// The last address; never the start of a search.
    pub last: T,
}

/// The range of packaged DC/OS. The built-in default of dcos-l4lb ends one address earlier, which
/// gives nearly every VIP another address.
pub const DEFAULT_IPV4_RANGE: Range<Ipv4Addr> = Range {
    first: Ipv4Addr::new(11, 0, 0, 0),
    last: Ipv4Addr::new(11, 255, 255, 255),
};

/// The range of packaged DC/OS.
pub const DEFAULT_IPV6_RANGE: Range<Ipv6Addr> = Range {
    first: Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0, 0, 0, 0),
    last: Ipv6Addr::new(0xfd01, 0xc, 0, 0, 0xffff, 0xffff, 0xffff, 0xffff),
};

/// A VIP's addresses, as kept over a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// The VIP.
    #[serde(flatten)]
    pub vip: VipName,
    /// Its IPv4 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Addr>,
}

/// Gives addresses to named VIPs and keeps them while they are in use.
#[derive(Debug, Clone)]
pub struct Allocator {
    ipv4: Family,
    ipv6: Family,
}

/// The addresses of one family, as numbers.
#[derive(Debug, Clone)]
struct Family {
    first: u128,
    last: u128,
    start: fn(&str, u128) -> u128,
    by_vip: BTreeMap<VipName, u128>,
    taken: HashMap<u128, VipName>,
}

impl Allocator {
    /// An allocator with nothing given out.
    #[must_use]
    pub fn new(ipv4: Range<Ipv4Addr>, ipv6: Range<Ipv6Addr>) -> Self {
        let family = |first, last, start| Family {
            first,
            last,
            start,
            by_vip: BTreeMap::new(),
            taken: HashMap::new(),
        };
        Self {
            ipv4: family(
                u32::from(ipv4.first).into(),
                u32::from(ipv4.last).into(),
                |name, modulus| u128::from(phash2(name.as_bytes())) % modulus,
            ),
            ipv6: family(ipv6.first.into(), ipv6.last.into(), |name, modulus| {
                sha1_modulo(name.as_bytes(), modulus)
            }),
        }
    }

    /// The IPv4 address of a VIP, given out if it has none. `None` if the range is used up.
    pub fn ipv4(&mut self, vip: &VipName) -> Option<Ipv4Addr> {
        self.ipv4.allocate(vip).map(to_ipv4)
    }

    /// The IPv6 address of a VIP, given out if it has none. `None` if the range is used up.
    pub fn ipv6(&mut self, vip: &VipName) -> Option<Ipv6Addr> {
        self.ipv6.allocate(vip).map(Ipv6Addr::from)
    }

    /// The addresses a VIP has.
    pub fn addresses(&self, vip: &VipName) -> impl Iterator<Item = IpAddr> {
        let ipv4 = self.ipv4.by_vip.get(vip).map(|&ip| to_ipv4(ip).into());
        let ipv6 = self
            .ipv6
            .by_vip
            .get(vip)
            .map(|&ip| Ipv6Addr::from(ip).into());
        ipv4.into_iter().chain(ipv6)
    }

    /// Takes back the IPv4 address of a VIP, if it has one.
    pub fn release_ipv4(&mut self, vip: &VipName) -> bool {
        self.ipv4.release(vip)
    }

    /// Takes back the IPv6 address of a VIP, if it has one.
    pub fn release_ipv6(&mut self, vip: &VipName) -> bool {
        self.ipv6.release(vip)
    }

    /// Everything given out, sorted by framework and label.
    #[must_use]
    pub fn allocations(&self) -> Vec<Allocation> {
        let mut all: BTreeMap<&VipName, (Option<Ipv4Addr>, Option<Ipv6Addr>)> = BTreeMap::new();
        for (vip, &ip) in &self.ipv4.by_vip {
            all.entry(vip).or_default().0 = Some(to_ipv4(ip));
        }
        for (vip, &ip) in &self.ipv6.by_vip {
            all.entry(vip).or_default().1 = Some(ip.into());
        }
        all.into_iter()
            .map(|(vip, (ipv4, ipv6))| Allocation {
                vip: vip.clone(),
                ipv4,
                ipv6,
            })
            .collect()
    }

    /// Gives out again what was given out before a restart. What is outside the ranges or taken
    /// is left out; returns how many addresses that were.
    pub fn restore(&mut self, allocations: &[Allocation]) -> usize {
        let mut refused = 0;
        for Allocation { vip, ipv4, ipv6 } in allocations {
            if let Some(ip) = ipv4 {
                refused += usize::from(!self.ipv4.claim(vip, u32::from(*ip).into()));
            }
            if let Some(ip) = ipv6 {
                refused += usize::from(!self.ipv6.claim(vip, (*ip).into()));
            }
        }
        refused
    }
}

impl Family {
    fn allocate(&mut self, vip: &VipName) -> Option<u128> {
        if let Some(&ip) = self.by_vip.get(vip) {
            return Some(ip);
        }
        let modulus = self.last.checked_sub(self.first).filter(|&q| q > 0)?;
        let mut ip = self.first + (self.start)(&vip.hash_name(), modulus);
        // At most as many attempts as dcos-l4lb makes, and no more than can be in the way.
        let taken = u128::try_from(self.taken.len()).unwrap_or(u128::MAX);
        let attempts = modulus.min(taken.saturating_add(1));
        let mut attempt = 0;
        while attempt < attempts {
            if self.claim(vip, ip) {
                return Some(ip);
            }
            ip = if ip == self.last { self.first } else { ip + 1 };
            attempt += 1;
        }
        None
    }

    fn claim(&mut self, vip: &VipName, ip: u128) -> bool {
        if !(self.first..=self.last).contains(&ip)
            || self.taken.contains_key(&ip)
            || self.by_vip.contains_key(vip)
        {
            return false;
        }
        self.taken.insert(ip, vip.clone());
        self.by_vip.insert(vip.clone(), ip);
        true
    }

    fn release(&mut self, vip: &VipName) -> bool {
        let released = self.by_vip.remove(vip);
        released.is_some_and(|ip| self.taken.remove(&ip).is_some())
    }
}

/// An address of the IPv4 family, which holds no greater numbers.
fn to_ipv4(ip: u128) -> Ipv4Addr {
    Ipv4Addr::from_bits(u32::try_from(ip).unwrap_or(u32::MAX))
}

const GOLDEN_RATIO: u32 = 0x9e37_79b9;

/// The 32 bits of Erlang's `phash2` of a binary: Bob Jenkins' hash of 1996 over its octets. OTP
/// takes their low 27 bits, or their remainder if a range is given.
fn phash2(octets: &[u8]) -> u32 {
    let seed = GOLDEN_RATIO.wrapping_mul(13);
    if octets.is_empty() {
        return seed;
    }
    let (mut a, mut b, mut c) = (GOLDEN_RATIO, GOLDEN_RATIO, seed);
    let mut blocks = octets.chunks_exact(12);
    for block in &mut blocks {
        a = a.wrapping_add(word(block, 0));
        b = b.wrapping_add(word(block, 4));
        c = c.wrapping_add(word(block, 8));
        (a, b, c) = mix(a, b, c);
    }
    let rest = blocks.remainder();
    // The length wraps at 2³² octets, far beyond any name.
    c = c.wrapping_add(octets.len() as u32);
    a = a.wrapping_add(word(rest, 0));
    b = b.wrapping_add(word(rest, 4));
    // The lowest octet belongs to the length.
    c = c.wrapping_add(word(rest, 8) << 8);
    mix(a, b, c).2
}

/// Four octets from `at` on, little-endian; those past the end count as zero.
fn word(octets: &[u8], at: usize) -> u32 {
    (0..4).fold(0, |sum, i| {
        let octet = octets.get(at + i).copied().unwrap_or_default();
        sum | u32::from(octet) << (8 * i)
    })
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for (x, y, z) in [(13, 8, 13), (12, 16, 5), (3, 10, 15)] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> x);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << y);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> z);
    }
    (a, b, c)
}

/// The SHA-1 of the octets as a big-endian number, modulo `modulus`, which is not zero.
fn sha1_modulo(octets: &[u8], modulus: u128) -> u128 {
    let mut rest = 0u128;
    for octet in Sha1::digest(octets) {
        for bit in (0..8).rev() {
            rest = add_modulo(rest, rest, modulus);
            rest = add_modulo(rest, u128::from(octet >> bit & 1) % modulus, modulus);
        }
    }
    rest
}

/// The sum of two numbers below `modulus`, without overflow.
const fn add_modulo(a: u128, b: u128, modulus: u128) -> u128 {
    let room = modulus - b;
    if a >= room { a - room } else { a + b }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn vectors() -> Value {
        serde_json::from_str(include_str!(
            "../../../../tests/fixtures/dcos/vip-vectors.json"
        ))
        .unwrap()
    }

    fn vip(vector: &Value) -> VipName {
        VipName {
            label: vector["label"].as_str().unwrap().into(),
            framework: vector["framework"].as_str().unwrap().into(),
        }
    }

    fn range(first: &str, last: &str) -> Range<Ipv4Addr> {
        Range {
            first: first.parse().unwrap(),
            last: last.parse().unwrap(),
        }
    }

    #[test]
    fn phash2_matches_otp() {
        let vectors = vectors();
        let vectors = vectors["phash2_binary"].as_array().unwrap();
        assert!(vectors.len() >= 9);
        for vector in vectors {
            let hex = vector["bytes_hex"].as_str().unwrap();
            let octets: Vec<u8> = (0..hex.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap())
                .collect();
            let hash = phash2(&octets);
            assert_eq!(vector["phash2_32"], hash, "{hex}");
            assert_eq!(vector["phash2"], hash & 0x07ff_ffff, "{hex}");
            assert_eq!(vector["mod_16777215"], hash % 16_777_215, "{hex}");
            assert_eq!(vector["mod_254"], hash % 254, "{hex}");
        }
    }

    #[test]
    fn addresses_match_dcos_l4lb() {
        let vectors = vectors();
        let vectors = vectors["named_vips"].as_array().unwrap();
        assert!(vectors.len() >= 12);
        for vector in vectors {
            let vip = vip(vector);
            assert_eq!(vector["hash_name"], vip.hash_name());
            for (key, range) in [
                ("ipv4_dcos_default", DEFAULT_IPV4_RANGE),
                (
                    "ipv4_code_default_max_254",
                    range("11.0.0.0", "11.255.255.254"),
                ),
                (
                    "ipv4_range_11_0_0_0_to_11_0_0_254",
                    range("11.0.0.0", "11.0.0.254"),
                ),
            ] {
                let mut allocator = Allocator::new(range, DEFAULT_IPV6_RANGE);
                let ip = allocator.ipv4(&vip).unwrap();
                assert_eq!(vector[key], ip.to_string(), "{key} {vip:?}");
                let ipv6: Ipv6Addr = vector["ipv6"].as_str().unwrap().parse().unwrap();
                assert_eq!(allocator.ipv6(&vip), Some(ipv6));
            }
        }
    }

    #[test]
    fn collisions_match_dcos_l4lb() {
        let vectors = vectors();
        let sequences = vectors["collision_sequences"].as_array().unwrap();
        assert!(sequences.len() >= 4);
        for sequence in sequences {
            let range = range(
                sequence["min"].as_str().unwrap(),
                sequence["max"].as_str().unwrap(),
            );
            let mut allocator = Allocator::new(range, DEFAULT_IPV6_RANGE);
            for step in sequence["allocations_in_order"].as_array().unwrap() {
                let ip = allocator.ipv4(&vip(step)).unwrap();
                assert_eq!(step["ip"], ip.to_string(), "{sequence}");
            }
        }
    }

    fn numbered(n: usize) -> VipName {
        VipName {
            label: format!("s{n}"),
            framework: "marathon".into(),
        }
    }

    #[test]
    fn a_full_range_gives_nothing() {
        let range = range("11.0.0.0", "11.0.0.3");
        let mut allocator = Allocator::new(range, DEFAULT_IPV6_RANGE);
        let given = (0..10).filter_map(|n| allocator.ipv4(&numbered(n))).count();
        // As many attempts as dcos-l4lb makes are one short of the size of the range, so that
        // the last address may be missed.
        assert!((3..=4).contains(&given), "{given}");
    }

    #[test]
    fn allocations_survive_a_restart() {
        let range = range("11.0.0.250", "11.0.1.3");
        let mut before = Allocator::new(range, DEFAULT_IPV6_RANGE);
        for n in [4, 2, 7, 1] {
            before.ipv4(&numbered(n));
        }
        before.ipv6(&numbered(1));
        before.release_ipv4(&numbered(4));
        let text = serde_json::to_string(&before.allocations()).unwrap();
        let kept: Vec<Allocation> = serde_json::from_str(&text).unwrap();
        let mut after = Allocator::new(range, DEFAULT_IPV6_RANGE);
        assert_eq!(after.restore(&kept), 0);
        assert_eq!(after.allocations(), before.allocations());
        assert_eq!(after.restore(&kept), 4);
        let mut other = Allocator::new(DEFAULT_IPV4_RANGE, DEFAULT_IPV6_RANGE);
        let outside = [Allocation {
            vip: numbered(1),
            ipv4: Some([12, 0, 0, 1].into()),
            ipv6: None,
        }];
        assert_eq!(other.restore(&outside), 1);
    }

    proptest! {
        #[test]
        fn no_two_vips_share_an_address(steps in prop::collection::vec((0usize..12, any::<bool>()), 0..80)) {
            let mut allocator = Allocator::new(range("11.0.0.0", "11.0.0.9"), DEFAULT_IPV6_RANGE);
            for (n, take) in steps {
                if take {
                    let first = allocator.ipv4(&numbered(n));
                    prop_assert_eq!(allocator.ipv4(&numbered(n)), first);
                } else {
                    allocator.release_ipv4(&numbered(n));
                }
                let mut ips: Vec<_> = allocator.allocations().into_iter().filter_map(|a| a.ipv4).collect();
                let count = ips.len();
                ips.sort_unstable();
                ips.dedup();
                prop_assert_eq!(ips.len(), count);
            }
        }

        #[test]
        fn sums_stay_below_the_modulus(a: u128, b: u128, modulus in 1u128..) {
            let (a, b) = (a % modulus, b % modulus);
            let sum = add_modulo(a, b, modulus);
            prop_assert!(sum < modulus);
            if let Some(plain) = a.checked_add(b) {
                prop_assert_eq!(sum, plain % modulus);
            }
        }
    }
}
