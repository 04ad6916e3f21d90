//! How many requests wait for a connection to one upstream, over all workers: a queue that is full takes no more.
//!
//! Those that find a connection free do not pass through here. Refuses to know what is waited for, how long, and who is next.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The bound, and how many wait now.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: AtomicUsize,
    most: usize,
}

/// A place in the queue, given back on drop.
#[derive(Debug)]
#[must_use = "whoever drops this does not wait"]
pub(super) struct Place(Arc<Queue>);

impl Queue {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { waiting: AtomicUsize::new(0), most })
    }

    /// A place, if there is one.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Place> {
        let place = Place(Arc::clone(self));
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        (before < self.most).then_some(place) // the place that is dropped gives back what was added
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_no_more_until_somebody_leaves() {
        let queue = Queue::new(2);
        let (first, second) = (queue.enter(), queue.enter());
        assert!(first.is_some() && second.is_some() && queue.enter().is_none() && queue.enter().is_none());
        drop(first);
        let third = queue.enter();
        assert!(third.is_some() && queue.enter().is_none());
        drop((second, third));
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
    }
}
