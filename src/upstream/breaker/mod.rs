//! The breaker of one upstream: when too many requests to it fail, the next ones are answered at once for a while, and it is left alone.
//!
//! Owns what all workers share about it. A request that goes well while it is closed costs a look at two atomics that hardly anybody
//! writes, and a count of its worker's own; while it is open, a look and a clock. The rules are [`machine`]'s. Refuses to know endpoints:
//! an upstream with one is not spared by ejection, and is by this.

mod machine;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::forward::Failed;
use super::health::now;
use super::tally::Tally;
use super::{Upstream, UpstreamFailure};
use crate::observe::BreakerStatus;
use machine::{Admission, Change, Machine, State, Ticket};

/// When an upstream is left alone, and for how long.
#[derive(Debug, Clone, PartialEq)]
pub struct BreakerSettings {
    /// So large a share of the requests of a window fails.
    pub error_share: f64,
    /// The requests that a window must have for its share to mean anything.
    pub min_requests: u64,
    /// How long a window is.
    pub window: Duration,
    /// How long nothing is sent.
    pub open: Duration,
    /// Requests that are tried then, all of which must go well.
    pub probes: u32,
    /// Statuses of answers that count as failures.
    pub statuses: Box<[u16]>,
}

/// The breaker, for the whole process.
#[derive(Debug)]
pub(super) struct Breaker {
    upstream: Box<str>,
    settings: BreakerSettings,
    machine: Mutex<Machine>,
    /// Microseconds until which nothing is sent; 0 while it is closed, and 1 while it is half open.
    shut: AtomicU64,
    /// The machine's, for requests that pass without asking it.
    turn: AtomicU64,
    requests: Tally,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    opened: AtomicU64,
    rejected: AtomicU64,
}

/// One worker's hand on it.
#[derive(Debug)]
pub(super) struct Fuse {
    breaker: Arc<Breaker>,
    cell: usize,
}

/// That a request may go. It tells how it went, or that nobody knows when it is dropped.
#[derive(Debug)]
#[must_use = "a trial that is dropped is taken back"]
pub(super) struct Pass<'a>(Option<(&'a Fuse, Ticket)>);

impl Breaker {
    /// The one that the upstream of this name had before goes on if its settings are the same; its counts do in any case.
    pub(super) fn new(upstream: &str, settings: &BreakerSettings, before: Option<&Arc<Self>>) -> Arc<Self> {
        if let Some(same) = before.filter(|before| before.settings == *settings) {
            return Arc::clone(same);
        }
        Arc::new(Self {
            upstream: upstream.into(),
            settings: settings.clone(),
            machine: Mutex::new(Machine::new()),
            shut: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            requests: Tally::default(),
            counts: before.map(|before| Arc::clone(&before.counts)).unwrap_or_default(),
        })
    }

    /// How it is now.
    pub(super) fn status(&self) -> BreakerStatus {
        let state = match self.machine().state(now()) {
            State::Closed => "closed",
            State::HalfOpen => "half-open",
            State::Open => "open",
        };
        let Counts { opened, rejected } = &*self.counts;
        BreakerStatus { state, opened: opened.load(Ordering::Relaxed), rejected: rejected.load(Ordering::Relaxed) }
    }

    fn admit(&self) -> Result<Ticket, UpstreamFailure> {
        let shut = self.shut.load(Ordering::Relaxed);
        if shut == 0 {
            return Ok(Ticket { turn: self.turn.load(Ordering::Relaxed), round: None });
        }
        let now = now();
        if let Some(left) = Duration::from_micros(shut).checked_sub(now).filter(|left| !left.is_zero()) {
            return Err(self.reject(left));
        }
        let mut machine = self.machine();
        let (admission, change) = machine.admit(now, &self.settings);
        self.changed(&machine, change);
        drop(machine);
        match admission {
            Admission::Pass(ticket) => Ok(ticket),
            Admission::Rest(left) => Err(self.reject(left)),
        }
    }

    fn reject(&self, left: Duration) -> UpstreamFailure {
        self.counts.rejected.fetch_add(1, Ordering::Relaxed);
        let whole = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        UpstreamFailure::BreakerOpen { secs: u32::try_from(whole).unwrap_or(u32::MAX) }
    }

    fn failed(&self, ticket: Ticket) {
        let mut machine = self.machine();
        let change = machine.failed(ticket, now(), self.requests.sum(), &self.settings);
        self.changed(&machine, change);
    }

    fn succeeded(&self, ticket: Ticket) {
        if self.shut.load(Ordering::Relaxed) == 0 {
            return; // the rule: it is counted, and that is all
        }
        let mut machine = self.machine();
        let change = machine.succeeded(ticket, &self.settings);
        self.changed(&machine, change);
    }

    /// Shows the workers the machine's new state, and the operator.
    fn changed(&self, machine: &Machine, change: Option<Change>) {
        let Some(change) = change else { return };
        let until = machine.open_until().map(|until| u64::try_from(until.as_micros()).unwrap_or(u64::MAX).max(2));
        self.turn.store(machine.turn(), Ordering::Relaxed);
        self.shut.store(until.unwrap_or(u64::from(change != Change::Closed)), Ordering::Relaxed);
        let (upstream, secs) = (&*self.upstream, self.settings.open.as_secs_f64());
        match change {
            Change::Opened { failures, requests } => {
                tracing::warn!(upstream, failures, requests, secs, "breaker open: nothing is sent to the upstream");
            }
            Change::OpenedAgain => tracing::warn!(upstream, secs, "breaker open again: the upstream still fails"),
            Change::HalfOpened => tracing::info!(upstream, "breaker half open: the upstream is tried"),
            Change::Closed => tracing::info!(upstream, "breaker closed: the upstream is well"),
        }
        if matches!(change, Change::Opened { .. } | Change::OpenedAgain) {
            self.counts.opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fuse {
    pub(super) fn new(breaker: &Arc<Breaker>) -> Self {
        Self { cell: breaker.requests.cell(), breaker: Arc::clone(breaker) }
    }

    fn is_closed(&self) -> bool {
        self.breaker.shut.load(Ordering::Relaxed) == 0
    }
}

impl Pass<'_> {
    /// It was answered with this status.
    pub(super) fn answered(mut self, status: u16) {
        let Some((fuse, ticket)) = self.0.take() else { return };
        fuse.breaker.requests.add(fuse.cell);
        if fuse.breaker.settings.statuses.contains(&status) {
            fuse.breaker.failed(ticket);
        } else {
            fuse.breaker.succeeded(ticket);
        }
    }

    /// It was not. What a client does, and what the gateway has no room for, says nothing of the upstream.
    pub(super) fn failed(mut self, failure: &UpstreamFailure, sent: bool) {
        if !failure.speaks_against_endpoint(sent) {
            return;
        }
        let Some((fuse, ticket)) = self.0.take() else { return };
        fuse.breaker.requests.add(fuse.cell);
        fuse.breaker.failed(ticket);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if let Some((fuse, ticket)) = self.0.take().filter(|(_, ticket)| ticket.round.is_some()) {
            fuse.breaker.machine().unknown(ticket);
        }
    }
}

impl Upstream {
    /// Whether requests are sent as usual; if not, none is sent twice, be it after a failure or beside a try that takes long.
    pub(super) fn is_as_usual(&self) -> bool {
        self.fuse.as_ref().is_none_or(Fuse::is_closed)
    }

    /// Whether a request may be sent at all.
    pub(super) fn admit(&self) -> Result<Pass<'_>, Failed> {
        let Some(fuse) = &self.fuse else { return Ok(Pass(None)) };
        match fuse.breaker.admit() {
            Ok(ticket) => Ok(Pass(Some((fuse, ticket)))),
            Err(failure) => Err(Failed { failure, endpoint: None, queued: Duration::ZERO }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fuse(open: Duration) -> Fuse {
        let settings = BreakerSettings {
            error_share: 0.5,
            min_requests: 4,
            window: Duration::from_mins(1),
            open,
            probes: 1,
            statuses: [503].into(),
        };
        Fuse::new(&Breaker::new("web", &settings, None))
    }

    fn pass(fuse: &Fuse) -> Option<Pass<'_>> {
        fuse.breaker.admit().ok().map(|ticket| Pass(Some((fuse, ticket))))
    }

    #[test]
    fn failures_open_it_and_what_is_no_failure_does_not() {
        let fuse = fuse(Duration::from_mins(1));
        for _ in 0..20 {
            pass(&fuse).unwrap().failed(&UpstreamFailure::QueueFull, true);
            pass(&fuse).unwrap().failed(&UpstreamFailure::RequestBody, false);
            pass(&fuse).unwrap().failed(&UpstreamFailure::ResponseTimeout, false);
            drop(pass(&fuse).unwrap());
        }
        assert_eq!(fuse.breaker.requests.sum(), 0, "nobody knows how those went");
        for _ in 0..3 {
            pass(&fuse).unwrap().answered(500);
            pass(&fuse).unwrap().answered(503);
        }
        let status = BreakerStatus { state: "open", opened: 1, rejected: 1 };
        let Err(UpstreamFailure::BreakerOpen { secs }) = fuse.breaker.admit() else { panic!("it is open") };
        assert_eq!((secs, fuse.breaker.status(), fuse.is_closed()), (60, status, false));
    }

    #[test]
    fn it_tries_and_closes_and_a_reload_forgets_nothing_but_for_other_settings() {
        let fuse = fuse(Duration::ZERO);
        (0..4).for_each(|_| pass(&fuse).unwrap().failed(&UpstreamFailure::Closed(None), true));
        let breaker = &fuse.breaker;
        assert!(Arc::ptr_eq(breaker, &Breaker::new("web", &breaker.settings, Some(breaker))));
        let other = BreakerSettings { probes: 2, ..breaker.settings.clone() };
        let other = Breaker::new("web", &other, Some(breaker)).status();
        assert_eq!(other, BreakerStatus { state: "closed", opened: 1, rejected: 0 });

        assert_eq!(breaker.status().state, "half-open");
        drop(pass(&fuse).unwrap());
        let trial = pass(&fuse).expect("the last one was taken back");
        trial.answered(200);
        assert_eq!((breaker.status().state, fuse.is_closed()), ("closed", true));
    }
}
