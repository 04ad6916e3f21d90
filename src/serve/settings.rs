//! What `config::compile` hands to this room: how long a client may take, how much it may send, and what it is shown when there is no
//! normal answer.

use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;

use super::account::Terms;

/// What a browser is shown in place of the gateway's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorPage {
    /// The status it is for, 400 to 599.
    pub status: u16,
    /// Its `Content-Type`.
    pub media_type: HeaderValue,
    /// Its bytes, sent as they are.
    pub body: Bytes,
}

/// Bounds on one client connection and its requests. Every wait and every buffer has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request line and header fields together.
    pub header_bytes: usize,
    /// Header fields in one request, whatever the protocol.
    pub header_fields: usize,
    /// Bytes of the request target.
    pub target_bytes: usize,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// Between requests on a kept-alive connection, and before the first.
    pub idle_timeout: Duration,
    /// Between two reads of a request body; in all, four times that and the time that `body_rate` gives it.
    pub body_timeout: Duration,
    /// Bytes a second that give a request body more time; 0 gives it any.
    pub body_rate: u32,
    /// For the client to take any of what is written to it; over HTTP/2 for each stream by itself.
    pub write_timeout: Duration,
    /// Bytes a second that a client takes at least of what waits for it, but for four write time-outs; 0 asks for none.
    pub write_rate: u32,
    /// HTTP/2 streams open at once on one connection.
    pub http2_streams: u32,
    /// Client connections, for the whole process; more wait in the listener's backlog.
    pub connections: usize,
}

impl Limits {
    /// How slowly a client may take what is written to it.
    pub(super) fn taking(&self) -> Terms {
        Terms { timeout: self.write_timeout, least_rate: self.write_rate }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: 16 * 1024,
            header_fields: 100,
            target_bytes: 8 * 1024,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(30),
            body_rate: 500,
            write_timeout: Duration::from_secs(30),
            write_rate: 500,
            http2_streams: 100,
            connections: 20_000,
        }
    }
}
