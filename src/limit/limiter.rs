//! One limit at work: what was counted, and whether one more may pass.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gcra::{Decision, Rate};
use super::key::Key;
use super::settings::{CountedBy, LimitSettings};
use super::table::Table;

/// A limit with its counts, which the whole process shares.
#[derive(Debug)]
pub struct Limiter {
    settings: LimitSettings,
    rate: Rate,
    counts: Arc<Counts>,
}

/// A key as one limit counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account(u64);

#[derive(Debug)]
struct Counts {
    table: Table,
    hasher: RandomState,
    start: Instant,
}

impl Limiter {
    /// A limit that has counted nothing.
    pub fn new(settings: LimitSettings) -> Self {
        let rate = Rate::new(settings.quota);
        let entries = if settings.by == CountedBy::Route { 1 } else { settings.entries };
        let table = Table::new(entries, rate.horizon());
        let counts = Arc::new(Counts { table, hasher: RandomState::new(), start: Instant::now() });
        Self { settings, rate, counts }
    }

    /// A limit that goes on with what `before` has counted, unless something else is counted now.
    pub fn continuing(settings: LimitSettings, before: &Self) -> Self {
        let counted = |of: &LimitSettings| (of.name.clone(), of.by.clone(), of.quota, of.entries);
        if counted(&settings) == counted(&before.settings) {
            return Self { settings, rate: before.rate, counts: Arc::clone(&before.counts) };
        }
        Self::new(settings)
    }

    /// What was configured.
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Where this limit counts what has this key.
    pub fn account(&self, key: Key<'_>) -> Account {
        Account(self.counts.hasher.hash_one(key))
    }

    /// Whether one more request may pass; if it may, it is counted.
    pub fn take(&self, account: Account, now: Instant) -> Decision {
        self.counts.table.update(account.0, self.ticks(now), |used| self.rate.decide(used))
    }

    /// A request that passed here was refused elsewhere: it is not counted.
    pub fn give_back(&self, account: Account, now: Instant) {
        self.counts.table.give_back(account.0, self.ticks(now), self.rate.cost());
    }

    /// How fast what it counts is given back.
    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// What clients are told of it: an item of `RateLimit-Policy`.
    pub fn policy(&self) -> String {
        let LimitSettings { name, quota, .. } = &self.settings;
        format!("\"{name}\";q={};w={}", quota.burst, quota.refill_secs())
    }

    fn ticks(&self, now: Instant) -> u64 {
        let since: Duration = now.saturating_duration_since(self.counts.start);
        self.rate.ticks(since)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::gcra::Quota;
    use super::*;

    fn settings(quota: Quota) -> LimitSettings {
        LimitSettings {
            name: "login".into(),
            by: CountedBy::Client { ipv6_prefix: 64 },
            quota,
            entries: 1000,
            dry_run: false,
            headers: true,
            shared: false,
        }
    }

    fn client(number: u32) -> Key<'static> {
        Key::client(Ipv4Addr::from_bits(number).into(), 64)
    }

    fn passed(limiter: &Limiter, key: Key<'_>, now: Instant) -> bool {
        matches!(limiter.take(limiter.account(key), now), Decision::Passed(_))
    }

    #[test]
    fn each_key_has_a_count_of_its_own_and_it_is_exact_at_the_boundary() {
        let limiter = Limiter::new(settings(Quota { requests: 7, per_secs: 60, burst: 7 }));
        let start = Instant::now();
        for key in 0..100 {
            let through = (0..20).filter(|_| passed(&limiter, client(key), start)).count();
            assert_eq!(through, 7, "client {key}");
        }
        for minute in 1..=50 {
            let now = start + Duration::from_mins(minute);
            let through = (0..20).filter(|_| passed(&limiter, client(1), now)).count();
            assert_eq!(through, 7, "minute {minute}");
        }
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let limiter = Limiter::new(settings(Quota { requests: 2, per_secs: 60, burst: 2 }));
        let now = Instant::now();
        assert!(passed(&limiter, client(1), now) && passed(&limiter, client(1), now));
        limiter.give_back(limiter.account(client(1)), now);
        limiter.give_back(limiter.account(client(2)), now);
        assert!(passed(&limiter, client(1), now) && !passed(&limiter, client(1), now));
        assert!(passed(&limiter, client(2), now) && passed(&limiter, client(2), now));
        assert!(!passed(&limiter, client(2), now), "nobody gets more than a burst");
    }

    #[test]
    fn counts_go_on_while_what_is_counted_stays_the_same() {
        let quota = Quota { requests: 1, per_secs: 60, burst: 1 };
        let limiter = Limiter::new(settings(quota));
        let now = Instant::now();
        assert!(passed(&limiter, client(1), now));
        let tried = Limiter::continuing(LimitSettings { dry_run: true, headers: false, ..settings(quota) }, &limiter);
        assert!(!passed(&tried, client(1), now));
        let other = Limiter::continuing(settings(Quota { per_secs: 61, ..quota }), &limiter);
        assert!(passed(&other, client(1), now));
    }

    #[test]
    fn workers_let_through_what_the_limit_says_and_not_one_more() {
        let limiter = Limiter::new(settings(Quota { requests: 1, per_secs: 86_400, burst: 10_000 }));
        let now = Instant::now();
        let worker = || (0..5000).filter(|_| passed(&limiter, Key::All, now)).count();
        let through: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        assert_eq!(through, 10_000);
    }

    #[test]
    fn a_policy_says_how_much_may_come_at_once_and_when_that_is_given_back() {
        let policy = |requests, per_secs, burst| Limiter::new(settings(Quota { requests, per_secs, burst })).policy();
        assert_eq!(policy(5, 60, 5), "\"login\";q=5;w=60");
        assert_eq!(policy(60, 60, 10), "\"login\";q=10;w=10");
    }
}
