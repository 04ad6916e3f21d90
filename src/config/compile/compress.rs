//! `compress` of a route: which answers go out in a content coding, and in which.

use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue};

use super::super::problem::Problem;
use super::super::raw;
use super::super::shapes::Compress;
use super::super::suggest;
use super::super::values::Action;
use super::context::Context;
use crate::http::coding::Coding;
use crate::http::compress::{CompressSettings, MediaRange, MediaRanges};

const MOST_MIN_BYTES: i64 = 1 << 20;

pub(super) fn compress(context: &mut Context<'_>, raw: &raw::Route, label: &str) -> Option<CompressSettings> {
    let (shape, span) = context.take(&raw.compress)?;
    let settings = match shape {
        Compress::Flag(false) => return None,
        Compress::Flag(true) => CompressSettings::default(),
        Compress::Table(table) => of_table(context, table),
    };
    if !raw.redirect.is_absent() {
        let problem = Problem::error(span, format!("{label} compresses nothing: a redirect has no content"));
        context.report(problem.hint("leave `compress` out"));
    }
    Some(settings)
}

/// A site compresses its small files itself, once for all. It never sees the fields that forbid it, so they are looked for here.
pub(super) fn of_files(
    action: &mut Action,
    settings: Option<&CompressSettings>,
    response_headers: &[(HeaderName, HeaderValue)],
) {
    let Action::Files(site) = action else { return };
    let said = response_headers.iter().filter(|(name, _)| name == CACHE_CONTROL).map(|(_, value)| value);
    let forbids =
        |value: &HeaderValue| value.as_bytes().to_ascii_lowercase().windows(12).any(|part| part == b"no-transform");
    if !said.chain(&site.cache_control).any(forbids) {
        site.compress = settings.cloned();
    }
}

fn of_table(context: &mut Context<'_>, table: &raw::CompressTable) -> CompressSettings {
    let usual = CompressSettings::default();
    let codings = codings(context, table);
    let types = types(context, table);
    let min_bytes = context.number(&table.min_bytes, "min_bytes", " bytes", 1..=MOST_MIN_BYTES, usual.min_bytes);
    CompressSettings {
        codings: if codings.is_empty() { usual.codings } else { codings },
        min_bytes,
        types: if types.is_empty() { usual.types } else { MediaRanges::new(types) },
        with_cookies: context.flag(&table.with_cookies, usual.with_cookies),
    }
}

fn codings(context: &mut Context<'_>, table: &raw::CompressTable) -> Vec<Coding> {
    let mut codings = Vec::new();
    for (name, span) in context.texts(&table.codings, "codings", "leave the key out for all of them") {
        if let Some(coding) = Coding::ALL.into_iter().find(|coding| coding.name() == &*name) {
            codings.push(coding);
            continue;
        }
        let problem = Problem::error(span, format!("`{name}` is no coding that is made here"));
        let other = (&*name == "brotli").then(|| "write \"br\"".to_owned());
        let hint = other.or_else(|| suggest::hint(&name, Coding::ALL.map(Coding::name)));
        context.report(Problem { hint, ..problem });
    }
    codings
}

fn types(context: &mut Context<'_>, table: &raw::CompressTable) -> Vec<MediaRange> {
    let mut types = Vec::new();
    for (text, span) in context.texts(&table.types, "types", "leave the key out for the usual ones") {
        let Some(range) = MediaRange::parse(&text) else {
            let problem = Problem::error(span, format!("`{text}` is no media type"));
            context.report(problem.hint("write \"type/subtype\", \"type/*\" or \"type/*+suffix\", without parameters"));
            continue;
        };
        types.push(range);
    }
    types
}
