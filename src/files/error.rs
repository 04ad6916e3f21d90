//! Every way a site fails to answer. Owns: the failures; refuses to know: their status codes, which `serve` gives.

use std::io;

/// Why there is no file to send.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// No regular file is served under this path: absent, refused (`..`, dotfile, a link that leaves the root),
    /// unreadable, or no file at all (FIFO, device, socket). The client is not told which.
    #[error("no such file")]
    NotFound,
    /// Neither GET nor HEAD; those two are what `Allow` must name.
    #[error("a file is only read, by GET or HEAD")]
    MethodNotAllowed,
    /// `If-Match` or `If-Unmodified-Since` did not hold (RFC 9110 section 15.5.13).
    #[error("the file is not the one the precondition names")]
    PreconditionFailed,
    /// No byte of the range asked for exists (RFC 9110 section 15.5.17); `Content-Range: bytes */len` belongs on the
    /// answer.
    #[error("the range lies outside the file's {len} bytes")]
    RangeNotSatisfiable {
        /// Length of the whole file in bytes.
        len: u64,
    },
    /// The file system failed: descriptors exhausted, disk error. Our fault, not the client's.
    #[error("the file could not be read")]
    Io(#[source] io::Error),
}
