//! The generic cell rate algorithm: a burst at once, and after it one request each time an interval is over.
//!
//! Pure: what a key has used goes in, what it has used then comes out. The algorithm is the virtual scheduling of ITU-T I.371: what is kept of
//! a key is one moment, that at which all it has used is given back (the "theoretical arrival time").
//!
//! Counting is in ticks, a fraction of the time in which one request is given back, so that a request costs a whole number of ticks and no
//! limit is off by rounding: 7 in a minute are 7 in a minute.

use std::time::Duration;

/// Ticks a second at most: about a microsecond each.
const FINEST_TICKS: u64 = 1 << 20;
/// Ticks of a whole burst at most. The clock of the table goes round after `2^40` ticks.
const MOST_BURST_TICKS: u64 = 1 << 30;
/// Clocks of the cores, and moments that were read before another request was counted, differ by no more.
const CLOCK_DOUBT_TICKS: u64 = 60 * FINEST_TICKS;

/// How much is let through: `burst` at once, and `requests` in `per_secs` in the long run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    /// Requests given back in `per_secs`, 1 to [`Self::MOST_REQUESTS`].
    pub requests: u32,
    /// Seconds, 1 to [`Self::MOST_SECS`].
    pub per_secs: u32,
    /// Requests that may come at once, 1 to [`Self::MOST_REQUESTS`].
    pub burst: u32,
}

impl Quota {
    /// The most that `requests` and `burst` may be.
    pub const MOST_REQUESTS: u32 = 1_000_000;
    /// The most that `per_secs` may be: a day.
    pub const MOST_SECS: u32 = 86_400;

    /// Seconds in which a whole burst is given back, rounded up.
    pub fn refill_secs(&self) -> u64 {
        (u64::from(self.burst) * u64::from(self.per_secs)).div_ceil(self.requests.into())
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It passes, and was counted.
    Passed(Remaining),
    /// It does not, and was not counted.
    Refused(Remaining),
}

/// What is left for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remaining {
    /// Requests that may come now.
    pub requests: u32,
    /// Seconds until there may be one more, rounded up: at least 1.
    pub secs: u32,
}

/// A [`Quota`] in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// What one request costs.
    cost: u64,
    /// What may be used at once.
    capacity: u64,
    /// Ticks a nanosecond, in units of `2^-64`.
    pace: u64,
    /// So many seconds ...
    per_secs: u64,
    /// ... are so many ticks.
    ticks: u64,
}

impl Rate {
    pub(super) fn new(quota: Quota) -> Self {
        let Quota { requests, per_secs, burst } = quota;
        let (requests, per_secs, burst) = (u64::from(requests), u64::from(per_secs), u64::from(burst));
        let finest = (FINEST_TICKS * per_secs / requests).min(MOST_BURST_TICKS / burst).max(1);
        let cost = 1 << finest.ilog2();
        let (ticks, nanos) = (requests * cost, u128::from(per_secs) * Duration::from_secs(1).as_nanos());
        let pace = (u128::from(ticks) << 64) / nanos;
        let pace = u64::try_from(pace).expect("a tick is longer than a nanosecond: see FINEST_TICKS");
        Self { cost, capacity: burst * cost, pace, per_secs, ticks }
    }

    /// How many ticks have passed when so much time has.
    pub(super) fn ticks(&self, passed: Duration) -> u64 {
        let nanos = u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX); // after 584 years
        let ticks = (u128::from(nanos) * u128::from(self.pace)) >> 64;
        u64::try_from(ticks).expect("the product of two 64-bit numbers has 128 bits")
    }

    /// What one request costs.
    pub(super) fn cost(&self) -> u64 {
        self.cost
    }

    /// The most ticks that a key can be ahead; what is further away was left from before the clock went round.
    pub(super) fn horizon(&self) -> u64 {
        2 * self.capacity + CLOCK_DOUBT_TICKS
    }

    /// A request of a key that has used so much: what is used then, if it passes.
    pub(super) fn decide(&self, used: u64) -> (Option<u64>, Decision) {
        let after = used + self.cost;
        if after <= self.capacity {
            (Some(after), Decision::Passed(self.remaining(after)))
        } else {
            (None, Decision::Refused(self.remaining(used)))
        }
    }

    /// What a request costs, what may be used at once, and so many ticks in so many seconds: for who decides elsewhere.
    pub(super) fn parts(&self) -> [u64; 4] {
        [self.cost, self.capacity, self.ticks, self.per_secs]
    }

    /// What was decided elsewhere of a key that has used so much then.
    pub(super) fn decided(&self, passed: bool, used: u64) -> Decision {
        let remaining = self.remaining(used.min(self.capacity));
        if passed { Decision::Passed(remaining) } else { Decision::Refused(remaining) }
    }

    fn remaining(&self, used: u64) -> Remaining {
        let requests = self.capacity.saturating_sub(used) / self.cost;
        let wait = (used + (requests + 1) * self.cost).saturating_sub(self.capacity);
        let secs = (wait * self.per_secs).div_ceil(self.ticks).max(1);
        Remaining { requests: narrow(requests), secs: narrow(secs) }
    }
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quotas() -> impl Strategy<Value = Quota> {
        let number = || prop_oneof![1_u32..=100, 1..=Quota::MOST_REQUESTS];
        let per_secs = prop_oneof![1_u32..=60, 1..=Quota::MOST_SECS];
        (number(), per_secs, number()).prop_map(|(requests, per_secs, burst)| Quota { requests, per_secs, burst })
    }

    /// A key by itself: when all it has used is given back.
    struct Alone {
        rate: Rate,
        free_at: u64,
    }

    impl Alone {
        fn new(quota: Quota) -> Self {
            Self { rate: Rate::new(quota), free_at: 0 }
        }

        fn ask(&mut self, at: Duration) -> Decision {
            let now = self.rate.ticks(at);
            let (after, decision) = self.rate.decide(self.free_at.saturating_sub(now));
            if let Some(after) = after {
                self.free_at = now + after;
            }
            decision
        }

        fn passes(&mut self, at: Duration) -> bool {
            matches!(self.ask(at), Decision::Passed(_))
        }
    }

    #[test]
    fn a_burst_passes_at_once_and_then_one_an_interval() {
        let mut key = Alone::new(Quota { requests: 60, per_secs: 60, burst: 3 });
        let at = |millis| Duration::from_secs(10) + Duration::from_millis(millis);
        let left = |requests, secs| Remaining { requests, secs };
        assert_eq!(key.ask(at(0)), Decision::Passed(left(2, 1)));
        assert_eq!(key.ask(at(0)), Decision::Passed(left(1, 1)));
        assert_eq!(key.ask(at(0)), Decision::Passed(left(0, 1)));
        assert_eq!(key.ask(at(0)), Decision::Refused(left(0, 1)));
        assert_eq!(key.ask(at(999)), Decision::Refused(left(0, 1)));
        assert_eq!(key.ask(at(1000)), Decision::Passed(left(0, 1)));
        assert_eq!(key.ask(at(1000)), Decision::Refused(left(0, 1)), "what was refused has cost nothing");
        assert_eq!(key.ask(at(4000)), Decision::Passed(left(2, 1)), "no more than a burst is saved up");
    }

    #[test]
    fn the_wait_is_the_time_until_one_may_pass() {
        let mut key = Alone::new(Quota { requests: 5, per_secs: 300, burst: 5 });
        (0..5).for_each(|_| assert!(key.passes(Duration::from_secs(100))));
        let asked = Duration::from_millis(101_500);
        let Decision::Refused(left) = key.ask(asked) else { panic!("over the limit") };
        assert_eq!(left, Remaining { requests: 0, secs: 59 });
        assert!(!key.passes(asked + Duration::from_secs(58)) && key.passes(asked + Duration::from_secs(59)));
    }

    #[test]
    fn the_refill_of_a_burst_is_what_a_window_is() {
        let secs = |requests, per_secs, burst| Quota { requests, per_secs, burst }.refill_secs();
        assert_eq!((secs(60, 60, 60), secs(60, 60, 10), secs(7, 60, 10)), (60, 10, 86));
        assert_eq!((secs(1_000_000, 1, 1), secs(1, 86_400, 1_000_000)), (1, 86_400_000_000));
    }

    proptest! {
        #[test]
        fn every_quota_is_counted_in_ticks_that_fit(quota in quotas()) {
            let rate = Rate::new(quota);
            prop_assert!(rate.cost >= 1 && rate.capacity <= MOST_BURST_TICKS);
            prop_assert!(rate.horizon() < 1 << 38, "the clock of the table goes round after 2^40");
            let week = rate.ticks(Duration::from_hours(7 * 24));
            let exact = u128::from(rate.ticks) * 604_800 / u128::from(quota.per_secs);
            prop_assert!(u128::from(week).abs_diff(exact) <= 1 + exact / 10_000_000, "{week} and not {exact}");
        }

        #[test]
        fn in_no_time_pass_more_than_a_burst_and_what_is_given_back(
            quota in quotas(),
            steps in prop::collection::vec(0_u64..3_000_000_000, 1..100),
        ) {
            let mut key = Alone::new(quota);
            let mut now = Duration::from_secs(7);
            let mut passed = Vec::new();
            for nanos in steps {
                now += Duration::from_nanos(nanos / u64::from(quota.requests));
                if key.passes(now) {
                    passed.push(now);
                }
            }
            for (first, begin) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let given = end.saturating_sub(*begin).as_nanos() * u128::from(quota.requests);
                    let given = given / (u128::from(quota.per_secs) * 1_000_000_000);
                    // One more for the tick within which a moment stands.
                    prop_assert!((last - first + 1) as u128 <= u128::from(quota.burst) + given + 1);
                }
            }
        }

        #[test]
        fn whoever_waits_as_long_as_told_passes(quota in quotas(), at in 0_u64..1_000_000_000_000) {
            let mut key = Alone::new(Quota { burst: quota.burst.min(50), ..quota });
            let now = Duration::from_nanos(at);
            for _ in 0..=50 {
                if let Decision::Refused(left) = key.ask(now) {
                    let then = now + Duration::from_secs(left.secs.into());
                    prop_assert!(key.passes(then));
                    return Ok(());
                }
            }
            prop_assert!(false, "no limit lets through more than its burst");
        }

        #[test]
        fn what_is_left_is_what_passes(quota in quotas(), used in 0_u32..60) {
            let mut key = Alone::new(Quota { burst: quota.burst.min(50), ..quota });
            let now = Duration::from_secs(1);
            (0..used).for_each(|_| { key.ask(now); });
            let (Decision::Passed(left) | Decision::Refused(left)) = key.ask(now);
            (0..left.requests).for_each(|_| assert!(key.passes(now)));
            prop_assert!(!key.passes(now));
        }
    }
}
