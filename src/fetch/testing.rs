//! A server of our own for tests: it counts what it is asked and answers with exact bytes, over TCP or TLS.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::{FetchSettings, Location};
use crate::shutdown::Tasks;

/// What was asked: the head as it came, and the body.
pub(crate) struct Asked {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Asked {
    /// The request target.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

/// What is answered.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, when the gate lets one through.
    Gated(Arc<Semaphore>, Vec<u8>),
    /// These bytes, and then nothing more while the connection stays open.
    Stall(Vec<u8>),
    /// These bytes, and the connection is closed.
    Close(Vec<u8>),
}

/// A 200 with this body and these further header lines (each with its CRLF).
pub(crate) fn ok(lines: &str, body: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{lines}\r\n{body}", body.len()).into_bytes())
}

/// Another status, with a body that must not be looked at.
pub(crate) fn status(status: u16, lines: &str) -> Reply {
    Reply::Bytes(format!("HTTP/1.1 {status} Because\r\nContent-Length: 2\r\n{lines}\r\n{{}}").into_bytes())
}

type Answer = Box<dyn Fn(&Asked) -> Reply + Send>;

/// Listens on loopback until it is dropped with its runtime.
pub(crate) struct Server {
    address: SocketAddr,
    ca_pem: Option<Vec<u8>>,
    inner: Arc<Inner>,
}

struct Inner {
    hits: AtomicUsize,
    connections: AtomicUsize,
    answer: Mutex<Answer>,
    tasks: Tasks,
}

impl Server {
    /// Over plain TCP.
    pub(crate) async fn plain(answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        Self::start(None, answer).await
    }

    /// Over TLS, for `localhost`, under an authority of its own.
    pub(crate) async fn tls(answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        Self::start(Some(certificate()), answer).await
    }

    async fn start(tls: Option<(TlsAcceptor, Vec<u8>)>, answer: impl Fn(&Asked) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            hits: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            answer: Mutex::new(Box::new(answer)),
            tasks: Tasks::new(),
        });
        let (acceptor, ca_pem) = tls.unzip();
        inner.tasks.spawn(accept(listener, acceptor, Arc::clone(&inner)));
        Self { address, ca_pem, inner }
    }

    /// From now on, this is answered.
    pub(crate) fn answer(&self, answer: impl Fn(&Asked) -> Reply + Send + 'static) {
        *self.inner.answer.lock().unwrap() = Box::new(answer);
    }

    /// How many requests have come.
    pub(crate) fn hits(&self) -> usize {
        self.inner.hits.load(Ordering::SeqCst)
    }

    /// How many connections have been accepted.
    pub(crate) fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// Where it is, with this path.
    pub(crate) fn at(&self, path: &str) -> Location {
        Location::parse(&self.text(path), true).unwrap()
    }

    /// The same as text.
    pub(crate) fn text(&self, path: &str) -> String {
        match self.ca_pem {
            Some(_) => format!("https://localhost:{}{path}", self.address.port()),
            None => format!("http://{}{path}", self.address),
        }
    }

    /// Settings with which it can be reached.
    pub(crate) fn settings(&self) -> FetchSettings {
        FetchSettings { ca_pem: self.ca_pem.clone(), plain_http: self.ca_pem.is_none(), ..FetchSettings::default() }
    }
}

fn certificate() -> (TlsAcceptor, Vec<u8>) {
    let mut authority = CertificateParams::new(Vec::<String>::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.pem().into_bytes())
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, inner: Arc<Inner>) {
    while let Ok((stream, _)) = listener.accept().await {
        inner.connections.fetch_add(1, Ordering::SeqCst);
        let (tls, talking) = (tls.clone(), Arc::clone(&inner));
        inner.tasks.spawn(async move {
            match tls {
                None => talk(stream, &talking).await,
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => talk(stream, &talking).await,
                    Err(_) => None, // a client that trusts another authority leaves here
                },
            }
        });
    }
}

/// One request after the other, until either side has enough.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, inner: &Inner) -> Option<()> {
    loop {
        let asked = read(&mut stream).await?;
        inner.hits.fetch_add(1, Ordering::SeqCst);
        let reply = (inner.answer.lock().unwrap())(&asked);
        match reply {
            Reply::Bytes(bytes) => stream.write_all(&bytes).await.ok()?,
            Reply::Gated(gate, bytes) => {
                gate.acquire().await.ok()?.forget();
                stream.write_all(&bytes).await.ok()?;
            }
            Reply::Stall(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                std::future::pending::<()>().await;
            }
            Reply::Close(bytes) => {
                stream.write_all(&bytes).await.ok()?;
                return stream.shutdown().await.ok();
            }
        }
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Asked> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some(Asked { head, body: String::from_utf8(body).unwrap() })
}
