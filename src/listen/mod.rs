//! Listening: bound sockets and an accept loop that never ends.

mod settings;

pub use settings::*;
