//! The gateway's own word to an upstream on who sent one request: a short-lived JWS, good for one method, one target and one upstream.
//!
//! Owns the signing key and the claims of the identity token. Who was let through is the permit's to say, and when; removing what a
//! client sent in the token's field is the trust boundary's. RFC 7515, RFC 7519 section 4.1, RFC 8037 section 3.1; `htm` as in RFC 9449
//! section 4.2.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;
use x509_parser::pem::Pem;

use super::admission::KeyProblem;
use super::jwk::PublicJwk;
use super::material::Material;
use super::settings::{Algorithm, Secret};
use super::time::UnixSeconds;

/// The `typ` of the token (RFC 8725 section 3.11): no other kind of JWT is taken for one.
const TYPE: &str = "portcullis-identity+jwt";
/// 128 bits: no two tokens share a `jti`.
const JTI_BYTES: usize = 16;
/// An Ed25519 signature.
const SIGNATURE_BYTES: usize = 64;

/// How the gateway identifies itself and its clients, as configured.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentitySettings {
    /// An Ed25519 private key, PKCS#8 in PEM.
    pub key: Secret,
    /// How messages call the key.
    pub label: String,
    /// The claim `iss`.
    pub issuer: Box<str>,
    /// From `iat` to `exp`, in seconds.
    pub lifetime_secs: u64,
    /// The field that carries the token.
    pub header: HeaderName,
}

/// The key that signs identity tokens.
pub struct IdentityKey {
    pair: Ed25519KeyPair,
    /// The token's header and its dot, encoded once.
    head: Box<str>,
    issuer: Box<str>,
    lifetime_secs: u64,
    header: HeaderName,
    public: PublicJwk,
}

/// The identity tokens for one upstream.
#[derive(Debug, Clone)]
pub struct Identity {
    key: Arc<IdentityKey>,
    /// The claims that are the same in all of them: a JSON object that is not closed.
    opening: Box<str>,
}

/// What is to be said of one request; only its moment is missing.
#[derive(Debug)]
pub struct Statement<'i> {
    key: &'i IdentityKey,
    /// A JSON object that is not closed.
    claims: String,
}

/// No token could be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the identity token could not be signed")]
pub struct Unsigned;

impl IdentityKey {
    /// Reads the key. The one problem it can have is fatal.
    pub fn compile(settings: &IdentitySettings) -> Result<Self, KeyProblem> {
        let pair = read(settings.key.expose()).map_err(|(message, hint)| KeyProblem {
            source_index: 0,
            message: format!("{}: {message}", settings.label),
            hint: hint.to_owned(),
            fatal: true,
        })?;
        let public = public_jwk(&pair);
        let head = json!({ "alg": Algorithm::EdDsa.name(), "kid": public.kid(), "typ": TYPE }).to_string();
        Ok(Self {
            head: format!("{}.", URL_SAFE_NO_PAD.encode(head)).into(),
            issuer: settings.issuer.clone(),
            lifetime_secs: settings.lifetime_secs,
            header: settings.header.clone(),
            pair,
            public,
        })
    }

    /// The key that verifies, with its thumbprint (RFC 7638) for a name.
    pub fn public_jwk(&self) -> &PublicJwk {
        &self.public
    }
}

impl Identity {
    /// Tokens for the upstream that is called `audience`.
    pub fn new(key: Arc<IdentityKey>, audience: &str) -> Self {
        let opening = format!("{{\"iss\":{},\"aud\":{}", json!(key.issuer), json!(audience));
        Self { key, opening: opening.into() }
    }

    /// A token of `issuer` about `subject` let this request through. `target` is the path and query as they are sent on.
    pub(super) fn about(&self, subject: Option<&str>, issuer: &str, method: &Method, target: &str) -> Statement<'_> {
        let mut claims = String::with_capacity(self.opening.len() + target.len() + 256);
        claims.push_str(&self.opening);
        let subject = subject.map(|subject| ("sub", subject));
        let others = [("issuer", issuer), ("htm", method.as_str()), ("htp", target)];
        for (name, value) in subject.into_iter().chain(others) {
            claims.extend([",\"", name, "\":"]);
            push_json(&mut claims, value);
        }
        Statement { key: &self.key, claims }
    }
}

impl Statement<'_> {
    /// The field that will carry it.
    pub fn header(&self) -> &HeaderName {
        &self.key.header
    }

    /// How long the field's value can be, in bytes.
    pub fn most_bytes(&self) -> usize {
        const DATES: usize = ",\"iat\":18446744073709551615,\"exp\":18446744073709551615".len();
        const JTI: usize = ",\"jti\":\"\"}".len() + encoded(JTI_BYTES);
        self.key.head.len() + encoded(self.claims.len() + DATES + JTI) + ".".len() + encoded(SIGNATURE_BYTES)
    }

    /// The token, for the moment at which the request leaves.
    pub fn sign(mut self, now: UnixSeconds) -> Result<HeaderValue, Unsigned> {
        let mut jti = [0; JTI_BYTES];
        rand::fill(&mut jti).map_err(|_| Unsigned)?;
        let iat = now.as_secs();
        let exp = iat.saturating_add(self.key.lifetime_secs);
        let dates = format!(",\"iat\":{iat},\"exp\":{exp},\"jti\":\"{}\"}}", URL_SAFE_NO_PAD.encode(jti));
        self.claims.push_str(&dates);
        let mut token =
            String::with_capacity(self.key.head.len() + encoded(self.claims.len()) + 1 + encoded(SIGNATURE_BYTES));
        token.push_str(&self.key.head);
        URL_SAFE_NO_PAD.encode_string(&self.claims, &mut token);
        let signature = self.key.pair.try_sign(token.as_bytes()).map_err(|_| Unsigned)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        let mut value = HeaderValue::try_from(token).map_err(|_| Unsigned)?;
        value.set_sensitive(true);
        Ok(value)
    }
}

impl fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdentityKey").field("kid", &self.public.kid()).finish_non_exhaustive()
    }
}

/// Bytes of `count` bytes in base64url without padding.
const fn encoded(count: usize) -> usize {
    (count * 4).div_ceil(3)
}

/// As a JSON string. Nearly no text has anything to escape, and then it costs no allocation.
fn push_json(into: &mut String, text: &str) {
    if text.bytes().all(|byte| byte >= b' ' && !matches!(byte, b'"' | b'\\')) {
        into.extend(["\"", text, "\""]);
    } else {
        into.push_str(&json!(text).to_string());
    }
}

const WANTED: &str = "make one: `openssl genpkey -algorithm ed25519 -out identity.pem`";

fn read(pem: &[u8]) -> Result<Ed25519KeyPair, (&'static str, &'static str)> {
    let blocks = Pem::iter_from_buffer(pem).collect::<Result<Vec<_>, _>>();
    let blocks = blocks.map_err(|_| ("it is not well-formed PEM", WANTED))?;
    match &*blocks {
        [block] if block.label == "PRIVATE KEY" => {
            Ed25519KeyPair::from_pkcs8(&block.contents).map_err(|_| ("the private key is no Ed25519 key", WANTED))
        }
        [block] if block.label == "ENCRYPTED PRIVATE KEY" => Err((
            "the private key is encrypted",
            "nobody is there to ask for a passphrase: keep the file from others instead",
        )),
        [_] => Err(("it holds no private key in PKCS#8 (`BEGIN PRIVATE KEY`)", WANTED)),
        [] => Err(("it holds no PEM block", WANTED)),
        _ => Err(("it holds more than one PEM block", "keep the one private key that is to sign")),
    }
}

fn public_jwk(pair: &Ed25519KeyPair) -> PublicJwk {
    let material = Material::ed25519(pair.public_key().as_ref());
    let public = material.ok().as_ref().and_then(PublicJwk::of);
    public.expect("an Ed25519 pair has a public half of 32 bytes").named(None, Some(Algorithm::EdDsa))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::fixtures::{self, NOW};
    use super::super::{Issuer, IssuerSettings, KeySource};
    use super::*;

    fn settings() -> IdentitySettings {
        IdentitySettings {
            key: Secret::new(fixtures::ed().pkcs8_pem().into_bytes()),
            label: "identity.pem".to_owned(),
            issuer: "https://gateway.example.com".into(),
            lifetime_secs: 30,
            header: HeaderName::from_static("x-portcullis-identity"),
        }
    }

    fn identity() -> Identity {
        Identity::new(Arc::new(IdentityKey::compile(&settings()).unwrap()), "web")
    }

    fn now() -> UnixSeconds {
        UnixSeconds::from_secs(NOW)
    }

    fn part(token: &str, index: usize) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_token_says_who_what_where_and_until_when() {
        let identity = identity();
        let said = identity.about(Some("a \"b\""), "corp", &Method::PATCH, "/v2/x%20y?q=\"1\"");
        let value = said.sign(now()).unwrap();
        assert!(value.is_sensitive());
        let token = value.to_str().unwrap();
        let kid = URL_SAFE_NO_PAD.encode(identity.key.public_jwk().thumbprint());
        assert_eq!(part(token, 0), json!({ "alg": "EdDSA", "typ": "portcullis-identity+jwt", "kid": kid }));
        let mut claims = part(token, 1);
        let jti = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(jti.as_str().unwrap()).unwrap().len(), 16);
        let expected = json!({
            "iss": "https://gateway.example.com", "aud": "web", "sub": "a \"b\"", "issuer": "corp", "htm": "PATCH",
            "htp": "/v2/x%20y?q=\"1\"", "iat": NOW, "exp": NOW + 30,
        });
        assert_eq!(claims, expected);
    }

    #[test]
    fn what_is_published_verifies_what_is_signed() {
        let identity = identity();
        let token = identity.about(Some("alice"), "corp", &Method::GET, "/").sign(now()).unwrap();
        let set = json!({ "keys": [identity.key.public_jwk().to_json()] }).to_string().into_bytes();
        let issuer = Issuer::compile(IssuerSettings {
            keys: vec![KeySource::Jwks { bytes: set, label: "jwks.json".into() }.into()],
            issuer: Some("https://gateway.example.com".into()),
            audiences: vec!["web".into()],
            typ: vec![TYPE.into()],
            ..IssuerSettings::named("gateway")
        });
        let verified = fixtures::verified(&issuer.unwrap().0, token.to_str().unwrap()).unwrap();
        assert_eq!(verified.subject.as_deref(), Some("alice"));
    }

    #[test]
    fn no_two_tokens_are_alike_and_who_has_no_subject_is_told_without_one() {
        let identity = identity();
        let sign = || identity.about(None, "corp", &Method::GET, "/").sign(now()).unwrap();
        let (one, other) = (sign(), sign());
        assert_ne!(one, other);
        assert_eq!(part(one.to_str().unwrap(), 1).get("sub"), None);
    }

    #[test]
    fn what_is_no_single_ed25519_key_is_refused_and_not_shown() {
        let rsa = fixtures::rsa().pkcs8_pem();
        let two = fixtures::ed().pkcs8_pem().repeat(2);
        for (pem, said) in [
            (&*fixtures::ec256().pkcs8_pem(), "no Ed25519 key"),
            (&rsa, "no Ed25519 key"),
            (&fixtures::ed().spki_pem(), "no private key in PKCS#8"),
            (&two, "more than one"),
            ("", "no PEM block"),
            ("-----BEGIN PRIVATE KEY-----\n!\n-----END PRIVATE KEY-----\n", "not well-formed"),
            (&rsa.replace("PRIVATE", "ENCRYPTED PRIVATE"), "encrypted"),
        ] {
            let problem = IdentityKey::compile(&IdentitySettings { key: Secret::new(pem.as_bytes()), ..settings() });
            let problem = problem.unwrap_err();
            assert!(problem.message.starts_with("identity.pem: ") && problem.message.contains(said), "{problem}");
            assert!(problem.fatal && !problem.hint.is_empty());
        }
        assert!(!format!("{:?}", settings()).contains("BEGIN"));
        assert!(!format!("{:?}", identity()).contains("BEGIN"));
    }

    proptest! {
        #[test]
        fn claims_are_json_whatever_the_token_and_the_target_say(subject in any::<String>(), target in any::<String>()) {
            let identity = identity();
            let statement = identity.about(Some(&subject), "corp", &Method::GET, &target);
            let most = statement.most_bytes();
            let value = statement.sign(UnixSeconds::from_secs(NOW)).unwrap();
            let claims = part(value.to_str().unwrap(), 1);
            prop_assert_eq!((claims["sub"].as_str(), claims["htp"].as_str()), (Some(&*subject), Some(&*target)));
            prop_assert!(value.len() <= most && most - value.len() < 40);
        }
    }
}
