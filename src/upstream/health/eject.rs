//! When failures take an endpoint out of use, and for how long: a state machine over an injected clock and injected dice.
//!
//! Owns two rules: so many failures in a row, or so large a share of a window's requests. A window begins with a failure, so that nothing
//! is to be done for a request that goes well. Each ejection is twice as long as the one before, and one is forgotten for each base time
//! that the endpoint was in use since. Knows no other endpoints: how many may be out at once is [`super::Ward`]'s to say, and which is slow
//! beside the others [`super::latency`]'s.

use std::time::Duration;

use super::EjectSettings;

/// No ejection is doubled more often: it is beyond every `max` by then.
const MOST_DOUBLINGS: u32 = 24;
/// How much shorter than its time an ejection may be, so that endpoints do not return at once.
const JITTER: f64 = 0.1;

/// Why an endpoint was ejected: the `reason` label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// Failures in a row.
    Consecutive,
    /// The share of failures in a window.
    ErrorShare,
    /// It is slow beside the others.
    Latency,
}

impl Reason {
    pub(super) const ALL: [Self; 3] = [Self::Consecutive, Self::ErrorShare, Self::Latency];

    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Consecutive => "consecutive",
            Self::ErrorShare => "error_share",
            Self::Latency => "latency",
        }
    }
}

/// What is known when a request has failed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Since the clock began.
    pub(super) now: Duration,
    /// Failures since the last success, this one included.
    pub(super) consecutive: u32,
    /// Requests to the endpoint so far, this one included.
    pub(super) requests: u64,
}

/// What is remembered of one endpoint.
#[derive(Debug, Clone, Default)]
pub(super) struct History {
    window: Option<Window>,
    /// Ejections that are not forgotten.
    ejections: u32,
    /// When the last of them began.
    since: Duration,
    /// When it ends or has ended.
    until: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Duration,
    /// Requests before it.
    before: u64,
    failures: u64,
}

impl History {
    /// A request has failed: whether the endpoint should be ejected for it. What was under way when it was ejected says nothing new.
    pub(super) fn failed(&mut self, seen: Seen, settings: &EjectSettings) -> Option<Reason> {
        if seen.now < self.until {
            return None;
        }
        let fresh = Window { began: seen.now, before: seen.requests.saturating_sub(1), failures: 0 };
        let window = self.window.get_or_insert(fresh);
        if seen.now.saturating_sub(window.began) >= settings.window {
            *window = fresh;
        }
        window.failures += 1;
        if seen.consecutive >= settings.consecutive {
            return Some(Reason::Consecutive);
        }
        // Workers count by themselves, so that the sum may lag behind by a request or two.
        let requests = seen.requests.saturating_sub(window.before).max(window.failures);
        let enough = requests >= settings.min_requests;
        (enough && share(window.failures, requests) >= settings.error_share).then_some(Reason::ErrorShare)
    }

    /// The endpoint is ejected now; until when. `random` is from 0 to 1.
    pub(super) fn eject(&mut self, now: Duration, random: f64, settings: &EjectSettings) -> Duration {
        self.ejections = self.ejections.saturating_sub(times(now.saturating_sub(self.until), settings.base));
        let doubled = settings.base.saturating_mul(1 << self.ejections.min(MOST_DOUBLINGS));
        let length = doubled.min(settings.max).mul_f64(1.0 - JITTER * random.clamp(0.0, 1.0));
        self.ejections = (self.ejections + 1).min(MOST_DOUBLINGS);
        self.window = None;
        self.since = now;
        self.until = now + length;
        self.until
    }

    /// When the last ejection began.
    pub(super) fn since(&self) -> Duration {
        self.since
    }

    /// That ejection ends now, before its time.
    pub(super) fn return_early(&mut self, now: Duration) {
        self.until = now;
    }
}

#[allow(clippy::cast_precision_loss)] // counts of one window
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// How often `step` goes into `time`.
fn times(time: Duration, step: Duration) -> u32 {
    u32::try_from(time.as_nanos() / step.as_nanos().max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> EjectSettings {
        EjectSettings {
            consecutive: 5,
            error_share: 0.5,
            min_requests: 20,
            window: 10 * SECOND,
            base: 10 * SECOND,
            max: 300 * SECOND,
            max_share: 0.5,
            statuses: Box::default(),
            latency: None,
        }
    }

    fn seen(now: Duration, consecutive: u32, requests: u64) -> Seen {
        Seen { now, consecutive, requests }
    }

    #[test]
    fn failures_in_a_row_eject_at_their_number_and_not_before() {
        let mut history = History::default();
        for number in 1..5 {
            assert_eq!(history.failed(seen(SECOND, number, number.into()), &settings()), None, "{number}");
        }
        assert_eq!(history.failed(seen(SECOND, 5, 5), &settings()), Some(Reason::Consecutive));
    }

    #[test]
    fn a_share_of_failures_ejects_once_there_are_enough_requests_in_the_window() {
        let mut history = History::default();
        // Every other request fails, after a thousand good ones that are none of the window's.
        let verdicts: Vec<_> =
            (0..10).map(|number| history.failed(seen(SECOND, 1, 1001 + 2 * number), &settings())).collect();
        assert_eq!(verdicts, [None; 10], "19 requests are too few");
        assert_eq!(history.failed(seen(SECOND, 1, 1021), &settings()), Some(Reason::ErrorShare));
    }

    #[test]
    fn a_share_below_the_limit_ejects_nothing_and_a_window_ends() {
        let mut history = History::default();
        for number in 0..1000 {
            assert_eq!(history.failed(seen(SECOND, 1, 3 * number), &settings()), None, "a third of them: {number}");
        }
        let mut history = History::default();
        for number in 0..100 {
            let now = number * 2 * SECOND;
            assert_eq!(history.failed(seen(now, 1, number.into()), &settings()), None, "five in ten seconds: {number}");
        }
    }

    #[test]
    fn each_ejection_is_twice_as_long_up_to_the_longest() {
        let (mut history, mut now, mut lengths) = (History::default(), SECOND, Vec::new());
        for _ in 0..7 {
            let until = history.eject(now, 0.0, &settings());
            lengths.push(until.saturating_sub(now).as_secs());
            now = until;
        }
        assert_eq!(lengths, [10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ejections_are_forgotten_while_the_endpoint_is_in_use() {
        let mut history = History::default();
        let first = history.eject(SECOND, 0.0, &settings());
        let second = history.eject(first, 0.0, &settings());
        assert_eq!(second, first + 20 * SECOND);
        let later = second + 10 * SECOND;
        assert_eq!(history.eject(later, 0.0, &settings()), later + 20 * SECOND, "one of two is forgotten");
        let much_later = later + 1000 * SECOND;
        assert_eq!(history.eject(much_later, 0.0, &settings()), much_later + 10 * SECOND);
    }

    #[test]
    fn what_fails_while_the_endpoint_is_out_is_no_news() {
        let mut history = History::default();
        let until = history.eject(SECOND, 0.0, &settings());
        assert_eq!(history.failed(seen(until.saturating_sub(SECOND), 100, 100), &settings()), None);
        assert_eq!(history.failed(seen(until, 1, 101), &settings()), None, "it begins anew");
        assert_eq!(history.failed(seen(until, 5, 105), &settings()), Some(Reason::Consecutive));
    }

    proptest! {
        #[test]
        fn an_ejection_lasts_for_its_time_less_a_tenth_at_most(
            steps in proptest::collection::vec((0u64..1_000_000, 0.0f64..=1.0), 1..50),
        ) {
            let (settings, mut history, mut now) = (settings(), History::default(), Duration::ZERO);
            for (pause, random) in steps {
                now += Duration::from_millis(pause);
                let until = history.eject(now, random, &settings);
                prop_assert!(until >= now + settings.base.mul_f64(0.899) && until <= now + settings.max);
                let before = until.saturating_sub(Duration::from_nanos(1));
                prop_assert_eq!(history.failed(seen(before, u32::MAX, 1), &settings), None);
                now = until;
            }
        }

        #[test]
        fn without_enough_in_a_row_or_in_a_window_nothing_is_ejected(
            pauses in proptest::collection::vec((0u64..5_000, 1u64..50), 0..200),
        ) {
            // Whatever the pace, each failure comes after at least two good requests.
            let (settings, mut history) = (settings(), History::default());
            let (mut now, mut requests) = (Duration::ZERO, 0);
            for (pause, good) in pauses {
                now += Duration::from_millis(pause);
                requests += 2 + good;
                prop_assert_eq!(history.failed(seen(now, 1, requests), &settings), None);
            }
        }
    }
}
