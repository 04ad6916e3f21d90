//! A response body that holds its carrier: the connection goes back when the body ends, and is closed when it is dropped before; a
//! stream of a shared connection is reset.
//!
//! Answers for RFC 9112 section 9.3: a connection is reused only if the response ended as framed and the request was sent whole.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyFailure;
use super::endpoint::{Carrier, Leased, Ready};
use crate::http::{BodyError, BodyWatch, hop};

/// The upstream's response body, with what it holds.
#[derive(Debug)]
pub(super) struct LeasedBody {
    incoming: Incoming,
    held: Option<Held>,
    read_timeout: Duration,
    trailers: bool,
}

#[derive(Debug)]
struct Held {
    carrier: Carrier,
    request: BodyWatch,
    leased: Leased,
    reusable: bool,
}

impl LeasedBody {
    /// `reusable` is whether the response's head allows another request on the connection; `trailers` whether the client accepts them.
    pub(super) fn new(
        incoming: Incoming,
        ready: Ready,
        request: BodyWatch,
        read_timeout: Duration,
        reusable: bool,
        trailers: bool,
    ) -> Self {
        let Ready { carrier, leased, .. } = ready;
        let held = Some(Held { carrier, request, leased, reusable });
        let mut body = Self { incoming, held, read_timeout, trailers };
        if body.incoming.is_end_stream() {
            body.release();
        }
        body
    }

    /// Whether it holds nothing any more, because the response has been read to its end.
    pub(super) fn is_released(&self) -> bool {
        self.held.is_none()
    }

    fn fail(&mut self, failure: BodyFailure) -> BodyError {
        if let Some(held) = self.held.take()
            && !held.request.fate().is_failure()
        {
            held.leased.failed(failure.stage());
        }
        failure.into()
    }

    fn clear_deadline(&mut self) {
        if let Some(deadline) = self.held.as_mut().and_then(|held| held.carrier.deadline()) {
            deadline.clear();
        }
    }

    fn release(&mut self) {
        self.clear_deadline();
        let Some(Held { carrier, request, leased, reusable }) = self.held.take() else { return };
        drop(leased);
        // Anything else is over now. So is the request of a stream: it would live as long as its client goes on sending, uncounted.
        if let Carrier::Slot(lease) = carrier
            && reusable
            && request.is_sent()
        {
            lease.clean(Instant::now());
        }
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(mut frame))) => {
                this.clear_deadline();
                if let Some(trailers) = frame.trailers_mut() {
                    hop::strip(trailers);
                    trailers.remove(CONTENT_LENGTH); // RFC 9110 section 6.5.1: the message has been framed
                }
                if let Some(held) = &this.held {
                    held.request.heard();
                }
                if frame.is_trailers() && !this.trailers {
                    this.release();
                    return Poll::Ready(None);
                }
                if frame.is_trailers() || this.incoming.is_end_stream() {
                    this.release();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.fail(BodyFailure::Truncated(error))))),
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let Some(held) = &mut this.held else { return Poll::Pending }; // the upstream's part is over
                let request = &held.request;
                let Some(deadline) = held.carrier.deadline() else { return Poll::Pending };
                deadline.set_if_clear(request.quiet_left().unwrap_or(this.read_timeout));
                while deadline.poll_passed(cx).is_ready() {
                    match request.quiet_left() {
                        Some(left) if !left.is_zero() => deadline.set(left), // the client has spoken meanwhile
                        _ => return Poll::Ready(Some(Err(this.fail(BodyFailure::ReadTimeout)))),
                    }
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
