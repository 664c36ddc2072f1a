//! How many connections there are at one time, in all and from one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::forwarder::one_client;

/// Counts connections.
pub(super) struct Admission {
    total: Arc<Semaphore>,
    connections: usize,
    by_client: Mutex<HashMap<IpAddr, usize>>,
    per_client: usize,
}

/// A connection's place among those allowed; given back when dropped.
pub(super) struct Place {
    admission: Arc<Admission>,
    client: IpAddr,
    _total: OwnedSemaphorePermit,
}

impl Admission {
    pub(super) fn new(connections: usize, per_client: usize) -> Arc<Self> {
        let connections = connections.min(Semaphore::MAX_PERMITS);
        Arc::new(Self {
            total: Arc::new(Semaphore::new(connections)),
            connections,
            by_client: Mutex::default(),
            per_client,
        })
    }

    /// A place for a connection of `client`, if there is one.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr) -> Option<Place> {
        let total = Arc::clone(&self.total).try_acquire_owned().ok()?;
        let client = one_client(client);
        let mut by_client = self.by_client();
        let count = by_client.entry(client).or_insert(0);
        if *count >= self.per_client {
            return None;
        }
        *count += 1;
        Some(Place {
            admission: Arc::clone(self),
            client,
            _total: total,
        })
    }

    /// How long a silent connection may stay: less where places are few (RFC 7766, section 6.2.3).
    pub(super) fn patience(&self, idle: Duration) -> Duration {
        if self.total.available_permits() * 4 < self.connections {
            idle / 4
        } else {
            idle
        }
    }

    fn by_client(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.by_client
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut by_client = self.admission.by_client();
        if let Some(count) = by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_free() {
        let admission = Admission::new(3, 2);
        let [a, b]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert!(admission.admit(a).is_none(), "two of one client");
        let _third = admission.admit(b).unwrap();
        assert!(admission.admit(b).is_none(), "three in all");
        assert_eq!(admission.patience(Duration::from_secs(8)).as_secs(), 2);
        drop(first);
        assert!(admission.admit(b).is_some());
        assert_eq!(admission.by_client().len(), 2);
    }

    #[test]
    fn one_network_is_one_client() {
        let admission = Admission::new(9, 1);
        let [a, b, c]: [IpAddr; 3] =
            ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"].map(|ip| ip.parse().unwrap());
        let _first = admission.admit(a).unwrap();
        assert!(admission.admit(b).is_none());
        assert!(admission.admit(c).is_some());
    }
}
