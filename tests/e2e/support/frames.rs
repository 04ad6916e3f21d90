//! HTTP/2 frame by frame, for clients that say what no library would (RFC 9113 section 4.1).

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::gateway::Gateway;
use super::{tls, within};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// ACK, for SETTINGS and PING.
pub const ACK: u8 = 1;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const WITH_PRIORITY: u8 = 0x20;

/// RFC 9113 section 7.
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Fields without compression (RFC 7541 section 6.2.2), each name and value up to 126 bytes long.
pub fn literal(fields: &[(&str, &str)]) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    fields.iter().flat_map(|(name, value)| [vec![0], text(name), text(value)].concat()).collect()
}

/// What every request says.
pub const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "site.test"), (":path", "/")];
pub const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "site.test"), (":path", "/")];

/// A whole request without a body.
pub fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &literal(&GET))
}

/// The head of a request whose body is still to come.
pub fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &literal(&POST))
}

pub fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, &increment.to_be_bytes())
}

pub fn reset(stream: u32, code: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &code.to_be_bytes())
}

pub fn settings(pairs: &[(u16, u32)]) -> Vec<u8> {
    let pairs = pairs.iter().flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat());
    frame(SETTINGS, 0, 0, &pairs.collect::<Vec<_>>())
}

/// One frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a `RST_STREAM` or GOAWAY.
    pub fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub fn is_ack(&self) -> bool {
        self.flags & ACK != 0
    }
}

/// The side of a connection that sends.
pub struct Sender(WriteHalf<TlsStream<TcpStream>>);

/// The side of a connection that receives.
pub struct Receiver(ReadHalf<TlsStream<TcpStream>>);

/// A connection to the TLS listener on which nothing has been sent.
pub async fn silent(gateway: &Gateway) -> (Sender, Receiver) {
    let stream = tls::connect(gateway.https, &gateway.roots(), &[b"h2"]).await.expect("a handshake");
    let (receiver, sender) = split(stream);
    (Sender(sender), Receiver(receiver))
}

/// The same with both prefaces exchanged and acknowledged (RFC 9113 section 3.4).
pub async fn open(gateway: &Gateway, pairs: &[(u16, u32)]) -> (Sender, Receiver) {
    let (mut sender, mut receiver) = silent(gateway).await;
    assert!(sender.send(&[PREFACE, &settings(pairs), &frame(SETTINGS, ACK, 0, &[])].concat()).await);
    receiver.until("the settings", |frame| frame.kind == SETTINGS && !frame.is_ack()).await.expect("settings");
    receiver.until("their acknowledgement", |frame| frame.kind == SETTINGS && frame.is_ack()).await.expect("settings");
    (sender, receiver)
}

impl Sender {
    /// Sends; false if the gateway has closed.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        let sending = async {
            self.0.write_all(bytes).await?;
            self.0.flush().await
        };
        within("sending", sending).await.is_ok()
    }

    /// Sends the same until the gateway closes or takes nothing for `patience`, or `times` are over. How often it was sent.
    pub async fn flood(&mut self, bytes: &[u8], times: usize, patience: Duration) -> usize {
        for sent in 0..times {
            match tokio::time::timeout(patience, self.0.write_all(bytes)).await {
                Ok(Ok(())) => {}
                _ => return sent,
            }
        }
        tokio::time::timeout(patience, self.0.flush()).await.ok(); // whatever becomes of it, it was sent
        times
    }
}

impl Receiver {
    /// The next frame; `None` when the gateway has closed or reset the connection.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        within("a frame", self.0.read_exact(&mut head)).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        within("a frame's payload", self.0.read_exact(&mut payload)).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff;
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// The next frame that is as `wanted`; `None` if the connection ends first.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let looking = async {
            loop {
                let frame = self.next().await?;
                if wanted(&frame) {
                    return Some(frame);
                }
            }
        };
        within(what, looking).await
    }

    /// Reads to the end of the connection. The code of the GOAWAY that came before it, if any.
    pub async fn until_end(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = Some(frame.code());
            }
        }
        code
    }
}
