//! The data plane: an XDP program that answers DNS queries at the NIC and passes everything else
//! up untouched, and a TC program behind it, or in its place, that has room for long answers.

#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod checksum;
mod clients;
mod frame;
mod functions;
mod maps;
mod packet;
mod sample;
mod skb;
mod xdp;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::helpers::{bpf_jiffies64, bpf_redirect};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};
use dns_common::{Response, Verdict, respond};

use crate::frame::Frame;
use crate::maps::Answers;
use crate::packet::{Context, Packet};

/// Answers what it can.
#[xdp]
pub fn mesos_xdns(context: XdpContext) -> u32 {
    let packet = Packet::new(context.ctx);
    let Ok(answers) = Answers::open() else {
        return xdp_action::XDP_PASS;
    };
    let (verdict, counter) = match answer(packet, &answers) {
        Ok(response) => (response.verdict, response.counter()),
        Err(verdict) => (verdict, verdict.counter()),
    };
    maps::count(counter);
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(
        &context,
        "interface {}: {}",
        packet.interface(),
        verdict.name()
    );
    sample::take(packet, answers.policy(), verdict);
    action(verdict)
}

/// Answers what it can. On an interface with an XDP program that is what did not fit the buffer of
/// the driver, and only that is counted: the XDP program has counted every packet.
#[classifier]
pub fn mesos_xdns_tc(context: TcContext) -> i32 {
    let packet = Packet::new(context.skb.skb);
    let Ok(answers) = Answers::open() else {
        return TC_ACT_UNSPEC;
    };
    let answered = skb::gather(packet).and_then(|()| answer(packet, &answers));
    let (verdict, counter) = match answered {
        Ok(response) => (response.verdict, response.counter()),
        Err(verdict) => (verdict, verdict.counter()),
    };
    if maps::is_alone(packet.interface()) {
        maps::count(counter);
        sample::take(packet, answers.policy(), verdict);
    } else if verdict.is_response() || verdict.is_lost() {
        maps::count_second(counter);
    }
    #[cfg(feature = "trace")]
    aya_log_ebpf::info!(
        &context,
        "interface {}: TC {}",
        packet.interface(),
        verdict.name()
    );
    match action(verdict) {
        // SAFETY: takes two numbers.
        xdp_action::XDP_TX => (unsafe { bpf_redirect(packet.interface(), 0) }) as i32,
        // To the programs and filters behind.
        xdp_action::XDP_PASS => TC_ACT_UNSPEC,
        _ => TC_ACT_SHOT,
    }
}

/// What becomes of a packet.
#[inline(always)]
const fn action(verdict: Verdict) -> xdp_action::Type {
    match verdict {
        Verdict::Answered
        | Verdict::NoData
        | Verdict::NxDomain
        | Verdict::Truncated
        | Verdict::BadVersion
        | Verdict::Slipped => xdp_action::XDP_TX,
        Verdict::NotIp
        | Verdict::OtherHost
        | Verdict::IpOptions
        | Verdict::NotDns
        | Verdict::Length
        | Verdict::NotLocal
        | Verdict::Source
        | Verdict::Prohibited
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
        // User space would not have answered either.
        Verdict::Limited => xdp_action::XDP_DROP,
        Verdict::Broken => xdp_action::XDP_ABORTED,
    }
}

#[inline(always)]
fn answer<C: Context>(packet: Packet<C>, answers: &Answers) -> Result<Response, Verdict> {
    let mut frame = Frame::read(packet, answers.policy())?;
    if jiffies() > answers.policy().answer_until {
        return Err(Verdict::Lease);
    }
    respond(&mut frame, answers)
}

/// Ticks of the kernel's clock; the kernel makes a plain load of the call.
#[inline(always)]
pub(crate) fn jiffies() -> u64 {
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
