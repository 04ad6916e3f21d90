//! HTTP/2 clients.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::mpsc;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::gateway::Gateway;
use super::wire::Message;
use super::{tls, within};

/// One HTTP/2 connection.
pub async fn connect<B>(gateway: &Gateway) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    over(tls::connect(gateway.https, &gateway.roots(), &[b"h2"]).await.expect("a handshake")).await
}

/// The same over a stream that is there already.
pub async fn over<B>(stream: TlsStream<TcpStream>) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static,
{
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    sender
}

/// A body that is sent piece by piece.
pub struct Pieces(pub mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

pub fn get(path: &str) -> Request<Full<Bytes>> {
    request("GET", path, &[])
}

pub fn request(method: &str, path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    request_to("site.test", method, path, fields)
}

/// The same to any host.
pub fn request_to(host: &str, method: &str, path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(method).uri(format!("https://{host}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(Full::default()).unwrap()
}

pub async fn whole(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = within("a body", response.into_body().collect()).await.expect("a whole body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

/// The head of the answer, its body still to come.
pub async fn answer(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Response<Incoming> {
    within("an answer", sender.send_request(request)).await.expect("an answer")
}

pub async fn ask(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    whole(answer(sender, request).await).await
}

/// The whole answer, in the form of those over HTTP/1.1.
pub async fn message(sender: &mut SendRequest<Full<Bytes>>, request: Request<Full<Bytes>>) -> Message {
    let (head, body) = answer(sender, request).await.into_parts();
    let text = |value: &http::HeaderValue| value.to_str().unwrap().to_owned();
    let fields = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let body = within("a body", body.collect()).await.expect("a whole body").to_bytes().to_vec();
    Message { start: format!("HTTP/2 {}", head.status.as_u16()), fields, body, trailers: String::new() }
}
