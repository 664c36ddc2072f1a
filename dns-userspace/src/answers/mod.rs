//! Answers: what a snapshot says to a question, and that as a message. Pure: no sockets, no clock.

pub mod cookie;
pub mod edns;
pub mod encode;
pub mod fast;
pub mod identity;
pub mod message;
pub mod query;
pub mod resolve;
pub mod respond;

pub use edns::ExtendedError;
pub use query::{Edns, Query, Rejection};
pub use resolve::{Entry, Rcode, Resolution, resolve};
pub use respond::{Decision, Policy, Transport, decide};
