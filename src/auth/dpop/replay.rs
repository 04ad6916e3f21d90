//! The memory of proofs seen: each may be used once (RFC 9449 section 11.1).
//!
//! Owns a bounded set of digests that forgets what the window of time would refuse anyway. Full of digests that still count, it refuses:
//! to forget one early would let it pass again. It is shared by all workers, because a client's connections are spread over them; its
//! locks are many and are held for one look-up. Ask it last, about proofs that hold: what is refused must not fill it.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use super::super::time::UnixSeconds;
use super::proof::AHEAD_SECS;

const SHARDS: usize = 16;
/// Digests forgotten at one look-up: more than one comes in, so room is made faster than it is used, and nobody waits for it long.
const FORGOTTEN_AT_ONCE: usize = 32;

/// Why a proof may not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Replay {
    /// It was used before.
    #[error("the dpop proof was used before")]
    Seen,
    /// No more proofs can be remembered now. The client did nothing wrong.
    #[error("the memory of used dpop proofs is full")]
    Full,
}

impl Replay {
    /// Every value of [`Self::reason`].
    pub const REASONS: [&'static str; 2] = ["proof_replayed", "proof_memory_full"];

    /// As one of [`Self::REASONS`], for metrics and logs.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Seen => "proof_replayed",
            Self::Full => "proof_memory_full",
        }
    }
}

/// The proofs used lately, one value for the whole process. It costs 40 to 90 bytes for each that is remembered.
pub struct ReplayWindow {
    shards: [Mutex<Shard>; SHARDS],
    /// Random, so that nobody can choose digests that all fall into one shard.
    choice: RandomState,
    entries_a_shard: usize,
    window_secs: u64,
    kept_secs: u64,
}

#[derive(Default)]
struct Shard {
    seen: HashSet<[u8; 16]>,
    /// When each is to be forgotten, in whole seconds, in the order they came.
    order: VecDeque<(u64, [u8; 16])>,
    /// The latest moment for which one was kept that is forgotten.
    forgotten: u64,
}

impl ReplayWindow {
    /// Proofs remembered at once where the configuration says nothing.
    pub const DEFAULT_ENTRIES: usize = 1_000_000;

    /// Remembers `entries` proofs at most (rounded up to a multiple of 16), each for as long as [`check_proof`](super::check_proof) would
    /// take it with a window of `window_secs`.
    pub fn new(entries: usize, window_secs: u64) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            choice: RandomState::new(),
            entries_a_shard: entries.div_ceil(SHARDS),
            window_secs,
            // A proof may be from the future by that much; the second is what whole seconds round away.
            kept_secs: window_secs.saturating_add(AHEAD_SECS + 1),
        }
    }

    /// Notes the use of a proof at `now`. One made so long before what was forgotten that it may have been among it counts as seen:
    /// `now` is when its request came, which may have waited since (for an issuer's answer, say) while others were served.
    pub fn first_use(&self, jti_digest: [u8; 16], issued_at: UnixSeconds, now: UnixSeconds) -> Result<(), Replay> {
        let shard = usize::try_from(self.choice.hash_one(jti_digest) % SHARDS as u64).unwrap_or_default();
        // A thread that panicked left the set whole: each step below ends before the next begins to matter.
        let mut shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        let now = now.as_secs();
        shard.forget(now);
        let may_be_forgotten = issued_at.plus(self.window_secs) < UnixSeconds::from_secs(shard.forgotten);
        if may_be_forgotten || shard.seen.contains(&jti_digest) {
            return Err(Replay::Seen);
        }
        if shard.seen.len() >= self.entries_a_shard {
            return Err(Replay::Full);
        }
        shard.seen.insert(jti_digest);
        shard.order.push_back((now.saturating_add(self.kept_secs), jti_digest));
        Ok(())
    }
}

impl Shard {
    /// Ends at the first that still counts: behind it may be one that a clock set back has made older, which then waits its turn.
    fn forget(&mut self, now: u64) {
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some((until, digest)) = self.order.pop_front_if(|(until, _)| *until <= now) else { return };
            self.seen.remove(&digest);
            self.forgotten = self.forgotten.max(until);
        }
    }
}

impl std::fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplayWindow({} seconds)", self.kept_secs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> UnixSeconds {
        UnixSeconds::from_secs(secs)
    }

    fn digest(number: u32) -> [u8; 16] {
        let mut digest = [0; 16];
        digest[..4].copy_from_slice(&number.to_be_bytes());
        digest
    }

    #[test]
    fn a_proof_is_used_once_until_it_would_be_too_old_anyway() {
        let window = ReplayWindow::new(1024, 60);
        assert_eq!(window.first_use(digest(1), at(1000), at(1000)), Ok(()));
        assert_eq!(window.first_use(digest(1), at(1000), at(1000)), Err(Replay::Seen));
        assert_eq!(window.first_use(digest(2), at(1000), at(1000)), Ok(()));
        // Made ten seconds ahead of its use, it is good for seventy, the last of them included.
        assert_eq!(window.first_use(digest(1), at(1070), at(1070)), Err(Replay::Seen));
        assert_eq!(window.first_use(digest(1), at(1071), at(1071)), Ok(()));
    }

    #[test]
    fn a_full_memory_refuses_and_serves_again_when_time_has_passed() {
        let window = ReplayWindow::new(1, 60);
        let fates: Vec<_> = (0..200).map(|number| window.first_use(digest(number), at(1000), at(1000))).collect();
        let kept = fates.iter().filter(|fate| fate.is_ok()).count();
        assert!((2..=16).contains(&kept), "{kept} kept: one for each shard at most");
        assert!(fates.iter().all(|fate| matches!(fate, Ok(()) | Err(Replay::Full))));
        let known = fates.iter().position(Result::is_ok).unwrap();
        assert_eq!(window.first_use(digest(u32::try_from(known).unwrap()), at(1000), at(1000)), Err(Replay::Seen));
        assert_eq!(window.first_use(digest(4711), at(1071), at(1071)), Ok(()));
    }

    #[test]
    fn no_room_at_all_refuses_everything() {
        assert_eq!(ReplayWindow::new(0, 60).first_use(digest(1), at(1), at(1)), Err(Replay::Full));
    }

    #[test]
    fn a_clock_set_back_forgets_nothing_early() {
        let window = ReplayWindow::new(1024, 60);
        window.first_use(digest(1), at(5000), at(5000)).unwrap();
        window.first_use(digest(2), at(1000), at(1000)).unwrap();
        assert_eq!(window.first_use(digest(1), at(1000), at(1000)), Err(Replay::Seen));
        assert_eq!(window.first_use(digest(2), at(1030), at(1030)), Err(Replay::Seen));
    }

    #[test]
    fn of_many_threads_with_one_proof_one_is_first() {
        let window = Arc::new(ReplayWindow::new(1024, 60));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let window = Arc::clone(&window);
                std::thread::spawn(move || {
                    (0..100).filter(|n| window.first_use(digest(*n), at(9), at(9)).is_ok()).count()
                })
            })
            .collect();
        assert_eq!(threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>(), 100);
    }

    #[test]
    fn a_request_that_waited_longer_than_its_proof_is_remembered_uses_none_twice() {
        let window = ReplayWindow::new(1024, 60);
        window.first_use(digest(0), at(1000), at(1000)).unwrap();
        // A second request with it came in time, and waits; meanwhile every shard is used and forgets.
        for number in 1..200 {
            window.first_use(digest(number), at(1071), at(1071)).unwrap();
        }
        assert_eq!(window.first_use(digest(0), at(1000), at(1060)), Err(Replay::Seen));
        assert_eq!(window.first_use(digest(200), at(1071), at(1071)), Ok(()));
    }

    proptest! {
        #[test]
        fn nothing_is_first_twice_within_its_time(uses in prop::collection::vec((0u32..8, 0u64..400), 0..60)) {
            let window = ReplayWindow::new(1024, 60);
            let mut uses = uses;
            uses.sort_by_key(|(_, when)| *when);
            let mut last = std::collections::HashMap::new();
            for (number, when) in uses {
                let expected = last.get(&number).is_none_or(|first| first + 71 <= when);
                prop_assert_eq!(window.first_use(digest(number), at(when), at(when)).is_ok(), expected);
                if expected {
                    last.insert(number, when);
                }
            }
        }
    }
}
