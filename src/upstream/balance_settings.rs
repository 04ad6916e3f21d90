//! What `config::compile` hands to this room about the choice among endpoints.

use std::fmt;

use http::HeaderName;

/// By which rule endpoints are chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Balance {
    /// Of two drawn at random, the one with fewer requests.
    #[default]
    LeastRequests,
    /// In turn, by weight.
    RoundRobin,
    /// At random, by weight.
    Random,
    /// By a key of the request, so that equal keys go to one endpoint.
    Hash {
        /// Where the key is.
        on: HashOn,
        /// How many per cent of its share of the requests under way an endpoint may have; `None` sets no bound.
        most_percent: Option<u32>,
    },
    /// By a cookie that the gateway gives.
    Sticky(StickySettings),
}

/// Where a request's key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// In a field.
    Header(HeaderName),
    /// In a cookie.
    Cookie(Box<str>),
    /// In a claim of the token, named by its path: who reads tokens finds it.
    Claim(Box<str>),
    /// The client's address.
    Client,
}

/// How clients are bound to endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StickySettings {
    /// The cookie's name.
    pub cookie: Box<str>,
    /// What seals it.
    pub secret: SealSecret,
}

impl StickySettings {
    /// Bytes of a secret: no fewer than the hash has (RFC 2104 section 3).
    pub const LEAST_SECRET_BYTES: usize = 32;
}

/// Secret bytes that never show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SealSecret(Box<[u8]>);

impl SealSecret {
    /// Takes a copy of the secret's bytes.
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SealSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealSecret(..)")
    }
}

/// What one endpoint counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Its share of the requests beside those of the others, 1 to 1000.
    pub weight: u16,
    /// The lowest number that has an endpoint which can be used is used, and no other.
    pub priority: u8,
}

impl Default for Rank {
    fn default() -> Self {
        Self { weight: 1, priority: 0 }
    }
}
