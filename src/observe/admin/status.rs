//! What the rest of the process tells the admin listener about itself. Numbers come from the metrics.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use crate::observe::{EndpointHealth, KeySetStatus, RedisStatus, UpstreamStatus};

/// How the process is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// The version that runs.
    pub version: &'static str,
    /// Since the process started.
    pub uptime: Duration,
    /// All listeners are bound and a configuration is live.
    pub ready: bool,
    /// New requests are refused and old ones finished.
    pub draining: bool,
    /// The number of the live configuration.
    pub generation: u64,
    /// The last attempt to reload, if there was one.
    pub last_reload: Option<ReloadStatus>,
    /// In the order of the configuration, as everything below.
    pub listeners: Vec<ListenerStatus>,
    /// The certificates served.
    pub certificates: Vec<CertificateStatus>,
    /// The routes.
    pub routes: Vec<RouteStatus>,
    /// The key sets that are fetched.
    pub key_sets: Vec<KeySetStatus>,
    /// The endpoints of all upstreams.
    pub endpoints: Vec<EndpointStatus>,
    /// How they are.
    pub upstreams: Vec<UpstreamStatus>,
    /// The link to Redis; `None` where nothing is shared.
    pub redis: Option<RedisStatus>,
    /// Revocations held; `None` where nothing can be revoked.
    pub revocations: Option<usize>,
}

/// How the last reload ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadStatus {
    /// When.
    pub at: SystemTime,
    /// Why it was refused; `None` when it went live.
    pub error: Option<String>,
}

/// A listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerStatus {
    /// The name of its table.
    pub name: Box<str>,
    /// The address bound.
    pub address: SocketAddr,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// Whether it speaks HTTP/3 as well.
    pub http3: bool,
}

/// A certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateStatus {
    /// Its label, as in the metrics.
    pub label: Box<str>,
    /// The names it covers.
    pub names: Vec<String>,
    /// When it ends.
    pub expires: SystemTime,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteStatus {
    /// Its name, as in the metrics.
    pub name: Box<str>,
    /// What it matches: hosts and path.
    pub matches: String,
    /// Who may pass.
    pub policy: String,
    /// What it does with a request.
    pub action: String,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointStatus {
    /// The name of its upstream, as in the metrics.
    pub upstream: Box<str>,
    /// Its address.
    pub endpoint: Box<str>,
    /// What it is called in the metrics: what is configured, which may be a name that stands for many.
    pub label: Box<str>,
    /// Its slots, for the whole process.
    pub slots: usize,
    /// Whether an operator has taken it out of use.
    pub drained: bool,
}

impl Status {
    /// Whether a load balancer should send requests here.
    pub fn takes_requests(&self) -> bool {
        self.ready && !self.draining
    }

    /// How one endpoint is.
    pub fn health(&self, at: &EndpointStatus) -> Option<&EndpointHealth> {
        let upstream = self.upstreams.iter().find(|status| status.upstream == at.upstream)?;
        upstream.endpoints.iter().find(|health| health.endpoint == at.endpoint)
    }

    /// Why the last reload was refused, if it was.
    pub fn last_reload_error(&self) -> Option<&str> {
        self.last_reload.as_ref()?.error.as_deref()
    }
}
