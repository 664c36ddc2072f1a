//! The stage `kernels`: the XDP program on other kernels than the running one.
//!
//! Debian's cloud kernels are downloaded and unpacked, not installed, and booted by qemu under
//! software emulation. The first process is a script that runs the very test programs of the stage
//! `e2e` over `BPF_PROG_TEST_RUN`; with the libraries that they load they make up the whole system.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use testbed::process::Process;

use crate::{
    build, setup, shell,
    test::{CASES, Outcome},
    toolchain::find_program,
};

/// The kernels, by the start of their version. Debian has none that is older.
const SERIES: [&str; 2] = ["6.1.", "6.12"];
/// What runs in a kernel, and which tests of it.
const TESTS: [(&str, &str); 3] = [
    ("hard_packets", "the_program the_verifier"),
    ("same_answer", "the_kernel"),
    ("client_limits", "only_clients a_prefix what_slips"),
];
/// Frames of the comparison; an emulated processor is slow.
const FRAMES: u32 = 10_000;
/// From start to power-off, on a busy machine.
const LIMIT: Duration = Duration::from_secs(300);
/// What the console says when all has run.
const END: &str = "mesos-xdns: end";

/// What a kernel told.
struct Account {
    instructions: String,
    packets: String,
}

/// Boots every kernel that can be had.
pub(crate) fn run() -> Result<Outcome> {
    if let Some(reason) = missing() {
        return Ok(Outcome::Skipped(reason));
    }
    let folder = build::target_folder()?.join("kernels");
    fs::create_dir_all(&folder).context("making the folder of kernels")?;
    let programs = test_programs()?;
    let root = folder.join("root");
    let busybox = unpacked(&folder, "busybox-static", "bin/busybox")?;
    lay_out(&root, &busybox, &programs)?;
    let archive = folder.join("initramfs.gz");
    pack(&root, &archive)?;
    let mut lines = Vec::new();
    if setup::is_root() {
        let account = Account::read(&native(&programs)?)?;
        let version = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        lines.push(account.line(&format!("{} (running)", version.trim())));
    }
    let others = thread::scope(|scope| {
        let booting = SERIES.map(|series| {
            let (folder, archive) = (&folder, &archive);
            scope.spawn(move || other(folder, series, archive))
        });
        let ended = booting.map(|one| {
            one.join()
                .map_err(|_| anyhow!("a kernel's thread panicked"))
        });
        ended
            .into_iter()
            .map(|one| one?)
            .collect::<Result<Vec<_>>>()
    })?;
    lines.extend(others);
    for line in &lines {
        eprintln!("{line}");
    }
    Ok(Outcome::Passed(lines.join("\n")))
}

/// Boots the newest kernel of a series and says how it went.
fn other(folder: &Path, series: &str, archive: &Path) -> Result<String> {
    let (version, image) = match kernel(folder, series) {
        Ok(found) => found,
        Err(error) => return Ok(format!("Linux {series}: SKIPPED, {error:#}")),
    };
    let said = boot(&image, archive, &folder.join(format!("{version}.log")));
    let account = said.and_then(|said| Account::read(&said));
    Ok(account
        .with_context(|| format!("on Linux {version}"))?
        .line(&version))
}

/// Why no kernel can be booted here.
fn missing() -> Option<String> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the kernels are those of x86-64".to_owned());
    }
    let needed = [
        "qemu-system-x86_64",
        "cpio",
        "gzip",
        "apt-get",
        "dpkg-deb",
        "ldd",
    ];
    let absent = needed.iter().find(|name| find_program(name).is_none())?;
    Some(format!("needs the program {absent}"))
}

/// Builds the test programs, which the stage `e2e` has done, and finds them.
fn test_programs() -> Result<Vec<PathBuf>> {
    let names = TESTS.map(|(name, _)| format!("--test {name}")).join(" ");
    let mut command = shell::cargo(&format!(
        "test --package tests {names} --no-run --message-format json-render-diagnostics"
    ))?;
    shell::print(&command);
    let output = command.stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "the tests do not build");
    let text = String::from_utf8_lossy(&output.stdout);
    let messages = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let built: Vec<PathBuf> = messages
        .filter_map(|message| Some(PathBuf::from(message.get("executable")?.as_str()?)))
        .collect();
    let of = |name: &str| {
        let is_it = |path: &&PathBuf| {
            path.file_name().is_some_and(|file| {
                file.to_str()
                    .and_then(|file| file.rsplit_once('-'))
                    .is_some_and(|(one, _)| one == name)
            })
        };
        let found = built.iter().find(is_it).cloned();
        found.with_context(|| format!("cargo names no {name} but {built:?}"))
    };
    TESTS.iter().map(|(name, _)| of(name)).collect()
}

/// The first file of a package whose path starts so, from the packages unpacked before or from
/// Debian.
fn unpacked(folder: &Path, package: &str, file: &str) -> Result<PathBuf> {
    let place = folder.join(package);
    if !place.is_dir() {
        let fresh = folder.join(format!("{package}.new"));
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh)?;
        shell::run(
            Command::new("apt-get")
                .args(["download", package])
                .current_dir(&fresh),
        )?;
        let archives = fs::read_dir(&fresh)?.flatten();
        let archive = archives.map(|entry| entry.path()).next();
        let archive = archive.with_context(|| format!("apt-get brought no {package}"))?;
        shell::run(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(&archive)
                .arg(&fresh),
        )?;
        fs::remove_file(&archive)?;
        // Modules are the most of it, and not needed.
        let _ = fs::remove_dir_all(fresh.join("lib"));
        let _ = fs::remove_dir_all(fresh.join("usr"));
        fs::rename(&fresh, &place)?;
    }
    let path = place.join(file);
    let (parent, start) = (path.parent(), path.file_name());
    let (Some(parent), Some(start)) = (parent, start.and_then(|name| name.to_str())) else {
        bail!("{} is no file", path.display());
    };
    let entries = fs::read_dir(parent).with_context(|| format!("reading {}", parent.display()))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let found = files.find(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(start))
    });
    found.with_context(|| format!("no {file} in {package}"))
}

/// The newest kernel of a series: its version and its image.
fn kernel(folder: &Path, series: &str) -> Result<(String, PathBuf)> {
    let prefix = format!("linux-image-{series}");
    let listed = || -> Result<Option<String>> {
        let names = shell::output(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
        let of_series = |name: &&str| {
            let rest = name.strip_prefix(&prefix);
            rest.is_some_and(|rest| !rest.starts_with('-')) && name.ends_with("-cloud-amd64")
        };
        let newest = names
            .lines()
            .filter(of_series)
            .max_by_key(|name| numbers(name));
        Ok(newest.map(str::to_owned))
    };
    let mut package = listed()?;
    if package.is_none() && setup::is_root() {
        shell::run(Command::new("apt-get").arg("update"))?;
        package = listed()?;
    }
    let package = package.context("apt knows no such package")?;
    let image = unpacked(folder, &package, "boot/vmlinuz")?;
    let version = package.trim_start_matches("linux-image-").to_owned();
    Ok((version, image))
}

/// The numbers in a text, by which versions are compared.
fn numbers(text: &str) -> Vec<u32> {
    let parts = text.split(|one: char| !one.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// Lays out the file system: busybox, the script that is the first process, the tests, and the
/// libraries that they load.
fn lay_out(root: &Path, busybox: &Path, programs: &[PathBuf]) -> Result<()> {
    let _ = fs::remove_dir_all(root);
    for folder in ["bin", "proc", "sys", "dev", "tmp", "tests"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy(busybox, root.join("bin/busybox")).context("copying busybox")?;
    symlink("busybox", root.join("bin/sh"))?;
    let mut script = String::from(
        "#!/bin/sh\nbusybox mount -t proc proc /proc\nbusybox mount -t sysfs sysfs /sys\n\
         busybox mount -t devtmpfs dev /dev\nbusybox mount -t tmpfs tmp /tmp\ncd /tmp\n\
         export CI=true RUST_BACKTRACE=1\n",
    );
    script.push_str(&format!("export {CASES}={FRAMES}\n"));
    let mut libraries = BTreeSet::new();
    for (program, (name, filter)) in programs.iter().zip(TESTS) {
        let copy = root.join("tests").join(name);
        fs::copy(program, &copy).with_context(|| format!("copying {}", program.display()))?;
        // Debug information is most of it; without `strip` it is carried along.
        if find_program("strip").is_some() {
            shell::run(Command::new("strip").arg(&copy))?;
        }
        libraries.extend(loaded(program)?);
        script.push_str(&format!(
            "/tests/{name} --nocapture --test-threads=1 {filter}\necho \"{name} ended with $?\"\n"
        ));
    }
    for library in libraries {
        let copy = root.join(library.strip_prefix("/").unwrap_or(&library));
        fs::create_dir_all(copy.parent().context("a library without a folder")?)?;
        fs::copy(&library, &copy).with_context(|| format!("copying {}", library.display()))?;
    }
    script.push_str(&format!("echo \"{END}\"\nbusybox poweroff -f\n"));
    let init = root.join("init");
    fs::write(&init, script)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// The shared libraries of a program, and the loader.
fn loaded(program: &Path) -> Result<Vec<PathBuf>> {
    let said = shell::output(Command::new("ldd").arg(program))?;
    let paths = said.split_whitespace().filter(|word| word.starts_with('/'));
    Ok(paths.map(PathBuf::from).collect())
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut command = Command::new("sh");
    command.current_dir(root).args([
        "-ec",
        "find . | cpio --quiet --create --format=newc | gzip -1 > \"$0\"",
    ]);
    shell::run(command.arg(archive))
}

/// Runs the tests on the running kernel.
fn native(programs: &[PathBuf]) -> Result<String> {
    let mut said = String::new();
    for (program, (name, filter)) in programs.iter().zip(TESTS) {
        let mut command = Command::new(program);
        command
            .args(["--nocapture", "--test-threads=1"])
            .args(filter.split(' '))
            .env(CASES, FRAMES.to_string());
        said.push_str(&shell::output(&mut command)?);
        said.push_str(&format!("\n{name} ended with 0\n"));
    }
    Ok(said)
}

/// Boots a kernel, waits for its end, and returns what its console said.
fn boot(image: &Path, archive: &Path, log: &Path) -> Result<String> {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args([
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "1024",
            "-nographic",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(archive)
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 random.trust_cpu=on",
        ]);
    shell::print(&command);
    let mut machine = Process::start("qemu", &mut command)?;
    let ended = machine.wait_for(END, LIMIT);
    let said = machine.output().join("\n");
    fs::write(log, &said).with_context(|| format!("writing {}", log.display()))?;
    let _ = machine.stop();
    if let Err(error) = ended {
        // The console is in the error already.
        return Err(error.context(format!("kept in {}", log.display())));
    }
    Ok(said)
}

impl Account {
    /// Reads a console.
    ///
    /// # Errors
    ///
    /// A test failed; the error carries the console.
    fn read(console: &str) -> Result<Self> {
        for (name, _) in TESTS {
            let good = console.contains(&format!("{name} ended with 0"));
            ensure!(good, "{name} failed:\n{console}");
        }
        let number = |before: &str, after: &str| -> Option<String> {
            let line = console
                .lines()
                .find(|line| line.contains(before) && line.contains(after))?;
            let (_, rest) = line.split_once(before)?;
            Some(rest.split_once(after)?.0.trim().to_owned())
        };
        Ok(Self {
            instructions: number("verifier: ", " instructions").context("no verifier count")?,
            packets: number("tables: ", " packets").context("no count of packets")?,
        })
    }

    fn line(&self, version: &str) -> String {
        format!(
            "Linux {version}: {} packets and {FRAMES} frames, verifiers {} instructions",
            self.packets, self.instructions
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "running 2 tests\r\ntest the_verifier ... verifier: 51613 and 52319 instructions\r\n\
                           ok\r\ntables: 720 packets\r\nhard_packets ended with 0\r\n\
                           same_answer ended with 0\r\nclient_limits ended with 0\r\n";

    #[test]
    fn a_console_is_read() {
        let line = Account::read(CONSOLE).unwrap().line("6.1.0-56-cloud-amd64");
        assert_eq!(
            line,
            "Linux 6.1.0-56-cloud-amd64: 720 packets and 10000 frames, verifiers 51613 and 52319 instructions"
        );
        let failed = CONSOLE.replace("same_answer ended with 0", "same_answer ended with 101");
        assert!(Account::read(&failed).is_err());
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        assert!(numbers("linux-image-6.1.0-56-cloud") > numbers("linux-image-6.1.0-9-cloud"));
    }
}
