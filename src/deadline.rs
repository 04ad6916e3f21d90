//! A deadline that is moved far more often than it strikes.
//!
//! Owns one timer per connection. Moving a deadline later, as every finished request does, only writes a field: the timer
//! is armed again when it fires too early. Refuses to know what is being waited for.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// A movable point in time that a task can wait for beside its real work.
#[derive(Debug, Default)]
pub struct Deadline {
    at: Option<Instant>,
    // Made at the first wait: a connection that never waits owns no timer entry.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Sets the deadline `after` from now, replacing any other.
    pub fn set(&mut self, after: Duration) {
        self.set_at(Instant::now() + after);
    }

    /// Sets the deadline to this moment, replacing any other.
    pub fn set_at(&mut self, at: Instant) {
        self.at = Some(at);
    }

    /// Sets the deadline `after` from now unless one is already set.
    pub fn set_if_clear(&mut self, after: Duration) {
        if self.at.is_none() {
            self.set(after);
        }
    }

    /// Nothing is waited for any more.
    pub fn clear(&mut self) {
        self.at = None;
    }

    /// Ready once the deadline has passed; pending for ever while none is set.
    ///
    /// Cancel safe: holds no progress besides the timer itself.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if at < timer.deadline() {
            timer.as_mut().reset(at);
        }
        loop {
            std::task::ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_moved_later_strikes_late_and_one_moved_earlier_strikes_early() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        deadline.set(Duration::from_secs(5));
        assert!(poll_once(&mut deadline).await.is_pending());
        deadline.set(Duration::from_secs(9));
        poll_fn(|cx| deadline.poll_passed(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 9);

        deadline.set(Duration::from_mins(1));
        assert!(poll_once(&mut deadline).await.is_pending());
        deadline.set(Duration::from_secs(1));
        poll_fn(|cx| deadline.poll_passed(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cleared_deadline_never_strikes() {
        let mut deadline = Deadline::default();
        deadline.set(Duration::from_millis(1));
        deadline.clear();
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(poll_once(&mut deadline).await.is_pending());
    }

    async fn poll_once(deadline: &mut Deadline) -> Poll<()> {
        poll_fn(|cx| Poll::Ready(deadline.poll_passed(cx))).await
    }
}
