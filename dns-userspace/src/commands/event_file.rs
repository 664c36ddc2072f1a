//! A captured event stream, read without network and without waiting.

use std::path::Path;

use anyhow::{Context, bail};
use serde::de::IgnoredAny;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

use crate::config::Dcos;
use crate::mesos::events::Event;
use crate::mesos::recordio::RecordIo;
use crate::mesos::tasks::TaskModel;
use crate::records::dcos::DcosZones;

/// The zones after the last event of a file: one JSON event per line, one `GET_STATE` answer, or
/// RecordIO as it comes from a master. Host names of agents that are no addresses stay unknown.
///
/// # Errors
/// When a record is no event, or a static zone cannot be served.
pub(super) fn zones_after(body: &[u8], path: &Path, dcos: &Dcos) -> anyhow::Result<DcosZones> {
    let mut zones = DcosZones::new(&dcos.zone_settings(), &[])?;
    // Nothing is published, so what is known from the start needs no notice.
    zones.set_public_ips(&dcos.public_ips)?;
    let mut model = TaskModel::default();
    for (number, record) in records(body)
        .with_context(|| format!("reading the events {}", path.display()))?
        .into_iter()
        .enumerate()
    {
        let event = Event::from_json(record)
            .with_context(|| format!("event {} of {}", number + 1, path.display()))?;
        if matches!(event, Event::Subscribed(_) | Event::State(_)) {
            // Whoever is subscribed leads, or stands beside the master that does.
            zones.set_leader(dcos.node_ip);
        }
        zones.apply(&model.apply(&event, &|_| None))?;
    }
    Ok(zones)
}

/// Cuts a file into its records.
fn records(body: &[u8]) -> anyhow::Result<Vec<&[u8]>> {
    let body = body.trim_ascii_start();
    if body.first().is_some_and(u8::is_ascii_digit) {
        return framed(body);
    }
    let mut values = serde_json::Deserializer::from_slice(body).into_iter::<IgnoredAny>();
    let mut records = Vec::new();
    let mut start = 0;
    while let Some(value) = values.next() {
        value.with_context(|| format!("record {}", records.len() + 1))?;
        let end = values.byte_offset();
        records.extend(body.get(start..end));
        start = end;
    }
    Ok(records)
}

fn framed(body: &[u8]) -> anyhow::Result<Vec<&[u8]>> {
    let mut decoder = RecordIo::new(body.len());
    let mut source = BytesMut::from(body);
    let mut records = Vec::new();
    while let Some(record) = decoder.decode_eof(&mut source)? {
        let end = body.len() - source.len();
        match body.get(end - record.len()..end) {
            Some(record) => records.push(record),
            None => bail!("a record is longer than the file"),
        }
        // Editors end a file with a newline.
        if source.as_ref().trim_ascii().is_empty() {
            break;
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: &str = include_str!("../../../tests/fixtures/dcos/recovered-agents.json");
    const STATE: &str = include_str!("../../../tests/fixtures/dcos/unhealthy.json");

    #[test]
    fn lines_and_record_io_are_the_same_events() {
        let lines = records(EVENTS.as_bytes()).unwrap();
        assert_eq!(lines.len(), 9);
        let mut framed = Vec::new();
        for line in EVENTS.lines() {
            framed.extend_from_slice(format!("{}\n{line}", line.len()).as_bytes());
        }
        let framed_records = records(&framed).unwrap();
        for (a, b) in lines.iter().zip(&framed_records) {
            assert_eq!(a.trim_ascii(), b.trim_ascii());
        }
        assert_eq!(framed_records.len(), lines.len());
        framed.push(b'\n');
        assert_eq!(records(&framed).unwrap().len(), lines.len());
    }

    #[test]
    fn one_answer_may_span_lines() {
        let value: serde_json::Value = serde_json::from_str(STATE).unwrap();
        let pretty = serde_json::to_vec_pretty(&value).unwrap();
        assert_eq!(records(&pretty).unwrap().len(), 1);
        let zones = zones_after(&pretty, Path::new("x"), &Dcos::default()).unwrap();
        assert_eq!(zones.vips().iter().count(), 1);
    }

    #[test]
    fn garbage_is_told() {
        for garbage in [&b"{\"type\":"[..], b"5\n{}", b"x", b"{} y", b"7"] {
            assert!(zones_after(garbage, Path::new("x"), &Dcos::default()).is_err());
        }
    }
}
