//! The messages of ZooKeeper's protocol that a reader of one directory needs, in their encoding,
//! Jute: big-endian numbers, texts and buffers behind an `i32` length (-1 for none), and every
//! message behind its own `i32` length.
//!
//! The layouts are those of `zookeeper.jute` in ZooKeeper 3.8.

use tokio_util::bytes::{Buf, Bytes};

/// Transaction id of a reply that is a watch event.
pub(super) const EVENT_XID: i32 = -1;
/// Transaction id of pings and their replies.
pub(super) const PING_XID: i32 = -2;

/// Error codes of replies.
pub(super) const OK: i32 = 0;
pub(super) const NO_NODE: i32 = -101;

/// Request types.
pub(super) const EXISTS: i32 = 3;
pub(super) const GET_DATA: i32 = 4;
pub(super) const GET_CHILDREN: i32 = 8;
const PING: i32 = 11;

/// A message that ends before its fields do, or holds an impossible length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub(super) struct Malformed;

/// What a server remembers a client by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SessionId {
    /// Zero asks for a new session.
    pub(super) id: i64,
    /// Sixteen octets.
    pub(super) password: [u8; 16],
}

/// The first message on a connection.
pub(super) fn connect_request(session: &SessionId, last_zxid: i64, timeout_ms: i32) -> Vec<u8> {
    let mut body = Vec::with_capacity(45);
    body.extend(0i32.to_be_bytes()); // protocol version
    body.extend(last_zxid.to_be_bytes());
    body.extend(timeout_ms.to_be_bytes());
    body.extend(session.id.to_be_bytes());
    body.extend(16i32.to_be_bytes());
    body.extend(session.password);
    body.push(0); // a read-only server will not do: it may be cut off from the ensemble
    framed(body)
}

/// The answer to the first message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ConnectResponse {
    /// Milliseconds; zero or less means that the session asked for has expired.
    pub(super) timeout_ms: i32,
    pub(super) session: SessionId,
}

impl ConnectResponse {
    pub(super) fn read(mut message: Bytes) -> Result<Self, Malformed> {
        let _protocol = message.try_get_i32().map_err(|_| Malformed)?;
        let timeout_ms = message.try_get_i32().map_err(|_| Malformed)?;
        let id = message.try_get_i64().map_err(|_| Malformed)?;
        let password = buffer(&mut message)?;
        let password = password.as_ref().try_into().map_err(|_| Malformed)?;
        Ok(Self {
            timeout_ms,
            session: SessionId { id, password },
        })
    }
}

/// A request about a path, with or without a watch on it.
pub(super) fn path_request(xid: i32, kind: i32, path: &str, watch: bool) -> Vec<u8> {
    let mut body = Vec::with_capacity(path.len() + 13);
    body.extend(xid.to_be_bytes());
    body.extend(kind.to_be_bytes());
    body.extend(i32::try_from(path.len()).unwrap_or(i32::MAX).to_be_bytes());
    body.extend(path.as_bytes());
    body.push(u8::from(watch));
    framed(body)
}

/// The request that keeps a session alive.
pub(super) fn ping() -> Vec<u8> {
    framed([PING_XID.to_be_bytes(), PING.to_be_bytes()].concat())
}

/// The head of every message from the server but the first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ReplyHeader {
    pub(super) xid: i32,
    /// The last transaction the server has seen.
    pub(super) zxid: i64,
    pub(super) error: i32,
}

impl ReplyHeader {
    /// Takes the header off the front of a message.
    pub(super) fn take(message: &mut Bytes) -> Result<Self, Malformed> {
        Ok(Self {
            xid: message.try_get_i32().map_err(|_| Malformed)?,
            zxid: message.try_get_i64().map_err(|_| Malformed)?,
            error: message.try_get_i32().map_err(|_| Malformed)?,
        })
    }
}

/// The names in a reply to [`GET_CHILDREN`].
pub(super) fn children(mut body: Bytes) -> Result<Vec<String>, Malformed> {
    let count = body.try_get_i32().map_err(|_| Malformed)?;
    let mut names = Vec::new();
    for _ in 0..count.max(0) {
        // Ends at the latest when the message does: every name takes at least four octets.
        let name = buffer(&mut body)?;
        names.push(String::from_utf8(name.into()).map_err(|_| Malformed)?);
    }
    Ok(names)
}

/// The content in a reply to [`GET_DATA`].
pub(super) fn data(mut body: Bytes) -> Result<Bytes, Malformed> {
    buffer(&mut body)
}

fn buffer(from: &mut Bytes) -> Result<Bytes, Malformed> {
    let length = from.try_get_i32().map_err(|_| Malformed)?;
    let length = usize::try_from(length.max(0)).map_err(|_| Malformed)?;
    if length > from.len() {
        return Err(Malformed);
    }
    Ok(from.split_to(length))
}

fn framed(body: Vec<u8>) -> Vec<u8> {
    let mut message = Vec::with_capacity(body.len() + 4);
    message.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_request_has_header_path_and_watch_flag() {
        assert_eq!(
            path_request(7, GET_CHILDREN, "/m", true),
            [
                0, 0, 0, 15, 0, 0, 0, 7, 0, 0, 0, 8, 0, 0, 0, 2, b'/', b'm', 1
            ]
        );
    }

    #[test]
    fn connect_messages_carry_session_and_timeout() {
        let request = connect_request(
            &SessionId {
                id: 5,
                password: [9; 16],
            },
            3,
            60_000,
        );
        assert_eq!(request.len(), 4 + 45);
        assert_eq!(request[..4], 45u32.to_be_bytes());
        let mut response = vec![
            0, 0, 0, 0, 0, 0, 0x9c, 0x40, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 16,
        ];
        response.extend([9; 16]);
        let read = ConnectResponse::read(response.into()).unwrap();
        assert_eq!(
            read,
            ConnectResponse {
                timeout_ms: 40_000,
                session: SessionId {
                    id: 5,
                    password: [9; 16]
                }
            }
        );
    }

    #[test]
    fn lengths_beyond_the_message_are_malformed() {
        assert_eq!(
            children(Bytes::from_static(&[0, 0, 0, 2, 0, 0, 0, 1, b'a'])),
            Err(Malformed)
        );
        assert_eq!(
            children(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff])),
            Err(Malformed)
        );
        assert_eq!(
            children(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff])),
            Ok(vec![])
        );
        assert_eq!(data(Bytes::from_static(&[0, 0, 0, 2, 1])), Err(Malformed));
        assert_eq!(
            data(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff])),
            Ok(Bytes::new())
        );
        assert_eq!(
            ReplyHeader::take(&mut Bytes::from_static(&[0; 15])),
            Err(Malformed)
        );
    }
}
