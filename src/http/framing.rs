//! A look at HTTP/1.1 bytes before the parser has them: message framing that two parsers read two ways is made unreadable.
//!
//! Answers for RFC 9112 sections 2.2 (bare CR, bare LF), 5.1 and 5.2 (obs-fold), 6.1 to 6.3 (`Content-Length` against
//! `Transfer-Encoding`) and 7.1 (chunk lines). The parser behind takes a bare LF for a line end and drops a length beside a
//! transfer coding silently; here both spoil the byte they end in and all that follows, so that the parser itself answers 400 and
//! closes.
//! Follows message boundaries only as far as needed to know what is a head. Refuses to know header meanings beyond framing.

/// Why a message was spoiled, or a connection cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// A line ended in LF without CR, or held a CR of its own.
    LineEnd,
    /// A header line began with white space (obs-fold).
    Folded,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndCoding,
    /// `Content-Length` repeated or not a number.
    Length,
    /// `Transfer-Encoding` repeated or not exactly `chunked`.
    Coding,
    /// A chunk's size line or its end is malformed.
    Chunk,
    /// HTTP/2 frames that do no work, in greater number than [`super::Http2Budget`] allows.
    Flood,
}

impl Violation {
    /// Every reason's stable name, for metrics.
    pub const REASONS: [&'static str; 7] =
        ["line_end", "folded", "length_and_coding", "length", "coding", "chunk", "http2_flood"];

    /// A short stable name for metrics and logs.
    pub fn reason(self) -> &'static str {
        Self::REASONS[self as usize]
    }
}

/// The framing of one client connection, fed with every byte that is read from it.
#[derive(Debug, Default)]
pub struct Framing {
    state: State,
    /// The start of a line whose end has not been read yet; bounded by [`LINE_BYTES`].
    partial: Vec<u8>,
    head: Head,
    violation: Option<Violation>,
}

/// Longest piece of a line kept while its end is awaited. No framing decision needs more than a line's start and its end; a bare CR in
/// what is not kept is left for the parser to refuse.
const LINE_BYTES: usize = 64 * 1024;
/// Longest chunk-size line, extensions included.
const CHUNK_LINE_BYTES: usize = 256;
/// Most bytes of trailer section; trailers are dropped, so none of them is worth more.
const TRAILER_BYTES: u32 = 8 * 1024;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    Body(u64),
    ChunkLine,
    ChunkData(u64),
    ChunkEnd,
    Trailers(u32),
    Spoiled,
}

/// What one head has said about its body so far.
#[derive(Debug, Default)]
struct Head {
    lines: u32,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    /// Takes in bytes just read, in order; spoils them from the first one on that makes the framing ambiguous. After that nothing may be
    /// read any more.
    pub fn inspect(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            at += match self.state {
                State::Spoiled => return,
                State::Body(left) => self.skip(left, bytes.len() - at, State::Body, State::Head),
                State::ChunkData(left) => self.skip(left, bytes.len() - at, State::ChunkData, State::ChunkEnd),
                State::Head | State::ChunkLine | State::ChunkEnd | State::Trailers(_) => self.line(&mut bytes[at..]),
            };
        }
    }

    /// Whether the start of a request has been read and its end has not.
    pub fn in_head(&self) -> bool {
        self.state == State::Head && (self.head.lines > 0 || !self.partial.is_empty())
    }

    /// Whether a request's body is still to come, so that a client may go on sending after it was answered.
    pub fn in_body(&self) -> bool {
        self.state != State::Head
    }

    /// What was spoiled, if anything.
    pub fn violation(&self) -> Option<Violation> {
        self.violation
    }

    fn skip(&mut self, left: u64, here: usize, more: fn(u64) -> State, done: State) -> usize {
        let taken = left.min(here as u64);
        self.state = if taken == left { done } else { more(left - taken) };
        usize::try_from(taken).expect("at most the buffer's length")
    }

    /// Handles the rest of one line; returns how many bytes that was.
    fn line(&mut self, bytes: &mut [u8]) -> usize {
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            let room = LINE_BYTES.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&bytes[..bytes.len().min(room)]);
            return bytes.len();
        };
        let verdict = if self.partial.is_empty() {
            self.judge(&bytes[..end])
        } else {
            let mut whole = std::mem::take(&mut self.partial);
            whole.extend_from_slice(&bytes[..end]);
            let verdict = self.judge(&whole);
            whole.clear();
            whole.shrink_to(LINE_BYTES / 64);
            self.partial = whole;
            verdict
        };
        if let Err(violation) = verdict {
            self.violation = Some(violation);
            self.state = State::Spoiled;
            // NUL is legal nowhere in a head or a trailer, and ends no chunk line: nothing behind this byte can be read any more.
            bytes[end..].fill(0);
        }
        end + 1
    }

    /// One whole line, without its LF.
    fn judge(&mut self, line: &[u8]) -> Result<(), Violation> {
        let line = line.strip_suffix(b"\r").ok_or(Violation::LineEnd)?;
        if memchr::memchr(b'\r', line).is_some() {
            return Err(Violation::LineEnd);
        }
        match self.state {
            State::ChunkLine => self.chunk_line(line),
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkLine,
            State::ChunkEnd => return Err(Violation::Chunk),
            State::Trailers(_) if line.is_empty() => self.state = State::Head,
            State::Trailers(seen) => {
                let seen = seen.saturating_add(u32::try_from(line.len()).unwrap_or(u32::MAX));
                if seen > TRAILER_BYTES {
                    return Err(Violation::Chunk);
                }
                self.state = State::Trailers(seen);
            }
            _ => return self.head_line(line),
        }
        if self.violation.is_some() { Err(Violation::Chunk) } else { Ok(()) }
    }

    fn head_line(&mut self, line: &[u8]) -> Result<(), Violation> {
        match line.first() {
            None if self.head.lines == 0 => return Ok(()), // RFC 9112 section 2.2: an empty line before a request is ignored
            None => return self.end_of_head(),
            Some(b' ' | b'\t') => return Err(Violation::Folded),
            Some(b'c' | b'C') if self.head.lines > 0 => {
                if let Some(value) = field(line, b"content-length") {
                    let length = parse_length(value).ok_or(Violation::Length)?;
                    if self.head.length.replace(length).is_some() {
                        return Err(Violation::Length);
                    }
                }
            }
            Some(b't' | b'T') if self.head.lines > 0 => {
                if let Some(value) = field(line, b"transfer-encoding") {
                    if self.head.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Violation::Coding);
                    }
                    self.head.chunked = true;
                }
            }
            Some(_) => {}
        }
        self.head.lines += 1;
        Ok(())
    }

    fn end_of_head(&mut self) -> Result<(), Violation> {
        let head = std::mem::take(&mut self.head);
        self.state = match (head.length, head.chunked) {
            (Some(_), true) => return Err(Violation::LengthAndCoding),
            (Some(0) | None, false) => State::Head,
            (Some(length), false) => State::Body(length),
            (None, true) => State::ChunkLine,
        };
        Ok(())
    }

    /// RFC 9112 section 7.1: `1*HEXDIG [ chunk-ext ]`; sizes that would not fit in 64 bits are refused.
    fn chunk_line(&mut self, line: &[u8]) {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let rest_is_extension = matches!(line.get(digits), None | Some(b';' | b' ' | b'\t'));
        let size = std::str::from_utf8(&line[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        self.state = match size {
            Some(_) if !rest_is_extension || line.len() > CHUNK_LINE_BYTES || digits > 16 => State::Spoiled,
            Some(0) => State::Trailers(0),
            Some(size) => State::ChunkData(size),
            None => State::Spoiled,
        };
        if self.state == State::Spoiled {
            self.violation = Some(Violation::Chunk);
        }
    }
}

/// The trimmed value if `line` is the field `name` (given in lower case). A space before the colon is left for the parser to refuse.
fn field<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = line.split_at_checked(name.len())?;
    if !head.eq_ignore_ascii_case(name) {
        return None;
    }
    Some(rest.strip_prefix(b":")?.trim_ascii())
}

/// RFC 9110 section 8.6: digits only, and few enough to be counted.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 18 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn judge(bytes: &[u8]) -> (Framing, Vec<u8>) {
        let mut framing = Framing::default();
        let mut bytes = bytes.to_vec();
        framing.inspect(&mut bytes);
        (framing, bytes)
    }

    #[test]
    fn ambiguous_framing_is_spoiled() {
        for (bytes, violation) in [
            (&b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..], Violation::LineEnd),
            (b"GET / HTTP/1.1\r\nHost: a\n\r\n", Violation::LineEnd),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\n", Violation::LineEnd),
            (b"GET / HTTP/1.1\r\nX: a\rGET\r\n\r\n", Violation::LineEnd),
            (b"\nGET / HTTP/1.1\r\n\r\n", Violation::LineEnd),
            (b"GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n", Violation::Folded),
            (b"GET / HTTP/1.1\r\n X: a\r\n\r\n", Violation::Folded),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::LengthAndCoding),
            (b"POST / HTTP/1.1\r\nContent-Length: 5\r\ncontent-length: 5\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nContent-Length: 0x5\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nContent-Length:\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", Violation::Length),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", Violation::Coding),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", Violation::Coding),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n", Violation::Coding),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n", Violation::LineEnd),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", Violation::Chunk),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", Violation::Chunk),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1ffffffffffffffff\r\n", Violation::Chunk),
            (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n", Violation::Chunk),
        ] {
            let (framing, seen) = judge(bytes);
            assert_eq!(framing.violation(), Some(violation), "{}", bytes.escape_ascii());
            let kept = seen.iter().zip(bytes).take_while(|(seen, sent)| seen == sent).count();
            assert!(
                kept < bytes.len() && seen[kept..].iter().all(|byte| *byte == 0),
                "nothing behind the fault is readable"
            );
        }
    }

    #[test]
    fn a_chunk_extension_without_bound_is_refused() {
        let mut bytes = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 300));
        bytes.extend_from_slice(b"\r\nhello\r\n");
        assert_eq!(judge(&bytes).0.violation(), Some(Violation::Chunk));
    }

    #[test]
    fn good_messages_pass_untouched_and_end_where_they_say() {
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nbGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nA;x=y\r\n0123\n56789\r\n0\r\nT: v\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        ] {
            let (framing, seen) = judge(bytes);
            assert_eq!(seen, bytes);
            assert!(framing.violation().is_none() && !framing.in_body() && !framing.in_head(), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_request_behind_a_body_is_a_head_again() {
        let (framing, _) = judge(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\nHost: a\r\n\r\n");
        assert_eq!(framing.violation(), Some(Violation::LineEnd));
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_bytes_arrive(
            bytes in proptest::collection::vec(prop_oneof![
                Just(b"GET / HTTP/1.1\r\n".to_vec()), Just(b"Content-Length: 3\r\n".to_vec()), Just(b"abc".to_vec()),
                Just(b"Transfer-Encoding: chunked\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"\n".to_vec()),
                Just(b"3\r\n".to_vec()), Just(b"0\r\n".to_vec()), Just(b" ".to_vec()), proptest::collection::vec(any::<u8>(), 0..6),
            ], 0..14),
            cut in 1usize..7,
        ) {
            let bytes = bytes.concat();
            let (whole, seen_whole) = judge(&bytes);
            let mut pieces = Framing::default();
            let mut seen = bytes.clone();
            for piece in seen.chunks_mut(cut) {
                if pieces.violation().is_none() {
                    pieces.inspect(piece);
                } else {
                    piece.fill(0); // the stream reads nothing more
                }
            }
            prop_assert_eq!(whole.violation(), pieces.violation());
            prop_assert_eq!(whole.state, pieces.state);
            prop_assert_eq!(seen_whole, seen);
        }
    }
}
