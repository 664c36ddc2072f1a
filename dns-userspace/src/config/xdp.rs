//! The object `xdp`: where and how the data plane is attached.

use std::path::PathBuf;

/// Names that the BPF maps hold unless configured otherwise.
pub const DEFAULT_MAX_NAMES: u32 = 262_144;
/// Seconds without a sign of the daemon after which the kernel stops to answer.
pub const DEFAULT_LEASE_SECONDS: u32 = 60;
/// Where programs and maps are pinned.
pub const DEFAULT_PIN_PATH: &str = "/sys/fs/bpf/mesos-xdns";

/// Settings of the data plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xdp {
    /// Interfaces to attach to; none means that user space answers everything.
    pub interfaces: Vec<String>,
    /// How to attach.
    pub mode: XdpMode,
    /// Whether `auto` may be generic where the driver cannot.
    pub allow_generic: bool,
    /// Whether a TC program answers what an XDP program has no room for, and where `auto` has no XDP.
    pub tc: bool,
    /// Names the maps hold; what is beyond is answered from user space.
    pub max_names: u32,
    /// Directory for pinned objects, in a BPF file system.
    pub pin_path: PathBuf,
    /// What becomes of the program when the daemon ends.
    pub on_exit: OnExit,
    /// Seconds without a sign of the daemon after which the kernel stops to answer; 0 for never.
    pub lease_seconds: u32,
    /// Whether the program logs its verdict on each packet; by the command line only.
    pub trace: bool,
}

impl Default for Xdp {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            mode: XdpMode::Auto,
            allow_generic: false,
            tc: true,
            max_names: DEFAULT_MAX_NAMES,
            pin_path: DEFAULT_PIN_PATH.into(),
            on_exit: OnExit::Keep,
            lease_seconds: DEFAULT_LEASE_SECONDS,
            trace: false,
        }
    }
}

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XdpMode {
    /// In the driver if it can; else after the driver if that is allowed, else by TC if that is, or
    /// user space alone.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// After the driver.
    Generic,
    /// By TC, without XDP.
    Tc,
    /// Not at all.
    Off,
}

/// What becomes of the program when the daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnExit {
    /// It goes on answering until the lease ends, for the next daemon to adopt.
    Keep,
    /// It is removed.
    Detach,
}
