//! The configuration as it is meant: every default filled in, every reference resolved, every file read.
//!
//! Owns the compiled result and nothing that changes. Two equal values mean that a reload has nothing to do; positions in
//! the text are therefore kept beside it, in `spans`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};
use ipnet::IpNet;

use crate::http::boundary::TrustedFields;
use crate::http::compress::CompressSettings;
use crate::http::cors::CorsSettings;
use crate::redis::RedisSettings;
use crate::{auth, files, limit, listen, observe, route, serve, tls, upstream};

/// A whole gateway.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The process as a whole.
    pub server: Server,
    /// Bounds on every client connection.
    pub limits: serve::Limits,
    /// Bounds on what one client takes of what all share.
    pub guard: listen::GuardSettings,
    /// Where clients connect; never empty.
    pub listeners: Vec<Listener>,
    /// Where operators connect, if anywhere.
    pub admin: Option<SocketAddr>,
    /// What is logged.
    pub log: observe::LogSettings,
    /// What is revoked, if anything can be. Which tokens are is not part of the configuration.
    pub revocation: Option<auth::RevocationSettings>,
    /// Where gateways share what is shared, if anything is.
    pub redis: Option<RedisSettings>,
    /// How the gateway signs in its own name, if it does.
    pub identity: Option<auth::IdentitySettings>,
    /// Who signs tokens, in the order of the file.
    pub issuers: Vec<auth::IssuerSettings>,
    /// How often routes may be used, in the order of the file.
    pub rate_limits: Vec<limit::LimitSettings>,
    /// How names are looked up that stand for endpoints.
    pub names: upstream::NameSettings,
    /// The application servers, in the order of the file.
    pub upstreams: Vec<upstream::UpstreamSettings>,
    /// The rules, in the order of the file, which means nothing.
    pub routes: Vec<Route>,
    /// What upstreams may hand out, in the order of the file.
    pub internal: Vec<Internal>,
    /// Every file whose contents are part of this configuration, the configuration file first; the reload watches them. Files
    /// below static roots are not among them.
    pub files_read: Vec<PathBuf>,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Worker threads; at least one.
    pub workers: usize,
    /// How long requests under way may take to end when the process is told to stop.
    pub drain: Duration,
    /// Whether development material may be used; if so, every address is loopback.
    pub development: bool,
    /// Peers whose forwarded fields are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Which fields those are.
    pub trusted_fields: TrustedFields,
    /// Verified tokens each worker remembers; 0 remembers none.
    pub token_cache_entries: usize,
    /// Seconds for which a `DPoP` proof is good.
    pub dpop_window_secs: u64,
    /// What becomes of a host that no route names.
    pub unknown_host: route::UnknownHost,
    /// What a browser is shown of a failure that has no route.
    pub error_pages: Vec<serve::ErrorPage>,
}

/// One address clients connect to.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// What to bind.
    pub listen: listen::ListenSettings,
    /// How to shake hands; `None` speaks plain HTTP.
    pub tls: Option<tls::TlsSettings>,
    /// Whether every request is sent to an https listener instead of being routed.
    pub redirect_to_https: Option<HttpsPort>,
    /// What every answer says in `Strict-Transport-Security`; only with `tls`.
    pub hsts: Option<HeaderValue>,
    /// Whose connections begin with a PROXY header.
    pub relays: listen::Relays,
    /// Whether HTTP/3 is spoken at the same address over UDP.
    pub http3: Option<Http3>,
}

/// How clients find HTTP/3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http3 {
    /// The port they are told; `None` is the one that is bound.
    pub port: Option<u16>,
}

/// The port a redirect to https names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HttpsPort {
    /// 443, which a URL leaves out.
    Standard,
    /// Any other.
    Other(u16),
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Its unique name in metrics and logs.
    pub name: Box<str>,
    /// Host names in lower case, without port, each exact or `*.` and the rest; empty is any host.
    pub hosts: Vec<Box<str>>,
    /// Canonical path prefix, matched by segment.
    pub path: Box<str>,
    /// Methods; empty is any.
    pub methods: Vec<Method>,
    /// Who may pass.
    pub auth: auth::RouteAuth,
    /// What is done.
    pub action: Action,
    /// Fields set on every answer.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Fields set on every answer that has not got them.
    pub default_headers: Vec<(HeaderName, HeaderValue)>,
    /// What a browser is shown of a failure, one page a status; those of [`Server`] included.
    pub error_pages: Vec<serve::ErrorPage>,
    /// What scripts of other origins may do, if the gateway says it.
    pub cors: Option<CorsSettings>,
    /// Which answers are compressed, if any.
    pub compress: Option<CompressSettings>,
    /// Indices into [`Config::rate_limits`]: how often it may be used.
    pub rate_limits: Vec<usize>,
    /// Bytes a request body may have.
    pub body_bytes: u64,
    /// What its tunnels may do.
    pub tunnels: Tunnels,
}

/// A route that no client takes: files that an upstream may have sent in the place of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Internal {
    /// Its unique name in logs.
    pub name: Box<str>,
    /// Canonical path prefix, below which the files are named.
    pub path: Box<str>,
    /// The files.
    pub site: files::SiteSettings,
    /// Indices into [`Config::upstreams`]: who may hand them out.
    pub handed_out_by: Vec<usize>,
}

/// What the tunnels of one route may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnels {
    /// How many there may be, for the whole process; 0 refuses them.
    pub most: usize,
    /// How long one may be idle.
    pub idle: Duration,
    /// Whether tunnels and streams of events end when their token expires.
    pub end_with_token: bool,
}

/// What a route does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Forwards the request.
    Upstream {
        /// Index into [`Config::upstreams`].
        upstream: usize,
        /// What replaces the route's path in the forwarded target.
        replace_prefix: Option<Box<str>>,
    },
    /// Serves a file.
    Files(files::SiteSettings),
    /// Sends the client elsewhere.
    Redirect {
        /// An absolute path or an http(s) URL with `{host}`, `{path}` and `{query}` (with its question mark) to fill in.
        to: Box<str>,
        /// 301, 302, 307 or 308.
        status: http::StatusCode,
    },
    /// Answers with a document of the gateway's own.
    Publish(Publication),
}

/// What a route publishes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publication {
    /// The public keys of every issuer whose keys are in files, and the gateway's own.
    KeySet,
    /// The gateway's own public key.
    IdentityKey,
    /// The metadata of a protected resource (RFC 9728).
    ResourceMetadata {
        /// Its URL.
        resource: Box<str>,
        /// Indices into [`Config::issuers`], each with an `issuer`; at least one.
        issuers: Vec<usize>,
        /// Scopes to be told.
        scopes: Vec<Box<str>>,
    },
}
