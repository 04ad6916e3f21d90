//! The accept loop: infallible, so that no caller has a branch in which the gateway stops listening.
//!
//! Owns what accept(2) can answer. A client that left before its turn is passed over. When the process or the machine
//! is out of descriptors or memory, the loop rests (10 ms, doubling to 1 s), says so at most once a second, and goes on:
//! connections wait in the backlog meanwhile. Refuses to know what a connection is for.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::client::ClientAddr;
use super::limit::{Admission, ConnectionLimit};

const FIRST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(1);
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// A connection, fresh from the kernel.
#[derive(Debug)]
pub struct Accepted<S = TcpStream> {
    /// The socket, without delay (`TCP_NODELAY`).
    pub stream: S,
    /// Who is at the other end.
    pub client: ClientAddr,
    /// Its place under the connection limit: keep it as long as the socket.
    pub admission: Admission,
}

/// Connections waiting to be accepted: a listening socket, or a test's stand-in.
pub trait Queue: Send + Sync {
    /// What is taken out of it.
    type Stream: Send;

    /// Waits until `take` is worth a try. Must be cancel-safe.
    fn ready(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// Takes the next connection; `WouldBlock` means that the queue is empty.
    fn take(&self) -> io::Result<(Self::Stream, SocketAddr)>;
}

/// The accept loop of one listener on one worker.
pub struct Incoming<Q = TcpQueue> {
    queue: Q,
    limit: ConnectionLimit,
    strain: Strain,
}

impl Incoming {
    /// Accepts from `listener`, which must not block. `on_failure` is called with every error of accept(2), for
    /// counting.
    ///
    /// # Errors
    /// When the current runtime can't watch the socket.
    ///
    /// # Panics
    /// Outside a tokio runtime with I/O enabled.
    pub fn new(
        name: &str,
        listener: TcpListener,
        limit: ConnectionLimit,
        on_failure: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Ok(Self::over(name, TcpQueue::new(listener)?, limit, on_failure))
    }
}

impl<Q: Queue> Incoming<Q> {
    /// Accepts from any queue.
    pub fn over(
        name: &str,
        queue: Q,
        limit: ConnectionLimit,
        on_failure: impl Fn(&io::Error) + Send + Sync + 'static,
    ) -> Self {
        Self { queue, limit, strain: Strain::new(name, Box::new(on_failure)) }
    }

    /// The next connection, however long it takes.
    ///
    /// Cancel-safe: a connection is taken from the kernel and returned without a wait in between, and a rest that was
    /// cut short is taken up by the next call.
    pub async fn accept(&mut self) -> Accepted<Q::Stream> {
        loop {
            self.strain.rest().await;
            // Ready first and admitted second: a worker that nobody calls must not hold a place others wait for.
            if let Err(error) = self.queue.ready().await {
                self.strain.note(&error);
                continue;
            }
            let admission = self.limit.admit().await;
            // Empty after all is no failure: another worker with the same socket was faster, or the client left.
            if let Ok(Some(accepted)) = self.strain.judge(self.queue.take(), admission) {
                return accepted;
            }
        }
    }

    /// Stops waiting for more: what remains is what the kernel has queued already.
    ///
    /// Connections that the kernel completes after the last one was taken and before the socket closes are reset by
    /// it; draining right before closing keeps that window to microseconds.
    pub fn drain_backlog(self) -> Backlog<Q> {
        Backlog { queue: self.queue, limit: self.limit, strain: self.strain }
    }
}

/// What a listener that stops has still to serve. Dropping it closes the socket.
pub struct Backlog<Q = TcpQueue> {
    queue: Q,
    limit: ConnectionLimit,
    strain: Strain,
}

impl<Q: Queue> Backlog<Q> {
    /// The next connection queued, or `None` when there is none left. The connection limit holds here too, so this
    /// may wait for others to end: bound it by the grace. Cancel-safe as `Incoming::accept` is.
    pub async fn next(&mut self) -> Option<Accepted<Q::Stream>> {
        loop {
            self.strain.rest().await;
            let admission = self.limit.admit().await;
            match self.strain.judge(self.queue.take(), admission) {
                Ok(Some(accepted)) => return Some(accepted),
                Ok(None) => return None,
                Err(Failed) => {}
            }
        }
    }
}

/// A listening TCP socket on the current runtime.
///
/// `AsyncFd` rather than tokio's `TcpListener`, which can't say "ready" without accepting.
pub struct TcpQueue {
    socket: AsyncFd<TcpListener>,
}

impl TcpQueue {
    fn new(listener: TcpListener) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Deprecated in favour of an unsafe twin, since the descriptor must stay the same and open. std's listener owns
        // its own and sees to both.
        #[allow(deprecated)]
        let socket = AsyncFd::with_interest(listener, Interest::READABLE)?;
        Ok(Self { socket })
    }
}

impl Queue for TcpQueue {
    type Stream = TcpStream;

    async fn ready(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    fn take(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let mut asked = false;
        let mut taken = self.socket.try_io(Interest::READABLE, |listener| {
            asked = true;
            listener.accept()
        });
        if !asked {
            // The runtime hasn't heard of a connection; the kernel may have one all the same, and a drain needs to know.
            taken = self.socket.get_ref().accept();
        }
        let (stream, peer) = taken?;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok((TcpStream::from_std(stream)?, peer))
    }
}

/// How accepting goes of late: failures counted, logged and rested from.
struct Strain {
    listener: Box<str>,
    on_failure: Box<dyn Fn(&io::Error) + Send + Sync>,
    /// How long the next rest is.
    next_rest: Duration,
    rest_until: Option<Instant>,
    last_logged: Option<Instant>,
    unlogged: u64,
}

/// accept(2) failed; it has been seen to.
struct Failed;

impl Strain {
    fn new(listener: &str, on_failure: Box<dyn Fn(&io::Error) + Send + Sync>) -> Self {
        Self {
            listener: listener.into(),
            on_failure,
            next_rest: FIRST_REST,
            rest_until: None,
            last_logged: None,
            unlogged: 0,
        }
    }

    /// Waits out what a failure has imposed. The end is kept, so that a cancelled rest isn't a shorter one.
    async fn rest(&mut self) {
        if let Some(end) = self.rest_until {
            tokio::time::sleep_until(end).await;
            self.rest_until = None;
        }
    }

    /// What was taken, or `None` for an empty queue.
    fn judge<S>(
        &mut self,
        taken: io::Result<(S, SocketAddr)>,
        admission: Admission,
    ) -> Result<Option<Accepted<S>>, Failed> {
        match taken {
            Ok((stream, peer)) => {
                self.next_rest = FIRST_REST;
                Ok(Some(Accepted { stream, client: ClientAddr::of_peer(peer), admission }))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => {
                self.note(&error);
                Err(Failed)
            }
        }
    }

    fn note(&mut self, error: &io::Error) {
        (self.on_failure)(error);
        if concerns_one_connection(error) {
            tracing::debug!(listener = %self.listener, %error, "a connection was gone before it was accepted");
            return;
        }
        self.rest_until = Some(Instant::now() + self.next_rest);
        self.next_rest = (self.next_rest * 2).min(LONGEST_REST);
        self.log(error);
    }

    fn log(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.last_logged.is_some_and(|last| now < last + LOG_INTERVAL) {
            self.unlogged += 1;
            return;
        }
        let unlogged = std::mem::take(&mut self.unlogged);
        self.last_logged = Some(now);
        tracing::error!(
            listener = %self.listener, %error, unlogged, hint = remedy(error),
            "cannot accept connections; they wait in the backlog"
        );
    }
}

/// accept(2) hands over errors already pending on the new socket; they end that connection and nothing else. Every
/// other error would come again at once.
fn concerns_one_connection(error: &io::Error) -> bool {
    let passing = [
        Errno::CONNABORTED,
        Errno::CONNRESET,
        Errno::INTR,
        Errno::PROTO,
        Errno::NETDOWN,
        Errno::NETUNREACH,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NOPROTOOPT,
        Errno::NONET,
        Errno::OPNOTSUPP,
        Errno::TIMEDOUT,
    ];
    Errno::from_io_error(error).is_some_and(|errno| passing.contains(&errno))
}

fn remedy(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE) => "this process is out of file descriptors: raise LimitNOFILE (ulimit -n)",
        Some(Errno::NFILE) => "this machine is out of file descriptors: raise fs.file-max",
        Some(Errno::NOBUFS | Errno::NOMEM) => "this machine is out of memory for sockets",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Arc, Mutex};

    use tokio::io::AsyncReadExt;

    use super::*;
    use crate::listen::{ListenSettings, bind_all};

    fn peer() -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], 1000))
    }

    /// A queue that answers as scripted and is empty afterwards.
    #[derive(Clone, Default)]
    struct Script(Arc<Mutex<VecDeque<Result<u32, Errno>>>>);

    impl Script {
        fn of(answers: impl IntoIterator<Item = Result<u32, Errno>>) -> Self {
            Self(Arc::new(Mutex::new(answers.into_iter().collect())))
        }

        fn left(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl Queue for Script {
        type Stream = u32;

        async fn ready(&self) -> io::Result<()> {
            if self.left() == 0 {
                std::future::pending::<()>().await;
            }
            Ok(())
        }

        fn take(&self) -> io::Result<(u32, SocketAddr)> {
            match self.0.lock().unwrap().pop_front() {
                Some(Ok(stream)) => Ok((stream, peer())),
                Some(Err(errno)) => Err(errno.into()),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        }
    }

    fn incoming(script: &Script, limit: usize) -> (Incoming<Script>, Arc<AtomicUsize>) {
        let failures = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&failures);
        let count = move |_: &io::Error| {
            counted.fetch_add(1, Ordering::Relaxed);
        };
        (Incoming::over("https", script.clone(), ConnectionLimit::new(limit), count), failures)
    }

    #[tokio::test(start_paused = true)]
    async fn running_out_of_descriptors_rests_longer_each_time_and_then_goes_on() {
        let shortage = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].into_iter().cycle().take(9);
        let script = Script::of(shortage.map(Err).chain([Ok(1), Err(Errno::MFILE), Ok(2)]));
        let (mut incoming, failures) = incoming(&script, 10);
        let begun = Instant::now();
        assert_eq!(incoming.accept().await.stream, 1);
        // 10 + 20 + ... + 640 ms, then 1 s twice.
        let rested = begun.elapsed().as_millis();
        assert!((3270..3300).contains(&rested), "{rested}");
        assert_eq!(failures.load(Ordering::Relaxed), 9);

        let begun = Instant::now();
        assert_eq!(incoming.accept().await.stream, 2);
        assert!((10..15).contains(&begun.elapsed().as_millis()), "a success makes the next rest short again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rest_cut_short_is_taken_up_again() {
        let script = Script::of([Err(Errno::MFILE), Ok(1)]);
        let (mut incoming, _) = incoming(&script, 10);
        let begun = Instant::now();
        for _ in 0..3 {
            assert!(tokio::time::timeout(Duration::from_millis(2), incoming.accept()).await.is_err());
        }
        assert_eq!(script.left(), 1, "no attempt while resting");
        incoming.accept().await;
        assert!((10..15).contains(&begun.elapsed().as_millis()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_left_is_passed_over_at_once() {
        let script = Script::of([Err(Errno::CONNABORTED), Err(Errno::PROTO), Err(Errno::INTR), Ok(1)]);
        let (mut incoming, failures) = incoming(&script, 10);
        let begun = Instant::now();
        assert_eq!(incoming.accept().await.stream, 1);
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert_eq!(failures.load(Ordering::Relaxed), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_nobody_knows_is_rested_from_too() {
        let script = Script::of([Err(Errno::INVAL), Ok(1)]);
        let (mut incoming, _) = incoming(&script, 10);
        let begun = Instant::now();
        incoming.accept().await;
        assert!(begun.elapsed() >= FIRST_REST);
    }

    #[tokio::test(start_paused = true)]
    async fn over_the_limit_connections_stay_in_the_queue() {
        let script = Script::of([Ok(1), Ok(2), Ok(3)]);
        let (mut incoming, _) = incoming(&script, 2);
        let first = incoming.accept().await;
        let _second = incoming.accept().await;
        assert!(tokio::time::timeout(LONGEST_REST, incoming.accept()).await.is_err());
        assert_eq!(script.left(), 1);
        drop(first);
        assert_eq!(incoming.accept().await.stream, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_listener_holds_no_place_under_the_limit() {
        let limit = ConnectionLimit::new(1);
        let mut idle = Incoming::over("idle", Script::default(), limit.clone(), |_| {});
        let mut busy = Incoming::over("busy", Script::of([Ok(1)]), limit.clone(), |_| {});
        assert!(tokio::time::timeout(LONGEST_REST, idle.accept()).await.is_err());
        let mut waiting = Box::pin(idle.accept());
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("nobody called"),
            accepted = busy.accept() => assert_eq!(accepted.stream, 1),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_loses_nothing_to_errors_or_the_limit() {
        let script = Script::of([Ok(1), Err(Errno::CONNABORTED), Err(Errno::MFILE), Ok(2), Ok(3)]);
        let (incoming, _) = incoming(&script, 1);
        let mut backlog = incoming.drain_backlog();
        let mut streams = Vec::new();
        while let Some(accepted) = backlog.next().await {
            streams.push(accepted.stream);
        }
        assert_eq!(streams, [1, 2, 3]);
    }

    fn loopback() -> TcpListener {
        let settings =
            ListenSettings { name: "test".into(), address: SocketAddr::from(([127, 0, 0, 1], 0)), backlog: 128 };
        bind_all(&settings, 1).unwrap().remove(0)
    }

    #[tokio::test]
    async fn a_real_connection_comes_with_its_client_and_without_delay() {
        let listener = loopback();
        let address = listener.local_addr().unwrap();
        let mut incoming = Incoming::new("test", listener, ConnectionLimit::new(10), |_| {}).unwrap();
        let client = TcpStream::connect(address).await.unwrap();
        let accepted = incoming.accept().await;
        assert!(accepted.stream.nodelay().unwrap());
        assert_eq!(accepted.client.to_string(), client.local_addr().unwrap().to_string());
    }

    #[tokio::test]
    async fn draining_takes_every_connection_the_kernel_has_queued() {
        let listener = loopback();
        let address = listener.local_addr().unwrap();
        let incoming = Incoming::new("test", listener, ConnectionLimit::new(100), |_| {}).unwrap();
        // Blocking connects, so that the runtime has heard of none of them when the drain begins.
        let clients: Vec<_> = (0..50u8)
            .map(|number| {
                let mut client = std::net::TcpStream::connect(address).unwrap();
                client.write_all(&[number]).unwrap();
                client
            })
            .collect();
        let mut backlog = incoming.drain_backlog();
        let mut numbers = Vec::new();
        while let Some(mut accepted) = backlog.next().await {
            numbers.push(accepted.stream.read_u8().await.unwrap());
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
        drop(backlog);
        assert!(std::net::TcpStream::connect(address).is_err(), "the socket is closed");
        drop(clients);
    }
}
