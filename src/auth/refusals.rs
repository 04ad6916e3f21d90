//! Tokens whose signature did not verify, so that a client that repeats one costs no second check.
//!
//! Owns a small bounded memory of its own: what is refused never takes the place of what passes. Only a signature that fails by keys that
//! have no dates is remembered, under the generation of those keys, because nothing else stays true: the answer is the one that a fresh
//! check would give.

use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

use super::bounded::bounded;
use super::generation::Generation;

/// Refusals remembered by one worker; each costs about 100 bytes.
const ENTRIES: usize = 4096;

/// One worker's memory of bad signatures.
pub(super) struct Refusals(Cache<Refusal, ()>);

/// A token, by its SHA-256, and the keys that did not sign it. A digest, because a token may be 16 KiB long and anybody can make one up.
#[derive(PartialEq, Eq, Hash)]
struct Refusal {
    digest: [u8; 32],
    generation: Generation,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self(bounded(ENTRIES, UnitWeighter))
    }

    /// Whether the keys of this generation are known not to have signed this token.
    pub(super) fn knows(&self, digest: [u8; 32], generation: Generation) -> bool {
        self.0.get(&Refusal { digest, generation }).is_some()
    }

    pub(super) fn remember(&self, digest: [u8; 32], generation: Generation) {
        self.0.insert(Refusal { digest, generation }, ());
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

    #[test]
    fn a_refusal_is_known_by_token_and_keys_and_their_number_is_bounded() {
        let refusals = Refusals::new();
        refusals.remember([1; 32], generation());
        assert!(refusals.knows([1; 32], generation()));
        assert!(!refusals.knows([2; 32], generation()));
        let mut other = fixtures::django_settings();
        other.leeway_secs = 9;
        let other = super::super::Issuer::compile(other).unwrap().0;
        assert!(!refusals.knows([1; 32], other.ring().map(|ring| ring.generation).ok().unwrap()));
        for number in 0..20_000_u32 {
            let mut digest = [0; 32];
            digest[..4].copy_from_slice(&number.to_be_bytes());
            refusals.remember(digest, generation());
        }
        assert!(refusals.0.len() <= ENTRIES);
    }
}
