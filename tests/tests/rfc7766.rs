//! RFC 7766, "DNS Transport over TCP", by section, and RFC 7828; and what slow, silent and greedy
//! clients do to the others: nothing.

#![expect(
    clippy::unwrap_used,
    reason = "what a test needs and does not get ends it"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use dns_userspace::{answers::Transport, commands::descriptors};
use tests::{
    needs, needs_tool,
    secured::{LIMIT, framed, query, read_framed},
    served::{Plan, Served},
    upstream::Upstream,
};

fn connect(server: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream
}

/// How long a new client waits for its answer.
fn time_to_answer(served: &Served) -> Duration {
    let start = Instant::now();
    let mut stream = connect(served.address());
    stream.write_all(&framed(&query(7, "web.mesos"))).unwrap();
    assert_eq!(read_framed(&mut stream).unwrap()[7], 1);
    start.elapsed()
}

/// Held by a test with many connections: the memory of the process is measured, which is all of
/// theirs together.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the process holds in memory, in KiB.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let mut words = line.unwrap().split_whitespace();
    words.nth(1).unwrap().parse().unwrap()
}

#[test]
fn section_6_2_1_1_a_slow_answer_does_not_hold_a_quick_one() {
    let upstream = Upstream::start(Ipv4Addr::new(198, 51, 100, 1)).unwrap();
    let served = Plan::with_a_huge_name()
        .forwarding_to(&[upstream.address])
        .start()
        .unwrap();
    let mut stream = connect(served.address());
    let mut both = framed(&query(1, "timeout.example.org"));
    both.extend(framed(&query(2, "web.mesos")));
    stream.write_all(&both).unwrap();
    let quick = read_framed(&mut stream).unwrap();
    assert_eq!((quick[1], quick[3] & 0xf), (2, 0), "the second comes first");
    let slow = read_framed(&mut stream).unwrap();
    assert_eq!((slow[1], slow[3] & 0xf), (1, 2), "SERVFAIL");
}

#[test]
fn section_8_a_response_and_its_length_are_whole_whatever_the_size() {
    let served = Plan::with_a_huge_name().start().unwrap();
    let mut stream = connect(served.address());
    for id in 0..8u16 {
        stream.write_all(&framed(&query(id, "huge.mesos"))).unwrap();
    }
    for id in 0..8u16 {
        let response = read_framed(&mut stream).unwrap();
        assert_eq!(response[..2], id.to_be_bytes());
        assert_eq!(response[6..8], 3000u16.to_be_bytes());
        assert!(response.len() > 48_000);
    }
}

#[test]
fn section_6_2_4_what_was_asked_before_the_client_closed_its_side_is_answered() {
    let served = Plan::with_a_huge_name().start().unwrap();
    let mut stream = connect(served.address());
    for id in 0..20u16 {
        stream.write_all(&framed(&query(id, "web.mesos"))).unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    for id in 0..20u16 {
        assert_eq!(read_framed(&mut stream).unwrap()[..2], id.to_be_bytes());
    }
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn rfc7828_3_1_the_idle_time_is_told_over_tcp_only() {
    needs_tool!("dig");
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.idle = Duration::from_secs(12);
    let served = plan.start().unwrap();
    let tcp = served.dig().option("+tcp").option("+keepalive");
    let told = tcp.ask("web.mesos", "A").unwrap().edns_options;
    assert_eq!(told, ["TCP KEEPALIVE: 12.0 secs"]);
    let udp = served.dig().option("+notcp").option("+keepalive");
    assert!(udp.ask("web.mesos", "A").unwrap().edns_options.is_empty());
    let unasked = served.dig().option("+tcp").ask("web.mesos", "A").unwrap();
    assert!(unasked.edns_options.is_empty());
}

/// How many connections there are, and who has them.
const CONNECTIONS: usize = 10_000;
const SERVER: &str = "MESOS_XDNS_TEST_IDLE_SERVER";

#[test]
fn ten_thousand_idle_connections_do_no_harm() {
    let _alone = alone();
    // The other ends are in another process, which has a limit of its own.
    let limit = descriptors::raise_limit().unwrap();
    let wanted = CONNECTIONS as u64 + 200;
    needs!(
        limit >= wanted,
        format!("needs {wanted} file descriptors of {limit}")
    );
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.connections = CONNECTIONS + 100;
    plan.settings.tcp.per_client = CONNECTIONS + 100;
    plan.settings.tcp.idle = Duration::from_secs(600);
    plan.settings.tcp.first_query = Duration::from_secs(600);
    let served = plan.start().unwrap();
    time_to_answer(&served);
    let before = resident();
    let mut clients = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "clients_of_the_test_with_ten_thousand",
            "--nocapture",
        ])
        .env(SERVER, served.address().to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(clients.stdout.take().unwrap()).lines();
    let is_ready = said.any(|line| line.unwrap().contains("all are connected"));
    assert!(is_ready, "the clients ended early");
    let deadline = Instant::now() + LIMIT;
    while served.totals(Transport::Tcp).connections <= CONNECTIONS as u64 {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 10 * CONNECTIONS as u64, "{grown} KiB for all");
    let waited = time_to_answer(&served);
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    // UDP does not know of them.
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    udp.set_read_timeout(Some(LIMIT)).unwrap();
    udp.send_to(&query(9, "web.mesos"), served.address())
        .unwrap();
    assert!(udp.recv(&mut [0; 512]).is_ok());
    assert_eq!(served.totals(Transport::Tcp).turned_away, 0);
    // The end of its input ends the other process.
    drop(clients.stdin.take());
    assert!(clients.wait().unwrap().success());
}

/// Nothing by itself: the other process of the test above.
#[test]
fn clients_of_the_test_with_ten_thousand() {
    let Ok(server) = env::var(SERVER) else {
        return;
    };
    let server = server.parse().unwrap();
    descriptors::raise_limit().unwrap();
    let mut idle: Vec<TcpStream> = Vec::with_capacity(CONNECTIONS);
    for number in 0..CONNECTIONS {
        let mut stream = connect(server);
        // A tenth has asked once, a tenth is in the middle of a query.
        match number % 10 {
            0 => stream.write_all(&framed(&query(1, "web.mesos"))).unwrap(),
            1 => stream.write_all(&[0, 27, 1]).unwrap(),
            _ => {}
        }
        idle.push(stream);
    }
    for stream in idle.iter_mut().step_by(10) {
        assert_eq!(read_framed(stream).unwrap()[7], 1);
    }
    println!("all are connected");
    let _ = std::io::stdin().read(&mut [0; 1]);
}

#[test]
fn writers_of_an_octet_a_second_are_let_go_and_hold_nobody() {
    let _alone = alone();
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.first_query = Duration::from_secs(2);
    let served = plan.start().unwrap();
    let mut slow: Vec<TcpStream> = (0..100).map(|_| connect(served.address())).collect();
    // They announce the largest message there is, and never get there.
    let start = Instant::now();
    let mut left = slow.len();
    let mut octet = 0xffu8;
    while left > 0 {
        assert!(start.elapsed() < LIMIT, "{left} are still there");
        slow.retain_mut(|stream| stream.write_all(&[octet]).is_ok());
        left = slow.len();
        octet = 1;
        let waited = time_to_answer(&served);
        assert!(waited < Duration::from_secs(5), "{waited:?}");
        // The next octet comes when its second is over: the pace is what is tested.
        std::thread::sleep(Duration::from_secs(1));
    }
    assert!(start.elapsed() >= Duration::from_secs(2));
}

/// Keeps the kernel from reading ahead for a client that does not read.
fn bound_receive_buffer(stream: &TcpStream) {
    let octets: libc::c_int = 16 * 1024;
    // SAFETY: the value is an int of the stated length that outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            std::ptr::from_ref(&octets).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn readers_that_never_read_are_let_go_and_bound_what_is_held() {
    let _alone = alone();
    let mut plan = Plan::with_a_huge_name();
    plan.settings.tcp.write = Duration::from_secs(1);
    let served = plan.start().unwrap();
    time_to_answer(&served);
    let before = resident();
    let mut greedy: Vec<TcpStream> = (0..100).map(|_| connect(served.address())).collect();
    let mut asked = framed(&query(1, "huge.mesos"));
    asked = asked.repeat(200);
    for stream in &mut greedy {
        bound_receive_buffer(stream);
        stream.set_nonblocking(true).unwrap();
        // As much as the server takes in: 200 times 48 kB each, if it let itself.
        match stream.write_all(&asked) {
            Ok(()) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    let mut worst = Duration::ZERO;
    let start = Instant::now();
    let mut most = 0;
    // Five times as long as they have.
    while start.elapsed() < Duration::from_secs(5) {
        worst = worst.max(time_to_answer(&served));
        most = most.max(resident().saturating_sub(before));
    }
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    // 128 KiB for each, and the allocator's waste.
    assert!(most < 100 * 256 + 20_000, "{most} KiB");
    // All of them are closed in the end.
    for stream in &mut greedy {
        stream.set_nonblocking(false).unwrap();
        let mut sink = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            match stream.read(&mut sink) {
                Ok(0) | Err(_) => break,
                Ok(octets) => total += octets,
            }
        }
        assert!(total < 200 * 48_000, "not all of it");
    }
}
