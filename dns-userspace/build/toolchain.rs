//! Finds a compiler and a linker that can build the XDP program.
//!
//! The build script and `xtask` share this file through `#[path]`: it only looks and never
//! installs, and it uses nothing but std. Two compilers qualify, in this order:
//!
//! 1. Debian's `/usr/bin/rustc` (package `rustc-web`) with the precompiled `core` of package
//!    `libstd-rust-web-dev-bpf`;
//! 2. a rustup nightly with the component `rust-src`, from which cargo builds `core`.
//!
//! Both need `bpf-linker`, which loads the compiler's own LLVM at run time.

use std::{
    env,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The target of the XDP program: little-endian BPF.
pub(crate) const BPF_TARGET: &str = "bpfel-unknown-none";

/// The package that holds the XDP program, which also names the object file.
pub(crate) const BPF_PACKAGE: &str = "dns-ebpf";

/// The cargo profile of the XDP program, from the workspace's `Cargo.toml`.
pub(crate) const BPF_PROFILE: &str = "bpf";

/// Compiler flags of the XDP program: BTF for the loader and the verifier's messages.
const BPF_RUSTFLAGS: &[&str] = &[
    "-Cdebuginfo=2",
    "-Clink-arg=--btf",
    "-Ctarget-feature=+allows-misaligned-mem-access",
];

/// Where Debian puts its compiler. rustup's comes first on `PATH`, so it is named by its path.
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

/// What cargo hands to build scripts and subprocesses that would steer another compiler.
const INHERITED: &[&str] = &[
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CLIPPY_ARGS",
    "RUSTC",
    "RUSTC_LINKER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
];

/// A compiler and a linker for the XDP program.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub(crate) compiler: Compiler,
    linker: PathBuf,
    /// The folder of the LLVM library that matches the compiler.
    llvm: Option<PathBuf>,
}

/// Where `core` for BPF comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compiler {
    /// A compiler whose sysroot has a precompiled `core` for BPF.
    Precompiled { rustc: PathBuf },
    /// A rustup toolchain, by name, with `rust-src`.
    BuildStd { toolchain: String },
}

/// What is missing on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Neither compiler was found.
    pub(crate) compiler: bool,
    /// `bpf-linker` was not found.
    pub(crate) linker: bool,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let compiler = "a compiler with core for bpfel-unknown-none";
        match (self.compiler, self.linker) {
            (true, true) => write!(f, "{compiler} and bpf-linker"),
            (true, false) => f.write_str(compiler),
            _ => f.write_str("bpf-linker"),
        }
    }
}

impl Toolchain {
    /// Looks for a compiler and a linker.
    ///
    /// # Errors
    ///
    /// Says which of the two is missing.
    pub(crate) fn find() -> Result<Self, Missing> {
        let compiler = precompiled().or_else(build_std);
        let linker = find_program("bpf-linker");
        match (compiler, linker) {
            (Some((compiler, llvm)), Some(linker)) => Ok(Self {
                compiler,
                linker,
                llvm,
            }),
            (compiler, linker) => Err(Missing {
                compiler: compiler.is_none(),
                linker: linker.is_none(),
            }),
        }
    }

    /// Prepares `cargo <subcommand>` for the XDP program, with its output below `target_dir`.
    ///
    /// `cargo` is used with Debian's compiler; a rustup nightly brings its own.
    pub(crate) fn cargo(&self, cargo: &Path, subcommand: &str, target_dir: &Path) -> Command {
        let mut command = match &self.compiler {
            Compiler::Precompiled { rustc } => {
                let mut command = Command::new(cargo);
                command.env("RUSTC", rustc);
                command
            }
            Compiler::BuildStd { toolchain } => {
                let mut command = Command::new("rustup");
                command.args(["run", toolchain, "cargo"]);
                command
            }
        };
        for name in INHERITED {
            if *name != "RUSTC" || matches!(self.compiler, Compiler::BuildStd { .. }) {
                command.env_remove(name);
            }
        }
        command
            .arg(subcommand)
            .args(["--package", BPF_PACKAGE, "--target", BPF_TARGET])
            .args(["--profile", BPF_PROFILE])
            .env("CARGO_ENCODED_RUSTFLAGS", BPF_RUSTFLAGS.join("\u{1f}"))
            .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", &self.linker)
            .env("CARGO_TARGET_DIR", target_dir)
            // aya-ebpf uses one unstable feature on the BPF target.
            .env("RUSTC_BOOTSTRAP", "1");
        if let Compiler::BuildStd { .. } = self.compiler {
            command.arg("-Zbuild-std=core");
        }
        if let Some(llvm) = &self.llvm {
            command.env("LD_LIBRARY_PATH", prepended("LD_LIBRARY_PATH", llvm));
        }
        command
    }
}

impl fmt::Display for Toolchain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.compiler {
            Compiler::Precompiled { rustc } => write!(f, "{}", rustc.display())?,
            Compiler::BuildStd { toolchain } => write!(f, "rustup toolchain {toolchain}")?,
        }
        write!(f, ", {}", self.linker.display())
    }
}

/// Debian's compiler, if its sysroot has `core` for BPF, and the folder of its LLVM.
fn precompiled() -> Option<(Compiler, Option<PathBuf>)> {
    let rustc = PathBuf::from(DEBIAN_RUSTC);
    if !rustc.is_file() {
        return None;
    }
    let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]))?;
    let rlibs = Path::new(&sysroot)
        .join("lib/rustlib")
        .join(BPF_TARGET)
        .join("lib");
    if !has_file(&rlibs, |name| name.starts_with("libcore-")) {
        return None;
    }
    let llvm = llvm_folder(&rustc);
    Some((Compiler::Precompiled { rustc }, llvm))
}

/// The first rustup nightly that has `rust-src`, and the folder of its LLVM.
fn build_std() -> Option<(Compiler, Option<PathBuf>)> {
    let list = output(Command::new("rustup").args(["toolchain", "list"]))?;
    list.lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|toolchain| toolchain.starts_with("nightly"))
        .find_map(|toolchain| {
            let sysroot = output(
                Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]),
            )?;
            let sysroot = Path::new(&sysroot);
            let source = sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs");
            source.is_file().then(|| {
                let compiler = Compiler::BuildStd {
                    toolchain: toolchain.to_owned(),
                };
                (compiler, Some(sysroot.join("lib")))
            })
        })
}

/// The folder below `/usr/lib` with the LLVM library of the compiler's major version.
fn llvm_folder(rustc: &Path) -> Option<PathBuf> {
    let version = output(Command::new(rustc).arg("-vV"))?;
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    let major = llvm.split('.').next()?;
    let file = format!("libLLVM.so.{major}");
    let entries = fs::read_dir("/usr/lib").ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .chain([PathBuf::from(format!("/usr/lib/llvm-{major}/lib"))])
        .find(|folder| has_file(folder, |name| name.starts_with(&file)))
}

/// Finds a program on `PATH` or where `cargo install` puts it.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let cargo_home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    env::split_paths(&path)
        .chain(cargo_home.map(|home| home.join("bin")))
        // Debian keeps tools for administrators out of a user's PATH.
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// A search path variable with one folder put first.
fn prepended(variable: &str, folder: &Path) -> OsString {
    let old = env::var_os(variable).unwrap_or_default();
    let folders = std::iter::once(folder.to_path_buf())
        .chain(env::split_paths(&old).filter(|path| !path.as_os_str().is_empty()));
    env::join_paths(folders).unwrap_or_else(|_| folder.as_os_str().to_owned())
}

/// Whether a folder holds a file whose name matches.
fn has_file(folder: &Path, matches: impl Fn(&str) -> bool) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| {
        entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(&matches)))
    })
}

/// The trimmed standard output of a command that succeeded.
fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    if !output.status.success() {
        return None;
    }
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
