//! The head of a request as a client may send it, and heads and trailers as they are sent (RFC 9114 sections 4.2 and 4.3).
//!
//! What is malformed is refused here: nothing is guessed, and of two answers to one question none is taken. Who the request is for
//! is judged by [`Target`](crate::http::Target), as for every protocol.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, Uri, Version, request};

use super::frames::headers_frame;
use super::qpack::{self, QpackError};

/// Why a head is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadProblem {
    /// The field section can't be decompressed.
    #[error("field section can't be decompressed")]
    Compression,
    /// More than was announced.
    #[error("field section is over its limit")]
    TooLarge,
    /// Not a request (RFC 9114 section 4.1.2).
    #[error("malformed request: {0}")]
    Malformed(&'static str),
}

/// The head of a request, and the length of its content if it says so. Names, values and 32 bytes for each field are at most
/// `most_bytes` together.
pub fn request_head(section: &[u8], most_bytes: usize) -> Result<(request::Parts, Option<u64>), HeadProblem> {
    let mut head = Head::default();
    qpack::decode(section, most_bytes, |name, value| head.field(name, value)).map_err(|error| match error {
        QpackError::Broken => HeadProblem::Compression,
        QpackError::TooLarge => HeadProblem::TooLarge,
    })?;
    head.into_parts()
}

/// A head as far as it was read.
#[derive(Default)]
struct Head {
    method: Option<Method>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    fields: HeaderMap,
    /// Regular fields have begun.
    regular: bool,
    problem: Option<HeadProblem>,
}

impl Head {
    /// The first problem is kept; what comes behind it does not matter any more.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        if self.problem.is_none() {
            self.problem = self.take(name, value).err();
        }
    }

    fn take(&mut self, name: &[u8], value: &[u8]) -> Result<(), HeadProblem> {
        if name.starts_with(b":") {
            return self.take_pseudo(name, value).map_err(HeadProblem::Malformed);
        }
        self.regular = true;
        let (name, value) = checked(name, value).map_err(HeadProblem::Malformed)?;
        // A map takes 24,576 fields; a head that has more is over every limit.
        self.fields.try_append(name, value).map(drop).map_err(|_| HeadProblem::TooLarge)
    }

    /// RFC 9114 section 4.3: before all other fields, each once, and none but these.
    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if self.regular {
            return Err("a pseudo-field behind a field");
        }
        let place = match name {
            b":method" => {
                let method = Method::from_bytes(value).map_err(|_| "its method is none")?;
                return if self.method.replace(method).is_some() { Err("two methods") } else { Ok(()) };
            }
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return Err("an unknown pseudo-field"),
        };
        if value.is_empty() {
            return Err("an empty pseudo-field");
        }
        if place.replace(Bytes::copy_from_slice(value)).is_some() { Err("a pseudo-field twice") } else { Ok(()) }
    }

    fn into_parts(self) -> Result<(request::Parts, Option<u64>), HeadProblem> {
        if let Some(problem) = self.problem {
            return Err(problem);
        }
        let length = content_length(&self.fields).map_err(HeadProblem::Malformed)?;
        let method = self.method.ok_or(HeadProblem::Malformed("no method"))?;
        let uri = uri(&method, self.scheme, self.authority, self.path).map_err(HeadProblem::Malformed)?;
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = method;
        parts.uri = uri;
        parts.version = Version::HTTP_3;
        parts.headers = self.fields;
        Ok((parts, length))
    }
}

/// RFC 9114 section 4.2 and 10.3: lower case, no field of one connection, no byte that means something elsewhere.
fn checked(name: &[u8], value: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    let name = HeaderName::from_lowercase(name).map_err(|_| "a name that is none")?;
    let is_te_trailers = name == header::TE && value.eq_ignore_ascii_case(b"trailers");
    if is_of_one_connection(&name) && !is_te_trailers {
        return Err("a field of one connection");
    }
    if [value.first(), value.last()].into_iter().flatten().any(u8::is_ascii_whitespace) {
        return Err("a value with space around it");
    }
    let value = HeaderValue::from_bytes(value).map_err(|_| "a value that is none")?;
    Ok((name, value))
}

fn is_of_one_connection(name: &HeaderName) -> bool {
    matches!(name.as_str(), "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade")
}

/// RFC 9110 section 8.6: digits, and one length however often it is said.
fn content_length(fields: &HeaderMap) -> Result<Option<u64>, &'static str> {
    let mut length = None;
    for value in fields.get_all(header::CONTENT_LENGTH) {
        let digits = value.as_bytes();
        let number = value.to_str().ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
        let number: u64 = number.and_then(|number| number.parse().ok()).ok_or("a length that is none")?;
        if length.replace(number).is_some() {
            return Err("two lengths");
        }
    }
    Ok(length)
}

/// RFC 9114 sections 4.3.1 and 4.4: scheme and path stand in every request but CONNECT.
fn uri(
    method: &Method,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
) -> Result<Uri, &'static str> {
    let mut uri = Uri::builder();
    if *method == Method::CONNECT {
        if scheme.is_some() || path.is_some() {
            return Err("a scheme or a path of CONNECT");
        }
        return uri.authority(&*authority.ok_or("no authority")?).build().map_err(|_| "an authority that is none");
    }
    let (scheme, path) = (scheme.ok_or("no scheme")?, path.ok_or("no path")?);
    if path.contains(&b'#') {
        return Err("a fragment in the path"); // the parser behind would drop it without a word
    }
    match authority {
        Some(authority) => uri = uri.scheme(&*scheme).authority(&*authority),
        // Host says it; a URI has no scheme without an authority.
        None if matches!(&*scheme, b"http" | b"https") => {}
        None => return Err("a scheme without an authority"),
    }
    uri.path_and_query(&*path).build().map_err(|_| "a target that is none")
}

/// The frame of a response's head. Fields of one connection are left out (RFC 9114 section 4.2).
pub fn response_head<B>(response: &Response<B>) -> Bytes {
    let mut section = Vec::with_capacity(512);
    qpack::begin(&mut section);
    qpack::encode(&mut section, ":status", response.status().as_str().as_bytes());
    fields(&mut section, response.headers());
    headers_frame(&section)
}

/// The frame of the fields behind the content.
pub fn trailers(trailers: &HeaderMap) -> Bytes {
    let mut section = Vec::new();
    qpack::begin(&mut section);
    fields(&mut section, trailers);
    headers_frame(&section)
}

fn fields(section: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields.iter().filter(|(name, _)| !is_of_one_connection(name)) {
        qpack::encode(section, name.as_str(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Fields<'f> = Vec<(&'f str, &'f str)>;

    const GOOD: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "https"), (":authority", "site.test"), (":path", "/a?b")];

    fn section(fields: &[(&str, &str)]) -> Vec<u8> {
        let mut section = Vec::new();
        qpack::begin(&mut section);
        for (name, value) in fields {
            qpack::encode(&mut section, name, value.as_bytes());
        }
        section
    }

    fn head(fields: &[(&str, &str)]) -> Result<(request::Parts, Option<u64>), HeadProblem> {
        request_head(&section(fields), 10_000)
    }

    fn with<'f>(more: &[(&'f str, &'f str)]) -> Fields<'f> {
        [&GOOD[..], more].concat()
    }

    #[test]
    fn a_head_is_what_its_fields_say() {
        let fields = with(&[("cookie", "a=1"), ("cookie", "b=2"), ("te", "Trailers"), ("content-length", "12")]);
        let (parts, length) = head(&fields).expect("a head");
        assert_eq!((parts.method.as_str(), parts.version), ("GET", Version::HTTP_3));
        assert_eq!(parts.uri.to_string(), "https://site.test/a?b");
        assert_eq!(parts.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!(length, Some(12));
        let (parts, length) =
            head(&[GOOD[0], GOOD[1], GOOD[3], ("host", "site.test")]).expect("a head without authority");
        assert_eq!((parts.uri.to_string().as_str(), length), ("/a?b", None));
        let (parts, _) =
            head(&[(":method", "CONNECT"), (":authority", "site.test:443")]).expect("a tunnel is asked for");
        assert_eq!(parts.uri.to_string(), "site.test:443");
        let (parts, _) =
            head(&[(":method", "OPTIONS"), GOOD[1], GOOD[2], (":path", "*")]).expect("a question to the server");
        assert_eq!(parts.uri.path(), "*");
    }

    #[test]
    fn malformed_heads_are_refused() {
        for (what, fields) in [
            ("connection", with(&[("connection", "close")])),
            ("keep-alive", with(&[("keep-alive", "timeout=5")])),
            ("proxy-connection", with(&[("proxy-connection", "keep-alive")])),
            ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
            ("upgrade", with(&[("upgrade", "h2c")])),
            ("te", with(&[("te", "gzip")])),
            ("te and more", with(&[("te", "trailers, gzip")])),
            ("a name in capitals", with(&[("X-Capital", "1")])),
            ("an empty name", with(&[("", "1")])),
            ("a line end in a value", with(&[("x-split", "a\r\nx-user-id: spoofed")])),
            ("a bare LF in a value", with(&[("x-split", "a\nb")])),
            ("NUL in a value", with(&[("x-split", "a\0b")])),
            ("a value with a space before it", with(&[("x", " 1")])),
            ("a value with a tab behind it", with(&[("x", "1\t")])),
            ("a colon in a name", with(&[("x:y", "1")])),
            ("a space in a name", with(&[("x y", "1")])),
            ("a second path", with(&[(":path", "/private/")])),
            ("the same path again", with(&[(":path", "/a?b")])),
            ("a second method", with(&[(":method", "GET")])),
            ("a second authority", with(&[(":authority", "site.test")])),
            ("an unknown pseudo-field", with(&[(":x", "1")])),
            ("the status of a response", with(&[(":status", "200")])),
            ("a protocol", with(&[(":protocol", "websocket")])),
            ("a length that is none", with(&[("content-length", "+5")])),
            ("a length in a list", with(&[("content-length", "5, 5")])),
            ("two lengths", with(&[("content-length", "5"), ("content-length", "5")])),
            ("a length without end", with(&[("content-length", "99999999999999999999")])),
            ("no method", GOOD[1..].to_vec()),
            ("no scheme", [&GOOD[..1], &GOOD[2..]].concat()),
            ("no path", GOOD[..3].to_vec()),
            ("an empty path", [&GOOD[..3], &[(":path", "")]].concat()),
            ("an empty authority", [&GOOD[..2], &[(":authority", ""), GOOD[3]]].concat()),
            ("a fragment", [&GOOD[..3], &[(":path", "/a#b")]].concat()),
            ("a space in the path", [&GOOD[..3], &[(":path", "/a b")]].concat()),
            ("a line end in the path", [&GOOD[..3], &[(":path", "/ HTTP/1.1\r\nx: y")]].concat()),
            ("a method with a space", [&[(":method", "GET /x")], &GOOD[1..]].concat()),
            ("another scheme without an authority", vec![GOOD[0], (":scheme", "ftp"), GOOD[3], ("host", "x")]),
            ("a pseudo-field behind a field", [&GOOD[..3], &[("accept", "x"), GOOD[3]]].concat()),
            ("a tunnel with a path", [&[(":method", "CONNECT")], &GOOD[1..]].concat()),
        ] {
            let head = head(&fields);
            assert!(matches!(head, Err(HeadProblem::Malformed(_))), "{what}: {head:?}");
        }
    }

    #[test]
    fn a_head_over_its_limit_or_in_another_code_is_told_apart() {
        let large = "x".repeat(9_900);
        let fields = with(&[("x-large", &large)]);
        assert_eq!(head(&fields).map(drop), Err(HeadProblem::TooLarge));
        assert_eq!(request_head(b"\x00\x00\x80", 1000).map(drop), Err(HeadProblem::Compression));
        let many: Vec<String> = (0..25_000).map(|number| format!("x{number}")).collect();
        let many: Fields<'_> = many.iter().map(|name| (name.as_str(), "")).collect();
        let head = request_head(&section(&with(&many)), 1 << 20);
        assert_eq!(head.map(drop), Err(HeadProblem::TooLarge), "and no panic for want of room in the map");
    }

    #[test]
    fn what_is_sent_has_no_field_of_one_connection() {
        let response = Response::builder()
            .status(204)
            .header("connection", "close")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("x-own", "1")
            .body(())
            .expect("a response");
        let frame = response_head(&response);
        let mut fields = Vec::new();
        qpack::decode(&frame[2..], 1000, |name, value| fields.push((name.to_vec(), value.to_vec())))
            .expect("a section");
        assert_eq!(fields, [(b":status".to_vec(), b"204".to_vec()), (b"x-own".to_vec(), b"1".to_vec())]);
    }
}
