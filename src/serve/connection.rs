//! One client connection from handshake to close: its settings, its tower stack, its drain.
//!
//! The stack, from outside in, and why each layer stands where it stands:
//! 1. `Recorded`: sees every exchange begin and end, even one that panicked; a failure from further in is an answer from here on.
//! 2. `CatchPanic`: a panic further in is a failure, not a dead connection.
//! 3. `Timed`: a gRPC call ends when its client said, wherever it is further in.
//! 4. `dispatch`: the request itself, boxed: hyper keeps room for one request's future in every connection, idle or not, and the
//!    future of a whole exchange is some kilobytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{sleep, timeout};
use tower::{Service, ServiceBuilder, service_fn};

use super::Limits;
use super::activity::Activity;
use super::calls::Timed;
use super::context::{Connection, Worker, address_value};
use super::dispatch::dispatch;
use super::driver::{DRAIN_IDLE, Ended, Farewell, drive};
use super::guarded::{Guarded, LINGER};
use super::panics::CatchPanic;
use super::record::{Recorded, RecordedBody};
use super::streams::Streams;
use crate::http::{ClientBody, own_value};
use crate::shutdown::{Drain, Tasks};
use crate::tls::Coverage;

/// An HTTP/1 connection is put aside after this long without a request.
const REST_AFTER: Duration = Duration::from_millis(250);

/// What is known of a connection before its first byte.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// Who called: the socket's other end, or the client of a relay.
    pub peer: SocketAddr,
    /// Whom they called.
    pub local: SocketAddr,
    /// Whether it is TLS.
    pub secure: bool,
    /// The SHA-256 of the certificate the client proved to hold (RFC 8705 section 3.1).
    pub client_certificate: Option<[u8; 32]>,
    /// Which hosts may be asked for over it; `None` if all of them may.
    pub coverage: Option<Coverage>,
    /// What every answer says in `Strict-Transport-Security` (RFC 6797), if anything.
    pub hsts: Option<HeaderValue>,
    /// Whether ALPN chose HTTP/2.
    pub http2: bool,
    /// The port of the TLS listener that every request is sent to, if that is all that is done.
    pub to_https: Option<u16>,
    /// The port at which HTTP/3 is spoken as well, for clients to be told of (RFC 7838).
    pub http3_port: Option<u16>,
}

impl Accepted {
    /// The connection as its requests see it.
    pub(super) fn connection(self, activity: Arc<Activity>, worker: Arc<Worker>) -> Connection {
        Connection {
            peer: self.peer,
            local: self.local,
            peer_value: address_value(self.peer.ip().to_canonical()),
            secure: self.secure,
            client_certificate: self.client_certificate,
            coverage: self.coverage,
            hsts: self.hsts.as_ref().map(own_value),
            to_https: self.to_https,
            alt_svc: self.http3_port.map(alternative),
            activity,
            worker,
            tunnel: Mutex::default(),
        }
    }
}

/// Serves one connection until it ends. Infallible: what goes wrong with one client is that client's.
pub fn serve_connection<S>(stream: S, accepted: Accepted, worker: Arc<Worker>) -> impl Future<Output = ()> + Send
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.live.current().limits;
    let activity = Arc::new(Activity::default());
    let stream = Guarded::new(stream, !accepted.http2, Arc::clone(&activity), limits.taking());
    let http2 = accepted.http2;
    let connection = Arc::new(accepted.connection(activity, worker));
    // Boxed by kind, so that the larger is not reserved for the smaller, and an idle connection is a stream and little more.
    let served: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>> = if http2 {
        Box::pin(serve_http2(stream, Arc::clone(&connection), limits))
    } else {
        Box::pin(serve_http1(stream, Arc::clone(&connection), limits))
    };
    async move {
        let ended = served.await;
        report(&connection, ended);
    }
}

/// RFC 7838 section 3: the same origin by HTTP/3, at the same host, for a day.
fn alternative(port: u16) -> HeaderValue {
    HeaderValue::from_str(&format!("h3=\":{port}\"; ma=86400")).expect("digits between ASCII")
}

/// Counts and logs how a connection ended, if its client is to blame.
fn report(connection: &Connection, ended: hyper::Result<()>) {
    if let Some(violation) = connection.activity.violation() {
        connection.worker.meter.malformed(violation.reason());
        tracing::debug!(peer = %connection.peer, local = %connection.local, reason = violation.reason(), "malformed request");
    } else if let Err(error) = ended {
        if error.is_parse() {
            connection.worker.meter.malformed(super::PARSE_REASON);
        }
        tracing::debug!(peer = %connection.peer, local = %connection.local, %error, "connection ended");
    }
}

async fn serve_http2<S>(stream: Guarded<S>, connection: Arc<Connection>, limits: Limits) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = http2_settings(&limits, &connection.worker.tasks);
    let serving = settings.serve_connection(TokioIo::new(stream), service(&connection));
    let bid = |serving: &mut Pin<Box<http2::Connection<_, _, _>>>, _| serving.as_mut().graceful_shutdown();
    let drain = &connection.worker.drain;
    match drive(Box::pin(serving), bid, drain, &connection.activity, &limits, None).await {
        Ended::Done(_, ended) => ended,
        Ended::Cut | Ended::Idle(_) => Ok(()),
    }
}

/// Serves requests, and puts the parser with its buffers away whenever the client has been idle for a moment: an idle connection
/// costs its TLS state and little else.
async fn serve_http1<S>(mut stream: Guarded<S>, connection: Arc<Connection>, limits: Limits) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (drain, activity) = (&connection.worker.drain, &connection.activity);
    loop {
        let service = service(&connection);
        let serving = Box::new(http1_settings(&limits).serve_connection(TokioIo::new(stream), service));
        let bid = |serving: &mut Box<http1::Connection<_, _>>, farewell| {
            // At the drain every answer says `Connection: close`, and idle clients get a last moment: hyper's graceful shutdown
            // would close an idle connection under a request that is on its way.
            if farewell == Farewell::Idle {
                Pin::new(&mut **serving).graceful_shutdown();
            }
        };
        let idle = match drive(serving, bid, drain, activity, &limits, Some(REST_AFTER)).await {
            // Boxed: idle connections do not reserve room for it.
            Ended::Done(serving, ended) => return Box::pin(conclude(serving, ended, &connection)).await,
            Ended::Cut => {
                if let Some(tunnel) = connection.take_tunnel() {
                    tunnel.gone();
                }
                return Ok(());
            }
            Ended::Idle(idle) => idle,
        };
        let parts = idle.into_parts();
        stream = parts.io.into_inner();
        stream.replay(parts.read_buf);
        if !rest(&mut stream, drain, &limits).await {
            timeout(LINGER, stream.shutdown()).await.ok(); // the client is gone or was told; nothing is owed to it
            return Ok(());
        }
    }
}

/// The parser is done: the connection ends, or goes on as a tunnel in the same task, without parser and buffers.
async fn conclude<S, H>(
    serving: Box<http1::Connection<TokioIo<Guarded<S>>, H>>,
    ended: hyper::Result<()>,
    connection: &Connection,
) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: HttpService<Incoming, ResBody = RecordedBody, Error = Infallible>,
{
    let tunnel = connection.take_tunnel();
    if ended.is_err() {
        if let Some(tunnel) = tunnel {
            tunnel.gone();
        }
        return ended;
    }
    let parts = serving.into_parts();
    let mut stream = parts.io.into_inner();
    match tunnel {
        Some(tunnel) => {
            let (stream, more) = stream.into_inner();
            let hasty = more || !parts.read_buf.is_empty();
            drop((parts.read_buf, parts.service));
            Box::pin(tunnel.run(stream, hasty)).await; // boxed: most connections end without one
        }
        // The parser leaves the stream open when a request asked for an upgrade and was answered otherwise.
        None => drop(timeout(LINGER, stream.shutdown()).await),
    }
    Ok(())
}

/// Waits for an idle client; false if it is waited for no longer.
async fn rest<S: AsyncRead + Unpin>(stream: &mut Guarded<S>, drain: &Drain, limits: &Limits) -> bool {
    tokio::select! {
        biased;
        sent = stream.first_byte() => sent,
        () = drain.begun() => timeout(DRAIN_IDLE, stream.first_byte()).await.unwrap_or(false),
        () = sleep(limits.idle_timeout.saturating_sub(REST_AFTER)) => false,
    }
}

/// The settings where hyper's defaults are not an edge's.
fn http1_settings(limits: &Limits) -> http1::Builder {
    let mut settings = http1::Builder::new();
    if limits.header_fields != super::HYPER_HEADER_FIELDS {
        settings.max_headers(limits.header_fields); // any number but hyper's own costs an allocation a request
    }
    settings
        .max_header_size(limits.header_bytes)
        .max_buf_size(super::BUFFER_BYTES.max(limits.header_bytes))
        .header_read_timeout(None) // `driver` has timers that also see a client that sends nothing
        .half_close(false);
    settings
}

fn http2_settings(limits: &Limits, tasks: &Tasks) -> http2::Builder<Streams> {
    let streams = Streams { tasks: tasks.clone(), terms: limits.taking() };
    let mut settings = http2::Builder::new(streams);
    settings
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_local_error_reset_streams(128)
        .max_pending_accept_reset_streams(20)
        .max_send_buf_size(super::BUFFER_BYTES)
        .initial_stream_window_size(super::WINDOW_BYTES)
        .initial_connection_window_size(super::CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.write_timeout)
        .enable_connect_protocol(); // RFC 8441: `upgrade` translates it
    settings
}

/// The tower stack behind one connection. Every layer is always ready, so it may be called without asking.
pub(super) fn stack<B: Into<ClientBody>>(
    connection: Arc<Connection>,
) -> impl Service<Request<B>, Response = Response<RecordedBody>, Error = Infallible, Future: Send> + Clone {
    ServiceBuilder::new()
        .layer(Recorded { connection })
        .layer(CatchPanic)
        .layer(Timed)
        .service(service_fn(|exchange| Box::pin(dispatch(exchange))))
}

/// The same as hyper calls it.
fn service(
    connection: &Arc<Connection>,
) -> impl hyper::service::Service<Request<Incoming>, Response = Response<RecordedBody>, Error = Infallible, Future: Send>
+ use<> {
    let stack = stack(Arc::clone(connection));
    hyper::service::service_fn(move |request| stack.clone().call(request))
}
