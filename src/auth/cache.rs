//! Tokens that were verified before.
//!
//! Owns the memory of them and nothing of the judgement: dates and demands are asked again on every hit, and a token that failed is
//! never kept. The key holds the issuer's generation, so a changed key or rule finds nothing.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, UnitWeighter};

use super::issuer::{Generation, Issuer};
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

impl TokenKey {
    pub(super) fn new(issuer: &Issuer, token: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self { digest: bytes, generation: issuer.generation() }
    }
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

    /// What `verify` says about this token under this issuer, remembered when it is a success. The caller asks the dates of a hit.
    pub(super) fn get_or_verify<E>(
        &self,
        issuer: &Issuer,
        token: &str,
        verify: impl FnOnce() -> Result<Verified, E>,
        still_good: impl FnOnce(&Verified) -> Result<(), E>,
    ) -> Result<Arc<Verified>, E> {
        let Some(cache) = &self.0 else {
            return verify().map(Arc::new);
        };
        let key = TokenKey::new(issuer, token);
        if let Some(known) = cache.get(&key) {
            still_good(&known)?;
            return Ok(known);
        }
        let fresh = Arc::new(verify()?);
        if fresh.heap_bytes() <= MAX_ENTRY_BYTES {
            cache.insert(key, Arc::clone(&fresh));
        }
        Ok(fresh)
    }

    /// Tokens remembered now.
    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, Cache::len)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::UnixSeconds;
    use super::super::fixtures::{self, NOW};
    use super::super::verify::verify;
    use super::*;

    fn look_up(cache: &TokenCache, token: &str) -> Result<Arc<Verified>, super::super::Cause> {
        let issuer = fixtures::django();
        let fresh = || verify(&issuer, token, UnixSeconds::from_secs(NOW));
        cache.get_or_verify(&issuer, token, fresh, |_| Ok(()))
    }

    #[test]
    fn a_second_look_finds_the_same_value() {
        let cache = TokenCache::new(8);
        let token = fixtures::django_token(r#""user_id":1"#);
        let first = look_up(&cache, &token).unwrap();
        assert!(Arc::ptr_eq(&first, &look_up(&cache, &token).unwrap()));
    }

    #[test]
    fn failures_and_oversized_claims_are_not_kept() {
        let cache = TokenCache::new(8);
        let token = fixtures::django_token(r#""user_id":1"#);
        look_up(&cache, &format!("{}AAAA", &token[..token.len() - 4])).unwrap_err();
        let large = fixtures::django_token(&format!(r#""user_id":1,"x":"{}""#, "x".repeat(MAX_ENTRY_BYTES)));
        look_up(&cache, &large).unwrap();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn a_hit_that_is_no_longer_good_is_refused() {
        let (cache, issuer) = (TokenCache::new(8), fixtures::django());
        let token = fixtures::django_token(r#""user_id":1"#);
        look_up(&cache, &token).unwrap();
        let refused = cache.get_or_verify(&issuer, &token, || panic!("it is known"), |_| Err("late"));
        assert_eq!(refused.unwrap_err(), "late");
    }

    #[test]
    fn one_token_under_two_generations_is_two_keys() {
        let issuer = fixtures::django();
        let mut settings = issuer.settings().clone();
        settings.leeway_secs = 9;
        settings.keys = vec![fixtures::secret().key_source()];
        let other = Issuer::compile(settings).unwrap().0;
        assert!(TokenKey::new(&issuer, "a.b.c") == TokenKey::new(&issuer, "a.b.c"));
        assert!(TokenKey::new(&issuer, "a.b.c") != TokenKey::new(&other, "a.b.c"));
        assert!(TokenKey::new(&issuer, "a.b.c") != TokenKey::new(&issuer, "a.b.d"));
    }

    #[test]
    fn an_entry_is_as_small_as_documented() {
        let token = fixtures::django_token(r#""user_id":1"#);
        let verified = look_up(&TokenCache::new(0), &token).unwrap();
        assert!(size_of::<TokenKey>() == 48 && size_of::<Verified>() <= 104);
        assert!(verified.heap_bytes() < 250, "{}", verified.heap_bytes());
    }
}
