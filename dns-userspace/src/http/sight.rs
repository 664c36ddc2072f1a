//! Who asks what, and captures: what tells of clients goes to the host itself only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::IncomingStream;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;

use super::text;
use crate::telemetry::{TopService, Watch, Watcher, pcap};

/// Octets of a capture that wait for a slow reader; what comes then is left out.
const BUFFER_OCTETS: usize = 1 << 20;
/// A capture ends by itself after so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// The addresses of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    peer: IpAddr,
    /// `None` where the kernel does not tell.
    local: Option<IpAddr>,
}

impl Connected<IncomingStream<'_, TcpListener>> for Ends {
    fn connect_info(stream: IncomingStream<'_, TcpListener>) -> Self {
        let ip = |address: SocketAddr| address.ip().to_canonical();
        Self {
            peer: ip(*stream.remote_addr()),
            local: stream.io().local_addr().ok().map(ip),
        }
    }
}

/// Whether a client may learn of other clients: one on this host that means this host, and no page
/// whose own name was made to point here.
///
/// On this host is who comes from loopback, or from the address that it asks: that can be nobody
/// else. The host is to be named by that address, which a page of another origin cannot have.
pub(super) fn may_look(ends: Ends, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let Some(authority) = authority else {
        return false;
    };
    let host = authority.host().trim_matches(['[', ']']);
    let named = host.parse::<IpAddr>().map(|ip| ip.to_canonical()).ok();
    let names_loopback = host == "localhost" || named.is_some_and(|ip| ip.is_loopback());
    let is_own_address = ends.local == Some(ends.peer);
    (names_loopback && ends.peer.is_loopback()) || (is_own_address && named == ends.local)
}

pub(super) fn refused() -> Response {
    text(
        StatusCode::FORBIDDEN,
        "403: only from this host, named by the address that is asked or as localhost",
    )
}

pub(super) fn top(service: &TopService) -> Response {
    axum::Json(service.ask()).into_response()
}

/// A capture of one of `every` frames, `query` being `every=N&seconds=N`, for as long as the client
/// reads.
pub(super) fn capture(watch: &Arc<Watch>, query: Option<&str>) -> Response {
    let number = |key: &str| {
        let pairs = query.unwrap_or_default().split('&');
        let value = pairs
            .filter_map(|pair| pair.split_once('='))
            .find(|(name, _)| *name == key)?
            .1;
        Some(value.parse::<u32>())
    };
    let (Ok(every), Ok(seconds)) = (
        number("every").unwrap_or(Ok(1)),
        number("seconds").unwrap_or(Ok(u32::MAX)),
    ) else {
        return text(
            StatusCode::BAD_REQUEST,
            "400: every and seconds are numbers",
        );
    };
    let duration = Duration::from_secs(seconds.into()).min(LONGEST);
    let (writer, reader) = tokio::io::duplex(BUFFER_OCTETS);
    let watcher = watch.watch(every);
    tokio::spawn(async move {
        // Over when the time is, or when the client has gone away.
        let _ = tokio::time::timeout(duration, write(watcher, writer)).await;
    });
    let content_type = [(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")];
    let body = Body::from_stream(ReaderStream::new(reader));
    (content_type, body).into_response()
}

async fn write(mut watcher: Watcher, mut out: tokio::io::DuplexStream) -> std::io::Result<()> {
    out.write_all(&pcap::head()).await?;
    while let Some(sample) = watcher.next().await {
        if let Some(frame) = &sample.frame {
            out.write_all(&pcap::record(frame, sample.at)).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_is_told_to_this_host_and_no_page() {
        for (peer, local, host, may) in [
            ("127.0.0.1", "127.0.0.1", Some("127.0.0.1:8123"), true),
            ("127.0.0.1", "127.0.0.1", Some("localhost:8123"), true),
            ("::1", "::1", Some("[::1]:8123"), true),
            ("192.0.2.7", "192.0.2.7", Some("192.0.2.7:8123"), true),
            ("2001:db8::7", "2001:db8::7", Some("[2001:db8::7]"), true),
            // Another host, whatever it says.
            ("192.0.2.8", "192.0.2.7", Some("192.0.2.7:8123"), false),
            ("192.0.2.8", "192.0.2.7", Some("127.0.0.1:8123"), false),
            ("192.0.2.8", "192.0.2.7", Some("192.0.2.8:8123"), false),
            // A page of this host's browser, whose name was made to point here.
            ("192.0.2.7", "192.0.2.7", Some("rebound.example"), false),
            ("127.0.0.1", "127.0.0.1", Some("rebound.example"), false),
            ("192.0.2.7", "192.0.2.7", Some("localhost"), false),
            ("192.0.2.7", "192.0.2.7", Some("192.0.2.8"), false),
            ("127.0.0.1", "127.0.0.1", None, false),
        ] {
            let ends = Ends {
                peer: peer.parse().unwrap(),
                local: local.parse().ok(),
            };
            let host = host.map(|host| (header::HOST, host.parse().unwrap()));
            let headers = host.clone().into_iter().collect();
            assert_eq!(may_look(ends, &headers), may, "{peer} {local} {host:?}");
        }
    }
}
