//! One proof against one request.
//!
//! Owns the checks of RFC 9449 section 4.3 in an order that does the cheap ones first, and what of a proof is worth remembering.
//! `jwk` is read here and nowhere else: in an ordinary token it stays unread.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;

use super::super::denied::TokenFault;
use super::super::issuer::normal_typ;
use super::super::json::{Object, Value};
use super::super::jwk::{self, JwkFault, Shown};
use super::super::jws::{Header, Jws};
use super::super::keys::Verifier;
use super::super::settings::{Algorithm, Family};
use super::super::time::UnixSeconds;
use super::address::Address;
use super::fault::ProofFault;

/// Seconds that a client's clock may run ahead of ours.
pub(super) const AHEAD_SECS: u64 = 10;
const MAX_JTI_BYTES: usize = 128;
const MAX_NONCE_BYTES: usize = 256;

/// The request a proof must have been made for. It holds a token, so it has no debug text.
#[derive(Clone, Copy)]
pub struct Expectation<'a> {
    /// The request's method, byte for byte.
    pub method: &'a str,
    /// `https` or `http`, as the client addressed the request.
    pub scheme: &'a str,
    /// Host and port, as the client addressed the request.
    pub authority: &'a str,
    /// The path as it came, without query.
    pub path: &'a str,
    /// The access token that came with the proof.
    pub access_token: &'a str,
    /// The time of the request.
    pub now: UnixSeconds,
    /// Seconds for which a proof is good after its `iat`.
    pub window_secs: u64,
    /// The algorithms accepted; symmetric ones are not, whatever stands here.
    pub algorithms: &'a [Algorithm],
}

/// A proof that holds for its request. Whether it is the first use of it, and whether its nonce is one of ours, is yet to be asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Proof {
    /// The thumbprint of the key that signed: what a token's `cnf.jkt` must say (RFC 9449 section 6.1).
    pub thumbprint: [u8; 32],
    /// What names this proof among all: a digest of its key and its `jti`.
    pub jti_digest: [u8; 16],
    /// When it says it was made.
    pub issued_at: UnixSeconds,
    /// The server's nonce in it, at most 256 bytes.
    pub nonce: Option<Box<str>>,
}

/// The one `DPoP` field of a request.
pub fn the_proof(headers: &HeaderMap) -> Result<&str, ProofFault> {
    let mut fields = headers.get_all("dpop").iter();
    let field = fields.next().ok_or(ProofFault::Missing)?;
    if fields.next().is_some() {
        return Err(ProofFault::Repeated);
    }
    field.to_str().map_err(|_| ProofFault::Malformed(TokenFault::Base64.into()))
}

/// Whether `proof` was made for this request and this access token, by whoever holds the key in it.
pub fn check_proof(proof: &str, expected: &Expectation<'_>) -> Result<Proof, ProofFault> {
    let jws = Jws::parse(proof).map_err(ProofFault::Malformed)?;
    if jws.header.typ.as_deref().map(normal_typ).as_deref() != Some("dpop+jwt") {
        return Err(ProofFault::WrongType);
    }
    let algorithm = check_algorithm(&jws.header, expected.algorithms)?;
    let claims = Object::parse(jws.payload).map_err(|fault| ProofFault::Malformed(TokenFault::Claims(fault).into()))?;
    check_request(&claims, expected)?;
    let issued_at = check_time(&claims, expected)?;
    let key = key_of(&jws.header, algorithm)?;
    let verifier = Verifier::bind(&key.material, algorithm).map_err(|_| JwkFault::Unusable)?;
    if !verifier.verifies(jws.signing_input, &jws.signature) {
        return Err(ProofFault::BadSignature);
    }
    Ok(Proof {
        thumbprint: key.thumbprint,
        jti_digest: jti_digest(&claims, &key.thumbprint)?,
        issued_at,
        nonce: nonce(&claims)?,
    })
}

fn check_algorithm(header: &Header, accepted: &[Algorithm]) -> Result<Algorithm, ProofFault> {
    let named = |one: &Algorithm| one.name() == &*header.alg && one.family() != Family::Hmac;
    accepted.iter().copied().find(named).ok_or(ProofFault::AlgorithmNotAllowed)
}

/// What the proof says about the request: `htm`, `htu` and `ath`.
fn check_request(claims: &Object, expected: &Expectation<'_>) -> Result<(), ProofFault> {
    if *text(claims, "htm")? != *expected.method {
        return Err(ProofFault::WrongMethod);
    }
    let Expectation { scheme, authority, path, .. } = *expected;
    let claimed = text(claims, "htu")?;
    if !Address::parse(&claimed).is_some_and(|claimed| claimed.is(&Address { scheme, authority, path })) {
        return Err(ProofFault::WrongAddress);
    }
    let hash = digest::digest(&digest::SHA256, expected.access_token.as_bytes());
    if *text(claims, "ath")? != *URL_SAFE_NO_PAD.encode(hash) {
        return Err(ProofFault::WrongToken);
    }
    Ok(())
}

/// `now - window <= iat <= now + a little`.
fn check_time(claims: &Object, expected: &Expectation<'_>) -> Result<UnixSeconds, ProofFault> {
    let issued_at = claims.find("iat").and_then(|iat| UnixSeconds::from_json(iat.as_json()));
    let issued_at = issued_at.ok_or(ProofFault::Claim("iat"))?;
    if issued_at > expected.now.plus(AHEAD_SECS) {
        return Err(ProofFault::FromTheFuture);
    }
    if issued_at.plus(expected.window_secs) < expected.now {
        return Err(ProofFault::TooOld);
    }
    Ok(issued_at)
}

fn key_of(header: &Header, algorithm: Algorithm) -> Result<Shown, ProofFault> {
    let jwk = header.object.find("jwk").ok_or(ProofFault::NoKey)?;
    let jwk: serde_json::Value = serde_json::from_str(jwk.as_json()).map_err(|_| JwkFault::Unusable)?;
    let key = jwk::parse_public(&jwk)?;
    if key.alg.is_some_and(|own| own != algorithm) {
        return Err(JwkFault::Unusable.into());
    }
    Ok(key)
}

/// Two clients may choose one `jti`: the key goes in, so that neither can use up the other's.
fn jti_digest(claims: &Object, thumbprint: &[u8; 32]) -> Result<[u8; 16], ProofFault> {
    let jti = text(claims, "jti")?;
    if jti.is_empty() || jti.len() > MAX_JTI_BYTES {
        return Err(ProofFault::Claim("jti"));
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(thumbprint);
    context.update(jti.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&context.finish().as_ref()[..16]);
    Ok(short)
}

fn nonce(claims: &Object) -> Result<Option<Box<str>>, ProofFault> {
    if claims.find("nonce").is_none() {
        return Ok(None);
    }
    let nonce = text(claims, "nonce")?;
    if nonce.len() > MAX_NONCE_BYTES {
        return Err(ProofFault::Claim("nonce"));
    }
    Ok(Some(nonce.into()))
}

fn text<'c>(claims: &'c Object, name: &'static str) -> Result<std::borrow::Cow<'c, str>, ProofFault> {
    claims.find(name).and_then(Value::as_str).ok_or(ProofFault::Claim(name))
}
