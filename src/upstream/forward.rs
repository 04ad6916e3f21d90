//! One request to one upstream: which endpoint, which connection, and what may be tried again.
//!
//! Answers for RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1: a request of which no byte was written is sent again
//! whatever its method; one that may have been seen is sent again only if it is idempotent and has no body. Every wait has a
//! deadline. Refuses to know status codes and what the client is told.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;

use super::body::LeasedBody;
use super::endpoint::{Carrier, Endpoint, Need, Ready};
use super::interim::OnInterim;
use super::multiplex::StreamLease;
use super::{Upstream, UpstreamFailure, Wire, buffer, multiplex, uwsgi, whoami};
use crate::deadline::Deadline;
use crate::http::{Body, BodyWatch, RequestBody, hop};
use crate::proxy_protocol;

/// How often one request is tried in all, whatever failed: a dial, or a connection that turned out to be gone.
const ATTEMPTS: usize = 3;

/// Whom a request is forwarded for, proved before it gets here.
#[derive(Debug, Clone)]
pub struct OnBehalf {
    /// The client, after what trusted proxies say; port 0 if only its address is known.
    pub client: SocketAddr,
    /// Whether the client's own connection was secure.
    pub secure: bool,
    /// The subject of the client's token, where it can mean one user only.
    pub user: Option<Box<str>>,
    /// Whether the client accepts trailers.
    pub trailers: bool,
    /// Where the client's connection, or the last proxy's, came in.
    pub local: SocketAddr,
    /// Who is told of interim responses, if the client can be.
    pub interim: Option<OnInterim>,
}

impl OnBehalf {
    /// What a connection begins with that says whose it is; nothing, if it is not to say so.
    pub(super) fn announcement(&self, version: Option<proxy_protocol::Version>) -> Vec<u8> {
        version.map_or_else(Vec::new, |version| proxy_protocol::write(version, self.client, self.local))
    }
}

/// A response, or what else came of a request, and how it was had.
#[derive(Debug)]
pub struct Forwarded<T = Response<Body>> {
    /// The response; hop-by-hop fields are gone.
    pub response: T,
    /// The endpoint that gave it.
    pub endpoint: Arc<str>,
    /// Time until a connection was ready.
    pub connect: Duration,
    /// Time from then to the response's head.
    pub first_byte: Duration,
}

impl<T> Forwarded<T> {
    /// The same with something else in the place of the response.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Forwarded<U> {
        let Self { response, endpoint, connect, first_byte } = self;
        Forwarded { response: change(response), endpoint, connect, first_byte }
    }
}

impl Forwarded {
    fn new(response: Response<Body>, endpoint: Arc<str>, connect: Duration, begun: Instant) -> Self {
        Self { response, endpoint, connect, first_byte: begun.elapsed().saturating_sub(connect) }
    }
}

/// A failure and where it happened, if an endpoint was reached.
#[derive(Debug)]
pub struct Failed {
    /// What went wrong.
    pub failure: UpstreamFailure,
    /// The endpoint it went wrong with.
    pub endpoint: Arc<str>,
}

/// One failed attempt; `request` is there if it may be sent again.
struct Attempt {
    failure: UpstreamFailure,
    request: Option<Request<RequestBody>>,
    /// Whether this endpoint can't be reached at all.
    unreachable: bool,
}

/// What a uwsgi packet said of a request, whose own head nobody will see.
struct Told {
    headers: HeaderMap,
    packet_bytes: usize,
}

impl Told {
    /// The request gets its head back, in case it is sent again.
    fn take_back(self, mut failed: Attempt) -> Attempt {
        if let Some(request) = &mut failed.request {
            *request.headers_mut() = self.headers;
        } else if matches!(failed.failure, UpstreamFailure::Closed(_)) && uwsgi::is_often_too_large(self.packet_bytes) {
            failed.failure = UpstreamFailure::PacketRefused { bytes: self.packet_bytes };
        }
        failed
    }
}

impl Upstream {
    /// Forwards `request` and waits for the response's head.
    ///
    /// Cancel safe: dropping the future closes the connection it was using.
    pub async fn forward(&self, mut request: Request<RequestBody>, behalf: &OnBehalf) -> Result<Forwarded, Failed> {
        let watch = request.body().watch();
        let repeatable = request.method().is_idempotent() && request.body().is_empty();
        let mut need = match self.settings.announce {
            Some(_) => Need::Fresh, // it is made for this client
            None if repeatable => Need::Any,
            None => Need::Trusted,
        };
        let mut endpoint = self.pick(None);
        for attempt in 1.. {
            let answered = self.attempt(endpoint, request, need, repeatable, &watch, behalf).await;
            let failed = match answered {
                Ok(answered) => return Ok(answered),
                Err(failed) => failed,
            };
            let again =
                failed.request.filter(|_| attempt < ATTEMPTS && (!failed.unreachable || self.endpoints.len() > 1));
            // An idle connection that was closed meanwhile is a retry, but no failure of the endpoint.
            if let Some(stage) = failed.failure.stage().filter(|_| again.is_none() || failed.unreachable) {
                endpoint.meter.failed(stage);
            }
            let Some(unsent) = again else {
                return Err(Failed { failure: failed.failure, endpoint: Arc::clone(&endpoint.label) });
            };
            endpoint.meter.retried();
            if failed.unreachable {
                endpoint = self.pick(Some(endpoint));
            } else {
                need = Need::Fresh;
            }
            request = unsent;
        }
        unreachable!("the loop ends by its bound on attempts")
    }

    /// The endpoint with the fewest requests of this worker, in turn among equals, other than `not` if there is a choice.
    pub(super) fn pick(&self, not: Option<&Endpoint>) -> &Endpoint {
        let first = self.turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let count = self.endpoints.len();
        (0..count)
            .map(|at| &self.endpoints[(first.wrapping_add(at)) % count])
            .filter(|endpoint| count == 1 || not.is_none_or(|not| !std::ptr::eq(*endpoint, not)))
            .min_by_key(|endpoint| endpoint.leased())
            .expect("an upstream has at least one endpoint: `config` refuses an empty list")
    }

    async fn attempt(
        &self,
        endpoint: &Endpoint,
        mut request: Request<RequestBody>,
        need: Need,
        repeatable: bool,
        watch: &BodyWatch,
        behalf: &OnBehalf,
    ) -> Result<Forwarded, Attempt> {
        let begun = Instant::now();
        let label = Arc::clone(&endpoint.label);
        if endpoint.address.is_builtin() {
            return match Box::pin(whoami::answer(request)).await {
                Ok(response) => Ok(Forwarded::new(response, label, Duration::ZERO, begun)),
                Err(failure) => Err(Attempt { failure, request: None, unreachable: false }),
            };
        }
        let packet = (endpoint.address.wire == Wire::Uwsgi)
            .then(|| uwsgi::packet(&request, behalf, self.settings.kind))
            .transpose();
        let packet = packet.map_err(|failure| Attempt { failure, request: None, unreachable: false })?;
        let ready = match endpoint.ready(need, packet.clone(), &self.settings, behalf).await {
            Ok(ready) => ready,
            Err(failure) => {
                let unreachable = !matches!(failure, UpstreamFailure::QueueTimeout);
                return Err(Attempt { failure, request: unreachable.then_some(request), unreachable });
            }
        };
        let connect = begun.elapsed();
        let told =
            packet.map(|packet| Told { headers: std::mem::take(request.headers_mut()), packet_bytes: packet.len() });
        match self.exchange(endpoint, ready, request, repeatable, watch, behalf).await {
            Ok(response) => Ok(Forwarded::new(response, label, connect, begun)),
            Err(failed) => Err(match told {
                Some(told) => told.take_back(failed),
                None => failed,
            }),
        }
    }

    async fn exchange(
        &self,
        endpoint: &Endpoint,
        mut ready: Ready,
        mut request: Request<RequestBody>,
        repeatable: bool,
        watch: &BodyWatch,
        behalf: &OnBehalf,
    ) -> Result<Response<Body>, Attempt> {
        // Only a connection that may have gone stale needs a spare head.
        let spare = (ready.reused.is_some() && repeatable).then(|| Box::new(head_of(&request)));
        if let Some(interim) = behalf.interim.as_ref().filter(|_| !matches!(ready.carrier, Carrier::Stream(_))) {
            interim.attend(&mut request);
        }
        let failure = match self.send(endpoint, &mut ready.carrier, request, watch).await {
            Ok(response) => {
                let answered = self.accept(response, ready, endpoint.address.wire, watch, behalf.trailers);
                return answered.map_err(|failure| Attempt { failure, request: None, unreachable: false });
            }
            Err(Unanswered { failure, unsent: Some(unsent) }) => {
                return Err(Attempt { failure, request: Some(*unsent), unreachable: false });
            }
            Err(Unanswered { failure, unsent: None }) => failure,
        };
        if let (Some(age), UpstreamFailure::Closed(_)) = (ready.reused, &failure)
            && endpoint.address.wire == Wire::Http1
        {
            endpoint.closed_after(age); // gone stale under this request: the best evidence there is
        }
        let request = spare.filter(|_| matches!(failure, UpstreamFailure::Closed(_))).map(|spare| *spare);
        Err(Attempt { failure, request, unreachable: false })
    }

    /// Sends `request` by what carries it; what comes back with a failure was not seen by the endpoint.
    async fn send(
        &self,
        endpoint: &Endpoint,
        carrier: &mut Carrier,
        request: Request<RequestBody>,
        watch: &BodyWatch,
    ) -> Result<Response<Incoming>, Unanswered> {
        let limit = self.patience(watch);
        let (answered, deadline) = match carrier {
            Carrier::Slot(_) | Carrier::Own(_) => {
                let Some(connection) = carrier.connection() else {
                    let unsent = Some(Box::new(request));
                    return Err(Unanswered { failure: UpstreamFailure::Closed(None), unsent });
                };
                let (sender, deadline) = connection.wake();
                let sent = pin!(sender.try_send_request(request));
                (patiently(sent, deadline, limit, watch).await, deadline)
            }
            Carrier::Stream(stream) => {
                // Boxed: over HTTP/1.1, which is the rule, its state would be part of every request's future.
                return Box::pin(self.send_on(stream, endpoint.address.tls, request, watch)).await;
            }
        };
        deadline.clear();
        answered_in_time(answered, watch)
    }

    /// How long an answer's head is waited for after the last progress: in a conversation, as long as both sides may be silent.
    fn patience(&self, watch: &BodyWatch) -> Duration {
        watch.quiet_left().unwrap_or(self.settings.response_timeout)
    }

    /// The same on a stream of a shared connection.
    async fn send_on(
        &self,
        stream: &mut StreamLease,
        secure: bool,
        mut request: Request<RequestBody>,
        watch: &BodyWatch,
    ) -> Result<Response<Incoming>, Unanswered> {
        let before = multiplex::translate(&mut request, secure);
        stream.carry(watch);
        let (sender, deadline) = stream.wake();
        let sent = pin!(sender.try_send_request(request));
        let answered = patiently(sent, deadline, self.patience(watch), watch).await;
        deadline.clear();
        answered_in_time(answered, watch).map_err(|mut unanswered| {
            if let Some(request) = &mut unanswered.unsent {
                before.give_back(request);
                stream.condemn();
            }
            unanswered
        })
    }

    /// Takes a response whose head is one unambiguous HTTP/1.1 message.
    pub(super) fn accept(
        &self,
        response: Response<Incoming>,
        ready: Ready,
        wire: Wire,
        watch: &BodyWatch,
        trailers: bool,
    ) -> Result<Response<Body>, UpstreamFailure> {
        let (mut head, incoming) = response.into_parts();
        if head.status == StatusCode::SWITCHING_PROTOCOLS || !is_framed_once(&head.headers) {
            return Err(UpstreamFailure::Malformed(None));
        }
        if head.status == StatusCode::NO_CONTENT {
            head.headers.remove(CONTENT_LENGTH); // servers say 0, which RFC 9110 section 8.6 forbids
        }
        let hop = hop::strip(&mut head.headers);
        let may_follow = wire == Wire::Http1 && self.settings.announce.is_none();
        let reusable = may_follow && !hop.close && head.version == http::Version::HTTP_11;
        let said = head.headers.remove(&buffer::ACCEL_BUFFERING); // to the gateway, and to nobody behind it
        let body = LeasedBody::new(incoming, ready, watch.clone(), self.settings.read_timeout, reusable, trailers);
        let body = match &self.buffers {
            Some(buffers) if buffer::may_wait(&head.headers, said.as_ref()) => buffers.take(body),
            _ => Body::stream(body),
        };
        Ok(Response::from_parts(head, body))
    }
}

/// Waits `limit` from the last progress of the request's body, so that a long upload is no time-out; `None` once that has passed.
pub(super) async fn patiently<T>(
    mut sent: Pin<&mut impl Future<Output = T>>,
    deadline: &mut Deadline,
    limit: Duration,
    watch: &BodyWatch,
) -> Option<T> {
    let mut seen = watch.progress();
    deadline.set(limit);
    poll_fn(|cx| {
        if let Poll::Ready(result) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        while deadline.poll_passed(cx).is_ready() {
            let now = watch.progress();
            if now == seen {
                return Poll::Ready(None);
            }
            seen = now;
            deadline.set(limit);
        }
        Poll::Pending
    })
    .await
}

/// RFC 9112 section 6.3: a response with two lengths, or a length beside a transfer coding, can be read two ways.
fn is_framed_once(headers: &HeaderMap) -> bool {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().count();
    let digits = |length: &HeaderValue| length.as_bytes().iter().all(u8::is_ascii_digit);
    if !headers.get_all(CONTENT_LENGTH).iter().all(digits) {
        return false; // `5, 5`
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match codings.next() {
        None => lengths <= 1,
        Some(coding) => lengths == 0 && codings.next().is_none() && coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
    }
}

/// A request that got no answer.
struct Unanswered {
    failure: UpstreamFailure,
    /// There if the endpoint has not seen it.
    unsent: Option<Box<Request<RequestBody>>>,
}

/// `None` is no answer in time.
fn answered_in_time(
    answered: Option<Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
    watch: &BodyWatch,
) -> Result<Response<Incoming>, Unanswered> {
    let (failure, unsent) = match answered {
        Some(Ok(response)) => return Ok(response),
        None => (UpstreamFailure::ResponseTimeout, None),
        Some(Err(mut error)) => match error.take_message() {
            Some(unsent) => (UpstreamFailure::Closed(Some(error.into_error())), Some(Box::new(unsent))),
            None => (judge(error.into_error(), watch), None),
        },
    };
    Err(Unanswered { failure, unsent })
}

fn judge(error: hyper::Error, watch: &BodyWatch) -> UpstreamFailure {
    if error.is_user() || watch.fate().is_failure() {
        UpstreamFailure::RequestBody
    } else if error.is_parse() {
        UpstreamFailure::Malformed(Some(error))
    } else {
        UpstreamFailure::Closed(Some(error))
    }
}

/// A copy of a request without a body, to be sent again.
fn head_of(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    copy
}
