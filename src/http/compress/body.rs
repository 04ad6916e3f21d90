//! A body that is compressed while it goes out.
//!
//! What comes in is gathered into batches. A batch goes to the encoder when it is full, when the body within has nothing more to give
//! at the moment, and at the end; in the second case the encoder is flushed, so that a client sees all that has come. A
//! small one is encoded where we are. Any other would hold up every request of this worker, and is encoded on a blocking thread.
//!
//! Owns how much is held: one batch, one frame of the body within, and what the encoder gives for a batch. The next frame is asked for
//! when that has been taken. A body that breaks off within breaks off without: the coding is not ended.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll, ready};
use std::thread::available_parallelism;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};

use super::super::coding::Coding;
use super::super::{Body, BodyError};
use super::encoder::{Effort, Encoder};
use super::room::Slot;

/// How much is encoded in one go, in bytes.
const BATCH_BYTES: usize = 64 * 1024;
/// How much goes out in one frame, in bytes.
const FRAME_BYTES: usize = 64 * 1024;
/// How much may be waiting in the encoder for it to work where we are, in bytes: with the slowest of them a tenth of a millisecond.
const INLINE_BYTES: usize = 8 * 1024;

/// Fields about the bytes as they were before (RFC 9530 sections 2 and 3, RFC 3230 section 4.3.2, RFC 2616 section 14.15): no coding
/// keeps them true, in a head or in trailers.
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

/// How many blocking threads of the process encode at once: there is nothing to wait for but a processor.
static TURNS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, std::num::NonZero::get)));

/// Why a body could not be compressed to its end.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// The encoder failed, for want of memory say.
    #[error("a response body could not be compressed")]
    Encoder(#[source] io::Error),
    /// The encoder panicked, or the process is over.
    #[error("the encoder of a response body is lost")]
    Lost(#[source] JoinError),
}

/// A body in a content coding. `T` is told of every piece: how many bytes went in, and how many came out.
pub struct Compressed<T> {
    inner: Body,
    coding: Coding,
    /// How long the body within is, if that is known.
    size: Option<u64>,
    stage: Stage,
    /// What is left of the frame that came last.
    rest: Bytes,
    batch: Vec<u8>,
    /// What the encoder was given since it was flushed, in bytes.
    waiting: usize,
    /// Whether the others had their turn before a flush.
    yielded: bool,
    /// Whether the body within has ended.
    ended: bool,
    trailers: Option<HeaderMap>,
    output: Bytes,
    slot: Option<Slot>,
    told: T,
}

enum Stage {
    /// The encoder is here; it is made for the first batch.
    Idle(Option<Encoder>),
    /// It is at work on a blocking thread.
    Away(Pin<Box<dyn Future<Output = Result<Done, CompressError>> + Send>>),
    /// The coding has ended, or broken off.
    Over,
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    More,
    Flush,
    Finish,
}

/// A batch that has been encoded.
struct Done {
    /// Gone with the last one.
    encoder: Option<Encoder>,
    batch: Vec<u8>,
    output: Vec<u8>,
}

impl<T: Fn(u64, u64) + Send + Unpin + 'static> Compressed<T> {
    /// Compresses `inner`. Nothing is done before it is asked for.
    pub fn new(inner: Body, coding: Coding, slot: Slot, told: T) -> Self {
        let size = inner.size_hint().exact();
        let ended = inner.is_end_stream();
        Self {
            inner,
            coding,
            size,
            stage: Stage::Idle(None),
            rest: Bytes::new(),
            batch: Vec::new(),
            waiting: 0,
            yielded: false,
            ended,
            trailers: None,
            output: Bytes::new(),
            slot: Some(slot),
            told,
        }
    }

    /// Fills the batch as far as there is something to fill it with.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, BodyError>> {
        loop {
            let some = self.rest.split_to(self.rest.len().min(BATCH_BYTES - self.batch.len()));
            self.batch.extend_from_slice(&some);
            if self.batch.len() == BATCH_BYTES {
                return Poll::Ready(Ok(Step::More));
            }
            if self.ended {
                return Poll::Ready(Ok(Step::Finish));
            }
            match Pin::new(&mut self.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => self.take_frame(frame),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => self.ended = true,
                Poll::Pending if self.batch.is_empty() && self.waiting == 0 => return Poll::Pending,
                Poll::Pending if self.yielded => {
                    self.yielded = false;
                    return Poll::Ready(Ok(Step::Flush));
                }
                // Often the task that brings the rest has not had its turn: a flush between two frames, or right before the end, is a
                // waste of bytes.
                Poll::Pending => {
                    self.yielded = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    fn take_frame(&mut self, frame: Frame<Bytes>) {
        self.yielded = false;
        match frame.into_data() {
            Ok(data) => {
                self.rest = data;
                self.ended = self.inner.is_end_stream();
            }
            Err(frame) => {
                self.trailers = frame.into_trailers().ok();
                if let Some(trailers) = &mut self.trailers {
                    strip_digests(trailers);
                }
                self.ended = true;
            }
        }
    }

    /// Hands the batch to the encoder.
    fn encode(&mut self, encoder: Option<Encoder>, step: Step) -> Result<(), CompressError> {
        let batch = std::mem::take(&mut self.batch);
        let (coding, size) = (self.coding, self.size);
        let waiting = self.waiting + batch.len();
        self.waiting = if step == Step::More { waiting } else { 0 };
        let work = move || work(encoder, coding, size, batch, step);
        if waiting > INLINE_BYTES {
            self.stage = Stage::Away(Box::pin(elsewhere(work)));
            return Ok(());
        }
        let done = work()?;
        self.take_done(done);
        Ok(())
    }

    fn take_done(&mut self, done: Done) {
        let Done { encoder, mut batch, output } = done;
        (self.told)(batch.len() as u64, output.len() as u64);
        self.output = output.into();
        if encoder.is_none() {
            self.slot = None; // what is left is no more than any body holds
            self.stage = Stage::Over;
            return;
        }
        self.stage = Stage::Idle(encoder);
        batch.clear();
        self.batch = batch; // its memory serves again
    }

    fn break_off(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.stage = Stage::Over;
        self.inner = Body::empty();
        self.trailers = None;
        self.slot = None;
        Poll::Ready(Some(Err(error)))
    }
}

/// Removes what no coding keeps true.
pub fn strip_digests(fields: &mut HeaderMap) {
    for name in &DIGESTS {
        fields.remove(name);
    }
}

fn work(
    encoder: Option<Encoder>,
    coding: Coding,
    size: Option<u64>,
    batch: Vec<u8>,
    step: Step,
) -> Result<Done, CompressError> {
    let work = || {
        let mut encoder = encoder.map_or_else(|| Encoder::new(coding, Effort::Stream, size), Ok)?;
        encoder.write(&batch)?;
        if step == Step::Finish {
            return Ok((None, encoder.finish()?));
        }
        if step == Step::Flush {
            encoder.flush()?;
        }
        let output = encoder.take();
        Ok((Some(encoder), output))
    };
    let (encoder, output) = work().map_err(CompressError::Encoder)?;
    Ok(Done { encoder, batch, output })
}

/// Does `work` on a blocking thread when it is its turn. There are as many in the queue as there are bodies at most, and each ahead takes
/// about a millisecond. Work that has begun ends by itself, and has its turn until then.
async fn elsewhere(work: impl FnOnce() -> Result<Done, CompressError> + Send + 'static) -> Result<Done, CompressError> {
    let turn = TURNS.acquire().await.ok(); // never closed
    let working = spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    working.await.map_err(CompressError::Lost)?
}

impl<T: Fn(u64, u64) + Send + Unpin + 'static> http_body::Body for Compressed<T> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        loop {
            if !this.output.is_empty() {
                let piece = this.output.split_to(this.output.len().min(FRAME_BYTES));
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let encoder = match &mut this.stage {
                Stage::Over => return Poll::Ready(this.trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))),
                Stage::Away(working) => {
                    match ready!(working.as_mut().poll(cx)) {
                        Ok(done) => this.take_done(done),
                        Err(error) => return this.break_off(error.into()),
                    }
                    continue;
                }
                Stage::Idle(encoder) => encoder.take(),
            };
            let gathered = this.gather(cx);
            let Poll::Ready(Ok(step)) = gathered else {
                this.stage = Stage::Idle(encoder);
                return match gathered {
                    Poll::Ready(Err(error)) => this.break_off(error),
                    _ => Poll::Pending,
                };
            };
            if let Err(error) = this.encode(encoder, step) {
                return this.break_off(error.into());
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.stage, Stage::Over) && self.output.is_empty() && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl<T> fmt::Debug for Compressed<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Compressed").field("coding", &self.coding).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
