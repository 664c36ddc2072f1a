//! The REST API of dcos-net, as far as it is about names: read only, and never a secret.
//!
//! Names in it have no final dot. Nothing is authenticated, so it belongs on a loopback address.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use data_encoding::BASE64;
use serde::Serialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use tokio::net::TcpListener;
use tracing::error;

use super::host;
use crate::answers::resolve::{Entry, resolve};
use crate::records::dcos::vips::VipListing;
use crate::zones::{Name, Rdata, Rtype, Snapshot};

/// What the API tells about.
pub trait Source: Send + Sync + 'static {
    /// All zones.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Whether a zone is listed: those under another name, and that of mesos-dns, are not.
    fn is_listed(&self, apex: &Name) -> bool;
    /// The VIPs with their backends, and with their addresses if those are wanted.
    fn vips(&self, with_addresses: bool) -> Vec<VipListing>;
    /// Looks anew for what is said of the nodes, and ends when that is taken in.
    fn refresh_nodes(&self) -> impl Future<Output = ()> + Send;
    /// The nodes that are known.
    fn nodes(&self) -> Vec<Node>;
    /// The text of a registry of metrics, or of all of them; `None` if there is no such registry.
    fn metrics(&self, registry: Option<&str>) -> Option<String>;
    /// The cluster's id.
    fn cluster_id(&self) -> Option<String>;
}

/// A node in `/v1/nodes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its own address.
    pub private_ip: IpAddr,
    /// Its public addresses.
    pub public_ips: Vec<IpAddr>,
    /// Its host name.
    pub hostname: String,
    /// When that became known: RFC 3339, in milliseconds.
    pub updated: String,
}

/// Serves requests for ever.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>) {
    if let Err(error) = axum::serve(listener, router(source)).await {
        error!(%error, "the REST API of dcos-net ended");
    }
}

fn router<S: Source>(source: Arc<S>) -> Router {
    let json = Router::new()
        .route(
            "/v1/version",
            get(async || Json(json!({"Service": "dcos-dns", "Version": "0.0.1"}))),
        )
        .route("/v1/hosts/{name}", get(hosts::<S>))
        .route("/v1/services/{name}", get(services::<S>))
        .route("/v1/records", get(records::<S>))
        .route("/v1/vips", get(vips::<S>))
        .route("/v1/nodes", get(nodes::<S>))
        .route("/lashup/key", get(key::<S>))
        .layer(middleware::from_fn(accepts_json));
    Router::new()
        .route("/v1/config", get(async || StatusCode::NOT_IMPLEMENTED))
        .route("/v1/enumerate", get(async || StatusCode::NOT_IMPLEMENTED))
        .route("/v1/metrics", get(all_metrics::<S>))
        .route("/v1/metrics/{registry}", get(metrics::<S>))
        .merge(json)
        .layer(middleware::from_fn(host::require))
        .with_state(source)
}

/// 406 for a client that does not want JSON.
async fn accepts_json(request: Request, next: Next) -> Response {
    let wanted = request.headers().get_all(header::ACCEPT);
    let mut wanted = wanted.iter().filter_map(|value| value.to_str().ok());
    let fits = |range: &str| {
        let range = range.split(';').next().unwrap_or_default().trim();
        ["*/*", "application/*", "application/json"].contains(&range)
    };
    let is_free = !request.headers().contains_key(header::ACCEPT);
    if is_free || wanted.any(|list| list.split(',').any(fits)) {
        next.run(request).await
    } else {
        StatusCode::NOT_ACCEPTABLE.into_response()
    }
}

/// A name in dcos-net's form.
fn bare(name: &Name) -> String {
    let mut text = name.to_string();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

/// The records of one type that a name leads to within the zones listed.
fn found<'s, S: Source>(
    source: &S,
    snapshot: &'s Snapshot,
    name: &Name,
    rtype: Rtype,
) -> Vec<Entry<'s>> {
    let is_ours = |name: &Name| {
        let zone = snapshot.enclosing_zone(name);
        zone.is_some_and(|(_, zone)| source.is_listed(&zone.apex) || is_alias(&zone.apex))
    };
    if !is_ours(name) {
        return Vec::new();
    }
    let resolution = resolve(snapshot, name, rtype);
    let mut answer = resolution.map(|one| one.answer).unwrap_or_default();
    answer.retain(|entry| entry.rrset.rtype() == rtype && is_ours(&entry.owner));
    answer
}

/// Whether a zone holds what another holds under another name.
#[must_use]
pub fn is_alias(apex: &Name) -> bool {
    let labels: Vec<&[u8]> = apex.labels().rev().take(3).collect();
    matches!(
        labels.as_slice(),
        [b"global", b"thisdcos", ..]
            | [b"directory", b"dcos", ..]
            | [b"directory", b"thisdcos", b"dclb"]
    )
}

fn addresses<S: Source>(source: &S, snapshot: &Snapshot, name: &Name) -> Vec<(String, Ipv4Addr)> {
    let mut rows: Vec<(String, Ipv4Addr)> = Vec::new();
    for entry in found(source, snapshot, name, Rtype::A) {
        for data in entry.rrset.data() {
            if let Rdata::A(ip) = data {
                rows.push((bare(&entry.owner), *ip));
            }
        }
    }
    rows.sort_unstable();
    rows
}

async fn hosts<S: Source>(State(source): State<Arc<S>>, Path(name): Path<String>) -> Json<Value> {
    let Ok(name) = Name::from_text(&name) else {
        return Json(json!([]));
    };
    let rows = addresses(&*source, &source.snapshot(), &name).into_iter();
    let rows = rows.map(|(host, ip)| json!({"host": host, "ip": ip}));
    Json(rows.collect())
}

async fn services<S: Source>(
    State(source): State<Arc<S>>,
    Path(name): Path<String>,
) -> Json<Value> {
    let Ok(name) = Name::from_text(&name) else {
        return Json(json!([]));
    };
    let snapshot = source.snapshot();
    let mut rows = Vec::new();
    for entry in found(&*source, &snapshot, &name, Rtype::SRV) {
        let mut data: Vec<&Rdata> = entry.rrset.data().iter().collect();
        data.sort_unstable();
        for data in data {
            let Rdata::Srv(_, _, port, target) = data else {
                continue;
            };
            let mut row =
                json!({"service": bare(&entry.owner), "host": bare(target), "port": port});
            if let Some((_, ip)) = addresses(&*source, &snapshot, target).first() {
                row["ip"] = json!(ip);
            }
            rows.push(row);
        }
    }
    Json(rows.into())
}

/// A record in `/v1/records`.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
struct Record {
    name: String,
    host: String,
    rtype: &'static str,
}

async fn records<S: Source>(State(source): State<Arc<S>>) -> Json<BTreeSet<Record>> {
    let snapshot = source.snapshot();
    let listed: Vec<bool> = snapshot
        .zones()
        .iter()
        .map(|zone| source.is_listed(&zone.apex))
        .collect();
    let mut rows = BTreeSet::new();
    for node in snapshot.nodes() {
        let zone = usize::from(node.zone().0);
        if !listed.get(zone).copied().unwrap_or_default() {
            continue;
        }
        for data in node.rrsets().iter().flat_map(|rrset| rrset.data()) {
            let (rtype, host) = match data {
                Rdata::A(ip) => ("A", ip.to_string()),
                Rdata::Aaaa(ip) => ("AAAA", ip.to_string()),
                Rdata::Srv(_, _, port, target) => ("SRV", format!("{}:{port}", bare(target))),
                _ => continue,
            };
            let name = bare(node.owner());
            rows.insert(Record { name, host, rtype });
        }
    }
    Json(rows)
}

/// The list changes with its entity tag only; the tag there is made of the store's clock. With
/// `?addresses` it has what dcos-net does not tell.
async fn vips<S: Source>(
    State(source): State<Arc<S>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let Ok(body) = serde_json::to_vec(&source.vips(has_key(query.as_deref(), "addresses"))) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let tag = format!("\"{}\"", BASE64.encode(&Sha1::digest(&body)));
    let known = headers.get(header::IF_NONE_MATCH);
    if known.is_some_and(|value| value.as_bytes() == tag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    let head = [
        (header::CONTENT_TYPE, "application/json".to_owned()),
        (header::ETAG, tag),
    ];
    (head, body).into_response()
}

/// With `?force`, as they are now.
async fn nodes<S: Source>(
    State(source): State<Arc<S>>,
    RawQuery(query): RawQuery,
) -> Json<Vec<Node>> {
    if has_key(query.as_deref(), "force") {
        source.refresh_nodes().await;
    }
    Json(source.nodes())
}

/// Whether a query string has a key, with a value or without.
fn has_key(query: Option<&str>, wanted: &str) -> bool {
    let mut pairs = query.unwrap_or_default().split('&');
    pairs.any(|pair| pair.split_once('=').map_or(pair, |(key, _)| key) == wanted)
}

/// Only the public key: the secret one is nobody's business.
async fn key<S: Source>(State(source): State<Arc<S>>) -> Response {
    match source.cluster_id() {
        Some(id) => Json(json!({"zbase32_public_key": id})).into_response(),
        None => (StatusCode::NOT_FOUND, "Cluster keys not found in Lashup").into_response(),
    }
}

async fn all_metrics<S: Source>(State(source): State<Arc<S>>) -> Response {
    text(source.metrics(None))
}

async fn metrics<S: Source>(
    State(source): State<Arc<S>>,
    Path(registry): Path<String>,
) -> Response {
    text(source.metrics(Some(&registry)))
}

fn text(metrics: Option<String>) -> Response {
    match metrics {
        Some(text) => {
            let head = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
            (head, text).into_response()
        }
        None => (StatusCode::NOT_FOUND, "Unknown Registry").into_response(),
    }
}
