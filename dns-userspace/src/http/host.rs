//! The header that every request of HTTP/1.1 has once (RFC 9112, section 3.2).

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, Version, header};
use axum::middleware::Next;
use axum::response::Response;

/// Lets requests pass that have it; the others get 400, in the words of Go.
pub(super) async fn require(request: Request, next: Next) -> Response {
    match fault(request.version(), request.headers()) {
        None => next.run(request).await,
        Some(fault) => {
            let mut response = super::text(StatusCode::BAD_REQUEST, fault);
            // Who sends such a thing may mean something else by what follows.
            let close = header::HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            response
        }
    }
}

fn fault(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    match headers.get_all(header::HOST).iter().count() {
        0 if version == Version::HTTP_11 => Some("400 Bad Request: missing required Host header"),
        0 | 1 => None,
        _ => Some("400 Bad Request: too many Host headers"),
    }
}
