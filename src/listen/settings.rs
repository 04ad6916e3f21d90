//! What `config::compile` hands to this room: where to listen.

use std::net::SocketAddr;

/// One bound address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenSettings {
    /// The name of its `[listen.NAME]` table.
    pub name: Box<str>,
    /// The address to bind.
    pub address: SocketAddr,
    /// Connections waiting to be accepted, per worker.
    pub backlog: u32,
}
