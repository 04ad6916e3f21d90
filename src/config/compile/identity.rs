//! `[identity]`: the key, the name and the field with which the gateway signs who sent a request.

use http::HeaderName;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::spans::{IdentitySpans, Spans};
use super::super::values::{Action, Config};
use super::context::Context;
use super::fields;
use crate::auth::{IdentitySettings, Place, Secret};

const LIFETIME_SECS: u64 = 30;
const HEADER: HeaderName = HeaderName::from_static("x-portcullis-identity");
const REMEDY: &str = "make it with `openssl genpkey -algorithm ed25519 -out PATH`, readable for the gateway alone";

pub(super) fn identity(
    context: &mut Context<'_>,
    entry: &Entry<raw::Identity>,
) -> Option<(IdentitySettings, IdentitySpans)> {
    let (table, span) = context.take(entry)?;
    let lifetime_secs = context.number(&table.lifetime_secs, "lifetime_secs", " seconds", 1..=300, LIFETIME_SECS);
    let header = match context.text(&table.header, "header") {
        Some((text, span)) => fields::identity_field(context, text, span),
        None => Some(HEADER),
    };
    let hint = "add `issuer = \"https://gateway.example.com\"`: applications believe no token with another `iss`";
    demand(context, &table.issuer, span, "[identity] has no `issuer`", hint);
    let issuer = context.text(&table.issuer, "issuer");
    demand(context, &table.key, span, "[identity] has no `key`", "add `key = \"PATH\"`, an Ed25519 private key in PEM");
    let (path, key_span) = context.text(&table.key, "key")?;
    let key = context.read(path, key_span, REMEDY)?;
    let settings = IdentitySettings {
        key: Secret::new(key),
        label: path.to_owned(),
        issuer: issuer?.0.into(),
        lifetime_secs,
        header: header?,
    };
    let lifetime = table.lifetime_secs.span().unwrap_or(span);
    Some((settings, IdentitySpans { table: span, key: key_span, lifetime }))
}

fn demand(context: &mut Context<'_>, entry: &Entry<String>, owner: Span, missing: &str, hint: &str) {
    if entry.is_absent() {
        context.report(Problem::error(owner, missing).hint(hint));
    }
}

/// The field is the gateway's alone: no claim and no client's token stands in it.
pub(super) fn clashes(config: &Config, spans: &Spans) -> Vec<Problem> {
    let Some(identity) = &config.identity else { return Vec::new() };
    let mut problems = Vec::new();
    for (route, at) in config.routes.iter().zip(&spans.routes) {
        let stands = |place: &Place| matches!(place, Place::Header(header) if *header == identity.header);
        let taken = route.auth.policies().any(|policy| policy.places.iter().any(stands));
        if taken || route.auth.identity_headers().any(|header| *header == identity.header) {
            let message = format!("the route `{}` puts `{}` to another use", route.name, identity.header);
            let hint = "[identity] has this field to itself: choose another here, or another `header` there";
            problems.push(Problem::error(at.name, message).hint(hint));
        }
    }
    problems
}

/// What is probably not meant: a key that signs nothing, and tokens that may expire on the way.
pub(super) fn doubts(config: &Config, spans: &Spans) -> Vec<Problem> {
    let (Some(identity), Some(at)) = (&config.identity, &spans.identity) else { return Vec::new() };
    let told = || config.routes.iter().filter(|route| route.auth.forward.identity.is_some());
    if told().next().is_none() {
        let hint = "set `identity_token = true` on the routes whose upstream is to be told, or remove the table";
        return vec![Problem::warning(at.table, "no route uses [identity]").hint(hint)];
    }
    let mut doubts = Vec::new();
    for (index, upstream) in config.upstreams.iter().enumerate() {
        let goes = |action: &Action| matches!(action, Action::Upstream { upstream, .. } if *upstream == index);
        let wait = upstream.queue_timeout + upstream.connect_timeout;
        if told().any(|route| goes(&route.action)) && wait.as_secs() >= identity.lifetime_secs {
            let message = format!("a token may expire before the upstream `{}` has a connection free", upstream.name);
            let hint = "`lifetime_secs` must be more than `queue_timeout_secs` and `connect_timeout_secs` together";
            doubts.push(Problem::warning(at.lifetime, message).hint(hint));
        }
    }
    doubts
}
