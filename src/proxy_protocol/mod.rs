//! The PROXY protocol, versions 1 and 2: how a relay says for whom it has made a connection.
//!
//! Owns both forms of the header, as HAProxy's `proxy-protocol.txt` has them, read and written. Pure: bytes in, values out. Refuses to
//! know sockets, and whose header may be believed: nobody's is by default, for whoever can write one can be anybody.
//!
//! Of the TLVs of version 2 only the checksum is looked at. The others (server name, certificate, ALPN) say nothing that the gateway
//! does not see for itself, or nothing that it would believe.

mod crc32c;
mod read;
mod write;

pub use read::{Announced, HeaderError, LONGEST, Progress, read};
pub use write::{Version, write, write_own};

/// What version 1 begins with.
const LINE: &[u8] = b"PROXY ";
/// What version 2 begins with: no line of any protocol, so that whoever does not expect it refuses it.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and transport, length of the rest.
const FIXED_BYTES: usize = 16;

#[cfg(test)]
mod tests;
