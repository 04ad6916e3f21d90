//! A table of fixed size that knows how far ahead of the clock each key is. No lock, no allocation, one word a key.
//!
//! A word holds 24 bits of the key's hash and the 40 low bits of its moment, in ticks; all of it changes in one compare-and-swap, so no
//! two workers count the same request twice or lose one. A key has two buckets it may stand in, each of one cache line. If both are full, what has
//! used least is forgotten: most of the time a key that has given everything back, which costs nothing. A flood of new keys, each
//! of which has used little, pushes out others of its own kind before it touches a key near its limit.
//!
//! Two keys in the same bucket with the same 24 bits share a count: about one in a million when the table is full. The hash is keyed, so
//! nobody can look for such a pair, or for keys of one bucket.

use std::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 8;
const MOMENT_BITS: u32 = 40;
const MOMENT: u64 = (1 << MOMENT_BITS) - 1;

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; SLOTS]);

#[derive(Debug)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    /// The furthest that a moment can be ahead.
    horizon: u64,
}

/// Where a key stands, or may.
struct Place<'t> {
    slot: &'t AtomicU64,
    word: u64,
    /// How far ahead of the clock the word's moment is.
    ahead: u64,
}

impl Table {
    /// A table that remembers `entries` keys, and a fourth more so that their buckets need not be equally full.
    pub(super) fn new(entries: usize, horizon: u64) -> Self {
        let buckets = (entries + entries / 4).div_ceil(SLOTS).max(1);
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect(), horizon }
    }

    /// Shows `decide` how far ahead of `now` a key is, and keeps what it makes of that. It may be asked again if another worker was faster.
    pub(super) fn update<R>(&self, hash: u64, now: u64, decide: impl Fn(u64) -> (Option<u64>, R)) -> R {
        loop {
            let (place, known) = self.find(hash, now);
            let (after, result) = decide(if known { place.ahead } else { 0 });
            let Some(after) = after else { return result };
            let word = tag(hash) | (now.wrapping_add(after) & MOMENT);
            // The word is all there is to a key, so nothing else has to become visible with it.
            if place.slot.compare_exchange_weak(place.word, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return result;
            }
        }
    }

    /// Takes `ticks` back of a key that is still known.
    pub(super) fn give_back(&self, hash: u64, now: u64, ticks: u64) {
        loop {
            let (place, known) = self.find(hash, now);
            if !known {
                return;
            }
            let word = tag(hash) | (now.wrapping_add(place.ahead.saturating_sub(ticks)) & MOMENT);
            if place.slot.compare_exchange_weak(place.word, word, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Where the key stands, or else where it may stand, and which of the two.
    fn find(&self, hash: u64, now: u64) -> (Place<'_>, bool) {
        // Of two buckets with room the emptier one is taken, which is what keeps them equally full.
        let mut free: Option<(Place<'_>, usize)> = None;
        for bucket in self.buckets_of(hash) {
            let (mut least, mut taken): (Option<Place<'_>>, usize) = (None, 0);
            for slot in &bucket.0 {
                let word = slot.load(Ordering::Relaxed);
                let place = Place { slot, word, ahead: self.ahead(word, now) };
                if word & !MOMENT == tag(hash) {
                    return (place, true);
                }
                taken += usize::from(place.ahead > 0);
                if least.as_ref().is_none_or(|least| place.ahead < least.ahead) {
                    least = Some(place);
                }
            }
            let least = least.expect("a bucket has slots");
            if free.as_ref().is_none_or(|(other, others)| (least.ahead, taken) < (other.ahead, *others)) {
                free = Some((least, taken));
            }
        }
        (free.expect("a key has two buckets").0, false)
    }

    /// A moment that is further ahead than any can be is one of the past: the clock has gone round.
    fn ahead(&self, word: u64, now: u64) -> u64 {
        let ahead = (word.wrapping_sub(now)) & MOMENT;
        if word == 0 || ahead > self.horizon { 0 } else { ahead }
    }

    fn buckets_of(&self, hash: u64) -> [&Bucket; 2] {
        let other = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32; // its high half depends on all of the hash
        [hash & u64::from(u32::MAX), other].map(|half| {
            let at = (u128::from(half) * self.buckets.len() as u128) >> 32;
            &self.buckets[usize::try_from(at).expect("half of the hash scaled to the number of buckets")]
        })
    }
}

/// The part of the hash that stands in a word; never zero, which is an empty slot's.
fn tag(hash: u64) -> u64 {
    let tag = hash & !MOMENT;
    if tag == 0 { 1 << MOMENT_BITS } else { tag }
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    use super::*;

    const HORIZON: u64 = 10_000;

    /// A hash that differs in all its parts.
    fn key(number: u64) -> u64 {
        number.wrapping_mul(0xd6e8_feb8_6659_fd93)
    }

    fn add(table: &Table, hash: u64, now: u64, ticks: u64) -> u64 {
        table.update(hash, now, |ahead| (Some(ahead + ticks), ahead))
    }

    fn read(table: &Table, hash: u64, now: u64) -> u64 {
        table.update(hash, now, |ahead| (None, ahead))
    }

    #[test]
    fn a_key_is_as_far_ahead_as_it_was_put() {
        let table = Table::new(100, HORIZON);
        assert_eq!(add(&table, key(7), 50, 30), 0);
        assert_eq!(
            (read(&table, key(7), 50), read(&table, key(7), 60), read(&table, key(7), 80), read(&table, key(7), 81)),
            (30, 20, 0, 0)
        );
        assert_eq!(read(&table, key(8), 50), 0);
        table.give_back(key(7), 50, 10);
        table.give_back(key(8), 50, 10);
        assert_eq!((read(&table, key(7), 50), read(&table, key(8), 50)), (20, 0));
        table.give_back(key(7), 50, 90);
        assert_eq!(read(&table, key(7), 50), 0);
    }

    #[test]
    fn the_clock_may_go_round_and_leaves_nobody_ahead() {
        let table = Table::new(1, HORIZON);
        let round = 1 << MOMENT_BITS;
        add(&table, key(7), round - 5, 30);
        assert_eq!((read(&table, key(7), round - 5), read(&table, key(7), round + 5)), (30, 20));
        for later in [round / 4, round / 2, round - 20_000] {
            assert_eq!(read(&table, key(7), round + later), 0, "{later}");
        }
        add(&table, key(9), round - 5, 30);
        assert_eq!(read(&table, key(9), round - 8), 33, "a clock may be read before another request was counted");
    }

    #[test]
    fn a_hash_of_nothing_is_a_key_too() {
        let table = Table::new(1, HORIZON);
        add(&table, 0, 0, 30);
        assert_eq!(read(&table, 0, 0), 30);
    }

    #[test]
    fn as_many_keys_as_were_asked_for_find_room() {
        let (hasher, entries) = (RandomState::new(), 20_000_u64);
        let table = Table::new(20_000, HORIZON);
        let keys: Vec<u64> = (0..entries).map(|key| hasher.hash_one(key)).collect();
        for key in &keys {
            assert!(add(&table, *key, 0, 100) < 200);
        }
        let kept = keys.iter().filter(|key| read(&table, **key, 0) > 0).count();
        assert!(kept > 19_990, "{kept} of {entries} are remembered");
    }

    #[test]
    fn a_flood_of_new_keys_takes_no_room_and_no_key_near_its_limit() {
        let hasher = RandomState::new();
        let table = Table::new(1000, HORIZON);
        let held = table.buckets.len();
        let honest: Vec<u64> = (0..500).map(|key| hasher.hash_one(("honest", key))).collect();
        for key in &honest {
            assert_eq!(add(&table, *key, 0, 500), 0);
        }
        for key in 0..100_000 {
            add(&table, hasher.hash_one(key), key / 1000, 100);
        }
        assert_eq!(table.buckets.len(), held);
        let kept = honest.iter().filter(|key| read(&table, **key, 100) >= 400).count();
        assert_eq!(kept, honest.len());
    }

    #[test]
    fn workers_that_count_at_once_lose_nothing() {
        let table = Table::new(100, 1 << 30);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| _ = add(&table, key(7), 0, 3)));
            }
        });
        assert_eq!(read(&table, key(7), 0), 4 * 10_000 * 3);
    }
}
