//! `files = { .. }`: a directory to serve, and how.

use http::HeaderValue;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::{Context, bare};
use super::fields;
use crate::files::{ManifestSettings, SiteSettings, is_file_path};

const CACHE_FILE_BYTES: u64 = 64 * 1024;
const CACHE_TOTAL_BYTES: u64 = 64 * 1024 * 1024;

/// What caches are told by default: of names with a digest, and of the others beside them. As `WhiteNoise` has it, whose place this takes.
const PUBLIC: [HeaderValue; 2] =
    [HeaderValue::from_static("public, max-age=315360000, immutable"), HeaderValue::from_static("max-age=60, public")];
/// The same where not everybody may pass: `public` would open shared caches to what was asked for with a token (RFC 9111 section 3.5).
const GUARDED: [HeaderValue; 2] = [
    HeaderValue::from_static("private, max-age=315360000, immutable"),
    HeaderValue::from_static("max-age=60, private"),
];

pub(super) fn files(
    context: &mut Context<'_>,
    raw: &raw::Files,
    label: &str,
    span: Span,
    guarded: bool,
) -> Option<SiteSettings> {
    let index = if raw.index.is_absent() { vec!["index.html".into()] } else { index(context, &raw.index) };
    let listing = context.flag(&raw.listing, false);
    let cache_control = context
        .text(&raw.cache_control, "cache_control")
        .and_then(|(text, span)| fields::value_of(context, text, span));
    let [for_ever, a_minute] = if guarded { GUARDED } else { PUBLIC };
    let manifest =
        below_root(context, &raw.manifest, "manifest").map(|name| ManifestSettings { name, cache_control: for_ever });
    let cache_control = cache_control.or_else(|| manifest.is_some().then_some(a_minute));
    let cache_file_bytes =
        context.number(&raw.cache_file_bytes, "cache_file_bytes", " bytes", 0..=1 << 24, CACHE_FILE_BYTES);
    let cache_total_bytes =
        context.number(&raw.cache_total_bytes, "cache_total_bytes", " bytes", 0..=1 << 36, CACHE_TOTAL_BYTES);
    let fallback = below_root(context, &raw.fallback, "fallback");
    if let (true, Some(_), Some(span)) = (listing, &fallback, raw.listing.span()) {
        let problem = Problem::error(span, format!("`listing` beside `fallback` in {label}"));
        context.report(
            problem.hint("a directory without an index is either listed or the application's: remove one of the two"),
        );
    }
    let precompressed = context.flag(&raw.precompressed, true);
    let missing = format!("`files` of {label} has no `root`");
    let (root, span) = context.demand(&raw.root, span, &missing, "add `root = \"DIR\"`, relative to this file")?;
    if root.is_empty() {
        context
            .report(Problem::error(span, "`root` is empty").hint("name the directory; \".\" is the one of this file"));
    }
    let root = context.path(root);
    Some(SiteSettings {
        compress: None, // the route says it
        root,
        index,
        listing,
        cache_control,
        manifest,
        fallback,
        precompressed,
        cache_file_bytes,
        cache_total_bytes,
    })
}

/// The path of a file below the root, held to the rules of paths that clients ask for.
fn below_root(context: &mut Context<'_>, entry: &Entry<String>, key: &str) -> Option<Box<str>> {
    let (path, span) = context.text(entry, key)?;
    if !is_file_path(path) {
        let problem = Problem::error(span, format!("`{path}` is no path below `root`"));
        context.report(
            problem.hint(
                "write it as \"name\" or \"directory/name\", without `..`, leading dots and a slash at either end",
            ),
        );
    }
    Some(path.into())
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
