//! Sight of single packets and queries, while somebody looks: who asks, what is asked for, and the
//! frames themselves.
//!
//! Nothing is sampled unless it is watched: [`Watch`] tells the kernel and the server how many of
//! their packets to hand over, and forgets it when the last [`Watcher`] is gone. What is handed
//! over goes into sketches of a fixed size ([`TopK`]) or into a capture ([`pcap`]).

mod frame;
pub mod pcap;
mod top;
mod top_k;
mod watch;

pub use frame::{Frame, Seen};
pub use top::{Ranking, Top, TopService};
pub use top_k::TopK;
pub use watch::{Sample, Watch, Watcher};
