//! The same zone served by NSD and by us: what both say to every name and type must agree.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    time::Duration,
};

use dns_userspace::answers::Transport;
use hickory_proto::{
    op::Message,
    rr::{Record, RecordType},
    serialize::binary::BinDecodable,
};
use tests::{
    needs_tool,
    port::free_port,
    process::Process,
    served::{Plan, SERIAL, zone},
};

const CONTENT: &[&str] = &[
    "ns1.mesos A 10.0.0.53",
    "web.marathon.mesos A 10.0.0.1",
    "web.marathon.mesos A 10.0.0.2",
    "web.marathon.mesos AAAA fd00::1",
    "_web._tcp.marathon.mesos SRV 0 1 31000 web.marathon.mesos",
    "_web._tcp.marathon.mesos SRV 0 1 31001 elsewhere.example",
    "alias.mesos CNAME web.marathon.mesos",
    "chain.mesos CNAME alias.mesos",
    "away.mesos CNAME www.example.com",
    "dangling.mesos CNAME nope.mesos",
    "nodata.mesos CNAME marathon.mesos",
    "to-cut.mesos CNAME host.cut.mesos",
    "cut.mesos NS ns.cut.mesos",
    "cut.mesos NS ns1.mesos",
    "ns.cut.mesos A 192.0.2.53",
    "host.cut.mesos A 192.0.2.1",
    "moved.mesos DNAME marathon.mesos",
    "text.mesos TXT hello",
    "*.wild.mesos A 192.0.2.7",
    "*.alias.wild.mesos CNAME web.marathon.mesos",
    "host.wild.mesos TXT here",
];

const NAMES: &[&str] = &[
    "mesos",
    "ns1.mesos",
    "marathon.mesos",
    "web.marathon.mesos",
    "WEB.Marathon.mesos",
    "below.web.marathon.mesos",
    "_tcp.marathon.mesos",
    "_web._tcp.marathon.mesos",
    "alias.mesos",
    "chain.mesos",
    "away.mesos",
    "dangling.mesos",
    "nodata.mesos",
    "to-cut.mesos",
    "cut.mesos",
    "ns.cut.mesos",
    "host.cut.mesos",
    "any.thing.cut.mesos",
    "moved.mesos",
    "web.moved.mesos",
    "nope.moved.mesos",
    "text.mesos",
    "wild.mesos",
    "a.wild.mesos",
    "a.b.wild.mesos",
    "*.wild.mesos",
    "host.wild.mesos",
    "a.host.wild.mesos",
    "x.alias.wild.mesos",
    "nope.mesos",
    "a.b.c.nope.mesos",
    "example.org",
];

const TYPES: &[&str] = &[
    "A", "AAAA", "SRV", "TXT", "NS", "SOA", "CNAME", "DNAME", "DS", "MX",
];

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start_nsd(folder: &Folder, port: u16) -> Process {
    let path = folder.0.display();
    let mut text = format!(
        "mesos. 60 IN SOA ns1.mesos. root.ns1.mesos. {} 60 600 86400 60\n\
         mesos. 60 IN NS ns1.mesos.\n",
        SERIAL + 1
    );
    for line in CONTENT {
        let words: Vec<&str> = line.split(' ').collect();
        let mut data: Vec<String> = words[2..].iter().map(|word| (*word).to_owned()).collect();
        if matches!(words[1], "NS" | "CNAME" | "DNAME" | "SRV") {
            data.last_mut().unwrap().push('.');
        }
        text += &format!("{}. 60 IN {} {}\n", words[0], words[1], data.join(" "));
    }
    fs::write(folder.0.join("mesos.zone"), text).unwrap();
    let configuration = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{path}\"\n  \
         database: \"\"\n  pidfile: \"{path}/nsd.pid\"\n  xfrdfile: \"{path}/xfrd\"\n  zonelistfile: \"{path}/zones\"\n  \
         server-count: 1\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: mesos\n  zonefile: mesos.zone\n"
    );
    let file = folder.0.join("nsd.conf");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(file);
    let mut nsd = Process::start("nsd", &mut command).unwrap();
    nsd.wait_for("nsd started", Duration::from_secs(20))
        .unwrap();
    nsd
}

/// Asks without RD and EDNS; an independent reader takes the response apart.
fn ask(server: SocketAddr, name: &str, rtype: &str) -> Message {
    let mut query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in name.split('.') {
        query.push(label.len() as u8);
        query.extend_from_slice(label.as_bytes());
    }
    query.push(0);
    query.extend_from_slice(&u16::from(rtype.parse::<RecordType>().unwrap()).to_be_bytes());
    query.extend_from_slice(&[0, 1]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket.send(&query).unwrap();
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer).unwrap();
    Message::from_bytes(&buffer[..len]).unwrap()
}

/// Records without their order, and names without their letter case.
fn normal(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|record| record.to_string().to_ascii_lowercase())
        .collect();
    lines.sort();
    lines
}

/// The part of the authority section that says something: NSD adds the NS of the zone to positive
/// answers, which RFC 1034 permits and nobody needs.
fn authority(message: &Message) -> Vec<String> {
    let lines = normal(&message.authorities);
    let is_said = |line: &String| !line.starts_with("mesos. 60 in ns ");
    lines.into_iter().filter(is_said).collect()
}

#[test]
fn every_name_and_type_is_answered_as_nsd_does() {
    needs_tool!("nsd");
    let folder = Folder(std::env::temp_dir().join(format!("same-as-nsd-{}", std::process::id())));
    fs::create_dir_all(&folder.0).unwrap();
    let port = free_port();
    let _nsd = start_nsd(&folder, port);
    let mut plan = Plan::mesos(&[]);
    let mut ours = zone("mesos");
    // The quirks of mesos-dns are not NSD's.
    ours.unknown_srv_is_nodata = false;
    ours.ignores_stars = false;
    ours.expands_wildcards = true;
    plan.zones = vec![(
        ours,
        CONTENT.iter().map(|line| (*line).to_owned()).collect(),
    )];
    let fast = plan.clone().start().unwrap();
    plan.fast_path = None;
    let slow = plan.start().unwrap();
    let nsd = SocketAddr::from(([127, 0, 0, 1], port));
    let mut differences = Vec::new();
    let mut answered = 0;
    for name in NAMES {
        for rtype in TYPES {
            let theirs = ask(nsd, name, rtype);
            answered += usize::from(!theirs.answers.is_empty());
            for (path, served) in [("fast", &fast), ("slow", &slow)] {
                let ours = ask(served.address(), name, rtype);
                let same = theirs.metadata.response_code == ours.metadata.response_code
                    && theirs.metadata.authoritative == ours.metadata.authoritative
                    && normal(&theirs.answers) == normal(&ours.answers)
                    && authority(&theirs) == authority(&ours);
                if !same {
                    differences.push(format!("{name} {rtype}\n  NSD {theirs}\n  {path} {ours}"));
                }
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(fast.totals(Transport::Udp).fast > 60);
    assert_eq!(slow.totals(Transport::Udp).fast, 0);
    assert!(answered > 60, "NSD did not serve the zone: {answered}");
}
