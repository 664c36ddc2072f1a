//! Captures in the format that tcpdump and Wireshark read: a packet that XDP sends back never
//! reaches the sockets of those.

use std::time::{SystemTime, UNIX_EPOCH};

use super::frame::Frame;

/// Octets kept of a frame, at most; larger than any frame.
const SNAP_OCTETS: u32 = 65_535;

/// The head of a capture file of Ethernet frames, with times in nanoseconds
/// (draft-ietf-opsawg-pcap, section 4).
#[must_use]
pub fn head() -> Vec<u8> {
    const MAGIC: u32 = 0xa1b2_3c4d;
    const VERSION: [u16; 2] = [2, 4];
    const ETHERNET: u32 = 1;
    let mut head = MAGIC.to_le_bytes().to_vec();
    for part in VERSION {
        head.extend_from_slice(&part.to_le_bytes());
    }
    for part in [0, 0, SNAP_OCTETS, ETHERNET] {
        head.extend_from_slice(&part.to_le_bytes());
    }
    head
}

/// One frame (section 5). After the year 2106 the seconds start over.
#[must_use]
pub fn record(frame: &Frame, at: SystemTime) -> Vec<u8> {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let kept = frame.octets.len() as u32;
    let mut record = Vec::with_capacity(16 + frame.octets.len());
    for part in [
        since.as_secs() as u32,
        since.subsec_nanos(),
        kept,
        frame.length.max(kept),
    ] {
        record.extend_from_slice(&part.to_le_bytes());
    }
    record.extend_from_slice(&frame.octets);
    record
}
