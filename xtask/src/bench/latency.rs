//! Latency as a client sees it while others load the server: one query at a time from a socket.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use testbed::netns::Netns;

/// Below the ports whose replies kxdpgun takes from the interface, and no server's port.
const PORT: u16 = 1_500;

/// Time from one query to the next.
const PACE: Duration = Duration::from_micros(500);

/// A reply that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(200);

/// Round trip times of one measurement, sorted.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency {
    times: Vec<Duration>,
}

impl Latency {
    /// The time that this share of the queries, 0 to 1, did not exceed. Lost ones count as
    /// [`PATIENCE`].
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let last = self.times.len().checked_sub(1)?;
        self.times
            .get((share * last as f64).round() as usize)
            .copied()
    }

    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self { times }
    }
}

/// Asks for `name` at a steady pace until `duration` is over.
///
/// # Errors
///
/// The socket cannot be had.
pub(super) fn measure(
    client: &Netns,
    from: &str,
    server: &str,
    name: &str,
    duration: Duration,
) -> Result<Latency> {
    let socket = client.enter(|| Ok(UdpSocket::bind(format!("{from}:{PORT}"))?))?;
    let server: SocketAddr = format!("{server}:53").parse()?;
    socket.connect(server).context("connecting the probe")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut times = Vec::new();
    let start = Instant::now();
    let mut next = start;
    let mut id = 0u16;
    while start.elapsed() < duration {
        id = id.wrapping_add(1);
        let sent = Instant::now();
        // A full queue or an ICMP error is a query lost.
        let _ = socket.send(&query(id, name));
        times.push(wait_for(&socket, id, sent).unwrap_or(PATIENCE));
        next += PACE;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(Latency::of(times))
}

fn wait_for(socket: &UdpSocket, id: u16, sent: Instant) -> Option<Duration> {
    let mut reply = [0; 2_048];
    while sent.elapsed() < PATIENCE {
        match socket.recv(&mut reply) {
            Ok(octets) if octets >= 12 && reply.starts_with(&id.to_be_bytes()) => {
                return Some(sent.elapsed());
            }
            // A reply to a query given up before.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    None
}

/// A query for the addresses of a name without a root dot.
pub(super) fn query(id: u16, name: &str) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    let mut message = vec![high, low, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend_from_slice(label.as_bytes());
    }
    message.extend_from_slice(&[0, 0, 1, 0, 1]);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let latency = Latency::of((1..=1_000).rev().map(Duration::from_micros).collect());
        let micros = |share| latency.quantile(share).unwrap().as_micros();
        assert_eq!((micros(0.0), micros(1.0)), (1, 1_000));
        assert!((500..=501).contains(&micros(0.5)));
        assert!((998..=1_000).contains(&micros(0.999)));
        assert_eq!(Latency::default().quantile(0.5), None);
    }

    #[test]
    fn a_query_is_as_rfc_1035_says() {
        assert_eq!(
            query(0x1234, "n.mesos"),
            b"\x12\x34\0\0\0\x01\0\0\0\0\0\0\x01n\x05mesos\0\0\x01\0\x01"
        );
    }
}
