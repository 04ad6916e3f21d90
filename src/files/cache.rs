//! Small files in memory, bounded in bytes.
//!
//! Owns: the entries of one site in one worker, how long an entry is believed without asking the file system, and who
//! asks. Refuses to know: the file system, HTTP. Time is an argument. What is absent is not remembered: a file that
//! appears is served at once, and paths nobody has cost no memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

use super::answer::Representation;
use super::load::State;
use super::variants::Variants;

/// From this age on one request asks whether the file is still the same, while the others are still answered from
/// memory.
const ASK_AFTER: Duration = Duration::from_millis(800);
/// At this age nobody is answered from memory any more: a changed file is seen within a second, of which a tenth is left
/// for the root to be seen changed (`open`).
const BELIEVE_FOR: Duration = Duration::from_millis(900);

/// One small file, with its precompressed siblings.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) variants: Variants<Held>,
    state: State,
    /// Whether an unchanged `state` proves unchanged contents: see [`State::settled`].
    settled: bool,
    /// When the file system last confirmed this entry, in milliseconds since the cache was made.
    confirmed_ms: AtomicU64,
    /// Whether a request has gone to ask. If it never comes back (its client left), age settles the matter.
    asking: AtomicBool,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) representation: Representation,
    pub(super) content: Bytes,
}

/// What the cache has to say about a path.
#[derive(Debug)]
pub(super) enum Lookup {
    /// Answer with this.
    Fresh(Arc<Entry>),
    /// Ask the file system, and answer with this if it says nothing has changed.
    Stale(Arc<Entry>),
    Absent,
}

/// The small files of one site.
#[derive(Debug)]
pub(super) struct Memory {
    entries: Cache<Box<str>, Arc<Entry>, Weight>,
    epoch: Instant,
}

impl Memory {
    /// Holds up to `total_bytes`, bookkeeping included; zero holds nothing.
    pub(super) fn new(total_bytes: u64, now: Instant) -> Self {
        const TYPICAL_ENTRY_BYTES: u64 = 8 * 1024;
        let expected = usize::try_from(total_bytes / TYPICAL_ENTRY_BYTES).unwrap_or(usize::MAX).clamp(16, 1 << 16);
        // One shard: a worker has nobody to contend with, and an entry may be as large as a shard at most.
        let options = OptionsBuilder::new()
            .shards(1)
            .weight_capacity(total_bytes)
            .estimated_items_capacity(expected)
            .build()
            .expect("both capacities are given");
        let entries = Cache::with_options(options, Weight, DefaultHashBuilder::default(), DefaultLifecycle::default());
        Self { entries, epoch: now }
    }

    pub(super) fn look_up(&self, path: &str, now: Instant) -> Lookup {
        let Some(entry) = self.entries.get(path) else { return Lookup::Absent };
        let age = Duration::from_millis(self.millis(now).saturating_sub(entry.confirmed_ms.load(Ordering::Acquire)));
        if age < ASK_AFTER || (age < BELIEVE_FOR && entry.asking.swap(true, Ordering::AcqRel)) {
            Lookup::Fresh(entry)
        } else {
            Lookup::Stale(entry)
        }
    }

    /// Keeps a file as it was read by a request that came at `now`.
    pub(super) fn keep(
        &self,
        path: &str,
        now: Instant,
        variants: Variants<Held>,
        state: State,
        settled: bool,
    ) -> Arc<Entry> {
        let entry = Arc::new(Entry {
            variants,
            state,
            settled,
            confirmed_ms: AtomicU64::new(self.millis(now)),
            asking: AtomicBool::new(false),
        });
        self.entries.insert(path.into(), Arc::clone(&entry));
        entry
    }

    /// The file system has confirmed `entry` to a request that came at `now`.
    pub(super) fn confirm(&self, entry: &Entry, now: Instant) {
        entry.confirmed_ms.fetch_max(self.millis(now), Ordering::AcqRel);
        entry.asking.store(false, Ordering::Release);
    }

    /// There is no small file under `path` any more.
    pub(super) fn forget(&self, path: &str) {
        self.entries.remove(path);
    }

    fn millis(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }
}

impl Entry {
    /// The state that, found again, means these contents are still true.
    pub(super) fn known(&self) -> Option<&State> {
        self.settled.then_some(&self.state)
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Box<str>, Arc<Entry>> for Weight {
    /// Bytes of memory, the headers and the bookkeeping counted by a generous guess.
    fn weight(&self, path: &Box<str>, entry: &Arc<Entry>) -> u64 {
        const BOOKKEEPING_BYTES: usize = 2048;
        let variants: usize = entry.variants.iter().map(|held| held.content.len() + BOOKKEEPING_BYTES).sum();
        (path.len() + variants) as u64
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::super::open::Identity;
    use super::*;

    fn keep(memory: &Memory, path: &str, len: usize, settled: bool, now: Instant) {
        let identity = Identity { device: 1, inode: 1, size: len as u64, modified: (1, 1), changed: (1, 1) };
        let representation = Representation::new(&identity, path, None, UNIX_EPOCH);
        let variants = Variants::new(Held { representation, content: Bytes::from(vec![0; len]) }, Vec::new());
        let state = State { files: Variants::new(identity, Vec::new()), hashed: false };
        memory.keep(path, now, variants, state, settled);
    }

    fn fresh(memory: &Memory, path: &str, now: Instant) -> bool {
        matches!(memory.look_up(path, now), Lookup::Fresh(_))
    }

    #[test]
    fn an_entry_is_believed_for_less_than_a_second() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let memory = Memory::new(1 << 20, start);
        assert!(matches!(memory.look_up("a", start), Lookup::Absent));
        keep(&memory, "a", 10, true, start);
        assert!(fresh(&memory, "a", at(799)));
        assert!(matches!(memory.look_up("a", at(900)), Lookup::Stale(_)));
        assert!(matches!(memory.look_up("a", at(900)), Lookup::Stale(_)));
    }

    #[test]
    fn one_request_asks_early_and_the_others_do_not_wait() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let memory = Memory::new(1 << 20, start);
        keep(&memory, "a", 10, true, start);
        let Lookup::Stale(entry) = memory.look_up("a", at(800)) else { panic!("nobody asked") };
        assert!(fresh(&memory, "a", at(899)));
        assert!(!fresh(&memory, "a", at(900)));
        memory.confirm(&entry, at(800));
        assert!(fresh(&memory, "a", at(1_599)));
        assert!(!fresh(&memory, "a", at(1_600)));
        assert!(fresh(&memory, "a", at(1_601)));
    }

    #[test]
    fn an_older_confirmation_never_takes_back_a_newer_one() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let memory = Memory::new(1 << 20, start);
        keep(&memory, "a", 10, true, start);
        let Lookup::Fresh(entry) = memory.look_up("a", start) else { panic!("not fresh") };
        memory.confirm(&entry, at(2_000));
        memory.confirm(&entry, at(1_000));
        assert!(fresh(&memory, "a", at(2_500)));
    }

    #[test]
    fn contents_read_too_soon_after_a_change_are_read_again() {
        let start = Instant::now();
        let memory = Memory::new(1 << 20, start);
        keep(&memory, "settled", 10, true, start);
        keep(&memory, "recent", 10, false, start);
        let known = |path| match memory.look_up(path, start) {
            Lookup::Fresh(entry) => entry.known().is_some(),
            other => panic!("{other:?}"),
        };
        assert!(known("settled"));
        assert!(!known("recent"));
    }

    #[test]
    fn memory_is_bounded_in_bytes() {
        let start = Instant::now();
        let memory = Memory::new(100_000, start);
        for file in 0..1_000 {
            keep(&memory, &format!("file-{file}"), 1_000, true, start);
        }
        assert!(memory.entries.weight() <= 100_000);
        assert!(memory.entries.len() > 10);
        keep(&memory, "too large", 200_000, true, start);
        assert!(!fresh(&memory, "too large", start));
        let none = Memory::new(0, start);
        keep(&none, "a", 1, true, start);
        assert!(matches!(none.look_up("a", start), Lookup::Absent));
    }

    #[test]
    fn what_is_forgotten_is_absent() {
        let start = Instant::now();
        let memory = Memory::new(1 << 20, start);
        keep(&memory, "a", 1, true, start);
        memory.forget("a");
        assert!(matches!(memory.look_up("a", start), Lookup::Absent));
    }
}
