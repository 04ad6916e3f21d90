//! Heads that HTTP/2 and HTTP/3 call malformed alike (RFC 9113 section 8.2, RFC 9114 section 4.2): field by field, pseudo-fields included.

/// A head there is nothing wrong with.
pub const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "site.test"), (":path", "/")];

/// What is wrong with a head, and its fields.
type Wrong = (&'static str, Vec<(&'static str, &'static str)>);

/// Heads with a field or a pseudo-field there must not be, or without one there must be.
pub fn heads() -> Vec<Wrong> {
    let with = |more: (&'static str, &'static str)| [&GOOD[..], &[more]].concat();
    vec![
        ("connection", with(("connection", "close"))),
        ("keep-alive", with(("keep-alive", "timeout=5"))),
        ("proxy-connection", with(("proxy-connection", "keep-alive"))),
        ("transfer-encoding", with(("transfer-encoding", "chunked"))),
        ("upgrade", with(("upgrade", "h2c"))),
        ("te", with(("te", "gzip"))),
        ("a name in capitals", with(("X-Capital", "1"))),
        ("a line end in a value", with(("x-split", "a\r\nx-user-id: spoofed"))),
        ("a bare LF in a value", with(("x-split", "a\nb"))),
        ("NUL in a value", with(("x-split", "a\0b"))),
        ("a colon in a name", with(("x:y", "1"))),
        ("a space in a name", with(("x y", "1"))),
        ("a second path", with((":path", "/private/"))),
        ("an unknown pseudo-field", with((":x", "1"))),
        ("content-length without a body", with(("content-length", "5"))),
        ("no method", GOOD[1..].to_vec()),
        ("no path", GOOD[..3].to_vec()),
        ("an empty path", [&GOOD[..3], &[(":path", "")]].concat()),
        ("a pseudo-field behind a field", [&GOOD[..3], &[("accept", "x"), (":path", "/")]].concat()),
    ]
}

/// Heads whose request line would be another's in HTTP/1.1.
pub fn request_lines() -> Vec<Wrong> {
    vec![
        ("a line end in the path", [&GOOD[..3], &[(":path", "/ HTTP/1.1\r\nx-user-id: spoofed")]].concat()),
        ("a space in the path", [&GOOD[..3], &[(":path", "/a b")]].concat()),
        ("a method with a space", [&[(":method", "GET /x")], &GOOD[1..]].concat()),
    ]
}

/// Heads that do not say which resource they mean.
pub fn targets() -> Vec<Wrong> {
    vec![
        ("no slash", [&GOOD[..3], &[(":path", "private/")]].concat()),
        ("a user in the authority", [&GOOD[..2], &[(":authority", "me@site.test"), (":path", "/")]].concat()),
        ("no authority", [&GOOD[..2], &GOOD[3..]].concat()),
        ("two hosts", [&GOOD[..], &[("host", "site.test"), ("host", "other.test")]].concat()),
    ]
}
