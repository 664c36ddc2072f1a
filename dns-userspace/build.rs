//! Builds the XDP program and hands its path to the crate.
//!
//! With an eBPF toolchain the environment variable `MESOS_XDNS_BPF_OBJECT` names the object and
//! `cfg(has_bpf)` is set. Without one the crate builds all the same and answers in user space only;
//! a warning says what to do. `MESOS_XDNS_SKIP_EBPF=1` chooses that on purpose.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

#[path = "build/toolchain.rs"]
mod toolchain;

use toolchain::{BPF_PACKAGE, BPF_PROFILE, BPF_TARGET, Toolchain};

/// Leaves the XDP program out, on machines that have a toolchain too.
const SKIP: &str = "MESOS_XDNS_SKIP_EBPF";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rustc-check-cfg=cfg(has_bpf)");
    println!("cargo::rerun-if-env-changed={SKIP}");
    println!("cargo::rerun-if-env-changed=PATH");
    let workspace = workspace()?;
    for input in [
        "Cargo.toml",
        "Cargo.lock",
        "dns-common/Cargo.toml",
        "dns-common/src",
        "dns-ebpf/Cargo.toml",
        "dns-ebpf/src",
        "dns-userspace/build.rs",
        "dns-userspace/build",
    ] {
        println!(
            "cargo::rerun-if-changed={}",
            workspace.join(input).display()
        );
    }

    println!(
        "cargo::rustc-env=MESOS_XDNS_LAYOUT={:016x}",
        layout(&workspace)?
    );

    if env::var_os(SKIP).is_some_and(|value| !value.is_empty() && value != "0") {
        println!("cargo::warning=built without the XDP program, because {SKIP} is set");
        return Ok(());
    }
    match Toolchain::find() {
        Ok(toolchain) => build(&toolchain, &workspace),
        Err(missing) => {
            println!(
                "cargo::warning=built without the XDP program: {missing} not found; \
                 `cargo xtask build` installs what is missing"
            );
            Ok(())
        }
    }
}

/// Compiles `dns-ebpf` into `OUT_DIR`, in both variants.
fn build(toolchain: &Toolchain, workspace: &Path) -> Result<(), Box<dyn Error>> {
    let out_dir = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    for (features, object, variable) in [
        ("", "mesos-xdns.bpf.o", "MESOS_XDNS_BPF_OBJECT"),
        (
            "trace",
            "mesos-xdns-trace.bpf.o",
            "MESOS_XDNS_BPF_TRACE_OBJECT",
        ),
    ] {
        let object = out_dir.join(object);
        compile(toolchain, workspace, &out_dir, features, &object)?;
        println!("cargo::rustc-env={variable}={}", object.display());
    }
    println!("cargo::rustc-cfg=has_bpf");
    Ok(())
}

/// Compiles `dns-ebpf` with these features and copies it to `object`.
fn compile(
    toolchain: &Toolchain,
    workspace: &Path,
    out_dir: &Path,
    features: &str,
    object: &Path,
) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let target_dir = out_dir.join("bpf");
    let output = toolchain
        .cargo(Path::new(&cargo), "build", &target_dir)
        .args(["--features", features])
        .current_dir(workspace)
        .output()?;
    if !output.status.success() {
        let messages = String::from_utf8_lossy(&output.stderr);
        return Err(format!("dns-ebpf does not build with {toolchain}:\n{messages}").into());
    }
    // Cargo hides a build script's standard error; its warnings are worth seeing.
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        // The linker knows the feature that the compiler calls unstable.
        let is_noise = line.contains("generated") || line.contains("unstable feature specified");
        if line.starts_with("warning") && !is_noise {
            println!("cargo::warning=dns-ebpf: {line}");
        }
    }
    // A copy, because cargo replaces the original in place while another process may read it.
    let built = target_dir
        .join(BPF_TARGET)
        .join(BPF_PROFILE)
        .join(BPF_PACKAGE);
    fs::copy(built, object)?;
    Ok(())
}

/// A fingerprint of everything that says what BPF maps hold. Maps of an earlier daemon are taken
/// over if it is theirs too; that a comment changes it costs them being filled anew.
fn layout(workspace: &Path) -> Result<u64, Box<dyn Error>> {
    let maps = ["maps.rs", "clients.rs", "sample.rs"]
        .map(|file| workspace.join("dns-ebpf/src").join(file));
    let mut files = Vec::from(maps);
    for entry in fs::read_dir(workspace.join("dns-common/src"))? {
        files.push(entry?.path());
    }
    files.sort();
    // FNV-1a: nobody chooses the input, and it is the same in every version of the compiler.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        for octet in fs::read(file)? {
            hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

/// The folder above this package.
fn workspace() -> Result<PathBuf, Box<dyn Error>> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("not run by cargo")?);
    Ok(package
        .parent()
        .ok_or("no folder above the package")?
        .to_path_buf())
}
