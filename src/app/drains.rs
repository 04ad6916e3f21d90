//! Which endpoints are out of use, between the operators who say so and the workers who heed it.
//!
//! Owns that one endpoint of an upstream is always left, and that what is said is logged. It is remembered as long as the process runs and
//! the endpoint is configured.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::observe::{Drains, Refused, Why};
use crate::upstream::Presence;

/// All endpoints of the live configuration.
#[derive(Debug, Default)]
pub(super) struct DrainDesk {
    known: Mutex<Vec<Known>>,
}

/// One endpoint.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) upstream: Box<str>,
    pub(super) endpoint: Box<str>,
    pub(super) presence: Arc<Presence>,
}

impl DrainDesk {
    /// These are the endpoints from now on.
    pub(super) fn know(&self, endpoints: impl Iterator<Item = Known>) {
        *self.lock() = endpoints.collect();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is(&self, upstream: &str, endpoint: &str) -> bool {
        *self.upstream == *upstream && *self.endpoint == *endpoint
    }
}

impl Drains for DrainDesk {
    fn list(&self) -> String {
        let known = self.lock();
        let endpoints = known.iter().map(|one| {
            let drained = one.presence.is_drained();
            serde_json::json!({ "upstream": one.upstream, "endpoint": one.endpoint, "drained": drained })
        });
        let json = serde_json::json!({ "endpoints": endpoints.collect::<Vec<_>>() });
        format!("{json}\n")
    }

    fn set(&self, upstream: &str, endpoint: &str, drained: bool) -> Result<(), Refused> {
        let known = self.lock();
        let Some(one) = known.iter().find(|one| one.is(upstream, endpoint)) else {
            let detail = format!("the upstream `{upstream}` has no endpoint `{endpoint}`: GET /upstreams lists them");
            return Err(Refused { why: Why::Unknown, detail });
        };
        let left = |other: &&Known| *other.upstream == *upstream && !other.presence.is_out_of_use();
        if drained && !known.iter().filter(|other| !other.is(upstream, endpoint)).any(|other| left(&other)) {
            let detail =
                format!("`{endpoint}` is the last endpoint of `{upstream}` in use: put another one back first");
            return Err(Refused { why: Why::Conflict, detail });
        }
        one.presence.set_drained(drained, Instant::now());
        tracing::info!(upstream, endpoint, drained, "an operator changed the use of an endpoint");
        Ok(())
    }

    fn is_drained(&self, upstream: &str, endpoint: &str) -> bool {
        self.lock().iter().any(|one| one.is(upstream, endpoint) && one.presence.is_drained())
    }
}
