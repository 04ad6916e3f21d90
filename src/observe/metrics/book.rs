//! The book of shards: which worker counts what, and all of them together for a scrape.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// The shards of one kind of thing, by its name and the worker. Locked when a snapshot is compiled and at a scrape, and by
/// the first question to an issuer; by no other request.
#[derive(Debug)]
pub(super) struct Book<K, C>(Mutex<BTreeMap<K, BTreeMap<usize, Arc<C>>>>);

impl<K: Ord, C> Book<K, C> {
    pub(super) fn shard(&self, worker: usize, key: K, make: impl FnOnce() -> C) -> Arc<C> {
        let mut shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shard = shards.entry(key).or_default().entry(worker).or_insert_with(|| Arc::new(make()));
        Arc::clone(shard)
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&K, &[&C])) {
        let shards = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, by_worker) in &*shards {
            let shards: Vec<&C> = by_worker.values().map(Arc::as_ref).collect();
            visit(key, &shards);
        }
    }
}

impl<K, C> Default for Book<K, C> {
    fn default() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }
}
