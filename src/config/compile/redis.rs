//! `[redis]`: where gateways share, and that what is `shared` has a place to be shared at.

use std::time::Duration;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::issuer::REMEDY;
use super::secret::secret;
use crate::auth::RevocationSettings;
use crate::limit::LimitSettings;
use crate::observe::Chain;
use crate::redis::{Password, Place, Redis, RedisSettings, RedisUrl, RedisUrlFault};

const CONNECT_TIMEOUT_MS: u64 = 1000;
const TIMEOUT_MS: u64 = 20;
const PREFIX: &str = "portcullis:";
const LONGEST_PREFIX: usize = 64;

/// Where gateways share; the span is that of the table.
pub(super) fn redis(context: &mut Context<'_>, entry: &Entry<raw::Redis>) -> Option<(RedisSettings, Span)> {
    if !entry.is_absent() {
        context.will_share(); // whatever is wrong with it: that is said here
    }
    let (table, span) = context.take(entry)?;
    let hint = "add `url = \"redis://HOST:6379\"`, or `rediss://` for TLS";
    context.demand(&table.url, span, "[redis] has no `url`", hint);
    let url = match &table.url {
        Entry::Given(..) => context.text(&table.url, "url"),
        _ => None, // reported above
    };
    let read = url.and_then(|(url, span)| address(context, url, span));
    let password = secret(context, &table.password, "password").and_then(|(secret, span)| {
        let text = std::str::from_utf8(secret.expose()).ok().map(Password::new);
        if text.is_none() {
            context.report(Problem::error(span, "the password is no UTF-8").hint("Redis takes text: choose another"));
        }
        text
    });
    let ca_pem = context.text(&table.ca_file, "ca_file").and_then(|(path, span)| {
        let speaks_tls = read.as_ref().is_none_or(|read| matches!(read.place, Place::Tcp { tls: true, .. }));
        if !speaks_tls {
            let problem = Problem::error(span, "`ca_file` beside a `url` without TLS");
            context.report(problem.hint("write `rediss://` in `url`, or remove it"));
            return None;
        }
        context.read(path, span, REMEDY)
    });
    let connect_timeout = context.number(
        &table.connect_timeout_ms,
        "connect_timeout_ms",
        " milliseconds",
        10..=60_000,
        CONNECT_TIMEOUT_MS,
    );
    let timeout = context.number(&table.timeout_ms, "timeout_ms", " milliseconds", 1..=5000, TIMEOUT_MS);
    let prefix = prefix(context, &table.prefix);
    let RedisUrl { place, database, username } = read?;
    let settings = RedisSettings {
        place,
        database,
        username,
        password,
        ca_pem,
        connect_timeout: Duration::from_millis(connect_timeout),
        timeout: Duration::from_millis(timeout),
        prefix,
    };
    if let Err(error) = Redis::check(&settings) {
        let at = table.ca_file.span().unwrap_or(span);
        let problem = Problem::error(at, format!("Redis can't be used like this: {}", Chain(&error)));
        context.report(problem.hint("check `ca_file`: it must hold the PEM certificates of the authorities"));
    }
    Some((settings, span))
}

fn address(context: &mut Context<'_>, url: &str, span: Span) -> Option<RedisUrl> {
    let fault = match RedisUrl::parse(url) {
        Ok(read) => return Some(read),
        Err(fault) => fault,
    };
    let problem = Problem::error(span, format!("`url` is no place of a Redis: {fault}"));
    context.report(match fault {
        RedisUrlFault::Password => {
            problem.mask(span).hint("a secret is never written in this file: add `password = { env = \"NAME\" }`")
        }
        _ => problem.hint("write \"redis://HOST:6379/0\", \"rediss://HOST:6379\" or \"redis+unix:///run/redis.sock\""),
    });
    None
}

fn prefix(context: &mut Context<'_>, entry: &Entry<String>) -> Box<str> {
    let Some((prefix, span)) = context.text(entry, "prefix") else { return PREFIX.into() };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':');
    if prefix.len() > LONGEST_PREFIX || !prefix.bytes().all(legal) {
        let hint = format!("use 1 to {LONGEST_PREFIX} letters, digits, `-`, `.`, `_` and `:`");
        context.report(Problem::error(span, "this `prefix` cannot begin the name of a key").hint(hint));
    }
    prefix.into()
}

/// Whether what stands here is shared; that takes `[redis]`.
pub(super) fn shared(context: &mut Context<'_>, entry: &Entry<bool>) -> bool {
    let Some((shared, span)) = context.take(entry) else { return false };
    if *shared && !context.shares() {
        let problem = Problem::error(span, "`shared = true` without [redis]: there is no place to share at");
        context.report(problem.hint("add `[redis]` with its `url`, or remove `shared`"));
    }
    *shared
}

/// A place that nothing is shared at.
pub(super) fn unused(
    context: &mut Context<'_>,
    table: Option<Span>,
    limits: &[LimitSettings],
    revocation: Option<&RevocationSettings>,
) {
    let used = limits.iter().any(|limit| limit.shared) || revocation.is_some_and(|list| list.shared);
    if let Some(span) = table.filter(|_| !used) {
        let problem = Problem::warning(span, "[redis] is used by nothing");
        context.report(problem.hint("write `shared = true` in a [rate_limit.NAME] or in [revocation], or remove it"));
    }
}
