//! What is known of a request when it asks to pass.
//!
//! Owns nothing but the question's form; the request's line and fields have passed the trust boundary by then.

use http::{HeaderMap, Method};

use super::time::UnixSeconds;
use crate::http::Target;

/// One request, as far as authorisation looks at it.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'r> {
    /// Its method.
    pub method: &'r Method,
    /// Its header fields.
    pub headers: &'r HeaderMap,
    /// What it is for.
    pub target: &'r Target,
    /// Whether the client's own connection is secure, as the socket or a trusted proxy says.
    pub secure: bool,
    /// The SHA-256 of the certificate the client proved to hold, if it showed one (RFC 8705 section 3.1).
    pub client_certificate: Option<&'r [u8; 32]>,
    /// Whether it asks for a tunnel, in whatever way.
    pub tunnel: bool,
    /// The moment at which it asks.
    pub now: UnixSeconds,
}

impl Asking<'_> {
    /// The scheme the client used, whoever ended its TLS.
    pub(super) fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    pub(super) fn is_safe(&self) -> bool {
        is_safe(self.method)
    }
}

/// Whether a method asks for no change (RFC 9110 section 9.2.1); TRACE never comes this far.
pub(super) fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}
