//! Paths as Go's `net/http` treats them: decoded first, then cleaned.

use std::fmt::Write;

/// Undoes percent-encoding; `None` for an escape that is none. What is no UTF-8 is replaced.
pub(super) fn decode(path: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || char::from(rest.next()?).to_digit(16);
        let value = digit()? * 16 + digit()?;
        octets.push(u8::try_from(value).ok()?);
    }
    Some(match String::from_utf8(octets) {
        Ok(text) => text,
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}

/// Takes out empty and dot segments; a slash at the end stays.
pub(super) fn clean(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            other => segments.push(other),
        }
    }
    let mut clean = format!("/{}", segments.join("/"));
    if path.ends_with('/') && clean.len() > 1 {
        clean.push('/');
    }
    clean
}

/// Percent-encodes what a path does not hold as it is.
pub(super) fn encode(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for octet in path.bytes() {
        if octet.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@*".contains(&octet) {
            text.push(char::from(octet));
        } else {
            // Writing to a string does not fail.
            let _ = write!(text, "%{octet:02X}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_path_clean() {
        for (path, cleaned) in [
            ("/", "/"),
            ("", "/"),
            ("//v1/version", "/v1/version"),
            ("/v1//version//", "/v1/version/"),
            ("/v1/./hosts/../version", "/v1/version"),
            ("/../..", "/"),
            ("/v1/hosts/web.*.mesos", "/v1/hosts/web.*.mesos"),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(decode("/a%2Eb%252E").as_deref(), Some("/a.b%2E"));
        assert_eq!(decode("/%ff").as_deref(), Some("/\u{fffd}"));
        assert_eq!(decode("/%e4%b8%ad").as_deref(), Some("/\u{4e2d}"));
        for bad in ["/%", "/%2", "/%zz", "/%+1"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_redirect_stays_on_this_host() {
        assert_eq!(
            encode(&clean("//evil.example/\\x y")),
            "/evil.example/%5Cx%20y"
        );
    }
}
