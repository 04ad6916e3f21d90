//! Header fields the configuration may set: `forward_claims` towards the upstream, `response_headers` towards the client.

use http::{HeaderName, HeaderValue};

use super::super::entry::{Entry, Name, Named};
use super::super::problem::{Problem, Span};
use super::context::Context;
use super::demand::claim_path;
use crate::auth::Forward;

/// Framing and hop-by-hop fields (RFC 9110 section 7.6.1, RFC 9112 section 6): made anew for every message.
const FRAMING: [&str; 11] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Fields of a request that already mean something to the upstream and are the gateway's or the client's to say.
const MEANT: [&str; 21] = [
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-type",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "origin",
    "path-info",
    "proxy",
    "range",
    "referer",
    "script-name",
    "traceparent",
    "tracestate",
    "via",
    "x-original-url",
    "x-real-ip",
    "x-request-id",
    "x-rewrite-url",
];

const MEANT_PREFIXES: [&str; 3] = ["x-forwarded-", "x-accel-", "sec-"];

/// Fields of an answer that its own stage computes.
const COMPUTED: [&str; 8] = [
    "accept-ranges",
    "content-encoding",
    "content-range",
    "content-type",
    "date",
    "etag",
    "last-modified",
    "www-authenticate",
];

pub(super) fn forward_claims(context: &mut Context<'_>, entry: &Entry<Named<String>>) -> Vec<Forward> {
    let mut forwards: Vec<(Forward, Span)> = Vec::new();
    for (field, claim) in entries(context, entry, "forward_claims") {
        let Some((claim, span)) = context.take(claim) else { continue };
        let claim = claim_path(context, claim, span, "write the claim, as in { \"X-User-Id\" = \"sub\" }");
        let Some(header) = identity_field(context, &field.text, field.span) else { continue };
        if unique(context, &header, field.span, forwards.iter().map(|(forward, span)| (&forward.header, *span))) {
            forwards.extend(claim.map(|claim| (Forward { header, claim }, field.span)));
        }
    }
    forwards.into_iter().map(|(forward, _)| forward).collect()
}

pub(super) fn response_headers(
    context: &mut Context<'_>,
    entry: &Entry<Named<String>>,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut fields: Vec<(HeaderName, HeaderValue, Span)> = Vec::new();
    for (field, value) in entries(context, entry, "response_headers") {
        let Some((text, span)) = context.take(value) else { continue };
        let value = value_of(context, text, span);
        let Some(header) = field_name(context, &field.text, field.span) else { continue };
        if FRAMING.contains(&header.as_str()) || COMPUTED.contains(&header.as_str()) {
            let problem = Problem::error(field.span, format!("`{}` is not for a route to set", field.text));
            context.report(problem.hint("the gateway or the upstream computes it for every answer"));
            continue;
        }
        if unique(context, &header, field.span, fields.iter().map(|(header, _, span)| (header, *span))) {
            fields.extend(value.map(|value| (header, value, field.span)));
        }
    }
    fields.into_iter().map(|(header, value, _)| (header, value)).collect()
}

/// A field value as the configuration may write it: no control characters, so no second field (RFC 9110 section 5.5).
pub(super) fn value_of(context: &mut Context<'_>, text: &str, span: Span) -> Option<HeaderValue> {
    let value = HeaderValue::from_str(text).ok().filter(|_| text.is_ascii() && text.trim() == text);
    if value.is_none() {
        let problem = Problem::error(span, "this is no field value");
        context.report(problem.hint("use printable ASCII, without line breaks and without spaces at either end"));
    }
    value
}

fn entries<'e>(context: &mut Context<'_>, entry: &'e Entry<Named<String>>, key: &str) -> &'e [(Name, Entry<String>)] {
    let Some((table, span)) = context.take(entry) else { return &[] };
    if table.0.is_empty() {
        context.report(Problem::error(span, format!("`{key}` names no field")).hint("leave the key out to set none"));
    }
    &table.0
}

/// The name of a field that speaks for the client, and that no client may set.
pub(super) fn identity_field(context: &mut Context<'_>, text: &str, span: Span) -> Option<HeaderName> {
    let header = field_name(context, text, span)?;
    let name = header.as_str();
    if name.contains('_') {
        let problem = Problem::error(span, format!("`{text}` has an underscore"));
        let hint = format!(
            "CGI and WSGI merge `_` and `-`, so a client could speak for it: write `{}`",
            text.replace('_', "-")
        );
        context.report(problem.hint(hint));
        return None;
    }
    let meant = MEANT.contains(&name) || MEANT_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    if meant || FRAMING.contains(&name) {
        let problem = Problem::error(span, format!("`{text}` already means something to the upstream"));
        context.report(problem.hint("choose a field of its own, as \"X-User-Id\""));
        return None;
    }
    Some(header)
}

fn field_name(context: &mut Context<'_>, text: &str, span: Span) -> Option<HeaderName> {
    let header = text.parse().ok();
    if header.is_none() {
        let problem = Problem::error(span, format!("`{text}` is no field name"));
        context.report(problem.hint("use letters, digits and `-`"));
    }
    header
}

/// Field names compare without case, so TOML does not see that two are the same.
fn unique<'f>(
    context: &mut Context<'_>,
    header: &HeaderName,
    span: Span,
    mut earlier: impl Iterator<Item = (&'f HeaderName, Span)>,
) -> bool {
    let first = earlier.find(|(other, _)| *other == header).map(|(_, first)| first);
    if let Some(first) = first {
        let problem = Problem::error(span, format!("`{header}` is set twice")).note(first, "the first is here");
        context.report(problem.hint("field names compare without case"));
    }
    first.is_none()
}
