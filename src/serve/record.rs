//! The outermost layer: opens the notes of an exchange, and closes them when the last of the answer was handed to the connection.
//!
//! Owns when an exchange counts as over: not when the headers leave but when the body ends or is dropped, so latency has the body in it
//! (but for what the connection still buffers) and a client that leaves can't leak a gauge. Refuses to know what happened in between.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::{ALT_SVC, CONNECTION, CONTENT_LENGTH, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Uri, Version};
use http_body::{Body as _, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

use super::activity::{Activity, Answering};
use super::calls::CallTimeout;
use super::context::{Connection, Exchange, Notes};
use super::failure::Failure;
use super::lapse::Lapsed;
use super::passage::Begun;
use super::piece::{HTTP2_PIECE_BYTES, Piece};
use super::respond::{client_closed_request, close, finish, rescue_in};
use super::tunnel::Ended;
use super::unread::Unread;
use super::upgrade::Opened;
use super::{grpc, pages, streams};
use crate::auth::{Issuer, Style};
use crate::files::TransferError;
use crate::http::grpc::{is_grpc, told};
use crate::http::{Body, BodyError, BodyWatch, ClientBody, Fate};
use crate::observe::{GRPC_CODES, NO_ROUTE, Record, RouteMeter, TunnelCause};
use crate::upstream::BodyFailure;

/// The status that ends HTTP on a connection (RFC 9110 section 15.2.2).
const SWITCHED: u16 = 101;

/// Wraps the service of one connection.
#[derive(Debug, Clone)]
pub(super) struct Recorded {
    pub(super) connection: Arc<Connection>,
}

impl<S> Layer<S> for Recorded {
    type Service = Recorder<S>;

    fn layer(&self, inner: S) -> Recorder<S> {
        Recorder { connection: Arc::clone(&self.connection), inner }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Recorder<S> {
    connection: Arc<Connection>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Recorder<S>
where
    B: Into<ClientBody>,
    S: Service<Exchange, Response = Response<Body>, Error = Failure>,
{
    type Response = Response<RecordedBody>;
    type Error = Infallible;
    type Future = Recording<S::Future>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(())) // no layer further in has a queue
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (head, body) = request.into_parts();
        let body = body.into();
        let notes = Notes::new(self.connection.peer.ip().to_canonical());
        let grpc = head.version >= Version::HTTP_2 && is_grpc(&head.headers); // the protocol knows no other version
        let (time, begun) = (SystemTime::now(), Instant::now());
        let logged = self.connection.worker.access.is_some();
        let open = Box::new(Open {
            _answering: self.connection.activity.begin(),
            connection: Arc::clone(&self.connection),
            notes: notes.clone(),
            method: head.method.clone(),
            uri: head.uri.clone(),
            version: head.version,
            user_agent: logged.then(|| head.headers.get(USER_AGENT).cloned()).flatten(),
            has_body: !body.is_end_stream(),
            call: grpc.then(Call::default),
            time,
            begun,
            status: client_closed_request().as_u16(),
            bytes_out: 0,
            tunnel: None,
        });
        let body = Unread::new(body, head.version, &self.connection.worker.tasks, &self.connection.activity);
        let exchange =
            Exchange { connection: Arc::clone(&self.connection), head, body, grpc, notes, time, begun, asked: None };
        Recording { inner: self.inner.call(exchange), open: Some(open) }
    }
}

pin_project! {
    pub(super) struct Recording<F> {
        #[pin]
        inner: F,
        open: Option<Box<Open>>,
    }
}

impl<F: Future<Output = Result<Response<Body>, Failure>>> Future for Recording<F> {
    type Output = Result<Response<RecordedBody>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answered = ready!(this.inner.poll(cx));
        let Some(mut open) = this.open.take() else { return Poll::Pending }; // polled after it was ready
        open.connection.activity.answered();
        let mut response = answered.unwrap_or_else(|failure| open.rescue(&failure));
        open.answer(&mut response);
        Poll::Ready(Ok(match open.take_tunnel() {
            Some(tunnel) => {
                Begun::new(*tunnel, open).hand_over();
                response.map(|_| RecordedBody::over())
            }
            None => response.map(|body| RecordedBody::new(body, open)),
        }))
    }
}

/// What is known of a gRPC call.
#[derive(Debug, Default)]
struct Call {
    /// Whether the answer is gRPC's as well, so that its outcome is told in trailers.
    answered: bool,
    /// The number of the code that the client was told.
    code: Option<usize>,
}

/// An exchange that is not over yet. Dropping it ends it, however that comes about.
#[derive(Debug)]
pub(super) struct Open {
    connection: Arc<Connection>,
    notes: Notes,
    method: Method,
    uri: Uri,
    version: Version,
    user_agent: Option<HeaderValue>,
    has_body: bool,
    call: Option<Call>,
    time: SystemTime,
    begun: Instant,
    status: u16,
    bytes_out: u64,
    /// What the tunnel moved that the exchange became, from the client and to it.
    tunnel: Option<(u64, u64)>,
    _answering: Answering,
}

impl Open {
    fn rescue(&self, failure: &Failure) -> Response<Body> {
        let style = self.notes.write(|story| story.route.as_ref().map_or(Style::Problem, |route| route.policy.style()));
        let mut rescued = rescue_in(style, failure);
        // Nobody is there to read the other, and the log shall say so.
        let call = self.call.is_some() && !matches!(failure, Failure::ClientGone);
        if call {
            return grpc::trailers_only(failure, rescued);
        }
        self.notes.write(|story| {
            let takes_page = story.takes_page?;
            match &story.route {
                Some(route) => pages::show(&route.pages, takes_page, &mut rescued),
                None => pages::show(&self.connection.worker.live.current().pages, takes_page, &mut rescued),
            }
            Some(())
        });
        rescued
    }

    /// Reads a call's outcome from the answer's last frame, or makes it for an answer that broke off.
    fn outcome(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) -> Option<HeaderMap> {
        let call = self.call.as_ref()?;
        match frame? {
            Ok(frame) => {
                let code = told(frame.trailers_ref()?)?;
                self.call.as_mut()?.code = Some(code);
                None
            }
            Err(error) => {
                let trailers = call.answered.then(|| grpc::broken_off(error, self.body_failure().as_ref()))?;
                self.call.as_mut()?.code = told(&trailers);
                Some(trailers)
            }
        }
    }

    fn answer(&mut self, response: &mut Response<Body>) {
        if let Some(call) = &mut self.call {
            call.answered = is_grpc(response.headers());
            call.code = told(response.headers());
        }
        self.status = response.status().as_u16();
        finish(response, &self.notes, self.version, &self.connection);
        if let Some(alternative) = &self.connection.alt_svc {
            response.headers_mut().insert(ALT_SVC, alternative.clone());
        }
        if self.method == Method::HEAD {
            without_content(response);
        }
        if self.version < Version::HTTP_2 && self.has_body && !self.body_is_read() {
            close(response.headers_mut()); // another request can't follow a body that nobody reads
        }
        if self.version == Version::HTTP_10 {
            for_http10(response);
        }
    }

    /// The tunnel behind the answer, if there is one: it is asked only where there may be.
    fn take_tunnel(&self) -> Option<Box<Opened>> {
        let may_be = self.status == SWITCHED || self.method == Method::CONNECT;
        if may_be { self.notes.write(|story| story.tunnel.take()) } else { None }
    }

    pub(super) fn connection(&self) -> Arc<Connection> {
        Arc::clone(&self.connection)
    }

    /// From now on it is a tunnel: no request in flight, and cut unless its end is told.
    pub(super) fn becomes_tunnel(&mut self) {
        self.tunnel = Some((0, 0));
        let in_flight = self.notes.write(|story| {
            story.outcome = TunnelCause::Cut.label();
            story.in_flight.take()
        });
        drop(in_flight);
    }

    /// The tunnel has ended, and with it the exchange.
    pub(super) fn tunnel_ended(&mut self, ended: Ended) {
        self.tunnel = Some((ended.bytes_in, ended.bytes_out));
        self.fail(if ended.cause == TunnelCause::Closed { "ok" } else { ended.cause.label() });
    }

    /// Whether the request's body has been read, or is still being read by an upstream that has answered already.
    fn body_is_read(&self) -> bool {
        self.notes.write(|story| {
            let Some(body) = &story.body else { return false };
            body.fate() == Fate::Whole || (body.fate() == Fate::Streaming && story.outcome == "ok")
        })
    }

    /// How the request's body failed, if it did while its client was there.
    fn body_failure(&self) -> Option<Failure> {
        self.notes.write(|story| Failure::of_body(story.body.as_ref()?.fate()))
    }

    fn fail(&self, outcome: &'static str) {
        self.notes.write(|story| story.outcome = outcome);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let duration = self.begun.elapsed();
        self.notes.write(|story| {
            let body = story.body.as_ref().map_or(0, BodyWatch::bytes);
            let (bytes_in, bytes_out) = self.tunnel.unwrap_or((body, self.bytes_out));
            if self.status == client_closed_request().as_u16() {
                story.outcome = "client_gone";
            }
            let code = self.call.as_ref().map(|call| call.code.unwrap_or_else(|| grpc::untold(story.outcome)));
            let finish = |meter: &RouteMeter| {
                match self.tunnel {
                    Some(_) => meter.tunnelled(&self.method, self.status),
                    None => meter.finish(&self.method, self.status, duration, bytes_in, bytes_out),
                }
                if let Some(code) = code {
                    meter.called(code);
                }
            };
            if let Some(route) = &story.route {
                finish(&route.meter);
            } else {
                finish(&self.connection.worker.live.current().unmatched);
            }
            let Some(access) = &self.connection.worker.access else { return };
            access.write(&Record {
                time: self.time,
                request_id: story.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
                client: story.client,
                method: self.method.as_str().as_bytes(),
                host: story.target.as_ref().map(crate::http::Target::authority).unwrap_or_default().as_bytes(),
                path: self.uri.path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default().as_bytes(),
                protocol: self.version,
                status: self.status,
                grpc: code.and_then(|code| GRPC_CODES.get(code)).copied(),
                route: story.route.as_ref().map_or(NO_ROUTE, |route| &route.name),
                outcome: story.outcome,
                limit: story.limit.as_deref(),
                issuer: story
                    .issuer
                    .as_deref()
                    .or_else(|| story.route.as_ref().and_then(|route| route.policy.issuer()).map(Issuer::name)),
                subject: story.subject.as_deref(),
                upstream: story.upstream.as_deref(),
                endpoint: story.endpoint.as_deref(),
                bytes_in,
                bytes_out,
                duration,
                auth: story.auth,
                queue: story.queue,
                connect: story.connect,
                first_byte: story.first_byte,
                user_agent: self.user_agent.as_ref().map(HeaderValue::as_bytes),
            });
        });
    }
}

/// RFC 9112 sections 6.3 and 9.3: an old client reads a body of unknown length to the end of the connection, whatever it asked for.
fn for_http10(response: &mut Response<Body>) {
    if response.body().size_hint().exact().is_none() {
        close(response.headers_mut());
    }
    if response.headers().contains_key(CONNECTION) {
        // hyper would add `keep-alive` to `close` where the client asked for it, but not to an answer of this version.
        *response.version_mut() = Version::HTTP_10;
    }
}

/// RFC 9110 section 9.3.2: the same answer without its content, of which only the length is told. HTTP/2 sends what it is given.
fn without_content(response: &mut Response<Body>) {
    if response.body().is_end_stream() {
        return;
    }
    let length = response.body().size_hint().exact();
    *response.body_mut() = Body::empty();
    if let Some(length) = length {
        response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}

/// A response body with the exchange it ends.
#[derive(Debug)]
pub(super) struct RecordedBody {
    body: Body,
    open: Option<Box<Open>>,
    /// Over HTTP/2, where pieces are counted until they are written, and what is left of a large one.
    counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    activity: Arc<Activity>,
    rest: Bytes,
}

impl RecordedBody {
    fn new(body: Body, open: Box<Open>) -> Self {
        let counted = (open.version == Version::HTTP_2)
            .then(|| Counted { activity: Arc::clone(&open.connection.activity), rest: Bytes::new() });
        Self { body, open: Some(open), counted }
    }

    /// The body of an answer whose exchange goes on.
    fn over() -> Self {
        Self { body: Body::empty(), open: None, counted: None }
    }

    /// The next data, cut and counted where the protocol asks for it.
    fn piece(&mut self, bytes: Bytes) -> Piece {
        let Some(counted) = &mut self.counted else { return Piece::new(bytes, None) };
        let mut bytes = bytes;
        counted.rest = bytes.split_off(bytes.len().min(HTTP2_PIECE_BYTES));
        Piece::new(bytes, Some(counted.activity.hand_over()))
    }

    fn note(&mut self, frame: Option<&Result<Frame<Bytes>, BodyError>>) {
        let Some(open) = &mut self.open else { return };
        let mut ended = frame.is_none();
        match frame {
            Some(Ok(frame)) => {
                open.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64);
                ended = frame.is_trailers();
            }
            Some(Err(error)) => open.fail(open.body_failure().map_or_else(|| label(error), |failure| failure.label())),
            None => {}
        }
        if ended || self.body.is_end_stream() {
            self.open = None;
        }
    }
}

/// How many bytes a body gave, if it gave anything.
fn given(polled: &Poll<Option<Result<Frame<Bytes>, BodyError>>>) -> Option<usize> {
    match polled {
        Poll::Ready(Some(Ok(frame))) => Some(frame.data_ref().map_or(0, Bytes::len)),
        Poll::Ready(_) => Some(0),
        Poll::Pending => None,
    }
}

impl http_body::Body for RecordedBody {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        if let Some(counted) = self.counted.as_mut().filter(|counted| !counted.rest.is_empty()) {
            let rest = std::mem::take(&mut counted.rest);
            streams::polled(Some(rest.len()));
            return Poll::Ready(Some(Ok(Frame::data(self.piece(rest)))));
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        streams::polled(given(&polled));
        let mut frame = ready!(polled);
        let trailers = self.open.as_mut().and_then(|open| open.outcome(frame.as_ref()));
        self.note(frame.as_ref());
        if let Some(trailers) = trailers {
            frame = Some(Ok(Frame::trailers(trailers)));
        }
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(|bytes| self.piece(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.counted.as_ref().is_none_or(|counted| counted.rest.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.counted.as_ref().map_or(0, |counted| counted.rest.len() as u64);
        self.body.size_hint().exact().map_or_else(SizeHint::default, |left| SizeHint::with_exact(rest + left))
    }
}

impl Drop for RecordedBody {
    fn drop(&mut self) {
        let Some(open) = &self.open else { return };
        // hyper does not poll a body that has none to give: that is an end, not a client that left.
        let left_early = !self.body.is_end_stream() && open.method != Method::HEAD;
        if left_early && open.notes.write(|story| story.outcome == "ok") {
            open.fail("client_gone");
        }
    }
}

/// Why an answer broke off, by its stable name.
fn label(error: &BodyError) -> &'static str {
    if let Some(failure) = error.downcast_ref::<BodyFailure>() {
        failure.label()
    } else if let Some(lapsed) = error.downcast_ref::<Lapsed>() {
        lapsed.label()
    } else if error.is::<CallTimeout>() {
        "call_timeout"
    } else if error.is::<TransferError>() {
        "file_changed"
    } else {
        "aborted"
    }
}
