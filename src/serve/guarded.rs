//! The stream between a client's socket and the HTTP parser: every byte in is looked at, every wait has a deadline.
//!
//! Owns the idle, header and write time-outs, the framing check and the lingering close. The parser's own timer starts after
//! the first request and never for a client that sends nothing, so all of them live here. Refuses to know requests; it is
//! told how many are being answered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Limits;
use crate::deadline::Deadline;
use crate::http::{Framing, Violation};

/// How long an idle connection may still send a request once the drain has begun.
const DRAIN_IDLE: Duration = Duration::from_secs(1);
/// How long and how much is read and thrown away after the last response, so that it is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;

/// What a connection's stream and its requests tell each other.
#[derive(Debug, Default)]
pub(super) struct Activity {
    answering: AtomicU32,
    draining: AtomicBool,
    violation: std::sync::OnceLock<Violation>,
}

impl Activity {
    /// A request is being answered until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Answering {
        self.answering.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// From now on idle connections end soon.
    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// What was wrong with the framing, if anything was.
    pub(super) fn violation(&self) -> Option<Violation> {
        self.violation.get().copied()
    }

    fn is_idle(&self) -> bool {
        self.answering.load(Ordering::Relaxed) == 0
    }
}

/// One request being answered.
#[derive(Debug)]
pub(super) struct Answering(Arc<Activity>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's stream under guard.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    /// `None` for HTTP/2, which has framing of its own.
    framing: Option<Framing>,
    activity: Arc<Activity>,
    limits: Limits,
    reading: Wait,
    deadline: Deadline,
    write_deadline: Deadline,
    linger: Linger,
}

/// What the read deadline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Nothing,
    Idle,
    DrainIdle,
    Head,
}

#[derive(Debug, Clone, Copy)]
enum Linger {
    Closing,
    Reading { left: usize },
    Done,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, http1: bool, activity: Arc<Activity>, limits: Limits) -> Self {
        Self {
            stream,
            framing: http1.then(Framing::default),
            activity,
            limits,
            reading: Wait::Nothing,
            deadline: Deadline::default(),
            write_deadline: Deadline::default(),
            linger: Linger::Closing,
        }
    }

    fn received(&mut self, bytes: &mut [u8]) {
        let Some(framing) = &mut self.framing else { return };
        framing.inspect(bytes);
        if let Some(violation) = framing.violation() {
            // Only the first one counts: nothing is parsed behind it.
            self.activity.violation.get_or_init(|| violation);
        }
        if !framing.in_head() {
            self.wait_for(Wait::Nothing);
        }
    }

    /// Called when nothing can be read: which deadline runs now?
    fn poll_read_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let in_head = self.framing.as_ref().is_some_and(Framing::in_head);
        let wait = if in_head {
            Wait::Head
        } else if !self.activity.is_idle() {
            Wait::Nothing
        } else if self.activity.draining.load(Ordering::Relaxed) {
            Wait::DrainIdle
        } else {
            Wait::Idle
        };
        self.wait_for(wait);
        ready!(self.deadline.poll_passed(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "client sent no request in time"))
    }

    fn wait_for(&mut self, wait: Wait) {
        if self.reading == wait {
            return;
        }
        self.reading = wait;
        match wait {
            Wait::Nothing => self.deadline.clear(),
            Wait::Idle => self.deadline.set(self.limits.idle_timeout),
            Wait::DrainIdle => self.deadline.set(DRAIN_IDLE.min(self.limits.idle_timeout)),
            Wait::Head => self.deadline.set(self.limits.header_timeout),
        }
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_deadline.clear();
            return written;
        }
        self.write_deadline.set_if_clear(self.limits.write_timeout);
        ready!(self.write_deadline.poll_passed(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client took nothing in time")))
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Throws away what the client still sends, so that closing does not reset the connection under the last response.
    fn poll_linger(&mut self, cx: &mut Context<'_>, mut left: usize) -> Poll<()> {
        let mut scratch = [0; 2048];
        loop {
            let mut buf = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buf) {
                Poll::Ready(Ok(())) if !buf.filled().is_empty() && left > buf.filled().len() => {
                    left -= buf.filled().len();
                    self.linger = Linger::Reading { left };
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return self.deadline.poll_passed(cx),
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                this.received(&mut buf.filled_mut()[before..]);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_read_deadline(cx).map(Err),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        ready!(this.poll_written(cx, flushed))?;
        // The parser reads again only when the socket has something: the wait for a next request begins here or never.
        if matches!(this.linger, Linger::Closing)
            && let Poll::Ready(late) = this.poll_read_deadline(cx)
        {
            return Poll::Ready(Err(late));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.linger, Linger::Closing) {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.poll_written(cx, shut))?;
            // Only a client that may still be sending can lose the response to a reset.
            let owes = this.framing.as_ref().is_some_and(|framing| framing.in_body() || framing.in_head());
            if !owes {
                this.linger = Linger::Done;
                return Poll::Ready(Ok(()));
            }
            this.deadline.set(LINGER);
            this.linger = Linger::Reading { left: LINGER_BYTES };
        }
        if let Linger::Reading { left } = this.linger {
            ready!(this.poll_linger(cx, left));
            this.linger = Linger::Done;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    fn guarded(limits: Limits) -> (Guarded<DuplexStream>, DuplexStream, Arc<Activity>) {
        let (ours, theirs) = duplex(64);
        let activity = Arc::new(Activity::default());
        (Guarded::new(ours, true, Arc::clone(&activity), limits), theirs, activity)
    }

    async fn read_error(stream: &mut Guarded<DuplexStream>) -> io::ErrorKind {
        let mut buf = [0; 256];
        loop {
            if let Err(error) = stream.read(&mut buf).await {
                return error.kind();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_sends_nothing_is_closed_by_the_idle_timer() {
        let (mut stream, _client, _) = guarded(Limits::default());
        let start = Instant::now();
        assert_eq!(read_error(&mut stream).await, io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), Limits::default().idle_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_partial_head_is_closed_by_the_header_timer_however_it_trickles() {
        let (mut stream, mut client, _) = guarded(Limits::default());
        let start = Instant::now();
        tokio::task::LocalSet::new()
            .run_until(async {
                tokio::task::spawn_local(async move {
                    for byte in b"GET / HTTP/1.1\r\nHost: a\r\nX: ".iter().cycle() {
                        if client.write_all(&[*byte]).await.is_err() {
                            break;
                        }
                        tokio::time::advance(Duration::from_secs(1)).await;
                    }
                });
                assert_eq!(read_error(&mut stream).await, io::ErrorKind::TimedOut);
            })
            .await;
        assert!(start.elapsed() <= Limits::default().header_timeout + Duration::from_secs(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_being_answered_is_not_idle() {
        let (mut stream, mut client, activity) = guarded(Limits::default());
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("room");
        let mut buf = [0; 64];
        let _read = stream.read(&mut buf).await.expect("bytes");
        let answering = activity.begin();
        let waited = tokio::time::timeout(Duration::from_hours(1), stream.read(&mut buf)).await;
        assert!(waited.is_err(), "no deadline runs while a request is answered");
        drop(answering);
        assert_eq!(read_error(&mut stream).await, io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn the_idle_timer_starts_when_an_answer_is_flushed_though_nobody_reads() {
        let (mut stream, mut client, activity) = guarded(Limits::default());
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("room");
        let mut buf = [0; 64];
        let _read = stream.read(&mut buf).await.expect("bytes");
        drop(activity.begin());
        let start = Instant::now();
        stream.flush().await.expect("nothing to write");
        let late = std::future::poll_fn(|cx| match Pin::new(&mut stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => Poll::Pending, // woken by the timer alone
            late => late,
        });
        assert_eq!(late.await.expect_err("a time-out").kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), Limits::default().idle_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_closed_by_the_write_timer() {
        let (mut stream, _client, _) = guarded(Limits::default());
        let start = Instant::now();
        let error = stream.write_all(&[0; 4096]).await.expect_err("a time-out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), Limits::default().write_timeout);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_under_an_unread_body_waits_for_the_client_within_a_bound() {
        let (mut stream, mut client, _) = guarded(Limits::default());
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n").await.expect("room");
        let mut buf = [0; 64];
        let _read = stream.read(&mut buf).await.expect("bytes");
        let start = Instant::now();
        stream.shutdown().await.expect("a clean close");
        assert_eq!(start.elapsed(), LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_ends_soon_once_the_drain_begins() {
        let (mut stream, _client, activity) = guarded(Limits::default());
        activity.drain();
        let start = Instant::now();
        assert_eq!(read_error(&mut stream).await, io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), DRAIN_IDLE);
    }
}
