//! The kernel's side beside the pipeline: the lease kept, and the host's interfaces followed.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::Daemon;
use super::pipeline::lock;
use crate::config::host;
use crate::dataplane::{DataPlane, Lease, Reason, Watch};

/// Between looks at the interfaces where the kernel does not tell of changes.
const LOOK: Duration = Duration::from_secs(30);
/// What changes together is looked at together.
const PAUSE: Duration = Duration::from_millis(200);

/// Renews the lease for as long as the runtime runs tasks.
pub(super) fn keep_renewing(lease: Lease) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut has_failed = false;
        loop {
            sleep(lease.period()).await;
            match lease.renew() {
                Ok(()) => has_failed = false,
                Err(error) => {
                    if !has_failed {
                        warn!(%error, "the kernel's lease is not renewed");
                    }
                    has_failed = true;
                }
            }
        }
    }))
}

/// Says why XDP is off, if it is.
pub(super) fn report(dataplane: &DataPlane) {
    match dataplane.reason() {
        None => {}
        Some(reason @ Reason::Configured) => info!(%reason, "XDP is off"),
        Some(reason) => warn!(%reason, "XDP is off: user space answers everything"),
    }
}

/// Tells when interfaces or addresses of the host may have changed.
pub(super) struct Host {
    watch: Option<Watch>,
    /// When to look next, whatever the kernel tells.
    next: Instant,
}

impl Host {
    /// Must be called within a tokio runtime.
    pub(super) fn watch() -> Self {
        let watch = Watch::new();
        if let Err(error) = &watch {
            warn!(%error, "changes of interfaces are noticed late");
        }
        Self {
            watch: watch.ok(),
            next: Instant::now() + LOOK,
        }
    }

    /// Waits for the next change, or a while. Loses nothing when cancelled.
    pub(super) async fn changed(&mut self) {
        let told = async {
            match &self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = told => match told {
                // At most so often, and after the last of them too.
                Ok(()) => self.next = self.next.min(Instant::now() + PAUSE),
                Err(error) => {
                    warn!(%error, "changes of interfaces are noticed late");
                    self.watch = None;
                }
            },
            () = sleep_until(self.next) => {}
        }
        sleep_until(self.next).await;
        self.next = Instant::now() + LOOK;
    }
}

impl Daemon {
    /// Takes in what has become of the host's interfaces and addresses.
    pub(super) async fn follow_host(&mut self) {
        let account = Arc::clone(&self.account);
        let looked = self.on_pipeline(move |_| {
            lock(&account.dataplane).refresh();
            host::interface_addresses()
        });
        let addresses = match looked.await {
            Ok(Ok(addresses)) => addresses,
            Ok(Err(error)) => {
                warn!(%error, "the host's addresses cannot be read");
                return;
            }
            Err(error) => {
                warn!(
                    error = format!("{error:#}"),
                    "the interfaces are not looked at"
                );
                return;
            }
        };
        let known = &self.setup.surroundings.addresses;
        let is_known =
            addresses.len() == known.len() && addresses.iter().all(|ip| known.contains(ip));
        if is_known || addresses.is_empty() {
            return;
        }
        info!(?addresses, "the host has other addresses");
        let setup = self.setup.with_addresses(addresses);
        match self.plan(setup).await {
            Ok(plan) => self.carry_out(plan).await,
            Err(error) => warn!(
                error = format!("{error:#}"),
                "the host's addresses are not taken"
            ),
        }
    }
}
