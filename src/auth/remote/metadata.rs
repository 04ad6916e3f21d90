//! The metadata of an issuer: where it stands, and what of it is believed.
//!
//! Owns the well-known URLs (OpenID Connect Discovery 1.0 section 4, RFC 8414 section 3.1) and the two members that matter here:
//! `issuer` must be the configured identifier byte for byte (RFC 8414 section 3.3), and `jwks_uri` obeys the rule of every URL.

use serde_json::Value;

use crate::fetch::{Location, LocationError};

/// Why metadata was refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum MetadataError {
    #[error("the metadata is not a JSON object")]
    NotJson,
    #[error("the metadata names no issuer")]
    NoIssuer,
    #[error("the metadata is of issuer `{}`, not of `{expected}`", .found.escape_debug())]
    WrongIssuer { expected: String, found: String },
    #[error("the metadata has no `jwks_uri`")]
    NoKeySet,
    #[error("the metadata's `jwks_uri` `{}` cannot be used", .text.escape_debug())]
    BadKeySet {
        text: String,
        #[source]
        error: LocationError,
    },
}

/// Where the metadata of `issuer` may stand, in the order of asking: OpenID's path after the issuer's own, RFC 8414's before it.
pub(super) fn locations(issuer: &Location) -> Result<[Location; 2], LocationError> {
    let (origin, plain_http) = (issuer.origin(), issuer.as_str().starts_with("http:"));
    // Both documents have a terminating slash removed first.
    let path = issuer.path().trim_end_matches('/');
    let query = issuer.query().map(|query| format!("?{query}")).unwrap_or_default();
    Ok([
        Location::parse(&format!("{origin}{path}/.well-known/openid-configuration{query}"), plain_http)?,
        Location::parse(&format!("{origin}/.well-known/oauth-authorization-server{path}{query}"), plain_http)?,
    ])
}

/// Where the key set of `issuer` stands, from its metadata.
pub(super) fn key_set(body: &[u8], issuer: &Location, plain_http: bool) -> Result<Location, MetadataError> {
    let Ok(Value::Object(metadata)) = serde_json::from_slice(body) else { return Err(MetadataError::NotJson) };
    let text = |name: &str| metadata.get(name).and_then(Value::as_str);
    let found = text("issuer").ok_or(MetadataError::NoIssuer)?;
    if found != issuer.as_str() {
        let found = found.chars().take(200).collect();
        return Err(MetadataError::WrongIssuer { expected: issuer.to_string(), found });
    }
    let url = text("jwks_uri").ok_or(MetadataError::NoKeySet)?;
    Location::parse(url, plain_http)
        .map_err(|error| MetadataError::BadKeySet { text: url.chars().take(200).collect(), error })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn location(text: &str) -> Location {
        Location::parse(text, true).unwrap()
    }

    fn well_known(issuer: &str) -> [String; 2] {
        locations(&location(issuer)).unwrap().map(|location| location.to_string())
    }

    #[test]
    fn openid_appends_and_rfc_8414_inserts() {
        let root = [
            "https://a.test/.well-known/openid-configuration",
            "https://a.test/.well-known/oauth-authorization-server",
        ];
        assert_eq!(well_known("https://a.test"), root);
        assert_eq!(well_known("https://a.test/"), root);
        let tenant = [
            "https://a.test:8443/x/tenant/.well-known/openid-configuration",
            "https://a.test:8443/.well-known/oauth-authorization-server/x/tenant",
        ];
        assert_eq!(well_known("https://a.test:8443/x/tenant"), tenant);
        assert_eq!(well_known("https://a.test:8443/x/tenant/"), tenant);
        assert!(well_known("http://a.test")[0].starts_with("http://"));
    }

    #[test]
    fn the_issuer_is_compared_byte_for_byte() {
        let read = |issuer: &str| {
            let body = format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://a.test/keys"}}"#);
            key_set(body.as_bytes(), &location("https://a.test/"), false)
        };
        assert_eq!(read("https://a.test/").unwrap().as_str(), "https://a.test/keys");
        for other in
            ["https://a.test", "https://A.test/", "https://a.test:443/", "http://a.test/", "https://a.test//", ""]
        {
            assert!(matches!(read(other), Err(MetadataError::WrongIssuer { .. })), "{other}");
        }
    }

    #[test]
    fn a_key_set_url_obeys_the_rule_of_every_url() {
        let read = |jwks_uri: &str, plain_http| {
            let body = format!(r#"{{"issuer":"https://a.test","jwks_uri":"{jwks_uri}"}}"#);
            key_set(body.as_bytes(), &location("https://a.test"), plain_http)
        };
        for bad in ["", "/keys", "http://a.test/keys", "https://u:p@a.test/", "file:///etc/keys"] {
            assert!(matches!(read(bad, false), Err(MetadataError::BadKeySet { .. })), "{bad}");
        }
        assert!(read("http://a.test/keys", true).is_ok());
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for body in ["", "<html>", "[]", "{", r#"{"issuer":7}"#, r#"{"issuer":"https://a.test","jwks_uri":[]}"#] {
            assert!(key_set(body.as_bytes(), &location("https://a.test"), false).is_err(), "{body}");
        }
    }
}
