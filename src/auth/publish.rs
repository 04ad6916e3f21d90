//! What the gateway tells verifiers and clients about tokens: key sets (RFC 7517 section 5) and the metadata of a protected resource
//! (RFC 9728 section 2).
//!
//! Owns the two JSON documents and nothing of how they are served.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::jwk::PublicJwk;

/// A key set of these keys, in order; a key that is there already under its name is left out.
pub fn key_set<'k>(keys: impl IntoIterator<Item = &'k PublicJwk>) -> String {
    let mut seen = HashSet::new();
    let fresh = keys.into_iter().filter(|key| seen.insert((key.thumbprint(), key.kid())));
    let keys: Vec<Value> = fresh.map(PublicJwk::to_json).collect();
    json!({ "keys": keys }).to_string()
}

/// The metadata of `resource`: whose tokens it takes, by the issuers' URLs, and which scopes it knows. Tokens are taken in
/// `Authorization`, the one place that every route may have.
pub fn resource_metadata(resource: &str, authorization_servers: &[&str], scopes: &[Box<str>]) -> String {
    let mut document = json!({
        "resource": resource,
        "authorization_servers": authorization_servers,
        "bearer_methods_supported": ["header"],
    });
    if !scopes.is_empty() {
        document["scopes_supported"] = json!(scopes);
    }
    document.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures;
    use super::*;

    fn parsed(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn a_key_is_published_once_under_each_of_its_names() {
        let key =
            |kid: Option<&str>| PublicJwk::of(&fixtures::ec256().material()).unwrap().named(kid.map(Box::from), None);
        let other = PublicJwk::of(&fixtures::ed().material()).unwrap();
        let set = parsed(&key_set([&key(None), &other, &key(None), &key(Some("a"))]));
        let kids: Vec<&str> = set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(kids, [&*key(None).kid(), &*other.kid(), "a"]);
        assert_eq!(parsed(&key_set([])), json!({ "keys": [] }));
    }

    #[test]
    fn metadata_names_only_what_is_known() {
        let server = "https://id.example.com/";
        let plain = parsed(&resource_metadata("https://api.example.com/", &[server], &[]));
        let expected = json!({
            "resource": "https://api.example.com/", "authorization_servers": [server],
            "bearer_methods_supported": ["header"],
        });
        assert_eq!(plain, expected);
        let scoped = parsed(&resource_metadata("https://api.example.com/", &[server], &["read".into()]));
        assert_eq!(scoped["scopes_supported"], json!(["read"]));
    }
}
