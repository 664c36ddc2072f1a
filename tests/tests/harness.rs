//! The harness itself: namespaces, the cable between them, and the programs at its ends.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    process::Command,
    time::Duration,
};

use tests::{
    cable::{self, Cable},
    needs_root, needs_tool,
    netns::Netns,
    process::Process,
    xdp,
};

#[test]
fn a_namespace_vanishes_with_its_value() {
    needs_root!();
    needs_tool!("ip", "nsenter");
    let namespace = Netns::new("gone").unwrap();
    let path = namespace.path();
    assert!(path.exists());
    let links = namespace
        .command("ip")
        .args(["-brief", "link"])
        .output()
        .unwrap();
    let links = String::from_utf8(links.stdout).unwrap();
    assert_eq!(links.lines().count(), 1, "only loopback: {links}");
    drop(namespace);
    assert!(!path.exists());
}

#[test]
fn what_the_reflector_turns_round_reaches_a_socket_at_the_other_end() {
    needs_root!();
    needs_tool!("ip");
    let cable = Cable::new().unwrap();
    let _reflect = cable
        .server
        .enter(|| xdp::reflect().attach(cable::INTERFACE))
        .unwrap();
    let socket = cable
        .client
        .enter(|| Ok(UdpSocket::bind("192.0.2.1:0")?))
        .unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let target = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2), 53));
    let query = *b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x05mesos\0\0\x01\0\x01";
    let mut expected = query;
    expected[2] |= 0x80;
    // More than a veth ring of 256 frames: a stuck ring would show.
    for _ in 0..600 {
        socket.send_to(&query, target).unwrap();
        let mut reply = [0; 512];
        let (length, from) = socket.recv_from(&mut reply).unwrap();
        assert_eq!(from, target);
        assert_eq!(reply[..length], expected);
    }
}

#[test]
fn a_process_can_be_waited_for_and_ends_with_its_value() {
    let mut command = Command::new("sh");
    command.args(["-c", "echo ready >&2; exec sleep 1000"]);
    let mut process = Process::start("a sleeper", &mut command).unwrap();
    let line = process.wait_for("ready", Duration::from_secs(10)).unwrap();
    assert_eq!(line, "ready");
    assert!(process.exited().is_none());
    let status = process.stop().unwrap();
    assert!(!status.success());
    let error = process
        .wait_for("never", Duration::from_secs(10))
        .unwrap_err();
    assert!(error.to_string().contains("ready"), "{error}");
}

#[test]
fn the_document_of_a_made_up_cluster_is_read_without_a_defect() {
    let body = testbed::cluster_state::cluster_state(1000, 50);
    let (state, defects) = dns_userspace::mesos::parse(&body).unwrap();
    assert!(defects.is_empty(), "{defects}");
    assert_eq!(state.agents.len(), 50);
    let running: usize = state.frameworks.iter().map(|one| one.tasks.len()).sum();
    assert_eq!(running, 870);
    assert!((900..1300).contains(&(body.len() / 1000)), "{}", body.len());
}
