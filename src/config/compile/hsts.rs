//! `hsts` of a listener: the value of `Strict-Transport-Security` (RFC 6797 section 6.1).

use http::HeaderValue;

use super::super::entry::Entry;
use super::super::problem::Problem;
use super::super::raw;
use super::context::Context;

const YEAR: u64 = 365 * 24 * 60 * 60;

pub(super) fn hsts(context: &mut Context<'_>, entry: &Entry<raw::Hsts>) -> Option<HeaderValue> {
    let (raw, _) = context.take(entry)?;
    let range = 0..=10 * i64::try_from(YEAR).unwrap_or(i64::MAX);
    let max_age = context.number(&raw.max_age_secs, "max_age_secs", " seconds", range, YEAR);
    let subdomains = context.flag(&raw.include_subdomains, false);
    let preload = context.flag(&raw.preload, false);
    if let Some(span) = raw.preload.span().filter(|_| preload && !(subdomains && max_age >= YEAR)) {
        let problem = Problem::error(span, "no browser takes this into its list");
        context.report(problem.hint(format!(
            "`preload` needs `include_subdomains = true` and `max_age_secs` of {YEAR} or more; https://hstspreload.org/ has the rest"
        )));
    }
    let more = [("; includeSubDomains", subdomains), ("; preload", preload)];
    let more: String = more.into_iter().filter_map(|(directive, wanted)| wanted.then_some(directive)).collect();
    HeaderValue::try_from(format!("max-age={max_age}{more}")).ok()
}
