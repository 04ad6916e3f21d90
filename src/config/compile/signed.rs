//! `signed_links`: with which secrets links are signed, and for how long one may be good.

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::raw;
use super::context::Context;
use super::secret;
use crate::auth::{LinkSettings, Secret};

const MAX_AGE_SECS: u64 = 7 * 24 * 60 * 60;
const MOST_SECRETS: usize = 4;

pub(super) fn signed_links(
    context: &mut Context<'_>,
    entry: &Entry<raw::SignedLinks>,
    label: &str,
) -> Option<LinkSettings> {
    let (raw, span) = context.take(entry)?;
    let max_age_secs = context.number(&raw.max_age_secs, "max_age_secs", " seconds", 60..=31_536_000, MAX_AGE_SECS);
    let hint =
        "write `secret = { env = \"NAME\" }`, or `secrets = [{ env = \"NEW\" }, { env = \"OLD\" }]` while they change";
    let found = match (raw.secret.span(), raw.secrets.span()) {
        (None, None) => {
            let message = format!("`signed_links` of {label} has no `secret`");
            context.report(Problem::error(span, message).hint(hint));
            return None;
        }
        (Some(first), Some(second)) => {
            let problem = Problem::error(second, "`secrets` beside `secret`").note(first, "`secret` is here");
            context.report(problem.hint(hint));
            return None;
        }
        (Some(_), None) => Vec::from_iter(secret::secret(context, &raw.secret, "secret")),
        (None, Some(_)) => secret::secrets(context, &raw.secrets, "secrets"),
    };
    check(context, &found);
    let secrets: Vec<Secret> = found.into_iter().map(|(secret, _)| secret).collect();
    (!secrets.is_empty()).then_some(LinkSettings { secrets, max_age_secs })
}

fn check(context: &mut Context<'_>, found: &[(Secret, Span)]) {
    for (index, (secret, span)) in found.iter().enumerate() {
        let (least, bytes) = (LinkSettings::LEAST_SECRET_BYTES, secret.expose().len());
        if bytes < least {
            let problem = Problem::error(*span, format!("this secret has {bytes} bytes: links need {least} at least"));
            context.report(problem.hint("make one: `openssl rand -base64 48`"));
        }
        if let Some((_, first)) = found.iter().take(index).find(|(other, _)| other == secret) {
            let problem = Problem::error(*span, "this secret is there twice").note(*first, "the first is here");
            context.report(problem.hint("remove the one or the other"));
        }
        if index == MOST_SECRETS {
            let problem = Problem::error(*span, format!("there are more than {MOST_SECRETS} secrets"));
            context.report(
                problem.hint("each is tried for a bad link: keep the newest, and those of links that are still good"),
            );
        }
    }
}
