//! Responses of upstreams from any octets: only what answers our question is taken, and what goes to
//! the client is whole, within its bounds, and as readable as what came.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| dns_userspace::forwarder::fuzzing::run(octets));
