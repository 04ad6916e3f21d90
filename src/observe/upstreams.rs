//! What operators are told about the health of upstreams and what was tried again, asked for when they look.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamStatus {
    /// The name of its table.
    pub upstream: Box<str>,
    /// In the order of the configuration.
    pub endpoints: Vec<EndpointHealth>,
    /// How its breaker is; `None` where there is none.
    pub breaker: Option<BreakerStatus>,
    /// Those that were there and are not, as far as their counts belong to a label that stays.
    pub gone: Vec<EndpointHealth>,
    /// Requests tried again so far, by reason.
    pub retries: Vec<(&'static str, u64)>,
    /// Those that were not, because too many were already.
    pub retries_refused: u64,
}

/// The breaker of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerStatus {
    /// "closed", "half-open" or "open".
    pub state: &'static str,
    /// How often it opened.
    pub opened: u64,
    /// Requests that were answered without being sent.
    pub rejected: u64,
}

/// One endpoint of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Its address.
    pub endpoint: Box<str>,
    /// What it is called in the metrics: what is configured, which may be a name that stands for many.
    pub label: Box<str>,
    /// How it is, in a word.
    pub standing: &'static str,
    /// Whether it is to be used.
    pub eligible: bool,
    /// Ejections so far, by reason.
    pub ejections: Vec<(&'static str, u64)>,
    /// How many requests it is given at once, where that is found out.
    pub limit: Option<usize>,
    /// Probes so far, by result; `None` where there are none.
    pub probes: Option<Vec<(&'static str, u64)>>,
}

type Ask = Box<dyn Fn() -> Vec<UpstreamStatus> + Send + Sync>;

/// Whom to ask about the upstreams of the live configuration.
#[derive(Clone, Default)]
pub struct Upstreams(Arc<Mutex<Option<Ask>>>);

impl Upstreams {
    /// From now on `ask` answers.
    pub fn answered_by(&self, ask: impl Fn() -> Vec<UpstreamStatus> + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ask));
    }

    /// How they are now, in the order of the configuration.
    pub fn status(&self) -> Vec<UpstreamStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or_else(Vec::new, |ask| ask())
    }
}

impl fmt::Debug for Upstreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Upstreams(..)")
    }
}
