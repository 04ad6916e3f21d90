//! HTTP/2 connections to one endpoint: requests share them, and another is opened only when all are full.
//!
//! Answers for RFC 9113 sections 5.1.2 (no more streams than the endpoint allows), 6.8 (a connection that says goodbye takes no more)
//! and 8.3.1 (what a request's head looks like). There are no slots here: a stream is the unit of capacity, and its lease is a count.
//! Refuses to know what is sent.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Uri, Version};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioIo, TokioTimer};
use pin_project_lite::pin_project;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::interval;

use super::UpstreamSettings;
use super::stream::Stream;
use crate::deadline::Deadline;
use crate::http::{BodyWatch, RequestBody};
use crate::observe::{EndpointMeter, Held};
use crate::shutdown::Tasks;

/// What one stream may send us ahead, and what is buffered of one on its way out. All streams of a connection together may send as much
/// as each by itself: were it less, a few clients that read slowly would hold up all others.
const WINDOW_BYTES: u32 = 64 * 1024;
/// RFC 9113 section 6.9.1: no window is larger.
const MOST_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// The longest response head.
const HEAD_BYTES: u32 = 64 * 1024;
/// How often a connection in use is asked whether its endpoint is still there, and how long it may take to say so.
const PING_AFTER: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// How often an idle connection is looked at, at the least.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The connections of one endpoint on one worker.
#[derive(Debug, Default)]
pub(super) struct Trunks {
    open: Arc<Mutex<Vec<Trunk>>>,
    /// Held by whoever opens the next connection, so that a burst opens one and not as many as it has requests.
    pub(super) dialling: tokio::sync::Mutex<()>,
    /// Told whenever a stream ends or a connection changes what it allows.
    pub(super) freed: Arc<Notify>,
}

/// One connection.
#[derive(Debug, Clone)]
struct Trunk {
    sender: SendRequest<RequestBody>,
    load: Arc<Load>,
}

/// What a connection carries now.
#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    /// What the endpoint allows; 0 until it has said so.
    most: AtomicUsize,
    /// Whether it takes no more requests, although it may still answer those it has.
    condemned: AtomicBool,
    idle_since: Mutex<Instant>,
}

/// One stream's place on a connection.
#[derive(Debug)]
pub(super) struct StreamLease {
    trunk: Trunk,
    freed: Arc<Notify>,
    deadline: Deadline,
    /// The request's body, as long as the exchange has not ended well.
    request: Option<BodyWatch>,
}

impl Trunks {
    /// A place on a connection that has one, `most` streams on each at most.
    pub(super) fn lease(&self, most: usize) -> Option<StreamLease> {
        let mut open = lock(&self.open);
        open.retain(|trunk| !trunk.sender.is_closed() && !trunk.load.condemned.load(Ordering::Relaxed));
        let trunk = open.iter().find(|trunk| trunk.load.has_room(most))?.clone();
        trunk.load.streams.fetch_add(1, Ordering::Relaxed);
        Some(StreamLease { trunk, freed: Arc::clone(&self.freed), deadline: Deadline::default(), request: None })
    }

    /// Speaks HTTP/2 over `stream` and waits until the endpoint has said how much it allows, so that one that speaks something else
    /// is found out now. The connection closes when it has had no stream for the upstream's keep-alive.
    pub(super) async fn add(
        &self,
        stream: Stream,
        upstream: &UpstreamSettings,
        permit: OwnedSemaphorePermit,
        meter: &EndpointMeter,
        tasks: &Tasks,
    ) -> io::Result<()> {
        let load = Arc::new(Load {
            streams: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            condemned: AtomicBool::new(false),
            idle_since: Mutex::new(Instant::now()),
        });
        let heard = Arc::new(Notify::new());
        let counted = Arc::new(Counted { _open: meter.opened(), _permit: permit });
        let runner = Runner { tasks: tasks.clone(), load: Arc::clone(&load), heard: Arc::clone(&heard), counted };
        let settings = settings(runner, upstream.max_streams);
        let (sender, mut connection) = settings.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        poll_settled(&mut connection, &load, &heard).await?;
        let trunk = Trunk { sender, load };
        lock(&self.open).push(trunk.clone());
        let (open, freed, keep_alive) = (Arc::clone(&self.open), Arc::clone(&self.freed), upstream.keep_alive);
        tasks.spawn(async move {
            drive(connection, &trunk, &open, &freed, keep_alive).await;
            lock(&open).retain(|other| !Arc::ptr_eq(&other.load, &trunk.load));
            freed.notify_one();
        });
        Ok(())
    }
}

fn settings(runner: Runner, max_streams: usize) -> http2::Builder<Runner> {
    let all_windows = u32::try_from(max_streams).unwrap_or(u32::MAX).saturating_mul(WINDOW_BYTES);
    let mut settings = http2::Builder::new(runner);
    settings
        .timer(TokioTimer::new())
        .initial_max_send_streams(0) // until the endpoint has said how many
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(all_windows.min(MOST_WINDOW_BYTES))
        .max_send_buf_size(WINDOW_BYTES as usize)
        .max_header_list_size(HEAD_BYTES)
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PONG_WITHIN);
    settings
}

type Connection = http2::Connection<TokioIo<Stream>, RequestBody, Runner>;

/// Polls a fresh connection until its endpoint's first SETTINGS are there.
async fn poll_settled(connection: &mut Connection, load: &Load, heard: &Notify) -> io::Result<()> {
    loop {
        let ended = poll_fn(|cx| {
            let polled = Pin::new(&mut *connection).poll(cx);
            load.most.store(connection.current_max_send_streams(), Ordering::Relaxed);
            match polled {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending if load.is_settled() => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        });
        tokio::select! {
            biased;
            ended = ended => return match ended {
                None => Ok(()),
                Some(Err(error)) => Err(io::Error::other(error)),
                Some(Ok(())) => Err(io::ErrorKind::UnexpectedEof.into()),
            },
            () = heard.notified() => {}
        }
    }
}

/// Polls a connection to its end, or until it has been idle for `keep_alive`. Each request passes through here, so that what the
/// endpoint allows is read again with each.
async fn drive(connection: Connection, trunk: &Trunk, open: &Mutex<Vec<Trunk>>, freed: &Notify, keep_alive: Duration) {
    let mut connection = pin!(connection);
    let mut looking = interval(keep_alive.max(LOOK_AGAIN));
    loop {
        let ended = poll_fn(|cx| {
            let polled = connection.as_mut().poll(cx);
            let most = connection.current_max_send_streams();
            if trunk.load.most.swap(most, Ordering::Relaxed) < most {
                freed.notify_one();
            }
            polled
        });
        tokio::select! {
            ended = ended => {
                tracing::trace!(error = ?ended.err(), "an HTTP/2 connection to an endpoint ended");
                return;
            }
            _ = looking.tick() => {
                let _open = lock(open); // nobody can lease a stream meanwhile
                if trunk.load.is_idle_for(keep_alive) {
                    trunk.load.condemn();
                    return;
                }
            }
        }
    }
}

impl Load {
    fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    fn has_room(&self, most: usize) -> bool {
        self.streams.load(Ordering::Relaxed) < most.min(self.most.load(Ordering::Relaxed))
    }

    fn is_settled(&self) -> bool {
        self.most.load(Ordering::Relaxed) > 0
    }

    fn is_idle_for(&self, keep_alive: Duration) -> bool {
        self.streams.load(Ordering::Relaxed) == 0 && lock(&self.idle_since).elapsed() >= keep_alive
    }
}

impl StreamLease {
    /// The connection's sender and the deadline of this stream.
    pub(super) fn wake(&mut self) -> (&mut SendRequest<RequestBody>, &mut Deadline) {
        (&mut self.trunk.sender, &mut self.deadline)
    }

    /// Carries the request whose body is watched: it is not sent further when the exchange is over.
    pub(super) fn carry(&mut self, request: &BodyWatch) {
        self.request = Some(request.clone());
    }

    /// The deadline of the exchange under way.
    pub(super) fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }

    /// The connection gave the request back, which may go on another: as after a GOAWAY it takes no more, and hyper does not say so
    /// before its last stream ends.
    pub(super) fn condemn(&mut self) {
        self.request = None;
        self.trunk.load.condemn();
    }
}

impl Drop for StreamLease {
    fn drop(&mut self) {
        if let Some(request) = &self.request {
            request.abandon();
        }
        *lock(&self.trunk.load.idle_since) = Instant::now();
        self.trunk.load.streams.fetch_sub(1, Ordering::Relaxed);
        self.freed.notify_one();
    }
}

/// A request's head as HTTP/1.1 has it, for a request that comes back unsent.
#[derive(Debug)]
pub(super) struct Untranslated {
    uri: Uri,
    host: Option<HeaderValue>,
}

/// RFC 9113 section 8.3.1: the head of a request made for HTTP/1.1, as HTTP/2 has it.
pub(super) fn translate(request: &mut Request<RequestBody>, secure: bool) -> Untranslated {
    *request.version_mut() = Version::HTTP_2;
    let uri = request.uri().clone();
    let headers = request.headers_mut();
    for field in [CONNECTION, TRANSFER_ENCODING] {
        headers.remove(field); // RFC 9113 section 8.2.2; `TE: trailers` may stay
    }
    debug_assert!(headers.get(TE).is_none_or(|te| te == "trailers"), "whoever made the head allows nothing else");
    let host = headers.remove(HOST);
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = host.clone().and_then(|host| Authority::from_maybe_shared(host).ok());
    // Without an authority there is no absolute form, and hyper refuses what is left; every request that is forwarded has a Host.
    if let Ok(absolute) = Uri::from_parts(parts) {
        *request.uri_mut() = absolute;
    }
    Untranslated { uri, host }
}

impl Untranslated {
    /// Undoes [`translate`], but for the fields of one connection: whoever sends the request again frames it by its body.
    pub(super) fn give_back(self, request: &mut Request<RequestBody>) {
        *request.version_mut() = Version::HTTP_11;
        *request.uri_mut() = self.uri;
        if let Some(host) = self.host {
            request.headers_mut().insert(HOST, host);
        }
    }
}

/// Runs the tasks of one connection. Until the endpoint's first SETTINGS are there, it tells when the connection has heard something:
/// hyper reads in a task of its own, and does not wake who waits for that.
#[derive(Debug, Clone)]
struct Runner {
    tasks: Tasks,
    load: Arc<Load>,
    heard: Arc<Notify>,
    counted: Arc<Counted>,
}

/// What an open connection counts for. The socket is in a task of hyper's that outlives the others, as after a GOAWAY: it is over with
/// the last of them.
#[derive(Debug)]
struct Counted {
    _open: Held,
    _permit: OwnedSemaphorePermit,
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Runner {
    fn execute(&self, future: F) {
        let (load, heard, counted) = (Arc::clone(&self.load), Arc::clone(&self.heard), Arc::clone(&self.counted));
        self.tasks.spawn(Telling { future, load, heard, _counted: counted });
    }
}

pin_project! {
    struct Telling<F> {
        #[pin]
        future: F,
        load: Arc<Load>,
        heard: Arc<Notify>,
        _counted: Arc<Counted>,
    }
}

impl<F: Future<Output = ()>> Future for Telling<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        let polled = this.future.poll(cx);
        if !this.load.is_settled() {
            this.heard.notify_one();
        }
        polled
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_translated_without_what_belongs_to_one_connection() {
        let mut request = Request::new(RequestBody::empty());
        *request.uri_mut() = "/a?b=c".parse().expect("a target");
        for (name, value) in
            [("host", "a.example:81"), ("connection", "te"), ("te", "trailers"), ("transfer-encoding", "chunked")]
        {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let before = translate(&mut request, true);
        assert_eq!(request.uri(), "https://a.example:81/a?b=c");
        let names: Vec<_> = request.headers().keys().map(http::HeaderName::as_str).collect();
        assert_eq!((request.version(), &names[..]), (Version::HTTP_2, &["te"][..]));

        before.give_back(&mut request);
        let restored = (request.uri().to_string(), request.version(), request.headers()[HOST].clone());
        assert_eq!(restored, ("/a?b=c".to_owned(), Version::HTTP_11, HeaderValue::from_static("a.example:81")));
        translate(&mut request, false);
        assert_eq!(request.uri(), "http://a.example:81/a?b=c", "a request that comes back can be sent again");
    }
}
