//! Two tiny XDP programs for the other end of the cable, written as BPF instructions.
//!
//! veth delivers what XDP_TX sends only where the other end has an XDP program too, so a test's
//! client end carries [`pass`]. [`reflect`] is the least work that turns a query into something a
//! client counts as a response: what a responder in the kernel is measured against.
//!
//! They are instructions and not part of the BPF object so that this tool needs neither an eBPF
//! toolchain nor a program in the product that only tests use.

use std::{
    ffi::CString,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use anyhow::{Context, Result, ensure};

/// Lets every frame through.
pub fn pass() -> Program {
    Program::named("mxd_pass", vec![mov(R0, XDP_PASS), EXIT])
}

/// Sends IPv4 UDP datagrams for port 53 back with addresses and ports exchanged and QR set.
///
/// The UDP checksum becomes zero, which RFC 768 allows over IPv4.
pub fn reflect() -> Program {
    let mut code = Vec::new();
    let mut leave = Vec::new();
    code.extend([load(W, R2, R1, 0), load(W, R3, R1, 4), mov(R0, XDP_PASS)]);
    // The verifier's one need: everything up to the end of the DNS header is inside the frame.
    code.extend([copy(R4, R2), add(R4, DNS + 12)]);
    leave.push(code.len());
    code.push(jump_if_above(R4, R3));
    for (size, offset, expected) in [
        (H, 12, i32::from(0x0800_u16.to_be())),
        (B, 14, 0x45),
        (B, 23, 17),
        (H, 36, i32::from(53_u16.to_be())),
    ] {
        code.push(load(size, R5, R2, offset));
        leave.push(code.len());
        code.push(jump_if_not(R5, expected));
    }
    for (size, one, other) in [(W, 0, 6), (H, 4, 10), (W, 26, 30), (H, 34, 36)] {
        code.extend([
            load(size, R4, R2, one),
            load(size, R5, R2, other),
            store(size, R2, one, R5),
            store(size, R2, other, R4),
        ]);
    }
    code.extend([mov(R5, 0), store(H, R2, 40, R5)]);
    code.extend([
        load(B, R5, R2, DNS + 2),
        or(R5, 0x80),
        store(B, R2, DNS + 2, R5),
    ]);
    code.push(mov(R0, XDP_TX));
    let end = code.len();
    code.push(EXIT);
    for jump in leave {
        if let (Some(instruction), Ok(distance)) =
            (code.get_mut(jump), i16::try_from(end - jump - 1))
        {
            instruction.offset = distance;
        }
    }
    Program::named("mxd_reflect", code)
}

/// Instructions with the name that `bpftool prog` shows.
#[derive(Clone, Debug)]
pub struct Program {
    name: &'static str,
    code: Vec<Instruction>,
}

/// A program on an interface, until this is dropped or its process ends.
#[derive(Debug)]
pub struct Attached {
    _link: OwnedFd,
}

impl Program {
    fn named(name: &'static str, code: Vec<Instruction>) -> Self {
        Self { name, code }
    }

    /// The name that `bpftool prog` shows, at most 15 bytes.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Loads it and attaches it in native mode to an interface of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// Needs CAP_BPF and CAP_NET_ADMIN, and a driver with XDP, which veth is.
    pub fn attach(&self, interface: &str) -> Result<Attached> {
        let name = CString::new(interface).context("interface name")?;
        // SAFETY: the pointer is to a string that ends with a zero and lives through the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        ensure!(
            index != 0,
            "interface {interface}: {}",
            io::Error::last_os_error()
        );
        let program = self.load()?;
        let link = bpf(
            BPF_LINK_CREATE,
            &LinkCreate {
                program: program.as_raw_fd(),
                interface: index,
                attach_type: BPF_XDP,
                flags: XDP_FLAGS_DRV_MODE,
            },
        )
        .with_context(|| format!("attaching {} to {interface}", self.name))?;
        Ok(Attached { _link: link })
    }

    fn load(&self) -> Result<OwnedFd> {
        let license = c"Dual MIT/GPL";
        let mut name = [0; 16];
        for (to, from) in name.iter_mut().zip(self.name.bytes().take(15)) {
            *to = from;
        }
        bpf(
            BPF_PROG_LOAD,
            &ProgLoad {
                program_type: BPF_PROG_TYPE_XDP,
                instruction_count: u32::try_from(self.code.len())?,
                instructions: self.code.as_ptr() as u64,
                license: license.as_ptr() as u64,
                log: [0; 4],
                kernel_version: 0,
                flags: 0,
                name,
            },
        )
        .with_context(|| format!("loading {}", self.name))
    }
}

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 4;
const XDP_PASS: i32 = 2;
const XDP_TX: i32 = 3;

/// Where the DNS header starts: Ethernet 14, IPv4 20, UDP 8 octets.
const DNS: i16 = 42;

/// The head of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
struct ProgLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    /// log_level, log_size and the two halves of log_buf: no log.
    log: [u32; 4],
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The head of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct LinkCreate {
    program: RawFd,
    interface: u32,
    attach_type: u32,
    flags: u32,
}

/// A bpf(2) command that returns a descriptor.
fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of attributes, and what they point to lives
    // in the caller until the call returns.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_ref(attributes),
            size_of::<T>(),
        )
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    /// Destination in the low half, source in the high half.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R4: u8 = 4;
const R5: u8 = 5;

/// Operand sizes of loads and stores: 4, 2 and 1 octets.
const W: u8 = 0x00;
const H: u8 = 0x08;
const B: u8 = 0x10;

const EXIT: Instruction = instruction(0x95, 0, 0, 0, 0);

const fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        immediate,
    }
}

const fn mov(to: u8, value: i32) -> Instruction {
    instruction(0xb7, to, 0, 0, value)
}

const fn copy(to: u8, from: u8) -> Instruction {
    instruction(0xbf, to, from, 0, 0)
}

const fn add(to: u8, value: i16) -> Instruction {
    instruction(0x07, to, 0, 0, value as i32)
}

const fn or(to: u8, value: i32) -> Instruction {
    instruction(0x47, to, 0, 0, value)
}

const fn load(size: u8, to: u8, base: u8, offset: i16) -> Instruction {
    instruction(0x61 | size, to, base, offset, 0)
}

const fn store(size: u8, base: u8, offset: i16, from: u8) -> Instruction {
    instruction(0x63 | size, base, from, offset, 0)
}

/// Unsigned; the distance is filled in when the end is known.
const fn jump_if_above(one: u8, other: u8) -> Instruction {
    instruction(0x2d, one, other, 0, 0)
}

/// The distance is filled in when the end is known.
const fn jump_if_not(register: u8, value: i32) -> Instruction {
    instruction(0x55, register, 0, 0, value)
}
