//! WebSockets by the letter, from either end: handshakes as exact bytes, frames as RFC 6455 draws them.

use std::io;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::client::Client;
use super::gateway::Gateway;
use super::origin::{Conn, Origin};
use super::wire::{Message, Wire};
use super::{h2, tls, within};

/// A key, and what must be answered to it (RFC 6455 section 1.3).
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// The fields of a good handshake.
pub const FIELDS: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                          Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;

/// A request for a WebSocket.
pub fn ask(path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{FIELDS}{fields}\r\n")
}

/// What a server answers to a key.
pub fn accept(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// The 101 to a request, with more fields.
pub fn agree(request: &Message, fields: &str) -> String {
    let accept = accept(request.field("sec-websocket-key").unwrap_or_default());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    )
}

/// A frame as it stands on the wire.
pub fn frame(masked: bool, first: u8, payload: &[u8]) -> Vec<u8> {
    let bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(bit | u8::try_from(short).unwrap()),
        middle @ 126..65536 => {
            bytes.push(bit | 0x7e);
            bytes.extend(u16::try_from(middle).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(bit | 0x7f);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    let mask = if masked { [0x37, 0xfa, 0x21, 0x3d] } else { [0; 4] };
    if masked {
        bytes.extend(mask);
    }
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// One end of an open WebSocket.
pub struct Socket {
    wire: Wire,
    masks: bool,
    read: Vec<u8>,
}

impl Socket {
    /// The client's end.
    pub fn client(wire: Wire) -> Self {
        Self::over(wire, true)
    }

    /// The origin's end.
    pub fn server(wire: Wire) -> Self {
        Self::over(wire, false)
    }

    fn over(mut wire: Wire, masks: bool) -> Self {
        let read = wire.rest();
        Self { wire, masks, read }
    }

    /// Sends bytes as they are; a gateway that has closed is no failure.
    pub async fn raw(&mut self, bytes: &[u8]) -> bool {
        within("sending", self.wire.send(bytes)).await.is_ok()
    }

    pub async fn send(&mut self, first: u8, payload: &[u8]) -> bool {
        self.raw(&frame(self.masks, first, payload)).await
    }

    pub async fn say(&mut self, text: &str) -> bool {
        self.send(TEXT, text.as_bytes()).await
    }

    /// The next frame; `None` at the end of the stream, however it comes.
    pub async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a frame", self.next()).await.ok()
    }

    /// The next message, which must be a text.
    pub async fn hear(&mut self) -> String {
        let (first, payload) = self.frame().await.expect("a message");
        assert_eq!(first, TEXT, "{payload:?}");
        String::from_utf8(payload).unwrap()
    }

    /// Says something and hears it again.
    pub async fn echo(&mut self, text: &str) {
        assert!(self.say(text).await);
        assert_eq!(self.hear().await, text);
    }

    /// The code of the close frame that comes next, answered as it should be.
    pub async fn goodbye(&mut self) -> u16 {
        let (first, payload) = self.frame().await.expect("a close frame");
        assert_eq!(first, CLOSE, "{payload:?}");
        self.send(CLOSE, &payload).await;
        u16::from_be_bytes([payload[0], payload[1]])
    }

    /// Whether the stream ends here, without a frame more.
    pub async fn ends(&mut self) -> bool {
        self.frame().await.is_none() && self.read.is_empty()
    }

    async fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let head = self.exactly(2).await?;
        assert_eq!(head[1] & 0x80 == 0, self.masks, "only clients mask");
        let length = match head[1] & 0x7f {
            126 => self.number(2).await?,
            127 => self.number(8).await?,
            short => usize::from(short),
        };
        let mask = if self.masks { vec![0; 4] } else { self.exactly(4).await? };
        let payload = self.exactly(length).await?;
        Ok((head[0], payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()))
    }

    async fn number(&mut self, bytes: usize) -> io::Result<usize> {
        Ok(self.exactly(bytes).await?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    async fn exactly(&mut self, length: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < length {
            let ended = self.wire.fill().await? == 0;
            self.read.extend(self.wire.rest());
            if ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(self.read.drain(..length).collect())
    }
}

impl Conn {
    /// Agrees to a request for a WebSocket.
    pub async fn switch(mut self, fields: &str) -> Option<Socket> {
        let request = self.head().await?;
        self.send(agree(&request, fields)).await;
        Some(Socket::over(self.wire, false))
    }
}

/// An origin that agrees to everything and sends back what it hears, a close frame too.
pub async fn echo() -> Origin {
    Origin::start(|conn| async move {
        let Some(mut socket) = conn.switch("").await else { return };
        while let Some((first, payload)) = socket.frame().await {
            socket.send(first, &payload).await;
            if first == CLOSE {
                return;
            }
        }
    })
    .await
}

/// The answer to a handshake over a connection of its own, and the connection.
pub async fn answer(gateway: &Gateway, request: &str) -> (Message, Client) {
    let mut client = Client::plain(gateway.http).await;
    client.send(request).await;
    (client.answer().await, client)
}

/// An open WebSocket over plain HTTP/1.1.
pub async fn open(gateway: &Gateway, path: &str, fields: &str) -> Socket {
    let (answer, client) = answer(gateway, &ask(path, fields)).await;
    assert_eq!(answer.status(), 101, "{answer:?}");
    Socket::client(client.wire)
}

/// The same over TLS.
pub async fn open_tls(gateway: &Gateway, path: &str, fields: &str) -> Socket {
    let stream = tls::connect(gateway.https, &gateway.roots(), &[b"http/1.1"]).await.unwrap();
    let mut client = Client::over(stream);
    assert_eq!(client.ask(ask(path, fields)).await.status(), 101);
    Socket::client(client.wire)
}

/// The same over a socket of one's own.
pub async fn open_over(stream: TcpStream, path: &str, fields: &str) -> Socket {
    let mut client = Client::over(stream);
    assert_eq!(client.ask(ask(path, fields)).await.status(), 101);
    Socket::client(client.wire)
}

/// One of each kind: plain, over TLS, and over HTTP/2 by `sender`.
pub async fn open_each(gateway: &Gateway, sender: &mut Http2) -> [Socket; 3] {
    [open(gateway, "/", "").await, open_tls(gateway, "/", "").await, open_http2(sender, "/", &[]).await]
}

/// HTTP/2 to the gateway, for tunnels.
pub type Http2 = SendRequest<Empty<Bytes>>;

pub async fn http2(gateway: &Gateway) -> Http2 {
    h2::connect(gateway).await
}

/// An extended CONNECT.
pub fn connect(protocol: &'static str, path: &str, fields: &[(&str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::builder().method("CONNECT").uri(format!("https://site.test{path}"));
    request = request.extension(Protocol::from_static(protocol)).header("sec-websocket-version", "13");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Empty::new()).unwrap()
}

/// What is answered to a request over HTTP/2.
pub async fn over_http2(sender: &mut Http2, request: Request<Empty<Bytes>>) -> Response<Incoming> {
    within("an answer", sender.ready()).await.unwrap();
    within("an answer", sender.send_request(request)).await.expect("an answer")
}

/// An open WebSocket on one stream of an HTTP/2 connection.
pub async fn open_http2(sender: &mut Http2, path: &str, fields: &[(&str, &str)]) -> Socket {
    let response = over_http2(sender, connect("websocket", path, fields)).await;
    assert_eq!(response.status(), StatusCode::OK, "{response:?}");
    assert!(!response.headers().contains_key("sec-websocket-accept"));
    let stream = within("a tunnel", hyper::upgrade::on(response)).await.unwrap();
    Socket::client(Wire::new(TokioIo::new(stream), None))
}
