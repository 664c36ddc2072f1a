//! The index of the kernel: hashes of names to places of their answers, changed many at a time.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapData;

use super::homes::Homes;
use super::shortcuts::Shortcuts;
use super::sys::bpf;

/// Entries written by one system call.
const BATCH: usize = 4096;

/// The BPF map INDEX with its shortcuts and the tags of homes, and changes of it that are not written
/// yet.
pub(super) struct Index {
    map: MapData,
    shortcuts: Shortcuts,
    homes: Homes,
    hashes: Vec<u64>,
    places: Vec<u64>,
}

/// Hashes whose entries the kernel did not change, each with its reason, a number of errno(3).
pub(super) type Refused = Vec<(u64, i32)>;

impl Index {
    /// `map` has keys and values of eight octets.
    pub(super) const fn new(map: MapData, shortcuts: Shortcuts, homes: Homes) -> Self {
        Self {
            map,
            shortcuts,
            homes,
            hashes: Vec::new(),
            places: Vec::new(),
        }
    }

    /// Has a hash lead to a place, at the latest after [`Self::flush_insertions`].
    pub(super) fn insert(&mut self, hash: u64, place: u32, refused: &mut Refused) {
        self.hashes.push(hash);
        self.places.push(u64::from(place));
        if self.hashes.len() >= BATCH {
            self.flush_insertions(refused);
        }
    }

    pub(super) fn flush_insertions(&mut self, refused: &mut Refused) {
        const BPF_MAP_UPDATE_BATCH: libc::c_int = 26;
        let before = refused.len();
        self.batch(BPF_MAP_UPDATE_BATCH, refused);
        for (hash, place) in self.hashes.drain(..).zip(self.places.drain(..)) {
            self.shortcuts.insert(hash, place as u32);
            self.homes.insert(hash, place as u32);
        }
        for (hash, _) in refused.iter().skip(before) {
            self.homes.remove(*hash);
            self.shortcuts.remove(*hash);
        }
    }

    /// Has these hashes lead nowhere.
    pub(super) fn remove(&mut self, hashes: &[u64], refused: &mut Refused) {
        const BPF_MAP_DELETE_BATCH: libc::c_int = 27;
        for some in hashes.chunks(BATCH) {
            for hash in some {
                self.homes.remove(*hash);
                self.shortcuts.remove(*hash);
            }
            self.hashes.extend_from_slice(some);
            self.batch(BPF_MAP_DELETE_BATCH, refused);
            self.hashes.clear();
        }
        // What is not there needs no removal.
        refused.retain(|(_, reason)| *reason != libc::ENOENT);
    }

    /// Does what is gathered. The kernel stops at the first entry that it refuses, and says how many
    /// came before.
    fn batch(&mut self, command: libc::c_int, refused: &mut Refused) {
        let mut done = 0;
        while let Some(hashes) = self.hashes.get(done..).filter(|rest| !rest.is_empty()) {
            let places = self.places.get(done..).unwrap_or_default();
            let mut attribute = Batch {
                in_batch: 0,
                out_batch: 0,
                keys: hashes.as_ptr() as u64,
                values: places.as_ptr() as u64,
                count: u32::try_from(hashes.len()).unwrap_or(u32::MAX),
                map_fd: self.map_fd(),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: `Batch` is the kernel's structure; keys and values are eight octets each, as
            // in the map, and there are `count` of both where the command takes values.
            let result = unsafe { bpf(command, &mut attribute) };
            let Err(error) = result else {
                break;
            };
            let reason = error.raw_os_error().unwrap_or(libc::EIO);
            let before = attribute.count as usize;
            if before >= hashes.len() {
                // Untouched: it did not come to the first.
                refused.extend(hashes.iter().map(|&hash| (hash, reason)));
                break;
            }
            refused.extend(hashes.get(before).map(|&hash| (hash, reason)));
            done += before + 1;
        }
    }

    /// Has shortcuts and homes for as many names, if there are too few.
    ///
    /// # Errors
    /// The kernel does not tell what is in the index: for what it has not told there is no shorter way.
    pub(super) fn widen(&mut self, names: usize) -> io::Result<()> {
        match self.shortcuts.is_narrow(names) || self.homes.are_few() {
            true => self.renew(names),
            false => Ok(()),
        }
    }

    /// Makes all shortcuts and tags anew, for as many names.
    ///
    /// # Errors
    /// As [`Self::widen`].
    pub(super) fn renew(&mut self, names: usize) -> io::Result<()> {
        self.homes.renew();
        self.shortcuts.widen(names);
        self.visit(|hash, place| {
            self.shortcuts.insert(hash, place as u32);
            self.homes.insert(hash, place as u32);
        })
    }

    /// All entries: hashes and places.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub(super) fn entries(&self) -> io::Result<Vec<(u64, u64)>> {
        let mut entries = Vec::new();
        self.visit(|hash, place| entries.push((hash, place)))?;
        Ok(entries)
    }

    fn visit(&self, mut note: impl FnMut(u64, u64)) -> io::Result<()> {
        const BPF_MAP_LOOKUP_BATCH: libc::c_int = 24;
        let mut hashes = vec![0u64; BATCH];
        let mut places = vec![0u64; BATCH];
        let mut next = 0u32;
        let mut is_first = true;
        loop {
            let mut attribute = Batch {
                in_batch: if is_first {
                    0
                } else {
                    (&raw const next) as u64
                },
                out_batch: (&raw mut next) as u64,
                keys: hashes.as_mut_ptr() as u64,
                values: places.as_mut_ptr() as u64,
                count: BATCH as u32,
                map_fd: self.map_fd(),
                element_flags: 0,
                flags: 0,
            };
            // SAFETY: `Batch` is the kernel's structure; there is room for `count` keys and values of
            // eight octets each, and for the four octets that say where to go on.
            let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attribute) };
            let is_last = match result {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let found = hashes.iter().zip(&places).take(attribute.count as usize);
            found.for_each(|(hash, place)| note(*hash, *place));
            if is_last {
                return Ok(());
            }
            is_first = false;
        }
    }

    fn map_fd(&self) -> u32 {
        let fd = self.map.fd().as_fd().as_raw_fd();
        u32::try_from(fd).unwrap_or_default()
    }
}

/// The attribute of the batch commands of bpf(2).
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}
