//! One connection to one server, and the session that outlives it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::bytes::{Buf, Bytes, BytesMut};

use super::jute::{self, ConnectResponse, Malformed, ReplyHeader, SessionId};

/// The session timeout asked for, as mesos-dns does; servers grant less by default (40 s).
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait for a TCP connection, so that a dead server does not hold up the others.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for the answer to the first message.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest message accepted. ZooKeeper's own limit for a node is 1 MiB.
const MAX_MESSAGE_OCTETS: usize = 4 << 20;

/// Why a connection ended or was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("no answer within {0:?}")]
    Silent(Duration),
    #[error("the session expired")]
    Expired,
    #[error("the server closed the connection")]
    Closed,
    #[error("a message of {0} octets")]
    TooLong(usize),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("a reply out of order")]
    OutOfOrder,
    #[error("ZooKeeper error {code} for {path}")]
    Refused { code: i32, path: String },
    #[error("the directory changes faster than it can be read")]
    Unsteady,
}

/// What is kept from one connection to the next.
#[derive(Debug)]
pub(super) struct Session {
    id: SessionId,
    /// The last transaction seen: a server that is behind it refuses us, so a reader never goes
    /// back in time.
    last_zxid: i64,
    /// The timeout granted.
    timeout: Duration,
    /// When the last connection of this session ended.
    lost_at: Option<Instant>,
    /// Sessions begun so far.
    pub(super) begun: u64,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            id: SessionId::default(),
            last_zxid: 0,
            timeout: SESSION_TIMEOUT,
            lost_at: None,
            begun: 0,
        }
    }
}

impl Session {
    /// Notes that there is no connection.
    pub(super) fn lost(&mut self) {
        self.lost_at.get_or_insert_with(Instant::now);
    }

    /// Begins anew: no session, nothing seen.
    fn reset(&mut self) {
        *self = Self {
            begun: self.begun,
            ..Self::default()
        };
    }

    /// Gives up a session that no server can have kept. It also forgets the last transaction, or
    /// an ensemble that was restored from an older backup would refuse us for ever.
    fn reset_if_stale(&mut self) {
        if self
            .lost_at
            .is_some_and(|since| since.elapsed() > self.timeout)
        {
            self.reset();
        }
    }
}

/// A connection with its session established.
pub(super) struct Connection {
    stream: TcpStream,
    received: BytesMut,
    next_xid: i32,
    /// A watch has fired since the last listing.
    stale: bool,
    last_received: Instant,
    last_sent: Instant,
}

impl Connection {
    /// Connects and resumes the session, or begins one. An expired session is reset, so that the
    /// next call begins another.
    pub(super) async fn open(
        address: SocketAddr,
        session: &mut Session,
    ) -> Result<Self, ConnectionError> {
        session.reset_if_stale();
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
            .await
            .map_err(|_| ConnectionError::Silent(CONNECT_TIMEOUT))??;
        stream.set_nodelay(true)?;
        let mut connection = Self {
            stream,
            received: BytesMut::new(),
            next_xid: 1,
            stale: false,
            last_received: Instant::now(),
            last_sent: Instant::now(),
        };
        let response = timeout(HANDSHAKE_TIMEOUT, connection.shake_hands(session))
            .await
            .map_err(|_| ConnectionError::Silent(HANDSHAKE_TIMEOUT))??;
        let granted = u64::try_from(response.timeout_ms).unwrap_or(0);
        if granted == 0 {
            session.reset();
            return Err(ConnectionError::Expired);
        }
        if session.id != response.session {
            session.begun += 1;
        }
        session.id = response.session;
        session.timeout = Duration::from_millis(granted);
        session.lost_at = None;
        Ok(connection)
    }

    async fn shake_hands(&mut self, session: &Session) -> Result<ConnectResponse, ConnectionError> {
        let timeout_ms = i32::try_from(SESSION_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        self.send(&jute::connect_request(
            &session.id,
            session.last_zxid,
            timeout_ms,
        ))
        .await?;
        Ok(ConnectResponse::read(self.message().await?)?)
    }

    /// The names in a directory, with a watch on it; `None` if there is no such directory.
    pub(super) async fn children(
        &mut self,
        session: &mut Session,
        path: &str,
    ) -> Result<Option<Vec<String>>, ConnectionError> {
        self.stale = false;
        let reply = self.call(session, jute::GET_CHILDREN, path, true).await?;
        Ok(reply.map(jute::children).transpose()?)
    }

    /// The content of a node; `None` if there is no such node.
    pub(super) async fn data(
        &mut self,
        session: &mut Session,
        path: &str,
    ) -> Result<Option<Bytes>, ConnectionError> {
        let reply = self.call(session, jute::GET_DATA, path, false).await?;
        Ok(reply.map(jute::data).transpose()?)
    }

    /// Sets a watch on a node that is not there yet; tells whether it is there after all.
    pub(super) async fn watch_creation(
        &mut self,
        session: &mut Session,
        path: &str,
    ) -> Result<bool, ConnectionError> {
        Ok(self
            .call(session, jute::EXISTS, path, true)
            .await?
            .is_some())
    }

    /// Waits until a watch fires, and keeps the session alive meanwhile.
    pub(super) async fn changed(&mut self, session: &mut Session) -> Result<(), ConnectionError> {
        while !self.stale {
            let message = self.receive(session).await?;
            self.event(session, message)?;
        }
        Ok(())
    }

    /// One request and its reply's body; `None` if there is no such node.
    async fn call(
        &mut self,
        session: &mut Session,
        kind: i32,
        path: &str,
        watch: bool,
    ) -> Result<Option<Bytes>, ConnectionError> {
        let xid = self.next_xid;
        self.next_xid = xid.checked_add(1).unwrap_or(1);
        self.send(&jute::path_request(xid, kind, path, watch))
            .await?;
        loop {
            let message = self.receive(session).await?;
            let Some((header, body)) = self.event(session, message)? else {
                continue;
            };
            return match (header.xid == xid, header.error) {
                (false, _) => Err(ConnectionError::OutOfOrder),
                (true, jute::OK) => Ok(Some(body)),
                (true, jute::NO_NODE) => Ok(None),
                (true, code) => Err(ConnectionError::Refused {
                    code,
                    path: path.to_owned(),
                }),
            };
        }
    }

    /// Takes in watch events and replies to pings; gives back anything else.
    fn event(
        &mut self,
        session: &mut Session,
        mut message: Bytes,
    ) -> Result<Option<(ReplyHeader, Bytes)>, ConnectionError> {
        let header = ReplyHeader::take(&mut message)?;
        session.last_zxid = session.last_zxid.max(header.zxid);
        match header.xid {
            jute::EVENT_XID => self.stale = true,
            jute::PING_XID => {}
            _ => return Ok(Some((header, message))),
        }
        Ok(None)
    }

    /// The next message. Pings when nothing was sent for a third of the session timeout; gives up
    /// when nothing came for two thirds of it, which leaves a third to reach another server.
    async fn receive(&mut self, session: &Session) -> Result<Bytes, ConnectionError> {
        loop {
            let ping_at = self.last_sent + session.timeout / 3;
            let silent_at = self.last_received + session.timeout * 2 / 3;
            match timeout_at(ping_at.min(silent_at), self.message()).await {
                Ok(message) => {
                    self.last_received = Instant::now();
                    return message;
                }
                Err(_) if Instant::now() >= silent_at => {
                    return Err(ConnectionError::Silent(session.timeout * 2 / 3));
                }
                Err(_) => self.send(&jute::ping()).await?,
            }
        }
    }

    /// Reads one message. Loses nothing when cancelled: what has arrived stays in `received`.
    async fn message(&mut self) -> Result<Bytes, ConnectionError> {
        loop {
            if let Some(head) = self.received.first_chunk::<4>() {
                let length = u32::from_be_bytes(*head) as usize;
                if length > MAX_MESSAGE_OCTETS {
                    return Err(ConnectionError::TooLong(length));
                }
                if self.received.len() >= 4 + length {
                    self.received.advance(4);
                    return Ok(self.received.split_to(length).freeze());
                }
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(ConnectionError::Closed);
            }
        }
    }

    /// Sends one message; they are far smaller than a socket's buffer, but a server that does not
    /// read must not hold us.
    async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        self.last_sent = Instant::now();
        timeout(HANDSHAKE_TIMEOUT, self.stream.write_all(message))
            .await
            .map_err(|_| ConnectionError::Silent(HANDSHAKE_TIMEOUT))??;
        Ok(())
    }
}
