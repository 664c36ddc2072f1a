//! A RecordIO stream from any octets: no panic, and how it is cut into chunks does not matter.
#![no_main]

use dns_userspace::mesos::recordio::RecordIo;
use libfuzzer_sys::fuzz_target;
use tokio_util::{bytes::BytesMut, codec::Decoder};

const LIMIT: usize = 1024;

/// The records before the first error or the end.
fn records(stream: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let mut decoder = RecordIo::new(LIMIT);
    let mut buffer = BytesMut::new();
    let mut records = Vec::new();
    for chunk in stream.chunks(chunk) {
        buffer.extend_from_slice(chunk);
        loop {
            match decoder.decode(&mut buffer) {
                Ok(Some(record)) => records.push(record.to_vec()),
                Ok(None) => break,
                Err(_) => return records,
            }
        }
    }
    records
}

fuzz_target!(|input: &[u8]| {
    if let [chunk, stream @ ..] = input {
        let whole = records(stream, stream.len().max(1));
        assert!(whole.iter().all(|record| record.len() <= LIMIT));
        assert_eq!(records(stream, usize::from(*chunk).max(1)), whole);
    }
});
