//! The list of revoked tokens between those who change it: the admin listener, the watch and a reload.
//!
//! Owns the clock of the list, what the admin listener is told of it, and that each change is counted. What a revocation is and how it is
//! kept belongs to `auth`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::sharing::{Fleet, Order, Shared};
use crate::auth::{Added, DenyList, Entry, Learned, PreparedRevocations, RevocationSettings, RevokeError, UnixSeconds};
use crate::config::Config;
use crate::observe::{Chain, Metrics, Refused, Revocations, Why};

/// The one list of the process.
#[derive(Debug)]
pub(super) struct RevocationDesk {
    list: Arc<DenyList>,
    metrics: Arc<Metrics>,
    /// Whether `[revocation]` is there.
    enabled: AtomicBool,
    /// How other gateways are told, if they are.
    fleet: Option<Fleet>,
    /// Whether the journal is closed, for another process to open.
    lent: AtomicBool,
}

impl RevocationDesk {
    /// Opens what the configuration names.
    pub(super) fn open(
        config: &Config,
        metrics: &Arc<Metrics>,
        shared: Option<&Shared>,
    ) -> Result<Arc<Self>, RevokeError> {
        let (settings, fleet) = (config.revocation.as_ref(), shared.and_then(Shared::fleet));
        let (list, metrics) = (Arc::new(DenyList::empty()), Arc::clone(metrics));
        let (enabled, lent) = (AtomicBool::new(false), AtomicBool::new(false));
        let desk = Self { list, metrics, enabled, fleet, lent };
        if settings.is_some() {
            desk.apply(desk.prepare(settings)?, settings);
        }
        Ok(Arc::new(desk))
    }

    pub(super) fn list(&self) -> &Arc<DenyList> {
        &self.list
    }

    /// Reads and opens what a changed table names, before anything changes.
    pub(super) fn prepare(&self, settings: Option<&RevocationSettings>) -> Result<PreparedRevocations, RevokeError> {
        self.list.prepare(settings, UnixSeconds::now())
    }

    pub(super) fn apply(&self, prepared: PreparedRevocations, settings: Option<&RevocationSettings>) {
        self.list.apply(prepared);
        self.enabled.store(settings.is_some(), Ordering::Release);
        self.changed();
        tracing::info!(revocations = self.list.len(), "the list of revocations was opened");
    }

    /// Takes what the watched file says now, if it is good and different.
    pub(super) fn reread(&self) -> Result<(), RevokeError> {
        if self.list.reread(UnixSeconds::now())? {
            self.changed();
            tracing::info!(revocations = self.list.len(), "the file of revocations was read again");
        }
        Ok(())
    }

    /// Takes in what other gateways have revoked.
    pub(super) fn learn(&self, entries: Vec<Entry>) {
        let Learned { news, refused } = self.list.learn(entries, UnixSeconds::now());
        if news > 0 {
            self.changed();
            tracing::info!(news, revocations = self.list.len(), "revoked by another gateway");
        }
        if refused > 0 {
            tracing::error!(refused, "no room for what others revoked: raise `entries` of [revocation]");
        }
    }

    /// Another gateway has taken a revocation back.
    pub(super) fn unlearn(&self, entry: &Entry) {
        match self.list.remove(entry, UnixSeconds::now()) {
            Ok(true) => {
                self.changed();
                tracing::info!(revocations = self.list.len(), "a revocation was taken back by another gateway");
            }
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %Chain(&error), "what another gateway took back stays revoked here"),
        }
    }

    /// Lets the next process have the journal: from here on it is the one to revoke at.
    pub(super) fn lend(&self) {
        self.list.lend_journal();
        self.lent.store(true, Ordering::Release);
    }

    /// Opens it again if it was lent, because there is no next process.
    pub(super) fn take_back(&self, settings: Option<&RevocationSettings>) -> Result<(), RevokeError> {
        if self.lent.load(Ordering::Acquire) {
            if settings.is_some() {
                self.apply(self.prepare(settings)?, settings);
            }
            self.lent.store(false, Ordering::Release);
        }
        Ok(())
    }

    fn changed(&self) {
        self.metrics.revocations_changed(|| {
            let counts = self.list.counts();
            [counts.jti, counts.sub, counts.token]
        });
    }
}

impl Revocations for RevocationDesk {
    fn list(&self, limit: usize) -> Result<String, Refused> {
        let counts = self.list.counts();
        let entries: Vec<_> = self.list.list(limit).iter().map(Entry::to_json).collect();
        let json = serde_json::json!({
            "count": counts.total(),
            "by_kind": { "jti": counts.jti, "sub": counts.sub, "token": counts.token },
            "revocations": entries,
        });
        Ok(format!("{json}\n"))
    }

    fn add(&self, body: &[u8]) -> Result<String, Refused> {
        let now = UnixSeconds::now();
        let entry = read(body, now)?;
        let said = entry.to_json();
        let told = self.fleet.as_ref().map(|fleet| (fleet, entry.clone()));
        let added = self.list.add(entry, now).map_err(|error| refused(&error))?;
        if added != Added::Known {
            self.changed();
            tracing::info!(revocations = self.list.len(), "revoked by the admin listener");
        }
        if let Some((fleet, entry)) = told {
            fleet.revoked(entry);
        }
        let change = match added {
            Added::New => "new",
            Added::Extended => "extended",
            Added::Known => "known",
        };
        Ok(format!("{}\n", serde_json::json!({ "revoked": said, "change": change })))
    }

    fn remove(&self, body: &[u8]) -> Result<(), Refused> {
        let now = UnixSeconds::now();
        let entry = read(body, now)?;
        // Before it is taken back here: who could not be told would bring it back.
        let told = self.fleet.as_ref().map(Fleet::to_take_back).transpose()?;
        if !self.list.remove(&entry, now).map_err(|error| refused(&error))? {
            return Err(Refused { why: Why::Unknown, detail: "there is no such revocation".to_owned() });
        }
        if let Some(told) = told {
            told.send(Order::TakeBack(entry));
        }
        self.changed();
        tracing::info!(revocations = self.list.len(), "a revocation was taken back by the admin listener");
        Ok(())
    }

    fn count(&self) -> Option<usize> {
        self.enabled.load(Ordering::Acquire).then(|| self.list.len())
    }
}

fn read(body: &[u8], now: UnixSeconds) -> Result<Entry, Refused> {
    Entry::from_json(body, now).map_err(|fault| Refused { why: Why::Malformed, detail: fault.to_string() })
}

fn refused(error: &RevokeError) -> Refused {
    let why = match error {
        RevokeError::Past | RevokeError::NoIssuer => Why::Malformed,
        RevokeError::NoJournal | RevokeError::InFile { .. } => Why::Conflict,
        RevokeError::Full(_) => Why::Full,
        RevokeError::Lent => Why::Failed,
        RevokeError::File { .. }
        | RevokeError::Line { .. }
        | RevokeError::FileTooLong { .. }
        | RevokeError::Journal { .. }
        | RevokeError::Corrupt { .. }
        | RevokeError::Locked { .. } => {
            tracing::error!(error = %Chain(error), "cannot revoke");
            Why::Failed
        }
    };
    Refused { why, detail: Chain(error).to_string() }
}
