//! The admin listener: metrics, health, readiness, a status page, revocations, the use of endpoints and reloads, for operators and their machines.
//!
//! Owns: what each path answers, and the bounds of a listener that is not for the public. Refuses to know: how the
//! process is run; what it is told comes as a [`Status`]. Answers are HTTP/1.1 (RFC 9112), one a connection, GET and
//! HEAD alone (RFC 9110, sections 9.3.1 and 9.3.2) but for
//! `/revocations`, `/upstreams` and `/reload`.

mod drains;
mod page;
mod reload;
mod revocations;
mod status;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::drains::Drains;
pub use self::reload::{Answering, Asked, Reloads};
pub use self::revocations::{Refused, Revocations, Why};
pub use self::status::{CertificateStatus, EndpointStatus, ListenerStatus, ReloadStatus, RouteStatus, Status};
use super::metrics::Metrics;
use super::upstreams::UpstreamStatus;

/// Tells how the process is, at the moment of the call.
pub type StatusSource = Arc<dyn Fn() -> Status + Send + Sync>;

/// A connection is for one request and lives no longer than this, whatever its client does.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(10);

/// Connections served at once; more wait in the backlog.
const MOST_CONNECTIONS: usize = 64;

/// The pause after an accept that failed: most often file descriptors are short, and asking again at once only spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The answers of the admin listener.
pub struct Admin {
    metrics: Arc<Metrics>,
    status: StatusSource,
    revocations: Option<Arc<dyn Revocations>>,
    drains: Option<Arc<dyn Drains>>,
    reloads: Option<Arc<dyn Reloads>>,
}

impl Admin {
    /// Answers from these counts and this source.
    pub fn new(metrics: Arc<Metrics>, status: StatusSource) -> Self {
        Self { metrics, status, revocations: None, drains: None, reloads: None }
    }

    /// Lets clients read and change this list.
    #[must_use]
    pub fn revoking(self, list: Arc<dyn Revocations>) -> Self {
        Self { revocations: Some(list), ..self }
    }

    /// Lets clients see which endpoints are in use, and change it.
    #[must_use]
    pub fn draining(self, drains: Arc<dyn Drains>) -> Self {
        Self { drains: Some(drains), ..self }
    }

    /// Lets clients ask for a reload, or what one would do.
    #[must_use]
    pub fn reloading(self, reloads: Arc<dyn Reloads>) -> Self {
        Self { reloads: Some(reloads), ..self }
    }

    /// Serves until `shutdown` is cancelled. Each connection is a task of `tasks`; those open at the end are cut by
    /// their own deadline. Keep the listener until the drain is over, so that `/readyz` can tell of it.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, tasks: TaskTracker, shutdown: CancellationToken) {
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let accept = async {
            loop {
                let (stream, place) = accept(&listener, &places).await;
                tasks.spawn(Arc::clone(&self).connection(stream, place));
            }
        };
        shutdown.run_until_cancelled(accept).await;
    }

    /// The answer to one request for anything but `/revocations`, `/upstreams` and `/reload`.
    pub fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let known = matches!(path, "/" | "/metrics" | "/healthz" | "/readyz");
        if !known {
            let detail = "not found: see / /metrics /healthz /readyz /revocations /upstreams /reload\n";
            return text(StatusCode::NOT_FOUND, detail);
        }
        if method != Method::GET && method != Method::HEAD {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        match path {
            "/metrics" => content(StatusCode::OK, prometheus::TEXT_FORMAT, self.metrics.encode()),
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/readyz" => readiness(&(self.status)()),
            _ => self.page(),
        }
    }

    fn page(&self) -> Response<Full<Bytes>> {
        let mut status = (self.status)();
        status.revocations = self.revocations.as_ref().and_then(|list| list.count());
        for at in &mut status.endpoints {
            let drained = |drains: &Arc<dyn Drains>| drains.is_drained(&at.upstream, &at.endpoint);
            at.drained = self.drains.as_ref().is_some_and(drained);
        }
        let html =
            page::render(&status, &self.metrics.route_numbers(), &self.metrics.endpoint_numbers(), SystemTime::now());
        let mut page = content(StatusCode::OK, "text/html; charset=utf-8", html);
        let policy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";
        page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        page.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        page
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, _place: OwnedSemaphorePermit) {
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
            let admin = Arc::clone(&self);
            async move {
                let path = request.uri().path();
                if path == "/revocations" {
                    let list = admin.revocations.clone().filter(|list| list.count().is_some());
                    return Ok::<_, Infallible>(revocations::answer(list, request).await);
                }
                if let Some(reloads) = admin.reloads.as_ref().filter(|_| path == "/reload") {
                    return Ok(reload::answer(&**reloads, request).await);
                }
                Ok(match &admin.drains {
                    Some(drains) if drains::is_here(path) => {
                        drains::answer(&**drains, request.method(), path, request.headers())
                    }
                    _ => admin.answer(request.method(), path),
                })
            }
        });
        let connection = http1::Builder::new()
            .keep_alive(false)
            // The deadline below covers the head as well, and a client that sends no byte at all.
            .header_read_timeout(None)
            .max_buf_size(16 * 1024)
            .serve_connection(TokioIo::new(stream), service);
        match timeout(CONNECTION_DEADLINE, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an admin connection failed"),
            Err(_) => tracing::debug!("an admin connection was cut at its deadline"),
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

/// The next connection and its place; never an error, since the admin listener must outlive a shortage.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "cannot accept an admin connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn readiness(status: &Status) -> Response<Full<Bytes>> {
    let code = if status.takes_requests() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let detail = serde_json::json!({
        "ready": status.takes_requests(),
        "draining": status.draining,
        "generation": status.generation,
        "last_reload_error": status.last_reload_error(),
        "upstreams": status.upstreams.iter().map(standing).collect::<serde_json::Map<_, _>>(),
    });
    content(code, "application/json", format!("{detail}\n"))
}

/// The endpoints of an upstream, each with how it is.
fn standing(status: &UpstreamStatus) -> (String, serde_json::Value) {
    let endpoints = status.endpoints.iter();
    let words = endpoints.map(|health| (health.endpoint.to_string(), health.standing.into()));
    (status.upstream.to_string(), serde_json::Value::Object(words.collect()))
}

fn text(code: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    content(code, "text/plain; charset=utf-8", text)
}

fn content(code: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = code;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests;
