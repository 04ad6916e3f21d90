//! Every kind of request against every kind of failure over every wire: how often an origin sees it at most, and what its client is told.
//!
//! The origin counts heads, whether or not their bodies come. A request that may have done something is never seen twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::Client;
use crate::support::frames::{
    ACK, DATA, END_HEADERS, END_STREAM, HEADERS, PING, SETTINGS, frame, settings, window_update,
};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Conn, HELLO, Origin};
use crate::support::port::Port;
use crate::support::uwsgi::Call;

/// More than is read ahead.
const LARGE: usize = 200 * 1024;
const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
/// RFC 7541: `:status: 200` from the static table, and 503 as a literal with a name from there.
const OK_BLOCK: &[u8] = &[0x88];
const UNAVAILABLE_BLOCK: &[u8] = &[0x08, 3, b'5', b'0', b'3'];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wire {
    Http1,
    Http2,
    Uwsgi,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Nobody listens.
    Refuses,
    /// The connection ends when the head of the request is there.
    Resets,
    /// It ends in the middle of the answer's head.
    BreaksOff,
    /// The request is read, and nothing is said.
    Stalls,
    /// It is answered 503.
    Unavailable,
    /// A kept connection is closed when the next request is there.
    Forgets,
}

const FAILURES: [Failure; 6] =
    [Failure::Refuses, Failure::Resets, Failure::BreaksOff, Failure::Stalls, Failure::Unavailable, Failure::Forgets];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Get,
    Post,
    PostChunked,
    PutSmall,
    PutLarge,
    Delete,
}

const KINDS: [Kind; 6] = [Kind::Get, Kind::Post, Kind::PostChunked, Kind::PutSmall, Kind::PutLarge, Kind::Delete];

impl Kind {
    fn request(self, path: &str) -> String {
        let head = |method: &str| format!("{method} {path} HTTP/1.1\r\nHost: site.test\r\n");
        match self {
            Self::Get => format!("{}\r\n", head("GET")),
            Self::Delete => format!("{}\r\n", head("DELETE")),
            Self::Post => format!("{}Content-Length: 4\r\n\r\nbody", head("POST")),
            Self::PostChunked => format!("{}Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", head("POST")),
            Self::PutSmall => format!("{}Content-Length: 4\r\n\r\nbody", head("PUT")),
            Self::PutLarge => format!("{}Content-Length: {LARGE}\r\n\r\n{}", head("PUT"), "x".repeat(LARGE)),
        }
    }

    fn is_repeatable(self) -> bool {
        matches!(self, Self::Get | Self::PutSmall | Self::Delete)
    }
}

/// How often it is seen at most, whether it is never less, and what its client is told.
fn due(wire: Wire, failure: Failure, kind: Kind) -> (usize, bool, &'static [u16]) {
    let tries = if kind.is_repeatable() { 3 } else { 1 };
    match failure {
        Failure::Refuses => (0, true, &[502]),
        Failure::Resets | Failure::BreaksOff => (tries, true, &[502]),
        Failure::Stalls => (tries, true, &[504]),
        Failure::Unavailable => (tries, true, &[503]),
        Failure::Forgets if wire == Wire::Uwsgi => (1, true, &[200]), // no connection is kept
        // One that is closed under it is excused, once; after some the gateway knows better than to trust one.
        Failure::Forgets if kind.is_repeatable() => (2, false, &[200]),
        Failure::Forgets => (1, true, &[200, 502]),
    }
}

/// One side of a connection, whatever is spoken on it.
struct Peer {
    conn: Conn,
    wire: Wire,
    seen: Arc<AtomicUsize>,
    stream: u32,
}

impl Peer {
    /// The next request, its body too if that is `whole`.
    async fn request(&mut self, whole: bool) -> Option<()> {
        match self.wire {
            Wire::Http1 => {
                let mut head = self.conn.head().await?;
                self.seen.fetch_add(1, Ordering::SeqCst);
                if whole {
                    self.conn.wire.request_body(&mut head).await.ok()?;
                }
            }
            Wire::Uwsgi => {
                let mut call = Call::read(&mut self.conn).await?;
                self.seen.fetch_add(1, Ordering::SeqCst);
                if whole {
                    call.read_body(&mut self.conn).await?;
                }
            }
            Wire::Http2 => loop {
                let (kind, flags, stream) = self.frame().await?;
                if kind == HEADERS {
                    self.stream = stream;
                    self.seen.fetch_add(1, Ordering::SeqCst);
                }
                let is_end = matches!(kind, HEADERS | DATA) && flags & END_STREAM != 0;
                if is_end || kind == HEADERS && !whole {
                    return Some(());
                }
            },
        }
        Some(())
    }

    /// The next frame; what belongs to the connection is answered.
    async fn frame(&mut self) -> Option<(u8, u8, u32)> {
        if self.stream == 0 {
            self.conn.wire.exactly(24).await.ok()?; // the preface
            let room = [settings(&[(4, 0x7fff_ffff)]), window_update(0, 0x7f00_0000)].concat();
            self.conn.send(room).await;
            self.stream = 1;
        }
        let head = self.conn.wire.exactly(9).await.ok()?;
        let length = usize::try_from(u32::from_be_bytes([0, head[0], head[1], head[2]])).unwrap();
        let payload = self.conn.wire.exactly(length).await.ok()?;
        let (kind, flags) = (head[3], head[4]);
        if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
            let echo: &[u8] = if kind == PING { &payload } else { &[] };
            self.conn.send(frame(kind, ACK, 0, echo)).await;
        }
        Some((kind, flags, u32::from_be_bytes(head[5..].try_into().unwrap()) & 0x7fff_ffff))
    }

    async fn answer(&mut self, well: bool) {
        let block = if well { OK_BLOCK } else { UNAVAILABLE_BLOCK };
        match self.wire {
            Wire::Http2 => self.conn.send(frame(HEADERS, END_HEADERS | END_STREAM, self.stream, block)).await,
            Wire::Http1 | Wire::Uwsgi => self.conn.send(if well { HELLO } else { UNAVAILABLE }).await,
        };
    }

    async fn half_an_answer(&mut self) {
        match self.wire {
            Wire::Http2 => {
                let whole = frame(HEADERS, END_HEADERS | END_STREAM, self.stream, &[OK_BLOCK; 20].concat());
                self.conn.send(&whole[..15]).await
            }
            Wire::Http1 | Wire::Uwsgi => self.conn.send("HTTP/1.1 200 OK\r\nContent-Le").await,
        };
    }

    async fn fail(mut self, failure: Failure) -> Option<()> {
        match failure {
            Failure::Refuses => unreachable!("nobody listens"),
            Failure::Resets => self.request(false).await,
            Failure::BreaksOff => {
                self.request(true).await?;
                self.half_an_answer().await;
                Some(())
            }
            Failure::Stalls => loop {
                self.request(true).await?;
            },
            Failure::Unavailable => loop {
                self.request(true).await?;
                self.answer(false).await;
                if self.wire == Wire::Uwsgi {
                    return Some(());
                }
            },
            Failure::Forgets => {
                self.request(true).await?;
                self.answer(true).await;
                if self.wire != Wire::Uwsgi {
                    self.request(true).await?;
                }
                Some(())
            }
        }
    }
}

/// An origin that fails in one way, and how often it has seen a request.
struct Case {
    failure: Failure,
    endpoint: String,
    seen: Arc<AtomicUsize>,
    _origin: Result<Origin, Port>,
}

impl Case {
    async fn of(wire: Wire, failure: Failure) -> Self {
        let seen = Arc::<AtomicUsize>::default();
        let scheme = match wire {
            Wire::Http1 => "http",
            Wire::Http2 => "h2c",
            Wire::Uwsgi => "uwsgi",
        };
        if failure == Failure::Refuses {
            let port = Port::reserve();
            return Self { failure, endpoint: format!("{scheme}://{}", port.address), seen, _origin: Err(port) };
        }
        let counter = Arc::clone(&seen);
        let origin = Origin::start(move |conn| {
            let peer = Peer { conn, wire, seen: Arc::clone(&counter), stream: 0 };
            async move {
                peer.fail(failure).await;
            }
        })
        .await;
        Self { failure, endpoint: format!("{scheme}://{}", origin.address), seen, _origin: Ok(origin) }
    }

    fn tables(&self, wire: Wire) -> String {
        let (name, endpoint) = (format!("{:?}", self.failure).to_lowercase(), &self.endpoint);
        let kind = if wire == Wire::Uwsgi { "uwsgi" } else { "http" };
        format!(
            "[upstream.{name}]\nkind = \"{kind}\"\nendpoints = [\"{endpoint}\"]\nresponse_timeout_secs = 0.6\n\
             retry = {{ backoff_ms = 1, try_timeout_secs = 0.15, on = [\"connect\", \"reset\", \"503\"] }}\n\
             [[route]]\nname = \"{name}\"\npath = \"/{name}/\"\nauth = \"public\"\nupstream = \"{name}\"\n"
        )
    }

    /// Sends one request; what was wrong about it.
    async fn try_out(&self, gateway: &Gateway, wire: Wire, kind: Kind) -> Option<String> {
        let path = format!("/{}/", format!("{:?}", self.failure).to_lowercase());
        if self.failure == Failure::Forgets {
            let warm = Client::plain(gateway.http).await.get(&path).await;
            assert_eq!(warm.status(), 200, "a connection that is kept");
        }
        let before = self.seen.load(Ordering::SeqCst);
        let status = Client::plain(gateway.http).await.ask(kind.request(&path)).await.status();
        let seen = self.seen.load(Ordering::SeqCst) - before;
        let (most, exactly, statuses) = due(wire, self.failure, kind);
        let right = seen <= most && (!exactly || seen == most) && statuses.contains(&status);
        (!right)
            .then(|| format!("{wire:?} {:?} {kind:?}: seen {seen} times of {most}, answered {status}", self.failure))
    }
}

async fn every_case_of(wire: Wire) {
    let mut cases = Vec::new();
    for failure in FAILURES {
        cases.push(Case::of(wire, failure).await);
    }
    let tables: String = cases.iter().map(|case| case.tables(wire)).collect();
    let hello = Origin::hello().await;
    let gateway = Setup::before(&hello).tables(&tables).start().await;
    let mut wrong = Vec::new();
    for case in &cases {
        for kind in KINDS {
            wrong.extend(case.try_out(&gateway, wire, kind).await);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn over_http1_nothing_is_seen_more_often_than_it_may_be() {
    every_case_of(Wire::Http1).await;
}

#[tokio::test]
async fn over_http2_nothing_is_seen_more_often_than_it_may_be() {
    every_case_of(Wire::Http2).await;
}

#[tokio::test]
async fn over_uwsgi_nothing_is_seen_more_often_than_it_may_be() {
    every_case_of(Wire::Uwsgi).await;
}
