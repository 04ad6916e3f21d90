//! Signing a token, for `token mint` and for tests of a deployment.
//!
//! Owns the reading of private keys and nothing of what is verified; no request ever comes here. The same strength is asked of a key
//! as for verifying. RFC 7515 section 3.1, RFC 5958 (PKCS#8), RFC 5915 (SEC1), RFC 8017 (PKCS#1).

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair};
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Map, Value};
use x509_parser::pem::Pem;

use super::material::least_secret_bytes;
use super::settings::{Algorithm, Family, Secret};

/// What signs.
#[derive(Debug, Clone)]
pub enum SigningKey {
    /// A shared secret.
    Secret(Secret),
    /// A PEM private key: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
    Pem(Secret),
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// HMAC with a PEM, or a public-key algorithm with a secret.
    #[error("{0} signs with {1}")]
    WrongKind(Algorithm, &'static str),
    /// A secret shorter than the hash.
    #[error("{algorithm} needs a secret of at least {least} bytes")]
    ShortSecret {
        /// The algorithm asked for.
        algorithm: Algorithm,
        /// Bytes needed.
        least: usize,
    },
    /// No private key of the algorithm's type and curve in the PEM.
    #[error("the PEM file holds no unencrypted private key for {0}")]
    NoPrivateKey(Algorithm),
    /// The library refused the key or the claims.
    #[error("the token could not be signed")]
    Signing(#[source] jsonwebtoken::errors::Error),
}

/// Signs `claims` as a compact JWS with `typ` `JWT`.
pub fn mint(
    algorithm: Algorithm,
    key: &SigningKey,
    kid: Option<&str>,
    claims: &Map<String, Value>,
) -> Result<String, MintError> {
    let mut header = Header::new(in_library(algorithm));
    header.kid = kid.map(str::to_owned);
    jsonwebtoken::encode(&header, claims, &encoding_key(algorithm, key)?).map_err(MintError::Signing)
}

fn encoding_key(algorithm: Algorithm, key: &SigningKey) -> Result<EncodingKey, MintError> {
    match (algorithm.family(), key) {
        (Family::Hmac, SigningKey::Secret(secret)) => {
            let least = least_secret_bytes(algorithm);
            if secret.expose().len() < least {
                return Err(MintError::ShortSecret { algorithm, least });
            }
            Ok(EncodingKey::from_secret(secret.expose()))
        }
        (Family::Hmac, SigningKey::Pem(_)) => Err(MintError::WrongKind(algorithm, "a shared secret")),
        (_, SigningKey::Secret(_)) => Err(MintError::WrongKind(algorithm, "a private key in PEM")),
        (family, SigningKey::Pem(pem)) => {
            from_pem(algorithm, family, pem.expose()).ok_or(MintError::NoPrivateKey(algorithm))
        }
    }
}

fn from_pem(algorithm: Algorithm, family: Family, pem: &[u8]) -> Option<EncodingKey> {
    match family {
        Family::Rsa => EncodingKey::from_rsa_pem(pem).ok(),
        Family::Ed => EncodingKey::from_ed_pem(pem).ok(),
        Family::Ec => ec_from_pem(algorithm, pem),
        Family::Hmac => None,
    }
}

/// The signing library reads PKCS#8 only, `openssl ecparam` writes SEC1 after a block of parameters: both come out as PKCS#8.
fn ec_from_pem(algorithm: Algorithm, pem: &[u8]) -> Option<EncodingKey> {
    let curve = match algorithm {
        Algorithm::Es256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
        _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
    };
    let block = Pem::iter_from_buffer(pem).flatten().find(|block| block.label.ends_with("PRIVATE KEY"))?;
    let pair = EcdsaKeyPair::from_private_key_der(curve, &block.contents).ok()?;
    Some(EncodingKey::from_ec_der(pair.to_pkcs8v1().ok()?.as_ref()))
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
    use serde_json::json;

    use super::super::fixtures::{self, NOW};
    use super::super::{Issuer, IssuerSettings};
    use super::*;

    fn claims() -> Map<String, Value> {
        json!({"sub": "ann", "exp": NOW + 60, "id": 9_007_199_254_740_993_u64}).as_object().unwrap().clone()
    }

    fn pem(text: String) -> SigningKey {
        SigningKey::Pem(Secret::new(text.into_bytes()))
    }

    #[test]
    fn what_is_minted_verifies_whatever_the_key_was_written_in() {
        for (pair, algorithm, key) in [
            (fixtures::rsa(), Algorithm::Rs256, pem(fixtures::rsa().pkcs8_pem())),
            (fixtures::rsa(), Algorithm::Ps512, pem(fixtures::rsa().pkcs1_private_pem())),
            (fixtures::ec256(), Algorithm::Es256, pem(fixtures::ec256().pkcs8_pem())),
            (fixtures::ec256(), Algorithm::Es256, pem(fixtures::ec256().sec1_pem())),
            (fixtures::ec384(), Algorithm::Es384, pem(fixtures::ec384().pkcs8_pem())),
            (fixtures::ed(), Algorithm::EdDsa, pem(fixtures::ed().pkcs8_pem())),
            (fixtures::secret(), Algorithm::Hs512, SigningKey::Secret(Secret::new(fixtures::SECRET))),
        ] {
            let token = mint(algorithm, &key, Some("k1"), &claims()).unwrap();
            let settings =
                IssuerSettings { keys: vec![pair.key()], algorithms: vec![algorithm], ..IssuerSettings::named("corp") };
            let issuer = Issuer::compile(settings).unwrap().0;
            let verified = fixtures::verified(&issuer, &token).unwrap();
            assert_eq!(verified.claims.text("id").unwrap(), "9007199254740993");
        }
    }

    #[test]
    fn an_unfit_key_is_named() {
        let short = SigningKey::Secret(Secret::new(*b"short"));
        for (algorithm, key, text) in [
            (Algorithm::Hs256, short.clone(), "HS256 needs a secret of at least 32 bytes"),
            (Algorithm::Rs256, short, "RS256 signs with a private key in PEM"),
            (Algorithm::Hs256, pem(fixtures::rsa().pkcs8_pem()), "HS256 signs with a shared secret"),
            (
                Algorithm::Es384,
                pem(fixtures::ec256().pkcs8_pem()),
                "the PEM file holds no unencrypted private key for ES384",
            ),
            (Algorithm::EdDsa, pem("nonsense".into()), "the PEM file holds no unencrypted private key for EdDSA"),
        ] {
            assert_eq!(mint(algorithm, &key, None, &claims()).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn a_signing_key_never_shows() {
        let shown = format!("{:?}", SigningKey::Secret(Secret::new(*b"correct horse")));
        assert!(!shown.contains("horse"));
    }
}
