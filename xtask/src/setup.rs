//! Finds what a command needs and installs what is missing.
//!
//! There is no stamp: whether something is there is seen by looking, which takes milliseconds, so a
//! second run does no set-up work. Each installing command is printed before it runs. Without root
//! or without apt it says what to install and what is lost until then.

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};

use crate::{
    shell,
    toolchain::{Missing, Toolchain, find_program},
};

/// Debian's compiler with a precompiled `core` for BPF, and its clippy.
const COMPILER_PACKAGES: &[&str] = &["rustc-web", "libstd-rust-web-dev-bpf", "rust-web-clippy"];

/// 0.10.3 loads LLVM at run time; later versions link it and want its development package.
const BPF_LINKER: &str = "bpf-linker --version 0.10.3 --locked";

/// Checks licences, bans and sources; this version builds with the workspace's compiler.
const CARGO_DENY: &str = "cargo-deny --version 0.20.2 --locked";

/// A program of the system that a command uses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// A program, or the path of a file.
    name: &'static str,
    package: &'static str,
    /// What is lost without it.
    loses: &'static str,
}

/// What the demo uses.
pub(crate) const FOR_RUN: &[Program] = &[
    program("ip", "iproute2", "the demo answers in user space only"),
    program(
        "dig",
        "bind9-dnsutils",
        "nothing asks questions in the demo",
    ),
];

/// What the tests use.
pub(crate) const FOR_TEST: &[Program] = &[
    program("c++", "g++", "the fuzz stage cannot build libFuzzer"),
    program("cpio", "cpio", "other kernels are not tried"),
    program("curl", "curl", "tests of DNS over HTTPS are skipped"),
    program("dig", "bind9-dnsutils", "end-to-end tests are skipped"),
    program(
        "dnssec-signzone",
        "bind9-utils",
        "tests with signed zones are skipped",
    ),
    program("ethtool", "ethtool", "checksum offloads are not tried"),
    program("ip", "iproute2", "end-to-end tests are skipped"),
    program(
        "java",
        "default-jre-headless",
        "tests with ZooKeeper are skipped",
    ),
    program(
        "kdig",
        "knot-dnsutils",
        "tests of zone transfers and of TLS are skipped",
    ),
    program("knotd", "knot", "tests of zone transfers are skipped"),
    program("named", "bind9", "tests with BIND are skipped"),
    program("nsd", "nsd", "the comparison with NSD is skipped"),
    program(
        "/usr/lib/python3/dist-packages/prometheus_client/openmetrics/parser.py",
        "python3-prometheus-client",
        "the page of metrics is not read by another program",
    ),
    program("nsenter", "util-linux", "end-to-end tests are skipped"),
    program(
        "nsupdate",
        "bind9-dnsutils",
        "tests of zone transfers are skipped",
    ),
    program("openssl", "openssl", "tests with TLS are skipped"),
    program(
        "/usr/share/java/zookeeper.jar",
        "zookeeper",
        "tests with ZooKeeper are skipped",
    ),
    program(
        "qemu-system-x86_64",
        "qemu-system-x86",
        "other kernels are not tried",
    ),
    program("setpriv", "util-linux", "tests of rights are skipped"),
    program(
        "systemd-analyze",
        "systemd",
        "the service unit is not verified",
    ),
    program("tcpdump", "tcpdump", "captures are not read"),
    program("unbound", "unbound", "tests with Unbound are skipped"),
    program("unshare", "util-linux", "tests with BIND are skipped"),
];

/// What the measurements use.
pub(crate) const FOR_BENCH: &[Program] = &[
    program("bpftool", "bpftool", "no program time"),
    program("dnsdist", "dnsdist", "no comparison with dnsdist"),
    program("dnsperf", "dnsperf", "no bench"),
    program("ip", "iproute2", "no bench"),
    program("knotd", "knot", "no comparison with Knot DNS"),
    program("kxdpgun", "knot-dnsutils", "no bench"),
    program("named", "bind9", "no comparison with BIND"),
    program("nsd", "nsd", "no comparison with NSD"),
    program("unbound", "unbound", "no comparison with Unbound"),
];

/// Packages that would start a server on port 53, with their services.
const SERVERS: &[(&str, &str)] = &[
    ("bind9", "named"),
    ("dnsdist", "dnsdist"),
    ("knot", "knot"),
    ("nsd", "nsd"),
    ("unbound", "unbound"),
];

impl Program {
    fn is_there(self) -> bool {
        Path::new(self.name).is_file() || find_program(self.name).is_some()
    }
}

const fn program(name: &'static str, package: &'static str, loses: &'static str) -> Program {
    Program {
        name,
        package,
        loses,
    }
}

/// Whether the process may install packages and make namespaces.
pub(crate) fn is_root() -> bool {
    // SAFETY: geteuid takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Finds or installs the eBPF toolchain; `None` is told on standard error.
///
/// # Errors
///
/// The workspace cannot be found.
pub(crate) fn ebpf_toolchain() -> Result<Option<Toolchain>> {
    let missing = match Toolchain::find() {
        Ok(toolchain) => return Ok(Some(toolchain)),
        Err(missing) => missing,
    };
    eprintln!("eBPF toolchain: {missing} not found");
    if missing.compiler {
        install_compiler();
    }
    if missing.linker {
        attempt(shell::cargo("install")?.args(BPF_LINKER.split(' ')));
    }
    match Toolchain::find() {
        Ok(toolchain) => {
            eprintln!("eBPF toolchain: {toolchain}");
            notice_toolchain()?;
            Ok(Some(toolchain))
        }
        Err(missing) => {
            say_by_hand(&missing);
            Ok(None)
        }
    }
}

/// Debian's packages, else a rustup nightly with the sources of `core`.
fn install_compiler() {
    if find_program("apt-get").is_some() && is_root() {
        apt_install(COMPILER_PACKAGES);
    }
    // Another release of Debian may have the packages without what is needed.
    let still_missing = Toolchain::find().is_err_and(|missing| missing.compiler);
    if still_missing && find_program("rustup").is_some() {
        attempt(Command::new("rustup").args([
            "toolchain",
            "install",
            "nightly",
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]));
    }
}

fn say_by_hand(missing: &Missing) {
    eprintln!("Still missing: {missing}. Without it queries are answered in user space only.");
    if missing.compiler {
        eprintln!(
            "  Debian 12: sudo apt-get install {}",
            COMPILER_PACKAGES.join(" ")
        );
        eprintln!("  elsewhere: rustup toolchain install nightly --component rust-src");
    }
    if missing.linker {
        eprintln!("  both:      cargo install {BPF_LINKER}");
    }
}

/// Makes the build script of `dns-userspace` look again: cargo cannot know what was installed.
fn notice_toolchain() -> Result<()> {
    let path = shell::workspace()?.join("dns-userspace/build/toolchain.rs");
    let file = File::options().append(true).open(&path);
    file.and_then(|file| file.set_modified(SystemTime::now()))
        .with_context(|| format!("touching {}", path.display()))
}

/// Installs missing programs of the system; says what is lost without those that stay missing.
pub(crate) fn programs(wanted: &[Program]) {
    let missing = || wanted.iter().filter(|program| !program.is_there());
    let packages: Vec<_> = missing().map(|program| program.package).collect();
    if packages.is_empty() {
        return;
    }
    if find_program("apt-get").is_some() && is_root() {
        if Path::new("/run/systemd/system").exists() {
            for (_, service) in SERVERS.iter().filter(|(one, _)| packages.contains(one)) {
                attempt(Command::new("systemctl").args(["mask", service]));
            }
        }
        apt_install(&packages);
    }
    let mut left = missing().peekable();
    if left.peek().is_some() {
        let why = if is_root() {
            "no package manager known here has it"
        } else {
            "not root"
        };
        let packages: Vec<_> = left.clone().map(|program| program.package).collect();
        eprintln!(
            "Missing ({why}): sudo apt-get install {}",
            packages.join(" ")
        );
        for program in left {
            eprintln!("  without {}: {}", program.name, program.loses);
        }
    }
}

/// Finds or installs cargo-deny, and says whether it is there.
///
/// # Errors
///
/// The workspace cannot be found.
pub(crate) fn cargo_deny() -> Result<bool> {
    if find_program("cargo-deny").is_none() {
        attempt(shell::cargo("install")?.args(CARGO_DENY.split(' ')));
    }
    Ok(find_program("cargo-deny").is_some())
}

/// Installs packages; refreshes the lists first where they are old, or afterwards where that fails.
fn apt_install(packages: &[&str]) -> bool {
    let install = || {
        attempt(
            Command::new("apt-get")
                .args(["install", "--yes", "--no-install-recommends"])
                .args(packages)
                .env("DEBIAN_FRONTEND", "noninteractive"),
        )
    };
    let update = || attempt(Command::new("apt-get").arg("update"));
    if !lists_are_fresh() {
        return update() && install();
    }
    install() || (update() && install())
}

/// Whether apt's package lists were fetched within a day.
fn lists_are_fresh() -> bool {
    std::fs::metadata("/var/lib/apt/lists/partial")
        .and_then(|folder| folder.modified())
        .is_ok_and(|time| {
            time.elapsed()
                .is_ok_and(|age| age < Duration::from_secs(24 * 3600))
        })
}

/// Runs a command that may fail: what follows looks at what is there, not at this result.
fn attempt(command: &mut Command) -> bool {
    match shell::run(command) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("{error:#}");
            false
        }
    }
}
