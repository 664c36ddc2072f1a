//! The DNS message header and the few numbers of RFC 1035 and RFC 6891 that both sides need.
//!
//! Words are loaded little-endian: the first octet on the wire is the least significant.

/// Octets of the message header.
pub const HEADER_OCTETS: u32 = 12;
/// Octets of an OPT record without options: root owner, type, class, TTL, RDLENGTH.
pub const OPT_OCTETS: u32 = 11;
/// What a client takes that says nothing about size (RFC 1035, section 4.2.1).
pub const MIN_UDP_OCTETS: u32 = 512;
/// The most that is sent over UDP, so that no path fragments it (RFC 9715, section 3.2).
pub const MAX_UDP_OCTETS: u32 = 1232;
/// A compression pointer to the question's name, which always stands right after the header.
pub const POINTER_TO_QUESTION: u16 = 0xc000 | HEADER_OCTETS as u16;

/// Header flags, as the 16-bit number in network order.
pub mod flags {
    /// Response.
    pub const QR: u16 = 0x8000;
    /// The four bits of the opcode.
    pub const OPCODE: u16 = 0x7800;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired: copied into the response.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Checking disabled: copied into the response (RFC 4035, section 3.1.6).
    pub const CD: u16 = 0x0010;
    /// RCODE 3, name error.
    pub const NXDOMAIN: u16 = 3;
}

/// Record types and classes that the responder names.
pub mod rtype {
    /// The class of the Internet.
    pub const CLASS_IN: u16 = 1;
    /// An IPv4 address (RFC 1035, section 3.4.1).
    pub const A: u16 = 1;
    /// An IPv6 address (RFC 3596, section 2.1).
    pub const AAAA: u16 = 28;
    /// Service location (RFC 2782).
    pub const SRV: u16 = 33;
    /// Delegation signer: a question for the parent's side of a cut (RFC 4035, section 3.1.4.1).
    pub const DS: u16 = 43;
    /// EDNS pseudo record.
    pub const OPT: u16 = 41;
    /// Types from here to 255 are questions or transactions, never data (RFC 6895, section 3.1).
    pub const FIRST_META: u16 = 128;
    /// See [`FIRST_META`].
    pub const LAST_META: u16 = 255;
}
