//! Bound sockets: one for each worker, so that no two workers wait on one queue (`SO_REUSEPORT`).
//!
//! Owns socket options and what to tell an operator whose address can't be had. A socket handed over by systemd
//! (`LISTEN_FDS`), or by the gateway that this one replaces, is used in place of a bound one. Refuses to know what listens.
//!
//! `SO_REUSEPORT` has a price: a second gateway of the same user on the same address is no error, the kernel deals
//! connections to both. That is also what lets a new process take over before the old one drains.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::ListenSettings;

/// Binds one socket for each of `workers` to the same address. Port 0 is chosen by the first and shared by all.
pub fn bind_all(settings: &ListenSettings, workers: usize) -> Result<Vec<TcpListener>, BindError> {
    let mut address = settings.address;
    let mut listeners = Vec::with_capacity(workers);
    for _ in 0..workers {
        let listener = bind(address, settings.backlog).map_err(|source| BindError::new(settings, source))?;
        address = listener.local_addr().map_err(|source| BindError::new(settings, source))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} ([listen.{listener}]){}{}", if remedy.is_empty() { "" } else { "; " }, remedy)]
pub struct BindError {
    /// The `[listen.NAME]` table.
    pub listener: Box<str>,
    /// The address asked for.
    pub address: SocketAddr,
    /// What the operator can do; empty if nothing is known.
    pub remedy: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl BindError {
    pub(super) fn new(settings: &ListenSettings, source: io::Error) -> Self {
        let remedy = remedy(source.kind(), settings.address);
        Self { listener: settings.name.clone(), address: settings.address, remedy, source }
    }
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

/// TCP sockets that another process opened for this one: systemd, or the gateway before it.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<TcpListener>,
    /// They are those of another gateway: as many as it has workers, each with a queue of its own.
    all_count: bool,
}

impl Inherited {
    /// Takes them from the environment (`LISTEN_FDS`, `LISTEN_PID`). Call it once and before any thread is started: it
    /// clears those variables, so that child processes don't believe them.
    ///
    /// # Errors
    /// When a descriptor is no listening TCP socket.
    pub fn from_env() -> io::Result<Self> {
        let mut handed = listenfd::ListenFd::from_env();
        let mut sockets = Vec::with_capacity(handed.len());
        for index in 0..handed.len() {
            sockets.extend(handed.take_tcp_listener(index)?);
        }
        Ok(Self { sockets, all_count: false })
    }

    /// Those that the gateway before this one handed over.
    pub fn of_predecessor(sockets: Vec<TcpListener>) -> Self {
        Self { sockets, all_count: true }
    }

    /// The sockets for `settings`, at least one for each of `workers`, if its address is among those that are open.
    ///
    /// Copies of one socket share one queue: every worker wakes for every connection and the first takes it. Several
    /// sockets for one address (`ReusePort=yes`) are dealt out in turn.
    ///
    /// Of another gateway's sockets none is left out: the kernel goes on dealing connections to each, and resets those of a queue that
    /// nobody empties. If it had fewer workers, the others get sockets of their own.
    pub fn take(&mut self, settings: &ListenSettings, workers: usize) -> io::Result<Option<Vec<TcpListener>>> {
        let mut mine = self.at(settings.address);
        if mine.is_empty() {
            return Ok(None);
        }
        for socket in &mine {
            socket.set_nonblocking(true)?;
        }
        if self.all_count {
            for socket in &mine {
                listen(&SockRef::from(socket), settings.backlog)?; // it may be another number than before
            }
            // Refused if the first of them was opened without SO_REUSEPORT, by systemd.
            mine.extend((mine.len()..workers).map_while(|_| bind(settings.address, settings.backlog).ok()));
        }
        let count = workers.max(if self.all_count { mine.len() } else { 0 });
        mine.iter().cycle().take(count).map(TcpListener::try_clone).collect::<io::Result<_>>().map(Some)
    }

    /// The one socket at `address`, for what only one listens to.
    pub fn take_one(&mut self, address: SocketAddr) -> Option<TcpListener> {
        self.at(address).pop()
    }

    fn at(&mut self, address: SocketAddr) -> Vec<TcpListener> {
        let (mine, others) =
            self.sockets.drain(..).partition(|socket| socket.local_addr().is_ok_and(|at| at == address));
        self.sockets = others;
        mine
    }

    /// Addresses of sockets that no listener asked for: worth a warning.
    pub fn unclaimed(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `[::]` means every address, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    listen(&socket, backlog)?;
    Ok(socket.into())
}

fn listen(socket: &Socket, backlog: u32) -> io::Result<()> {
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))
}

fn remedy(kind: io::ErrorKind, address: SocketAddr) -> &'static str {
    match kind {
        io::ErrorKind::AddrInUse => {
            "another program listens there: stop it (ss -lntup shows it) or choose another port"
        }
        io::ErrorKind::PermissionDenied if address.port() < 1024 => {
            "ports below 1024 need CAP_NET_BIND_SERVICE: AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit"
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address; 0.0.0.0 or [::] stands for all of them",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn settings(address: &str) -> ListenSettings {
        ListenSettings { name: "https".into(), address: address.parse().unwrap(), backlog: 16 }
    }

    fn ports(listeners: &[TcpListener]) -> HashSet<u16> {
        listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect()
    }

    #[test]
    fn port_zero_is_chosen_once_and_shared_by_all_workers() {
        let listeners = bind_all(&settings("127.0.0.1:0"), 4).unwrap();
        assert_eq!(listeners.len(), 4);
        let ports = ports(&listeners);
        assert_eq!(ports.len(), 1);
        assert!(!ports.contains(&0));
    }

    #[test]
    fn a_listener_never_blocks() {
        let listeners = bind_all(&settings("127.0.0.1:0"), 1).unwrap();
        assert_eq!(listeners[0].accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn an_unspecified_ipv6_address_takes_ipv4_clients_too() {
        // Machines without IPv6 have nothing to prove here.
        let Ok(listeners) = bind_all(&settings("[::]:0"), 1) else { return };
        let port = listeners[0].local_addr().unwrap().port();
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn an_address_in_use_is_named_with_its_remedy() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = bind_all(&settings(&address.to_string()), 2).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with(&format!("cannot listen on {address} ([listen.https]); another program")),
            "{message}"
        );
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_of_another_machine_is_told_apart() {
        let error = bind_all(&settings("192.0.2.1:0"), 1).unwrap_err();
        assert!(error.to_string().contains("no such address"));
    }

    #[test]
    fn only_low_ports_are_blamed_on_the_capability() {
        let denied = |port| remedy(io::ErrorKind::PermissionDenied, SocketAddr::from(([0, 0, 0, 0], port)));
        assert!(denied(443).contains("CAP_NET_BIND_SERVICE"));
        assert_eq!(denied(8443), "");
    }

    #[test]
    fn inherited_sockets_are_matched_by_address_and_shared_among_workers() {
        let handed = TcpListener::bind("127.0.0.1:0").unwrap();
        let stray = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, stray_at) = (handed.local_addr().unwrap(), stray.local_addr().unwrap());
        let mut inherited = Inherited { sockets: vec![stray, handed], all_count: false };

        assert!(inherited.take(&settings("127.0.0.2:1"), 2).unwrap().is_none());
        let sockets = inherited.take(&settings(&at.to_string()), 3).unwrap().unwrap();
        assert_eq!(sockets.len(), 3);
        assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == at));
        assert_eq!(sockets[2].accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(inherited.unclaimed(), [stray_at]);
        assert!(inherited.take(&settings(&at.to_string()), 3).unwrap().is_none());
    }

    #[test]
    fn every_socket_of_another_gateway_is_taken_and_workers_without_one_get_one() {
        for (had, has) in [(2, 2), (3, 1), (1, 3)] {
            let handed = bind_all(&settings("127.0.0.1:0"), had).unwrap();
            let at = handed[0].local_addr().unwrap();
            let copies: Vec<_> = handed.iter().map(|socket| socket.try_clone().unwrap()).collect();
            let mut inherited = Inherited::of_predecessor(copies);
            let sockets = inherited.take(&settings(&at.to_string()), has).unwrap().unwrap();
            assert_eq!(sockets.len(), had.max(has));
            drop(handed);
            let clients: Vec<_> = (0..12).map(|_| std::net::TcpStream::connect(at).unwrap()).collect();
            let accepted = |socket: &TcpListener| std::iter::from_fn(|| socket.accept().ok()).count();
            let counts: Vec<_> = sockets.iter().map(accepted).collect();
            assert_eq!(counts.iter().sum::<usize>(), clients.len(), "{had} sockets for {has} workers: {counts:?}");
        }
    }

    #[test]
    fn a_socket_that_cannot_be_joined_is_shared_with_the_workers_that_are_new() {
        let handed = TcpListener::bind("127.0.0.1:0").unwrap(); // without SO_REUSEPORT, as systemd's are
        let at = handed.local_addr().unwrap();
        let mut inherited = Inherited::of_predecessor(vec![handed]);
        let sockets = inherited.take(&settings(&at.to_string()), 2).unwrap().unwrap();
        assert_eq!(ports(&sockets).len(), 1);
        assert_eq!(sockets.len(), 2);
    }
}
