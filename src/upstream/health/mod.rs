//! Health of endpoints: which of them are to be used, as far as requests and probes can tell.
//!
//! Owns two ways out of use. An endpoint is *ejected* when requests to it fail, and returns by itself; it is *down* when its probes fail,
//! and returns when they do not. Both are one word to whoever picks an endpoint: [`Standing::eligible`]. When too few are eligible, all
//! are used. The rules are pure state machines ([`eject`], [`streak`]); requests pay for them with a count of their worker's own and a
//! look at two atomics. Refuses to know how an endpoint is picked and what a request is.

mod eject;
mod probe;
mod question;
mod settings;
mod standing;
mod streak;
mod ward;

use std::sync::Arc;

pub(super) use probe::keep_probing;
pub use settings::{EjectSettings, HealthSettings, ProbeSettings, Question};
pub use standing::Standing;
pub(super) use standing::random;
pub(super) use ward::Ward;

/// By which one worker tells how requests to one endpoint went.
#[derive(Debug)]
pub(super) struct Watch {
    ward: Arc<Ward>,
    at: usize,
    cell: usize,
}

impl Watch {
    /// Of the endpoint at this place; `None` where nothing comes of telling.
    pub(super) fn new(ward: &Arc<Ward>, at: usize) -> Option<Arc<Self>> {
        ward.ejecting()?;
        Some(Arc::new(Self { ward: Arc::clone(ward), at, cell: ward.standing(at).cell() }))
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

    /// It did not answer, and that was no fault of the client's.
    pub(super) fn failed(&self) {
        self.ward.standing(self.at).count(self.cell);
        self.broke_off();
    }

    /// Its answer, which counted as one, broke off.
    pub(super) fn broke_off(&self) {
        if let Some(settings) = self.ward.ejecting() {
            self.ward.failed(self.at, standing::now(), settings);
        }
    }
}
