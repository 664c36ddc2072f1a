//! Zones kept from a primary that does what primaries do when they are set up anew, or are gone.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tracing_subscriber::fmt::MakeWriter;

use super::super::store::tests::Folder;
use super::super::wire::{Message, flags, set_u16};
use super::*;
use crate::zones::Snapshot;

/// How long anything that must happen may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn apex() -> Name {
    Name::from_text("example.org").unwrap()
}

/// The response to a query: the SOA with this serial, and once more if a whole zone is asked for.
/// Refresh and retry are a second.
fn response(query: &[u8], serial: u32, expire: u32) -> Vec<u8> {
    let message = Message::read(query).unwrap();
    let (_, rtype, _) = message.question.unwrap();
    let count = if rtype == Rtype::SOA { 1 } else { 2 };
    let question = [apex().wire(), &rtype.0.to_be_bytes(), &[0, 1]].concat();
    let mut out = query[..12].to_vec();
    set_u16(&mut out, 2, flags::QR | flags::AA);
    set_u16(&mut out, 6, count);
    set_u16(&mut out, 8, 0);
    out.extend_from_slice(&question);
    for _ in 0..count {
        // The SOA: owner, type, class, TTL, length; both names are the root.
        out.extend_from_slice(b"\xc0\x0c\0\x06\0\x01\0\0\0\x3c\0\x16\0\0");
        for number in [serial, 1, 1, expire, 60] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }
    out
}

/// A primary without content but the SOA; it is gone when this is dropped.
struct Primary {
    address: SocketAddr,
    serial: Arc<AtomicU32>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl Primary {
    async fn start(expire: u32) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = tcp.local_addr().unwrap();
        let udp = UdpSocket::bind(address).await.unwrap();
        let serial = Arc::new(AtomicU32::new(5));
        let now = Arc::clone(&serial);
        let datagrams = async move {
            let mut buffer = [0; 512];
            loop {
                let (len, from) = udp.recv_from(&mut buffer).await.unwrap();
                let response = response(&buffer[..len], now.load(Ordering::Relaxed), expire);
                udp.send_to(&response, from).await.unwrap();
            }
        };
        let now = Arc::clone(&serial);
        let streams = async move {
            loop {
                let (mut stream, _) = tcp.accept().await.unwrap();
                let len = stream.read_u16().await.unwrap();
                let mut query = vec![0; len.into()];
                stream.read_exact(&mut query).await.unwrap();
                let response = response(&query, now.load(Ordering::Relaxed), expire);
                stream.write_u16(response.len() as u16).await.unwrap();
                stream.write_all(&response).await.unwrap();
            }
        };
        Self {
            address,
            serial,
            _tasks: [
                AbortOnDropHandle::new(tokio::spawn(datagrams)),
                AbortOnDropHandle::new(tokio::spawn(streams)),
            ],
        }
    }
}

/// What is logged by this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Log {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

impl Log {
    fn lines(&self, text: &str) -> Vec<String> {
        let log = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = log.lines().filter(|line| line.contains(text));
        lines.map(str::to_owned).collect()
    }
}

/// A zone that is kept, with whatever comes taken in.
struct Scene {
    health: Arc<Mutex<Health>>,
    versions: Arc<Versions>,
    _taking: AbortOnDropHandle<()>,
    _folder: Folder,
}

impl Scene {
    fn start(primaries: &[&Primary]) -> Self {
        let folder = Folder::new();
        let zone = Zone {
            apex: apex(),
            primaries: primaries.iter().map(|one| one.address).collect(),
            key: None,
            source: None,
            timeout: LIMIT,
        };
        let versions = Arc::new(Versions::open(folder.path(), 100));
        let served = Arc::new(Served::new(Arc::new(Snapshot::empty(1))));
        let mut kept = Secondaries::start(vec![zone], folder.path(), &served, &versions);
        let (_, health) = kept.health().pop().unwrap();
        let taking = async move {
            // All of it, for the tasks end with it.
            let kept = &mut kept;
            while let Some(taken) = kept.taken.recv().await {
                taken.done.send(Ok(())).unwrap();
            }
        };
        Self {
            health,
            versions,
            _taking: AbortOnDropHandle::new(tokio::spawn(taking)),
            _folder: folder,
        }
    }

    fn serial(&self) -> Option<u32> {
        self.health.lock().unwrap().serial
    }

    fn is_expired(&self) -> bool {
        self.health.lock().unwrap().expired
    }

    fn refreshes(&self) -> u64 {
        self.versions.counters.refreshes.load(Ordering::Relaxed)
    }
}

async fn wait_until(good: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !good() {
        assert!(Instant::now() < deadline, "not in time");
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn rfc1982_a_serial_that_goes_back_is_told_once_and_not_taken() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone());
    let _guard = tracing::subscriber::set_default(subscriber.with_ansi(false).finish());
    let primary = Primary::start(3600).await;
    let scene = Scene::start(&[&primary]);
    wait_until(|| scene.serial() == Some(5)).await;
    for (serial, told) in [(3, 1), (2, 2)] {
        primary.serial.store(serial, Ordering::Relaxed);
        let before = scene.refreshes();
        wait_until(|| scene.refreshes() > before + 2).await;
        let lines = log.lines("WARN");
        assert_eq!(lines.len(), told, "{lines:?}");
        let expected = format!("theirs={serial} held=5");
        let last = lines.last().unwrap();
        assert!(
            last.contains(&expected) && last.contains("example.org"),
            "{last}"
        );
        assert_eq!(scene.serial(), Some(5));
    }
    primary.serial.store(6, Ordering::Relaxed);
    wait_until(|| scene.serial() == Some(6)).await;
}

#[tokio::test]
async fn rfc1034_4_3_5_a_zone_without_primary_expires() {
    let primary = Primary::start(2).await;
    let scene = Scene::start(&[&primary]);
    wait_until(|| scene.serial() == Some(5)).await;
    assert!(!scene.is_expired());
    drop(primary);
    wait_until(|| scene.is_expired()).await;
    assert_eq!(scene.serial(), None);
}

#[tokio::test]
async fn a_primary_that_went_back_does_not_hide_another_that_is_ahead() {
    let [first, second] = [Primary::start(3600).await, Primary::start(3600).await];
    let scene = Scene::start(&[&first, &second]);
    wait_until(|| scene.serial() == Some(5)).await;
    first.serial.store(3, Ordering::Relaxed);
    second.serial.store(6, Ordering::Relaxed);
    wait_until(|| scene.serial() == Some(6)).await;
    let primary = scene.health.lock().unwrap().primary;
    assert_eq!(primary, Some(second.address));
}
