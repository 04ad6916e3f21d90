//! Tokens that were verified before.
//!
//! Owns the memory of them and nothing of the judgement: dates and demands are asked again on every hit, and a token that failed is
//! never kept. The key holds the issuer's generation, so a changed key or rule finds nothing.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use super::generation::Generation;
use super::verify::Verified;

/// The largest token kept, in bytes of its claims on the heap; a larger one is verified each time.
const MAX_ENTRY_BYTES: usize = 4096;

/// One worker's verified tokens, bounded in number.
///
/// An entry costs about 200 bytes (key 48, value and reference counts about 120, slab and table about 30) plus the claims' JSON
/// and 8 bytes a top-level claim: about 500 bytes for a token of 250 bytes of claims, at most 4.3 KB for any. The token itself is not
/// kept: the request that brings it carries it, and its header value is shared with the request, not copied.
pub(super) struct TokenCache(Option<Cache<TokenKey, Arc<Verified>>>);

/// What identifies a verification: the token's bytes, and the rules and keys it was judged by.
#[derive(PartialEq, Eq)]
pub(super) struct TokenKey {
    digest: [u8; 32],
    generation: Generation,
}

impl Hash for TokenKey {
    /// Eight bytes of a SHA-256 spread as well as all of them; equality looks at everything.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.digest[..8]);
    }
}

/// The SHA-256 of a token's bytes.
pub(super) fn digest_of(token: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
    bytes
}

impl TokenCache {
    /// Room for `entries` tokens; 0 remembers nothing.
    pub(super) fn new(entries: usize) -> Self {
        if entries == 0 {
            return Self(None);
        }
        let options = OptionsBuilder::new()
            .shards(1)
            .estimated_items_capacity(entries)
            .weight_capacity(u64::try_from(entries).unwrap_or(u64::MAX))
            .build()
            .expect("both capacities are set above");
        let hasher = DefaultHashBuilder::default();
        Self(Some(Cache::with_options(options, UnitWeighter, hasher, DefaultLifecycle::default())))
    }

    /// What was found out about the token with this digest, by the rules and keys of this generation. Dates are the caller's to ask.
    pub(super) fn get(&self, digest: &[u8; 32], generation: Generation) -> Option<Arc<Verified>> {
        self.0.as_ref()?.get(&TokenKey { digest: *digest, generation })
    }

    /// Remembers a token that was found good, unless its claims are too large.
    pub(super) fn insert(&self, digest: &[u8; 32], generation: Generation, verified: &Arc<Verified>) {
        if let Some(cache) = self.0.as_ref().filter(|_| verified.heap_bytes() <= MAX_ENTRY_BYTES) {
            cache.insert(TokenKey { digest: *digest, generation }, Arc::clone(verified));
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
        cache.insert(&digest_of("a.b.c"), generation(), &known);
        assert!(Arc::ptr_eq(&known, &cache.get(&digest_of("a.b.c"), generation()).unwrap()));
        assert!(cache.get(&digest_of("a.b.d"), generation()).is_none());
    }

    #[test]
    fn oversized_claims_are_not_kept_and_no_room_keeps_nothing() {
        let large = verified(&format!(r#""user_id":1,"x":"{}""#, "x".repeat(MAX_ENTRY_BYTES)));
        let cache = TokenCache::new(8);
        cache.insert(&digest_of("a"), generation(), &large);
        assert_eq!(cache.len(), 0);
        let none = TokenCache::new(0);
        none.insert(&digest_of("a"), generation(), &verified(r#""user_id":1"#));
        assert!(none.get(&digest_of("a"), generation()).is_none() && none.len() == 0);
    }

    #[test]
    fn one_token_under_two_generations_is_two_keys() {
        let mut settings = fixtures::django_settings();
        settings.leeway_secs = 9;
        let other = super::super::Issuer::compile(settings).unwrap().0;
        let other = other.ring().map(|ring| ring.generation).ok().unwrap();
        let cache = TokenCache::new(8);
        cache.insert(&digest_of("a"), generation(), &verified(r#""user_id":1"#));
        assert!(cache.get(&digest_of("a"), other).is_none());
    }

    #[test]
    fn an_entry_is_as_small_as_documented() {
        let verified = verified(r#""user_id":1"#);
        assert!(size_of::<TokenKey>() == 48 && size_of::<Verified>() <= 152, "{}", size_of::<Verified>());
        assert!(verified.heap_bytes() < 250, "{}", verified.heap_bytes());
    }
}
