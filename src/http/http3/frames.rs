//! The frames of one request stream (RFC 9114 sections 4.1 and 7), read piece by piece.
//!
//! Owns the order of frames, the bound on what is held of them, and that the content is as long as `Content-Length` says (section
//! 4.1.2). Of a frame only the head of a request is held whole, and no more of it than the limit; content goes through, and what
//! is not known or not wanted is skipped. A stream that ends in the middle of a frame has not ended.

use bytes::{Buf, Bytes, BytesMut};

use super::varint::{self, Partial};
use super::{Code, Fault};

const DATA: u64 = 0x0;
const HEADERS: u64 = 0x1;
/// `CANCEL_PUSH`, `SETTINGS`, `PUSH_PROMISE`, `GOAWAY` and `MAX_PUSH_ID` have no business on a request stream; the rest are frames of HTTP/2
/// that HTTP/3 has no use for (RFC 9114 sections 7.2 and 11.2.1).
const MISPLACED: [u64; 9] = [0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x8, 0x9, 0xd];

/// A part of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The field section of the head, still compressed.
    Head(Bytes),
    /// Some of the content; never empty.
    Data(Bytes),
    /// The section behind the content, which nobody reads: the end.
    Trailers,
}

/// Reads one request stream.
#[derive(Debug)]
pub struct Frames {
    phase: Phase,
    reading: Reading,
    number: Partial,
    /// Most bytes of a field section, as sent.
    section_bytes: u64,
    /// What is left of the announced length of the content, if one was announced.
    announced: Option<u64>,
}

/// What the next frame may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Head,
    Content,
    Over,
}

/// Where in a frame the next byte stands.
#[derive(Debug)]
enum Reading {
    Kind,
    Length { kind: u64 },
    Section { left: u64, held: BytesMut },
    Data { left: u64 },
    Skipped { left: u64, trailers: bool },
}

impl Frames {
    /// A stream of which nothing was read. A field section may have `section_bytes`.
    pub fn new(section_bytes: usize) -> Self {
        Self {
            phase: Phase::Head,
            reading: Reading::Kind,
            number: Partial::default(),
            section_bytes: section_bytes as u64,
            announced: None,
        }
    }

    /// The content is to have this length (RFC 9110 section 8.6).
    pub fn announce(&mut self, length: u64) {
        self.announced = Some(length);
    }

    /// What is left of the announced length.
    pub fn left(&self) -> Option<u64> {
        self.announced
    }

    /// The next piece in `input`, of which as much is consumed; `None` if more is needed.
    pub fn next(&mut self, input: &mut Bytes) -> Result<Option<Piece>, Fault> {
        while input.has_remaining() {
            let piece = match &mut self.reading {
                Reading::Kind | Reading::Length { .. } => {
                    if let Some(number) = self.number.take(input.get_u8()) {
                        self.begin(number)?;
                    }
                    self.end_of_empty()
                }
                Reading::Section { left, held } => {
                    let part = part(input, left);
                    let whole = *left == 0;
                    if held.is_empty() && whole {
                        self.between(Phase::Content);
                        return Ok(Some(Piece::Head(part)));
                    }
                    held.extend_from_slice(&part);
                    whole.then(|| Piece::Head(std::mem::take(held).freeze())).inspect(|_| self.between(Phase::Content))
                }
                Reading::Data { left } => {
                    let part = part(input, left);
                    if *left == 0 {
                        self.between(Phase::Content);
                    }
                    Some(Piece::Data(part))
                }
                Reading::Skipped { left, .. } => {
                    part(input, left);
                    self.end_of_empty()
                }
            };
            if piece.is_some() {
                return Ok(piece);
            }
        }
        Ok(None)
    }

    /// The stream has ended.
    pub fn end(&self) -> Result<(), Fault> {
        if !matches!(self.reading, Reading::Kind) || self.number.is_begun() {
            return Err(Fault::Connection(Code::FrameError)); // RFC 9114 section 7.1
        }
        if self.phase == Phase::Head {
            return Err(Fault::Stream(Code::RequestIncomplete));
        }
        self.content_is_whole()
    }

    /// A number was read: the kind of a frame, or its length.
    fn begin(&mut self, number: u64) -> Result<(), Fault> {
        let Reading::Length { kind } = self.reading else {
            if MISPLACED.contains(&number) {
                return Err(Fault::Connection(Code::FrameUnexpected));
            }
            self.reading = Reading::Length { kind: number };
            return Ok(());
        };
        self.reading = match (kind, self.phase) {
            (DATA, Phase::Content) => {
                if let Some(announced) = &mut self.announced {
                    *announced = announced.checked_sub(number).ok_or(Fault::Stream(Code::MessageError))?;
                }
                Reading::Data { left: number }
            }
            (HEADERS, Phase::Head | Phase::Content) if number > self.section_bytes => {
                return Err(Fault::Stream(Code::ExcessiveLoad));
            }
            (HEADERS, Phase::Head) => Reading::Section { left: number, held: BytesMut::new() },
            (HEADERS, Phase::Content) => {
                self.content_is_whole()?;
                self.phase = Phase::Over;
                Reading::Skipped { left: number, trailers: true }
            }
            (DATA | HEADERS, _) => return Err(Fault::Connection(Code::FrameUnexpected)),
            _ => Reading::Skipped { left: number, trailers: false },
        };
        Ok(())
    }

    /// Closes a frame of which nothing is left, so that an empty one is not waited for.
    fn end_of_empty(&mut self) -> Option<Piece> {
        match self.reading {
            Reading::Section { left: 0, .. } => {
                self.between(Phase::Content);
                Some(Piece::Head(Bytes::new()))
            }
            Reading::Data { left: 0 } => {
                self.between(Phase::Content);
                None
            }
            Reading::Skipped { left: 0, trailers } => {
                self.between(self.phase);
                trailers.then_some(Piece::Trailers)
            }
            _ => None,
        }
    }

    fn between(&mut self, phase: Phase) {
        self.phase = phase;
        self.reading = Reading::Kind;
    }

    fn content_is_whole(&self) -> Result<(), Fault> {
        if self.announced.unwrap_or(0) > 0 { Err(Fault::Stream(Code::MessageError)) } else { Ok(()) }
    }
}

/// As much of `input` as is `left` of a frame.
fn part(input: &mut Bytes, left: &mut u64) -> Bytes {
    let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
    *left -= length as u64;
    input.split_to(length)
}

/// What stands before `length` bytes of content.
pub fn data_frame(length: usize) -> Bytes {
    frame_head(DATA, length).into()
}

/// A frame with a field section in it.
pub(super) fn headers_frame(section: &[u8]) -> Bytes {
    let mut frame = frame_head(HEADERS, section.len());
    frame.extend_from_slice(section);
    frame.into()
}

fn frame_head(kind: u64, length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(16 + if kind == HEADERS { length } else { 0 });
    varint::write(&mut head, kind);
    varint::write(&mut head, length as u64);
    head
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All pieces of a stream that comes in parts of `step` bytes and then ends.
    fn read(frames: &mut Frames, stream: &[u8], step: usize) -> Result<Vec<Piece>, Fault> {
        let mut pieces = Vec::new();
        for part in stream.chunks(step) {
            let mut input = Bytes::copy_from_slice(part);
            while let Some(piece) = frames.next(&mut input)? {
                pieces.push(piece);
            }
            assert!(input.is_empty(), "all of it is consumed");
        }
        frames.end().map(|()| pieces)
    }

    fn pieces(stream: &[u8]) -> Result<Vec<Piece>, Fault> {
        let one = read(&mut Frames::new(100), stream, usize::MAX);
        assert_eq!(one.is_ok(), read(&mut Frames::new(100), stream, 1).is_ok(), "it does not matter how it comes");
        one
    }

    fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
        [&frame_head(kind, payload.len()), payload].concat()
    }

    fn head() -> Vec<u8> {
        frame(HEADERS, b"head")
    }

    const LATE: Fault = Fault::Connection(Code::FrameUnexpected);

    #[test]
    fn a_request_is_a_head_then_content_then_perhaps_trailers() {
        let whole = [head(), frame(DATA, b"one"), frame(DATA, b"two"), frame(HEADERS, b"trailers")].concat();
        let expected = [
            Piece::Head(b"head"[..].into()),
            Piece::Data(b"one"[..].into()),
            Piece::Data(b"two"[..].into()),
            Piece::Trailers,
        ];
        assert_eq!(pieces(&whole).as_deref(), Ok(&expected[..]));
        assert_eq!(pieces(&head()).as_deref(), Ok(&expected[..1]));
        assert_eq!(pieces(&frame(HEADERS, b"")), Ok(vec![Piece::Head(Bytes::new())]));
    }

    #[test]
    fn an_empty_frame_of_content_is_not_the_end_of_it() {
        let stream = [head(), frame(DATA, b""), frame(DATA, b"x"), frame(DATA, b"")].concat();
        assert_eq!(pieces(&stream).map(|pieces| pieces[1..].to_vec()), Ok(vec![Piece::Data(b"x"[..].into())]));
    }

    #[test]
    fn unknown_frames_are_skipped_wherever_they_stand() {
        let grease = frame(0x21, &[0; 1000]);
        let stream = [&grease, &head(), &grease, &frame(DATA, b"x"), &grease, &frame(HEADERS, b""), &grease]
            .map(Vec::as_slice)
            .concat();
        assert_eq!(pieces(&stream).map(|pieces| pieces.len()), Ok(3));
    }

    #[test]
    fn a_stream_that_ends_within_a_frame_has_not_ended() {
        let broken = Err(Fault::Connection(Code::FrameError));
        let whole = [head(), frame(DATA, b"content")].concat();
        for cut in 1..whole.len() {
            let at_a_boundary = cut == head().len();
            assert_eq!(pieces(&whole[..cut]).is_ok(), at_a_boundary, "cut at {cut}");
            if !at_a_boundary {
                assert_eq!(pieces(&whole[..cut]), broken, "cut at {cut}");
            }
        }
        assert_eq!(pieces(b""), Err(Fault::Stream(Code::RequestIncomplete)));
        assert_eq!(pieces(&frame(0x21, b"x")), Err(Fault::Stream(Code::RequestIncomplete)));
    }

    #[test]
    fn frames_out_of_order_end_the_connection() {
        let trailers = frame(HEADERS, b"t");
        for stream in [
            frame(DATA, b"x"),
            [head(), trailers.clone(), frame(DATA, b"x")].concat(),
            [head(), trailers.clone(), trailers].concat(),
        ] {
            assert_eq!(pieces(&stream), Err(LATE));
        }
        for kind in MISPLACED {
            assert_eq!(pieces(&frame(kind, b"x")), Err(LATE), "{kind}");
            assert_eq!(pieces(&[head(), frame(kind, b"x")].concat()), Err(LATE), "{kind}");
        }
    }

    #[test]
    fn a_section_over_the_limit_is_refused_before_it_comes() {
        let excess = Err(Fault::Stream(Code::ExcessiveLoad));
        assert_eq!(pieces(&frame(HEADERS, &[0; 101])), excess);
        assert_eq!(pieces(&[head(), frame(HEADERS, &[0; 101])].concat()), excess, "trailers too");
        assert!(pieces(&frame(HEADERS, &[0; 100])).is_ok());
        let mut endless = Frames::new(100);
        let claimed = endless.next(&mut Bytes::from_static(b"\x01\xff\xff\xff\xff\xff\xff\xff\xff"));
        assert_eq!(claimed, Err(Fault::Stream(Code::ExcessiveLoad)));
    }

    #[test]
    fn content_is_as_long_as_announced() {
        let wrong = Err(Fault::Stream(Code::MessageError));
        let announced = |length, stream: &[u8]| {
            let mut frames = Frames::new(100);
            frames.next(&mut Bytes::from(head())).expect("a head");
            frames.announce(length);
            read(&mut frames, stream, 2).map(|pieces| pieces.len())
        };
        assert_eq!(announced(4, &[frame(DATA, b"1234")].concat()), Ok(2));
        assert_eq!(announced(0, b""), Ok(0));
        assert_eq!(announced(0, &frame(DATA, b"")), Ok(0));
        assert_eq!(announced(3, &frame(DATA, b"1234")), wrong);
        assert_eq!(announced(5, &frame(DATA, b"1234")), wrong);
        assert_eq!(announced(5, &[frame(DATA, b"1234"), frame(HEADERS, b"t")].concat()), wrong, "before its trailers");
        assert_eq!(announced(1, b""), wrong);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_how_a_stream_is_cut(
            stream in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..300),
            step in 1usize..40,
        ) {
            let content = |pieces: Vec<Piece>| {
                pieces.into_iter().map(|piece| match piece {
                    Piece::Head(head) => [b"H", &head[..]].concat(),
                    Piece::Data(data) => data.to_vec(),
                    Piece::Trailers => b"T".to_vec(),
                }).collect::<Vec<_>>().concat()
            };
            let whole = read(&mut Frames::new(50), &stream, usize::MAX).map(content);
            prop_assert_eq!(read(&mut Frames::new(50), &stream, step).map(content), whole);
        }
    }
}
