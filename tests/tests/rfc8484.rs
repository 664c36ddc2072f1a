//! RFC 8484, "DNS Queries over HTTPS", by section, with kdig, dig, curl, and a client that speaks
//! HTTP/2 by hand where programs are too polite.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use data_encoding::BASE64URL_NOPAD;
use dns_common::RateLimit;
use dns_userspace::server::breakdown::Source;
use dns_userspace::server::{EncryptedProtocol, Guard};
use tests::{
    keys::{SERVER_NAME, Stream},
    needs_tool,
    secured::{LIMIT, Secured, framed, query, read_framed, time_to_close},
    served::Plan,
    upstream::Upstream,
};

fn plan() -> Plan {
    let mut content = vec![
        "web.mesos A 10.0.0.1".to_owned(),
        "alias.mesos CNAME web.mesos".to_owned(),
    ];
    for n in 0..4 {
        content.push(format!("four.mesos A 10.1.0.{n}"));
    }
    for n in 0..3000 {
        content.push(format!("huge.mesos A 10.2.{}.{}", n / 250, n % 250));
    }
    let lines: Vec<&str> = content.iter().map(String::as_str).collect();
    Plan::mesos(&lines)
}

/// The path of a GET for the address of a name; the id is 0 (section 4.1).
fn path(name: &str) -> String {
    format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(&query(0, name)))
}

fn status(head: &str) -> u16 {
    head.split(' ').nth(1).unwrap().parse().unwrap()
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn resolvers_ask_by_get_and_post() {
    needs_tool!("dig", "kdig", "openssl");
    let secured = Secured::start(plan()).unwrap();
    let name = format!("+tls-hostname={SERVER_NAME}");
    for (program, options) in [
        ("kdig", ["+https", "+tls-ca=CA", &name]),
        ("kdig", ["+https-get", "+tls-ca=CA", &name]),
        ("dig", ["+https", "+tls-ca=CA", &name]),
        ("dig", ["+https-get", "+tls-ca=CA", &name]),
    ] {
        let ask = |options: &[&str]| secured.ask(program, secured.https, options, "web.mesos", "A");
        // kdig 3.2 takes +https-get for a modifier of +https.
        let options: Vec<&str> = ["+https"].into_iter().chain(options).collect();
        let said = ask(&options).unwrap();
        assert!(said.contains("10.0.0.1"), "{program} {options:?}: {said}");
        let wrong = [&options[..3], &["+tls-hostname=other.test"]].concat();
        assert!(ask(&wrong).is_err(), "{program} {wrong:?}");
    }
    let huge = secured
        .ask("dig", secured.https, &["+https"], "huge.mesos", "A")
        .unwrap();
    assert!(huge.contains("ANSWER: 3000"), "{huge}");
    let totals = secured.served.totals_encrypted(EncryptedProtocol::Https);
    assert_eq!(
        (totals.queries, totals.breakdown.codes(Source::Zones)[0]),
        (5, 5)
    );
    assert!(totals.connections >= 5);
}

#[test]
fn section_5_the_message_is_that_of_dns_over_both_versions_and_methods() {
    needs_tool!("curl", "openssl");
    let secured = Secured::start(plan()).unwrap();
    let message = query(0, "web.mesos");
    let mut tcp = TcpStream::connect(secured.served.address()).unwrap();
    tcp.write_all(&framed(&message)).unwrap();
    let expected = read_framed(&mut tcp).unwrap();
    secured.keys.write("query", &message);
    let data = format!("@{}", secured.keys.path("query").display());
    let post = [
        "--header",
        "content-type: application/dns-message",
        "--data-binary",
        &data,
    ];
    for (version, line) in [("--http1.1", "http/1.1 200"), ("--http2", "http/2 200")] {
        for (options, path) in [
            (&[][..], path("web.mesos")),
            (&post, "/dns-query".to_owned()),
        ] {
            let options = [&[version], options].concat();
            let (head, body) = secured.curl(&options, &path).unwrap();
            assert!(head.starts_with(line), "{head}");
            assert_eq!(
                header(&head, "content-type"),
                Some("application/dns-message")
            );
            assert_eq!(header(&head, "cache-control"), Some("max-age=60"));
            assert_eq!(body, expected);
        }
    }
}

/// The id is 0 for the sake of HTTP caches, and must not send every client to the same address.
#[test]
fn section_4_1_another_address_comes_first_each_time() {
    needs_tool!("curl", "openssl");
    let secured = Secured::start(plan()).unwrap();
    let mut firsts = std::collections::BTreeSet::new();
    // All of 40 the same is a matter of 4 to the power of 39.
    for _ in 0..40 {
        let (_, body) = secured.curl(&["--http2"], &path("four.mesos")).unwrap();
        assert_eq!(body[..2], [0, 0], "the id");
        // The question ends at 28, and the owner, type, class, TTL and length take 12.
        firsts.insert(body[40..44].to_vec());
    }
    assert!(firsts.len() > 1, "{firsts:?}");
}

#[test]
fn section_5_1_the_freshness_is_the_smallest_ttl_and_that_of_a_denial() {
    needs_tool!("curl", "openssl");
    let upstream = Upstream::start(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
    let mut plan = plan().forwarding_to(&[upstream.address]);
    plan.zones[0].0.soa.minimum = 20;
    let secured = Secured::start(plan).unwrap();
    for (name, rcode, max_age) in [
        ("web.mesos", 0, "max-age=60"),
        ("nope.mesos", 3, "max-age=20"),
        ("ttl9.example.org", 0, "max-age=9"),
        ("nxsoa17.example.org", 3, "max-age=17"),
        ("servfail.example.org", 2, "max-age=0"),
    ] {
        // Errors of DNS are no errors of HTTP (section 4.2.1).
        let (head, body) = secured.curl(&[], &path(name)).unwrap();
        assert_eq!(
            (status(&head), body[3] & 0xf),
            (200, rcode),
            "{name}: {head}"
        );
        assert_eq!(header(&head, "cache-control"), Some(max_age), "{name}");
    }
    let totals = secured.served.totals_encrypted(EncryptedProtocol::Https);
    assert_eq!((totals.queries, totals.forwarded), (5, 3));
}

#[test]
fn who_may_not_ask_is_refused_over_https_too() {
    needs_tool!("curl", "openssl");
    let mut plan = plan();
    let nobody = vec!["192.0.2.0/24".parse().unwrap()];
    plan.settings.terms.guard = Arc::new(Guard::new(nobody, RateLimit::new(0, 1, 0)));
    let secured = Secured::start(plan).unwrap();
    let (head, body) = secured.curl(&[], &path("web.mesos")).unwrap();
    assert_eq!((status(&head), body[3] & 0xf), (200, 5));
}

#[test]
fn other_requests_get_the_status_that_says_why() {
    needs_tool!("curl", "openssl");
    let secured = Secured::start(plan()).unwrap();
    let large = secured.keys.path("large");
    fs::write(&large, vec![0; 70_000]).unwrap();
    let huge = secured.keys.path("huge");
    fs::write(&huge, vec![0; 900_000]).unwrap();
    let [large, huge] = [large, huge].map(|path| format!("@{}", path.display()));
    secured
        .keys
        .write("response", b"\0\0\x81\x80\0\0\0\0\0\0\0\0");
    let response = format!("@{}", secured.keys.path("response").display());
    let message = "content-type: application/dns-message";
    let long = format!("/dns-query?dns={}", "A".repeat(40_000));
    for version in ["--http1.1", "--http2"] {
        for (options, path, expected) in [
            (&[][..], "/", 404),
            (&["--request", "PUT", "--data", "x"], "/dns-query", 405),
            (&["--request", "DELETE"], "/dns-query", 405),
            (&[], "/dns-query", 400),
            (&[], "/dns-query?dns=AA==", 400),
            (&[], "/dns-query?dns=AAAA", 400),
            (&["--data", "x"], "/dns-query", 415),
            (
                &["--header", message, "--data-binary", &large],
                "/dns-query",
                413,
            ),
            (
                &["--header", message, "--data-binary", &huge],
                "/dns-query",
                413,
            ),
            // A response is no query, and gets none.
            (
                &["--header", message, "--data-binary", &response],
                "/dns-query",
                400,
            ),
        ] {
            let options = [&[version], options].concat();
            let (head, body) = secured.curl(&options, path).unwrap();
            assert_eq!(status(&head), expected, "{options:?} {path:.40}: {head}");
            assert!(body.is_empty(), "{body:?}");
            let allow = (expected == 405).then_some("get, head, post");
            assert_eq!(header(&head, "allow"), allow);
        }
    }
    // Over HTTP/1.1 the connection may be gone before curl has sent so much.
    let (head, _) = secured.curl(&["--http2"], &long).unwrap();
    assert_eq!(status(&head), 431, "{head}");
}

/// RFC 9110, section 9.3.2: the head of what GET gives.
#[test]
fn head_is_get_without_the_body() {
    needs_tool!("curl", "openssl");
    let secured = Secured::start(plan()).unwrap();
    for version in ["--http1.1", "--http2"] {
        for (path, expected) in [(path("web.mesos"), 200), ("/dns-query".to_owned(), 400)] {
            let (whole, body) = secured.curl(&[version], &path).unwrap();
            let (head, none) = secured.curl(&[version, "--head"], &path).unwrap();
            assert_eq!((status(&whole), status(&head)), (expected, expected));
            assert!(none.is_empty());
            for name in ["content-type", "cache-control"] {
                assert_eq!(header(&head, name), header(&whole, name), "{version}");
            }
            if expected == 200 {
                let octets = body.len().to_string();
                assert_eq!(header(&head, "content-length"), Some(&*octets), "{version}");
            }
        }
    }
}

#[test]
fn a_zone_transfer_is_refused() {
    needs_tool!("dig", "openssl");
    let secured = Secured::start(plan()).unwrap();
    let mut message = query(0, "mesos");
    let at = message.len() - 3;
    message[at] = 252;
    let path = format!("/dns-query?dns={}", BASE64URL_NOPAD.encode(&message));
    let (head, body) = secured.curl(&[], &path).unwrap();
    assert_eq!((status(&head), body[3] & 0xf, body[7]), (200, 5, 0));
}

/// A client that speaks HTTP/2 (RFC 9113) as it likes.
struct Http2 {
    stream: Stream,
    next: u32,
}

impl Http2 {
    /// Connects. The server may send bodies of `window` octets without being told more.
    fn connect(secured: &Secured, window: u32) -> Self {
        let mut stream = secured.keys.connect(secured.https, &["h2"]).unwrap();
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE.
        let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
        let mut client = Self { stream, next: 1 };
        client.send(4, 0, 0, &settings);
        client
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = len[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).unwrap();
    }

    /// Asks by GET, and waits for nothing.
    fn get(&mut self, path: &str) {
        assert!(path.len() < 127, "one octet of length");
        // :method GET and :scheme https from HPACK's table (RFC 7541, appendix A); :path and
        // :authority as they are.
        let mut block = vec![0x82, 0x87, 0x04, path.len() as u8];
        block.extend(path.as_bytes());
        block.extend([0x01, SERVER_NAME.len() as u8]);
        block.extend(SERVER_NAME.as_bytes());
        let stream = self.next;
        self.next += 2;
        // END_STREAM and END_HEADERS.
        self.send(1, 5, stream, &block);
    }

    /// The next frame: its type, stream and payload.
    fn frame(&mut self) -> std::io::Result<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head)?;
        let [a, b, c, kind, _, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload)?;
        Ok((kind, u32::from_be_bytes(stream), payload))
    }

    /// Waits for so many heads of responses; how many of them say 200.
    fn heads(&mut self, count: usize) -> usize {
        let (mut seen, mut good) = (0, 0);
        while seen < count {
            let (kind, _, payload) = self.frame().unwrap();
            if kind == 1 {
                seen += 1;
                // :status 200 of HPACK's table comes first.
                good += usize::from(payload[0] == 0x88);
            }
        }
        good
    }
}

#[test]
fn readers_that_never_read_are_let_go_and_bound_what_is_held() {
    needs_tool!("openssl");
    let mut plan = plan();
    plan.settings.tcp.idle = Duration::from_secs(2);
    plan.settings.tcp.write = Duration::from_secs(1);
    let secured = Secured::start(plan).unwrap();
    // No room for a single octet, so all bodies wait at the server.
    let mut greedy = Http2::connect(&secured, 0);
    let start = Instant::now();
    for _ in 0..30 {
        greedy.get(&path("huge.mesos"));
    }
    // 48 KiB each, out of 512; the others are told that there is no room.
    assert_eq!(greedy.heads(30), 10);
    let mut other = Http2::connect(&secured, 65_535);
    other.get(&path("web.mesos"));
    assert_eq!(other.heads(1), 1);
    // Time to idle, and then to write.
    let closed = loop {
        match greedy.frame() {
            // GOAWAY and what belongs to it.
            Ok(_) => assert!(start.elapsed() < LIMIT),
            Err(_) => break start.elapsed(),
        }
    };
    assert!(closed >= Duration::from_millis(1900), "{closed:?}");
}

#[test]
fn a_connection_goes_on_while_it_is_used_and_ends_when_idle() {
    needs_tool!("openssl");
    let mut plan = plan();
    plan.settings.tcp.first_query = Duration::from_secs(2);
    plan.settings.tcp.idle = Duration::from_secs(4);
    let secured = Secured::start(plan).unwrap();
    let mut client = Http2::connect(&secured, 65_535);
    let start = Instant::now();
    // Longer than both times.
    while start.elapsed() < Duration::from_secs(5) {
        client.get(&path("web.mesos"));
        assert_eq!(client.heads(1), 1);
        // The pace is what is tested.
        std::thread::sleep(Duration::from_millis(500));
    }
    // Neither PING nor a request that asks for nothing keeps it open.
    client.send(6, 0, 0, &[0; 8]);
    client.get("/nothing");
    let open = time_to_close(&mut client.stream);
    assert!(open >= Duration::from_secs(2), "{open:?}");
}

#[test]
fn writers_of_an_octet_at_a_time_are_let_go() {
    needs_tool!("openssl");
    let mut plan = plan();
    plan.settings.tcp.first_query = Duration::from_secs(2);
    plan.settings.tcp.write = Duration::from_secs(1);
    let secured = Secured::start(plan).unwrap();
    let post =
        "POST /dns-query HTTP/1.1\r\nHost: dns.test\r\nContent-Type: application/dns-message\r\n";
    // In the head, and in a body that was announced.
    for head in [
        post.to_owned(),
        format!("{post}Content-Length: 60000\r\n\r\n"),
    ] {
        let mut slow = secured.keys.connect(secured.https, &["http/1.1"]).unwrap();
        slow.write_all(head.as_bytes()).unwrap();
        let start = Instant::now();
        while slow.write_all(b"x").and_then(|()| slow.flush()).is_ok() {
            assert!(start.elapsed() < LIMIT, "it is still there");
            // The pace is what is tested.
            std::thread::sleep(Duration::from_millis(200));
        }
        assert!(start.elapsed() >= Duration::from_millis(1900));
    }
}
