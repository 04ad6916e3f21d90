//! Upstreams: pools of leased connections and forwarding.

mod settings;

pub use settings::*;
