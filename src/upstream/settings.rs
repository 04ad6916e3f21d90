//! What `config::compile` hands to this room: a named group of equal servers and its bounds.

use std::fmt;
use std::time::Duration;

use super::{
    Address, Balance, BreakerSettings, ConcurrencyBounds, HealthSettings, QueueOrder, Rank, RetrySettings, Wire,
};
use crate::http::SpoolSettings;
use crate::proxy_protocol;

/// One `[upstream.NAME]` table.
#[derive(Debug, Clone, PartialEq)]
pub struct UpstreamSettings {
    /// The table's name.
    pub name: Box<str>,
    /// What kind of application server stands there.
    pub kind: Kind,
    /// Its equal servers; never empty.
    pub endpoints: Vec<Address>,
    /// Parallel to `endpoints`: what each counts for.
    pub ranks: Vec<Rank>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// For how long an endpoint that was added or came back takes less than its share; zero gives it all at once.
    pub slow_start: Duration,
    /// Open connections to one endpoint, for the whole process.
    pub max_connections: usize,
    /// How long a request may wait for a free connection.
    pub queue_timeout: Duration,
    /// How many requests may wait for one, for the whole process.
    pub queue: usize,
    /// Who of those that wait is served next.
    pub queue_order: QueueOrder,
    /// Between which bounds it is found out how many requests an endpoint is given at once; `None` gives it as many as it has connections.
    pub concurrency: Option<ConcurrencyBounds>,
    /// How long dialling may take.
    pub connect_timeout: Duration,
    /// From the last progress of the request's body to the response's head.
    pub response_timeout: Duration,
    /// Between two reads of the response's body.
    pub read_timeout: Duration,
    /// How long a connection may idle before it is closed; below the endpoint's own keep-alive. Zero means that none is used twice.
    pub keep_alive: Duration,
    /// Requests that share one HTTP/2 connection, if the endpoint allows as many.
    pub max_streams: usize,
    /// The form in which each connection says whose it is; such a connection is one client's, for one request. Only for HTTP/1.1.
    pub announce: Option<proxy_protocol::Version>,
    /// How TLS endpoints are recognised; means nothing for the others.
    pub tls: UpstreamTls,
    /// Where requests' bodies are kept until they are whole; means nothing where none are.
    pub spool: SpoolSettings,
    /// Whether every request's body is kept until it is whole, and not only where its length must be known.
    pub buffer_requests: bool,
    /// Where responses are kept that their clients are slow to take; `None` reads each as fast as its client.
    pub buffer_responses: Option<SpoolSettings>,
    /// How its endpoints are told good from bad.
    pub health: HealthSettings,
    /// When it is left alone for a while; `None` never leaves it alone.
    pub breaker: Option<BreakerSettings>,
    /// When a request is tried again.
    pub retry: RetrySettings,
    /// For how long a read may have no answer before another endpoint is asked as well; `None` asks no other.
    pub hedge: Option<Duration>,
    /// Whether endpoints are told when a request came.
    pub request_start: bool,
}

impl UpstreamSettings {
    /// Whether a server must be told the length of a body beforehand: a uwsgi packet says it, and uWSGI's own HTTP reads no chunks. The
    /// other servers read them, but Django under WSGI, and REST framework under ASGI too, take a body without a length for an empty one.
    pub fn needs_length(&self) -> bool {
        self.kind != Kind::Http || self.endpoints.iter().any(|address| address.wire == Wire::Uwsgi)
    }

    /// Whether connections made for `other` serve here as well, if their endpoint is still one.
    pub fn connects_like(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.max_connections, one.max_streams, one.queue_timeout, one.keep_alive, one.announce);
        let gate = |one: &Self| (one.concurrency, one.queue_order);
        self.name == other.name
            && self.kind == other.kind
            && of(self) == of(other)
            && gate(self) == gate(other)
            && self.tls == other.tls
    }

    /// Whether requests' bodies are kept, for whatever reason.
    pub fn spools(&self) -> bool {
        self.buffer_requests || self.needs_length()
    }
}

/// Whom the gateway believes to be an endpoint, and who it is itself. PEM bytes are already read.
#[derive(Clone, PartialEq)]
pub struct UpstreamTls {
    /// The only authorities trusted; `None` means those of the operating system.
    pub ca_pem: Option<Vec<u8>>,
    /// The name that the endpoint's certificate must cover, and that is sent as SNI; `None` means the endpoint's host.
    pub server_name: Option<Box<str>>,
    /// What the gateway shows of itself: a chain, leaf first, and its private key.
    pub client: Option<ClientIdentity>,
    /// SHA-256 digests of public keys, one of which must be the endpoint's (RFC 7469 section 2.4); empty pins none.
    pub pins: Vec<[u8; 32]>,
    /// Whether the chain, the name and the dates of a certificate count.
    pub verify: bool,
}

/// A certificate chain and its key, by which an endpoint recognises the gateway.
#[derive(Clone, PartialEq)]
pub struct ClientIdentity {
    /// The chain, leaf first.
    pub chain_pem: Vec<u8>,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key_pem: Vec<u8>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { ca_pem: None, server_name: None, client: None, pins: Vec::new(), verify: true }
    }
}

impl fmt::Debug for UpstreamTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { server_name, pins, verify, .. } = self;
        write!(f, "UpstreamTls({server_name:?}, {} pins, verify: {verify})", pins.len())
    }
}

/// The application servers whose habits are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum Kind {
    Gunicorn,
    Uwsgi,
    Daphne,
    Uvicorn,
    #[default]
    Http,
}

impl Kind {
    /// The default of `keep_alive_secs`: below what this server's own default is.
    pub fn keep_alive(self) -> Duration {
        match self {
            Self::Gunicorn => Duration::from_millis(1500), // Gunicorn closes after 2 s
            Self::Uwsgi => Duration::from_secs(3),         // so-keepalive http workers: 4 s
            Self::Uvicorn => Duration::from_secs(4),       // timeout_keep_alive: 5 s
            Self::Daphne | Self::Http => Duration::from_secs(30),
        }
    }

    /// Whether a slow client would hold one of few workers there, unless it is kept from them: the defaults of `buffer_requests` and
    /// `buffer_responses`. Asynchronous servers wait for many clients at once, and may want bodies as they come.
    pub fn is_held_by_slow_clients(self) -> bool {
        matches!(self, Self::Gunicorn | Self::Uwsgi)
    }

    /// The longest request line and header line this server reads by default, in bytes: what is longer is refused at the edge, where
    /// the answer says why.
    pub fn line_bytes(self) -> Option<(usize, usize)> {
        match self {
            Self::Gunicorn => Some((4094, 8188)), // limit_request_line; limit_request_field_size, 8190 with its CRLF
            Self::Uwsgi | Self::Daphne | Self::Uvicorn | Self::Http => None,
        }
    }
}
