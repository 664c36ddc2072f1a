//! RecordIO, the framing of the Mesos v1 streams: the length of a record in decimal digits, a
//! newline, and that many octets.
//!
//! Records may be split or joined over chunks in any way. What is no record is an error after
//! which the stream cannot be read on.

use tokio_util::bytes::{Buf, Bytes, BytesMut};
use tokio_util::codec::Decoder;

/// Digits a length may have, as in dcos-net.
pub const MAX_LENGTH_DIGITS: usize = 12;

/// Why a stream is no RecordIO.
#[derive(Debug, thiserror::Error)]
pub enum RecordIoError {
    /// No newline within [`MAX_LENGTH_DIGITS`] octets.
    #[error("no record length within {MAX_LENGTH_DIGITS} octets")]
    LongLength,
    /// Something else than digits before the newline.
    #[error("the record length is no decimal number")]
    BadLength,
    /// A record that is larger than the limit.
    #[error("a record of {announced} octets exceeds the limit of {limit}")]
    LongRecord {
        /// The length the stream announces.
        announced: u64,
        /// The configured limit.
        limit: usize,
    },
    /// The stream ended within a record.
    #[error("the stream ended within a record")]
    Truncated,
    /// The transport failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Cuts a stream into records. Room is taken as octets arrive, never for an announced length, and
/// never for more than the limit and one chunk.
#[derive(Debug)]
pub struct RecordIo {
    limit: usize,
    wanted: Option<usize>,
}

impl RecordIo {
    /// A decoder for records of at most `limit` octets.
    #[must_use]
    pub const fn new(limit: usize) -> Self {
        Self {
            limit,
            wanted: None,
        }
    }

    fn read_length(&self, source: &mut BytesMut) -> Result<Option<usize>, RecordIoError> {
        let head = source.get(..source.len().min(MAX_LENGTH_DIGITS + 1));
        let head = head.unwrap_or_default();
        let Some(newline) = head.iter().position(|&octet| octet == b'\n') else {
            if head.iter().any(|octet| !octet.is_ascii_digit()) {
                return Err(RecordIoError::BadLength);
            }
            if source.len() > MAX_LENGTH_DIGITS {
                return Err(RecordIoError::LongLength);
            }
            return Ok(None);
        };
        let digits = head.get(..newline).unwrap_or_default();
        if digits.is_empty() || digits.iter().any(|octet| !octet.is_ascii_digit()) {
            return Err(RecordIoError::BadLength);
        }
        let announced = digits
            .iter()
            .fold(0u64, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        let length = usize::try_from(announced)
            .ok()
            .filter(|&length| length <= self.limit)
            .ok_or(RecordIoError::LongRecord {
                announced,
                limit: self.limit,
            })?;
        source.advance(newline + 1);
        Ok(Some(length))
    }
}

impl Decoder for RecordIo {
    type Item = Bytes;
    type Error = RecordIoError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, RecordIoError> {
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            None => match self.read_length(source)? {
                Some(wanted) => wanted,
                None => return Ok(None),
            },
        };
        if source.len() < wanted {
            self.wanted = Some(wanted);
            return Ok(None);
        }
        self.wanted = None;
        Ok(Some(source.split_to(wanted).freeze()))
    }

    fn decode_eof(&mut self, source: &mut BytesMut) -> Result<Option<Bytes>, RecordIoError> {
        match self.decode(source)? {
            Some(record) => Ok(Some(record)),
            None if source.is_empty() && self.wanted.is_none() => Ok(None),
            None => Err(RecordIoError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode_all(decoder: &mut RecordIo, chunks: &[&[u8]]) -> Result<Vec<Bytes>, RecordIoError> {
        let mut buffer = BytesMut::new();
        let mut records = Vec::new();
        for chunk in chunks {
            buffer.extend_from_slice(chunk);
            while let Some(record) = decoder.decode(&mut buffer)? {
                records.push(record);
            }
        }
        while let Some(record) = decoder.decode_eof(&mut buffer)? {
            records.push(record);
        }
        Ok(records)
    }

    #[test]
    fn records_are_cut_wherever_the_chunks_end() {
        let chunks: [&[u8]; 5] = [b"1", b"1\nhello ", b"world3\na", b"bc0\n", b"1\nx"];
        let records = decode_all(&mut RecordIo::new(100), &chunks).unwrap();
        assert_eq!(records, ["hello world", "abc", "", "x"]);
    }

    #[test]
    fn limits_hold_before_the_record_arrives() {
        let mut decoder = RecordIo::new(10);
        assert!(matches!(
            decode_all(&mut decoder, &[b"11\n"]),
            Err(RecordIoError::LongRecord {
                announced: 11,
                limit: 10
            })
        ));
        assert!(matches!(
            decode_all(&mut RecordIo::new(10), &[b"0000000000001"]),
            Err(RecordIoError::LongLength)
        ));
        assert!(matches!(
            decode_all(&mut RecordIo::new(10), &[b"999999999999\n"]),
            Err(RecordIoError::LongRecord { .. })
        ));
    }

    #[test]
    fn garbage_is_an_error() {
        for garbage in [&b"{\"type\""[..], b"\n", b"-1\nx", b"1 \nx", b"HTTP/1.1"] {
            assert!(matches!(
                decode_all(&mut RecordIo::new(10), &[garbage]),
                Err(RecordIoError::BadLength)
            ));
        }
        assert!(matches!(
            decode_all(&mut RecordIo::new(10), &[b"5\nab"]),
            Err(RecordIoError::Truncated)
        ));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_records(
            records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            cuts in prop::collection::vec(1usize..50, 1..30),
        ) {
            let mut stream = Vec::new();
            for record in &records {
                stream.extend_from_slice(format!("{}\n", record.len()).as_bytes());
                stream.extend_from_slice(record);
            }
            let mut chunks = Vec::new();
            let mut rest = stream.as_slice();
            let mut sizes = cuts.iter().cycle();
            while !rest.is_empty() {
                let (chunk, after) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
                chunks.push(chunk);
                rest = after;
            }
            let decoded = decode_all(&mut RecordIo::new(64), &chunks).unwrap();
            prop_assert_eq!(decoded, records);
        }

        #[test]
        fn octets_from_anywhere_never_panic(stream: Vec<u8>) {
            let _ = decode_all(&mut RecordIo::new(64), &[&stream]);
        }
    }
}
