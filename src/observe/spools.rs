//! What operators are told about bodies that are kept, asked for when they look.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// What is kept for one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolStatus {
    /// The name of the upstream's table.
    pub upstream: Box<str>,
    /// Requests' bodies, if any are kept.
    pub requests: Option<KeptBodies>,
    /// Responses for slow clients, if any are kept.
    pub responses: Option<KeptBodies>,
}

/// Bodies in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptBodies {
    /// Bytes in files now.
    pub disk_bytes: u64,
    /// Bodies so far.
    pub bodies: u64,
    /// Bytes that were written to files so far, where bodies are handed out while they come.
    pub written_bytes: u64,
}

type Ask = Box<dyn Fn() -> Vec<SpoolStatus> + Send + Sync>;

/// Whom to ask about the spools of the live configuration.
#[derive(Clone, Default)]
pub struct Spools(Arc<Mutex<Option<Ask>>>);

impl Spools {
    /// From now on `ask` answers.
    pub fn answered_by(&self, ask: impl Fn() -> Vec<SpoolStatus> + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ask));
    }

    /// What is kept now, in the order of the configuration.
    pub fn status(&self) -> Vec<SpoolStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or_else(Vec::new, |ask| ask())
    }
}

impl fmt::Debug for Spools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spools(..)")
    }
}
