//! Clients that send exactly what they are given.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::gateway::Gateway;
use super::tls;
use super::wire::{Message, Stream, Wire};
use super::within;

/// One connection to the gateway.
pub struct Client {
    pub wire: Wire,
}

impl Client {
    /// To a plain listener.
    pub async fn plain(address: SocketAddr) -> Self {
        let stream = within("connecting", TcpStream::connect(address)).await.expect("a listener");
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// To the TLS listener, speaking HTTP/1.1.
    pub async fn tls(gateway: &Gateway) -> Self {
        Self::over(tls::connect(gateway.https, &gateway.roots(), &[b"http/1.1"]).await.expect("a handshake"))
    }

    pub fn over(stream: impl Stream + 'static) -> Self {
        Self { wire: Wire::new(stream, None) }
    }

    /// Sends bytes. A gateway that has closed meanwhile is no failure here: what it answered is what counts.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        within("sending", self.wire.send(bytes.as_ref())).await.is_ok()
    }

    /// The next response, whole.
    pub async fn answer(&mut self) -> Message {
        within("an answer", self.wire.response(false)).await.unwrap_or_else(|error| panic!("no whole answer: {error}"))
    }

    /// The next response, or how it broke off.
    pub async fn try_answer(&mut self) -> io::Result<Message> {
        within("an answer or its end", self.wire.response(false)).await
    }

    /// The response to a HEAD.
    pub async fn head_answer(&mut self) -> Message {
        within("an answer", self.wire.response(true)).await.expect("an answer")
    }

    /// Reads to the end of the connection; what came until then. A reset counts as an end.
    pub async fn until_end(&mut self) -> Vec<u8> {
        let reading = async { while matches!(self.wire.fill().await, Ok(read) if read > 0) {} };
        within("the end of the connection", reading).await;
        self.wire.rest()
    }

    /// Sends a request and takes its answer.
    pub async fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.send(request).await;
        self.answer().await
    }

    pub async fn get(&mut self, path: &str) -> Message {
        self.ask(get(path)).await
    }

    pub async fn get_with(&mut self, path: &str, fields: &str) -> Message {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n{fields}\r\n")).await
    }

    /// Any method, without a body.
    pub async fn by(&mut self, method: &str, path: &str, fields: &str) -> Message {
        self.send(format!("{method} {path} HTTP/1.1\r\nHost: site.test\r\n{fields}Content-Length: 0\r\n\r\n")).await;
        if method == "HEAD" { self.head_answer().await } else { self.answer().await }
    }

    pub async fn post(&mut self, path: &str, body: &str) -> Message {
        self.ask(post(path, body)).await
    }
}

/// The plainest request.
pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n\r\n")
}

pub fn post(path: &str, body: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: site.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}
