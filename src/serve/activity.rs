//! What one connection is busy with, shared by its stream, its requests and its driver.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use bytes::Bytes;

use super::interim::Interims;
use crate::http::{Live, Violation};
use crate::upstream::OnInterim;

/// The state of one connection. Touched by one task at a time; atomic because a request's end may be seen elsewhere.
#[derive(Debug, Default)]
pub(super) struct Activity {
    answering: AtomicU32,
    begun: AtomicU32,
    /// Request bodies that have not been read to their end.
    bodies: Arc<AtomicU32>,
    /// Pieces of HTTP/2 answers that wait for the client's window, and how many have gone.
    pieces: AtomicU32,
    taken: AtomicU32,
    in_head: AtomicBool,
    in_body: AtomicBool,
    unflushed: AtomicBool,
    draining: AtomicBool,
    violation: OnceLock<Violation>,
    interims: Interims,
    /// Wakes the task that polls the connection, which is the same for as long as there is one.
    driver: OnceLock<Waker>,
}

/// What a connection waits for from its client. The numbers tell one wait from the next of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing that is not timed elsewhere: a request is being answered or written.
    Nothing,
    /// The next request.
    Idle(u32),
    /// The next request, while the process drains.
    DrainIdle(u32),
    /// The rest of a head.
    Head(u32),
    /// Room in the windows of HTTP/2 streams whose answers are complete.
    Window(u32),
}

impl Activity {
    /// A request is being answered until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Who polls the connection, and with it its stream.
    pub(super) fn driven_by(&self, waker: &Waker) {
        self.driver.get_or_init(|| waker.clone());
    }

    /// Passes interim responses to the request that began last on to an HTTP/1.1 client, until it is answered.
    pub(super) fn pass_interims(self: &Arc<Self>) -> OnInterim {
        let exchange = self.begun.load(Ordering::Relaxed);
        self.interims.open(exchange);
        let activity = Arc::clone(self);
        OnInterim::new(move |interim| {
            if activity.interims.leave(exchange, &interim)
                && let Some(driver) = activity.driver.get()
            {
                driver.wake_by_ref();
            }
        })
    }

    /// The answer to a request is handed over to be written.
    pub(super) fn answered(&self) {
        self.interims.close(!self.is_unflushed());
    }

    /// Interim responses to be written now: there are none unless all that was written before has left.
    pub(super) fn interims(&self) -> Bytes {
        if self.is_unflushed() { Bytes::new() } else { self.interims.take() }
    }

    /// A request body is being received until the guard is dropped.
    pub(super) fn receive(&self) -> Live {
        Live::new(&self.bodies)
    }

    /// A piece of an answer waits to be written until the guard is dropped.
    pub(super) fn hand_over(self: &Arc<Self>) -> Waiting {
        self.pieces.fetch_add(1, Ordering::Relaxed);
        Waiting(Arc::clone(self))
    }

    /// Bytes were read: whether they end in the middle of a head or of a body.
    pub(super) fn received(&self, in_head: bool, in_body: bool) {
        self.in_head.store(in_head, Ordering::Relaxed);
        self.in_body.store(in_body, Ordering::Relaxed);
    }

    /// Whether something that was written has not left yet.
    pub(super) fn set_unflushed(&self, unflushed: bool) {
        self.unflushed.store(unflushed, Ordering::Relaxed);
    }

    /// Whether it has not.
    pub(super) fn is_unflushed(&self) -> bool {
        self.unflushed.load(Ordering::Relaxed)
    }

    /// Whether a client has begun to send something behind the request that is being answered.
    pub(super) fn has_more(&self) -> bool {
        self.in_head.load(Ordering::Relaxed) || self.in_body.load(Ordering::Relaxed)
    }

    /// Whether nothing at all is under way: no part of a message in either direction.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.is_unflushed()
            && !self.in_head.load(Ordering::Relaxed)
            && !self.in_body.load(Ordering::Relaxed)
            && self.answering.load(Ordering::Relaxed) == 0
            && self.bodies.load(Ordering::Relaxed) == 0
    }

    /// From now on idle connections end soon.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Framing was ambiguous. Only the first violation counts: nothing is parsed behind it.
    pub(super) fn violated(&self, violation: Violation) {
        self.violation.get_or_init(|| violation);
    }

    /// What was wrong with the framing, if anything was.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    /// What the client is waited for.
    pub(super) fn wait(&self) -> Wait {
        let begun = self.begun.load(Ordering::Relaxed);
        // An exchange has deadlines of its own, and what is pipelined behind it waits its turn; so has the stream for what is written.
        let exchanging = self.answering.load(Ordering::Relaxed) > 0 || self.bodies.load(Ordering::Relaxed) > 0;
        if exchanging || self.is_unflushed() {
            Wait::Nothing
        } else if self.pieces.load(Ordering::Relaxed) > 0 {
            Wait::Window(self.taken.load(Ordering::Relaxed))
        } else if self.in_head.load(Ordering::Relaxed) {
            Wait::Head(begun)
        } else if self.draining.load(Ordering::Relaxed) {
            Wait::DrainIdle(begun)
        } else {
            Wait::Idle(begun)
        }
    }
}

/// One request being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One piece of an answer that has not been written.
#[derive(Debug)]
pub(super) struct Waiting(Arc<Activity>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.pieces.fetch_sub(1, Ordering::Relaxed);
        self.0.taken.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_only_when_nothing_is_under_way_in_either_direction() {
        let activity = Arc::new(Activity::default());
        assert_eq!(activity.wait(), Wait::Idle(0));
        let answering = activity.begin();
        activity.received(true, false);
        assert_eq!(activity.wait(), Wait::Nothing, "a head pipelined behind an answer has no deadline yet");
        drop(answering);
        assert_eq!(activity.wait(), Wait::Head(1));
        activity.received(false, true);
        let body = activity.receive();
        assert_eq!(activity.wait(), Wait::Nothing, "a request answered early is still being received");
        drop(body);
        assert!(!activity.is_at_rest(), "the rest of a body may still come");
        activity.received(false, false);
        activity.set_unflushed(true);
        assert_eq!(activity.wait(), Wait::Nothing, "the tail of an answer is still being written");
        activity.set_unflushed(false);
        let piece = activity.hand_over();
        assert_eq!(activity.wait(), Wait::Window(0));
        drop(piece);
        assert_eq!(activity.wait(), Wait::Idle(1));
        assert!(activity.is_at_rest());
    }
}
