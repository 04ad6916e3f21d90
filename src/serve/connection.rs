//! One client connection from handshake to close: its settings, its tower stack, its drain.
//!
//! The stack, from outside in, and why each layer stands where it stands:
//! 1. `Recorded`: sees every exchange begin and end, even one that panicked; a failure from further in is an answer from here on.
//! 2. `CatchPanic`: a panic further in is a failure, not a dead connection.
//! 3. `dispatch`: the request itself, boxed: hyper keeps room for one request's future in every connection, idle or not, and the
//!    future of a whole exchange is some kilobytes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tower::{Service, ServiceBuilder, service_fn};

use super::Limits;
use super::activity::Activity;
use super::context::{Connection, Worker, address_value};
use super::dispatch::dispatch;
use super::driver::{Farewell, drive};
use super::guarded::Guarded;
use super::panics::CatchPanic;
use super::record::{Recorded, RecordedBody};

/// What is known of a connection before its first byte.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// The socket's other end.
    pub peer: SocketAddr,
    /// Whether it is TLS.
    pub secure: bool,
    /// Whether ALPN chose HTTP/2.
    pub http2: bool,
    /// The port of the TLS listener that every request is sent to, if that is all that is done.
    pub to_https: Option<u16>,
}

/// Serves one connection until it ends. Infallible: what goes wrong with one client is that client's.
pub async fn serve_connection<S>(stream: S, accepted: Accepted, worker: Arc<Worker>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = worker.live.current().limits;
    let activity = Arc::new(Activity::default());
    let connection = Arc::new(Connection {
        peer: accepted.peer,
        peer_value: address_value(accepted.peer.ip().to_canonical()),
        secure: accepted.secure,
        to_https: accepted.to_https,
        activity: Arc::clone(&activity),
        worker,
    });
    let io = TokioIo::new(Guarded::new(stream, !accepted.http2, Arc::clone(&activity), limits.write_timeout));
    let service = stack(Arc::clone(&connection));
    let drain = connection.worker.drain.clone();
    // Boxed, so that the larger of the two is not reserved in every task.
    let ended = if accepted.http2 {
        let serving = Box::pin(http2_settings(&limits).serve_connection(io, service));
        drive(serving, |serving, _| serving.as_mut().graceful_shutdown(), &drain, &activity, &limits).await
    } else {
        let serving = Box::pin(http1_settings(&limits).serve_connection(io, service));
        let bid = |serving: &mut Pin<Box<http1::Connection<_, _>>>, farewell| {
            // At the drain every answer says `Connection: close`, and idle clients get a last moment: hyper's graceful shutdown
            // would close an idle connection under a request that is on its way.
            if farewell == Farewell::Idle {
                serving.as_mut().graceful_shutdown();
            }
        };
        drive(serving, bid, &drain, &activity, &limits).await
    };
    if let Some(violation) = activity.violation() {
        connection.worker.meter.malformed(violation.reason());
        tracing::debug!(peer = %accepted.peer, reason = violation.reason(), "malformed request");
    } else if let Some(Err(error)) = ended {
        if error.is_parse() {
            connection.worker.meter.malformed(super::PARSE_REASON);
        }
        tracing::debug!(peer = %accepted.peer, %error, "connection ended");
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

fn http2_settings(limits: &Limits) -> http2::Builder<TokioExecutor> {
    let mut settings = http2::Builder::new(TokioExecutor::new());
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
        .keep_alive_timeout(limits.write_timeout);
    settings
}

/// The tower stack behind one connection, as hyper calls it.
fn stack(
    connection: Arc<Connection>,
) -> impl hyper::service::Service<Request<Incoming>, Response = Response<RecordedBody>, Error = Infallible, Future: Send>
{
    let stack = ServiceBuilder::new()
        .layer(Recorded { connection })
        .layer(CatchPanic)
        .service(service_fn(|exchange| Box::pin(dispatch(exchange))));
    // Every layer is always ready, so a clone may be called without asking.
    hyper::service::service_fn(move |request| stack.clone().call(request))
}
