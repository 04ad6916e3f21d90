//! Responses that their clients are slow to take: read on at the endpoint's pace, so that what carries them is free when they have come.
//!
//! A response is read where its client asks for more, as if there were no buffer, for as long as it is the endpoint that is waited for.
//! Who asks for nothing while there is something to have is behind; that is seen by looking twice, because a body that nobody polls
//! can't notice it. From then on a task of its own reads the response into a [`Backlog`], and the client is served from there. The
//! backlog ends with the client, and a response that broke off breaks off here too, after all that came of it. Refuses to know whose
//! response it is, and where and how much is kept.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as _, Frame, SizeHint};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::body::LeasedBody;
use crate::http::grpc::is_grpc;
use crate::http::{Backlog, Body, BodyError, Spool, is_event_stream};
use crate::shutdown::Tasks;

/// By which an application says that a response is to go on as it comes, as Nginx has it.
pub(super) const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How often clients are looked at. Many slow ones may queue for few connections, and each holds one until it is found out.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How many looks a client may leave what there is for it.
const PATIENT_LOOKS: u8 = 2;

/// Whether a response may be kept: neither messages and events, which are of use only as they come, nor what the application has said.
pub(super) fn may_wait(headers: &HeaderMap, said: Option<&HeaderValue>) -> bool {
    said.is_none_or(|said| !said.as_bytes().trim_ascii().eq_ignore_ascii_case(b"no"))
        && !is_event_stream(headers)
        && !is_grpc(headers)
}

/// Where one worker keeps the responses of one upstream.
#[derive(Debug)]
pub(super) struct Buffers {
    spool: Spool,
    tasks: Tasks,
    watched: Mutex<Watched>,
}

/// The responses that are read as their clients ask.
#[derive(Debug, Default)]
struct Watched {
    responses: Vec<Weak<Mutex<State>>>,
    /// Whether there is a task that looks after them.
    looking: bool,
}

impl Buffers {
    pub(super) fn new(spool: Spool, tasks: Tasks) -> Self {
        Self { spool, tasks, watched: Mutex::default() }
    }

    /// The body that a client gets in the place of `body`. What is there at once and is all of it needs no buffer, and holds nothing.
    pub(super) fn take(self: &Arc<Self>, mut body: LeasedBody) -> Body {
        if body.is_end_stream() {
            return Body::stream(body);
        }
        let left = body.size_hint().exact();
        // Nobody is woken by this look: whoever takes the response polls it, and who does not is found to be behind.
        let ahead = match Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => None,
            Poll::Ready(None) => return Body::empty(),
            Poll::Ready(Some(Ok(frame))) if body.is_end_stream() && frame.is_data() => {
                return frame.into_data().map_or_else(|_| Body::empty(), Body::full);
            }
            Poll::Ready(Some(first)) => Some(first),
        };
        let side = Side::Here { body, waits: false, looks: 0 };
        let state = Arc::new(Mutex::new(State { ahead, side }));
        self.watch(Arc::downgrade(&state));
        Body::stream(Buffered { state, left })
    }

    fn watch(self: &Arc<Self>, response: Weak<Mutex<State>>) {
        let mut watched = lock(&self.watched);
        watched.responses.push(response);
        if !watched.looking {
            watched.looking = true;
            self.tasks.spawn(Arc::clone(self).look_after_all());
        }
    }

    /// Looks until there is nothing to look after.
    async fn look_after_all(self: Arc<Self>) {
        loop {
            sleep(LOOK_AGAIN).await;
            let mut watched = lock(&self.watched);
            watched.responses.retain(|response| response.upgrade().is_some_and(|response| self.look_after(&response)));
            if watched.responses.is_empty() {
                *watched = Watched::default();
                return;
            }
        }
    }

    /// Whether this response is to be looked at again.
    fn look_after(&self, response: &Arc<Mutex<State>>) -> bool {
        let mut state = lock(response);
        let Side::Here { body, waits, looks } = &mut state.side else { return false };
        if body.is_released() {
            return false; // all of it has come
        }
        if *waits {
            return true;
        }
        *looks += 1;
        if *looks < PATIENT_LOOKS {
            return true;
        }
        let kept = Kept { backlog: self.spool.backlog(), last: None, reader: None, writer: None, task: None };
        if let Side::Here { body, .. } = std::mem::replace(&mut state.side, Side::Kept(Box::new(kept))) {
            let task = self.tasks.spawn(read_on(Arc::clone(response), body)).abort_handle();
            if let Side::Kept(kept) = &mut state.side {
                kept.task = Some(task);
            }
        }
        false
    }
}

/// Reads a response to its end, as far ahead of its client as there is room.
async fn read_on(response: Arc<Mutex<State>>, mut body: LeasedBody) {
    loop {
        make_room(&response).await;
        let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let mut state = lock(&response);
        let Side::Kept(kept) = &mut state.side else { return };
        match frame.map(|frame| frame.map(Frame::into_data)) {
            Some(Ok(Ok(data))) => {
                kept.backlog.put(&data);
                if body.is_end_stream() {
                    kept.last = Some(Last::End);
                }
            }
            Some(Ok(Err(frame))) => kept.last = frame.into_trailers().ok().map(Last::Trailers),
            Some(Err(error)) => kept.last = Some(Last::Failure(error)),
            None => kept.last = Some(Last::End),
        }
        wake(&mut kept.reader);
        if kept.last.is_some() {
            return;
        }
    }
}

/// Returns when more may be read: there is room, or the disk has taken something, or the client has.
async fn make_room(response: &Mutex<State>) {
    loop {
        let spill = match &mut lock(response).side {
            Side::Kept(kept) if !kept.backlog.has_room() => kept.backlog.spill(),
            _ => return,
        };
        let Some(spill) = spill else { break };
        let spilled = spill.write().await;
        if let Side::Kept(kept) = &mut lock(response).side {
            kept.backlog.spilled(spilled);
            wake(&mut kept.reader);
        }
    }
    std::future::poll_fn(|cx| match &mut lock(response).side {
        Side::Kept(kept) if !kept.backlog.has_room() => {
            kept.writer = Some(cx.waker().clone());
            Poll::Pending
        }
        _ => Poll::Ready(()),
    })
    .await;
}

/// A response's body that does not hold its carrier for longer than the endpoint takes.
#[derive(Debug)]
struct Buffered {
    state: Arc<Mutex<State>>,
    /// Bytes that are still to be handed out, if that is known.
    left: Option<u64>,
}

#[derive(Debug)]
struct State {
    /// What was there at once.
    ahead: Option<Result<Frame<Bytes>, BodyError>>,
    side: Side,
}

/// Who reads the response.
#[derive(Debug)]
enum Side {
    /// Its client.
    Here {
        body: LeasedBody,
        /// Whether it was the endpoint that was waited for when the client last asked.
        waits: bool,
        /// How often the client was seen to be behind since then.
        looks: u8,
    },
    /// A task of its own.
    Kept(Box<Kept>),
}

#[derive(Debug)]
struct Kept {
    backlog: Backlog,
    /// What follows the backlog, once it is known.
    last: Option<Last>,
    /// Who waits for more to come.
    reader: Option<Waker>,
    /// Who waits for room.
    writer: Option<Waker>,
    task: Option<AbortHandle>,
}

#[derive(Debug)]
enum Last {
    Trailers(HeaderMap),
    Failure(BodyError),
    End,
}

impl State {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(ahead) = self.ahead.take() {
            return Poll::Ready(Some(ahead));
        }
        match &mut self.side {
            Side::Kept(kept) => kept.poll(cx),
            Side::Here { body, waits, looks } => {
                let polled = Pin::new(body).poll_frame(cx);
                *waits = polled.is_pending();
                if *waits {
                    *looks = 0;
                }
                polled
            }
        }
    }

    fn is_over(&self) -> bool {
        self.ahead.is_none()
            && match &self.side {
                Side::Here { body, .. } => body.is_end_stream(),
                Side::Kept(kept) => matches!(kept.last, Some(Last::End)) && kept.backlog.is_empty(),
            }
    }
}

impl Kept {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(piece) = std::task::ready!(self.backlog.poll_piece(cx)) {
            if self.backlog.has_room() {
                wake(&mut self.writer);
            }
            return Poll::Ready(Some(piece.map(Frame::data).map_err(|error| {
                tracing::error!(?error, "a buffered response is lost"); // of its cause nobody else will hear
                self.last = Some(Last::End);
                error.into()
            })));
        }
        if self.last.is_none() {
            self.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(match self.last.replace(Last::End) {
            Some(Last::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Last::Failure(error)) => Some(Err(error)),
            Some(Last::End) | None => None,
        })
    }
}

impl http_body::Body for Buffered {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = lock(&self.state).poll(cx);
        if let (Some(left), Poll::Ready(Some(Ok(frame)))) = (&mut self.left, &polled) {
            *left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.state).is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for Buffered {
    /// The client has gone, or has all: nothing more is read for it.
    fn drop(&mut self) {
        if let Side::Kept(kept) = &lock(&self.state).side
            && let Some(task) = &kept.task
        {
            task.abort();
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use http::header::CONTENT_TYPE;

    use super::*;

    #[test]
    fn what_is_of_use_only_as_it_comes_does_not_wait_for_its_client() {
        let may = |media_type: &'static str, said: Option<&'static str>| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media_type))]);
            may_wait(&headers, said.map(HeaderValue::from_static).as_ref())
        };
        assert!(may("text/html", None) && may("text/html", Some("yes")) && may("text/html", Some("")));
        assert!(!may("text/html", Some("no")) && !may("text/html", Some(" No ")));
        for as_it_comes in ["text/event-stream; charset=utf-8", "application/grpc", "application/grpc+proto"] {
            assert!(!may(as_it_comes, None) && !may(as_it_comes, Some("yes")), "{as_it_comes}");
        }
    }
}
