//! A panic in one request is that request's 500, and nothing else's.
//!
//! Release builds unwind for this. Owns the catching, and the note of what failed; the answer is [`super::respond`]'s.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::context::{Exchange, Notes};
use super::failure::Failure;
use crate::http::Body;
use crate::observe::WorkerMeter;

/// Wraps a service so that its panics become [`Failure::Panicked`].
#[derive(Debug, Clone)]
pub(super) struct CatchPanic;

impl<S> Layer<S> for CatchPanic {
    type Service = Caught<S>;

    fn layer(&self, inner: S) -> Caught<S> {
        Caught { inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Caught<S> {
    inner: S,
}

impl<S> Service<Exchange> for Caught<S>
where
    S: Service<Exchange, Response = Response<Body>, Error = Failure>,
{
    type Response = Response<Body>;
    type Error = Failure;
    type Future = Catching<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, exchange: Exchange) -> Self::Future {
        let (meter, notes) = (exchange.connection.worker.meter.clone(), exchange.notes.clone());
        Catching { inner: self.inner.call(exchange), meter, notes }
    }
}

pin_project! {
    pub(super) struct Catching<F> {
        #[pin]
        inner: F,
        meter: WorkerMeter,
        notes: Notes,
    }
}

impl<F: Future<Output = Result<Response<Body>, Failure>>> Future for Catching<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        // Unwind safe: after a panic the future is never polled again, and what it shared is counters and locks that
        // forgive poisoning.
        let answered = catch_unwind(AssertUnwindSafe(|| this.inner.poll(cx))).unwrap_or_else(|_| {
            this.meter.panicked();
            Poll::Ready(Err(Failure::Panicked))
        });
        if let Poll::Ready(Err(failure)) = &answered {
            this.notes.write(|story| story.outcome = failure.label());
            if let Failure::Target(error) = failure {
                this.meter.malformed(error.reason());
            }
        }
        answered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Metrics, Vocabulary};

    #[tokio::test]
    async fn a_panic_becomes_a_failure_and_is_counted() {
        let metrics = Metrics::new(Vocabulary { auth_reasons: &[], malformed_reasons: &[] });
        let notes = Notes::new(std::net::Ipv4Addr::LOCALHOST.into());
        let inner = async { panic!("on purpose") };
        let caught = Catching { inner, meter: metrics.worker(0), notes: notes.clone() }.await;
        assert!(matches!(caught, Err(Failure::Panicked)));
        assert_eq!(notes.write(|story| story.outcome), "panic");
        assert!(metrics.encode().contains("portcullis_panics_total 1"));
    }
}
