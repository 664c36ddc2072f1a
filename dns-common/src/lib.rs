//! The contract between the XDP program and user space, and the one responder that both run.
//!
//! Layout rules of everything that crosses the border:
//! * fields have explicit sizes, no padding, no `bool`, no `enum`;
//! * an answer is stored as it goes on the wire, in network byte order; numbers that only we read
//!   are little-endian, which is also what the XDP program's target (`bpfel`) is;
//! * a blob is immutable once its reference, or the tag of its home, has been published.
//!
//! Nothing here allocates, panics or knows a socket. [`respond()`] takes any [`Message`] and any
//! [`Table`]; the XDP program and the UDP server call the same function, so that they cannot
//! disagree.

#![no_std]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

pub mod blob;
pub mod encloser;
pub mod home;
pub mod message;
pub mod name;
mod plan;
pub mod policy;
pub mod question;
pub mod rate_limit;
pub mod respond;
pub mod sample;
pub mod shortcut;
pub mod sum;
pub mod tally;
pub mod verdict;
pub mod wire;
pub mod write;

pub use blob::{Blob, Table};
pub use message::Message;
pub use policy::{Interface, Policy};
pub use rate_limit::{Allowance, RateLimit};
pub use respond::respond;
pub use sum::Sums;
pub use tally::Response;
pub use verdict::Verdict;
