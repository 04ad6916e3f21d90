//! Bodies that are kept until all of them has come, or until their reader asks for more ([`Backlog`]): in memory as far as they are
//! small, beyond that in a file without a name.
//!
//! Owns the room there is for them, the files, and how these are written and read without a worker ever waiting for a disk. Refuses
//! to know whose body it is, why it must be kept, and how long its client may take.

mod backlog;

use std::fmt;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

pub use backlog::{Backlog, Spill, Spilled};

/// How much is written or read in one go, in bytes.
const PIECE_BYTES: usize = 128 * 1024;
/// How long an operation on a file may take, its turn included.
const PATIENCE: Duration = Duration::from_secs(30);
/// How many blocking threads of the process may be busy with these files. A disk that hangs stops bodies that need it, and nothing else.
const OPERATIONS_AT_ONCE: usize = 16;

static OPERATIONS: Semaphore = Semaphore::const_new(OPERATIONS_AT_ONCE);

/// Where bodies are kept and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpoolSettings {
    /// The directory of the files.
    pub directory: PathBuf,
    /// How much of one body is kept in memory, in bytes.
    pub memory_bytes: usize,
    /// How much of all bodies is kept in files, in bytes.
    pub disk_bytes: u64,
}

/// A place for bodies. Clones share the room.
#[derive(Debug, Clone)]
pub struct Spool {
    settings: Arc<SpoolSettings>,
    usage: Arc<SpoolUsage>,
}

/// What is kept now and was kept so far.
#[derive(Debug, Default)]
pub struct SpoolUsage {
    disk_bytes: AtomicU64,
    bodies: AtomicU64,
    written_bytes: AtomicU64,
}

/// Why a body could not be kept, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The files have as many bytes as they may have, or as the disk has room for.
    #[error("there is no room to spool a request body: raise `spool_bytes`, or make room on the disk of `spool_dir`")]
    Full(#[source] Option<io::Error>),
    /// The disk took too long.
    #[error("the disk of `spool_dir` did not answer in time")]
    Stalled,
    /// The file failed.
    #[error("a spooled body could not be written or read")]
    Io(#[source] io::Error),
}

impl Spool {
    /// An empty place.
    pub fn new(settings: SpoolSettings) -> Self {
        Self { settings: Arc::new(settings), usage: Arc::default() }
    }

    /// The same place under other settings: what is kept in `before` counts here too.
    #[must_use]
    pub fn continuing(self, before: &Self) -> Self {
        Self { usage: Arc::clone(&before.usage), ..self }
    }

    /// How it is used.
    pub fn usage(&self) -> &Arc<SpoolUsage> {
        &self.usage
    }

    pub(super) fn keep(&self) -> Keeping {
        self.usage.bodies.fetch_add(1, Ordering::Relaxed);
        let (settings, room) = (Arc::clone(&self.settings), Room::of(&self.usage));
        Keeping { settings, room, memory: BytesMut::new(), piece: Vec::new(), file: None }
    }

    /// A body that is to be handed out while it comes.
    pub fn backlog(&self) -> Backlog {
        self.usage.bodies.fetch_add(1, Ordering::Relaxed);
        Backlog::new(Arc::clone(&self.settings), Arc::clone(&self.usage))
    }
}

impl SpoolUsage {
    /// Bytes in files now.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes.load(Ordering::Relaxed)
    }

    /// Bodies that were kept so far, those in memory included.
    pub fn bodies(&self) -> u64 {
        self.bodies.load(Ordering::Relaxed)
    }

    /// Bytes that were written to files so far, of bodies that are handed out while they come.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }
}

/// Whether files can be made in `directory`. Blocks on the file system: not for a worker's thread.
pub fn check_spool_directory(directory: &Path) -> io::Result<()> {
    nameless(directory).map(drop)
}

/// What the file of one body takes of the room there is.
#[derive(Debug)]
struct Room {
    usage: Arc<SpoolUsage>,
    bytes: AtomicU64,
}

impl Room {
    fn of(usage: &Arc<SpoolUsage>) -> Arc<Self> {
        Arc::new(Self { usage: Arc::clone(usage), bytes: AtomicU64::new(0) })
    }

    fn grow(&self, more: u64, limit: u64) -> Result<(), SpoolError> {
        let fits = |used: u64| used.checked_add(more).filter(|sum| *sum <= limit);
        let taken = self.usage.disk_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map_err(|_| SpoolError::Full(None))?;
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.usage.disk_bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// A body that is coming in.
#[derive(Debug)]
pub(super) struct Keeping {
    settings: Arc<SpoolSettings>,
    room: Arc<Room>,
    memory: BytesMut,
    /// What is to be written to the file next.
    piece: Vec<u8>,
    file: Option<Nameless>,
}

impl Keeping {
    /// Takes some more of the body. What comes in small frames is joined: each of them would hold on to the buffer it was read into.
    ///
    /// Not cancel safe: a body that was being taken is lost.
    pub(super) async fn take(&mut self, mut data: Bytes) -> Result<(), SpoolError> {
        let free = self.settings.memory_bytes.saturating_sub(self.memory.len());
        self.memory.extend_from_slice(&data.split_to(free.min(data.len())));
        while data.has_remaining() {
            let some = data.split_to(data.len().min(PIECE_BYTES - self.piece.len()));
            self.piece.extend_from_slice(&some);
            if self.piece.len() == PIECE_BYTES {
                self.write().await?;
            }
        }
        Ok(())
    }

    /// All of it has come.
    pub(super) async fn finish(mut self) -> Result<Kept, SpoolError> {
        if !self.piece.is_empty() {
            self.write().await?;
        }
        let left = self.file.as_ref().map_or(0, |file| file.length);
        Ok(Kept { memory: self.memory.freeze(), file: self.file, at: 0, left, reading: None })
    }

    async fn write(&mut self) -> Result<(), SpoolError> {
        let piece = std::mem::take(&mut self.piece);
        let length = piece.len() as u64;
        self.room.grow(length, self.settings.disk_bytes)?;
        let (settings, room) = (Arc::clone(&self.settings), Arc::clone(&self.room));
        let (open, at) = self.file.as_ref().map_or((None, 0), |file| (file.open.clone(), file.length));
        let (open, mut piece) = on_disk(move || {
            let open = match open {
                Some(open) => open,
                None => Arc::new(Open { file: nameless(&settings.directory)?, room }),
            };
            open.file.write_all_at(&piece, at)?;
            Ok((open, piece))
        })
        .await?;
        piece.clear();
        self.piece = piece; // its memory serves again
        match &mut self.file {
            Some(file) => file.length += length,
            None => self.file = Some(Nameless { open: Some(open), length }),
        }
        Ok(())
    }
}

/// A body of which all has come, on its way out.
pub(super) struct Kept {
    memory: Bytes,
    file: Option<Nameless>,
    /// Where the next piece of the file begins.
    at: u64,
    /// How much of the file is still to be handed out.
    left: u64,
    reading: Option<Reading>,
}

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, SpoolError>> + Send + Sync>>;

impl Kept {
    /// Bytes still to be handed out.
    pub(super) fn left(&self) -> u64 {
        self.memory.len() as u64 + self.left
    }

    /// Whether no file is needed for what is left.
    pub(super) fn is_in_memory(&self) -> bool {
        self.file.is_none()
    }

    /// What is left of the part that is kept in memory.
    pub(super) fn in_memory(&self) -> Bytes {
        self.memory.clone()
    }

    /// The next piece; nothing follows a failure.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SpoolError>>> {
        if self.memory.has_remaining() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.memory))));
        }
        let Some(file) = &self.file else { return Poll::Ready(None) };
        let piece = match self.reading.take() {
            None => file.read(self.at, self.left),
            Some(reading) => Piece::Coming(reading),
        };
        let piece = match piece {
            Piece::Here(piece) => Ok(piece),
            Piece::Coming(mut reading) => match reading.as_mut().poll(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Poll::Pending;
                }
            },
        };
        let read = piece.as_ref().map_or(self.left, |piece| piece.len() as u64);
        self.at += read;
        self.left -= read;
        if self.left == 0 {
            self.file = None;
        }
        Poll::Ready(Some(piece))
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kept({} bytes)", self.left())
    }
}

/// A file that nobody can find, and that is gone with its last descriptor, whatever becomes of the process.
#[derive(Debug)]
struct Nameless {
    /// Always there until it is dropped.
    open: Option<Arc<Open>>,
    length: u64,
}

/// The fields are dropped in this order: the room is free when the file is gone.
#[derive(Debug)]
struct Open {
    file: File,
    room: Arc<Room>,
}

enum Piece {
    Here(Bytes),
    Coming(Reading),
}

impl Nameless {
    /// What is still in the page cache, as nearly everything here is, is read where we are.
    fn read(&self, at: u64, left: u64) -> Piece {
        let Some(open) = self.open.clone() else { return Piece::Here(Bytes::new()) };
        let length = usize::try_from(left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let mut buffer = vec![0; length];
        let read = rustix::io::preadv2(&open.file, &mut [IoSliceMut::new(&mut buffer)], at, ReadWriteFlags::NOWAIT);
        if read == Ok(length) {
            return Piece::Here(buffer.into());
        }
        Piece::Coming(Box::pin(on_disk(move || {
            open.file.read_exact_at(&mut buffer, at)?;
            Ok(Bytes::from(buffer))
        })))
    }
}

impl Drop for Nameless {
    /// To close the last descriptor is to free all of the file's blocks, which waits for the disk.
    fn drop(&mut self) {
        let open = self.open.take();
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(open)));
        }
    }
}

/// Does `work` on a blocking thread when it is its turn. Work that has begun ends by itself, and counts until then.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + Sync + 'static,
) -> Result<T, SpoolError> {
    let worked = async {
        let turn = OPERATIONS.acquire().await.map_err(io::Error::other)?;
        let working = spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        working.await.map_err(io::Error::other)?
    };
    let worked = timeout(PATIENCE, worked).await.map_err(|_| SpoolError::Stalled)?;
    worked.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => SpoolError::Full(Some(error)),
        _ => SpoolError::Io(error),
    })
}

/// A new file without a name. Where the file system can't make one it has a name for a moment, and nobody but us may open it.
fn nameless(directory: &Path) -> io::Result<File> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        Ok(file) => Ok(file.into()),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => named_for_a_moment(directory),
        Err(error) => Err(error.into()),
    }
}

fn named_for_a_moment(directory: &Path) -> io::Result<File> {
    let number = RandomState::new().build_hasher().finish(); // nobody can have made a file of this name before
    let path = directory.join(format!(".portcullis-{number:016x}"));
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL | OFlags::CREATE | OFlags::NOFOLLOW;
    let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)?;
    std::fs::remove_file(&path)?;
    Ok(file.into())
}

#[cfg(test)]
mod tests;
