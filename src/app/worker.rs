//! One worker: a thread, a current-thread runtime, its accept loops and its connections.
//!
//! Owns the way from a listening socket to `serve`. A worker takes orders from the control thread and shares nothing else with
//! other workers but counters of the process.

use std::io;
use std::net::TcpListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::hatch::Hatch;
use crate::listen::{
    Accepted, Admission, ClientAddr, ConnectionLimit, Ends, Guard, Incoming, QuicSocket, Refusal, RelayError, Relays,
    Shaking, announced,
};
use crate::observe::{Announcement, Handshake, ListenerMeter, OverBound, TlsVersion};
use crate::proxy_protocol::HeaderError;
use crate::serve::{self, Worker, serve_connection};
use crate::shutdown::{Drain, DrainTrigger, Tasks};
use crate::tls::{self, Acceptor, HandshakeError};

/// Orders that may wait for a busy worker.
const ORDERS: usize = 64;
/// How long a blocking call (a name look-up, a slow file system) may hold up the end.
const LEAVE_BEHIND: Duration = Duration::from_secs(1);
/// How often access lines are handed to the writer.
const FLUSH: Duration = Duration::from_millis(100);

/// What a listener does with a connection; a reload changes it in place.
#[derive(Debug)]
pub(super) struct Entrance {
    pub(super) name: Box<str>,
    pub(super) tls: ArcSwapOption<Acceptor>,
    /// The port of the TLS listener that plain requests are sent to.
    pub(super) to_https: ArcSwapOption<u16>,
    /// What answers over TLS say in `Strict-Transport-Security`.
    pub(super) hsts: ArcSwapOption<HeaderValue>,
    /// Whose connections begin with a PROXY header.
    pub(super) relays: ArcSwap<Relays>,
    /// The port at which HTTP/3 is spoken, if it is.
    pub(super) http3_port: ArcSwapOption<u16>,
}

impl Entrance {
    /// One that speaks plain HTTP to clients and knows no relays.
    pub(super) fn new(name: Box<str>) -> Self {
        Self {
            name,
            tls: ArcSwapOption::empty(),
            to_https: ArcSwapOption::empty(),
            hsts: ArcSwapOption::empty(),
            relays: ArcSwap::default(),
            http3_port: ArcSwapOption::empty(),
        }
    }

    /// What is known of a connection when hands were shaken, over TCP or QUIC.
    pub(super) fn admitted(&self, ends: Ends, acceptor: &Acceptor, shaken: &tls::Handshake) -> serve::Accepted {
        serve::Accepted {
            peer: ends.client.socket(),
            local: ends.local,
            secure: true,
            client_certificate: shaken.client_certificate,
            coverage: acceptor.coverage(shaken.server_name.as_deref()),
            hsts: self.hsts.load().as_deref().cloned(),
            http2: shaken.alpn_h2,
            to_https: None,
            http3_port: None,
        }
    }

    /// Hands were not shaken.
    pub(super) fn turned_away(&self, meter: &ListenerMeter, peer: ClientAddr, error: &HandshakeError) {
        meter.handshake(match error {
            HandshakeError::Timeout => Handshake::Timeout,
            HandshakeError::Failed(_) => Handshake::Failed,
        });
        tracing::debug!(%peer, listener = %self.name, %error, "handshake failed");
    }
}

/// What the control thread may ask of a worker.
pub(super) enum Order {
    /// Accept connections from this socket.
    Open { entrance: Arc<Entrance>, listener: TcpListener, meter: ListenerMeter },
    /// Stop accepting for the listener of this name, and let its connections end by themselves.
    Close { name: Box<str> },
    /// Answer QUIC on this socket.
    OpenQuic { entrance: Arc<Entrance>, socket: QuicSocket, meter: ListenerMeter },
    /// Stop answering QUIC for the listener of this name, and bid its connections farewell.
    CloseQuic { name: Box<str> },
}

/// A running worker.
pub(super) struct Handle {
    pub(super) worker: Arc<Worker>,
    pub(super) orders: mpsc::Sender<Order>,
    /// Tasks of upstream connections and of QUIC; nobody waits for them.
    pub(super) upstream_tasks: Tasks,
    pub(super) thread: JoinHandle<()>,
}

/// What a worker needs to begin.
pub(super) struct Post {
    pub(super) number: usize,
    pub(super) worker: Arc<Worker>,
    pub(super) upstream_tasks: Tasks,
    pub(super) limit: ConnectionLimit,
    pub(super) guard: Guard,
    pub(super) grace: Duration,
    /// Dropped when the worker has ended.
    pub(super) done: mpsc::Sender<()>,
}

/// Starts the worker's thread.
pub(super) fn start(post: Post) -> io::Result<Handle> {
    let (orders, received) = mpsc::channel(ORDERS);
    let (worker, upstream_tasks) = (Arc::clone(&post.worker), post.upstream_tasks.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new().name(format!("worker-{}", post.number)).spawn(move || {
        runtime.block_on(post.work(received));
        runtime.shutdown_timeout(LEAVE_BEHIND);
    })?;
    Ok(Handle { worker, orders, upstream_tasks, thread })
}

impl Post {
    async fn work(self, mut orders: mpsc::Receiver<Order>) {
        let clients = self.worker.tasks.clone();
        let (mut doors, mut hatches) = (Vec::new(), Vec::new());
        let mut flush = interval(FLUSH);
        flush.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.worker.drain.begun() => break,
                order = orders.recv() => match order {
                    Some(Order::Open { entrance, listener, meter }) => {
                        let (shut, shutting) = Drain::new();
                        doors.push((entrance.name.clone(), shut));
                        let door = self.door(entrance, meter);
                        clients.spawn(door.stand_open(listener, self.limit.clone(), shutting));
                    }
                    Some(Order::Close { name }) => shut(&mut doors, &name),
                    Some(Order::OpenQuic { entrance, socket, meter }) => {
                        let (shut, shutting) = Drain::new();
                        hatches.push((entrance.name.clone(), shut));
                        let hatch = self.hatch(entrance, meter);
                        clients.spawn(hatch.stand_open(socket, (self.limit.clone(), self.guard.clone()), shutting));
                    }
                    Some(Order::CloseQuic { name }) => shut(&mut hatches, &name),
                    None => break, // the control thread is gone
                },
                _ = flush.tick() => self.flush(),
            }
        }
        for (_, shut) in doors.iter().chain(&hatches) {
            shut.begin();
        }
        self.finish(&clients).await;
    }

    fn door(&self, entrance: Arc<Entrance>, meter: ListenerMeter) -> Door {
        let (worker, guard) = (Arc::clone(&self.worker), self.guard.clone());
        Door { entrance, meter, clients: worker.tasks.clone(), worker, guard }
    }

    fn hatch(&self, entrance: Arc<Entrance>, meter: ListenerMeter) -> Hatch {
        let (worker, drivers) = (Arc::clone(&self.worker), self.upstream_tasks.clone());
        Hatch { entrance, meter, worker, drivers, grace: self.grace }
    }

    /// Waits for the last connection, within the grace.
    async fn finish(self, clients: &Tasks) {
        let mut flush = interval(FLUSH);
        let finished = async {
            loop {
                tokio::select! {
                    () = clients.finished() => break,
                    _ = flush.tick() => self.flush(),
                }
            }
        };
        if timeout(self.grace, finished).await.is_err() {
            tracing::warn!(worker = self.number, connections = clients.count(), "grace is over: connections are cut");
        }
        self.flush();
        drop(self.done);
    }

    fn flush(&self) {
        if let Some(access) = &self.worker.access {
            access.flush();
        }
    }
}

/// Shuts the doors of one listener.
fn shut(doors: &mut Vec<(Box<str>, DrainTrigger)>, name: &str) {
    for (_, shut) in doors.extract_if(.., |(door, _)| **door == *name) {
        shut.begin();
    }
}

/// One listener on one worker.
#[derive(Clone)]
struct Door {
    entrance: Arc<Entrance>,
    meter: ListenerMeter,
    worker: Arc<Worker>,
    guard: Guard,
    clients: Tasks,
}

impl Door {
    /// Accepts until told to shut; then takes what the kernel has already accepted, and closes the socket.
    async fn stand_open(self, listener: TcpListener, limit: ConnectionLimit, shutting: Drain) {
        let meter = self.meter.clone();
        let failed = move |_: &io::Error| meter.accept_failed();
        let mut incoming = match Incoming::new(&self.entrance.name, listener, limit, failed) {
            Ok(incoming) => incoming,
            Err(error) => {
                tracing::error!(listener = %self.entrance.name, %error, "cannot accept on this listener");
                return;
            }
        };
        loop {
            tokio::select! {
                accepted = incoming.accept() => self.admit(accepted),
                () = shutting.begun() => break,
            }
        }
        let mut backlog = incoming.drain_backlog();
        while let Some(accepted) = backlog.next().await {
            self.admit(accepted);
        }
    }

    /// Who has connections enough is closed before anything is done for it. Of a relay's connection it is not known yet whose it is.
    fn admit(&self, mut accepted: Accepted) {
        let relayed = self.entrance.relays.load().include(accepted.client);
        if relayed || self.seat(&mut accepted.admission, accepted.client) {
            self.clients.spawn(self.clone().receive(accepted));
        }
    }

    /// Counts a connection as `client`'s, if that may have one more.
    fn seat(&self, admission: &mut Admission, client: ClientAddr) -> bool {
        match self.guard.enter(client) {
            Ok(seat) => {
                admission.seat(seat);
                true
            }
            Err(refusal) => {
                self.meter.refused(refused(refusal));
                false
            }
        }
    }

    /// Counts a handshake as begun by `client`, if that may begin one more.
    fn shake(&self, client: ClientAddr) -> Option<Shaking> {
        self.guard.shake(client).inspect_err(|refusal| self.meter.refused(refused(*refusal))).ok()
    }

    /// Asks a relay whom it speaks for, shakes hands where the listener is a TLS one, then serves. One deadline for all that comes
    /// before the first request.
    async fn receive(self, accepted: Accepted) {
        let Accepted { mut stream, client, mut admission } = accepted;
        let open = self.meter.accepted();
        let tls = self.entrance.tls.load_full();
        let header_timeout = || self.worker.live.current().limits.header_timeout;
        let deadline = Instant::now() + tls.as_ref().map_or_else(header_timeout, |tls| tls.handshake_timeout());
        let Some(ends) = self.ends(&mut stream, client, deadline).await else { return };
        if !admission.is_seated() && !self.seat(&mut admission, ends.client) {
            return;
        }
        match tls {
            None => {
                let accepted = serve::Accepted {
                    peer: ends.client.socket(),
                    local: ends.local,
                    secure: false,
                    client_certificate: None,
                    coverage: None,
                    hsts: None,
                    http2: false,
                    to_https: self.entrance.to_https.load().as_deref().copied(),
                    http3_port: None,
                };
                serve_connection(stream, accepted, self.worker).await;
            }
            Some(acceptor) => self.receive_tls(stream, ends, &acceptor, deadline).await,
        }
        drop((open, admission));
    }

    /// Who is at the two ends of a connection: what the socket says, or the relay behind it. `None` if the connection is of no use.
    async fn ends(&self, stream: &mut TcpStream, peer: ClientAddr, deadline: Instant) -> Option<Ends> {
        let local = stream.local_addr().ok()?; // fails only when the client has gone
        let own = Ends { client: peer, local };
        if !self.entrance.relays.load().include(peer) {
            return Some(own);
        }
        // Boxed, because few connections need room for a header.
        let announced = Box::pin(announced(stream, deadline)).await;
        self.meter.announced(match &announced {
            Ok(Some(_)) => Announcement::Relayed,
            Ok(None) => Announcement::Own,
            Err(RelayError::Timeout) => Announcement::Timeout,
            Err(RelayError::Closed(_)) => Announcement::Closed,
            Err(RelayError::Header(HeaderError::Missing)) => Announcement::Missing,
            Err(RelayError::Header(_)) => Announcement::Malformed,
        });
        match announced {
            Ok(ends) => Some(ends.unwrap_or(own)),
            Err(error) => {
                tracing::debug!(relay = %peer, listener = %self.entrance.name, %error, "connection of a relay refused");
                None
            }
        }
    }

    async fn receive_tls(self, stream: TcpStream, ends: Ends, acceptor: &Acceptor, deadline: Instant) {
        let Some(shaking) = self.shake(ends.client) else { return };
        let accepted = acceptor.accept(stream, deadline).await;
        drop(shaking);
        match accepted {
            Ok((stream, shaken)) => {
                let version = if shaken.version == "TLSv1.3" { TlsVersion::Tls13 } else { TlsVersion::Tls12 };
                self.meter.handshake(Handshake::Done(version));
                let accepted = serve::Accepted {
                    http3_port: self.entrance.http3_port.load().as_deref().copied(),
                    ..self.entrance.admitted(ends, acceptor, &shaken)
                };
                serve_connection(stream, accepted, self.worker).await;
            }
            Err(error) => self.entrance.turned_away(&self.meter, ends.client, &error),
        }
    }
}

/// A refusal as it is counted.
pub(super) fn refused(refusal: Refusal) -> OverBound {
    match refusal {
        Refusal::Connections => OverBound::Connections,
        Refusal::Handshakes => OverBound::Handshakes,
        Refusal::AllHandshakes => OverBound::AllHandshakes,
        Refusal::HandshakesUnderWay => OverBound::HandshakesUnderWay,
    }
}
