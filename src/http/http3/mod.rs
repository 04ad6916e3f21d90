//! HTTP/3 as bytes (RFC 9114): frames, the peer's streams, field sections, heads. No sockets and no clock.
//!
//! Owns what may stand where, and what kind of error it is if something else does: an error of one stream, or of the connection
//! (RFC 9114 section 8). Refuses to know routes, limits in time, and QUIC.

mod control;
mod frames;
mod head;
mod huffman;
mod qpack;
mod table;
mod varint;

pub use control::{PeerStream, Role, goaway, greeting, nothing};
pub use frames::{Frames, Piece, data_frame};
pub use head::{HeadProblem, request_head, response_head, trailers};

/// An error that ends a stream or a connection (RFC 9114 section 8.1, RFC 9204 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum Code {
    NoError = 0x100,
    InternalError = 0x102,
    StreamCreation = 0x103,
    ClosedCriticalStream = 0x104,
    FrameUnexpected = 0x105,
    FrameError = 0x106,
    ExcessiveLoad = 0x107,
    IdError = 0x108,
    SettingsError = 0x109,
    MissingSettings = 0x10a,
    RequestRejected = 0x10b,
    RequestCancelled = 0x10c,
    RequestIncomplete = 0x10d,
    MessageError = 0x10e,
    DecompressionFailed = 0x200,
    EncoderStream = 0x201,
    DecoderStream = 0x202,
}

impl Code {
    /// As it is sent.
    pub fn value(self) -> u32 {
        u32::from(self as u16)
    }
}

/// What the client did wrong, and how far it reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The connection can't go on: the two sides no longer agree on what is said.
    #[error("connection error {0:?}")]
    Connection(Code),
    /// This message is none; the others are not touched.
    #[error("stream error {0:?}")]
    Stream(Code),
}
