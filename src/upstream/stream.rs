//! The byte stream to an endpoint: a socket, TLS over one, or one that opens with a uwsgi packet.
//!
//! One type for all of them, so that what speaks over it is compiled once. Refuses to know what is spoken.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use super::tls::TlsClient;
use super::uwsgi::Uwsgi;
use super::{Address, Place};

/// An open stream.
#[derive(Debug)]
pub(super) enum Stream {
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
            let mut stream = TcpStream::connect((host, *port)).await?;
            stream.set_nodelay(true)?;
            stream.write_all(announcement).await?;
            match tls {
                Some(tls) => Ok(Stream::Tls(Box::new(tls.connect(address.wire, host, stream).await?))),
                None => Ok(Stream::Tcp(stream)),
            }
        }
        Place::Unix(path) => {
            let mut stream = UnixStream::connect(path).await?;
            stream.write_all(announcement).await?;
            Ok(Stream::Unix(stream))
        }
        Place::Whoami => Err(io::Error::new(io::ErrorKind::Unsupported, "a built-in endpoint is not dialled")),
    }
}

/// Calls `$method` of whichever stream it is.
macro_rules! delegate {
    ($self:ident.$method:ident($($argument:expr),*)) => {
        match $self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Tls(stream) => Pin::new(stream).$method($($argument),*),
            Stream::Uwsgi(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::Uwsgi(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self.poll_shutdown(cx))
    }
}
