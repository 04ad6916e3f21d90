//! The journal: what came by the admin API, one JSON object a line, on the disk before it is acknowledged.
//!
//! Owns durability: appending with fsync, compaction (written anew beside it, renamed over it), the lock that keeps a second process out,
//! and what a crash may leave behind: a torn last line. Any other malformed line refuses the journal, because what it revoked
//! is not known.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::super::time::UnixSeconds;
use super::RevokeError;
use super::entry::{Entry, EntryFault, members};
use super::index::Index;

/// Lines a journal may have before it is compacted, however few entries it holds.
const FEW: usize = 1024;

/// What one line says.
#[derive(Debug)]
pub(super) enum Change<'a> {
    Add(&'a Entry),
    Remove(&'a Entry),
}

/// An open, locked journal.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    lines: usize,
    /// Lines after the last compaction.
    compacted: usize,
    /// An append failed, so the end of the file is not known: it is written anew before the next one.
    suspect: bool,
}

impl Journal {
    /// Opens or makes the journal, replays it and compacts it.
    pub(super) fn open(path: &Path, now: UnixSeconds) -> Result<(Self, Index), RevokeError> {
        let failed = |source| RevokeError::Journal { path: path.to_owned(), source };
        let mut file = private().read(true).open(path).map_err(failed)?;
        lock(&file, path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let index = replay(&bytes, path, now)?;
        let index = index.without_expired(now).unwrap_or(index);
        let mut journal = Self { path: path.to_owned(), file, lines: 0, compacted: 0, suspect: true };
        journal.compact(&index).map_err(failed)?;
        Ok((journal, index))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes one change and waits until it is on the disk. `before` is what the journal says without it.
    pub(super) fn append(&mut self, change: &Change<'_>, before: &Index) -> Result<(), RevokeError> {
        self.try_append(&line(change), 1, before).map_err(|source| self.failed(source))
    }

    /// The same for several changes, which reach the disk together.
    pub(super) fn append_all<'a>(
        &mut self,
        changes: impl Iterator<Item = Change<'a>>,
        before: &Index,
    ) -> Result<(), RevokeError> {
        let lines: Vec<_> = changes.map(|change| line(&change)).collect();
        self.try_append(&lines.concat(), lines.len(), before).map_err(|source| self.failed(source))
    }

    fn try_append(&mut self, text: &str, lines: usize, before: &Index) -> io::Result<()> {
        if self.suspect {
            self.compact(before)?;
        }
        self.suspect = true;
        self.file.write_all(text.as_bytes())?;
        self.file.sync_data()?;
        self.suspect = false;
        self.lines += lines;
        Ok(())
    }

    fn failed(&self, source: io::Error) -> RevokeError {
        RevokeError::Journal { path: self.path.clone(), source }
    }

    /// Writes the journal anew, as [`Self::compact`] does.
    pub(super) fn compact_or_say(&mut self, index: &Index) -> Result<(), RevokeError> {
        self.compact(index).map_err(|source| self.failed(source))
    }

    /// Whether it has doubled since it was last written anew.
    pub(super) fn has_doubled(&self) -> bool {
        self.lines > FEW.max(2 * self.compacted)
    }

    /// As after a disk that failed.
    #[cfg(test)]
    pub(super) fn lose(&mut self) {
        self.suspect = true;
    }

    /// Writes the journal anew with these entries alone. The old one stays until the new one is on the disk.
    pub(super) fn compact(&mut self, index: &Index) -> io::Result<()> {
        let mut draft = self.path.clone().into_os_string();
        draft.push(".new");
        let file = private().truncate(true).open(&draft)?;
        file.try_lock().map_err(io::Error::from)?;
        let mut writer = BufWriter::new(&file);
        for entry in index.oldest_first() {
            writer.write_all(line(&Change::Add(entry)).as_bytes())?;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        std::fs::rename(&draft, &self.path)?;
        // From here on the new file is the journal, even if the directory can't be synced.
        self.file = file;
        self.lines = index.len();
        self.compacted = index.len();
        self.suspect = false;
        File::open(directory(&self.path))?.sync_all()
    }
}

/// Who was logged out is nobody else's business.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600);
    options
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A journal that another process compacts would be renamed away under this one, and with it what is written here.
fn lock(file: &File, path: &Path) -> Result<(), RevokeError> {
    let failed = |source| RevokeError::Journal { path: path.to_owned(), source };
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(RevokeError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(failed(error)),
    }
    let (opened, named) = (file.metadata().map_err(failed)?, std::fs::metadata(path).map_err(failed)?);
    if opened.ino() == named.ino() { Ok(()) } else { Err(RevokeError::Locked { path: path.to_owned() }) }
}

fn line(change: &Change<'_>) -> String {
    let json = match change {
        Change::Add(entry) => json!({ "add": entry.to_json() }),
        Change::Remove(entry) => json!({ "remove": entry.to_json() }),
    };
    format!("{json}\n")
}

fn replay(bytes: &[u8], path: &Path, now: UnixSeconds) -> Result<Index, RevokeError> {
    let mut index = Index::empty();
    let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let mut lines = text.split(|byte| *byte == b'\n').enumerate().peekable();
    while let Some((number, bytes)) = lines.next() {
        if bytes.is_empty() && text.is_empty() {
            break;
        }
        match change(bytes, now) {
            Ok((true, entry)) => drop(index.put(entry)),
            Ok((false, entry)) => drop(index.remove(entry.key())),
            Err(_) if lines.peek().is_none() => {
                let journal = path.display();
                tracing::warn!(%journal, line = number + 1, "the last line was torn by a crash: it is left out");
            }
            Err(fault) => return Err(RevokeError::Corrupt { path: path.to_owned(), line: number + 1, fault }),
        }
    }
    Ok(index)
}

/// Whether an entry is added or removed, and which.
fn change(bytes: &[u8], now: UnixSeconds) -> Result<(bool, Entry), EntryFault> {
    let members = members(bytes)?;
    let [(verb, entry @ Value::Object(_))] = &members[..] else { return Err(EntryFault::Json) };
    let adds = match verb.as_str() {
        "add" => true,
        "remove" => false,
        _ => return Err(EntryFault::UnknownMember),
    };
    Ok((adds, Entry::from_json(entry.to_string().as_bytes(), now)?))
}
