//! Real ZooKeeper servers on loopback ports, alone or as an ensemble, and a client to fill them.
//!
//! They run as plain java processes from the jars of Debian's package `zookeeper`.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use crate::port::free_ports;
use crate::process::Process;

/// Where Debian keeps java libraries.
const JARS: &str = "/usr/share/java";
/// The jars a server needs; from Debian's zookeeper 3.8.
const CLASS_PATH: [&str; 14] = [
    "zookeeper",
    "zookeeper-jute",
    "netty-buffer",
    "netty-codec",
    "netty-common",
    "netty-handler",
    "netty-resolver",
    "netty-transport",
    "netty-transport-native-unix-common",
    "slf4j-api",
    "slf4j-simple",
    "snappy-java",
    "metrics-core",
    "commons-cli",
];

/// Longest wait for a server to come up; a busy machine needs several seconds.
pub const START_LIMIT: Duration = Duration::from_secs(60);

/// Whether servers can be started here.
///
/// # Errors
///
/// Names what is missing.
pub fn available() -> Result<(), String> {
    crate::requirements::tool("java")?;
    match CLASS_PATH.iter().find(|jar| !jar_path(jar).is_file()) {
        Some(jar) => Err(format!(
            "needs the Debian package zookeeper ({jar}.jar is missing)"
        )),
        None => Ok(()),
    }
}

fn jar_path(name: &str) -> PathBuf {
    Path::new(JARS).join(format!("{name}.jar"))
}

/// Servers that belong together; they end, and their data goes, when dropped.
pub struct Ensemble {
    folder: PathBuf,
    members: Vec<Member>,
}

struct Member {
    address: SocketAddr,
    configuration: PathBuf,
    process: Option<Process>,
}

impl Ensemble {
    /// Starts this many servers (one, or three for a quorum) and waits until they serve.
    ///
    /// `max_session` bounds the session timeout that they grant.
    ///
    /// # Errors
    ///
    /// A server cannot be started or does not come up.
    pub fn start(size: usize, max_session: Duration) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("zookeeper-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        // Three ports each: for clients, for followers, for elections.
        let ports = free_ports(size * 3);
        let mut peers = String::new();
        if size > 1 {
            for (index, port) in ports.chunks(3).enumerate() {
                peers += &format!("server.{}=127.0.0.1:{}:{}\n", index + 1, port[1], port[2]);
            }
        }
        let mut members = Vec::new();
        for (index, port) in ports.chunks(3).enumerate() {
            let data = folder.join(format!("{}", index + 1));
            fs::create_dir_all(&data)?;
            fs::write(data.join("myid"), format!("{}\n", index + 1))?;
            let configuration = folder.join(format!("{}.cfg", index + 1));
            let text = format!(
                "tickTime=200\ninitLimit=50\nsyncLimit=25\nclientPort={}\n\
                 clientPortAddress=127.0.0.1\ndataDir={}\nmaxSessionTimeout={}\n\
                 minSessionTimeout=400\n4lw.commands.whitelist=*\nadmin.enableServer=false\n{peers}",
                port[0],
                data.display(),
                max_session.as_millis(),
            );
            fs::write(&configuration, text)?;
            let address = SocketAddr::from(([127, 0, 0, 1], port[0]));
            members.push(Member {
                address,
                configuration,
                process: None,
            });
        }
        let mut ensemble = Self { folder, members };
        for index in 0..size {
            ensemble.launch(index)?;
        }
        for index in 0..size {
            ensemble.wait_until_serving(index)?;
        }
        Ok(ensemble)
    }

    fn launch(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let class_path = CLASS_PATH
            .map(|jar| jar_path(jar).display().to_string())
            .join(":");
        let mut command = Command::new("java");
        command
            .args([
                "-Xmx64m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
                &class_path,
            ])
            .arg("org.apache.zookeeper.server.quorum.QuorumPeerMain")
            .arg(&member.configuration);
        let name = format!("ZooKeeper {}", member.address);
        member.process = Some(Process::start(&name, &mut command)?);
        Ok(())
    }

    /// Waits until a server answers clients, which it does not before there is a quorum.
    fn wait_until_serving(&mut self, index: usize) -> Result<()> {
        let member = &mut self.members[index];
        let process = member.process.as_mut().context("the server does not run")?;
        let deadline = Instant::now() + START_LIMIT;
        while !four_letters(member.address, "srvr").contains("Mode:") {
            if let Some(status) = process.exited() {
                bail!("ZooKeeper ended, {status}: {}", process.output().join("\n"));
            }
            ensure!(
                Instant::now() < deadline,
                "no ZooKeeper: {}",
                process.output().join("\n")
            );
            // The server offers nothing to wait on; it is asked again.
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// The clients' addresses, in order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    /// `zk://…` with this path.
    pub fn url(&self, path: &str) -> String {
        let hosts: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        format!("zk://{}{path}", hosts.join(","))
    }

    /// Kills one server at once, as a crash does.
    ///
    /// # Errors
    ///
    /// It cannot be ended.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        if let Some(mut process) = self.members[index].process.take() {
            process.signal(libc::SIGKILL);
            process.stop()?;
        }
        Ok(())
    }

    /// Starts a killed server on its old port with its old data, and waits until it serves.
    ///
    /// # Errors
    ///
    /// It does not come up.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.kill(index)?;
        self.launch(index)?;
        self.wait_until_serving(index)
    }
}

impl Ensemble {
    /// Throws away the data of a killed server.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn erase(&self, index: usize) -> Result<()> {
        let data = self.folder.join(format!("{}", index + 1));
        Ok(fs::remove_dir_all(data.join("version-2"))?)
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(process) = &member.process {
                process.signal(libc::SIGKILL);
            }
            member.process = None;
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The answer to one of ZooKeeper's four-letter commands; empty if there is none.
fn four_letters(address: SocketAddr, command: &str) -> String {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(command.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        std::io::Result::Ok(answer)
    };
    ask().unwrap_or_default()
}

/// What identifies a session: its number and its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionKey([u8; 24]);

/// Stands between a client and a server, and overhears the sessions that the server grants.
pub struct Eavesdropper {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<SessionKey>>>,
}

impl Eavesdropper {
    /// Starts in front of a server; serves until the process ends.
    ///
    /// # Errors
    ///
    /// No socket can be made.
    pub fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let address = listener.local_addr()?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let sessions = Arc::clone(&heard);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let sessions = Arc::clone(&sessions);
                thread::spawn(move || relay(client, server, &sessions));
            }
        });
        Ok(Self { address, heard })
    }

    /// Where clients are to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sessions granted so far.
    pub fn sessions(&self) -> Vec<SessionKey> {
        self.heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Copies both ways until either side ends, after noting the session in the server's welcome:
/// length, version, timeout, number, length of the password, password.
fn relay(mut client: TcpStream, server: SocketAddr, heard: &Mutex<Vec<SessionKey>>) -> Option<()> {
    let mut server = TcpStream::connect(server).ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let mut welcome = [0; 40];
    if server.read_exact(&mut welcome).is_ok() {
        let mut key = [0; 24];
        key[..8].copy_from_slice(&welcome[12..20]);
        key[8..].copy_from_slice(&welcome[24..40]);
        heard
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(SessionKey(key));
        let _ = client.write_all(&welcome);
        let _ = std::io::copy(&mut server, &mut client);
    }
    let _ = client.shutdown(Shutdown::Both);
    Some(())
}

/// A session that writes, as a Mesos master's does; its ephemeral nodes go when it is dropped.
///
/// Knows just the messages it needs, and shares no code with the client under test.
pub struct Writer {
    stream: TcpStream,
    xid: i32,
}

/// The kinds of node a [`Writer`] makes: the flags of ZooKeeper's `create`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// Stays.
    Persistent = 0,
    /// Goes with the session, and gets a sequence number.
    EphemeralSequential = 3,
}

impl Writer {
    /// Opens a session.
    ///
    /// # Errors
    ///
    /// No connection, or the session is refused.
    pub fn connect(address: SocketAddr) -> Result<Self> {
        Self::open(address, &SessionKey([0; 24]))
    }

    /// Takes over a session of somebody else.
    ///
    /// # Errors
    ///
    /// As for [`connect`](Self::connect).
    pub fn resume(address: SocketAddr, session: &SessionKey) -> Result<Self> {
        Self::open(address, session)
    }

    fn open(address: SocketAddr, SessionKey(key): &SessionKey) -> Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("to ZooKeeper {address}"))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut writer = Self { stream, xid: 0 };
        let (id, password) = key.split_at(8);
        // Version, last transaction, timeout (ms), session, password, read-only.
        let timeout = 30_000_i32.to_be_bytes();
        let hello = [&[0; 12][..], &timeout, id, &buffer(password), &[0]];
        writer.send(&hello.concat())?;
        let welcome = writer.receive()?;
        ensure!(
            welcome.len() >= 36 && welcome[4..8] != [0; 4],
            "a session refused: {welcome:?}"
        );
        Ok(writer)
    }

    /// Makes a node, and returns its name with the sequence number, if it has one.
    ///
    /// # Errors
    ///
    /// ZooKeeper refuses.
    pub fn create(&mut self, path: &str, data: &[u8], kind: NodeKind) -> Result<String> {
        // One entry in the list of rights: all of them (31), scheme "world", id "anyone".
        let rights = [
            &1_i32.to_be_bytes()[..],
            &31_i32.to_be_bytes(),
            &text("world"),
            &text("anyone"),
        ];
        let flags = (kind as i32).to_be_bytes();
        let body = [&text(path)[..], &buffer(data), &rights.concat(), &flags].concat();
        let reply = self.call(1, &body)?;
        let name = reply.get(4..).context("a reply without a path")?;
        Ok(String::from_utf8(name.to_vec())?)
    }

    /// Makes a persistent node unless it is there.
    ///
    /// # Errors
    ///
    /// ZooKeeper refuses for another reason.
    pub fn ensure(&mut self, path: &str) -> Result<()> {
        match self.create(path, b"", NodeKind::Persistent) {
            Err(error) if !error.to_string().contains("error -110") => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a node.
    ///
    /// # Errors
    ///
    /// There is none, or ZooKeeper refuses.
    pub fn delete(&mut self, path: &str) -> Result<()> {
        self.call(2, &[&text(path)[..], &(-1_i32).to_be_bytes()].concat())?;
        Ok(())
    }

    /// Ends the session; its ephemeral nodes go at once.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub fn close(mut self) -> Result<()> {
        self.call(-11, &[])?;
        Ok(())
    }

    fn call(&mut self, kind: i32, body: &[u8]) -> Result<Vec<u8>> {
        self.xid += 1;
        self.send(&[&self.xid.to_be_bytes()[..], &kind.to_be_bytes(), body].concat())?;
        let reply = self.receive()?;
        let (head, body) = reply
            .split_at_checked(16)
            .context("a reply without a header")?;
        ensure!(
            head.starts_with(&self.xid.to_be_bytes()),
            "a reply to something else"
        );
        let error = i32::from_be_bytes([head[12], head[13], head[14], head[15]]);
        ensure!(error == 0, "ZooKeeper error {error}");
        Ok(body.to_vec())
    }

    fn send(&mut self, message: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(&buffer(message))?)
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut message)?;
        Ok(message)
    }
}

fn text(text: &str) -> Vec<u8> {
    buffer(text.as_bytes())
}

fn buffer(octets: &[u8]) -> Vec<u8> {
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], octets].concat()
}
