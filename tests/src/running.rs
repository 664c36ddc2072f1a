//! The daemon within the process of the test, on loopback: nothing is needed to run it, and its
//! configuration can be read again.

use std::{
    collections::BTreeSet,
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use dns_userspace::{
    config::{self, Surroundings},
    daemon::{self, Setup},
};
use hickory_proto::{
    op::{Message, Query, ResponseCode},
    rr::{Name, RData, RecordType},
    serialize::binary::BinDecodable,
};
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

/// How long anything that must happen may take on a busy machine.
pub const LIMIT: Duration = Duration::from_secs(30);

/// A running daemon; ends when dropped.
pub struct Running {
    file: PathBuf,
    reloads: mpsc::Sender<()>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Running {
    /// Starts with this configuration, which names its ports.
    ///
    /// # Errors
    ///
    /// The configuration cannot be written or is refused.
    pub fn start(config: &Value) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mesos-xdns-running-{}-{number}.json", std::process::id());
        let file = env::temp_dir().join(name);
        fs::write(&file, config.to_string())?;
        let path = file.clone();
        let load = move || {
            let surroundings = Surroundings::default();
            let config = config::load(&path, &surroundings)?.config;
            Ok(Setup {
                config,
                surroundings,
            })
        };
        let setup = load()?;
        let (reloads, wishes) = mpsc::channel(1);
        let (end, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("daemon".to_owned())
            .spawn(move || {
                let end = async {
                    let _ = ended.await;
                };
                tokio::runtime::Runtime::new()?.block_on(daemon::run(setup, load, wishes, end))
            })?;
        Ok(Self {
            file,
            reloads,
            end: Some(end),
            thread: Some(thread),
        })
    }

    /// Has it read this in place of its configuration, as SIGHUP does.
    ///
    /// # Errors
    ///
    /// The file cannot be written, or the daemon has ended.
    pub fn reload(&self, text: &str) -> Result<()> {
        fs::write(&self.file, text)?;
        self.reloads
            .blocking_send(())
            .context("the daemon has ended")
    }

    /// Asks it to end, as SIGTERM does; [`Self::ended`] waits for that.
    pub fn ask_to_end(&mut self) {
        if let Some(end) = self.end.take() {
            let _ = end.send(());
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// What it ended with.
    pub fn ended(&mut self) -> Result<()> {
        self.ask_to_end();
        match self.thread.take().map(JoinHandle::join) {
            Some(result) => result.map_err(|_| anyhow!("the daemon panicked"))?,
            None => Ok(()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.ended();
        let _ = fs::remove_file(&self.file);
    }
}

/// The status and the body of a GET over HTTP.
///
/// # Errors
///
/// Nobody answers, or with something else.
pub fn http_get(server: SocketAddr, path: &str) -> Result<(u16, String)> {
    http_get_as(server, path, "*/*")
}

/// The same, with what is accepted.
///
/// # Errors
///
/// As [`http_get`].
pub fn http_get_as(server: SocketAddr, path: &str, accept: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(LIMIT))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// Asks again and again until an answer is good, and returns it.
///
/// # Errors
///
/// None is in time; the error carries the last one.
pub fn wait_for<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> T,
    good: impl Fn(&T) -> bool,
) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = ask();
        if good(&answer) {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            bail!("{what}: still {answer:?}");
        }
        // What is asked offers nothing to wait on.
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until `/ready` says so.
///
/// # Errors
///
/// It does not in time.
pub fn wait_until_ready(http: SocketAddr) -> Result<()> {
    let ask = || http_get(http, "/ready").ok().map(|(status, _)| status);
    wait_for("readiness", ask, |status| *status == Some(200)).map(drop)
}

/// What a name resolves to: the response code, the lowest TTL and the addresses.
pub type Answer = (ResponseCode, u32, BTreeSet<Ipv4Addr>);

/// Asks for the addresses of a name, once; no answer within two seconds is an error.
///
/// # Errors
///
/// No response, or one to something else.
pub fn ask(server: SocketAddr, name: &str) -> Result<Answer> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut message = Message::query();
    let id = (NEXT.fetch_add(1, Ordering::Relaxed) & 0xffff) as u16;
    message.metadata.id = id;
    message.add_query(Query::query(Name::from_ascii(name)?, RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    socket.send(&message.to_vec()?)?;
    let mut buffer = [0; 1500];
    let len = socket.recv(&mut buffer).context("no response")?;
    let response = Message::from_bytes(buffer.get(..len).unwrap_or_default())?;
    if response.metadata.id != id {
        bail!("a response to another query");
    }
    let addresses = response.answers.iter().filter_map(|one| match one.data {
        RData::A(address) => Some(address.0),
        _ => None,
    });
    let ttl = response.answers.iter().map(|one| one.ttl).min();
    Ok((
        response.metadata.response_code,
        ttl.unwrap_or_default(),
        addresses.collect(),
    ))
}

/// Asks the same questions in turn, one each millisecond, until stopped.
pub struct Asking {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u64, Vec<String>)>,
}

impl Asking {
    /// Starts; `good` judges each answer to each name.
    ///
    /// # Errors
    ///
    /// No thread can be had.
    pub fn start(
        server: SocketAddr,
        names: &[&str],
        good: impl Fn(&str, &Answer) -> bool + Send + 'static,
    ) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let thread = thread::Builder::new()
            .name("asking".to_owned())
            .spawn(move || {
                let (mut asked, mut wrong) = (0, Vec::new());
                for name in names.iter().cycle() {
                    if stopped.load(Ordering::Relaxed) {
                        break;
                    }
                    asked += 1;
                    match ask(server, name) {
                        Ok(answer) if good(name, &answer) => {}
                        Ok(answer) => wrong.push(format!("{name}: {answer:?}")),
                        Err(error) => wrong.push(format!("{name}: {error:#}")),
                    }
                    thread::sleep(Duration::from_millis(1));
                }
                (asked, wrong)
            })?;
        Ok(Self { stop, thread })
    }

    /// Stops. How many questions were asked, and the answers that were wrong or did not come.
    ///
    /// # Errors
    ///
    /// The thread panicked.
    pub fn stop(self) -> Result<(u64, Vec<String>)> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("asking panicked"))
    }
}
