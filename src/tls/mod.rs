//! TLS: certificates, server names and handshakes with a deadline.
//!
//! Owns everything between an accepted socket and its plain bytes: which certificate a server name gets (RFC 6066
//! section 3), which protocol the two sides agree on (RFC 7301), how long they may take, and whether the client has a
//! certificate (RFC 8705). Refuses to know where certificate files live and what is said over the stream afterwards.

mod acceptor;
mod certificate;
mod clients;
pub mod development;
mod kit;
mod quic;
mod resolver;
mod settings;
#[cfg(test)]
mod testing;

pub use acceptor::{Acceptor, Handshake, HandshakeError, Part, TlsProblem};
pub use certificate::{CertInfo, is_development};
pub use resolver::Coverage;
pub use settings::*;
