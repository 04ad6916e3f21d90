//! What operators see: metrics, the access log, the program's own log and the admin listener.
//!
//! A leaf: it imports no stage. Other rooms bring their closed lists of labels ([`Vocabulary`]) and their facts
//! ([`Record`], [`Status`]); how these are counted, written and shown is decided here alone.

mod access;
mod admin;
mod chain;
mod crowd;
mod key_sets;
mod metrics;
mod names;
mod redis;
mod settings;
mod spools;
mod tracing;
mod upstreams;

pub use access::{AccessLog, AccessProblem, AccessSink, Record, is_redacted};
pub use admin::{
    Admin, Answering, Asked, CertificateStatus, Drains, EndpointStatus, ListenerStatus, Refused, ReloadStatus, Reloads,
    Revocations, RouteStatus, Status, StatusSource, Why,
};
pub use chain::Chain;
pub use crowd::Crowd;
pub use key_sets::{KeySetStatus, KeySets};
pub use metrics::{
    Announcement, AuthMeter, CODINGS, CompressionMeter, EndpointMeter, EndpointNumbers, FAMILIES, Family, GRPC_CODES,
    Handshake, Held, Introspected, IntrospectionMeter, Kind, LimitMeter, ListenerMeter, METHODS, Metrics, NO_ROUTE,
    OverBound, QuicAttempt, RouteMeter, RouteNumbers, STATUSES, TlsVersion, TunnelCause, TunnelMeter, UpstreamFailure,
    Vocabulary, WorkerMeter,
};
pub use names::{NameStatus, Names};
pub use redis::{RedisStatus, Sharing};
pub use settings::*;
pub use spools::{KeptBodies, SpoolStatus, Spools};
pub use tracing::{LevelHandle, TracingProblem, init as init_tracing};
pub use upstreams::{BreakerStatus, EndpointHealth, UpstreamStatus, Upstreams};
