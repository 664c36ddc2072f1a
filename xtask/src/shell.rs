//! Running other programs in sight: each command is printed before it runs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// The folder of the workspace's `Cargo.toml`.
///
/// # Errors
///
/// The tool was not started by cargo.
pub(crate) fn workspace() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("start this as `cargo xtask`")?;
    let folder = Path::new(&package).parent();
    Ok(folder.context("no folder above xtask")?.to_path_buf())
}

/// The cargo that runs this tool.
pub(crate) fn cargo_program() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// A cargo command in the workspace, with space-separated arguments.
///
/// # Errors
///
/// The tool was not started by cargo.
pub(crate) fn cargo(arguments: &str) -> Result<Command> {
    let mut command = Command::new(cargo_program());
    command
        .args(arguments.split_whitespace())
        .current_dir(workspace()?);
    // Cargo tells the tool about the tool's own package. Handed on, it would make build scripts
    // run again that have run for a plain `cargo build`, and everything behind them compile again.
    for (name, _) in env::vars_os() {
        let of_package = |name: &str| {
            ["CARGO_MANIFEST_", "CARGO_PKG_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        };
        if name.to_str().is_some_and(of_package) {
            command.env_remove(name);
        }
    }
    Ok(command)
}

/// Prints a command, runs it and expects it to succeed.
///
/// # Errors
///
/// The program is missing or fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    print(command);
    let status = command
        .status()
        .with_context(|| format!("running {}", line(command)))?;
    ensure!(status.success(), "{} failed: {status}", line(command));
    Ok(())
}

/// Runs a command quietly and returns its standard output.
///
/// # Errors
///
/// The program is missing or fails; the error carries its standard error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("running {}", line(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}\n{said}", line(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Prints a command as a person would type it.
pub(crate) fn print(command: &Command) {
    eprintln!("$ {}", line(command));
}

/// A command as a person would type it: the program without its folder, the environment left out.
fn line(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let mut line = program.to_string_lossy().into_owned();
    for argument in command.get_args() {
        let argument = argument.to_string_lossy();
        line.push(' ');
        if argument.contains([' ', '"', '$', '*']) {
            line.push_str(&format!("'{argument}'"));
        } else {
            line.push_str(&argument);
        }
    }
    line
}
