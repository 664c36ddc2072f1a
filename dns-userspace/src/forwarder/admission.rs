//! Who may have a query under way: a bounded number in all, shared fairly between clients.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Room for queries. A client is admitted while it has fewer under way than there are places left,
/// so a lone client gets half of all and several share, and whoever comes last finds a place.
#[derive(Debug)]
pub(super) struct Admission {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    free: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A place for one query; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    client: IpAddr,
}

impl Admission {
    pub(super) fn new(places: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                free: places,
                by_client: HashMap::new(),
            }),
        })
    }

    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Permit> {
        let client = one_client(client);
        let mut state = self.state();
        let free = state.free;
        let own = state.by_client.get(&client).copied().unwrap_or(0);
        if own >= free {
            return None;
        }
        state.free -= 1;
        state.by_client.insert(client, own + 1);
        drop(state);
        Some(Permit {
            admission: Arc::clone(self),
            client,
        })
    }

    /// Queries under way.
    pub(super) fn under_way(&self) -> usize {
        self.state().by_client.values().sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.admission.state();
        state.free += 1;
        if let Some(count) = state.by_client.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.by_client.remove(&self.client);
            }
        }
    }
}

/// Whom an address is counted for: a host has a whole /64 of IPv6 to ask from.
pub(crate) fn one_client(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_client_never_takes_every_place() {
        let admission = Admission::new(64);
        let greedy: Vec<Permit> = std::iter::from_fn(|| admission.admit(ip("192.0.2.1"))).collect();
        assert_eq!(greedy.len(), 32);
        let second: Vec<Permit> = std::iter::from_fn(|| admission.admit(ip("192.0.2.2"))).collect();
        assert_eq!(second.len(), 16);
        let newcomers: Vec<Permit> = (0..16)
            .map(|n| admission.admit(ip(&format!("198.51.100.{n}"))).unwrap())
            .collect();
        assert!(admission.admit(ip("203.0.113.1")).is_none());
        drop((greedy, second, newcomers));
        assert_eq!(admission.under_way(), 0);
        assert!(admission.admit(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn a_prefix_of_ipv6_is_one_client() {
        let admission = Admission::new(4);
        let permits: Vec<Permit> = (0..4)
            .filter_map(|n| admission.admit(ip(&format!("2001:db8::{n}"))))
            .collect();
        assert_eq!(permits.len(), 2);
        assert!(admission.admit(ip("2001:db8:0:1::1")).is_some());
    }
}
