//! EDNS options, and who is answered at all: DNS cookies (RFC 7873, RFC 9018), NSID (RFC 5001),
//! extended errors (RFC 8914), class CHAOS (RFC 4892), the list of clients and the rate limit.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    net::{Ipv4Addr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use dns_common::RateLimit;
use dns_userspace::{
    answers::{
        Transport,
        cookie::{Secret, Secrets},
        identity::Identity,
    },
    server::{Guard, Terms, breakdown::Source},
};
use tests::{
    dig::Response,
    needs_tool,
    served::{Plan, Served},
    upstream::Upstream,
};

/// `web.mesos A IN`, id 0x1234, RD, EDNS with a client cookie.
const WITH_COOKIE: &[u8] = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01\
    \x03web\x05mesos\x00\x00\x01\x00\x01\
    \x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0812345678";
const CLIENT_COOKIE: &str = "2464c4abcf10c957";

fn plan(terms: Terms) -> Plan {
    let mut content = vec!["web.mesos A 10.0.0.1".to_owned()];
    for n in 0..60 {
        content.push(format!("many.mesos A 10.1.0.{n}"));
    }
    let lines: Vec<&str> = content.iter().map(String::as_str).collect();
    let mut plan = Plan::mesos(&lines);
    plan.settings.terms = terms;
    plan
}

fn start(terms: Terms) -> Served {
    plan(terms).start().unwrap()
}

fn cookies() -> Terms {
    Terms {
        cookies: Some(Secrets::Shared(vec![Secret([9; 16])])),
        ..Terms::default()
    }
}

fn ask(served: &Served, options: &[&str], name: &str, rtype: &str) -> Response {
    let dig = options
        .iter()
        .fold(served.dig(), |dig, option| dig.option(option));
    dig.ask(name, rtype).unwrap()
}

/// The cookie in a response, as hexadecimal digits, and what dig thinks of it.
fn cookie(response: &Response) -> Option<(String, String)> {
    let shown = response.edns_options.iter();
    let cookie = shown
        .filter_map(|line| line.strip_prefix("COOKIE: "))
        .next()?;
    let (digits, verdict) = cookie.split_once(' ')?;
    Some((digits.to_owned(), verdict.to_owned()))
}

#[test]
fn rfc7873_5_2_3_a_client_cookie_gets_a_server_cookie() {
    needs_tool!("dig");
    let served = start(cookies());
    for way in ["+notcp", "+tcp"] {
        let sent = format!("+cookie={CLIENT_COOKIE}");
        let first = ask(&served, &[way, &sent], "web.mesos", "A");
        assert_eq!(first.data("A"), ["10.0.0.1"]);
        let (learned, verdict) = cookie(&first).unwrap();
        assert!(learned.starts_with(CLIENT_COOKIE) && learned.len() == 48);
        assert_eq!(verdict, "(good)");
        // A fresh one stays as it is (RFC 9018, section 4.3).
        let sent = format!("+cookie={learned}");
        let second = ask(&served, &[way, &sent], "web.mesos", "A");
        assert_eq!(cookie(&second).unwrap().0, learned);
    }
    let without = ask(&served, &[], "web.mesos", "A");
    assert!(without.edns_options.is_empty(), "none unless asked for");
    // The fast path has answered that one only.
    assert_eq!(served.totals(Transport::Udp).fast, 1);
}

#[test]
fn cookies_are_ignored_where_they_are_off() {
    needs_tool!("dig");
    let served = start(Terms::default());
    let sent = format!("+cookie={CLIENT_COOKIE}");
    let response = ask(&served, &[&sent, "+nsid"], "web.mesos", "A");
    assert!(response.edns_options.is_empty());
    assert_eq!(served.totals(Transport::Udp).fast, 1);
}

#[test]
fn rfc7873_5_2_2_a_cookie_of_another_length_is_formerr() {
    needs_tool!("dig");
    let served = start(cookies());
    let response = ask(&served, &["+ednsopt=10:0102"], "web.mesos", "A");
    assert_eq!(response.status, "FORMERR");
    assert!(response.edns.is_some() && response.question.is_some());
}

/// One who has no question gets a cookie, and learns whether an old one is good.
#[test]
fn rfc7873_5_4_a_cookie_can_be_had_without_a_question() {
    /// Id 0x1234, RD, EDNS of 1232 octets and one option.
    fn bare(option: &[u8]) -> Vec<u8> {
        let octets = option.len() as u8;
        let opt = b"\0\0\x29\x04\xd0\0\0\0\0\0";
        let mut message = b"\x12\x34\x01\0\0\0\0\0\0\0\0\x01".to_vec();
        message.extend_from_slice(opt);
        message.extend_from_slice(&[octets + 4, 0, 10, 0, octets]);
        message.extend_from_slice(option);
        message
    }
    let served = start(cookies());
    let socket = client(&served);
    let learned = exchange(&socket, &bare(&[7; 8]));
    // QR, and OPT with the client's cookie and a server cookie of 16 octets (RFC 9018).
    assert_eq!(learned[..12], *b"\x12\x34\x80\0\0\0\0\0\0\0\0\x01");
    assert_eq!(learned[12..23], *b"\0\0\x29\x04\xd0\0\0\0\0\0\x1c");
    assert_eq!(
        learned[23..35],
        *b"\0\x0a\0\x18\x07\x07\x07\x07\x07\x07\x07\x07"
    );
    assert_eq!(learned.len(), 35 + 16);
    let confirmed = exchange(&socket, &bare(&learned[27..]));
    assert_eq!(confirmed, learned);
    let refused = exchange(&socket, &bare(&[7; 24]));
    assert_eq!((rcode(&refused), refused.len()), (23, 51), "BADCOOKIE");
    let malformed = exchange(&socket, &bare(&[7; 9]));
    assert_eq!((rcode(&malformed), malformed.len()), (1, 23), "FORMERR");
    // An OPT record without a cookie is no question either.
    let plain = b"\x12\x34\x01\0\0\0\0\0\0\0\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0";
    assert_eq!(rcode(&exchange(&socket, plain)), 1);
}

#[test]
fn a_cookie_leaves_room_for_itself() {
    needs_tool!("dig");
    let served = start(cookies());
    // 60 addresses take 991 octets with OPT: they fit, and with a cookie they do not.
    let sent = format!("+cookie={CLIENT_COOKIE}");
    let whole = ask(&served, &["+bufsize=1000", "+ignore"], "many.mesos", "A");
    assert!(!whole.has_flag("tc") && whole.octets <= 1000);
    let options = ["+bufsize=1000", "+ignore", sent.as_str()];
    let cut = ask(&served, &options, "many.mesos", "A");
    assert!(cut.has_flag("tc") && cookie(&cut).is_some());
    assert!(cut.octets <= 1000);
}

#[test]
fn a_forwarded_answer_has_our_cookie() {
    needs_tool!("dig");
    let upstream = Upstream::start(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
    let served = plan(cookies())
        .forwarding_to(&[upstream.address])
        .start()
        .unwrap();
    let sent = format!("+cookie={CLIENT_COOKIE}");
    for way in ["+notcp", "+tcp"] {
        let response = ask(&served, &[way, &sent], "www.example.org", "A");
        assert_eq!(response.data("A"), ["198.51.100.1"]);
        if response.edns.is_some() {
            let shown = response.edns_options.iter();
            assert_eq!(shown.filter(|line| line.starts_with("COOKIE")).count(), 1);
        }
    }
}

#[test]
fn rfc5001_the_identifier_is_for_those_who_ask() {
    needs_tool!("dig");
    let served = start(Terms {
        nsid: b"rack-7".to_vec(),
        ..Terms::default()
    });
    let asked = ask(&served, &["+nsid"], "web.mesos", "A");
    assert_eq!(asked.edns_options, ["NSID: 72 61 63 6b 2d 37 (\"rack-7\")"]);
    assert!(ask(&served, &[], "web.mesos", "A").edns_options.is_empty());
}

#[test]
fn rfc4892_the_server_says_who_it_is_where_it_is_told_to() {
    needs_tool!("dig");
    let quiet = start(Terms::default());
    let refused = ask(&quiet, &["-c", "CH"], "version.bind", "TXT");
    assert_eq!(refused.status, "REFUSED");
    let served = start(Terms {
        identity: Identity {
            version: Some("mesos-xdns".to_owned()),
            id: Some("rack-7".to_owned()),
        },
        ..Terms::default()
    });
    for (name, text) in [
        ("version.bind", "\"mesos-xdns\""),
        ("VERSION.server", "\"mesos-xdns\""),
        ("id.server", "\"rack-7\""),
        ("hostname.bind", "\"rack-7\""),
    ] {
        for way in ["+noedns", "+edns=0", "+tcp"] {
            let response = ask(&served, &["-c", "CH", way], name, "TXT");
            assert_eq!(response.data("TXT"), [text], "{name} {way}");
            assert!(response.has_flag("aa"));
        }
    }
    // RFC 6891, section 6.1.3.
    let options = ["-c", "CH", "+edns=1", "+noednsnegotiation"];
    let later = ask(&served, &options, "version.bind", "TXT");
    assert_eq!((later.status.as_str(), later.answer.len()), ("BADVERS", 0));
    let other = ask(&served, &["-c", "CH"], "authors.bind", "TXT");
    assert_eq!(other.status, "REFUSED");
}

#[test]
fn rfc8914_4_21_refused_is_explained() {
    needs_tool!("dig");
    let served = start(Terms::default());
    let refused = ask(&served, &[], "www.example.org", "A");
    assert_eq!(refused.status, "REFUSED");
    assert_eq!(refused.edns_options, ["EDE: 20 (Not Authoritative)"]);
}

#[test]
fn a_client_that_is_not_allowed_is_prohibited() {
    needs_tool!("dig");
    let only = |text: &str| Terms {
        guard: Arc::new(Guard::new(
            vec![text.parse().unwrap()],
            RateLimit::default(),
        )),
        ..Terms::default()
    };
    let served = start(only("192.0.2.0/24"));
    for way in ["+notcp", "+tcp"] {
        let refused = ask(&served, &[way], "web.mesos", "A");
        assert_eq!(refused.status, "REFUSED");
        assert_eq!(refused.edns_options, ["EDE: 18 (Prohibited)"]);
    }
    assert_eq!(served.totals(Transport::Udp).prohibited, 1);
    let served = start(only("127.0.0.0/8"));
    assert_eq!(ask(&served, &[], "web.mesos", "A").status, "NOERROR");
}

/// Ten at once, and then one in ten seconds.
fn ten_at_once(slip: u32) -> RateLimit {
    RateLimit {
        interval: 10_000_000,
        window: 100_000_000,
        slip,
        ..RateLimit::new(1, 1, 0)
    }
}

fn limited(slip: u32, terms: Terms) -> Served {
    start(Terms {
        guard: Arc::new(Guard::new(Vec::new(), ten_at_once(slip))),
        ..terms
    })
}

/// Whoever sends in the name of another would have that one flooded with what refuses it.
#[test]
fn a_client_that_is_not_allowed_has_its_share_and_no_more() {
    let elsewhere = vec!["192.0.2.0/24".parse().unwrap()];
    let served = start(Terms {
        guard: Arc::new(Guard::new(elsewhere, ten_at_once(1))),
        ..Terms::default()
    });
    let socket = client(&served);
    for _ in 0..10 {
        assert_eq!(rcode(&exchange(&socket, WITH_COOKIE)), 5);
    }
    for _ in 0..5 {
        socket.send(WITH_COOKIE).unwrap();
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while served.totals(Transport::Udp).limited < 5 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    let totals = served.totals(Transport::Udp);
    assert_eq!(
        (totals.prohibited, totals.breakdown.codes(Source::Zones)[5]),
        (15, 10)
    );
}

fn client(served: &Served) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(served.address()).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    socket
}

fn exchange(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.send(query).unwrap();
    let mut buffer = [0; 2048];
    let len = socket.recv(&mut buffer).unwrap();
    buffer[..len].to_vec()
}

/// The code of a response with OPT right behind the question or a record, its upper bits included.
fn rcode(response: &[u8]) -> u16 {
    use hickory_proto::{op::Message, serialize::binary::BinDecodable};
    Message::from_bytes(response)
        .unwrap()
        .metadata
        .response_code
        .into()
}

#[test]
fn a_prefix_beyond_its_share_gets_nothing_and_is_counted() {
    let served = limited(0, Terms::default());
    let socket = client(&served);
    for _ in 0..10 {
        assert_eq!(exchange(&socket, WITH_COOKIE)[7], 1);
    }
    for _ in 0..5 {
        socket.send(WITH_COOKIE).unwrap();
    }
    // The same over TCP is not limited.
    needs_tool!("dig");
    let response = ask(&served, &["+tcp"], "web.mesos", "A");
    assert_eq!(response.status, "NOERROR");
    let deadline = std::time::Instant::now() + Duration::from_secs(30);
    while served.totals(Transport::Udp).limited < 5 {
        assert!(std::time::Instant::now() < deadline);
        std::thread::yield_now();
    }
    assert_eq!(
        served.totals(Transport::Udp).breakdown.codes(Source::Zones)[0],
        10
    );
}

#[test]
fn a_query_that_slips_is_sent_to_tcp() {
    let served = limited(1, Terms::default());
    let socket = client(&served);
    for _ in 0..10 {
        assert_eq!(exchange(&socket, WITH_COOKIE)[7], 1);
    }
    let slipped = exchange(&socket, WITH_COOKIE);
    assert_eq!(slipped[2] & 0x02, 0x02, "TC");
    assert_eq!(slipped[6..8], [0, 0]);
    assert_eq!(slipped[11], 1, "OPT answers OPT");
    assert_eq!(served.totals(Transport::Udp).slipped, 1);
}

#[test]
fn a_server_cookie_is_not_limited() {
    let terms = Terms {
        badcookie: true,
        ..cookies()
    };
    let served = limited(0, terms);
    let socket = client(&served);
    for _ in 0..10 {
        assert_eq!(rcode(&exchange(&socket, WITH_COOKIE)), 0);
    }
    let refused = exchange(&socket, WITH_COOKIE);
    assert_eq!(rcode(&refused), 23, "BADCOOKIE");
    assert!(refused.len() <= WITH_COOKIE.len() + 16);
    // It comes back with the cookie that it was given.
    let cookie = &refused[refused.len() - 24..];
    let front = WITH_COOKIE.len() - 14;
    let query = [&WITH_COOKIE[..front], &[0, 28, 0, 10, 0, 24], cookie].concat();
    for _ in 0..20 {
        let response = exchange(&socket, &query);
        assert_eq!((rcode(&response), response[7]), (0, 1));
    }
}

#[test]
fn the_kernel_leaves_queries_with_raised_options_to_user_space() {
    use dns_common::Verdict;
    use dns_userspace::{
        answers::{Policy, fast},
        dataplane::Settings,
        zones::{Rdata, Rrset, Rtype},
    };
    use tests::{
        cable::{CLIENT, SERVER},
        frame::Frame,
        generate::{Ask, editor, name, query, replace},
        kernel::{Action, Kernel, SEED, settings},
        needs_root,
    };
    needs_root!();
    let on = Policy {
        cookies: true,
        nsid_octets: 4,
        ..Policy::default()
    };
    let mut editor = editor(SEED);
    let address = Rrset::new(Rtype::A, 60, vec![Rdata::A([10, 0, 0, 1].into())]);
    replace(&mut editor, vec![(name("web.mesos"), address)], true);
    let snapshot = editor.snapshot();
    /// Codes with their data.
    type Options = Vec<(u16, Vec<u8>)>;
    let lists: [(Options, bool); 5] = [
        (vec![(10, vec![7; 8])], true),
        (vec![(12, vec![0; 9]), (3, vec![])], true),
        (vec![(10, vec![])], true),
        (vec![(12, vec![0; 9]), (11, vec![])], false),
        (vec![], false),
    ];
    for policy in [Policy::default(), on] {
        let raised_options = policy.raised_options();
        let mut kernel = Kernel::load(&Settings {
            raised_options,
            ..settings()
        })
        .unwrap();
        kernel.publish(snapshot).unwrap();
        for (options, is_raised) in &lists {
            let message = query(&Ask {
                owner: name("web.mesos"),
                upper: 0,
                id: 7,
                flags: 0x0100,
                rtype: 1,
                opt: Some((1232, false, options.clone())),
                version: 0,
            });
            let expected = if *is_raised && raised_options != 0 {
                (Action::Pass, Verdict::Option)
            } else {
                (Action::Tx, Verdict::Answered)
            };
            let [client, server] = [CLIENT[0], SERVER[0]].map(|text| text.parse().unwrap());
            let sent = Frame::query(client, server, message.clone()).octets();
            let (action, verdict, _) = kernel.judge(&sent).unwrap();
            assert_eq!((action, verdict), expected, "{options:?}");
            let mut buffer = message.clone();
            buffer.resize(2048, 0);
            let (verdict, _) = fast::answer(snapshot, &policy, &mut buffer, message.len());
            assert_eq!(verdict, expected.1, "{options:?}");
        }
    }
}
