//! Loopback ports that nobody else gets while a test uses them.

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};

/// A port of 127.0.0.1, kept by a socket that is bound and never listens: the kernel gives it to nobody else, and whoever
/// binds it with `SO_REUSEADDR` or `SO_REUSEPORT` may.
#[derive(Debug)]
pub struct Port {
    pub address: SocketAddr,
    _reserved: Socket,
}

impl Port {
    pub fn reserve() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.set_reuse_port(true).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, _reserved: socket }
    }
}
