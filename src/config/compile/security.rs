//! `security_headers` of a route: a preset of fields that tell browsers to be careful.
//!
//! Defaults alone: what the upstream or `response_headers` says stays. docs/hosts.md says what each of them is for.

use http::header::{self, HeaderName, HeaderValue};

use super::super::entry::Entry;
use super::context::Context;

const STANDARD: [(HeaderName, HeaderValue); 5] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("strict-origin-when-cross-origin")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "accelerometer=(), camera=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), payment=(), usb=()",
        ),
    ),
];

pub(super) fn security_headers(context: &mut Context<'_>, entry: &Entry<String>) -> Vec<(HeaderName, HeaderValue)> {
    let standard = context.choice(entry, "security_headers", &[("standard", true)], false);
    if standard { STANDARD.to_vec() } else { Vec::new() }
}
