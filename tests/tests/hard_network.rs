//! Hard packets over a real cable: the same tables as in `hard_packets`, sent and received by raw
//! sockets, with the program in the driver and the server behind it.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::time::Duration;

use anyhow::Result;
use dns_common::Verdict;
use dns_userspace::dataplane::Mode;
use tests::{
    behind::{self, Behind},
    cable::{CLIENT, SERVER},
    frame::Frame,
    kernel, needs,
    octets::octets,
    packets::{self, Case, Outcome, Service},
    raw::Wire,
    served::Plan,
};

/// How long anything that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

/// The tables' zones behind the program, and the other end of the cable.
struct Bench {
    wire: Wire,
    behind: Behind,
    /// Numbers the questions that mark an end.
    next: u16,
}

impl Bench {
    fn new(mode: Mode) -> Result<Self> {
        let mut plan = Plan::mesos(&[]);
        plan.zones = packets::zones();
        // One, so that answers come in the order of the questions.
        plan.settings.udp_workers = 1;
        let behind = Behind::with(plan, |settings| settings.mode = mode)?;
        let wire = behind.cable.client.enter(|| Wire::open("client", true))?;
        Ok(Self {
            wire,
            behind,
            next: 0,
        })
    }

    /// What comes back for a frame, in order, before the answer to a question that is asked after
    /// it and that user space answers.
    fn send(&mut self, frame: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.next = self.next.wrapping_add(1);
        // ANY goes up; ids of the tables are others.
        let mark = octets(&format!(
            "{:04x} 0100 0001 0000 0000 0000 'mark' 'mesos' . 00ff 0001",
            self.next
        ));
        let parse = |text: &str| text.parse().unwrap();
        let last = |source: &str, server: &str| Frame {
            to: kernel::MAC,
            from: packets::CLIENT_MAC,
            ..Frame::query(parse(source), parse(server), mark.clone())
        };
        let marks = [last(CLIENT[0], SERVER[0]), last(CLIENT[1], SERVER[1])];
        self.wire.send(&[frame.to_vec()])?;
        self.wire.send(&marks.map(|frame| frame.octets()))?;
        let mut came = Vec::new();
        let mut marks = 0;
        while marks < 2 {
            let frame = self.wire.receive(LIMIT, from_server)?;
            let is_mark = frame
                .windows(mark.len() - 4)
                .any(|part| part[..2] == mark[..2] && part[12..] == mark[12..mark.len() - 4]);
            if is_mark {
                marks += 1;
            } else {
                came.push(frame);
            }
        }
        Ok(came)
    }
}

/// Whether a frame is DNS from the server.
fn from_server(frame: &[u8]) -> bool {
    let mut at = 12;
    while matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8])) {
        at += 4;
    }
    let udp = match frame.get(at..at + 2) {
        Some([0x08, 0x00]) if frame[at + 11] == 17 => at + 22,
        Some([0x86, 0xdd]) if frame[at + 8] == 17 => at + 42,
        _ => return false,
    };
    frame.get(udp..udp + 2) == Some(&[0, 53])
}

#[test]
fn a_real_cable_gives_what_the_tables_say() {
    let possible = behind::possible();
    needs!(possible.is_ok(), possible.unwrap_err());
    let passed = gives_what_the_tables_say(Mode::Native);
    assert!(passed > 0, "all frames had room");
    // A buffer of the kernel's own has room for all.
    let passed = gives_what_the_tables_say(Mode::Tc);
    assert_eq!(passed, 0);
}

/// Gives the number of frames without room for their answer.
fn gives_what_the_tables_say(mode: Mode) -> u32 {
    let mut bench = Bench::new(mode).unwrap();
    let mut wrong = Vec::new();
    let (mut grown, mut passed) = (0, 0);
    // The kernel sends no bare Ethernet header.
    let whole = |case: &Case| case.frame.len() > 14;
    for case in packets::all().into_iter().filter(whole) {
        let before = bench.behind.count(Verdict::Resize);
        let came = bench.send(&case.frame).unwrap();
        // A frame of a socket has little room to grow; what does not fit goes up, untouched.
        let no_room = bench.behind.count(Verdict::Resize) > before;
        passed += u32::from(no_room);
        let good = match (&case.kernel, &case.service) {
            (Outcome::Answer(_, reply), _) if !no_room => {
                grown += u32::from(reply.len() > case.frame.len());
                came == [&reply[..]]
            }
            (_, Service::Response(message)) => is_message(&came, message),
            (_, Service::Host(message)) => came.is_empty() || is_message(&came, message),
            (_, Service::Silence | Service::Unreached) => came.is_empty(),
        };
        if !good {
            wrong.push(format!("{}: {came:02x?}", name(&case)));
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{mode:?}: {grown} frames grown, {passed} without room");
    assert!(grown > 100);
    assert_eq!(bench.behind.count(Verdict::Broken), 0);
    passed
}

/// Whether what came is one frame with this message.
fn is_message(came: &[Vec<u8>], message: &[u8]) -> bool {
    matches!(came, [frame] if frame.ends_with(message))
}

fn name(case: &Case) -> String {
    format!("{}, {}", case.number, case.what)
}
