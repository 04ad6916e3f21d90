//! `introspection` of `[issuer.NAME]`: where the issuer is asked about tokens, and by whom.

use std::time::Duration;

use super::super::problem::Problem;
use super::super::raw;
use super::context::Context;
use super::fetch;
use super::secret::secret;
use crate::auth::IntrospectionSettings;
use crate::fetch::FetchSettings;

const CACHE_SECS: u64 = 60;

/// How the issuer is asked, where it is; `None` too where what was written is not good, which was reported.
pub(super) fn introspection(context: &mut Context<'_>, raw: &raw::Issuer) -> Option<IntrospectionSettings> {
    let common = if raw.introspection.is_absent() { FetchSettings::default() } else { fetch::settings(context, raw) };
    let (table, span) = context.take(&raw.introspection)?;
    out_of_place(context, raw);
    for (key, absent, hint) in [
        ("url", table.url.is_absent(), "add the issuer's introspection endpoint: `url = \"https://HOST/PATH\"`"),
        ("client_id", table.client_id.is_absent(), "add what the issuer calls this gateway: `client_id = \"NAME\"`"),
        (
            "client_secret",
            table.client_secret.is_absent(),
            "add `client_secret = { env = \"NAME\" }` or `{ file = \"PATH\" }`",
        ),
    ] {
        if absent {
            context.report(Problem::error(span, format!("`introspection` has no `{key}`")).hint(hint));
        }
    }
    let url = context.text(&table.url, "url");
    let id = context.text(&table.client_id, "client_id").map(|(id, _)| id);
    let secret = secret(context, &table.client_secret, "client_secret").map(|(secret, _)| secret);
    let cache = context.number(&table.cache_secs, "cache_secs", " seconds", 0..=3600, CACHE_SECS);
    let url = url.and_then(|(url, span)| fetch::location(context, url, span, "url", &common));
    let settings = IntrospectionSettings::new(url?, id?, secret?);
    let fetch = FetchSettings { max_bytes: settings.fetch.max_bytes, ..common };
    Some(IntrospectionSettings { cache: Duration::from_secs(cache), fetch, ..settings })
}

/// What is said of signatures and headers means nothing for a token that has neither.
fn out_of_place(context: &mut Context<'_>, raw: &raw::Issuer) {
    for (key, span) in [("algorithms", raw.algorithms.span()), ("token_types", raw.token_types.span())] {
        if let Some(span) = span {
            let problem = Problem::error(span, format!("`{key}` beside `introspection`, which looks at no signature"));
            context.report(problem.hint("remove it: what the issuer's answer must say goes into `require`"));
        }
    }
}
