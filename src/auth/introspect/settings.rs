//! What an operator decides about asking an issuer.

use std::time::Duration;

use crate::auth::Secret;
use crate::fetch::{FetchSettings, Location};

/// Most bytes of an answer: it holds the claims of one token.
const ANSWER_BYTES: usize = 64 * 1024;

/// How an issuer is asked about a token.
#[derive(Debug, Clone, PartialEq)]
pub struct IntrospectionSettings {
    /// The introspection endpoint (RFC 7662 section 2).
    pub url: Location,
    /// Who asks, as the issuer knows it (RFC 6749 section 2.2).
    pub client_id: Box<str>,
    /// What proves it (RFC 6749 section 2.3.1).
    pub client_secret: Secret,
    /// The longest an answer is kept; it never outlives the token's own `exp`. Zero asks for each request.
    pub cache: Duration,
    /// The bounds of one exchange; the timeout is also the longest a request waits for its turn to ask.
    pub fetch: FetchSettings,
}

impl IntrospectionSettings {
    /// The defaults: answers of at most 64 KiB, kept for a minute.
    pub fn new(url: Location, client_id: impl Into<Box<str>>, client_secret: Secret) -> Self {
        Self {
            url,
            client_id: client_id.into(),
            client_secret,
            cache: Duration::from_mins(1),
            fetch: FetchSettings { max_bytes: ANSWER_BYTES, ..FetchSettings::default() },
        }
    }
}
