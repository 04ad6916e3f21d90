//! What the whole process knows of one endpoint, in atomics: every worker reads it for every request, and hardly anybody writes.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::eject::{History, Reason};
use super::latency::Took;
use super::question::Probed;
use crate::upstream::Presence;
use crate::upstream::tally::Tally;

/// What all times here count from.
static BEGUN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Whether one endpoint is to be used. It outlives reloads that keep the endpoint.
#[derive(Debug)]
pub struct Standing {
    presence: Arc<Presence>,
    /// Its probes fail, or it is new and none has said that it is well.
    down: AtomicBool,
    /// No probe has said anything yet, and one has to.
    unproven: AtomicBool,
    /// Microseconds since [`BEGUN`]; 0 if it is not ejected.
    ejected_until: AtomicU64,
    /// Failures since the last success.
    consecutive: AtomicU32,
    requests: Tally,
    /// How long they took; there once that is asked for.
    took: OnceLock<Arc<Took>>,
    history: Mutex<History>,
    ejections: [AtomicU64; Reason::ALL.len()],
    probes: [AtomicU64; Probed::ALL.len()],
}

impl Standing {
    /// Nothing is known of an endpoint whose presence is this.
    pub(super) fn new(presence: Arc<Presence>) -> Self {
        Self {
            presence,
            down: AtomicBool::new(false),
            unproven: AtomicBool::new(false),
            ejected_until: AtomicU64::new(0),
            consecutive: AtomicU32::new(0),
            requests: Tally::default(),
            took: OnceLock::new(),
            history: Mutex::default(),
            ejections: Default::default(),
            probes: Default::default(),
        }
    }

    /// Whether it is to be used. An ejection that is over ends here.
    pub fn eligible(&self) -> bool {
        !self.is_down() && !self.is_ejected()
    }

    /// Whether its probes say that it is not well.
    pub(super) fn is_down(&self) -> bool {
        self.down.load(Ordering::Relaxed)
    }

    /// Whether requests that failed keep it out of use.
    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 {
            return false; // the rule, for which no clock is read
        }
        if now() < Duration::from_micros(until) {
            return true;
        }
        let ended = self.ejected_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        if ended.is_ok() {
            self.presence.returned(Instant::now());
        }
        // Another worker may have ejected it again meanwhile.
        ended.is_err_and(|other| other != 0)
    }

    /// How it is, in a word for operators.
    pub(in crate::upstream) fn word(&self) -> &'static str {
        match (self.is_down(), self.is_ejected()) {
            (true, _) if self.is_unproven() => "not probed yet",
            (true, _) => "failing probes",
            (false, true) => "ejected",
            (false, false) => "eligible",
        }
    }

    /// It is new, and out of use until a probe says that it is well.
    pub(super) fn must_be_proven(&self) {
        self.unproven.store(true, Ordering::Relaxed);
        self.down.store(true, Ordering::Relaxed);
    }

    /// Whether no probe has said anything of it, although one has to.
    pub(super) fn is_unproven(&self) -> bool {
        self.unproven.load(Ordering::Relaxed)
    }

    /// What its probes say of it from now on.
    pub(super) fn set_down(&self, down: bool) {
        self.unproven.store(false, Ordering::Relaxed);
        if self.down.swap(down, Ordering::Relaxed) && !down {
            self.presence.returned(Instant::now());
        }
    }

    /// It is out of use until then.
    pub(super) fn eject(&self, until: Duration, reason: Reason) {
        let micros = u64::try_from(until.as_micros()).unwrap_or(u64::MAX).max(1);
        self.ejected_until.store(micros, Ordering::Relaxed);
        self.consecutive.store(0, Ordering::Relaxed);
        self.ejections[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// It is wanted back before its ejection is over.
    pub(super) fn return_early(&self, now: Duration) {
        self.history().return_early(now);
        self.readmit();
        self.presence.returned(Instant::now());
    }

    /// No ejection keeps it out of use.
    pub(super) fn readmit(&self) {
        self.ejected_until.store(0, Ordering::Relaxed);
    }

    /// A request went well.
    pub(super) fn succeeded(&self, cell: usize) {
        self.requests.add(cell);
        // Read first: written each time, it would travel between the workers.
        if self.consecutive.load(Ordering::Relaxed) != 0 {
            self.consecutive.store(0, Ordering::Relaxed);
        }
    }

    /// A request failed; how many have in a row.
    pub(super) fn failed(&self) -> u32 {
        self.consecutive.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The count of requests that a worker uses.
    pub(super) fn cell(&self) -> usize {
        self.requests.cell()
    }

    pub(super) fn count(&self, cell: usize) {
        self.requests.add(cell);
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.sum()
    }

    /// How long its requests took.
    pub(super) fn took(&self) -> &Arc<Took> {
        self.took.get_or_init(Arc::default)
    }

    pub(super) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn probed(&self, probed: Probed) {
        self.probes[probed as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was ejected, by reason.
    pub(in crate::upstream) fn ejections(&self) -> Vec<(&'static str, u64)> {
        Reason::ALL.map(|reason| (reason.label(), self.ejections[reason as usize].load(Ordering::Relaxed))).to_vec()
    }

    /// What its probes have found, by result.
    pub(in crate::upstream) fn probes(&self) -> Vec<(&'static str, u64)> {
        Probed::ALL.map(|probed| (probed.label(), self.probes[probed as usize].load(Ordering::Relaxed))).to_vec()
    }
}

/// The time by which endpoints are judged.
pub(in crate::upstream) fn now() -> Duration {
    BEGUN.elapsed()
}

/// A number from 0 to 1 for jitter. Whoever guesses it has won nothing.
#[allow(clippy::cast_precision_loss)]
pub(in crate::upstream) fn random() -> f64 {
    let bits = RandomState::new().hash_one(());
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_eligible_until_it_is_ejected_or_down_and_again_when_that_is_over() {
        let standing = Standing::new(Arc::new(Presence::new(Instant::now())));
        assert!(standing.eligible());
        standing.set_down(true);
        assert!(!standing.eligible());
        standing.set_down(false);
        assert!(standing.eligible());
        standing.eject(now() + Duration::from_mins(1), Reason::Consecutive);
        assert!(!standing.eligible() && standing.is_ejected());
        let over = now();
        while now() <= over + Duration::from_micros(1) {
            std::hint::spin_loop(); // times are kept in microseconds, and never as the 0 that the first one may be
        }
        standing.eject(over, Reason::ErrorShare);
        assert!(standing.eligible() && standing.eligible(), "its time is over");
        assert_eq!(standing.ejections(), [("consecutive", 1), ("error_share", 1), ("latency", 0)]);
    }

    #[test]
    fn randomness_is_between_0_and_1() {
        let numbers: Vec<f64> = (0..1000).map(|_| random()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        let mean = numbers.iter().sum::<f64>() / 1000.0;
        assert!((0.3..0.7).contains(&mean), "{mean}");
    }
}
