//! A request's body on its way in: bounded in bytes and in time, and able to say afterwards how it ended.
//!
//! Owns the body limit, the wait between reads and the fate. Trailers end here: they never merge into headers and nothing a
//! client says in them reaches an upstream (RFC 9110 section 6.5.1). Refuses to know where the body goes.

use std::error::Error as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::deadline::Deadline;

/// How a request body ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not all of it has been read.
    Streaming,
    /// All of it was read.
    Whole,
    /// It went over its limit.
    TooLarge,
    /// The client sent nothing for longer than allowed.
    TooSlow,
    /// What came is no body: its framing is ambiguous or out of bounds.
    Malformed,
    /// The client left.
    Broken,
}

/// Why reading a request body stopped early.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// More bytes than the route allows.
    #[error("request body is over its limit")]
    TooLarge,
    /// Nothing came for longer than `body_timeout_secs`.
    #[error("client sent no body for too long")]
    TooSlow,
    /// The client's side failed.
    #[error("client's body broke off")]
    Broken(#[source] hyper::Error),
}

/// A shared view of one request body, kept by whoever must know its end.
#[derive(Debug, Clone, Default)]
pub struct BodyWatch(Option<Arc<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    fate: AtomicU8,
    bytes: AtomicU64,
}

/// A request's body, or none.
#[derive(Debug, Default)]
pub struct RequestBody {
    // Boxed, because most requests have none and the request is moved through several futures.
    reading: Option<Box<Reading>>,
}

#[derive(Debug)]
struct Reading {
    incoming: Incoming,
    left: u64,
    timeout: Duration,
    deadline: Deadline,
    watch: Arc<Watched>,
}

impl RequestBody {
    /// Bounds `incoming` to `limit` bytes and to `timeout` between two reads.
    pub fn new(incoming: Incoming, limit: u64, timeout: Duration) -> Self {
        if incoming.is_end_stream() {
            return Self::default();
        }
        let watch = Arc::new(Watched::default());
        let reading = Reading { incoming, left: limit, timeout, deadline: Deadline::default(), watch };
        Self { reading: Some(Box::new(reading)) }
    }

    /// No body: the request ends with its head.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Whether the request ends with its head.
    pub fn is_empty(&self) -> bool {
        self.reading.is_none()
    }

    /// A view that outlives the body.
    pub fn watch(&self) -> BodyWatch {
        BodyWatch(self.reading.as_ref().map(|reading| Arc::clone(&reading.watch)))
    }
}

impl BodyWatch {
    /// How the body stands now.
    pub fn fate(&self) -> Fate {
        match self.0.as_ref().map(|watched| watched.fate.load(Ordering::Relaxed)) {
            Some(0) => Fate::Streaming,
            None | Some(1) => Fate::Whole,
            Some(2) => Fate::TooLarge,
            Some(3) => Fate::TooSlow,
            Some(4) => Fate::Malformed,
            Some(_) => Fate::Broken,
        }
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |watched| watched.bytes.load(Ordering::Relaxed))
    }
}

impl Watched {
    fn end(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::Relaxed);
    }
}

/// Whether the parser refused what the client sent; a client that leaves is an unexpected end or a reset.
fn is_malformed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput))
}

impl Reading {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.deadline.clear();
                Poll::Ready(self.take(frame))
            }
            Poll::Ready(Some(Err(error))) => {
                self.watch.end(if is_malformed(&error) { Fate::Malformed } else { Fate::Broken });
                Poll::Ready(Some(Err(InboundError::Broken(error))))
            }
            Poll::Ready(None) => {
                self.watch.end(Fate::Whole);
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.deadline.set_if_clear(self.timeout);
                std::task::ready!(self.deadline.poll_passed(cx));
                self.watch.end(Fate::TooSlow);
                Poll::Ready(Some(Err(InboundError::TooSlow)))
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Option<Result<Frame<Bytes>, InboundError>> {
        let Ok(data) = frame.into_data() else {
            self.watch.end(Fate::Whole); // trailers: the end
            return None;
        };
        let length = data.remaining() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            self.watch.end(Fate::TooLarge);
            return Some(Err(InboundError::TooLarge));
        };
        self.left = left;
        self.watch.bytes.fetch_add(length, Ordering::Relaxed);
        if self.incoming.is_end_stream() {
            self.watch.end(Fate::Whole);
        }
        Some(Ok(Frame::data(data)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        self.reading.as_mut().map_or(Poll::Ready(None), |reading| reading.poll(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.reading.as_ref().map_or_else(|| SizeHint::with_exact(0), |reading| reading.incoming.size_hint())
    }
}
