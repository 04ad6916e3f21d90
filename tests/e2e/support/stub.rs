//! A stub of an issuer: it publishes what a test says, counts who asks, and can hang, lie, die and come back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::port::Port;
use super::wire::{Stream, Wire};
use super::{eventually, within};

/// What a request is answered with.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 200 with this `Cache-Control` and this body.
    Body(&'static str, String),
    /// 404.
    Nothing,
    /// Nothing, for as long as the connection lives.
    Hang,
}

type Script = Arc<dyn Fn(&str) -> Reply + Send + Sync>;

/// An issuer's server. It ends with the test.
pub struct Stub {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    serving: Option<JoinSet<()>>,
    _port: Port,
}

struct Shared {
    script: Mutex<Script>,
    hits: AtomicUsize,
    tls: Option<TlsAcceptor>,
}

impl Stub {
    /// Not there yet: its port refuses connections until [`Self::begin`].
    pub fn down() -> Self {
        Self::with(None)
    }

    /// A plain server that publishes `set` at every path, to be kept as long as the gateway likes.
    pub fn publishing(set: String) -> Self {
        let mut stub = Self::down();
        stub.publish(set);
        stub.begin();
        stub
    }

    /// The same over TLS, with a certificate for 127.0.0.1 that comes out as PEM.
    pub fn publishing_over_tls(set: String) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain: Vec<CertificateDer<'static>> = vec![made.cert.der().clone()];
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = versions.with_no_client_auth().with_single_cert(chain, key).unwrap();
        let mut stub = Self::with(Some(TlsAcceptor::from(Arc::new(config))));
        stub.publish(set);
        stub.begin();
        (stub, made.cert.pem())
    }

    fn with(tls: Option<TlsAcceptor>) -> Self {
        let port = Port::reserve();
        let shared = Shared { script: Mutex::new(Arc::new(|_| Reply::Nothing)), hits: AtomicUsize::new(0), tls };
        Self { address: port.address, shared: Arc::new(shared), serving: None, _port: port }
    }

    /// Answers from now on, on the port it always had.
    pub fn begin(&mut self) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&self.address.into()).unwrap();
        socket.listen(64).unwrap();
        let listener = TcpListener::from_std(socket.into()).unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(accept(listener, Arc::clone(&self.shared)));
        self.serving = Some(serving);
    }

    /// Dies: connections break, new ones are refused.
    pub async fn die(&mut self) {
        if let Some(mut serving) = self.serving.take() {
            serving.shutdown().await;
        }
    }

    /// Publishes `set` at every path; it says nothing of how long it is good.
    pub fn publish(&self, set: String) {
        self.answer(move |_| Reply::Body("", set.clone()));
    }

    /// The same, not to be kept.
    pub fn publish_for_now(&self, set: String) {
        self.answer(move |_| Reply::Body("Cache-Control: max-age=0\r\n", set.clone()));
    }

    /// Answers by the path asked for.
    pub fn answer(&self, script: impl Fn(&str) -> Reply + Send + Sync + 'static) {
        *self.shared.script.lock().unwrap() = Arc::new(script);
    }

    /// Publishes `set` and the metadata of an issuer of this name.
    pub fn discoverable(&self, issuer: &str, set: String) {
        let metadata = json!({ "issuer": issuer, "jwks_uri": self.url("http", "/keys") }).to_string();
        self.answer(move |path| match path {
            "/.well-known/openid-configuration" => Reply::Body("", metadata.clone()),
            "/keys" => Reply::Body("", set.clone()),
            _ => Reply::Nothing,
        });
    }

    pub fn url(&self, scheme: &str, path: &str) -> String {
        format!("{scheme}://{}{path}", self.address)
    }

    /// Requests so far.
    pub fn hits(&self) -> usize {
        self.shared.hits.load(Ordering::SeqCst)
    }

    /// Waits until this many requests have come.
    pub async fn until_hits(&self, least: usize) {
        eventually("a fetch", || async { (self.hits() >= least).then_some(()) }).await;
    }

    /// Waits until a fetch that began after this call has ended: fetches come one after the other.
    pub async fn until_fetched_anew(&self) {
        self.until_hits(self.hits() + 2).await;
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new(); // they end with this task
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(greet(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn greet(stream: TcpStream, shared: Arc<Shared>) {
    match shared.tls.clone() {
        None => serve(stream, shared).await,
        Some(acceptor) => {
            if let Ok(stream) = within("a handshake", acceptor.accept(stream)).await {
                serve(stream, shared).await;
            }
        }
    }
}

async fn serve(stream: impl Stream + 'static, shared: Arc<Shared>) {
    let mut wire = Wire::new(stream, None);
    while let Ok(Some(request)) = wire.request().await {
        // Counted first: whoever reads the count after a change knows that the next request sees the change.
        shared.hits.fetch_add(1, Ordering::SeqCst);
        let script = Arc::clone(&*shared.script.lock().unwrap());
        let answer = match script(request.target()) {
            Reply::Body(fields, body) => {
                format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
            }
            Reply::Nothing => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Reply::Hang => std::future::pending().await,
        };
        if wire.send(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}
