//! How many client connections the process holds at once. What is beyond waits in the listeners' backlogs.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::guard::Seat;

/// The bound on client connections. Clones share it, across workers and listeners.
#[derive(Debug, Clone)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    limit: usize,
}

impl ConnectionLimit {
    /// At most `limit` connections at once; 0 counts as 1, since a gateway that accepts nothing is a mistake.
    pub fn new(limit: usize) -> Self {
        let limit = limit.clamp(1, Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(limit)), limit }
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.limit - self.free.available_permits()
    }

    /// A place, if one is free now.
    pub(super) fn try_admit(&self) -> Option<Admission> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(Admission::new)
    }

    /// Whether at least half of the places are taken.
    pub(super) fn is_half_taken(&self) -> bool {
        2 * self.free.available_permits() <= self.limit
    }

    /// Waits its turn, first come first served. Cancel-safe, though a cancelled wait loses its place.
    pub(super) async fn admit(&self) -> Admission {
        let free = Arc::clone(&self.free).acquire_owned().await;
        Admission::new(free.expect("the semaphore is private and nothing closes it"))
    }
}

/// One connection's place under the limit, free again when dropped. Keep it for as long as the socket is open.
#[derive(Debug)]
pub struct Admission {
    _place: OwnedSemaphorePermit,
    /// Its place among its client's connections, once it is known who that is.
    seat: Option<Seat>,
}

impl Admission {
    fn new(place: OwnedSemaphorePermit) -> Self {
        Self { _place: place, seat: None }
    }

    /// The connection is one of its client's.
    pub fn seat(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    /// Whether it is counted as somebody's.
    pub fn is_seated(&self) -> bool {
        self.seat.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_admission_lets_the_next_in() {
        let limit = ConnectionLimit::new(1);
        let first = limit.admit().await;
        assert_eq!(limit.open(), 1);
        let other = limit.clone();
        let next = other.admit();
        tokio::pin!(next);
        tokio::select! {
            biased;
            _ = &mut next => panic!("admitted over the limit"),
            () = std::future::ready(()) => drop(first),
        }
        let second = next.await;
        assert_eq!(limit.open(), 1);
        drop(second);
        assert_eq!(limit.open(), 0);
    }

    #[test]
    fn who_does_not_wait_takes_a_free_place_or_none() {
        let limit = ConnectionLimit::new(3);
        assert!(!limit.is_half_taken());
        let places: Vec<_> = (0..3).map(|_| limit.try_admit().expect("a place")).collect();
        assert!(limit.is_half_taken() && limit.try_admit().is_none());
        drop(places);
        assert_eq!(limit.open(), 0);
    }

    #[test]
    fn a_limit_of_zero_and_one_of_all_are_made_usable() {
        assert_eq!(ConnectionLimit::new(0).limit, 1);
        assert_eq!(ConnectionLimit::new(usize::MAX).open(), 0);
    }
}
