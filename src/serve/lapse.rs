//! An answer that ends with its token: a stream of events or of gRPC messages lives no longer than what permitted it.
//!
//! Owns which answers those are and when they are looked at. Events end cleanly, after what was handed over already: a browser comes again
//! by itself, with whatever token it has by then. A call breaks off, and its client is told so in trailers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};

use super::context::Notes;
use crate::auth::{Lapse, Standing, UnixSeconds};
use crate::deadline::Deadline;
use crate::http::grpc::is_grpc;
use crate::http::{Body, BodyError, is_event_stream};
use crate::observe::TunnelCause;

/// Makes an endless answer end with its token. One whose length was told can't end early without being broken.
pub(super) fn end_with(
    standing: impl FnOnce() -> Option<Standing>,
    response: Response<Body>,
    call: bool,
    notes: &Notes,
) -> Response<Body> {
    let call = call && is_grpc(response.headers()) && !response.body().is_end_stream();
    if !call && !is_endless(&response) {
        return response;
    }
    let Some(standing) = standing() else { return response };
    let (notes, deadline) = (notes.clone(), Deadline::default());
    response.map(|body| Body::stream(Lapsing { body: Some(body), standing, deadline, call, notes }))
}

/// The token of a call ended before the answer did.
#[derive(Debug, thiserror::Error)]
#[error("the token of the call has ended")]
pub(super) struct Lapsed(Lapse);

impl Lapsed {
    /// How the access log calls it.
    pub(super) fn label(&self) -> &'static str {
        cause(self.0).label()
    }
}

fn is_endless(response: &Response<Body>) -> bool {
    is_event_stream(response.headers()) && response.body().size_hint().exact().is_none()
}

/// How the access log calls it.
pub(super) fn cause(lapse: Lapse) -> TunnelCause {
    match lapse {
        Lapse::Expired => TunnelCause::TokenExpired,
        Lapse::Revoked => TunnelCause::TokenRevoked,
    }
}

#[derive(Debug)]
struct Lapsing {
    /// Nothing once it has ended: the upstream is let go.
    body: Option<Body>,
    standing: Standing,
    deadline: Deadline,
    call: bool,
    notes: Notes,
}

impl Lapsing {
    fn end(&mut self, lapse: Lapse) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.body = None;
        if self.call {
            return Poll::Ready(Some(Err(Lapsed(lapse).into())));
        }
        self.notes.write(|story| story.outcome = cause(lapse).label());
        Poll::Ready(None)
    }
}

impl http_body::Body for Lapsing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match this.standing.holds(UnixSeconds::now()) {
            Ok(time) => this.deadline.set(time),
            Err(lapse) => return this.end(lapse),
        }
        if polled.is_ready() {
            return polled;
        }
        while this.deadline.poll_passed(cx).is_ready() {
            match this.standing.holds(UnixSeconds::now()) {
                Ok(time) => this.deadline.set(time),
                Err(lapse) => return this.end(lapse),
            }
        }
        Poll::Pending
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::super::endless::Endless;
    use super::*;

    #[test]
    fn only_a_stream_of_events_without_length_is_endless() {
        let answer = |media_type: &str, body| {
            is_endless(&Response::builder().header(CONTENT_TYPE, media_type).body(body).expect("a response"))
        };
        let endless = || Body::stream(Endless);
        assert!(answer("text/event-stream", endless()) && answer("Text/Event-Stream ; charset=utf-8", endless()));
        assert!(!answer("text/event-streams", endless()) && !answer("application/json", endless()));
        assert!(!answer("text/event-stream", Body::full("data: x\n\n")));
        assert!(!is_endless(&Response::new(endless())));
    }
}
