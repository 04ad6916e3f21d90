//! `hedge` of `[upstream.NAME]`.

use std::time::Duration;

use super::super::problem::Problem;
use super::super::raw;
use super::context::Context;
use super::health::is_alone;
use crate::upstream::Address;

const HINT: &str = "add `after_ms = 50`, or what nearly all answers take";

pub(super) fn hedge(
    context: &mut Context<'_>,
    raw: &raw::Upstream,
    endpoints: &[Address],
    response_timeout: Duration,
) -> Option<Duration> {
    let (table, span) = context.take(&raw.hedge)?;
    if is_alone(endpoints) {
        let problem = Problem::error(span, "`hedge` means nothing here: there is one endpoint");
        context.report(problem.hint("leave it out: a request is never sent twice to one endpoint at once"));
    }
    context.demand(&table.after_ms, span, "it is not said when a request is sent to a second endpoint", HINT)?;
    let after = Duration::from_millis(context.number(&table.after_ms, "after_ms", " milliseconds", 1..=60_000, 1));
    if let Some(span) = table.after_ms.span().filter(|_| after >= response_timeout) {
        let problem = Problem::error(span, "nothing is waited for as long as `after_ms`");
        context.report(problem.hint("it must be shorter than `response_timeout_secs`"));
    }
    Some(after)
}
