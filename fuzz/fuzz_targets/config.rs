//! A configuration from any octets: there is one, or there is a reason, each in one line that names
//! the file.
#![no_main]

use std::path::Path;

use dns_userspace::config::{Surroundings, check_text};
use libfuzzer_sys::fuzz_target;

const PATH: &str = "/c.json";

fuzz_target!(|text: &[u8]| {
    // Files that are named are read, and devices have no end. What JSON escapes could spell one.
    let names_devices = |part: &[u8]| part == b"/dev" || part == b"/pro";
    if text.windows(4).any(names_devices) || text.contains(&b'\\') {
        return;
    }
    let checked = check_text(text, Path::new(PATH), &Surroundings::default());
    assert_eq!(checked.config.is_some(), checked.problems.is_empty());
    for problem in &checked.problems {
        assert_eq!(problem.file, Path::new(PATH));
        let line = problem.to_string();
        assert!(line.starts_with(PATH) && !line.contains('\n'), "{line}");
    }
    let Some(config) = checked.config else {
        return;
    };
    // The same again, and good for what comes next.
    let again = check_text(text, Path::new(PATH), &Surroundings::default());
    assert_eq!(again.config.as_ref(), Some(&config));
    let _ = config.record_settings(&[]);
});
