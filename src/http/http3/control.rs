//! The unidirectional streams of a connection (RFC 9114 section 6.2): the client's control and QPACK streams, read; our own control
//! stream, written.
//!
//! Nothing a client says there changes what the gateway does: it pushes nothing and has no dynamic table. So they are read for
//! errors only, and what is held of them is bounded.

use bytes::Bytes;

use super::Code;
use super::varint::{self, Partial};

const CANCEL_PUSH: u64 = 0x3;
const SETTINGS: u64 = 0x4;
const GOAWAY: u64 = 0x7;
const MAX_PUSH_ID: u64 = 0xd;
/// `DATA`, `HEADERS` and `PUSH_PROMISE` have no business here; the rest are frames of HTTP/2 (RFC 9114 sections 7.2 and 11.2.1).
const MISPLACED: [u64; 7] = [0x0, 0x1, 0x2, 0x5, 0x6, 0x8, 0x9];
/// A frame of a kind that everybody skips (RFC 9114 section 7.2.8).
const RESERVED: u64 = 0x21;

const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// Settings of HTTP/2 that must not be sent (RFC 9114 section 7.2.4.1).
const RESERVED_SETTINGS: [u64; 5] = [0x0, 0x2, 0x3, 0x4, 0x5];

/// Settings are a few dozen bytes.
const LARGEST_FRAME: u64 = 1024;

/// What a unidirectional stream of the client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Frames that concern the connection.
    Control,
    /// Instructions for a dynamic table that is not there.
    Encoder,
    /// What became of ours.
    Decoder,
    /// Nobody knows; not to be read.
    Unknown,
}

/// Reads one unidirectional stream of the client.
#[derive(Debug)]
pub struct PeerStream {
    number: Partial,
    reading: Reading,
    settings_seen: bool,
    push_limit: u64,
    last_goaway: u64,
}

#[derive(Debug)]
enum Reading {
    Role,
    /// Between two frames of a control stream.
    Kind,
    Length {
        kind: u64,
    },
    Payload {
        kind: u64,
        left: u64,
        held: Vec<u8>,
    },
    Encoder,
    /// Whether an instruction goes on.
    Decoder {
        within: bool,
    },
    Unknown,
}

impl Default for PeerStream {
    fn default() -> Self {
        Self {
            number: Partial::default(),
            reading: Reading::Role,
            settings_seen: false,
            push_limit: 0,
            last_goaway: u64::MAX,
        }
    }
}

impl PeerStream {
    /// What the stream is for, as soon as it has said so.
    pub fn role(&self) -> Option<Role> {
        match self.reading {
            Reading::Role => None,
            Reading::Kind | Reading::Length { .. } | Reading::Payload { .. } => Some(Role::Control),
            Reading::Encoder => Some(Role::Encoder),
            Reading::Decoder { .. } => Some(Role::Decoder),
            Reading::Unknown => Some(Role::Unknown),
        }
    }

    /// Takes what came; an error is one of the connection.
    pub fn read(&mut self, input: &[u8]) -> Result<(), Code> {
        for &byte in input {
            match &mut self.reading {
                Reading::Role => {
                    if let Some(role) = self.number.take(byte) {
                        self.reading = begun(role)?;
                    }
                }
                Reading::Kind => {
                    if let Some(kind) = self.number.take(byte) {
                        self.may_stand_here(kind)?;
                        self.reading = Reading::Length { kind };
                    }
                }
                Reading::Length { kind } => {
                    if let Some(length) = self.number.take(byte) {
                        self.reading = opened(*kind, length)?;
                        self.take_if_whole()?;
                    }
                }
                Reading::Payload { kind, left, held } => {
                    *left -= 1;
                    if is_known(*kind) {
                        held.push(byte);
                    }
                    self.take_if_whole()?;
                }
                // The capacity of the table may be set to what it is: nothing (RFC 9204 section 4.3.1).
                Reading::Encoder => match byte {
                    0b0010_0000 => {}
                    _ => return Err(Code::EncoderStream),
                },
                Reading::Decoder { within } => *within = goes_on(*within, byte)?,
                Reading::Unknown => return Ok(()),
            }
        }
        Ok(())
    }

    /// The stream has ended, cleanly or not. The three that a connection needs never do (RFC 9114 section 6.2.1).
    pub fn end(&self) -> Result<(), Code> {
        match self.role() {
            Some(Role::Control | Role::Encoder | Role::Decoder) => Err(Code::ClosedCriticalStream),
            None | Some(Role::Unknown) => Ok(()),
        }
    }

    /// RFC 9114 section 6.2.1: settings first and once.
    fn may_stand_here(&mut self, kind: u64) -> Result<(), Code> {
        if !self.settings_seen && kind != SETTINGS {
            return Err(Code::MissingSettings);
        }
        if MISPLACED.contains(&kind) || (kind == SETTINGS && self.settings_seen) {
            return Err(Code::FrameUnexpected);
        }
        self.settings_seen = true;
        Ok(())
    }

    fn take_if_whole(&mut self) -> Result<(), Code> {
        let Reading::Payload { kind, left: 0, held } = &self.reading else { return Ok(()) };
        if is_known(*kind) {
            let numbers = varint::all(held).ok_or(Code::FrameError)?;
            match (*kind, numbers.as_slice()) {
                (SETTINGS, settings) => check_settings(settings)?,
                (MAX_PUSH_ID, &[limit]) if limit >= self.push_limit => self.push_limit = limit,
                (GOAWAY, &[last]) if last <= self.last_goaway => self.last_goaway = last,
                // Nothing is pushed, so nothing can be cancelled; limits do not shrink and farewells do not grow.
                (_, [_]) => return Err(Code::IdError),
                _ => return Err(Code::FrameError),
            }
        }
        self.reading = Reading::Kind;
        Ok(())
    }
}

fn begun(role: u64) -> Result<Reading, Code> {
    match role {
        0x0 => Ok(Reading::Kind),
        0x1 => Err(Code::StreamCreation), // only servers push
        0x2 => Ok(Reading::Encoder),
        0x3 => Ok(Reading::Decoder { within: false }),
        _ => Ok(Reading::Unknown),
    }
}

fn is_known(kind: u64) -> bool {
    matches!(kind, SETTINGS | CANCEL_PUSH | GOAWAY | MAX_PUSH_ID)
}

fn opened(kind: u64, length: u64) -> Result<Reading, Code> {
    if is_known(kind) && length > LARGEST_FRAME {
        return Err(Code::ExcessiveLoad);
    }
    Ok(Reading::Payload { kind, left: length, held: Vec::new() })
}

/// RFC 9114 section 7.2.4: pairs, none of them twice, none of HTTP/2.
fn check_settings(numbers: &[u64]) -> Result<(), Code> {
    let (pairs, []) = numbers.as_chunks::<2>() else { return Err(Code::FrameError) };
    let twice = |at: usize| pairs[..at].iter().any(|[earlier, _]| *earlier == pairs[at][0]);
    let wrong = (0..pairs.len()).any(|at| twice(at) || RESERVED_SETTINGS.contains(&pairs[at][0]));
    if wrong { Err(Code::SettingsError) } else { Ok(()) }
}

/// RFC 9204 section 4.4: without a table, streams may be cancelled and nothing else. Whether the instruction goes on behind `byte`.
fn goes_on(within: bool, byte: u8) -> Result<bool, Code> {
    match (within, byte) {
        (true, _) => Ok(byte & 0x80 != 0),
        (false, 0b0100_0000..=0b0111_1111) => Ok(byte & 0x3f == 0x3f),
        (false, _) => Err(Code::DecoderStream),
    }
}

/// What our control stream begins with: its kind, and the largest head that is read.
pub fn greeting(section_bytes: usize) -> Bytes {
    let mut setting = Vec::new();
    varint::write(&mut setting, MAX_FIELD_SECTION_SIZE);
    varint::write(&mut setting, section_bytes as u64);
    let mut stream = vec![0x0];
    stream.extend_from_slice(&frame(SETTINGS, &setting));
    stream.into()
}

/// Requests on streams from `first` on are not looked at (RFC 9114 section 5.2).
pub fn goaway(first: u64) -> Bytes {
    let mut id = Vec::new();
    varint::write(&mut id, first);
    frame(GOAWAY, &id)
}

/// A frame that says nothing, so that something is said.
pub fn nothing() -> Bytes {
    frame(RESERVED, &[])
}

fn frame(kind: u64, payload: &[u8]) -> Bytes {
    let mut frame = Vec::new();
    varint::write(&mut frame, kind);
    varint::write(&mut frame, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(stream: &[u8]) -> Result<Option<Role>, Code> {
        let mut peer = PeerStream::default();
        peer.read(stream)?;
        Ok(peer.role())
    }

    fn control(frames: &[&[u8]]) -> Result<Option<Role>, Code> {
        read(&[&[0x0], &frames.concat()[..]].concat())
    }

    const SETTINGS_FRAME: &[u8] = &[0x4, 0x4, 0x6, 0x40, 0x64, 0x1];

    #[test]
    fn a_stream_says_what_it_is_for() {
        assert_eq!(read(b""), Ok(None));
        assert_eq!(read(&[0x40]), Ok(None), "half of a number");
        assert_eq!(read(&[0x40, 0x0]), Ok(Some(Role::Control)));
        assert_eq!(read(&[0x2]), Ok(Some(Role::Encoder)));
        assert_eq!(read(&[0x3]), Ok(Some(Role::Decoder)));
        assert_eq!(read(&[0x21, 0xff, 0xff]), Ok(Some(Role::Unknown)));
        assert_eq!(read(&[0x1]), Err(Code::StreamCreation), "a client pushes nothing");
    }

    #[test]
    fn our_own_stream_would_be_understood() {
        let stream = [greeting(16_384), goaway(1 << 61), nothing(), goaway(8)].concat();
        assert_eq!(read(&stream), Ok(Some(Role::Control)));
    }

    #[test]
    fn settings_come_first_and_once() {
        let settings = &[0x4, 0x3, 0x6, 0x40, 0x64][..];
        assert_eq!(control(&[settings]), Ok(Some(Role::Control)));
        assert_eq!(control(&[&[0x4, 0x0]]), Ok(Some(Role::Control)), "there may be none in it");
        assert_eq!(control(&[settings, settings]), Err(Code::FrameUnexpected));
        assert_eq!(control(&[&[0x21, 0x0], settings]), Err(Code::MissingSettings));
        assert_eq!(control(&[SETTINGS_FRAME]), Err(Code::FrameError), "an identifier without a value");
        assert_eq!(control(&[&[0x4, 0x2, 0x6, 0x40]]), Err(Code::FrameError), "a number cut short");
        assert_eq!(control(&[&[0x4, 0x4, 0x6, 0x1, 0x6, 0x1]]), Err(Code::SettingsError), "one twice");
        assert_eq!(control(&[&[0x4, 0x2, 0x3, 0x1]]), Err(Code::SettingsError), "one of HTTP/2");
        assert_eq!(control(&[&[0x4, 0x80, 0xff, 0xff, 0xff]]), Err(Code::ExcessiveLoad));
    }

    #[test]
    fn frames_of_requests_do_not_stand_on_a_control_stream() {
        for kind in MISPLACED {
            let kind = u8::try_from(kind).expect("a small number");
            assert_eq!(control(&[&[0x4, 0x0, kind, 0x0]]), Err(Code::FrameUnexpected), "{kind}");
        }
        assert_eq!(control(&[&[0x4, 0x0], &[0x21, 0x2, 0x0, 0x1], &[0x7, 0x1, 0x0]]), Ok(Some(Role::Control)));
    }

    #[test]
    fn limits_do_not_shrink_and_farewells_do_not_grow() {
        let after_settings = |frames: &[&[u8]]| control(&[&[&[0x4, 0x0][..]], frames].concat());
        assert!(after_settings(&[&[0xd, 0x1, 0x5], &[0xd, 0x1, 0x5], &[0xd, 0x1, 0x6]]).is_ok());
        assert_eq!(after_settings(&[&[0xd, 0x1, 0x5], &[0xd, 0x1, 0x4]]), Err(Code::IdError));
        assert!(after_settings(&[&[0x7, 0x1, 0x5], &[0x7, 0x1, 0x4]]).is_ok());
        assert_eq!(after_settings(&[&[0x7, 0x1, 0x5], &[0x7, 0x1, 0x6]]), Err(Code::IdError));
        assert_eq!(after_settings(&[&[0x3, 0x1, 0x0]]), Err(Code::IdError), "nothing was promised");
        for kind in [0x3, 0x7, 0xd] {
            assert_eq!(after_settings(&[&[kind, 0x2, 0x5, 0x5]]), Err(Code::FrameError), "{kind}");
            assert_eq!(after_settings(&[&[kind, 0x0]]), Err(Code::FrameError), "{kind}");
        }
    }

    #[test]
    fn there_is_no_table_to_be_instructed_about() {
        assert!(read(&[0x2, 0x20, 0x20]).is_ok(), "a capacity of nothing");
        for instruction in [0x21, 0x3f, 0x80, 0xc0, 0x40, 0x00] {
            assert_eq!(read(&[0x2, instruction]), Err(Code::EncoderStream), "{instruction:x}");
        }
        assert!(read(&[0x3, 0x44, 0x7f, 0x80, 0x01, 0x40]).is_ok(), "streams are cancelled");
        for instruction in [0x80, 0xff, 0x00, 0x01] {
            assert_eq!(read(&[0x3, instruction]), Err(Code::DecoderStream), "{instruction:x}");
        }
    }

    #[test]
    fn the_streams_a_connection_needs_never_end() {
        for (kind, end) in [
            (0x0, Err(Code::ClosedCriticalStream)),
            (0x2, Err(Code::ClosedCriticalStream)),
            (0x3, Err(Code::ClosedCriticalStream)),
            (0x21, Ok(())),
        ] {
            let mut peer = PeerStream::default();
            assert_eq!(peer.end(), Ok(()), "one that said nothing may");
            peer.read(&[kind]).expect("a kind");
            assert_eq!(peer.end(), end, "{kind}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_break_a_stream(stream in proptest::collection::vec(prop_oneof![0u8..16, any::<u8>()], 0..300)) {
            let mut peer = PeerStream::default();
            peer.read(&stream).ok();
            if let Reading::Payload { held, .. } = &peer.reading {
                prop_assert!(held.len() <= 1024);
            }
        }
    }
}
