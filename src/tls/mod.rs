//! TLS: certificates, server names and handshakes with a deadline.

mod settings;

pub use settings::*;
