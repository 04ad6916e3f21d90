//! The watched file: read whole when it changed, and taken whole or not at all.
//!
//! Owns the question whether it changed. Size, inode and time are asked first; a file changed so lately that its time can't tell is read
//! and compared by its digest.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;

use super::super::time::UnixSeconds;
use super::index::Index;
use super::{RevokeError, line};

/// A million long lines. A path that names a device must not fill the memory.
const LARGEST: u64 = 256 * 1024 * 1024;
/// File times are coarser than writes: younger than this, a time says nothing.
const SETTLED: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Watched {
    path: PathBuf,
    bound: usize,
    stamp: Option<Stamp>,
    digest: Option<digest::Digest>,
}

/// What a file shows of a change without being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: SystemTime,
    changed: (i64, i64),
}

impl Watched {
    pub(super) fn open(path: &Path, bound: usize, now: UnixSeconds) -> Result<(Self, Index), RevokeError> {
        let mut watched = Self { path: path.to_owned(), bound, stamp: None, digest: None };
        let index = watched.reread(now)?;
        Ok((watched, index.unwrap_or_else(Index::empty)))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The file's entries, if it says something new. What has expired is left out.
    pub(super) fn reread(&mut self, now: UnixSeconds) -> Result<Option<Index>, RevokeError> {
        let failed = |source| RevokeError::File { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(failed)?;
        let stamp = Stamp::of(&file.metadata().map_err(failed)?);
        if stamp.is_some() && stamp == self.stamp {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
        let digest = digest::digest(&digest::SHA256, &bytes);
        if self.digest.as_ref().is_some_and(|known| known.as_ref() == digest.as_ref()) {
            self.stamp = stamp;
            return Ok(None);
        }
        let index = self.parse(&bytes, now)?;
        (self.stamp, self.digest) = (stamp, Some(digest));
        Ok(Some(index))
    }

    fn parse(&self, bytes: &[u8], now: UnixSeconds) -> Result<Index, RevokeError> {
        let (mut index, mut count) = (Index::empty(), 0);
        for found in line::entries(bytes) {
            let (_, entry) = found.map_err(|fault| RevokeError::Line { path: self.path.clone(), fault })?;
            count += 1;
            if entry.holds_at(now) {
                index.put(entry);
            }
        }
        if count > self.bound || bytes.len() as u64 == LARGEST {
            return Err(RevokeError::FileTooLong { path: self.path.clone(), bound: self.bound });
        }
        Ok(index)
    }
}

impl Stamp {
    /// `None` while the file is too young for its time to tell.
    fn of(metadata: &Metadata) -> Option<Self> {
        let modified = metadata.modified().ok()?;
        let settled = modified.elapsed().is_ok_and(|age| age > SETTLED);
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        settled.then_some(Self { inode: metadata.ino(), length: metadata.len(), modified, changed })
    }
}
