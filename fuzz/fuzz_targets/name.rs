//! A domain name from any octets: no panic, and what is accepted survives a round trip.
#![no_main]

use dns_userspace::zones::Name;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|octets: &[u8]| {
    if let Ok(name) = Name::from_wire(octets) {
        assert_eq!(Name::from_wire(name.wire()).as_ref(), Ok(&name));
        assert!(name.wire().len() <= 255, "RFC 1035, section 2.3.4");
        assert_eq!(Name::from_text(&name.to_string()).as_ref(), Ok(&name));
        let ancestors = std::iter::successors(Some(name.clone()), Name::parent);
        assert_eq!(ancestors.count(), name.labels().count() + 1);
    }
    if let Ok(text) = std::str::from_utf8(octets)
        && let Ok(name) = Name::from_text(text)
    {
        assert_eq!(Name::from_text(&name.to_string()).as_ref(), Ok(&name));
    }
});
