//! `[server]`, `[limits]` and `[log]`.

use std::time::Duration;

use ipnet::IpNet;
use tracing::Level;

use super::super::entry::Entry;
use super::super::problem::Problem;
use super::super::raw;
use super::super::shapes::Workers;
use super::super::values::Server;
use super::context::Context;
use super::{error_pages, network};
use crate::http::boundary::TrustedFields;
use crate::listen::GuardSettings;
use crate::observe::{LogFormat, LogSettings};
use crate::route::UnknownHost;
use crate::serve;

const DRAIN: Duration = Duration::from_secs(30);
const TOKEN_CACHE_ENTRIES: usize = 32_768;
const MOST_WORKERS: usize = 1024;
const BODY_BYTES: u64 = 10 * 1024 * 1024;
/// One tebibyte: more is a typing error, or no limit, which must not be.
pub(super) const MOST_BODY_BYTES: i64 = 1 << 40;

pub(super) fn server(context: &mut Context<'_>, entry: &Entry<raw::Server>) -> Server {
    let absent = raw::Server::default();
    let raw = context.take(entry).map_or(&absent, |(table, _)| table);
    Server {
        workers: workers(context, &raw.workers),
        drain: context.seconds(&raw.drain_secs, "drain_secs", 0.0..=3600.0, DRAIN),
        development: context.flag(&raw.development, false),
        unknown_host: unknown_host(context, &raw.unknown_host),
        error_pages: error_pages::of(context, &raw.error_pages),
        trusted_proxies: network::list(context, &raw.trusted_proxies, &network::PROXIES),
        trusted_fields: trusted_fields(context, raw),
        dpop_window_secs: context.number(&raw.dpop_window_secs, "dpop_window_secs", " seconds", 5..=600, 60),
        token_cache_entries: context.number(
            &raw.token_cache_entries,
            "token_cache_entries",
            "",
            0..=1 << 24,
            TOKEN_CACHE_ENTRIES,
        ),
    }
}

fn unknown_host(context: &mut Context<'_>, entry: &Entry<String>) -> UnknownHost {
    let words = [("route", UnknownHost::Route), ("refuse", UnknownHost::Refuse)];
    context.choice(entry, "unknown_host", &words, UnknownHost::Route)
}

/// Where nobody names a host, all of them are unknown.
pub(super) fn hosts_to_refuse(
    context: &mut Context<'_>,
    server: &Entry<raw::Server>,
    routes: &Entry<Vec<Entry<raw::Route>>>,
) {
    let Entry::Given(_, server) = server else { return };
    let Entry::Given(span, word) = &server.unknown_host else { return };
    let named = |route: &Entry<raw::Route>| matches!(route, Entry::Given(_, route) if !route.hosts.is_absent());
    let named = matches!(routes, Entry::Given(_, routes) if routes.iter().any(named));
    if word == "refuse" && !named {
        let problem = Problem::error(*span, "every host is unknown: no route has `hosts`");
        context
            .report(problem.hint("name the hosts that are served, as `hosts = [\"www.example.com\"]` in a [[route]]"));
    }
}

fn workers(context: &mut Context<'_>, entry: &Entry<Workers>) -> usize {
    let auto = context.processors().clamp(1, MOST_WORKERS);
    match context.take(entry) {
        Some((Workers::Count(count), span)) => {
            usize::try_from(*count).ok().filter(|count| (1..=MOST_WORKERS).contains(count)).unwrap_or_else(|| {
                let problem = Problem::error(span, format!("`workers` must be between 1 and {MOST_WORKERS}"));
                context.report(problem.hint("\"auto\" is one a processor"));
                auto
            })
        }
        Some((Workers::Word(word), span)) if word != "auto" => {
            let problem = Problem::error(span, format!("`{word}` is no value of `workers`"));
            context.report(problem.hint("write \"auto\", or a number without quotes"));
            auto
        }
        _ => auto,
    }
}

fn trusted_fields(context: &mut Context<'_>, raw: &raw::Server) -> TrustedFields {
    let words = [("x-forwarded", TrustedFields::XForwarded), ("forwarded", TrustedFields::Forwarded)];
    if let Some(span) = raw.trusted_fields.span().filter(|_| raw.trusted_proxies.is_absent()) {
        let problem = Problem::error(span, "`trusted_fields` means nothing without `trusted_proxies`");
        context.report(problem.hint("add `trusted_proxies = [\"10.0.0.0/8\"]`, the networks of the proxies in front"));
    }
    context.choice(&raw.trusted_fields, "trusted_fields", &words, TrustedFields::default())
}

/// What a client may take for itself and of what all share, and the default of every route's `body_bytes`.
pub(super) fn limits(
    context: &mut Context<'_>,
    entry: &Entry<raw::Limits>,
    proxies: &[IpNet],
) -> (serve::Limits, GuardSettings, u64) {
    let absent = raw::Limits::default();
    let raw = context.take(entry).map_or(&absent, |(table, _)| table);
    let default = serve::Limits::default();
    let limits = serve::Limits {
        // hyper's own floor for its read buffer is 8 KiB.
        header_bytes: context.number(&raw.header_bytes, "header_bytes", " bytes", 8192..=1 << 20, default.header_bytes),
        header_fields: context.number(&raw.header_fields, "header_fields", " fields", 8..=1000, default.header_fields),
        target_bytes: context.number(&raw.target_bytes, "target_bytes", " bytes", 256..=1 << 16, default.target_bytes),
        header_timeout: context.seconds(
            &raw.header_timeout_secs,
            "header_timeout_secs",
            0.1..=3600.0,
            default.header_timeout,
        ),
        idle_timeout: context.seconds(&raw.idle_timeout_secs, "idle_timeout_secs", 0.1..=86400.0, default.idle_timeout),
        body_timeout: context.seconds(&raw.body_timeout_secs, "body_timeout_secs", 0.1..=3600.0, default.body_timeout),
        body_rate: rate(context, &raw.min_body_bytes_per_sec, "min_body_bytes_per_sec", default.body_rate),
        write_rate: rate(context, &raw.min_write_bytes_per_sec, "min_write_bytes_per_sec", default.write_rate),
        write_timeout: context.seconds(
            &raw.write_timeout_secs,
            "write_timeout_secs",
            0.1..=3600.0,
            default.write_timeout,
        ),
        http2_streams: context.number(
            &raw.http2_streams,
            "http2_streams",
            " streams",
            1..=10_000,
            default.http2_streams,
        ),
        connections: context.number(&raw.connections, "connections", "", 1..=10_000_000, default.connections),
    };
    if limits.target_bytes > limits.header_bytes {
        let span = raw.target_bytes.span().or(raw.header_bytes.span());
        let message = format!("a target of {} bytes does not fit into {}", limits.target_bytes, limits.header_bytes);
        context.report(Problem::error(span, message).hint("`target_bytes` is at most `header_bytes`"));
    }
    let guard = guard(context, raw, proxies);
    (limits, guard, context.number(&raw.body_bytes, "body_bytes", " bytes", 0..=MOST_BODY_BYTES, BODY_BYTES))
}

fn rate(context: &mut Context<'_>, entry: &Entry<i64>, key: &str, default: u32) -> u32 {
    context.number(entry, key, " bytes a second", 0..=1 << 30, default)
}

fn guard(context: &mut Context<'_>, raw: &raw::Limits, proxies: &[IpNet]) -> GuardSettings {
    let default = GuardSettings::default();
    let (all, each) = (&raw.handshakes_per_sec, &raw.handshakes_per_address_sec);
    GuardSettings {
        connections: context.number(
            &raw.connections_per_address,
            "connections_per_address",
            "",
            0..=10_000_000,
            default.connections,
        ),
        handshakes_all: context.number(all, "handshakes_per_sec", " a second", 0..=1_000_000, default.handshakes_all),
        handshakes_each: context.number(
            each,
            "handshakes_per_address_sec",
            " a second",
            0..=1_000_000,
            default.handshakes_each,
        ),
        exempt: proxies.to_vec(),
    }
}

pub(super) fn log(context: &mut Context<'_>, entry: &Entry<raw::Log>) -> LogSettings {
    const LEVELS: [(&str, Level); 5] = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    const FORMATS: [(&str, LogFormat); 3] =
        [("auto", LogFormat::Auto), ("json", LogFormat::Json), ("text", LogFormat::Text)];
    let absent = raw::Log::default();
    let raw = context.take(entry).map_or(&absent, |(table, _)| table);
    LogSettings {
        level: context.choice(&raw.level, "level", &LEVELS, Level::INFO),
        format: context.choice(&raw.format, "format", &FORMATS, LogFormat::Auto),
        access: context.flag(&raw.access, true),
        access_file: context.text(&raw.access_file, "access_file").map(|(path, _)| context.path(path)),
    }
}
