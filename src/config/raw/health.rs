//! The tables of an upstream that say when its endpoints are used and what is tried again.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Entry, Seconds};

/// When and for how long requests that fail take an endpoint out of use. A failure is a connection that can't be made or ends without an
/// answer, an answer that is no HTTP, and one that does not come in time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Eject {
    /// Failures in a row, 1 to 1000000. Default: 5.
    pub(in crate::config) consecutive: Entry<i64>,
    /// Share of a window's requests that fail, 0.01 to 1. Default: 0.5.
    pub(in crate::config) error_share: Entry<Seconds>,
    /// Requests that a window must have for its share or its times to count, 1 to 1000000. Default: 20.
    pub(in crate::config) min_requests: Entry<i64>,
    /// Seconds of a window, which begins with a failure, and for times when the last one ends, 0.1 to 3600. Default: 10.
    pub(in crate::config) window_secs: Entry<Seconds>,
    /// Seconds of the first ejection, 0.1 to 3600. Default: 10. Each further one is twice as long.
    pub(in crate::config) base_secs: Entry<Seconds>,
    /// Seconds of the longest ejection, `base_secs` to 86400. Default: 300.
    pub(in crate::config) max_secs: Entry<Seconds>,
    /// Share of the endpoints that may be out of use before no other is ejected, 0 to 1. Default: 0.5. One always may be.
    pub(in crate::config) max_share: Entry<Seconds>,
    /// Statuses of answers that count as failures, 500 to 599. Default: none. A client may be able to bring them about.
    pub(in crate::config) status: Entry<Vec<Entry<i64>>>,
    /// How many times as long as the others an endpoint may take to the first byte of its answers, 1.5 to 1000. Default: none, slow
    /// endpoints are used. The middle of each endpoint's times in a window counts; only where there are three endpoints or more.
    pub(in crate::config) latency_factor: Entry<Seconds>,
    /// Milliseconds below which no endpoint is slow, 1 to 3600000. Default: 50.
    pub(in crate::config) latency_min_ms: Entry<i64>,
}

/// How each endpoint is asked whether it is well, by the process as a whole.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Probe {
    /// What is asked: "http" (a GET), "tcp" (a connection, with TLS where the endpoint has it) or "grpc" (`grpc.health.v1`, over
    /// HTTP/2). Default: "http". A uwsgi endpoint can only be asked for a connection.
    #[schemars(extend("enum" = ["http", "tcp", "grpc"]))]
    pub(in crate::config) kind: Entry<String>,
    /// Target of the GET, with its query if it has one. Required for "http".
    pub(in crate::config) path: Entry<String>,
    /// Host that is asked for. Default: the endpoint's own.
    pub(in crate::config) host: Entry<String>,
    /// Statuses that are good, 200 to 599. Default: `[200]`.
    pub(in crate::config) status: Entry<Vec<Entry<i64>>>,
    /// Text that must be in the first 4 KiB of the answer. Default: none.
    pub(in crate::config) body: Entry<String>,
    /// Name of the gRPC service that is asked about. Default: the server as a whole.
    pub(in crate::config) service: Entry<String>,
    /// Seconds between two probes, 0.1 to 3600, a tenth more or less. Default: 5.
    pub(in crate::config) interval_secs: Entry<Seconds>,
    /// Seconds a probe may take, 0.01 to 60. Default: 2.
    pub(in crate::config) timeout_secs: Entry<Seconds>,
    /// Good probes in a row after which an endpoint is used again, 1 to 100. Default: 2.
    pub(in crate::config) healthy_after: Entry<i64>,
    /// Bad probes in a row after which it is not, 1 to 100. Default: 3.
    pub(in crate::config) unhealthy_after: Entry<i64>,
}

/// When an upstream is left alone. A failure is a request that came to nothing whatever was tried again, for a reason that ejects endpoints.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Breaker {
    /// Share of a window's requests that fail, 0.01 to 1. Default: 0.5.
    pub(in crate::config) error_share: Entry<Seconds>,
    /// Requests that a window must have for its share to count, 1 to 1000000. Default: 20.
    pub(in crate::config) min_requests: Entry<i64>,
    /// Seconds of a window, which begins with a failure, 0.1 to 3600. Default: 10.
    pub(in crate::config) window_secs: Entry<Seconds>,
    /// Seconds for which requests are answered 503 at once, 0.1 to 3600. Default: 5.
    pub(in crate::config) open_secs: Entry<Seconds>,
    /// Requests that are tried then, all of which must go well, 1 to 1000. Default: 3.
    pub(in crate::config) probes: Entry<i64>,
    /// Statuses of answers that count as failures, 500 to 599. Default: none. A client may be able to bring them about.
    pub(in crate::config) status: Entry<Vec<Entry<i64>>>,
}

/// When a request is tried again. One of which no byte was sent may be, whatever it is; one that may have been seen only if its method is
/// idempotent and its body, if it has one, is small.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Retry {
    /// Tries in all, 1 to 10. Default: 3. A kept connection that turned out to be closed is none.
    pub(in crate::config) attempts: Entry<i64>,
    /// Share of the requests under way that may be retries of what may have been seen, 0 to 1. Default: 0.2.
    pub(in crate::config) budget_share: Entry<Seconds>,
    /// How many may be in any case, 0 to 10000. Default: 3.
    pub(in crate::config) budget_min: Entry<i64>,
    /// Milliseconds before the first retry of what may have been seen, 0 to 10000, less up to a half by chance. Default: 5. Each further
    /// pause is twice as long, up to ten times this.
    pub(in crate::config) backoff_ms: Entry<i64>,
    /// Seconds that a try which is not the last may take until the answer's head, 0.001 to 86400. Default: as long as all tries together
    /// may, which is `response_timeout_secs`.
    pub(in crate::config) try_timeout_secs: Entry<Seconds>,
    /// Bytes of the largest body of a request that may be sent again when it may have been seen, 0 to 16777216. Default: 65536; 0 sends
    /// none again. The whole body must have come before the request was sent: the first 64 KiB are read ahead, more only where bodies are
    /// spooled, up to `spool_memory_bytes`.
    pub(in crate::config) body_bytes: Entry<i64>,
    /// What is reason to try again: "connect" (no connection to the endpoint: another is tried), "reset" (it ended without an answer),
    /// and the answers "502", "503" and "504". Default: `["connect", "reset"]`.
    pub(in crate::config) on: Entry<Vec<Entry<String>>>,
}
