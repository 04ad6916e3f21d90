//! Why an upstream gave no response: one variant a stage, so that the answer and the metric say which one failed.

use std::io;

use crate::http::websocket::SwitchError;
use crate::observe::UpstreamFailure as Stage;

/// Why no response came. Whose fault it is shows in the variant: [`Self::RequestBody`] is the client's, all others the upstream's.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFailure {
    /// Every connection was busy for longer than `queue_timeout_secs`.
    #[error("no free connection to the upstream in time")]
    QueueTimeout,
    /// As many requests waited for a connection as `queue` allows.
    #[error("too many requests wait for the upstream")]
    QueueFull,
    /// Too many requests to the upstream failed, and for so long nothing is sent to it.
    #[error("breaker of the upstream is open")]
    BreakerOpen {
        /// Seconds until it is tried again.
        secs: u32,
    },
    /// Its endpoints are found by a name, and none has been found yet.
    #[error("no address is known of the upstream's name: it does not resolve")]
    Unresolved,
    /// The endpoint could not be dialled.
    #[error("could not connect to the upstream")]
    Connect(#[source] io::Error),
    /// The endpoint is not who it must be, or TLS failed with it otherwise.
    #[error("tls with the upstream failed")]
    Tls(#[source] io::Error),
    /// Dialling took longer than `connect_timeout_secs`.
    #[error("connecting to the upstream took too long")]
    ConnectTimeout,
    /// The connection ended before a response head.
    #[error("upstream closed the connection without a response")]
    Closed(#[source] Option<hyper::Error>),
    /// The same, and a likely reason: uWSGI reads no packet that is larger than its `buffer-size`, 4096 bytes where it is left alone.
    #[error("upstream closed the connection after a uwsgi packet of {bytes} bytes: raise its `buffer-size`")]
    PacketRefused {
        /// The packet's length.
        bytes: usize,
    },
    /// What came back is not one unambiguous HTTP/1.1 response.
    #[error("upstream sent a malformed response")]
    Malformed(#[source] Option<hyper::Error>),
    /// It answered a request for a WebSocket with another switch, or with a success that is none.
    #[error("upstream did not agree to a WebSocket")]
    Switch(#[source] SwitchError),
    /// No response head within `response_timeout_secs`.
    #[error("upstream sent no response in time")]
    ResponseTimeout,
    /// The request's head has more than the 65,535 bytes that a uwsgi packet may have.
    #[error("request head is too large for a uwsgi packet")]
    HeadTooLarge,
    /// The endpoint must be told the body's length, and nobody knows it.
    #[error("request body has no known length")]
    LengthRequired,
    /// The request's own body failed while it was forwarded.
    #[error("request body failed")]
    RequestBody,
}

impl UpstreamFailure {
    /// The stage that failed, for metrics; `None` where the endpoint did nothing wrong.
    pub fn stage(&self) -> Option<Stage> {
        Some(match self {
            Self::QueueTimeout => Stage::QueueTimeout,
            Self::QueueFull => Stage::QueueFull,

            Self::Unresolved | Self::Connect(_) => Stage::Refused,
            Self::Tls(_) => Stage::Tls,
            Self::ConnectTimeout => Stage::ConnectTimeout,
            Self::Closed(_) | Self::PacketRefused { .. } => Stage::Reset,
            Self::Malformed(_) | Self::Switch(_) => Stage::Malformed,
            Self::ResponseTimeout => Stage::ResponseTimeout,
            Self::BreakerOpen { .. } | Self::HeadTooLarge | Self::LengthRequired | Self::RequestBody => return None,
        })
    }

    /// Whether it speaks against the endpoint. `sent` is whether all of the request's body was: before that it may be the client that
    /// was waited for, or what it sent that the endpoint did not want.
    pub(super) fn speaks_against_endpoint(&self, sent: bool) -> bool {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::ConnectTimeout | Self::Malformed(_) => true,
            Self::Closed(_) | Self::ResponseTimeout => sent,
            Self::QueueTimeout
            | Self::QueueFull
            | Self::BreakerOpen { .. }
            | Self::Unresolved
            | Self::PacketRefused { .. }
            | Self::Switch(_)
            | Self::HeadTooLarge
            | Self::LengthRequired
            | Self::RequestBody => false,
        }
    }

    /// A short stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::QueueTimeout => "upstream_queue_timeout",
            Self::QueueFull => "upstream_queue_full",
            Self::BreakerOpen { .. } => "upstream_breaker_open",
            Self::Unresolved => "upstream_unresolved",
            Self::Connect(_) => "upstream_connect",
            Self::Tls(_) => "upstream_tls",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::Closed(_) => "upstream_closed",
            Self::PacketRefused { .. } => "upstream_packet_refused",
            Self::Malformed(_) => "upstream_malformed",
            Self::Switch(_) => "upstream_switch",
            Self::ResponseTimeout => "upstream_response_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::LengthRequired => "length_required",
            Self::RequestBody => "request_body",
        }
    }
}

/// Why a response body broke off after its head was forwarded. The client sees an aborted body, never a clean end.
#[derive(Debug, thiserror::Error)]
pub enum BodyFailure {
    /// The upstream closed before its message was complete.
    #[error("upstream broke off its response")]
    Truncated(#[source] hyper::Error),
    /// Nothing came for longer than `read_timeout_secs`.
    #[error("upstream stalled in its response")]
    ReadTimeout,
}

impl BodyFailure {
    /// The stage that failed, for metrics.
    pub fn stage(&self) -> Stage {
        match self {
            Self::Truncated(_) => Stage::Reset,
            Self::ReadTimeout => Stage::ReadTimeout,
        }
    }

    /// A short stable name for logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Truncated(_) => "upstream_truncated",
            Self::ReadTimeout => "upstream_read_timeout",
        }
    }
}
