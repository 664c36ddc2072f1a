//! Functions of their own: the verifier goes through a global function once, whatever leads to its
//! calls. Each kind of program needs its own, as they are given different things.

/// Makes the functions of one kind of program, by what it is given.
macro_rules! functions {
    ($context:ty: $ancestor:ident, $is_allowed:ident, $allowance:ident, $slip:ident) => {
        #[inline(never)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $ancestor(
            context: *mut $context,
            udp_at: u32,
            at: u32,
            octets: u32,
        ) -> u64 {
            $crate::frame::ancestor($crate::packet::Packet::new(context), udp_at, at, octets).get()
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $is_allowed(context: *mut $context, ip_at: u32, ipv6: u32) -> u32 {
            let packet = $crate::packet::Packet::new(context);
            u32::from($crate::clients::is_allowed(packet, ip_at, ipv6 != 0))
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $allowance(context: *mut $context, place: u64) -> u32 {
            let place = $crate::frame::Place::from_bits(place);
            let allowance = $crate::frame::allowance($crate::packet::Packet::new(context), place);
            allowance.unwrap_or(dns_common::Allowance::Drop) as u32
        }

        #[inline(never)]
        #[unsafe(no_mangle)]
        pub extern "C" fn $slip(
            context: *mut $context,
            place: u64,
            end: u32,
            edns: u32,
            question_sum: u64,
        ) -> u32 {
            let packet = $crate::packet::Packet::new(context);
            let place = $crate::frame::Place::from_bits(place);
            let edns = dns_common::question::Edns::from_bits(edns);
            u32::from($crate::frame::slip(packet, place, end, edns, question_sum).is_some())
        }
    };
}

pub(crate) use functions;
