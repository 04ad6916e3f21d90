//! What the other rooms count with: cheap handles to one worker's shard of one thing.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::Ledger;
use super::cells::{AuthCells, EndpointCells, Held, IntrospectionCells, ListenerCells, RouteCells, WorkerCells};
use super::compression::{self, CompressionMeter};
use super::crowd::OverBound;
use super::tunnels::TunnelMeter;

/// Counts the requests of one route on one worker.
#[derive(Debug, Clone)]
pub struct RouteMeter(Arc<RouteCells>);

impl RouteMeter {
    pub(super) fn new(cells: Arc<RouteCells>) -> Self {
        Self(cells)
    }

    /// A request has begun: it is in flight until the guard is dropped, which the response body does at its end.
    pub fn begin(&self) -> Held {
        Held::take(&self.0.in_flight)
    }

    /// A request has ended, the last byte of its body included. `duration` counts from its head; bytes are body bytes
    /// from and to the client.
    pub fn finish(&self, method: &Method, status: u16, duration: Duration, bytes_in: u64, bytes_out: u64) {
        self.0.request(method, status);
        self.0.latency.observe(duration);
        self.0.bytes_in.add(bytes_in);
        self.0.bytes_out.add(bytes_out);
    }

    /// A gRPC call has ended: the number of its code.
    pub fn called(&self, code: usize) {
        self.0.call(code);
    }

    /// A request has ended that became a tunnel: what that moved and how long it was there are no request's figures.
    pub fn tunnelled(&self, method: &Method, status: u16) {
        self.0.request(method, status);
    }

    /// An answer is being compressed; `coding` is one of [`CODINGS`](super::CODINGS).
    pub fn compressed(&self, coding: &str) -> CompressionMeter {
        CompressionMeter::begin(&self.0, coding)
    }

    /// An answer was not compressed because too many were.
    pub fn compression_skipped(&self) {
        compression::skipped(&self.0);
    }

    /// A tunnel was opened.
    pub fn tunnel(&self) -> TunnelMeter {
        TunnelMeter::open(&self.0)
    }
}

/// Counts the authorization decisions of one route on one worker.
#[derive(Debug, Clone)]
pub struct AuthMeter(Arc<AuthCells>);

impl AuthMeter {
    pub(super) fn new(cells: Arc<AuthCells>) -> Self {
        Self(cells)
    }

    /// The policy was met.
    pub fn permitted(&self) {
        self.0.permitted.add(1);
    }

    /// The policy was not met; `reason` is one of [`Vocabulary::auth_reasons`](super::Vocabulary::auth_reasons).
    pub fn denied(&self, reason: &str) {
        self.0.denied.add(reason);
    }
}

/// Counts what happens with one endpoint on one worker.
#[derive(Debug, Clone)]
pub struct EndpointMeter(Arc<EndpointCells>);

impl EndpointMeter {
    pub(super) fn new(cells: Arc<EndpointCells>) -> Self {
        Self(cells)
    }

    /// A connection was opened: it is open until the guard is dropped with it.
    pub fn opened(&self) -> Held {
        self.0.opened.add(1);
        Held::take(&self.0.open)
    }

    /// A connection that was opened goes on to be open, as a tunnel, until the guard is dropped.
    pub fn kept(&self) -> Held {
        Held::take(&self.0.open)
    }

    /// A request goes out on a connection that was already open.
    pub fn reused(&self) {
        self.0.reused.add(1);
    }

    /// A slot was checked out: it is leased until the guard is dropped.
    pub fn leased(&self) -> Held {
        Held::take(&self.0.leased)
    }

    /// A request waits for a slot until the guard is dropped.
    pub fn waiting(&self) -> Held {
        Held::take(&self.0.waiting)
    }

    /// An exchange failed.
    pub fn failed(&self, failure: UpstreamFailure) {
        self.0.failures[failure as usize].add(1);
    }
}

/// The stage of an exchange with an endpoint that failed: the `stage` label of the upstream errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamFailure {
    /// No slot became free in time.
    QueueTimeout,
    /// Too many waited for one already.
    QueueFull,
    /// The endpoint refused the connection, or its name did not resolve.
    Refused,
    /// The endpoint's certificate did not verify, or TLS failed otherwise.
    Tls,
    /// The connection was not made in time.
    ConnectTimeout,
    /// No response head came in time.
    ResponseTimeout,
    /// The endpoint closed the connection before the exchange was over.
    Reset,
    /// What came back is not canonical HTTP.
    Malformed,
    /// The response body stalled.
    ReadTimeout,
}

impl UpstreamFailure {
    /// All of them, in the order of an exchange.
    pub const ALL: [Self; 9] = [
        Self::QueueTimeout,
        Self::QueueFull,
        Self::Refused,
        Self::Tls,
        Self::ConnectTimeout,
        Self::ResponseTimeout,
        Self::Reset,
        Self::Malformed,
        Self::ReadTimeout,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::QueueTimeout => "queue_timeout",
            Self::QueueFull => "queue_full",
            Self::Refused => "refused",
            Self::Tls => "tls",
            Self::ConnectTimeout => "connect_timeout",
            Self::ResponseTimeout => "response_timeout",
            Self::Reset => "reset",
            Self::Malformed => "malformed",
            Self::ReadTimeout => "read_timeout",
        }
    }
}

/// Counts the connections of one listener on one worker.
#[derive(Debug, Clone)]
pub struct ListenerMeter(Arc<ListenerCells>);

impl ListenerMeter {
    pub(super) fn new(cells: Arc<ListenerCells>) -> Self {
        Self(cells)
    }

    /// A connection was accepted: it is open until the guard is dropped with it.
    pub fn accepted(&self) -> Held {
        self.0.accepted.add(1);
        Held::take(&self.0.open)
    }

    /// A connection could not be accepted.
    pub fn accept_failed(&self) {
        self.0.errors.add(1);
    }

    /// A connection was closed before anything was done for it.
    pub fn refused(&self, over: OverBound) {
        self.0.refused[over as usize].add(1);
    }

    /// A relay was asked for its PROXY header.
    pub fn announced(&self, announcement: Announcement) {
        self.0.announcements[announcement as usize].add(1);
    }

    /// A TLS handshake has ended.
    pub fn handshake(&self, handshake: Handshake) {
        self.0.handshakes[handshake.index()].add(1);
    }

    /// Somebody wants to connect over QUIC.
    pub fn attempted(&self, attempt: QuicAttempt) {
        self.0.quic[attempt as usize].add(1);
    }
}

/// What became of an attempt to connect over QUIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuicAttempt {
    /// It was let in, and the handshake begins.
    Accepted,
    /// Its client was asked to prove its address.
    Retried,
    /// There was no place under the connection limit.
    Refused,
}

impl QuicAttempt {
    pub(super) const ALL: [Self; 3] = [Self::Accepted, Self::Retried, Self::Refused];

    /// The `outcome` label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retried => "retried",
            Self::Refused => "refused",
        }
    }
}

/// What a relay said for whom it connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// Whose connection it passes on.
    Relayed,
    /// That it speaks for itself.
    Own,
    /// Something else than a header.
    Missing,
    /// A header that is none.
    Malformed,
    /// Nothing that was whole in time.
    Timeout,
    /// Nothing that was whole before it left.
    Closed,
}

impl Announcement {
    /// All of them; those that are served first.
    pub const ALL: [Self; 6] = [Self::Relayed, Self::Own, Self::Missing, Self::Malformed, Self::Timeout, Self::Closed];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Relayed => "relayed",
            Self::Own => "own",
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
        }
    }
}

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Both sides agreed on this version.
    Done(TlsVersion),
    /// It took longer than allowed.
    Timeout,
    /// It failed, or the client left.
    Failed,
}

/// A TLS protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl Handshake {
    pub(super) const ALL: [Self; 4] =
        [Self::Done(TlsVersion::Tls12), Self::Done(TlsVersion::Tls13), Self::Timeout, Self::Failed];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Done(TlsVersion::Tls12) => 0,
            Self::Done(TlsVersion::Tls13) => 1,
            Self::Timeout => 2,
            Self::Failed => 3,
        }
    }

    /// The `version` and `result` labels.
    pub(super) const fn labels(self) -> (&'static str, &'static str) {
        match self {
            Self::Done(TlsVersion::Tls12) => ("1.2", "ok"),
            Self::Done(TlsVersion::Tls13) => ("1.3", "ok"),
            Self::Timeout => ("unknown", "timeout"),
            Self::Failed => ("unknown", "failed"),
        }
    }
}

/// Counts the questions to one issuer on one worker.
#[derive(Debug, Clone)]
pub struct IntrospectionMeter(Arc<IntrospectionCells>);

impl IntrospectionMeter {
    /// A question has ended.
    pub fn asked(&self, outcome: Introspected, duration: Duration) {
        self.0.outcomes[outcome as usize].add(1);
        self.0.latency.observe(duration);
    }
}

/// What came of a question to an issuer about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Introspected {
    /// The issuer stands by the token.
    Active,
    /// It does not.
    Inactive,
    /// There was no answer in time, or none that can be understood.
    Unavailable,
}

impl Introspected {
    pub(super) const ALL: [Self; 3] = [Self::Active, Self::Inactive, Self::Unavailable];

    /// The `outcome` label.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Counts what belongs to no route, endpoint or listener on one worker.
#[derive(Debug, Clone)]
pub struct WorkerMeter {
    cells: Arc<WorkerCells>,
    ledger: Arc<Ledger>,
    worker: usize,
}

impl WorkerMeter {
    pub(super) fn new(cells: Arc<WorkerCells>, ledger: Arc<Ledger>, worker: usize) -> Self {
        Self { cells, ledger, worker }
    }

    /// This worker's shard for the questions to one issuer, which is named as in the configuration.
    pub fn introspections(&self, issuer: &str) -> IntrospectionMeter {
        IntrospectionMeter(self.ledger.introspections.shard(self.worker, issuer.into(), IntrospectionCells::default))
    }

    /// The verified-token cache knew the token.
    pub fn cache_hit(&self) {
        self.cells.cache_hits.add(1);
    }

    /// The verified-token cache did not know the token.
    pub fn cache_miss(&self) {
        self.cells.cache_misses.add(1);
    }

    /// A request was not canonical HTTP; `reason` is one of
    /// [`Vocabulary::malformed_reasons`](super::Vocabulary::malformed_reasons).
    pub fn malformed(&self, reason: &str) {
        self.cells.malformed.add(reason);
    }

    /// A request panicked and was answered with 500.
    pub fn panicked(&self) {
        self.cells.panics.add(1);
    }
}
