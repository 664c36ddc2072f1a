//! A client that asks at a steady pace and accounts for every reply.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::netns::Netns;

/// Between two queries.
const PACE: Duration = Duration::from_micros(500);
/// How long the last replies may take.
const GRACE: Duration = Duration::from_secs(5);

/// Asks one name for its address until it is told to end.
#[derive(Debug)]
pub struct Steady {
    ends: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    sender: JoinHandle<Result<Account>>,
}

/// What became of the queries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Queries sent.
    pub sent: u64,
    /// Replies of the expected code with the expected last octets.
    pub right: u64,
    /// Other replies, the first few of them in full.
    pub wrong: Vec<Vec<u8>>,
    /// Queries without a reply.
    pub lost: u64,
}

impl Steady {
    /// Asks for the A record of `name`, whose answer is one address out of `expected`.
    ///
    /// # Errors
    ///
    /// The namespace cannot be entered.
    pub fn start(client: &Netns, server: &str, name: &str, expected: &[[u8; 4]]) -> Result<Self> {
        let server: SocketAddr = (server.parse::<std::net::IpAddr>()?, 53).into();
        let socket = client.enter(|| Ok(UdpSocket::bind(("0.0.0.0", 0))?))?;
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        let ends = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let question = question(name);
        let (told, counted, expected) =
            (Arc::clone(&ends), Arc::clone(&answered), expected.to_vec());
        let sender = thread::spawn(move || ask(&socket, &question, &expected, &told, &counted));
        Ok(Self {
            ends,
            answered,
            sender,
        })
    }

    /// Waits for so many replies more.
    ///
    /// # Errors
    ///
    /// They do not come in half a minute.
    pub fn answer_more(&self, count: u64) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + count;
        let deadline = Instant::now() + Duration::from_secs(30);
        while self.answered.load(Ordering::Relaxed) < goal {
            if Instant::now() > deadline || self.sender.is_finished() {
                return Err(anyhow!("no replies come"));
            }
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Ends, and gives the account.
    ///
    /// # Errors
    ///
    /// A socket failed.
    pub fn end(self) -> Result<Account> {
        self.ends.store(true, Ordering::Relaxed);
        self.sender
            .join()
            .map_err(|_| anyhow!("the client panicked"))?
    }
}

/// A query whose id is to be filled in.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn ask(
    socket: &UdpSocket,
    question: &[u8],
    expected: &[[u8; 4]],
    ends: &AtomicBool,
    answered: &AtomicU64,
) -> Result<Account> {
    let mut account = Account::default();
    let mut query = question.to_vec();
    // By id: queries sent and not yet answered.
    let mut open = vec![0u32; 1 << 16];
    let mut next = Instant::now();
    let mut deadline = None;
    loop {
        let now = Instant::now();
        if ends.load(Ordering::Relaxed) && deadline.is_none() {
            deadline = Some(now + GRACE);
        }
        if deadline.is_none() && now >= next {
            let id = account.sent as u16;
            query[..2].copy_from_slice(&id.to_be_bytes());
            socket.send(&query).context("sending")?;
            open[usize::from(id)] += 1;
            account.sent += 1;
            // After a stall no burst: that would measure buffers.
            next = next.max(now - PACE) + PACE;
        }
        let mut reply = [0; 1500];
        match socket.recv(&mut reply) {
            Ok(octets) => {
                let reply = &reply[..octets];
                let id = u16::from_be_bytes([reply[0], reply[1]]);
                open[usize::from(id)] = open[usize::from(id)].saturating_sub(1);
                let is_right = reply[3] & 15 == 0 && expected.iter().any(|ip| reply.ends_with(ip));
                if is_right {
                    account.right += 1;
                    answered.store(account.right, Ordering::Relaxed);
                } else if account.wrong.len() < 5 {
                    account.wrong.push(reply.to_vec());
                }
            }
            // Nothing there, or ICMP says that nobody listens.
            Err(_) => thread::sleep(Duration::from_micros(50)),
        }
        let waiting: u32 = match deadline {
            Some(_) => open.iter().sum(),
            None => continue,
        };
        if waiting == 0 || deadline.is_some_and(|deadline| Instant::now() > deadline) {
            account.lost = waiting.into();
            return Ok(account);
        }
    }
}
