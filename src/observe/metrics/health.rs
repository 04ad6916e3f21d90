//! What is read of upstreams' health and of what was tried again.

use std::collections::BTreeMap;

use super::super::upstreams::{BreakerStatus, UpstreamStatus};
use super::family::Family;
use super::sheet::Sheet;

pub(super) const RETRIES: Family = Family::counter(
    "portcullis_upstream_retries_total",
    "Requests sent again, or to another endpoint, by the reason.",
    &["upstream", "reason"],
);
pub(super) const RETRY_BUDGET_EXHAUSTED: Family = Family::counter(
    "portcullis_upstream_retry_budget_exhausted_total",
    "Requests not sent again because too many were already.",
    &["upstream"],
);
pub(super) const ENDPOINT_ELIGIBLE: Family = Family::gauge(
    "portcullis_endpoint_eligible",
    "1 if an endpoint is used, 0 if it is ejected or its probes fail; of a name, how many of its addresses are.",
    &["upstream", "endpoint"],
);
pub(super) const ENDPOINT_EJECTIONS: Family = Family::counter(
    "portcullis_endpoint_ejections_total",
    "How often an endpoint was ejected because requests to it failed or took long, by the rule that said so.",
    &["upstream", "endpoint", "reason"],
);
pub(super) const CONCURRENCY_LIMIT: Family = Family::gauge(
    "portcullis_endpoint_concurrency_limit",
    "How many requests an endpoint is given at once, as it was found out.",
    &["upstream", "endpoint"],
);
pub(super) const PROBE_RESULTS: Family = Family::counter(
    "portcullis_probe_results_total",
    "Probes of an endpoint, by what came of them.",
    &["upstream", "endpoint", "result"],
);

pub(super) const BREAKER_STATE: Family = Family::gauge(
    "portcullis_upstream_breaker_state",
    "How the breaker of an upstream is: 0 closed, 1 half open, 2 open.",
    &["upstream"],
);
pub(super) const BREAKER_OPENED: Family = Family::counter(
    "portcullis_upstream_breaker_opened_total",
    "How often the breaker of an upstream opened, after a trial that failed too.",
    &["upstream"],
);
pub(super) const BREAKER_REJECTED: Family = Family::counter(
    "portcullis_upstream_breaker_rejected_total",
    "Requests answered 503 because the breaker of their upstream was open.",
    &["upstream"],
);

pub(super) fn read(sheet: &mut Sheet, status: &UpstreamStatus) {
    let UpstreamStatus { upstream, endpoints, breaker, gone, retries, retries_refused } = status;
    if let Some(BreakerStatus { state, opened, rejected }) = breaker {
        let level = match *state {
            "closed" => 0,
            "half-open" => 1,
            _ => 2,
        };
        sheet.put(&BREAKER_STATE, &[upstream], level);
        sheet.put(&BREAKER_OPENED, &[upstream], *opened);
        sheet.put(&BREAKER_REJECTED, &[upstream], *rejected);
    }
    for (reason, count) in retries {
        sheet.put(&RETRIES, &[upstream, reason], *count);
    }
    sheet.put(&RETRY_BUDGET_EXHAUSTED, &[upstream], *retries_refused);
    let mut labels: BTreeMap<&str, Sum> = BTreeMap::new();
    for health in endpoints {
        let sum = labels.entry(&health.label).or_default();
        sum.eligible += i32::from(health.eligible);
        if let Some(limit) = health.limit {
            *sum.limit.get_or_insert(0) += limit;
        }
    }
    for health in endpoints.iter().chain(gone) {
        let sum = labels.entry(&health.label).or_default();
        add(&mut sum.ejections, &health.ejections);
        add(&mut sum.probes, health.probes.as_deref().unwrap_or_default());
    }
    for (endpoint, sum) in labels {
        sheet.put(&ENDPOINT_ELIGIBLE, &[upstream, endpoint], sum.eligible);
        for (reason, count) in sum.ejections {
            sheet.put(&ENDPOINT_EJECTIONS, &[upstream, endpoint, reason], count);
        }
        if let Some(limit) = sum.limit {
            sheet.put(&CONCURRENCY_LIMIT, &[upstream, endpoint], u64::try_from(limit).unwrap_or(u64::MAX));
        }
        for (result, count) in sum.probes {
            sheet.put(&PROBE_RESULTS, &[upstream, endpoint, result], count);
        }
    }
}

/// What all endpoints of one label are together.
#[derive(Default)]
struct Sum {
    eligible: i32,
    /// Nothing where none is found out.
    limit: Option<usize>,
    ejections: BTreeMap<&'static str, u64>,
    probes: BTreeMap<&'static str, u64>,
}

fn add(sums: &mut BTreeMap<&'static str, u64>, counts: &[(&'static str, u64)]) {
    for (key, count) in counts {
        *sums.entry(key).or_default() += count;
    }
}
