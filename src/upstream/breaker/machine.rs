//! When the breaker of an upstream opens and closes: a state machine over an injected clock.
//!
//! Closed, it counts: a window begins with a failure, so that nothing is to be done for a request that goes well. Open, it lets nobody
//! through for its time. Half open, it lets a few requests through, and closes when as many have succeeded, or opens again when one
//! fails (M. Nygard, "Release It!", 2007). What was begun in another state says nothing of this one.

use std::time::Duration;

use super::BreakerSettings;

/// The states, as they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Closed,
    HalfOpen,
    Open,
}

/// What is remembered of one upstream.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    phase: Phase,
    /// Counts the changes, so that what comes late is known.
    turn: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed {
        window: Option<Window>,
    },
    Open {
        until: Duration,
    },
    HalfOpen {
        /// When the trials that are under way began to be given out.
        since: Duration,
        round: u32,
        /// Trials of this round that are not taken back.
        given: u32,
        succeeded: u32,
    },
}

#[derive(Debug, Clone, Copy)]
struct Window {
    began: Duration,
    /// Requests before it.
    before: u64,
    failures: u64,
}

/// One request's part in the machine's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) turn: u64,
    /// That of its trial, if it is one.
    pub(super) round: Option<u32>,
}

/// Whether a request may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Yes.
    Pass(Ticket),
    /// No, and for so long.
    Rest(Duration),
}

/// The state has changed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// So many of so many requests failed.
    Opened { failures: u64, requests: u64 },
    /// Trials are let through.
    HalfOpened,
    /// One of them failed.
    OpenedAgain,
    /// All of them succeeded.
    Closed,
}

impl Machine {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Closed { window: None }, turn: 0 }
    }

    /// The state that a request would meet.
    pub(super) fn state(&self, now: Duration) -> State {
        match self.phase {
            Phase::Closed { .. } => State::Closed,
            Phase::Open { until } if now < until => State::Open,
            Phase::Open { .. } | Phase::HalfOpen { .. } => State::HalfOpen,
        }
    }

    pub(super) fn turn(&self) -> u64 {
        self.turn
    }

    /// Until when nobody may go.
    pub(super) fn open_until(&self) -> Option<Duration> {
        match self.phase {
            Phase::Open { until } => Some(until),
            Phase::Closed { .. } | Phase::HalfOpen { .. } => None,
        }
    }

    /// A request has come.
    pub(super) fn admit(&mut self, now: Duration, settings: &BreakerSettings) -> (Admission, Option<Change>) {
        let mut change = None;
        if let Phase::Open { until } = self.phase {
            if now < until {
                return (Admission::Rest(until.saturating_sub(now)), None);
            }
            self.enter(Phase::HalfOpen { since: now, round: 0, given: 0, succeeded: 0 });
            change = Some(Change::HalfOpened);
        }
        let turn = self.turn;
        let Phase::HalfOpen { since, round, given, succeeded } = &mut self.phase else {
            return (Admission::Pass(Ticket { turn, round: None }), change);
        };
        let left = (*since + settings.open).saturating_sub(now);
        if *given >= settings.probes {
            if !left.is_zero() {
                return (Admission::Rest(left), change);
            }
            // Nothing has come of them yet, as when they upload for long: others are tried beside them.
            (*since, *given, *round) = (now, *succeeded, round.wrapping_add(1));
        }
        *given += 1;
        (Admission::Pass(Ticket { turn, round: Some(*round) }), change)
    }

    /// It went well.
    pub(super) fn succeeded(&mut self, ticket: Ticket, settings: &BreakerSettings) -> Option<Change> {
        if ticket.turn != self.turn {
            return None;
        }
        let Phase::HalfOpen { succeeded, .. } = &mut self.phase else { return None };
        *succeeded += 1;
        if *succeeded < settings.probes {
            return None;
        }
        self.enter(Phase::Closed { window: None });
        Some(Change::Closed)
    }

    /// It failed; `requests` came so far, this one included.
    pub(super) fn failed(
        &mut self,
        ticket: Ticket,
        now: Duration,
        requests: u64,
        settings: &BreakerSettings,
    ) -> Option<Change> {
        if ticket.turn != self.turn {
            return None;
        }
        let change = match &mut self.phase {
            Phase::Open { .. } => return None,
            Phase::HalfOpen { .. } => Change::OpenedAgain,
            Phase::Closed { window } => {
                let (failures, requests) = count(window, now, requests, settings)?;
                Change::Opened { failures, requests }
            }
        };
        self.enter(Phase::Open { until: now + settings.open });
        Some(change)
    }

    /// Nothing is known of how it went, as when its client has left: another may be tried in its place.
    pub(super) fn unknown(&mut self, ticket: Ticket) {
        if let Phase::HalfOpen { round, given, succeeded, .. } = &mut self.phase
            && (ticket.turn, ticket.round) == (self.turn, Some(*round))
            && *given > *succeeded
        {
            *given -= 1;
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.turn += 1;
    }
}

/// Counts a failure; how many of how many have failed, if that is too large a share.
fn count(window: &mut Option<Window>, now: Duration, requests: u64, settings: &BreakerSettings) -> Option<(u64, u64)> {
    let fresh = Window { began: now, before: requests.saturating_sub(1), failures: 0 };
    let window = window.get_or_insert(fresh);
    if now.saturating_sub(window.began) >= settings.window {
        *window = fresh;
    }
    window.failures += 1;
    // Workers count by themselves, so that the sum may lag behind by a request or two.
    let requests = requests.saturating_sub(window.before).max(window.failures);
    #[allow(clippy::cast_precision_loss)] // counts of one window
    let share = window.failures as f64 / requests as f64;
    (requests >= settings.min_requests && share >= settings.error_share).then_some((window.failures, requests))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> BreakerSettings {
        BreakerSettings {
            error_share: 0.5,
            min_requests: 4,
            window: 10 * SECOND,
            open: 5 * SECOND,
            probes: 3,
            statuses: Box::default(),
        }
    }

    fn pass(machine: &mut Machine, now: Duration) -> Ticket {
        match machine.admit(now, &settings()).0 {
            Admission::Pass(ticket) => ticket,
            Admission::Rest(rest) => panic!("rejected for {rest:?}"),
        }
    }

    fn rest(machine: &mut Machine, now: Duration) -> Duration {
        match machine.admit(now, &settings()).0 {
            Admission::Rest(rest) => rest,
            Admission::Pass(ticket) => panic!("passed: {ticket:?}"),
        }
    }

    /// Opens at second 1.
    fn opened() -> Machine {
        let mut machine = Machine::new();
        for number in 1..=4 {
            let ticket = pass(&mut machine, SECOND);
            let change = machine.failed(ticket, SECOND, number, &settings());
            assert_eq!(change, (number == 4).then_some(Change::Opened { failures: 4, requests: 4 }));
        }
        machine
    }

    #[test]
    fn it_opens_at_its_share_of_enough_requests_and_not_before() {
        let mut machine = Machine::new();
        let ticket = pass(&mut machine, SECOND);
        for failure in 1..100 {
            assert_eq!(machine.failed(ticket, SECOND, 4 * failure, &settings()), None, "a quarter: {failure}");
        }
        assert_eq!(opened().state(SECOND), State::Open);
    }

    #[test]
    fn a_window_ends() {
        let mut machine = Machine::new();
        let ticket = pass(&mut machine, SECOND);
        for failure in 1..100u32 {
            let now = failure * 4 * SECOND;
            assert_eq!(machine.failed(ticket, now, failure.into(), &settings()), None, "three in a window: {failure}");
        }
    }

    #[test]
    fn open_it_lets_nobody_through_and_then_as_many_as_it_tries() {
        let mut machine = opened();
        assert_eq!(rest(&mut machine, SECOND), 5 * SECOND);
        assert_eq!(rest(&mut machine, 5 * SECOND), SECOND);
        let (first, change) = machine.admit(6 * SECOND, &settings());
        assert_eq!((first, change), (Admission::Pass(Ticket { turn: 2, round: Some(0) }), Some(Change::HalfOpened)));
        let trials = [pass(&mut machine, 6 * SECOND), pass(&mut machine, 7 * SECOND)];
        assert_eq!(rest(&mut machine, 8 * SECOND), 3 * SECOND);
        assert_eq!(machine.succeeded(trials[0], &settings()), None);
        assert_eq!(machine.succeeded(trials[1], &settings()), None);
        assert_eq!(machine.succeeded(trials[1], &settings()), Some(Change::Closed));
        assert_eq!(machine.state(8 * SECOND), State::Closed);
    }

    #[test]
    fn one_trial_that_fails_opens_it_again_for_the_whole_time() {
        let mut machine = opened();
        let (good, bad) = (pass(&mut machine, 6 * SECOND), pass(&mut machine, 6 * SECOND));
        machine.succeeded(good, &settings());
        assert_eq!(machine.failed(bad, 8 * SECOND, 9, &settings()), Some(Change::OpenedAgain));
        assert_eq!(rest(&mut machine, 9 * SECOND), 4 * SECOND);
    }

    #[test]
    fn a_trial_of_which_nothing_comes_is_replaced() {
        let mut machine = opened();
        let trials = [(); 3].map(|()| pass(&mut machine, 6 * SECOND));
        machine.unknown(trials[0]);
        let other = pass(&mut machine, 6 * SECOND);
        assert_eq!(rest(&mut machine, 6 * SECOND), 5 * SECOND);
        // The others take longer than the breaker is open: as many are tried beside them, and those that come late count.
        assert_eq!(pass(&mut machine, 11 * SECOND).round, Some(1));
        machine.unknown(trials[1]);
        for ticket in [trials[2], other] {
            assert_eq!(machine.succeeded(ticket, &settings()), None);
        }
        let last = pass(&mut machine, 11 * SECOND);
        assert_eq!(machine.succeeded(last, &settings()), Some(Change::Closed));
    }

    #[test]
    fn what_comes_late_says_nothing() {
        let mut machine = Machine::new();
        let late = pass(&mut machine, SECOND);
        for number in 1..=4 {
            machine.failed(late, SECOND, number, &settings());
        }
        assert_eq!(machine.failed(late, 2 * SECOND, 5, &settings()), None);
        assert_eq!(rest(&mut machine, 2 * SECOND), 4 * SECOND, "it is not open for longer");
        let trial = pass(&mut machine, 6 * SECOND);
        assert_eq!(machine.failed(late, 7 * SECOND, 6, &settings()), None);
        assert_eq!(machine.succeeded(late, &settings()), None);
        assert_eq!(machine.failed(trial, 7 * SECOND, 7, &settings()), Some(Change::OpenedAgain));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Pause(u64),
        Ask,
        Succeed(usize),
        Fail(usize),
        Leave(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0u64..7000).prop_map(Step::Pause),
            Just(Step::Ask),
            Just(Step::Ask),
            (0usize..8).prop_map(Step::Succeed),
            (0usize..8).prop_map(Step::Fail),
            (0usize..8).prop_map(Step::Leave),
        ]
    }

    proptest! {
        /// Whatever happens: nobody passes while it is open; at most as many trials begin in each of its times as there may be, but for
        /// those that were taken back; it closes only after so many successes, and opens only for a failure.
        #[test]
        fn it_keeps_its_promises(steps in proptest::collection::vec(step(), 0..400)) {
            let (mut machine, mut now, mut requests) = (Machine::new(), Duration::ZERO, 0u64);
            let mut under_way: Vec<Ticket> = Vec::new();
            let (mut opened, mut trials, mut successes) = (None::<Duration>, Vec::<Duration>::new(), 0);
            for step in steps {
                let taken = |under_way: &mut Vec<Ticket>, at: usize| (at < under_way.len()).then(|| under_way.remove(at));
                match step {
                    Step::Pause(millis) => now += Duration::from_millis(millis),
                    Step::Ask => {
                        let (admission, change) = machine.admit(now, &settings());
                        if change == Some(Change::HalfOpened) {
                            prop_assert!(now >= opened.unwrap() + settings().open);
                            (trials, successes) = (Vec::new(), 0);
                        }
                        match admission {
                            Admission::Rest(rest) => {
                                prop_assert!(machine.state(now) != State::Closed);
                                prop_assert!(!rest.is_zero() && rest <= settings().open);
                            }
                            Admission::Pass(ticket) => {
                                prop_assert!(machine.state(now) != State::Open);
                                prop_assert_eq!(ticket.round.is_some(), machine.state(now) == State::HalfOpen);
                                under_way.push(ticket);
                                trials.extend(ticket.round.map(|_| now));
                                // Two rounds may touch one time.
                                let lately = trials.iter().filter(|begun| **begun + settings().open > now).count();
                                prop_assert!(lately <= 2 * settings().probes as usize, "{} trials", lately);
                            }
                        }
                    }
                    Step::Succeed(at) => {
                        let Some(ticket) = taken(&mut under_way, at) else { continue };
                        requests += 1;
                        let counts = machine.state(now) == State::HalfOpen && ticket.turn == machine.turn();
                        successes += u32::from(counts);
                        let change = machine.succeeded(ticket, &settings());
                        let closes = counts && successes == settings().probes;
                        prop_assert_eq!(change, closes.then_some(Change::Closed));
                    }
                    Step::Fail(at) => {
                        let Some(ticket) = taken(&mut under_way, at) else { continue };
                        requests += 1;
                        let (before, counts) = (machine.state(now), ticket.turn == machine.turn());
                        let change = machine.failed(ticket, now, requests, &settings());
                        prop_assert_eq!(change == Some(Change::OpenedAgain), before == State::HalfOpen && counts);
                        if let Some(Change::Opened { failures, requests }) = change {
                            prop_assert!(before == State::Closed && requests >= 4 && 2 * failures >= requests);
                        }
                        if change.is_some() {
                            opened = Some(now);
                        }
                    }
                    Step::Leave(at) => {
                        let Some(ticket) = taken(&mut under_way, at) else { continue };
                        machine.unknown(ticket);
                        if ticket.turn == machine.turn() && ticket.round.is_some() {
                            trials.pop();
                        }
                    }
                }
            }
        }
    }
}
