//! What operators are told about fetched key sets, asked for when they look.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How the keys of one issuer are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeySetStatus {
    /// The name of the issuer's table.
    pub issuer: Box<str>,
    /// The keys in use now.
    pub keys: usize,
    /// Since they were last fetched; `None` if they never were.
    pub age: Option<Duration>,
    /// Fetches that brought a set.
    pub fetches_ok: u64,
    /// Fetches that did not.
    pub fetches_failed: u64,
    /// Why the last fetch failed, if it did.
    pub last_error: Option<String>,
    /// Whether they should have been fetched again by now.
    pub stale: bool,
}

type Ask = Box<dyn Fn() -> Vec<KeySetStatus> + Send + Sync>;

/// Whom to ask about the key sets of the live configuration.
#[derive(Clone, Default)]
pub struct KeySets(Arc<Mutex<Option<Ask>>>);

impl KeySets {
    /// From now on `ask` answers.
    pub fn answered_by(&self, ask: impl Fn() -> Vec<KeySetStatus> + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ask));
    }

    /// How they are doing now, in the order of the configuration.
    pub fn status(&self) -> Vec<KeySetStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or_else(Vec::new, |ask| ask())
    }
}

impl fmt::Debug for KeySets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySets(..)")
    }
}
