//! One published key set for the process: many readers, one writer.
//!
//! Readers (the issuers of all workers) take the current set without a lock. The writer is [`RemoteKeys::keep_fresh`], which runs on
//! the control thread: a request that asks for a fetch only leaves word there and waits, so a client that goes away ends nothing,
//! and a thousand that ask cause one fetch.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::last_good;
use super::published::{KeySet, Published};
use super::schedule::{Dice, Pace, Schedule};
use super::settings::RemoteSettings;
use super::source::{self, Brought, SourceError};
use crate::fetch::{FetchError, Fetcher};
use crate::observe::Chain;

/// What an asker waits beyond the time of a fetch: for the control thread to begin it and to read what came.
const MARGIN: Duration = Duration::from_secs(1);
/// How long the next fetch waits for the disk.
const DISK: Duration = Duration::from_secs(5);

/// The keys of one source, kept fresh. Shared by the process in an `Arc`.
pub struct RemoteKeys {
    settings: RemoteSettings,
    pace: Pace,
    fetcher: Fetcher,
    published: ArcSwapOption<Published>,
    state: Mutex<State>,
    /// Wakes the writer.
    asked: Notify,
    /// Wakes those who asked.
    rounds: watch::Sender<Rounds>,
}

/// Which fetches have ended, by their numbers; 0 is none.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rounds {
    pub(super) ended: u64,
    pub(super) good: u64,
}

struct State {
    schedule: Schedule,
    fetches_ok: u64,
    fetches_failed: u64,
    last_error: Option<String>,
}

/// How a source is doing, for metrics and the status page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteStatus {
    /// The time since the last good fetch, of an earlier process if need be; `None` if there never was one.
    pub age: Option<Duration>,
    /// The keys in use now; 0 without any, and when they are older than `max_stale`.
    pub keys: usize,
    /// Fetches of this process that brought a set.
    pub fetches_ok: u64,
    /// Fetches of this process that did not.
    pub fetches_failed: u64,
    /// Why the last fetch failed; `None` if it went well or was not yet made.
    pub last_error: Option<String>,
    /// Whether there is a set that should have been fetched again by now.
    pub stale: bool,
}

impl RemoteKeys {
    /// Reads the authorities, and the last good copy where one is configured; what is wrong with the copy is logged, not an error.
    pub fn new(settings: RemoteSettings) -> Result<Self, FetchError> {
        let fetcher = Fetcher::new(&settings.fetch)?;
        let pace =
            Pace { refresh_min: settings.refresh_min, refresh_max: settings.refresh_max, cooldown: settings.cooldown };
        let now = Instant::now();
        let state = State { schedule: Schedule::new(pace, now), fetches_ok: 0, fetches_failed: 0, last_error: None };
        Ok(Self {
            published: ArcSwapOption::new(from_disk(&settings, now).map(Arc::new)),
            pace,
            fetcher,
            state: Mutex::new(state),
            asked: Notify::new(),
            rounds: watch::Sender::new(Rounds::default()),
            settings,
        })
    }

    /// Begins with the keys of `before`, where they came from the same source by way of the same authorities: a change of how often
    /// they are fetched is no reason to be without them.
    #[must_use]
    pub fn continuing(self, before: &Self) -> Self {
        let (own, other) = (&self.settings, &before.settings);
        let alike = own.source == other.source
            && own.fetch.ca_pem == other.fetch.ca_pem
            && own.fetch.plain_http == other.fetch.plain_http;
        if let Some(set) = before.published.load_full().filter(|_| alike) {
            self.published.store(Some(set));
        }
        self
    }

    /// The keys to verify with now; `None` while there never were any, and when the last are older than `max_stale`.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.published.load_full().filter(|set| set.age() <= self.settings.max_stale)
    }

    /// The version of [`current`](Self::current), without touching the count of its owners, which all workers share.
    pub fn version(&self) -> Option<u64> {
        let set = self.published.load();
        set.as_ref().filter(|set| set.age() <= self.settings.max_stale).map(|set| set.version)
    }

    /// Asks for a fetch, for a token whose key is unknown, and waits for its end. From any runtime; cancel-safe.
    ///
    /// `true`: a fetch that was under way or began since ended well, so look again. `false`: refused by the cool-down (at once), or
    /// the fetch failed, or its end did not come in time.
    pub async fn refetch(&self) -> bool {
        let asked = self.lock().schedule.ask(Instant::now());
        let Some(round) = asked else { return false };
        self.asked.notify_one();
        let mut rounds = self.rounds.subscribe();
        let patience = self.settings.fetch.timeout.saturating_add(MARGIN);
        let ended = timeout(patience, rounds.wait_for(|rounds| rounds.ended >= round)).await;
        matches!(ended, Ok(Ok(rounds)) if rounds.good >= round)
    }

    /// Fetches when it is due and when it is asked for, for ever. To be run once, on the control thread; dropping it ends the fetch
    /// under way, and it can be run again.
    pub async fn keep_fresh(&self) {
        let mut copying: Option<JoinHandle<()>> = None;
        loop {
            let due = self.lock().schedule.due();
            let due_or_asked = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due_or_asked => {}
                () = self.asked.notified() => {}
            }
            let begun = self.lock().schedule.begin(Instant::now());
            let Some(round) = begun else { continue };
            let flight = Flight(self);
            let brought = source::fetch(&self.fetcher, &self.settings.source, &self.settings.fetch).await;
            let entries = self.settle(round, brought);
            drop(flight);
            if let Some(entries) = entries {
                self.copy(&mut copying, entries).await;
            }
        }
    }

    /// Whether the last fetch failed.
    pub fn is_failing(&self) -> bool {
        self.lock().last_error.is_some()
    }

    /// How the source is doing.
    pub fn status(&self) -> RemoteStatus {
        let set = self.published.load_full();
        let keys = self.current().map_or(0, |set| set.key_count());
        let state = self.lock();
        RemoteStatus {
            age: set.as_ref().map(|set| set.age()),
            keys,
            fetches_ok: state.fetches_ok,
            fetches_failed: state.fetches_failed,
            last_error: state.last_error.clone(),
            stale: set.is_some_and(|set| set.is_stale()),
        }
    }

    /// What it was made with; a reload compares it.
    pub fn settings(&self) -> &RemoteSettings {
        &self.settings
    }

    /// What a fetch that brought `body` would do, without the fetch: the set is published, and no token may ask for another before the
    /// cool-down is over.
    #[cfg(test)]
    pub(in crate::auth) fn brought(&self, body: &str) {
        // The first may come unasked, which cools nothing down; the second was asked for.
        for _ in 0..2 {
            let set = KeySet::read(body.as_bytes()).expect("a test publishes sets of usable keys");
            let now = Instant::now();
            let mut state = self.lock();
            state.schedule.ask(now);
            let round = state.schedule.begin(now).unwrap_or_default();
            drop(state);
            drop(self.settle(round, Ok(Brought { set, max_age: None })));
        }
    }

    /// Which fetches have ended, and a way to wait for more of them.
    #[cfg(test)]
    pub(super) fn rounds(&self) -> watch::Receiver<Rounds> {
        self.rounds.subscribe()
    }

    /// How many wait for the end of a fetch.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.rounds.receiver_count()
    }

    /// When the next fetch is to begin.
    #[cfg(test)]
    pub(super) fn due(&self) -> Option<Instant> {
        self.lock().schedule.due()
    }

    /// Takes the end of a fetch: publishes first, then plans the next, then wakes those who wait. Gives what is to be copied.
    fn settle(&self, round: u64, brought: Result<Brought, SourceError>) -> Option<Value> {
        let now = Instant::now();
        let (good, entries) = match brought {
            Ok(Brought { set, max_age }) => {
                let entries = self.publish(set, now, self.pace.lifetime(max_age));
                let mut state = self.lock();
                state.schedule.succeeded(now, max_age, dice());
                state.fetches_ok += 1;
                if state.last_error.take().is_some() {
                    tracing::info!(source = self.label(), "the key set is fetched again");
                }
                (true, Some(entries))
            }
            Err(error) => {
                let said = Chain(&error).to_string();
                let mut state = self.lock();
                state.schedule.failed(now, dice());
                state.fetches_failed += 1;
                // Once for each reason, not once for each of the many retries.
                if state.last_error.as_ref() != Some(&said) {
                    tracing::warn!(
                        source = self.label(),
                        "the key set is not fetched, what there was of it stays: {said}"
                    );
                    state.last_error = Some(said);
                }
                (false, None)
            }
        };
        self.rounds.send_modify(|rounds| {
            rounds.ended = round;
            if good {
                rounds.good = round;
            }
        });
        entries
    }

    fn publish(&self, set: KeySet, now: Instant, lifetime: Duration) -> Value {
        let KeySet { entries, version, members, complaints } = set;
        let same = self.published.load_full().filter(|old| old.version == version);
        let members = if let Some(old) = same {
            Arc::clone(&old.members)
        } else {
            for bad in complaints {
                tracing::warn!(source = self.label(), hint = bad.hint, "a published key is not used: {}", bad.message);
            }
            tracing::info!(source = self.label(), keys = members.len(), "new key set");
            members.into()
        };
        self.published.store(Some(Arc::new(Published::new(version, members, now, Duration::ZERO, lifetime))));
        entries
    }

    /// Writes the copy, even of an unchanged set: its date says when the issuer last confirmed it.
    ///
    /// A disk that hangs holds one thread, not one for each fetch, and holds up no fetch for longer than [`DISK`].
    async fn copy(&self, copying: &mut Option<JoinHandle<()>>, entries: Value) {
        let Some(path) = self.settings.last_good.clone() else { return };
        if copying.as_ref().is_some_and(|copy| !copy.is_finished()) {
            return;
        }
        let source = self.label().to_owned();
        let mut copy = tokio::task::spawn_blocking(move || {
            if let Err(error) = last_good::write(&path, &source, &entries) {
                tracing::warn!(path = %path.display(), %error, "the last good key set is not kept on disk");
            }
        });
        if timeout(DISK, &mut copy).await.is_err() {
            tracing::warn!(source = self.label(), "the disk does not take the last good key set");
            *copying = Some(copy);
        }
    }

    fn label(&self) -> &str {
        self.settings.source.location().as_str()
    }

    /// No code that holds the lock can leave it half changed, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RemoteKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKeys").field("source", &self.label()).finish_non_exhaustive()
    }
}

/// A fetch under way: if its task is dropped, the next one to run [`RemoteKeys::keep_fresh`] begins anew.
struct Flight<'k>(&'k RemoteKeys);

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.lock().schedule.abandon(Instant::now());
    }
}

/// The copy is stale from the start: only the issuer can say that it still holds.
fn from_disk(settings: &RemoteSettings, now: Instant) -> Option<Published> {
    let path = settings.last_good.as_deref()?;
    // Written anew, a set may be longer than it came.
    let longest = settings.fetch.max_bytes.saturating_mul(2);
    match last_good::read(path, settings.source.location().as_str(), longest) {
        Ok(Some((set, age))) if age <= settings.max_stale => {
            tracing::info!(path = %path.display(), age_secs = age.as_secs(), "begins with the last good key set");
            Some(Published::new(set.version, set.members.into(), now, age, Duration::ZERO))
        }
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(path = %path.display(), "the last good key set is not used: {}", Chain(&error));
            None
        }
    }
}

/// Without randomness there is no jitter, which is no reason to fail.
fn dice() -> Dice {
    let mut bits = [0; 2];
    aws_lc_rs::rand::fill(&mut bits).ok();
    Dice::new(u16::from_be_bytes(bits))
}
