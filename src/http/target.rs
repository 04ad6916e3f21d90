//! The one canonical (scheme, authority, path) of a request.
//!
//! Answers for RFC 9112 section 3.2, RFC 9113 section 8.3.1 and RFC 9114 section 4.3.1: who the request is for. What two parsers could read in two ways is
//! refused here, so that the path that is matched is the path that is authorised is the path that is forwarded. The bytes
//! forwarded are the client's own. Refuses to know routes.

use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery};
use http::{Method, Uri, Version, request};
use hyper::ext::Protocol;

use super::websocket;

/// Who a request is for, checked once; holding one is proof that the checks were made.
#[derive(Debug, Clone)]
pub struct Target {
    secure: bool,
    authority: Authority,
    path_and_query: PathAndQuery,
    decoded: Option<Box<str>>,
}

/// Why a request has no canonical target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TargetError {
    #[error("method is never forwarded")]
    MethodNotSupported,
    #[error("protocol of an extended CONNECT is none that is tunnelled")]
    ProtocolNotSupported,
    #[error("host header is missing")]
    HostMissing,
    #[error("more than one host header")]
    HostRepeated,
    #[error("host is malformed")]
    HostMalformed,
    #[error("authority and host differ")]
    HostDiffers,
    #[error("request target is too long")]
    TooLong,
    #[error("too many header fields")]
    TooManyFields,
    #[error("a header field is too long")]
    FieldTooLong,
    #[error("request target is malformed")]
    Malformed,
    #[error("path can be read in two ways")]
    AmbiguousPath,
    #[error("transfer-encoding is not exactly one `chunked`")]
    TransferEncoding,
}

impl TargetError {
    /// Every reason's stable name, for metrics.
    pub const REASONS: [&'static str; 12] = [
        "method",
        "protocol",
        "host_missing",
        "host_repeated",
        "host_malformed",
        "host_differs",
        "target_too_long",
        "too_many_fields",
        "field_too_long",
        "target_malformed",
        "ambiguous_path",
        "transfer_encoding",
    ];

    /// A short stable name for metrics and logs.
    pub fn reason(self) -> &'static str {
        Self::REASONS[self as usize]
    }
}

impl Target {
    /// Reads the target of a request that came over a connection that was `secure` or not; `max_bytes` bounds path and query.
    pub fn read(head: &request::Parts, secure: bool, max_bytes: usize) -> Result<Self, TargetError> {
        check_method(head)?;
        check_transfer_encoding(&head.headers)?;
        check_scheme(&head.uri, secure)?;
        let authority = authority(&head.uri, &head.headers, head.version)?;
        let path_and_query = head.uri.path_and_query().ok_or(TargetError::Malformed)?.clone();
        if path_and_query.as_str().len() > max_bytes {
            return Err(TargetError::TooLong);
        }
        if path_and_query.query().is_some_and(|query| !query.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(TargetError::Malformed);
        }
        let decoded = decode(path_and_query.path())?;
        Ok(Self { secure, authority, path_and_query, decoded })
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// The host in lower case, without port; an IPv6 literal keeps its brackets.
    pub fn host(&self) -> &str {
        let host = self.authority.host();
        host.strip_suffix('.').unwrap_or(host)
    }

    /// Host and port as they are sent on, in lower case.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// The canonical path: percent-decoded, free of dot segments and doubled slashes, valid UTF-8.
    pub fn path(&self) -> &str {
        self.decoded.as_deref().unwrap_or_else(|| self.path_and_query.path())
    }

    /// The path in the client's own bytes.
    pub fn raw_path(&self) -> &str {
        self.path_and_query.path()
    }

    /// The query, without `?`, in the client's own bytes.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query.query()
    }

    /// Path and query in the client's own bytes.
    pub fn path_and_query(&self) -> &PathAndQuery {
        &self.path_and_query
    }
}

/// CONNECT has a target like that of other methods only in its extended form (RFC 8441 section 4), and is taken for WebSockets alone.
fn check_method(head: &request::Parts) -> Result<(), TargetError> {
    match (&head.method, head.extensions.get::<Protocol>()) {
        (&Method::TRACE, _) | (&Method::CONNECT, None) => Err(TargetError::MethodNotSupported),
        (&Method::CONNECT, Some(protocol)) if protocol.as_str() != websocket::PROTOCOL => {
            Err(TargetError::ProtocolNotSupported)
        }
        (method, _) if has_small_letters(method) => Err(TargetError::MethodNotSupported),
        _ => Ok(()),
    }
}

/// RFC 9110 section 9.1 tells `delete` from `DELETE`; applications that write all methods in capital letters, Django among them, do not.
/// A rule for the one must not be a way around the rule for the other, and no method that is registered has small letters.
fn has_small_letters(method: &Method) -> bool {
    method.as_str().bytes().any(|byte| byte.is_ascii_lowercase())
}

/// RFC 9110 section 7.4: an absolute form of another scheme is not for this gateway, and one of https came the wrong way.
fn check_scheme(uri: &Uri, secure: bool) -> Result<(), TargetError> {
    match uri.scheme_str() {
        None | Some("http") => Ok(()),
        Some("https") if secure => Ok(()),
        Some(_) => Err(TargetError::Malformed),
    }
}

/// RFC 9112 section 6.1: what is left of transfer codings after hyper must be exactly one `chunked`.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), TargetError> {
    let mut lines = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (lines.next(), lines.next()) {
        (None, _) => Ok(()),
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(()),
        _ => Err(TargetError::TransferEncoding),
    }
}

/// RFC 9112 section 3.2: exactly one Host; an absolute form overrides it. RFC 9113 section 8.3.1 and RFC 9114 section 4.3.1:
/// `:authority` and Host must agree.
fn authority(uri: &Uri, headers: &HeaderMap, version: Version) -> Result<Authority, TargetError> {
    let mut lines = headers.get_all(header::HOST).iter();
    let host = lines.next();
    if lines.next().is_some() {
        return Err(TargetError::HostRepeated);
    }
    let host = host.map(parse_authority).transpose()?;
    match (uri.authority(), host) {
        (Some(authority), None) if version >= Version::HTTP_2 => checked_authority(authority.clone()),
        (_, None) => Err(TargetError::HostMissing),
        (None, Some(host)) => Ok(host),
        (Some(authority), Some(host)) => {
            let authority = checked_authority(authority.clone())?;
            if version >= Version::HTTP_2 && authority != host {
                return Err(TargetError::HostDiffers);
            }
            Ok(authority)
        }
    }
}

fn parse_authority(value: &HeaderValue) -> Result<Authority, TargetError> {
    let authority = Authority::from_maybe_shared(value.clone()).map_err(|_| TargetError::HostMalformed)?;
    checked_authority(authority)
}

fn checked_authority(authority: Authority) -> Result<Authority, TargetError> {
    let text = authority.as_str();
    let host = authority.host();
    let port_is_good = match text.strip_prefix(host) {
        Some("") => true,
        Some(port) => authority.port_u16().is_some_and(|number| number > 0) && port.len() > 1,
        None => false, // userinfo stands before the host
    };
    let host_is_good = if let Some(literal) = host.strip_prefix('[') {
        literal.strip_suffix(']').is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok())
    } else {
        !host.is_empty()
            && host != "."
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
    };
    if !port_is_good || !host_is_good {
        return Err(TargetError::HostMalformed);
    }
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return text.to_ascii_lowercase().parse().map_err(|_| TargetError::HostMalformed);
    }
    Ok(authority)
}

/// The decoded path where it differs from the raw one. Refuses what an upstream could read another way.
fn decode(raw: &str) -> Result<Option<Box<str>>, TargetError> {
    if !raw.starts_with('/') {
        return Err(TargetError::Malformed); // asterisk form and relative paths
    }
    if !raw.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TargetError::Malformed);
    }
    canonical(raw)
}

/// A path that begins with a slash, decoded where that makes a difference; refused if two programs could read it in two ways.
pub(super) fn canonical(raw: &str) -> Result<Option<Box<str>>, TargetError> {
    if !raw.as_bytes().contains(&b'%') {
        return if is_canonical(raw) { Ok(None) } else { Err(TargetError::AmbiguousPath) };
    }
    if has_ambiguous_escape(raw.as_bytes()) {
        return Err(TargetError::AmbiguousPath);
    }
    let decoded =
        percent_encoding::percent_decode_str(raw).decode_utf8().map_err(|_| TargetError::AmbiguousPath)?.into_owned();
    if !is_canonical(&decoded) {
        return Err(TargetError::AmbiguousPath);
    }
    Ok(Some(decoded.into_boxed_str()))
}

/// An escape that is cut short, or of `/`, `\`, or a control character.
fn has_ambiguous_escape(raw: &[u8]) -> bool {
    raw.iter().enumerate().filter(|(_, byte)| **byte == b'%').any(|(at, _)| match raw.get(at + 1..at + 3) {
        Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let escape = [high.to_ascii_lowercase(), low.to_ascii_lowercase()];
            matches!(&escape, b"2f" | b"5c" | b"7f") || matches!(high, b'0' | b'1')
        }
        _ => true,
    })
}

/// No backslash, no empty segment but the last, no dot segment: `/a/../b`, `/a//b` and `/a/./b` name nothing here.
fn is_canonical(path: &str) -> bool {
    let bytes = path.as_bytes();
    if bytes.contains(&b'\\') {
        return false;
    }
    if memchr::memmem::find(bytes, b"//").is_some() {
        return false;
    }
    // Only a path that has `/.` can have a dot segment.
    memchr::memmem::find(bytes, b"/.").is_none()
        || path.split('/').all(|segment| {
            let name = segment.split_once(';').map_or(segment, |(name, _)| name); // `..;` is `..` to some servers
            name != "." && name != ".."
        })
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    fn read(method: &str, uri: &str, hosts: &[&str]) -> Result<Target, TargetError> {
        read_version(method, uri, hosts, Version::HTTP_11)
    }

    fn read_version(method: &str, uri: &str, hosts: &[&str], version: Version) -> Result<Target, TargetError> {
        read_over(true, method, uri, hosts, version)
    }

    fn read_over(
        secure: bool,
        method: &str,
        uri: &str,
        hosts: &[&str],
        version: Version,
    ) -> Result<Target, TargetError> {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        let (head, ()) = request.body(()).map_err(|_| TargetError::Malformed)?.into_parts();
        Target::read(&head, secure, 8192)
    }

    #[test]
    fn a_plain_request_keeps_its_bytes() {
        let target = read("GET", "/a/b%20c?x=%2F", &["Example.COM:8443"]).expect("a target");
        assert_eq!(target.host(), "example.com");
        assert_eq!(target.authority(), "example.com:8443");
        assert_eq!(target.path(), "/a/b c");
        assert_eq!(target.path_and_query().as_str(), "/a/b%20c?x=%2F");
        assert_eq!(target.scheme(), "https");
    }

    #[test]
    fn host_missing_repeated_or_malformed_is_refused() {
        assert_eq!(read("GET", "/", &[]).unwrap_err(), TargetError::HostMissing);
        assert_eq!(read("GET", "/", &["a", "a"]).unwrap_err(), TargetError::HostRepeated);
        for host in
            ["", "a b", "a/b", "user@a", "a:", "a:0", "a:99999", "a:b", "[::1", "[zz]", "a,b", "a?b", ".", "a%41"]
        {
            assert_eq!(read("GET", "/", &[host]).unwrap_err(), TargetError::HostMalformed, "{host:?}");
        }
        for host in ["a", "a.", "a_b.c", "127.0.0.1", "[::1]", "[::1]:80", "xn--bcher-kva.example"] {
            assert!(read("GET", "/", &[host]).is_ok(), "{host:?}");
        }
    }

    #[test]
    fn an_absolute_form_overrides_host_and_userinfo_is_refused() {
        let target = read("GET", "http://real.example/x", &["other.example"]).expect("a target");
        assert_eq!(target.host(), "real.example");
        assert_eq!(read("GET", "http://u:p@a/x", &["a"]).unwrap_err(), TargetError::HostMalformed);
        assert_eq!(read("GET", "http://a/x", &[]).unwrap_err(), TargetError::HostMissing);
    }

    #[test]
    fn over_http2_authority_and_host_must_agree() {
        let read = |uri, hosts: &[&str]| read_version("GET", uri, hosts, Version::HTTP_2);
        assert!(read("https://a.example/", &[]).is_ok());
        assert!(read("https://a.example/", &["A.example"]).is_ok());
        assert_eq!(read("https://a.example/", &["b.example"]).unwrap_err(), TargetError::HostDiffers);
    }

    #[test]
    fn a_path_that_two_parsers_read_two_ways_is_refused() {
        for path in [
            "/a/../b",
            "/..",
            "/.",
            "/a/.",
            "/a/./b",
            "//",
            "/a//b",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/%2e%2e/b",
            "/a/%2e",
            "/.%2E/",
            "/a%00",
            "/a%0d%0a",
            "/a%1f",
            "/a%7f",
            "/a%ff",
            "/%c0%af",
            "/a%",
            "/a%4",
            "/a%zz",
            "/..;/b",
            "/a/..;x=1/b",
        ] {
            assert_eq!(
                read("GET", path, &["a"]).map(|t| t.path().to_owned()),
                Err(TargetError::AmbiguousPath),
                "{path}"
            );
        }
        for path in
            ["/", "/a", "/a/", "/.well-known/x", "/a..b", "/...", "/a%20b", "/%C3%BC", "/a;b=1", "/%252F", "/~a", "/.a"]
        {
            assert!(read("GET", path, &["a"]).is_ok(), "{path}");
        }
    }

    #[test]
    fn connect_trace_and_asterisk_form_have_no_target() {
        assert_eq!(read("TRACE", "/", &["a"]).unwrap_err(), TargetError::MethodNotSupported);
        assert_eq!(read("CONNECT", "a:443", &["a"]).unwrap_err(), TargetError::MethodNotSupported);
        assert_eq!(read("OPTIONS", "*", &["a"]).unwrap_err(), TargetError::Malformed);
    }

    #[test]
    fn an_extended_connect_has_a_target_if_it_is_for_a_websocket() {
        let read = |protocol| {
            let request = Request::builder().method("CONNECT").uri("https://a/live?x").version(Version::HTTP_2);
            let (head, ()) =
                request.extension(Protocol::from_static(protocol)).body(()).expect("a request").into_parts();
            Target::read(&head, true, 8192).map(|target| target.path_and_query().to_string())
        };
        assert_eq!(read("websocket"), Ok("/live?x".to_owned()));
        assert_eq!(read("connect-udp"), Err(TargetError::ProtocolNotSupported));
    }

    #[test]
    fn a_method_in_small_letters_is_not_another_ones_way_around() {
        for method in ["get", "delete", "Post", "pATCH", "PROPFINd"] {
            assert_eq!(read(method, "/", &["a"]).unwrap_err(), TargetError::MethodNotSupported, "{method}");
        }
        for method in ["GET", "PROPFIND", "M-SEARCH", "X1"] {
            assert!(read(method, "/", &["a"]).is_ok(), "{method}");
        }
    }

    #[test]
    fn an_absolute_form_of_another_scheme_is_for_somebody_else() {
        let over = |secure, uri| read_over(secure, "GET", uri, &["a"], Version::HTTP_11).map(|target| target.scheme());
        assert_eq!(over(true, "https://a/"), Ok("https"));
        assert_eq!(over(true, "http://a/"), Ok("https"), "the connection counts");
        assert_eq!(over(false, "http://a/"), Ok("http"));
        assert_eq!(over(false, "HTTP://a/"), Ok("http"));
        for (secure, uri) in [(false, "https://a/"), (true, "ftp://a/"), (true, "ws://a/"), (true, "httpss://a/")] {
            assert_eq!(over(secure, uri), Err(TargetError::Malformed), "{uri}");
        }
    }

    #[test]
    fn transfer_encoding_must_be_exactly_one_chunked() {
        for (lines, good) in [
            (&["chunked"][..], true),
            (&["Chunked"], true),
            (&["gzip, chunked"], false),
            (&["chunked", "chunked"], false),
            (&["cow"], false),
            (&[" "], false),
        ] {
            let mut request = Request::builder().method("POST").uri("/").header("host", "a");
            for line in lines {
                request = request.header("transfer-encoding", *line);
            }
            let (head, ()) = request.body(()).expect("a request").into_parts();
            assert_eq!(Target::read(&head, false, 100).is_ok(), good, "{lines:?}");
        }
    }

    #[test]
    fn a_target_over_its_bound_is_refused() {
        assert_eq!(read("GET", &format!("/{}", "a".repeat(9000)), &["a"]).unwrap_err(), TargetError::TooLong);
    }

    proptest! {
        #[test]
        fn no_path_panics_and_what_passes_is_canonical(path in "/[ -~]{0,40}", host in "[ -~]{0,20}") {
            if let Ok(target) = read("GET", &path, &[&host]) {
                prop_assert!(is_canonical(target.path()));
                prop_assert!(target.path().starts_with('/'));
                prop_assert_eq!(target.host().to_ascii_lowercase(), target.host());
                // Decoding what is forwarded gives what was matched.
                let raw = percent_encoding::percent_decode_str(target.raw_path()).decode_utf8().expect("UTF-8");
                prop_assert_eq!(raw.as_ref(), target.path());
            }
        }
    }
}
