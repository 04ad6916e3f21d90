//! A body that is handed out while it still comes: the reader is behind the writer, by as much as there is room for.
//!
//! What came first is in memory, what came then in a file, and what came last in memory again, from where the file gets it a piece at a
//! time. When the reader has caught up with the file, the file is given up. There is no error for want of room: whoever writes is told
//! to wait. Nor is there one for a disk that fails in writing, for what should have been written is still at hand. Refuses to know who
//! writes and who reads, and how they wait for each other.

use std::collections::VecDeque;
use std::fmt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::{
    Nameless, Open, PIECE_BYTES, Piece, Reading, Room, SpoolError, SpoolSettings, SpoolUsage, nameless, on_disk,
};

/// How much memory is taken at a time, in bytes. What comes in small frames is joined, as each would hold on to the buffer it was read into.
const BLOCK_BYTES: usize = 32 * 1024;

/// What has come of a body and was not handed out yet.
pub struct Backlog {
    settings: Arc<SpoolSettings>,
    usage: Arc<SpoolUsage>,
    /// The oldest.
    head: Blocks,
    /// What comes after that, from `at` on.
    file: Option<Nameless>,
    at: u64,
    /// The newest.
    tail: Blocks,
    /// Whether what comes between the file and the tail is on its way to the file.
    writing: bool,
    /// Whether the disk has failed: then nothing more is written.
    failed: bool,
    reading: Option<Reading>,
}

impl Backlog {
    pub(super) fn new(settings: Arc<SpoolSettings>, usage: Arc<SpoolUsage>) -> Self {
        let (head, tail) = Default::default();
        Self { settings, usage, head, file: None, at: 0, tail, writing: false, failed: false, reading: None }
    }

    /// Takes what has come. Whoever goes on although there is no room ([`Self::has_room`]) takes more memory than was said.
    pub fn put(&mut self, data: &[u8]) {
        let in_order = self.file.is_none() && !self.writing && self.tail.bytes == 0;
        if in_order && self.head.bytes < self.settings.memory_bytes {
            self.head.put(data);
        } else {
            self.tail.put(data);
        }
    }

    /// Whether more may be put.
    pub fn has_room(&self) -> bool {
        self.tail.bytes < PIECE_BYTES
    }

    /// Whether everything was handed out.
    pub fn is_empty(&self) -> bool {
        self.head.bytes == 0 && self.tail.bytes == 0 && self.file.is_none() && !self.writing
    }

    /// What makes room if it is written, if there is none and the files may have more. [`Self::spilled`] must follow.
    pub fn spill(&mut self) -> Option<Spill> {
        if self.failed || self.writing || self.has_room() {
            return None;
        }
        let open = self.file.as_ref().and_then(|file| file.open.clone());
        let room = open.as_ref().map_or_else(|| Room::of(&self.usage), |open| Arc::clone(&open.room));
        room.grow(self.tail.bytes as u64, self.settings.disk_bytes).ok()?;
        self.writing = true;
        let at = self.file.as_ref().map_or(0, |file| file.length);
        Some(Spill { settings: Arc::clone(&self.settings), room, open, at, blocks: self.tail.take_all() })
    }

    /// What came of writing.
    pub fn spilled(&mut self, spilled: Spilled) {
        self.writing = false;
        match spilled.outcome {
            Ok((open, bytes)) => {
                self.usage.written_bytes.fetch_add(bytes, Ordering::Relaxed);
                match &mut self.file {
                    Some(file) => file.length += bytes,
                    None => self.file = Some(Nameless { open: Some(open), length: bytes }),
                }
            }
            Err(error) => {
                tracing::warn!(
                    ?error,
                    "a response can't be buffered on disk: it goes on as fast as its client takes it"
                );
                self.failed = true;
                self.tail.give_back(spilled.blocks);
            }
        }
        self.give_up_a_file_that_was_read();
    }

    /// The oldest that is here, or nothing. A failure to read is no end: what was kept is lost, and all that follows with it.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SpoolError>>> {
        if self.head.bytes == 0 && self.file.is_none() && !self.writing {
            std::mem::swap(&mut self.head, &mut self.tail);
        }
        if let Some(data) = self.head.take() {
            return Poll::Ready(Some(Ok(data)));
        }
        let Some(file) = self.file.as_ref().filter(|file| self.at < file.length) else { return Poll::Ready(None) };
        let piece = match self.reading.take().map_or_else(|| file.read(self.at, file.length - self.at), Piece::Coming) {
            Piece::Here(piece) => piece,
            Piece::Coming(mut reading) => match reading.as_mut().poll(cx) {
                Poll::Ready(Ok(piece)) => piece,
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    self.reading = Some(reading);
                    return Poll::Pending;
                }
            },
        };
        self.at += piece.len() as u64;
        self.give_up_a_file_that_was_read();
        Poll::Ready(Some(Ok(piece)))
    }

    /// Its room is for others.
    fn give_up_a_file_that_was_read(&mut self) {
        if self.file.as_ref().is_some_and(|file| self.at == file.length) && !self.writing {
            (self.file, self.at) = (None, 0);
        }
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_disk = self.file.as_ref().map_or(0, |file| file.length - self.at);
        write!(f, "Backlog({} bytes, {on_disk} on disk, {} bytes)", self.head.bytes, self.tail.bytes)
    }
}

/// A piece of a backlog on its way to the file.
#[derive(Debug)]
pub struct Spill {
    settings: Arc<SpoolSettings>,
    room: Arc<Room>,
    open: Option<Arc<Open>>,
    at: u64,
    blocks: Vec<Bytes>,
}

/// What came of it.
#[derive(Debug)]
pub struct Spilled {
    outcome: Result<(Arc<Open>, u64), SpoolError>,
    blocks: Vec<Bytes>,
}

impl Spill {
    /// Writes it.
    ///
    /// Not cancel safe: what was being written is lost.
    pub async fn write(self) -> Spilled {
        let Self { settings, room, open, at, blocks } = self;
        let pieces = blocks.clone();
        let outcome = on_disk(move || {
            let open = match open {
                Some(open) => open,
                None => Arc::new(Open { file: nameless(&settings.directory)?, room }),
            };
            let mut written = 0;
            for piece in &pieces {
                open.file.write_all_at(piece, at + written)?;
                written += piece.len() as u64;
            }
            Ok((open, written))
        });
        Spilled { outcome: outcome.await, blocks }
    }
}

/// Bytes in memory, oldest first.
#[derive(Default)]
struct Blocks {
    full: VecDeque<Bytes>,
    last: BytesMut,
    bytes: usize,
}

impl Blocks {
    fn put(&mut self, mut data: &[u8]) {
        self.bytes += data.len();
        while !data.is_empty() {
            if self.last.len() == self.last.capacity() {
                let full = std::mem::replace(&mut self.last, BytesMut::with_capacity(BLOCK_BYTES));
                self.full.extend(Some(full.freeze()).filter(|full| !full.is_empty()));
            }
            let (some, rest) = data.split_at(data.len().min(self.last.capacity() - self.last.len()));
            self.last.extend_from_slice(some);
            data = rest;
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let last = || Some(self.last.split().freeze()).filter(|last| !last.is_empty());
        let data = self.full.pop_front().or_else(last)?;
        self.bytes -= data.len();
        Some(data)
    }

    fn take_all(&mut self) -> Vec<Bytes> {
        std::iter::from_fn(|| self.take()).collect()
    }

    fn give_back(&mut self, blocks: Vec<Bytes>) {
        for block in blocks.into_iter().rev() {
            self.bytes += block.len();
            self.full.push_front(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::path::Path;

    use super::super::tests::{is_empty, pattern, spool, until_free};
    use super::*;

    /// Puts `body` in frames of `frame` bytes as long as there is room, spilling what can be spilled; how much of it was put.
    async fn fill(backlog: &mut Backlog, body: &[u8], frame: usize) -> usize {
        let mut put = 0;
        for data in body.chunks(frame) {
            if let Some(spill) = backlog.spill() {
                backlog.spilled(spill.write().await);
            }
            if !backlog.has_room() {
                break;
            }
            backlog.put(data);
            put += data.len();
        }
        put
    }

    /// The next piece that is here.
    async fn next(backlog: &mut Backlog) -> Option<Bytes> {
        poll_fn(|cx| backlog.poll_piece(cx)).await.map(|piece| piece.expect("a file that can be read"))
    }

    async fn drain(backlog: &mut Backlog) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = next(backlog).await {
            all.extend_from_slice(&piece);
        }
        all
    }

    #[tokio::test]
    async fn what_comes_is_handed_out_in_order_from_memory_and_disk() {
        let home = tempfile::tempdir().unwrap();
        for (memory, frame) in [(0, 1000), (1000, 7), (100_000, 70_000), (1 << 20, 333)] {
            let spool = spool(home.path(), memory, 1 << 20);
            let (mut backlog, body) = (spool.backlog(), pattern(900_000));
            // The reader takes some now and then, so that the file is caught up with and begun anew.
            let (mut put, mut got) = (0, Vec::new());
            while put < body.len() {
                let end = body.len().min(put + 400_000);
                put += fill(&mut backlog, &body[put..end], frame).await;
                for _ in 0..5 {
                    got.extend(next(&mut backlog).await.into_iter().flatten());
                }
            }
            got.extend(drain(&mut backlog).await);
            assert!(got == body, "memory {memory}, frames of {frame}");
            assert!(backlog.is_empty() && is_empty(home.path()));
            assert_eq!(spool.usage().written_bytes() > 0, memory < 1 << 20, "memory {memory}");
            until_free(&spool).await;
        }
    }

    #[tokio::test]
    async fn a_reader_that_keeps_up_needs_no_file() {
        let spool = spool(Path::new("/nonexistent"), 1000, 1 << 20);
        let mut backlog = spool.backlog();
        for data in pattern(1 << 20).chunks(5000) {
            assert!(backlog.has_room() && backlog.spill().is_none());
            backlog.put(data);
            assert_eq!(drain(&mut backlog).await, data);
        }
        assert_eq!((spool.usage().written_bytes(), spool.usage().bodies()), (0, 1));
    }

    #[tokio::test]
    async fn when_room_is_used_up_the_writer_waits_and_nothing_is_lost() {
        let home = tempfile::tempdir().unwrap();
        let (room, body) = (2 * PIECE_BYTES, pattern(2_000_000));
        let spool = spool(home.path(), 1000, room as u64);
        let mut backlog = spool.backlog();
        let put = fill(&mut backlog, &body, 1000).await;
        assert!(put < room + PIECE_BYTES + 3000 && !backlog.has_room(), "{put}");
        assert!(spool.usage().disk_bytes() <= room as u64);
        let mut got = drain(&mut backlog).await;
        assert_eq!(got.len(), put);
        let mut at = put;
        while at < body.len() {
            assert!(backlog.has_room());
            at += fill(&mut backlog, &body[at..], 1000).await;
            got.extend(drain(&mut backlog).await);
        }
        assert!(got == body);
        until_free(&spool).await;
    }

    #[tokio::test]
    async fn a_disk_that_fails_in_writing_loses_nothing_and_is_not_asked_again() {
        let home = tempfile::tempdir().unwrap();
        let missing = spool(&home.path().join("missing"), 1000, 1 << 20);
        let (mut backlog, body) = (missing.backlog(), pattern(PIECE_BYTES + 1000));
        backlog.put(&body);
        backlog.put(&body);
        let spill = backlog.spill().expect("there is room");
        backlog.put(b"later");
        assert!(poll_fn(|cx| backlog.poll_piece(cx)).await.is_some(), "the oldest is at hand");
        let spilled = spill.write().await;
        assert!(spilled.outcome.is_err());
        backlog.spilled(spilled);
        assert!(backlog.spill().is_none());
        let rest = drain(&mut backlog).await;
        assert!(rest.ends_with(&[&body[..], b"later"].concat()));
        assert!(backlog.is_empty() && backlog.has_room());
        until_free(&missing).await;
    }

    #[tokio::test]
    async fn what_is_on_its_way_to_the_file_is_not_overtaken() {
        let home = tempfile::tempdir().unwrap();
        let spool = spool(home.path(), 0, 1 << 20);
        let (mut backlog, body) = (spool.backlog(), pattern(PIECE_BYTES));
        backlog.put(&body);
        let spill = backlog.spill().expect("there is room");
        backlog.put(b"later");
        assert!(next(&mut backlog).await.is_none() && !backlog.is_empty());
        backlog.spilled(spill.write().await);
        assert!(drain(&mut backlog).await == [&body[..], b"later"].concat());
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_read_is_an_error_and_never_an_end() {
        let home = tempfile::tempdir().unwrap();
        let spool = spool(home.path(), 0, 1 << 20);
        let mut backlog = spool.backlog();
        backlog.put(&pattern(PIECE_BYTES));
        let spill = backlog.spill().expect("there is room");
        backlog.spilled(spill.write().await);
        backlog.file.as_ref().and_then(|file| file.open.as_ref()).unwrap().file.set_len(50).unwrap();
        assert!(matches!(poll_fn(|cx| backlog.poll_piece(cx)).await, Some(Err(SpoolError::Io(_)))));
    }
}
