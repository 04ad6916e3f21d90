//! The one body type every answer has, whoever made it.
//!
//! Owns: the choice between no body, one known block and a stream, with the exact length of each told to hyper, so that
//! a known body goes out under `Content-Length` and is never chunk-encoded (RFC 9112 section 6.2). Refuses to know:
//! where the bytes come from, limits, deadlines.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

/// Why a body ended before its end. Whoever made the stream chooses the type; the connection is broken, never ended
/// cleanly.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// A response body: empty, one block of bytes, or a stream.
pub struct Body {
    kind: Kind,
}

enum Kind {
    Empty,
    /// Never an empty block: that is `Empty`.
    Full(Bytes),
    Stream(Pin<Box<dyn http_body::Body<Data = Bytes, Error = BodyError> + Send>>),
}

impl Body {
    /// A body of zero bytes.
    pub fn empty() -> Self {
        Self { kind: Kind::Empty }
    }

    /// A body whose bytes are all known now; its length is exact.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { kind: if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) } }
    }

    /// A body that comes frame by frame; its length is what `stream` says of itself.
    pub fn stream<B>(stream: B) -> Self
    where
        B: http_body::Body<Data = Bytes, Error = BodyError> + Send + 'static,
    {
        Self { kind: Kind::Stream(Box::pin(stream)) }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Kind::Stream(stream) = &mut self.kind {
            return stream.as_mut().poll_frame(context);
        }
        match std::mem::replace(&mut self.kind, Kind::Empty) {
            Kind::Full(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            Kind::Empty | Kind::Stream(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(stream) => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(stream) => stream.size_hint(),
        }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

/// Shows the shape and the length, never the contents: bodies end up in logs through `{:?}` of a response.
impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Empty => formatter.write_str("Body::Empty"),
            Kind::Full(bytes) => write!(formatter, "Body::Full({} bytes)", bytes.len()),
            Kind::Stream(_) => formatter.write_str("Body::Stream"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn an_empty_body_has_ended_before_it_is_polled() {
        for body in [Body::empty(), Body::full(Bytes::new()), Body::default()] {
            assert!(body.is_end_stream());
            assert_eq!(body.size_hint().exact(), Some(0));
        }
    }

    #[tokio::test]
    async fn a_full_body_is_one_frame_of_exact_length() {
        let mut body = Body::full("portcullis");
        assert_eq!(body.size_hint().exact(), Some(10));
        assert!(!body.is_end_stream());
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "portcullis");
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
        assert!(body.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_speaks_for_itself() {
        let body = Body::stream(http_body_util::Full::new(Bytes::from_static(b"abc")).map_err(|never| match never {}));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());

        let mut broken = Body::stream(Failing);
        assert_eq!(broken.size_hint().exact(), None);
        assert!(broken.frame().await.unwrap().is_err());
    }

    #[test]
    fn debug_never_shows_contents() {
        assert_eq!(format!("{:?}", Body::full("secret")), "Body::Full(6 bytes)");
    }

    struct Failing;

    impl http_body::Body for Failing {
        type Data = Bytes;
        type Error = BodyError;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
            Poll::Ready(Some(Err("cut".into())))
        }
    }
}
