//! Slots and leases: an endpoint's capacity, given out one unit at a time by bb8.
//!
//! bb8 leases slots, not connections: making a slot can't fail, so a refused dial is typed and immediate instead of a pool
//! time-out. A slot is last in, first out, so that surplus connections go idle and are closed. A connection is broken until
//! proven clean: a lease dropped without [`Lease::clean`] closes what it holds.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bb8::{ManageConnection, PooledConnection, QueueStrategy};

use super::connect::Connection;

/// One unit of capacity, with a connection in it or none.
#[derive(Debug, Default)]
pub(super) struct Slot {
    // Boxed, because a lease is moved through several futures on its way to the response's body.
    open: Option<Box<Connection>>,
}

/// Tells bb8 how to make a slot: at once, and empty.
#[derive(Debug)]
pub(super) struct Slots;

impl ManageConnection for Slots {
    type Connection = Slot;
    type Error = Infallible;

    async fn connect(&self) -> Result<Slot, Infallible> {
        Ok(Slot::default())
    }

    async fn is_valid(&self, _slot: &mut Slot) -> Result<(), Infallible> {
        Ok(()) // the request judges its own connection, because it knows whether it may be repeated
    }

    fn has_broken(&self, _slot: &mut Slot) -> bool {
        false // an empty slot is as good as new; dropping it would leave waiters waiting
    }
}

/// bb8 knows no idle time of zero; a connection that may not idle at all is never reused, whatever the reaper does.
const SHORTEST_IDLE: Duration = Duration::from_millis(1);

/// A pool of `size` slots whose connections are closed after `idle`.
pub(super) fn pool(size: usize, idle: Duration, queue_timeout: Duration) -> bb8::Pool<Slots> {
    bb8::Pool::builder()
        .max_size(u32::try_from(size).unwrap_or(u32::MAX))
        .queue_strategy(QueueStrategy::Lifo)
        .test_on_check_out(false)
        .max_lifetime(None)
        .idle_timeout(Some(idle.max(SHORTEST_IDLE)))
        .reaper_rate(Duration::from_secs(1))
        .connection_timeout(queue_timeout)
        .build_unchecked(Slots)
}

/// A slot checked out.
#[derive(Debug)]
pub(super) struct Lease {
    slot: PooledConnection<'static, Slots>,
    proven_clean: bool,
}

impl Lease {
    pub(super) fn new(slot: PooledConnection<'static, Slots>) -> Self {
        Self { slot, proven_clean: false }
    }

    /// The connection in the slot, if it is still open.
    pub(super) fn open(&mut self) -> Option<&mut Connection> {
        if self.slot.open.as_ref().is_some_and(|connection| connection.is_closed()) {
            self.slot.open = None;
        }
        self.slot.open.as_deref_mut()
    }

    /// The connection in the slot, whatever its state.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        self.slot.open.as_deref_mut()
    }

    /// Puts a fresh connection into the slot, dropping any other.
    pub(super) fn fill(&mut self, connection: Connection) {
        self.slot.open = Some(Box::new(connection));
    }

    /// Closes what the slot holds.
    pub(super) fn close(&mut self) -> bool {
        self.slot.open.take().is_some()
    }

    /// Gives the slot back with its connection: the exchange ended as it was framed, both ways. A connection whose end is known is none.
    pub(super) fn clean(mut self, now: Instant) {
        if let Some(connection) = self.open() {
            connection.rest(now);
        }
        self.proven_clean = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.proven_clean {
            self.slot.open = None;
        }
    }
}
