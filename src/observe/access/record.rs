//! What one line of the access log says.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use http::Version;

use super::redact::redacted;

/// Bytes of a name that are logged: host, subject and the like.
const LONGEST_NAME: usize = 256;

/// Bytes of the request target and of the user agent that are logged.
const LONGEST_PATH: usize = 8 * 1024;
const LONGEST_AGENT: usize = 1024;

/// One exchange, as it is logged when it has ended. Byte strings may be anything a client can send; they are escaped,
/// and cut where they are longer than a log needs. Credentials have no field here.
#[derive(Debug, Clone)]
pub struct Record<'a> {
    /// When the request head was read.
    pub time: SystemTime,
    /// The id that the upstream and the client see in `X-Request-Id`.
    pub request_id: &'a str,
    /// The client's address: the peer's, or what a trusted proxy said of it.
    pub client: IpAddr,
    /// The method as sent.
    pub method: &'a [u8],
    /// The host that the request was for, with its port if it had one.
    pub host: &'a [u8],
    /// Path and query as sent; the values of credentials in the query are redacted before they are written.
    pub path: &'a [u8],
    /// The client's protocol version.
    pub protocol: Version,
    /// The status answered; 499 for a client that left before there was one.
    pub status: u16,
    /// What the client of a gRPC call was told; its status is 200 whatever came of it.
    pub grpc: Option<&'a str>,
    /// The name of the route; [`NO_ROUTE`](super::super::NO_ROUTE) if none matched.
    pub route: &'a str,
    /// `ok`, or the label of the failure.
    pub outcome: &'a str,
    /// The rate limit that refused the request, or would have refused it.
    pub limit: Option<&'a str>,
    /// The issuer that verified the token.
    pub issuer: Option<&'a str>,
    /// The subject of the token.
    pub subject: Option<&'a str>,
    /// The upstream that was asked.
    pub upstream: Option<&'a str>,
    /// The endpoint of it.
    pub endpoint: Option<&'a str>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the request head to the end of the response body.
    pub duration: Duration,
    /// Spent on authorization.
    pub auth: Option<Duration>,
    /// Of the next, for how long others had all connections.
    pub queue: Option<Duration>,
    /// Spent on waiting for a slot and on connecting to the endpoint.
    pub connect: Option<Duration>,
    /// From the connection being ready to the response's head.
    pub first_byte: Option<Duration>,
    /// The `User-Agent` field.
    pub user_agent: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    pub(super) fn logged_path(&self) -> Cow<'a, [u8]> {
        match redacted(self.path) {
            Cow::Borrowed(path) => Cow::Borrowed(clip(path, LONGEST_PATH)),
            Cow::Owned(path) => Cow::Owned(clip(&path, LONGEST_PATH).to_vec()),
        }
    }

    pub(super) fn logged_agent(&self) -> Option<&'a [u8]> {
        self.user_agent.map(|agent| clip(agent, LONGEST_AGENT))
    }

    pub(super) fn logged_host(&self) -> &'a [u8] {
        name(self.host)
    }

    pub(super) fn logged_method(&self) -> &'a [u8] {
        name(self.method)
    }

    pub(super) fn logged_subject(&self) -> Option<&'a [u8]> {
        self.subject.map(|subject| name(subject.as_bytes()))
    }

    pub(super) fn logged_protocol(&self) -> &'static str {
        match self.protocol {
            Version::HTTP_09 => "HTTP/0.9",
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_3 => "HTTP/3",
            _ => "HTTP/1.1",
        }
    }
}

fn name(bytes: &[u8]) -> &[u8] {
    clip(bytes, LONGEST_NAME)
}

/// The first `longest` bytes, less the character that would be cut in two.
fn clip(bytes: &[u8], longest: usize) -> &[u8] {
    if bytes.len() <= longest {
        return bytes;
    }
    let boundary = (longest.saturating_sub(3)..=longest).rev().find(|at| bytes[*at] & 0xc0 != 0x80);
    &bytes[..boundary.unwrap_or(longest)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(clip(b"abc", 3), b"abc");
        assert_eq!(clip(b"abcd", 3), b"abc");
        assert_eq!(clip("ab\u{e9}".as_bytes(), 3), b"ab");
        assert_eq!(clip("\u{1f600}\u{1f600}".as_bytes(), 7), "\u{1f600}".as_bytes());
        assert_eq!(clip(&[0x80; 10], 5), &[0x80; 5]);
        assert_eq!(clip(&[0x80; 4], 1), &[0x80; 1]);
    }
}
