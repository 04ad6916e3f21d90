//! A secret: never written in the file itself, but in a variable or a file of its own.
//!
//! Owns the reading of it, and that no message quotes what may be the secret. Knows nothing of what it is for.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::shapes::SecretSource;
use super::context::Context;
use super::issuer::REMEDY;
use crate::auth::Secret;

/// The secret that `key` says the place of, and where that stands.
pub(super) fn secret(context: &mut Context<'_>, entry: &Entry<SecretSource>, key: &str) -> Option<(Secret, Span)> {
    let hint = format!("write `{key} = {{ env = \"NAME\" }}` or `{key} = {{ file = \"PATH\" }}`");
    // Whatever stands there instead of a table may be the secret itself: no message quotes it, no line shows it.
    if let Entry::Wrong(span, _) = entry {
        context.report(Problem::error(*span, "a secret is never written in this file").mask(*span).hint(hint));
        return None;
    }
    let (SecretSource(table), span) = context.take(entry)?;
    match (table.env.span(), table.file.span()) {
        (Some(_), None) => variable(context, &table.env, key),
        (None, Some(_)) => file(context, &table.file),
        (found, _) => {
            let message = if found.is_some() {
                format!("`{key}` has both `env` and `file`")
            } else {
                format!("`{key}` says neither `env` nor `file`")
            };
            context.report(Problem::error(span, message).hint(hint));
            None
        }
    }
}

/// The secrets of a list, the same way.
pub(super) fn secrets(
    context: &mut Context<'_>,
    entry: &Entry<Vec<Entry<SecretSource>>>,
    key: &str,
) -> Vec<(Secret, Span)> {
    if let Entry::Wrong(span, _) = entry {
        let hint = format!("write `{key} = [{{ env = \"NAME\" }}, ..]`");
        context.report(Problem::error(*span, "a secret is never written in this file").mask(*span).hint(hint));
        return Vec::new();
    }
    let Some((items, span)) = context.take(entry) else { return Vec::new() };
    if items.is_empty() {
        context
            .report(Problem::error(span, format!("`{key}` is an empty list")).hint("name a secret, or write `secret`"));
    }
    items.iter().filter_map(|item| secret(context, item, "secret")).collect()
}

fn variable(context: &mut Context<'_>, entry: &Entry<String>, key: &str) -> Option<(Secret, Span)> {
    let (name, span) = context.text(entry, "env")?;
    let value = context.variable(name);
    let problem = match &value {
        None => Some(format!("the environment variable `{name}` is not set")),
        Some(value) if value.is_empty() => Some(format!("the environment variable `{name}` is empty")),
        Some(_) => None,
    };
    if let Some(message) = problem {
        context.report(Problem::error(span, message).hint(format!(
            "set it where the gateway is started (systemd: EnvironmentFile=, Kubernetes: secretKeyRef), or use `{key} = {{ file = \"PATH\" }}`"
        )));
        return None;
    }
    Some((Secret::new(value?), span))
}

fn file(context: &mut Context<'_>, entry: &Entry<String>) -> Option<(Secret, Span)> {
    let (path, span) = context.text(entry, "file")?;
    let mut bytes = context.read(path, span, REMEDY)?;
    // Editors and `echo` end the last line; that newline is no part of any secret.
    if bytes.ends_with(b"\n") {
        bytes.pop();
        if bytes.ends_with(b"\r") {
            bytes.pop();
        }
    }
    if bytes.is_empty() {
        context.report(Problem::error(span, format!("the secret file {path} is empty")).hint("put the secret there"));
        return None;
    }
    Some((Secret::new(bytes), span))
}
