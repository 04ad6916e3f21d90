//! `[upstream.NAME]`.

use std::time::Duration;

use super::super::entry::{Entry, Name};
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::Endpoint;
use super::super::spans::UpstreamSpans;
use super::balance;
use super::context::Context;
use super::dns;
use super::health::{breaker, health, retry};
use super::hedge::hedge;
use super::queue;
use super::upstream_tls::upstream_tls;
use crate::http::SpoolSettings;
use crate::proxy_protocol;
use crate::upstream::{Address, Kind, Rank, UpstreamSettings, Wire};

const KINDS: [(&str, Kind); 5] = [
    ("gunicorn", Kind::Gunicorn),
    ("uwsgi", Kind::Uwsgi),
    ("daphne", Kind::Daphne),
    ("uvicorn", Kind::Uvicorn),
    ("http", Kind::Http),
];
const MAX_STREAMS: usize = 100;
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
const QUEUE: usize = 1024;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);
const READ_TIMEOUT: Duration = Duration::from_mins(1);
const SPOOL_MEMORY_BYTES: usize = 64 * 1024;
const SPOOL_BYTES: u64 = 1024 * 1024 * 1024;
const RESPONSE_MEMORY_BYTES: usize = 256 * 1024;
const MOST_MEMORY_BYTES: i64 = 1 << 24;
const MOST_DISK_BYTES: i64 = 1 << 40;

pub(super) fn upstream(
    context: &mut Context<'_>,
    name: &Name,
    raw: &raw::Upstream,
) -> (UpstreamSettings, UpstreamSpans) {
    let kind = context.choice(&raw.kind, "kind", &KINDS, Kind::default());
    let (endpoints, spans): (Vec<_>, Vec<Span>) = endpoints(context, name, &raw.endpoints).into_iter().unzip();
    let (endpoints, ranks): (Vec<Address>, Vec<Rank>) = endpoints.into_iter().unzip();
    let tls = upstream_tls(context, &raw.tls, &endpoints);
    let connections = &raw.max_connections;
    let queue_timeout = &raw.queue_timeout_secs;
    let connect = &raw.connect_timeout_secs;
    let response = &raw.response_timeout_secs;
    let read = &raw.read_timeout_secs;
    let spool = spool(context, raw);
    let max_connections: usize =
        context.number(connections, "max_connections", " connections", 1..=65_536, max_connections(kind));
    let max_streams: usize = context.number(&raw.max_streams, "max_streams", " streams", 1..=10_000, MAX_STREAMS);
    let is_shared = !endpoints.is_empty() && endpoints.iter().all(|address| address.wire == Wire::Http2);
    let carried = max_connections * if is_shared { max_streams } else { 1 };
    let response_timeout = context.seconds(response, "response_timeout_secs", 0.001..=86400.0, RESPONSE_TIMEOUT);
    let settings = UpstreamSettings {
        name: name.text.as_str().into(),
        kind,
        max_connections,
        queue_timeout: context.seconds(queue_timeout, "queue_timeout_secs", 0.001..=3600.0, QUEUE_TIMEOUT),
        connect_timeout: context.seconds(connect, "connect_timeout_secs", 0.001..=3600.0, CONNECT_TIMEOUT),
        response_timeout,
        read_timeout: context.seconds(read, "read_timeout_secs", 0.001..=86400.0, READ_TIMEOUT),
        queue: context.number(&raw.queue, "queue", " requests", 1..=1_000_000, QUEUE),
        keep_alive: context.seconds(&raw.keep_alive_secs, "keep_alive_secs", 0.0..=3600.0, kind.keep_alive()),
        max_streams,
        queue_order: queue::order(context, raw),
        concurrency: queue::concurrency(context, raw, carried),
        announce: announce(context, raw, &endpoints),
        health: health(context, raw, &endpoints),
        breaker: breaker(context, raw),
        retry: retry(context, raw),
        hedge: hedge(context, raw, &endpoints, response_timeout),
        request_start: context.flag(&raw.request_start, false),
        endpoints,
        ranks,
        balance: balance::balance(context, &raw.balance),
        slow_start: context.seconds(&raw.slow_start_secs, "slow_start_secs", 0.0..=3600.0, Duration::ZERO),
        tls,
        buffer_requests: context.flag(&raw.buffer_requests, kind.is_held_by_slow_clients()),
        buffer_responses: buffer_responses(context, raw, kind, &spool),
        spool,
    };
    refuse_an_idle_spool(context, raw, &settings);
    refuse_an_unknown_speaker(context, &settings, &spans);
    let (tls, spool_dir) = (raw.tls.span(), raw.spool_dir.span());
    let balance = raw.balance.span();
    (settings, UpstreamSpans { name: name.span, endpoints: spans, balance, tls, spool_dir })
}

fn spool(context: &mut Context<'_>, raw: &raw::Upstream) -> SpoolSettings {
    let memory = &raw.spool_memory_bytes;
    let named = context.text(&raw.spool_dir, "spool_dir").map(|(path, _)| path.to_owned());
    let directory = match named {
        Some(path) => context.path(&path),
        None => context.temporary_directory(),
    };
    SpoolSettings {
        directory,
        memory_bytes: context.number(memory, "spool_memory_bytes", " bytes", 0..=MOST_MEMORY_BYTES, SPOOL_MEMORY_BYTES),
        disk_bytes: context.number(&raw.spool_bytes, "spool_bytes", " bytes", 0..=MOST_DISK_BYTES, SPOOL_BYTES),
    }
}

/// Both kinds of files are in one directory, and have room of their own.
fn buffer_responses(
    context: &mut Context<'_>,
    raw: &raw::Upstream,
    kind: Kind,
    spool: &SpoolSettings,
) -> Option<SpoolSettings> {
    let (memory, disk) = (&raw.response_memory_bytes, &raw.response_disk_bytes);
    let settings = SpoolSettings {
        directory: spool.directory.clone(),
        memory_bytes: context.number(
            memory,
            "response_memory_bytes",
            " bytes",
            0..=MOST_MEMORY_BYTES,
            RESPONSE_MEMORY_BYTES,
        ),
        disk_bytes: context.number(disk, "response_disk_bytes", " bytes", 0..=MOST_DISK_BYTES, SPOOL_BYTES),
    };
    context.flag(&raw.buffer_responses, kind.is_held_by_slow_clients()).then_some(settings)
}

/// Who says how much is kept expects that something is.
fn refuse_an_idle_spool(context: &mut Context<'_>, raw: &raw::Upstream, settings: &UpstreamSettings) {
    if settings.endpoints.iter().all(Address::is_builtin) {
        return;
    }
    let requests = (settings.spools(), "no request body is kept", "add `buffer_requests = true`");
    let responses = (settings.buffer_responses.is_some(), "no response is kept", "add `buffer_responses = true`");
    let either = (requests.0 || responses.0, "nothing is kept", "add `buffer_requests` or `buffer_responses`");
    for (key, span, (kept, why, hint)) in [
        ("spool_memory_bytes", raw.spool_memory_bytes.span(), requests),
        ("spool_bytes", raw.spool_bytes.span(), requests),
        ("spool_dir", raw.spool_dir.span(), either),
        ("response_memory_bytes", raw.response_memory_bytes.span(), responses),
        ("response_disk_bytes", raw.response_disk_bytes.span(), responses),
    ] {
        let Some(span) = span.filter(|_| !kept) else { continue };
        context.report(Problem::error(span, format!("`{key}` means nothing here: {why}")).hint(hint));
    }
}

/// Two servers that speak uwsgi read one variable in two ways, so it must be said which of them it is.
fn refuse_an_unknown_speaker(context: &mut Context<'_>, settings: &UpstreamSettings, spans: &[Span]) {
    let mut all = settings.endpoints.iter().zip(spans);
    if matches!(settings.kind, Kind::Uwsgi | Kind::Gunicorn) {
        return;
    }
    if let Some((_, span)) = all.find(|(address, _)| address.wire == Wire::Uwsgi) {
        let problem = Problem::error(*span, "it is not said what speaks uwsgi here");
        context.report(
            problem.hint(
                "add `kind = \"uwsgi\"` or `kind = \"gunicorn\"`: Gunicorn decodes paths that uWSGI wants decoded",
            ),
        );
    }
}

/// Over HTTP/2 a connection is many clients', and uwsgi says in each request whose it is.
fn announce(context: &mut Context<'_>, raw: &raw::Upstream, endpoints: &[Address]) -> Option<proxy_protocol::Version> {
    let (_, span) = context.take(&raw.proxy_protocol)?;
    let versions = [("v1", Some(proxy_protocol::Version::V1)), ("v2", Some(proxy_protocol::Version::V2))];
    let version = context.choice(&raw.proxy_protocol, "proxy_protocol", &versions, None);
    if let Some(other) = endpoints.iter().find(|address| address.wire != Wire::Http1) {
        let problem = Problem::error(span, format!("`proxy_protocol` can't be sent to {other}"));
        context.report(problem.hint("it is for http, https and unix endpoints, whose connections can be one client's"));
    }
    version
}

/// Python application servers work on few requests at once; whatever else speaks HTTP rarely minds.
fn max_connections(kind: Kind) -> usize {
    match kind {
        Kind::Gunicorn | Kind::Uwsgi | Kind::Daphne | Kind::Uvicorn => 64,
        Kind::Http => 256,
    }
}

/// An endpoint, what it counts for, and where its address stands.
type Placed = ((Address, Rank), Span);

fn endpoints(context: &mut Context<'_>, name: &Name, entry: &Entry<Vec<Entry<Endpoint>>>) -> Vec<Placed> {
    let hint = "add `endpoints = [\"http://127.0.0.1:8000\"]`";
    if entry.is_absent() {
        context.report(Problem::error(name.span, format!("the upstream `{}` has no endpoints", name.text)).hint(hint));
    }
    let mut found: Vec<Placed> = Vec::new();
    for (endpoint, span) in context.list(entry, "endpoints", hint) {
        let Some(placed) = endpoint_at(context, endpoint, span) else { continue };
        let ((address, _), span) = &placed;
        if let Some((_, first)) = found.iter().find(|((known, _), _)| known == address) {
            let problem = Problem::error(*span, format!("{address} is twice in `endpoints`"));
            context.report(problem.note(*first, "the first is here"));
            continue;
        }
        found.push(placed);
    }
    if found.len() > 1
        && let Some((_, span)) = found.iter().find(|((address, _), _)| address.is_builtin())
    {
        let problem = Problem::error(*span, "builtin:whoami is no equal of the other endpoints");
        context.report(problem.hint("give it an upstream of its own"));
    }
    found
}

fn endpoint_at(context: &mut Context<'_>, endpoint: &Endpoint, span: Span) -> Option<Placed> {
    let (text, span, rank) = match endpoint {
        Endpoint::Url(text) => (text, span, Rank::default()),
        Endpoint::Table(table) => {
            let rank = balance::rank(context, table);
            let missing = "an endpoint without `url`";
            let (text, span) = context.demand(&table.url, span, missing, "add `url = \"http://127.0.0.1:8000\"`")?;
            if !table.resolve.is_absent() {
                let address = dns::resolved(context, table, (text, span))?;
                return Some(((address, rank), span));
            }
            (text, span, rank)
        }
    };
    match text.parse::<Address>() {
        Ok(address) => Some(((address, rank), span)),
        Err(error) => {
            let problem = Problem::error(span, format!("`{text}` is no endpoint"));
            context.report(problem.hint(advice(text, &error.to_string())));
            None
        }
    }
}

/// `127.0.0.1:8000` is what people write first; its "scheme" would be the address.
fn advice(text: &str, error: &str) -> String {
    let with_scheme = format!("http://{text}");
    if !text.contains('/')
        && !["unix:", "h2c+unix:", "uwsgi+unix:", "builtin:"].iter().any(|scheme| text.starts_with(scheme))
        && with_scheme.parse::<Address>().is_ok()
    {
        return format!("did you mean \"{with_scheme}\"?");
    }
    error.to_owned()
}
