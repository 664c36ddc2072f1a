//! The programs without an interface, run over single frames by `BPF_PROG_TEST_RUN`.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use anyhow::{Context, Result};
use aya::programs::{TestRun, TestRunOptions, xdp::XdpMode};
use dns_common::{Interface, RateLimit, Response, Verdict, policy::interface_flags};
use dns_userspace::{
    answers::respond::Policy,
    dataplane::{self, Mode, Settings, Xdp},
    zones::{Encoder, Snapshot},
};

use crate::cable::{self, Cable, INTERFACE};

/// The address of the interface that the program is told of.
pub const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The key of the name hash in tests that craft names.
pub const SEED: u64 = 0x0123_4567_89ab_cdef;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Up the stack.
    Pass,
    /// Nowhere.
    Drop,
    /// Out of the interface that it came in on.
    Tx,
    /// Anything else, which the program must never choose.
    Other(u32),
}

/// The two programs that answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the driver.
    Xdp,
    /// At the ingress of the interface, without XDP.
    Tc,
}

impl Stage {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Xdp, Self::Tc];

    fn action(self, returned: u32) -> Action {
        // TC_ACT_UNSPEC is -1: what comes behind decides.
        match (self, returned) {
            (Self::Xdp, 1) | (Self::Tc, 2) => Action::Drop,
            (Self::Xdp, 2) | (Self::Tc, u32::MAX) => Action::Pass,
            (Self::Xdp, 3) | (Self::Tc, 7) => Action::Tx,
            (_, other) => Action::Other(other),
        }
    }
}

/// A loaded program.
pub struct Kernel {
    xdp: Xdp,
    stage: Stage,
    /// Where frames come out, used again for each.
    out: Vec<u8>,
}

/// Settings for the server's addresses of a [`cable`], without any interface.
pub fn settings() -> Settings {
    Settings {
        interfaces: Vec::new(),
        mode: Mode::Off,
        tc: true,
        max_names: 4096,
        seed: SEED,
        addresses: addresses(),
        port: 53,
        max_udp_octets: Policy::default().max_udp_octets,
        sets_truncate_bit: true,
        raised_options: 0,
        allowed: Vec::new(),
        limit: RateLimit::default(),
    }
}

fn addresses() -> Vec<IpAddr> {
    let parse = |text: &str| text.parse().expect("an address");
    cable::SERVER.into_iter().map(parse).collect()
}

impl Kernel {
    /// Loads the program, which answers at [`MAC`] of the interface that the kernel pretends.
    ///
    /// # Errors
    /// Needs root, and a build with the program.
    pub fn load(settings: &Settings) -> Result<Self> {
        Self::load_stage(Stage::Xdp, settings)
    }

    /// The same for one of the programs.
    ///
    /// # Errors
    /// As for [`Self::load`].
    pub fn load_stage(stage: Stage, settings: &Settings) -> Result<Self> {
        let object = dataplane::object().context("a build without the XDP program")?;
        let mut xdp = Xdp::load(object, settings)?;
        let [a, b, c, d, e, f] = MAC;
        xdp.set_interface(Interface {
            mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            index: 1,
            flags: match stage {
                Stage::Xdp => 0,
                Stage::Tc => interface_flags::TC_ALONE,
            },
        })?;
        Ok(Self {
            xdp,
            stage,
            out: vec![0; 4096],
        })
    }

    /// Encodes answers where the program reads them.
    #[must_use]
    pub fn encoder(&self) -> Arc<dyn Encoder> {
        self.xdp.encoder()
    }

    /// Brings the maps to `snapshot`.
    ///
    /// # Errors
    /// The kernel refuses an update.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>) -> Result<()> {
        Ok(self.xdp.publish(snapshot)?)
    }

    /// Whether the kernel runs the program over such a frame: to TC it gives none without a whole IP
    /// header where there must be one.
    pub fn can_run(&self, octets: &[u8]) -> bool {
        let least = match octets.get(12..14) {
            Some([0x08, 0x00]) => 14 + 20,
            Some([0x86, 0xdd]) => 14 + 40,
            _ => 15,
        };
        self.stage == Stage::Xdp || octets.len() >= least
    }

    /// Runs the program over a frame of 14 octets or more: what it did, and the frame afterwards.
    ///
    /// # Errors
    /// The kernel does not run it.
    pub fn run(&mut self, octets: &[u8]) -> Result<(Action, &[u8])> {
        let mut options = TestRunOptions::new();
        options.data_in = Some(octets);
        options.data_out = Some(&mut self.out);
        let result = match self.stage {
            Stage::Xdp => self.xdp.program()?.test_run(options)?,
            Stage::Tc => self.xdp.classifier()?.test_run(options)?,
        };
        Ok((
            self.stage.action(result.return_value),
            &self.out[..result.data_size_out as usize],
        ))
    }

    /// The program for another thread to run.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub fn reader(&mut self) -> Result<Reader> {
        let program = self.xdp.program()?.fd()?.as_fd().try_clone_to_owned()?;
        Ok(Reader {
            program,
            out: vec![0; 4096],
        })
    }

    /// Puts the program on the interface of a cable's server end.
    ///
    /// # Errors
    /// The interface is not there, or the kernel refuses.
    pub fn attach(&mut self, cable: &Cable) -> Result<()> {
        let text = cable.server.ip(&format!("-j link show {INTERFACE}"))?;
        let links: serde_json::Value = serde_json::from_str(&text)?;
        let link = links.get(0).context("no interface")?;
        let index = link["ifindex"].as_u64().context("an interface's index")?;
        let address = link["address"].as_str().context("an interface's address")?;
        let mut mac = [0; 8];
        for (octet, text) in mac.iter_mut().zip(address.split(':')) {
            *octet = u8::from_str_radix(text, 16)?;
        }
        self.xdp.set_interface(Interface {
            mac: u64::from_le_bytes(mac),
            index: u32::try_from(index)?,
            flags: 0,
        })?;
        cable.server.enter(|| {
            self.xdp.program()?.attach(INTERFACE, XdpMode::Driver)?;
            Ok(())
        })
    }

    /// As [`run`](Self::run), and the verdict that was counted; slower.
    ///
    /// # Errors
    /// As for `run`, or not exactly one verdict was counted.
    pub fn judge(&mut self, octets: &[u8]) -> Result<(Action, Verdict, Vec<u8>)> {
        let before = self.counters();
        let (action, out) = self.run(octets)?;
        let out = out.to_vec();
        let after = self.counters();
        let counted: Vec<Verdict> = before
            .iter()
            .zip(after)
            .filter(|((_, before), (_, after))| before != after)
            .map(|(_, (verdict, _))| verdict)
            .collect();
        match counted[..] {
            [verdict] => Ok((action, verdict, out)),
            _ => anyhow::bail!("one packet counted as {counted:?}"),
        }
    }

    /// Packets by verdict.
    pub fn counters(&self) -> Vec<(Verdict, u64)> {
        self.xdp.tally().verdicts()
    }

    /// Responses by verdict and type, those that there were.
    pub fn responses(&self) -> Vec<(Response, u64)> {
        self.xdp.tally().responses()
    }

    /// How many instructions the verifier went through to accept the program.
    ///
    /// # Errors
    /// The kernel does not say.
    pub fn verified_instructions(&mut self) -> Result<u32> {
        let info = match self.stage {
            Stage::Xdp => self.xdp.program()?.info()?,
            Stage::Tc => self.xdp.classifier()?.info()?,
        };
        info.verified_instruction_count()
            .context("the kernel does not count the verifier's instructions")
    }
}

/// Runs the program while its maps change.
pub struct Reader {
    program: OwnedFd,
    out: Vec<u8>,
}

/// The head of `union bpf_attr` for BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRunAttribute {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    rest: [u64; 6],
}

impl Reader {
    /// As [`Kernel::run`].
    ///
    /// # Errors
    /// The kernel does not run it.
    pub fn run(&mut self, octets: &[u8]) -> io::Result<(Action, &[u8])> {
        const BPF_PROG_TEST_RUN: libc::c_long = 10;
        let mut attribute = TestRunAttribute {
            program: self.program.as_raw_fd() as u32,
            size_in: octets.len() as u32,
            size_out: self.out.len() as u32,
            data_in: octets.as_ptr() as u64,
            data_out: self.out.as_mut_ptr() as u64,
            ..TestRunAttribute::default()
        };
        // SAFETY: the attribute has the kernel's layout, and both addresses are of memory as large
        // as it says.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                BPF_PROG_TEST_RUN,
                std::ptr::from_mut(&mut attribute),
                size_of::<TestRunAttribute>(),
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        let out = &self.out[..attribute.size_out as usize];
        Ok((Stage::Xdp.action(attribute.returned), out))
    }
}
