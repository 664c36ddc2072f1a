//! What a test needs from the machine, and the loud way to do without.
//!
//! A test that cannot run says so on the real standard error, past the test harness' capture, and
//! in the file named by [`SKIP_LOG`], from which `cargo xtask test` counts. With `CI=true` a
//! missing thing is a failure: the machine that decides must not skip.

use std::{
    env,
    fs::OpenOptions,
    io::{self, Write},
    path::PathBuf,
    thread,
};

/// Names the file to which skipped tests are appended.
pub const SKIP_LOG: &str = "MESOS_XDNS_SKIP_LOG";

/// Returns from the test, loudly, unless it runs as root.
#[macro_export]
macro_rules! needs_root {
    () => {
        if !$crate::requirements::met($crate::requirements::root()) {
            return;
        }
    };
}

/// Returns from the test, loudly, unless all these programs are installed.
#[macro_export]
macro_rules! needs_tool {
    ($($tool:expr),+ $(,)?) => {
        $(if !$crate::requirements::met($crate::requirements::tool($tool)) {
            return;
        })+
    };
}

/// Returns from the test, loudly, unless a condition holds that is not a program or a right.
#[macro_export]
macro_rules! needs {
    ($condition:expr, $reason:expr) => {
        if !$crate::requirements::met(if $condition {
            Ok(())
        } else {
            Err($reason.to_string())
        }) {
            return;
        }
    };
}

/// Whether a requirement is met; reports the skipped test where it is not.
///
/// # Panics
///
/// With `CI=true` in the environment, where nothing may be skipped.
pub fn met(requirement: Result<(), String>) -> bool {
    let Err(reason) = requirement else {
        return true;
    };
    let current = thread::current();
    let line = format!("SKIPPED {}: {reason}\n", current.name().unwrap_or("a test"));
    let strict = env::var("CI").is_ok_and(|value| value == "true" || value == "1");
    assert!(!strict, "{reason}, and with CI=true nothing may be skipped");
    // Reporting is best effort: the test's result does not hang on it.
    let _ = io::stderr().write_all(line.as_bytes());
    if let Some(path) = env::var_os(SKIP_LOG) {
        let log = OpenOptions::new().create(true).append(true).open(path);
        let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
    }
    false
}

/// Whether the process runs as root.
///
/// # Errors
///
/// Says that it does not.
pub fn root() -> Result<(), String> {
    // SAFETY: geteuid takes nothing and cannot fail.
    match unsafe { libc::geteuid() } {
        0 => Ok(()),
        _ => Err("needs root for network namespaces and BPF".to_owned()),
    }
}

/// Whether a program is installed.
///
/// # Errors
///
/// Names the program.
pub fn tool(name: &str) -> Result<(), String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .any(|folder| folder.join(name).is_file());
    if found {
        Ok(())
    } else {
        Err(format!("needs the program {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named() {
        assert_eq!(tool("sh"), Ok(()));
        let reason = tool("no-such-program").unwrap_err();
        assert!(reason.contains("no-such-program"), "{reason}");
    }
}
