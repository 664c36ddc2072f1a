//! The text itself: families of counters, gauges and histograms, each from values that are kept
//! elsewhere.

use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

/// Names and values.
pub(super) type Labels = Vec<(&'static str, String)>;

/// Counters of a `T` that have the same labels: name without its `_total`, help, value.
pub(super) type Rows<'r, T> = &'r [(&'static str, &'static str, fn(&T) -> u64)];

/// A histogram: the upper bound of each bucket with what it has for itself, the last one without
/// bound, and the sum of all values.
pub(super) struct Distribution {
    pub(super) buckets: Vec<(f64, u64)>,
    pub(super) sum: f64,
}

impl EncodeMetric for Distribution {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let count = self.buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<Labels>(self.sum, count, &self.buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// Where families are put.
pub(super) struct Page<'e>(pub(super) DescriptorEncoder<'e>);

impl Page<'_> {
    /// A family with these metrics; nothing if there are none.
    pub(super) fn family<M: EncodeMetric>(
        &mut self,
        name: &str,
        help: &str,
        metrics: impl IntoIterator<Item = (Labels, M)>,
    ) -> fmt::Result {
        let mut metrics = metrics.into_iter().peekable();
        let Some((_, first)) = metrics.peek() else {
            return Ok(());
        };
        let kind = first.metric_type();
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, metric) in metrics {
            if labels.is_empty() {
                // The only one.
                return metric.encode(family);
            }
            metric.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// A counter, named without its `_total`.
    pub(super) fn counter(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let counters = values.into_iter();
        self.family(
            name,
            help,
            counters.map(|(labels, value)| (labels, ConstCounter::new(value))),
        )
    }

    /// The same counters of each of `subjects`.
    pub(super) fn counters<T>(
        &mut self,
        rows: Rows<'_, T>,
        subjects: &[(Labels, &T)],
    ) -> fmt::Result {
        for (name, help, value) in rows {
            let values = subjects
                .iter()
                .map(|(labels, one)| (labels.clone(), value(one)));
            self.counter(name, help, values)?;
        }
        Ok(())
    }

    /// A gauge.
    pub(super) fn gauge(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, f64)>,
    ) -> fmt::Result {
        let gauges = values.into_iter();
        self.family(
            name,
            help,
            gauges.map(|(labels, value)| (labels, ConstGauge::new(value))),
        )
    }

    /// A gauge without labels.
    pub(super) fn level(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauge(name, help, [(Vec::new(), value)])
    }
}
