//! What one connection is busy with, shared by its stream, its requests and its driver.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use crate::http::Violation;

/// The state of one connection. Touched by one task at a time; atomic because a request's end may be seen elsewhere.
#[derive(Debug, Default)]
pub(super) struct Activity {
    answering: AtomicU32,
    begun: AtomicU32,
    in_head: AtomicBool,
    draining: AtomicBool,
    flushed: AtomicBool,
    violation: OnceLock<Violation>,
}

/// What a connection waits for from its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing: a request is being answered, and its own deadlines run.
    Nothing,
    /// The next request; the number tells one wait from the next.
    Idle(u32),
    /// The next request, while the process drains.
    DrainIdle(u32),
    /// The rest of a head.
    Head,
}

impl Activity {
    /// A request is being answered until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        self.begun.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Bytes were read: whether they end in the middle of a head.
    pub(super) fn reading_head(&self, in_head: bool) {
        self.in_head.store(in_head, Ordering::Relaxed);
    }

    /// Whether everything that was written has left.
    pub(super) fn set_flushed(&self, flushed: bool) {
        self.flushed.store(flushed, Ordering::Relaxed);
    }

    /// Whether everything that was written has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.flushed.load(Ordering::Relaxed)
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
        if self.in_head.load(Ordering::Relaxed) {
            Wait::Head
        } else if self.answering.load(Ordering::Relaxed) > 0 {
            Wait::Nothing
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
