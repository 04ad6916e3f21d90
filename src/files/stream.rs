//! A large file as a body: exact length, bounded memory, and never a clean end that is not the end.
//!
//! Owns: reading in big pieces, and breaking off when the file is no longer the one that was promised. A piece that is
//! in the page cache is read where we are, which costs one copy; any other is read on a blocking thread, and then the
//! next piece is fetched while the client takes this one. So at most one piece of 128 KiB waits here; how many wait in
//! hyper is for its write buffer's limit to say. Refuses to know: ranges, headers, who is downloading.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::io::ReadWriteFlags;
use tokio::task::{JoinHandle, spawn_blocking};

use super::buffers::{Buffer, PIECE_BYTES};
use super::open::{Identity, Opened};
use super::range::Span;
use crate::http::BodyError;

/// Why a transfer was broken off. The client sees a connection cut short of the promised length.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// The file lost bytes that were promised.
    #[error("the file shrank from {promised} to {found} bytes while it was sent")]
    Shrank {
        /// Its length in bytes when the answer began.
        promised: u64,
        /// Its length in bytes now.
        found: u64,
    },
    /// The file was written over in place; what follows would not belong to what was sent.
    #[error("the file was changed in place while it was sent")]
    Rewritten,
    /// The file system failed.
    #[error("the file could not be read on")]
    Read(#[source] io::Error),
}

/// How much of what was sent last is kept, to be compared with the file if it grows: little beside a piece, and more than
/// two contents share by chance.
const WITNESS_BYTES: usize = 1024;

/// The bytes of one span of one open file.
#[derive(Debug)]
pub(super) struct FileStream {
    source: Arc<Source>,
    /// Where the next piece to be handed out begins.
    at: u64,
    /// How many bytes are still to be handed out.
    left: u64,
    /// The last of the bytes before `at`, if any were handed out.
    sent: Bytes,
    next: Next,
}

#[derive(Debug)]
struct Source {
    file: File,
    promised: Identity,
}

/// The piece at `at`.
#[derive(Debug)]
enum Next {
    Unasked,
    Here(Result<Bytes, TransferError>),
    Reading(JoinHandle<Result<Bytes, TransferError>>),
    /// A read failed; there is no way on.
    Broken,
}

impl FileStream {
    /// `span` must lie within the size of `opened.identity`.
    pub(super) fn new(opened: Opened, span: Span) -> Self {
        let source = Arc::new(Source { file: opened.file, promised: opened.identity });
        Self { source, at: span.start, left: span.len, sent: Bytes::new(), next: Next::Unasked }
    }

    fn ask(&self) -> Next {
        let len = usize::try_from(self.left).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
        let mut buffer = Buffer::take();
        if self.source.fill_from_page_cache(buffer.room(len), self.at) {
            match self.source.kept() {
                Ok(Kept::AsPromised) => return Next::Here(Ok(buffer.filled(len))),
                Ok(Kept::Grown | Kept::Touched) => {} // to look closer may mean to wait
                Err(error) => return Next::Here(Err(error)),
            }
        }
        let (source, at, sent) = (Arc::clone(&self.source), self.at, self.sent.clone());
        Next::Reading(spawn_blocking(move || source.fill(buffer, len, at, &sent)))
    }

    /// Moves past a piece. `self.next` is `Broken` on entry and stays so after a failure.
    fn hand_out(&mut self, piece: Result<Bytes, TransferError>, from_disk: bool) -> Result<Frame<Bytes>, BodyError> {
        let piece = piece?;
        self.at += piece.len() as u64;
        self.left -= piece.len() as u64;
        self.sent = Bytes::copy_from_slice(&piece[piece.len().saturating_sub(WITNESS_BYTES)..]);
        // The disk is slower than we are: let it work while the client reads.
        self.next = if from_disk && self.left > 0 { self.ask() } else { Next::Unasked };
        Ok(Frame::data(piece))
    }
}

impl http_body::Body for FileStream {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if matches!(self.next, Next::Unasked) {
            self.next = self.ask();
        }
        match std::mem::replace(&mut self.next, Next::Broken) {
            Next::Unasked | Next::Broken => Poll::Ready(None),
            Next::Here(piece) => Poll::Ready(Some(self.hand_out(piece, false))),
            Next::Reading(mut reading) => match Pin::new(&mut reading).poll(context) {
                Poll::Pending => {
                    self.next = Next::Reading(reading);
                    Poll::Pending
                }
                Poll::Ready(joined) => {
                    let piece = joined.unwrap_or_else(|lost| Err(TransferError::Read(io::Error::other(lost))));
                    Poll::Ready(Some(self.hand_out(piece, true)))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Source {
    /// Whether `buffer` could be filled without waiting for a disk. What keeps it from that (no such pages, no such
    /// call, an end of file) is for [`Source::fill`] to find out.
    fn fill_from_page_cache(&self, buffer: &mut [u8], at: u64) -> bool {
        let wanted = buffer.len();
        let read = rustix::io::preadv2(&self.file, &mut [IoSliceMut::new(buffer)], at, ReadWriteFlags::NOWAIT);
        read == Ok(wanted)
    }

    /// `sent` is what was handed out of the bytes before `at`.
    fn fill(&self, mut buffer: Buffer, len: usize, at: u64, sent: &[u8]) -> Result<Bytes, TransferError> {
        let read = self.file.read_exact_at(buffer.room(len), at);
        self.confirm(at, sent)?;
        read.map_err(TransferError::Read)?;
        Ok(buffer.filled(len))
    }

    /// Whether what was read belongs to the state that was promised. Whoever appends has the time of the change set before
    /// the length, and may be anywhere in between when we look: that is waited for, for a moment.
    fn confirm(&self, at: u64, sent: &[u8]) -> Result<(), TransferError> {
        const LOOKS: usize = 20;
        const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
        for _ in 0..LOOKS {
            match self.kept()? {
                Kept::AsPromised => return Ok(()),
                Kept::Grown if self.still_begins_with(at, sent) => return Ok(()),
                Kept::Grown => break,
                #[allow(clippy::disallowed_methods)] // on a blocking thread
                Kept::Touched => std::thread::sleep(BETWEEN_LOOKS),
            }
        }
        Err(TransferError::Rewritten)
    }

    /// Asked after every read, so that bytes are only handed out if they belong to the state that was promised.
    fn kept(&self) -> Result<Kept, TransferError> {
        kept(&self.promised, &Identity::of(&self.file).map_err(TransferError::Read)?)
    }

    /// Tells a file that was appended to from one that was emptied and written anew, and longer: their facts are the same.
    fn still_begins_with(&self, at: u64, sent: &[u8]) -> bool {
        let mut found = vec![0; sent.len()];
        self.file.read_exact_at(&mut found, at - sent.len() as u64).is_ok() && found == sent
    }
}

/// What a file that may still be sent looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    AsPromised,
    /// It is longer, and the promised part may be there or not.
    Grown,
    /// It was written to and has its length still: it was written over, or is about to grow.
    Touched,
}

/// A file may grow: someone appends, and the promised part is still there. It may lose its name, which its contents do
/// not feel. It may not shrink, nor change while its length stays the same.
fn kept(promised: &Identity, found: &Identity) -> Result<Kept, TransferError> {
    if found.size < promised.size {
        return Err(TransferError::Shrank { promised: promised.size, found: found.size });
    }
    if found.size > promised.size {
        return Ok(Kept::Grown);
    }
    Ok(if found.modified == promised.modified { Kept::AsPromised } else { Kept::Touched })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::path::Path;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::SystemTime;

    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    const PIECE: u64 = PIECE_BYTES as u64;
    const LEN: u64 = 3 * PIECE + 77;

    fn pattern() -> Vec<u8> {
        (0..LEN).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn open(path: &Path) -> Opened {
        let file = File::open(path).unwrap();
        Opened { identity: Identity::of(&file).unwrap(), file, path: String::new() }
    }

    fn whole(path: &Path) -> FileStream {
        FileStream::new(open(path), Span { start: 0, len: LEN })
    }

    fn large_file() -> (tempfile::TempDir, std::path::PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("large");
        fs::write(&path, pattern()).unwrap();
        (directory, path)
    }

    /// Everything up to the end, or the failure that came instead.
    async fn drain(stream: &mut FileStream) -> (Vec<u8>, Option<TransferError>) {
        let mut received = Vec::new();
        while let Some(frame) = stream.frame().await {
            match frame {
                Ok(frame) => received.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => return (received, Some(*error.downcast().unwrap())),
            }
        }
        (received, None)
    }

    #[tokio::test]
    async fn the_length_is_exact_from_first_to_last_piece() {
        let (_directory, path) = large_file();
        let mut stream = whole(&path);
        assert_eq!(stream.size_hint().exact(), Some(LEN));
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(stream.size_hint().exact(), Some(LEN - first.len() as u64));
        assert!(!stream.is_end_stream());
        let (rest, failure) = drain(&mut stream).await;
        assert!(failure.is_none());
        assert!([&first[..], &rest].concat() == pattern());
        assert!(stream.is_end_stream());
    }

    #[tokio::test]
    async fn a_span_is_sent_to_the_byte() {
        let (_directory, path) = large_file();
        for (start, len) in [(0, 1), (LEN - 1, 1), (PIECE - 1, 2), (5, PIECE), (77, 2 * PIECE + 1)] {
            let (received, failure) = drain(&mut FileStream::new(open(&path), Span { start, len })).await;
            assert!(failure.is_none());
            let from = usize::try_from(start).unwrap();
            assert!(received == pattern()[from..from + usize::try_from(len).unwrap()], "{start}+{len}");
        }
    }

    #[tokio::test]
    async fn a_blocking_read_gives_the_same_bytes_and_reads_one_piece_ahead() {
        let (_directory, path) = large_file();
        let mut stream = whole(&path);
        let source = Arc::clone(&stream.source);
        stream.next = Next::Reading(spawn_blocking(move || source.fill(Buffer::take(), PIECE_BYTES, 0, &[])));
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(first == pattern()[..PIECE_BYTES]);
        assert!(matches!(stream.next, Next::Here(_) | Next::Reading(_)));
    }

    #[tokio::test]
    async fn a_file_that_shrinks_while_it_is_sent_breaks_the_transfer_and_never_pads() {
        let (_directory, path) = large_file();
        let mut stream = whole(&path);
        stream.frame().await.unwrap().unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(PIECE + 5).unwrap();
        let (received, failure) = drain(&mut stream).await;
        assert!((received.len() as u64) < LEN - PIECE);
        assert!(matches!(failure, Some(TransferError::Shrank { promised: LEN, .. })), "{failure:?}");
        assert!(!stream.is_end_stream());
    }

    #[tokio::test]
    async fn a_file_that_grows_while_it_is_sent_sends_what_was_promised() {
        let (_directory, path) = large_file();
        let mut stream = whole(&path);
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let (rest, failure) = drain(&mut stream).await;
        assert!(failure.is_none());
        assert!([&first[..], &rest].concat() == pattern());
    }

    #[tokio::test]
    async fn a_replaced_file_is_sent_to_its_end_as_it_was() {
        let (directory, path) = large_file();
        let mut stream = whole(&path);
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        fs::write(directory.path().join("new"), vec![b'x'; pattern().len()]).unwrap();
        fs::rename(directory.path().join("new"), &path).unwrap();
        let (rest, failure) = drain(&mut stream).await;
        assert!(failure.is_none());
        assert!([&first[..], &rest].concat() == pattern());
    }

    #[tokio::test]
    async fn a_file_rewritten_in_place_breaks_the_transfer() {
        let (_directory, path) = large_file();
        let mut stream = whole(&path);
        stream.frame().await.unwrap().unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).unwrap();
        let (_, failure) = drain(&mut stream).await;
        assert!(matches!(failure, Some(TransferError::Rewritten)), "{failure:?}");
    }

    #[tokio::test]
    async fn a_file_that_is_emptied_and_written_anew_and_longer_breaks_the_transfer() {
        let (_directory, path) = large_file();
        let mut stream = whole(&path);
        let first = stream.frame().await.unwrap().unwrap().into_data().unwrap();
        let other: Vec<u8> = [pattern(), b"more".to_vec()].concat().iter().map(|byte| !byte).collect();
        fs::write(&path, other).unwrap();
        let (received, failure) = drain(&mut stream).await;
        assert!(received.is_empty() && first == pattern()[..first.len()]);
        assert!(matches!(failure, Some(TransferError::Rewritten)), "{failure:?}");
    }

    #[tokio::test]
    async fn a_read_in_the_middle_of_an_append_is_no_reason_to_break_off() {
        const ROUNDS: usize = 400;
        let (_directory, path) = large_file();
        let (turn, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (its_turn, its_done, appended) = (Arc::clone(&turn), Arc::clone(&done), path.clone());
        let writer = std::thread::spawn(move || {
            for round in 1..=ROUNDS {
                while its_turn.load(Ordering::Acquire) < round {
                    std::thread::yield_now();
                }
                let mut file = OpenOptions::new().append(true).open(&appended).unwrap();
                file.write_all(&vec![b'x'; 300_000]).unwrap();
                its_done.store(round, Ordering::Release);
            }
        });
        for round in 1..=ROUNDS {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(LEN).unwrap();
            let mut stream = whole(&path);
            turn.store(round, Ordering::Release);
            let (received, failure) = drain(&mut stream).await;
            assert!(failure.is_none(), "round {round}: {failure:?}");
            assert!(received == pattern(), "round {round}");
            while done.load(Ordering::Acquire) < round {
                std::thread::yield_now();
            }
        }
        writer.join().unwrap();
    }
}
