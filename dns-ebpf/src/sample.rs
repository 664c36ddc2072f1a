//! Hands one of so many packets to user space, while somebody watches.

use core::arch::asm;

use aya_ebpf::btf_maps::{PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use dns_common::sample::{SNAP_OCTETS, Sample};
use dns_common::{Policy, Verdict};

use crate::packet::{Context, Packet};

/// Samples on their way to user space; what does not fit is not sampled.
#[btf_map]
static SAMPLES: RingBuf<(), { 256 * 1024 }> = RingBuf::new();

/// Packets until the next sample, for each CPU.
#[btf_map]
static COUNTDOWN: PerCpuArray<u32, 1> = PerCpuArray::new();

/// Samples the packet if it is its turn.
#[inline(always)]
pub(crate) fn take<C: Context>(packet: Packet<C>, policy: &Policy, verdict: Verdict) {
    if policy.sample_every != 0 && is_turn(policy.sample_every) {
        hand_over(packet, verdict);
    }
}

#[inline(always)]
fn is_turn(every: u32) -> bool {
    let Some(left) = COUNTDOWN.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the value belongs to this CPU, and XDP programs do not interrupt one another.
    unsafe {
        // More is left where fewer were wanted before.
        if *left > 0 && *left < every {
            *left -= 1;
            return false;
        }
        *left = every - 1;
    }
    true
}

/// Out of line: seldom called, and none of the verifier's business at each verdict.
#[inline(never)]
fn hand_over<C: Context>(packet: Packet<C>, verdict: Verdict) {
    let Some(mut entry) = SAMPLES.reserve_untyped::<Sample>(0) else {
        return;
    };
    let sample = entry.as_mut_ptr();
    // SAFETY: the context is the kernel's, the entry is ours and has room for a sample; the kernel
    // writes `kept` octets, at least one and at most as many as there is room for.
    unsafe {
        let octets = packet.whole();
        let mut kept = u64::from(octets.clamp(1, SNAP_OCTETS as u32));
        // Out of the compiler's sight, so that every verifier sees from 1 to all.
        asm!(
            "{kept} += -1",
            "{kept} &= {mask}",
            "{kept} += 1",
            kept = inout(reg) kept,
            mask = const SNAP_OCTETS - 1,
            options(pure, nomem, nostack),
        );
        (*sample).octets = octets;
        (*sample).verdict = verdict as u32;
        let frame = (&raw mut (*sample).frame).cast();
        if !C::copy(packet, frame, kept as u32) {
            entry.discard(0);
            return;
        }
    }
    entry.submit(0);
}
