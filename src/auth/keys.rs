//! The keys of one issuer, and the one place where a signature is verified.
//!
//! Owns which key may be tried for a token. A key is bound to its algorithms when it is admitted, and read by the library once and then,
//! so nothing a token says can make it serve another, and no check reads it again. Each issuer has its own ring: two issuers may use one
//! `kid`. RFC 7515 sections 4.1.4 and 5.2, RFC 8725 section 3.1.

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};

use super::jwk::PublicJwk;
use super::material::{BadKey, Material, Raw};
use super::settings::Algorithm;
use super::time::UnixSeconds;

/// The keys tried for one token at most: a forged token without `kid` costs no more verifications than this.
pub(super) const MAX_TRIES: usize = 8;

/// One admitted key.
pub(super) struct VerifyingKey {
    pub(super) kid: Option<Box<str>>,
    /// One for each algorithm the key serves.
    verifiers: Box<[Verifier]>,
    pub(super) validity: Validity,
    /// The key as it may be published; a secret may not.
    public: Option<PublicJwk>,
}

/// A key tied to one algorithm, in the form that verifies fastest.
pub(super) struct Verifier {
    algorithm: Algorithm,
    key: Bound,
}

enum Bound {
    /// The key's two padded blocks are hashed already; boxed, because their state is long and a ring holds few secrets.
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
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

    /// Whether a key is called so.
    pub(super) fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid.as_deref() == Some(kid))
    }

    /// Whether a key is valid for a time only.
    pub(super) fn has_dates(&self) -> bool {
        self.0.iter().any(|key| key.validity != Validity::default())
    }

    /// Every key that may be published, in order.
    pub(super) fn public(&self) -> impl Iterator<Item = &PublicJwk> {
        self.0.iter().filter_map(|key| key.public.as_ref())
    }

    /// The keys to try, at most [`MAX_TRIES`]. A `kid` picks the keys that carry it; where none does, a key without any `kid` (a
    /// PEM file, a secret) may still be meant. A token without `kid` may mean every key of its algorithm.
    pub(super) fn candidates<'r>(
        &'r self,
        algorithm: Algorithm,
        kid: Option<&'r str>,
        now: UnixSeconds,
    ) -> impl Iterator<Item = &'r VerifyingKey> {
        let serves = move |key: &&VerifyingKey| key.serves(algorithm) && key.validity.holds(now);
        let named = kid.filter(|kid| self.0.iter().filter(serves).any(|key| key.kid.as_deref() == Some(kid)));
        let meant = move |key: &&VerifyingKey| match (kid, named) {
            (None, _) => true,
            (Some(_), named) => key.kid.as_deref() == named,
        };
        self.0.iter().filter(serves).filter(meant).take(MAX_TRIES)
    }
}

impl VerifyingKey {
    /// Ties a key to the algorithms it will verify, and to no other.
    pub(super) fn bind(material: &Material, kid: Option<Box<str>>, algorithms: &[Algorithm]) -> Result<Self, BadKey> {
        let verifiers = algorithms.iter().map(|one| Verifier::bind(material, *one)).collect::<Result<_, _>>()?;
        let only = if let [only] = algorithms { Some(*only) } else { None };
        let public = PublicJwk::of(material).map(|jwk| jwk.named(kid.clone(), only));
        Ok(Self { kid, verifiers, validity: Validity::default(), public })
    }

    /// The same key, good only for a time.
    pub(super) fn valid(self, validity: Validity) -> Self {
        Self { validity, ..self }
    }

    pub(super) fn serves(&self, algorithm: Algorithm) -> bool {
        self.verifier(algorithm).is_some()
    }

    /// Whether this key made `signature` over `message` with `algorithm`.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.verifier(algorithm).is_some_and(|verifier| verifier.verifies(message, signature))
    }

    fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        self.verifiers.iter().find(|verifier| verifier.algorithm == algorithm)
    }
}

impl Verifier {
    /// Refuses a key of another family or curve, and a secret shorter than the hash.
    pub(super) fn bind(material: &Material, algorithm: Algorithm) -> Result<Self, BadKey> {
        material.long_enough_for(algorithm)?;
        let key = Bound::new(material, algorithm).filter(|_| material.fits(algorithm)).ok_or_else(|| {
            BadKey::new(
                format!("the {} cannot verify {algorithm}", material.noun()),
                "take the key again from the issuer, or remove the algorithm",
            )
        })?;
        Ok(Self { algorithm, key })
    }

    /// Whether the key made `signature` over `message`. A tag is compared in constant time.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Bound::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Bound::Public(key) => has_shape(self.algorithm, signature) && key.verify_sig(message, signature).is_ok(),
        }
    }
}

impl Bound {
    fn new(material: &Material, algorithm: Algorithm) -> Option<Self> {
        match material.raw() {
            Raw::Secret(bytes) => {
                hash_of_tag(algorithm).map(|hash| Self::Secret(Box::new(hmac::Key::new(hash, bytes))))
            }
            Raw::Rsa(numbers) => numbers.to_parsed_public_key(padding(algorithm)?).ok().map(Self::Public),
            Raw::Parsed(key) => Some(Self::Public(key.clone())),
        }
    }
}

fn hash_of_tag(algorithm: Algorithm) -> Option<hmac::Algorithm> {
    match algorithm {
        Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
        Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
        Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

/// RFC 7518 sections 3.3 and 3.5; each refuses a modulus outside of 2048 to 8192 bits by itself.
fn padding(algorithm: Algorithm) -> Option<&'static RsaParameters> {
    match algorithm {
        Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
        _ => None,
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::super::fixtures;
    use super::*;

    fn ring(keys: &[(Option<&str>, Algorithm)]) -> KeyRing {
        let key = |(kid, algorithm): &(Option<&str>, Algorithm)| {
            let pair = match algorithm {
                Algorithm::Es256 => fixtures::ec256(),
                _ => fixtures::rsa(),
            };
            VerifyingKey::bind(&pair.material(), kid.map(Box::from), &[*algorithm]).unwrap()
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
        let token = fixtures::secret().sign(Algorithm::Hs384, "{}", "{}");
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let bound_to = |algorithm| VerifyingKey::bind(&fixtures::secret().material(), None, &[algorithm]).unwrap();
        assert!(bound_to(Algorithm::Hs384).verifies(Algorithm::Hs384, message.as_bytes(), &signature));
        assert!(!bound_to(Algorithm::Hs256).verifies(Algorithm::Hs384, message.as_bytes(), &signature));
        assert!(!bound_to(Algorithm::Hs256).verifies(Algorithm::Hs256, message.as_bytes(), &signature));
    }

    #[test]
    fn a_key_is_bound_to_its_own_kind_of_algorithm_only() {
        for pair in [fixtures::rsa(), fixtures::ec256(), fixtures::ec384(), fixtures::ed(), fixtures::secret()] {
            let material = pair.material();
            for algorithm in Algorithm::ALL {
                let bound = Verifier::bind(&material, algorithm);
                assert_eq!(bound.is_ok(), material.fits(algorithm), "{} and {algorithm}", material.noun());
            }
        }
        let short = Material::secret(&[7; 32]).unwrap();
        assert!(Verifier::bind(&short, Algorithm::Hs512).is_err(), "a secret shorter than the hash");
    }

    #[test]
    fn a_tag_or_signature_cut_short_or_lengthened_does_not_verify() {
        for (pair, algorithm) in [
            (fixtures::secret(), Algorithm::Hs256),
            (fixtures::rsa(), Algorithm::Ps256),
            (fixtures::ec384(), Algorithm::Es384),
            (fixtures::ed(), Algorithm::EdDsa),
        ] {
            let verifier = Verifier::bind(&pair.material(), algorithm).unwrap();
            let token = pair.sign(algorithm, "{}", "{}");
            let (message, signature) = token.rsplit_once('.').unwrap();
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            assert!(verifier.verifies(message.as_bytes(), &signature), "{algorithm}");
            let longer = [&signature[..], &[0]].concat();
            for wrong in [&signature[..signature.len() - 1], &longer, &[]] {
                assert!(!verifier.verifies(message.as_bytes(), wrong), "{algorithm}");
            }
            assert!(!verifier.verifies(b"another message", &signature), "{algorithm}");
        }
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
