//! Requests of DNS over HTTPS from any octets: a query has one way to be written, but for letters
//! that are encoded in vain, and a response is fresh for as long as another reader finds it to be.
#![no_main]

use data_encoding::BASE64URL_NOPAD;
use dns_userspace::{
    answers::edns::lifetime,
    server::https::exchange::{Method, PATH, query_of},
};
use hickory_proto::{op::Message, rr::RData, serialize::binary::BinDecodable};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use percent_encoding::percent_decode_str;

fn get(uri: &Uri) -> Result<Method, StatusCode> {
    query_of(&http::Method::GET, uri, &HeaderMap::new())
}

/// The text of an address, as a client may send it.
fn address(text: &[u8]) {
    let Ok(uri) = Uri::try_from(text) else {
        return;
    };
    match get(&uri) {
        Ok(Method::Get(query)) => {
            assert_eq!(uri.path(), PATH);
            let variable = format!("dns={}", BASE64URL_NOPAD.encode(&query));
            let mut variables = uri.query().unwrap_or_default().split('&');
            let is_it = |one| percent_decode_str(one).eq(variable.bytes());
            assert!(variables.any(is_it), "{uri}");
        }
        Ok(Method::Post) => panic!("GET has no body"),
        Err(status) => {
            let expected = if uri.path() == PATH { 400 } else { 404 };
            assert_eq!(status.as_u16(), expected);
        }
    }
}

fn content_type(text: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(text) else {
        return;
    };
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, value);
    let uri = Uri::from_static(PATH);
    let lower = text.to_ascii_lowercase();
    match query_of(&http::Method::POST, &uri, &headers) {
        Ok(method) => {
            assert_eq!(method, Method::Post);
            assert!(lower.trim_ascii().starts_with(b"application/dns-message"));
        }
        Err(status) => {
            assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert_ne!(lower, b"application/dns-message");
        }
    }
}

/// RFC 8484, section 5.1, over the records as hickory reads them.
fn freshness(octets: &[u8]) {
    let found = lifetime(octets);
    let Ok(message) = Message::from_bytes(octets) else {
        return;
    };
    // Read apart, with what stands behind it.
    if message.signature.is_some() || message.queries.len() != 1 {
        return;
    }
    let records = message.answers.iter().chain(&message.authorities);
    let ttls = records
        .chain(&message.additionals)
        .map(|one| match &one.data {
            RData::SOA(soa) if message.answers.is_empty() => one.ttl.min(soa.minimum),
            _ => one.ttl,
        });
    assert_eq!(found, ttls.min());
}

fuzz_target!(|octets: &[u8]| {
    let text = BASE64URL_NOPAD.encode(octets);
    let uri = Uri::try_from(format!("{PATH}?dns={text}")).expect("an address");
    assert_eq!(get(&uri), Ok(Method::Get(octets.to_vec())));
    address(octets);
    address(&[PATH.as_bytes(), b"?dns=", octets].concat());
    content_type(octets);
    freshness(octets);
});
