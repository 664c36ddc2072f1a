//! Messages of zone transfers from any octets: read, packed and read again they are the same, and
//! nobody signs without the key.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| dns_userspace::transfer::fuzzing::run(octets));
