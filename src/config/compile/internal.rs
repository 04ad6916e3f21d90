//! `auth = "internal"`: files that no client reaches by itself, and who may hand them out.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::shapes::Auth;
use super::super::spans::{RouteSpans, Spans};
use super::super::values::{Action, Config, Internal};
use super::context::Context;
use super::route::{Known, label, name_of, reference, route_spans};
use super::{files, path};
use crate::files::absolute;

pub(super) fn is_internal(raw: &raw::Route) -> bool {
    matches!(&raw.auth, Entry::Given(_, Auth::Word(word)) if word == "internal")
}

/// What stands on an internal route.
pub(super) fn internal(
    context: &mut Context<'_>,
    raw: &raw::Route,
    span: Span,
    known: &Known<'_>,
) -> Option<(Internal, RouteSpans)> {
    let label = label(raw);
    for (key, at) in meaningless(raw) {
        let problem = Problem::error(at, format!("`{key}` on an internal route, which answers nobody by itself"));
        context.report(problem.hint("say it on the route whose upstream hands the files out, or remove it"));
    }
    let missing = format!("{label} is internal and has no `files`");
    let hint = "add `files = { root = \"DIR\" }`: files are all that an upstream can hand out";
    let files = context.demand(&raw.files, span, &missing, hint);
    let site = files.and_then(|(files, span)| {
        for (key, at) in
            [("index", files.index.span()), ("fallback", files.fallback.span()), ("listing", files.listing.span())]
        {
            let Some(at) = at else { continue };
            let problem = Problem::error(at, format!("`{key}` on an internal route: what is handed out is a file"));
            context.report(problem.hint("remove it"));
        }
        files::files(context, files, &label, span, true)
    });
    let by =
        context.texts(&raw.handed_out_by, "handed_out_by", "leave the key out to let every upstream hand them out");
    let by: Vec<usize> =
        by.iter().filter_map(|(name, at)| reference(context, name, *at, "upstream", &known.upstreams)).collect();
    let handed_out_by = if raw.handed_out_by.is_absent() { (0..known.upstreams.len()).collect() } else { by };
    let missing = format!("{label} has no `path`");
    let hint = "add `path = \"/protected/\"`: X-Accel-Redirect names the files below it";
    let (path, path_span) = context.demand(&raw.path, span, &missing, hint)?;
    path::report(context, path, path_span);
    let internal = Internal { name: name_of(raw), path: path.as_str().into(), site: site?, handed_out_by };
    Some((internal, route_spans(raw, span, path_span)))
}

/// The keys that mean something only where clients ask.
fn meaningless(raw: &raw::Route) -> impl Iterator<Item = (&'static str, Span)> {
    [
        ("hosts", raw.hosts.span()),
        ("methods", raw.methods.span()),
        ("upstream", raw.upstream.span()),
        ("redirect", raw.redirect.span()),
        ("publish", raw.publish.span()),
        ("replace_prefix", raw.replace_prefix.span()),
        ("forward_claims", raw.forward_claims.span()),
        ("forward_all_claims", raw.forward_all_claims.span()),
        ("forward_token", raw.forward_token.span()),
        ("identity_token", raw.identity_token.span()),
        ("response_headers", raw.response_headers.span()),
        ("security_headers", raw.security_headers.span()),
        ("error_pages", raw.error_pages.span()),
        ("cors", raw.cors.span()),
        ("rate_limits", raw.rate_limits.span()),
        ("compress", raw.compress.span()),
        ("body_bytes", raw.body_bytes.span()),
        ("max_tunnels", raw.max_tunnels.span()),
        ("tunnel_idle_secs", raw.tunnel_idle_secs.span()),
        ("end_with_token", raw.end_with_token.span()),
    ]
    .into_iter()
    .filter_map(|(key, span)| Some((key, span?)))
}

/// What stands on internal routes alone.
pub(super) fn refuse_keys(context: &mut Context<'_>, raw: &raw::Route, label: &str) {
    if let Some(span) = raw.handed_out_by.span() {
        let problem =
            Problem::error(span, format!("`handed_out_by` beside another `auth` than \"internal\" on {label}"));
        context
            .report(problem.hint("clients ask for these files themselves: remove it, or write `auth = \"internal\"`"));
    }
}

/// Two roots of one path that one upstream may hand out have no winner.
pub(super) fn overlaps(context: &mut Context<'_>, internal: &[Internal], spans: &[RouteSpans]) {
    let prefix = |internal: &Internal| internal.path.trim_end_matches('/').to_owned();
    for (index, (this, at)) in internal.iter().zip(spans).enumerate() {
        let rival = |other: &&(&Internal, &RouteSpans)| {
            prefix(other.0) == prefix(this) && other.0.handed_out_by.iter().any(|by| this.handed_out_by.contains(by))
        };
        let earlier: Vec<_> = internal.iter().zip(spans).take(index).collect();
        if let Some((_, first)) = earlier.iter().find(rival) {
            let message =
                format!("the upstream of two internal routes would not know which of them `{}` is", this.path);
            let problem = Problem::error(at.path, message).note(first.path, "the other one is here");
            context.report(problem.hint("give them different paths, or different upstreams in `handed_out_by`"));
        }
    }
}

/// What is probably not as meant.
pub(super) fn doubts(config: &Config, spans: &Spans) -> Vec<Problem> {
    let mut doubts = Vec::new();
    for (internal, at) in config.internal.iter().zip(&spans.internal) {
        let name = &internal.name;
        let asked = |index: &usize| {
            let to = |action: &Action| matches!(action, Action::Upstream { upstream, .. } if upstream == index);
            config.routes.iter().any(|route| to(&route.action))
        };
        if !internal.handed_out_by.iter().any(asked) {
            let problem = Problem::warning(at.name, format!("nobody can hand out the files of `{name}`"));
            doubts.push(problem.hint("no route leads to an upstream that may: add one, or remove this route"));
        }
        let root = absolute(&internal.site.root);
        let open = config.routes.iter().find(|route| match &route.action {
            Action::Files(site) => route.auth.is_public() && root.starts_with(absolute(&site.root)),
            _ => false,
        });
        if let Some(open) = open {
            let message = format!("everybody gets the files of `{name}` from the public route `{}`", open.name);
            let hint = "give the one or the other another `root`, or demand a token there";
            doubts.push(Problem::warning(at.files_root.unwrap_or(at.name), message).hint(hint));
        }
    }
    doubts
}
