//! What issuers said, for as long as it may be believed.
//!
//! Owns the bounds in number and time. Active tokens and refused ones are kept apart: anybody can make up tokens that are refused, and
//! no flood of those may push out an honest one. Time is an argument.

use std::sync::Arc;
use std::time::Duration;

use quick_cache::Weighter;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use crate::auth::bounded::bounded;
use crate::auth::denied::Cause;
use crate::auth::time::UnixSeconds;
use crate::auth::verify::Verified;

/// Refused tokens kept; about 100 bytes each.
const REFUSED: usize = 4096;
/// The longest a refusal is kept: a token may become good a moment after it was asked for.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Bytes of claims that count as one entry, as in the cache of verified tokens.
const ENTRY_BYTES: usize = 4096;

/// The digest of a token.
pub(super) type Digest = [u8; 32];

/// A moment on both clocks: tokens are dated on the one that can be set, answers grow old on the one that can't.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub(super) wall: UnixSeconds,
    pub(super) steady: Instant,
}

/// The answers of one issuer on one worker.
pub(super) struct Memory {
    active: Option<Cache<Digest, Active, ByBytes>>,
    refused: Cache<Digest, Refused, ByBytes>,
}

#[derive(Clone)]
struct Active {
    verified: Arc<Verified>,
    exp: Option<UnixSeconds>,
    until: Instant,
}

#[derive(Clone)]
struct Refused {
    cause: Cause,
    until: Instant,
}

impl Memory {
    /// Room for `entries` active tokens of up to 4 KiB of claims, or fewer larger ones; 0 remembers none.
    pub(super) fn new(entries: usize) -> Self {
        Self { active: (entries > 0).then(|| bounded(entries, ByBytes)), refused: bounded(REFUSED, ByBytes) }
    }

    /// What is still to be believed. An active token's own dates are the caller's to ask; past its `exp`, though, no answer is used.
    pub(super) fn recall(&self, digest: &Digest, now: Moment) -> Option<Result<Arc<Verified>, Cause>> {
        if let Some(active) = self.active.as_ref().and_then(|active| active.get(digest)) {
            if now.steady < active.until && active.exp.is_none_or(|exp| now.wall < exp) {
                return Some(Ok(active.verified));
            }
            self.active.iter().for_each(|cache| drop(cache.remove(digest)));
        }
        let refused = self.refused.get(digest)?;
        if now.steady < refused.until {
            return Some(Err(refused.cause));
        }
        self.refused.remove(digest);
        None
    }

    /// Remembers an answer for at most `longest` from the moment the question was asked.
    pub(super) fn keep(
        &self,
        digest: &Digest,
        answer: &Result<Arc<Verified>, Cause>,
        asked: Instant,
        longest: Duration,
    ) {
        match (answer, &self.active) {
            (Ok(verified), Some(active)) if !longest.is_zero() => {
                let exp = verified.claims.date("exp").ok().flatten();
                active.insert(*digest, Active { verified: Arc::clone(verified), exp, until: asked + longest });
            }
            (Err(cause), _) if !longest.is_zero() => {
                self.refused.insert(*digest, Refused { cause: cause.clone(), until: asked + longest.min(REFUSED_FOR) });
            }
            _ => {}
        }
    }

    #[cfg(test)]
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.active.as_ref().map_or(0, Cache::len), self.refused.len())
    }
}

/// Large claims take the room of several entries.
#[derive(Clone)]
struct ByBytes;

impl Weighter<Digest, Active> for ByBytes {
    fn weight(&self, _: &Digest, active: &Active) -> u64 {
        u64::try_from(active.verified.heap_bytes() / ENTRY_BYTES).map_or(u64::MAX, |more| 1 + more)
    }
}

impl Weighter<Digest, Refused> for ByBytes {
    fn weight(&self, _: &Digest, _: &Refused) -> u64 {
        1
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::tests::vouched;
    use super::*;
    use crate::auth::fixtures::NOW;

    const MINUTE: Duration = Duration::from_mins(1);

    fn digest(number: usize) -> Digest {
        let mut digest = [7; 32];
        digest[..8].copy_from_slice(&number.to_be_bytes());
        digest
    }

    fn at(begun: Instant, secs: u64) -> Moment {
        Moment { wall: UnixSeconds::from_secs(NOW + secs), steady: begun + Duration::from_secs(secs) }
    }

    #[test]
    fn an_answer_is_believed_for_its_time_and_not_past_the_tokens_own() {
        let (memory, begun) = (Memory::new(8), Instant::now());
        memory.keep(&digest(1), &Ok(vouched(r#"{"active":true}"#)), begun, MINUTE);
        memory.keep(&digest(2), &Ok(vouched(&format!(r#"{{"active":true,"exp":{}}}"#, NOW + 10))), begun, MINUTE);
        let known = |number, secs| memory.recall(&digest(number), at(begun, secs)).is_some();
        assert!(known(1, 0) && known(1, 59) && known(2, 9));
        assert!(!known(2, 10) && !known(1, 60));
        assert_eq!(memory.sizes(), (0, 0), "what is over is let go");
    }

    #[test]
    fn a_refusal_is_believed_for_five_seconds_at_most() {
        let (memory, begun) = (Memory::new(8), Instant::now());
        memory.keep(&digest(1), &Err(Cause::InactiveToken), begun, MINUTE);
        memory.keep(&digest(2), &Err(Cause::InactiveToken), begun, Duration::from_secs(2));
        let known = |number, secs| memory.recall(&digest(number), at(begun, secs)).map(|known| known.unwrap_err());
        assert_eq!(known(1, 4), Some(Cause::InactiveToken));
        assert_eq!((known(1, 5), known(2, 2)), (None, None));
    }

    #[test]
    fn a_clock_that_is_set_back_keeps_no_answer_alive() {
        let (memory, begun) = (Memory::new(8), Instant::now());
        memory.keep(&digest(1), &Ok(vouched(r#"{"active":true}"#)), begun, MINUTE);
        let set_back = Moment { wall: UnixSeconds::from_secs(NOW - 9999), steady: begun + MINUTE };
        assert!(memory.recall(&digest(1), set_back).is_none());
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_to_be_kept() {
        let (memory, begun) = (Memory::new(8), Instant::now());
        memory.keep(&digest(1), &Ok(vouched(r#"{"active":true}"#)), begun, Duration::ZERO);
        memory.keep(&digest(2), &Err(Cause::InactiveToken), begun, Duration::ZERO);
        assert_eq!(memory.sizes(), (0, 0));
        let none = Memory::new(0);
        none.keep(&digest(1), &Ok(vouched(r#"{"active":true}"#)), begun, MINUTE);
        assert!(none.recall(&digest(1), at(begun, 0)).is_none());
    }

    #[test]
    fn a_flood_of_refused_tokens_pushes_out_no_honest_one() {
        let (memory, begun) = (Memory::new(8), Instant::now());
        memory.keep(&digest(0), &Ok(vouched(r#"{"active":true}"#)), begun, MINUTE);
        for number in 1..20_000 {
            memory.keep(&digest(number), &Err(Cause::InactiveToken), begun, MINUTE);
        }
        assert!(memory.recall(&digest(0), at(begun, 1)).unwrap().is_ok());
        assert!(memory.sizes().1 <= REFUSED);
    }

    #[test]
    fn active_tokens_are_bounded_by_number_and_by_size() {
        let (memory, begun) = (Memory::new(8), Instant::now());
        for number in 0..100 {
            memory.keep(&digest(number), &Ok(vouched(r#"{"active":true}"#)), begun, MINUTE);
        }
        assert!(memory.sizes().0 <= 8);
        let large = format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(3 * ENTRY_BYTES));
        let memory = Memory::new(8);
        for number in 0..100 {
            memory.keep(&digest(number), &Ok(vouched(&large)), begun, MINUTE);
        }
        assert!((1..=2).contains(&memory.sizes().0), "{}", memory.sizes().0);
    }
}
