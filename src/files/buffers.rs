//! Buffers that pieces of files are read into, used again and again.
//!
//! Owns the spare ones of this thread. A fresh buffer of this size is paid for twice: it is filled with zeros before anything is read
//! into it, and its memory is cold. Refuses to know files.

use std::cell::RefCell;

use bytes::Bytes;

/// Length of every buffer, in bytes: two of them, what is read and what the kernel makes of it, stay in a core's cache.
pub(super) const PIECE_BYTES: usize = 128 * 1024;
/// How many a thread keeps. More are in use only while clients are slow, and those have no need of warm memory.
const SPARE: usize = 8;

thread_local! {
    static BUFFERS: RefCell<Vec<Box<[u8]>>> = const { RefCell::new(Vec::new()) };
}

/// [`PIECE_BYTES`] of memory that holds whatever it was used for last. It goes back to the thread that drops it.
#[derive(Debug)]
pub(super) struct Buffer(Box<[u8]>);

impl Buffer {
    pub(super) fn take() -> Self {
        let spare = BUFFERS.with_borrow_mut(Vec::pop);
        Self(spare.unwrap_or_else(|| vec![0; PIECE_BYTES].into_boxed_slice()))
    }

    /// Its first `len` bytes, to be read into.
    pub(super) fn room(&mut self, len: usize) -> &mut [u8] {
        &mut self.0[..len]
    }

    /// Its first `len` bytes, which were read.
    pub(super) fn filled(self, len: usize) -> Bytes {
        Bytes::from_owner(self).slice(..len)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.0);
        // A thread that is ending has no spare ones any more.
        let keep = |spare: &RefCell<Vec<_>>| {
            let mut spare = spare.borrow_mut();
            if spare.len() < SPARE {
                spare.push(buffer);
            }
        };
        BUFFERS.try_with(keep).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_when_the_last_of_it_was_sent_and_few_are_kept() {
        let mut buffer = Buffer::take();
        buffer.room(3).copy_from_slice(b"abc");
        let first = buffer.0.as_ptr();
        let bytes = buffer.filled(3);
        let rest = bytes.slice(1..);
        drop(bytes);
        assert_ne!(Buffer::take().0.as_ptr(), first);
        assert_eq!(rest, "bc");
        drop(rest);
        assert_eq!(Buffer::take().0.as_ptr(), first);
        let many: Vec<_> = (0..2 * SPARE).map(|_| Buffer::take()).collect();
        drop(many);
        assert_eq!(BUFFERS.with_borrow(Vec::len), SPARE);
    }
}
