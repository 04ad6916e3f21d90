//! The stream between a client's socket and the HTTP parser: every byte in is looked at, and writing has a deadline.
//!
//! Owns the framing check of HTTP/1, the budget of HTTP/2, the write time-out and the least rate of writing, the lingering close and the wait for a client's next byte
//! without a parser. The other deadlines are [`super::driver`]'s. Refuses to know requests.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::account::{Account, Terms};
use super::activity::Activity;
use crate::deadline::Deadline;
use crate::http::{Framing, Http2Budget, Violation};

/// How long and how much is read and thrown away after the last response, so that it is not lost to a reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 1024 * 1024;
/// How many line ends follow what was spoiled: more than the parser's bounds on chunk extensions and trailers, where it takes a NUL.
const LINE_ENDS: usize = 256 * 1024;
/// Most `CONTINUATION` frames that the HTTP/2 parser takes in one head: 1.25 for each 16 KiB of the longest head that can be configured.
const CONTINUATIONS: usize = 128;
/// What ends an HTTP/2 connection whose budget is spent, in the parser's own words: a head on the last of all streams that never ends.
/// The parser answers GOAWAY with `ENHANCE_YOUR_CALM` (RFC 9113 section 7), behind what it was writing, and reads no further.
static ENDLESS_HEAD: [u8; 9 * (1 + CONTINUATIONS)] = endless_head();

const fn endless_head() -> [u8; 9 * (1 + CONTINUATIONS)] {
    const HEADERS: u8 = 1;
    const CONTINUATION: u8 = 9;
    let mut frames = [0; 9 * (1 + CONTINUATIONS)];
    let mut at = 0;
    while at < frames.len() {
        frames[at + 3] = if at == 0 { HEADERS } else { CONTINUATION };
        (frames[at + 5], frames[at + 6], frames[at + 7], frames[at + 8]) = (0x7f, 0xff, 0xff, 0xff);
        at += 9;
    }
    frames
}

/// A client's stream under guard.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    inspector: Inspector,
    activity: Arc<Activity>,
    terms: Terms,
    account: Account,
    deadline: Deadline,
    linger: Linger,
    /// What an earlier parser had read and not used, already inspected.
    replay: Bytes,
    /// Line ends still to be given to the parser of a spoiled stream.
    line_ends: usize,
    /// The byte that ended a wait for the client, not yet inspected.
    first: Option<u8>,
    /// Interim responses that are being written; nothing else is until they are.
    interims: Bytes,
}

/// Who looks at what is read.
#[derive(Debug)]
enum Inspector {
    Http1(Framing),
    Http2(Http2Budget),
}

#[derive(Debug, Clone, Copy)]
enum Linger {
    Closing,
    Reading { left: usize },
    Done,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, http1: bool, activity: Arc<Activity>, terms: Terms) -> Self {
        let inspector = if http1 {
            Inspector::Http1(Framing::default())
        } else {
            Inspector::Http2(Http2Budget::new(Instant::now()))
        };
        Self {
            stream,
            inspector,
            activity,
            terms,
            account: Account::default(),
            deadline: Deadline::default(),
            linger: Linger::Closing,
            replay: Bytes::new(),
            line_ends: LINE_ENDS,
            first: None,
            interims: Bytes::new(),
        }
    }

    /// Gives the next parser what the last one left over.
    pub(super) fn replay(&mut self, unused: Bytes) {
        if !unused.is_empty() {
            self.replay = unused; // an empty rest would keep the whole buffer it was cut from
        }
    }

    /// Looks at bytes just read, and returns how many of them the parser may have.
    fn received(&mut self, bytes: &mut [u8]) -> usize {
        match &mut self.inspector {
            Inspector::Http1(framing) => {
                framing.inspect(bytes);
                if let Some(violation) = framing.violation() {
                    self.activity.violated(violation);
                }
                self.activity.received(framing.in_head(), framing.in_body());
                bytes.len()
            }
            Inspector::Http2(budget) => {
                let admitted = budget.admit(bytes, Instant::now);
                if admitted < bytes.len() {
                    self.activity.violated(Violation::Flood);
                    self.replay = Bytes::from_static(&ENDLESS_HEAD);
                }
                admitted
            }
        }
    }

    /// The client's stream when its last message was read, and whether something had come behind that.
    pub(super) fn into_inner(self) -> (S, bool) {
        let more = self.first.is_some()
            || !self.replay.is_empty()
            || self.activity.has_more()
            || self.activity.violation().is_some();
        (self.stream, more)
    }

    /// Writing has come so far.
    fn poll_sent(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.poll_written(cx, written))?;
        self.account.took(bytes, self.terms);
        if let Inspector::Http2(budget) = &mut self.inspector {
            budget.sent(bytes);
        }
        Poll::Ready(Ok(bytes))
    }

    /// Whether the client may still be sending when its connection ends, so that the last answer could be lost to a reset.
    fn may_be_sending(&self) -> bool {
        match &self.inspector {
            Inspector::Http1(framing) => framing.in_body() || framing.in_head(),
            Inspector::Http2(_) => self.activity.violation().is_some(),
        }
    }

    fn poll_written<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.deadline.clear();
            self.account.goes_on(self.terms);
            return written;
        }
        self.activity.set_unflushed(true);
        self.deadline.set_if_clear(self.account.waits(self.terms));
        ready!(self.deadline.poll_passed(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "client took nothing in time, or too little")))
    }
}

impl<S> Guarded<S> {
    /// Gives what is to be read before anything else; false if there is nothing.
    fn replayed(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        if self.replay.is_empty() {
            return false;
        }
        buf.put_slice(&self.replay.split_to(self.replay.len().min(buf.remaining())));
        true
    }

    /// Nothing is read behind a violation. An HTTP/1 parser that was looking for the end of a head or a chunk line finds it here, and
    /// with it the spoiled bytes; after some of this it finds the end of the stream, as an HTTP/2 parser does at once.
    fn spoil(&mut self, buf: &mut ReadBuf<'_>) {
        if matches!(self.inspector, Inspector::Http2(_)) {
            return;
        }
        let length = buf.remaining().min(self.line_ends);
        buf.initialize_unfilled_to(length).fill(b'\n');
        buf.advance(length);
        self.line_ends -= length;
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
        if this.replayed(buf) {
            return Poll::Ready(Ok(()));
        }
        if this.activity.violation().is_some() {
            this.spoil(buf);
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
        let admitted = this.received(&mut buf.filled_mut()[before..]);
        buf.set_filled(before + admitted);
        if admitted == 0 {
            this.replayed(buf); // nothing at all would be the end of the stream
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Writes the interim responses there are now, to the last byte. To be called before anything else is written, and when all of it
    /// has left.
    fn poll_interims(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interims.is_empty() {
            self.interims = self.activity.interims();
        }
        while !self.interims.is_empty() {
            self.activity.set_unflushed(true);
            let written = Pin::new(&mut self.stream).poll_write(cx, &self.interims);
            match ready!(self.poll_sent(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.interims.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        self.activity.set_unflushed(true);
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.poll_sent(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interims(cx))?;
        self.activity.set_unflushed(true);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.poll_sent(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // First of all: what has begun has a deadline, which nothing but progress may clear.
            ready!(self.poll_interims(cx))?;
            let flushed = Pin::new(&mut self.stream).poll_flush(cx);
            if flushed.is_ready() {
                self.activity.set_unflushed(false);
            }
            ready!(self.poll_written(cx, flushed))?;
            self.interims = self.activity.interims();
            if self.interims.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if matches!(this.linger, Linger::Closing) {
            let shut = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.poll_written(cx, shut))?;
            if !this.may_be_sending() {
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
    use std::pin::pin;
    use std::task::Waker;

    use http::HeaderMap;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::unconstrained;
    use tokio::time::Instant;

    use super::*;
    use crate::upstream::Interim;

    const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
    const TERMS: Terms = Terms { timeout: WRITE_TIMEOUT, least_rate: 500 };

    fn guarded() -> (Guarded<DuplexStream>, DuplexStream) {
        let (ours, theirs) = duplex(64);
        (Guarded::new(ours, true, Arc::default(), TERMS), theirs)
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

    const HINT: &str = "HTTP/1.1 103 Early Hints\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 204 No Content\r\n\r\n";

    /// What a future has come to when it is polled once; outside of the budget that tokio gives a task between two rests.
    fn polled<F: Future>(future: F) -> Option<F::Output> {
        match pin!(unconstrained(future)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    /// A stream that takes `room` bytes while its client reads none, and an exchange on it whose upstream sends `hint`s.
    struct Hinting {
        stream: Guarded<DuplexStream>,
        client: DuplexStream,
        activity: Arc<Activity>,
        hint: Box<dyn Fn()>,
    }

    impl Hinting {
        fn begin(room: usize) -> Self {
            let (ours, client) = duplex(room);
            let activity = Arc::new(Activity::default());
            let stream = Guarded::new(ours, true, Arc::clone(&activity), TERMS);
            drop(activity.begin());
            let passed = activity.pass_interims();
            let hint = Box::new(move || passed.tell(Interim { code: 103, headers: HeaderMap::new() }));
            Self { stream, client, activity, hint }
        }

        /// Writes as far as there is room; whether that was all.
        fn write(&mut self, bytes: &str) -> bool {
            polled(self.stream.write_all(bytes.as_bytes())).is_some_and(|written| written.is_ok())
        }

        fn flush(&mut self) -> bool {
            polled(self.stream.flush()).is_some_and(|flushed| flushed.is_ok())
        }

        /// What the client finds.
        fn read(&mut self) -> String {
            let mut seen = vec![0; 4096];
            let read = polled(self.client.read(&mut seen)).map_or(0, |read| read.expect("an open stream"));
            String::from_utf8_lossy(&seen[..read]).into_owned()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_interim_response_is_sent_when_it_comes() {
        let mut hinting = Hinting::begin(4096);
        for _ in 0..2 {
            (hinting.hint)();
            assert!(hinting.flush());
            assert_eq!(hinting.read(), HINT);
        }
        hinting.activity.answered();
        (hinting.hint)();
        assert!(hinting.write(FINAL) && hinting.flush());
        assert_eq!(hinting.read(), FINAL, "what comes after the answer was made is not sent");
    }

    #[tokio::test(start_paused = true)]
    async fn an_interim_response_that_waits_goes_before_the_answer() {
        let mut hinting = Hinting::begin(4096);
        (hinting.hint)();
        (hinting.hint)();
        hinting.activity.answered();
        assert!(hinting.write(FINAL) && hinting.flush());
        assert_eq!(hinting.read(), [HINT, HINT, FINAL].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn an_interim_response_waits_for_the_end_of_the_message_before_it() {
        let mut hinting = Hinting::begin(8);
        assert!(!hinting.write("the end and more"));
        (hinting.hint)();
        assert_eq!(hinting.read(), "the end ");
        assert!(hinting.write("of it"));
        assert_eq!(hinting.read(), "of it");
        let mut seen = String::new();
        while !hinting.flush() {
            seen.push_str(&hinting.read());
        }
        assert_eq!(seen + &hinting.read(), HINT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_interim_response_is_dropped_if_there_is_no_place_between_two_messages() {
        let mut hinting = Hinting::begin(8);
        assert!(!hinting.write("the end of the message before"));
        (hinting.hint)();
        hinting.activity.answered(); // the answer stands right behind it now
        let mut seen = hinting.read();
        for byte in FINAL.chars() {
            assert!(hinting.write(&byte.to_string()));
            seen.push_str(&hinting.read());
        }
        assert!(hinting.flush());
        assert_eq!(seen, format!("the end {FINAL}"), "the test wrote only as far as there was room");
    }

    #[tokio::test(start_paused = true)]
    async fn an_interim_response_that_has_begun_is_finished_before_anything_else() {
        let mut hinting = Hinting::begin(8);
        (hinting.hint)();
        assert!(!hinting.flush());
        (hinting.hint)(); // too late: the answer comes before the first has left
        hinting.activity.answered();
        let mut seen = String::new();
        for byte in FINAL.chars() {
            while !hinting.write(&byte.to_string()) {
                seen.push_str(&hinting.read());
            }
        }
        while !hinting.flush() {
            seen.push_str(&hinting.read());
        }
        assert_eq!(seen + &hinting.read(), [HINT, FINAL].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_take_an_interim_response_is_closed_by_the_write_timer() {
        let mut hinting = Hinting::begin(8);
        (hinting.hint)();
        let start = Instant::now();
        let error = hinting.stream.flush().await.expect_err("a time-out");
        assert_eq!((error.kind(), start.elapsed()), (io::ErrorKind::TimedOut, WRITE_TIMEOUT));
    }
}
