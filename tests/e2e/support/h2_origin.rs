//! Origins that speak HTTP/2, over TCP or TLS, and TLS origins that speak HTTP/1.1.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::wire::Stream;

/// How an origin is to behave.
#[derive(Clone)]
pub struct Manners {
    /// Whether it speaks HTTP/2.
    pub http2: bool,
    /// Streams at once on one connection.
    pub streams: u32,
    /// TLS, and with it ALPN for what is spoken.
    pub tls: Option<Arc<ServerConfig>>,
    /// Answers only as many requests as this has permits.
    pub gate: Arc<Semaphore>,
    /// Says goodbye on its open connections when this is told.
    pub farewell: Arc<Notify>,
    /// Bytes of each answer behind what it says.
    pub padding: usize,
}

impl Manners {
    pub fn http2() -> Self {
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        Self { http2: true, streams: 100, tls: None, gate, farewell: Arc::default(), padding: 0 }
    }
}

/// An origin of hyper's; it answers with the method, the target and the length of the request's body.
pub struct H2Origin {
    pub address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    heads: Mutex<Vec<request::Parts>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
}

impl H2Origin {
    pub async fn start(manners: Manners) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let accepting = tokio::spawn(accept(listener, manners, Arc::clone(&log)));
        Self { address, log, accepting }
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.log.accepted.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.log.open.load(Ordering::SeqCst)
    }

    /// The heads of all requests, in order.
    pub fn heads(&self) -> Vec<request::Parts> {
        self.log.heads.lock().unwrap().clone()
    }
}

impl Drop for H2Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, manners: Manners, log: Arc<Log>) {
    let mut tasks = tokio::task::JoinSet::new(); // aborted with the origin
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        log.accepted.fetch_add(1, Ordering::SeqCst);
        let (manners, log) = (manners.clone(), Arc::clone(&log));
        tasks.spawn(async move {
            log.open.fetch_add(1, Ordering::SeqCst);
            match &manners.tls {
                None => serve(stream, &manners, &log).await,
                Some(config) => {
                    if let Ok(stream) = TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
                        serve(stream, &manners, &log).await;
                    }
                }
            }
            log.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(stream: impl Stream + 'static, manners: &Manners, log: &Arc<Log>) {
    let service = service_fn(|request: Request<Incoming>| {
        let (gate, log, padding) = (Arc::clone(&manners.gate), Arc::clone(log), manners.padding);
        async move { Ok::<_, Infallible>(answer(request, &gate, &log, padding).await) }
    });
    let io = TokioIo::new(stream);
    if manners.http2 {
        let mut settings = http2::Builder::new(TokioExecutor::new());
        let mut serving = pin!(settings.max_concurrent_streams(manners.streams).serve_connection(io, service));
        tokio::select! {
            _ = serving.as_mut() => return,
            () = manners.farewell.notified() => serving.as_mut().graceful_shutdown(),
        }
        serving.await.ok();
    } else {
        http1::Builder::new().serve_connection(io, service).await.ok();
    }
}

async fn answer(request: Request<Incoming>, gate: &Semaphore, log: &Log, padding: usize) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    log.heads.lock().unwrap().push(head.clone());
    gate.acquire().await.unwrap().forget();
    let length = http_body_util::BodyExt::collect(body).await.map_or(0, |body| body.to_bytes().len());
    let path = head.uri.path_and_query().map_or("", |path| path.as_str());
    let padding = if path.contains("small") { 0 } else { padding };
    Response::new(Full::from(format!("{} {path} {length}{}", head.method, ".".repeat(padding))))
}

/// TLS with the certificate `NAME.crt` and its key in `home`, for clients who want `alpn`; `clients` must have a certificate of that
/// authority.
pub fn server_tls(
    home: &Path,
    name: &str,
    alpn: &[&[u8]],
    clients: Option<&CertificateDer<'static>>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let chain = vec![CertificateDer::from_pem_file(home.join(format!("{name}.crt"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(home.join(format!("{name}.key"))).unwrap();
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(authority.clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}
