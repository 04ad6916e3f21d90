//! The byte stream to an endpoint: a socket, TLS over one, or one that opens with a uwsgi packet.
//!
//! One type for all of them, so that what speaks over it is compiled once. Refuses to know what is spoken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::tls::TlsClient;
use super::uwsgi::Uwsgi;
use super::{Address, Place, Wire};

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    transport: Transport,
    /// There if writes to an endpoint that has closed are no errors, see [`Stream::forgive_closing`].
    deaf: Option<Deaf>,
}

/// Whether an endpoint reads no more: its connection may still bring an answer, and no other request.
#[derive(Debug, Clone, Default)]
pub(super) struct Deaf(Arc<AtomicBool>);

impl Deaf {
    pub(super) fn is_so(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    // Boxed: the state of TLS is a hundred times a socket's.
    Tls(Box<TlsStream<TcpStream>>),
    Uwsgi(Box<Uwsgi<Stream>>),
}

/// Opens a stream to `address` that begins with `announcement`, before TLS. A handshake that fails is an error of kind `InvalidData`
/// that holds TLS's own.
pub(super) async fn open(address: &Address, tls: Option<&TlsClient>, announcement: &[u8]) -> io::Result<Stream> {
    match &address.place {
        Place::Tcp { host, port } => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            let stream = TcpStream::connect((host, *port)).await?;
            begin(stream, host, address.wire, tls, announcement).await
        }
        Place::Found { of, at } => {
            let stream = TcpStream::connect(at).await?;
            begin(stream, of.vouched(), address.wire, tls, announcement).await
        }
        Place::Name(_) => Err(io::Error::new(io::ErrorKind::NotFound, "no address is known of the name")),
        Place::Unix(path) => {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(announcement).await?;
            Ok(Transport::Unix(stream).into())
        }
        Place::Whoami => Err(io::Error::new(io::ErrorKind::Unsupported, "a built-in endpoint is not dialled")),
    }
}

/// What comes before the first request. `host` is who TLS is to be with.
async fn begin(
    mut stream: TcpStream,
    host: &str,
    wire: Wire,
    tls: Option<&TlsClient>,
    announcement: &[u8],
) -> io::Result<Stream> {
    stream.set_nodelay(true)?;
    stream.write_all(announcement).await?;
    match tls {
        Some(tls) => Ok(Transport::Tls(Box::new(tls.connect(wire, host, stream).await?)).into()),
        None => Ok(Transport::Tcp(stream).into()),
    }
}

impl Stream {
    /// The same stream, on which an HTTP/1.1 client sends one request and a uwsgi server receives it.
    pub(super) fn with_packet(self, packet: Bytes) -> Self {
        Transport::Uwsgi(Box::new(Uwsgi::new(self, packet))).into()
    }

    /// From now on what is written to an endpoint that has closed goes nowhere and fails nothing. Application servers close when they
    /// have answered, also in the middle of a body: the answer, which waits to be read, is not lost to a failed write, and if there is
    /// none, reading says so.
    pub(super) fn forgive_closing(&mut self) -> Deaf {
        self.deaf.get_or_insert_default().clone()
    }

    /// From now on a failed write is one.
    pub(super) fn forgive_nothing(&mut self) {
        self.deaf = None;
    }

    fn is_deaf(&self) -> bool {
        self.deaf.as_ref().is_some_and(Deaf::is_so)
    }

    /// Takes a failed write for one that went nowhere, if the endpoint has closed.
    fn forgive<T>(&self, written: io::Result<T>, nowhere: T) -> io::Result<T> {
        match (written, &self.deaf) {
            (Err(error), Some(deaf))
                if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) =>
            {
                deaf.0.store(true, Ordering::Relaxed);
                Ok(nowhere)
            }
            (written, _) => written,
        }
    }
}

impl From<Transport> for Stream {
    fn from(transport: Transport) -> Self {
        Self { transport, deaf: None }
    }
}

/// Calls `$method` of whichever transport it is.
macro_rules! delegate {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match &mut $self.transport {
            Transport::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Tls(stream) => Pin::new(stream).$method($($argument),*),
            Transport::Uwsgi(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(buf.len()));
        }
        let written = ready!(delegate!(self.poll_write(cx, buf)));
        Poll::Ready(self.forgive(written, buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = || bufs.iter().map(|buf| buf.len()).sum();
        if self.is_deaf() {
            return Poll::Ready(Ok(all()));
        }
        let written = ready!(delegate!(self.poll_write_vectored(cx, bufs)));
        Poll::Ready(self.forgive(written, all()))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Tcp(stream) => stream.is_write_vectored(),
            Transport::Unix(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
            Transport::Uwsgi(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_deaf() {
            return Poll::Ready(Ok(()));
        }
        let flushed = ready!(delegate!(self.poll_flush(cx)));
        Poll::Ready(self.forgive(flushed, ()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http_body_util::{BodyExt as _, Full, Limited};
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// What a client makes of an endpoint that answers after some bytes of a large request, and closes.
    async fn answer_to(wrap: impl FnOnce(Stream) -> Stream) -> (u16, Bytes) {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
        let body = Full::<Bytes>::from(vec![0; 4 << 20]);
        let request = Request::post("/").header("host", "a").body(body).expect("a request");
        let refusing = async move {
            theirs.read_exact(&mut [0; 500]).await.expect("the beginning");
            theirs
                .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
                .await
                .expect("room for an answer");
        };
        let mut stream = wrap(Transport::Unix(ours).into());
        let deaf = stream.forgive_closing();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        let asking = async {
            let response = sender.send_request(request).await.expect("an answer");
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), 100);
            #[allow(clippy::disallowed_methods)] // it has a bound
            (status, body.collect().await.expect("a whole body").to_bytes())
        };
        let answer = tokio::join!(asking, connection, refusing).0;
        assert!(deaf.is_so(), "no other request may follow");
        answer
    }

    #[tokio::test]
    async fn an_answer_before_the_end_of_a_body_is_not_lost_with_the_connection() {
        let no = Bytes::from_static(b"no");
        assert_eq!(answer_to(|stream| stream).await, (413, no.clone()));
        assert_eq!(answer_to(|stream| stream.with_packet(vec![0; 600].into())).await, (413, no));
    }
}
