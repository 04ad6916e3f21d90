//! Where the frames of one direction end, found without looking at what they say.
//!
//! Answers for RFC 6455 sections 5.2 (base framing), 5.1 (who masks) and 5.5 (control frames). The reserved bits are the extensions'
//! and pass. Holds no payload and allocates nothing.

/// Who sends the frames of a direction: a client masks, a server does not (RFC 6455 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Side {
    Client,
    Server,
}

/// Follows the frames of one direction.
#[derive(Debug, Clone)]
pub struct Frames {
    side: Side,
    state: State,
    /// The frame under way is a close frame.
    is_close: bool,
    /// A close frame has passed: nothing may follow it (RFC 6455 section 5.5.1).
    closed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first byte of a frame.
    Boundary,
    /// Behind it.
    Second { is_control: bool },
    /// In an extended length.
    Length { left: u8, length: u64 },
    /// In the masking key.
    Mask { left: u8, length: u64 },
    /// In the payload.
    Payload { left: u64 },
    /// What came is no frame. `at_boundary` is whether all before it were whole.
    Broken { at_boundary: bool },
}

/// What came is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed WebSocket frame")]
pub struct Misframed {
    /// How many of the bytes that were looked at last belong to what came before it.
    pub kept: usize,
}

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CLOSE: u8 = 0x8;
const MASK_BYTES: u8 = 4;

impl Frames {
    /// The frames that this side sends; none of them has come yet.
    pub fn new(side: Side) -> Self {
        Self { side, state: State::Boundary, is_close: false, closed: false }
    }

    /// Looks at the bytes that came next. Returns how many of them may be sent on: all, or up to the end of a close frame.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<usize, Misframed> {
        self.run(bytes, false)
    }

    /// The same, but looks no further than to the end of the frame that is under way. At a boundary it looks at nothing.
    pub fn finish(&mut self, bytes: &[u8]) -> Result<usize, Misframed> {
        self.run(bytes, true)
    }

    /// Whether another frame may begin here.
    pub fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Boundary | State::Broken { at_boundary: true })
    }

    /// Whether a close frame has passed, to its end.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn run(&mut self, bytes: &[u8], one: bool) -> Result<usize, Misframed> {
        let mut at = 0;
        let mut frame = None; // where the frame under way began, if it did in these bytes
        while at < bytes.len() {
            match self.state {
                State::Boundary if one || self.closed => return Ok(at),
                State::Boundary => frame = Some(at),
                State::Payload { left } => {
                    let taken = left.min((bytes.len() - at) as u64);
                    self.payload(left - taken);
                    at += usize::try_from(taken).expect("at most the length of the slice");
                    continue;
                }
                _ => {}
            }
            let Some(next) = self.step(bytes[at]) else {
                let at_boundary = frame.is_some() || self.state == State::Broken { at_boundary: true };
                self.state = State::Broken { at_boundary };
                return Err(Misframed { kept: frame.unwrap_or(0) });
            };
            at += 1;
            match next {
                State::Payload { left } => self.payload(left), // it may be empty
                state => self.state = state,
            }
        }
        Ok(at)
    }

    /// One byte of a frame's header; `None` if it can't stand there.
    fn step(&mut self, byte: u8) -> Option<State> {
        match self.state {
            State::Boundary => {
                let opcode = byte & 0x0f;
                let (is_control, is_known) = (opcode >= CLOSE, matches!(opcode, 0..=2 | 8..=10));
                self.is_close = opcode == CLOSE;
                (is_known && (!is_control || byte & FIN != 0)).then_some(State::Second { is_control })
            }
            State::Second { is_control } => {
                let (is_masked, length) = (byte & MASKED != 0, byte & !MASKED);
                let masks = self.side == Side::Client;
                if is_masked != masks || (is_control && length > 125) {
                    return None;
                }
                Some(match length {
                    126 => State::Length { left: 2, length: 0 },
                    127 => State::Length { left: 8, length: 0 },
                    length => self.behind_length(length.into()),
                })
            }
            State::Length { left: 8, .. } if byte & 0x80 != 0 => None, // RFC 6455 section 5.2: the top bit is 0
            State::Length { left, length } => {
                let length = length << 8 | u64::from(byte);
                Some(if left > 1 { State::Length { left: left - 1, length } } else { self.behind_length(length) })
            }
            State::Mask { left: 1, length } => Some(State::Payload { left: length }),
            State::Mask { left, length } => Some(State::Mask { left: left - 1, length }),
            State::Payload { .. } | State::Broken { .. } => None,
        }
    }

    fn behind_length(&self, length: u64) -> State {
        match self.side {
            Side::Client => State::Mask { left: MASK_BYTES, length },
            Side::Server => State::Payload { left: length },
        }
    }

    fn payload(&mut self, left: u64) {
        self.state = if left == 0 { State::Boundary } else { State::Payload { left } };
        self.closed |= left == 0 && self.is_close;
    }
}

/// A close frame with a status code; `mask` is for what a client sends.
pub fn close_frame(code: u16, mask: Option<[u8; 4]>) -> Vec<u8> {
    let code = code.to_be_bytes();
    match mask {
        None => vec![FIN | CLOSE, 2, code[0], code[1]],
        Some(mask) => {
            vec![FIN | CLOSE, MASKED | 2, mask[0], mask[1], mask[2], mask[3], code[0] ^ mask[0], code[1] ^ mask[1]]
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A frame of `side`, with its length in as many bytes as it needs.
    fn frame(side: Side, first: u8, payload: &[u8]) -> Vec<u8> {
        let masked = if side == Side::Client { MASKED } else { 0 };
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(masked | u8::try_from(short).expect("short")),
            middle @ 126..65536 => {
                bytes.push(masked | 0x7e);
                bytes.extend(u16::try_from(middle).expect("middle").to_be_bytes());
            }
            long => {
                bytes.push(masked | 0x7f);
                bytes.extend((long as u64).to_be_bytes());
            }
        }
        if side == Side::Client {
            bytes.extend([1, 2, 3, 4]);
        }
        bytes.extend(payload);
        bytes
    }

    /// What a reader who has all of it makes of a stream: how many bytes are whole frames, and whether what follows is no frame.
    fn plainly(side: Side, bytes: &[u8]) -> (usize, bool) {
        let (mut at, masks) = (0, side == Side::Client);
        while let Some(first) = bytes.get(at) {
            let opcode = first & 0x0f;
            if [3, 4, 5, 6, 7, 11, 12, 13, 14, 15].contains(&opcode) || (opcode >= 8 && first & 0x80 == 0) {
                return (at, true);
            }
            let Some(second) = bytes.get(at + 1) else { return (at, false) };
            if (second & 0x80 != 0) != masks || (opcode >= 8 && second & 0x7f > 125) {
                return (at, true);
            }
            let wide = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let Some(extended) = bytes.get(at + 2..at + 2 + wide) else {
                return (at, wide == 8 && bytes.get(at + 2).is_some_and(|top| top & 0x80 != 0));
            };
            if wide == 8 && extended[0] & 0x80 != 0 {
                return (at, true);
            }
            let extended = extended.iter().fold(0, |length: u64, byte| length << 8 | u64::from(*byte));
            let length = if wide == 0 { u64::from(second & 0x7f) } else { extended };
            let header = 2 + wide + if masks { 4 } else { 0 };
            if ((bytes.len() - at) as u64) < (header as u64).saturating_add(length) {
                return (at, false);
            }
            at += header + usize::try_from(length).expect("it is there");
            if opcode == 8 {
                return (at, false);
            }
        }
        (at, false)
    }

    /// What the follower makes of a stream that comes in pieces: how many bytes it lets through, whether it refuses the rest, and
    /// whether it stands at a boundary.
    fn followed(side: Side, bytes: &[u8], cut: usize) -> (usize, bool, Frames) {
        let (mut frames, mut passed) = (Frames::new(side), 0);
        for piece in bytes.chunks(cut) {
            match frames.follow(piece) {
                Ok(length) => passed += length,
                Err(misframed) => return (passed + misframed.kept, true, frames),
            }
        }
        (passed, false, frames)
    }

    #[test]
    fn frames_of_every_length_pass_and_end_where_they_say() {
        for side in [Side::Client, Side::Server] {
            for length in [0, 1, 125, 126, 65535, 65536, 70_000] {
                let bytes = frame(side, 0x82, &vec![7; length]);
                let (passed, refused, frames) = followed(side, &bytes, bytes.len());
                assert_eq!((passed, refused), (bytes.len(), false), "{side:?} {length}");
                assert!(frames.is_at_boundary() && !frames.is_closed());
                let mut frames = Frames::new(side);
                assert_eq!(frames.follow(&bytes[..bytes.len() - 1]), Ok(bytes.len() - 1));
                assert!(!frames.is_at_boundary());
            }
        }
    }

    #[test]
    fn the_bits_of_extensions_and_fragments_pass() {
        for first in [0xc1, 0xf2, 0x01, 0x00, 0x80, 0x40, 0x89, 0x8a, 0xc9] {
            let bytes = frame(Side::Client, first, b"hello");
            assert_eq!(followed(Side::Client, &bytes, 3).0, bytes.len(), "{first:#x}");
        }
    }

    #[test]
    fn what_is_no_frame_is_refused_from_its_first_byte() {
        for (side, bytes) in [
            (Side::Client, &[0x83, 0x80][..]),
            (Side::Client, &[0x8b, 0x80]),
            (Side::Client, &[0x09, 0x80]),
            (Side::Client, &[0x89, 0xfe]),
            (Side::Client, &[0x88, 0xff]),
            (Side::Client, &[0x81, 0x05]),
            (Side::Server, &[0x81, 0x85]),
            (Side::Server, &[0x81, 127, 0x80]),
            (Side::Client, b"GET / HTTP/1.1\r\n"),
        ] {
            let good = frame(side, 0x81, b"good");
            let both = [&good[..], bytes].concat();
            let mut frames = Frames::new(side);
            assert_eq!(frames.follow(&both), Err(Misframed { kept: good.len() }), "{bytes:?}");
            assert!(frames.is_at_boundary(), "all of the bad frame is held back");
            assert_eq!(frames.follow(&good), Err(Misframed { kept: 0 }), "nothing is believed behind it");
            assert!(frames.is_at_boundary());
        }
        let mut frames = Frames::new(Side::Client);
        assert_eq!(frames.follow(&[0x81]), Ok(1));
        assert_eq!(frames.follow(&[0x05]), Err(Misframed { kept: 0 }));
        assert!(!frames.is_at_boundary(), "its first byte was sent on");
    }

    #[test]
    fn nothing_passes_behind_a_close_frame() {
        let close = frame(Side::Server, 0x88, &1000u16.to_be_bytes());
        let bytes = [&frame(Side::Server, 0x81, b"bye"), &close[..], b"\x81\x01x"].concat();
        for cut in 1..bytes.len() {
            let (passed, refused, frames) = followed(Side::Server, &bytes, cut);
            assert_eq!((passed, refused), (bytes.len() - 3, false), "{cut}");
            assert!(frames.is_closed() && frames.is_at_boundary());
        }
        let mut frames = Frames::new(Side::Server);
        assert_eq!(frames.follow(&close[..3]), Ok(3));
        assert!(!frames.is_closed());
    }

    #[test]
    fn finishing_stops_at_the_end_of_the_frame_under_way() {
        let one = frame(Side::Server, 0x01, b"one");
        let two = [&one[..], &one].concat();
        let mut frames = Frames::new(Side::Server);
        assert_eq!(frames.finish(&two), Ok(0), "it stands at a boundary already");
        assert_eq!(frames.follow(&two[..2]), Ok(2));
        assert_eq!(frames.finish(&two[2..]), Ok(one.len() - 2));
        assert!(frames.is_at_boundary());
    }

    #[test]
    fn a_close_frame_of_ours_is_one() {
        for (side, mask) in [(Side::Client, Some([0xa5, 0x0f, 0xf0, 0x5a])), (Side::Server, None)] {
            let bytes = close_frame(1012, mask);
            let (passed, refused, frames) = followed(side, &bytes, 1);
            assert_eq!((passed, refused, frames.is_closed()), (bytes.len(), false, true));
            let code: Vec<u8> = match mask {
                Some(mask) => bytes[6..].iter().zip(mask).map(|(byte, mask)| byte ^ mask).collect(),
                None => bytes[2..].to_vec(),
            };
            assert_eq!(code, 1012u16.to_be_bytes());
        }
    }

    fn stream(side: Side) -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            8 => prop::sample::select(vec![0x81u8, 0x82, 0x01, 0x00, 0x80, 0xc1, 0x89, 0x8a]),
            1 => Just(0x88u8),
            1 => any::<u8>(),
        ];
        let length = prop_oneof![8 => 0usize..40, 1 => 120usize..135, 1 => 65530usize..65545];
        let piece = prop_oneof![
            10 => (first, length).prop_map(move |(first, length)| frame(side, first, &vec![0x5a; length])),
            1 => prop::collection::vec(any::<u8>(), 0..20),
        ];
        prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn the_verdict_is_that_of_a_reader_who_has_all_of_it_however_the_bytes_arrive(
            (side, bytes) in prop_oneof![Just(Side::Client), Just(Side::Server)]
                .prop_flat_map(|side| (Just(side), stream(side))),
            cut in prop_oneof![1usize..9, 9usize..2000, Just(usize::MAX)],
        ) {
            let (whole, bad) = plainly(side, &bytes);
            let (passed, refused, frames) = followed(side, &bytes, cut);
            prop_assert_eq!(refused, bad);
            prop_assert!(passed >= whole, "every whole frame passes");
            let closes = frames.is_closed();
            if bad {
                // What was let through of a bad frame came before the byte that gave it away.
                prop_assert!(passed < whole + 3);
                prop_assert_eq!(frames.is_at_boundary(), passed == whole);
            } else if closes {
                prop_assert_eq!(passed, whole);
            } else {
                prop_assert_eq!(passed, bytes.len());
                prop_assert_eq!(frames.is_at_boundary(), whole == bytes.len());
            }
        }

        #[test]
        fn finishing_never_goes_beyond_the_frame_under_way(
            (side, bytes) in prop_oneof![Just(Side::Client), Just(Side::Server)]
                .prop_flat_map(|side| (Just(side), stream(side))),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len() + 1);
            let mut frames = Frames::new(side);
            prop_assume!(frames.follow(&bytes[..at]).is_ok() && !frames.is_closed());
            let begun = plainly(side, &bytes[..at]).0;
            if let Ok(more) = frames.finish(&bytes[at..]) {
                let end = at + more;
                prop_assert!(end == bytes.len() || frames.is_at_boundary());
                // Between where the frame began and where it ended there is one frame, or nothing.
                prop_assert!(plainly(side, &bytes[begun..end]).0 == end - begun || end == bytes.len());
            }
        }
    }
}
