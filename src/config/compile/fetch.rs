//! What all exchanges with an issuer have in common: whom they trust, and how long they may take.

use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::issuer::REMEDY;
use crate::fetch::{FetchError, FetchSettings, Fetcher, Location, LocationError};

/// The settings of `[issuer.NAME]` for exchanges with it.
pub(super) fn settings(context: &mut Context<'_>, raw: &raw::Issuer) -> FetchSettings {
    let default = FetchSettings::default();
    FetchSettings {
        ca_pem: ca(context, raw),
        plain_http: context.flag(&raw.plain_http, default.plain_http),
        timeout: context.seconds(&raw.fetch_timeout_secs, "fetch_timeout_secs", 0.1..=60.0, default.timeout),
        ..default
    }
}

/// Says which keys about exchanges stand in a table that makes none: they were meant for something.
pub(super) fn used(context: &mut Context<'_>, raw: &raw::Issuer) {
    let published = !raw.jwks_url.is_absent() || !raw.discovery.is_absent();
    let any = [
        ("ca_file", raw.ca_file.span()),
        ("plain_http", raw.plain_http.span()),
        ("fetch_timeout_secs", raw.fetch_timeout_secs.span()),
    ];
    let of_a_set = [
        ("refresh_min_secs", raw.refresh_min_secs.span()),
        ("refresh_max_secs", raw.refresh_max_secs.span()),
        ("refetch_cooldown_secs", raw.refetch_cooldown_secs.span()),
        ("max_stale_secs", raw.max_stale_secs.span()),
        ("last_good_file", raw.last_good_file.span()),
    ];
    let any = any.into_iter().filter(|_| !published && raw.introspection.is_absent());
    let keys = any.chain(of_a_set.into_iter().filter(|_| !published));
    for (key, span) in keys.filter_map(|(key, span)| Some((key, span?))) {
        let problem = Problem::warning(span, format!("`{key}` means nothing here: nobody is asked for anything"));
        context.report(problem.hint("it belongs beside `jwks_url` or `discovery`"));
    }
}

/// A URL that this process talks to.
pub(super) fn location(
    context: &mut Context<'_>,
    text: &str,
    span: Span,
    key: &str,
    settings: &FetchSettings,
) -> Option<Location> {
    let fault = match Location::parse(text, settings.plain_http) {
        Ok(location) => return Some(location),
        Err(fault) => fault,
    };
    let hint = match fault {
        LocationError::PlainHttp => "use https; `plain_http = true` is for a server on this machine alone",
        LocationError::Userinfo => "credentials have keys of their own",
        _ => "write it as \"https://id.example.com/path\"",
    };
    let problem = Problem::error(span, format!("`{key}` cannot be asked: {fault}")).hint(hint);
    context.report(if fault == LocationError::Userinfo { problem.mask(span) } else { problem });
    None
}

fn ca(context: &mut Context<'_>, raw: &raw::Issuer) -> Option<Vec<u8>> {
    let (path, span) = context.text(&raw.ca_file, "ca_file")?;
    let pem = context.read(path, span, REMEDY)?;
    let settings = FetchSettings { ca_pem: Some(pem), ..FetchSettings::default() };
    if matches!(Fetcher::new(&settings), Err(FetchError::CaPem)) {
        let message = format!("there is no usable certificate in {path}, or one of them is not usable");
        context.report(Problem::error(span, message).hint("put the authorities' certificates there, in PEM"));
    }
    settings.ca_pem
}
