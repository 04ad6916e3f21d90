//! What operators are told about names that are looked up, asked for when they look.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// One name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameStatus {
    /// As it is configured.
    pub name: Box<str>,
    /// How many addresses are in use.
    pub addresses: usize,
    /// Whether the last question failed, so that what was known before is used.
    pub failing: bool,
    /// Since the last answer; `None` if there never was one.
    pub age: Option<Duration>,
    /// Questions so far, by what came of them.
    pub lookups: Vec<(&'static str, u64)>,
}

type Ask = Box<dyn Fn() -> Vec<NameStatus> + Send + Sync>;

/// Whom to ask about the names of the live configuration.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<Option<Ask>>>);

impl Names {
    /// From now on `ask` answers.
    pub fn answered_by(&self, ask: impl Fn() -> Vec<NameStatus> + Send + Sync + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(ask));
    }

    /// How they are now, by name.
    pub fn status(&self) -> Vec<NameStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map_or_else(Vec::new, |ask| ask())
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names(..)")
    }
}
