//! What is counted of rate limits: by limit, never by what is limited.

use std::sync::Arc;

use super::cells::Count;
use super::family::Family;
use super::sheet::Sheet;

pub(super) const RATE_LIMIT_DECISIONS: Family = Family::counter(
    "portcullis_rate_limit_decisions_total",
    "Requests that a rate limit was asked about, by its decision: passed, refused or would_refuse (a limit on trial).",
    &["limit", "decision"],
);

/// One worker's decisions of one limit.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct LimitCells {
    passed: Count,
    refused: Count,
    would_refuse: Count,
}

/// Counts the decisions of one limit on one worker.
#[derive(Debug, Clone)]
pub struct LimitMeter(Arc<LimitCells>);

impl LimitMeter {
    pub(super) fn new(cells: Arc<LimitCells>) -> Self {
        Self(cells)
    }

    /// The limit lets a request through.
    pub fn passed(&self) {
        self.0.passed.add(1);
    }

    /// The limit refuses a request.
    pub fn refused(&self) {
        self.0.refused.add(1);
    }

    /// The limit is on trial and lets a request through that it would refuse.
    pub fn would_refuse(&self) {
        self.0.would_refuse.add(1);
    }
}

pub(super) fn read(sheet: &mut Sheet, limit: &str, shards: &[&LimitCells]) {
    let sum = |pick: fn(&LimitCells) -> &Count| shards.iter().map(|shard| pick(shard).value()).sum::<u64>();
    sheet.put(&RATE_LIMIT_DECISIONS, &[limit, "passed"], sum(|cells| &cells.passed));
    sheet.put(&RATE_LIMIT_DECISIONS, &[limit, "refused"], sum(|cells| &cells.refused));
    sheet.put(&RATE_LIMIT_DECISIONS, &[limit, "would_refuse"], sum(|cells| &cells.would_refuse));
}
