//! The packets that the XDP program hands over, while somebody watches. Where there is no program, the
//! server is asked for its queries instead.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Result;
use aya::maps::{MapData, RingBuf};
use dns_common::sample::SNAP_OCTETS;
use tokio::io::unix::AsyncFd;
use tracing::warn;

use super::DataPlane;
use crate::telemetry::{Frame, Sample, Watch};

/// Octets before the frame: length and verdict.
const HEAD_OCTETS: usize = 8;
/// How often the maps are looked up anew: a reload may have put others in their place.
const TERM: Duration = Duration::from_secs(2);

/// Relays packets for as long as the runtime runs tasks.
pub async fn keep_sampling(dataplane: Arc<Mutex<DataPlane>>, watch: Arc<Watch>) {
    let mut changes = watch.changes();
    loop {
        let every = *changes.borrow_and_update();
        let samples = dataplane
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .sample(every);
        // The program has seen what reaches the server.
        watch.ask_server(if samples.is_none() { every } else { 0 });
        let relayed = async {
            match samples {
                Some(samples) => relay(samples?, &watch).await,
                None => std::future::pending().await,
            }
        };
        let is_on = every != 0;
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(TERM), if is_on => {}
            Err(error) = relayed => {
                warn!(error = format!("{error:#}"), "packets cannot be watched");
                tokio::time::sleep(TERM).await;
            }
        }
    }
}

/// Relays until it fails.
async fn relay(samples: RingBuf<MapData>, watch: &Watch) -> Result<()> {
    // SAFETY: the ring buffer owns its descriptor, which stays open and the same until it is dropped.
    let mut samples = unsafe { AsyncFd::register(samples) }?;
    loop {
        let mut ready = samples.readable_mut().await?;
        let ring = ready.get_inner_mut();
        while let Some(octets) = ring.next() {
            if let Some(sample) = read(&octets) {
                watch.hand_over(sample);
            }
        }
        ready.clear_ready();
    }
}

fn read(octets: &[u8]) -> Option<Sample> {
    let (head, frame) = octets.split_first_chunk::<HEAD_OCTETS>()?;
    let [a, b, c, d, ..] = *head;
    let length = u32::from_ne_bytes([a, b, c, d]);
    let kept = usize::try_from(length).ok()?.min(SNAP_OCTETS);
    let frame = Frame {
        octets: frame.get(..kept)?.into(),
        length,
    };
    Some(Sample {
        at: SystemTime::now(),
        seen: frame.seen(),
        frame: Some(frame),
    })
}
