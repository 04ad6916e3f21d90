//! URLs that are told to clients: where to log in, and where a resource's metadata is.

use super::super::entry::Entry;
use super::super::problem::Problem;
use super::context::Context;

/// Stands for the page a browser wanted.
const PAGE: &str = "{url}";

/// RFC 9728 section 3: an https URL.
pub(super) fn resource_metadata(context: &mut Context<'_>, entry: &Entry<String>) -> Option<Box<str>> {
    let (url, span) = context.text(entry, "resource_metadata")?;
    if !is_https(url) {
        let problem = Problem::error(span, format!("`{url}` is no https URL"));
        context.report(problem.hint("as in \"https://api.example.com/.well-known/oauth-protected-resource\""));
    }
    Some(url.into())
}

pub(super) fn login_url(context: &mut Context<'_>, entry: &Entry<String>) -> Option<Box<str>> {
    let (url, span) = context.text(entry, "login_url")?;
    let fixed = url.replacen(PAGE, "", 1);
    let local = fixed.starts_with('/') && !fixed.starts_with("//") && is_visible(&fixed) && !url.starts_with("/{url}");
    // What a client wanted to see can be no part of the host's name.
    let host = url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
    let elsewhere = is_https(&fixed) && !host.is_empty() && !host.contains('{');
    if !local && !elsewhere {
        let problem = Problem::error(span, format!("`{url}` is no place to send a browser to"));
        context.report(problem.hint(
            "start with one `/`, or with `https://` and a host; write spaces, quotes and the like percent-encoded",
        ));
    } else if fixed.contains(['{', '}']) {
        context.report(
            Problem::error(span, "the only placeholder here is `{url}`, once")
                .hint("it is filled in percent-encoded, as in \"/login?next={url}\""),
        );
    }
    Some(url.into())
}

pub(super) fn is_https(url: &str) -> bool {
    url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', '?', '#']))
        && is_visible(url)
}

fn is_visible(url: &str) -> bool {
    url.bytes().all(|byte| matches!(byte, b'!'..=b'~') && !matches!(byte, b'"' | b'\\'))
}
