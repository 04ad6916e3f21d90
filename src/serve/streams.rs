//! HTTP/2 streams whose client takes nothing: each is a task of its own with a write time-out of its own.
//!
//! Flow control lets a client hold a response, and with it an upstream's connection, for ever: hyper does not poll a body while the
//! client's window is shut, and a socket that moves other streams' bytes looks healthy. So the task that writes a stream is watched
//! from outside: it is dropped, which resets the stream, when a piece of the body was handed over and no other was asked for in time, or
//! when they are asked for too slowly.
//!
//! The writer of a tunnel is a task of the same kind, which waits for its client's window however the tunnel ended. So whoever runs the
//! tunnel holds it by a leash.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::task::AbortHandle;

use super::account::{Account, Terms};
use crate::deadline::Deadline;
use crate::shutdown::Tasks;

/// What the body of the stream that is being polled did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It was not polled.
    Untouched,
    /// It had nothing to give: the upstream's deadline runs, not the client's.
    Waited,
    /// It gave so many bytes, which now wait for the client.
    Gave(usize),
}

thread_local! {
    // Set by a body and read by the task around it, within one poll on one thread.
    static STEP: Cell<Step> = const { Cell::new(Step::Untouched) };
    // Set by a request that becomes a tunnel, and taken by the writer that its stream's task spawns in the same poll.
    static UPGRADE: RefCell<Option<Arc<OnceLock<AbortHandle>>>> = const { RefCell::new(None) };
}

/// A hold on the task that writes a tunnel's stream. Dropping it resets a stream that was not ended as it should.
#[derive(Debug, Default)]
pub(super) struct Leash(Arc<OnceLock<AbortHandle>>);

impl Leash {
    /// The leash of the tunnel that the stream is about to become, whose task is being polled.
    pub(super) fn of_this_stream() -> Self {
        let writer = Arc::default();
        UPGRADE.set(Some(Arc::clone(&writer)));
        Self(writer)
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(writer) = self.0.get() {
            writer.abort();
        }
    }
}

/// A body was polled and gave so many bytes, or nothing yet.
pub(super) fn polled(gave: Option<usize>) {
    STEP.set(match (gave, STEP.get()) {
        (None, _) => Step::Waited,
        (Some(bytes), Step::Gave(before)) => Step::Gave(before + bytes),
        (Some(bytes), Step::Untouched | Step::Waited) => Step::Gave(bytes),
    });
}

/// Runs the streams of one connection.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) tasks: Tasks,
    pub(super) terms: Terms,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let watched =
            Watched { stream, terms: self.terms, account: Account::default(), given: 0, deadline: Deadline::default() };
        let task = self.tasks.spawn(watched);
        if let Some(writer) = UPGRADE.take() {
            writer.get_or_init(|| task.abort_handle());
        }
    }
}

pin_project! {
    struct Watched<F> {
        #[pin]
        stream: F,
        terms: Terms,
        account: Account,
        // Bytes that wait for the client since the body was last asked for more.
        given: usize,
        deadline: Deadline,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        STEP.set(Step::Untouched);
        UPGRADE.take();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match STEP.get() {
            Step::Untouched => {}
            step => {
                this.account.goes_on(*this.terms);
                this.account.took(std::mem::take(this.given), *this.terms);
                if let Step::Gave(bytes) = step {
                    *this.given = bytes;
                    this.deadline.set(this.account.waits(*this.terms));
                } else {
                    this.deadline.clear();
                }
            }
        }
        ready!(this.deadline.poll_passed(cx));
        tracing::debug!("a stream's client took nothing in time, or too little");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);
    const TERMS: Terms = Terms { timeout: LIMIT, least_rate: 500 };

    async fn watched(stream: impl Future<Output = ()>) {
        Watched { stream, terms: TERMS, account: Account::default(), given: 0, deadline: Deadline::default() }.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_is_dropped_in_time() {
        let start = Instant::now();
        let mut first = true;
        watched(poll_fn(move |_| {
            if std::mem::take(&mut first) {
                polled(Some(1));
            }
            Poll::Pending
        }))
        .await;
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_a_little_now_and_then_is_dropped_when_its_grace_is_over() {
        let start = Instant::now();
        let mut pace = tokio::time::interval(LIMIT / 2);
        watched(poll_fn(move |cx| {
            while pace.poll_tick(cx).is_ready() {
                polled(Some(100));
            }
            Poll::Pending
        }))
        .await;
        let elapsed = start.elapsed();
        assert!(elapsed > 3 * LIMIT && elapsed < 5 * LIMIT, "{elapsed:?}");
    }

    #[tokio::test]
    async fn a_tunnels_writer_ends_with_its_leash_and_no_other_task_does() {
        use hyper::rt::Executor as _;
        let tasks = Tasks::new();
        let streams = Streams { tasks: tasks.clone(), terms: TERMS };
        streams.execute(pending());
        let leash = Leash::of_this_stream();
        streams.execute(pending());
        streams.execute(pending());
        assert_eq!(tasks.count(), 3);
        drop(leash);
        while tasks.count() > 2 {
            tokio::task::yield_now().await;
        }
        // A stream that never became a tunnel leaves its leash to nobody.
        let leash = Leash::of_this_stream();
        watched(async {}).await;
        streams.execute(pending());
        drop(leash);
        tokio::task::yield_now().await;
        assert_eq!(tasks.count(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_upstream_is_not() {
        let stream = watched(poll_fn(|_| {
            polled(None);
            Poll::Pending
        }));
        assert!(tokio::time::timeout(Duration::from_hours(1), stream).await.is_err());
    }
}
