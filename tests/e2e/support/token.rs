//! Tokens of the issuer every gateway here trusts.

use std::time::{SystemTime, UNIX_EPOCH};

use portcullis::auth::{Algorithm, Secret, SigningKey, mint};
use serde_json::{Value, json};

/// The issuer's secret.
pub const SECRET: &str = "an-end-to-end-secret-of-more-than-32-bytes";
/// What `aud` must say.
pub const AUDIENCE: &str = "e2e";

pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token signed by `secret` with just these claims.
pub fn signed(secret: &str, claims: &Value) -> String {
    let key = SigningKey::Secret(Secret::new(secret.as_bytes()));
    mint(Algorithm::Hs256, &key, None, claims.as_object().unwrap()).unwrap()
}

/// A good token with more claims, or others, or (`null`) fewer.
pub fn with(more: &Value) -> String {
    let mut claims = json!({ "sub": "alice", "aud": AUDIENCE, "exp": now() + 3600 });
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    signed(SECRET, &claims)
}

/// A token that every private route takes.
pub fn good() -> String {
    with(&json!({}))
}

/// The field that carries it, with its line end.
pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}
