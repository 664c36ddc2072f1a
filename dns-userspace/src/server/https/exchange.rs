//! What a request must be to hold a query, and what its response says besides the message. Heads are
//! judged before any body is read.

use std::borrow::Cow;

use axum::body::Body;
use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri};
use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;

use crate::answers::edns::lifetime;

/// The one resource there is.
pub const PATH: &str = "/dns-query";
/// Octets of a message at most.
pub const MAX_MESSAGE_OCTETS: usize = u16::MAX as usize;
/// Octets of the head of a request at most, a query in its address included.
pub(super) const MAX_HEAD_OCTETS: usize = 16 * 1024;

const MEDIA_TYPE: &str = "application/dns-message";

/// Where the query of a request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Method {
    /// This is it.
    Get(Vec<u8>),
    /// In the body.
    Post,
}

/// Judges the head of a request (RFC 8484, section 4.1).
///
/// # Errors
/// The status for a request that holds no query.
pub fn query_of(
    method: &axum::http::Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Method, StatusCode> {
    if uri.path() != PATH {
        return Err(StatusCode::NOT_FOUND);
    }
    match method.as_str() {
        // The same without the body (RFC 9110, section 9.3.2).
        "GET" | "HEAD" => in_address(uri.query().unwrap_or_default()).map(Method::Get),
        "POST" if has_messages(headers) => Ok(Method::Post),
        "POST" => Err(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        _ => Err(StatusCode::METHOD_NOT_ALLOWED),
    }
}

/// Whether the body is a DNS message; parameters, which the type does not have, are no matter.
fn has_messages(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|one| one.to_str().ok());
    let media_type = value.and_then(|value| value.split(';').next());
    media_type.is_some_and(|one| one.trim().eq_ignore_ascii_case(MEDIA_TYPE))
}

/// The query in the address of a GET: the variable `dns`, in base64url without padding (RFC 8484,
/// section 6, and RFC 4648, section 5).
fn in_address(query: &str) -> Result<Vec<u8>, StatusCode> {
    let query = normal(query);
    let mut variables = query.split('&');
    let value = variables
        .find_map(|one| one.strip_prefix("dns="))
        .ok_or(StatusCode::BAD_REQUEST)?;
    BASE64URL_NOPAD
        .decode(value.as_bytes())
        .map_err(|_| StatusCode::BAD_REQUEST)
}

/// With unreserved characters as themselves, which they are equivalent to (RFC 3986, section 6.2.2.2).
fn normal(query: &str) -> Cow<'_, str> {
    let mut parts = query.split('%');
    let first = parts.next().unwrap_or_default();
    let mut out = String::new();
    for part in parts {
        let encoded = part.get(..2).filter(|digits| {
            let mut digits = digits.bytes();
            digits.all(|digit| digit.is_ascii_hexdigit())
        });
        let octet = encoded.and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let is_unreserved = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~".contains(octet);
        match octet.filter(is_unreserved) {
            Some(octet) => {
                out.push(octet.into());
                out.push_str(part.get(2..).unwrap_or_default());
            }
            None => {
                out.push('%');
                out.push_str(part);
            }
        }
    }
    match out.is_empty() {
        true => first.into(),
        false => format!("{first}{out}").into(),
    }
}

/// What a response to GET would be, for HEAD: its length without its octets.
pub(super) fn without_body(mut response: Response, octets: usize) -> Response {
    *response.body_mut() = Body::empty();
    response.headers_mut().insert(CONTENT_LENGTH, octets.into());
    response
}

/// A DNS response with its lifetime (RFC 8484, section 5.1).
pub(super) fn carry(response: impl AsRef<[u8]> + Into<Body>) -> Response {
    let max_age = format!("max-age={}", lifetime(response.as_ref()).unwrap_or(0));
    let mut carried = Response::new(response.into());
    let headers = carried.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    if let Ok(max_age) = HeaderValue::from_str(&max_age) {
        headers.insert(CACHE_CONTROL, max_age);
    }
    carried
}

/// A response without a message.
pub(super) fn refuse(status: StatusCode) -> Response {
    let mut refusal = Response::new(Body::empty());
    *refusal.status_mut() = status;
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let allowed = HeaderValue::from_static("GET, HEAD, POST");
        refusal.headers_mut().insert(ALLOW, allowed);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The query for www.example.com of RFC 8484, section 4.1.1.
    const ADDRESS: &str = "/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";
    const QUERY: &[u8] = b"\0\0\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";

    fn judged(method: &str, uri: &str, content_type: Option<&str>) -> Result<Method, u16> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        }
        let method = method.parse().unwrap();
        query_of(&method, &uri.parse().unwrap(), &headers).map_err(|status| status.as_u16())
    }

    #[test]
    fn rfc8484_4_1_1_the_examples_are_read() {
        assert_eq!(
            judged("GET", ADDRESS, None),
            Ok(Method::Get(QUERY.to_vec()))
        );
        assert_eq!(judged("HEAD", ADDRESS, None), judged("GET", ADDRESS, None));
        // The longer one of the same section, whose base64url has both of its own characters.
        let longer = "/dns-query?dns=AAABAAABAAAAAAAAAWE-NjJjaGFyYWN0ZXJsYWJlbC1tYWtlcy1iYXNlNjR1cmwtZGlzdGluY3QtZnJvbS1zdGFuZGFyZC1iYXNlNjQHZXhhbXBsZQNjb20AAAEAAQ";
        let Ok(Method::Get(query)) = judged("GET", longer, None) else {
            panic!("not read");
        };
        assert_eq!(query.len(), 94);
        assert!(
            query
                .get(13..)
                .unwrap()
                .starts_with(b"a>62characterlabel-makes")
        );
        let post = judged("POST", "/dns-query", Some("application/dns-message"));
        assert_eq!(post, Ok(Method::Post));
    }

    #[test]
    fn rfc3986_6_2_2_2_unreserved_characters_may_be_encoded() {
        for (plain, encoded) in [
            ("dns=AAAB", "%64n%73=%41AA%42"),
            ("dns=A-_B", "dns=A%2d%5FB"),
        ] {
            let [plain, encoded] =
                [plain, encoded].map(|query| judged("GET", &format!("/dns-query?{query}"), None));
            assert!(plain.is_ok());
            assert_eq!(plain, encoded);
        }
        for kept in ["%3d", "%26", "%", "%4", "%zz", "%+1", "a%C3%A4%25"] {
            assert_eq!(normal(kept), kept);
        }
    }

    #[test]
    fn other_requests_get_the_status_that_says_why() {
        let message = Some("application/dns-message");
        for (method, uri, content_type, status) in [
            ("GET", "/", None, 404),
            ("POST", "/dns-query/", message, 404),
            ("PUT", "/dns-query", message, 405),
            ("DELETE", ADDRESS, None, 405),
            ("GET", "/dns-query", None, 400),
            ("GET", "/dns-query?dnt=AAAB", None, 400),
            ("GET", "/dns-query?dns=AA==", None, 400),
            ("GET", "/dns-query?dns=A+/A", None, 400),
            ("GET", "/dns-query?dns=AAAB%3D", None, 400),
            ("POST", "/dns-query", None, 415),
            ("POST", "/dns-query", Some("text/plain"), 415),
        ] {
            let found = judged(method, uri, content_type);
            assert_eq!(found, Err(status), "{method} {uri} {content_type:?}");
        }
        let upper = judged(
            "POST",
            "/dns-query?x",
            Some("Application/DNS-Message ; a=b"),
        );
        assert_eq!(upper, Ok(Method::Post));
    }
}
