//! The shards: what one worker counts about one thing, on cache lines of its own.
//!
//! A shard is written by its worker and read by a scrape. Additions are atomic read-modify-writes all the same, since a
//! guard may be dropped on another thread; on a line that no other core touches they cost a few nanoseconds.

use std::array;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::Method;

use super::compression::CompressionCells;
use super::crowd::OverBound;
use super::meters::{Announcement, Handshake, Introspected, QuicAttempt, UpstreamFailure};
use super::tunnels::TunnelCause;

/// The method labels; a method outside the list counts under the last.
pub const METHODS: [&str; 10] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", OTHER];

/// The status labels; a code outside the list counts as `other`. 499 is a client that left.
pub const STATUSES: [u16; 51] = [
    101, 200, 201, 202, 203, 204, 205, 206, 207, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406,
    408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499, 500, 501,
    502, 503, 504, 505, 507,
];

/// The codes of gRPC by their number.
pub const GRPC_CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Upper bounds of the latency buckets; one more bucket takes what is slower.
pub(super) const BOUNDS: [Duration; 15] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
];

const OTHER: &str = "other";
const BUCKETS: usize = BOUNDS.len() + 1;
const STATUS_SLOTS: usize = STATUSES.len() + 1;

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub(super) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down; one shard may be negative, the sum of all is not.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Level(AtomicI64);

impl Level {
    pub(super) fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One unit of a gauge, given back on drop: whoever holds it can't leak it by leaving early.
#[derive(Debug)]
#[must_use = "the gauge goes down when this is dropped"]
pub struct Held(Arc<Level>);

impl Held {
    pub(super) fn take(level: &Arc<Level>) -> Self {
        level.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(level))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One worker's counts of one route.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct RouteCells {
    /// One row a method, made when the method is first seen: most routes see one or two.
    rows: [OnceLock<Box<StatusRow>>; METHODS.len()],
    /// One count a code, made at the first gRPC call.
    calls: OnceLock<Box<[Count; GRPC_CODES.len()]>>,
    pub(super) latency: Latency,
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
    pub(super) in_flight: Arc<Level>,
    pub(super) tunnels: TunnelCells,
    /// Made for the first answer that is compressed.
    pub(super) compression: OnceLock<Box<CompressionCells>>,
}

impl RouteCells {
    pub(super) fn request(&self, method: &Method, status: u16) {
        let row = self.rows[method_slot(method)].get_or_init(Box::default);
        row.0[status_slot(status)].add(1);
    }

    pub(super) fn call(&self, code: usize) {
        if let Some(count) = self.calls.get_or_init(Box::default).get(code) {
            count.add(1);
        }
    }

    /// The gRPC calls of all shards by code; only what has happened.
    pub(super) fn calls(shards: &[&Self]) -> Vec<(&'static str, u64)> {
        let count = |(number, code): (usize, &&'static str)| {
            let rows = shards.iter().filter_map(|shard| shard.calls.get());
            (*code, rows.map(|row| row[number].value()).sum())
        };
        GRPC_CODES.iter().enumerate().map(count).filter(|(_, calls)| *calls > 0).collect()
    }

    /// The requests of all shards by method and status; only what has happened.
    pub(super) fn requests(shards: &[&Self]) -> Vec<(&'static str, String, u64)> {
        let mut seen = Vec::new();
        for (slot, method) in METHODS.iter().enumerate() {
            for status in 0..STATUS_SLOTS {
                let rows = shards.iter().filter_map(|shard| shard.rows[slot].get());
                let requests = rows.map(|row| row.0[status].value()).sum();
                if requests > 0 {
                    let label = STATUSES.get(status).map_or_else(|| OTHER.to_string(), u16::to_string);
                    seen.push((*method, label, requests));
                }
            }
        }
        seen
    }
}

/// One worker's counts of the tunnels of one route.
#[derive(Debug, Default)]
pub(super) struct TunnelCells {
    pub(super) open: Arc<Level>,
    pub(super) ended: [Count; TunnelCause::ALL.len()],
    pub(super) bytes_in: Count,
    pub(super) bytes_out: Count,
}

#[derive(Debug)]
#[repr(align(128))]
struct StatusRow([Count; STATUS_SLOTS]);

impl Default for StatusRow {
    fn default() -> Self {
        Self(array::from_fn(|_| Count::default()))
    }
}

/// A histogram of durations over [`BOUNDS`].
#[derive(Debug, Default)]
pub(super) struct Latency {
    buckets: [Count; BUCKETS],
    nanos: Count,
}

impl Latency {
    pub(super) fn observe(&self, duration: Duration) {
        let bucket = BOUNDS.iter().position(|bound| duration <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.nanos.add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Observations in each bucket, and nanoseconds in all. The count of all is the buckets' sum, so that the two agree
    /// in every scrape.
    pub(super) fn sums<'a>(shards: impl Iterator<Item = &'a Self>) -> ([u64; BUCKETS], u64) {
        let mut counts = [0; BUCKETS];
        let mut nanos = 0;
        for shard in shards {
            for (count, bucket) in counts.iter_mut().zip(&shard.buckets) {
                *count += bucket.value();
            }
            nanos += shard.nanos.value();
        }
        (counts, nanos)
    }
}

/// Counts under the labels of a closed list, and `other` for what is not in it.
#[derive(Debug)]
pub(super) struct Tally {
    labels: &'static [&'static str],
    counts: Box<[Count]>,
}

impl Tally {
    pub(super) fn new(labels: &'static [&'static str]) -> Self {
        Self { labels, counts: (0..=labels.len()).map(|_| Count::default()).collect() }
    }

    pub(super) fn add(&self, label: &str) {
        let slot = self.labels.iter().position(|known| *known == label).unwrap_or(self.labels.len());
        self.counts[slot].add(1);
    }

    /// The sum of each label; all shards have one list.
    pub(super) fn sums<'a>(shards: impl Iterator<Item = &'a Self>) -> Vec<(&'static str, u64)> {
        let mut sums: Vec<(&'static str, u64)> = Vec::new();
        for shard in shards {
            for (slot, count) in shard.counts.iter().enumerate() {
                match sums.get_mut(slot) {
                    Some((_, sum)) => *sum += count.value(),
                    None => sums.push((shard.labels.get(slot).copied().unwrap_or(OTHER), count.value())),
                }
            }
        }
        sums
    }
}

/// One worker's authorization decisions on one route.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct AuthCells {
    pub(super) permitted: Count,
    pub(super) denied: Tally,
}

impl AuthCells {
    pub(super) fn new(reasons: &'static [&'static str]) -> Self {
        Self { permitted: Count::default(), denied: Tally::new(reasons) }
    }
}

/// One worker's counts of one endpoint.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct EndpointCells {
    pub(super) opened: Count,
    pub(super) reused: Count,
    pub(super) failures: [Count; UpstreamFailure::ALL.len()],
    pub(super) open: Arc<Level>,
    pub(super) leased: Arc<Level>,
    pub(super) waiting: Arc<Level>,
}

/// One worker's counts of one listener.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct ListenerCells {
    pub(super) accepted: Count,
    pub(super) errors: Count,
    pub(super) handshakes: [Count; Handshake::ALL.len()],
    pub(super) quic: [Count; QuicAttempt::ALL.len()],
    pub(super) announcements: [Count; Announcement::ALL.len()],
    pub(super) refused: [Count; OverBound::ALL.len()],
    pub(super) open: Arc<Level>,
}

/// One worker's counts of the questions to one issuer.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct IntrospectionCells {
    pub(super) outcomes: [Count; Introspected::ALL.len()],
    pub(super) latency: Latency,
}

/// One worker's counts of what belongs to no route, endpoint or listener.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct WorkerCells {
    pub(super) cache_hits: Count,
    pub(super) cache_misses: Count,
    pub(super) panics: Count,
    pub(super) malformed: Tally,
}

impl WorkerCells {
    pub(super) fn new(reasons: &'static [&'static str]) -> Self {
        Self {
            cache_hits: Count::default(),
            cache_misses: Count::default(),
            panics: Count::default(),
            malformed: Tally::new(reasons),
        }
    }
}

fn method_slot(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::PUT => 3,
        Method::PATCH => 4,
        Method::DELETE => 5,
        Method::OPTIONS => 6,
        Method::CONNECT => 7,
        Method::TRACE => 8,
        _ => METHODS.len() - 1,
    }
}

fn status_slot(status: u16) -> usize {
    /// Slot of each code below 600, so that counting a request searches nothing.
    #[allow(clippy::cast_possible_truncation)] // there are fewer than 256 slots
    const SLOTS: [u8; 600] = {
        let mut slots = [STATUSES.len() as u8; 600];
        let mut slot = 0;
        while slot < STATUSES.len() {
            slots[STATUSES[slot] as usize] = slot as u8;
            slot += 1;
        }
        slots
    };
    SLOTS.get(usize::from(status)).map_or(STATUSES.len(), |slot| usize::from(*slot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_method_has_its_own_slot() {
        for (slot, label) in METHODS.iter().enumerate().take(METHODS.len() - 1) {
            let method = Method::from_bytes(label.as_bytes()).unwrap();
            assert_eq!(method_slot(&method), slot, "{label}");
        }
        assert_eq!(METHODS[method_slot(&Method::from_bytes(b"PROPFIND").unwrap())], OTHER);
    }

    #[test]
    fn every_listed_status_has_its_own_slot_and_all_others_share_one() {
        for (slot, status) in STATUSES.iter().enumerate() {
            assert_eq!(status_slot(*status), slot, "{status}");
        }
        for status in [0, 99, 100, 208, 418, 599, 600, 999, u16::MAX] {
            assert_eq!(status_slot(status), STATUSES.len(), "{status}");
        }
    }

    #[test]
    fn a_bucket_includes_its_upper_bound() {
        let latency = Latency::default();
        for bound in BOUNDS {
            latency.observe(bound);
        }
        latency.observe(BOUNDS[BOUNDS.len() - 1] + Duration::from_nanos(1));
        assert_eq!(Latency::sums([&latency].into_iter()).0, [1; BUCKETS]);
    }
}
