//! The documents that routes publish, made once a generation: every worker answers with the same bytes.

use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;

use crate::auth::{IdentityKey, Issuer, PublicJwk, key_set, resource_metadata};
use crate::config::{Action, Config, Publication};
use crate::snapshot::Document;

/// RFC 7517 section 8.5.
const KEY_SET: HeaderValue = HeaderValue::from_static("application/jwk-set+json");
/// RFC 9728 section 3.2.
const METADATA: HeaderValue = HeaderValue::from_static("application/json");

/// The document of each route of `config`, in their order; `None` for a route that publishes nothing.
pub(super) fn documents(
    config: &Config,
    issuers: &[Arc<Issuer>],
    identity: Option<&IdentityKey>,
) -> Vec<Option<Document>> {
    let of = |action: &Action| match action {
        Action::Publish(Publication::KeySet) => {
            let keys = static_keys(config, issuers);
            Some(document(KEY_SET, key_set(identity.map(IdentityKey::public_jwk).into_iter().chain(&keys))))
        }
        Action::Publish(Publication::IdentityKey) => {
            Some(document(KEY_SET, key_set(identity.map(IdentityKey::public_jwk))))
        }
        Action::Publish(Publication::ResourceMetadata { resource, issuers, scopes }) => {
            let servers = issuers.iter().filter_map(|index| config.issuers[*index].issuer.as_deref());
            Some(document(METADATA, resource_metadata(resource, &servers.collect::<Vec<_>>(), scopes)))
        }
        Action::Upstream { .. } | Action::Files(_) | Action::Redirect { .. } => None,
    };
    config.routes.iter().map(|route| of(&route.action)).collect()
}

/// The keys that the configuration itself holds. Those that an issuer publishes, it publishes better: it knows when they change.
fn static_keys(config: &Config, issuers: &[Arc<Issuer>]) -> Vec<PublicJwk> {
    let held = config.issuers.iter().zip(issuers).filter(|(settings, _)| settings.has_public_keys());
    held.flat_map(|(_, issuer)| issuer.public_jwks()).collect()
}

fn document(media_type: HeaderValue, body: String) -> Document {
    let hash = digest::digest(&digest::SHA256, body.as_bytes());
    let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&hash.as_ref()[..16]));
    let etag = HeaderValue::try_from(etag).expect("base64url in quotes is visible ASCII");
    Document { media_type, body: body.into(), etag }
}
