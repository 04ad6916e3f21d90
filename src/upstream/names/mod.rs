//! Names that stand for many endpoints: what is asked of DNS about them, how often, and what becomes of the answers.
//!
//! Owns what a name is, what is known of each ([`known`], a pure state machine), who asks ([`Resolver`]) and where the answers are kept
//! for whoever builds upstreams ([`NameBook`]). Answers for RFC 2782 (what SRV records mean) and for the times to live of RFC 1035 section
//! 3.2.1, within bounds. Nothing here is on the way of a request: it is all done on the control thread, which publishes upstreams
//! with other endpoints when a name has other addresses. Refuses to know when that is.

mod ask;
mod book;
mod known;

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use ask::Resolver;
pub use book::NameBook;
pub use known::{Answer, Found, Trouble};

/// How names are looked up: the `[dns]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameSettings {
    /// Who is asked; empty means those of the operating system.
    pub servers: Vec<SocketAddr>,
    /// How long one question may take, with all that is asked on its way.
    pub timeout: Duration,
    /// The soonest and the latest that a name is looked up again, whatever its records say.
    pub ttl: (Duration, Duration),
}

impl Default for NameSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            timeout: Duration::from_secs(5),
            ttl: (Duration::from_secs(1), Duration::from_secs(30)),
        }
    }
}

/// A name that stands for many endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    host: Arc<str>,
    /// What its endpoints are.
    pub records: Records,
}

/// Which records of a name are endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Records {
    /// Each address, A or AAAA, at this port.
    #[allow(missing_docs)]
    Addresses { port: u16 },
    /// Each address of each SRV record's host, at the record's port.
    Services,
}

impl Name {
    pub(super) fn new(host: &str, records: Records) -> Self {
        Self { host: host.into(), records }
    }

    /// As it is configured.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whose name a TLS certificate must have, and what an endpoint is asked for that is told no other host: the configured one, for who
    /// answers questions about names is nobody to say whom to believe. Of a service that is the domain it is looked for in.
    pub(super) fn vouched(&self) -> &str {
        let mut host = &*self.host;
        while let Some((label, rest)) = host.split_once('.')
            && label.starts_with('_')
        {
            host = rest;
        }
        host.strip_suffix('.').unwrap_or(host)
    }

    /// What is asked about it.
    pub fn query(&self) -> Query {
        Query { host: Arc::clone(&self.host), services: self.records == Records::Services }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.records {
            Records::Addresses { port } => write!(f, "{}:{port}", self.host),
            Records::Services => f.write_str(&self.host),
        }
    }
}

/// What is asked, once for all upstreams and ports.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Query {
    host: Arc<str>,
    services: bool,
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_believes_the_configured_host_and_for_a_service_its_domain() {
        for (host, vouched) in [
            ("app.internal", "app.internal"),
            ("app.internal.", "app.internal"),
            ("_http._tcp.app.internal", "app.internal"),
            ("app", "app"),
        ] {
            assert_eq!(Name::new(host, Records::Services).vouched(), vouched);
        }
    }
}
