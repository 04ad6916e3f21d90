//! HTTP/3 clients: one by a library that is not ours, and raw streams for what no library sends.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use h3::client::{RequestStream, SendRequest};
use h3::error::StreamError;
use http::{HeaderMap, Request, Response, StatusCode};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, Endpoint, EndpointConfig, TokioRuntime, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::gateway::{Gateway, Setup};
use super::within;

/// The key of `[listen.https]` that turns it on.
pub const ON: &str = "http3 = true";

type Stream = RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// A socket of a client. On an address of its own, so that it takes no port that a gateway is about to bind.
pub fn socket() -> UdpSocket {
    UdpSocket::bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap()
}

/// What a client that trusts the gateway's certificate offers.
pub fn tls(gateway: &Gateway) -> rustls::ClientConfig {
    trusting(gateway.roots())
}

/// What a client that trusts these certificates offers.
pub fn trusting(certificates: impl IntoIterator<Item = CertificateDer<'static>>) -> rustls::ClientConfig {
    let mut roots = RootCertStore::empty();
    for root in certificates {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    versions.unwrap().with_root_certificates(roots).with_no_client_auth()
}

/// A QUIC connection, whatever is to be spoken over it.
pub struct Quic {
    pub endpoint: Endpoint,
    pub connection: quinn::Connection,
}

impl Quic {
    pub async fn connect(gateway: &Gateway) -> Result<Self, ConnectionError> {
        Self::with(gateway, tls(gateway)).await
    }

    pub async fn with(gateway: &Gateway, tls: rustls::ClientConfig) -> Result<Self, ConnectionError> {
        Self::to("site.test", gateway.https, tls).await
    }

    /// The same from an address of the client's choice.
    pub async fn from(client: IpAddr, gateway: &Gateway) -> Result<Self, ConnectionError> {
        let socket = UdpSocket::bind(SocketAddr::new(client, 0)).unwrap();
        Self::over(socket, "site.test", gateway.https, tls(gateway)).await
    }

    /// The same to a server of any name and address.
    pub async fn to(name: &str, address: SocketAddr, tls: rustls::ClientConfig) -> Result<Self, ConnectionError> {
        Self::over(socket(), name, address, tls).await
    }

    async fn over(
        socket: UdpSocket,
        name: &str,
        address: SocketAddr,
        mut tls: rustls::ClientConfig,
    ) -> Result<Self, ConnectionError> {
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        let endpoint = Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
        let connecting = endpoint.connect_with(config, address, name).unwrap();
        let connection = within("a handshake over QUIC", connecting).await?;
        Ok(Self { endpoint, connection })
    }

    /// How the gateway closed the connection: with which number of its own.
    pub async fn closed_with(&self) -> u64 {
        match within("the end of the connection", self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("not closed by the application: {other:?}"),
        }
    }
}

/// One HTTP/3 connection.
pub struct Client {
    pub quic: Quic,
    pub sender: SendRequest<h3_quinn::OpenStreams, Bytes>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    pub head: Response<()>,
    pub body: Bytes,
    pub trailers: Option<HeaderMap>,
}

impl Client {
    pub async fn connect(gateway: &Gateway) -> Self {
        Self::over(Quic::connect(gateway).await.expect("a handshake")).await
    }

    pub async fn over(quic: Quic) -> Self {
        let (mut driver, sender) =
            h3::client::new(h3_quinn::Connection::new(quic.connection.clone())).await.expect("HTTP/3");
        tokio::spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Self { quic, sender }
    }

    /// Begins a request whose body is still to come.
    pub async fn begin(&mut self, request: Request<()>) -> Exchange {
        let stream = within("a stream", self.sender.send_request(request)).await.expect("a stream");
        Exchange { stream }
    }

    pub async fn try_ask(&mut self, request: Request<Bytes>) -> Result<Answer, StreamError> {
        let (head, body) = request.into_parts();
        let stream = within("a stream", self.sender.send_request(Request::from_parts(head, ()))).await?;
        let mut exchange = Exchange { stream };
        if !body.is_empty() {
            exchange.stream.send_data(body).await?;
        }
        exchange.stream.finish().await?;
        exchange.answer().await
    }

    pub async fn ask(&mut self, request: Request<Bytes>) -> Answer {
        self.try_ask(request).await.expect("an answer")
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.ask(request("GET", path, &[])).await
    }
}

/// One request and its answer, step by step.
pub struct Exchange {
    pub stream: Stream,
}

impl Exchange {
    pub async fn send(&mut self, data: impl Into<Bytes>) {
        within("sending", self.stream.send_data(data.into())).await.expect("an open stream");
    }

    pub async fn finish(&mut self) {
        self.stream.finish().await.expect("an open stream");
    }

    pub async fn head(&mut self) -> Result<Response<()>, StreamError> {
        within("the head of an answer", self.stream.recv_response()).await
    }

    pub async fn data(&mut self) -> Result<Option<Bytes>, StreamError> {
        let data = within("a piece of the answer", self.stream.recv_data()).await?;
        Ok(data.map(|mut data| data.copy_to_bytes(data.remaining())))
    }

    pub async fn answer(&mut self) -> Result<Answer, StreamError> {
        let head = self.head().await?;
        let mut body = Vec::new();
        while let Some(data) = self.data().await? {
            body.extend_from_slice(&data);
        }
        let trailers = within("trailers", self.stream.recv_trailers()).await?;
        Ok(Answer { head, body: body.into(), trailers })
    }
}

impl Answer {
    pub fn status(&self) -> StatusCode {
        self.head.status()
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name).map(|value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<Bytes> {
    let mut request = Request::builder().method(method).uri(format!("https://site.test{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Bytes::new()).unwrap()
}

/// A gateway that speaks HTTP/3.
pub async fn start(setup: Setup) -> Gateway {
    setup.https(ON).start().await
}

/// A number as QUIC writes it, below 2^30.
pub fn varint(number: usize) -> Vec<u8> {
    match u32::try_from(number).unwrap() {
        small @ ..0x40 => vec![u8::try_from(small).unwrap()],
        number => (number | 2 << 30).to_be_bytes().to_vec(),
    }
}

/// A frame (RFC 9114 section 7.1).
pub fn frame(kind: usize, payload: &[u8]) -> Vec<u8> {
    [&varint(kind), &varint(payload.len()), payload].concat()
}

/// Field lines as literals, without tables and codes (RFC 9204 section 4.5.6).
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let string = |flags: u8, mask: u8, text: &str| {
        let mut bytes = Vec::new();
        match u8::try_from(text.len()) {
            Ok(small) if small < mask => bytes.push(flags | small),
            _ => {
                bytes.push(flags | mask);
                let mut rest = text.len() - usize::from(mask);
                while rest > 0x7f {
                    bytes.push(0x80 | u8::try_from(rest & 0x7f).unwrap());
                    rest >>= 7;
                }
                bytes.push(u8::try_from(rest).unwrap());
            }
        }
        bytes.extend_from_slice(text.as_bytes());
        bytes
    };
    let lines = fields.iter().flat_map(|(name, value)| [string(0x20, 0x07, name), string(0, 0x7f, value)].concat());
    [0, 0].into_iter().chain(lines).collect()
}

/// How the gateway took what came on a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Taken {
    /// It answered, with these bytes and to the end.
    Answered(Vec<u8>),
    /// It reset the stream.
    Reset(u64),
    /// It closed the connection.
    Closed(u64),
}

impl Quic {
    /// Our control stream, with empty settings.
    pub async fn greet(&self) -> quinn::SendStream {
        self.say(&[0x0, 0x4, 0x0]).await
    }

    /// A unidirectional stream that begins with `bytes` and is kept open.
    pub async fn say(&self, bytes: &[u8]) -> quinn::SendStream {
        let mut stream = within("a stream", self.connection.open_uni()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }

    /// Sends `bytes` on a request stream and, if so, its end.
    pub async fn send(&self, bytes: &[u8], ended: bool) -> (quinn::SendStream, quinn::RecvStream) {
        let (mut send, recv) = within("a stream", self.connection.open_bi()).await.unwrap();
        send.write_all(bytes).await.ok(); // the gateway may have seen enough
        if ended {
            send.finish().ok();
        }
        (send, recv)
    }

    /// What becomes of a request stream of these bytes.
    pub async fn taken(&self, bytes: &[u8]) -> Taken {
        let (_send, mut recv) = self.send(bytes, true).await;
        match within("an outcome", recv.read_to_end(1 << 20)).await {
            Ok(answer) => Taken::Answered(answer),
            Err(quinn::ReadToEndError::Read(quinn::ReadError::Reset(code))) => Taken::Reset(code.into_inner()),
            Err(_) => Taken::Closed(self.closed_with().await),
        }
    }
}

/// As an error of a stream or a connection is written.
pub fn code(number: u32) -> VarInt {
    VarInt::from_u32(number)
}
