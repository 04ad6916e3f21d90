//! A request's body as the parser of its protocol hands it over.
//!
//! HTTP/1 and HTTP/2 come from hyper, and their way is as it would be without this: one branch. HTTP/3 comes boxed. Refuses to know
//! bounds; [`RequestBody`](super::RequestBody) has them.

use std::error::Error as _;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::BodyError;

/// A body that nobody has read.
pub enum ClientBody {
    /// From hyper.
    Parsed(Incoming),
    /// From another parser.
    Streamed(Pin<Box<dyn Body<Data = Bytes, Error = Cut> + Send + Sync>>),
    /// From nobody any more: all of it has been read.
    Ended,
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
#[error("request body broke off")]
pub struct Cut {
    /// Whether the client sent what is no body; if not, it left.
    pub malformed: bool,
    /// What the parser said.
    #[source]
    pub source: BodyError,
}

impl ClientBody {
    /// One that another parser than hyper reads.
    pub fn streamed(body: impl Body<Data = Bytes, Error = Cut> + Send + Sync + 'static) -> Self {
        Self::Streamed(Box::pin(body))
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Parsed(body) => Pin::new(body).poll_frame(cx).map_err(Cut::from),
            Self::Streamed(body) => body.as_mut().poll_frame(cx),
            Self::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Parsed(body) => body.is_end_stream(),
            Self::Streamed(body) => body.is_end_stream(),
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Parsed(body) => body.size_hint(),
            Self::Streamed(body) => body.size_hint(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}

impl From<Incoming> for ClientBody {
    fn from(body: Incoming) -> Self {
        Self::Parsed(body)
    }
}

/// hyper says of what it refused that its data or its input is invalid; a client that leaves is an unexpected end or a reset.
impl From<hyper::Error> for Cut {
    fn from(error: hyper::Error) -> Self {
        let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
        let malformed =
            cause.is_some_and(|cause| matches!(cause.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput));
        Self { malformed, source: error.into() }
    }
}

/// Never the contents.
impl fmt::Debug for ClientBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Parsed(_) => "ClientBody::Parsed",
            Self::Streamed(_) => "ClientBody::Streamed",
            Self::Ended => "ClientBody::Ended",
        })
    }
}
