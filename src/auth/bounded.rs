//! How one worker's memories are made: bounded, and in one shard, because nobody else asks them.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};

/// Room for `entries` entries of weight 1, or for fewer heavier ones.
pub(super) fn bounded<K, V, W>(entries: usize, weighter: W) -> Cache<K, V, W>
where
    K: Eq + Hash,
    V: Clone,
    W: Weighter<K, V> + Clone,
{
    let options = OptionsBuilder::new()
        .shards(1)
        .estimated_items_capacity(entries)
        .weight_capacity(u64::try_from(entries).unwrap_or(u64::MAX))
        .build()
        .expect("both capacities are set above");
    Cache::with_options(options, weighter, DefaultHashBuilder::default(), DefaultLifecycle::default())
}
