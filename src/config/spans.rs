//! Where the compiled values stand in the text, for problems that only a stage can find: a weak key, a certificate that does
//! not match its key, a directory that is not there.
//!
//! Every list is parallel to the one of the same name in [`Config`](super::Config).

use super::problem::Span;

/// Positions beside a [`Config`](super::Config).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spans {
    /// Parallel to `Config::listeners`.
    pub listeners: Vec<ListenerSpans>,
    /// The admin address, if there is one.
    pub admin: Option<Span>,
    /// `[identity]`, if there is one.
    pub identity: Option<IdentitySpans>,
    /// Parallel to `Config::issuers`.
    pub issuers: Vec<IssuerSpans>,
    /// Parallel to `Config::rate_limits`: NAME.
    pub rate_limits: Vec<Span>,
    /// Parallel to `Config::upstreams`.
    pub upstreams: Vec<UpstreamSpans>,
    /// Parallel to `Config::routes`.
    pub routes: Vec<RouteSpans>,
    /// Parallel to `Config::internal`.
    pub internal: Vec<RouteSpans>,
}

/// Positions in one `[listen.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListenerSpans {
    /// NAME.
    pub name: Span,
    /// The address.
    pub address: Span,
    /// Parallel to `TlsSettings::certificates`.
    pub certificates: Vec<CertificateSpans>,
    /// The path of the clients' authorities, if there is one.
    pub client_ca: Option<Span>,
}

/// Positions in one entry of `certificates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CertificateSpans {
    /// The chain's path.
    pub cert: Span,
    /// The key's path.
    pub key: Span,
}

/// Positions in `[identity]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IdentitySpans {
    /// The table.
    pub table: Span,
    /// The key's path.
    pub key: Span,
    /// The lifetime, or the table where it has its default.
    pub lifetime: Span,
}

/// Positions in one `[issuer.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuerSpans {
    /// NAME.
    pub name: Span,
    /// Parallel to `IssuerSettings::keys`: the variable's name or the file's path.
    pub keys: Vec<Span>,
}

/// Positions in one `[upstream.NAME]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamSpans {
    /// NAME.
    pub name: Span,
    /// Parallel to `UpstreamSettings::endpoints`.
    pub endpoints: Vec<Span>,
    /// How they are chosen, if that is said.
    pub balance: Option<Span>,
    /// Where its TLS is described, if it is.
    pub tls: Option<Span>,
    /// The directory of spooled bodies, if it is named.
    pub spool_dir: Option<Span>,
}

/// Positions in one `[[route]]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RouteSpans {
    /// The name.
    pub name: Span,
    /// The path.
    pub path: Span,
    /// The root of `files`, if it serves files.
    pub files_root: Option<Span>,
    /// The manifest of `files`, if it has one.
    pub files_manifest: Option<Span>,
    /// What is published, if it publishes.
    pub publish: Option<Span>,
}
