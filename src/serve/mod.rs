//! Serving one connection: limits, dispatch and answers.
//!
//! The request path is `dispatch`; the order of layers around it and its reasons are in `connection`. Owns HTTP towards the
//! client. Refuses to know how a snapshot is made.

mod account;
mod act;
mod activity;
mod calls;
mod compress;
mod connection;
mod context;
mod dispatch;
mod driver;
#[cfg(test)]
mod endless;
mod failure;
mod grpc;
mod guarded;
mod handout;
mod http3;
mod ids;
mod interim;
mod lapse;
mod pages;
mod panics;
mod passage;
mod piece;
mod places;
mod preflight;
mod publish;
mod record;
mod redirect;
mod respond;
mod settings;
mod streams;
mod throttle;
mod tunnel;
mod unread;
mod upgrade;

pub use connection::{Accepted, serve_connection};
pub use context::Worker;
pub use http3::{serve_http3, transport};
pub use ids::RequestIds;
pub use places::Places;
pub use settings::*;
pub use throttle::{RouteLimit, RouteLimits};

use crate::http::{TargetError, Violation};

/// Bytes of a request or a response held for one connection in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
/// What one stream of HTTP/2 or HTTP/3 may send ahead of us, and all streams of a connection together.
const WINDOW_BYTES: u32 = 64 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The header count for which hyper's parser needs no allocation.
const HYPER_HEADER_FIELDS: usize = 100;
/// The reason of a request that the parser refused.
const PARSE_REASON: &str = "unparsable";

/// Every reason for which a request may be called malformed, for metrics.
pub const MALFORMED_REASONS: [&str; TargetError::REASONS.len() + Violation::REASONS.len() + 1] = malformed_reasons();

const fn malformed_reasons() -> [&'static str; TargetError::REASONS.len() + Violation::REASONS.len() + 1] {
    let mut all = [PARSE_REASON; TargetError::REASONS.len() + Violation::REASONS.len() + 1];
    let mut at = 0;
    while at < all.len() - 1 {
        let targets = TargetError::REASONS.len();
        all[at] = if at < targets { TargetError::REASONS[at] } else { Violation::REASONS[at - targets] };
        at += 1;
    }
    all
}
