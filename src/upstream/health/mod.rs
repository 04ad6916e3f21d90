//! Health of endpoints: which of them are to be used, as far as requests and probes can tell.
//!
//! Owns two ways out of use. An endpoint is *ejected* when requests to it fail or take long, and returns by itself; it is *down* when its probes fail,
//! and returns when they do not. Both are one word to whoever picks an endpoint: [`Standing::eligible`]. When too few are eligible, all
//! are used. The rules are pure ([`eject`], [`latency`], [`streak`]); requests pay for them with a count of their worker's own and a
//! look at two atomics. Refuses to know how an endpoint is picked and what a request is.

mod eject;
mod latency;
mod probe;
mod question;
mod settings;
mod standing;
mod streak;
mod ward;

use std::sync::Arc;
use std::time::Duration;

use latency::Took;
pub(super) use probe::keep_probing;
pub use settings::{EjectSettings, HealthSettings, LatencySettings, ProbeSettings, Question};
pub use standing::Standing;
pub(super) use standing::{now, random};
pub(super) use ward::{Gone, Ward, keep_comparing};

/// By which one worker tells how requests to one endpoint went.
#[derive(Debug)]
pub(super) struct Watch {
    ward: Arc<Ward>,
    at: usize,
    cell: usize,
    /// There if it matters how long they take.
    took: Option<Arc<Took>>,
}

impl Watch {
    /// Of the endpoint at this place; `None` where nothing comes of telling.
    pub(super) fn new(ward: &Arc<Ward>, at: usize) -> Option<Arc<Self>> {
        ward.ejecting()?;
        let standing = ward.standing(at);
        let took = ward.comparing().map(|_| Arc::clone(standing.took()));
        Some(Arc::new(Self { ward: Arc::clone(ward), at, cell: standing.cell(), took }))
    }

    /// It answered with this status.
    pub(super) fn answered(&self, status: u16) {
        let Some(settings) = self.ward.ejecting() else { return };
        if settings.statuses.contains(&status) {
            self.failed();
        } else {
            self.ward.standing(self.at).succeeded(self.cell);
        }
    }

    /// The first byte of its answer came after so long, for which no client is to blame.
    pub(super) fn took(&self, first_byte: Duration) {
        if let Some(took) = &self.took {
            took.add(self.cell, first_byte);
        }
    }

    /// It did not answer, and that was no fault of the client's.
    pub(super) fn failed(&self) {
        self.ward.standing(self.at).count(self.cell);
        self.broke_off();
    }

    /// Its answer, which counted as one, broke off.
    pub(super) fn broke_off(&self) {
        if let Some(settings) = self.ward.ejecting() {
            self.ward.failed(self.at, now(), settings);
        }
    }
}
