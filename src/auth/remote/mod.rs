//! Key sets that an issuer publishes at a URL, one copy for the process.
//!
//! Owns when a set is fetched, how long an old one is good enough, and where its URL is found (`metadata`). Knows no issuer's
//! rules: whoever reads a [`Published`] set ties its keys to algorithms. RFC 7517 section 5, RFC 8414, OpenID Connect Discovery 1.0.

mod checkup;
mod keys;
mod last_good;
mod metadata;
mod published;
mod schedule;
mod settings;
mod source;

#[cfg(test)]
mod tests;

pub use checkup::{Finding, Severity, check_key_set};
pub use keys::{RemoteKeys, RemoteStatus};
pub use published::Published;
pub use settings::{RemoteSettings, RemoteSource};
