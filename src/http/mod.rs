//! HTTP correctness, without policy: targets, framing, hop-by-hop fields, the trust boundary, preconditions, other origins, content
//! codings, bodies and WebSockets.

pub mod accept;
mod body;
pub mod boundary;
mod client_body;
pub mod coding;
pub mod compress;
pub mod conditional;
pub mod cors;
mod field;
mod forwarded;
mod framing;
pub mod grpc;
pub mod handout;
pub mod hop;
mod http2_budget;
pub mod http3;
mod inbound;
mod media_type;
mod spool;
mod target;
pub mod websocket;

pub use body::{Body, BodyError};
pub use boundary::{Boundary, Client};
pub use client_body::{ClientBody, Cut};
pub use field::{own_name, own_value};
pub use framing::{Framing, Violation};
pub use http2_budget::Http2Budget;
pub use inbound::{BodyWatch, Fate, InboundError, Live, Pace, RequestBody};
pub use media_type::is_event_stream;
pub use spool::{Backlog, Spill, Spilled, Spool, SpoolError, SpoolSettings, SpoolUsage, check_spool_directory};
pub use target::{Target, TargetError};
