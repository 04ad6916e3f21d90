//! Keys and tokens for the tests of this room: made afresh in each run, signed outside the code under test.

#![allow(clippy::unwrap_used)]

use std::sync::{Arc, OnceLock};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, Method};
use jsonwebtoken::EncodingKey;
use serde_json::{Value, json};

use super::access::{Access, Forwarding, PolicySettings, RouteAuth, Rule};
use super::jwks;
use super::jws::Jws;
use super::material::Material;
use super::mint::in_library;
use super::possession::Possession;
use super::revoke::DenyList;
use super::settings::KeySettings;
use super::verify::{Verified, verify};
use super::{
    Algorithm, Asking, Authority, Cause, Denied, Issuer, IssuerSettings, KeySource, Permit, Policy, Preset, Secret,
    UnixSeconds,
};
use crate::http::Target;

/// The moment at which the tests' tokens are judged.
pub(super) const NOW: u64 = 1_800_000_000;

/// A shared secret long enough for every hash.
pub(super) const SECRET: [u8; 64] = *b"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A key pair in every form a test asks for.
pub(super) struct Pair {
    signing: EncodingKey,
    pkcs8: Vec<u8>,
    inner_private: Vec<u8>,
    spki: Vec<u8>,
    /// PKCS#1, point, or 32 bytes, by kind.
    raw: Vec<u8>,
    jwk: Value,
}

impl Pair {
    /// A compact JWS over exactly these texts.
    pub(super) fn sign(&self, algorithm: Algorithm, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.signing, in_library(algorithm)).unwrap();
        format!("{message}.{signature}")
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        self.spki.clone()
    }

    pub(super) fn spki_pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki)
    }

    pub(super) fn pkcs1_pem(&self) -> String {
        pem("RSA PUBLIC KEY", &self.raw)
    }

    pub(super) fn pkcs8_pem(&self) -> String {
        pem("PRIVATE KEY", &self.pkcs8)
    }

    pub(super) fn pkcs1_private_pem(&self) -> String {
        pem("RSA PRIVATE KEY", &self.inner_private)
    }

    pub(super) fn sec1_pem(&self) -> String {
        pem("EC PARAMETERS", &[6, 0]) + &pem("EC PRIVATE KEY", &self.inner_private)
    }

    pub(super) fn public_point(&self) -> Vec<u8> {
        self.raw.clone()
    }

    pub(super) fn public_numbers(&self) -> (Vec<u8>, Vec<u8>) {
        let number = |name: &str| URL_SAFE_NO_PAD.decode(self.jwk[name].as_str().unwrap()).unwrap();
        (number("n"), number("e"))
    }

    pub(super) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = json!(kid);
        jwk
    }

    pub(super) fn key(&self) -> KeySettings {
        self.key_source().into()
    }

    /// The public half, or the secret, past the gate.
    pub(super) fn material(&self) -> Material {
        jwks::judge(&self.jwk, jwks::Origin::File).ok().unwrap().material
    }

    pub(super) fn key_source(&self) -> KeySource {
        if self.spki.is_empty() {
            return KeySource::Secret(Secret::new(SECRET));
        }
        KeySource::Pem { bytes: self.spki_pem().into_bytes(), label: "signer.pem".into() }
    }
}

pub(super) fn rsa() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(make_rsa)
}

pub(super) fn ec256() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| make_ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"))
}

pub(super) fn ec384() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| make_ec(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"))
}

pub(super) fn ed() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(make_ed)
}

pub(super) fn secret() -> &'static Pair {
    static PAIR: OnceLock<Pair> = OnceLock::new();
    PAIR.get_or_init(|| Pair {
        signing: EncodingKey::from_secret(&SECRET),
        pkcs8: vec![],
        inner_private: vec![],
        spki: vec![],
        raw: SECRET.to_vec(),
        jwk: json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET)}),
    })
}

fn make_rsa() -> Pair {
    let pair = aws_lc_rs::rsa::KeyPair::generate(aws_lc_rs::rsa::KeySize::Rsa2048).unwrap();
    let pkcs8 = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref().to_vec();
    let public = pair.public_key();
    let numbers = aws_lc_rs::signature::RsaPublicKeyComponents::<Vec<u8>>::from(public);
    let spki = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(public).unwrap().as_ref().to_vec();
    // PKCS#8 of RSA: 26 bytes of frame before the PKCS#1 key of a modulus this long.
    let inner_private = pkcs8[26..].to_vec();
    Pair {
        signing: EncodingKey::from_rsa_pem(pem("PRIVATE KEY", &pkcs8).as_bytes()).unwrap(),
        inner_private,
        pkcs8,
        spki,
        raw: public.as_ref().to_vec(),
        jwk: json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(&numbers.n), "e": URL_SAFE_NO_PAD.encode(&numbers.e)}),
    }
}

fn make_ec(algorithm: &'static EcdsaSigningAlgorithm, curve: &str) -> Pair {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap().as_ref().to_vec();
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8).unwrap();
    let point = pair.public_key().as_ref().to_vec();
    let (x, y) = point[1..].split_at(point.len() / 2);
    let sec1: aws_lc_rs::encoding::EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
    Pair {
        signing: EncodingKey::from_ec_der(&pkcs8),
        inner_private: sec1.as_ref().to_vec(),
        spki: pair.public_key().as_der().unwrap().as_ref().to_vec(),
        jwk: json!({"kty": "EC", "crv": curve, "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}),
        raw: point.clone(),
        pkcs8,
    }
}

fn make_ed() -> Pair {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap().as_ref().to_vec();
    let raw = Ed25519KeyPair::from_pkcs8(&pkcs8).unwrap().public_key().as_ref().to_vec();
    // RFC 8410: the frame before the 32 bytes is constant.
    let spki = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &raw].concat();
    Pair {
        signing: EncodingKey::from_ed_der(&pkcs8),
        inner_private: vec![],
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(&raw)}),
        spki,
        raw,
        pkcs8,
    }
}

/// DER in the armour of RFC 7468.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A self-signed certificate over a fresh P-256 key.
pub(super) fn certificate_pem() -> String {
    rcgen::generate_simple_self_signed(vec!["issuer.example".into()]).unwrap().cert.pem()
}

/// A public P-256 key that nobody here signs with.
pub(super) fn foreign_jwk() -> Value {
    make_ec(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256").jwk
}

/// The simplejwt preset with [`SECRET`].
pub(super) fn django_settings() -> IssuerSettings {
    let mut settings = IssuerSettings::named("django");
    Preset::SimpleJwt.apply(&mut settings);
    settings.keys = vec![KeySource::Secret(Secret::new(SECRET)).into()];
    settings
}

/// An issuer of [`django_settings`].
pub(super) fn django() -> Arc<Issuer> {
    Arc::new(Issuer::compile(django_settings()).unwrap().0)
}

/// A policy that takes tokens of `issuer` that meet all of `rules`.
pub(super) fn policy(issuer: Arc<Issuer>, rules: Vec<Rule>) -> Policy {
    policy_with(issuer, |settings, _| settings.rule = Rule::All(rules))
}

/// A policy that takes tokens of `issuer`, with a change.
pub(super) fn policy_with(issuer: Arc<Issuer>, change: impl FnOnce(&mut PolicySettings, &mut Forwarding)) -> Policy {
    let (mut settings, mut forward) = (PolicySettings::of_issuer(0), Forwarding::default());
    change(&mut settings, &mut forward);
    let access = Access::Token(Box::new(settings));
    Policy::compile(&RouteAuth { read: access.clone(), write: access, forward }, &[issuer])
}

/// What every check of a token says at [`NOW`].
pub(super) fn verified(issuer: &Issuer, token: &str) -> Result<Verified, Cause> {
    verify(issuer, &*issuer.ring()?, Jws::parse(token)?, UnixSeconds::from_secs(NOW))
}

/// A request to `https://gateway.test`, as the judge sees it.
pub(super) struct Request {
    head: http::request::Parts,
    target: Target,
    pub(super) now: UnixSeconds,
    pub(super) client_certificate: Option<[u8; 32]>,
}

impl Request {
    pub(super) fn new(method: Method, uri: &str, fields: &[(&'static str, &str)]) -> Self {
        let mut request = http::Request::builder().method(method).uri(uri).header("host", "gateway.test");
        for (name, value) in fields {
            request = request.header(*name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (head, ()) = request.body(()).unwrap().into_parts();
        let target = Target::read(&head, true, 65_536).unwrap();
        Self { head, target, now: UnixSeconds::from_secs(NOW), client_certificate: None }
    }

    pub(super) fn bearing(token: &str) -> Self {
        Self::new(Method::GET, "/", &[("authorization", &format!("Bearer {token}"))])
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    pub(super) fn asking(&self) -> Asking<'_> {
        Asking {
            method: &self.head.method,
            headers: &self.head.headers,
            target: &self.target,
            secure: true,
            client_certificate: self.client_certificate.as_ref(),
            tunnel: false,
            now: self.now,
        }
    }
}

/// A judge to itself, to which nothing is revoked.
pub(super) fn authority(cache_entries: usize) -> Authority {
    let possession = Arc::new(Possession::new(60).unwrap());
    Authority::new(cache_entries, Arc::new(DenyList::empty()), possession)
}

/// What `authority` says, waited for.
pub(super) fn judge(authority: &Authority, policy: &Policy, asking: &Asking<'_>) -> Result<Permit, Denied> {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    RUNTIME.with(|runtime| runtime.block_on(authority.authorize(policy, asking)))
}

/// An access token as simplejwt makes it, good for 300 seconds from [`NOW`], with these further members.
pub(super) fn django_token(members: &str) -> String {
    let claims = format!(r#"{{"token_type":"access","exp":{},"iat":{},"jti":"9f2c",{members}}}"#, NOW + 300, NOW - 10);
    secret().sign(Algorithm::Hs256, r#"{"alg":"HS256","typ":"JWT"}"#, &claims)
}
