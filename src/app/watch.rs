//! Notices that a file of the configuration may have changed.
//!
//! Watches directories, not files: editors rename over a file, and Kubernetes swaps a `..data` link beside it. Events are hints
//! only; whether anything changed is decided by comparing contents.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// A change is taken to be complete when nothing more happened for this long.
const QUIET: Duration = Duration::from_millis(150);
/// A directory that never rests is looked at all the same after this long.
const LONGEST: Duration = Duration::from_millis(800);

/// Watches the directories of a set of files.
#[derive(Debug)]
pub(super) struct Watch {
    watcher: Option<RecommendedWatcher>,
    hints: mpsc::Receiver<()>,
    /// The watched files' own names.
    names: Arc<Mutex<BTreeSet<OsString>>>,
    directories: BTreeSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet. Without the kernel's help (no inotify watches left) nothing is ever noticed here, which is logged; the files
    /// are still looked at from time to time.
    pub(super) fn new() -> Self {
        let (hint, hints) = mpsc::channel(1); // one hint waiting says all there is to say
        let names: Arc<Mutex<BTreeSet<OsString>>> = Arc::default();
        let known = Arc::clone(&names);
        let noticed = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| concerns(&event, &known.lock().unwrap_or_else(PoisonError::into_inner))) {
                // Full means that a hint is waiting already.
                hint.try_send(()).ok();
            }
        };
        let watcher = notify::recommended_watcher(noticed)
            .inspect_err(|error| tracing::error!(%error, "cannot watch files: changes are noticed some seconds later"))
            .ok();
        Self { watcher, hints, names, directories: BTreeSet::new() }
    }

    /// From now on watches the directories of `files`, and no others.
    pub(super) fn files(&mut self, files: &[PathBuf]) {
        let Some(watcher) = &mut self.watcher else { return };
        let names = files.iter().filter_map(|file| file.file_name().map(ToOwned::to_owned)).collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let wanted: BTreeSet<PathBuf> = files.iter().map(|file| directory(file)).collect();
        for gone in self.directories.difference(&wanted) {
            watcher.unwatch(gone).ok(); // it may have been removed, which ended the watch
        }
        for new in wanted.difference(&self.directories) {
            if let Err(error) = watcher.watch(new, RecursiveMode::NonRecursive) {
                tracing::error!(directory = %new.display(), %error, "cannot watch: changes there are noticed later");
            }
        }
        self.directories = wanted;
    }

    /// Waits for a change, and then until it seems complete. Cancel safe: a hint lost to a cancelled wait is followed by others or
    /// was one too many.
    pub(super) async fn changed(&mut self) {
        if self.hints.recv().await.is_none() {
            std::future::pending::<()>().await; // no watcher: nothing will ever come
        }
        let latest = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            if !matches!(timeout_at(quiet, self.hints.recv()).await, Ok(Some(()))) || quiet == latest {
                return;
            }
        }
    }
}

/// Writing into a neighbour, such as a log, concerns nobody; anything that comes, goes or is renamed may be the far end of a link.
fn concerns(event: &notify::Event, names: &BTreeSet<OsString>) -> bool {
    match event.kind {
        EventKind::Access(_) => false,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => {
            event.paths.iter().any(|path| path.file_name().is_some_and(|name| names.contains(name)))
        }
        _ => true,
    }
}

fn directory(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_renamed_over_another_is_noticed_and_a_neighbour_directory_is_not_watched() {
        let home = tempfile::tempdir().expect("a directory");
        let file = home.path().join("gateway.toml");
        std::fs::write(&file, "one").expect("a write");
        let mut watch = Watch::new();
        watch.files(std::slice::from_ref(&file));
        std::fs::write(home.path().join("new"), "two").expect("a write");
        std::fs::rename(home.path().join("new"), &file).expect("a rename");
        tokio::time::timeout(Duration::from_secs(10), watch.changed()).await.expect("the change is noticed");
        assert_eq!(watch.directories.len(), 1);
    }
}
