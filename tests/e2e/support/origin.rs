//! Origins: small scripted servers on a raw socket, which write down every byte they get.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinHandle};

use super::wire::{Message, Wire};

/// A good answer that keeps the connection.
pub const HELLO: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// An origin on a port of its own; it ends with the test.
pub struct Origin {
    pub address: SocketAddr,
    log: Arc<Log>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct Log {
    requests: Mutex<Vec<Message>>,
    bytes: Arc<Mutex<Vec<u8>>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    connections: Mutex<Vec<AbortHandle>>,
}

/// One connection from the gateway, as a script sees it.
pub struct Conn {
    pub wire: Wire,
    log: Arc<Log>,
}

impl Origin {
    /// Runs `script` for every connection.
    pub async fn start<F, S>(script: S) -> Self
    where
        S: Fn(Conn) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        Self::on(TcpListener::bind(("127.0.0.1", 0)).await.unwrap(), script)
    }

    fn on<F, S>(listener: TcpListener, script: S) -> Self
    where
        S: Fn(Conn) -> F + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Log::default());
        let accepting = tokio::spawn(accept(listener, Arc::clone(&log), script));
        Self { address, log, accepting }
    }

    /// Answers every request with `hello` and keeps connections.
    pub async fn hello() -> Self {
        Self::always(HELLO).await
    }

    /// As many that answer like [`Self::hello`], on one port of 127.0.0.2, 127.0.0.3 and so on.
    pub async fn on_one_port(count: u8) -> Vec<Self> {
        let mut listeners: Vec<TcpListener> = Vec::new();
        while listeners.len() < count.into() {
            let port = listeners.first().map_or(0, |first| first.local_addr().unwrap().port());
            let at = [127, 0, 0, u8::try_from(listeners.len()).unwrap() + 2];
            match TcpListener::bind(SocketAddr::from((at, port))).await {
                Ok(listener) => listeners.push(listener),
                Err(_) => listeners.clear(), // the port is somebody's there
            }
        }
        let hello = |mut conn: Conn| async move {
            while conn.request().await.is_some() {
                conn.send(HELLO).await;
            }
        };
        listeners.into_iter().map(|listener| Self::on(listener, hello)).collect()
    }

    /// Answers every request with the same bytes and keeps connections.
    pub async fn always(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut conn| {
            let answer = Arc::clone(&answer);
            async move {
                while conn.request().await.is_some() {
                    conn.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// Answers `hello` to as many requests as the gate has had permits, and keeps connections.
    pub async fn gated() -> (Self, Arc<Semaphore>) {
        let gate = Arc::new(Semaphore::new(0));
        let opened = Arc::clone(&gate);
        let origin = Self::start(move |mut conn| {
            let opened = Arc::clone(&opened);
            async move {
                while conn.request().await.is_some() {
                    opened.acquire().await.unwrap().forget();
                    conn.send(HELLO).await;
                }
            }
        })
        .await;
        (origin, gate)
    }

    /// Answers one request a connection with `answer`, then closes.
    pub async fn once(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(move |mut conn| {
            let answer = Arc::clone(&answer);
            async move {
                if conn.request().await.is_some() {
                    conn.send(&*answer).await;
                }
            }
        })
        .await
    }

    /// The endpoint, as the configuration has it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request whose head came whole and well-formed, in order.
    pub fn requests(&self) -> Vec<Message> {
        self.log.requests.lock().unwrap().clone()
    }

    /// The targets of all requests, in order.
    pub fn targets(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.target().to_owned()).collect()
    }

    /// The one request that came.
    pub fn only(&self) -> Message {
        let requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:#?}");
        requests.into_iter().next().unwrap()
    }

    /// The last request that came.
    pub fn last(&self) -> Message {
        self.requests().pop().expect("a request")
    }

    /// Every byte that came over all connections.
    pub fn bytes(&self) -> Vec<u8> {
        self.log.bytes.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub fn accepted(&self) -> usize {
        self.log.accepted.load(Ordering::SeqCst)
    }

    /// Connections whose script runs now.
    pub fn open(&self) -> usize {
        self.log.open.load(Ordering::SeqCst)
    }

    /// Breaks all connections at once, and goes on accepting.
    pub fn break_all(&self) {
        for connection in self.log.connections.lock().unwrap().drain(..) {
            connection.abort();
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
        self.break_all();
    }
}

async fn accept<F, S>(listener: TcpListener, log: Arc<Log>, script: S)
where
    S: Fn(Conn) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let conn = Conn::new(stream, &log);
        let (running, open) = (script(conn), Open::new(&log));
        let task = tokio::spawn(async move {
            running.await;
            drop(open);
        });
        log.connections.lock().unwrap().push(task.abort_handle());
    }
}

/// Counts a connection as open.
struct Open(Arc<Log>);

impl Open {
    fn new(log: &Arc<Log>) -> Self {
        log.open.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(log))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Conn {
    fn new(stream: TcpStream, log: &Arc<Log>) -> Self {
        stream.set_nodelay(true).unwrap();
        log.accepted.fetch_add(1, Ordering::SeqCst);
        Self { wire: Wire::new(stream, Some(Arc::clone(&log.bytes))), log: Arc::clone(log) }
    }

    /// The next request with its body; `None` when the gateway has closed, or broke off.
    pub async fn request(&mut self) -> Option<Message> {
        let message = self.wire.request().await.ok().flatten()?;
        self.log.requests.lock().unwrap().push(message.clone());
        Some(message)
    }

    /// The next request's head alone.
    pub async fn head(&mut self) -> Option<Message> {
        let message = self.wire.head().await.ok().flatten()?;
        self.log.requests.lock().unwrap().push(message.clone());
        Some(message)
    }

    /// Sends; a gateway that has closed is no failure.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.send(bytes.as_ref()).await.is_ok()
    }

    /// Waits until the gateway closes, throwing away what it sends.
    pub async fn until_closed(&mut self) {
        while matches!(self.wire.fill().await, Ok(read) if read > 0) {
            self.wire.rest();
        }
    }
}
