//! The one table that turns a failure into an answer, and what every answer carries.
//!
//! Answers for RFC 6750 section 3, RFC 9110 section 15 and RFC 9457. The only place that knows which status a failure has. What
//! it says of a failure is what the client may know: no addresses, versions, paths or claims.

use http::header::{
    ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION,
    RETRY_AFTER, SEC_WEBSOCKET_VERSION, STRICT_TRANSPORT_SECURITY, WWW_AUTHENTICATE,
};
use http::{Method, Response, StatusCode, Version};

use super::compress;
use super::context::{Connection, Notes};
use super::failure::Failure;
use super::places::NoPlace;
use super::throttle::{self, Excess};
use crate::auth::{Denied, Kind, Style, drf_body, drf_throttled};
use crate::files::FilesError;
use crate::http::boundary::REQUEST_ID;
use crate::http::websocket::{self, HandshakeError};
use crate::http::{Body, SpoolError, TargetError};
use crate::observe::Chain;
use crate::route::RouteError;
use crate::snapshot::Route;
use crate::upstream::UpstreamFailure;

/// The body of DRF's `APIException` of status 503.
const DRF_BUSY: &str = r#"{"detail":"Service temporarily unavailable, try again later."}"#;
/// RFC 9457.
const PROBLEM: HeaderValue = HeaderValue::from_static("application/problem+json");
/// The problem type of a request over a limit whose name is told.
const QUOTA_EXCEEDED: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// RFC 9449 section 8.2.
const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// RFC 9449 section 7.1: what a proof may be signed with, most usual first.
const DPOP_ALGORITHMS: &str = ", algs=\"ES256 ES384 EdDSA PS256 PS384 PS512 RS256 RS384 RS512\"";
const CLOSE: HeaderValue = HeaderValue::from_static("close");
const PRIVATE: HeaderValue = HeaderValue::from_static("private");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// How soon a client may try again when the gateway had no room.
const RETRY_SECS: HeaderValue = HeaderValue::from_static("1");
/// The same for a tunnel: they end less often than requests do, and clients come in crowds.
const TUNNEL_RETRY_SECS: HeaderValue = HeaderValue::from_static("10");
/// How soon a client may try again when an issuer's keys could not be had: they are asked for every few seconds.
const KEYS_RETRY_SECS: HeaderValue = HeaderValue::from_static("5");

/// 499, as Nginx has it: the client left first. Only ever seen in logs and metrics.
pub(super) fn client_closed_request() -> StatusCode {
    StatusCode::from_u16(499).expect("499 is a three-digit code")
}

/// Turns a failure into its answer.
pub(super) fn rescue(failure: &Failure) -> Response<Body> {
    log(failure);
    match failure {
        Failure::Denied(denied) => return refuse(denied),
        Failure::RateLimited(excess) => return push_back(excess),
        Failure::LoginNeeded { location, .. } => return log_in(location),
        _ => {}
    }
    let (status, detail) = status(failure);
    let mut response = problem(status, detail);
    let headers = response.headers_mut();
    match failure {
        Failure::Route(RouteError::MethodNotAllowed { allow }) => {
            headers.insert(ALLOW, allow_value(allow));
        }
        Failure::Target(TargetError::MethodNotSupported) => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        Failure::Files(FilesError::MethodNotAllowed) | Failure::ReadOnly => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        Failure::Files(FilesError::RangeNotSatisfiable { len }) => {
            let range = format!("bytes */{len}");
            headers.insert(CONTENT_RANGE, HeaderValue::from_str(&range).expect("a number between ASCII"));
        }
        Failure::Upstream(UpstreamFailure::QueueTimeout | UpstreamFailure::QueueFull | UpstreamFailure::Unresolved)
        | Failure::Spool(SpoolError::Full(_) | SpoolError::Stalled) => {
            headers.insert(RETRY_AFTER, RETRY_SECS);
        }
        Failure::Upstream(UpstreamFailure::BreakerOpen { secs }) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*secs));
        }
        Failure::NoPlace(NoPlace::Full | NoPlace::Draining) => {
            headers.insert(RETRY_AFTER, TUNNEL_RETRY_SECS);
        }
        Failure::Handshake(HandshakeError::Version) => {
            // RFC 9110 section 15.5.22 and RFC 6455 section 4.2.2.
            websocket::switch(headers);
            headers.insert(SEC_WEBSOCKET_VERSION, websocket::VERSION);
        }
        _ => {}
    }
    response
}

/// The same in the words of Django REST framework, for a route whose clients expect them of a refusal.
pub(super) fn rescue_in(style: Style, failure: &Failure) -> Response<Body> {
    let mut response = rescue(failure);
    let busy = matches!(
        failure,
        Failure::Upstream(
            UpstreamFailure::QueueTimeout | UpstreamFailure::QueueFull | UpstreamFailure::BreakerOpen { .. }
        )
    );
    if busy && style == Style::Drf {
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        *response.body_mut() = Body::full(DRF_BUSY);
    }
    response
}

/// What is said of a failure to whoever is answered in other words than these.
pub(super) fn detail(failure: &Failure) -> &'static str {
    match failure {
        Failure::Denied(denied) | Failure::LoginNeeded { denied, .. } => denied_detail(denied.kind()),
        _ => status(failure).1,
    }
}

/// Status and what is said of it, one row a variant: no row may be missing.
fn status(failure: &Failure) -> (StatusCode, &'static str) {
    match failure {
        Failure::Target(error) => target_status(*error),
        Failure::Misdirected => {
            (StatusCode::MISDIRECTED_REQUEST, "the certificate of this connection is for other hosts")
        }
        Failure::Route(RouteError::UnknownHost) => (StatusCode::MISDIRECTED_REQUEST, "this host is not served here"),
        Failure::OriginRefused => (StatusCode::FORBIDDEN, "this origin may not ask from a script"),
        Failure::Route(RouteError::NotFound) | Failure::Files(FilesError::NotFound) => {
            (StatusCode::NOT_FOUND, "nothing is served here")
        }
        Failure::Route(RouteError::MethodNotAllowed { .. })
        | Failure::Files(FilesError::MethodNotAllowed)
        | Failure::ReadOnly => (StatusCode::METHOD_NOT_ALLOWED, "not by this method"),
        Failure::Denied(denied) => (denied_status(denied.kind()), "not authorised"),
        Failure::LoginNeeded { .. } => (StatusCode::SEE_OTHER, "log in first"),
        Failure::RateLimited(_) => (StatusCode::TOO_MANY_REQUESTS, "there were too many requests"),
        Failure::Files(FilesError::PreconditionFailed) | Failure::PreconditionFailed => {
            (StatusCode::PRECONDITION_FAILED, "a precondition failed")
        }
        Failure::Files(FilesError::RangeNotSatisfiable { .. }) => {
            (StatusCode::RANGE_NOT_SATISFIABLE, "the range lies outside of the file")
        }
        Failure::Files(FilesError::Io(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "the file could not be read"),
        Failure::Handout(_) => (StatusCode::BAD_GATEWAY, "the upstream's answer could not be used"),
        Failure::Upstream(failure) => upstream_status(failure),
        Failure::Handshake(error) => handshake_status(*error),
        Failure::HastyClient => (StatusCode::BAD_REQUEST, "nothing may be sent before a tunnel is open"),
        Failure::NoPlace(NoPlace::Never) => (StatusCode::FORBIDDEN, "there are no tunnels here"),
        Failure::NoPlace(NoPlace::Full) => {
            (StatusCode::SERVICE_UNAVAILABLE, "there are as many tunnels as there may be")
        }
        Failure::NoPlace(NoPlace::Draining) => (StatusCode::SERVICE_UNAVAILABLE, "no tunnel is opened any more"),
        Failure::Spool(SpoolError::Full(_) | SpoolError::Stalled) => {
            (StatusCode::SERVICE_UNAVAILABLE, "there is no room for the request body at the moment")
        }
        Failure::Spool(SpoolError::Io(_)) | Failure::BodyLost => {
            (StatusCode::INTERNAL_SERVER_ERROR, "the request body could not be kept")
        }
        Failure::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large"),
        Failure::BodyTooSlow => (StatusCode::REQUEST_TIMEOUT, "the request body came too slowly"),
        Failure::BodyMalformed => (StatusCode::BAD_REQUEST, "the request body is malformed"),
        Failure::BadCallTimeout(_) => (StatusCode::BAD_REQUEST, "grpc-timeout is malformed"),
        Failure::CallTimeout => (StatusCode::GATEWAY_TIMEOUT, "the call's deadline has passed"),
        Failure::ClientGone => (client_closed_request(), "the client left"),
        Failure::Unsigned(_) | Failure::Panicked => (StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed"),
    }
}

fn target_status(error: TargetError) -> (StatusCode, &'static str) {
    match error {
        TargetError::MethodNotSupported => (StatusCode::METHOD_NOT_ALLOWED, "this method is never forwarded"),
        TargetError::ProtocolNotSupported => (StatusCode::NOT_IMPLEMENTED, "this protocol is not tunnelled"),
        TargetError::TooManyFields => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "there are too many header fields"),
        TargetError::FieldTooLong => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "a header field is too long"),
        TargetError::TooLong => (StatusCode::URI_TOO_LONG, "the request target is too long"),
        TargetError::HostMissing
        | TargetError::HostRepeated
        | TargetError::HostMalformed
        | TargetError::HostDiffers => (StatusCode::BAD_REQUEST, "there must be one well-formed host"),
        TargetError::Malformed => (StatusCode::BAD_REQUEST, "the request target is malformed"),
        TargetError::AmbiguousPath => (StatusCode::BAD_REQUEST, "the path can be read in more than one way"),
        TargetError::TransferEncoding => (StatusCode::BAD_REQUEST, "only one transfer coding, chunked, is accepted"),
    }
}

fn handshake_status(error: HandshakeError) -> (StatusCode, &'static str) {
    match error {
        HandshakeError::Method => (StatusCode::BAD_REQUEST, "a WebSocket is asked for by GET"),
        HandshakeError::Connection => (StatusCode::BAD_REQUEST, "`Connection` must name `upgrade`"),
        HandshakeError::VersionMissing => (StatusCode::BAD_REQUEST, "there must be one `Sec-WebSocket-Version`"),
        HandshakeError::Version => (StatusCode::UPGRADE_REQUIRED, "the version of the protocol must be 13"),
        HandshakeError::Key => (StatusCode::BAD_REQUEST, "there must be one `Sec-WebSocket-Key` of 16 bytes"),
        HandshakeError::Body => (StatusCode::BAD_REQUEST, "a request for a WebSocket has no body"),
    }
}

/// 502: it answered wrongly or not at all; 503: there was no room; 504: it was too slow.
fn upstream_status(failure: &UpstreamFailure) -> (StatusCode, &'static str) {
    match failure {
        UpstreamFailure::QueueTimeout => (StatusCode::SERVICE_UNAVAILABLE, "no connection to the upstream became free"),
        UpstreamFailure::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, "too many requests wait already"),
        UpstreamFailure::BreakerOpen { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "the upstream fails, and is left alone for a moment")
        }
        UpstreamFailure::Unresolved => (StatusCode::SERVICE_UNAVAILABLE, "the upstream has not been found yet"),
        UpstreamFailure::Connect(_) => (StatusCode::BAD_GATEWAY, "the upstream could not be reached"),
        UpstreamFailure::Tls(_) => (StatusCode::BAD_GATEWAY, "the upstream could not be reached securely"),
        UpstreamFailure::ConnectTimeout => (StatusCode::GATEWAY_TIMEOUT, "connecting to the upstream took too long"),
        UpstreamFailure::Closed(_) | UpstreamFailure::PacketRefused { .. } => {
            (StatusCode::BAD_GATEWAY, "the upstream closed without a response")
        }
        UpstreamFailure::Malformed(_) => (StatusCode::BAD_GATEWAY, "the upstream's response was malformed"),
        UpstreamFailure::Switch(_) => (StatusCode::BAD_GATEWAY, "the upstream did not agree to a WebSocket"),
        UpstreamFailure::ResponseTimeout => (StatusCode::GATEWAY_TIMEOUT, "the upstream did not respond in time"),
        UpstreamFailure::HeadTooLarge => {
            (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the header fields are too large for the upstream")
        }
        UpstreamFailure::LengthRequired => {
            (StatusCode::LENGTH_REQUIRED, "the length of the request body must be known")
        }
        UpstreamFailure::RequestBody => (StatusCode::BAD_REQUEST, "the request body broke off"),
    }
}

fn denied_status(kind: Kind) -> StatusCode {
    match kind {
        Kind::Missing | Kind::InvalidToken | Kind::InvalidProof | Kind::NonceNeeded => StatusCode::UNAUTHORIZED,
        Kind::BadRequest => StatusCode::BAD_REQUEST,
        Kind::InsufficientScope | Kind::Forbidden | Kind::CrossOrigin | Kind::BadLink => StatusCode::FORBIDDEN,
        Kind::ExpiredLink => StatusCode::GONE,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// ERROR is for what someone must act on; an upstream that fails is a warning; what clients do is no event of ours.
fn log(failure: &Failure) {
    match failure {
        Failure::Panicked
        | Failure::Unsigned(_)
        | Failure::Files(FilesError::Io(_))
        | Failure::Spool(SpoolError::Io(_) | SpoolError::Stalled)
        | Failure::BodyLost => {
            tracing::error!(error = %Chain(failure), "request failed inside the gateway");
        }
        // The breaker has said once that it is open.
        Failure::Upstream(
            UpstreamFailure::HeadTooLarge | UpstreamFailure::LengthRequired | UpstreamFailure::BreakerOpen { .. },
        ) => {
            tracing::debug!(error = %Chain(failure), "request refused");
        }
        Failure::Spool(SpoolError::Full(_)) => tracing::warn!(error = %Chain(failure), "request body refused"),
        Failure::Upstream(error) => tracing::warn!(error = %Chain(error), "upstream failed"),
        Failure::Handout(error) => tracing::warn!(error = %Chain(error), "a file was not handed out"),
        Failure::Denied(denied) | Failure::LoginNeeded { denied, .. } => {
            tracing::debug!(cause = %denied.cause(), "denied");
        }
        _ => tracing::debug!(error = %Chain(failure), "request refused"),
    }
}

/// RFC 6750 section 3: the challenge, with an error code only where credentials were presented.
fn refuse(denied: &Denied) -> Response<Body> {
    let status = match denied.style() {
        Style::Drf if denied.kind() == Kind::BadRequest => StatusCode::UNAUTHORIZED, // as `AuthenticationFailed` answers there
        _ => denied_status(denied.kind()),
    };
    let mut response = match denied.style() {
        Style::Drf => answer(status, JSON, drf_body(denied)),
        Style::Problem => problem(status, denied_detail(denied.kind())),
    };
    // DRF names a challenge on 401 only; RFC 6750 section 3.1 has one on 400 and 403 too. Where no token would help there is none.
    let token_would_help =
        !matches!(denied.kind(), Kind::CrossOrigin | Kind::BadLink | Kind::ExpiredLink | Kind::Unavailable);
    if token_would_help && (denied.style() == Style::Problem || status == StatusCode::UNAUTHORIZED) {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge(denied));
    }
    if let Some(nonce) = denied.nonce() {
        response.headers_mut().insert(DPOP_NONCE, HeaderValue::from_str(nonce).expect("base64url is visible ASCII"));
    }
    if denied.kind() == Kind::Unavailable {
        response.headers_mut().insert(RETRY_AFTER, KEYS_RETRY_SECS);
    }
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// RFC 6585 section 4, in the problem type of draft-ietf-httpapi-ratelimit-headers-11 section 4.1 or as DRF words it.
fn push_back(excess: &Excess) -> Response<Body> {
    let status = StatusCode::TOO_MANY_REQUESTS;
    let mut response = match (&excess.name, excess.style) {
        (_, Style::Drf) => answer(status, JSON, drf_throttled(excess.secs)),
        (None, Style::Problem) => problem(status, "there were too many requests"),
        (Some(name), Style::Problem) => {
            let body = format!(
                "{{\"type\":\"{QUOTA_EXCEEDED}\",\"title\":\"Too Many Requests\",\"status\":429,\
                 \"detail\":\"there were too many requests\",\"violated-policies\":[\"{name}\"]}}\n"
            );
            answer(status, PROBLEM, body)
        }
    };
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(excess.secs));
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

/// Sends a browser to log in. 303: whatever the method was, the login page is fetched by GET.
fn log_in(location: &HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, location.clone());
    response.headers_mut().insert(CACHE_CONTROL, NO_STORE);
    response
}

fn denied_detail(kind: Kind) -> &'static str {
    match kind {
        Kind::Missing => "a bearer token is needed",
        Kind::BadRequest => "the credentials are malformed",
        Kind::InvalidToken => "the bearer token is not valid here",
        Kind::InvalidProof => "the proof of possession is not valid",
        Kind::NonceNeeded => "the proof of possession needs the nonce of this answer",
        Kind::InsufficientScope => "the bearer token has not the scope that is needed",
        Kind::Forbidden => "the bearer token does not permit this",
        Kind::BadLink => "a link that is valid here is needed",
        Kind::ExpiredLink => "the link has expired",
        Kind::CrossOrigin => "the request was sent by another site",
        Kind::Unavailable => "tokens cannot be verified at the moment",
    }
}

fn challenge(denied: &Denied) -> HeaderValue {
    let realm = denied.realm().replace(['"', '\\'], "");
    let code = match (denied.style(), denied.kind()) {
        (Style::Drf, _)
        | (_, Kind::Missing | Kind::CrossOrigin | Kind::BadLink | Kind::ExpiredLink | Kind::Unavailable) => "",
        (_, Kind::BadRequest) => ", error=\"invalid_request\"",
        (_, Kind::InvalidToken) => ", error=\"invalid_token\"",
        (_, Kind::InvalidProof) => ", error=\"invalid_dpop_proof\"",
        (_, Kind::NonceNeeded) => ", error=\"use_dpop_nonce\"",
        (_, Kind::InsufficientScope | Kind::Forbidden) => ", error=\"insufficient_scope\"",
    };
    let scope = denied.scope().map(|scope| format!(", scope=\"{scope}\"")).unwrap_or_default();
    let metadata = denied.resource_metadata().map(|url| format!(", resource_metadata=\"{url}\"")).unwrap_or_default();
    let scheme = denied.scheme();
    let algorithms = if scheme == "DPoP" { DPOP_ALGORITHMS } else { "" };
    HeaderValue::from_str(&format!("{scheme} realm=\"{realm}\"{code}{scope}{metadata}{algorithms}"))
        .unwrap_or(HeaderValue::from_static("Bearer realm=\"portcullis\""))
}

/// The answer to a head that is over its limit and was not read, where the parser is not hyper's.
pub(super) fn head_too_large() -> Response<Body> {
    problem(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the request head is too large")
}

/// RFC 9110 section 15.2.1: the body is wanted.
pub(super) fn go_on() -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::CONTINUE;
    response
}

/// An RFC 9457 problem.
pub(super) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let body = format!(
        "{{\"type\":\"about:blank\",\"title\":\"{title}\",\"status\":{},\"detail\":\"{detail}\"}}\n",
        status.as_u16()
    );
    answer(status, PROBLEM, body)
}

fn answer(status: StatusCode, content_type: HeaderValue, body: impl Into<bytes::Bytes>) -> Response<Body> {
    let mut response = Response::new(Body::full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

fn allow_value(allow: &[Method]) -> HeaderValue {
    let names: Vec<_> = allow.iter().map(Method::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).expect("method names are tokens")
}

/// What every answer carries: the request id, the route's own fields, what the listener says of TLS, and `Connection: close` where no
/// other request may follow. With all that said, it is compressed if it is to be.
pub(super) fn finish(response: &mut Response<Body>, notes: &Notes, version: Version, connection: &Connection) {
    let headers = response.headers_mut();
    // What a refusal says of caches holds against the route: an answer to one client's credentials is no other's.
    let said = headers.get(CACHE_CONTROL).cloned();
    let compressing = notes.write(|story| {
        if let Some(id) = &story.request_id {
            headers.insert(REQUEST_ID, id.clone());
        }
        if let Some(route) = &story.route {
            set_fields(headers, route);
            if let Some(cors) = &route.cors {
                cors.show(headers, story.shown_to.as_ref());
            }
            if let Some(left) = &story.left {
                throttle::tell(headers, route, left);
            }
        }
        if let Some(said) = said.filter(|_| story.outcome != "ok") {
            headers.insert(CACHE_CONTROL, said);
        }
        if story.private {
            keep_private(headers);
        } else if story.personal {
            keep_from_shared(headers);
        }
        story.wanted.take().and_then(|wanted| Some((wanted, story.route.clone()?)))
    });
    if let Some((wanted, route)) = compressing {
        compress::answer(response, &wanted, &route);
    }
    if let Some(hsts) = &connection.hsts {
        // One for all hosts: what an upstream says is about itself alone.
        response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if version < Version::HTTP_2 && connection.worker.drain.started() && !switches {
        close(response.headers_mut());
    }
}

/// The configuration's word goes before the upstream's, and the upstream's before a preset's.
fn set_fields(headers: &mut HeaderMap, route: &Route) {
    for (name, value) in &route.response_headers {
        headers.insert(name, value.clone());
    }
    for (name, value) in &route.default_headers {
        if !headers.contains_key(name) {
            headers.insert(name, value.clone());
        }
    }
}

/// RFC 6750 section 2.3: what was asked for with a token in the URL is in no shared cache. `private="..."` is about single fields and
/// closes nothing (RFC 9111 section 5.2.2.7), and a name in a quoted string is no directive.
fn keep_private(headers: &mut HeaderMap) {
    if !directs(headers, closes) {
        headers.insert(CACHE_CONTROL, PRIVATE);
    }
}

/// A token in a cookie is kept from shared caches as one in `Authorization` is: RFC 9111 section 3.5 has the three directives that
/// open them.
fn keep_from_shared(headers: &mut HeaderMap) {
    let opens = |directive: &[u8]| {
        let name = directive.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii_end();
        [&b"public"[..], b"s-maxage", b"must-revalidate"].iter().any(|opening| name.eq_ignore_ascii_case(opening))
    };
    if !directs(headers, |directive| closes(directive) || opens(directive)) {
        headers.append(CACHE_CONTROL, PRIVATE);
    }
}

fn closes(directive: &[u8]) -> bool {
    directive.eq_ignore_ascii_case(b"private") || directive.eq_ignore_ascii_case(b"no-store")
}

/// Whether a directive of `Cache-Control` is as `wanted`.
pub(super) fn directs(headers: &HeaderMap, wanted: impl Fn(&[u8]) -> bool) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let unquoted = value.as_bytes().split(|byte| *byte == b'"').step_by(2).collect::<Vec<_>>().join(&b'"');
        unquoted.split(|byte| *byte == b',').any(|directive| wanted(directive.trim_ascii()))
    })
}

/// Ends the connection after this answer. RFC 9113 section 8.2.2 knows no such field, so it is for HTTP/1 only.
pub(super) fn close(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, CLOSE);
}
