//! `files = { .. }`: a directory to serve, and how.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::{Context, bare};
use super::fields;
use crate::files::SiteSettings;

const CACHE_FILE_BYTES: u64 = 64 * 1024;
const CACHE_TOTAL_BYTES: u64 = 64 * 1024 * 1024;

pub(super) fn files(context: &mut Context<'_>, raw: &raw::Files, label: &str, span: Span) -> Option<SiteSettings> {
    let index = if raw.index.is_absent() { vec!["index.html".into()] } else { index(context, &raw.index) };
    let cache_control = context
        .text(&raw.cache_control, "cache_control")
        .and_then(|(text, span)| fields::value_of(context, text, span));
    let cache_file_bytes =
        context.number(&raw.cache_file_bytes, "cache_file_bytes", " bytes", 0..=1 << 24, CACHE_FILE_BYTES);
    let cache_total_bytes =
        context.number(&raw.cache_total_bytes, "cache_total_bytes", " bytes", 0..=1 << 36, CACHE_TOTAL_BYTES);
    let precompressed = context.flag(&raw.precompressed, true);
    let missing = format!("`files` of {label} has no `root`");
    let (root, span) = context.demand(&raw.root, span, &missing, "add `root = \"DIR\"`, relative to this file")?;
    if root.is_empty() {
        context
            .report(Problem::error(span, "`root` is empty").hint("name the directory; \".\" is the one of this file"));
    }
    let root = context.path(root);
    Some(SiteSettings { root, index, cache_control, precompressed, cache_file_bytes, cache_total_bytes })
}

fn index(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<Box<str>> {
    let names = context.texts(entry, "index", "leave the key out for [\"index.html\"]");
    for (name, span) in &names {
        if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
            let problem = Problem::error(*span, format!("`{name}` is no file name"));
            context.report(problem.hint("write names like \"index.html\", without directories and leading dots"));
        }
    }
    bare(names)
}
