//! The public addresses of the node, as a program of the operator's prints them.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::{Asker, News};

/// The time the program may take.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(30);
/// What it may print.
const MAX_PROGRAM_OCTETS: u64 = 64 << 10;

/// Runs the program that prints public addresses, again and again, and when somebody asks. Those
/// who ask while it runs have it run once more for all of them.
pub(super) async fn watch(
    program: PathBuf,
    period: Duration,
    mut detections: mpsc::Receiver<Asker>,
    news: mpsc::Sender<News>,
) {
    let mut last = None;
    let mut askers = Vec::new();
    loop {
        match public_ips(&program).await {
            Ok(ips) if last.as_ref() != Some(&ips) || !askers.is_empty() => {
                last = Some(ips.clone());
                let askers = std::mem::take(&mut askers);
                if news.send(News::PublicIps(ips, askers)).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(error) => {
                let program = program.display();
                warn!(%program, error = format!("{error:#}"), "public addresses stay as they are");
            }
        }
        // There is nothing to be had for those who are still there.
        askers.clear();
        tokio::select! {
            () = sleep(period.max(Duration::from_secs(1))) => {}
            Some(asker) = detections.recv() => askers.push(asker),
        }
        while let Ok(another) = detections.try_recv() {
            askers.push(another);
        }
    }
}

async fn public_ips(program: &Path) -> Result<Vec<IpAddr>> {
    let text = timeout(PROGRAM_TIMEOUT, run_program(program))
        .await
        .with_context(|| format!("it does not end within {PROGRAM_TIMEOUT:?}"))??;
    let mut ips = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let ip = line.parse();
        ips.push(ip.with_context(|| format!("{line:?} is no IP address"))?);
    }
    Ok(ips)
}

/// What the program prints; it is ended if this is, or if it prints too much.
async fn run_program(program: &Path) -> Result<String> {
    let mut child = Command::new(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        let mut output = output.take(MAX_PROGRAM_OCTETS);
        output.read_to_string(&mut text).await?;
    }
    if text.len() as u64 == MAX_PROGRAM_OCTETS {
        bail!("it prints {MAX_PROGRAM_OCTETS} octets or more");
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Programs of every system, for one written here could still be open when it is run.
    #[tokio::test]
    async fn what_the_program_prints_is_bounded_and_its_failure_told() {
        let said = async |program: &str| {
            let printed = run_program(Path::new(program)).await;
            printed.map_err(|error| error.to_string())
        };
        assert_eq!(said("true").await, Ok(String::new()));
        assert_eq!(said("false").await, Err("exit status: 1".to_owned()));
        let endless = "it prints 65536 octets or more".to_owned();
        assert_eq!(said("yes").await, Err(endless));
        assert!(said("/nowhere/program").await.is_err());
    }
}
