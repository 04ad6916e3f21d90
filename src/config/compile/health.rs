//! `eject`, `panic_share`, `probe`, `breaker` and `retry` of `[upstream.NAME]`.

use std::time::Duration;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::Eject;
use super::super::suggest;
use super::context::Context;
use crate::upstream::{
    Address, BreakerSettings, EjectSettings, HealthSettings, LatencySettings, ProbeSettings, Question, RetrySettings,
    Wire,
};

const PANIC_SHARE: f64 = 0.3;
const BODY_BYTES: u64 = 64 * 1024;
/// No more of a body is kept in memory, whatever keeps it.
const MOST_BODY_BYTES: i64 = 1 << 24;
const KINDS: [(&str, Asking); 3] = [("http", Asking::Http), ("tcp", Asking::Tcp), ("grpc", Asking::Grpc)];
const REASONS: [&str; 5] = ["connect", "reset", "502", "503", "504"];
/// The longest name of a gRPC service: its length has one byte in the question.
const LONGEST_SERVICE: usize = 127;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Http,
    Tcp,
    Grpc,
}

pub(super) fn health(context: &mut Context<'_>, raw: &raw::Upstream, endpoints: &[Address]) -> HealthSettings {
    let eject = eject(context, raw, endpoints);
    let probe = context.take(&raw.probe).map(|(table, span)| probe(context, table, span, endpoints));
    let probe = probe.filter(|_| endpoints.iter().any(|address| !address.is_builtin()));
    if let Some(span) = raw.panic_share.span().filter(|_| is_alone(endpoints)) {
        let problem = Problem::error(span, "`panic_share` means nothing here: there is one endpoint");
        context.report(problem.hint("leave it out: one endpoint alone is always used"));
    }
    let panic_share = context.share(&raw.panic_share, "panic_share", 0.0..=1.0, PANIC_SHARE);
    HealthSettings { eject, panic_share, probe }
}

/// Whether there is nothing to choose between. Who tries the keys out before the built-in endpoint knows.
pub(super) fn is_alone(endpoints: &[Address]) -> bool {
    endpoints.len() == 1 && !endpoints[0].is_builtin() && !endpoints[0].is_name()
}

fn eject(context: &mut Context<'_>, raw: &raw::Upstream, endpoints: &[Address]) -> Option<EjectSettings> {
    let usual = raw::Eject::default();
    let (table, span) = match context.take(&raw.eject) {
        Some((Eject::Flag(false), _)) => return None,
        Some((Eject::Flag(true), span)) => (&usual, Some(span)),
        Some((Eject::Table(table), span)) => (&**table, Some(span)),
        None => (&usual, None),
    };
    if let Some(span) = span.filter(|_| is_alone(endpoints)) {
        let problem = Problem::error(span, "`eject` means nothing here: there is one endpoint");
        context.report(problem.hint("leave it out: one endpoint alone is always used"));
    }
    let base = context.seconds(&table.base_secs, "base_secs", 0.1..=3600.0, Duration::from_secs(10));
    let max = context.seconds(&table.max_secs, "max_secs", 0.1..=86400.0, Duration::from_mins(5).max(base));
    if let Some(span) = table.max_secs.span().filter(|_| max < base) {
        context.report(Problem::error(span, "`max_secs` is shorter than `base_secs`"));
    }
    Some(EjectSettings {
        consecutive: context.number(&table.consecutive, "consecutive", " failures", 1..=1_000_000, 5),
        error_share: context.share(&table.error_share, "error_share", 0.01..=1.0, 0.5),
        min_requests: context.number(&table.min_requests, "min_requests", " requests", 1..=1_000_000, 20),
        window: context.seconds(&table.window_secs, "window_secs", 0.1..=3600.0, Duration::from_secs(10)),
        base,
        max,
        max_share: context.share(&table.max_share, "max_share", 0.0..=1.0, 0.5),
        statuses: statuses(context, &table.status, 500, "leave it out to count no answer as a failure"),
        latency: latency(context, table, endpoints),
    })
}

fn latency(context: &mut Context<'_>, table: &raw::Eject, endpoints: &[Address]) -> Option<LatencySettings> {
    let factor = context.share(&table.latency_factor, "latency_factor", 1.5..=1000.0, 3.0);
    let least: u64 = context.number(&table.latency_min_ms, "latency_min_ms", " milliseconds", 1..=3_600_000, 50);
    let few = endpoints.len() < 3 && !endpoints.iter().any(|address| address.is_builtin() || address.is_name());
    if let Some(span) = table.latency_factor.span().filter(|_| few) {
        let problem = Problem::error(span, "`latency_factor` means nothing here: there are fewer than three endpoints");
        context.report(problem.hint("leave it out: of two endpoints nobody knows which is the odd one"));
    }
    if let Some(span) = table.latency_min_ms.span().filter(|_| table.latency_factor.is_absent()) {
        let problem = Problem::error(span, "`latency_min_ms` means nothing here: slow endpoints are used");
        context.report(problem.hint("add `latency_factor = 3`"));
    }
    let settings = LatencySettings { factor, least: Duration::from_millis(least) };
    (!table.latency_factor.is_absent()).then_some(settings)
}

fn probe(context: &mut Context<'_>, table: &raw::Probe, span: Span, endpoints: &[Address]) -> ProbeSettings {
    let kind = context.choice(&table.kind, "kind", &KINDS, Asking::Http);
    refuse_who_cannot_be_asked(context, kind, span, endpoints);
    for (key, at, belongs) in [
        ("path", table.path.span(), kind == Asking::Http),
        ("status", table.status.span(), kind == Asking::Http),
        ("body", table.body.span(), kind == Asking::Http),
        ("host", table.host.span(), kind != Asking::Tcp),
        ("service", table.service.span(), kind == Asking::Grpc),
    ] {
        if let Some(at) = at.filter(|_| !belongs) {
            context.report(Problem::error(at, format!("`{key}` means nothing to a probe of this kind")));
        }
    }
    let host = context.text(&table.host, "host").and_then(|(host, span)| {
        if host.parse::<http::uri::Authority>().is_ok_and(|authority| !authority.as_str().contains('@')) {
            return Some(host.into());
        }
        context.report(Problem::error(span, format!("`{host}` is no host")).hint("write NAME or NAME:PORT"));
        None
    });
    let question = match kind {
        Asking::Tcp => Question::Tcp,
        Asking::Http => ask_http(context, table, span, host),
        Asking::Grpc => {
            let named = context.text(&table.service, "service");
            if let Some((_, span)) = named.filter(|(name, _)| name.len() > LONGEST_SERVICE) {
                context.report(Problem::error(span, format!("`service` is longer than {LONGEST_SERVICE} bytes")));
            }
            Question::Grpc { service: named.map_or_else(Box::default, |(name, _)| name.into()), host }
        }
    };
    ProbeSettings {
        question,
        interval: context.seconds(&table.interval_secs, "interval_secs", 0.1..=3600.0, Duration::from_secs(5)),
        timeout: context.seconds(&table.timeout_secs, "timeout_secs", 0.01..=60.0, Duration::from_secs(2)),
        healthy_after: context.number(&table.healthy_after, "healthy_after", " probes", 1..=100, 2),
        unhealthy_after: context.number(&table.unhealthy_after, "unhealthy_after", " probes", 1..=100, 3),
    }
}

fn ask_http(context: &mut Context<'_>, table: &raw::Probe, span: Span, host: Option<Box<str>>) -> Question {
    let hint = "add `path = \"/healthz\"`, or `kind = \"tcp\"` for a connection alone";
    let path = context.demand(&table.path, span, "it is not said which path is asked for", hint);
    let path = path.map_or("/", |(path, span)| {
        let is_target = path.starts_with('/') && path.parse::<http::uri::PathAndQuery>().is_ok();
        if !is_target || path.contains('#') {
            let problem = Problem::error(span, format!("`{path}` is no path"));
            context.report(problem.hint("write it as in a request: it begins with `/`, and other bytes are escaped"));
        }
        path
    });
    let statuses = statuses(context, &table.status, 200, "leave it out for 200");
    let statuses = if statuses.is_empty() { [200].into() } else { statuses };
    let body = context.text(&table.body, "body").map(|(body, _)| body.into());
    Question::Http { path: path.into(), host, statuses, body }
}

/// uwsgi has no question of its own, and gRPC is spoken over HTTP/2 alone.
fn refuse_who_cannot_be_asked(context: &mut Context<'_>, kind: Asking, span: Span, endpoints: &[Address]) {
    let odd = endpoints.iter().filter(|address| !address.is_builtin()).find(|address| match kind {
        Asking::Tcp => false,
        Asking::Http => address.wire == Wire::Uwsgi,
        Asking::Grpc => address.wire != Wire::Http2,
    });
    let Some(odd) = odd else { return };
    let (message, hint) = if kind == Asking::Grpc {
        (format!("{odd} can't be asked by gRPC"), "it is for h2, h2c and h2c+unix endpoints")
    } else {
        (format!("{odd} can't be asked by a GET"), "write `kind = \"tcp\"`: a uwsgi endpoint is asked for a connection")
    };
    context.report(Problem::error(span, message).hint(hint));
}

pub(super) fn breaker(context: &mut Context<'_>, raw: &raw::Upstream) -> Option<BreakerSettings> {
    let (table, _) = context.take(&raw.breaker)?;
    Some(BreakerSettings {
        error_share: context.share(&table.error_share, "error_share", 0.01..=1.0, 0.5),
        min_requests: context.number(&table.min_requests, "min_requests", " requests", 1..=1_000_000, 20),
        window: context.seconds(&table.window_secs, "window_secs", 0.1..=3600.0, Duration::from_secs(10)),
        open: context.seconds(&table.open_secs, "open_secs", 0.1..=3600.0, Duration::from_secs(5)),
        probes: context.number(&table.probes, "probes", " requests", 1..=1000, 3),
        statuses: statuses(context, &table.status, 500, "leave it out to count no answer as a failure"),
    })
}

pub(super) fn retry(context: &mut Context<'_>, raw: &raw::Upstream) -> RetrySettings {
    let usual = raw::Retry::default();
    let table = context.take(&raw.retry).map_or(&usual, |(table, _)| table);
    let mut on: Vec<Box<str>> = Vec::new();
    for (word, span) in context.texts(&table.on, "on", "write `attempts = 1` to try nothing again") {
        if REASONS.contains(&&*word) {
            on.push(word);
            continue;
        }
        let problem = Problem::error(span, format!("`{word}` is no reason to try again"));
        let hint = suggest::hint(&word, REASONS);
        context.report(Problem { hint, ..problem });
    }
    let given = !table.on.is_absent();
    let has = |word: &str| on.iter().any(|known| **known == *word);
    let backoff: u64 = context.number(&table.backoff_ms, "backoff_ms", " milliseconds", 0..=10_000, 5);
    let one = &table.try_timeout_secs;
    let try_timeout = context.seconds(one, "try_timeout_secs", 0.001..=86400.0, Duration::ZERO);
    RetrySettings {
        attempts: context.number(&table.attempts, "attempts", " tries", 1..=10, 3),
        budget_share: context.share(&table.budget_share, "budget_share", 0.0..=1.0, 0.2),
        budget_min: context.number(&table.budget_min, "budget_min", " requests", 0..=10_000, 3),
        backoff: Duration::from_millis(backoff),
        try_timeout: (!one.is_absent()).then_some(try_timeout),
        body_bytes: context.number(&table.body_bytes, "body_bytes", " bytes", 0..=MOST_BODY_BYTES, BODY_BYTES),
        on_connect: !given || has("connect"),
        on_reset: !given || has("reset"),
        statuses: on.iter().filter_map(|word| word.parse().ok()).collect(),
    }
}

/// Statuses from `least` to 599.
fn statuses(context: &mut Context<'_>, entry: &Entry<Vec<Entry<i64>>>, least: u16, without: &str) -> Box<[u16]> {
    let mut statuses = Vec::new();
    for (number, span) in context.list(entry, "status", without) {
        match u16::try_from(*number).ok().filter(|status| (least..600).contains(status)) {
            Some(status) => statuses.push(status),
            None => context.report(Problem::error(span, format!("a status here is between {least} and 599"))),
        }
    }
    statuses.into()
}
