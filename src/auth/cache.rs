//! Tokens that were verified before.
//!
//! Owns the memory of them and nothing of the judgement: dates and demands are asked again on every hit, and a token that failed is
//! never kept. The key holds the issuer's generation, so a changed key or rule finds nothing.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use quick_cache::sync::Cache;
use quick_cache::{Equivalent, UnitWeighter};

use super::bounded::bounded;
use super::generation::Generation;
use super::verify::Verified;

/// The largest token kept, in bytes of the token and of its claims on the heap; a larger one is verified each time.
const MAX_ENTRY_BYTES: usize = 8192;
/// Bytes of a token that choose its place: the end of a signature, as good as random in every token that is ever kept.
const TAIL_BYTES: usize = 32;

/// One worker's verified tokens, bounded in number.
///
/// An entry costs about 200 bytes (key 32, value and reference counts about 130, slab and table about 30) plus the token, the JSON
/// of its claims and 8 bytes a top-level claim: about 900 bytes for a token of 250 bytes of claims, at most 8.4 KB for any. The token is
/// kept because comparing it costs less than a digest of it, and needs no check of its characters: a hit is equal to one that was checked.
pub(super) struct TokenCache(Option<Cache<TokenKey, Arc<Verified>>>);

/// What identifies a verification: the token's bytes, and the rules and keys it was judged by.
#[derive(PartialEq, Eq)]
struct TokenKey {
    token: Box<[u8]>,
    generation: Generation,
}

/// A token that may be known.
struct Sought<'t> {
    token: &'t [u8],
    generation: Generation,
}

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_tail(&self.token, state);
    }
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        hash_tail(self.token, state);
    }
}

/// Equality looks at everything; only tokens that verified are kept, so nobody can fill one place.
fn hash_tail<H: Hasher>(token: &[u8], state: &mut H) {
    state.write(&token[token.len().saturating_sub(TAIL_BYTES)..]);
}

impl Equivalent<TokenKey> for Sought<'_> {
    fn equivalent(&self, key: &TokenKey) -> bool {
        *self.token == *key.token && self.generation == key.generation
    }
}

impl TokenCache {
    /// Room for `entries` tokens; 0 remembers nothing.
    pub(super) fn new(entries: usize) -> Self {
        Self((entries > 0).then(|| bounded(entries, UnitWeighter)))
    }

    /// What was found out about this token by the rules and keys of this generation. Dates are the caller's to ask.
    pub(super) fn get(&self, token: &[u8], generation: Generation) -> Option<Arc<Verified>> {
        self.0.as_ref()?.get(&Sought { token, generation })
    }

    /// Remembers a token that was found good, unless it is too large.
    pub(super) fn insert(&self, token: &[u8], generation: Generation, verified: &Arc<Verified>) {
        let small = token.len() + verified.heap_bytes() <= MAX_ENTRY_BYTES;
        if let Some(cache) = self.0.as_ref().filter(|_| small) {
            cache.insert(TokenKey { token: token.into(), generation }, Arc::clone(verified));
        }
    }

    /// Tokens remembered now.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Cache::len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures;
    use super::*;

    fn generation() -> Generation {
        fixtures::django().ring().map(|ring| ring.generation).ok().unwrap()
    }

    fn verified(members: &str) -> Arc<Verified> {
        Arc::new(fixtures::verified(&fixtures::django(), &fixtures::django_token(members)).unwrap())
    }

    #[test]
    fn a_second_look_finds_the_same_value() {
        let (cache, known) = (TokenCache::new(8), verified(r#""user_id":1"#));
        cache.insert(b"a.b.c", generation(), &known);
        assert!(Arc::ptr_eq(&known, &cache.get(b"a.b.c", generation()).unwrap()));
        assert!(cache.get(b"a.b.d", generation()).is_none());
    }

    #[test]
    fn oversized_claims_are_not_kept_and_no_room_keeps_nothing() {
        let large = verified(&format!(r#""user_id":1,"x":"{}""#, "x".repeat(MAX_ENTRY_BYTES)));
        let cache = TokenCache::new(8);
        cache.insert(b"a", generation(), &large);
        assert_eq!(cache.len(), 0);
        let none = TokenCache::new(0);
        none.insert(b"a", generation(), &verified(r#""user_id":1"#));
        assert!(none.get(b"a", generation()).is_none() && none.len() == 0);
    }

    #[test]
    fn one_token_under_two_generations_is_two_keys() {
        let mut settings = fixtures::django_settings();
        settings.leeway_secs = 9;
        let other = super::super::Issuer::compile(settings).unwrap().0;
        let other = other.ring().map(|ring| ring.generation).ok().unwrap();
        let cache = TokenCache::new(8);
        cache.insert(b"a", generation(), &verified(r#""user_id":1"#));
        assert!(cache.get(b"a", other).is_none());
    }

    #[test]
    fn an_entry_is_as_small_as_documented() {
        let verified = verified(r#""user_id":1"#);
        assert!(size_of::<TokenKey>() == 32 && size_of::<Verified>() <= 152, "{}", size_of::<Verified>());
        assert!(verified.heap_bytes() < 250, "{}", verified.heap_bytes());
    }
}
