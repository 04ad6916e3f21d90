//! Revocation: tokens that are good in every other way and must not pass.
//!
//! Owns one list for the whole process, read by every worker without a lock. Two sources fill it: a file that operators or the application
//! write and the gateway only reads, and a journal that the gateway writes for what came by its admin API or from other
//! gateways. Whoever verifies tokens asks
//! [`DenyList::denies`] on every request, a remembered verification included. Knows no HTTP and no clock: the time is an argument.

mod entry;
mod fleet;
mod index;
mod journal;
mod line;
mod watched;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use super::time::UnixSeconds;
pub use entry::{Entry, EntryFault, Revoked};
pub(super) use entry::{digest_of, token_digest};
pub use fleet::Learned;
use index::Index;
use journal::{Change, Journal};
pub use line::LineFault;
use watched::Watched;

/// What `config::compile` hands to this room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationSettings {
    /// The file that is watched and never written.
    pub file: Option<PathBuf>,
    /// The file that keeps what the admin API revoked; without it the API adds nothing, unless it is shared.
    pub journal: Option<PathBuf>,
    /// Whether what is revoked at another gateway is revoked here, and the other way round.
    pub shared: bool,
    /// Most entries, of both together.
    pub entries: usize,
    /// The names an entry may be limited to.
    pub issuers: Vec<Box<str>>,
}

/// What a request brought, as its verification found it.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// The issuer's name in the configuration.
    pub issuer: &'a str,
    /// The claim `jti`.
    pub jti: Option<&'a str>,
    /// The issuer's subject claim.
    pub subject: Option<&'a str>,
    /// The claim `iat`.
    pub issued_at: Option<UnixSeconds>,
    /// SHA-256 of what was signed, or of an opaque token. It is not looked at unless [`DenyList::needs_digest`].
    pub digest: &'a [u8; 32],
}

/// What an addition changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// There was no such entry.
    New,
    /// The entry now denies more, or longer.
    Extended,
    /// All of it was known.
    Known,
}

/// Entries by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RevokedCounts {
    /// By `jti`.
    pub jti: usize,
    /// By subject.
    pub sub: usize,
    /// By the token's digest.
    pub token: usize,
}

/// Why the list could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// The watched file can't be read.
    #[error("cannot read the revocations in {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The watched file has a malformed line; none of it is taken.
    #[error("the revocations in {} are refused", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, and why.
        #[source]
        fault: LineFault,
    },
    /// The watched file has more entries than there may be.
    #[error("{} has more than {bound} revocations: raise `entries` of [revocation]", path.display())]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// `entries`.
        bound: usize,
    },
    /// The journal can't be read or written. What was to be added is not in the list.
    #[error("cannot keep the journal {}", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A line of the journal that is not the last is malformed.
    #[error("line {line} of the journal {} is malformed: repair the line or remove it", path.display())]
    Corrupt {
        /// The journal.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        #[source]
        fault: EntryFault,
    },
    /// Another process has the journal.
    #[error("another process keeps the journal {}", path.display())]
    Locked {
        /// The journal.
        path: PathBuf,
    },
    /// The next process has the journal, or is about to open it.
    #[error("an upgrade is under way: ask again in a moment")]
    Lent,
    /// There is nowhere to write additions to.
    #[error("[revocation] has no `journal` to keep it in, and is not `shared`")]
    NoJournal,
    /// The bound is reached.
    #[error("there are {0} revocations already: give each an `until`, or raise `entries` of [revocation]")]
    Full(usize),
    /// It would deny nothing.
    #[error("`until` has passed: the token has expired by itself")]
    Past,
    /// A misspelt issuer would revoke nothing.
    #[error("there is no such issuer in the configuration")]
    NoIssuer,
    /// Only who writes the file can take it out.
    #[error("this revocation stands in {}: remove its line there", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
    },
}

/// The revoked tokens of the process. One value lives as long as the process; a reload changes what it is filled from.
#[derive(Debug)]
pub struct DenyList {
    /// Entries of both indexes: what a request looks at first, and mostly alone.
    entries: AtomicUsize,
    /// Those by digest.
    digests: AtomicUsize,
    version: AtomicU64,
    from_file: ArcSwap<Index>,
    from_journal: ArcSwap<Index>,
    /// Held while an index is stored and both are counted: an older count must not come after a newer one.
    counting: Mutex<()>,
    /// Locked by whoever changes `from_file`, never by a request.
    watched: Mutex<Option<Watched>>,
    /// Locked by whoever changes `from_journal`, never by a request. An addition waits for the disk under it.
    desk: Mutex<Desk>,
}

/// What additions need.
#[derive(Debug, Default)]
struct Desk {
    journal: Option<Journal>,
    /// It is closed for another process to open.
    lent: bool,
    bound: usize,
    issuers: Vec<Box<str>>,
    /// Other gateways are told of additions, which then need no journal.
    shared: bool,
    /// When the entries were last searched for expired ones, so that a full list is not searched at each refusal.
    swept: u64,
}

/// Settings that were read and opened, to be put to work by [`DenyList::apply`].
#[derive(Debug)]
pub struct PreparedRevocations {
    watched: Option<(Watched, Index)>,
    journal: Option<(Journal, Index)>,
    /// The journal is the one that is open.
    keeps_journal: bool,
    shared: bool,
    bound: usize,
    issuers: Vec<Box<str>>,
}

impl DenyList {
    /// A list that denies nothing and takes no additions, as without `[revocation]`.
    pub fn empty() -> Self {
        let index = || ArcSwap::from_pointee(Index::empty());
        Self {
            entries: AtomicUsize::new(0),
            digests: AtomicUsize::new(0),
            version: AtomicU64::new(0),
            from_file: index(),
            from_journal: index(),
            counting: Mutex::default(),
            watched: Mutex::default(),
            desk: Mutex::default(),
        }
    }

    /// A list filled from these files.
    pub fn open(settings: &RevocationSettings, now: UnixSeconds) -> Result<Self, RevokeError> {
        let list = Self::empty();
        let prepared = list.prepare(Some(settings), now)?;
        list.apply(prepared);
        Ok(list)
    }

    /// Whether this token was revoked. Lock-free; with an empty list one load of a counter.
    pub fn denies(&self, token: &Presented<'_>, now: UnixSeconds) -> bool {
        if self.is_empty() {
            return false;
        }
        self.from_journal.load().denies(token, now) || self.from_file.load().denies(token, now)
    }

    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.entries.load(Ordering::Acquire) == 0
    }

    /// Whether [`Presented::digest`] is looked at: there are entries by digest.
    pub fn needs_digest(&self) -> bool {
        self.digests.load(Ordering::Acquire) > 0
    }

    /// Changes with every change of the list, so that a long exchange knows when to ask again.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Entries, expired ones that were not dropped yet included. An entry of both sources counts twice.
    pub fn len(&self) -> usize {
        self.entries.load(Ordering::Acquire)
    }

    /// Entries by kind, as [`DenyList::len`] counts them.
    pub fn counts(&self) -> RevokedCounts {
        self.from_file.load().counts().plus(self.from_journal.load().counts())
    }

    /// At most `limit` entries: those of the journal, the newest first, then those of the file, the last line first.
    pub fn list(&self, limit: usize) -> Vec<Entry> {
        let mut entries = self.from_journal.load().newest(limit);
        entries.extend(self.from_file.load().newest(limit - entries.len()));
        entries
    }

    /// Adds an entry to the journal. It is on the disk and in force when this returns, which takes as long as the disk does.
    pub fn add(&self, entry: Entry, now: UnixSeconds) -> Result<Added, RevokeError> {
        let mut desk = lock(&self.desk);
        if desk.journal.is_none() && !desk.needs_no_journal() {
            return Err(desk.without_journal());
        }
        if entry.issuer().is_some_and(|issuer| !desk.issuers.iter().any(|known| **known == *issuer)) {
            return Err(RevokeError::NoIssuer);
        }
        if !entry.holds_at(now) {
            return Err(RevokeError::Past);
        }
        let before = self.from_journal.load_full();
        let (entry, added) = before.joined(entry);
        if added == Added::Known {
            return Ok(added);
        }
        if added == Added::New && self.len() >= desk.bound && !self.sweep(&mut desk, now) {
            return Err(RevokeError::Full(self.len()));
        }
        let before = self.from_journal.load_full();
        let mut after = Index::clone(&before);
        after.put(entry.clone());
        desk.write(&Change::Add(&entry), &before, after, now).map(|after| self.publish(&self.from_journal, after))?;
        Ok(added)
    }

    /// Takes an entry of the same kind, value and issuer out of the journal; whether there was one.
    pub fn remove(&self, entry: &Entry, now: UnixSeconds) -> Result<bool, RevokeError> {
        if self.from_file.load().find(entry.key()).is_some()
            && let Some(watched) = &*lock(&self.watched)
        {
            return Err(RevokeError::InFile { path: watched.path().to_owned() });
        }
        let mut desk = lock(&self.desk);
        let before = self.from_journal.load_full();
        let mut after = Index::clone(&before);
        if after.remove(entry.key()).is_none() {
            return Ok(false);
        }
        desk.write(&Change::Remove(entry), &before, after, now).map(|after| self.publish(&self.from_journal, after))?;
        Ok(true)
    }

    /// Reads the watched file again if it changed; whether the list did. A file with a fault changes nothing.
    pub fn reread(&self, now: UnixSeconds) -> Result<bool, RevokeError> {
        let mut watched = lock(&self.watched);
        let Some(index) = watched.as_mut().map(|watched| watched.reread(now)).transpose()?.flatten() else {
            return Ok(false);
        };
        self.publish(&self.from_file, index);
        Ok(true)
    }

    /// Everything about new settings that can fail: opens and reads what they name. A journal that is open already stays open. `None`
    /// is a configuration without `[revocation]`.
    pub fn prepare(
        &self,
        settings: Option<&RevocationSettings>,
        now: UnixSeconds,
    ) -> Result<PreparedRevocations, RevokeError> {
        let Some(settings) = settings else {
            let (bound, issuers) = (0, Vec::new());
            let (keeps_journal, shared) = (false, false);
            return Ok(PreparedRevocations { watched: None, journal: None, keeps_journal, shared, bound, issuers });
        };
        let open = lock(&self.desk).journal.as_ref().map(|journal| journal.path().to_owned());
        let keeps_journal = open.is_some() && open == settings.journal;
        let file = settings.file.as_deref();
        let watched = file.map(|path| Watched::open(path, settings.entries, now)).transpose()?;
        let journal = settings.journal.as_deref().filter(|_| !keeps_journal);
        let journal = journal.map(|path| Journal::open(path, now)).transpose()?;
        let (shared, bound, issuers) = (settings.shared, settings.entries, settings.issuers.clone());
        Ok(PreparedRevocations { watched, journal, keeps_journal, shared, bound, issuers })
    }

    /// Puts prepared settings to work.
    pub fn apply(&self, prepared: PreparedRevocations) {
        let PreparedRevocations { watched, journal, keeps_journal, shared, bound, issuers } = prepared;
        let mut desk = lock(&self.desk);
        let goes_on = desk.shared && shared;
        (desk.shared, desk.bound, desk.issuers, desk.lent) = (shared, bound, issuers, false);
        if !keeps_journal {
            let (journal, index) = journal.unzip();
            desk.journal = journal;
            let index = index.unwrap_or_else(Index::empty);
            let index = if goes_on { self.carried(desk.journal.as_mut(), &index) } else { index };
            self.publish(&self.from_journal, index);
        }
        drop(desk);
        let mut current = lock(&self.watched);
        let (watched, index) = watched.unzip();
        *current = watched;
        self.publish(&self.from_file, index.unwrap_or_else(Index::empty));
    }

    /// Closes the journal, so that another process can open it. What it says stays in force and changes are refused, until settings are
    /// put to work again.
    pub fn lend_journal(&self) {
        let mut desk = lock(&self.desk);
        desk.lent = desk.journal.take().is_some() || desk.lent;
    }

    /// Drops what has expired, if that makes room.
    fn sweep(&self, desk: &mut Desk, now: UnixSeconds) -> bool {
        if desk.swept != now.as_secs() {
            desk.swept = now.as_secs();
            if let Some(kept) = self.from_journal.load().without_expired(now) {
                self.publish(&self.from_journal, kept);
            }
        }
        self.len() < desk.bound
    }

    /// The counters follow the index, so that who sees the new version finds the new entries.
    fn publish(&self, of: &ArcSwap<Index>, index: Index) {
        let _counting = lock(&self.counting);
        of.store(index.into());
        let counts = self.counts();
        self.entries.store(counts.total(), Ordering::Release);
        self.digests.store(counts.token, Ordering::Release);
        self.version.fetch_add(1, Ordering::AcqRel);
    }
}

impl Desk {
    /// What others are told is kept by them too. But a journal that is lent is the next process' to write.
    fn needs_no_journal(&self) -> bool {
        self.shared && !self.lent
    }

    fn without_journal(&self) -> RevokeError {
        if self.lent { RevokeError::Lent } else { RevokeError::NoJournal }
    }

    /// On the disk first, then in the list. A journal that has doubled is compacted; if that fails, what was appended is safe all the same.
    fn write(
        &mut self,
        change: &Change<'_>,
        before: &Index,
        after: Index,
        now: UnixSeconds,
    ) -> Result<Index, RevokeError> {
        if self.needs_no_journal() && self.journal.is_none() {
            return Ok(after);
        }
        let nowhere = self.without_journal();
        let journal = self.journal.as_mut().ok_or(nowhere)?;
        journal.append(change, before)?;
        if !journal.has_doubled() {
            return Ok(after);
        }
        let kept = after.without_expired(now).unwrap_or(after);
        if let Err(error) = journal.compact(&kept) {
            tracing::error!(%error, journal = %journal.path().display(), "cannot compact the journal: it grows");
        }
        Ok(kept)
    }
}

impl RevokedCounts {
    /// All kinds together.
    pub fn total(&self) -> usize {
        self.jti + self.sub + self.token
    }

    fn plus(self, other: Self) -> Self {
        Self { jti: self.jti + other.jti, sub: self.sub + other.sub, token: self.token + other.token }
    }

    fn of(&mut self, revoked: &Revoked) -> &mut usize {
        match revoked {
            Revoked::Jti { .. } => &mut self.jti,
            Revoked::Sub { .. } => &mut self.sub,
            Revoked::Token { .. } => &mut self.token,
        }
    }
}

/// What a watched file holds, without what it says of whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RevokedSummary {
    /// Lines that are entries.
    pub entries: usize,
    /// The issuers it names, with the first line of each.
    pub issuers: Vec<(usize, Box<str>)>,
}

/// Judges the contents of a watched file without keeping them.
pub fn check_revocations(bytes: &[u8]) -> Result<RevokedSummary, LineFault> {
    const MOST_ISSUERS: usize = 64;
    let mut summary = RevokedSummary::default();
    for found in line::entries(bytes) {
        let (line, entry) = found?;
        summary.entries += 1;
        let issuers = &mut summary.issuers;
        if let Some(issuer) = entry.issuer()
            && issuers.len() < MOST_ISSUERS
            && !issuers.iter().any(|(_, known)| **known == *issuer)
        {
            issuers.push((line, issuer.into()));
        }
    }
    Ok(summary)
}

/// A panic under one of these locks leaves no half-made change: what is published is published whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
