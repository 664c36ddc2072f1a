//! `cargo xtask test`: everything that must hold before a change may land; CI runs exactly this.
//!
//! Stages run in the order of [`Stage`], cheapest first, and all of them run even after one failed,
//! so one run tells everything. The last lines say what passed, what was skipped and why.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    num::NonZero,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::{
    build::{self, Profile},
    setup, shell, test_kernel,
    toolchain::{Compiler, Toolchain, find_program},
};

/// Time for each fuzz target.
const FUZZ_TIME: Duration = Duration::from_secs(15);
/// Fuzz targets that run at one time, where there are so many cores.
const FUZZ_TOGETHER: usize = 2;

/// Names the file to which tests append why they were skipped.
const SKIP_LOG: &str = "MESOS_XDNS_SKIP_LOG";

/// Names the daemon that end-to-end tests start.
const DAEMON: &str = "MESOS_XDNS";

/// How many frames the comparison of the kernel with user space tries.
pub(crate) const CASES: &str = "MESOS_XDNS_CASES";

/// Checks format, lints, licences, units, end to end, other kernels, and fuzzes for a minute.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Run only these stages
    #[arg(long, value_enum, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<Stage>,
    /// Frames to compare the kernel with user space by, for a long run; a million otherwise
    #[arg(long, value_name = "FRAMES")]
    cases: Option<u64>,
    /// Passed to the tests: a name filter, then flags of the test harness
    #[arg(last = true)]
    filter: Vec<String>,
}

/// One part of the whole, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Stage {
    /// Formatting, by rustfmt
    Fmt,
    /// Lints with warnings denied, by clippy, for user space and for the XDP program
    Clippy,
    /// Licences, bans and sources of dependencies, by cargo-deny
    Deny,
    /// Tests inside the crates: unit, property and differential
    Unit,
    /// Tests that cross modules: namespaces, dig, fake masters
    E2e,
    /// The XDP program on Debian's kernels, under qemu
    Kernels,
    /// Every fuzz target, two at a time, for a minute in all
    Fuzz,
}

/// How a stage ended.
pub(crate) enum Outcome {
    Passed(String),
    Skipped(String),
    Failed(String),
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let wanted = |stage: &Stage| arguments.only.is_empty() || arguments.only.contains(stage);
    let with_programs = [Stage::Unit, Stage::E2e, Stage::Kernels, Stage::Fuzz];
    if with_programs.iter().any(wanted) {
        setup::programs(setup::FOR_TEST);
    }
    let with_ebpf = [Stage::Clippy, Stage::Unit, Stage::E2e, Stage::Kernels];
    let toolchain = if with_ebpf.iter().any(wanted) {
        setup::ebpf_toolchain()?
    } else {
        None
    };
    let mut report = Vec::new();
    for stage in Stage::value_variants().iter().filter(|stage| wanted(stage)) {
        eprintln!("\n== {}", name(*stage));
        let start = Instant::now();
        let outcome = match stage {
            Stage::Fmt => quiet(&mut shell::cargo("fmt --all --check")?),
            Stage::Clippy => clippy(toolchain.as_ref()),
            Stage::Deny => deny(),
            Stage::Unit => unit(&arguments.filter),
            Stage::E2e => end_to_end(arguments),
            Stage::Kernels => test_kernel::run(),
            Stage::Fuzz => fuzz(),
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed(format!("{error:#}")));
        report.push((*stage, outcome, start.elapsed()));
    }
    summarise(&report)
}

fn name(stage: Stage) -> String {
    let value = stage.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Prints one line per stage and one for the whole.
fn summarise(report: &[(Stage, Outcome, Duration)]) -> Result<()> {
    let mut total = Duration::ZERO;
    let mut failed = Vec::new();
    println!();
    for (stage, outcome, time) in report {
        total += *time;
        let stage = name(*stage);
        let (word, detail) = match outcome {
            Outcome::Passed(detail) => ("ok", detail),
            Outcome::Skipped(reason) => ("SKIPPED", reason),
            Outcome::Failed(reason) => ("FAILED", reason),
        };
        if let Outcome::Failed(_) = outcome {
            failed.push(stage.clone());
        }
        let detail = detail.replace('\n', "\n         ");
        println!(
            "{stage:<7}  {word:<7}  {:>6.1} s  {detail}",
            time.as_secs_f32()
        );
    }
    let seconds = total.as_secs_f32();
    ensure!(
        failed.is_empty(),
        "failed after {seconds:.0} s: {}",
        failed.join(", ")
    );
    println!("all passed in {seconds:.0} s");
    Ok(())
}

/// A stage that is one command with nothing to count.
fn quiet(command: &mut Command) -> Result<Outcome> {
    shell::run(command)?;
    Ok(Outcome::Passed(String::new()))
}

/// User space with rustup's clippy; the XDP program with the clippy of its own compiler.
fn clippy(toolchain: Option<&Toolchain>) -> Result<Outcome> {
    shell::run(&mut shell::cargo(
        "clippy --workspace --exclude dns-ebpf --all-targets -- --deny warnings",
    )?)?;
    let driver = toolchain.and_then(|toolchain| match &toolchain.compiler {
        Compiler::Precompiled { rustc } => Some(rustc.with_file_name("clippy-driver")),
        Compiler::BuildStd { .. } => None,
    });
    let (Some(toolchain), Some(driver)) = (toolchain, driver.filter(|driver| driver.is_file()))
    else {
        let reason = "user space only: the XDP program is linted by Debian's rust-web-clippy";
        return Ok(Outcome::Passed(reason.to_owned()));
    };
    let target_folder = build::target_folder()?.join("bpf-clippy");
    let mut command = toolchain.cargo(&shell::cargo_program(), "check", &target_folder);
    command
        .current_dir(shell::workspace()?)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Dwarnings")
        .env("RUSTC_WORKSPACE_WRAPPER", driver);
    shell::run(&mut command)?;
    Ok(Outcome::Passed("user space and the XDP program".to_owned()))
}

/// Advisories are left to a person or a schedule: they need a database from the network, and an
/// advisory of today must not turn yesterday's change red.
fn deny() -> Result<Outcome> {
    if !setup::cargo_deny()? {
        return Ok(Outcome::Skipped(
            "cargo-deny cannot be installed".to_owned(),
        ));
    }
    shell::run(&mut shell::cargo(
        "deny --log-level error check licenses bans sources",
    )?)?;
    Ok(Outcome::Passed("licences, bans, sources".to_owned()))
}

fn unit(filter: &[String]) -> Result<Outcome> {
    let mut command =
        shell::cargo("test --workspace --exclude dns-ebpf --exclude tests --no-fail-fast --")?;
    count(command.args(filter))
}

fn end_to_end(arguments: &Arguments) -> Result<Outcome> {
    let daemon = build::daemon(Profile::Debug)?;
    let mut command = shell::cargo("test --package tests --no-fail-fast --")?;
    if let Some(cases) = arguments.cases {
        command.env(CASES, cases.to_string());
    }
    count(command.args(&arguments.filter).env(DAEMON, daemon))
}

/// Runs tests with their output in sight, and counts.
fn count(command: &mut Command) -> Result<Outcome> {
    let log = build::target_folder()?.join("skipped-tests.log");
    let _ = fs::remove_file(&log);
    shell::print(command);
    let mut child = command
        .env(SKIP_LOG, &log)
        .stdout(Stdio::piped())
        .spawn()
        .context("starting cargo test")?;
    let (mut passed, mut ignored) = (0_u32, 0_u32);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // A closed standard output does not stop the tests.
            let _ = writeln!(std::io::stdout(), "{line}");
            passed += counted(&line, "passed");
            ignored += counted(&line, "ignored");
        }
    }
    let status = child.wait().context("waiting for cargo test")?;
    ensure!(
        status.success(),
        "cargo test failed: {status}, after {passed} tests passed"
    );
    let skipped = fs::read_to_string(&log).unwrap_or_default();
    let mut detail = format!("{passed} tests");
    if ignored > 0 {
        detail.push_str(&format!(", {ignored} ignored"));
    }
    if !skipped.is_empty() {
        let lines = skipped.trim_end();
        detail.push_str(&format!(
            ", of which {} only skipped:\n{lines}",
            lines.lines().count()
        ));
    }
    Ok(Outcome::Passed(detail))
}

/// The number before a word in libtest's line of results.
fn counted(line: &str, word: &str) -> u32 {
    let Some(results) = line.strip_prefix("test result: ") else {
        return 0;
    };
    results
        .split([';', '.'])
        .filter_map(|part| part.trim().strip_suffix(word))
        .find_map(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

/// Builds the fuzz targets with the stable compiler and lets each run for its share of the time.
///
/// libFuzzer needs coverage counters, which are stable compiler flags; the address sanitizer, which
/// is not, would find nothing in code without `unsafe`. `cargo fuzz run` works on the same folder.
fn fuzz() -> Result<Outcome> {
    const FLAGS: &[&str] = &[
        "--cfg=fuzzing",
        "-Cpasses=sancov-module",
        "-Cllvm-args=-sanitizer-coverage-level=4",
        "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
        "-Cllvm-args=-sanitizer-coverage-pc-table",
        "-Cllvm-args=-sanitizer-coverage-trace-compares",
        "-Ccodegen-units=1",
        "-Cdebug-assertions",
        "-Coverflow-checks",
    ];
    let folder = shell::workspace()?.join("fuzz");
    let targets = fuzz_targets(&folder)?;
    if find_program("c++").is_none() {
        return Ok(Outcome::Skipped(
            "libFuzzer needs a C++ compiler".to_owned(),
        ));
    }
    // With a target named, the flags stay away from build scripts.
    let host = host()?;
    let arguments = format!("build --release --bins --target {host}");
    let mut command = shell::cargo(&arguments)?;
    command
        .current_dir(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"))
        .env("MESOS_XDNS_SKIP_EBPF", "1")
        .env_remove("CARGO_TARGET_DIR");
    shell::run(&mut command)?;
    let programs = folder.join("target").join(&host).join("release");
    let together = std::thread::available_parallelism().map_or(1, NonZero::get);
    let together = together.min(FUZZ_TOGETHER);
    for some in targets.chunks(together) {
        // Each thread ends with its program, so none outlives the others' failure.
        std::thread::scope(|scope| {
            let running: Vec<_> = some
                .iter()
                .map(|target| scope.spawn(|| fuzz_one(&folder, &programs, target)))
                .collect();
            let ended = running.into_iter().map(|one| match one.join() {
                Ok(result) => result,
                Err(_) => bail!("a thread panicked"),
            });
            ended.collect::<Result<Vec<()>>>()
        })?;
    }
    Ok(Outcome::Passed(format!(
        "{} for {} s each",
        targets.join(", "),
        FUZZ_TIME.as_secs()
    )))
}

/// Runs one target for its time.
fn fuzz_one(folder: &Path, programs: &Path, target: &str) -> Result<()> {
    let corpus = folder.join("corpus").join(target);
    let artifacts = folder.join("artifacts").join(target);
    fs::create_dir_all(&corpus).context("making the corpus folder")?;
    fs::create_dir_all(&artifacts).context("making the artifacts folder")?;
    shell::run(
        Command::new(programs.join(target))
            .arg(&corpus)
            .arg(folder.join("seeds").join(target))
            .arg(format!("-max_total_time={}", FUZZ_TIME.as_secs()))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args(["-max_len=4096", "-timeout=5", "-rss_limit_mb=2048"])
            .args(["-verbosity=0", "-print_final_stats=1"]),
    )
    .with_context(|| format!("the input that broke it is in fuzz/artifacts/{target}"))
}

/// The names of the fuzz targets, from their files.
fn fuzz_targets(folder: &Path) -> Result<Vec<String>> {
    let files = folder.join("fuzz_targets");
    let mut targets: Vec<_> = fs::read_dir(&files)
        .with_context(|| format!("reading {}", files.display()))?
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    targets.sort();
    ensure!(!targets.is_empty(), "no fuzz target in {}", files.display());
    Ok(targets)
}

/// The target triple of this machine.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = shell::output(Command::new(rustc).arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_libtest_are_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; \
                    finished in 0.00s";
        assert_eq!(counted(line, "passed"), 12);
        assert_eq!(counted(line, "ignored"), 1);
        assert_eq!(counted("test a_name ... ok", "passed"), 0);
    }
}
