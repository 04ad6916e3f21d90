//! HTTP correctness, without policy: targets, framing, hop-by-hop fields, the trust boundary, preconditions and bodies.

mod body;
pub mod boundary;
pub mod conditional;
mod framing;
pub mod http3;
pub mod hop;
mod inbound;
mod target;

pub use body::{Body, BodyError};
pub use boundary::{Boundary, Client};
pub use framing::{Framing, Violation};
pub use inbound::{BodyWatch, Fate, InboundError, Live, RequestBody};
pub use target::{Target, TargetError};
