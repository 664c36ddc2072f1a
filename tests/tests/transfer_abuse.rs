//! What must not be had by who must not have it: RFC 5936 and RFC 8945 by section, and clients that
//! hold on to what they asked for.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use dns_common::RateLimit;
use dns_userspace::{
    answers::Transport,
    config::Secret,
    server::Guard,
    transfer::{Access, Algorithm, Allowed, Key, Prefix, Versions},
    zones::{Name, Rdata, Rrset, Rtype},
};
use tests::{
    needs_tool,
    peer::{KEY, SECRET},
    served::{Plan, Served},
};

/// How long anything that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

struct Scene {
    served: Served,
    versions: Arc<Versions>,
    folder: PathBuf,
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn name(text: &str) -> Name {
    Name::from_text(text).unwrap()
}

fn key(name_of_key: &str, algorithm: Algorithm) -> Key {
    Key::new(
        name(name_of_key),
        algorithm,
        &Secret::new(SECRET.to_owned()),
    )
    .unwrap()
}

fn by(prefix: Option<&str>, key: Option<&str>) -> Allowed {
    Allowed {
        prefix: prefix.map(|text| text.parse::<Prefix>().unwrap()),
        key: key.map(name),
    }
}

/// A server of one zone with this many names, whose writes to a client may take a second.
fn scene(names: u32, allow: Vec<Allowed>) -> Scene {
    let plan = Plan::mesos(&["web.marathon.mesos A 10.0.0.1", "ns1.mesos A 10.0.0.53"]);
    scene_of(plan, names, allow)
}

fn scene_of(mut plan: Plan, names: u32, allow: Vec<Allowed>) -> Scene {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = format!("mesos-xdns-abuse-{}-{number}", std::process::id());
    let folder = env::temp_dir().join(folder);
    plan.settings.tcp.write = Duration::from_secs(1);
    let mut served = plan.start().unwrap();
    let content = (0..names).map(|number| {
        let data = vec![Rdata::Txt(vec![vec![b'x'; 200]])];
        let owner = name(&format!("task-{number}-s1.marathon.mesos"));
        (owner, Rrset::new(Rtype::TXT, 60, data))
    });
    if names > 0 {
        served
            .editor
            .replace(&name("mesos"), content.collect())
            .unwrap();
        served.publish();
    }
    let versions = Arc::new(Versions::open(&folder, 1000));
    let keys = [
        key(KEY, Algorithm::Sha256),
        key("other.key", Algorithm::Sha512),
    ];
    let access = Access {
        keys: keys.into_iter().collect(),
        allow,
        max_transfers: 4,
        timeout: Duration::from_secs(60),
    };
    served.transfer(access, &versions);
    Scene {
        served,
        versions,
        folder,
    }
}

impl Scene {
    fn address(&self) -> SocketAddr {
        self.served.address()
    }

    /// Serves this as the whole zone.
    fn serve(&mut self, content: Vec<(Name, Rrset)>) {
        let editor = &mut self.served.editor;
        editor.replace(&name("mesos"), content).unwrap();
        self.served.publish();
    }

    /// What dig prints to a question.
    fn dig(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dig");
        let port = self.address().port().to_string();
        command.args(["-r", "@127.0.0.1", "-p", &port, "+time=5", "+tries=1"]);
        let output = command.args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn count(&self, kind: &str) -> u64 {
        let totals = self.versions.counters().totals();
        totals.iter().find(|(name, _)| *name == kind).unwrap().1
    }

    fn is_answering(&self) -> bool {
        let response = self.served.dig().ask("mesos", "SOA").unwrap();
        response.status == "NOERROR"
    }
}

fn signed_by(key: &str) -> String {
    format!("hmac-sha256:{key}:{SECRET}")
}

#[test]
fn rfc5936_5_transfers_are_refused_but_to_whom_they_are_allowed() {
    needs_tool!("dig");
    let own = signed_by(KEY);
    let other = format!("hmac-sha512:other.key:{SECRET}");
    let asked = |scene: &Scene, arguments: &[&str]| {
        let text = scene.dig(&[arguments, &["mesos", "AXFR"]].concat());
        (text.contains("XFR size: 5 records"), text)
    };
    for (allow, nobody, mine, others) in [
        (vec![], false, false, false),
        (vec![by(Some("127.0.0.1"), None)], true, true, true),
        (vec![by(Some("192.0.2.0/24"), None)], false, false, false),
        (vec![by(None, Some(KEY))], false, true, false),
        (vec![by(Some("127.0.0.0/8"), Some(KEY))], false, true, false),
        (vec![by(Some("192.0.2.1"), Some(KEY))], false, false, false),
        (
            vec![by(Some("192.0.2.1"), None), by(None, Some("other.key"))],
            false,
            false,
            true,
        ),
    ] {
        let described = format!("{allow:?}");
        let scene = scene(0, allow);
        for (arguments, expected) in [
            (&[][..], nobody),
            (&["-y", &own], mine),
            (&["-y", &other], others),
        ] {
            let (had, text) = asked(&scene, arguments);
            assert_eq!(had, expected, "{described} {arguments:?}\n{text}");
        }
        let refused = [nobody, mine, others].iter().filter(|had| !**had).count();
        assert_eq!(scene.count("refused"), refused as u64, "{described}");
        assert!(scene.is_answering());
    }
}

/// The SOA alone, also where the zone would fit: the walk over all names is not for whoever uses the
/// address of a secondary.
#[test]
fn rfc1995_2_a_whole_zone_is_not_sent_over_udp() {
    let scene = scene(0, vec![by(Some("127.0.0.1"), None)]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(scene.address()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    // IXFR from serial 1: a SOA of root names and five numbers.
    let mut request =
        b"\x12\x34\0\0\0\x01\0\0\0\x01\0\0\x05mesos\0\0\xfb\0\x01\xc0\x0c\0\x06\0\x01\0\0\0\0\0\x16\0\0"
            .to_vec();
    for field in [1u32; 5] {
        request.extend(field.to_be_bytes());
    }
    socket.send(&request).unwrap();
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).unwrap();
    assert_eq!(buffer[3] & 0xf, 0);
    assert_eq!(buffer[6..12], [0, 1, 0, 0, 0, 0], "{:02x?}", &buffer[..len]);
    // By TCP all of it comes.
    needs_tool!("dig");
    let text = scene.dig(&["+tcp", "mesos", "IXFR=1"]);
    assert!(text.contains("XFR size: 5 records"), "{text}");
}

/// Over UDP the address of a client proves nothing, and neither does a signature that does not hold.
#[test]
fn messages_about_transfers_count_against_the_share_of_a_client() {
    let mut plan = Plan::mesos(&["web.marathon.mesos A 10.0.0.1"]);
    // Two at once, and no more for half an hour.
    let limit = RateLimit {
        interval: 1_000_000_000,
        window: 2_000_000_000,
        ..RateLimit::new(1, 1, 1)
    };
    plan.settings.terms.guard = Arc::new(Guard::new(Vec::new(), limit));
    let scene = scene_of(plan, 0, vec![]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(scene.address()).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let notify = b"\x12\x34\x20\0\0\x01\0\0\0\0\0\0\x05mesos\0\0\x06\0\x01";
    // Root, TSIG, ANY, TTL 0; algorithm root, time and fudge, no MAC, id, no error, nothing else.
    let signed = [
        b"\x12\x34\0\0\0\x01\0\0\0\0\0\x01\x05mesos\0\0\x06\0\x01".as_slice(),
        b"\0\0\xfa\0\xff\0\0\0\0\0\x11",
        &[0; 17],
    ]
    .concat();
    let mut buffer = [0; 512];
    for message in [&notify[..], &signed] {
        socket.send(message).unwrap();
        socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[3] & 0xf, 9, "NOTAUTH");
    }
    for message in [&notify[..], &signed] {
        socket.send(message).unwrap();
    }
    let begun = Instant::now();
    while scene.served.totals(Transport::Udp).limited < 2 {
        assert!(begun.elapsed() < LIMIT, "not in time");
        thread::sleep(Duration::from_millis(10));
    }
    socket.set_nonblocking(true).unwrap();
    let nothing = socket.recv(&mut buffer).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    // Over TCP there is no limit.
    let notauth = response(&scene, 4 << 3, 6, [0, 0, 0], &[]);
    assert_eq!(notauth[3] & 0xf, 9);
}

/// The code that a server not authoritative for the zone gives: RFC 5936, section 2.2.1.
#[test]
fn rfc5936_2_2_1_another_zone_is_notauth() {
    needs_tool!("dig");
    let scene = scene(0, vec![by(Some("127.0.0.1"), None)]);
    for zone in ["example.org", "marathon.mesos", "."] {
        let text = scene.dig(&["+noall", "+comments", "-t", "IXFR=1", "-q", zone]);
        assert!(
            text.contains("status: NOTAUTH") || text.contains("Transfer failed"),
            "{text}"
        );
    }
    // AXFR is for TCP (section 4.2); an IXFR that does not fit there is the SOA (RFC 1995, section 2).
    let text = scene.dig(&["+notcp", "+ignore", "mesos", "IXFR=1"]);
    assert!(text.contains("SOA"), "{text}");
}

#[test]
fn rfc8945_5_2_signatures_that_do_not_hold_say_why() {
    needs_tool!("dig");
    let scene = scene(0, vec![by(Some("127.0.0.1"), None)]);
    let bad = format!("hmac-sha256:{KEY}:{}", SECRET.replace('d', "e"));
    let other_algorithm = format!("hmac-sha512:{KEY}:{SECRET}");
    for (signature, error) in [
        (signed_by("unknown.key"), "BADKEY"),
        (other_algorithm, "BADKEY"),
        (bad, "BADSIG"),
    ] {
        for (rtype, transport) in [("SOA", "+notcp"), ("SOA", "+tcp"), ("AXFR", "+tcp")] {
            let text = scene.dig(&["-y", &signature, transport, "mesos", rtype]);
            assert!(
                text.contains(error),
                "{signature} {rtype} {transport}\n{text}"
            );
            assert!(!text.contains("XFR size"), "{text}");
        }
    }
    assert_eq!(scene.count("tsig_errors"), 9);
    // What holds is answered and signed, whatever is asked; dig checks it.
    for (name, rtype) in [
        ("mesos", "SOA"),
        ("web.marathon.mesos", "A"),
        ("nope.mesos", "A"),
    ] {
        let text = scene.dig(&["-y", &signed_by(KEY), name, rtype]);
        assert!(
            text.contains("hmac-sha256. ") && !text.contains("Couldn't verify"),
            "{text}"
        );
        assert!(text.contains("NOERROR 0"), "{text}");
    }
}

/// What does not fit beside the signature comes as question and signature with TC, over UDP as over
/// TCP; what fits comes whole.
#[test]
fn rfc8945_5_3_what_is_too_large_with_its_signature_is_truncated() {
    needs_tool!("dig");
    let mut scene = scene(0, vec![]);
    let addresses = |owner: &str, count: u16| {
        let data = (0..count).map(|number| {
            let [high, low] = number.to_be_bytes();
            Rdata::A([10, 1, high, low].into())
        });
        (name(owner), Rrset::new(Rtype::A, 60, data))
    };
    // 12 octets of header, 4 and the name of the question, 16 for each address.
    let content = vec![
        addresses("n25.mesos", 25),
        addresses("n29.mesos", 29),
        addresses("n74.mesos", 74),
        addresses("big.mesos", 4094),
    ];
    scene.serve(content);
    let signature = signed_by(KEY);
    // The signature of this key has 85 octets; an OPT record has 11.
    for (owner, arguments, count) in [
        ("n25.mesos", ["+notcp", "+noedns"], Some(25)),
        ("n29.mesos", ["+notcp", "+noedns"], None),
        ("n29.mesos", ["+notcp", "+bufsize=1232"], Some(29)),
        ("n74.mesos", ["+notcp", "+bufsize=1232"], None),
        ("n74.mesos", ["+tcp", "+noedns"], Some(74)),
        ("big.mesos", ["+tcp", "+noedns"], None),
    ] {
        let signed = ["-y", &signature, "+ignore", owner, "A"];
        let text = scene.dig(&[&arguments[..], &signed].concat());
        let described = format!("{owner} {arguments:?}\n{text}");
        let answers = format!("ANSWER: {},", count.unwrap_or(0));
        assert!(text.contains(&answers), "{described}");
        assert_eq!(text.contains(" tc"), count.is_none(), "{described}");
        assert!(text.contains("status: NOERROR"), "{described}");
        assert!(
            text.contains("NOERROR 0") && !text.contains("verify"),
            "{described}"
        );
        let size = text.split("MSG SIZE  rcvd: ").nth(1).unwrap().trim();
        let size: usize = size.parse().unwrap();
        let limit = match arguments {
            ["+notcp", "+noedns"] => 512,
            ["+notcp", _] => 1232,
            _ => 65535,
        };
        assert!(size <= limit, "{described}");
    }
}

/// A message has 65,535 octets at most, and a zone that lacks a record is another zone.
#[test]
fn a_record_too_long_for_a_signed_message_ends_the_transfer() {
    needs_tool!("dig");
    let mut scene = scene(0, vec![by(Some("127.0.0.1"), None)]);
    // With header, question and owner 65,466 octets, to which a signature of this key adds 85.
    let mut texts = vec![vec![b'x'; 255]; 255];
    texts.push(vec![b'x'; 149]);
    let content = vec![(
        name("long.mesos"),
        Rrset::new(Rtype::TXT, 60, vec![Rdata::Txt(texts)]),
    )];
    scene.serve(content);
    let text = scene.dig(&["mesos", "AXFR"]);
    assert!(text.contains("XFR size: 4 records"), "{text}");
    let text = scene.dig(&["-y", &signed_by(KEY), "mesos", "AXFR"]);
    assert!(!text.contains("XFR size"), "{text}");
    assert_eq!(scene.count("broken_off"), 1);
}

/// The first message in response to one that asks `mesos` for a type, with these flags and so
/// many records of these octets in answer, authority and additional section.
fn response(scene: &Scene, flags: u8, rtype: u8, counts: [u8; 3], records: &[u8]) -> Vec<u8> {
    let [answers, authorities, additionals] = counts;
    let counts = [0, 1, 0, answers, 0, authorities, 0, additionals];
    let mut message = [&[0x12, 0x34, flags, 0], &counts[..]].concat();
    message.extend_from_slice(b"\x05mesos\0\0");
    message.extend_from_slice(&[rtype, 0, 1]);
    message.extend_from_slice(records);
    let mut stream = TcpStream::connect(scene.address()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let len = u16::try_from(message.len()).unwrap();
    stream
        .write_all(&[&len.to_be_bytes(), &message[..]].concat())
        .unwrap();
    let mut len = [0; 2];
    stream.read_exact(&mut len).unwrap();
    let mut response = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut response).unwrap();
    response
}

#[test]
fn rfc8945_5_2_a_signature_in_another_section_is_formerr() {
    let scene = scene(0, vec![]);
    // Root, TSIG, ANY, TTL 0; algorithm root, time and fudge, no MAC, id, no error, nothing else.
    let mut record = b"\0\0\xfa\0\xff\0\0\0\0\0\x11".to_vec();
    record.resize(record.len() + 17, 0);
    for counts in [[1, 0, 0], [0, 1, 0]] {
        let response = response(&scene, 0, 6, counts, &record);
        assert_eq!(response[..4], [0x12, 0x34, 0x80, 1], "{counts:?}");
    }
    // Any other record there does no harm: TXT is type 16.
    record[2] = 16;
    let response = response(&scene, 0, 6, [0, 1, 0], &record);
    assert_eq!(response[3] & 0xf, 0);
}

#[test]
fn rfc6891_6_1_1_transfers_and_notify_answer_opt_with_opt() {
    const NOTIFY: u8 = 4 << 3;
    const AXFR: u8 = 252;
    const IXFR: u8 = 251;
    const SOA: u8 = 6;
    let scene = scene(0, vec![by(Some("127.0.0.1"), None)]);
    // Version 0 and DO, which is copied; 1232 is what the server offers.
    let opt = *b"\0\0\x29\x10\0\0\0\x80\0\0\0";
    let own = *b"\0\0\x29\x04\xd0\0\0\x80\0\0\0";
    let badvers = *b"\0\0\x29\x04\xd0\x01\0\x80\0\0\0";
    for (flags, rtype, rcode) in [(0, AXFR, 0), (0, IXFR, 1), (NOTIFY, SOA, 9)] {
        let with = response(&scene, flags, rtype, [0, 0, 1], &opt);
        assert_eq!(with[3] & 0xf, rcode, "{rtype}");
        assert_eq!(with[11], 1, "{rtype}");
        assert!(with.ends_with(&own), "{rtype}: {with:x?}");
        let mut later = opt;
        later[6] = 1;
        let with = response(&scene, flags, rtype, [0, 0, 1], &later);
        assert_eq!(with[6..12], [0, 0, 0, 0, 0, 1], "{rtype}");
        assert_eq!(with[3] & 0xf, 0, "{rtype}");
        assert!(with.ends_with(&badvers), "{rtype}: {with:x?}");
    }
    for (counts, records) in [([0, 1, 0], opt.to_vec()), ([0, 0, 2], opt.repeat(2))] {
        let formerr = response(&scene, NOTIFY, SOA, counts, &records);
        assert_eq!(formerr[3] & 0xf, 1, "{counts:?}");
    }
    // So does a refusal: the key is unknown.
    let unknown = [&opt[..], b"\x01k\0\0\xfa\0\xff\0\0\0\0\0\x11", &[0; 17]].concat();
    let refused = response(&scene, 0, SOA, [0, 0, 2], &unknown);
    assert_eq!((refused[3] & 0xf, refused[11]), (9, 2));
    assert!(refused.windows(11).any(|part| part == own), "{refused:x?}");
}

fn resident_octets() -> u64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

/// Asks for the zone and reads no more than what comes first.
fn ask_and_stall(server: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(server).unwrap();
    let message = b"\0\x17\x12\x34\0\0\0\x01\0\0\0\0\0\0\x05mesos\0\0\xfc\0\x01";
    stream.write_all(message).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut first = [0; 2];
    stream.read_exact(&mut first).unwrap();
    stream
}

#[test]
fn readers_that_stall_hold_neither_memory_nor_the_server() {
    needs_tool!("dig");
    // About 23 MB in a transfer, more than the kernel takes for a connection.
    let scene = scene(100_000, vec![by(Some("127.0.0.1"), None)]);
    let before = resident_octets();
    let mut stalled: Vec<TcpStream> = (0..4).map(|_| ask_and_stall(scene.address())).collect();
    // A fifth is one too many, and is told so at once.
    let mut refused = ask_and_stall(scene.address());
    let mut header = [0; 4];
    refused.read_exact(&mut header).unwrap();
    assert_eq!(header[3] & 0xf, 2, "{header:?}");
    // Others are answered meanwhile.
    for _ in 0..20 {
        assert!(scene.is_answering());
    }
    let grown = resident_octets().saturating_sub(before);
    // 32 messages of 16 KiB for each of four, and what the kernel takes.
    assert!(grown < 16 << 20, "{grown} octets more");
    // Who does not read for a second is cut off, and gives its place to another.
    let deadline = Instant::now() + LIMIT;
    while scene.count("broken_off") < 4 {
        assert!(Instant::now() < deadline, "{:?}", scene.versions.counters());
        thread::sleep(Duration::from_millis(20));
    }
    let text = scene.dig(&["+noall", "+answer", "+stats", "mesos", "AXFR"]);
    assert!(
        text.contains("XFR size: 100003 records"),
        "{}",
        text.lines().last().unwrap()
    );
    for stream in &mut stalled {
        // What was sent before is there; the end is not.
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        assert!(rest.len() < 20_000_000, "{} octets", rest.len());
    }
}
