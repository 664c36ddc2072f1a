//! What the kernel's verifier has to go through stays far below its limit of a million, so that
//! another kernel's verifier, or a load under memory pressure, is no surprise.

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use dns_userspace::dataplane::{Mode, Settings, Xdp};
use tests::{needs, needs_root};

/// Instructions that the verifier processes, over all ways through the program.
const BUDGET: u32 = 60_000;

#[test]
fn the_verifier_goes_through_sixty_thousand_instructions_at_most() {
    needs_root!();
    needs!(
        dns_userspace::dataplane::object().is_some(),
        "this build has no XDP program"
    );
    let settings = Settings {
        interfaces: Vec::new(),
        mode: Mode::Off,
        max_names: 64,
        seed: 1,
        addresses: Vec::new(),
        port: 53,
        max_udp_octets: 1232,
        sets_truncate_bit: true,
    };
    let object = dns_userspace::dataplane::object().expect("checked above");
    let mut xdp = Xdp::load(object, &settings).unwrap();
    let info = xdp.program().unwrap().info().unwrap();
    // Linux 5.16 and later tell.
    let verified = info.verified_instruction_count();
    needs!(
        verified.is_some(),
        "this kernel does not say how much it verified"
    );
    let verified = verified.expect("checked above");
    println!("the verifier processed {verified} instructions, of at most {BUDGET}");
    assert!(verified <= BUDGET, "{verified} instructions");
}
