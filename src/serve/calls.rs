//! A gRPC call's own deadline: what its client says with `grpc-timeout` bounds the wait for an answer and the answer itself.
//!
//! Owns the timer. Dropping what is under way when it strikes is what ends the call at the upstream, too. How the end is told to the
//! client is [`super::grpc`]'s; that a malformed field is refused is [`super::act`]'s, where it is known who asks for what.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::context::Exchange;
use super::failure::Failure;
use crate::deadline::Deadline;
use crate::http::{Body, BodyError, grpc};

/// Wraps a service so that calls end when their client said.
#[derive(Debug, Clone)]
pub(super) struct Timed;

impl<S> Layer<S> for Timed {
    type Service = Timing<S>;

    fn layer(&self, inner: S) -> Timing<S> {
        Timing { inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Timing<S> {
    inner: S,
}

impl<S> Service<Exchange> for Timing<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = Failure>,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Calling<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let span = if exchange.grpc { grpc::timeout(&exchange.head.headers).ok().flatten() } else { None };
        let timer = span.map(|span| {
            let mut timer = Deadline::default();
            timer.set(span);
            timer
        });
        Calling { inner: self.inner.call(exchange), timer }
    }
}

pin_project! {
    pub(super) struct Calling<F> {
        #[pin]
        inner: F,
        timer: Option<Deadline>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Failure>>> Future for Calling<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.timer.as_mut().is_some_and(|timer| timer.poll_passed(cx).is_ready()) {
            return Poll::Ready(Err(Failure::CallTimeout));
        }
        let answered = ready!(this.inner.poll(cx));
        Poll::Ready(match this.timer.take() {
            Some(timer) => answered.map(|response| response.map(|body| bounded(body, timer))),
            None => answered,
        })
    }
}

/// A call's time was up before its answer was complete.
#[derive(Debug, thiserror::Error)]
#[error("the call's deadline has passed")]
pub(super) struct CallTimeout;

fn bounded(body: Body, timer: Deadline) -> Body {
    if http_body::Body::is_end_stream(&body) { body } else { Body::stream(Bounded { body, timer }) }
}

/// An answer that ends at its call's deadline.
#[derive(Debug)]
struct Bounded {
    body: Body,
    timer: Deadline,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.timer.poll_passed(cx).is_ready() {
            self.body = Body::empty(); // whatever it holds is let go
            return Poll::Ready(Some(Err(CallTimeout.into())));
        }
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    use super::super::endless::Endless;
    use super::*;

    fn timer(span: Duration) -> Deadline {
        let mut timer = Deadline::default();
        timer.set(span);
        timer
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_given_up_at_the_deadline() {
        let start = Instant::now();
        let span = Duration::from_millis(70);
        let calling = Calling { inner: std::future::pending(), timer: Some(timer(span)) };
        assert!(matches!(calling.await, Err(Failure::CallTimeout)));
        assert_eq!(start.elapsed(), span);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_end_is_broken_off_at_the_deadline() {
        let start = Instant::now();
        let span = Duration::from_secs(7);
        let mut body = bounded(Body::stream(Endless), timer(span));
        let error = body.frame().await.expect("an end").expect_err("not a clean one");
        assert!(error.is::<CallTimeout>());
        assert_eq!(start.elapsed(), span);
    }

    #[test]
    fn an_answer_without_a_body_stays_one() {
        assert!(http_body::Body::is_end_stream(&bounded(Body::empty(), timer(Duration::ZERO))));
    }
}
