//! Every way a request can get no normal answer: one variant a stage, gathered in one enum.
//!
//! Refuses to know how any of them is answered; that is [`super::respond`].

use http::HeaderValue;

use super::handout::BadHandout;
use super::places::NoPlace;
use super::throttle::Excess;
use crate::auth::{Denied, Unsigned};
use crate::files::FilesError;
use crate::http::grpc::BadTimeout;
use crate::http::websocket::HandshakeError;
use crate::http::{Fate, SpoolError, TargetError};
use crate::route::RouteError;
use crate::upstream::UpstreamFailure;

/// Why there is no normal answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("the connection's certificate does not cover the host, another one does")]
    Misdirected,
    #[error(transparent)]
    Route(#[from] RouteError),
    #[error("a preflight of an origin that is not admitted")]
    OriginRefused,
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    RateLimited(Excess),
    #[error("{denied}")]
    LoginNeeded { denied: Denied, location: HeaderValue },
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Handout(#[from] BadHandout),
    #[error("a document is read, by GET or HEAD")]
    ReadOnly,
    #[error("a precondition on a document failed")]
    PreconditionFailed,
    #[error(transparent)]
    Unsigned(#[from] Unsigned),
    #[error(transparent)]
    Upstream(UpstreamFailure),
    #[error("request is for a WebSocket and is none")]
    Handshake(#[from] HandshakeError),
    #[error("client sent something before its tunnel was open")]
    HastyClient,
    #[error(transparent)]
    NoPlace(#[from] NoPlace),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error("request body was lost before it was passed on")]
    BodyLost,
    #[error("request body is over the route's limit")]
    BodyTooLarge,
    #[error("client sent its body too slowly")]
    BodyTooSlow,
    #[error("request body is malformed")]
    BodyMalformed,
    #[error(transparent)]
    BadCallTimeout(#[from] BadTimeout),
    #[error("the call's own deadline passed before an answer")]
    CallTimeout,
    #[error("client left before its request was complete")]
    ClientGone,
    #[error("request handling panicked")]
    Panicked,
}

impl Failure {
    /// An upstream failure is the client's if the request's body was.
    pub(super) fn of_upstream(failure: UpstreamFailure, body: Fate) -> Self {
        match failure {
            UpstreamFailure::RequestBody => Self::of_body(body).unwrap_or(Self::ClientGone),
            failure => Self::Upstream(failure),
        }
    }

    /// How a request's body failed while its client was there.
    pub(super) fn of_body(fate: Fate) -> Option<Self> {
        match fate {
            Fate::TooLarge => Some(Self::BodyTooLarge),
            Fate::TooSlow => Some(Self::BodyTooSlow),
            Fate::Malformed => Some(Self::BodyMalformed),
            Fate::Lost => Some(Self::BodyLost),
            Fate::Streaming | Fate::Whole | Fate::Broken => None,
        }
    }

    /// A short stable name for the access log.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Target(error) => error.reason(),
            Self::Misdirected => "misdirected",
            Self::Route(RouteError::UnknownHost) => "unknown_host",
            Self::Route(RouteError::NotFound) => "no_route",
            Self::OriginRefused => "origin_refused",
            Self::Route(RouteError::MethodNotAllowed { .. })
            | Self::Files(FilesError::MethodNotAllowed)
            | Self::ReadOnly => "method_not_allowed",
            Self::Denied(denied) | Self::LoginNeeded { denied, .. } => denied.reason(),
            Self::RateLimited(_) => "rate_limited",
            Self::Files(FilesError::NotFound) => "file_not_found",
            Self::Files(FilesError::PreconditionFailed) | Self::PreconditionFailed => "precondition_failed",
            Self::Files(FilesError::RangeNotSatisfiable { .. }) => "range_not_satisfiable",
            Self::Files(FilesError::Io(_)) => "file_io",
            Self::Handout(_) => "bad_handout",
            Self::Unsigned(_) => "unsigned",
            Self::Upstream(failure) => failure.label(),
            Self::Handshake(_) => "websocket_handshake",
            Self::HastyClient => "websocket_early_bytes",
            Self::NoPlace(NoPlace::Never) => "tunnels_refused",
            Self::NoPlace(NoPlace::Full) => "tunnels_full",
            Self::NoPlace(NoPlace::Draining) => "draining",
            Self::Spool(SpoolError::Full(_)) => "spool_full",
            Self::Spool(SpoolError::Stalled) => "spool_stalled",
            Self::Spool(SpoolError::Io(_)) => "spool_io",
            Self::BodyLost => "spool_lost",
            Self::BodyTooLarge => "body_too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::BodyMalformed => "body_malformed",
            Self::BadCallTimeout(_) => "bad_call_timeout",
            Self::CallTimeout => "call_timeout",
            Self::ClientGone => "client_gone",
            Self::Panicked => "panic",
        }
    }
}
