//! Key pairs of issuers and of clients: they sign tokens, and proofs that the token is theirs.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

use super::token;

/// A pair on P-256, or of Ed25519.
pub struct Signer {
    pub kid: String,
    algorithm: &'static str,
    signing: EncodingKey,
    /// Its public members.
    public: Value,
}

impl Signer {
    /// A fresh pair for ES256.
    pub fn new(kid: &str) -> Self {
        let pair = KeyPair::generate().unwrap();
        let (x, y) = pair.der_bytes()[1..].split_at(32);
        let public = json!({ "crv": "P-256", "kty": "EC", "x": encoded(x), "y": encoded(y) });
        let signing = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { kid: kid.to_owned(), algorithm: "ES256", signing, public }
    }

    /// A fresh pair for `EdDSA`.
    pub fn ed25519(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let public = json!({ "crv": "Ed25519", "kty": "OKP", "x": encoded(pair.der_bytes()) });
        let signing = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { kid: kid.to_owned(), algorithm: "EdDSA", signing, public }
    }

    /// Its public half, as a key set lists it.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.public.clone();
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// What names the public half (RFC 7638).
    pub fn thumbprint(&self) -> String {
        encoded(digest(&SHA256, self.public.to_string().as_bytes()).as_ref())
    }

    /// A token for [`token::AUDIENCE`] with more claims, or others, or (`null`) fewer.
    pub fn token(&self, more: &Value) -> String {
        let claims = json!({ "sub": "alice", "aud": token::AUDIENCE, "exp": token::now() + 3600 });
        self.sign(&json!({ "alg": self.algorithm, "kid": self.kid }), &changed(claims, more))
    }

    /// The field that carries such a token.
    pub fn bearer(&self) -> String {
        token::bearer(&self.token(&json!({})))
    }

    /// The field that carries a token of this name, so that no other was the same.
    pub fn token_field(&self, jti: &str) -> String {
        token::bearer(&self.token(&json!({ "jti": jti })))
    }

    /// A token that only the holder of `key` may use.
    pub fn token_bound_to(&self, key: &Self) -> String {
        self.token(&json!({ "cnf": { "jkt": key.thumbprint() } }))
    }

    /// A proof for a request with `token` (RFC 9449 section 4.2), with its claims changed in the same way.
    pub fn proof(&self, method: &str, url: &str, token: &str, more: &Value) -> String {
        let claims = json!({
            "jti": format!("{:p}-{}", self, fresh()),
            "htm": method,
            "htu": url,
            "iat": token::now(),
            "ath": encoded(digest(&SHA256, token.as_bytes()).as_ref()),
        });
        self.sign(&json!({ "typ": "dpop+jwt", "alg": self.algorithm, "jwk": self.public }), &changed(claims, more))
    }

    /// A compact JWS over exactly these.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let message = format!("{}.{}", encoded(header.to_string().as_bytes()), encoded(claims.to_string().as_bytes()));
        let algorithm = self.algorithm.parse().unwrap();
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.signing, algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A key set.
pub fn set_of(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>() }).to_string()
}

pub fn encoded(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A text that no other call gives.
fn fresh() -> String {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    encoded(&bytes)
}

fn changed(mut claims: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
    0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The same ES256 token with the signature (r, n - s), which holds whenever (r, s) does and needs no key to make.
pub fn other_signature(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for (byte, order) in bytes[32..].iter_mut().zip(ORDER).rev() {
        let difference = i16::from(order) - i16::from(*byte) - borrow;
        borrow = i16::from(difference < 0);
        *byte = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{signed}.{}", encoded(&bytes))
}
