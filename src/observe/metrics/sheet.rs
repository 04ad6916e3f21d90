//! One scrape being written: samples in, `prometheus` families out.

use std::collections::BTreeMap;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};

use super::cells::{BOUNDS, Latency};
use super::family::{Family, Kind};

#[derive(Default)]
pub(super) struct Sheet(BTreeMap<&'static str, MetricFamily>);

impl Sheet {
    pub(super) fn put(&mut self, family: &Family, labels: &[&str], value: impl Into<Sample>) {
        self.put_value(family, labels, value.into().0);
    }

    /// A value in milliseconds, shown in seconds.
    pub(super) fn put_millis(&mut self, family: &Family, labels: &[&str], millis: u64) {
        self.put_value(family, labels, Sample::from(millis).0 / 1e3);
    }

    pub(super) fn put_latency<'a>(
        &mut self,
        family: &Family,
        labels: &[&str],
        shards: impl Iterator<Item = &'a Latency>,
    ) {
        let (counts, nanos) = Latency::sums(shards);
        let mut cumulative = 0;
        // The encoder adds the bucket without a bound by itself, and would write ours as `inf`, which is no number to
        // a scraper.
        let bounded = BOUNDS.iter().zip(counts).map(|(bound, count)| {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(bound.as_secs_f64());
            bucket.set_cumulative_count(cumulative);
            bucket
        });
        let buckets = bounded.collect();
        let mut histogram = Histogram::default();
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(Sample::from(nanos).0 / 1e9);
        histogram.set_bucket(buckets);
        self.metric(family, labels).set_histogram(histogram);
    }

    pub(super) fn into_families(self) -> Vec<MetricFamily> {
        self.0.into_values().collect()
    }

    fn put_value(&mut self, family: &Family, labels: &[&str], value: f64) {
        let metric = self.metric(family, labels);
        if family.kind == Kind::Counter {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
    }

    fn metric(&mut self, family: &Family, labels: &[&str]) -> &mut Metric {
        let pairs = family.labels.iter().zip(labels).map(|(name, value)| pair(name, value)).collect();
        let metrics = self.0.entry(family.name).or_insert_with(|| empty(family)).mut_metric();
        metrics.push(Metric::from_label(pairs));
        metrics.last_mut().expect("one was just pushed")
    }
}

/// A sample as Prometheus knows it: a float, exact below 2^53.
pub(super) struct Sample(f64);

impl From<u64> for Sample {
    #[allow(clippy::cast_precision_loss)]
    fn from(value: u64) -> Self {
        Self(value as f64)
    }
}

impl From<i64> for Sample {
    #[allow(clippy::cast_precision_loss)]
    fn from(value: i64) -> Self {
        Self(value as f64)
    }
}

impl From<i32> for Sample {
    fn from(value: i32) -> Self {
        Self(value.into())
    }
}

fn empty(family: &Family) -> MetricFamily {
    let mut empty = MetricFamily::default();
    empty.set_name(family.name.to_string());
    empty.set_help(family.help.to_string());
    empty.set_field_type(match family.kind {
        Kind::Counter => MetricType::COUNTER,
        Kind::Gauge => MetricType::GAUGE,
        Kind::Histogram => MetricType::HISTOGRAM,
    });
    empty
}

fn pair(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_string());
    pair.set_value(value.to_string());
    pair
}
