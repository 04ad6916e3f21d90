//! Where an issuer's keys come from: exactly one kind of source; keys are read here and judged by `auth`.

use std::time::UNIX_EPOCH;

use super::super::entry::{Entry, Name};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::SecretSource;
use super::context::Context;
use super::issuer::REMEDY;
use super::secret::secret;
use crate::auth::{KeySettings, KeySource, UnixSeconds};

/// How the table gives keys.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Secret,
    PublicKeys,
    Keys,
    JwksFile,
    JwksUrl,
    Discovery,
    Introspection,
}

pub(super) fn kind(raw: &raw::Issuer) -> Option<Kind> {
    used(raw).first().map(|(kind, ..)| *kind)
}

/// The ways to give keys that the table uses; exactly one is right.
fn used(raw: &raw::Issuer) -> Vec<(Kind, &'static str, Span)> {
    [
        (Kind::Secret, "secret", raw.secret.span()),
        (Kind::PublicKeys, "public_keys", raw.public_keys.span()),
        (Kind::Keys, "keys", raw.keys.span()),
        (Kind::JwksFile, "jwks_file", raw.jwks_file.span()),
        (Kind::JwksUrl, "jwks_url", raw.jwks_url.span()),
        (Kind::Discovery, "discovery", raw.discovery.span()),
        (Kind::Introspection, "introspection", raw.introspection.span()),
    ]
    .into_iter()
    .filter_map(|(kind, key, span)| Some((kind, key, span?)))
    .collect()
}

/// The keys of the table, if they are in files or variables.
pub(super) fn keys(context: &mut Context<'_>, name: &Name, raw: &raw::Issuer) -> Vec<(KeySettings, Span)> {
    let used = used(raw);
    let hint = "give exactly one of `secret = { env = \"NAME\" }`, `public_keys = [\"PATH\"]`, `jwks_file = \"PATH\"`, \
                `jwks_url = \"https://...\"`, `discovery = \"https://...\"`, `keys = [...]` and `introspection = { ... }`";
    let Some(((kind, key, span), others)) = used.split_first() else {
        context.report(Problem::error(name.span, format!("the issuer `{}` has no keys", name.text)).hint(hint));
        return Vec::new();
    };
    for (_, other, at) in others {
        let problem = Problem::error(*at, format!("`{other}` beside `{key}`: an issuer has one kind of keys"));
        context.report(problem.note(*span, format!("`{key}` is here")).hint(hint));
    }
    let always = |(source, span)| (KeySettings::from(source), span);
    match kind {
        Kind::Secret => shared(context, &raw.secret).into_iter().map(always).collect(),
        Kind::PublicKeys => public_keys(context, &raw.public_keys).into_iter().map(always).collect(),
        Kind::Keys => timed(context, &raw.keys),
        Kind::JwksFile => jwks(context, &raw.jwks_file).into_iter().map(always).collect(),
        Kind::JwksUrl | Kind::Discovery | Kind::Introspection => Vec::new(), // the issuer itself is asked
    }
}

/// Keys that take turns: a token without `kid` is tried with each that may be used, in order.
fn timed(context: &mut Context<'_>, entry: &Entry<Vec<Entry<raw::TimedKey>>>) -> Vec<(KeySettings, Span)> {
    let mut keys = Vec::new();
    for (raw, span) in context.list(entry, "keys", "name at least one key") {
        let not_before = moment(context, &raw.not_before, "not_before");
        let not_after = moment(context, &raw.not_after, "not_after");
        if let (Some(from), Some(until)) = (not_before, not_after)
            && from >= until
        {
            let problem = Problem::error(raw.not_after.span().unwrap_or(span), "`not_after` is not after `not_before`");
            context.report(problem.hint("as it stands, the key could never be used"));
        }
        let source = match (raw.secret.is_absent(), raw.public_key.is_absent()) {
            (false, true) => shared(context, &raw.secret),
            (true, false) => public_key(context, &raw.public_key),
            _ => {
                let problem = Problem::error(span, "a key is either a `secret` or a `public_key`");
                context.report(problem.hint(
                    "write one of both: `{ secret = { env = \"NAME\" }, not_after = \"2026-12-01T00:00:00Z\" }`",
                ));
                None
            }
        };
        keys.extend(source.map(|(source, span)| (KeySettings { source, not_before, not_after }, span)));
    }
    keys
}

fn shared(context: &mut Context<'_>, entry: &Entry<SecretSource>) -> Option<(KeySource, Span)> {
    secret(context, entry, "secret").map(|(secret, span)| (KeySource::Secret(secret), span))
}

fn public_key(context: &mut Context<'_>, entry: &Entry<String>) -> Option<(KeySource, Span)> {
    let (path, span) = context.text(entry, "public_key")?;
    pem(context, path, span)
}

fn pem(context: &mut Context<'_>, path: &str, span: Span) -> Option<(KeySource, Span)> {
    let bytes = context.read(path, span, REMEDY)?;
    Some((KeySource::Pem { bytes, label: path.to_owned() }, span))
}

/// RFC 3339.
fn moment(context: &mut Context<'_>, entry: &Entry<String>, key: &str) -> Option<UnixSeconds> {
    let (text, span) = context.text(entry, key)?;
    let since = humantime::parse_rfc3339(text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    if since.is_none() {
        let problem = Problem::error(span, format!("`{text}` is no moment"));
        context.report(problem.hint("write it as in \"2026-12-01T00:00:00Z\", in UTC"));
    }
    since.map(|since| UnixSeconds::from_secs(since.as_secs()))
}

fn public_keys(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<(KeySource, Span)> {
    let paths = context.texts(entry, "public_keys", "name at least one PEM file");
    paths.into_iter().filter_map(|(path, span)| pem(context, &path, span)).collect()
}

fn jwks(context: &mut Context<'_>, entry: &Entry<String>) -> Option<(KeySource, Span)> {
    let (path, span) = context.text(entry, "jwks_file")?;
    let bytes = context.read(path, span, REMEDY)?;
    Some((KeySource::Jwks { bytes, label: path.to_owned() }, span))
}
