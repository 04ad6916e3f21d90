//! Why an exchange brought nothing.

use std::time::Duration;

/// Why there is no answer, or no [`Fetcher`](super::Fetcher).
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The URL is `http://` and the settings do not allow it.
    #[error("plain http is not allowed")]
    PlainHttp,
    /// The operator's PEM holds no certificate that can be an authority.
    #[error("there is no usable certificate in the CA file")]
    CaPem,
    /// The operating system has no store of authorities, and the operator named none.
    #[error("the operating system has no trusted certificates: install its CA certificates, or name a CA file")]
    NoRoots,
    /// TLS cannot be set up at all.
    #[error("tls cannot be set up")]
    Tls(#[source] rustls::Error),
    /// The exchange was not over in time.
    #[error("no complete answer within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
    /// The name could not be looked up, or nobody answered there, or the certificate is not trusted.
    #[error("cannot connect")]
    Connect(#[source] hyper_util::client::legacy::Error),
    /// The connection broke, or what came is not HTTP.
    #[error("the exchange broke off")]
    Exchange(#[source] hyper_util::client::legacy::Error),
    /// The body ended before its time.
    #[error("the answer broke off")]
    Body(#[source] hyper::Error),
    /// A redirect, which is never followed: it could lead from a trusted server to any other.
    #[error("answered with a redirect (status {status}); name the final URL")]
    Redirect {
        /// The status, 300 to 399.
        status: u16,
    },
    /// Any other status than 200.
    #[error("answered with status {status}")]
    Status {
        /// The status.
        status: u16,
    },
    /// The body is longer than the settings allow.
    #[error("the answer is longer than {limit} bytes")]
    TooLarge {
        /// The bound, in bytes.
        limit: usize,
    },
}
