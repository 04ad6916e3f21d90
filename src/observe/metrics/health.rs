//! What is read of upstreams' health and of what was tried again.

use std::collections::BTreeMap;

use super::super::upstreams::UpstreamStatus;
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
    "How often an endpoint was ejected because requests to it failed, by the rule that said so.",
    &["upstream", "endpoint", "reason"],
);
pub(super) const PROBE_RESULTS: Family = Family::counter(
    "portcullis_probe_results_total",
    "Probes of an endpoint, by what came of them.",
    &["upstream", "endpoint", "result"],
);

pub(super) fn read(sheet: &mut Sheet, status: &UpstreamStatus) {
    let UpstreamStatus { upstream, endpoints, gone, retries, retries_refused } = status;
    for (reason, count) in retries {
        sheet.put(&RETRIES, &[upstream, reason], *count);
    }
    sheet.put(&RETRY_BUDGET_EXHAUSTED, &[upstream], *retries_refused);
    let mut labels: BTreeMap<&str, Sum> = BTreeMap::new();
    for health in endpoints {
        labels.entry(&health.label).or_default().eligible += i32::from(health.eligible);
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
        for (result, count) in sum.probes {
            sheet.put(&PROBE_RESULTS, &[upstream, endpoint, result], count);
        }
    }
}

/// What all endpoints of one label are together.
#[derive(Default)]
struct Sum {
    eligible: i32,
    ejections: BTreeMap<&'static str, u64>,
    probes: BTreeMap<&'static str, u64>,
}

fn add(sums: &mut BTreeMap<&'static str, u64>, counts: &[(&'static str, u64)]) {
    for (key, count) in counts {
        *sums.entry(key).or_default() += count;
    }
}
