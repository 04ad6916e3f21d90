//! HTTP vocabulary shared by every stage: correctness of messages, no policy.

mod body;

pub use body::{Body, BodyError};
