//! WebSockets as far as a gateway looks at them: who asks for one, who agrees to one, and where their frames end.
//!
//! Answers for RFC 6455 sections 4.1, 4.2 and 5, and RFC 8441 section 5. Refuses to know messages: fragments, extensions and payloads
//! are the endpoints' own business.

mod frames;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::{Method, Version, request};
use hyper::ext::Protocol;

pub use frames::{Frames, Misframed, Side, close_frame};

/// The protocol's name in `Upgrade` and in `:protocol`.
pub const PROTOCOL: &str = "websocket";
/// The one version of the protocol (RFC 6455 section 4.1, item 9).
pub const VERSION: HeaderValue = HeaderValue::from_static("13");
/// RFC 6455 section 1.3.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;

/// Status codes of close frames (RFC 6455 section 7.4.1 and the registry it opened).
pub mod code {
    /// The endpoint goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// What came is no WebSocket.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// What came is not allowed, or no longer.
    pub const POLICY_VIOLATION: u16 = 1008;
    /// The server's side failed.
    pub const INTERNAL_ERROR: u16 = 1011;
    /// The server restarts: come again.
    pub const SERVICE_RESTART: u16 = 1012;
}

/// How a client asks for a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By a GET with `Upgrade` (RFC 6455 section 4.1).
    Upgrade,
    /// By an extended CONNECT (RFC 8441 section 4), which has no key.
    Connect,
}

/// Why a request for a WebSocket is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum HandshakeError {
    #[error("a WebSocket is asked for by GET")]
    Method,
    #[error("`Connection` does not name `upgrade`")]
    Connection,
    #[error("there is not one `Sec-WebSocket-Version`")]
    VersionMissing,
    #[error("the version is not 13")]
    Version,
    #[error("there is not one key of 16 bytes")]
    Key,
    #[error("there is a body")]
    Body,
}

/// Why an upstream's 101 does not begin a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum SwitchError {
    #[error("it switches to another protocol")]
    Protocol,
    #[error("its `Sec-WebSocket-Accept` is not the key's")]
    Accept,
    #[error("it answers with a success that is no switch")]
    Declined,
}

/// Whether a request asks for a WebSocket, well or badly. HTTP/1.0 knows no upgrades (RFC 9110 section 7.8).
pub fn asked(head: &request::Parts) -> Option<Asked> {
    if head.extensions.get::<Protocol>().is_some_and(|protocol| protocol.as_str() == PROTOCOL) {
        Some(Asked::Connect)
    } else if head.version == Version::HTTP_11 && lists(&head.headers, &UPGRADE, PROTOCOL) {
        Some(Asked::Upgrade)
    } else {
        None
    }
}

/// Whether the request is as RFC 6455 section 4.2.1 demands. Of an extended CONNECT only the version is left to ask (RFC 8441 section 5).
pub fn check(head: &request::Parts, asked: Asked, has_body: bool) -> Result<(), HandshakeError> {
    if asked == Asked::Upgrade {
        if head.method != Method::GET {
            return Err(HandshakeError::Method);
        }
        if !lists(&head.headers, &CONNECTION, "upgrade") {
            return Err(HandshakeError::Connection);
        }
        if !single(&head.headers, &SEC_WEBSOCKET_KEY).is_some_and(|key| is_key(key.as_bytes())) {
            return Err(HandshakeError::Key);
        }
    }
    let version = single(&head.headers, &SEC_WEBSOCKET_VERSION).ok_or(HandshakeError::VersionMissing)?;
    if version.as_bytes() != VERSION.as_bytes() {
        return Err(HandshakeError::Version);
    }
    if has_body { Err(HandshakeError::Body) } else { Ok(()) }
}

/// Whether the head of a 101 is the answer to `key` (RFC 6455 section 4.1, what the client checks).
pub fn check_switch(headers: &HeaderMap, key: &HeaderValue) -> Result<(), SwitchError> {
    if !lists(headers, &UPGRADE, PROTOCOL) || !lists(headers, &CONNECTION, "upgrade") {
        return Err(SwitchError::Protocol);
    }
    let accepted = single(headers, &SEC_WEBSOCKET_ACCEPT).is_some_and(|value| value == accept(key.as_bytes()));
    if accepted { Ok(()) } else { Err(SwitchError::Accept) }
}

/// The key of these 16 bytes, as a client sends it.
pub fn key(bytes: [u8; KEY_BYTES]) -> HeaderValue {
    HeaderValue::from_str(&STANDARD.encode(bytes)).expect("base64 is visible ASCII")
}

/// What a server answers to `key` (RFC 6455 section 4.2.2, item 5.4). SHA-1 guards nothing here: it shows that the server knows the
/// protocol.
pub fn accept(key: &[u8]) -> HeaderValue {
    let mut hash = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(key);
    hash.update(GUID.as_bytes());
    HeaderValue::from_str(&STANDARD.encode(hash.finish())).expect("base64 is visible ASCII")
}

/// Makes `headers` ask for a WebSocket, or agree to one.
pub fn switch(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
}

fn is_key(key: &[u8]) -> bool {
    STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == KEY_BYTES)
}

/// Whether the list that all lines of a field make has this member, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, member: &str) -> bool {
    let lines = headers.get_all(name).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .any(|found| found.trim_ascii().eq_ignore_ascii_case(member.as_bytes()))
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    /// The example of RFC 6455 section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const GOOD: [(&str, &str); 4] = [
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
    ];

    fn head(method: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    /// The good request with one field otherwise; an empty value leaves it out.
    fn with(name: &str, values: &[&str]) -> request::Parts {
        let mut fields: Vec<_> = GOOD.into_iter().filter(|(known, _)| *known != name).collect();
        fields.extend(values.iter().map(|value| (name, *value)));
        head("GET", &fields)
    }

    #[test]
    fn a_handshake_is_known_in_every_legal_spelling() {
        for head in [
            head("GET", &GOOD),
            with("upgrade", &["h2c, WebSocket"]),
            with("upgrade", &["foo", "websocket"]),
            with("connection", &["keep-alive, upgrade"]),
            with("connection", &["keep-alive", "UPGRADE"]),
        ] {
            assert_eq!(asked(&head), Some(Asked::Upgrade));
            assert_eq!(check(&head, Asked::Upgrade, false), Ok(()));
        }
    }

    #[test]
    fn other_upgrades_and_older_protocols_ask_for_nothing() {
        for head in [with("upgrade", &["h2c"]), with("upgrade", &[]), with("upgrade", &["websocket13"])] {
            assert_eq!(asked(&head), None);
        }
        let mut old = head("GET", &GOOD);
        old.version = Version::HTTP_10;
        assert_eq!(asked(&old), None);
        old.version = Version::HTTP_2;
        assert_eq!(asked(&old), None, "over HTTP/2 there is no `Upgrade`");
        old.extensions.insert(Protocol::from_static("connect-udp"));
        assert_eq!(asked(&old), None);
        old.extensions.insert(Protocol::from_static(PROTOCOL));
        assert_eq!(asked(&old), Some(Asked::Connect));
    }

    #[test]
    fn what_is_wrong_with_a_handshake_is_named() {
        for (head, error) in [
            (head("POST", &GOOD), HandshakeError::Method),
            (with("connection", &["keep-alive"]), HandshakeError::Connection),
            (with("connection", &[]), HandshakeError::Connection),
            (with("sec-websocket-version", &[]), HandshakeError::VersionMissing),
            (with("sec-websocket-version", &["13", "13"]), HandshakeError::VersionMissing),
            (with("sec-websocket-version", &["8"]), HandshakeError::Version),
            (with("sec-websocket-version", &["13, 8"]), HandshakeError::Version),
            (with("sec-websocket-key", &[]), HandshakeError::Key),
            (with("sec-websocket-key", &[KEY, KEY]), HandshakeError::Key),
            (with("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZQ"]), HandshakeError::Key),
            (with("sec-websocket-key", &["c2hvcnQ="]), HandshakeError::Key),
            (with("sec-websocket-key", &["dGhlIHNhbXBsZSBub25jZSBpcyBsb25n"]), HandshakeError::Key),
        ] {
            assert_eq!(check(&head, Asked::Upgrade, false), Err(error), "{:?}", head.headers);
        }
        assert_eq!(check(&head("GET", &GOOD), Asked::Upgrade, true), Err(HandshakeError::Body));
        let connect = head("GET", &[("sec-websocket-version", "13")]);
        assert_eq!(check(&connect, Asked::Connect, false), Ok(()), "it has no key");
    }

    #[test]
    fn the_accept_value_is_that_of_the_rfc() {
        assert_eq!(accept(KEY.as_bytes()), ACCEPT);
        assert_eq!(key(*b"the sample nonce"), KEY);
    }

    #[test]
    fn a_switch_is_taken_only_for_the_key_that_was_sent() {
        let key = HeaderValue::from_static(KEY);
        let good = [("upgrade", "WebSocket"), ("connection", "upgrade"), ("sec-websocket-accept", ACCEPT)];
        assert_eq!(check_switch(&head("GET", &good).headers, &key), Ok(()));
        for (at, value, error) in [
            (0, "h2c", SwitchError::Protocol),
            (1, "close", SwitchError::Protocol),
            (2, "s3pPLMBiTxaQ9kYGzzhZRbK+xO0=", SwitchError::Accept),
            (2, "", SwitchError::Accept),
        ] {
            let mut fields = good;
            fields[at].1 = value;
            assert_eq!(check_switch(&head("GET", &fields).headers, &key), Err(error), "{fields:?}");
        }
        let twice = [good[0], good[1], good[2], good[2]];
        assert_eq!(check_switch(&head("GET", &twice).headers, &key), Err(SwitchError::Accept));
    }
}
