//! `jwks_url` and `discovery` of an issuer: where its keys are fetched, and how often.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use crate::auth::{RemoteSettings, RemoteSource};
use crate::fetch::{FetchSettings, Location, LocationError};

const REMEDY: &str = "check the path (it is relative to this file) and that the gateway's account may read it";

/// The set an issuer publishes, if its table names one, and where that is written.
pub(super) fn remote(context: &mut Context<'_>, raw: &raw::Issuer) -> Option<(RemoteSettings, Span)> {
    let fetch = fetch(context, raw);
    let (source, span) = match (&raw.jwks_url, &raw.discovery) {
        (Entry::Absent, entry) => located(context, entry, "discovery", fetch.plain_http, RemoteSource::Discovery),
        (entry, _) => located(context, entry, "jwks_url", fetch.plain_http, RemoteSource::KeySet),
    }?;
    let usual = RemoteSettings::new(source);
    let refresh_min = context.seconds(&raw.refresh_min_secs, "refresh_min_secs", 1.0..=86_400.0, usual.refresh_min);
    let refresh_max =
        context.seconds(&raw.refresh_max_secs, "refresh_max_secs", 1.0..=604_800.0, usual.refresh_max.max(refresh_min));
    if let Some(at) = raw.refresh_max_secs.span().filter(|_| refresh_max < refresh_min) {
        let problem = Problem::error(at, "`refresh_max_secs` is less than `refresh_min_secs`");
        context.report(
            problem.hint("keys are fetched again within these bounds, whatever the issuer's Cache-Control says"),
        );
    }
    let cooldown = context.seconds(&raw.refetch_cooldown_secs, "refetch_cooldown_secs", 1.0..=3600.0, usual.cooldown);
    let max_stale = context.seconds(&raw.max_stale_secs, "max_stale_secs", 60.0..=2_592_000.0, usual.max_stale);
    if let Some(at) = raw.max_stale_secs.span().filter(|_| max_stale < refresh_max) {
        let problem = Problem::error(at, "`max_stale_secs` is less than `refresh_max_secs`");
        context.report(problem.hint("keys would be given up before they are fetched again"));
    }
    let last_good = context.text(&raw.last_good_file, "last_good_file").map(|(path, _)| path);
    let last_good = last_good.map(|path| context.path(path)); // written by the gateway, so not watched
    Some((RemoteSettings { fetch, refresh_min, refresh_max, cooldown, max_stale, last_good, ..usual }, span))
}

/// How anything of an issuer is fetched.
pub(super) fn fetch(context: &mut Context<'_>, raw: &raw::Issuer) -> FetchSettings {
    let usual = FetchSettings::default();
    let ca_pem = context.text(&raw.ca_file, "ca_file").and_then(|(path, span)| context.read(path, span, REMEDY));
    FetchSettings {
        ca_pem,
        plain_http: context.flag(&raw.plain_http, usual.plain_http),
        timeout: context.seconds(&raw.fetch_timeout_secs, "fetch_timeout_secs", 0.1..=60.0, usual.timeout),
        ..usual
    }
}

/// Keys that only mean something where something is fetched.
pub(super) fn refuse_without_url(context: &mut Context<'_>, raw: &raw::Issuer) {
    let keys = [
        ("ca_file", raw.ca_file.span()),
        ("plain_http", raw.plain_http.span()),
        ("fetch_timeout_secs", raw.fetch_timeout_secs.span()),
        ("refresh_min_secs", raw.refresh_min_secs.span()),
        ("refresh_max_secs", raw.refresh_max_secs.span()),
        ("refetch_cooldown_secs", raw.refetch_cooldown_secs.span()),
        ("max_stale_secs", raw.max_stale_secs.span()),
        ("last_good_file", raw.last_good_file.span()),
    ];
    for (key, span) in keys.into_iter().filter_map(|(key, span)| Some((key, span?))) {
        let problem = Problem::error(span, format!("`{key}` without `jwks_url` or `discovery`"));
        context.report(problem.hint("nothing is fetched for this issuer: remove it"));
    }
}

fn located(
    context: &mut Context<'_>,
    entry: &Entry<String>,
    key: &str,
    plain_http: bool,
    source: fn(Location) -> RemoteSource,
) -> Option<(RemoteSource, Span)> {
    let (url, span) = context.text(entry, key)?;
    match Location::parse(url, plain_http) {
        Ok(location) => Some((source(location), span)),
        Err(error) => {
            context.report(unfit(url, span, error));
            None
        }
    }
}

/// Whoever can answer in the issuer's place can sign every token.
pub(super) fn unfit(url: &str, span: Span, error: LocationError) -> Problem {
    let problem = Problem::error(span, format!("`{url}` cannot be fetched: {error}"));
    if url.starts_with("http://") {
        return problem.hint("use https; `plain_http = true` allows http, for an issuer on the same machine");
    }
    problem.hint("write an absolute URL, as in \"https://id.example.com/\"")
}
