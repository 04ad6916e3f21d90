//! How a gRPC client is told what failed: in the trailers, because its library looks at nothing else.
//!
//! Answers for the gRPC protocol's "Responses" (PROTOCOL-HTTP2) and its mapping from HTTP statuses. The only place that knows which code
//! a failure has; what is said of it is what [`super::respond`] says to everybody.

use http::Response;
use http::header::{CONTENT_TYPE, HeaderMap, LOCATION};

use super::calls::CallTimeout;
use super::failure::Failure;
use super::lapse::Lapsed;
use super::respond::detail;
use crate::auth::Kind;
use crate::files::FilesError;
use crate::http::grpc::{Code, MEDIA_TYPE};
use crate::http::{Body, BodyError, SpoolError, TargetError};
use crate::route::RouteError;
use crate::upstream::UpstreamFailure;

/// A failure's answer as "Trailers-Only": the outcome stands in the head, which is all there is. What else the head said stays, the
/// challenge above all. `rescued` is the answer for everybody else.
pub(super) fn trailers_only(failure: &Failure, rescued: Response<Body>) -> Response<Body> {
    let mut answer = Response::new(Body::empty());
    let headers = answer.headers_mut();
    *headers = rescued.into_parts().0.headers;
    headers.remove(LOCATION);
    headers.insert(CONTENT_TYPE, MEDIA_TYPE);
    code(failure).tell(detail(failure), headers);
    answer
}

/// The trailers of an answer that broke off, maybe because the request's body failed. Without them a client would take the end of the
/// stream for a fault of its own library.
pub(super) fn broken_off(error: &BodyError, body: Option<&Failure>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if let Some(failure) = body {
        code(failure).tell(detail(failure), &mut trailers);
    } else if error.is::<CallTimeout>() {
        Code::DeadlineExceeded.tell(detail(&Failure::CallTimeout), &mut trailers);
    } else if error.is::<Lapsed>() {
        Code::Unauthenticated.tell("the bearer token is not valid any more", &mut trailers);
    } else {
        Code::Unavailable.tell("the upstream broke off its answer", &mut trailers);
    }
    trailers
}

/// The number of what a client makes of an answer that tells it nothing.
pub(super) fn untold(outcome: &str) -> usize {
    let code = if outcome == "client_gone" { Code::Cancelled } else { Code::Unknown };
    code as usize
}

/// One row a variant: no row may be missing. Where the protocol's mapping from HTTP has an answer, it is that one; where it says no more
/// than UNKNOWN, the meaning decides.
fn code(failure: &Failure) -> Code {
    match failure {
        Failure::Target(error) => target_code(*error),
        // A method that a server does not have; the protocol maps 404 to it.
        Failure::Route(RouteError::NotFound | RouteError::UnknownHost | RouteError::MethodNotAllowed { .. })
        | Failure::Files(FilesError::NotFound | FilesError::MethodNotAllowed)
        | Failure::ReadOnly => Code::Unimplemented,
        Failure::Denied(denied) | Failure::LoginNeeded { denied, .. } => denied_code(denied.kind()),
        Failure::Files(FilesError::PreconditionFailed) | Failure::PreconditionFailed => Code::FailedPrecondition,
        Failure::Files(FilesError::RangeNotSatisfiable { .. }) => Code::OutOfRange,
        Failure::Upstream(failure) => upstream_code(failure),
        Failure::BodyTooLarge => Code::ResourceExhausted,
        // On another connection, in a moment, or once there is room, the call may pass.
        Failure::Misdirected
        | Failure::NoPlace(_)
        | Failure::RateLimited(_)
        | Failure::BodyTooSlow
        | Failure::Spool(SpoolError::Full(_) | SpoolError::Stalled) => Code::Unavailable,
        Failure::OriginRefused => Code::PermissionDenied,
        Failure::CallTimeout => Code::DeadlineExceeded,
        Failure::ClientGone => Code::Cancelled,
        Failure::BadCallTimeout(_)
        | Failure::Handshake(_)
        | Failure::HastyClient
        | Failure::BodyMalformed
        | Failure::BodyLost
        | Failure::Spool(SpoolError::Io(_))
        | Failure::Files(FilesError::Io(_))
        | Failure::Handout(_)
        | Failure::Unsigned(_)
        | Failure::Panicked => Code::Internal,
    }
}

fn target_code(error: TargetError) -> Code {
    match error {
        TargetError::MethodNotSupported | TargetError::ProtocolNotSupported => Code::Unimplemented,
        TargetError::TooManyFields | TargetError::FieldTooLong | TargetError::TooLong => Code::ResourceExhausted,
        TargetError::HostMissing
        | TargetError::HostRepeated
        | TargetError::HostMalformed
        | TargetError::HostDiffers
        | TargetError::Malformed
        | TargetError::AmbiguousPath
        | TargetError::TransferEncoding => Code::Internal,
    }
}

/// 502, 503 and 504 are one to a gRPC client: it may try again.
fn upstream_code(failure: &UpstreamFailure) -> Code {
    match failure {
        UpstreamFailure::QueueTimeout
        | UpstreamFailure::QueueFull
        | UpstreamFailure::BreakerOpen { .. }
        | UpstreamFailure::Unresolved
        | UpstreamFailure::Connect(_)
        | UpstreamFailure::Tls(_)
        | UpstreamFailure::ConnectTimeout
        | UpstreamFailure::Closed(_)
        | UpstreamFailure::PacketRefused { .. }
        | UpstreamFailure::Switch(_)
        | UpstreamFailure::Malformed(_)
        | UpstreamFailure::ResponseTimeout => Code::Unavailable,
        UpstreamFailure::HeadTooLarge => Code::ResourceExhausted,
        UpstreamFailure::LengthRequired | UpstreamFailure::RequestBody => Code::Internal,
    }
}

/// Malformed credentials are no credentials: INTERNAL, which the protocol has for 400, would send the client's author after a bug.
fn denied_code(kind: Kind) -> Code {
    match kind {
        Kind::Missing | Kind::InvalidToken | Kind::InvalidProof | Kind::NonceNeeded | Kind::BadRequest => {
            Code::Unauthenticated
        }
        Kind::InsufficientScope | Kind::Forbidden | Kind::CrossOrigin | Kind::BadLink | Kind::ExpiredLink => {
            Code::PermissionDenied
        }
        Kind::Unavailable => Code::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::respond::rescue;

    #[test]
    fn a_failure_is_told_in_a_head_without_a_body_and_keeps_what_else_was_said() {
        let failure = Failure::Upstream(UpstreamFailure::QueueTimeout);
        let answer = trailers_only(&failure, rescue(&failure));
        assert!(http_body::Body::is_end_stream(answer.body()));
        assert_eq!(answer.status(), 200);
        let told =
            ["content-type", "grpc-status", "grpc-message", "retry-after"].map(|name| answer.headers()[name].clone());
        assert_eq!(told, ["application/grpc", "14", "no connection to the upstream became free", "1"]);
    }

    #[test]
    fn what_the_protocol_maps_from_a_status_is_told_so() {
        for (failure, code) in [
            (Failure::Route(RouteError::NotFound), Code::Unimplemented),
            (Failure::Target(TargetError::HostMissing), Code::Internal),
            (Failure::Target(TargetError::TooManyFields), Code::ResourceExhausted),
            (Failure::Upstream(UpstreamFailure::Closed(None)), Code::Unavailable),
            (Failure::Upstream(UpstreamFailure::ResponseTimeout), Code::Unavailable),
            (Failure::CallTimeout, Code::DeadlineExceeded),
            (Failure::BodyTooLarge, Code::ResourceExhausted),
            (Failure::ClientGone, Code::Cancelled),
        ] {
            assert_eq!(super::code(&failure), code, "{failure}");
        }
    }
}
