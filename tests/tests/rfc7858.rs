//! RFC 7858, "DNS over Transport Layer Security", by section, with kdig, dig and a client of our own;
//! RFC 8467, padding; and that silent and slow clients harm nobody.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    io::Write,
    net::{Ipv4Addr, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use dns_common::RateLimit;
use dns_userspace::server::{EncryptedProtocol, Guard, breakdown::Source};
use tests::{
    keys::{Keys, SERVER_NAME},
    needs_tool,
    secured::{LIMIT, Secured, answer_over, framed, query, read_framed, time_to_close},
    served::Plan,
    upstream::Upstream,
};

#[test]
fn section_4_2_a_client_that_checks_the_name_is_answered_and_is_not_by_another() {
    needs_tool!("kdig", "openssl");
    let secured = Secured::start(Plan::with_a_huge_name()).unwrap();
    let kdig = |options: &[&str]| secured.ask("kdig", secured.tls, options, "web.mesos", "A");
    let name = format!("+tls-hostname={SERVER_NAME}");
    let said = kdig(&["+tls-ca=CA", &name]).unwrap();
    assert!(
        said.contains("10.0.0.1") && said.contains("TLS1.3"),
        "{said}"
    );
    assert!(kdig(&["+tls-ca=CA", "+tls-hostname=other.test"]).is_err());
    let others = Keys::new();
    others.certificates(&[]);
    let other_ca = format!("+tls-ca={}", others.path("ca.pem").display());
    assert!(kdig(&[&other_ca, &name]).is_err());
    let totals = secured.served.totals_encrypted(EncryptedProtocol::Tls);
    assert_eq!(
        (totals.queries, totals.breakdown.codes(Source::Zones)[0]),
        (1, 1)
    );
}

#[test]
fn section_4_1_and_4_2_opportunistic_and_pinned_clients_are_answered() {
    needs_tool!("dig", "kdig", "openssl");
    let secured = Secured::start(Plan::with_a_huge_name()).unwrap();
    let ask =
        |program, options: &[&str]| secured.ask(program, secured.tls, options, "web.mesos", "A");
    assert!(ask("dig", &["+tls"]).unwrap().contains("10.0.0.1"));
    let name = format!("+tls-hostname={SERVER_NAME}");
    assert!(
        ask("dig", &["+tls-ca=CA", &name])
            .unwrap()
            .contains("10.0.0.1")
    );
    let pin = format!("+tls-pin={}", secured.keys.pin("server"));
    assert!(ask("kdig", &["+tls", &pin]).unwrap().contains("10.0.0.1"));
    let others = Keys::new();
    others.certificates(&["other"]);
    let wrong = format!("+tls-pin={}", others.pin("other"));
    assert!(ask("kdig", &["+tls", &wrong]).is_err());
}

#[test]
fn section_3_2_alpn_is_dot_or_nothing() {
    needs_tool!("openssl");
    let secured = Secured::start(Plan::with_a_huge_name()).unwrap();
    for (offered, taken) in [
        (&["dot"][..], Some(&b"dot"[..])),
        (&["h2", "dot"], Some(b"dot")),
        (&[], None),
    ] {
        let mut stream = secured.keys.connect(secured.tls, offered).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), taken);
        answer_over(&mut stream, "web.mesos");
    }
    // RFC 7301, section 3.2: no_application_protocol.
    let refused = secured.keys.connect(secured.tls, &["h2"]).unwrap_err();
    let refused = format!("{refused:#}");
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
}

#[test]
fn section_3_3_messages_are_as_large_as_over_tcp_and_answered_in_any_order() {
    needs_tool!("dig", "openssl");
    let upstream = Upstream::start(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
    let secured =
        Secured::start(Plan::with_a_huge_name().forwarding_to(&[upstream.address])).unwrap();
    let said = secured
        .ask("dig", secured.tls, &["+tls"], "huge.mesos", "A")
        .unwrap();
    assert!(
        said.contains("ANSWER: 3000") && !said.contains("flags: qr aa tc"),
        "{said}"
    );
    let mut stream = secured.keys.connect(secured.tls, &[]).unwrap();
    let mut three = framed(&query(1, "timeout.example.org"));
    three.extend(framed(&query(2, "web.mesos")));
    three.extend(framed(&query(3, "www.example.org")));
    stream.write_all(&three).unwrap();
    let mut ids = [0; 3];
    for id in &mut ids {
        *id = read_framed(&mut stream).unwrap()[1];
    }
    assert_eq!(
        (ids[0], ids[2]),
        (2, 1),
        "ours first, the silent upstream's last: {ids:?}"
    );
    let totals = secured.served.totals_encrypted(EncryptedProtocol::Tls);
    assert_eq!((totals.queries, totals.forwarded), (4, 2));
}

#[test]
fn who_may_not_ask_is_refused_over_tls_too() {
    needs_tool!("kdig", "openssl");
    let mut plan = Plan::with_a_huge_name();
    let nobody = vec!["192.0.2.0/24".parse().unwrap()];
    plan.settings.terms.guard = Arc::new(Guard::new(nobody, RateLimit::new(0, 1, 0)));
    let secured = Secured::start(plan).unwrap();
    let said = secured
        .ask("kdig", secured.tls, &["+tls"], "web.mesos", "A")
        .unwrap();
    assert!(said.contains("status: REFUSED"), "{said}");
}

/// The size of a response as dig prints it.
fn size(said: &str) -> usize {
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix(";; MSG SIZE  rcvd: "));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn rfc8467_4_1_a_padded_query_gets_a_response_of_a_multiple_of_468_octets() {
    needs_tool!("dig", "openssl");
    let secured = Secured::start(Plan::with_a_huge_name()).unwrap();
    let ask = |server, options: &[&str], name| {
        size(&secured.ask("dig", server, options, name, "A").unwrap())
    };
    for name in ["web.mesos", "nope.mesos"] {
        assert_eq!(ask(secured.tls, &["+tls", "+padding=128"], name), 468);
        assert_eq!(ask(secured.https, &["+https", "+padding=128"], name), 468);
    }
    let huge = ask(secured.tls, &["+tls", "+padding=128"], "huge.mesos");
    assert_eq!(huge % 468, 0);
    assert!(ask(secured.tls, &["+tls", "+padding=0"], "web.mesos") < 100);
    // Where others read along there is nothing to hide.
    let plain = secured.served.address();
    assert!(ask(plain, &["+tcp", "+padding=128"], "web.mesos") < 100);
}

#[test]
fn section_3_4_idle_connections_end_after_the_time_that_keepalive_tells() {
    needs_tool!("dig", "openssl");
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.idle = Duration::from_secs(2);
    let secured = Secured::start(plan).unwrap();
    let options = ["+tls", "+keepalive"];
    let said = secured
        .ask("dig", secured.tls, &options, "web.mesos", "A")
        .unwrap();
    assert!(said.contains("TCP KEEPALIVE: 2.0 secs"), "{said}");
    let mut stream = secured.keys.connect(secured.tls, &[]).unwrap();
    answer_over(&mut stream, "web.mesos");
    let open = time_to_close(&mut stream);
    assert!(open >= Duration::from_millis(1900), "{open:?}");
}

#[test]
fn clients_that_never_shake_hands_or_never_ask_are_let_go_and_hold_nobody() {
    needs_tool!("openssl");
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.first_query = Duration::from_secs(2);
    plan.settings.tcp.per_client = 300;
    let secured = Secured::start(plan).unwrap();
    for server in [secured.tls, secured.https] {
        let start = Instant::now();
        let silent: Vec<TcpStream> = (0..100)
            .map(|_| TcpStream::connect(server).unwrap())
            .collect();
        // The start of a record that announces 16 KiB and never goes on.
        let mut stuck: Vec<TcpStream> = (0..100)
            .map(|_| TcpStream::connect(server).unwrap())
            .collect();
        for stream in &mut stuck {
            stream.write_all(&[22, 3, 1, 0x40, 0, 1]).unwrap();
        }
        let handshaken = secured.keys.connect(server, &[]).unwrap();
        // Others do not notice.
        let mut other = secured.keys.connect(secured.tls, &[]).unwrap();
        answer_over(&mut other, "web.mesos");
        for mut stream in silent.into_iter().chain(stuck).chain([handshaken.sock]) {
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            time_to_close(&mut stream);
        }
        let took = start.elapsed();
        assert!(
            took >= Duration::from_millis(1900) && took < LIMIT,
            "{took:?}"
        );
    }
}

#[test]
fn connections_beyond_the_bound_of_a_client_are_closed() {
    needs_tool!("openssl");
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.per_client = 3;
    plan.settings.tcp.first_query = LIMIT;
    plan.settings.tcp.idle = LIMIT;
    let secured = Secured::start(plan).unwrap();
    let mut held: Vec<_> = (0..3)
        .map(|_| secured.keys.connect(secured.tls, &[]).unwrap())
        .collect();
    assert!(secured.keys.connect(secured.tls, &[]).is_err());
    for stream in &mut held {
        answer_over(stream, "web.mesos");
    }
    let totals = secured.served.totals_encrypted(EncryptedProtocol::Tls);
    assert_eq!((totals.connections, totals.turned_away), (3, 1));
    // Each transport has places of its own.
    secured.keys.connect(secured.https, &["h2"]).unwrap();
}
