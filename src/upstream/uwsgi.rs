//! The uwsgi protocol, as far as it differs from HTTP/1.1: the packet in which a request's head travels, and the stream that puts
//! it in the place of the head that hyper writes.
//!
//! Answers for RFC 3875 section 4.1, from which the names of the variables are. The reply to a packet is plain HTTP/1.1, and so is a
//! body, which follows as it is and has as many bytes as the packet says; one connection carries one request. Refuses to know
//! endpoints, leases and how long anything may take.

use std::borrow::Cow;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body::Body;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Kind, OnBehalf, UpstreamFailure};

/// Before the variables: a modifier, their length in two bytes, another modifier. Zero and zero is a request for an application.
const HEAD_BYTES: usize = 4;
/// The longest the variables may be in all: their length has two bytes.
const MOST_BYTES: usize = u16::MAX as usize;
const END_OF_HEAD: [u8; 4] = *b"\r\n\r\n";

/// Whether a uwsgi server that was left as it came refuses such a packet, which it does by closing: uWSGI's `buffer-size`.
pub(super) fn is_often_too_large(packet_bytes: usize) -> bool {
    packet_bytes > HEAD_BYTES + 4096
}

/// The packet that says what `request` does. The length of its body must be known: there is no other way to say where it ends.
pub(super) fn packet<B: Body>(request: &Request<B>, behalf: &OnBehalf, kind: Kind) -> Result<Bytes, UpstreamFailure> {
    let length = request.body().size_hint().exact().ok_or(UpstreamFailure::LengthRequired)?;
    let mut variables = Variables::new();
    say_request(&mut variables, request.method(), request.uri(), kind);
    say_server(&mut variables, request.headers(), behalf.secure);
    say_client(&mut variables, behalf);
    say_body(&mut variables, request.headers(), length);
    say_fields(&mut variables, request.headers());
    variables.into_packet()
}

/// The path is told twice, as it was sent and decoded (RFC 3875 section 4.1.5): applications route by the second. Gunicorn decodes
/// that one itself: told a decoded one, it would serve another path than the one that was authorised.
fn say_request(variables: &mut Variables, method: &Method, uri: &Uri, kind: Kind) {
    let path = uri.path();
    let decoded = match kind {
        Kind::Gunicorn => Cow::Borrowed(path.as_bytes()),
        Kind::Uwsgi | Kind::Daphne | Kind::Uvicorn | Kind::Http => Cow::from(percent_decode_str(path)),
    };
    variables.put(b"REQUEST_METHOD", method.as_str().as_bytes());
    variables.put(b"REQUEST_URI", uri.path_and_query().map_or("/", |target| target.as_str()).as_bytes());
    variables.put(b"PATH_INFO", &decoded);
    variables.put(b"QUERY_STRING", uri.query().unwrap_or_default().as_bytes());
    variables.put(b"SCRIPT_NAME", b"");
    variables.put(b"SERVER_PROTOCOL", b"HTTP/1.1");
}

fn say_server(variables: &mut Variables, headers: &HeaderMap, secure: bool) {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let usual = if secure { "443" } else { "80" };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, port),
        _ => (host, usual),
    };
    variables.put(b"SERVER_NAME", name.as_bytes());
    variables.put(b"SERVER_PORT", port.as_bytes());
    variables.put(b"REQUEST_SCHEME", if secure { b"https" } else { b"http" });
    if secure {
        variables.put(b"HTTPS", b"on");
    }
}

/// The port is not known where a trusted proxy says who the client is.
fn say_client(variables: &mut Variables, behalf: &OnBehalf) {
    variables.put(b"REMOTE_ADDR", behalf.client.ip().to_canonical().to_string().as_bytes());
    if behalf.client.port() != 0 {
        variables.put(b"REMOTE_PORT", behalf.client.port().to_string().as_bytes());
    }
    if let Some(user) = behalf.user.as_deref().filter(|user| !user.is_empty() && !user.contains(char::is_control)) {
        variables.put(b"REMOTE_USER", user.as_bytes());
    }
}

/// RFC 3875 sections 4.1.2 and 4.1.3. A request without a body has the length it says itself: zero, or none.
fn say_body(variables: &mut Variables, headers: &HeaderMap, length: u64) {
    let value = |name| headers.get(name).map_or(&b""[..], HeaderValue::as_bytes);
    variables.put(b"CONTENT_TYPE", value(header::CONTENT_TYPE));
    match length {
        0 => variables.put(b"CONTENT_LENGTH", value(header::CONTENT_LENGTH)),
        _ => variables.put(b"CONTENT_LENGTH", length.to_string().as_bytes()),
    }
}

/// RFC 3875 section 4.1.18.
fn say_fields(variables: &mut Variables, headers: &HeaderMap) {
    let mut last = None;
    // All values of one name come one after the other.
    for (name, value) in headers.iter().filter(|(name, _)| !is_said_otherwise(name)) {
        if last == Some(name) {
            variables.add(if *name == header::COOKIE { b"; " } else { b", " }, value.as_bytes());
        } else {
            variables.put_field(name, value.as_bytes());
        }
        last = Some(name);
    }
}

/// What has a variable of its own, what concerns one connection only, and `Proxy`: as a variable it is where many programs look for
/// the proxy they are to use (CVE-2016-5385).
fn is_said_otherwise(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "content-length" | "content-type" | "connection" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "proxy"
    )
}

/// Names and values, each after its length in two bytes, little end first.
struct Variables {
    bytes: Vec<u8>,
    /// Where the length of the last value stands.
    last: usize,
}

impl Variables {
    fn new() -> Self {
        let mut bytes = Vec::with_capacity(2048);
        bytes.extend_from_slice(&[0; HEAD_BYTES]);
        Self { bytes, last: 0 }
    }

    fn put(&mut self, name: &[u8], value: &[u8]) {
        self.put_length(name.len());
        self.bytes.extend_from_slice(name);
        self.put_value(value);
    }

    fn put_field(&mut self, name: &HeaderName, value: &[u8]) {
        self.put_length("HTTP_".len() + name.as_str().len());
        self.bytes.extend_from_slice(b"HTTP_");
        let letter = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_uppercase() };
        self.bytes.extend(name.as_str().bytes().map(letter));
        self.put_value(value);
    }

    fn put_value(&mut self, value: &[u8]) {
        self.last = self.bytes.len();
        self.put_length(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// Appends to the last value.
    fn add(&mut self, separator: &[u8], value: &[u8]) {
        self.bytes.extend_from_slice(separator);
        self.bytes.extend_from_slice(value);
        let begin = self.last + 2;
        let length = two_bytes(self.bytes.len() - begin);
        self.bytes[self.last..begin].copy_from_slice(&length);
    }

    fn put_length(&mut self, length: usize) {
        self.bytes.extend_from_slice(&two_bytes(length));
    }

    fn into_packet(mut self) -> Result<Bytes, UpstreamFailure> {
        let length = self.bytes.len() - HEAD_BYTES;
        if length > MOST_BYTES {
            return Err(UpstreamFailure::HeadTooLarge);
        }
        self.bytes[1..3].copy_from_slice(&two_bytes(length));
        Ok(self.bytes.into())
    }
}

/// What is too long for two bytes is too long for a packet, and `into_packet` will say so.
fn two_bytes(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes()
}

/// A stream on which an HTTP/1.1 client sends one request and a uwsgi server receives it: the head that the client writes is thrown
/// away, and the packet goes in its place, together with the beginning of the body if that is there.
#[derive(Debug)]
pub(super) struct Uwsgi<S> {
    stream: S,
    /// What is left to send of it.
    packet: Bytes,
    /// How much of the empty line that ends the head has been seen; all of it once the head is over.
    seen: usize,
}

impl<S> Uwsgi<S> {
    pub(super) fn new(stream: S, packet: Bytes) -> Self {
        Self { stream, packet, seen: 0 }
    }

    /// How many bytes at the beginning of `written` are still the head.
    fn head_in(&mut self, written: &[u8]) -> usize {
        for (at, byte) in written.iter().enumerate() {
            if self.seen == END_OF_HEAD.len() {
                return at;
            }
            self.seen = match *byte {
                byte if byte == END_OF_HEAD[self.seen] => self.seen + 1,
                b'\r' => 1,
                _ => 0,
            };
        }
        written.len()
    }
}

impl<S: AsyncWrite + Unpin> Uwsgi<S> {
    /// Sends the packet, and as much of `body` with the end of it as goes along.
    fn poll_packet(&mut self, cx: &mut Context<'_>, body: &[u8]) -> Poll<io::Result<usize>> {
        while self.packet.has_remaining() {
            let packet = self.packet.clone();
            let slices = [IoSlice::new(&packet), IoSlice::new(body)];
            let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &slices))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(beyond) = sent.checked_sub(self.packet.len()) {
                self.packet = Bytes::new();
                return Poll::Ready(Ok(beyond));
            }
            self.packet.advance(sent);
        }
        Poll::Ready(Ok(0))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Uwsgi<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Uwsgi<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
        let head = self.head_in(first);
        if head > 0 {
            return Poll::Ready(Ok(head)); // the body may be ready too, and goes with the packet
        }
        match ready!(self.poll_packet(cx, first))? {
            0 => Pin::new(&mut self.stream).poll_write_vectored(cx, bufs),
            sent => Poll::Ready(Ok(sent)),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.seen == END_OF_HEAD.len() {
            ready!(self.poll_packet(cx, &[]))?;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Nothing: the server knows the end of a request by its length, and what is over is dropped, which closes the socket.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // the bodies of these tests are small
mod tests;
