//! Entries by what they deny: an immutable index that shares with its predecessor all that a change did not touch.
//!
//! Owns lookup, joining and order. A change copies the path from the root to one leaf (about four nodes of 16 for a million entries), so
//! readers keep what they loaded, and a hundred thousand changes cost a hundred thousand paths. Knows no files and no locks.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::super::time::UnixSeconds;
use super::entry::{Entry, Key, Revoked};
use super::{Added, Presented, RevokedCounts};

const FANOUT: usize = 16;
const BITS: u32 = FANOUT.trailing_zeros();
/// Entries of a leaf before it becomes a branch.
const LEAF: usize = 16;
/// Levels that 64 bits of hash can tell apart; entries of one hash share a leaf below.
const DEEPEST: u32 = u64::BITS / BITS;

/// A set of entries, one a key. A clone is two reference counts.
#[derive(Debug, Clone)]
pub(super) struct Index {
    root: Arc<Node>,
    /// Seeded: who chooses token identifiers must not choose their place.
    hasher: Arc<RandomState>,
    counts: RevokedCounts,
    /// The number of the next entry, so that the newest can be told.
    next: u64,
}

#[derive(Debug)]
struct Record {
    entry: Entry,
    number: u64,
}

#[derive(Debug, Clone)]
enum Node {
    Leaf(Vec<(u64, Arc<Record>)>),
    Branch([Arc<Self>; FANOUT]),
}

impl Index {
    pub(super) fn empty() -> Self {
        let root = Arc::new(Node::Leaf(Vec::new()));
        Self { root, hasher: Arc::default(), counts: RevokedCounts::default(), next: 0 }
    }

    /// How many entries of each kind.
    pub(super) fn counts(&self) -> RevokedCounts {
        self.counts
    }

    pub(super) fn len(&self) -> usize {
        self.counts.total()
    }

    /// Whether an entry that holds at `now` denies this token.
    pub(super) fn denies(&self, token: &Presented<'_>, now: UnixSeconds) -> bool {
        let holds = |key| self.find(key).filter(|entry| entry.holds_at(now));
        let counts = self.counts;
        let scopes = [None, Some(token.issuer)];
        if let Some(jti) = token.jti.filter(|_| counts.jti > 0)
            && scopes.iter().any(|issuer| holds(Key::Jti(jti, *issuer)).is_some())
        {
            return true;
        }
        if let Some(sub) = token.subject.filter(|_| counts.sub > 0)
            && scopes.iter().filter_map(|issuer| holds(Key::Sub(sub, *issuer))).any(|entry| is_before(token, entry))
        {
            return true;
        }
        counts.token > 0 && holds(Key::Token(token.digest)).is_some()
    }

    pub(super) fn find(&self, key: Key<'_>) -> Option<&Entry> {
        let hash = self.hasher.hash_one(key);
        let (mut node, mut depth) = (&self.root, 0);
        loop {
            match &**node {
                Node::Branch(children) => node = &children[slot(hash, depth)],
                Node::Leaf(records) => {
                    let found = records.iter().find(|(of, record)| *of == hash && record.entry.key() == key);
                    return found.map(|(_, record)| &record.entry);
                }
            }
            depth += 1;
        }
    }

    /// What the entry of this key is after `entry` was added, and what that changes.
    pub(super) fn joined(&self, entry: Entry) -> (Entry, Added) {
        match self.find(entry.key()) {
            None => (entry, Added::New),
            Some(known) => {
                let joined = known.joined(&entry);
                let added = if joined == *known { Added::Known } else { Added::Extended };
                (joined, added)
            }
        }
    }

    /// Adds an entry; one of the same key is extended and counts as new in the order.
    pub(super) fn put(&mut self, entry: Entry) -> Added {
        let (entry, added) = self.joined(entry);
        if added == Added::Known {
            return added;
        }
        if added == Added::New {
            *self.counts.of(&entry.revoked) += 1;
        }
        let hash = self.hasher.hash_one(entry.key());
        let record = Arc::new(Record { entry, number: self.next });
        self.next += 1;
        put(&mut self.root, 0, hash, record);
        added
    }

    /// Removes the entry of this key; `None` if there is none.
    pub(super) fn remove(&mut self, key: Key<'_>) -> Option<()> {
        let kind = self.find(key)?.revoked.clone();
        remove(&mut self.root, self.hasher.hash_one(key), key);
        *self.counts.of(&kind) -= 1;
        Some(())
    }

    /// At most `limit` entries, the newest first.
    pub(super) fn newest(&self, limit: usize) -> Vec<Entry> {
        let mut all = self.records();
        let later = |one: &&Record, other: &&Record| other.number.cmp(&one.number);
        if limit > 0 && limit < all.len() {
            all.select_nth_unstable_by(limit - 1, later);
        }
        all.truncate(limit);
        all.sort_unstable_by(later);
        all.into_iter().map(|record| record.entry.clone()).collect()
    }

    /// Every entry, the oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &Entry> {
        let mut all = self.records();
        all.sort_unstable_by_key(|record| record.number);
        all.into_iter().map(|record| &record.entry)
    }

    /// The entries that hold at `now`, if others are among them.
    pub(super) fn without_expired(&self, now: UnixSeconds) -> Option<Self> {
        if self.oldest_first().all(|entry| entry.holds_at(now)) {
            return None;
        }
        let mut kept = Self::empty();
        for entry in self.oldest_first().filter(|entry| entry.holds_at(now)) {
            kept.put(entry.clone());
        }
        Some(kept)
    }

    fn records(&self) -> Vec<&Record> {
        let mut found = Vec::with_capacity(self.len());
        gather(&self.root, &mut found);
        found
    }
}

/// A token that does not say when it was issued was issued before anything.
fn is_before(token: &Presented<'_>, entry: &Entry) -> bool {
    let Revoked::Sub { before, .. } = entry.revoked else { return false };
    token.issued_at.is_none_or(|issued| issued < UnixSeconds::from_secs(before))
}

fn slot(hash: u64, depth: u32) -> usize {
    // Four bits always fit.
    usize::try_from((hash >> (depth * BITS)) % FANOUT as u64).unwrap_or(0)
}

fn put(node: &mut Arc<Node>, depth: u32, hash: u64, record: Arc<Record>) {
    let node = Arc::make_mut(node);
    match node {
        Node::Branch(children) => put(&mut children[slot(hash, depth)], depth + 1, hash, record),
        Node::Leaf(records) => {
            let same = |(of, known): &&mut (u64, Arc<Record>)| *of == hash && known.entry.key() == record.entry.key();
            if let Some((_, known)) = records.iter_mut().find(same) {
                *known = record;
            } else if records.len() < LEAF || depth == DEEPEST {
                records.push((hash, record));
            } else {
                let mut leaves: [Vec<_>; FANOUT] = std::array::from_fn(|_| Vec::new());
                for (hash, record) in records.drain(..).chain([(hash, record)]) {
                    leaves[slot(hash, depth)].push((hash, record));
                }
                *node = Node::Branch(leaves.map(|leaf| Arc::new(Node::Leaf(leaf))));
            }
        }
    }
}

fn remove(root: &mut Arc<Node>, hash: u64, key: Key<'_>) {
    let (mut node, mut depth) = (root, 0);
    loop {
        match Arc::make_mut(node) {
            Node::Branch(children) => node = &mut children[slot(hash, depth)],
            Node::Leaf(records) => {
                records.retain(|(of, record)| *of != hash || record.entry.key() != key);
                return;
            }
        }
        depth += 1;
    }
}

fn gather<'a>(node: &'a Node, found: &mut Vec<&'a Record>) {
    match node {
        Node::Branch(children) => children.iter().for_each(|child| gather(child, found)),
        Node::Leaf(records) => found.extend(records.iter().map(|(_, record)| &**record)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn jti(number: usize) -> Entry {
        Entry { revoked: Revoked::Jti { jti: number.to_string().into(), issuer: None }, until: None }
    }

    #[test]
    fn a_clone_keeps_what_it_had() {
        let mut index = Index::empty();
        for number in 0..5000 {
            index.put(jti(number));
        }
        let before = index.clone();
        index.put(jti(5000));
        for number in 0..5000 {
            index.remove(jti(number).key()).unwrap();
        }
        assert_eq!((before.len(), index.len()), (5000, 1));
        assert!((0..5000).all(|number| before.find(jti(number).key()).is_some()));
        assert!(before.find(jti(5000).key()).is_none());
        assert!(index.find(jti(0).key()).is_none() && index.find(jti(5000).key()).is_some());
        assert!(index.remove(jti(0).key()).is_none());
    }

    #[test]
    fn a_change_shares_all_but_one_path_with_what_was_before() {
        let mut index = Index::empty();
        for number in 0..50_000 {
            index.put(jti(number));
        }
        let before = index.clone();
        index.put(jti(50_000));
        let (Node::Branch(old), Node::Branch(new)) = (&*before.root, &*index.root) else { panic!("branches") };
        let copied = old.iter().zip(new).filter(|(old, new)| !Arc::ptr_eq(old, new)).count();
        assert_eq!(copied, 1);
    }

    #[test]
    fn the_newest_come_first_and_what_was_extended_is_new() {
        let mut index = Index::empty();
        for number in 0..100 {
            index.put(Entry { until: Some(5), ..jti(number) });
        }
        assert_eq!(index.put(Entry { until: Some(4), ..jti(0) }), Added::Known);
        assert_eq!(index.put(jti(7)), Added::Extended);
        assert_eq!(index.newest(3), [jti(7), Entry { until: Some(5), ..jti(99) }, Entry { until: Some(5), ..jti(98) }]);
        assert_eq!((index.newest(0).len(), index.newest(1000).len()), (0, 100));
    }

    #[test]
    fn expired_entries_go_and_the_rest_keep_their_order() {
        let mut index = Index::empty();
        for number in 0..40 {
            index.put(Entry { until: (number % 2 == 0).then_some(100), ..jti(number) });
        }
        assert!(index.without_expired(UnixSeconds::from_secs(399)).is_none());
        let kept = index.without_expired(UnixSeconds::from_secs(400)).unwrap();
        assert_eq!((kept.len(), kept.newest(2)), (20, vec![jti(39), jti(37)]));
    }
}
