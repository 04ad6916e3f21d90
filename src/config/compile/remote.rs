//! `jwks_url` and `discovery` of an issuer: where its keys are fetched, and how often.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::fetch;
use crate::auth::{RemoteSettings, RemoteSource};
use crate::fetch::{FetchSettings, Location};

/// The set an issuer publishes, if its table names one, and where that is written.
pub(super) fn remote(context: &mut Context<'_>, raw: &raw::Issuer) -> Option<(RemoteSettings, Span)> {
    let fetch = fetch::settings(context, raw);
    let (source, span) = match (&raw.jwks_url, &raw.discovery) {
        (Entry::Absent, entry) => located(context, entry, "discovery", &fetch, RemoteSource::Discovery),
        (entry, _) => located(context, entry, "jwks_url", &fetch, RemoteSource::KeySet),
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

fn located(
    context: &mut Context<'_>,
    entry: &Entry<String>,
    key: &str,
    settings: &FetchSettings,
    source: fn(Location) -> RemoteSource,
) -> Option<(RemoteSource, Span)> {
    let (url, span) = context.text(entry, key)?;
    fetch::location(context, url, span, key, settings).map(|location| (source(location), span))
}
