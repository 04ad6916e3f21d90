//! What a permitted request gets: an upstream's response, a file, another place to go, or a document.
//!
//! Owns how a request is rewritten for an upstream (RFC 9110 section 7.6, RFC 9112 section 3.2, RFC 9113 section 8.2.3). Takes
//! the `Permit` by value. Refuses to know how a permit is had and how a failure is answered.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Response, Uri, Version, request};
use http_body::Body as _;

use super::context::{Client, Exchange, Notes};
use super::failure::Failure;
use super::handout::{Wish, heed};
use super::{Limits, lapse, publish, redirect, upgrade};
use crate::auth::{ClaimPath, Identity, Permit, Statement, UnixSeconds};
use crate::files::{DirectoryRequest, FilesError};
use crate::http::boundary::{FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO, REQUEST_ID};
use crate::http::{Body, BodyWatch, Fate, Pace, RequestBody, Target, TargetError, cors, handout, hop};
use crate::snapshot::{Action, Rewrite, Route, Snapshot};
use crate::upstream::{Affinity, Failed, Forwarded, Kind, OnBehalf, Upstream, UpstreamFailure};

/// RFC 9110 section 7.6.3: named by pseudonym, so that no version leaks.
const VIA: HeaderValue = HeaderValue::from_static("1.1 portcullis");
/// When a request came, as monitors of applications read it: what is before the application's own time was spent in a queue.
const REQUEST_START: HeaderName = HeaderName::from_static("x-request-start");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");

/// Does what `route` says.
pub(super) async fn act(
    route: &Arc<Route>,
    permit: Permit,
    client: Client,
    target: Target,
    mut exchange: Exchange,
    snapshot: &Snapshot,
) -> Result<Response<Body>, Failure> {
    note(&exchange.notes, route, &permit);
    if !matches!(route.action, Action::Proxy { .. }) {
        upgrade::refuse(&exchange)?;
    }
    match &route.action {
        Action::Proxy { upstream, name, rewrite, identity, internal, affinity } => {
            let notes = exchange.notes.clone();
            notes.write(|story| story.upstream = Some(Arc::clone(name)));
            let passage = Passage {
                kind: upstream.kind(),
                tells_user: upstream.tells_user(),
                converses: upstream.converses(),
                rewrite: rewrite.as_ref(),
                identity: identity.as_ref(),
                affinity: affinity.as_ref(),
                request_start: upstream.says_request_start(),
            };
            let call = exchange.grpc;
            let internal = internal.as_deref().map(|roots| (roots, Wish::of(&exchange.head, roots)));
            let tunnel = upgrade::wanted(&mut exchange, route, &permit, snapshot)?;
            let outgoing = outgoing(exchange, route, &passage, &permit, &client, &target, &snapshot.limits)?;
            let mut response = match tunnel {
                Some(tunnel) => Box::pin(tunnel.open(upstream, outgoing, &notes)).await?, // boxed: one request in very many
                None => Box::pin(proxy(upstream, outgoing, &notes)).await?, // boxed: files and refusals need no room for it
            };
            if handout::speaks(response.headers()) {
                response = Box::pin(heed(response, internal, name)).await?; // boxed: few answers say anything to the gateway
            }
            if route.cors.is_some() {
                cors::silence(response.headers_mut()); // the gateway speaks for this route
            }
            let standing = || snapshot.authority.standing(&permit).filter(|_| route.tunnels.end_with_token);
            Ok(lapse::end_with(standing, response, call, &notes))
        }
        Action::Files { site, prefix } => {
            let path = target.path().strip_prefix(&**prefix).unwrap_or_default();
            let path = path.strip_prefix('/').unwrap_or(path);
            let (method, headers) = (&exchange.head.method, &exchange.head.headers);
            match site.answer(exchange.begun, method, path, headers).await {
                Err(FilesError::NotFound) if site.lists(path) => {
                    let asked = DirectoryRequest { method, path, shown: target.path(), query: target.query(), headers };
                    Ok(Box::pin(site.list(asked)).await?) // boxed: hardly any request
                }
                answered => Ok(answered?),
            }
        }
        Action::Redirect(to) => Ok(redirect::to(to, &target, permit.query(target.query()).as_deref())?),
        Action::Publish(document) => publish::answer(document, &exchange.head.method, &exchange.head.headers),
    }
}

/// What is told of who was let through.
fn note(notes: &Notes, route: &Route, permit: &Permit) {
    notes.write(|story| {
        story.private = permit.is_private();
        story.personal = permit.is_personal();
        story.subject = permit.subject().map(Into::into);
        if route.policy.issuer().is_none() {
            story.issuer = permit.issuer().map(|issuer| issuer.name().into());
        }
    });
}

/// The request as the upstream gets it.
pub(super) struct Outgoing<'i> {
    pub(super) request: Request<RequestBody>,
    /// Whom it is forwarded for.
    behalf: OnBehalf,
    /// What the gateway is to say in its own name when the request leaves.
    statement: Option<Statement<'i>>,
}

/// What can be refused is refused before the body is taken: one that nobody takes is held for its client to notice the answer.
fn outgoing<'i>(
    exchange: Exchange,
    route: &Route,
    passage: &Passage<'i>,
    permit: &Permit,
    client: &Client,
    target: &Target,
    limits: &Limits,
) -> Result<Outgoing<'i>, Failure> {
    let Exchange { mut head, body, grpc, notes, connection, time, .. } = exchange;
    refuse_announced_excess(&head.headers, route.body_bytes)?;
    if grpc {
        crate::http::grpc::timeout(&head.headers)?;
    }
    let query = permit.query(target.query());
    let uri = uri(target, passage.rewrite, query.as_deref())?;
    let trailers = rewrite_head(&mut head.headers, permit, client, target);
    if passage.request_start {
        head.headers.insert(REQUEST_START, request_start(time));
    }
    let user = permit.subject().filter(|_| passage.tells_user && route.policy.is_of_one_issuer()).map(Into::into);
    let local = connection.local;
    // RFC 9110 section 15.2: an HTTP/1.0 client is sent none, and over HTTP/2 hyper has no way to.
    let interim = (head.version == Version::HTTP_11).then(|| connection.activity.pass_interims());
    let claim = passage.affinity.and_then(|path| permit.claim(path));
    let affinity = claim.map(|(_, claim)| Affinity::of(claim.as_bytes()));
    let behalf = OnBehalf { client: client.socket, secure: client.secure, user, trailers, local, interim, affinity };
    let statement = passage.identity.and_then(|identity| permit.statement(identity, &head.method, on_the_line(&uri)));
    refuse_what_it_would(passage.kind, &head, &uri, statement.as_ref())?;
    // Where each request has a connection to itself, a media type must not be enough to hold it in silence.
    let converses = grpc && passage.converses;
    let upload = Pace::Upload { timeout: limits.body_timeout, least_rate: limits.body_rate };
    let pace = if converses { Pace::Conversation(route.tunnels.idle) } else { upload };
    let body = body.take(route.body_bytes, pace);
    notes.write(|story| story.body = Some(body.watch()));
    let mut request = Request::new(body);
    *request.method_mut() = head.method;
    *request.uri_mut() = uri;
    *request.headers_mut() = head.headers;
    Ok(Outgoing { request, behalf, statement })
}

/// What the way to the upstream asks of a request.
struct Passage<'a> {
    kind: Kind,
    tells_user: bool,
    /// Whether a request that lasts holds no connection of its own there.
    converses: bool,
    rewrite: Option<&'a Rewrite>,
    identity: Option<&'a Identity>,
    /// The claim by which an endpoint is chosen.
    affinity: Option<&'a ClaimPath>,
    /// Whether the upstream is told when the request came.
    request_start: bool,
}

/// What the application server would refuse for its length is refused here.
fn refuse_what_it_would(
    kind: Kind,
    head: &request::Parts,
    uri: &Uri,
    statement: Option<&Statement<'_>>,
) -> Result<(), TargetError> {
    let Some((line, field)) = kind.line_bytes() else { return Ok(()) };
    if head.method.as_str().len() + on_the_line(uri).len() + " ".len() + " HTTP/1.1".len() > line {
        return Err(TargetError::TooLong);
    }
    let too_long = |name: &HeaderName, bytes: usize| name.as_str().len() + ": ".len() + bytes > field;
    let stated = statement.is_some_and(|statement| too_long(statement.header(), statement.most_bytes()));
    if stated || head.headers.iter().any(|(name, value)| too_long(name, value.len())) {
        return Err(TargetError::FieldTooLong);
    }
    Ok(())
}

/// The target as it will stand on the request line.
fn on_the_line(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", PathAndQuery::as_str)
}

/// Forwards the request.
pub(super) async fn proxy(
    upstream: &Upstream,
    outgoing: Outgoing<'_>,
    notes: &Notes,
) -> Result<Response<Body>, Failure> {
    let (request, behalf) = depart(upstream, outgoing).await?;
    let watch = request.body().watch();
    arrive(upstream.forward(request, &behalf).await, &watch, notes)
}

/// The request when it may leave: as much of its body is there as must be, and what the gateway says of it is signed.
pub(super) async fn depart(
    upstream: &Upstream,
    outgoing: Outgoing<'_>,
) -> Result<(Request<RequestBody>, OnBehalf), Failure> {
    let Outgoing { mut request, behalf, statement } = outgoing;
    let watch = request.body().watch();
    upstream.gather(request.body_mut()).await?;
    if !matches!(watch.fate(), Fate::Whole | Fate::Streaming) {
        return Err(Failure::of_upstream(UpstreamFailure::RequestBody, watch.fate()));
    }
    frame_anew(&mut request);
    if let Some(statement) = statement {
        // Dated now and not before: a slow client may have taken longer over its body than the token lives.
        let header = statement.header().clone();
        request.headers_mut().insert(header, statement.sign(UnixSeconds::now())?);
    }
    Ok((request, behalf))
}

/// What came back, with notes of where from and how fast.
pub(super) fn arrive<T>(
    answered: Result<Forwarded<T>, Failed>,
    watch: &BodyWatch,
    notes: &Notes,
) -> Result<T, Failure> {
    match answered {
        Ok(forwarded) => {
            notes.write(|story| {
                story.endpoint = Some(forwarded.endpoint);
                story.queue = Some(forwarded.queued);
                story.connect = Some(forwarded.connect);
                story.first_byte = Some(forwarded.first_byte);
                story.private |= forwarded.binds; // a cache would bind everybody
            });
            Ok(forwarded.response)
        }
        Err(failed) => {
            notes.write(|story| {
                story.endpoint = failed.endpoint;
                story.queue = Some(failed.queued);
            });
            Err(Failure::of_upstream(failed.failure, watch.fate()))
        }
    }
}

/// A body announced as too large is refused before any of it is read, and before a `100 Continue` (RFC 9110 section 10.1.1).
fn refuse_announced_excess(headers: &HeaderMap, limit: u64) -> Result<(), Failure> {
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) { Err(Failure::BodyTooLarge) } else { Ok(()) }
}

/// Everything of one connection goes, everything of the gateway comes. Returns whether the client accepts trailers.
fn rewrite_head(headers: &mut HeaderMap, permit: &Permit, client: &Client, target: &Target) -> bool {
    let hop = hop::strip(headers);
    for framing in [header::CONTENT_LENGTH, header::EXPECT, header::TRAILER] {
        headers.remove(framing); // made anew by whoever writes the message, or meant for us
    }
    join_cookies(headers);
    permit.apply(headers);
    let host = HeaderValue::from_str(target.authority()).expect("an authority that passed `Target::read` is ASCII");
    headers.insert(FORWARDED_HOST, host.clone());
    headers.insert(header::HOST, host);
    headers.insert(FORWARDED_FOR, client.forwarded_for.clone());
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(if client.secure { "https" } else { "http" }));
    headers.insert(REQUEST_ID, client.request_id.clone());
    headers.append(header::VIA, VIA);
    if hop.trailers {
        headers.insert(header::TE, TRAILERS);
        headers.insert(header::CONNECTION, HeaderValue::from(HeaderName::from_static("te")));
    }
    hop.trailers
}

/// Microseconds since 1970, in the form of Heroku and New Relic.
fn request_start(time: SystemTime) -> HeaderValue {
    let micros = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    HeaderValue::from_str(&format!("t={micros}")).expect("a letter and a number")
}

/// RFC 9110 section 8.6 and RFC 9112 section 6.1, where the HTTP client behind would leave the framing out: it frames by the body's
/// length, but takes a GET for one without a body and says nothing of an empty one.
fn frame_anew(request: &mut Request<RequestBody>) {
    let has_content = matches!(*request.method(), Method::POST | Method::PUT | Method::PATCH);
    let (is_empty, length) = (request.body().is_empty(), request.body().size_hint().exact());
    let headers = request.headers_mut();
    if is_empty && has_content {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    } else if length.is_none() {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// RFC 9113 section 8.2.3: cookie lines split for compression are one line again before HTTP/1.1.
fn join_cookies(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(header::COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let joined = HeaderValue::from_bytes(&lines.join(&b"; "[..])).expect("legal values joined by legal bytes");
    headers.insert(header::COOKIE, joined);
}

/// The target as it is sent on, with what `permit` leaves of the query.
fn uri(target: &Target, rewrite: Option<&Rewrite>, query: Option<&str>) -> Result<Uri, TargetError> {
    if rewrite.is_none() && query == target.query() {
        return Ok(Uri::from(target.path_and_query().clone()));
    }
    rewritten(target, rewrite, query).map(Uri::from).ok_or(TargetError::AmbiguousPath)
}

/// The prefix is replaced in the client's own bytes. A path that spells the prefix with escapes is refused: cutting it by the decoded
/// length would cut in the wrong place.
fn rewritten(target: &Target, rewrite: Option<&Rewrite>, query: Option<&str>) -> Option<PathAndQuery> {
    let (to, rest) = match rewrite {
        Some(rewrite) => (&*rewrite.to, target.raw_path().strip_prefix(&*rewrite.from)?),
        None => ("", target.raw_path()),
    };
    let slash = if rest.is_empty() && to.is_empty() { "/" } else { "" };
    let (mark, query) = query.map_or(("", ""), |query| ("?", query));
    format!("{to}{slash}{rest}{mark}{query}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str) -> Target {
        let (head, ()) = Request::builder().uri(uri).header("host", "a").body(()).expect("a request").into_parts();
        Target::read(&head, true, 8192).expect("a target")
    }

    #[test]
    fn a_prefix_is_replaced_in_the_clients_own_bytes() {
        for (from, to, path, expected) in [
            ("/api", "/v2", "/api/x%20y?q=%2F", "/v2/x%20y?q=%2F"),
            ("/api", "", "/api/x", "/x"),
            ("/api", "", "/api", "/"),
            ("/api", "/v2", "/api?x", "/v2?x"),
            ("", "/app", "/x", "/app/x"),
        ] {
            let rewrite = Rewrite { from: from.into(), to: to.into() };
            let uri = uri(&target(path), Some(&rewrite), target(path).query()).expect("a target");
            assert_eq!(uri.to_string(), expected, "{from} -> {to}: {path}");
        }
        let rewrite = Rewrite { from: "/api".into(), to: "/v2".into() };
        let other = |query| uri(&target("/x?a=1&t=2"), None, query).map(|uri| uri.to_string());
        assert_eq!((other(Some("a=1")), other(None)), (Ok("/x?a=1".into()), Ok("/x".into())));
        assert_eq!(uri(&target("/%61pi/x"), Some(&rewrite), None), Err(TargetError::AmbiguousPath));
    }

    #[test]
    fn cookie_lines_join_into_one() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2", "c=3"] {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }

    #[test]
    fn an_announced_excess_is_refused_before_it_is_read() {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(11));
        assert!(refuse_announced_excess(&headers, 11).is_ok());
        assert!(matches!(refuse_announced_excess(&headers, 10), Err(Failure::BodyTooLarge)));
    }
}
