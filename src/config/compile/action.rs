//! What a route does: exactly one of `upstream`, `files`, `redirect` and `publish`.

use http::StatusCode;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::super::values::Action;
use super::context::Context;
use super::files::files;
use super::path;
use super::publish::publication;
use super::route::{Known, reference};

const PLACEHOLDERS: [&str; 3] = ["host", "path", "query"];
const ONE_OF: &str = "give exactly one of `upstream = \"NAME\"`, `files = { root = \"DIR\" }`, `redirect = { to = \"/...\" }` and \
                      `publish = \"jwks\"`";

pub(super) fn action(
    context: &mut Context<'_>,
    raw: &raw::Route,
    label: &str,
    span: Span,
    known: &Known<'_>,
    guarded: bool,
) -> Option<Action> {
    exactly_one(context, raw, label, span);
    let replace_prefix = replace_prefix(context, raw);
    let upstream = context
        .take(&raw.upstream)
        .and_then(|(name, span)| reference(context, name, span, "upstream", &known.upstreams))
        .map(|upstream| Action::Upstream { upstream, replace_prefix });
    let files = context.take(&raw.files).and_then(|(raw, span)| files(context, raw, label, span, guarded));
    let redirect = context.take(&raw.redirect).and_then(|(raw, span)| redirect(context, raw, label, span));
    let publish = context.take(&raw.publish).and_then(|(raw, span)| publication(context, raw, label, span, known));
    upstream.or(files.map(Action::Files)).or(redirect).or(publish.map(Action::Publish))
}

fn exactly_one(context: &mut Context<'_>, raw: &raw::Route, label: &str, span: Span) {
    let given = [
        ("upstream", raw.upstream.span()),
        ("files", raw.files.span()),
        ("redirect", raw.redirect.span()),
        ("publish", raw.publish.span()),
    ];
    let mut given = given.into_iter().filter_map(|(key, span)| Some((key, span?)));
    let Some((key, first)) = given.next() else {
        context.report(Problem::error(span, format!("{label} does nothing")).hint(ONE_OF));
        return;
    };
    for (other, at) in given {
        let problem = Problem::error(at, format!("`{other}` beside `{key}`: {label} can do one thing only"));
        context.report(problem.note(first, format!("`{key}` is here")).hint(ONE_OF));
    }
}

fn replace_prefix(context: &mut Context<'_>, raw: &raw::Route) -> Option<Box<str>> {
    let (text, span) = context.take(&raw.replace_prefix)?;
    if raw.upstream.is_absent() {
        let problem = Problem::error(span, "`replace_prefix` on a route that forwards nothing");
        context.report(problem.hint("only what is sent to an `upstream` has a path to replace"));
    }
    path::report(context, text, span);
    Some(text.as_str().into())
}

fn redirect(context: &mut Context<'_>, raw: &raw::Redirect, label: &str, span: Span) -> Option<Action> {
    let status = status(context, &raw.status);
    let missing = format!("`redirect` of {label} has no `to`");
    let (to, span) = context.demand(&raw.to, span, &missing, "add `to = \"/...\"` or `to = \"https://...\"`")?;
    if let Err((message, hint)) = check_location(to) {
        context.report(Problem::error(span, message).hint(hint));
    }
    Some(Action::Redirect { to: to.as_str().into(), status })
}

fn status(context: &mut Context<'_>, entry: &Entry<i64>) -> StatusCode {
    let known = [
        StatusCode::MOVED_PERMANENTLY,
        StatusCode::FOUND,
        StatusCode::TEMPORARY_REDIRECT,
        StatusCode::PERMANENT_REDIRECT,
    ];
    let Some((number, span)) = context.take(entry) else { return StatusCode::PERMANENT_REDIRECT };
    known.into_iter().find(|status| i64::from(status.as_u16()) == *number).unwrap_or_else(|| {
        let problem = Problem::error(span, format!("{number} is no redirect this gateway sends"));
        let hint = "308 is permanent and 307 temporary, both keep the method; 301 and 302 may turn POST into GET";
        context.report(problem.hint(hint));
        StatusCode::PERMANENT_REDIRECT
    })
}

/// What comes before the first placeholder decides where the client is sent, so a request can never choose the site, except
/// for its own `{host}`.
fn check_location(to: &str) -> Result<(), (String, String)> {
    let host_first = ["https://", "http://"].iter().find_map(|scheme| to.strip_prefix(scheme));
    let absolute = host_first.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']));
    let local = to.starts_with('/') && !to.starts_with("//") && !to.starts_with("/{path}");
    if !absolute && !local {
        let message = format!("`{to}` is no place to redirect to");
        return Err((
            message,
            "start with one `/`, or with `https://` and a host (`{host}` is the request's own)".into(),
        ));
    }
    if host_first.is_some_and(|rest| rest.starts_with("{path}") || rest.starts_with("{query}")) {
        return Err((
            "the request would choose the host".into(),
            "write the host, or `{host}` for the request's own".into(),
        ));
    }
    if !to.bytes().all(|byte| matches!(byte, b'!'..=b'~')) {
        return Err((format!("`{to}` is no URL"), "use printable ASCII; encode everything else with %".into()));
    }
    placeholders(to)
}

fn placeholders(to: &str) -> Result<(), (String, String)> {
    let known = "known: {host}, {path} and {query}, which brings its own question mark".to_owned();
    let mut pieces = to.split('{');
    if pieces.next().is_some_and(|before| before.contains('}')) {
        return Err((format!("a `}}` without `{{` in `{to}`"), known));
    }
    for piece in pieces {
        let Some((name, after)) = piece.split_once('}') else {
            return Err((format!("a `{{` without `}}` in `{to}`"), known));
        };
        if !PLACEHOLDERS.contains(&name) || after.contains('}') {
            return Err((format!("`{{{name}}}` is no placeholder"), known));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_a_request_cannot_choose_pass() {
        for to in [
            "/",
            "/new/",
            "/new{path}{query}",
            "https://{host}{path}{query}",
            "https://example.com/?a=b",
            "http://a:81/",
        ] {
            assert_eq!(check_location(to), Ok(()), "{to}");
        }
    }

    #[test]
    fn open_and_broken_redirects_are_refused() {
        for to in [
            "",
            "x",
            "//evil",
            "{path}",
            "/{path}",
            "https://",
            "https:///x",
            "https://{path}",
            "ftp://a/",
            "/a b",
            "/\r\nX: y",
            "/{user}",
            "/{path",
            "/path}",
            "/{host}}",
            "javascript:alert(1)",
        ] {
            assert!(check_location(to).is_err(), "{to}");
        }
    }
}
