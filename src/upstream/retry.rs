//! What may be tried again, how soon, and how much of it at once.
//!
//! Owns the budget: a request that an endpoint may have seen is sent again only while few others are, so that an upstream in trouble is not
//! sent a multiple of what it can't do. What no endpoint has seen is not multiplied by trying elsewhere, and needs no budget. Whether
//! a request may be seen twice is [`super::forward`]'s to judge.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// A pause is at most so many times the first one.
const LONGEST_PAUSE: u32 = 10;

/// When requests are tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrySettings {
    /// Tries of one request in all. One on a kept connection that turned out to be closed is none.
    pub attempts: u32,
    /// The share of the requests under way that may be retries.
    pub budget_share: f64,
    /// How many may be in any case.
    pub budget_min: usize,
    /// The pause before the first retry of a request that may have been seen; each further one is twice as long.
    pub backoff: Duration,
    /// How long a try may take that is not the last, if not as long as all of them.
    pub try_timeout: Option<Duration>,
    /// How many bytes a body may have that is sent again when it may have been seen.
    pub body_bytes: u64,
    /// Whether another endpoint is tried when one can't be connected to.
    pub on_connect: bool,
    /// Whether a connection that ends without an answer is reason to try again.
    pub on_reset: bool,
    /// The statuses of answers that are.
    pub statuses: Box<[u16]>,
}

impl RetrySettings {
    /// Whether an endpoint that can't be connected to is passed over for another.
    pub(super) fn may_try_elsewhere(&self) -> bool {
        self.on_connect && self.attempts > 1
    }
}

/// Why a request was tried again: the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// A kept connection was closed.
    Stale,
    /// The endpoint could not be connected to.
    Connect,
    /// The connection ended without an answer.
    Reset,
    /// No answer within the time of one try.
    Timeout,
    /// An answer with a status that says so.
    Status,
    /// No answer yet: another endpoint is asked as well.
    Hedge,
}

impl Reason {
    const ALL: [Self; 6] = [Self::Stale, Self::Connect, Self::Reset, Self::Timeout, Self::Status, Self::Hedge];

    const fn label(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Timeout => "timeout",
            Self::Status => "status",
            Self::Hedge => "hedge",
        }
    }
}

/// The retries of one upstream, over all workers.
#[derive(Debug)]
pub(super) struct Retries {
    /// How many are under way that the budget is for.
    retrying: AtomicUsize,
    /// Each worker's count of what it has under way with each endpoint.
    active: Mutex<Vec<Weak<AtomicUsize>>>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    retries: [AtomicU64; Reason::ALL.len()],
    exhausted: AtomicU64,
}

/// One retry that counts against the budget, until it is over.
#[derive(Debug)]
#[must_use = "the retry is over when this is dropped"]
pub(super) struct Retrying(Arc<Retries>);

impl Drop for Retrying {
    fn drop(&mut self) {
        self.0.retrying.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Retries {
    /// With what was counted for the upstream that had this name before.
    pub(super) fn new(before: Option<&Self>) -> Arc<Self> {
        let counts = before.map(|before| Arc::clone(&before.counts)).unwrap_or_default();
        Arc::new(Self { retrying: AtomicUsize::new(0), active: Mutex::default(), counts })
    }

    /// Counts what this worker has under way with one endpoint.
    pub(super) fn watch(&self, active: &Arc<AtomicUsize>) {
        let mut all = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(active));
    }

    /// A retry within the budget, if there is room for one.
    pub(super) fn begin(self: &Arc<Self>, settings: &RetrySettings) -> Option<Retrying> {
        let begun = self.begin_unmissed(settings);
        if begun.is_none() {
            self.counts.exhausted.fetch_add(1, Ordering::Relaxed);
        }
        begun
    }

    /// The same for a request that has not failed: if there is no room, no failure is passed on for it.
    pub(super) fn begin_unmissed(self: &Arc<Self>, settings: &RetrySettings) -> Option<Retrying> {
        let most = budget(self.active(), settings);
        let more = |now: usize| (now < most).then_some(now + 1);
        self.retrying.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Retrying(Arc::clone(self)))
    }

    /// A request is tried again.
    pub(super) fn count(&self, reason: Reason) {
        self.counts.retries[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were, by reason.
    pub(super) fn counts(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL
            .map(|reason| (reason.label(), self.counts.retries[reason as usize].load(Ordering::Relaxed)))
            .to_vec()
    }

    /// How many there were not, for want of a budget.
    pub(super) fn exhausted(&self) -> u64 {
        self.counts.exhausted.load(Ordering::Relaxed)
    }

    fn active(&self) -> usize {
        let all = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

/// How many retries there may be at once while so many requests are under way.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // requests under way
fn budget(active: usize, settings: &RetrySettings) -> usize {
    ((settings.budget_share * active as f64) as usize).max(settings.budget_min)
}

/// No pause is longer.
pub(super) fn longest_pause(settings: &RetrySettings) -> Duration {
    settings.backoff.saturating_mul(LONGEST_PAUSE)
}

/// The pause before the retry of this number, the first being 1. `random` is from 0 to 1.
pub(super) fn pause(number: u32, random: f64, settings: &RetrySettings) -> Duration {
    let doubled = 1u32.checked_shl(number.saturating_sub(1)).unwrap_or(u32::MAX).clamp(1, LONGEST_PAUSE);
    settings.backoff.saturating_mul(doubled).mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> RetrySettings {
        RetrySettings {
            attempts: 3,
            budget_share: 0.2,
            budget_min: 3,
            backoff: Duration::from_millis(5),
            try_timeout: None,
            body_bytes: 0,
            on_connect: true,
            on_reset: true,
            statuses: Box::default(),
        }
    }

    #[test]
    fn the_budget_is_a_share_of_what_is_under_way_and_three_at_least() {
        for (active, expected) in [(0, 3), (10, 3), (15, 3), (20, 4), (100, 20)] {
            assert_eq!(budget(active, &settings()), expected, "{active}");
        }
    }

    #[test]
    fn retries_beyond_the_budget_are_none_until_others_are_over() {
        let retries = Retries::new(None);
        let worker = Arc::new(AtomicUsize::new(25));
        retries.watch(&worker);
        let held: Vec<_> = (0..7).map_while(|_| retries.begin(&settings())).collect();
        assert_eq!((held.len(), retries.exhausted()), (5, 1));
        drop(held);
        worker.store(0, Ordering::Relaxed);
        let held: Vec<_> = (0..7).map_while(|_| retries.begin(&settings())).collect();
        assert_eq!((held.len(), retries.exhausted()), (3, 2));
        drop(worker);
        assert_eq!(retries.active(), 0, "a worker that is gone counts for nothing");
        assert_eq!(Retries::new(Some(&retries)).exhausted(), 2, "counts outlive a reload");
    }

    proptest! {
        #[test]
        fn pauses_grow_within_their_bounds(number in 1u32..1000, random in 0.0f64..=1.0) {
            let pause = pause(number, random, &settings());
            prop_assert!(pause >= Duration::from_micros(2500) && pause <= Duration::from_millis(50));
            prop_assert!(number > 1 || pause <= Duration::from_millis(5));
        }
    }
}
