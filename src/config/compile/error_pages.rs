//! `error_pages`: which files are shown in place of the gateway's own failures.

use http::HeaderValue;

use super::super::entry::{Entry, Name, Named};
use super::super::problem::{Problem, Span};
use super::context::Context;
use crate::serve::ErrorPage;

/// A page is held in memory and read at every look at the configuration.
const MOST_BYTES: usize = 256 * 1024;
const MISSING: &str = "make the file, or take the status out: a path is relative to the directory of this file";

/// The pages of `[server]`.
pub(super) fn of(context: &mut Context<'_>, entry: &Entry<Named<String>>) -> Vec<ErrorPage> {
    let Some((table, span)) = context.take(entry) else { return Vec::new() };
    if table.0.is_empty() {
        let problem = Problem::error(span, "`error_pages` names no status");
        context.report(problem.hint("leave the key out to show none"));
    }
    table.0.iter().filter_map(|(status, path)| page(context, status, path)).collect()
}

/// Those of a route: its own, and those of `[server]` for the statuses it does not name.
pub(super) fn of_route(
    context: &mut Context<'_>,
    entry: &Entry<Named<String>>,
    others: &[ErrorPage],
) -> Vec<ErrorPage> {
    let mut pages = of(context, entry);
    let named: Vec<u16> = pages.iter().map(|page| page.status).collect();
    pages.extend(others.iter().filter(|page| !named.contains(&page.status)).cloned());
    pages
}

fn page(context: &mut Context<'_>, status: &Name, path: &Entry<String>) -> Option<ErrorPage> {
    let status = code(context, status);
    let (path, span) = context.take(path)?;
    let media_type = media_type(context, path, span);
    let body = context.read(path, span, MISSING)?;
    if body.len() > MOST_BYTES {
        let problem = Problem::error(span, format!("`{path}` is larger than {MOST_BYTES} bytes"));
        context.report(problem.hint("a page is kept in memory: leave pictures and styles to a route with `files`"));
    } else if body.is_empty() {
        let problem = Problem::error(span, format!("`{path}` is empty"));
        context.report(problem.hint("is it being written? Rename a finished file over it"));
    }
    Some(ErrorPage { status: status?, media_type: media_type?, body: body.into() })
}

/// 400 to 599 in three digits, so that no two keys are one status.
fn code(context: &mut Context<'_>, name: &Name) -> Option<u16> {
    let status = name.text.parse().ok().filter(|status| (400..=599).contains(status) && name.text.len() == 3);
    if status.is_none() {
        let problem = Problem::error(name.span, format!("`{}` is no status of a failure", name.text));
        context.report(problem.hint("write a number from 400 to 599, as in { 404 = \"404.html\" }"));
    }
    status
}

fn media_type(context: &mut Context<'_>, path: &str, span: Span) -> Option<HeaderValue> {
    let extension = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, extension)| extension);
    match extension {
        Some("html" | "htm") => Some(HeaderValue::from_static("text/html; charset=utf-8")),
        Some("txt") => Some(HeaderValue::from_static("text/plain; charset=utf-8")),
        Some("json") => Some(HeaderValue::from_static("application/json")),
        _ => {
            let problem = Problem::error(span, format!("what `{path}` holds can't be told from its name"));
            context.report(problem.hint("name the file .html, .txt or .json"));
            None
        }
    }
}
