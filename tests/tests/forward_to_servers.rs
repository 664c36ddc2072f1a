//! Real servers as upstreams: what we hand out, first and again from the cache, is what they say
//! themselves, to a DNSSEC client, to one that checks for itself, and to others.
//!
//! NSD has a signed zone in which one signature is broken. Unbound and BIND resolve from it and
//! validate. The order of queries is such that a reply kept for the wrong kind of client would show.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fmt::Write,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use hickory_proto::rr::Record;
use tests::{
    how_to::{Files, files},
    name_server, needs_root, needs_tool,
    netns::Netns,
    network::Network,
    process::Process,
    served::{Plan, Served},
    wire::{self, AUTHENTIC_DATA, CHECKING_DISABLED, DNSSEC_OK, Query, Reply},
};

const NSD: &str = "192.0.2.2";
const UNBOUND: &str = "192.0.2.3";
const BIND: &str = "192.0.2.4";
const OURS: &str = "192.0.2.1";

/// Flags that a forwarder has no part in: RD, RA, AD, CD and TC.
const PASSED: u16 = 0x03b0;

fn at(address: &str) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), 53)
}

fn run(folder: &Path, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Writes the zone `signed.test` into a folder; gives the DNSKEY record that is to be trusted.
fn sign(folder: &Path) -> String {
    let mut zone = "$TTL 600\n\
        @ SOA ns root 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.2\n\
        www A 198.51.100.1\nwww A 198.51.100.2\nwww AAAA 2001:db8::1\n\
        alias CNAME www\naway CNAME nowhere\nbogus A 198.51.100.66\n\
        *.wild A 198.51.100.7\nmail MX 10 www\nodd TYPE65400 \\# 3 010203\n"
        .to_owned();
    for n in 0..40 {
        writeln!(zone, "large TXT \"{n:0>60}\"").unwrap();
    }
    fs::write(folder.join("plain"), zone).unwrap();
    let keygen = ["-q", "-a", "ECDSAP256SHA256", "-n", "ZONE"];
    let zone = ["signed.test"];
    run(folder, "dnssec-keygen", &[&keygen[..], &zone].concat());
    let trusted = run(
        folder,
        "dnssec-keygen",
        &[&keygen[..], &["-f", "KSK"], &zone].concat(),
    );
    run(
        folder,
        "dnssec-signzone",
        &[
            "-S",
            "-O",
            "full",
            "-o",
            "signed.test",
            "-f",
            "zone",
            "plain",
        ],
    );
    // The signature stays, and what it was made for goes.
    let signed = fs::read_to_string(folder.join("zone")).unwrap();
    let broken = signed.replace("198.51.100.66", "198.51.100.99");
    assert_ne!(signed, broken);
    fs::write(folder.join("zone"), broken).unwrap();
    let key = folder.join(format!("{}.key", trusted.trim()));
    let lines = fs::read_to_string(key).unwrap();
    let key = lines.lines().find(|line| !line.starts_with(';')).unwrap();
    key.to_owned()
}

fn start_nsd(host: &Netns, folder: &Path) -> Process {
    let path = folder.display();
    let text = format!(
        "server:\n  ip-address: {NSD}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{path}\"\n  \
         database: \"\"\n  pidfile: \"{path}/nsd.pid\"\n  xfrdfile: \"{path}/xfrd\"\n  \
         zonelistfile: \"{path}/zones\"\n  server-count: 1\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: signed.test\n  zonefile: zone\n"
    );
    let file = folder.join("nsd.conf");
    fs::write(&file, text).unwrap();
    let mut command = host.command("nsd");
    command.arg("-d").arg("-c").arg(file);
    let mut nsd = Process::start("nsd", &mut command).unwrap();
    nsd.wait_for("nsd started", Duration::from_secs(30))
        .unwrap();
    nsd
}

/// One file, as a document would show it.
fn file(path: &str, content: &str) -> Files {
    let document = format!("# One\n\n`{path}`:\n\n```\n{content}\n```\n");
    files(&document, "One").unwrap()
}

fn unbound_files(trusted: &str) -> Files {
    file(
        "/etc/unbound/unbound.conf.d/forwarding.conf",
        &format!(
            "server:\n  interface: {UNBOUND}\n  access-control: 192.0.2.0/24 allow\n  \
             module-config: \"validator iterator\"\n  trust-anchor: \"{trusted}\"\n  \
             local-zone: \"test.\" nodefault\n  minimal-responses: yes\n  rrset-roundrobin: no\n\
             stub-zone:\n  name: \"signed.test\"\n  stub-addr: {NSD}"
        ),
    )
}

fn bind_files(trusted: &str) -> Files {
    let words: Vec<&str> = trusted.split_whitespace().collect();
    // Owner, class, type, flags, protocol, algorithm, and the key in several words.
    let at = words.iter().position(|word| *word == "DNSKEY").unwrap();
    let (numbers, key) = (words[at + 1..at + 4].join(" "), words[at + 4..].concat());
    file(
        "/etc/bind/named.conf",
        &format!(
            "options {{ directory \"/var/cache/bind\"; listen-on {{ {BIND}; }}; \
             listen-on-v6 {{ none; }}; allow-query {{ any; }}; allow-recursion {{ any; }}; \
             dnssec-validation yes; minimal-responses yes; empty-zones-enable no; }};\n\
             trust-anchors {{ signed.test. static-key {numbers} \"{key}\"; }};\n\
             zone \"signed.test\" {{ type static-stub; server-addresses {{ {NSD}; }}; }};"
        ),
    )
}

fn serve(host: &Netns, upstream: &str) -> Served {
    let upstream = at(upstream);
    let start = || {
        let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream]);
        plan.settings.listen = vec![at(OURS)];
        plan.upstreams.as_mut().unwrap().timeout = Duration::from_secs(10);
        plan.start()
    };
    host.enter(start).unwrap()
}

/// Records without their order and TTL, their names folded.
fn content(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|one| {
            let data = one.data.to_string();
            // Each name that a wildcard stands for has the same signature but not the same owner.
            format!("{} {} {data}", one.name.to_lowercase(), one.record_type())
        })
        .collect();
    lines.sort();
    lines
}

/// Which kind of client asks.
fn kinds() -> Vec<(&'static str, u16, Option<u16>)> {
    vec![
        ("plain", 0, None),
        ("checks for itself", CHECKING_DISABLED, Some(DNSSEC_OK)),
        ("with EDNS", 0, Some(0)),
        ("CD alone", CHECKING_DISABLED, None),
        ("understands AD", AUTHENTIC_DATA, None),
        ("DNSSEC", 0, Some(DNSSEC_OK)),
    ]
}

const QUESTIONS: &[(&str, &str)] = &[
    ("bogus.signed.test", "A"),
    ("www.signed.test", "A"),
    ("WWW.signed.test", "AAAA"),
    ("www.signed.test", "TXT"),
    ("nope.signed.test", "A"),
    ("alias.signed.test", "A"),
    ("away.signed.test", "A"),
    ("Any.Wild.signed.test", "A"),
    ("mail.signed.test", "MX"),
    ("odd.signed.test", "TYPE65400"),
    ("large.signed.test", "TXT"),
    ("signed.test", "SOA"),
    ("signed.test", "DNSKEY"),
];

/// Asks the upstream over TCP, and us over UDP, which fills the cache, then over TCP.
fn same(client: &Netns, upstream: &str, differs: impl Fn(&Reply, &Reply) -> Vec<String>) {
    let mut wrong = Vec::new();
    let mut asked = 0;
    for round in 0..2 {
        for (name, rtype) in QUESTIONS {
            for (kind, flags, edns) in kinds() {
                let mut query = Query::new(0x1234, name, rtype).unwrap();
                query.flags |= flags;
                if let Some(flags) = edns {
                    query = query.edns(flags, &[]);
                }
                let (theirs, small, ours) = client
                    .enter(|| {
                        Ok((
                            wire::ask_over_tcp(at(upstream), &query)?,
                            wire::ask(at(OURS), &query)?,
                            wire::ask_over_tcp(at(OURS), &query)?,
                        ))
                    })
                    .unwrap();
                asked += 1;
                let mut found = differs(&theirs, &ours);
                if small.flags() & 0x0200 == 0 {
                    found.extend(differs(&theirs, &small));
                }
                if (small.octets.len() > 512 && edns.is_none()) || small.octets.len() > 1232 {
                    found.push(format!("{} octets", small.octets.len()));
                }
                if !found.is_empty() {
                    wrong.push(format!(
                        "{round} {kind} {name} {rtype}: {}",
                        found.join("; ")
                    ));
                }
            }
        }
    }
    assert_eq!(asked, 2 * QUESTIONS.len() * kinds().len());
    assert!(wrong.is_empty(), "{upstream}:\n{}", wrong.join("\n"));
}

/// What a client would see of a difference.
fn difference(theirs: &Reply, ours: &Reply) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, theirs: String, ours: String| {
        if theirs != ours {
            found.push(format!("{what} {theirs} there, {ours} here"));
        }
    };
    compare("code", theirs.rcode().to_string(), ours.rcode().to_string());
    let flags = |reply: &Reply| format!("{:#06x}", reply.flags() & PASSED);
    compare("flags", flags(theirs), flags(ours));
    let edns = |reply: &Reply| {
        format!(
            "{:?}",
            reply.message.edns.as_ref().map(|one| one.flags().dnssec_ok)
        )
    };
    compare("EDNS", edns(theirs), edns(ours));
    let (theirs, ours) = (&theirs.message, &ours.message);
    for (section, theirs, ours) in [
        ("answer", &theirs.answers, &ours.answers),
        ("authority", &theirs.authorities, &ours.authorities),
    ] {
        let text = |records: &[Record]| format!("{:?}", content(records));
        compare(section, text(theirs), text(ours));
        if ours.iter().any(|one| one.ttl == 0 || one.ttl > 3_600) {
            found_ttl(&mut compare, ours);
        }
    }
    found
}

fn found_ttl(compare: &mut impl FnMut(&str, String, String), ours: &[Record]) {
    let ttls: Vec<u32> = ours.iter().map(|one| one.ttl).collect();
    compare("TTLs", "1 to 3600".into(), format!("{ttls:?}"));
}

/// Waits until a server validates, as that is what the comparison is about.
fn until_it_validates(client: &Netns, server: &str) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let query = Query::new(1, "www.signed.test", "A").unwrap();
    let query = query.edns(DNSSEC_OK, &[]);
    loop {
        let reply = client.enter(|| wire::ask_over_tcp(at(server), &query));
        if reply.is_ok_and(|reply| reply.flags() & AUTHENTIC_DATA != 0) {
            return;
        }
        assert!(Instant::now() < deadline, "{server} does not validate");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn what_is_handed_on_is_what_real_servers_say() {
    needs_root!();
    needs_tool!(
        "dnssec-keygen",
        "dnssec-signzone",
        "ip",
        "named",
        "nsd",
        "nsenter",
        "unbound",
        "unshare",
    );
    let mut network = Network::new().unwrap();
    let [our_host, nsd_host, unbound_host, bind_host] = [
        ("ours", OURS),
        ("nsd", NSD),
        ("unbound", UNBOUND),
        ("bind", BIND),
    ]
    .map(|(name, address)| network.host(name, address).unwrap());
    // Empty, and gone with its value.
    let place = file("/keep", "");
    let folder = place.at("/zone").unwrap();
    fs::create_dir_all(&folder).unwrap();
    let trusted = sign(&folder);
    let _nsd = start_nsd(&nsd_host, &folder);
    let client = network.client();

    let unbound = name_server::unbound(&unbound_host, unbound_files(&trusted)).unwrap();
    until_it_validates(client, UNBOUND);
    let mut served = serve(&our_host, UNBOUND);
    same(client, UNBOUND, difference);
    let hits = served.forwarder().totals.hits;
    let expected = 3 * QUESTIONS.len() * kinds().len();
    assert!(hits as usize >= expected / 2, "{hits} of {expected}");
    // A socket that is still open would get some of the next queries.
    served.shut_down();
    drop(unbound);

    let bind = name_server::bind(&bind_host, bind_files(&trusted)).unwrap();
    until_it_validates(client, BIND);
    let mut served = serve(&our_host, BIND);
    same(client, BIND, difference);
    served.shut_down();
    drop(bind);

    // NSD is an authority, and need not copy CD; towards a client we must (RFC 4035, section 3.2.2).
    let _served = serve(&our_host, NSD);
    same(client, NSD, |theirs, ours| {
        let mut theirs = theirs.clone();
        theirs.octets[3] |= ours.octets[3] & 0x10;
        difference(&theirs, ours)
    });
}

/// An address comes to this host after the start: the upstream is ourselves, and nothing loops.
#[test]
fn an_upstream_that_becomes_this_host_is_not_asked() {
    needs_root!();
    needs_tool!("ip", "nsenter");
    let mut network = Network::new().unwrap();
    let host = network.host("ours", OURS).unwrap();
    let upstream = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 53), 53));
    let start = || {
        let mut plan = Plan::mesos(&[]).forwarding_to(&[upstream]);
        plan.settings.listen = vec!["0.0.0.0:53".parse()?];
        plan.listening = plan.settings.listen.clone();
        plan.upstreams.as_mut().unwrap().timeout = Duration::from_secs(5);
        plan.start()
    };
    let served = host.enter(start).unwrap();
    host.ip("address add 198.51.100.53/32 dev lo").unwrap();
    let query = Query::new(1, "www.example", "A").unwrap();
    let query = query.edns(0, &[]);
    let start = Instant::now();
    let ask = || wire::ask(at(OURS), &query);
    let reply = network.client().enter(ask).unwrap();
    assert_eq!(reply.rcode(), 2);
    // RFC 8914, section 4.24: network error. At once, not after a timeout.
    assert_eq!(reply.extended_error(), Some(23));
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(served.forwarder().totals.misses, 1);
}
