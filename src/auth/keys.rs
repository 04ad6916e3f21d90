//! The keys of one issuer, and the one place where a signature is verified.
//!
//! Owns which key may be tried for a token. A key is bound to its algorithms when it is admitted, so nothing a token says can make it
//! serve another. Each issuer has its own ring: two issuers may use one `kid`. RFC 7515 sections 4.1.4 and 5.2, RFC 8725 section 3.1.

use jsonwebtoken::DecodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

use super::settings::Algorithm;
use super::time::UnixSeconds;

/// The keys tried for one token at most: a forged token without `kid` costs no more verifications than this.
pub(super) const MAX_TRIES: usize = 8;

/// One admitted key.
pub(super) struct VerifyingKey {
    pub(super) kid: Option<Box<str>>,
    pub(super) algorithms: Box<[Algorithm]>,
    pub(super) validity: Validity,
    pub(super) decoding: DecodingKey,
}

/// When a key may be used; both ends open unless the configuration closes them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Validity {
    pub(super) not_before: Option<UnixSeconds>,
    pub(super) not_after: Option<UnixSeconds>,
}

impl Validity {
    pub(super) fn holds(self, now: UnixSeconds) -> bool {
        self.not_before.is_none_or(|from| now >= from) && self.not_after.is_none_or(|end| now < end)
    }
}

/// The admitted keys of one issuer, in the order of its configuration.
pub(super) struct KeyRing(Box<[VerifyingKey]>);

impl KeyRing {
    pub(super) fn new(keys: Vec<VerifyingKey>) -> Self {
        Self(keys.into_boxed_slice())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys to try, at most [`MAX_TRIES`]. A `kid` picks the keys that carry it; where none does, a key without any `kid` (a
    /// PEM file, a secret) may still be meant. A token without `kid` may mean every key of its algorithm.
    pub(super) fn candidates<'r>(
        &'r self,
        algorithm: Algorithm,
        kid: Option<&'r str>,
        now: UnixSeconds,
    ) -> impl Iterator<Item = &'r VerifyingKey> {
        let serves = move |key: &&VerifyingKey| key.algorithms.contains(&algorithm) && key.validity.holds(now);
        let named = kid.filter(|kid| self.0.iter().filter(serves).any(|key| key.kid.as_deref() == Some(kid)));
        let meant = move |key: &&VerifyingKey| match (kid, named) {
            (None, _) => true,
            (Some(_), named) => key.kid.as_deref() == named,
        };
        self.0.iter().filter(serves).filter(meant).take(MAX_TRIES)
    }
}

impl VerifyingKey {
    /// Whether this key made `signature` over `message` with `algorithm`. The library's own provider is named, so that no other
    /// crate in the process can install another one.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &Vec<u8>) -> bool {
        if !self.algorithms.contains(&algorithm) || !has_shape(algorithm, signature) {
            return false;
        }
        (DEFAULT_PROVIDER.verifier_factory)(&in_library(algorithm), &self.decoding)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }
}

/// ECDSA signatures are two numbers of fixed width, never DER, and neither may be zero (RFC 7518 section 3.4).
fn has_shape(algorithm: Algorithm, signature: &[u8]) -> bool {
    let width = match algorithm {
        Algorithm::Es256 => 32,
        Algorithm::Es384 => 48,
        _ => return true,
    };
    signature.len() == 2 * width && signature.chunks(width).all(|number| number.iter().any(|byte| *byte != 0))
}

/// The library's name of an algorithm.
pub(super) fn in_library(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::Hs256 => jsonwebtoken::Algorithm::HS256,
        Algorithm::Hs384 => jsonwebtoken::Algorithm::HS384,
        Algorithm::Hs512 => jsonwebtoken::Algorithm::HS512,
        Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::Rs384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::Rs512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::Ps256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::Ps384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::Ps512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::Es384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::super::fixtures;
    use super::*;

    fn ring(keys: &[(Option<&str>, Algorithm)]) -> KeyRing {
        let key = |(kid, algorithm): &(Option<&str>, Algorithm)| VerifyingKey {
            kid: kid.map(Box::from),
            algorithms: Box::new([*algorithm]),
            validity: Validity::default(),
            decoding: DecodingKey::from_secret(b"unused"),
        };
        KeyRing::new(keys.iter().map(key).collect())
    }

    fn places(ring: &KeyRing, algorithm: Algorithm, kid: Option<&str>) -> Vec<usize> {
        let place = |found: &VerifyingKey| ring.0.iter().position(|key| std::ptr::eq(key, found)).unwrap();
        ring.candidates(algorithm, kid, UnixSeconds::from_secs(0)).map(place).collect()
    }

    #[test]
    fn a_kid_picks_its_key_of_the_algorithm() {
        let ring = ring(&[(Some("a"), Algorithm::Rs256), (Some("a"), Algorithm::Es256), (Some("b"), Algorithm::Es256)]);
        assert_eq!(places(&ring, Algorithm::Es256, Some("a")), [1]);
        assert_eq!(places(&ring, Algorithm::Rs256, Some("b")), [0; 0]);
        assert_eq!(places(&ring, Algorithm::Es256, Some("c")), [0; 0]);
        assert_eq!(places(&ring, Algorithm::Es256, None), [1, 2]);
    }

    #[test]
    fn a_key_without_kid_is_tried_only_where_no_key_bears_the_tokens_kid() {
        let ring = ring(&[(None, Algorithm::Rs256), (Some("a"), Algorithm::Rs256)]);
        assert_eq!(places(&ring, Algorithm::Rs256, Some("a")), [1]);
        assert_eq!(places(&ring, Algorithm::Rs256, Some("x")), [0]);
        assert_eq!(places(&ring, Algorithm::Rs256, None), [0, 1]);
    }

    #[test]
    fn a_key_serves_only_the_algorithms_it_was_bound_to() {
        let pair = fixtures::secret();
        let token = pair.sign(Algorithm::Hs384, "{}", "{}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let bound_to = |algorithm| VerifyingKey {
            kid: None,
            algorithms: Box::new([algorithm]),
            validity: Validity::default(),
            decoding: DecodingKey::from_secret(&fixtures::SECRET),
        };
        assert!(bound_to(Algorithm::Hs384).verifies(Algorithm::Hs384, message.as_bytes(), &signature));
        assert!(!bound_to(Algorithm::Hs256).verifies(Algorithm::Hs384, message.as_bytes(), &signature));
    }

    #[test]
    fn the_keys_tried_are_bounded() {
        let ring = ring(&[(None, Algorithm::Rs256); 30]);
        assert_eq!(places(&ring, Algorithm::Rs256, None).len(), MAX_TRIES);
    }

    #[test]
    fn an_ecdsa_signature_is_two_numbers_and_neither_is_zero() {
        let half = |byte| [byte; 32];
        assert!(has_shape(Algorithm::Es256, &[half(1), half(1)].concat()));
        assert!(!has_shape(Algorithm::Es256, &[half(0), half(1)].concat()));
        assert!(!has_shape(Algorithm::Es256, &[half(1), half(0)].concat()));
        assert!(!has_shape(Algorithm::Es256, &[1; 70]) && !has_shape(Algorithm::Es256, &[]));
        assert!(!has_shape(Algorithm::Es384, &[1; 64]) && has_shape(Algorithm::Es384, &[1; 96]));
    }
}
