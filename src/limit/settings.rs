//! What `config::compile` hands to this room: a limit as configured.

use http::HeaderName;

use super::gcra::Quota;

/// The most limits that one route may name.
pub const MOST_LIMITS: usize = 8;

/// One limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Its name in logs, in metrics and in what clients are told.
    pub name: Box<str>,
    /// What requests are told apart by.
    pub by: CountedBy,
    /// How much is let through.
    pub quota: Quota,
    /// How many keys are remembered at once.
    pub entries: usize,
    /// Whether what would be refused is counted and let through.
    pub dry_run: bool,
    /// Whether answers say what is left.
    pub headers: bool,
    /// Whether gateways count together what comes to all of them.
    pub shared: bool,
}

/// What requests are told apart by: those that are alike share one count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CountedBy {
    /// The client's address.
    Client {
        /// Leading bits of an IPv6 address that count: a subscriber has all the addresses below them.
        ipv6_prefix: u8,
    },
    /// What a header field says; the client's address where it says nothing, or is there twice.
    Header {
        /// The field.
        name: HeaderName,
        /// As for [`Self::Client`].
        ipv6_prefix: u8,
    },
    /// What a claim of the token says, and who issued it; the client's address where there is no such claim.
    Claim {
        /// The claim's path, which `auth` reads.
        path: Box<str>,
        /// As for [`Self::Client`].
        ipv6_prefix: u8,
    },
    /// Nothing: all requests are alike.
    Route,
}

impl CountedBy {
    /// Leading bits of an IPv6 address that count.
    pub fn ipv6_prefix(&self) -> u8 {
        match self {
            Self::Client { ipv6_prefix } | Self::Header { ipv6_prefix, .. } | Self::Claim { ipv6_prefix, .. } => {
                *ipv6_prefix
            }
            Self::Route => 128,
        }
    }

    /// Whether it can be known only of a token that was judged.
    pub fn needs_token(&self) -> bool {
        matches!(self, Self::Claim { .. })
    }
}
