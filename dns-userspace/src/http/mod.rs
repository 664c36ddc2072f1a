//! The HTTP API: how the daemon is doing.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tracing::error;

use crate::daemon::Status;

pub mod dcos;

/// What the API tells about.
pub trait Source: Send + Sync + 'static {
    /// How the daemon is doing.
    fn status(&self) -> Status;
}

/// Serves requests for ever.
pub async fn serve<S: Source>(listener: TcpListener, source: Arc<S>) {
    if let Err(error) = axum::serve(listener, router(source)).await {
        error!(%error, "the HTTP API ended");
    }
}

fn router<S: Source>(source: Arc<S>) -> Router {
    Router::new()
        .route(
            "/status",
            get(async |State(source): State<Arc<S>>| Json(source.status())),
        )
        .route("/health", get(async || "OK\n"))
        .route("/ready", get(ready::<S>))
        .with_state(source)
}

async fn ready<S: Source>(State(source): State<Arc<S>>) -> (StatusCode, &'static str) {
    if source.status().ready {
        (StatusCode::OK, "OK\n")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "no state has been published yet\n",
        )
    }
}
