//! One client's HTTP/3 connection, from handshake to close: its streams, its deadlines, its farewell.
//!
//! Answers for RFC 9114 sections 5 and 6: who may still send a request, and who is told that no other is taken. Each request stream is
//! a task of its own ([`request`]) and goes through the same stack as a request of any other protocol.
//!
//! QUIC ends a connection that is silent for too long, and does not know that a request is being answered meanwhile. So a connection
//! with requests under way says something every now and then; one without is given up in time and told so.

mod answer;
mod body;
mod peer;
mod request;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::VarInt;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};

use super::connection::Accepted;
use super::context::{Connection, Worker};
use super::driver::DRAIN_IDLE;
use super::{Limits, PARSE_REASON};
use crate::http::http3::{Code, goaway, greeting, nothing};
use crate::shutdown::Drain;
use peer::Roles;
pub use transport::transport;

/// How often something is said while requests are under way, at the least.
const WORD_EVERY: Duration = Duration::from_secs(10);
/// How long a client may take none of the few bytes of our control stream.
const CONTROL_PATIENCE: Duration = Duration::from_secs(1);
/// What is said is given this long to arrive, however near the client is.
const SHORTEST_WAY: Duration = Duration::from_millis(20);
/// Requests that a client may give up beyond those it waits for: the flood that HTTP/2 calls rapid reset.
const MOST_ABANDONED: u32 = 200;
/// What a first GOAWAY names: that the end is near, and nothing is refused yet (RFC 9114 section 5.2).
const ANY_STREAM: u64 = (1 << 62) - 4;
/// Request streams are numbered in steps of this (RFC 9000 section 2.1).
const NEXT_STREAM: u64 = 4;

/// Serves one connection until it ends. When `leaving` begins, it is bidden farewell.
///
/// Dropping the future closes the connection.
pub async fn serve_http3(quic: quinn::Connection, accepted: Accepted, worker: Arc<Worker>, leaving: Drain) {
    let limits = worker.live.current().limits;
    let connection = Arc::new(accepted.connection(Arc::default(), worker));
    let peer = connection.peer;
    if let Err(code) = Session::serve(quic.clone(), connection, limits, &leaving).await {
        close(&quic, code);
    }
    tracing::debug!(%peer, reason = ?quic.close_reason(), "connection ended");
}

/// Ends a connection for a reason that the client is told as a number.
fn close(quic: &quinn::Connection, code: Code) {
    quic.close(VarInt::from_u32(code.value()), b"");
}

/// The streams of one connection that are not over.
#[derive(Debug, Default)]
struct Streams {
    open: AtomicU32,
    abandoned: AtomicU32,
    ended: Notify,
}

/// One of them.
#[derive(Debug)]
struct Place(Arc<Streams>);

impl Streams {
    fn take(self: &Arc<Self>) -> Place {
        self.open.fetch_add(1, Ordering::Relaxed);
        Place(Arc::clone(self))
    }
}

impl Place {
    /// The client gave up on its request.
    fn abandoned(&self) {
        self.0.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// The client waited for its answer.
    fn answered(&self) {
        let less = |abandoned: u32| Some(abandoned.saturating_sub(1));
        self.0.abandoned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok(); // `less` is always something
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.notify_one();
    }
}

/// How far the farewell has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Farewell {
    /// Requests are taken.
    None,
    /// The client knows; what is on its way is taken until then.
    Bidden { until: Instant },
    /// No other request is looked at. What was said has time to arrive until then.
    Final { until: Instant },
}

struct Session {
    quic: quinn::Connection,
    connection: Arc<Connection>,
    limits: Limits,
    control: quinn::SendStream,
    streams: Arc<Streams>,
    roles: Arc<Roles>,
    farewell: Farewell,
    /// The first request stream that nobody has opened.
    next: u64,
    /// Whether requests are under way, and since when that has not changed or was last said.
    turn: (bool, Instant),
}

impl Session {
    /// An error is what the client has to be told.
    async fn serve(
        quic: quinn::Connection,
        connection: Arc<Connection>,
        limits: Limits,
        leaving: &Drain,
    ) -> Result<(), Code> {
        let opened = timeout(limits.header_timeout, quic.open_uni()).await;
        let control = match opened {
            Ok(Ok(control)) => control,
            Ok(Err(_)) => return Ok(()),                // it has ended already
            Err(_) => return Err(Code::StreamCreation), // a client that takes no control stream speaks no HTTP/3
        };
        let mut session = Self {
            quic,
            connection,
            limits,
            control,
            streams: Arc::default(),
            roles: Arc::default(),
            farewell: Farewell::None,
            next: 0,
            turn: (false, Instant::now()),
        };
        session.say(greeting(limits.header_bytes)).await?;
        session.run(leaving).await
    }

    async fn run(&mut self, leaving: &Drain) -> Result<(), Code> {
        let quic = self.quic.clone();
        loop {
            if self.streams.abandoned.load(Ordering::Relaxed) > MOST_ABANDONED {
                return Err(Code::ExcessiveLoad);
            }
            let Some(deadline) = self.next_step() else { return Err(Code::NoError) };
            tokio::select! {
                biased;
                _ = quic.closed() => return Ok(()),
                () = leaving.begun(), if self.farewell == Farewell::None => self.bid_farewell().await?,
                opened = quic.accept_bi() => match opened {
                    Ok((send, recv)) => self.take(send, recv),
                    Err(_) => return Ok(()),
                },
                opened = quic.accept_uni() => match opened {
                    Ok(recv) => self.listen(recv),
                    Err(_) => return Ok(()),
                },
                () = self.streams.ended.notified() => {}
                () = sleep_until(deadline) => self.strike().await?,
            }
        }
    }

    /// When something is to be done, whatever the client does; `None` if it is over.
    fn next_step(&mut self) -> Option<Instant> {
        let busy = self.streams.open.load(Ordering::Relaxed) > 0;
        if busy != self.turn.0 {
            self.turn = (busy, Instant::now());
        }
        let (_, since) = self.turn;
        let word = since + WORD_EVERY.min(self.limits.idle_timeout / 3);
        match (self.farewell, busy) {
            (Farewell::None, false) => Some(since + self.limits.idle_timeout),
            (Farewell::None | Farewell::Final { .. }, true) => Some(word),
            (Farewell::Bidden { until }, true) => Some(until.min(word)),
            (Farewell::Final { until }, false) if until <= Instant::now() => None,
            (Farewell::Bidden { until } | Farewell::Final { until }, false) => Some(until),
        }
    }

    /// The time of `next_step` has come.
    async fn strike(&mut self) -> Result<(), Code> {
        match self.farewell {
            Farewell::None if !self.turn.0 => self.bid_farewell().await,
            Farewell::Bidden { until } if until <= Instant::now() => {
                let until = Instant::now() + (2 * self.quic.rtt()).clamp(SHORTEST_WAY, DRAIN_IDLE);
                self.farewell = Farewell::Final { until };
                self.say(goaway(self.next)).await
            }
            Farewell::Final { .. } if !self.turn.0 => Ok(()), // it is over
            _ => {
                self.turn.1 = Instant::now();
                self.say(nothing()).await
            }
        }
    }

    /// A request may be on its way to a connection that ends: it has one more moment, as one of any other protocol has.
    async fn bid_farewell(&mut self) -> Result<(), Code> {
        self.farewell = Farewell::Bidden { until: Instant::now() + DRAIN_IDLE };
        self.say(goaway(ANY_STREAM)).await
    }

    async fn say(&mut self, frame: Bytes) -> Result<(), Code> {
        match timeout(CONTROL_PATIENCE, self.control.write_chunk(frame)).await {
            Ok(Ok(())) => Ok(()),
            // RFC 9114 section 6.2.1: nobody may stop the other's control stream.
            _ => Err(Code::ClosedCriticalStream),
        }
    }

    fn take(&mut self, mut send: quinn::SendStream, mut recv: quinn::RecvStream) {
        let id = u64::from(VarInt::from(send.id()));
        if matches!(self.farewell, Farewell::Final { .. }) && id >= self.next {
            let code = VarInt::from_u32(Code::RequestRejected.value());
            send.reset(code).ok(); // it may have been given up already
            recv.stop(code).ok();
            return;
        }
        self.next = self.next.max(id + NEXT_STREAM);
        let request = request::Stream {
            quic: self.quic.clone(),
            connection: Arc::clone(&self.connection),
            limits: self.limits,
            place: self.streams.take(),
        };
        self.connection.worker.tasks.spawn(request.serve(send, recv));
    }

    fn listen(&self, recv: quinn::RecvStream) {
        let roles = Arc::clone(&self.roles);
        self.connection.worker.tasks.spawn(peer::listen(recv, self.quic.clone(), roles));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_answered_makes_up_for_what_is_abandoned() {
        let streams = Arc::new(Streams::default());
        let (one, other) = (streams.take(), streams.take());
        one.answered();
        assert_eq!(streams.abandoned.load(Ordering::Relaxed), 0, "nothing is saved up");
        one.abandoned();
        other.abandoned();
        other.answered();
        assert_eq!(streams.abandoned.load(Ordering::Relaxed), 1);
        assert_eq!(streams.open.load(Ordering::Relaxed), 2);
        drop((one, other));
        assert_eq!(streams.open.load(Ordering::Relaxed), 0);
        streams.ended.notified().await;
    }
}
