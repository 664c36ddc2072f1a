//! IPv4 and UDP checksums (RFC 1071), in little-endian words.

use dns_common::sum::fold_sum;

/// Adds up to a 16-bit number without a carry.
#[inline(always)]
pub(crate) fn fold(sum: u64) -> u16 {
    fold_sum(sum) as u16
}

/// The terms of an IPv4 header without options.
#[inline(always)]
pub(crate) fn ipv4_terms(header: [u32; 5]) -> u64 {
    let [a, b, c, d, e] = header.map(u64::from);
    a.wrapping_add(b)
        .wrapping_add(c)
        .wrapping_add(d)
        .wrapping_add(e)
}

/// The terms that UDP adds for its pseudo header, besides the addresses: protocol and length.
#[inline(always)]
pub(crate) fn pseudo_terms(udp_octets: u32) -> u64 {
    const UDP: u64 = 17 << 8;
    UDP.wrapping_add(u64::from((udp_octets as u16).swap_bytes()))
}

/// A UDP checksum for the wire: 0 is sent as all ones (RFC 768; RFC 8200, section 8.1).
#[inline(always)]
pub(crate) fn udp(sum: u64) -> u16 {
    let checksum = !fold(sum);
    if checksum == 0 { 0xffff } else { checksum }
}
