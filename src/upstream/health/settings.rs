//! What `config::compile` says of endpoints' health: when one is ejected, and how it is probed.

use std::time::Duration;

/// How the endpoints of one upstream are told good from bad.
#[derive(Debug, Clone, PartialEq)]
pub struct HealthSettings {
    /// When requests that fail take an endpoint out of use; `None` where nothing does.
    pub eject: Option<EjectSettings>,
    /// The share of endpoints below which their standing counts for nothing: all are used then.
    pub panic_share: f64,
    /// How endpoints are asked whether they are well; `None` asks none.
    pub probe: Option<ProbeSettings>,
}

/// When and for how long an endpoint is ejected.
#[derive(Debug, Clone, PartialEq)]
pub struct EjectSettings {
    /// So many failures with no success between them.
    pub consecutive: u32,
    /// So large a share of the requests of a window.
    pub error_share: f64,
    /// The requests that a window must have for its share to mean anything.
    pub min_requests: u64,
    /// How long a window is.
    pub window: Duration,
    /// How long the first ejection lasts; each further one is twice as long.
    pub base: Duration,
    /// How long none lasts longer than.
    pub max: Duration,
    /// The share of endpoints that may be out of use by ejection, but for one, which always may.
    pub max_share: f64,
    /// Statuses of answers that count as failures.
    pub statuses: Box<[u16]>,
    /// When one is ejected because it is slow; `None` where that is no reason.
    pub latency: Option<LatencySettings>,
}

/// When an endpoint is slow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LatencySettings {
    /// So many times as long as the others take.
    pub factor: f64,
    /// And no less than this.
    pub least: Duration,
}

/// How one endpoint is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeSettings {
    /// What is asked.
    pub question: Question,
    /// Between two probes.
    pub interval: Duration,
    /// How long one may take, dialling included.
    pub timeout: Duration,
    /// Good probes in a row after which an endpoint is used again.
    pub healthy_after: u32,
    /// Bad probes in a row after which it is not.
    pub unhealthy_after: u32,
}

/// What a probe asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// Whether it takes connections, TLS included.
    Tcp,
    /// A GET.
    Http {
        /// The target.
        path: Box<str>,
        /// The host; `None` means the endpoint's own.
        host: Option<Box<str>>,
        /// The statuses that are good.
        statuses: Box<[u16]>,
        /// What the first 4 KiB of the answer must have in them.
        body: Option<Box<str>>,
    },
    /// `grpc.health.v1.Health/Check` for a service; an empty name means the server as a whole.
    Grpc {
        /// The service.
        service: Box<str>,
        /// The host; `None` means the endpoint's own.
        host: Option<Box<str>>,
    },
}
