//! Several ranges in one answer: `multipart/byteranges` (RFC 9110 sections 14.6 and 15.3.7.2).
//!
//! Owns: the head of each part, the boundary between them, and the exact length of it all, known before the first byte is sent.
//! Refuses to know: which ranges, and where their bytes are.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderValue;
use http_body::{Frame, SizeHint};

use super::content::Source;
use super::range::Span;
use crate::http::{Body, BodyError};

/// An answer in several parts, before its bytes are at hand.
#[derive(Debug)]
pub(super) struct Multipart {
    boundary: String,
    pieces: VecDeque<Piece>,
    len: u64,
}

#[derive(Debug)]
enum Piece {
    /// What stands between the parts.
    Text(Bytes),
    Part(Span),
}

impl Multipart {
    /// `spans` of a representation of `size` bytes and of this type.
    pub(super) fn new(spans: &[Span], size: u64, content_type: Option<&HeaderValue>) -> Self {
        // 128 bits that nobody outside can foresee: whoever chooses the contents of a file can't put the boundary into it.
        let random = || RandomState::new().hash_one(size);
        let boundary = format!("{:016x}{:016x}", random(), random());
        let mut multipart = Self { boundary, pieces: VecDeque::with_capacity(2 * spans.len() + 1), len: 0 };
        for (number, span) in spans.iter().enumerate() {
            let mut head = Vec::with_capacity(160);
            head.extend_from_slice(if number == 0 { b"--" } else { b"\r\n--" });
            head.extend_from_slice(multipart.boundary.as_bytes());
            if let Some(content_type) = content_type {
                head.extend_from_slice(b"\r\nContent-Type: ");
                head.extend_from_slice(content_type.as_bytes());
            }
            head.extend_from_slice(format!("\r\nContent-Range: {}\r\n\r\n", span.content_range(size)).as_bytes());
            multipart.push(Piece::Text(head.into()));
            multipart.push(Piece::Part(*span));
        }
        let end = format!("\r\n--{}--\r\n", multipart.boundary);
        multipart.push(Piece::Text(end.into()));
        multipart
    }

    fn push(&mut self, piece: Piece) {
        self.len += match &piece {
            Piece::Text(text) => text.len() as u64,
            Piece::Part(span) => span.len,
        };
        self.pieces.push_back(piece);
    }

    /// How many bytes the answer has.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Its `Content-Type`.
    pub(super) fn content_type(&self) -> HeaderValue {
        HeaderValue::try_from(format!("multipart/byteranges; boundary={}", self.boundary)).expect("digits are a value")
    }

    /// The answer's body, with the parts from `source`.
    pub(super) fn over(self, source: Source) -> MultipartBody {
        MultipartBody { source, pieces: self.pieces, left: self.len, current: Body::empty() }
    }
}

/// One part after the other.
#[derive(Debug)]
pub(super) struct MultipartBody {
    source: Source,
    pieces: VecDeque<Piece>,
    /// How many bytes are still to be handed out.
    left: u64,
    current: Body,
}

impl MultipartBody {
    /// The next piece takes the place of the one that has ended. `false` when there is none.
    fn advance(&mut self) -> Result<bool, BodyError> {
        self.current = match self.pieces.pop_front() {
            Some(Piece::Text(text)) => Body::full(text),
            Some(Piece::Part(span)) => self.source.span(span)?,
            None => return Ok(false),
        };
        Ok(true)
    }

    /// After a failure nothing follows: a part that is cut short must not be followed by a boundary.
    fn broken(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.pieces.clear();
        self.current = Body::empty();
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for MultipartBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match Pin::new(&mut self.current).poll_frame(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(frame))) => {
                    self.left -= frame.data_ref().map_or(0, |data| data.len() as u64);
                    return Poll::Ready(Some(Ok(frame)));
                }
                Poll::Ready(Some(Err(error))) => return self.broken(error),
                Poll::Ready(None) => match self.advance() {
                    Ok(true) => {}
                    Ok(false) => return Poll::Ready(None),
                    Err(error) => return self.broken(error),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};

    use http_body::Body as _;
    use http_body_util::BodyExt;

    use super::super::open::{Identity, Opened};
    use super::*;

    const SPANS: [Span; 2] = [Span { start: 500_000, len: 200_000 }, Span { start: 1, len: 3 }];

    fn pattern() -> Vec<u8> {
        (0..1_000_000u32).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    fn multipart() -> Multipart {
        Multipart::new(&SPANS, 1_000_000, Some(&HeaderValue::from_static("image/png")))
    }

    fn file() -> (tempfile::TempDir, Source) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("f");
        fs::write(&path, pattern()).unwrap();
        let file = File::open(path).unwrap();
        let opened = Opened { identity: Identity::of(&file).unwrap(), file, path: String::new() };
        (directory, Source::File(opened))
    }

    fn expected(boundary: &str) -> Vec<u8> {
        let pattern = pattern();
        let head =
            |range| format!("--{boundary}\r\nContent-Type: image/png\r\nContent-Range: bytes {range}/1000000\r\n\r\n");
        let end = format!("\r\n--{boundary}--\r\n");
        [
            head("500000-699999").as_bytes(),
            &pattern[500_000..700_000],
            b"\r\n",
            head("1-3").as_bytes(),
            &pattern[1..4],
            end.as_bytes(),
        ]
        .concat()
    }

    #[tokio::test]
    async fn rfc9110_14_6_parts_are_told_apart_and_all_bytes_are_counted_before_the_first_is_sent() {
        let (_directory, file) = file();
        for source in [Source::Memory(pattern().into()), file] {
            let multipart = multipart();
            let (boundary, len) = (multipart.boundary.clone(), multipart.len());
            assert_eq!(multipart.content_type(), format!("multipart/byteranges; boundary={boundary}"));
            let mut body = multipart.over(source);
            let mut received = Vec::new();
            while let Some(frame) = body.frame().await {
                received.extend_from_slice(&frame.unwrap().into_data().unwrap());
                assert_eq!(body.size_hint().exact(), Some(len - received.len() as u64));
            }
            assert!(body.is_end_stream());
            assert!(received == expected(&boundary));
        }
    }

    #[tokio::test]
    async fn a_file_that_shrinks_breaks_the_answer_and_no_boundary_follows() {
        let (directory, source) = file();
        let mut body = multipart().over(source);
        body.frame().await.unwrap().unwrap();
        body.frame().await.unwrap().unwrap();
        OpenOptions::new().write(true).open(directory.path().join("f")).unwrap().set_len(10).unwrap();
        let mut failed = false;
        while let Some(frame) = body.frame().await {
            assert!(!failed, "nothing follows a failure");
            failed = frame.is_err();
        }
        assert!(failed && !body.is_end_stream());
    }

    #[test]
    fn no_two_answers_have_one_boundary() {
        assert_ne!(multipart().boundary, multipart().boundary);
        assert_eq!(multipart().boundary.len(), 32);
    }
}
