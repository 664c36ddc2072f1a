//! What the REST API of a DC/OS node tells, from what the daemon holds.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Outlet;
use super::dcos::Cluster;
use crate::http::dcos::{Node, Source, is_alias};
use crate::records::dcos::vips::VipListing;
use crate::zones::{Name, Snapshot};

/// The source of the REST API.
pub(super) struct Rest {
    pub(super) outlet: Arc<Outlet>,
    pub(super) cluster: Arc<Cluster>,
    /// The mesos-dns zone, of which dcos-dns lists the copy only.
    pub(super) domain: Name,
    pub(super) node_ip: Option<IpAddr>,
}

impl Source for Rest {
    fn snapshot(&self) -> Arc<Snapshot> {
        self.outlet.served.load_full()
    }

    fn is_listed(&self, apex: &Name) -> bool {
        *apex != self.domain && !is_alias(apex)
    }

    fn vips(&self, with_addresses: bool) -> Vec<VipListing> {
        self.cluster.zones().vips().listing(with_addresses)
    }

    async fn refresh_nodes(&self) {
        self.cluster.detect_public_ips().await;
    }

    /// This node alone: nobody tells us of the others' public addresses.
    fn nodes(&self) -> Vec<Node> {
        let Some(private_ip) = self.node_ip else {
            return Vec::new();
        };
        let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        vec![Node {
            private_ip,
            public_ips: self.cluster.zones().public_ips().to_vec(),
            hostname: hostname.trim().to_owned(),
            updated: rfc3339(self.cluster.public_ips_since()),
        }]
    }

    fn metrics(&self, registry: Option<&str>) -> Option<String> {
        let mut text = String::new();
        match registry {
            Some("dns") => self.dns(&mut text),
            Some("mesos_listener") => self.mesos_listener(&mut text),
            Some("l4lb") => self.l4lb(&mut text),
            Some(_) => return None,
            None => {
                self.dns(&mut text);
                self.mesos_listener(&mut text);
                self.l4lb(&mut text);
            }
        }
        Some(text)
    }

    fn cluster_id(&self) -> Option<String> {
        self.cluster.id().map(|id| id.to_string())
    }
}

impl Rest {
    fn dns(&self, text: &mut String) {
        let snapshot = self.snapshot();
        let mut counts = vec![0; snapshot.zones().len()];
        for node in snapshot.nodes() {
            let records: usize = node.rrsets().iter().map(|one| one.data().len()).sum();
            if let Some(count) = counts.get_mut(usize::from(node.zone().0)) {
                *count += records;
            }
        }
        let _ = writeln!(text, "# TYPE zone_records gauge");
        for (zone, count) in snapshot.zones().iter().zip(counts) {
            if self.is_listed(&zone.apex) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "zone_records{{zone=\"{}\"}} {count}", zone.apex);
            }
        }
    }

    fn mesos_listener(&self, text: &mut String) {
        let stream = self.cluster.stream.borrow().clone();
        let count = |number: usize| number as u64;
        for (name, kind, value) in [
            ("is_leader", "gauge", u64::from(stream.subscribed)),
            ("agents_total", "gauge", count(stream.agents)),
            ("frameworks_total", "gauge", count(stream.frameworks)),
            ("tasks_total", "gauge", count(stream.tasks)),
            ("waiting_tasks_total", "gauge", count(stream.waiting_tasks)),
            ("messages_total", "counter", stream.messages),
            ("bytes_total", "counter", stream.octets),
            ("failures_total", "counter", stream.failures),
        ] {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
        }
    }

    fn l4lb(&self, text: &mut String) {
        let zones = self.cluster.zones();
        let (mut vips, mut backends) = (0, 0);
        for (_, of_vip) in zones.vips().iter() {
            vips += 1;
            backends += of_vip.count();
        }
        for (name, value) in [("vips", vips), ("backends", backends)] {
            let _ = writeln!(text, "# TYPE {name} gauge\n{name} {value}");
        }
    }
}

/// A moment in UTC by the Gregorian calendar (RFC 3339, section 5.6), in milliseconds.
fn rfc3339(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86400, since.as_secs() % 86400);
    // Years begin in March here, so that the odd day is the last; an era is 400 years.
    let day = days + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * month + 2) / 5 + 1;
    let is_next_year = month >= 10;
    format!(
        "{:04}-{:02}-{date:02}T{:02}:{:02}:{:02}.{:03}Z",
        era * 400 + year + u64::from(is_next_year),
        if is_next_year { month - 9 } else { month + 3 },
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn moments_are_those_of_the_calendar() {
        // As `date -u -d @N` prints them.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.250Z"),
            (951_782_400, "2000-02-29T00:00:00.250Z"),
            (1_566_970_877, "2019-08-28T05:41:17.250Z"),
            (4_107_542_399, "2100-02-28T23:59:59.250Z"),
            (4_107_542_400, "2100-03-01T00:00:00.250Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(250);
            assert_eq!(rfc3339(at), text);
        }
    }
}
