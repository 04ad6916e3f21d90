//! Content codings made here: what is worth one, how bytes are encoded, and how a body is while it goes out.
//!
//! Owns the encoders of zstd (RFC 8878, and RFC 9659 for its window), brotli (RFC 7932) and gzip (RFC 1952), how much of them there may
//! be at once, and which media types are worth the work. Refuses to know who asks, what an answer says of itself, and
//! whether its secrets can stand it: that is for whoever finishes the answer.

mod body;
mod encoder;
mod media;
mod room;

pub use body::{CompressError, Compressed, strip_digests};
pub use encoder::{Effort, whole};
pub use media::{MediaRange, MediaRanges};
pub use room::{MOST_AT_ONCE, Room, Slot};

use super::coding::Coding;

/// Which answers are compressed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressSettings {
    /// The first is preferred among those that a client takes equally.
    pub codings: Vec<Coding>,
    /// Answers that are known to be shorter stay as they are.
    pub min_bytes: u64,
    /// What is worth it.
    pub types: MediaRanges,
    /// Whether answers that belong to what a browser sends by itself are compressed too.
    pub with_cookies: bool,
}

impl Default for CompressSettings {
    fn default() -> Self {
        Self { codings: Coding::ALL.to_vec(), min_bytes: 1024, types: MediaRanges::default(), with_cookies: false }
    }
}
