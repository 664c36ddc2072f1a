//! What outlives the daemon: maps, the program and its links, pinned in a BPF file system.
//!
//! ```text
//! <pin_path>/                 0700, locked by the one daemon that writes below it
//!   link-native-eth0          a link, by mode and interface; ':' stands for '.'
//!   link-second-eth0          that of the TC program behind an XDP program
//!   maps-<layout>-<number>/   a set of maps and the program that reads them, by layout
//!   part-<layout>-<number>/   one that is not whole yet
//! ```
//!
//! A set is used by the daemon whose layout it has. Another set is left alone until a whole one
//! has taken its place at every link.

use std::ffi::CString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aya::maps::MapData;
use aya::programs::ProgramInfo;
use aya::programs::links::{FdLink, PinnedLink};

use super::Mode;

/// The fingerprint of the maps' contents.
const LAYOUT: &str = env!("MESOS_XDNS_LAYOUT");
/// The programs in a set, and those that will take their places.
pub(super) const PROGRAMS: [(&str, &str); 2] = [
    ("program", "program-next"),
    ("program-tc", "program-tc-next"),
];
/// In the name of the link of a TC program behind an XDP program.
const SECOND: &str = "second";

/// The directory of pins of one daemon.
#[derive(Debug)]
pub(super) struct Pins {
    root: PathBuf,
    /// Locked; free when the process ends in whatever way.
    _lock: File,
}

/// A whole set of maps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    pub(super) directory: PathBuf,
    /// Ids of the programs pinned in it, which read its maps.
    programs: Vec<u32>,
}

/// A pinned link.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) path: PathBuf,
    pub(super) mode: Mode,
    /// Whether it holds the TC program behind an XDP program.
    pub(super) is_second: bool,
    pub(super) interface: String,
    /// `None` if it cannot be opened.
    pub(super) link: Option<FdLink>,
    /// Id of the program that it holds.
    pub(super) program: u32,
}

impl Pins {
    /// Makes the directory, if it is not there, and takes it.
    ///
    /// # Errors
    /// It is not in a BPF file system, not accessible, or another daemon has it.
    pub(super) fn open(root: &Path) -> Result<Self> {
        ensure_bpf_file_system(root)?;
        DirBuilder::new()
            .mode(0o700)
            .recursive(true)
            .create(root)
            .with_context(|| format!("making {}", root.display()))?;
        let lock = File::open(root).with_context(|| format!("opening {}", root.display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another daemon", root.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", root.display()));
            }
        }
        let root = root.to_owned();
        Ok(Self { root, _lock: lock })
    }

    /// Where it is.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The pin of a link.
    pub(super) fn link(&self, mode: Mode, interface: &str) -> PathBuf {
        self.link_named(mode.name(), interface)
    }

    /// The pin of a link of the TC program.
    pub(super) fn hook(&self, is_second: bool, interface: &str) -> PathBuf {
        match is_second {
            true => self.link_named(SECOND, interface),
            false => self.link(Mode::Tc, interface),
        }
    }

    fn link_named(&self, name: &str, interface: &str) -> PathBuf {
        // The file system has no names with a dot, interfaces none with a colon.
        let interface = interface.replace('.', ":");
        self.root.join(format!("link-{name}-{interface}"))
    }

    /// Every pinned link.
    pub(super) fn links(&self) -> Vec<Held> {
        links_below(&self.root)
    }

    /// Every whole set, of whatever layout.
    pub(super) fn sets(&self) -> Vec<Set> {
        let names = names_in(&self.root).into_iter();
        let sets = names.filter(|name| name.starts_with("maps-"));
        sets.map(|name| {
            let directory = self.root.join(name);
            let programs = PROGRAMS
                .iter()
                .flat_map(|(now, next)| [now, next])
                .filter_map(|name| ProgramInfo::from_pin(directory.join(name)).ok())
                .map(|program| program.id())
                .collect();
            Set {
                directory,
                programs,
            }
        })
        .collect()
    }

    /// A directory for a set that is about to be made.
    pub(super) fn begin_set(&self) -> Result<PathBuf> {
        let taken = names_in(&self.root);
        for number in 0u32.. {
            let whole = format!("maps-{LAYOUT}-{number}");
            if !taken.contains(&whole) {
                let part = self.root.join(format!("part-{LAYOUT}-{number}"));
                remove(&part);
                DirBuilder::new()
                    .mode(0o700)
                    .create(&part)
                    .with_context(|| format!("making {}", part.display()))?;
                return Ok(part);
            }
        }
        bail!("no name is left for a set of maps")
    }

    /// Names a set as whole. Gives its new place.
    pub(super) fn end_set(&self, part: &Path) -> Result<PathBuf> {
        let name = part.file_name().context("a set has a name")?;
        let name = name.to_string_lossy().replacen("part-", "maps-", 1);
        let whole = self.root.join(name);
        fs::rename(part, &whole).with_context(|| format!("renaming {}", part.display()))?;
        Ok(whole)
    }

    /// Removes every set but this one.
    pub(super) fn keep_only(&self, set: Option<&Path>) {
        for name in names_in(&self.root) {
            let path = self.root.join(&name);
            if !name.starts_with("link-") && Some(&*path) != set {
                remove(&path);
            }
        }
    }

    /// Removes everything. Links are detached when nobody holds them any more.
    pub(super) fn remove_all(self) {
        remove_root(&self.root);
    }
}

impl Set {
    /// Whether this daemon can read and write its maps.
    pub(super) fn is_ours(&self) -> bool {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy()
            .starts_with(&format!("maps-{LAYOUT}-"))
    }

    /// Whether its maps are read at this link.
    pub(super) fn is_read_by(&self, link: &Held) -> bool {
        link.link.is_some() && self.programs.contains(&link.program)
    }

    /// The maps in it.
    pub(super) fn maps(&self) -> Vec<String> {
        let mut names = names_in(&self.directory);
        names.retain(|name| !name.starts_with("program"));
        names
    }

    /// Elements that a map has room for.
    pub(super) fn room(&self, map: &str) -> Result<u32> {
        Ok(MapData::from_pin(self.directory.join(map))?
            .info()?
            .max_entries())
    }

    /// The policy, of which only the words that keep their meaning may be used.
    pub(super) fn policy(&self) -> Result<MapData> {
        Ok(MapData::from_pin(self.directory.join("POLICY"))?)
    }
}

/// Every link pinned in a directory.
pub(super) fn links_below(root: &Path) -> Vec<Held> {
    let mut links = Vec::new();
    for name in names_in(root) {
        let Some((mode, interface)) = name
            .strip_prefix("link-")
            .and_then(|name| name.split_once('-'))
        else {
            continue;
        };
        let path = root.join(&name);
        let link = PinnedLink::from_pin(&path).map(FdLink::from).ok();
        let info = link.as_ref().and_then(|link| link.info().ok());
        links.push(Held {
            mode: match mode {
                "generic" => Mode::Generic,
                "tc" | SECOND => Mode::Tc,
                _ => Mode::Native,
            },
            is_second: mode == SECOND,
            interface: interface.replace(':', "."),
            program: info.map_or(0, |info| info.program_id()),
            link,
            path,
        });
    }
    links
}

/// Removes everything at a pin path, and the directory if it is ours to remove.
pub(super) fn remove_root(root: &Path) {
    for name in names_in(root) {
        remove(&root.join(name));
    }
    // A service finds it made by root, in a directory of root's, and leaves it there, empty.
    let _ = fs::remove_dir(root);
}

/// Names of what is in a directory; none if it is not there.
fn names_in(directory: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Removes pins. What cannot be removed is harmless and stays.
pub(super) fn remove(path: &Path) {
    let result = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    if let Err(error) = result
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "a pin stays behind");
    }
}

/// The first directory upwards that exists must be in a BPF file system.
fn ensure_bpf_file_system(path: &Path) -> Result<()> {
    let existing = path
        .ancestors()
        .find(|one| one.exists())
        .with_context(|| format!("{} is no absolute path", path.display()))?;
    if !is_bpf_file_system(existing)
        .with_context(|| format!("looking at {}", existing.display()))?
    {
        bail!(
            "{} is not in a BPF file system (mount -t bpf bpf /sys/fs/bpf)",
            path.display()
        );
    }
    Ok(())
}

/// Whether a directory that exists is in a BPF file system.
pub(super) fn is_bpf_file_system(path: &Path) -> io::Result<bool> {
    const BPF_FS_MAGIC: u32 = 0xcafe_4a11;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut found = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a string that ends with a zero, and a place for what is written.
    if unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has filled it.
    let found = unsafe { found.assume_init() };
    Ok(found.f_type as u32 == BPF_FS_MAGIC)
}
