//! Files that outlive the process: replaced whole, so that a reader finds the old one or the new.
//!
//! A transferred zone is kept as the messages of a transfer, each with its length before it, so that
//! what reads it is what reads transfers. The time of the file is that of the last refresh.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::incoming::{Assembly, Incoming, Whole};
use super::outgoing::{Content, whole_of};
use super::wire::{Envelope, Message, flags, question};
use crate::zones::{Name, Rtype, Snapshot, ZoneIndex};

/// Puts `content` in place of a file, and makes its directory if need be.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let write = || {
        std::fs::write(&partial, content)?;
        std::fs::rename(&partial, path)
    };
    match write() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                std::fs::create_dir_all(directory)?;
            }
            write()
        }
        result => result,
    }
}

/// The file of one zone.
#[derive(Debug, Clone)]
pub(super) struct ZoneFile {
    path: PathBuf,
    zone: Name,
}

impl ZoneFile {
    pub(super) fn new(directory: &Path, zone: &Name) -> Self {
        // A label may hold anything, a slash too (RFC 2317).
        let name = zone.to_string().replace('%', "%25").replace('/', "%2f");
        Self {
            path: directory.join(format!("{name}zone")),
            zone: zone.clone(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the zone as it is in `snapshot`, refreshed just now.
    pub(super) fn save(&self, snapshot: &Arc<Snapshot>) -> io::Result<()> {
        let mut zones = (0u8..).map(ZoneIndex).zip(snapshot.zones());
        let Some((index, zone)) = zones.find(|(_, zone)| zone.apex == self.zone) else {
            return Ok(());
        };
        let envelope = Envelope {
            id: 0,
            flags: flags::QR | flags::AA,
            question: question(&self.zone, Rtype(252)),
        };
        let mut file = Vec::new();
        whole_of(
            zone,
            &Content::Whole(Arc::clone(snapshot), index),
            envelope,
            |message| {
                let len = u16::try_from(message.len()).unwrap_or(u16::MAX);
                file.extend_from_slice(&len.to_be_bytes());
                file.extend_from_slice(&message);
            },
        );
        replace(&self.path, &file)
    }

    /// Notes that the zone was found to be the latest.
    pub(super) fn touch(&self) -> io::Result<()> {
        File::options()
            .append(true)
            .open(&self.path)?
            .set_modified(SystemTime::now())
    }

    /// The zone, and how long ago it was refreshed; `None` if none was kept.
    pub(super) fn load(&self) -> io::Result<Option<(Whole, Duration)>> {
        let octets = match std::fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        let modified = std::fs::metadata(&self.path)?.modified()?;
        // A clock that went back makes it as good as new.
        let age = modified.elapsed().unwrap_or_default();
        let mut assembly = Assembly::new(&self.zone, None);
        let mut rest = octets.as_slice();
        while let Some((len, after)) = rest.split_first_chunk() {
            let len = usize::from(u16::from_be_bytes(*len));
            let (message, after) = after.split_at_checked(len).ok_or_else(broken)?;
            let message = Message::read(message).map_err(io::Error::other)?;
            let is_all = assembly.take(message.answer).map_err(io::Error::other)?;
            rest = after;
            if is_all && rest.is_empty() {
                return match assembly.finish().map_err(io::Error::other)? {
                    Incoming::Whole(whole) => Ok(Some((whole, age))),
                    Incoming::Nothing | Incoming::Changes(_) => Err(broken()),
                };
            }
        }
        Err(broken())
    }
}

fn broken() -> io::Error {
    io::Error::other("the file breaks off")
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A directory that goes with its value.
    pub(in crate::transfer) struct Folder(PathBuf);

    impl Folder {
        pub(in crate::transfer) fn new() -> Self {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("mesos-xdns-transfer-{}-{number}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        pub(in crate::transfer) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_file_is_replaced_and_its_directory_made() {
        let folder = Folder::new();
        let path = folder.path().join("new/file");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(
            std::fs::read_dir(folder.path().join("new"))
                .unwrap()
                .count(),
            1
        );
    }
}
