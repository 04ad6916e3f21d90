//! Nonces that the server hands out, without remembering any (RFC 9449 sections 8 and 9).
//!
//! Owns their making: a tag over a stretch of time under a key that this process made for itself. So a nonce is good for the stretch it was
//! made in and the next, is the same for everybody in it, and cannot be made in advance. A restart ends all of them; a client then gets
//! a new one with the refusal. Knows no clock.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::time::UnixSeconds;

/// Bytes of a nonce before base64url: 128 bits cannot be guessed.
const NONCE_BYTES: usize = 16;

/// The system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system gives no random bytes")]
pub struct NoRandomness;

/// The nonces of this process; one value for all workers.
pub struct Nonces {
    key: hmac::Key,
    stretch_secs: u64,
}

impl Nonces {
    /// Nonces that are good for at least `stretch_secs` seconds and for less than twice as long; 0 counts as 1.
    pub fn new(stretch_secs: u64) -> Result<Self, NoRandomness> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| NoRandomness)?;
        Ok(Self { key, stretch_secs: stretch_secs.max(1) })
    }

    /// The nonce of this moment: 22 characters of base64url, as a header field takes them.
    pub fn issue(&self, now: UnixSeconds) -> String {
        URL_SAFE_NO_PAD.encode(self.nonce_of(self.stretch(now)))
    }

    /// Whether this nonce was issued in this stretch of time or in the one before; compared in constant time.
    pub fn accepts(&self, nonce: &str, now: UnixSeconds) -> bool {
        let mut bytes = [0; NONCE_BYTES];
        // A longer text fails to fit and is refused without being decoded further.
        if URL_SAFE_NO_PAD.decode_slice(nonce, &mut bytes) != Ok(NONCE_BYTES) {
            return false;
        }
        let this = self.stretch(now);
        let is = |stretch| constant_time::verify_slices_are_equal(&self.nonce_of(stretch), &bytes).is_ok();
        is(this) || this.checked_sub(1).is_some_and(is)
    }

    fn stretch(&self, now: UnixSeconds) -> u64 {
        now.as_secs() / self.stretch_secs
    }

    fn nonce_of(&self, stretch: u64) -> [u8; NONCE_BYTES] {
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&hmac::sign(&self.key, &stretch.to_be_bytes()).as_ref()[..NONCE_BYTES]);
        nonce
    }
}

impl std::fmt::Debug for Nonces {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Nonces(every {} seconds)", self.stretch_secs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn at(secs: u64) -> UnixSeconds {
        UnixSeconds::from_secs(secs)
    }

    #[test]
    fn a_nonce_is_good_in_its_stretch_and_the_next() {
        let nonces = Nonces::new(60).unwrap();
        let nonce = nonces.issue(at(630));
        for (now, good) in [(539, false), (599, false), (600, true), (659, true), (719, true), (720, false)] {
            assert_eq!(nonces.accepts(&nonce, at(now)), good, "{now}");
        }
        assert!(nonces.accepts(&nonces.issue(at(0)), at(0)));
    }

    #[test]
    fn a_nonce_of_another_process_or_another_length_is_refused() {
        let (ours, theirs) = (Nonces::new(60).unwrap(), Nonces::new(60).unwrap());
        let nonce = ours.issue(at(600));
        assert!(!theirs.accepts(&nonce, at(600)));
        for wrong in ["", &nonce[..20], &format!("{nonce}AA"), &format!("{nonce}=="), &nonce.repeat(9)] {
            assert!(!ours.accepts(wrong, at(600)), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_or_passes(text in ".{0,64}") {
            prop_assert!(!Nonces::new(60).unwrap().accepts(&text, at(600)));
        }
    }
}
