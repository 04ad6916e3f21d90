//! A piece of an answer on its way out. Over HTTP/2 it says when it has gone: a stream's task ends when the last piece is handed over,
//! not when the client's window let it through.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

use super::activity::Waiting;

/// Most bytes of a piece over HTTP/2, so that a slow client shows progress well within its write time-out.
pub(super) const HTTP2_PIECE_BYTES: usize = 16 * 1024;

/// Bytes, and who waits for them to be written.
#[derive(Debug)]
pub(super) struct Piece {
    bytes: Bytes,
    _waiting: Option<Waiting>,
}

impl Piece {
    pub(super) fn new(bytes: Bytes, waiting: Option<Waiting>) -> Self {
        Self { bytes, _waiting: waiting }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        self.bytes.chunks_vectored(dst)
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}
