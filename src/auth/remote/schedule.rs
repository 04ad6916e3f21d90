//! When a key set is fetched: a state machine over an injected clock and injected dice.
//!
//! Owns three rules. At most one fetch is under way. A set is fetched again before it expires, or after a growing pause when that
//! failed. A request may ask for a fetch, but only one in a cool-down is granted, whoever asks; what was fetched without being asked for
//! does not count, so that a key is had at once that was put to use just after. Knows no sockets and no keys.

use std::time::Duration;

use tokio::time::Instant;

/// How long a set is believed whose server says nothing of it.
const UNSAID: Duration = Duration::from_mins(10);
/// The first pause after a failure; each further one is twice as long.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The longest pause after a failure.
const LAST_RETRY: Duration = Duration::from_mins(1);
/// As good as never, and short enough for every clock and product.
const YEAR: Duration = Duration::from_hours(24 * 365);

/// The bounds that the operator sets.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) refresh_min: Duration,
    pub(super) refresh_max: Duration,
    pub(super) cooldown: Duration,
}

impl Pace {
    /// How long a set is fresh whose server says so.
    pub(super) fn lifetime(&self, max_age: Option<Duration>) -> Duration {
        max_age.unwrap_or(UNSAID).max(self.refresh_min).min(self.refresh_max)
    }

    /// Somewhat before a set expires, so that many gateways do not come at once; never before `refresh_min`.
    fn refresh_after(&self, max_age: Option<Duration>, dice: Dice) -> Duration {
        let early = spread(self.lifetime(max_age), 0.8, 0.95, dice);
        early.max(spread(self.refresh_min, 1.0, 1.1, dice)).min(self.refresh_max)
    }
}

/// A number from 0 to 1 that decides all jitter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Dice(f64);

impl Dice {
    /// From any 16 random bits.
    pub(super) fn new(bits: u16) -> Self {
        Self(f64::from(bits) / f64::from(u16::MAX))
    }
}

/// The state of one key set's fetches.
#[derive(Debug)]
pub(super) struct Schedule {
    pace: Pace,
    /// The number of the fetch that began last; 0 before the first.
    round: u64,
    in_flight: bool,
    /// A request asked for the next fetch.
    asked: bool,
    due: Instant,
    /// Whether the fetch under way was asked for.
    answering: bool,
    /// When the last fetch ended that was asked for.
    answered: Option<Instant>,
    failures: u32,
}

impl Schedule {
    /// The first fetch is due at once.
    pub(super) fn new(pace: Pace, now: Instant) -> Self {
        Self { pace, round: 0, in_flight: false, asked: false, due: now, answering: false, answered: None, failures: 0 }
    }

    /// Asks for a fetch, and gives the number of the one whose end answers: that under way, or one that is due from now. `None`
    /// in the cool-down.
    pub(super) fn ask(&mut self, now: Instant) -> Option<u64> {
        if self.in_flight {
            return Some(self.round);
        }
        if !self.asked && self.due > now {
            if self.answered.is_some_and(|answered| now.saturating_duration_since(answered) < self.pace.cooldown) {
                return None;
            }
            self.asked = true;
            self.due = now;
        }
        Some(self.round + 1)
    }

    /// When the next fetch is to begin; `None` while one is under way.
    pub(super) fn due(&self) -> Option<Instant> {
        (!self.in_flight).then_some(self.due)
    }

    /// Begins a fetch and gives its number, unless one is under way or none is due.
    pub(super) fn begin(&mut self, now: Instant) -> Option<u64> {
        if self.in_flight || now < self.due {
            return None;
        }
        self.in_flight = true;
        self.answering = std::mem::take(&mut self.asked);
        self.round += 1;
        Some(self.round)
    }

    /// The fetch under way brought a set.
    pub(super) fn succeeded(&mut self, now: Instant, max_age: Option<Duration>, dice: Dice) {
        self.failures = 0;
        self.end(now, self.pace.refresh_after(max_age, dice));
    }

    /// The fetch under way brought nothing of use.
    pub(super) fn failed(&mut self, now: Instant, dice: Dice) {
        let pause = FIRST_RETRY.saturating_mul(1 << self.failures.min(16)).min(LAST_RETRY);
        self.failures = self.failures.saturating_add(1);
        self.end(now, spread(pause, 0.75, 1.0, dice));
    }

    /// Nobody will end the fetch under way: whoever ran it is gone. Another is due at once.
    pub(super) fn abandon(&mut self, now: Instant) {
        if self.in_flight {
            self.end(now, Duration::ZERO);
        }
    }

    fn end(&mut self, now: Instant, pause: Duration) {
        self.in_flight = false;
        if std::mem::take(&mut self.answering) {
            self.answered = Some(now);
        }
        self.due = now + pause.min(YEAR);
    }
}

fn spread(duration: Duration, from: f64, to: f64, dice: Dice) -> Duration {
    duration.min(YEAR).mul_f64(from + (to - from) * dice.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace { refresh_min: 60 * SECOND, refresh_max: 3600 * SECOND, cooldown: 10 * SECOND }
    }

    /// A schedule whose first fetch went well at the moment returned.
    fn settled(max_age: Option<u64>) -> (Schedule, Instant) {
        let now = Instant::now();
        let mut schedule = Schedule::new(pace(), now);
        assert_eq!(schedule.begin(now), Some(1));
        schedule.succeeded(now, max_age.map(Duration::from_secs), Dice::new(0));
        (schedule, now)
    }

    fn pause_after(max_age: Option<u64>, bits: u16) -> Duration {
        pace().refresh_after(max_age.map(Duration::from_secs), Dice::new(bits))
    }

    #[test]
    fn a_set_is_fetched_before_it_expires_within_the_bounds() {
        for bits in [0, 1, 30_000, u16::MAX] {
            let within = |max_age, from, to| {
                let pause = pause_after(max_age, bits);
                assert!(pause >= from * SECOND && pause <= to * SECOND, "{max_age:?}: {pause:?}");
            };
            within(Some(0), 60, 66);
            within(Some(61), 60, 66);
            within(Some(1000), 800, 950);
            within(Some(1 << 31), 2880, 3420);
            within(None, 480, 570);
        }
    }

    #[test]
    fn bounds_that_cross_and_endless_ones_are_no_panic() {
        let crossed = Pace { refresh_min: 90 * SECOND, refresh_max: 30 * SECOND, cooldown: Duration::MAX };
        assert_eq!(crossed.refresh_after(Some(50 * SECOND), Dice::new(9)), 30 * SECOND);
        let now = Instant::now();
        let endless = Pace { refresh_min: Duration::MAX, refresh_max: Duration::MAX, cooldown: Duration::MAX };
        let mut schedule = Schedule::new(endless, now);
        schedule.begin(now).unwrap();
        schedule.succeeded(now, Some(Duration::MAX), Dice::new(u16::MAX));
        assert!(schedule.due().unwrap() > now + 1000 * SECOND);
        assert_eq!(schedule.ask(now), Some(2));
        schedule.begin(now).unwrap();
        schedule.succeeded(now, Some(Duration::MAX), Dice::new(u16::MAX));
        assert_eq!(schedule.ask(now + 1000 * SECOND), None);
    }

    #[test]
    fn pauses_double_from_a_second_to_a_minute_and_begin_anew_after_a_success() {
        let (mut schedule, now) = settled(None);
        let pauses = |schedule: &mut Schedule, bits| {
            let mut pauses = Vec::new();
            for _ in 0..9 {
                schedule.due = now;
                schedule.begin(now).unwrap();
                schedule.failed(now, Dice::new(bits));
                pauses.push((schedule.due().unwrap() - now).as_secs_f64());
            }
            pauses
        };
        assert_eq!(pauses(&mut schedule, u16::MAX), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
        schedule.due = now;
        schedule.begin(now).unwrap();
        schedule.succeeded(now, None, Dice::new(0));
        assert_eq!(pauses(&mut schedule, 0)[..3], [0.75, 1.5, 3.0]);
    }

    #[test]
    fn askers_join_the_fetch_under_way_and_the_cool_down_counts_from_its_end() {
        let (mut schedule, now) = settled(None);
        let asked = now; // what was fetched unasked stands in nobody's way
        assert_eq!((schedule.ask(asked), schedule.ask(asked)), (Some(2), Some(2)));
        assert_eq!(schedule.due(), Some(asked));
        assert_eq!(schedule.begin(asked), Some(2));
        assert_eq!((schedule.ask(asked + 5 * SECOND), schedule.due(), schedule.begin(asked)), (Some(2), None, None));
        schedule.failed(asked + 7 * SECOND, Dice::new(0));
        let cooled = asked + 17 * SECOND;
        schedule.due = cooled + SECOND;
        assert_eq!(schedule.ask(cooled - SECOND), None);
        assert_eq!(schedule.ask(cooled), Some(3));
    }

    #[test]
    fn an_abandoned_fetch_is_due_again_at_once() {
        let (mut schedule, now) = settled(None);
        schedule.ask(now + 20 * SECOND).unwrap();
        schedule.begin(now + 20 * SECOND).unwrap();
        schedule.abandon(now + 21 * SECOND);
        assert_eq!(schedule.begin(now + 21 * SECOND), Some(3));
        schedule.succeeded(now + 22 * SECOND, None, Dice::new(0));
        let due = schedule.due();
        schedule.abandon(now + 23 * SECOND);
        assert_eq!(schedule.due(), due, "nothing was under way");
    }

    #[derive(Debug, Clone)]
    enum Step {
        Wait(u64),
        Ask,
        Begin,
        Succeed(Option<u64>, u16),
        Fail(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..100_000u64).prop_map(Step::Wait),
            Just(Step::Ask),
            Just(Step::Begin),
            (proptest::option::of(any::<u64>()), any::<u16>()).prop_map(|(age, bits)| Step::Succeed(age, bits)),
            any::<u16>().prop_map(Step::Fail),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: one fetch at a time, asked-for ones apart by the cool-down, every asker's round is
        /// the one under way or the next, and the next one is never further away than the bounds say.
        #[test]
        fn the_rules_hold_in_every_order(steps in proptest::collection::vec(step(), 1..200)) {
            let mut now = Instant::now();
            let mut schedule = Schedule::new(pace(), now);
            let (mut under_way, mut granted, mut answering, mut answered) = (false, false, false, None);
            for step in steps {
                match step {
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::Ask => {
                        let (due, round) = (schedule.due(), schedule.round);
                        let answer = schedule.ask(now);
                        prop_assert!(answer.is_none_or(|of| of == round + u64::from(!under_way)));
                        if !under_way && due.unwrap() > now && answer.is_some() && !granted {
                            prop_assert!(answered.is_none_or(|answered| now - answered >= pace().cooldown));
                            granted = true;
                        }
                    }
                    Step::Begin => {
                        let due = schedule.due();
                        let begun = schedule.begin(now);
                        prop_assert_eq!(begun.is_some(), !under_way && due.unwrap() <= now);
                        if begun.is_some() {
                            (under_way, answering) = (true, std::mem::take(&mut granted));
                        }
                    }
                    Step::Succeed(max_age, bits) if under_way => {
                        schedule.succeeded(now, max_age.map(Duration::from_secs), Dice::new(bits));
                        let pause = schedule.due().unwrap() - now;
                        prop_assert!(pause >= pace().refresh_min && pause <= pace().refresh_max);
                        under_way = false;
                        answered = if answering { Some(now) } else { answered };
                    }
                    Step::Fail(bits) if under_way => {
                        schedule.failed(now, Dice::new(bits));
                        let pause = schedule.due().unwrap() - now;
                        prop_assert!(pause >= FIRST_RETRY.mul_f64(0.75) && pause <= LAST_RETRY);
                        under_way = false;
                        answered = if answering { Some(now) } else { answered };
                    }
                    Step::Succeed(..) | Step::Fail(_) => {}
                }
            }
        }
    }
}
