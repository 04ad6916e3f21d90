//! Stopping: one signal that says "finish and go", and one count of what still runs.
//!
//! Owns the signal and the count. Refuses to know what is being drained, how long the grace is, and which UNIX signal
//! or command began it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Begins the drain. Clones begin the same one; dropping them begins nothing.
#[derive(Debug, Clone)]
pub struct DrainTrigger {
    started: Arc<AtomicBool>,
    token: CancellationToken,
}

impl DrainTrigger {
    /// Begins the drain. Idempotent; a drain can't be called off.
    pub fn begin(&self) {
        self.started.store(true, Ordering::Release);
        self.token.cancel();
    }
}

/// Tells whether the drain has begun. Clones hear the same signal.
#[derive(Debug, Clone)]
pub struct Drain {
    // Read once a request: a plain flag stays in every core's cache, where the token's mutex would travel.
    started: Arc<AtomicBool>,
    token: CancellationToken,
}

impl Drain {
    /// A signal not yet given, and what gives it.
    #[allow(clippy::new_ret_no_self)] // a signal is of no use without its trigger
    pub fn new() -> (DrainTrigger, Self) {
        let started = Arc::new(AtomicBool::new(false));
        let token = CancellationToken::new();
        (DrainTrigger { started: Arc::clone(&started), token: token.clone() }, Self { started, token })
    }

    /// The same signal with a waiting list of its own. Connections poll `begun` at every wake-up, and each poll
    /// locks that list: with one per worker the lock never leaves its core.
    #[must_use]
    pub fn for_worker(&self) -> Self {
        Self { started: Arc::clone(&self.started), token: self.token.child_token() }
    }

    /// Whether the drain has begun. Cheap enough for every request.
    pub fn started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Waits until the drain begins; at once if it has. Cancel-safe.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }
}

/// Counts tasks, so that a drain knows when the last has ended. Clones share the count, across runtimes too.
///
/// The one place that spawns: a task nobody counts is a request that a drain cuts off.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
}

impl Tasks {
    /// An empty count.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs `future` on the current runtime and counts it until it ends, panics or is dropped with its runtime.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.tracker.spawn(future)
    }

    /// How many run now.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }

    /// Waits until none runs. Tasks spawned meanwhile are waited for as well. Cancel-safe.
    pub async fn finished(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use tokio::sync::oneshot;

    use super::*;

    /// Polls once, so that "still waiting" needs no clock.
    fn pending_now(future: Pin<&mut impl Future>) -> bool {
        future.poll(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    #[tokio::test]
    async fn begun_waits_for_the_trigger_and_every_clone_hears_it() {
        let (trigger, drain) = Drain::new();
        let (clone, worker) = (drain.clone(), drain.for_worker());
        assert!(!drain.started());
        let mut waiting = Box::pin(worker.begun());
        assert!(pending_now(waiting.as_mut()));

        trigger.clone().begin();
        trigger.begin();
        waiting.await;
        clone.begun().await;
        drain.for_worker().begun().await;
        assert!(drain.started() && clone.started() && worker.started());
    }

    #[tokio::test]
    async fn a_dropped_trigger_begins_nothing() {
        let (trigger, drain) = Drain::new();
        drop(trigger);
        assert!(!drain.started());
        assert!(pending_now(Box::pin(drain.begun()).as_mut()));
    }

    #[tokio::test]
    async fn finished_waits_for_the_last_task_and_for_late_ones() {
        let tasks = Tasks::new();
        let (end_first, first) = oneshot::channel::<()>();
        let (end_late, late) = oneshot::channel::<()>();
        let first = tasks.spawn(first);
        let mut finished = Box::pin(tasks.finished());
        assert!(pending_now(finished.as_mut()));

        let late = tasks.spawn(late);
        assert_eq!(tasks.count(), 2);
        end_first.send(()).unwrap();
        first.await.unwrap().unwrap();
        assert!(pending_now(finished.as_mut()));

        end_late.send(()).unwrap();
        late.await.unwrap().unwrap();
        finished.await;
        assert_eq!(tasks.count(), 0);
    }

    #[tokio::test]
    async fn a_task_that_panics_is_counted_out() {
        let tasks = Tasks::new();
        let crashed = tasks.spawn(async { panic!("part of the test") });
        assert!(crashed.await.unwrap_err().is_panic());
        tasks.finished().await;
    }

    #[test]
    fn tasks_of_several_runtimes_share_one_count() {
        let tasks = Tasks::new();
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (one, other) = (runtime(), runtime());
        let (end, ended) = oneshot::channel::<()>();
        one.block_on(async { drop(tasks.spawn(std::future::pending::<()>())) });
        other.block_on(async { drop(tasks.spawn(ended)) });
        assert_eq!(tasks.count(), 2);
        drop(one);
        assert_eq!(tasks.count(), 1);
        end.send(()).unwrap();
        other.block_on(tasks.finished());
    }
}
