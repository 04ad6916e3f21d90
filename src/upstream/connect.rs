//! One HTTP/1.1 connection to an endpoint, from an open stream to its end.
//!
//! Each connection is driven by a task of its own, so that a close by the endpoint is noticed when it happens and its idle
//! age is learned. Refuses to know what is sent.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::endpoint::Shared;
use super::stream::{Deaf, Stream};
use crate::deadline::Deadline;
use crate::http::RequestBody;
use crate::observe::EndpointMeter;
use crate::shutdown::Tasks;

/// Most bytes buffered per connection, and so the longest response head.
const BUFFER_BYTES: usize = 64 * 1024;

/// An open connection to an endpoint.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    life: Arc<Life>,
    /// Whether the endpoint reads no more.
    deaf: Deaf,
    task: AbortHandle,
    /// For whatever the exchange under way waits for; kept, so that its timer is armed once and not per request.
    deadline: Deadline,
}

/// What the connection's task must know of its use: since when it has been idle.
#[derive(Debug, Default)]
struct Life {
    idle_since: Mutex<Option<Instant>>,
}

impl Life {
    fn set(&self, idle_since: Option<Instant>) {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner) = idle_since;
    }

    fn idle_since(&self) -> Option<Instant> {
        *self.idle_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Whether the endpoint has closed it, as far as is known.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.deaf.is_so()
    }

    /// How long it has been idle.
    pub(super) fn idle_for(&self, now: Instant) -> Duration {
        self.life.idle_since().map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// It idles from now on.
    pub(super) fn rest(&self, now: Instant) {
        self.life.set(Some(now));
    }

    /// It is in use from now on.
    pub(super) fn wake(&mut self) -> (&mut SendRequest<RequestBody>, &mut Deadline) {
        self.life.set(None);
        (&mut self.sender, &mut self.deadline)
    }

    /// The deadline of the exchange under way.
    pub(super) fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // In the middle of an exchange dropping the sender is not enough: the task would go on writing the request's body to an
        // endpoint that may never read it.
        if self.life.idle_since().is_none() {
            self.task.abort();
        }
        self.life.set(None); // closed by us: teaches nothing about the endpoint
    }
}

/// What a connection's task reports to when it ends.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) meter: EndpointMeter,
}

/// Speaks HTTP/1.1 over `stream`. The `permit`, if it takes one, counts against the endpoint's connections until the socket is closed.
/// A connection that is upgraded leaves its task.
pub(super) async fn speak(
    mut stream: Stream,
    permit: Option<OwnedSemaphorePermit>,
    keeper: Keeper,
    tasks: &Tasks,
) -> io::Result<Connection> {
    let deaf = stream.forgive_closing();
    let settings = http1::Builder::new().max_buf_size(BUFFER_BYTES).handshake(TokioIo::new(stream));
    let (sender, connection) = settings.await.map_err(io::Error::other)?;
    let life = Arc::new(Life::default());
    let watched = Arc::clone(&life);
    let open = keeper.meter.opened();
    let task = tasks.spawn(async move {
        // An error here reaches the request that is being served; an idle connection's end is no error.
        let ended = connection.with_upgrades().await;
        if let Some(since) = watched.idle_since() {
            let now = Instant::now();
            keeper.shared.keep_alive.closed_after(now.saturating_duration_since(since), now);
            tracing::trace!(error = ?ended.err(), "endpoint closed an idle connection");
        }
        drop((open, permit));
    });
    Ok(Connection { sender, life, deaf, task: task.abort_handle(), deadline: Deadline::default() })
}
