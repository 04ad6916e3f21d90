//! The gate before one endpoint: how many requests are under way there at once, and who of those that wait goes next.
//!
//! Only where a limit is found out (`concurrency`) or the order changes under overload (`queue_order`): elsewhere slots and connections are
//! bound enough, and nothing here is on the way of a request. Owns what the whole process shares about it, under one lock that is held for a
//! few instructions. The rules are pure ([`limit`], [`line`]). Refuses to know what a request is; how many may wait is [`super::queue`]'s to say.

mod limit;
mod line;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::queue::Queue;
use super::{UpstreamFailure, UpstreamSettings, Wire};
use crate::observe::EndpointMeter;
use limit::Limit;
use line::Line;

/// Between which numbers of requests at once an endpoint's limit is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyBounds {
    /// It is given no fewer.
    pub min: usize,
    /// And no more.
    pub max: usize,
}

/// Who of those that wait is served next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueOrder {
    /// Who waits longest.
    #[default]
    Fifo,
    /// The same, and under overload who came last.
    Adaptive,
}

/// One endpoint's gate, for the whole process.
#[derive(Debug)]
pub(super) struct Gate {
    order: QueueOrder,
    /// Whether answers change the limit.
    learns: bool,
    origin: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    under_way: usize,
    limit: Bound,
    line: Line<oneshot::Sender<()>>,
}

#[derive(Debug)]
enum Bound {
    Fixed(usize),
    Found(Limit),
}

/// The right to have one request under way, given back on drop.
#[derive(Debug)]
#[must_use = "the request is over when this is dropped"]
pub(super) struct Turn(Arc<Gate>);

/// A place in the line, left on drop.
#[derive(Debug)]
#[must_use = "whoever drops this does not wait"]
struct Waiting {
    gate: Arc<Gate>,
    /// `None` once the turn is taken.
    number: Option<u64>,
    called: oneshot::Receiver<()>,
}

impl Gate {
    /// `bounds` has the limit found out; else it is `most`.
    pub(super) fn new(most: usize, bounds: Option<ConcurrencyBounds>, order: QueueOrder) -> Arc<Self> {
        let limit = bounds.map_or(Bound::Fixed(most), |bounds| Bound::Found(Limit::new(bounds)));
        let state = State { under_way: 0, limit, line: Line::new() };
        Arc::new(Self { order, learns: bounds.is_some(), origin: Instant::now(), state: Mutex::new(state) })
    }

    /// The gate of an endpoint, if there is to be one.
    pub(super) fn of(settings: &UpstreamSettings, wire: Wire) -> Option<Arc<Self>> {
        let UpstreamSettings { max_connections, max_streams, concurrency, queue_order, .. } = *settings;
        let most = if wire == Wire::Http2 { max_connections.saturating_mul(max_streams) } else { max_connections };
        let is_wanted = concurrency.is_some() || queue_order == QueueOrder::Adaptive;
        is_wanted.then(|| Self::new(most, concurrency, queue_order))
    }

    /// A turn, and how long it was waited for, if there was room for one more who waits.
    ///
    /// Cancel safe.
    pub(super) async fn enter(
        self: &Arc<Self>,
        queue: &Arc<Queue>,
        meter: &EndpointMeter,
        until: Instant,
    ) -> Result<(Turn, Duration), UpstreamFailure> {
        if let Some(turn) = self.try_enter() {
            return Ok((turn, Duration::ZERO));
        }
        let _place = queue.enter().ok_or(UpstreamFailure::QueueFull)?;
        let (_waiting, begun) = (meter.waiting(), Instant::now());
        // Boxed, as all that is not the rule.
        let waited = timeout_at(until, Box::pin(self.join().turn())).await;
        Ok((waited.map_err(|_| UpstreamFailure::QueueTimeout)?, begun.elapsed()))
    }

    /// A turn, if it can be had at once and nobody waits for one.
    fn try_enter(self: &Arc<Self>) -> Option<Turn> {
        let mut state = self.state();
        if state.under_way >= state.limit.now() || !state.line.is_empty() {
            return None;
        }
        state.under_way += 1;
        Some(Turn(Arc::clone(self)))
    }

    /// A place in the line.
    fn join(self: &Arc<Self>) -> Waiting {
        let (bell, called) = oneshot::channel();
        let mut state = self.state();
        let number = state.line.join(self.now(), bell);
        self.call(&mut state); // a turn may have come back meanwhile
        drop(state);
        Waiting { gate: Arc::clone(self), number: Some(number), called }
    }

    /// The first byte of an answer came after so long.
    pub(super) fn answered(&self, first_byte: Duration) {
        if !self.learns {
            return;
        }
        let mut state = self.state();
        let under_way = state.under_way;
        if let Bound::Found(limit) = &mut state.limit {
            limit.answered(self.now(), first_byte, under_way);
        }
        self.call(&mut state);
    }

    /// The limit that was found out; `None` where it is fixed.
    pub(super) fn limit(&self) -> Option<usize> {
        match &self.state().limit {
            Bound::Fixed(_) => None,
            Bound::Found(limit) => Some(limit.now()),
        }
    }

    /// Calls those who may go now.
    fn call(&self, state: &mut State) {
        while state.under_way < state.limit.now() {
            let Some(bell) = state.line.serve(self.now(), self.order) else { return };
            state.under_way += 1;
            let _heard = bell.send(()); // whoever is in the line listens: leaving takes the lock
        }
    }

    fn give_back(&self, state: &mut State) {
        state.under_way -= 1;
        self.call(state);
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bound {
    fn now(&self) -> usize {
        match self {
            Self::Fixed(most) => *most,
            Self::Found(limit) => limit.now(),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut state = self.0.state();
        self.0.give_back(&mut state);
    }
}

impl Waiting {
    /// Waits to be called.
    ///
    /// Cancel safe: a turn that nobody takes goes to the next one.
    async fn turn(mut self) -> Turn {
        (&mut self.called).await.expect("only who leaves the line drops what it is called by");
        self.number = None;
        Turn(Arc::clone(&self.gate))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.gate.state();
        if state.line.leave(number).is_none() {
            self.gate.give_back(&mut state); // it was called and did not hear it
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Waker};

    use tokio::time::advance;

    use super::*;

    fn gate(most: usize, order: QueueOrder) -> Arc<Gate> {
        Gate::new(most, None, order)
    }

    /// How many are under way, and whether nobody waits.
    fn held_by(gate: &Gate) -> (usize, bool) {
        let state = gate.state();
        (state.under_way, state.line.is_empty())
    }

    fn called(waiting: &mut Waiting) -> bool {
        waiting.called.try_recv().is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_as_may_enter_and_the_others_in_their_order() {
        let gate = gate(2, QueueOrder::Fifo);
        let turns = [gate.try_enter().unwrap(), gate.try_enter().unwrap()];
        assert!(gate.try_enter().is_none());
        let mut line = [gate.join(), gate.join(), gate.join()];
        drop(turns);
        assert_eq!(line.each_mut().map(called), [true, true, false]);
        assert!(gate.try_enter().is_none(), "who waits goes first");
    }

    #[tokio::test(start_paused = true)]
    async fn under_overload_who_came_last_goes_first() {
        let gate = gate(1, QueueOrder::Adaptive);
        let turn = gate.try_enter().unwrap();
        let mut line = [gate.join(), gate.join(), gate.join()];
        advance(line::STANDING * 2).await;
        drop(turn);
        assert_eq!(line.each_mut().map(called), [false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_leaves_keeps_nobody_waiting_called_or_not() {
        let gate = gate(1, QueueOrder::Fifo);
        let turn = gate.try_enter().unwrap();
        let [first, second, mut third] = [gate.join(), gate.join(), gate.join()];
        drop(second);
        drop(turn);
        assert!(!called(&mut third));
        drop(first); // called, and gone before it heard that
        let turn = third.turn().await;
        assert_eq!(gate.state().under_way, 1);
        drop(turn);
        assert_eq!(held_by(&gate), (0, true));
        assert!(gate.try_enter().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_given_up_loses_no_turn_whether_it_was_called_or_not() {
        let gate = gate(1, QueueOrder::Fifo);
        for called in [false, true] {
            let turn = gate.try_enter().unwrap();
            let mut waiting = Box::pin(gate.join().turn());
            assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            let held = (!called).then_some(turn); // or it is dropped here
            drop(waiting);
            drop(held);
            assert_eq!(held_by(&gate), (0, true), "{called}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_grows_lets_in_who_waits() {
        let bounds = ConcurrencyBounds { min: 1, max: 100 };
        let gate = Gate::new(100, Some(bounds), QueueOrder::Fifo);
        let first = gate.limit().unwrap();
        let turns: Vec<_> = (0..first).map(|_| gate.try_enter().unwrap()).collect();
        let mut waiting = gate.join();
        for _ in 0..100 {
            advance(Duration::from_millis(10)).await;
            gate.answered(Duration::from_millis(10));
        }
        assert!(gate.limit().unwrap() > first && called(&mut waiting));
        drop(turns);
    }
}
