//! One public key as a JSON Web Key.
//!
//! Owns the members that make up a key (RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2), its thumbprint (RFC 7638), and the
//! reading of a key that a client shows about itself, which must be public. Knows no key sets and no tokens.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::jwks::{self, Origin};
use super::material::{Curve, Material, Public};
use super::settings::Algorithm;

/// The members of which RFC 7518 section 6 and RFC 8037 say that they are private.
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// The longest modulus taken from a client: it chooses the key, and what checking its signatures costs us.
const MAX_SHOWN_MODULUS_BYTES: usize = 512;

/// A public key that may be shown to anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicJwk {
    /// Name and value of what RFC 7638 section 3.2 counts, in the order of the names; all values are plain ASCII.
    members: Box<[(&'static str, Box<str>)]>,
    kid: Option<Box<str>>,
    alg: Option<Algorithm>,
}

impl PublicJwk {
    /// The public members of a key; `None` for a secret.
    pub(super) fn of(material: &Material) -> Option<Self> {
        let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes).into_boxed_str();
        let members: Box<[(&'static str, Box<str>)]> = match material.public()? {
            Public::Rsa { n, e } => Box::new([("e", encoded(e)), ("kty", "RSA".into()), ("n", encoded(n))]),
            Public::Ec { curve, x, y } => Box::new([
                ("crv", curve_name(curve).into()),
                ("kty", "EC".into()),
                ("x", encoded(x)),
                ("y", encoded(y)),
            ]),
            Public::Ed { x } => Box::new([("crv", "Ed25519".into()), ("kty", "OKP".into()), ("x", encoded(x))]),
        };
        Some(Self { members, kid: None, alg: None })
    }

    /// The same key with a name of its own and the one algorithm it is for, where it has them.
    #[must_use]
    pub(super) fn named(self, kid: Option<Box<str>>, alg: Option<Algorithm>) -> Self {
        Self { kid, alg, ..self }
    }

    /// SHA-256 over the key's required members in their one spelling (RFC 7638 section 3).
    pub fn thumbprint(&self) -> [u8; 32] {
        let mut canonical = String::with_capacity(512);
        for (name, value) in &self.members {
            canonical.push(if canonical.is_empty() { '{' } else { ',' });
            canonical.extend(["\"", name, "\":\"", value, "\""]);
        }
        canonical.push('}');
        let mut thumbprint = [0; 32];
        thumbprint.copy_from_slice(digest::digest(&digest::SHA256, canonical.as_bytes()).as_ref());
        thumbprint
    }

    /// The key's name: the one it was given, else its thumbprint in base64url.
    pub fn kid(&self) -> Box<str> {
        self.kid.clone().unwrap_or_else(|| URL_SAFE_NO_PAD.encode(self.thumbprint()).into_boxed_str())
    }

    /// The key as it stands in a set: its members, `kid`, `use` and, where it serves one algorithm only, `alg`.
    pub fn to_json(&self) -> Value {
        let members = self.members.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        let mut jwk: Map<String, Value> = members.collect();
        jwk.insert("kid".to_owned(), json!(self.kid()));
        jwk.insert("use".to_owned(), json!("sig"));
        if let Some(alg) = self.alg {
            jwk.insert("alg".to_owned(), json!(alg.name()));
        }
        Value::Object(jwk)
    }
}

/// Why a key that a client showed is none to verify with. Nothing of the key is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwkFault {
    /// It holds a private member, so it is no secret any more.
    #[error("the key holds a private member")]
    Private,
    /// A shared secret proves nothing about who holds it.
    #[error("the key is symmetric")]
    Symmetric,
    /// A number with leading zeros has two spellings, and so two thumbprints.
    #[error("a number of the key is not in its shortest form")]
    Spelling,
    /// An RSA key of more than 4096 bits.
    #[error("the rsa key has more than 4096 bits")]
    TooLong,
    /// Unknown type or curve, malformed, too weak, or meant for something else than `sig` or `verify`.
    #[error("the key is malformed, too weak or not for signatures")]
    Unusable,
}

/// A public key that came from outside, past the gate, with the one algorithm that it says it is for and its thumbprint.
pub(super) struct Shown {
    pub(super) material: Material,
    pub(super) alg: Option<Algorithm>,
    pub(super) thumbprint: [u8; 32],
}

/// Reads a key that a client shows. Duplicate names are the caller's to refuse: a [`Value`] has none left.
pub(super) fn parse_public(jwk: &Value) -> Result<Shown, JwkFault> {
    let members = jwk.as_object().ok_or(JwkFault::Unusable)?;
    if members.get("kty").is_some_and(|kty| kty == "oct") {
        return Err(JwkFault::Symmetric);
    }
    if PRIVATE_MEMBERS.iter().any(|name| members.contains_key(*name)) {
        return Err(JwkFault::Private);
    }
    let member = jwks::judge(jwk, Origin::Url).map_err(|_| JwkFault::Unusable)?;
    if matches!(member.material.public(), Some(Public::Rsa { n, .. }) if n.len() > MAX_SHOWN_MODULUS_BYTES) {
        return Err(JwkFault::TooLong);
    }
    let public = PublicJwk::of(&member.material).ok_or(JwkFault::Symmetric)?;
    let spelled_alike = |(name, value): &(&str, Box<str>)| members.get(*name).is_some_and(|own| *own == **value);
    if !public.members.iter().all(spelled_alike) {
        return Err(JwkFault::Spelling);
    }
    Ok(Shown { material: member.material, alg: member.alg, thumbprint: public.thumbprint() })
}

fn curve_name(curve: Curve) -> &'static str {
    match curve {
        Curve::P256 => "P-256",
        Curve::P384 => "P-384",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures;
    use super::*;

    /// RFC 7638 section 3.1.
    const RSA_MODULUS: &str = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjB\
        ZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvR\
        L5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw";
    /// RFC 8037 appendix A.2.
    const ED_POINT: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

    fn public(jwk: &Value) -> PublicJwk {
        PublicJwk::of(&parse_public(jwk).unwrap().material).unwrap()
    }

    fn with(mut jwk: Value, name: &str, value: Value) -> Value {
        jwk[name] = value;
        jwk
    }

    #[test]
    fn the_thumbprints_are_those_of_the_specifications() {
        let rsa = json!({"kty": "RSA", "n": RSA_MODULUS, "e": "AQAB", "alg": "RS256", "kid": "2011-04-29"});
        assert_eq!(&*public(&rsa).kid(), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
        let ed = json!({"kty": "OKP", "crv": "Ed25519", "x": ED_POINT});
        assert_eq!(&*public(&ed).kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(parse_public(&ed).unwrap().thumbprint, public(&ed).thumbprint());
    }

    #[test]
    fn a_key_is_published_as_it_was_read_with_name_and_use() {
        for pair in [fixtures::rsa(), fixtures::ec256(), fixtures::ec384(), fixtures::ed()] {
            let own = pair.jwk("k");
            let published = PublicJwk::of(&pair.material()).unwrap().named(Some("k".into()), None).to_json();
            assert_eq!(published, with(own.clone(), "use", json!("sig")));
            assert!(parse_public(&published).is_ok());
        }
        let nameless = PublicJwk::of(&fixtures::ec256().material()).unwrap().named(None, Some(Algorithm::Es256));
        let json = nameless.to_json();
        assert_eq!(json["alg"], "ES256");
        assert_eq!(json["kid"], json!(URL_SAFE_NO_PAD.encode(nameless.thumbprint())));
    }

    #[test]
    fn a_secret_has_no_public_form() {
        assert_eq!(PublicJwk::of(&fixtures::secret().material()), None);
    }

    #[test]
    fn a_key_shown_by_a_client_is_public_strong_and_spelled_one_way() {
        let (rsa, ec) = (fixtures::rsa().jwk("k"), fixtures::ec256().jwk("k"));
        let padded = URL_SAFE_NO_PAD.encode([&[0][..], &fixtures::rsa().public_numbers().0].concat());
        for (jwk, fault) in [
            (json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 64])}), JwkFault::Symmetric),
            (with(ec.clone(), "d", json!("AAAA")), JwkFault::Private),
            (with(rsa.clone(), "qi", json!("AAAA")), JwkFault::Private),
            (with(ec.clone(), "k", json!("AAAA")), JwkFault::Private),
            (with(rsa.clone(), "n", json!(padded)), JwkFault::Spelling),
            (with(rsa.clone(), "n", json!(URL_SAFE_NO_PAD.encode([255; 513]))), JwkFault::TooLong),
            (with(rsa.clone(), "n", json!("AQAB")), JwkFault::Unusable),
            (with(ec.clone(), "y", ec["x"].clone()), JwkFault::Unusable),
            (with(ec.clone(), "use", json!("enc")), JwkFault::Unusable),
            (with(ec.clone(), "key_ops", json!(["sign"])), JwkFault::Unusable),
            (with(ec.clone(), "alg", json!("RS256")), JwkFault::Unusable),
            (json!({"kty": "EC"}), JwkFault::Unusable),
            (json!("AAAA"), JwkFault::Unusable),
        ] {
            assert_eq!(parse_public(&jwk).err(), Some(fault), "{jwk}");
        }
    }
}
