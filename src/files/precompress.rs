//! Siblings made beforehand: for each file that is worth it, the same in other codings beside it.
//!
//! Owns which files those are, when a sibling is made anew, and that it is there whole or not at all, as old as its file: one that is older
//! is never served. Runs on threads of its own, not in a gateway. Refuses to know what is printed of it.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use rustix::fs::OFlags;

use super::media_type;
use crate::http::coding::Coding;
use crate::http::compress::{Effort, MediaRanges, whole};

/// Files under this fit into a packet or so as they are, in bytes.
pub const LEAST_BYTES: u64 = 1024;
/// Files over this are read to nobody's end by a browser, and each job holds one in memory, in bytes.
pub const MOST_BYTES: u64 = 256 << 20;
/// What a sibling must save to be worth its room, in hundredths.
pub const LEAST_SAVED: u64 = 5;

/// What is known to compress although no media type says so: source maps.
const MORE_SUFFIXES: [&str; 1] = ["map"];
/// What is compressed although its media type does not say so.
const PACKED_SUFFIXES: [&str; 1] = ["svgz"];
/// How a draft is named, before it takes its sibling's name. Names with a leading dot are never served.
const DRAFT: &str = ".portcullis-draft";
const MODE: u32 = 0o777;

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Precompress {
    /// Below which directory.
    pub root: PathBuf,
    /// Which siblings.
    pub codings: Vec<Coding>,
    /// On how many threads.
    pub jobs: usize,
    /// Whether siblings are made anew that are as good as they were.
    pub force: bool,
}

/// What was found below a directory.
#[derive(Debug, Default)]
pub struct Found {
    /// Files worth it that lack a sibling, the largest first.
    pub wanting: Vec<Wanting>,
    /// Files that are not worth it: too small, or of no kind that compresses.
    pub passed_over: usize,
    /// Siblings that are as they should be, by coding.
    pub current: BTreeMap<&'static str, usize>,
    /// Siblings of files that are gone.
    pub orphans: Vec<PathBuf>,
    /// What could not be looked at, or is too large.
    pub troubles: Vec<Trouble>,
}

/// A file that lacks siblings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanting {
    /// Where it is.
    pub path: PathBuf,
    /// How large it is, in bytes.
    pub bytes: u64,
    /// Those it lacks, and those that are older than it.
    pub codings: Vec<Coding>,
}

/// What was made.
#[derive(Debug, Default)]
pub struct Made {
    /// By coding.
    pub codings: BTreeMap<&'static str, Tally>,
    /// What went wrong.
    pub troubles: Vec<Trouble>,
}

/// What was made in one coding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Siblings written.
    pub written: usize,
    /// Bytes of their files.
    pub before: u64,
    /// Bytes of the siblings.
    pub after: u64,
    /// Files that would have been hardly smaller.
    pub not_worth_it: usize,
}

/// What went wrong with one file.
#[derive(Debug, thiserror::Error)]
#[error("{}", .path.display())]
pub struct Trouble {
    /// Which.
    pub path: PathBuf,
    /// What.
    #[source]
    pub cause: Cause,
}

/// What can go wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// It is being written: the next run may find it whole.
    #[error("changed while it was read, and was skipped")]
    Changed,
    /// It would take too much memory.
    #[error("is over {} MiB, and was skipped", MOST_BYTES >> 20)]
    TooLarge,
    /// It could not be read.
    #[error("cannot be read")]
    Read(#[source] io::Error),
    /// Its sibling could not be written.
    #[error("cannot write a sibling")]
    Write(#[source] io::Error),
    /// A sibling of a file that is gone could not be removed.
    #[error("cannot be removed")]
    Remove(#[source] io::Error),
}

impl Cause {
    /// Whether the run has not done what was asked; else the next one may, or nobody would want it.
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Changed | Self::TooLarge)
    }
}

impl Precompress {
    /// Looks at everything below the root. Symbolic links are not followed: what is behind one is not this directory's.
    pub fn find(&self) -> io::Result<Found> {
        let mut found = Found::default();
        let types = MediaRanges::default();
        let mut directories = vec![self.root.clone()];
        let mut first = true;
        while let Some(directory) = directories.pop() {
            let entries = match list(&directory) {
                Err(error) if first => return Err(error),
                Err(error) => {
                    found.troubles.push(Trouble { path: directory, cause: Cause::Read(error) });
                    continue;
                }
                Ok(entries) => entries,
            };
            first = false;
            for (path, metadata) in &entries {
                if metadata.is_dir() {
                    directories.push(path.clone());
                } else if metadata.is_file() {
                    self.look_at(path, metadata, &entries, &types, &mut found);
                }
            }
        }
        found.wanting.sort_by(|one, other| other.bytes.cmp(&one.bytes).then_with(|| one.path.cmp(&other.path)));
        found.orphans.sort();
        Ok(found)
    }

    fn look_at(&self, path: &Path, metadata: &Metadata, beside: &Beside, types: &MediaRanges, found: &mut Found) {
        if let Some(original) = original(path) {
            // An archive is no sibling of anything: what it would be of is of no kind that compresses.
            let suffix = |coding: &Coding| path.as_os_str().as_encoded_bytes().ends_with(coding.suffix().as_bytes());
            let ours = self.codings.iter().any(suffix) && is_worth(&original, types);
            if ours && !beside.get(&original).is_some_and(Metadata::is_file) {
                found.orphans.push(path.to_owned());
            }
            return;
        }
        if metadata.len() < LEAST_BYTES || !is_worth(path, types) {
            found.passed_over += 1;
            return;
        }
        if metadata.len() > MOST_BYTES {
            found.troubles.push(Trouble { path: path.to_owned(), cause: Cause::TooLarge });
            return;
        }
        let is_current = |coding: &Coding| {
            let there = beside.get(&sibling(path, *coding)).filter(|there| there.is_file());
            !self.force && there.is_some_and(|there| age(there) >= age(metadata))
        };
        let (current, codings): (Vec<Coding>, Vec<Coding>) = self.codings.iter().partition(|coding| is_current(coding));
        for coding in current {
            *found.current.entry(coding.name()).or_default() += 1;
        }
        if !codings.is_empty() {
            found.wanting.push(Wanting { path: path.to_owned(), bytes: metadata.len(), codings });
        }
    }

    /// Makes what is wanting; `done` is told of each file.
    pub fn make(&self, wanting: &[Wanting], done: &(dyn Fn(&Wanting) + Sync)) -> Made {
        let (made, next) = (Mutex::new(Made::default()), AtomicUsize::new(0));
        let work = || {
            while let Some(one) = wanting.get(next.fetch_add(1, Ordering::Relaxed)) {
                let result = one.make(&made);
                if let Err(cause) = result {
                    let trouble = Trouble { path: one.path.clone(), cause };
                    made.lock().unwrap_or_else(PoisonError::into_inner).troubles.push(trouble);
                }
                done(one);
            }
        };
        thread::scope(|scope| {
            for _ in 0..self.jobs.clamp(1, wanting.len().max(1)) {
                scope.spawn(work);
            }
        });
        let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
        made.troubles.sort_by(|one, other| one.path.cmp(&other.path));
        made
    }
}

/// Removes siblings of files that are gone; what could not be.
pub fn prune(orphans: &[PathBuf]) -> Vec<Trouble> {
    let remove = |path: &PathBuf| {
        let cause = fs::remove_file(path).err().filter(|error| error.kind() != io::ErrorKind::NotFound)?;
        Some(Trouble { path: path.clone(), cause: Cause::Remove(cause) })
    };
    orphans.iter().filter_map(remove).collect()
}

impl Wanting {
    fn make(&self, made: &Mutex<Made>) -> Result<(), Cause> {
        let (bytes, metadata) = read(&self.path)?;
        for coding in &self.codings {
            let packed = whole(*coding, Effort::Best, &bytes).map_err(Cause::Write)?;
            let worth_it = is_smaller(packed.len() as u64, bytes.len() as u64);
            if worth_it {
                if !fs::symlink_metadata(&self.path).is_ok_and(|now| is_same(&now, &metadata)) {
                    return Err(Cause::Changed);
                }
                write(&sibling(&self.path, *coding), &packed, &metadata).map_err(Cause::Write)?;
            }
            let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
            let tally = made.codings.entry(coding.name()).or_default();
            if worth_it {
                tally.written += 1;
                tally.before += bytes.len() as u64;
                tally.after += packed.len() as u64;
            } else {
                tally.not_worth_it += 1;
            }
        }
        Ok(())
    }
}

type Beside = BTreeMap<PathBuf, Metadata>;

/// What is in a directory and may be served. Hidden files are not, but for those of RFC 8615.
fn list(directory: &Path) -> io::Result<Beside> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b".") && name != ".well-known" {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) => drop(all.insert(entry.path(), metadata)), // of the entry itself, not of where a link leads
            Err(error) if error.kind() == io::ErrorKind::NotFound => {} // gone meanwhile
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

/// The name of the file that this would be a sibling of.
fn original(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = Coding::ALL.iter().find_map(|coding| name.strip_suffix(coding.suffix()))?;
    (!stem.is_empty()).then(|| path.with_file_name(stem))
}

fn sibling(path: &Path, coding: Coding) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(coding.suffix());
    name.into()
}

fn is_worth(path: &Path, types: &MediaRanges) -> bool {
    let is_one = |suffixes: &[&str]| {
        path.extension().is_some_and(|own| suffixes.iter().any(|suffix| own.eq_ignore_ascii_case(suffix)))
    };
    let media_type = || media_type::of(&path.to_string_lossy());
    !is_one(&PACKED_SUFFIXES) && (is_one(&MORE_SUFFIXES) || types.hold(media_type().as_bytes()))
}

fn is_smaller(packed: u64, plain: u64) -> bool {
    packed.saturating_mul(100) <= plain.saturating_mul(100 - LEAST_SAVED)
}

fn age(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let identity = |metadata: &Metadata| {
        (metadata.dev(), metadata.ino(), metadata.len(), age(metadata), metadata.ctime(), metadata.ctime_nsec())
    };
    identity(one) == identity(other)
}

/// A file's contents in one state of it.
fn read(path: &Path) -> Result<(Vec<u8>, Metadata), Cause> {
    // A file that has become a link or a pipe since it was found is neither followed nor waited for.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    let file = opened.map_err(Cause::Read)?;
    let before = file.metadata().map_err(Cause::Read)?;
    if !before.is_file() {
        return Err(Cause::Changed);
    }
    let mut bytes = Vec::new();
    (&file).take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(Cause::Read)?;
    let after = file.metadata().map_err(Cause::Read)?;
    if bytes.len() as u64 != before.len() || !is_same(&before, &after) {
        return Err(Cause::Changed);
    }
    Ok((bytes, before))
}

/// Writes a sibling beside its name first: nobody ever reads half of one.
fn write(path: &Path, bytes: &[u8], like: &Metadata) -> io::Result<()> {
    static DRAFTS: AtomicUsize = AtomicUsize::new(0);
    let number = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let draft = path.with_file_name(format!("{DRAFT}-{}-{number}", std::process::id()));
    let written = fill(&draft, bytes, like).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        fs::remove_file(&draft).ok(); // it may not be there
    }
    written
}

fn fill(draft: &Path, bytes: &[u8], like: &Metadata) -> io::Result<()> {
    let mut file = File::create_new(draft)?;
    file.write_all(bytes)?;
    file.set_permissions(Permissions::from_mode(like.mode() & MODE))?;
    file.set_times(FileTimes::new().set_modified(like.modified()?))?;
    file.sync_all() // or a crash could leave a name without its bytes
}

#[cfg(test)]
mod tests;
