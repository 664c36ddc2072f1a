//! A Mesos state from any octets: no panic, and what is read becomes records and a zone.
#![no_main]

use std::{path::Path, sync::LazyLock};

use dns_userspace::{
    config::{self, Surroundings},
    mesos::parse,
    records::{self, Settings},
    zones::Name,
};
use libfuzzer_sys::fuzz_target;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    let text = br#"{ "masters": ["127.0.0.1:5050"], "externalOn": false }"#;
    let checked = config::check_text(text, Path::new("config.json"), &Surroundings::default());
    checked.config.expect("a valid configuration").record_settings(&[])
});

fuzz_target!(|body: &[u8]| {
    if let Ok((state, _)) = parse(body) {
        let records = records::build(&state, &[], &SETTINGS, &|_: &str| Vec::new());
        let apex = Name::from_text(&SETTINGS.domain).expect("the default domain");
        let content = records::to_zone::zone_content(&records, &SETTINGS, &apex);
        for (owner, _) in &content.rrsets {
            assert!(owner.is_at_or_below(&apex), "{owner}");
        }
    }
});
