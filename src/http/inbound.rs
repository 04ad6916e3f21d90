//! A request's body on its way in: bounded in bytes and in time, and able to say afterwards how it ended.
//!
//! Owns the body limit, the wait between reads, the least rate, the quiet of a conversation, what is read ahead, and the fate. Trailers
//! end here: they never merge into headers and nothing a client says in them reaches an upstream (RFC 9110 section 6.5.1). Refuses to
//! know where the body goes, and how one is kept that must be whole before it goes anywhere: that is [`super::spool`].

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

use super::client_body::{ClientBody, Cut};
use super::spool::{Kept, Spool, SpoolError};
use crate::deadline::Deadline;

/// How many time-outs long a body may be slower than its least rate.
const GRACE: u32 = 4;
/// How much of a body is read before an upstream is asked for, in bytes.
const AHEAD_BYTES: usize = 64 * 1024;

/// How a request body ended, or that it has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Not all of it has been read.
    Streaming,
    /// All of it was read.
    Whole,
    /// It went over its limit.
    TooLarge,
    /// The client sent nothing for longer than allowed, or all of it more slowly than allowed.
    TooSlow,
    /// What came is no body: its framing is ambiguous or out of bounds.
    Malformed,
    /// The client left.
    Broken,
    /// All of it had come, and was lost before it was passed on.
    Lost,
}

/// How slowly a body may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// An upload: so long between two reads, and in all four times that and the time that its bytes take at the least rate.
    Upload {
        /// Between two reads.
        timeout: Duration,
        /// Bytes a second; 0 asks for none.
        least_rate: u32,
    },
    /// One side of a conversation, which may be silent for as long as it likes while the other speaks: this long between two reads of
    /// either. None of it is read ahead.
    Conversation(Duration),
}

impl Fate {
    /// Whether the body failed, for which no upstream is to blame.
    pub fn is_failure(self) -> bool {
        !matches!(self, Self::Streaming | Self::Whole)
    }
}

/// Why reading a request body stopped early.
#[derive(Debug, thiserror::Error)]
pub enum InboundError {
    /// More bytes than the route allows.
    #[error("request body is over its limit")]
    TooLarge,
    /// Nothing came for longer than `body_timeout_secs`, or the body as a whole came too slowly.
    #[error("client sent its body too slowly")]
    TooSlow,
    /// The client's side failed.
    #[error("client's body broke off")]
    Broken(#[source] Cut),
    /// The exchange has ended without it.
    #[error("nobody waits for the request body any more")]
    Abandoned,
    /// What was kept of it can't be had back.
    #[error("kept body is lost")]
    Lost(#[source] SpoolError),
}

/// Counts a request body as long as it has not been read to its end. A connection with one is not idle.
#[derive(Debug)]
pub struct Live(Arc<AtomicU32>);

impl Live {
    /// One more body of `count`.
    pub fn new(count: &Arc<AtomicU32>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A shared view of one request body, kept by whoever must know its end.
#[derive(Debug, Clone, Default)]
pub struct BodyWatch(Option<Arc<Watched>>);

#[derive(Debug, Default)]
struct Watched {
    fate: AtomicU8,
    bytes: AtomicU64,
    quiet: Option<Quiet>,
    abandoned: AtomicBool,
    /// Who waits for the client to send more.
    reader: Mutex<Option<Waker>>,
    /// Bytes passed on so far.
    passed: AtomicU64,
}

/// How long nothing has come of either side of a conversation.
#[derive(Debug)]
struct Quiet {
    limit: Duration,
    begun: Instant,
    /// Milliseconds from then to the last that came.
    last: AtomicU64,
}

/// A request's body, or none.
#[derive(Debug, Default)]
pub struct RequestBody {
    // Boxed, because most requests have none and the request is moved through several futures.
    reading: Option<Box<Reading>>,
    watch: BodyWatch,
}

#[derive(Debug)]
struct Reading {
    incoming: ClientBody,
    left: u64,
    timeout: Duration,
    least_rate: u32,
    deadline: Deadline,
    begun: Instant,
    watch: Arc<Watched>,
    live: Option<Live>,
    /// What was read ahead, and how the reading ahead ended.
    ahead: VecDeque<Bytes>,
    failed: Option<InboundError>,
    /// All of it, if it was spooled.
    kept: Option<Kept>,
}

impl RequestBody {
    /// Bounds `incoming` to `limit` bytes, and in time as `pace` says.
    pub fn new(incoming: ClientBody, limit: u64, pace: Pace, live: Option<Live>) -> Self {
        let ended = incoming.is_end_stream();
        let begun = Instant::now();
        let (timeout, least_rate, quiet) = match pace {
            Pace::Upload { .. } if ended => return Self::default(),
            Pace::Upload { timeout, least_rate } => (timeout, least_rate, None),
            Pace::Conversation(limit) => (limit, 0, Some(Quiet { limit, begun, last: AtomicU64::new(0) })),
        };
        let watch = Arc::new(Watched { quiet, ..Watched::default() });
        if ended {
            watch.end(Fate::Whole);
            return Self { reading: None, watch: BodyWatch(Some(watch)) };
        }
        let reading = Reading {
            incoming,
            left: limit,
            timeout,
            least_rate,
            deadline: Deadline::default(),
            begun,
            watch: Arc::clone(&watch),
            live,
            ahead: VecDeque::new(),
            failed: None,
            kept: None,
        };
        Self { reading: Some(Box::new(reading)), watch: BodyWatch(Some(watch)) }
    }

    /// No body: the request ends with its head.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Reads the beginning of the body, or all of it if it is small, before an upstream is asked for: a client that sends slowly
    /// keeps itself waiting and no connection. At most 64 KiB and one frame are held. Nothing is read ahead of a conversation, in which
    /// the client may wait for an answer before it says more.
    pub async fn read_ahead(&mut self) {
        let Some(reading) = self.reading.as_mut().filter(|reading| reading.watch.quiet.is_none()) else { return };
        let mut held = 0;
        while held < AHEAD_BYTES {
            match poll_fn(|cx| reading.poll(cx)).await {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    held += data.len();
                    reading.ahead.push_back(data);
                }
                Some(Err(error)) => {
                    reading.failed = Some(error);
                    return;
                }
                // Over HTTP/2 and HTTP/3 the end may come behind the head, and is then no body all the same.
                None if reading.ahead.is_empty() => {
                    self.reading = None;
                    return;
                }
                None => return,
            }
        }
    }

    /// Whether more of it is to come, which may be waited for: in a conversation it may not.
    pub fn is_coming(&self) -> bool {
        self.watch.fate() == Fate::Streaming
            && self.reading.as_ref().is_some_and(|reading| reading.watch.quiet.is_none())
    }

    /// Reads all of the body and keeps it in `spool`, so that nobody waits for its client any more, and its length is known. What the
    /// client does wrong shows when the body is read, as after [`Self::read_ahead`]; what is an error here is the spool's.
    ///
    /// Not cancel safe: what was read is lost.
    pub async fn spool(&mut self, spool: &Spool) -> Result<(), SpoolError> {
        let Some(reading) = &mut self.reading else { return Ok(()) };
        let mut keeping = spool.keep();
        for data in std::mem::take(&mut reading.ahead) {
            keeping.take(data).await?;
        }
        while let Some(read) = poll_fn(|cx| reading.poll(cx)).await {
            let data = match read.map(Frame::into_data) {
                Ok(Ok(data)) => data,
                Ok(Err(_)) => continue,
                Err(error) => {
                    reading.failed = Some(error);
                    return Ok(());
                }
            };
            let (came, waited) = (Instant::now(), keeping.take(data).await);
            reading.begun += came.elapsed(); // the disk's time is not the client's
            waited?;
        }
        let kept = keeping.finish().await?;
        match kept.left() {
            0 => self.reading = None,
            _ => reading.kept = Some(kept),
        }
        Ok(())
    }

    /// The same body once more, to be sent in its place: `None` unless all of it is in memory, nothing of it has been passed on, and it has at
    /// most so many bytes. Both share the bytes; each has a watch of its own.
    pub fn again(&self, most: u64) -> Option<Self> {
        let Some(reading) = &self.reading else { return Some(Self::empty()) };
        let pieces = reading.untouched().filter(|_| self.watch.bytes() <= most)?;
        let watch = Arc::new(Watched::default());
        watch.bytes.store(self.watch.bytes(), Ordering::Relaxed);
        watch.end(Fate::Whole);
        let again = Reading {
            incoming: ClientBody::Ended,
            left: 0,
            timeout: reading.timeout,
            least_rate: 0,
            deadline: Deadline::default(),
            begun: reading.begun,
            watch: Arc::clone(&watch),
            live: None,
            ahead: pieces,
            failed: None,
            kept: None,
        };
        Some(Self { reading: Some(Box::new(again)), watch: BodyWatch(Some(watch)) })
    }

    /// Whether there is the same body once more, as by [`Self::again`].
    pub fn is_repeatable(&self, most: u64) -> bool {
        self.reading.as_ref().is_none_or(|reading| reading.is_untouched() && self.watch.bytes() <= most)
    }

    /// Whether the request ends with its head.
    pub fn is_empty(&self) -> bool {
        self.reading.is_none()
    }

    /// A view that outlives the body.
    pub fn watch(&self) -> BodyWatch {
        self.watch.clone()
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
            Some(5) => Fate::Broken,
            Some(_) => Fate::Lost,
        }
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |watched| watched.bytes.load(Ordering::Relaxed))
    }

    /// Whether all of it was read, and passed on.
    pub fn is_sent(&self) -> bool {
        let all_passed =
            |watched: &Arc<Watched>| watched.passed.load(Ordering::Relaxed) == watched.bytes.load(Ordering::Relaxed);
        self.fate() == Fate::Whole && self.0.as_ref().is_none_or(all_passed)
    }

    /// The exchange is over, however it ended: whoever still reads the body gets an error in place of what is to come. Dropping a
    /// response is not enough where the request is written by a task of its own.
    pub fn abandon(&self) {
        let Some(watched) = self.0.as_ref().filter(|_| self.fate() == Fate::Streaming) else { return };
        watched.abandoned.store(true, Ordering::Release);
        if let Some(reader) = watched.reader.lock().unwrap_or_else(PoisonError::into_inner).take() {
            reader.wake();
        }
    }

    /// How long both sides of the conversation may still be silent, if it is one.
    pub fn quiet_left(&self) -> Option<Duration> {
        self.0.as_ref()?.quiet.as_ref().map(Quiet::left)
    }

    /// The other side of the conversation has said something.
    pub fn heard(&self) {
        if let Some(quiet) = self.0.as_ref().and_then(|watched| watched.quiet.as_ref()) {
            quiet.break_off();
        }
    }

    /// How far it has come, from the client or out of the spool; it differs whenever it has come further.
    pub fn progress(&self) -> (Fate, u64) {
        let passed = self.0.as_ref().map_or(0, |watched| watched.passed.load(Ordering::Relaxed));
        (self.fate(), self.bytes() + passed)
    }
}

impl Quiet {
    fn break_off(&self) {
        self.last.store(u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn left(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        (last + self.limit).saturating_sub(self.begun.elapsed())
    }
}

impl Watched {
    fn end(&self, fate: Fate) {
        self.fate.store(fate as u8, Ordering::Relaxed);
    }

    /// Whether the exchange has ended without the body; whoever waits for more is told when it does.
    fn is_abandoned(&self, cx: &Context<'_>) -> bool {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if reader.as_ref().is_none_or(|reader| !reader.will_wake(cx.waker())) {
            *reader = Some(cx.waker().clone());
        }
        self.abandoned.load(Ordering::Acquire)
    }
}

impl Reading {
    /// Whether all of the body is in memory, and nothing of it has been passed on.
    fn is_untouched(&self) -> bool {
        let is_whole = self.watch.fate.load(Ordering::Relaxed) == Fate::Whole as u8;
        let is_here = self.kept.as_ref().is_none_or(Kept::is_in_memory) && self.failed.is_none();
        is_whole && is_here && self.watch.quiet.is_none() && self.watch.passed.load(Ordering::Relaxed) == 0
    }

    /// The bytes of the whole body, if they are all here.
    fn untouched(&self) -> Option<VecDeque<Bytes>> {
        self.is_untouched().then(|| match &self.kept {
            Some(kept) => VecDeque::from([kept.in_memory()]),
            None => self.ahead.clone(),
        })
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.deadline.clear();
                Poll::Ready(self.take(frame))
            }
            Poll::Ready(Some(Err(error))) => {
                self.watch.end(if error.malformed { Fate::Malformed } else { Fate::Broken });
                Poll::Ready(Some(Err(InboundError::Broken(error))))
            }
            Poll::Ready(None) => {
                self.whole();
                Poll::Ready(None)
            }
            Poll::Pending => {
                if self.watch.is_abandoned(cx) {
                    return Poll::Ready(Some(Err(InboundError::Abandoned)));
                }
                self.deadline.set_if_clear(self.time_left());
                loop {
                    std::task::ready!(self.deadline.poll_passed(cx));
                    let Some(quiet) = &self.watch.quiet else { break };
                    let left = quiet.left(); // the other side may have spoken meanwhile
                    if left.is_zero() {
                        break;
                    }
                    self.deadline.set(left);
                }
                self.watch.end(Fate::TooSlow);
                Poll::Ready(Some(Err(InboundError::TooSlow)))
            }
        }
    }

    /// What is passed on next: what was kept or read ahead comes first.
    fn poll_onward(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        if self.kept.is_some() {
            return self.poll_kept(cx);
        }
        if let Some(data) = self.ahead.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        self.poll(cx)
    }

    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        let Some(kept) = &mut self.kept else { return Poll::Ready(None) };
        Poll::Ready(match std::task::ready!(kept.poll_piece(cx)) {
            Some(Ok(data)) => Some(Ok(Frame::data(data))),
            Some(Err(error)) => {
                tracing::error!(?error, "a spooled request body is lost"); // of its cause nobody else will hear
                self.watch.end(Fate::Lost);
                Some(Err(InboundError::Lost(error)))
            }
            None => None,
        })
    }

    fn whole(&mut self) {
        self.watch.end(Fate::Whole);
        self.live = None;
    }

    /// How long the next read may take: an upload's, or what is left of the time that all of it may take.
    fn time_left(&self) -> Duration {
        if let Some(quiet) = &self.watch.quiet {
            return quiet.left();
        }
        if self.least_rate == 0 {
            return self.timeout;
        }
        let earned = Duration::from_secs(self.watch.bytes.load(Ordering::Relaxed) / u64::from(self.least_rate));
        self.timeout.min((GRACE * self.timeout + earned).saturating_sub(self.begun.elapsed()))
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Option<Result<Frame<Bytes>, InboundError>> {
        let Ok(data) = frame.into_data() else {
            self.whole(); // trailers: the end
            return None;
        };
        let length = data.remaining() as u64;
        let Some(left) = self.left.checked_sub(length) else {
            self.watch.end(Fate::TooLarge);
            return Some(Err(InboundError::TooLarge));
        };
        self.left = left;
        self.watch.bytes.fetch_add(length, Ordering::Relaxed);
        if let Some(quiet) = &self.watch.quiet {
            quiet.break_off();
        }
        // Over HTTP/2 the end may still come in a frame of its own; a length that was announced and kept says as much.
        if self.incoming.is_end_stream() || self.incoming.size_hint().exact() == Some(0) {
            self.whole();
        }
        Some(Ok(Frame::data(data)))
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = InboundError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, InboundError>>> {
        let Some(reading) = &mut self.reading else { return Poll::Ready(None) };
        if reading.watch.abandoned.load(Ordering::Relaxed) {
            return Poll::Ready(Some(Err(InboundError::Abandoned)));
        }
        let polled = reading.poll_onward(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            reading.watch.passed.fetch_add(length, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.reading.as_ref().is_none_or(|reading| match &reading.kept {
            Some(kept) => kept.left() == 0,
            None => reading.ahead.is_empty() && reading.failed.is_none() && reading.incoming.is_end_stream(),
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(reading) = &self.reading else { return SizeHint::with_exact(0) };
        if let Some(kept) = &reading.kept {
            return SizeHint::with_exact(kept.left());
        }
        let ahead: u64 = reading.ahead.iter().map(|data| data.len() as u64).sum();
        reading.incoming.size_hint().exact().map_or_else(SizeHint::default, |left| SizeHint::with_exact(ahead + left))
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_conversation_is_quiet_only_as_long_as_neither_side_speaks() {
        let limit = Duration::from_secs(10);
        let quiet = Quiet { limit, begun: Instant::now(), last: AtomicU64::new(0) };
        let watch = BodyWatch(Some(Arc::new(Watched { quiet: Some(quiet), ..Watched::default() })));
        for _ in 0..5 {
            advance(Duration::from_secs(9)).await;
            assert_eq!(watch.quiet_left(), Some(Duration::from_secs(1)));
            watch.clone().heard();
            assert_eq!(watch.quiet_left(), Some(limit));
        }
        advance(Duration::from_hours(1)).await;
        assert_eq!(watch.quiet_left(), Some(Duration::ZERO));
        assert_eq!(BodyWatch::default().quiet_left(), None);
    }

    #[test]
    fn whoever_waits_for_a_body_is_told_when_it_is_abandoned() {
        struct Woken(AtomicBool);
        impl std::task::Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let watched = Arc::new(Watched::default());
        let watch = BodyWatch(Some(Arc::clone(&watched)));
        assert!(!watched.is_abandoned(&Context::from_waker(&waker)));
        watch.abandon();
        assert!(woken.0.load(Ordering::Relaxed) && watched.is_abandoned(&Context::from_waker(&waker)));

        let whole = Arc::new(Watched::default());
        whole.end(Fate::Whole);
        BodyWatch(Some(Arc::clone(&whole))).abandon();
        assert!(!whole.is_abandoned(&Context::from_waker(&waker)), "there is nothing left to abandon");
    }
}
