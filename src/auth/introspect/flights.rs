//! One question for all who ask the same at one time.
//!
//! Owns who asks and who waits, and nothing of what is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;

use super::memory::Digest;

/// What is being found out, by what it is about. Its size is that of the requests under way, which `[limits]` bounds.
pub(super) struct Flights<T>(Mutex<HashMap<Digest, Arc<OnceCell<T>>>>);

impl<T: Clone> Flights<T> {
    /// What `find_out` finds, run once for all who join under one `digest` before it has ended. Who joins later finds out anew.
    ///
    /// Cancel-safe: it runs in the task of the first that joined, and when that one leaves, the next begins it again.
    pub(super) async fn join<F: Future<Output = T>>(&self, digest: &Digest, find_out: impl FnOnce() -> F) -> T {
        let seat = Seat::take(self, digest);
        seat.flight.get_or_init(find_out).await.clone()
    }
}

impl<T> Flights<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Arc<OnceCell<T>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }
}

impl<T> Default for Flights<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// A place on a flight; the first to leave after the landing, or the last to leave before it, ends the flight.
struct Seat<'f, T> {
    flights: &'f Flights<T>,
    digest: Digest,
    flight: Arc<OnceCell<T>>,
}

impl<'f, T> Seat<'f, T> {
    fn take(flights: &'f Flights<T>, digest: &Digest) -> Self {
        let flight = Arc::clone(flights.lock().entry(*digest).or_default());
        Self { flights, digest: *digest, flight }
    }
}

impl<T> Drop for Seat<'_, T> {
    fn drop(&mut self) {
        let mut flights = self.flights.lock();
        let mine = flights.get(&self.digest).is_some_and(|flight| Arc::ptr_eq(flight, &self.flight));
        // Seats are taken under the lock, so a count of two is the list and this one.
        if mine && (self.flight.initialized() || Arc::strong_count(&self.flight) <= 2) {
            flights.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Waker};

    use tokio::sync::Notify;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn who_joins_before_the_landing_shares_it_and_who_comes_later_does_not() {
        let (flights, runs, gate) = (Flights::default(), AtomicUsize::new(0), Notify::new());
        let find_out = || async {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            gate.notified().await;
            run
        };
        let (mut first, mut second) = (pin!(flights.join(&[1; 32], find_out)), pin!(flights.join(&[1; 32], find_out)));
        let mut other = pin!(flights.join(&[2; 32], find_out));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert!(poll(other.as_mut()).is_pending());
        assert_eq!((runs.load(Ordering::SeqCst), flights.len()), (2, 2));
        gate.notify_one();
        assert_eq!(poll(first.as_mut()), Poll::Ready(0));
        let mut late = pin!(flights.join(&[1; 32], find_out));
        assert!(poll(late.as_mut()).is_pending(), "it joined after the landing");
        assert_eq!(poll(second.as_mut()), Poll::Ready(0));
        assert_eq!((runs.load(Ordering::SeqCst), flights.len()), (3, 2));
    }

    #[test]
    fn when_the_first_leaves_the_next_takes_over_and_the_last_leaves_nothing() {
        let (flights, runs) = (Flights::default(), AtomicUsize::new(0));
        let find_out = || async {
            runs.fetch_add(1, Ordering::SeqCst);
            std::future::pending::<()>().await;
        };
        let mut first = Box::pin(flights.join(&[1; 32], find_out));
        let mut second = Box::pin(flights.join(&[1; 32], find_out));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        drop(first);
        assert!(poll(second.as_mut()).is_pending());
        assert_eq!((runs.load(Ordering::SeqCst), flights.len()), (2, 1));
        drop(second);
        assert_eq!(flights.len(), 0);
    }
}
