//! The data plane: an XDP program that answers DNS queries at the NIC and passes everything else
//! up untouched.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod checksum;
mod frame;
mod maps;
mod packet;
mod sample;

use aya_ebpf::bindings::xdp_action;
use aya_ebpf::helpers::bpf_jiffies64;
use aya_ebpf::macros::xdp;
use aya_ebpf::programs::XdpContext;
use dns_common::{Verdict, respond};

use crate::frame::Frame;
use crate::maps::Answers;
use crate::packet::Packet;

/// Answers what it can.
#[xdp]
pub fn mesos_xdns(context: XdpContext) -> u32 {
    let verdict = match answer(Packet::new(context.ctx)) {
        Ok(verdict) | Err(verdict) => verdict,
    };
    maps::count(verdict);
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(
        &context,
        "interface {}: {}",
        Packet::new(context.ctx).interface(),
        verdict.name()
    );
    if let Ok(answers) = Answers::open() {
        sample::take(context.ctx, answers.policy(), verdict);
    }
    match verdict {
        Verdict::Answered
        | Verdict::NoData
        | Verdict::NxDomain
        | Verdict::Truncated
        | Verdict::BadVersion => xdp_action::XDP_TX,
        Verdict::NotIp
        | Verdict::OtherHost
        | Verdict::IpOptions
        | Verdict::NotDns
        | Verdict::Length
        | Verdict::NotLocal
        | Verdict::Source
        | Verdict::Checksum
        | Verdict::Lease
        | Verdict::NotQuery
        | Verdict::Counts
        | Verdict::Malformed
        | Verdict::Class
        | Verdict::Edns
        | Verdict::Option
        | Verdict::MetaType
        | Verdict::Miss
        | Verdict::Collision
        | Verdict::TooBig
        | Verdict::Resize => xdp_action::XDP_PASS,
        Verdict::Broken => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn answer(packet: Packet) -> Result<Verdict, Verdict> {
    let answers = Answers::open()?;
    let mut frame = Frame::read(packet, answers.policy())?;
    if jiffies() > answers.policy().answer_until {
        return Err(Verdict::Lease);
    }
    Ok(respond(&mut frame, &answers))
}

/// Ticks of the kernel's clock; the kernel makes a plain load of the call.
#[inline(always)]
fn jiffies() -> u64 {
    // SAFETY: takes nothing and reads a counter.
    unsafe { bpf_jiffies64() }
}

/// Tells user space the time that [`Policy::answer_until`](dns_common::Policy::answer_until) is
/// compared with, in the first eight octets of the packet. Run by `BPF_PROG_TEST_RUN`, never
/// attached.
#[xdp]
pub fn xdns_clock(context: XdpContext) -> u32 {
    match Packet::new(context.ctx).store(0, jiffies()) {
        Some(()) => xdp_action::XDP_PASS,
        None => xdp_action::XDP_ABORTED,
    }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
