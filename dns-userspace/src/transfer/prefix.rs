//! Address prefixes: `192.0.2.0/24`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// All addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    bits: u8,
}

/// A text that is no prefix, or one with bits behind its length, which would be a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no address prefix")]
pub struct BadPrefix;

/// The address as 128 bits from the left, and how many of them count.
fn bits_of(address: IpAddr) -> (u128, u8) {
    match address {
        IpAddr::V4(ip) => (u128::from(ip.to_bits()) << 96, 32),
        IpAddr::V6(ip) => (ip.to_bits(), 128),
    }
}

impl Prefix {
    /// The first of its addresses.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits of it count.
    #[must_use]
    pub const fn bits(&self) -> u8 {
        self.bits
    }

    /// Whether an address begins so.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let ((own, width), (other, other_width)) = (bits_of(self.address), bits_of(address));
        let apart = (own ^ other).leading_zeros();
        width == other_width && apart >= u32::from(self.bits)
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        let (_, bits) = bits_of(address);
        Self { address, bits }
    }
}

impl FromStr for Prefix {
    type Err = BadPrefix;

    fn from_str(text: &str) -> Result<Self, BadPrefix> {
        let Some((address, bits)) = text.split_once('/') else {
            return text.parse().map(IpAddr::into).map_err(|_| BadPrefix);
        };
        let address = address.parse().map_err(|_| BadPrefix)?;
        let bits: u8 = bits.parse().map_err(|_| BadPrefix)?;
        let (own, width) = bits_of(address);
        let behind = own.checked_shl(bits.into()).unwrap_or(0);
        if bits > width || behind != 0 {
            return Err(BadPrefix);
        }
        Ok(Self { address, bits })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_in_the_prefixes_that_it_begins_with() {
        let address: IpAddr = "192.0.2.129".parse().unwrap();
        for text in [
            "192.0.2.129",
            "192.0.2.128/25",
            "0.0.0.0/0",
            "192.0.2.129/32",
        ] {
            assert!(prefix(text).contains(address), "{text}");
        }
        for text in ["192.0.2.0/25", "192.0.2.130", "::/0", "2001:db8::/32"] {
            assert!(!prefix(text).contains(address), "{text}");
        }
        assert!(prefix("2001:db8::/32").contains("2001:db8:ffff::1".parse().unwrap()));
        assert!(!prefix("2001:db8::/32").contains("2001:db9::1".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_refused() {
        for text in [
            "",
            "/8",
            "192.0.2.1/24",
            "10.0.0.0/33",
            "10.0.0.0/",
            "::/129",
            "a/8",
        ] {
            assert_eq!(text.parse::<Prefix>(), Err(BadPrefix), "{text}");
        }
    }
}
