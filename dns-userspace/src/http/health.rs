//! Liveness and readiness, which are different questions: a process that ends is alive and not
//! ready, and one that waits for Mesos is not helped by a restart.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// Whether queries are to be sent here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// No state has come yet.
    Starting,
    /// The zone is known and served. Losing Mesos afterwards does not change that, and neither
    /// does a reload.
    Ready,
    /// A zone of another server could not be refreshed for too long.
    Expired,
    /// The end has been asked for; queries under way are still answered.
    Ending,
}

/// Good as long as requests are answered at all.
pub(super) fn health() -> Response {
    "OK\n".into_response()
}

pub(super) fn ready(readiness: Readiness) -> Response {
    let reason = match readiness {
        Readiness::Ready => return "OK\n".into_response(),
        Readiness::Starting => "no state has been published yet\n",
        Readiness::Expired => "a zone of another server has expired\n",
        Readiness::Ending => "ending\n",
    };
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}
