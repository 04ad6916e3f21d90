//! `[rate_limit.NAME]`: how many requests may come of whom; and `rate_limits`, which of them a route asks.

use http::HeaderName;

use super::super::entry::Name;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::demand::claim_path;
use super::redis;
use super::route::{Known, any_issuer, reference};
use crate::auth::RouteAuth;
use crate::http::boundary::is_removed;
use crate::limit::{CountedBy, LimitSettings, MOST_LIMITS, Quota};

const ENTRIES: usize = 100_000;
const IPV6_PREFIX: u8 = 64;
const FORMS: &str = "write \"client\", \"claim:sub\", \"header:X-Api-Key\" or \"route\"";

pub(super) fn rate_limit(
    context: &mut Context<'_>,
    name: &Name,
    raw: &raw::RateLimit,
) -> Option<(LimitSettings, Span)> {
    let most = i64::from(Quota::MOST_REQUESTS);
    let missing = |key| format!("the rate limit `{}` has no `{key}`", name.text);
    let prefix = context.number(&raw.ipv6_prefix, "ipv6_prefix", " bits", 32..=128, IPV6_PREFIX);
    let by = context.demand(&raw.key, name.span, &missing("key"), FORMS);
    let by = by.and_then(|(key, span)| counted_by(context, key, span, prefix));
    context.demand(&raw.requests, name.span, &missing("requests"), "add how many requests may come in `per_secs`");
    let requests = context.number(&raw.requests, "requests", "", 1..=most, 1);
    context.demand(&raw.per_secs, name.span, &missing("per_secs"), "add the seconds in which `requests` may come");
    let per_secs = context.number(&raw.per_secs, "per_secs", " seconds", 1..=i64::from(Quota::MOST_SECS), 1);
    let burst = context.number(&raw.burst, "burst", "", 1..=most, requests);
    let entries = context.number(&raw.entries, "entries", "", 1000..=10_000_000, ENTRIES);
    let by = by?;
    for (key, span) in [("entries", raw.entries.span()), ("ipv6_prefix", raw.ipv6_prefix.span())] {
        if let Some(span) = span.filter(|_| by == CountedBy::Route) {
            let problem = Problem::error(span, format!("`{key}` of a limit that counts everything together"));
            context.report(problem.hint("remove it, or choose another `key`"));
        }
    }
    let settings = LimitSettings {
        name: name.text.as_str().into(),
        by,
        quota: Quota { requests, per_secs, burst },
        entries,
        dry_run: context.flag(&raw.dry_run, false),
        headers: context.flag(&raw.headers, true),
        shared: redis::shared(context, &raw.shared),
    };
    Some((settings, name.span))
}

fn counted_by(context: &mut Context<'_>, key: &str, span: Span, ipv6_prefix: u8) -> Option<CountedBy> {
    match key.split_once(':') {
        None if key == "client" => Some(CountedBy::Client { ipv6_prefix }),
        None if key == "route" => Some(CountedBy::Route),
        Some(("claim", path)) => {
            let path = claim_path(context, path, span, "write the claim, as in \"claim:sub\"")?;
            Some(CountedBy::Claim { path: path.as_str().into(), ipv6_prefix })
        }
        Some(("header", name)) => header(context, name, span).map(|name| CountedBy::Header { name, ipv6_prefix }),
        _ => {
            context.report(Problem::error(span, format!("`{key}` is no value of `key`")).hint(FORMS));
            None
        }
    }
}

fn header(context: &mut Context<'_>, name: &str, span: Span) -> Option<HeaderName> {
    let Ok(field) = HeaderName::from_bytes(name.as_bytes()) else {
        let problem = Problem::error(span, format!("`{name}` is no name of a header field"));
        context.report(problem.hint("write it as in \"header:X-Api-Key\""));
        return None;
    };
    if is_removed(&field) {
        let problem = Problem::error(span, format!("`{name}` is removed from every request: nobody would have it"));
        context.report(problem.hint("to count by address write \"client\": `trusted_proxies` are believed"));
        return None;
    }
    Some(field)
}

/// Indices of the limits that a route asks.
pub(super) fn of_route(
    context: &mut Context<'_>,
    raw: &raw::Route,
    label: &str,
    auth: Option<&RouteAuth>,
    known: &Known<'_>,
) -> Vec<usize> {
    let names = context.texts(&raw.rate_limits, "rate_limits", "leave the key out to limit nobody");
    if let Some((_, span)) = names.get(MOST_LIMITS) {
        let problem = Problem::error(*span, format!("{label} has more than {MOST_LIMITS} limits"));
        context.report(problem.hint("each costs every request something: keep those that differ"));
    }
    let mut limits = Vec::new();
    for (name, span) in names {
        let Some(index) = reference(context, &name, span, "rate_limit", &known.rate_limits) else { continue };
        limits.push(index);
        let Some(settings) = known.limits.iter().find(|settings| settings.name == name) else { continue };
        let no_token = auth.is_some_and(|auth| auth.policies().next().is_none());
        if let CountedBy::Claim { path, .. } = &settings.by
            && no_token
        {
            let message = format!("`{name}` counts by the claim `{path}`, and {label} looks at no token");
            let hint = format!(
                "name a limit with `key = \"client\"` here, or ask for a token: `auth = {{ issuer = \"{}\" }}`",
                any_issuer(known)
            );
            context.report(Problem::error(span, message).hint(hint));
        }
    }
    limits
}
