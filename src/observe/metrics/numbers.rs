//! The numbers of the status page: a few sums and an estimate, read from the same shards as a scrape.

use std::time::Duration;

use super::cells::{BOUNDS, EndpointCells, Latency, RouteCells};

/// What one route has done since the process started.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteNumbers {
    /// Requests that have ended.
    pub requests: u64,
    /// Of those, the ones answered with a 5xx status.
    pub server_errors: u64,
    /// Requests that have not.
    pub in_flight: u64,
    /// Half of the requests took no longer, as estimated from the histogram; `None` before the first request.
    pub p50: Option<Duration>,
    /// 99 of 100 requests took no longer.
    pub p99: Option<Duration>,
}

impl RouteNumbers {
    pub(super) fn read(shards: &[&RouteCells]) -> Self {
        let requests = RouteCells::requests(shards);
        let (counts, _) = Latency::sums(shards.iter().map(|shard| &shard.latency));
        Self {
            requests: requests.iter().map(|(_, _, count)| count).sum(),
            server_errors: requests.iter().filter(|(_, status, _)| status.starts_with('5')).map(|(_, _, n)| n).sum(),
            in_flight: total(shards.iter().map(|shard| shard.in_flight.value())),
            p50: quantile(&counts, 0.5),
            p99: quantile(&counts, 0.99),
        }
    }
}

/// What one endpoint has done since the process started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointNumbers {
    /// Connections open now.
    pub open: u64,
    /// Slots checked out now.
    pub leased: u64,
    /// Requests waiting for a slot now.
    pub waiting: u64,
    /// Failed exchanges.
    pub errors: u64,
}

impl EndpointNumbers {
    pub(super) fn read(shards: &[&EndpointCells]) -> Self {
        Self {
            open: total(shards.iter().map(|shard| shard.open.value())),
            leased: total(shards.iter().map(|shard| shard.leased.value())),
            waiting: total(shards.iter().map(|shard| shard.waiting.value())),
            errors: shards.iter().flat_map(|shard| &shard.failures).map(super::cells::Count::value).sum(),
        }
    }
}

/// The sum of a gauge's shards. One shard may be negative for a moment; the sum then shows as none.
fn total(shards: impl Iterator<Item = i64>) -> u64 {
    u64::try_from(shards.sum::<i64>()).unwrap_or(0)
}

/// The estimate of Prometheus' `histogram_quantile`: linear within a bucket, the highest bound for what is slower.
#[allow(clippy::cast_precision_loss)] // an estimate
fn quantile(counts: &[u64], share: f64) -> Option<Duration> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = share * all as f64;
    let mut below = 0.0;
    let mut lower = Duration::ZERO;
    for (count, upper) in counts.iter().zip(BOUNDS) {
        let count = *count as f64;
        if count > 0.0 && below + count >= rank {
            return Some(lower + upper.saturating_sub(lower).mul_f64(((rank - below) / count).clamp(0.0, 1.0)));
        }
        below += count;
        lower = upper;
    }
    Some(lower)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(of: &[(usize, u64)]) -> Vec<u64> {
        let mut counts = vec![0; BOUNDS.len() + 1];
        for (bucket, count) in of {
            counts[*bucket] = *count;
        }
        counts
    }

    #[test]
    fn no_observation_has_no_quantile() {
        assert_eq!(quantile(&counts(&[]), 0.5), None);
    }

    #[test]
    fn a_quantile_is_linear_within_its_bucket() {
        let all_in_the_second = counts(&[(1, 100)]);
        assert_eq!(quantile(&all_in_the_second, 0.5), Some(Duration::from_micros(750)));
        assert_eq!(quantile(&all_in_the_second, 1.0), Some(Duration::from_millis(1)));
    }

    #[test]
    fn a_quantile_skips_what_is_faster() {
        let half_and_half = counts(&[(0, 50), (9, 50)]);
        assert_eq!(quantile(&half_and_half, 0.5), Some(Duration::from_micros(500)));
        assert!(quantile(&half_and_half, 0.99).unwrap() > Duration::from_millis(490));
    }

    #[test]
    fn what_is_slower_than_all_bounds_shows_as_the_highest() {
        assert_eq!(quantile(&counts(&[(BOUNDS.len(), 3)]), 0.5), Some(Duration::from_secs(30)));
    }
}
