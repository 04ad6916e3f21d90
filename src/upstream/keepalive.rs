//! How long an endpoint really keeps idle connections: learned from when it closes them, not guessed.
//!
//! A request that must not be sent twice goes only on a connection idle for less than half of the shortest age at which
//! this endpoint was seen closing one. Pure: time is an argument.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long an observation counts: one restart of the endpoint, which closes connections of any age, is forgotten again.
const WINDOW: Duration = Duration::from_mins(5);

/// The shortest idle age at which an endpoint closed a connection lately.
#[derive(Debug)]
pub(super) struct KeepAlive {
    expected: Duration,
    // Touched when a connection is closed, not per request on a warm one.
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    since: Instant,
    current: Option<Duration>,
    previous: Option<Duration>,
}

impl KeepAlive {
    /// Until something is seen, `expected` is believed.
    pub(super) fn new(expected: Duration, now: Instant) -> Self {
        Self { expected, seen: Mutex::new(Seen { since: now, current: None, previous: None }) }
    }

    /// The endpoint closed a connection that had been idle for `age`.
    pub(super) fn closed_after(&self, age: Duration, now: Instant) {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.roll(now);
        seen.current = Some(seen.current.map_or(age, |current| current.min(age)));
    }

    /// The idle age below which a request that must not be repeated may use a connection.
    pub(super) fn trusted_age(&self, now: Instant) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        seen.roll(now);
        let shortest = [seen.current, seen.previous].into_iter().flatten().min();
        shortest.unwrap_or(self.expected).min(self.expected) / 2
    }
}

impl Seen {
    fn roll(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= WINDOW {
            self.previous = if elapsed < 2 * WINDOW { self.current } else { None };
            self.current = None;
            self.since = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_shortest_age_seen_is_trusted_and_forgotten_after_a_while() {
        let start = Instant::now();
        let keep_alive = KeepAlive::new(Duration::from_secs(30), start);
        assert_eq!(keep_alive.trusted_age(start), Duration::from_secs(15));
        for age in [400, 20, 90] {
            keep_alive.closed_after(Duration::from_millis(age), start);
        }
        assert_eq!(keep_alive.trusted_age(start), Duration::from_millis(10));
        assert_eq!(keep_alive.trusted_age(start + WINDOW), Duration::from_millis(10));
        assert_eq!(keep_alive.trusted_age(start + 3 * WINDOW), Duration::from_secs(15));
    }

    #[test]
    fn an_endpoint_that_keeps_longer_than_expected_is_trusted_no_longer() {
        let start = Instant::now();
        let keep_alive = KeepAlive::new(Duration::from_secs(2), start);
        keep_alive.closed_after(Duration::from_mins(1), start);
        assert_eq!(keep_alive.trusted_age(start), Duration::from_secs(1));
    }
}
