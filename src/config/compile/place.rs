//! `token` of a route's `auth`: where the token may stand, and how one in a cookie is guarded.

use http::HeaderName;

use super::super::entry::Entry;
use super::super::problem::Problem;
use super::super::raw;
use super::context::Context;
use super::fields;
use crate::auth::{OriginGuard, Place};
use crate::observe::is_redacted;

pub(super) fn places(context: &mut Context<'_>, entry: &Entry<raw::TokenPlaces>) -> Vec<Place> {
    let Some((raw, span)) = context.take(entry) else { return vec![Place::Authorization] };
    let mut places = Vec::new();
    if context.flag(&raw.authorization, true) {
        places.push(Place::Authorization);
    }
    places.extend(cookie(context, &raw.cookie));
    places.extend(header(context, &raw.header).map(Place::Header));
    places.extend(query(context, &raw.query));
    if context.flag(&raw.websocket_protocol, false) {
        places.push(Place::WebSocketProtocol);
    }
    if places.is_empty() {
        let problem = Problem::error(span, "there is no place where a token may stand");
        context.report(problem.hint("leave `authorization` on, or name a `cookie`, `header` or `query`"));
    }
    places
}

/// RFC 6265 section 4.1.1: a cookie's name is a token.
fn cookie(context: &mut Context<'_>, entry: &Entry<String>) -> Option<Place> {
    let (name, span) = context.text(entry, "cookie")?;
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !name.bytes().all(legal) {
        let problem = Problem::error(span, format!("`{name}` is no cookie's name"));
        context.report(problem.hint("use letters, digits, `-` and `_`, as \"__Host-access\""));
    }
    Some(Place::Cookie(name.into()))
}

/// Fields in which a token is not alone have a key of their own.
const OWN_KEYS: [(&str, &str); 3] = [
    ("authorization", "leave `authorization` on: it is the place that is looked at anyway"),
    ("cookie", "name the cookie: `cookie = \"access\"`"),
    ("sec-websocket-protocol", "write `websocket_protocol = true`"),
];

fn header(context: &mut Context<'_>, entry: &Entry<String>) -> Option<HeaderName> {
    let (name, span) = context.text(entry, "header")?;
    if let Some((_, hint)) = OWN_KEYS.iter().find(|(own, _)| name.eq_ignore_ascii_case(own)) {
        let problem = Problem::error(span, format!("`{name}` does not hold the token alone"));
        context.report(problem.hint(*hint));
        return None;
    }
    fields::identity_field(context, name, span)
}

/// What the access log would show is no place for a token.
fn query(context: &mut Context<'_>, entry: &Entry<String>) -> Option<Place> {
    let (name, span) = context.text(entry, "query")?;
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')) {
        context.report(Problem::error(span, format!("`{name}` is no parameter's name")).hint("use \"access_token\""));
    } else if !is_redacted(name) {
        let problem = Problem::error(span, format!("the access log would show what stands in `{name}`"));
        context.report(problem.hint("use a name that ends with `token` or `jwt`, as \"access_token\""));
    }
    Some(Place::Query(name.into()))
}

pub(super) fn guard(context: &mut Context<'_>, raw: &raw::TokenAuth, places: &[Place]) -> Option<OriginGuard> {
    let cookie = places.iter().any(|place| matches!(place, Place::Cookie(_)));
    let origins = origins(context, &raw.origins);
    for (key, span) in [("origins", raw.origins.span()), ("check_origin", raw.check_origin.span())] {
        if let Some(span) = span.filter(|_| !cookie) {
            let problem = Problem::error(span, format!("`{key}` without a token in a cookie"));
            context.report(problem.hint("only cookies are sent by browsers on behalf of other sites"));
        }
    }
    if context.flag(&raw.check_origin, true) {
        return Some(OriginGuard { origins });
    }
    if let (Some(span), true) = (raw.check_origin.span(), cookie) {
        let problem = Problem::warning(span, "any site can have a browser send this cookie and act for its user");
        context.report(problem.hint("leave `check_origin` on and name the sites you trust in `origins`"));
    }
    None
}

/// RFC 6454 section 6.2, as browsers serialise it.
fn origins(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<Box<str>> {
    let origins = context.texts(entry, "origins", "leave the key out to trust this site alone");
    for (origin, span) in &origins {
        if let Some(hint) = origin_fault(origin) {
            context.report(Problem::error(*span, format!("`{origin}` is no origin")).hint(hint));
        }
    }
    super::context::bare(origins)
}

pub(super) fn origin_fault(origin: &str) -> Option<&'static str> {
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let Some(host) = host else { return Some("write scheme and host, as \"https://app.example.com\"") };
    if host.is_empty() || host.contains(['/', '?', '#', '@', '*', ' ']) {
        return Some("write scheme, host and port alone, as \"https://app.example.com\"");
    }
    if host.bytes().any(|byte| byte.is_ascii_uppercase() || !byte.is_ascii()) {
        return Some("browsers write it in lower case, international names in their xn-- form");
    }
    let default = if origin.starts_with("https") { ":443" } else { ":80" };
    host.ends_with(default).then_some("browsers leave the default port out")
}
