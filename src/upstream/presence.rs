//! Since when an endpoint is there, and whether it is to be left alone: what is known of one address whatever is known of its
//! connections.
//!
//! The whole process shares it, and it outlives reloads that keep the address. Read at each choice: a few atomics, no lock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::balance::{WHOLE, share};

/// An operator said so.
const DRAINED: u8 = 1;
/// The last answer about its name lacked it.
const RESTING: u8 = 2;

/// One endpoint's presence.
#[derive(Debug)]
pub struct Presence {
    /// Why it gets no new requests, a bit each: looked at together at each choice.
    out: AtomicU8,
    origin: Instant,
    /// Milliseconds after `origin`, and one, at which it began to warm up; 0 if it was there from the start.
    warming: AtomicU64,
}

impl Presence {
    /// Of an endpoint that is as old as all the others.
    pub(super) fn new(now: Instant) -> Self {
        Self { out: AtomicU8::new(0), origin: now, warming: AtomicU64::new(0) }
    }

    /// Of one that came later.
    pub(super) fn added(now: Instant) -> Self {
        let presence = Self::new(now);
        presence.returned(now);
        presence
    }

    /// It was away and is back: it warms up anew.
    pub(super) fn returned(&self, now: Instant) {
        self.warming.store(millis(now.saturating_duration_since(self.origin)) + 1, Ordering::Relaxed);
    }

    /// Whether it gets no new requests because an operator said so.
    pub fn is_drained(&self) -> bool {
        self.out.load(Ordering::Relaxed) & DRAINED != 0
    }

    /// Whether the last answer about its name lacked it.
    pub fn is_resting(&self) -> bool {
        self.out.load(Ordering::Relaxed) & RESTING != 0
    }

    /// Whether it gets no new requests, for whatever reason that is not about its health.
    pub fn is_out_of_use(&self) -> bool {
        self.out.load(Ordering::Relaxed) != 0
    }

    /// What the last answer about its name says: whether it lacks this address. For so short a time it needs no warming up.
    pub fn set_resting(&self, resting: bool) {
        self.set(RESTING, resting);
    }

    /// What an operator says. One that is taken back has been without requests, and warms up.
    pub fn set_drained(&self, drained: bool, now: Instant) {
        if self.set(DRAINED, drained) && !drained {
            self.returned(now);
        }
    }

    /// Sets one reason or takes it back; whether it was there before.
    fn set(&self, reason: u8, there: bool) -> bool {
        let before = if there {
            self.out.fetch_or(reason, Ordering::Relaxed)
        } else {
            self.out.fetch_and(!reason, Ordering::Relaxed)
        };
        before & reason != 0
    }

    /// The share of its weight it counts with, in thousandths.
    pub(super) fn share(&self, slow_start: Duration) -> u64 {
        if slow_start.is_zero() {
            return WHOLE;
        }
        match self.warming.load(Ordering::Relaxed).checked_sub(1) {
            None => WHOLE,
            Some(began) => share(millis(self.origin.elapsed()).saturating_sub(began), millis(slow_start)),
        }
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_rests_is_out_of_use_and_not_drained() {
        let presence = Presence::new(Instant::now());
        presence.set_resting(true);
        assert!(presence.is_out_of_use() && !presence.is_drained());
        presence.set_resting(false);
        assert!(!presence.is_out_of_use());
        presence.set_drained(true, Instant::now());
        assert!(presence.is_out_of_use());
    }

    #[test]
    fn only_who_came_later_or_was_away_warms_up() {
        let (now, slow) = (Instant::now(), Duration::from_hours(1));
        assert_eq!(Presence::new(now).share(slow), WHOLE);
        assert_eq!(Presence::added(now).share(Duration::ZERO), WHOLE);
        let added = Presence::added(now);
        assert!(added.share(slow) < WHOLE);
        let old = Presence::new(now);
        old.set_drained(false, now);
        assert_eq!(old.share(slow), WHOLE, "it was not away");
        old.set_drained(true, now);
        assert!(old.is_drained());
        old.set_drained(false, now);
        assert!(!old.is_drained() && old.share(slow) < WHOLE);
    }
}
