//! Asks a primary: for its serial, and for what has changed since ours.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::incoming::{Assembly, Incoming, Unusable};
use super::tsig::{Exchange, Key, Unbelieved};
use super::unix_seconds;
use super::wire::{AXFR, IXFR, Malformed, Message, flags, query};
use crate::answers::Rcode;
use crate::zones::{Name, Rdata, Rtype, Soa};

/// How long each try over UDP waits.
const PATIENCE: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];
/// Within this a connection is there, and each message of a transfer.
const STEP: Duration = Duration::from_secs(15);
/// Octets of a transfer at most: far more than any cluster has names, and less than a host has
/// memory.
const MAX_OCTETS: usize = 512 << 20;
const MAX_UDP_OCTETS: usize = 4096;

/// Why a primary did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no response")]
    Silence,
    #[error("it responds with {0}")]
    Code(Rcode),
    #[error("it is not authoritative for the zone")]
    Lame,
    #[error(transparent)]
    Unbelieved(#[from] Unbelieved),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Unusable(#[from] Unusable),
    #[error("the transfer is too large")]
    TooLarge,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A primary, and how it is asked.
#[derive(Debug, Clone)]
pub(super) struct Primary {
    pub(super) address: SocketAddr,
    pub(super) key: Option<Arc<Key>>,
    /// Where from, if that is to be a certain address.
    pub(super) source: Option<IpAddr>,
}

impl Primary {
    fn source(&self) -> SocketAddr {
        let any: IpAddr = match self.address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let own = self.source.filter(|ip| ip.is_ipv4() == any.is_ipv4());
        SocketAddr::new(own.unwrap_or(any), 0)
    }

    fn sign(&self, message: &mut Vec<u8>) -> Option<Exchange> {
        let key = self.key.as_ref();
        key.map(|key| Exchange::begin(key, message, unix_seconds()))
    }

    /// The SOA that the primary has, by UDP and where that fails by TCP.
    pub(super) async fn soa(&self, zone: &Name) -> Result<Soa, FetchError> {
        let mut result = Err(FetchError::Silence);
        for patience in PATIENCE {
            let tried = timeout(patience, self.soa_by_udp(zone)).await;
            result = tried.unwrap_or(Err(FetchError::Silence));
            match &result {
                Ok(None) => break,
                Err(FetchError::Silence) => {}
                // A refused port is refused by TCP too.
                _ => return result?.ok_or(FetchError::Lame),
            }
        }
        if let Err(error) = result {
            // Datagrams may be filtered; a host that is down does not take connections either.
            return match self.soa_by_tcp(zone).await {
                Err(FetchError::Io(_)) => Err(error),
                result => result,
            };
        }
        self.soa_by_tcp(zone).await
    }

    /// `None` if the response is truncated.
    async fn soa_by_udp(&self, zone: &Name) -> Result<Option<Soa>, FetchError> {
        let socket = UdpSocket::bind(self.source()).await?;
        socket.connect(self.address).await?;
        let id = rand::random();
        let mut message = query(id, zone, Rtype::SOA, None);
        let mut exchange = self.sign(&mut message);
        socket.send(&message).await?;
        let mut buffer = vec![0; MAX_UDP_OCTETS];
        loop {
            let len = socket.recv(&mut buffer).await?;
            let octets = buffer.get(..len).unwrap_or_default();
            // What is not the response to this is somebody else's, or a lie.
            let Ok(response) = Message::read(octets) else {
                continue;
            };
            if !is_response(&response, id, zone, Rtype::SOA) {
                continue;
            }
            if let Some(exchange) = &mut exchange {
                exchange.check(octets, &response, unix_seconds())?;
            }
            if response.flags & flags::TC != 0 {
                return Ok(None);
            }
            return soa_of(&response, zone).map(Some);
        }
    }

    async fn soa_by_tcp(&self, zone: &Name) -> Result<Soa, FetchError> {
        let mut stream = self.connect().await?;
        let id = rand::random();
        let mut message = query(id, zone, Rtype::SOA, None);
        let mut exchange = self.sign(&mut message);
        send(&mut stream, &message).await?;
        let octets = receive(&mut stream).await?;
        let response = Message::read(&octets)?;
        if !is_response(&response, id, zone, Rtype::SOA) {
            return Err(Malformed.into());
        }
        if let Some(exchange) = &mut exchange {
            exchange.check(&octets, &response, unix_seconds())?;
        }
        soa_of(&response, zone)
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        socket.bind(self.source())?;
        let connecting = timeout(STEP, socket.connect(self.address));
        connecting.await.map_err(io::Error::other)?
    }

    /// What leads from `held` to what the primary has, or all that it has.
    pub(super) async fn transfer(
        &self,
        zone: &Name,
        held: Option<&Soa>,
    ) -> Result<Incoming, FetchError> {
        let rtype = if held.is_some() { IXFR } else { AXFR };
        let mut stream = self.connect().await?;
        let id = rand::random();
        let mut message = query(id, zone, rtype, held);
        let mut exchange = self.sign(&mut message);
        send(&mut stream, &message).await?;
        let mut assembly = Assembly::new(zone, held.map(|soa| soa.serial));
        let mut octets_so_far = 0;
        loop {
            let octets = receive(&mut stream).await?;
            octets_so_far += octets.len();
            if octets_so_far > MAX_OCTETS {
                return Err(FetchError::TooLarge);
            }
            let response = Message::read(&octets)?;
            let is_first = response.question.is_some();
            if response.id != id
                || response.flags & (flags::QR | flags::OPCODE) != flags::QR
                || (is_first && !is_response(&response, id, zone, rtype))
            {
                return Err(Malformed.into());
            }
            if let Some(exchange) = &mut exchange {
                exchange.check(&octets, &response, unix_seconds())?;
            }
            match response.rcode() {
                0 => {}
                code => return Err(FetchError::Code(Rcode(code))),
            }
            if assembly.take(response.answer)? {
                if exchange.is_some_and(|exchange| !exchange.is_settled()) {
                    return Err(Unbelieved::Unsigned.into());
                }
                return Ok(assembly.finish()?);
            }
        }
    }
}

fn is_response(message: &Message, id: u16, zone: &Name, rtype: Rtype) -> bool {
    message.id == id
        && message.flags & (flags::QR | flags::OPCODE) == flags::QR
        && message
            .question
            .as_ref()
            .is_none_or(|(name, asked, _)| name == zone && *asked == rtype)
}

fn soa_of(response: &Message, zone: &Name) -> Result<Soa, FetchError> {
    match response.rcode() {
        0 => {}
        code => return Err(FetchError::Code(Rcode(code))),
    }
    let is_authoritative = response.flags & flags::AA != 0;
    let soa = response.answer.iter().find_map(|one| match &one.data {
        Rdata::Soa(soa) if one.owner == *zone => Some((**soa).clone()),
        _ => None,
    });
    soa.filter(|_| is_authoritative).ok_or(FetchError::Lame)
}

/// Length and message in one write (RFC 7766, section 8).
async fn send(stream: &mut TcpStream, message: &[u8]) -> Result<(), FetchError> {
    let len = u16::try_from(message.len()).map_err(|_| Malformed)?;
    let framed = [&len.to_be_bytes(), message].concat();
    let sending = timeout(STEP, stream.write_all(&framed));
    sending.await.map_err(|_| FetchError::Silence)??;
    Ok(())
}

async fn receive(stream: &mut TcpStream) -> Result<Vec<u8>, FetchError> {
    let receiving = async {
        let len = stream.read_u16().await?;
        let mut octets = vec![0; usize::from(len)];
        stream.read_exact(&mut octets).await?;
        io::Result::Ok(octets)
    };
    let received = timeout(STEP, receiving).await;
    Ok(received.map_err(|_| FetchError::Silence)??)
}
