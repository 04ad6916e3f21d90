//! Tokens that only their issuer can read: it is asked about each of them (RFC 7662).
//!
//! Owns the question, the answer, how long an answer is good, and how many questions are under way at once. What an answer says is
//! judged as claims are, by the room around. Knows no routes. RFC 7662 sections 2 and 4, RFC 6749 section 2.3.1.

mod answer;
mod explain;
mod flights;
mod introspector;
mod memory;
mod request;
mod settings;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError, Weak};

pub use explain::{explain_introspected, introspection_url};
pub use settings::IntrospectionSettings;

use super::issuer::Issuer;
use crate::observe::WorkerMeter;
use introspector::Introspector;

/// One worker's askers, one for each issuer that is to be asked, made when the first token comes.
///
/// An issuer whose settings change is another issuer, with another asker: nothing that was answered by old rules is used under new ones.
pub(super) struct Introspectors {
    entries: usize,
    known: Mutex<Vec<(Weak<Issuer>, Arc<Introspector>)>>,
}

impl Introspectors {
    /// For each issuer, at most `entries` active tokens are remembered; 0 remembers none.
    pub(super) fn new(entries: usize) -> Self {
        Self { entries, known: Mutex::default() }
    }

    /// The asker of this issuer; `None` for one that is not to be asked.
    pub(super) fn of(&self, issuer: &Arc<Issuer>, meter: Option<&WorkerMeter>) -> Option<Arc<Introspector>> {
        let settings = issuer.settings().introspection.as_ref()?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| of.strong_count() > 0);
        if let Some((_, one)) = known.iter().find(|(of, _)| std::ptr::eq(of.as_ptr(), Arc::as_ptr(issuer))) {
            return Some(Arc::clone(one));
        }
        let meter = meter.map(|meter| meter.introspections(issuer.name()));
        let one = Arc::new(Introspector::new(settings.clone(), self.entries, meter));
        known.push((Arc::downgrade(issuer), Arc::clone(&one)));
        Some(one)
    }

    /// Lets go of what belongs to issuers that no generation has any more: their idle connections and answers.
    pub(super) fn forget_gone(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| of.strong_count() > 0);
    }
}
