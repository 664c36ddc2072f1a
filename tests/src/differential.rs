//! Questions and frames at random, many a second, to be asked of the program and of user space.

use std::{iter, net::IpAddr};

use dns_userspace::zones::Name;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{cable, frame::sum, kernel::MAC, oracle::Host};

/// The program of [`crate::kernel::settings`].
pub fn host() -> Host {
    Host {
        mac: MAC,
        addresses: cable::SERVER
            .map(|text| text.parse().expect("an address"))
            .to_vec(),
        port: 53,
    }
}

/// Makes frames, the same from the same seed.
pub struct Source {
    random: StdRng,
    message: Vec<u8>,
    /// The last frame.
    pub frame: Vec<u8>,
}

/// Types that are asked more often than chance would have it.
const TYPES: [u16; 16] = [1, 1, 1, 1, 28, 28, 33, 33, 16, 16, 5, 6, 2, 39, 255, 65];
const LABELS: [&str; 8] = ["a", "b", "web", "_web", "_tcp", "db-0", "*", "w\u{e4}b"];

impl Source {
    /// From this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            message: Vec::new(),
            frame: Vec::new(),
        }
    }

    /// Whether something happens that does once in `times`.
    fn once_in(&mut self, times: u32) -> bool {
        self.random.random_range(0..times) == 0
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    /// Makes the next frame, which often asks for one of these names, and for this type of it.
    pub fn next(&mut self, owners: &[(Name, u16)]) {
        self.ask(owners);
        if self.once_in(10) {
            self.damage_message();
        }
        self.wrap();
        if self.once_in(10) {
            self.damage_frame();
        }
        if self.once_in(5) {
            let padding = self.random.random_range(1..60);
            self.frame.resize(self.frame.len() + padding, 0xaa);
        }
    }

    fn ask(&mut self, owners: &[(Name, u16)]) {
        let id: u16 = self.random.random();
        let flags = match self.random.random_range(0..4u8) {
            0 => self.random.random::<u16>() & 0x07ff,
            1 => 0x0110,
            _ => 0x0100,
        };
        let with_opt = self.random.random::<bool>();
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        for field in [id, flags, 1, 0, 0, u16::from(with_opt)] {
            message.extend(field.to_be_bytes());
        }
        let known = self.name(&mut message, owners);
        let rtype = match (known, self.random.random_range(0..16u8)) {
            (_, 0) => self.random.random(),
            (_, 1) => self.random.random_range(0..300),
            (Some(rtype), 2..12) => rtype,
            _ => self.one_of(&TYPES),
        };
        message.extend(rtype.to_be_bytes());
        message.extend(if self.once_in(60) { [0, 3] } else { [0, 1] });
        if with_opt {
            self.opt(&mut message);
        }
        self.message = message;
    }

    /// Writes a name; gives the type of it that is known.
    fn name(&mut self, message: &mut Vec<u8>, owners: &[(Name, u16)]) -> Option<u16> {
        let start = message.len();
        let mut known = None;
        // Labels before a name that exists, or one of the zones' and their neighbours'.
        if owners.is_empty() || self.once_in(4) {
            for _ in 0..self.random.random_range(0..4u8) {
                let label = self.one_of(&LABELS);
                message.push(label.len() as u8);
                message.extend(label.as_bytes());
            }
            let tail: &[u8] = self.one_of(&[
                b"\x05mesos\0".as_slice(),
                b"\x04l4lb\x09directory\0",
                b"\x05mesos\0",
                b"\0",
            ]);
            message.extend(tail);
        } else {
            if self.once_in(8) {
                let label = self.one_of(&LABELS);
                message.push(label.len() as u8);
                message.extend(label.as_bytes());
            }
            let place = self.random.random_range(0..owners.len());
            let (owner, rtype) = &owners[place];
            message.extend(owner.wire());
            known = Some(*rtype);
        }
        let raised: u64 = if self.once_in(2) {
            self.random.random()
        } else {
            0
        };
        for (place, octet) in message[start..].iter_mut().enumerate() {
            if raised >> (place % 64) & 1 == 1 {
                octet.make_ascii_uppercase();
            }
        }
        known
    }

    fn opt(&mut self, message: &mut Vec<u8>) {
        message.extend([0, 0, 41]);
        let size: u16 = match self.random.random_range(0..6u8) {
            0 => self.random.random(),
            1 => self.one_of(&[0, 511, 512, 513]),
            _ => self.one_of(&[1232, 4096, 1400]),
        };
        message.extend(size.to_be_bytes());
        let version = if self.once_in(20) {
            self.random.random()
        } else {
            0
        };
        let code = if self.once_in(20) {
            self.random.random()
        } else {
            0
        };
        let flags: u8 = self.one_of(&[0, 0, 0x80, 0xff, 0x7f]);
        message.extend([code, version, flags, 0, 0, 0]);
        let options = if self.once_in(2) {
            0
        } else {
            self.random.random_range(0..10)
        };
        let start = message.len();
        for _ in 0..options {
            let data = self.random.random_range(0..24usize);
            message.extend(self.one_of(&[10u16, 3, 8, 12, 65_001]).to_be_bytes());
            message.extend((data as u16).to_be_bytes());
            message.extend(iter::repeat_n(0x5a, data));
        }
        let octets = (message.len() - start) as u16;
        message[start - 2..start].copy_from_slice(&octets.to_be_bytes());
    }

    fn damage_message(&mut self) {
        let length = self.message.len();
        match self.random.random_range(0..8u8) {
            0 => self.message.truncate(self.random.random_range(0..length)),
            1 => {
                let more = self.random.random_range(1..40);
                self.message.resize(length + more, 0);
            }
            _ => {
                for _ in 0..self.random.random_range(1..4u8) {
                    let at = self.random.random_range(0..length);
                    self.message[at] ^= 1 << self.random.random_range(0..8u8);
                }
            }
        }
    }

    /// Puts the message into a frame to the program.
    fn wrap(&mut self) {
        let mut frame = std::mem::take(&mut self.frame);
        frame.clear();
        frame.extend(MAC);
        frame.extend([2, 0, 0, 0, 0, self.random.random()]);
        let tags = if self.once_in(4) {
            self.random.random_range(0..4u8)
        } else {
            0
        };
        for _ in 0..tags {
            frame.extend(self.one_of(&[0x8100u16, 0x88a8]).to_be_bytes());
            frame.extend(self.random.random::<u16>().to_be_bytes());
        }
        let length = (8 + self.message.len()) as u16;
        let (ttl, tos): (u8, u8) = (self.random.random(), self.random.random());
        let ip;
        let addresses;
        if self.random.random() {
            frame.extend([0x08, 0x00]);
            ip = frame.len();
            frame.extend([0x45, tos]);
            frame.extend((20 + length).to_be_bytes());
            let fragment = if self.once_in(2) { 0x40 } else { 0 };
            frame.extend(self.random.random::<u16>().to_be_bytes());
            frame.extend([fragment, 0, ttl, 17, 0, 0]);
            let [_, b, c, d] = self.random.random::<[u8; 4]>();
            frame.extend(if self.once_in(30) {
                [self.random.random(), b, c, d]
            } else {
                [10, b, c, d]
            });
            push(&mut frame, cable::SERVER[0]);
            let checksum = !(sum(&frame[ip..]) as u16);
            frame[ip + 10..ip + 12].copy_from_slice(&checksum.to_be_bytes());
            addresses = frame.len() - 8;
        } else {
            frame.extend([0x86, 0xdd]);
            frame.extend([0x60 | tos >> 4, tos << 4, self.random.random(), 7]);
            frame.extend(length.to_be_bytes());
            frame.extend([17, ttl]);
            match self.random.random_range(0..30u8) {
                0 => push(
                    &mut frame,
                    self.one_of(&["::", "::1", "ff02::1", "fe80::7"]),
                ),
                1 => push(&mut frame, cable::SERVER[1]),
                _ => {
                    frame.extend([0x20, 0x01]);
                    frame.extend(self.random.random::<[u8; 14]>());
                }
            }
            push(&mut frame, cable::SERVER[1]);
            addresses = frame.len() - 32;
        }
        let udp = frame.len();
        let port = match self.random.random_range(0..30u8) {
            0 => self.random.random(),
            1 => self.one_of(&[0, 53, 1023, 1024]),
            _ => self.random.random_range(1024..=u16::MAX),
        };
        frame.extend(port.to_be_bytes());
        frame.extend(53u16.to_be_bytes());
        frame.extend(length.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(&self.message);
        let mut pseudo = [0, 17, 0, 0];
        pseudo[2..].copy_from_slice(&length.to_be_bytes());
        let fold = |sum: u32| (sum & 0xffff) + (sum >> 16);
        let partial = fold(sum(&frame[addresses..udp]) + sum(&pseudo));
        let full = match !(fold(partial + sum(&frame[udp..])) as u16) {
            0 => 0xffff,
            sum => sum,
        };
        let checksum = match self.random.random_range(0..12u8) {
            0 => 0,
            1 => partial as u16,
            2 => full ^ 1 << self.random.random_range(0..16u8),
            _ => full,
        };
        frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
        self.frame = frame;
    }

    /// Changes octets of the headers, or the length of the frame.
    fn damage_frame(&mut self) {
        let length = self.frame.len();
        match self.random.random_range(0..10u8) {
            0 => self.frame.truncate(self.random.random_range(14..length)),
            // A header longer than it says: options, an extension header.
            1 => {
                let at = self.random.random_range(14..length.min(70));
                self.frame.splice(at..at, [0; 8]);
            }
            2 => {
                let at = self.random.random_range(0..length.min(62));
                self.frame[at] = self.random.random();
            }
            _ => {
                let at = self.random.random_range(0..length.min(62));
                self.frame[at] ^= 1 << self.random.random_range(0..8u8);
                // Where IPv4 would notice by its own checksum, it does not in half the cases.
                if self.once_in(2) && self.frame[12..14] == [0x08, 0x00] {
                    self.frame[24..26].fill(0);
                    let checksum = !(sum(&self.frame[14..34]) as u16);
                    self.frame[24..26].copy_from_slice(&checksum.to_be_bytes());
                }
            }
        }
    }
}

fn push(frame: &mut Vec<u8>, address: &str) {
    match address.parse().expect("an address") {
        IpAddr::V4(ip) => frame.extend(ip.octets()),
        IpAddr::V6(ip) => frame.extend(ip.octets()),
    }
}
