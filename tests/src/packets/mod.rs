//! Hard packets as tables: a frame, what the program must make of it, and what the service must
//! return if it is user space that gets the message.
//!
//! Frames and messages are written down octet by octet, with [`Frame`] for headers and checksums;
//! nothing comes from the encoders of the daemon. Each number has packets that are answered and
//! packets that pass, which differ in one field.

use std::sync::Arc;

use dns_common::Verdict;
use dns_userspace::{
    answers::{Policy, Transport, decide, encode::BlobEncoder, fast, respond::Decision},
    zones::{Editor, Zone},
};

use crate::{
    frame::Frame,
    kernel::{MAC, SEED},
    octets::octets,
    served,
};

mod edns;
mod header;
mod ip;
mod layers;
mod names;
mod sizes;
mod types;

/// The Ethernet address that queries come from.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A packet and what must become of it.
#[derive(Debug)]
pub struct Case {
    /// The number of what is tried; those of one number differ in one field.
    pub number: u8,
    /// What is odd about it, or what is not.
    pub what: String,
    /// As it comes in.
    pub frame: Vec<u8>,
    /// What the program makes of it.
    pub kernel: Outcome,
    /// What the service returns for its message.
    pub service: Service,
}

/// What the program makes of a frame.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Sends this frame back.
    Answer(Verdict, Vec<u8>),
    /// Passes it up as it came.
    Pass(Verdict),
}

/// What user space returns.
#[derive(Debug, PartialEq, Eq)]
pub enum Service {
    /// Nothing: the frame carries no datagram for the service, or none that the host's stack takes.
    Unreached,
    /// The answer, or nothing: it depends on the settings of the host's stack.
    Host(Vec<u8>),
    /// Nothing, although it gets the message.
    Silence,
    /// This message.
    Response(Vec<u8>),
}

/// Cases as they are written down.
#[derive(Default)]
pub(crate) struct Table {
    number: u8,
    cases: Vec<Case>,
}

/// Every case.
pub fn all() -> Vec<Case> {
    let mut table = Table::default();
    header::add(&mut table);
    names::add(&mut table);
    edns::add(&mut table);
    types::add(&mut table);
    sizes::add(&mut table);
    layers::add(&mut table);
    ip::add(&mut table);
    table.cases
}

/// `web.marathon.mesos A IN`.
pub(crate) const WEB: &str = "'web' 'marathon' 'mesos' . 0001 0001";
/// The answer to [`WEB`].
pub(crate) const WEB_A: &str = "c00c 0001 0001 0000003c 0004 0a000001";
/// What stands before a question with RD and no other section.
pub(crate) const PLAIN: &str = "1234 0100 0001 0000 0000 0000";
/// The same with one additional record.
pub(crate) const WITH_OPT: &str = "1234 0100 0001 0000 0000 0001";
/// An OPT record: root, type, 1232 octets, code and version 0, no flags, no options.
pub(crate) const OPT: &str = "00 0029 04d0 00 00 0000 0000";
/// What stands before one answer to [`PLAIN`]: QR, AA, RD, RA.
pub(crate) const ANSWER: &str = "1234 8580 0001 0001 0000 0000";
/// The SOA of the zone less its owner: type, class, TTL, RDATA.
pub(crate) const SOA: &str = "0006 0001 0000003c 002f 'ns1' 'mesos' . 'root' 'ns1' 'mesos' . \
                              6553f100 0000003c 00000258 00015180 0000003c";
/// FORMERR without a question, to what could not be read.
pub(crate) const FORMERR: &str = "1234 8001 0000 0000 0000 0000";

/// The zones that the cases ask for, with their records.
pub fn zones() -> Vec<(Zone, Vec<String>)> {
    let fixed = |apex: &str| Zone {
        fixed_serial: true,
        ..served::zone(apex)
    };
    let mut lines: Vec<String> = [
        "web.marathon.mesos A 10.0.0.1",
        "v6.mesos AAAA 2001:db8::a",
        "txt.mesos TXT hello",
        "_web._tcp.marathon.mesos SRV 0 1 31000 web.marathon.mesos",
        "alias.mesos CNAME web.marathon.mesos",
        "cut.mesos NS ns1.elsewhere.example",
        "tree.mesos DNAME marathon.mesos",
    ]
    .map(str::to_owned)
    .to_vec();
    names::records(&mut lines);
    sizes::records(&mut lines);
    // The second takes stars for what RFC 4592 says.
    let wild = Zone {
        ignores_stars: false,
        expands_wildcards: true,
        ..fixed("directory")
    };
    let others = ["*.wild.directory A 10.9.9.9", "plain.directory A 10.9.9.1"];
    vec![
        (fixed("mesos"), lines),
        (wild, others.map(str::to_owned).to_vec()),
    ]
}

/// An editor of [`zones`] that has committed them.
///
/// # Panics
/// Never: the records are fine.
pub fn editor() -> Editor {
    let content = zones();
    let zones = content.iter().map(|(zone, _)| zone.clone()).collect();
    let mut editor =
        Editor::new(SEED, zones, Arc::new(BlobEncoder), served::SERIAL).expect("two zones");
    for (zone, lines) in &content {
        let read = |line: &String| served::record(line).expect("a record");
        let records = lines.iter().map(read).collect();
        editor.replace(&zone.apex, records).expect("a zone");
    }
    editor.commit(served::SERIAL);
    editor
}

/// What the server makes of a message over UDP: the finished answers first, then the rest.
pub fn serve(editor: &Editor, message: &[u8]) -> Service {
    let policy = Policy::default();
    let mut buffer = message.to_vec();
    buffer.resize(2048, 0);
    let (verdict, size) = fast::answer(editor.snapshot(), &policy, &mut buffer, message.len());
    if verdict.is_response() {
        buffer.truncate(size);
        return Service::Response(buffer);
    }
    match decide(editor.snapshot(), message, Transport::Udp, &policy) {
        Decision::Ignore => Service::Silence,
        Decision::Respond(response, _) => Service::Response(response),
        Decision::Forward(_) => panic!("nothing is forwarded here"),
    }
}

/// A query over IPv4 from the client of a cable to its server.
pub(crate) fn query(message: Vec<u8>) -> Frame {
    from_to("192.0.2.1", "192.0.2.2", message)
}

/// The same over IPv6.
pub(crate) fn query_v6(message: Vec<u8>) -> Frame {
    from_to("2001:db8::1", "2001:db8::2", message)
}

pub(crate) fn from_to(source: &str, destination: &str, message: Vec<u8>) -> Frame {
    let parse = |text: &str| text.parse().expect("an address");
    Frame {
        to: MAC,
        from: CLIENT_MAC,
        ..Frame::query(parse(source), parse(destination), message)
    }
}

/// This message in the table's notation.
pub(crate) fn response(text: &str) -> Service {
    Service::Response(octets(text))
}

impl Table {
    /// What is added from here on has this number.
    pub(crate) fn number(&mut self, number: u8) -> &mut Self {
        self.number = number;
        self
    }

    /// A query that the program answers by this message; so does user space.
    pub(crate) fn answered(
        &mut self,
        what: impl Into<String>,
        frame: &Frame,
        verdict: Verdict,
        message: Vec<u8>,
    ) -> &mut Self {
        let reply = frame.reply(message.clone()).octets();
        self.turned(what, frame.octets(), verdict, reply, message)
    }

    /// A frame that the program turns into this reply, which carries this message.
    pub(crate) fn turned(
        &mut self,
        what: impl Into<String>,
        frame: Vec<u8>,
        verdict: Verdict,
        reply: Vec<u8>,
        message: Vec<u8>,
    ) -> &mut Self {
        self.cases.push(Case {
            number: self.number,
            what: what.into(),
            frame,
            kernel: Outcome::Answer(verdict, reply),
            service: Service::Response(message),
        });
        self
    }

    /// A message over both families that is answered.
    pub(crate) fn tx(
        &mut self,
        what: &str,
        message: &str,
        verdict: Verdict,
        response: &str,
    ) -> &mut Self {
        let (message, response) = (octets(message), octets(response));
        let v6 = query_v6(message.clone());
        self.answered(what, &query(message), verdict, response.clone());
        self.answered(format!("{what}, over IPv6"), &v6, verdict, response)
    }

    /// A frame that passes.
    pub(crate) fn passed(
        &mut self,
        what: impl Into<String>,
        frame: Vec<u8>,
        verdict: Verdict,
        service: Service,
    ) -> &mut Self {
        self.cases.push(Case {
            number: self.number,
            what: what.into(),
            frame,
            kernel: Outcome::Pass(verdict),
            service,
        });
        self
    }

    /// A message over both families that passes; user space says `service`.
    pub(crate) fn up(
        &mut self,
        what: &str,
        message: &str,
        verdict: Verdict,
        service: &str,
    ) -> &mut Self {
        let message = octets(message);
        let said = || match service {
            "" => Service::Silence,
            text => response(text),
        };
        let v6 = query_v6(message.clone()).octets();
        self.passed(what, query(message).octets(), verdict, said());
        self.passed(format!("{what}, over IPv6"), v6, verdict, said())
    }

    /// The query for [`WEB`] that is nothing special.
    pub(crate) fn ordinary(&mut self) -> &mut Self {
        let (message, response) = (format!("{PLAIN} {WEB}"), format!("{ANSWER} {WEB} {WEB_A}"));
        self.tx("nothing", &message, Verdict::Answered, &response)
    }
}
