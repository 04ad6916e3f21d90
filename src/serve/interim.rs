//! Interim responses (1xx) that wait to be written on an HTTP/1.1 connection (RFC 9110 section 15.2, RFC 8297).
//!
//! hyper's server can't write any but 100, so these go beside it: whoever forwards a request leaves them here, and the stream under
//! hyper, [`super::guarded`], takes them along. They may be written only where one message has ended and the next has not begun:
//!
//! - An exchange has some only from when it is forwarded until its answer is handed to hyper. So while it does, hyper has no byte of its
//!   answer. (Its own `100 Continue` is a message by itself.)
//! - hyper offers all bytes of an answer to the stream before it asks anybody about the next request, so of the exchanges before there is
//!   nothing that the stream has not seen. What it has seen and not yet sent, it says (`unflushed`), and nothing is taken meanwhile.
//! - What still waits when the answer is handed over goes out before it; but not if the end of the answer before this one has not left
//!   yet. Then hyper writes both in one go, with no place in between, and what waits is dropped.
//!
//! They are hints: one too many, or one that comes too late, is dropped and nobody is told.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::upstream::Interim;

/// Interim responses to one request.
const MOST: u32 = 16;
/// Bytes of all of them together.
const MOST_BYTES: usize = 16 * 1024;

/// What waits on one connection.
#[derive(Debug, Default)]
pub(super) struct Interims {
    /// Whether an exchange may have some: most have none, and need no lock to say that they are over.
    open: AtomicBool,
    /// Whether any wait: asked whenever the connection writes.
    waiting: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The exchange that may have some.
    exchange: Option<u32>,
    /// How many it has had, and their bytes, written or not.
    had: u32,
    had_bytes: usize,
    heads: Vec<u8>,
}

impl Interims {
    /// From now on `exchange` may have some, and no other.
    pub(super) fn open(&self, exchange: u32) {
        self.open.store(true, Ordering::Relaxed);
        self.with(|queue| *queue = Queue { exchange: Some(exchange), ..Queue::default() });
        self.waiting.store(false, Ordering::Relaxed);
    }

    /// Leaves one of `exchange`; whether it is going to be taken.
    pub(super) fn leave(&self, exchange: u32, interim: &Interim) -> bool {
        let head = head(interim);
        self.with(|queue| {
            let fits = queue.had < MOST && queue.had_bytes + head.len() <= MOST_BYTES;
            if queue.exchange != Some(exchange) || !fits {
                return false;
            }
            queue.had += 1;
            queue.had_bytes += head.len();
            queue.heads.extend_from_slice(&head);
            self.waiting.store(true, Ordering::Relaxed);
            true
        })
    }

    /// The answer is handed over: no more come, and what waits goes out only if there is a `place` for it, between two messages.
    pub(super) fn close(&self, place: bool) {
        if !self.open.swap(false, Ordering::Relaxed) {
            return;
        }
        self.with(|queue| {
            queue.exchange = None;
            if !place {
                queue.heads = Vec::new();
                self.waiting.store(false, Ordering::Relaxed);
            }
        });
    }

    /// What waits, to be written now.
    pub(super) fn take(&self) -> Bytes {
        if !self.waiting.load(Ordering::Relaxed) {
            return Bytes::new();
        }
        self.with(|queue| {
            self.waiting.store(false, Ordering::Relaxed);
            Bytes::from(std::mem::take(&mut queue.heads))
        })
    }

    fn with<R>(&self, change: impl FnOnce(&mut Queue) -> R) -> R {
        change(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One as it stands on the wire. RFC 9112 section 4: a space follows the status even if nothing else does.
fn head(interim: &Interim) -> Vec<u8> {
    let reason = match interim.code {
        102 => "Processing",
        103 => "Early Hints",
        _ => "",
    };
    let mut head = Vec::with_capacity(256);
    write!(head, "HTTP/1.1 {} {reason}\r\n", interim.code).expect("writing to memory does not fail");
    for (name, value) in &interim.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests;
