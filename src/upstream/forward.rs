//! One request to one upstream: which endpoint, which connection, and what may be tried again.
//!
//! Answers for RFC 9110 section 9.2.2 and RFC 9112 section 9.3.1: a request of which no byte was written is sent again
//! whatever its method; one that may have been seen is sent again only if it is idempotent and its body, if it has one, is small and all there,
//! and that only within the budget of [`super::retry`]. Every wait has a deadline, and all tries together have one. Refuses to know what statuses mean and what the
//! client is told.

mod hedge;

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
use super::retry::{Reason, Retrying, longest_pause, pause};
use super::{Affinity, Upstream, UpstreamFailure, UpstreamSettings, Wire, buffer, health, multiplex, uwsgi, whoami};
use crate::deadline::Deadline;
use crate::http::{Body, BodyWatch, Fate, RequestBody, hop};
use crate::proxy_protocol;

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
    /// What endpoints are chosen by, where that is a claim.
    pub affinity: Option<Affinity>,
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
    /// Time for which others had all connections, in all tries.
    pub queued: Duration,
    /// Time until a connection was ready, in the last try.
    pub connect: Duration,
    /// Time from then to the response's head.
    pub first_byte: Duration,
    /// Whether it gives its client, and nobody else, the cookie of this endpoint.
    pub binds: bool,
}

impl<T> Forwarded<T> {
    /// The same with something else in the place of the response.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Forwarded<U> {
        let Self { response, endpoint, queued, connect, first_byte, binds } = self;
        Forwarded { response: change(response), endpoint, queued, connect, first_byte, binds }
    }
}

impl Forwarded {
    fn new(response: Response<Body>, endpoint: Arc<str>, queued: Duration, connect: Duration, begun: Instant) -> Self {
        let first_byte = begun.elapsed().saturating_sub(connect);
        Self { response, endpoint, queued, connect, first_byte, binds: false }
    }
}

/// A failure and where it happened, if an endpoint was reached.
#[derive(Debug)]
pub struct Failed {
    /// What went wrong.
    pub failure: UpstreamFailure,
    /// The endpoint it went wrong with, if any was asked.
    pub endpoint: Option<Arc<str>>,
    /// Time for which others had all connections, in all tries.
    pub queued: Duration,
}

/// How far one request has got.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// The number of the try; one on a connection that was stale is none.
    number: u32,
    /// Whether there was such a connection: there is one excuse.
    excused: bool,
    /// Whether another try went beside one: that is done once.
    hedged: bool,
    begun: Instant,
    queued: Duration,
}

impl Round {
    /// What is left of the time that all tries together may take. Waiting for a connection has a limit of its own.
    fn left(&self, settings: &UpstreamSettings) -> Duration {
        (settings.response_timeout + self.queued).saturating_sub(self.begun.elapsed())
    }

    fn may_go_on(&self, settings: &UpstreamSettings) -> bool {
        self.number < settings.retry.attempts
    }

    /// How long this try of a request that may be sent again waits for an answer, if not as long as any.
    fn patience(&self, settings: &UpstreamSettings) -> Option<Duration> {
        let one = settings.retry.try_timeout.filter(|_| self.may_go_on(settings));
        let all = (self.number > 1).then(|| self.left(settings));
        one.into_iter().chain(all).min()
    }
}

/// One try.
#[derive(Clone, Copy)]
struct Try {
    /// The position of the endpoint.
    at: usize,
    need: Need,
    /// Whether it may be sent again when it may have been seen.
    repeatable: bool,
    round: Round,
}

/// One failed attempt.
struct Attempt {
    failure: UpstreamFailure,
    /// There if it may be sent again.
    request: Option<Request<RequestBody>>,
    /// Why it would be.
    reason: Reason,
    /// Whether the endpoint may have seen it.
    seen: bool,
    /// There if it is within the budget already.
    paid: Option<Retrying>,
}

impl Attempt {
    /// One that can't be repeated.
    fn last(failure: UpstreamFailure) -> Self {
        Self { failure, request: None, reason: Reason::Reset, seen: true, paid: None }
    }

    /// One that no endpoint has seen.
    fn unseen(failure: UpstreamFailure, request: Request<RequestBody>, reason: Reason) -> Self {
        Self { failure, request: Some(request), reason, seen: false, paid: None }
    }
}

/// That a request is tried again.
enum Again {
    /// The budget is not for it.
    Free,
    /// It takes this part of the budget.
    Within(Retrying),
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
        let pass = self.admit()?;
        let body_bytes = self.settings.retry.body_bytes;
        let repeatable = request.method().is_idempotent() && request.body().is_repeatable(body_bytes);
        let need = match self.settings.announce {
            Some(_) => Need::Fresh, // it is made for this client
            None if repeatable => Need::Any,
            None => Need::Trusted,
        };
        let wish = self.members.wish(&mut request, behalf);
        let round = Round { number: 1, excused: false, hedged: false, begun: Instant::now(), queued: Duration::ZERO };
        let mut tried = Try { at: self.members.pick(wish, None), need, repeatable, round };
        let mut retrying: Option<Retrying> = None;
        loop {
            let begun =
                if tried.round.number == 1 && !tried.round.excused { tried.round.begun } else { Instant::now() };
            let watch = request.body().watch(); // of this try: a body that is sent again is another
            let answered = if self.settings.hedge.is_some()
                && !tried.round.hedged
                && self.is_as_usual()
                && hedge::is_read(&request)
            {
                // Boxed: two tries and a timer would be part of every request's future.
                Box::pin(self.hedged(&mut tried, wish, begun, request, &watch, behalf)).await
            } else {
                self.attempt(tried, begun, request, &watch, behalf).await
            };
            drop(retrying.take());
            let (mut failed, endpoint) = match answered {
                Ok(mut answered) => {
                    answered.queued += tried.round.queued;
                    answered.binds = self.members.keep(wish, tried.at, behalf.secure, answered.response.headers_mut());
                    pass.answered(answered.response.status().as_u16());
                    return Ok(answered);
                }
                Err(failed) => (failed, self.members.at(tried.at)),
            };
            if matches!(failed.failure, UpstreamFailure::QueueTimeout) {
                tried.round.queued += begun.elapsed();
            }
            let again = self.again(&mut tried.round, &mut failed);
            note(endpoint, &failed, again.is_some(), watch.is_sent());
            let (Some(again), Some(unanswered)) = (again, failed.request) else {
                pass.failed(&failed.failure, watch.is_sent());
                let (failure, endpoint) = (failed.failure, Some(Arc::clone(endpoint.label())));
                return Err(Failed { failure, endpoint, queued: tried.round.queued });
            };
            self.retries.count(failed.reason);
            if failed.reason == Reason::Stale {
                tried.need = Need::Fresh;
            } else {
                tried.at = self.members.pick(wish, Some(tried.at));
            }
            if let Again::Within(within) = again {
                let number = tried.round.number - 1;
                // Boxed: a timer is large, and hardly any request needs one.
                Box::pin(tokio::time::sleep(pause(number, health::random(), &self.settings.retry))).await;
                retrying = Some(within);
            }
            request = unanswered;
        }
    }

    /// Whether a request is tried again, and if the budget is for it, its part of that.
    fn again(&self, round: &mut Round, failed: &mut Attempt) -> Option<Again> {
        failed.request.as_ref()?;
        if failed.reason == Reason::Stale && !round.excused {
            round.excused = true;
            return Some(Again::Free);
        }
        if !self.is_as_usual() {
            return None; // what is left alone is not asked twice
        }
        let settings = &self.settings.retry;
        let wanted = match failed.reason {
            Reason::Connect => settings.on_connect && self.members.len() > 1,
            Reason::Stale | Reason::Reset => settings.on_reset,
            Reason::Timeout | Reason::Status | Reason::Hedge => true,
        };
        if let Some(paid) = failed.paid.take() {
            round.number += 1;
            return Some(Again::Within(paid));
        }
        if !wanted || !round.may_go_on(&self.settings) || !self.has_time(round) {
            return None;
        }
        let again = if failed.seen { Again::Within(self.retries.begin(settings)?) } else { Again::Free };
        round.number += 1;
        Some(again)
    }

    /// Whether there is time for a pause and another try.
    fn has_time(&self, round: &Round) -> bool {
        round.left(&self.settings) > longest_pause(&self.settings.retry)
    }

    async fn attempt(
        &self,
        tried: Try,
        begun: Instant,
        mut request: Request<RequestBody>,
        watch: &BodyWatch,
        behalf: &OnBehalf,
    ) -> Result<Forwarded, Attempt> {
        let endpoint = self.members.at(tried.at);
        let label = Arc::clone(endpoint.label());
        if endpoint.address().is_builtin() {
            return match Box::pin(whoami::answer(request)).await {
                Ok(response) => Ok(Forwarded::new(response, label, Duration::ZERO, Duration::ZERO, begun)),
                Err(failure) => Err(Attempt::last(failure)),
            };
        }
        let packet = (endpoint.address().wire == Wire::Uwsgi)
            .then(|| uwsgi::packet(&request, behalf, self.settings.kind))
            .transpose();
        let packet = packet.map_err(Attempt::last)?;
        let ready = match endpoint.ready(tried.need, packet.clone(), &self.settings, behalf).await {
            Ok(ready) => ready,
            Err(failure @ (UpstreamFailure::QueueTimeout | UpstreamFailure::QueueFull)) => {
                return Err(Attempt::last(failure));
            }
            Err(failure) => return Err(Attempt::unseen(failure, request, Reason::Connect)),
        };
        let (queued, connect, settled) = (ready.queued, begun.elapsed(), watch.fate() == Fate::Whole);
        let told =
            packet.map(|packet| Told { headers: std::mem::take(request.headers_mut()), packet_bytes: packet.len() });
        match self.exchange(tried, ready, request, watch, behalf).await {
            Ok(response) => {
                let answered = Forwarded::new(response, label, queued, connect, begun);
                if settled {
                    endpoint.took(answered.first_byte);
                }
                Ok(answered)
            }
            Err(failed) => Err(match told {
                Some(told) => told.take_back(failed),
                None => failed,
            }),
        }
    }

    async fn exchange(
        &self,
        tried: Try,
        mut ready: Ready,
        mut request: Request<RequestBody>,
        watch: &BodyWatch,
        behalf: &OnBehalf,
    ) -> Result<Response<Body>, Attempt> {
        let Try { at, repeatable, round, .. } = tried;
        let endpoint = self.members.at(at);
        let may_go_on = round.may_go_on(&self.settings);
        // Only a connection that may have gone stale needs a spare request, or a try that may be followed by another.
        let spare = (repeatable && (ready.reused.is_some() || may_go_on)).then(|| self.copy_of(&request)).flatten();
        if let Some(interim) = behalf.interim.as_ref().filter(|_| !matches!(ready.carrier, Carrier::Stream(_))) {
            interim.attend(&mut request);
        }
        let limit = if repeatable { round.patience(&self.settings) } else { None };
        let reason = if ready.reused.is_some() { Reason::Stale } else { Reason::Reset };
        let failure = match self.send(endpoint, &mut ready.carrier, request, limit, watch).await {
            Ok(response) => {
                let status = response.status().as_u16();
                if let Some(spare) = spare.filter(|_| may_go_on && self.settings.retry.statuses.contains(&status))
                    && self.has_time(&round)
                    && let Some(paid) = self.retries.begin(&self.settings.retry)
                {
                    endpoint.answered(status);
                    let (request, paid) = (Some(*spare), Some(paid));
                    let failure = UpstreamFailure::Closed(None); // by us: nobody hears of it
                    return Err(Attempt { failure, request, reason: Reason::Status, seen: true, paid });
                }
                let answered = self.accept(response, ready, endpoint.address().wire, watch, behalf.trailers);
                return answered.inspect(|_| endpoint.answered(status)).map_err(Attempt::last);
            }
            Err(Unanswered { failure, unsent: Some(unsent) }) => {
                return Err(Attempt::unseen(failure, *unsent, reason));
            }
            Err(Unanswered { failure, unsent: None }) => failure,
        };
        if let (Some(age), UpstreamFailure::Closed(_)) = (ready.reused, &failure)
            && endpoint.address().wire == Wire::Http1
        {
            endpoint.closed_after(age); // gone stale under this request: the best evidence there is
        }
        let (reason, may) = match failure {
            UpstreamFailure::Closed(_) => (reason, true),
            UpstreamFailure::ResponseTimeout => (Reason::Timeout, self.settings.retry.try_timeout.is_some()),
            _ => (Reason::Reset, false),
        };
        let request = spare.filter(|_| may).map(|spare| *spare);
        Err(Attempt { failure, request, reason, seen: true, paid: None })
    }

    /// A copy of a request, to be sent again, if all of its body is there.
    fn copy_of(&self, request: &Request<RequestBody>) -> Option<Box<Request<RequestBody>>> {
        let mut copy = Box::new(Request::new(request.body().again(self.settings.retry.body_bytes)?));
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        Some(copy)
    }

    /// Sends `request` by what carries it; what comes back with a failure was not seen by the endpoint.
    async fn send(
        &self,
        endpoint: &Endpoint,
        carrier: &mut Carrier,
        request: Request<RequestBody>,
        limit: Option<Duration>,
        watch: &BodyWatch,
    ) -> Result<Response<Incoming>, Unanswered> {
        let usual = self.patience(watch);
        // The time of a try does not begin anew with its body, which was there before it.
        let moving = limit.is_none().then_some(watch);
        let limit = limit.map_or(usual, |limit| limit.min(usual));
        let (answered, deadline) = match carrier {
            Carrier::Slot(_) | Carrier::Own(_) => {
                let Some(connection) = carrier.connection() else {
                    let unsent = Some(Box::new(request));
                    return Err(Unanswered { failure: UpstreamFailure::Closed(None), unsent });
                };
                let (sender, deadline) = connection.wake();
                let sent = pin!(sender.try_send_request(request));
                (patiently(sent, deadline, limit, moving).await, deadline)
            }
            Carrier::Stream(stream) => {
                // Boxed: over HTTP/1.1, which is the rule, its state would be part of every request's future.
                return Box::pin(self.send_on(stream, endpoint.address().tls, request, limit, watch, moving)).await;
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
        limit: Duration,
        watch: &BodyWatch,
        moving: Option<&BodyWatch>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let before = multiplex::translate(&mut request, secure);
        stream.carry(watch);
        let (sender, deadline) = stream.wake();
        let sent = pin!(sender.try_send_request(request));
        let answered = patiently(sent, deadline, limit, moving).await;
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

/// Tells of a failed attempt whoever counts them. An idle connection that was closed meanwhile is a retry, but no failure of the
/// endpoint, and an answer is none.
fn note(endpoint: &Endpoint, failed: &Attempt, again: bool, sent: bool) {
    if failed.reason == Reason::Status {
        return;
    }
    if failed.reason != Reason::Stale {
        endpoint.failed(&failed.failure, sent);
    }
    if let Some(stage) = failed.failure.stage().filter(|_| !again || failed.reason != Reason::Stale) {
        endpoint.meter().failed(stage);
    }
}

/// Waits `limit`, from the last progress of a body that is `moving`, so that a long upload is no time-out; `None` once that has passed.
pub(super) async fn patiently<T>(
    mut sent: Pin<&mut impl Future<Output = T>>,
    deadline: &mut Deadline,
    limit: Duration,
    moving: Option<&BodyWatch>,
) -> Option<T> {
    let mut seen = moving.map(BodyWatch::progress);
    deadline.set(limit);
    poll_fn(|cx| {
        if let Poll::Ready(result) = sent.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        while deadline.poll_passed(cx).is_ready() {
            let now = moving.map(BodyWatch::progress);
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
