//! HTTP/2 streams whose client takes nothing: each is a task of its own with a write time-out of its own.
//!
//! Flow control lets a client hold a response, and with it an upstream's connection, for ever: hyper does not poll a body while the
//! client's window is shut, and a socket that moves other streams' bytes looks healthy. So the task that writes a stream is watched
//! from outside: it is dropped, which resets the stream, when a piece of the body was handed over and no other was asked for in time.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use crate::deadline::Deadline;
use crate::shutdown::Tasks;

/// What the body of the stream that is being polled did last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// It was not polled.
    Untouched,
    /// It had nothing to give: the upstream's deadline runs, not the client's.
    Waited,
    /// It gave something, which now waits for the client.
    Gave,
}

thread_local! {
    // Set by a body and read by the task around it, within one poll on one thread.
    static STEP: Cell<Step> = const { Cell::new(Step::Untouched) };
}

/// A body was polled and gave something, or not.
pub(super) fn polled(gave: bool) {
    STEP.set(if gave { Step::Gave } else { Step::Waited });
}

/// Runs the streams of one connection.
#[derive(Debug, Clone)]
pub(super) struct Streams {
    pub(super) tasks: Tasks,
    pub(super) write_timeout: Duration,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.tasks.spawn(Watched { stream, write_timeout: self.write_timeout, deadline: Deadline::default() });
    }
}

pin_project! {
    struct Watched<F> {
        #[pin]
        stream: F,
        write_timeout: Duration,
        deadline: Deadline,
    }
}

impl<F: Future<Output = ()>> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        STEP.set(Step::Untouched);
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        match STEP.get() {
            Step::Untouched => {}
            Step::Waited => this.deadline.clear(),
            Step::Gave => this.deadline.set(*this.write_timeout),
        }
        ready!(this.deadline.poll_passed(cx));
        tracing::debug!("a stream's client took nothing in time");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::Instant;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(30);

    async fn watched(stream: impl Future<Output = ()>) {
        Watched { stream, write_timeout: LIMIT, deadline: Deadline::default() }.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_client_takes_nothing_is_dropped_in_time() {
        let start = Instant::now();
        let mut first = true;
        watched(poll_fn(move |_| {
            if std::mem::take(&mut first) {
                polled(true);
            }
            Poll::Pending
        }))
        .await;
        assert_eq!(start.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_waits_for_its_upstream_is_not() {
        let stream = watched(poll_fn(|_| {
            polled(false);
            Poll::Pending
        }));
        assert!(tokio::time::timeout(Duration::from_hours(1), stream).await.is_err());
    }
}
