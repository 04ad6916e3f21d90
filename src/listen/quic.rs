//! QUIC connections of one listener on one worker: who is asked to prove its address, who has no place, who is let in.
//!
//! Answers for RFC 9000 section 8.1: an Initial packet may come from anywhere, so while many handshakes are under way whose clients have
//! proved nothing, the others are sent a Retry first. A connection counts under the process's limit as one of TCP does; one without a
//! place is refused at once, and its client falls back to TCP, where it waits in the backlog. So is one of a client that has too many
//! connections, or shakes hands too often; what may be done in the name of an address that nobody has proved is half of that.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use quinn::{
    AsyncTimer, AsyncUdpSocket, Connecting, ConnectionError, Endpoint, EndpointConfig, Runtime, ServerConfig,
    TokioRuntime, VarInt,
};

use super::client::ClientAddr;
use super::datagrams::QuicSocket;
use super::guard::{Guard, Refusal, Shaking};
use super::limit::{Admission, ConnectionLimit};
use crate::shutdown::Tasks;

/// Handshakes under way on one worker of clients that have not proved their address.
const UNPROVEN: usize = 32;
/// Attempts that may wait until the worker gets to them, and bytes that are kept of each and of all.
const WAITING: usize = 256;
const WAITING_BYTES: u64 = 16 * 1024;
const ALL_WAITING_BYTES: u64 = 1024 * 1024;
/// RFC 9000; the drafts before it are history.
const VERSION_1: u32 = 1;

/// What became of an attempt to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It was let in.
    Accepted,
    /// The client was asked to prove its address.
    Retried,
    /// There was no place for it.
    Refused,
    /// Its client has taken what it may.
    OverBounds(Refusal),
}

/// The attempts at one listener on one worker.
pub struct QuicIncoming {
    endpoint: Endpoint,
    bound: SocketAddr,
    limit: ConnectionLimit,
    guard: Guard,
    unproven: Arc<AtomicUsize>,
    on_decision: Box<dyn Fn(Decision) + Send + Sync>,
}

/// A client that wants to connect, let in and not shaken hands with.
#[derive(Debug)]
pub struct Attempt {
    incoming: quinn::Incoming,
    /// Who it says it is; proved when the handshake is over.
    pub client: ClientAddr,
    /// Whom it called.
    pub local: SocketAddr,
    /// Its place under the connection limit: keep it as long as the connection.
    pub admission: Admission,
    beginning: Beginning,
}

/// A handshake under way, until this is dropped.
#[derive(Debug)]
pub struct Beginning {
    _shaking: Shaking,
    _unproven: Option<Unproven>,
}

/// One handshake that counts as unproven until this is dropped.
#[derive(Debug)]
struct Unproven(Arc<AtomicUsize>);

impl QuicIncoming {
    /// Answers on `socket`. `config` is for attempts until they are accepted; its drivers run on `tasks`. `on_decision` is called with
    /// what becomes of each attempt, and `on_failure` when the kernel can't hand over a datagram.
    ///
    /// # Errors
    /// When the current runtime can't watch the socket.
    pub fn new(
        socket: QuicSocket,
        mut config: ServerConfig,
        (limit, guard): (ConnectionLimit, Guard),
        tasks: &Tasks,
        on_decision: impl Fn(Decision) + Send + Sync + 'static,
        on_failure: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        config.max_incoming(WAITING).incoming_buffer_size(WAITING_BYTES).incoming_buffer_size_total(ALL_WAITING_BYTES);
        let mut endpoint = EndpointConfig::default();
        endpoint.cid_generator(socket.ids()).supported_versions(vec![VERSION_1]);
        let runtime = Arc::new(Counted { tasks: tasks.clone() });
        let socket = socket.on_runtime(on_failure)?;
        let bound = socket.local_addr()?;
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(config), socket, runtime)?;
        Ok(Self { endpoint, bound, limit, guard, unproven: Arc::default(), on_decision: Box::new(on_decision) })
    }

    /// The next attempt that is let in, however long it takes; `None` if the socket is of no use any more.
    ///
    /// Cancel-safe: an attempt is taken and returned without a wait in between.
    pub async fn accept(&mut self) -> Option<Attempt> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let proven = incoming.remote_address_validated();
            let client = ClientAddr::of_peer(incoming.remote_address());
            if !proven && incoming.may_retry() && (self.asks_for_proof() || self.guard.doubts(client)) {
                (self.on_decision)(Decision::Retried);
                incoming.retry().ok(); // it may, as was asked before
                continue;
            }
            let (admission, shaking) = match self.admit(client) {
                Ok(admitted) => admitted,
                Err(decision) => {
                    (self.on_decision)(decision);
                    incoming.refuse();
                    continue;
                }
            };
            (self.on_decision)(Decision::Accepted);
            let local = SocketAddr::new(incoming.local_ip().unwrap_or(self.bound.ip()), self.bound.port());
            let unproven = (!proven).then(|| Unproven::begin(&self.unproven));
            let beginning = Beginning { _shaking: shaking, _unproven: unproven };
            return Some(Attempt { incoming, client, local, admission, beginning });
        }
    }

    fn admit(&self, client: ClientAddr) -> Result<(Admission, Shaking), Decision> {
        let mut admission = self.limit.try_admit().ok_or(Decision::Refused)?;
        admission.seat(self.guard.enter(client).map_err(Decision::OverBounds)?);
        Ok((admission, self.guard.shake(client).map_err(Decision::OverBounds)?))
    }

    /// Takes no other connection.
    pub fn shut(&self) {
        self.endpoint.set_server_config(None);
    }

    /// Closes what is left, with `code`, and waits until the clients have been told. Bound it by the grace.
    pub async fn close(self, code: u32) {
        self.endpoint.close(VarInt::from_u32(code), b"");
        self.endpoint.wait_idle().await;
    }

    /// Places are short, or handshakes are many: nobody takes one of them by a made-up address.
    fn asks_for_proof(&self) -> bool {
        self.unproven.load(Ordering::Relaxed) >= UNPROVEN || self.limit.is_half_taken()
    }
}

impl Attempt {
    /// Begins the handshake with `config`. What else comes back is to be kept: the first until the handshake is over, the second until
    /// the connection is.
    pub fn accept(self, config: Arc<ServerConfig>) -> Result<(Connecting, Beginning, Admission), ConnectionError> {
        let connecting = self.incoming.accept_with(config)?;
        Ok((connecting, self.beginning, self.admission))
    }
}

impl Unproven {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Unproven {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// tokio, with the tasks that QUIC needs among those that are counted.
#[derive(Debug)]
struct Counted {
    tasks: Tasks,
}

impl Runtime for Counted {
    fn new_timer(&self, at: Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(at)
    }

    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.tasks.spawn(driver);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> Instant {
        TokioRuntime.now()
    }
}
