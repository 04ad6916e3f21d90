//! `[revocation]`: where the list of revoked tokens comes from, and whether its file can be read as one.
//!
//! The entries themselves are not compiled: the list is read again by itself, without a new generation.

use std::path::Path;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::redis;
use crate::auth::{RevocationSettings, check_revocations};

const ENTRIES: usize = 1_000_000;

/// The settings of the list; `issuers` are the names of all `[issuer.NAME]`.
pub(super) fn revocation(
    context: &mut Context<'_>,
    entry: &Entry<raw::Revocation>,
    issuers: &[&str],
) -> Option<RevocationSettings> {
    let (table, span) = context.take(entry)?;
    let file = context.text(&table.file, "file");
    let journal = context.text(&table.journal, "journal");
    let shared = redis::shared(context, &table.shared);
    if table.file.is_absent() && table.journal.is_absent() && !shared {
        let hint = "name a `file` that you write, a `journal` that the admin listener keeps, or both";
        context.report(Problem::error(span, "[revocation] has neither `file` nor `journal`").hint(hint));
    }
    let settings = RevocationSettings {
        file: file.map(|(path, _)| context.path(path)),
        journal: journal.map(|(path, _)| context.path(path)),
        entries: context.number(&table.entries, "entries", "", 1..=10_000_000, ENTRIES),
        shared,
        issuers: issuers.iter().copied().map(Box::from).collect(),
    };
    if let (Some(one), Some(other), Some((_, span))) = (&settings.file, &settings.journal, journal)
        && one == other
    {
        let problem = Problem::error(span, "the journal is the watched file");
        context.report(problem.hint("the gateway writes the journal and you write the file: name two"));
    }
    if let (Some((_, span)), Some(path)) = (journal, &settings.journal) {
        home_of(context, path, span);
    }
    if let Some((path, span)) = file {
        contents(context, path, span, &settings);
    }
    Some(settings)
}

/// The journal is made when the gateway starts, but not its directory.
fn home_of(context: &mut Context<'_>, journal: &Path, span: Span) {
    let home = journal.parent().filter(|home| !home.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !context.is_directory(home) {
        let problem = Problem::error(span, format!("there is no directory {} for the journal", home.display()));
        context.report(problem.hint("create it, writable for the gateway alone"));
    }
}

fn contents(context: &mut Context<'_>, path: &str, span: Span, settings: &RevocationSettings) {
    let remedy = "create it, empty if nothing is revoked, and readable for the gateway";
    let Some(bytes) = context.read_list(path, span, remedy) else { return };
    let shown = context.path(path);
    let shown = shown.display();
    let summary = match check_revocations(&bytes) {
        Ok(summary) => summary,
        Err(fault) => {
            let message = format!("{shown}:{}: {}", fault.line, fault.fault);
            context.report(
                Problem::error(span, message)
                    .hint("one a line: `jti VALUE`, `sub VALUE before=UNIX` or `token SHA256`"),
            );
            return;
        }
    };
    if summary.entries > settings.entries {
        let message = format!("{shown} has {} revocations, and {} may be held", summary.entries, settings.entries);
        context.report(Problem::error(span, message).hint("raise `entries`, or drop those that have expired"));
    }
    for (line, issuer) in &summary.issuers {
        if !settings.issuers.contains(issuer) {
            let message = format!("{shown}:{line}: there is no [issuer.{issuer}], so this revokes nothing");
            context.report(Problem::warning(span, message).hint("leave `issuer=` out to revoke whoever issued it"));
        }
    }
}
