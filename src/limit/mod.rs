//! Rate limits: how many requests may come from one client, one token or one header field's value, or through one route.
//!
//! Owns the counting and nothing else: which requests are counted where, and what a refusal looks like, is `serve`'s to say. A limit is one
//! for the process: the workers share its counts. It holds a fixed amount of memory whatever is counted, takes no lock, and forgets the
//! keys that have used least when it is full. Time is an argument. Limits that are shared are counted by all gateways together, in Redis, as
//! long as it answers.

mod fleet;
mod gcra;
mod key;
mod limiter;
mod settings;
mod table;

pub use fleet::{Fleet, Question};
pub use gcra::{Decision, Quota, Remaining};
pub use key::Key;
pub use limiter::{Account, Limiter};
pub use settings::*;
