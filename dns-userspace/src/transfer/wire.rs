//! DNS messages off the hot path: whole ones read with all their records, and records packed into
//! as many messages as it takes.

use std::collections::HashMap;

use crate::answers::Rcode;
use crate::answers::message::push_opt;
use crate::zones::name::MAX_NAME_OCTETS;
use crate::zones::{Name, Rdata, Rtype, Soa, Zone};

/// Octets of a message header.
pub(super) const HEADER_OCTETS: usize = 12;
/// Class IN (RFC 1035, section 3.2.4).
pub(super) const CLASS_IN: u16 = 1;
/// A zone transfer from one version to another (RFC 1995).
pub(super) const IXFR: Rtype = Rtype(251);
/// A whole zone transfer (RFC 5936).
pub(super) const AXFR: Rtype = Rtype(252);

/// The flags of a header.
pub(super) mod flags {
    /// Response.
    pub(in crate::transfer) const QR: u16 = 1 << 15;
    /// The four bits of the opcode.
    pub(in crate::transfer) const OPCODE: u16 = 0xf << 11;
    /// NOTIFY (RFC 1996, section 3.1).
    pub(in crate::transfer) const NOTIFY: u16 = 4 << 11;
    /// Authoritative answer.
    pub(in crate::transfer) const AA: u16 = 1 << 10;
    /// Truncated.
    pub(in crate::transfer) const TC: u16 = 1 << 9;
    /// The response code.
    pub(in crate::transfer) const RCODE: u16 = 0xf;
}

/// Messages are about this long: long enough to make use of compression and for few signatures,
/// short enough that the few which wait for a reader are little memory.
const MESSAGE_OCTETS: usize = 16 << 10;
/// One record may need more, and the signature comes on top.
const MAX_MESSAGE_OCTETS: usize = 65_535;
/// Compression pointers have 14 bits (RFC 1035, section 4.1.4).
const POINTER_LIMIT: usize = 1 << 14;

/// A message that breaks off, or whose parts make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub(super) struct Malformed;

/// A record as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: Name,
    pub(super) class: u16,
    pub(super) ttl: u32,
    pub(super) data: Rdata,
    /// Where it begins in the message.
    pub(super) start: usize,
}

/// A message with one question or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// Name, type and class.
    pub(super) question: Option<(Name, Rtype, u16)>,
    pub(super) answer: Vec<Record>,
    pub(super) authority: Vec<Record>,
    pub(super) additional: Vec<Record>,
}

impl Record {
    /// The version of EDNS that an OPT record names (RFC 6891, section 6.1.3).
    pub(super) const fn edns_version(&self) -> u8 {
        self.ttl.to_be_bytes()[1]
    }
}

impl Message {
    /// Reads a whole message; names are decompressed.
    pub(super) fn read(octets: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { octets, at: 0 };
        let (id, flags) = (reader.u16()?, reader.u16()?);
        let questions = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
        let question = match questions {
            0 => None,
            1 => Some((reader.name()?, Rtype(reader.u16()?), reader.u16()?)),
            _ => return Err(Malformed),
        };
        let mut sections = [Vec::new(), Vec::new(), Vec::new()];
        for (section, count) in sections.iter_mut().zip(counts) {
            for _ in 0..count {
                section.push(reader.record()?);
            }
        }
        let [answer, authority, additional] = sections;
        if reader.at != octets.len() {
            return Err(Malformed);
        }
        Ok(Self {
            id,
            flags,
            question,
            answer,
            authority,
            additional,
        })
    }

    /// The OPT record: one at most, of the root, in the additional section (RFC 6891, sections
    /// 6.1.1 and 6.1.2).
    pub(super) fn opt(&self) -> Result<Option<&Record>, Malformed> {
        let is_opt = |record: &&Record| record.data.rtype() == Rtype::OPT;
        let mut found = self.additional.iter().filter(is_opt);
        let first = found.next();
        let mut others = self.answer.iter().chain(&self.authority).filter(is_opt);
        match found.next().or_else(|| others.next()) {
            None if first.is_none_or(|opt| opt.owner == Name::root()) => Ok(first),
            _ => Err(Malformed),
        }
    }

    /// The OPT record of a response to this, without options; `None` if this has none.
    pub(super) fn opt_of_response(&self, rcode: u16, udp_octets: u16) -> Option<Vec<u8>> {
        let opt = self.opt().ok()??;
        let [_, _, flags, _] = opt.ttl.to_be_bytes();
        let mut out = Vec::new();
        push_opt(&mut out, udp_octets, Rcode(rcode), flags & 0x80 != 0, None);
        Some(out)
    }

    /// The response code in the header.
    pub(super) const fn rcode(&self) -> u16 {
        self.flags & flags::RCODE
    }
}

struct Reader<'m> {
    octets: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, count: usize) -> Result<&'m [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.octets.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        let octets = self.take(2)?.try_into().map_err(|_| Malformed)?;
        Ok(u16::from_be_bytes(octets))
    }

    fn u32(&mut self) -> Result<u32, Malformed> {
        let octets = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_be_bytes(octets))
    }

    /// Appends a name, decompressed, to `out`. A pointer leads to before where it stands, and each
    /// further one to before that, so there is no loop.
    fn copy_name(&mut self, out: &mut Vec<u8>) -> Result<(), Malformed> {
        let begin = out.len();
        let mut limit = self.at;
        let mut behind = None;
        loop {
            let label_at = self.at;
            let len = *self.take(1)?.first().ok_or(Malformed)?;
            match len {
                0 => {
                    out.push(0);
                    break;
                }
                1..=63 => {
                    out.push(len);
                    let label = self.take(usize::from(len))?;
                    out.extend_from_slice(label);
                }
                0xc0.. => {
                    self.at = label_at;
                    let target = usize::from(self.u16()? & 0x3fff);
                    behind.get_or_insert(self.at);
                    if target >= limit {
                        return Err(Malformed);
                    }
                    limit = target;
                    self.at = target;
                }
                _ => return Err(Malformed),
            }
            if out.len() - begin > MAX_NAME_OCTETS {
                return Err(Malformed);
            }
        }
        if let Some(behind) = behind {
            self.at = behind;
        }
        Ok(())
    }

    fn name(&mut self) -> Result<Name, Malformed> {
        let mut wire = Vec::with_capacity(64);
        self.copy_name(&mut wire)?;
        Name::from_wire(&wire).map_err(|_| Malformed)
    }

    fn record(&mut self) -> Result<Record, Malformed> {
        let start = self.at;
        let owner = self.name()?;
        let rtype = Rtype(self.u16()?);
        let class = self.u16()?;
        let ttl = self.u32()?;
        let len = self.u16()?;
        let end = self.at.checked_add(len.into()).ok_or(Malformed)?;
        if end > self.octets.len() {
            return Err(Malformed);
        }
        let data = self.data(rtype, end)?;
        self.at = end;
        Ok(Record {
            owner,
            class,
            ttl,
            data: Rdata::from_wire(rtype, &data).map_err(|_| Malformed)?,
            start,
        })
    }

    /// The data that ends at `end`, with the names in it decompressed where a type may have
    /// compressed ones (RFC 3597, section 4).
    fn data(&mut self, rtype: Rtype, end: usize) -> Result<Vec<u8>, Malformed> {
        /// Octets before the names, and how many names.
        const fn layout(rtype: Rtype) -> (usize, usize) {
            match rtype.0 {
                // NS, MD, MF, CNAME, MB, MG, MR, PTR, DNAME
                2..=5 | 7..=9 | 12 | 39 => (0, 1),
                // SOA, MINFO, RP
                6 | 14 | 17 => (0, 2),
                // MX, AFSDB, RT
                15 | 18 | 21 => (2, 1),
                // PX
                26 => (2, 2),
                // SRV
                33 => (6, 1),
                _ => (0, 0),
            }
        }
        let mut out = Vec::new();
        // NAPTR: two numbers, three texts, a name.
        if rtype.0 == 35 {
            out.extend_from_slice(self.take(4)?);
            for _ in 0..3 {
                let len = *self.take(1)?.first().ok_or(Malformed)?;
                out.push(len);
                out.extend_from_slice(self.take(len.into())?);
            }
            self.copy_name(&mut out)?;
        } else {
            let (before, names) = layout(rtype);
            out.extend_from_slice(self.take(before)?);
            for _ in 0..names {
                self.copy_name(&mut out)?;
            }
        }
        let rest = end.checked_sub(self.at).ok_or(Malformed)?;
        out.extend_from_slice(self.take(rest)?);
        Ok(out)
    }
}

/// A record on its way out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'r> {
    pub(super) owner: &'r Name,
    pub(super) ttl: u32,
    pub(super) data: &'r Rdata,
}

impl<'r> Line<'r> {
    pub(super) const fn new(owner: &'r Name, ttl: u32, data: &'r Rdata) -> Self {
        Self { owner, ttl, data }
    }
}

/// The SOA of a zone as RDATA.
pub(super) fn soa_data(zone: &Zone) -> Rdata {
    Rdata::Soa(Box::new(zone.soa.clone()))
}

/// What the messages of a transfer have in common.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) id: u16,
    pub(super) flags: u16,
    /// The question as it was sent; in the first message only (RFC 5936, section 2.2.1).
    pub(super) question: Vec<u8>,
}

/// Packs records into messages, in order.
pub(super) struct Pack<'r, I: Iterator<Item = Line<'r>>> {
    envelope: Envelope,
    lines: std::iter::Peekable<I>,
    is_first: bool,
}

impl<'r, I: Iterator<Item = Line<'r>>> Pack<'r, I> {
    pub(super) fn new(envelope: Envelope, lines: I) -> Self {
        Self {
            envelope,
            lines: lines.peekable(),
            is_first: true,
        }
    }
}

impl<'r, I: Iterator<Item = Line<'r>>> Iterator for Pack<'r, I> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.lines.peek()?;
        let mut message = Writer::new(&self.envelope, self.is_first);
        self.is_first = false;
        while let Some(line) = self.lines.peek() {
            let before = message.out.len();
            message.push(line);
            let is_over = message.out.len() > MESSAGE_OCTETS && message.answers > 1;
            if is_over || message.out.len() > MAX_MESSAGE_OCTETS {
                message.take_back(before);
                if message.answers == 0 {
                    // No message can hold it, so none brought it.
                    self.lines.next();
                    continue;
                }
                break;
            }
            self.lines.next();
        }
        Some(message.finish())
    }
}

/// One message; records go into its answer section.
pub(super) struct Writer<'r> {
    out: Vec<u8>,
    answers: u16,
    offsets: HashMap<&'r [u8], u16>,
}

impl<'r> Writer<'r> {
    pub(super) fn new(envelope: &Envelope, with_question: bool) -> Self {
        let mut out = Vec::with_capacity(MESSAGE_OCTETS + 1024);
        out.extend_from_slice(&envelope.id.to_be_bytes());
        out.extend_from_slice(&envelope.flags.to_be_bytes());
        out.extend_from_slice(&u16::from(with_question).to_be_bytes());
        out.resize(HEADER_OCTETS, 0);
        if with_question {
            out.extend_from_slice(&envelope.question);
        }
        Self {
            out,
            answers: 0,
            offsets: HashMap::new(),
        }
    }

    /// Appends a record; of its names only the owner is compressed.
    pub(super) fn push(&mut self, line: &Line<'r>) {
        for suffix in line.owner.suffixes() {
            if suffix.len() <= 1 {
                self.out.push(0);
                break;
            }
            if let Some(&offset) = self.offsets.get(suffix) {
                self.out.extend_from_slice(&(0xc000 | offset).to_be_bytes());
                break;
            }
            if self.out.len() < POINTER_LIMIT
                && let Ok(offset) = u16::try_from(self.out.len())
            {
                self.offsets.insert(suffix, offset);
            }
            let label = usize::from(suffix.first().copied().unwrap_or(0)) + 1;
            self.out
                .extend_from_slice(suffix.get(..label).unwrap_or_default());
        }
        self.out
            .extend_from_slice(&line.data.rtype().0.to_be_bytes());
        self.out.extend_from_slice(&CLASS_IN.to_be_bytes());
        self.out.extend_from_slice(&line.ttl.to_be_bytes());
        let length_at = self.out.len();
        self.out.extend_from_slice(&[0, 0]);
        line.data.write(&mut self.out);
        let len = self.out.len() - length_at - 2;
        set_u16(
            &mut self.out,
            length_at,
            u16::try_from(len).unwrap_or(u16::MAX),
        );
        self.answers = self.answers.saturating_add(1);
    }

    fn take_back(&mut self, len: usize) {
        self.out.truncate(len);
        self.answers -= 1;
        self.offsets.retain(|_, offset| usize::from(*offset) < len);
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        set_u16(&mut self.out, 6, self.answers);
        self.out
    }
}

/// The wire form of a question of class IN.
pub(super) fn question(name: &Name, rtype: Rtype) -> Vec<u8> {
    let mut octets = name.wire().to_vec();
    octets.extend_from_slice(&rtype.0.to_be_bytes());
    octets.extend_from_slice(&CLASS_IN.to_be_bytes());
    octets
}

/// A query for a transfer or a SOA. `held` is the SOA that an IXFR starts from.
pub(super) fn query(id: u16, zone: &Name, rtype: Rtype, held: Option<&Soa>) -> Vec<u8> {
    let envelope = Envelope {
        id,
        flags: 0,
        question: question(zone, rtype),
    };
    let data = held.map(|soa| Rdata::Soa(Box::new(soa.clone())));
    let mut writer = Writer::new(&envelope, true);
    if let Some(data) = &data {
        writer.push(&Line::new(zone, 0, data));
    }
    let authorities = writer.answers;
    writer.answers = 0;
    let mut octets = writer.finish();
    set_u16(&mut octets, 8, authorities);
    octets
}

/// Appends a record to the additional section of a message.
pub(super) fn push_additional(message: &mut Vec<u8>, record: &[u8]) {
    const ARCOUNT_AT: usize = 10;
    message.extend_from_slice(record);
    let count = get_u16(message, ARCOUNT_AT).unwrap_or_default();
    set_u16(message, ARCOUNT_AT, count.saturating_add(1));
}

/// Writes a number over two octets of a message.
pub(super) fn set_u16(out: &mut [u8], at: usize, value: u16) {
    for (slot, octet) in out.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *slot = octet;
    }
}

/// Reads two octets of a message.
pub(super) fn get_u16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*octets.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_text(text).unwrap()
    }

    fn envelope() -> Envelope {
        Envelope {
            id: 7,
            flags: flags::QR | flags::AA,
            question: question(&name("mesos"), AXFR),
        }
    }

    /// An MX whose exchange points at the question (RFC 1035, section 4.1.4).
    #[test]
    fn compressed_names_in_data_are_made_whole() {
        let mut octets = b"\0\x07\x84\0\0\x01\0\x01\0\0\0\0".to_vec();
        octets.extend(question(&name("mesos"), Rtype(15)));
        octets.extend_from_slice(b"\xc0\x0c\0\x0f\0\x01\0\0\0\x3c\0\x09\0\x0a\x04Mail\xc0\x0c");
        let message = Message::read(&octets).unwrap();
        let data = Rdata::Opaque(Rtype(15), Box::from(*b"\0\x0a\x04Mail\x05mesos\0"));
        assert_eq!(message.answer[0].owner, name("mesos"));
        assert_eq!(message.answer[0].data, data);
        for len in 0..octets.len() {
            assert_eq!(Message::read(&octets[..len]), Err(Malformed), "{len}");
        }
    }

    #[test]
    fn pointers_that_do_not_lead_back_are_malformed() {
        for pointer in [b"\xc0\x0c", b"\xc0\x0d", b"\xc0\xff"] {
            let mut octets = b"\0\x07\x84\0\0\x01\0\0\0\0\0\0".to_vec();
            octets.extend_from_slice(pointer);
            octets.extend_from_slice(b"\0\x01\0\x01");
            assert_eq!(Message::read(&octets), Err(Malformed));
        }
    }

    #[test]
    fn records_are_spread_over_messages_and_read_back() {
        let owners: Vec<Name> = (0..3000)
            .map(|n| name(&format!("task-{n}.marathon.mesos")))
            .collect();
        let data = Rdata::Txt(vec![vec![b'x'; 40]]);
        let lines = owners.iter().map(|owner| Line::new(owner, 60, &data));
        let messages: Vec<Vec<u8>> = Pack::new(envelope(), lines).collect();
        assert!(messages.len() > 5, "{}", messages.len());
        let mut found = Vec::new();
        for (nth, octets) in messages.iter().enumerate() {
            assert!(octets.len() <= MESSAGE_OCTETS);
            let message = Message::read(octets).unwrap();
            assert_eq!(message.question.is_some(), nth == 0);
            assert_eq!(message.id, 7);
            assert!(message.answer.iter().all(|one| one.data == data));
            found.extend(message.answer.into_iter().map(|one| one.owner));
        }
        assert_eq!(found, owners);
    }

    #[test]
    fn a_record_longer_than_others_has_a_message_of_its_own() {
        let (small, large) = (
            Rdata::Txt(vec![b"x".to_vec()]),
            Rdata::Txt(vec![vec![b'x'; 255]; 200]),
        );
        let owner = name("mesos");
        let lines = [&small, &large, &small].map(|data| Line::new(&owner, 60, data));
        let messages = Pack::new(envelope(), lines.into_iter());
        let counts: Vec<usize> = messages
            .map(|octets| Message::read(&octets).unwrap().answer.len())
            .collect();
        assert_eq!(counts, [1, 1, 1]);
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_panic(octets: Vec<u8>) {
            let _ = Message::read(&octets);
        }
    }
}
