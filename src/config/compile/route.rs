//! `[[route]]`: which requests it matches and who may pass. What it does is `action`'s, the fields it sets are `fields`'.

use http::Method;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::spans::RouteSpans;
use super::super::suggest;
use super::super::values::{Internal, Route};
use super::context::Context;
use super::server::MOST_BODY_BYTES;
use super::{
    action, auth, compress, cors, error_pages, fields, hosts, internal, overlap, path, rate_limit, security, tunnel,
};
use crate::auth::{Access, RouteAuth};
use crate::limit::LimitSettings;
use crate::serve::ErrorPage;

/// What routes may refer to.
pub(super) struct Known<'a> {
    /// Names of the issuers, in the order of `Config::issuers`.
    pub(super) issuers: Vec<&'a str>,
    /// Names of the upstreams, in the order of `Config::upstreams`.
    pub(super) upstreams: Vec<&'a str>,
    /// Names of the rate limits, in the order of `Config::rate_limits`.
    pub(super) rate_limits: Vec<&'a str>,
    /// Those of them that could be compiled.
    pub(super) limits: &'a [LimitSettings],
    /// Whether there is an `[identity]`.
    pub(super) identity: bool,
    /// `body_bytes` of `[limits]`.
    pub(super) body_bytes: u64,
    /// `error_pages` of `[server]`.
    pub(super) error_pages: Vec<ErrorPage>,
}

/// The routes that clients take, and those that no client takes.
#[derive(Default)]
pub(super) struct Routes {
    pub(super) taken: Vec<Route>,
    /// Parallel to `taken`.
    pub(super) spans: Vec<RouteSpans>,
    pub(super) internal: Vec<Internal>,
    /// Parallel to `internal`.
    pub(super) internal_spans: Vec<RouteSpans>,
}

pub(super) fn routes(context: &mut Context<'_>, entry: &Entry<Vec<Entry<raw::Route>>>, known: &Known<'_>) -> Routes {
    let mut all = Routes::default();
    let Some((tables, _)) = context.take(entry) else { return all };
    let mut routes: Vec<(Route, Span)> = Vec::new();
    let mut names: Vec<(&str, Span)> = Vec::new();
    for table in tables {
        let Some((raw, span)) = context.take(table) else { continue };
        if let Some((name, span)) = name(context, raw, span) {
            if let Some((_, first)) = names.iter().find(|(other, _)| *other == name) {
                let problem =
                    Problem::error(span, format!("two routes are named `{name}`")).note(*first, "the first is here");
                context.report(problem.hint("metrics and logs tell routes apart by their names"));
            }
            names.push((name, span));
        }
        if internal::is_internal(raw) {
            let (internal, spans) = internal::internal(context, raw, span, known).unzip();
            all.internal.extend(internal);
            all.internal_spans.extend(spans);
        } else if let Some((route, spans)) = route(context, raw, span, known) {
            routes.push((route, spans.path));
            all.spans.push(spans);
        }
    }
    internal::overlaps(context, &all.internal, &all.internal_spans);
    for problem in overlap::overlaps(&routes) {
        context.report(problem);
    }
    all.taken = routes.into_iter().map(|(route, _)| route).collect();
    all
}

fn name<'r>(context: &mut Context<'_>, raw: &'r raw::Route, span: Span) -> Option<(&'r str, Span)> {
    let hint = "add `name = \"...\"`: metrics and logs call the route by it";
    let (name, span) = context.demand(&raw.name, span, "this route has no `name`", hint)?;
    context.check_name(name, span);
    Some((name, span))
}

fn route(context: &mut Context<'_>, raw: &raw::Route, span: Span, known: &Known<'_>) -> Option<(Route, RouteSpans)> {
    let label = label(raw);
    internal::refuse_keys(context, raw, &label);
    let hosts = hosts::hosts(context, &raw.hosts);
    let methods = methods(context, &raw.methods);
    let auth = auth::auth(context, raw, &label, span, known);
    let guarded = auth.as_ref().is_none_or(|auth| !matches!(auth.read, Access::Public));
    let action = action::action(context, raw, &label, span, known, guarded);
    let forward = auth::forwarding(context, raw, auth.as_ref(), action.as_ref(), known);
    let response_headers = fields::response_headers(context, &raw.response_headers);
    let tunnels = tunnel::tunnels(context, raw);
    let default_headers = security::security_headers(context, &raw.security_headers);
    let error_pages = error_pages::of_route(context, &raw.error_pages, &known.error_pages);
    let cors = cors::cors(context, raw, &label, &methods, auth.as_ref());
    let compress = compress::compress(context, raw, &label);
    let rate_limits = rate_limit::of_route(context, raw, &label, auth.as_ref(), known);
    let body_bytes = context.number(&raw.body_bytes, "body_bytes", " bytes", 0..=MOST_BODY_BYTES, known.body_bytes);
    let missing = format!("{label} has no `path`");
    let (path, path_span) = context.demand(&raw.path, span, &missing, "add `path = \"/\"` to match every path")?;
    path::report(context, path, path_span);
    let spans = route_spans(raw, span, path_span);
    let auth = RouteAuth { forward, ..auth? };
    let path = path.as_str().into();
    let mut action = action?;
    compress::of_files(&mut action, compress.as_ref(), &response_headers);
    let route = Route {
        name: name_of(raw),
        hosts,
        path,
        methods,
        auth,
        action,
        response_headers,
        default_headers,
        error_pages,
        cors,
        compress,
        rate_limits,
        body_bytes,
        tunnels,
    };
    Some((route, spans))
}

pub(super) fn name_of(raw: &raw::Route) -> Box<str> {
    match &raw.name {
        Entry::Given(_, name) => name.as_str().into(),
        _ => Box::default(),
    }
}

pub(super) fn route_spans(raw: &raw::Route, span: Span, path: Span) -> RouteSpans {
    RouteSpans {
        name: raw.name.span().unwrap_or(span),
        path,
        files_root: files_key(raw, |files| &files.root),
        files_manifest: files_key(raw, |files| &files.manifest),
        publish: raw.publish.span(),
    }
}

/// How messages call a route, even one without a name.
pub(super) fn label(raw: &raw::Route) -> String {
    match &raw.name {
        Entry::Given(_, name) => format!("the route `{name}`"),
        _ => "this route".to_owned(),
    }
}

fn files_key(raw: &raw::Route, key: impl Fn(&raw::Files) -> &Entry<String>) -> Option<Span> {
    match &raw.files {
        Entry::Given(_, files) => key(files).span(),
        _ => None,
    }
}

fn methods(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<Method> {
    let names = context.texts(entry, "methods", "leave the key out to match any method");
    names.into_iter().filter_map(|(name, span)| method(context, &name, span)).collect()
}

pub(super) fn method(context: &mut Context<'_>, name: &str, span: Span) -> Option<Method> {
    let upper = name.to_ascii_uppercase();
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => {
            let problem = Problem::error(span, format!("{name} is never forwarded"));
            context.report(problem.hint("CONNECT and TRACE are always answered 405"));
            None
        }
        Ok(_) if *name != *upper => {
            let problem = Problem::error(span, format!("`{name}` is no method: they are case-sensitive"));
            context.report(problem.hint(format!("did you mean `{upper}`?")));
            None
        }
        Ok(method) => Some(method),
        Err(_) => {
            context.report(Problem::error(span, format!("`{name}` is no method")));
            None
        }
    }
}

/// An issuer to show in an example.
pub(super) fn any_issuer<'k>(known: &Known<'k>) -> &'k str {
    known.issuers.first().copied().unwrap_or("NAME")
}

/// The index of a table that another one names.
pub(super) fn reference(
    context: &mut Context<'_>,
    name: &str,
    span: Span,
    kind: &str,
    known: &[&str],
) -> Option<usize> {
    let found = known.iter().position(|known| *known == name);
    if found.is_none() {
        let problem = Problem::error(span, format!("there is no {kind} `{name}`"));
        let hint = suggest::hint(name, known.iter().copied()).unwrap_or_else(|| format!("add a table [{kind}.{name}]"));
        context.report(problem.hint(hint));
    }
    found
}
