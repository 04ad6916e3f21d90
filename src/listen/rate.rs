//! How often something may happen, by the generic cell rate algorithm: one number says when all that has happened will have been paid for.
//!
//! Owns one such number, and a table of them for ever so many clients in memory that does not grow. Refuses to know what happens, and
//! takes the time as an argument.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Cells of a table: half a mebibyte.
const CELLS: usize = 1 << 16;
/// How much of the time may be owed at once: of what may happen in a second, all may happen in one moment.
const BURST: Duration = Duration::from_secs(1);

/// When what has happened so far is paid for, in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Rate(AtomicU64);

impl Rate {
    /// Whether it may happen once more at `now`, of `per_sec` times a second; if so, it has. When it is paid for then.
    fn take(&self, per_sec: u32, now: Duration) -> Option<u64> {
        let (cost, now) = (nanos(BURST) / u64::from(per_sec.max(1)), nanos(now));
        let most = now.saturating_add(nanos(BURST));
        let pay = |paid: u64| Some(paid.max(now).saturating_add(cost)).filter(|paid| *paid <= most);
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).ok()?;
        pay(before)
    }

    /// Whether it may happen once more; if so, it has.
    pub(super) fn admits(&self, per_sec: u32, now: Duration) -> bool {
        self.take(per_sec, now).is_some()
    }
}

/// A rate for each client, of as many as there are.
///
/// Each has two cells, picked by keyed hashes, and the one that is owed less decides: two clients are taken for one only where they meet in
/// both. Of a thousand clients at their bounds, who hold three cells in a hundred, another suffers once in a thousand times.
#[derive(Debug)]
pub(super) struct Rates {
    cells: Box<[Rate]>,
    hashes: [RandomState; 2],
}

impl Default for Rates {
    fn default() -> Self {
        Self { cells: (0..CELLS).map(|_| Rate::default()).collect(), hashes: Default::default() }
    }
}

impl Rates {
    /// Whether it may happen once more to `client`; if so, it has.
    pub(super) fn admits(&self, client: &impl Hash, per_sec: u32, now: Duration) -> bool {
        let [less, more] = self.cells(client);
        let Some(paid) = less.take(per_sec, now) else { return false };
        more.0.fetch_max(paid, Ordering::Relaxed);
        true
    }

    /// Whether half of what may happen to `client` in one moment has.
    pub(super) fn is_half_spent(&self, client: &impl Hash, now: Duration) -> bool {
        let [less, _] = self.cells(client);
        less.0.load(Ordering::Relaxed) > nanos(now + BURST / 2)
    }

    /// The cells of `client`; what is owed least comes first.
    fn cells(&self, client: &impl Hash) -> [&Rate; 2] {
        let cell = |hash: &RandomState| {
            let at = hash.hash_one(client) % self.cells.len() as u64;
            &self.cells[usize::try_from(at).unwrap_or_default()]
        };
        let [one, other] = [cell(&self.hashes[0]), cell(&self.hashes[1])];
        if one.0.load(Ordering::Relaxed) <= other.0.load(Ordering::Relaxed) { [one, other] } else { [other, one] }
    }
}

/// Good for five hundred years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(mut admits: impl FnMut() -> bool) -> u32 {
        (0..10_000).take_while(|_| admits()).count().try_into().unwrap()
    }

    #[test]
    fn as_many_as_in_a_second_may_happen_at_once_and_then_one_at_a_time() {
        let (rate, now) = (Rate::default(), Duration::from_secs(1000));
        assert_eq!(admitted(|| rate.admits(10, now)), 10);
        assert_eq!(admitted(|| rate.admits(10, now + Duration::from_millis(99))), 0);
        assert_eq!(admitted(|| rate.admits(10, now + Duration::from_millis(300))), 3);
        assert_eq!(admitted(|| rate.admits(10, now + Duration::from_hours(1))), 10, "rest saves nothing up");
    }

    #[test]
    fn over_time_no_more_happens_than_the_rate_says() {
        let (rate, mut count) = (Rate::default(), 0);
        for millis in 0..10_000 {
            count += u32::from(rate.admits(50, Duration::from_millis(millis)));
        }
        assert!((500..=550).contains(&count), "{count}");
    }

    #[test]
    fn clocks_that_go_back_and_odd_rates_do_no_harm() {
        let rate = Rate::default();
        assert!(rate.admits(1, Duration::from_secs(100)));
        assert!(!rate.admits(1, Duration::from_secs(1)));
        assert!(!rate.admits(u32::MAX, Duration::ZERO));
        assert!(Rate::default().admits(0, Duration::MAX) || nanos(Duration::MAX) == u64::MAX);
    }

    #[test]
    fn a_client_at_its_rate_holds_up_no_other() {
        let (rates, now) = (Rates::default(), Duration::from_secs(5));
        assert!(!rates.is_half_spent(&1, now));
        assert_eq!(admitted(|| rates.admits(&1, 20, now)), 20);
        assert!(rates.is_half_spent(&1, now));
        let suffers = |other: &u32| admitted(|| rates.admits(other, 20, now)) < 20;
        // Another shares both cells with the first once in two thousand million times.
        assert_eq!((2..200).filter(suffers).count(), 0);
    }

    #[test]
    fn threads_together_get_no_more_than_one_alone() {
        let (rate, now) = (Rate::default(), Duration::from_secs(5));
        let count = || admitted(|| rate.admits(1000, now));
        let total = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<u32>()
        });
        assert_eq!(total, 1000);
    }
}
