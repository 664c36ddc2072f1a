//! A query as it came off the wire, checked before anything is looked up: header, the one
//! question, and EDNS (RFC 1035 section 4.1, RFC 6891, RFC 8906, RFC 9619).

use crate::zones::{Name, Rtype};

use super::edns::options;
use super::resolve::Rcode;

/// Octets of a message header.
pub const HEADER_OCTETS: usize = 12;

/// Class IN (RFC 1035, section 3.2.4).
pub const CLASS_IN: u16 = 1;

const QR: u16 = 1 << 15;
const OPCODE_MASK: u16 = 0xf << 11;
pub(super) const RD: u16 = 1 << 8;
const CD: u16 = 1 << 4;

/// What a query says of EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edns<'m> {
    /// The UDP payload size the client can take, as sent.
    pub size: u16,
    /// The version; only 0 is defined.
    pub version: u8,
    /// The DO bit (RFC 3225).
    pub dnssec_ok: bool,
    /// The options, all of them whole.
    pub options: &'m [u8],
}

impl<'m> Edns<'m> {
    /// The data of the first option of this code.
    #[must_use]
    pub fn option(&self, code: u16) -> Option<&'m [u8]> {
        options(self.options)
            .find(|(one, _)| *one == code)
            .map(|(_, data)| data)
    }
}

/// A query that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<'m> {
    /// The message id.
    pub id: u16,
    /// The header's flags as sent.
    pub flags: u16,
    /// The question section, octet for octet.
    pub question: &'m [u8],
    /// The name asked for, folded.
    pub name: Name,
    /// The type asked for.
    pub rtype: Rtype,
    /// The class asked for.
    pub class: u16,
    /// The OPT record, if there is one.
    pub edns: Option<Edns<'m>>,
}

/// Why a message is not answered with data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection<'m> {
    /// No response at all: a response (QR=1), which could loop, or less than a header.
    Ignore,
    /// A response of a bare header with this code, because what follows the header could not be
    /// read or its layout is not known.
    Header(Rcode),
    /// The same with an OPT record, since the message has one (RFC 6891, section 6.1.1): NOTIMP for
    /// an opcode other than QUERY, or FORMERR for a query without a question.
    WithOpt(Rcode, Edns<'m>),
}

impl<'m> Query<'m> {
    /// Reads a message. Octets after the last record are an error, as the counts must account for
    /// the whole message.
    ///
    /// # Errors
    /// The message gets no response, or one without a question: see [`Rejection`].
    pub fn parse(message: &'m [u8]) -> Result<Self, Rejection<'m>> {
        Self::parse_as(message, true)
    }

    /// Reads a message of which only the front is there: header and question.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_front(message: &'m [u8]) -> Result<Self, Rejection<'m>> {
        Self::parse_as(message, false)
    }

    fn parse_as(message: &'m [u8], is_whole: bool) -> Result<Self, Rejection<'m>> {
        const FORMERR: Rejection<'_> = Rejection::Header(Rcode::FORMERR);
        let mut reader = Reader { message, at: 0 };
        let header = reader.header().ok_or(Rejection::Ignore)?;
        if header.flags & QR != 0 {
            return Err(Rejection::Ignore);
        }
        if header.flags & OPCODE_MASK != 0 {
            return Err(reader.rejected(&header, Rcode::NOTIMP));
        }
        if header.questions == 0 {
            return Err(reader.rejected(&header, Rcode::FORMERR));
        }
        if header.questions != 1 {
            return Err(FORMERR);
        }
        let name = reader.plain_name().ok_or(FORMERR)?;
        let rtype = Rtype(reader.u16().ok_or(FORMERR)?);
        let class = reader.u16().ok_or(FORMERR)?;
        let question = message.get(HEADER_OCTETS..reader.at).ok_or(FORMERR)?;
        let edns = match is_whole {
            true => reader.records(&header).ok_or(FORMERR)?,
            false => None,
        };
        Ok(Self {
            id: header.id,
            flags: header.flags,
            question,
            name,
            rtype,
            class,
            edns,
        })
    }

    /// The flags of a response that the query decides: QR, and RD and CD copied (RFC 1035, section
    /// 4.1.1; RFC 4035, section 3.2.2). AD and the reserved bit are not.
    #[must_use]
    pub const fn response_flags(&self) -> u16 {
        QR | (self.flags & (RD | CD))
    }
}

/// The id and the flags of a response to a message that was rejected; `None` for less than a
/// header.
pub(super) fn rejected_header(message: &[u8]) -> Option<(u16, u16)> {
    let header = Reader { message, at: 0 }.header()?;
    Some((header.id, QR | (header.flags & (OPCODE_MASK | RD))))
}

fn options_are_whole(mut data: &[u8]) -> bool {
    while let [_, _, high, low, rest @ ..] = data {
        match rest.get(usize::from(u16::from_be_bytes([*high, *low]))..) {
            Some(after) => data = after,
            None => return false,
        }
    }
    data.is_empty()
}

struct Header {
    id: u16,
    flags: u16,
    questions: u16,
    answers: u16,
    authorities: u16,
    additionals: u16,
}

struct Record<'m> {
    owner_is_root: bool,
    rtype: Rtype,
    class: u16,
    ttl: u32,
    data: &'m [u8],
}

/// Reads forward only, so that no pointer can make it loop.
struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn header(&mut self) -> Option<Header> {
        Some(Header {
            id: self.u16()?,
            flags: self.u16()?,
            questions: self.u16()?,
            answers: self.u16()?,
            authorities: self.u16()?,
            additionals: self.u16()?,
        })
    }

    /// A name without compression: there is nothing before a question to point at.
    fn plain_name(&mut self) -> Option<Name> {
        let start = self.at;
        loop {
            let len = self.u8()?;
            if len == 0 {
                break;
            }
            if len > 63 {
                return None;
            }
            self.take(usize::from(len))?;
        }
        Name::from_wire(self.message.get(start..self.at)?).ok()
    }

    /// Passes over a name, compressed or not; says whether it is the root.
    fn skip_name(&mut self) -> Option<bool> {
        let start = self.at;
        loop {
            let len = self.u8()?;
            match len {
                0 => return Some(self.at == start + 1),
                1..=63 => {
                    self.take(usize::from(len))?;
                }
                0xc0.. => {
                    self.take(1)?;
                    return Some(false);
                }
                _ => return None,
            }
        }
    }

    fn record(&mut self) -> Option<Record<'m>> {
        Some(Record {
            owner_is_root: self.skip_name()?,
            rtype: Rtype(self.u16()?),
            class: self.u16()?,
            ttl: self.u32()?,
            data: {
                let len = self.u16()?;
                self.take(usize::from(len))?
            },
        })
    }

    /// Reads the records behind the question to the end of the message: whether one is OPT. `None`
    /// if they are not sound.
    fn records(&mut self, header: &Header) -> Option<Option<Edns<'m>>> {
        for _ in 0..u32::from(header.answers) + u32::from(header.authorities) {
            let record = self.record()?;
            if record.rtype == Rtype::OPT {
                return None;
            }
        }
        let mut edns = None;
        for _ in 0..header.additionals {
            let record = self.record()?;
            if record.rtype != Rtype::OPT {
                continue;
            }
            // One OPT, owned by the root (RFC 6891, section 6.1.1 and 6.1.2).
            if edns.is_some() || !record.owner_is_root || !options_are_whole(record.data) {
                return None;
            }
            let [_, version, flags, _] = record.ttl.to_be_bytes();
            edns = Some(Edns {
                size: record.class,
                version,
                dnssec_ok: flags & 0x80 != 0,
                options: record.data,
            });
        }
        if self.at != self.message.len() {
            return None;
        }
        Some(edns)
    }

    /// What becomes of a message that is no query, or has no question: a response with an OPT
    /// record if it is laid out as a query and has one.
    fn rejected(mut self, header: &Header, rcode: Rcode) -> Rejection<'m> {
        let question = match header.questions {
            0 => Some(()),
            1 => self.plain_name().and_then(|_| self.take(4)).map(drop),
            _ => None,
        };
        match question.and_then(|()| self.records(header)).flatten() {
            Some(edns) => Rejection::WithOpt(rcode, edns),
            None => Rejection::Header(rcode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `web.mesos A IN`, id 0x1234, RD.
    const PLAIN: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03Web\x05mesos\x00\x00\x01\x00\x01";
    const OPT_1232_DO: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

    fn with_additional(records: &[&[u8]]) -> Vec<u8> {
        let mut message = PLAIN.to_vec();
        message[11] = records.len() as u8;
        message.extend(records.concat());
        message
    }

    fn formerr(message: &[u8]) {
        let rejected = Err(Rejection::Header(Rcode::FORMERR));
        assert_eq!(Query::parse(message), rejected, "{message:02x?}");
    }

    #[test]
    fn the_question_is_kept_as_sent_and_the_name_folded() {
        let query = Query::parse(PLAIN).unwrap();
        assert_eq!(query.name.to_string(), "web.mesos.");
        assert_eq!(query.question, b"\x03Web\x05mesos\x00\x00\x01\x00\x01");
        assert_eq!((query.rtype, query.class), (Rtype::A, CLASS_IN));
        assert_eq!(query.edns, None);
        assert_eq!(query.response_flags(), 0x8100);
    }

    #[test]
    fn rfc6891_opt_is_read() {
        let message = with_additional(&[OPT_1232_DO]);
        let edns = Edns {
            size: 1232,
            version: 0,
            dnssec_ok: true,
            options: &[],
        };
        assert_eq!(Query::parse(&message).unwrap().edns, Some(edns));
    }

    #[test]
    fn rfc6891_6_1_1_a_second_opt_is_formerr() {
        formerr(&with_additional(&[OPT_1232_DO, OPT_1232_DO]));
    }

    #[test]
    fn rfc6891_6_1_2_an_opt_owner_other_than_the_root_is_formerr() {
        formerr(&with_additional(&[
            b"\x01a\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00",
        ]));
        formerr(&with_additional(&[
            b"\xc0\x0c\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00",
        ]));
    }

    #[test]
    fn an_option_longer_than_its_opt_is_formerr() {
        formerr(&with_additional(&[
            b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x08",
        ]));
    }

    #[test]
    fn rfc6891_6_1_1_an_opt_record_is_found_without_a_question_too() {
        let edns = Edns {
            size: 1232,
            version: 0,
            dnssec_ok: true,
            options: &[],
        };
        let bare = [b"\x12\x34\x01\0\0\0\0\0\0\0\0\x01", OPT_1232_DO].concat();
        let rejected = Err(Rejection::WithOpt(Rcode::FORMERR, edns));
        assert_eq!(Query::parse(&bare), rejected);
        formerr(&bare[..bare.len() - 1]);
        let mut status = with_additional(&[OPT_1232_DO]);
        status[2] = 2 << 3;
        let rejected = Err(Rejection::WithOpt(Rcode::NOTIMP, edns));
        assert_eq!(Query::parse(&status), rejected);
        status.push(0);
        let rejected = Err(Rejection::Header(Rcode::NOTIMP));
        assert_eq!(Query::parse(&status), rejected, "not laid out as a query");
    }

    #[test]
    fn rfc9619_another_number_of_questions_is_formerr() {
        for count in [0, 2, 255] {
            let mut message = PLAIN.to_vec();
            message[5] = count;
            formerr(&message);
        }
    }

    #[test]
    fn responses_and_short_messages_are_ignored() {
        let mut response = PLAIN.to_vec();
        response[2] |= 0x80;
        assert_eq!(Query::parse(&response), Err(Rejection::Ignore));
        for len in 0..HEADER_OCTETS {
            assert_eq!(Query::parse(&PLAIN[..len]), Err(Rejection::Ignore));
        }
    }

    #[test]
    fn every_cut_and_any_surplus_is_formerr() {
        let whole = with_additional(&[OPT_1232_DO]);
        for len in HEADER_OCTETS..whole.len() {
            formerr(&whole[..len]);
        }
        formerr(&[&whole, b"\0".as_slice()].concat());
    }

    #[test]
    fn a_pointer_in_the_question_is_formerr() {
        formerr(b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01");
    }

    #[test]
    fn rfc8906_3_1_4_other_opcodes_are_not_implemented() {
        for opcode in 1..16u8 {
            let mut message = PLAIN.to_vec();
            message[2] = opcode << 3;
            assert_eq!(
                Query::parse(&message),
                Err(Rejection::Header(Rcode::NOTIMP))
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_octets_are_read_without_panic(message: Vec<u8>) {
            let _ = Query::parse(&message);
        }
    }
}
