//! How slowly a client may take what is written to it: some of it within the write time-out, and all of it, over time, at a least rate.
//!
//! Owns the account of one way to a client. Only the time counts in which bytes wait for the client, never the time in which there are
//! none: who waits for a slow upstream, or for the next event of a stream, owes nothing. What a client takes pays for the time it took; what
//! it took fast saves nothing up, because much of it may lie in buffers on the way that nobody reads.

use std::time::Duration;

use tokio::time::Instant;

/// How many time-outs long a client may be behind the least rate.
const GRACE: u32 = 4;

/// How slowly a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    /// For any of it.
    pub(super) timeout: Duration,
    /// Bytes a second that pay for the time they took; 0 asks for none.
    pub(super) least_rate: u32,
}

/// What a client owes.
#[derive(Debug, Default)]
pub(super) struct Account {
    since: Option<Instant>,
    owed: Duration,
}

impl Account {
    /// Bytes wait for the client, now or already. How long they may, counted from when they began to.
    pub(super) fn waits(&mut self, terms: Terms) -> Duration {
        self.since.get_or_insert_with(Instant::now);
        terms.timeout.min((GRACE * terms.timeout).saturating_sub(self.owed))
    }

    /// None wait any more: the client has taken some, or all.
    pub(super) fn goes_on(&mut self, terms: Terms) {
        if let Some(since) = self.since.take()
            && terms.least_rate != 0
        {
            self.owed += since.elapsed();
        }
    }

    /// The client has taken so many bytes.
    pub(super) fn took(&mut self, bytes: usize, terms: Terms) {
        if self.owed > Duration::ZERO && terms.least_rate != 0 {
            let millis = 1000 * bytes as u64 / u64::from(terms.least_rate);
            self.owed = self.owed.saturating_sub(Duration::from_millis(millis));
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const TERMS: Terms = Terms { timeout: Duration::from_secs(30), least_rate: 500 };

    /// Seconds until a client that takes `bytes` every `pause` seconds is given up, or `None` if it is not within a day.
    async fn given_up(bytes: usize, pause: u64, terms: Terms) -> Option<u64> {
        let (begun, mut account) = (Instant::now(), Account::default());
        while begun.elapsed() < Duration::from_hours(24) {
            let left = account.waits(terms);
            if left < Duration::from_secs(pause) {
                advance(left).await;
                return Some(begun.elapsed().as_secs());
            }
            advance(Duration::from_secs(pause)).await;
            account.goes_on(terms);
            account.took(bytes, terms);
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_below_the_least_rate_is_given_up_and_one_above_it_is_not() {
        assert_eq!(given_up(10_001, 20, TERMS).await, None);
        assert_eq!(given_up(100, 20, TERMS).await, Some(121), "four time-outs of grace and what it paid for");
        assert_eq!(given_up(5_000, 20, TERMS).await, Some(230));
        assert_eq!(given_up(usize::MAX / 1001, 31, TERMS).await, Some(30), "each wait has the time-out");
    }

    #[tokio::test(start_paused = true)]
    async fn a_least_rate_of_zero_asks_for_none() {
        assert_eq!(given_up(1, 29, Terms { least_rate: 0, ..TERMS }).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nothing_waits_for_the_client_is_not_owed() {
        let mut account = Account::default();
        for _ in 0..100 {
            account.waits(TERMS);
            advance(Duration::from_millis(100)).await;
            account.goes_on(TERMS);
            advance(Duration::from_mins(10)).await;
            account.took(60, TERMS);
        }
        assert_eq!(account.waits(TERMS), TERMS.timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_beginning_saves_nothing_up() {
        let mut account = Account::default();
        account.took(1 << 30, TERMS);
        for _ in 0..4 {
            assert!(account.waits(TERMS) > Duration::ZERO);
            advance(TERMS.timeout).await;
            account.goes_on(TERMS);
        }
        assert_eq!(account.waits(TERMS), Duration::ZERO);
    }
}
