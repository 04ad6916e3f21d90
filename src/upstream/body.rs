//! A response body that holds its carrier: the connection goes back when the body ends, and is closed when it is dropped before; a
//! stream of a shared connection is reset.
//!
//! Answers for RFC 9112 section 9.3: a connection is reused only if the response ended as framed and the request was sent whole.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyFailure;
use super::endpoint::{Carrier, Leased, Ready};
use crate::http::{BodyError, BodyWatch};

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

    fn fail(&mut self, failure: BodyFailure) -> BodyError {
        if let Some(held) = self.held.take() {
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
        match carrier {
            Carrier::Slot(lease) if reusable && request.is_sent() => lease.clean(Instant::now()),
            // Else the stream would live as long as the client goes on sending, and nobody would count it.
            Carrier::Stream(_) => request.abandon(),
            Carrier::Slot(_) | Carrier::Own(_) => {}
        }
    }
}

impl Body for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.clear_deadline();
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
                let Some(deadline) = this.held.as_mut().and_then(|held| held.carrier.deadline()) else {
                    return Poll::Pending; // the upstream's part is over
                };
                deadline.set_if_clear(this.read_timeout);
                std::task::ready!(deadline.poll_passed(cx));
                Poll::Ready(Some(Err(this.fail(BodyFailure::ReadTimeout))))
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
