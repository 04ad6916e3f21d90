//! What `config::compile` hands to this room: where to listen, and what one client may take.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::client::ClientAddr;

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

/// Bounds on what one client takes of what all share; 0 is no bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardSettings {
    /// Connections that one client may have open.
    pub connections: u32,
    /// Handshakes a second of one client.
    pub handshakes_each: u32,
    /// Handshakes a second of all clients together.
    pub handshakes_all: u32,
    /// Who stands for many clients, and has no bounds of its own.
    pub exempt: Vec<IpNet>,
}

impl GuardSettings {
    pub(super) fn is_exempt(&self, client: ClientAddr) -> bool {
        self.exempt.iter().any(|network| network.contains(&client.ip()))
    }
}

impl Default for GuardSettings {
    fn default() -> Self {
        // A tenth of the places of the process; browsers keep one connection, or six over HTTP/1.1.
        Self { connections: 2048, handshakes_each: 0, handshakes_all: 0, exempt: Vec::new() }
    }
}
