//! The XDP program without an interface, run by `BPF_PROG_TEST_RUN`.

use anyhow::Context;
use aya::programs::{TestRun, TestRunOptions};
use dns_common::Interface;
use dns_userspace::answers::Policy;
use dns_userspace::dataplane::{self, Mode, Settings, Xdp};

/// What the program returns when it answered: `XDP_TX`.
pub const ANSWERED: u32 = 3;
/// What the program returns when it did not: `XDP_PASS`.
pub const PASSED: u32 = 2;

/// The settings of [`load`]: it answers at 10.0.0.53 and fd00::53.
#[must_use]
pub fn settings(seed: u64, max_names: u32) -> Settings {
    let policy = Policy::default();
    Settings {
        interfaces: Vec::new(),
        mode: Mode::Off,
        max_names,
        seed,
        addresses: vec![
            [10, 0, 0, 53].into(),
            [0xfd00, 0, 0, 0, 0, 0, 0, 0x53].into(),
        ],
        port: 53,
        max_udp_octets: policy.max_udp_octets,
        sets_truncate_bit: policy.sets_truncate_bit,
    }
}

/// The program loaded, with room for this many names, and told of the interface that
/// `BPF_PROG_TEST_RUN` pretends.
///
/// # Errors
/// It was not built, or the kernel does not permit it.
pub fn load(seed: u64, max_names: u32) -> anyhow::Result<Xdp> {
    let object = dataplane::object().context("built without the XDP program")?;
    let mut xdp = Xdp::load(object, &settings(seed, max_names))?;
    let mac = u64::from_le_bytes([2, 0, 0, 0, 0, 1, 0, 0]);
    let (index, reserved) = (1, 0);
    xdp.set_interface(Interface {
        mac,
        index,
        reserved,
    })?;
    Ok(xdp)
}

/// Runs the program over a frame: what it returned, and the frame afterwards.
///
/// # Errors
/// The kernel does not run it.
pub fn run(xdp: &mut Xdp, frame: &[u8]) -> anyhow::Result<(u32, Vec<u8>)> {
    let mut out = vec![0; 4096];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    let result = xdp.program()?.test_run(options)?;
    out.truncate(result.data_size_out as usize);
    Ok((result.return_value, out))
}
