//! What the tracing variant of the XDP program says of each packet.

use anyhow::{Context, Result};
use aya::Ebpf;
use aya_log::EbpfLogger;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::task::AbortOnDropHandle;

/// The map through which it speaks; the variant that is meant for use has none.
const LOG_MAP: &str = "AYA_LOGS";

/// Has what it says logged until this is dropped; `None` of a program that does not speak. Must be
/// called within a tokio runtime.
pub(super) fn follow(ebpf: &mut Ebpf) -> Result<Option<AbortOnDropHandle<()>>> {
    if ebpf.map(LOG_MAP).is_none() {
        return Ok(None);
    }
    let logger = EbpfLogger::init(ebpf).context("following the XDP program's log")?;
    // SAFETY: the logger owns its descriptor, which stays open and the same until it is dropped.
    let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
    let follow = async move {
        // Fails with the runtime only.
        while let Ok(mut ready) = logger.readable_mut().await {
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    };
    Ok(Some(AbortOnDropHandle::new(tokio::spawn(follow))))
}
