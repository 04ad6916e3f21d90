//! The stream between a client's socket and the HTTP parser: every byte in is looked at, and writing has a deadline.
//!
//! Owns the framing check, the write time-out, the lingering close and the wait for a client's next byte without a parser. The other
//! deadlines are [`super::driver`]'s. Refuses to know requests.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use crate::deadline::Deadline;
use crate::http::Framing;

/// How long and how much is read and thrown away after the last response, so that it is not lost to a reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// How many line ends follow what was spoiled: more than the parser's bounds on chunk extensions and trailers, where it takes a NUL.
const LINE_ENDS: usize = 256 * 1024;

/// A client's stream under guard.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    /// `None` for HTTP/2, which has framing of its own.
    framing: Option<Framing>,
    activity: Arc<Activity>,
    write_timeout: Duration,
    deadline: Deadline,
    linger: Linger,
    /// What an earlier parser had read and not used, already inspected.
    replay: Bytes,
    /// Line ends still to be given to the parser of a spoiled stream.
    line_ends: usize,
    /// The byte that ended a wait for the client, not yet inspected.
    first: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Linger {
    Closing,
    Reading { left: usize },
    Done,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, http1: bool, activity: Arc<Activity>, write_timeout: Duration) -> Self {
        let framing = http1.then(Framing::default);
        Self {
            stream,
            framing,
            activity,
            write_timeout,
            deadline: Deadline::default(),
            linger: Linger::Closing,
            replay: Bytes::new(),
            line_ends: LINE_ENDS,
            first: None,
        }
    }

    /// Gives the next parser what the last one left over.
    pub(super) fn replay(&mut self, unused: Bytes) {
        if !unused.is_empty() {
            self.replay = unused; // an empty rest would keep the whole buffer it was cut from
        }
    }

    /// The client's stream when its last message was read, and whether something had come behind that.
    pub(super) fn into_inner(self) -> (S, bool) {
        let more = self.first.is_some() || !self.replay.is_empty() || self.activity.has_more() || self.is_spoiled();
        (self.stream, more)
    }

    fn is_spoiled(&self) -> bool {
        self.framing.as_ref().is_some_and(|framing| framing.violation().is_some())
    }

    fn received(&mut self, bytes: &mut [u8]) {
        let Some(framing) = &mut self.framing else { return };
        framing.inspect(bytes);
        if let Some(violation) = framing.violation() {
            self.activity.violated(violation);
        }
        self.activity.received(framing.in_head(), framing.in_body());
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline.clear();
            return written;
        }
        self.activity.set_unflushed(true);
        self.deadline.set_if_clear(self.write_timeout);
        ready!(self.deadline.poll_passed(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client took nothing in time")))
    }
}

impl<S: AsyncRead + Unpin> Guarded<S> {
    /// Waits for the client's next byte without a parser and its buffers; false if the client has closed or failed instead.
    ///
    /// Cancel safe: a byte that was read is kept for the parser.
    pub(super) async fn first_byte(&mut self) -> bool {
        let mut byte = [0];
        let mut buf = ReadBuf::new(&mut byte);
        let read = poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buf)).await;
        self.first = buf.filled().first().copied().filter(|_| read.is_ok());
        self.first.is_some()
    }

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
        if !this.replay.is_empty() {
            buf.put_slice(&this.replay.split_to(this.replay.len().min(buf.remaining())));
            return Poll::Ready(Ok(()));
        }
        if this.is_spoiled() {
            // Nothing that follows is read. A parser that was looking for the end of a head or a chunk line finds it here, and with it
            // the spoiled bytes; after some of this it finds the end of the stream.
            let length = buf.remaining().min(this.line_ends);
            buf.initialize_unfilled_to(length).fill(b'\n');
            buf.advance(length);
            this.line_ends -= length;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        if let Some(first) = this.first.take() {
            buf.put_slice(&[first]);
            // What follows it is taken along; if that fails, so will the next read.
            drop(Pin::new(&mut this.stream).poll_read(cx, buf));
        } else {
            ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        }
        this.received(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.set_unflushed(true);
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.set_unflushed(true);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.activity.set_unflushed(false);
        }
        self.poll_written(cx, flushed)
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

    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

    fn guarded() -> (Guarded<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(64);
        (Guarded::new(ours, true, Arc::default(), WRITE_TIMEOUT), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_closed_by_the_write_timer() {
        let (mut stream, _client) = guarded();
        let start = Instant::now();
        let error = stream.write_all(&[0; 4096]).await.expect_err("a time-out");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(start.elapsed(), WRITE_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_under_an_unread_body_waits_for_the_client_within_a_bound() {
        let (mut stream, mut client) = guarded();
        client.write_all(b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n").await.expect("room");
        let mut buf = [0; 64];
        let _read = stream.read(&mut buf).await.expect("bytes");
        let start = Instant::now();
        stream.shutdown().await.expect("a clean close");
        assert_eq!(start.elapsed(), LINGER);
    }

    #[tokio::test(start_paused = true)]
    async fn closing_a_connection_whose_requests_are_whole_does_not_wait() {
        let (mut stream, mut client) = guarded();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("room");
        let mut buf = [0; 64];
        let _read = stream.read(&mut buf).await.expect("bytes");
        let start = Instant::now();
        stream.shutdown().await.expect("a clean close");
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}
