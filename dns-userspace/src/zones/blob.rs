//! Finished answers in memory: octets of our own, or a place in memory that the kernel reads too.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Memory with places for finished answers.
pub trait Room: Send + Sync {
    /// The octets of a place, which do not change before it is given back.
    fn octets(&self, place: u32, octets: u16) -> &[u8];

    /// Takes a place back. Nobody asks for its octets any more.
    fn give_back(&self, place: u32, octets: u16);
}

/// A name's finished answers. What is in a place of a [`Room`] goes back to it when dropped, so
/// that a place is as long in use as a snapshot that anybody holds has its name.
pub struct Blob(Octets);

enum Octets {
    Own(Box<[u8]>),
    Leased(Lease),
}

struct Lease {
    room: Arc<dyn Room>,
    place: u32,
    octets: u16,
}

impl Blob {
    /// A blob in a place that is filled, and of which there is no other.
    pub(crate) fn leased(room: Arc<dyn Room>, place: u32, octets: u16) -> Self {
        Self(Octets::Leased(Lease {
            room,
            place,
            octets,
        }))
    }

    /// The place, if it is one of this room.
    pub(crate) fn place_in<R: Room>(&self, room: &Arc<R>) -> Option<u32> {
        match &self.0 {
            Octets::Leased(lease)
                if std::ptr::addr_eq(Arc::as_ptr(&lease.room), Arc::as_ptr(room)) =>
            {
                Some(lease.place)
            }
            _ => None,
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.room.give_back(self.place, self.octets);
    }
}

impl From<Box<[u8]>> for Blob {
    fn from(octets: Box<[u8]>) -> Self {
        Self(Octets::Own(octets))
    }
}

impl Deref for Blob {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Octets::Own(octets) => octets,
            Octets::Leased(lease) => lease.room.octets(lease.place, lease.octets),
        }
    }
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.len())
    }
}
