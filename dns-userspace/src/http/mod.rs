//! The HTTP API: that of mesos-dns under `/v1`, liveness and readiness, metrics, and the daemon's
//! own account. Only reading, without CORS headers, so that no page of another origin reads along.

use std::sync::Arc;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::config::Config;
use crate::daemon::{Measures, Published, Status};
use crate::telemetry::{TopService, Watch};

mod config_body;
pub mod dcos;
mod health;
mod host;
mod metrics;
mod path;
mod process;
mod sight;
mod v1;

use sight::Ends;

pub use health::Readiness;

/// Listings, which are as large as the zone, that are made at one time.
const MAX_LISTINGS: usize = 2;

/// What the API tells about.
pub trait Source: Send + Sync + 'static {
    /// The settings in effect.
    fn config(&self) -> Arc<Config>;
    /// What is served; `None` before the first state.
    fn published(&self) -> Option<Arc<Published>>;
    /// Whether queries are to be sent here.
    fn readiness(&self) -> Readiness;
    /// How the daemon is doing.
    fn status(&self) -> Status;
    /// What it counted.
    fn measures(&self) -> Measures;
    /// Where single packets can be watched.
    fn watch(&self) -> Arc<Watch>;
}

struct Api<S> {
    source: Arc<S>,
    listings: Semaphore,
    watch: Arc<Watch>,
    top: TopService,
}

/// Serves requests until `stop`; those under way are finished.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>, stop: CancellationToken) {
    let service = router(source).into_make_service_with_connect_info::<Ends>();
    let served = axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        error!(%error, "the HTTP API ended");
    }
}

fn router<S: Source>(source: Arc<S>) -> Router {
    let watch = source.watch();
    // One table of paths, as mesos-dns has other rules for slashes and methods than axum.
    Router::new()
        .fallback(answer::<S>)
        .layer(middleware::from_fn(host::require))
        .with_state(Arc::new(Api {
            source,
            listings: Semaphore::new(MAX_LISTINGS),
            top: TopService::new(Arc::clone(&watch)),
            watch,
        }))
}

async fn answer<S: Source>(
    State(api): State<Arc<Api<S>>>,
    ConnectInfo(ends): ConnectInfo<Ends>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Response {
    let Some(asked) = path::decode(uri.path()) else {
        return text(StatusCode::BAD_REQUEST, "400 Bad Request");
    };
    let clean = path::clean(&asked);
    if clean != asked {
        return redirect(&method, &clean, uri.query());
    }
    if let Some(endpoint) = v1::endpoint(&clean, &api.source.config()) {
        if method != Method::GET {
            return not_allowed("GET");
        }
        if !v1::accepts(&headers) {
            return text(StatusCode::NOT_ACCEPTABLE, "406: Not Acceptable");
        }
        return api.v1(endpoint).await;
    }
    let path = clean.trim_end_matches('/');
    let own: fn(&Api<S>, Option<&str>) -> Response = match path {
        "/health" => |_, _| health::health(),
        "/ready" => |api, _| health::ready(api.source.readiness()),
        "/metrics" if metrics::wants_openmetrics(&headers) => {
            |api, _| metrics::openmetrics_page(api.source.measures())
        }
        "/metrics" => |api, _| metrics::text_page(api.source.measures()),
        "/status" => |api, _| axum::Json(api.source.status()).into_response(),
        "/top" | "/capture" if !sight::may_look(ends, &headers) => |_, _| sight::refused(),
        "/top" => |api, _| sight::top(&api.top),
        "/capture" => |api, query| sight::capture(&api.watch, query),
        _ => return text(StatusCode::NOT_FOUND, "404: Page Not Found"),
    };
    if method != Method::GET && method != Method::HEAD {
        return not_allowed("GET, HEAD");
    }
    if !matches!(path, "/metrics" | "/status") {
        return own(&api, uri.query());
    }
    // What these say of the data plane waits for it, which may be writing the maps.
    let made = tokio::task::spawn_blocking(move || own(&api, None)).await;
    made.unwrap_or_else(|error| failed(&error.to_string()))
}

impl<S: Source> Api<S> {
    async fn v1(&self, endpoint: v1::Endpoint) -> Response {
        if endpoint == v1::Endpoint::Ports {
            return text(StatusCode::NOT_IMPLEMENTED, "To be implemented...");
        }
        let _permit = match endpoint.is_listing() {
            // The semaphore is never closed.
            true => self.listings.acquire().await.ok(),
            false => None,
        };
        // The records may have to be made first.
        let source = Arc::clone(&self.source);
        let body = tokio::task::spawn_blocking(move || {
            endpoint.body(&source.config(), source.published().as_deref())
        });
        let body = body
            .await
            .map_err(|error| error.to_string())
            .and_then(|body| body.map_err(|error| error.to_string()));
        match body {
            Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
            Err(error) => failed(&error),
        }
    }
}

fn failed(error: &str) -> Response {
    error!(error, "an answer of the HTTP API could not be made");
    text(
        StatusCode::INTERNAL_SERVER_ERROR,
        "500: Internal Server Error",
    )
}

/// An error in the form of go-restful.
fn text(status: StatusCode, text: &'static str) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
    (status, content_type, text).into_response()
}

fn not_allowed(methods: &'static str) -> Response {
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
    let methods = header::HeaderValue::from_static(methods);
    response.headers_mut().insert(header::ALLOW, methods);
    response
}

/// The redirect of Go's `ServeMux` to a path without empty and dot segments.
fn redirect(method: &Method, clean: &str, query: Option<&str>) -> Response {
    let mut location = path::encode(clean);
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    let status = StatusCode::MOVED_PERMANENTLY;
    if method == Method::GET {
        let link = location.replace('&', "&amp;").replace('"', "&#34;");
        let body = format!("<a href=\"{link}\">Moved Permanently</a>.\n\n");
        let headers = [
            (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
            (header::LOCATION, location),
        ];
        (status, headers, body).into_response()
    } else {
        (status, [(header::LOCATION, location)]).into_response()
    }
}
