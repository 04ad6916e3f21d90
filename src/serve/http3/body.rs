//! What a client sends on one request stream: a head, and then a body that is read as it is asked for.
//!
//! Flow control holds the client back while nobody reads. Dropping the body tells the client to stop sending, without blame (RFC 9114
//! section 4.1): an answer may be complete before its request is.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use quinn::{RecvStream, VarInt};
use tokio::sync::oneshot;
use tokio_util::io::poll_read_buf;

use super::close;
use crate::http::Cut;
use crate::http::http3::{Code, Fault, Frames, Piece};

/// Room for what is read at once of a head, and of a body: packets that came together are one piece of it.
const HEAD_ROOM: usize = 2 * 1024;
const BODY_ROOM: usize = 16 * 1024;

/// One request stream as far as it was read.
#[derive(Debug)]
pub(super) struct StreamBody {
    recv: RecvStream,
    quic: quinn::Connection,
    frames: Frames,
    room: usize,
    /// Read and not looked at.
    input: Bytes,
    /// What was found when nobody had asked yet.
    ahead: Option<Bytes>,
    /// What is still to be handed on of an announced length.
    left: Option<u64>,
    ended: bool,
    /// Told when the body is asked for and not there.
    wanted: Option<oneshot::Sender<()>>,
}

/// Why there is nothing more to read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// What came is no request.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The client reset the stream, or the connection has ended.
    #[error("the client left")]
    Gone(#[source] std::io::Error),
}

impl StreamBody {
    pub(super) fn new(recv: RecvStream, quic: quinn::Connection, section_bytes: usize) -> Self {
        Self {
            recv,
            quic,
            frames: Frames::new(section_bytes),
            room: HEAD_ROOM,
            input: Bytes::new(),
            ahead: None,
            left: None,
            ended: false,
            wanted: None,
        }
    }

    /// The field section of the head. Cancel safe.
    pub(super) async fn head(&mut self) -> Result<Bytes, Trouble> {
        match poll_fn(|cx| self.poll_piece(cx)).await? {
            Some(Piece::Head(section)) => Ok(section),
            Some(Piece::Data(_) | Piece::Trailers) | None => Err(Fault::Stream(Code::RequestIncomplete).into()),
        }
    }

    /// The content is to have this length. What has come of it already is found out: most requests end with their head.
    pub(super) async fn expect(&mut self, length: Option<u64>) -> Result<(), Trouble> {
        self.room = BODY_ROOM;
        if let Some(length) = length {
            self.frames.announce(length);
            self.left = Some(length);
        }
        self.ahead = poll_fn(|cx| match self.poll_data(cx) {
            Poll::Ready(found) => Poll::Ready(found),
            Poll::Pending => Poll::Ready(Ok(None)),
        })
        .await?;
        Ok(())
    }

    /// Tells when the body is waited for (RFC 9110 section 10.1.1).
    pub(super) fn tell_when_wanted(&mut self) -> oneshot::Receiver<()> {
        let (wanted, is_wanted) = oneshot::channel();
        self.wanted = Some(wanted);
        is_wanted
    }

    /// Tells the client why no more is read, if it was the client's fault.
    fn blame(&mut self, fault: Fault) {
        match fault {
            Fault::Connection(code) => close(&self.quic, code),
            Fault::Stream(code) => self.stop(code),
        }
    }

    pub(super) fn stop(&mut self, code: Code) {
        self.recv.stop(VarInt::from_u32(code.value())).ok(); // it may have ended
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Trouble>> {
        match ready!(self.poll_piece(cx))? {
            Some(Piece::Data(data)) => Poll::Ready(Ok(Some(data))),
            Some(Piece::Trailers) => {
                self.ended = true;
                Poll::Ready(Ok(None))
            }
            Some(Piece::Head(_)) => Poll::Ready(Err(Fault::Connection(Code::FrameUnexpected).into())),
            None => Poll::Ready(Ok(None)),
        }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Trouble>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let piece = ready!(self.poll_next(cx));
        match &piece {
            Ok(Some(_)) => {}
            Ok(None) => self.ended = true,
            Err(trouble) => {
                self.ended = true;
                if let Trouble::Fault(fault) = trouble {
                    self.blame(*fault);
                }
            }
        }
        Poll::Ready(piece)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Trouble>> {
        loop {
            if let Some(piece) = self.frames.next(&mut self.input)? {
                return Poll::Ready(Ok(Some(piece)));
            }
            let mut room = BytesMut::with_capacity(self.room);
            if ready!(poll_read_buf(Pin::new(&mut self.recv), cx, &mut room)).map_err(Trouble::Gone)? == 0 {
                self.frames.end()?;
                return Poll::Ready(Ok(None));
            }
            self.input = room.freeze();
        }
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let data = match self.ahead.take() {
            Some(data) => Some(data),
            None => match self.poll_data(cx) {
                Poll::Ready(data) => data.map_err(Cut::from)?,
                Poll::Pending => {
                    if let Some(wanted) = self.wanted.take() {
                        wanted.send(()).ok(); // nobody may be there to hear it
                    }
                    return Poll::Pending;
                }
            },
        };
        if let (Some(left), Some(data)) = (&mut self.left, &data) {
            *left = left.saturating_sub(data.len() as u64); // `Frames` has seen to it that there is no more
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.ahead.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_end_stream() {
            return SizeHint::with_exact(0);
        }
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.stop(Code::NoError);
    }
}

impl From<Trouble> for Cut {
    fn from(trouble: Trouble) -> Self {
        Self { malformed: matches!(trouble, Trouble::Fault(_)), source: trouble.into() }
    }
}
