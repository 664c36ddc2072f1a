//! A BPF file system of a test's own: what is pinned in it goes with it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, ensure};

/// Before the process id in the names of mount points, to find those of processes that are gone.
const PREFIX: &str = "mesos-xdns-bpf";

/// A mounted BPF file system.
#[derive(Debug)]
pub struct Pins {
    folder: PathBuf,
}

impl Pins {
    /// Mounts one.
    ///
    /// # Errors
    ///
    /// Needs root.
    pub fn mount() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        remove_leftovers();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("{PREFIX}-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let status = Command::new("mount")
            .args(["-t", "bpf", "bpf"])
            .arg(&folder)
            .status()
            .context("running mount")?;
        ensure!(status.success(), "mounting a BPF file system: {status}");
        Ok(Self { folder })
    }

    /// Where a daemon may pin.
    pub fn path(&self) -> PathBuf {
        self.folder.join("mesos-xdns")
    }

    /// Everything that is pinned, as paths below [`Self::path`], sorted.
    pub fn pinned(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.path()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if let Ok(below) = path.strip_prefix(self.path()) {
                    found.push(below.display().to_string());
                }
            }
        }
        found.sort();
        found
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        unmount(&self.folder);
    }
}

fn unmount(folder: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(folder).status();
    let _ = fs::remove_dir(folder);
}

/// Removes those of processes that are gone.
fn remove_leftovers() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return;
    };
    for name in entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let process = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').nth(1));
        let process = process.and_then(|id| id.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new("/proc").join(id.to_string()).exists()) {
            unmount(&env::temp_dir().join(name));
        }
    }
}
