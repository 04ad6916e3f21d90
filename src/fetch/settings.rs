//! What an operator decides about exchanges, with the defaults of those who decide nothing.

use std::time::Duration;

/// The bounds of every exchange of one [`Fetcher`](super::Fetcher), and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSettings {
    /// The only authorities trusted, in PEM; `None` trusts those of the operating system.
    pub ca_pem: Option<Vec<u8>>,
    /// Whether `http://` is allowed. What it brings can be forged by anybody on the way.
    pub plain_http: bool,
    /// The longest a whole exchange may take: looking up the name, connecting, TLS, head and body.
    pub timeout: Duration,
    /// Most bytes of an answer's body.
    pub max_bytes: usize,
}

impl Default for FetchSettings {
    /// The authorities of the operating system, https alone, 5 seconds, 1 MiB.
    fn default() -> Self {
        Self { ca_pem: None, plain_http: false, timeout: Duration::from_secs(5), max_bytes: 1 << 20 }
    }
}
