//! One direction of a tunnel: from a source to a sink, frame by frame where it has to end, and byte by byte otherwise.
//!
//! Owns back-pressure, what is held while a sink takes nothing, half-closing, and that a close frame of the gateway's own stands between
//! two frames. Refuses to know why a tunnel ends and how long anything may take.

use std::cell::RefCell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::http::websocket::{Frames, Side, close_frame};

/// Most bytes read at once, and so held for a sink that takes nothing.
const READ_BYTES: usize = 16 * 1024;
/// How often one direction is read from before others have their turn.
const ROUNDS: usize = 8;

thread_local! {
    // What was read is written in the same poll; only what a sink does not take is copied. So an idle tunnel holds no buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// One direction.
#[derive(Debug)]
pub(super) struct Way {
    side: Side,
    frames: Frames,
    course: Course,
    source: End,
    sink: End,
    /// What was read and not taken yet, from `taken` on; no memory while it is empty.
    held: Vec<u8>,
    taken: usize,
    unflushed: bool,
    /// Since when the sink has taken nothing of what waits for it.
    stalled: Option<Instant>,
    misframed: bool,
    moved: u64,
}

/// What becomes of what the source sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Course {
    /// It goes on.
    Open,
    /// It goes on to the end of its frame; then a close frame with this code follows, masked so.
    Closing { code: u16, mask: [u8; 4] },
    /// A close frame went on: nothing may follow it, and what comes is looked at and thrown away.
    Closed,
}

/// One end of a direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Live,
    /// It ended as it should, or was told the end.
    Over,
    Failed,
}

impl Way {
    /// What `side` sends.
    pub(super) fn new(side: Side) -> Self {
        Self {
            side,
            frames: Frames::new(side),
            course: Course::Open,
            source: End::Live,
            sink: End::Live,
            held: Vec::new(),
            taken: 0,
            unflushed: false,
            stalled: None,
            misframed: false,
            moved: 0,
        }
    }

    /// Moves what can be moved. The sink is told of the end when the source has ended, or when `over`.
    pub(super) fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, over: bool)
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..ROUNDS {
            if self.sink == End::Live && self.poll_held(cx, to).is_pending() {
                return self.wait();
            }
            if self.source != End::Live || self.poll_read(cx, from, to).is_pending() {
                if self.sink == End::Live && self.poll_settled(cx, to, over).is_pending() {
                    return self.wait();
                }
                self.stalled = None;
                return;
            }
        }
        cx.waker().wake_by_ref();
    }

    /// From the next boundary on nothing goes on; a close frame with this code does, unless one has passed.
    pub(super) fn end(&mut self, code: u16, mask: [u8; 4]) {
        if self.course == Course::Open {
            self.course = Course::Closing { code, mask };
            self.say_goodbye();
        }
    }

    /// Bytes that went on.
    pub(super) fn moved(&self) -> u64 {
        self.moved
    }

    /// Whether the source sent what is no frame.
    pub(super) fn is_misframed(&self) -> bool {
        self.misframed
    }

    /// Since when the sink has taken nothing.
    pub(super) fn stalled(&self) -> Option<Instant> {
        self.stalled
    }

    /// Whether the source's own close frame has come.
    pub(super) fn has_close(&self) -> bool {
        self.frames.is_closed()
    }

    /// Whether the source has no more to say.
    pub(super) fn is_heard(&self) -> bool {
        self.frames.is_closed() || self.source != End::Live
    }

    /// Whether a close frame went on to the sink, whoever made it.
    pub(super) fn is_told(&self) -> bool {
        self.course == Course::Closed && self.is_settled()
    }

    /// Whether the source has ended, well or not.
    pub(super) fn is_ended(&self) -> bool {
        self.source != End::Live
    }

    /// Whether the sink takes nothing more although it was not told the end.
    pub(super) fn is_broken(&self) -> bool {
        self.sink == End::Failed
    }

    /// Whether the sink was told the end, or can't be.
    pub(super) fn is_shut(&self) -> bool {
        self.sink != End::Live
    }

    fn is_settled(&self) -> bool {
        self.sink != End::Live || (self.held.is_empty() && !self.unflushed)
    }

    fn wait(&mut self) {
        self.stalled.get_or_insert_with(Instant::now);
    }

    /// Writes what is held until nothing is.
    fn poll_held<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<()> {
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut *to).poll_write(cx, &self.held[self.taken..])) {
                Ok(written) if written > 0 => {
                    self.stalled = None;
                    self.unflushed = true;
                    self.taken += written;
                    if self.taken == self.held.len() {
                        (self.held, self.taken) = (Vec::new(), 0);
                    }
                }
                _ => self.give_up(),
            }
        }
        Poll::Ready(())
    }

    /// The sink has failed: what is held goes nowhere.
    fn give_up(&mut self) {
        self.sink = End::Failed;
        (self.held, self.taken, self.unflushed) = (Vec::new(), 0, false);
    }

    /// Where what goes on has come to a boundary, the close frame follows it.
    fn say_goodbye(&mut self) {
        let Course::Closing { code, mask } = self.course else { return };
        if !self.frames.is_at_boundary() {
            return;
        }
        self.course = Course::Closed;
        if self.sink == End::Live {
            self.held.extend(close_frame(code, (self.side == Side::Client).then_some(mask)));
        }
    }

    /// Reads once, and writes of it what the sink takes.
    fn poll_read<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<()>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buf = ReadBuf::new(scratch);
            match ready!(Pin::new(from).poll_read(cx, &mut buf)) {
                Ok(()) if buf.filled().is_empty() => self.source = End::Over,
                Ok(()) => {
                    let bytes = buf.filled();
                    let on = self.look(bytes);
                    self.send(cx, to, &bytes[..on]);
                    self.say_goodbye();
                    self.overhear(&bytes[on..]);
                }
                Err(_) => self.source = End::Failed,
            }
            Poll::Ready(())
        })
    }

    /// How many of the bytes that came go on.
    fn look(&mut self, bytes: &[u8]) -> usize {
        let looked = match self.course {
            Course::Open => self.frames.follow(bytes),
            Course::Closing { .. } => self.frames.finish(bytes),
            Course::Closed => Ok(0),
        };
        if self.frames.is_closed() && self.course != Course::Closed {
            self.course = Course::Closed;
        }
        looked.unwrap_or_else(|misframed| {
            self.misframed = true;
            misframed.kept
        })
    }

    /// What does not go on is looked at all the same: the source's close frame may be in it.
    fn overhear(&mut self, bytes: &[u8]) {
        if self.course == Course::Closed && !self.misframed {
            self.misframed = self.frames.follow(bytes).is_err();
        }
    }

    fn send<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W, bytes: &[u8]) {
        if bytes.is_empty() || self.sink != End::Live {
            return;
        }
        self.moved += bytes.len() as u64;
        match Pin::new(to).poll_write(cx, bytes) {
            Poll::Ready(Ok(written)) if written > 0 => {
                self.stalled = None;
                self.unflushed = true;
                self.held.extend_from_slice(&bytes[written..]);
            }
            Poll::Ready(_) => self.give_up(),
            Poll::Pending => self.held.extend_from_slice(bytes),
        }
    }

    /// Nothing more is to be had for now: what was written leaves, and the end is told.
    fn poll_settled<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W, over: bool) -> Poll<()> {
        if self.unflushed {
            match ready!(Pin::new(&mut *to).poll_flush(cx)) {
                Ok(()) => (self.unflushed, self.stalled) = (false, None),
                Err(_) => self.give_up(),
            }
        }
        if (over || self.source != End::Live) && self.sink == End::Live {
            self.sink = if ready!(Pin::new(to).poll_shutdown(cx)).is_ok() { End::Over } else { End::Failed };
        }
        Poll::Ready(())
    }
}
