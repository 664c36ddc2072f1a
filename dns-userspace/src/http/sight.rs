//! Who asks what, and captures: what tells of clients goes to the host itself only.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::text;
use crate::telemetry::{TopService, Watch, Watcher, pcap};

/// Octets of a capture that wait for a slow reader; what comes then is left out.
const BUFFER_OCTETS: usize = 1 << 20;
/// A capture ends by itself after so long.
const LONGEST: Duration = Duration::from_secs(3600);

/// Whether a client may learn of other clients: one on this host that means this host, and no page
/// whose own name was made to point here.
pub(super) fn may_look(peer: SocketAddr, headers: &HeaderMap) -> bool {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let authority = host.and_then(|host| host.parse::<Authority>().ok());
    let names_loopback = authority.is_some_and(|authority| {
        let host = authority.host().trim_matches(['[', ']']);
        host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
    });
    names_loopback && peer.ip().to_canonical().is_loopback()
}

pub(super) fn refused() -> Response {
    text(StatusCode::FORBIDDEN, "403: only from this host")
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
