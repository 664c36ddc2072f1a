//! The object `xdp`: where and how the data plane is attached.

use std::path::PathBuf;

use serde_json::Value;

use super::found::Found;

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

impl Found<'_> {
    /// Reads `xdp`; gives the keys it does not know.
    pub(super) fn xdp(&mut self, value: &Value, slot: &mut Xdp) -> Vec<String> {
        let mut unknown = Vec::new();
        let Some(members) = self.members(value) else {
            return unknown;
        };
        for (key, value) in members {
            let lower = key.to_ascii_lowercase();
            let full = format!("xdp.{lower}");
            let mut member = self.member(&full);
            match lower.as_str() {
                "interfaces" => member.texts(value, &mut slot.interfaces),
                "mode" => member.word(
                    value,
                    &mut slot.mode,
                    &[
                        ("auto", XdpMode::Auto),
                        ("native", XdpMode::Native),
                        ("generic", XdpMode::Generic),
                        ("tc", XdpMode::Tc),
                        ("off", XdpMode::Off),
                    ],
                    "auto, native, generic, tc or off",
                ),
                "allow_generic" => member.flag(value, &mut slot.allow_generic),
                "tc" => member.flag(value, &mut slot.tc),
                "max_names" => {
                    let mut names = slot.max_names;
                    member.number(value, "uint32", &mut names);
                    if names == 0 {
                        member.too_far(value, "is too small", "a whole number from 1");
                    } else {
                        slot.max_names = names;
                    }
                }
                "pin_path" => {
                    let mut path = slot.pin_path.display().to_string();
                    member.text(value, &mut path);
                    if path.starts_with('/') {
                        slot.pin_path = path.into();
                    } else {
                        member.too_far(value, "is not absolute", "an absolute path");
                    }
                }
                "on_exit" => member.word(
                    value,
                    &mut slot.on_exit,
                    &[("keep", OnExit::Keep), ("detach", OnExit::Detach)],
                    "keep or detach",
                ),
                "lease_seconds" => member.number(value, "uint32", &mut slot.lease_seconds),
                _ => unknown.push(key.clone()),
            }
        }
        unknown
    }
}
