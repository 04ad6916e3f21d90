//! Who connected, proven: only this room makes a `ClientAddr`, from what the kernel says, or a relay that may.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// The address of a connection's other end. An IPv4 client of a dual-stack socket is an IPv4 client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddr(SocketAddr);

impl ClientAddr {
    pub(super) fn of_peer(peer: SocketAddr) -> Self {
        Self(SocketAddr::new(peer.ip().to_canonical(), peer.port()))
    }

    /// The address without its port.
    pub fn ip(self) -> IpAddr {
        self.0.ip()
    }

    /// The port on the client's side.
    pub fn port(self) -> u16 {
        self.0.port()
    }

    /// Both.
    pub fn socket(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for ClientAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_ipv4_client_is_an_ipv4_client() {
        let client = ClientAddr::of_peer("[::ffff:192.0.2.7]:4242".parse().unwrap());
        assert_eq!(client.to_string(), "192.0.2.7:4242");
        assert_eq!(client.ip(), IpAddr::from([192, 0, 2, 7]));
        assert_eq!(ClientAddr::of_peer("[2001:db8::1]:1".parse().unwrap()).to_string(), "[2001:db8::1]:1");
    }
}
