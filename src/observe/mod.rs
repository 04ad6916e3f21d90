//! What operators see: metrics, logs and the admin listener.

mod settings;

pub use settings::*;
