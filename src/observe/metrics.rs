//! Every metric family of the product, and the scrape that adds the workers' shards up.
//!
//! Owns: family names, help texts, labels, and where each value comes from. Refuses to know: what an event means to the
//! stage that reports it. Label values come from the configuration or from closed lists, never from a client, so that no
//! traffic can add a series.
//!
//! The hot path does not cross cores: each worker counts in a shard of its own ([`cells`]), and only a scrape reads
//! them all, so values are exact when they are read.

mod book;
mod cells;
mod compression;
mod crowd;
mod family;
mod health;
mod kept;
mod limits;
mod meters;
mod names;
mod numbers;
mod redis;
mod shards;
mod sheet;
mod tunnels;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::crowd::Crowd;
use super::key_sets::KeySets;
use super::names::Names;
use super::redis::Sharing;
use super::spools::Spools;
use super::upstreams::Upstreams;
use book::Book;
use cells::{AuthCells, Count, EndpointCells, IntrospectionCells, ListenerCells, RouteCells, WorkerCells};
pub use cells::{GRPC_CODES, Held, METHODS, STATUSES};
pub use compression::{CODINGS, CompressionMeter};
use compression::{COMPRESS_INPUT_BYTES, COMPRESS_OUTPUT_BYTES, COMPRESS_RESPONSES, COMPRESS_SKIPPED};
pub use crowd::OverBound;
use crowd::{CLIENTS, CONNECTIONS_REFUSED, HANDSHAKES_UNDER_WAY};
pub use family::{Family, Kind};
pub use limits::LimitMeter;
use limits::{LimitCells, RATE_LIMIT_DECISIONS};
pub use meters::{
    Announcement, AuthMeter, EndpointMeter, Handshake, Introspected, IntrospectionMeter, ListenerMeter, QuicAttempt,
    RouteMeter, TlsVersion, UpstreamFailure, WorkerMeter,
};
pub use numbers::{EndpointNumbers, RouteNumbers};
use sheet::Sheet;
pub use tunnels::{TunnelCause, TunnelMeter};

/// The route label of requests that matched no route.
pub const NO_ROUTE: &str = "none";

const REQUESTS: Family = Family::counter(
    "portcullis_requests_total",
    "Requests whose exchange has ended, by route, method and status; 499 is a client that left.",
    &["route", "method", "status"],
);
const REQUEST_DURATION: Family = Family::histogram(
    "portcullis_request_duration_seconds",
    "Time from the request head to the end of the response body.",
    &["route"],
);
const REQUESTS_IN_FLIGHT: Family =
    Family::gauge("portcullis_requests_in_flight", "Requests begun and not yet ended.", &["route"]);
const REQUEST_BODY_BYTES: Family =
    Family::counter("portcullis_request_body_bytes_total", "Body bytes received from clients.", &["route"]);
const RESPONSE_BODY_BYTES: Family =
    Family::counter("portcullis_response_body_bytes_total", "Body bytes sent to clients.", &["route"]);
const GRPC_CALLS: Family = Family::counter(
    "portcullis_grpc_calls_total",
    "gRPC calls that have ended, by what their client was told; their HTTP status is 200 whatever came of them.",
    &["route", "code"],
);
const TUNNELS_OPEN: Family = Family::gauge("portcullis_tunnels_open", "Tunnels open.", &["route"]);
const TUNNELS_ENDED: Family =
    Family::counter("portcullis_tunnels_ended_total", "Tunnels that have ended, by cause.", &["route", "cause"]);
const TUNNEL_BYTES: Family = Family::counter(
    "portcullis_tunnel_bytes_total",
    "Bytes moved through tunnels, by direction: in from clients, out to them.",
    &["route", "direction"],
);
const AUTH_DECISIONS: Family = Family::counter(
    "portcullis_auth_decisions_total",
    "Authorization decisions; the reason is permitted or why the request was denied.",
    &["route", "reason"],
);
const TOKEN_CACHE_LOOKUPS: Family =
    Family::counter("portcullis_token_cache_lookups_total", "Lookups in the verified-token cache.", &["result"]);
const INTROSPECTIONS: Family = Family::counter(
    "portcullis_introspections_total",
    "Questions to an issuer about a token, by what came of them: active, inactive or unavailable.",
    &["issuer", "outcome"],
);
const INTROSPECTION_DURATION: Family = Family::histogram(
    "portcullis_introspection_duration_seconds",
    "Time a question to an issuer took, the wait for its turn included.",
    &["issuer"],
);
const UPSTREAM_CONNECTIONS_OPENED: Family = Family::counter(
    "portcullis_upstream_connections_opened_total",
    "Connections opened to an endpoint.",
    &["upstream", "endpoint"],
);
const UPSTREAM_CONNECTION_REUSES: Family = Family::counter(
    "portcullis_upstream_connection_reuses_total",
    "Requests sent on a connection that was already open.",
    &["upstream", "endpoint"],
);
const UPSTREAM_ERRORS: Family = Family::counter(
    "portcullis_upstream_errors_total",
    "Failed exchanges with an endpoint, by the stage that failed.",
    &["upstream", "endpoint", "stage"],
);
const UPSTREAM_CONNECTIONS_OPEN: Family = Family::gauge(
    "portcullis_upstream_connections_open",
    "Connections open to an endpoint, idle ones included.",
    &["upstream", "endpoint"],
);
const UPSTREAM_LEASES: Family =
    Family::gauge("portcullis_upstream_leases", "Slots of an endpoint checked out.", &["upstream", "endpoint"]);
const UPSTREAM_WAITING: Family = Family::gauge(
    "portcullis_upstream_waiting_requests",
    "Requests waiting for a slot of an endpoint.",
    &["upstream", "endpoint"],
);
const SPOOL_BYTES: Family =
    Family::gauge("portcullis_spool_bytes", "Bytes of spooled request bodies on disk now, by upstream.", &["upstream"]);
const SPOOLED_REQUESTS: Family = Family::counter(
    "portcullis_spooled_requests_total",
    "Requests whose body was spooled: read whole before it was passed on, by upstream.",
    &["upstream"],
);
const BUFFERED_BYTES: Family =
    Family::gauge("portcullis_buffered_response_bytes", "Bytes of responses on disk for slow clients.", &["upstream"]);
const BUFFERED_RESPONSES: Family =
    Family::counter("portcullis_buffered_responses_total", "Responses read ahead of slow clients.", &["upstream"]);
const BUFFERED_WRITTEN: Family = Family::counter(
    "portcullis_buffered_response_written_bytes_total",
    "Bytes of responses that were written to disk for slow clients, by upstream.",
    &["upstream"],
);
const TLS_HANDSHAKES: Family = Family::counter(
    "portcullis_tls_handshakes_total",
    "TLS handshakes; the version is unknown when none was agreed on.",
    &["listener", "version", "result"],
);
const CONNECTIONS_ACCEPTED: Family =
    Family::counter("portcullis_connections_accepted_total", "Client connections accepted.", &["listener"]);
const CONNECTIONS_OPEN: Family =
    Family::gauge("portcullis_connections_open", "Client connections open.", &["listener"]);
const ACCEPT_ERRORS: Family = Family::counter(
    "portcullis_accept_errors_total",
    "Failures to accept a connection, for want of file descriptors or memory.",
    &["listener"],
);
const PROXY_HEADERS: Family = Family::counter(
    "portcullis_proxy_headers_total",
    "PROXY headers that relays were asked for, by what came.",
    &["listener", "result"],
);
const QUIC_ATTEMPTS: Family = Family::counter(
    "portcullis_quic_attempts_total",
    "Attempts to connect over QUIC, by what became of them: accepted, retried or refused.",
    &["listener", "outcome"],
);
const MALFORMED_REQUESTS: Family = Family::counter(
    "portcullis_malformed_requests_total",
    "Requests refused because they are not canonical HTTP.",
    &["reason"],
);
const PANICS: Family = Family::counter("portcullis_panics_total", "Requests answered with 500 after a panic.", &[]);
const CERTIFICATE_EXPIRY: Family = Family::gauge(
    "portcullis_certificate_expiry_timestamp_seconds",
    "When a served certificate expires, in Unix time.",
    &["certificate"],
);
const CONFIG_GENERATION: Family =
    Family::gauge("portcullis_config_generation", "Number of the live configuration.", &[]);
const CONFIG_LAST_SUCCESS: Family = Family::gauge(
    "portcullis_config_last_reload_success_timestamp_seconds",
    "When the live configuration was published, in Unix time.",
    &[],
);
const CONFIG_LAST_RESULT: Family = Family::gauge(
    "portcullis_config_last_reload_successful",
    "1 if the last configuration read is the live one, 0 if it was refused.",
    &[],
);
const CONFIG_RELOADS: Family =
    Family::counter("portcullis_config_reloads_total", "Configuration reloads, by result.", &["result"]);
const ACCESS_LINES_DROPPED: Family = Family::counter(
    "portcullis_access_log_dropped_lines_total",
    "Access-log lines lost because the log could not keep up or could not be written.",
    &[],
);
const REVOCATIONS: Family =
    Family::gauge("portcullis_revocations", "Revocations held, by what they deny: a jti, a sub or a token.", &["kind"]);
const REVOCATION_CHANGES: Family =
    Family::counter("portcullis_revocation_changes_total", "Changes of the list of revocations.", &[]);
const KEY_SET_KEYS: Family = Family::gauge(
    "portcullis_jwks_keys",
    "Keys in use of an issuer's fetched key set; 0 when none can be had.",
    &["issuer"],
);
const KEY_SET_AGE: Family = Family::gauge(
    "portcullis_jwks_age_seconds",
    "Since an issuer's key set was last fetched; absent if it never was.",
    &["issuer"],
);
const KEY_SET_FETCHES: Family = Family::counter(
    "portcullis_jwks_fetches_total",
    "Fetches of an issuer's key set, by outcome: ok or failed.",
    &["issuer", "outcome"],
);
const BUILD_INFO: Family =
    Family::gauge("portcullis_build_info", "Always 1; the label says which version runs.", &["version"]);

/// Every family, in the order an operator would read them. The process collector adds the `process_*` families.
pub const FAMILIES: &[&Family] = &[
    &REQUESTS,
    &REQUEST_DURATION,
    &REQUESTS_IN_FLIGHT,
    &REQUEST_BODY_BYTES,
    &RESPONSE_BODY_BYTES,
    &COMPRESS_RESPONSES,
    &COMPRESS_INPUT_BYTES,
    &COMPRESS_OUTPUT_BYTES,
    &COMPRESS_SKIPPED,
    &GRPC_CALLS,
    &TUNNELS_OPEN,
    &TUNNELS_ENDED,
    &TUNNEL_BYTES,
    &AUTH_DECISIONS,
    &RATE_LIMIT_DECISIONS,
    &redis::REDIS_UP,
    &redis::REDIS_FALLBACKS,
    &TOKEN_CACHE_LOOKUPS,
    &INTROSPECTIONS,
    &INTROSPECTION_DURATION,
    &REVOCATIONS,
    &REVOCATION_CHANGES,
    &KEY_SET_KEYS,
    &KEY_SET_AGE,
    &KEY_SET_FETCHES,
    &UPSTREAM_CONNECTIONS_OPENED,
    &UPSTREAM_CONNECTION_REUSES,
    &UPSTREAM_ERRORS,
    &health::RETRIES,
    &health::RETRY_BUDGET_EXHAUSTED,
    &health::BREAKER_STATE,
    &health::BREAKER_OPENED,
    &health::BREAKER_REJECTED,
    &health::ENDPOINT_ELIGIBLE,
    &health::ENDPOINT_EJECTIONS,
    &health::CONCURRENCY_LIMIT,
    &health::PROBE_RESULTS,
    &names::LOOKUPS,
    &names::ADDRESSES,
    &names::FAILING,
    &names::AGE,
    &UPSTREAM_CONNECTIONS_OPEN,
    &UPSTREAM_LEASES,
    &UPSTREAM_WAITING,
    &SPOOL_BYTES,
    &SPOOLED_REQUESTS,
    &BUFFERED_BYTES,
    &BUFFERED_RESPONSES,
    &BUFFERED_WRITTEN,
    &TLS_HANDSHAKES,
    &CONNECTIONS_ACCEPTED,
    &CONNECTIONS_OPEN,
    &CONNECTIONS_REFUSED,
    &CLIENTS,
    &HANDSHAKES_UNDER_WAY,
    &ACCEPT_ERRORS,
    &QUIC_ATTEMPTS,
    &PROXY_HEADERS,
    &MALFORMED_REQUESTS,
    &PANICS,
    &CERTIFICATE_EXPIRY,
    &CONFIG_GENERATION,
    &CONFIG_LAST_SUCCESS,
    &CONFIG_LAST_RESULT,
    &CONFIG_RELOADS,
    &ACCESS_LINES_DROPPED,
    &BUILD_INFO,
];

/// The closed lists of label values that other rooms own. A value outside its list counts as `other`.
#[derive(Debug, Clone, Copy)]
pub struct Vocabulary {
    /// Why a request may be denied.
    pub auth_reasons: &'static [&'static str],
    /// Why a request may be called malformed.
    pub malformed_reasons: &'static [&'static str],
}

/// All counts of the process. Handles to one worker's shard come from [`Metrics::route`] and its siblings when a
/// snapshot is compiled; the same name gives the same shard in the next generation, so counts survive reloads.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    ledger: Arc<Ledger>,
}

impl Metrics {
    /// An empty set of counts, with the process's own families registered.
    pub fn new(vocabulary: Vocabulary) -> Arc<Self> {
        let ledger = Arc::new(Ledger::new(vocabulary));
        let registry = Registry::new();
        registry.register(Box::new(Scrape::new(Arc::clone(&ledger)))).expect("FAMILIES has no two of one name");
        registry.register(Box::new(ProcessCollector::for_self())).expect("process_ families are not ours");
        Arc::new(Self { registry, ledger })
    }

    /// The shard of one worker for one route; [`NO_ROUTE`] for requests that matched none.
    pub fn route(&self, worker: usize, route: &str) -> RouteMeter {
        RouteMeter::new(self.ledger.routes.shard(worker, route.into(), RouteCells::default))
    }

    /// The shard of one worker for the authorization decisions of one route.
    pub fn auth(&self, worker: usize, route: &str) -> AuthMeter {
        let reasons = self.ledger.vocabulary.auth_reasons;
        AuthMeter::new(self.ledger.auth.shard(worker, route.into(), || AuthCells::new(reasons)))
    }

    /// The shard of one worker for the decisions of one rate limit.
    pub fn limit(&self, worker: usize, limit: &str) -> LimitMeter {
        LimitMeter::new(self.ledger.limits.shard(worker, limit.into(), LimitCells::default))
    }

    /// The shard of one worker for one endpoint of an upstream.
    pub fn endpoint(&self, worker: usize, upstream: &str, endpoint: &str) -> EndpointMeter {
        let key = (upstream.into(), endpoint.into());
        EndpointMeter::new(self.ledger.endpoints.shard(worker, key, EndpointCells::default))
    }

    /// The shard of one worker for one listener.
    pub fn listener(&self, worker: usize, listener: &str) -> ListenerMeter {
        ListenerMeter::new(self.ledger.listeners.shard(worker, listener.into(), ListenerCells::default))
    }

    /// The shard of one worker for what belongs to no route, endpoint or listener.
    pub fn worker(&self, worker: usize) -> WorkerMeter {
        let reasons = self.ledger.vocabulary.malformed_reasons;
        let cells = self.ledger.workers.shard(worker, (), || WorkerCells::new(reasons));
        WorkerMeter::new(cells, Arc::clone(&self.ledger), worker)
    }

    /// A generation went live. The first one is the start of the process, the later ones count as reloads.
    pub fn published(&self, generation: u64, at: SystemTime) {
        let before = self.ledger.generation.swap(generation, Ordering::Relaxed);
        self.ledger.last_success.store(unix_millis(at), Ordering::Relaxed);
        self.ledger.last_refused.store(false, Ordering::Relaxed);
        if before != 0 {
            self.ledger.reloads_ok.add(1);
        }
    }

    /// A changed configuration was refused and the live generation kept.
    pub fn reload_refused(&self) {
        self.ledger.last_refused.store(true, Ordering::Relaxed);
        self.ledger.reloads_refused.add(1);
    }

    /// The files again say what is live, after a reload that was refused.
    pub fn reload_taken_back(&self) {
        self.ledger.last_refused.store(false, Ordering::Relaxed);
    }

    /// Whom to ask about fetched key sets.
    pub fn key_sets(&self) -> &KeySets {
        &self.ledger.key_sets
    }

    /// Whom to ask about upstreams' health.
    pub fn upstreams(&self) -> &Upstreams {
        &self.ledger.upstreams
    }

    /// Whom to ask about names that are looked up.
    pub fn names(&self) -> &Names {
        &self.ledger.names
    }

    /// Whom to ask about clients that are here now.
    pub fn crowd(&self) -> &Crowd {
        &self.ledger.crowd
    }

    /// Whom to ask about Redis.
    pub fn sharing(&self) -> &Arc<Sharing> {
        &self.ledger.sharing
    }

    /// Whom to ask about spooled request bodies.
    pub fn spools(&self) -> &Spools {
        &self.ledger.spools
    }

    /// Replaces the certificates served: label and expiry of each. Of two with one label the earlier expiry shows.
    pub fn certificates<'a>(&self, served: impl IntoIterator<Item = (&'a str, SystemTime)>) {
        let mut expiries = BTreeMap::new();
        for (label, expires) in served {
            let expiry = expiries.entry(Box::from(label)).or_insert(expires);
            *expiry = expires.min(*expiry);
        }
        *self.ledger.certificates.lock().unwrap_or_else(PoisonError::into_inner) = expiries;
    }

    /// The list of revocations changed: `count` says how many entries by `jti`, by `sub` and by token it has now. It is called
    /// under a lock, so that of two changes at once the later one shows.
    pub fn revocations_changed(&self, count: impl FnOnce() -> [usize; 3]) {
        let mut counts = self.ledger.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        *counts = count();
        self.ledger.revocation_changes.add(1);
    }

    /// Access-log lines that were lost.
    pub fn access_lines_dropped(&self, lines: u64) {
        self.ledger.access_lines_dropped.add(lines);
    }

    /// All families in the Prometheus text format ([`prometheus::TEXT_FORMAT`]).
    pub fn encode(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).expect("every family in a scrape has samples")
    }

    /// What each route has done since the process started, by route name.
    pub fn route_numbers(&self) -> BTreeMap<Box<str>, RouteNumbers> {
        let mut numbers = BTreeMap::new();
        self.ledger.routes.each(|route, shards| {
            numbers.insert(route.clone(), RouteNumbers::read(shards));
        });
        numbers
    }

    /// What each endpoint has done since the process started, by upstream and endpoint.
    pub fn endpoint_numbers(&self) -> BTreeMap<(Box<str>, Box<str>), EndpointNumbers> {
        let mut numbers = BTreeMap::new();
        self.ledger.endpoints.each(|key, shards| {
            numbers.insert(key.clone(), EndpointNumbers::read(shards));
        });
        numbers
    }
}

#[derive(Debug)]
struct Ledger {
    vocabulary: Vocabulary,
    routes: Book<Box<str>, RouteCells>,
    auth: Book<Box<str>, AuthCells>,
    limits: Book<Box<str>, LimitCells>,
    endpoints: Book<(Box<str>, Box<str>), EndpointCells>,
    listeners: Book<Box<str>, ListenerCells>,
    introspections: Book<Box<str>, IntrospectionCells>,
    workers: Book<(), WorkerCells>,
    generation: AtomicU64,
    last_success: AtomicU64,
    last_refused: AtomicBool,
    reloads_ok: Count,
    reloads_refused: Count,
    access_lines_dropped: Count,
    certificates: Mutex<BTreeMap<Box<str>, SystemTime>>,
    /// By `jti`, by `sub` and by token.
    revocations: Mutex<[usize; 3]>,
    revocation_changes: Count,
    key_sets: KeySets,
    spools: Spools,
    upstreams: Upstreams,
    names: Names,
    crowd: Crowd,
    sharing: Arc<Sharing>,
}

impl Ledger {
    fn new(vocabulary: Vocabulary) -> Self {
        Self {
            vocabulary,
            routes: Book::default(),
            auth: Book::default(),
            limits: Book::default(),
            endpoints: Book::default(),
            listeners: Book::default(),
            introspections: Book::default(),
            workers: Book::default(),
            generation: AtomicU64::new(0),
            last_success: AtomicU64::new(0),
            last_refused: AtomicBool::new(false),
            reloads_ok: Count::default(),
            reloads_refused: Count::default(),
            access_lines_dropped: Count::default(),
            certificates: Mutex::default(),
            revocations: Mutex::default(),
            revocation_changes: Count::default(),
            key_sets: KeySets::default(),
            spools: Spools::default(),
            upstreams: Upstreams::default(),
            names: Names::default(),
            crowd: Crowd::default(),
            sharing: Arc::default(),
        }
    }

    fn read(&self) -> Vec<MetricFamily> {
        let mut sheet = Sheet::default();
        self.routes.each(|route, cells| shards::route(&mut sheet, route, cells));
        self.auth.each(|route, cells| shards::auth(&mut sheet, route, cells));
        self.limits.each(|limit, cells| limits::read(&mut sheet, limit, cells));
        self.endpoints.each(|(upstream, endpoint), cells| shards::endpoint(&mut sheet, upstream, endpoint, cells));
        self.listeners.each(|listener, cells| shards::listener(&mut sheet, listener, cells));
        self.introspections.each(|issuer, cells| shards::introspections(&mut sheet, issuer, cells));
        self.workers.each(|(), cells| shards::workers(&mut sheet, cells));
        self.read_process(&mut sheet);
        sheet.into_families()
    }

    fn read_process(&self, sheet: &mut Sheet) {
        for (label, expires) in &*self.certificates.lock().unwrap_or_else(PoisonError::into_inner) {
            sheet.put(&CERTIFICATE_EXPIRY, &[label], unix_millis(*expires) / 1000);
        }
        let revocations = *self.revocations.lock().unwrap_or_else(PoisonError::into_inner);
        for (kind, count) in ["jti", "sub", "token"].into_iter().zip(revocations) {
            sheet.put(&REVOCATIONS, &[kind], u64::try_from(count).unwrap_or(u64::MAX));
        }
        sheet.put(&REVOCATION_CHANGES, &[], self.revocation_changes.value());
        for set in self.key_sets.status() {
            sheet.put(&KEY_SET_KEYS, &[&set.issuer], u64::try_from(set.keys).unwrap_or(u64::MAX));
            if let Some(age) = set.age {
                sheet.put(&KEY_SET_AGE, &[&set.issuer], age.as_secs());
            }
            sheet.put(&KEY_SET_FETCHES, &[&set.issuer, "ok"], set.fetches_ok);
            sheet.put(&KEY_SET_FETCHES, &[&set.issuer, "failed"], set.fetches_failed);
        }
        crowd::read_crowd(sheet, &self.crowd);
        redis::read(sheet, &self.sharing);
        self.spools.status().iter().for_each(|status| kept::read(sheet, status));
        self.upstreams.status().iter().for_each(|status| health::read(sheet, status));
        names::read(sheet, &self.names.status());
        sheet.put(&CONFIG_GENERATION, &[], self.generation.load(Ordering::Relaxed));
        sheet.put_millis(&CONFIG_LAST_SUCCESS, &[], self.last_success.load(Ordering::Relaxed));
        sheet.put(&CONFIG_LAST_RESULT, &[], i32::from(!self.last_refused.load(Ordering::Relaxed)));
        sheet.put(&CONFIG_RELOADS, &["ok"], self.reloads_ok.value());
        sheet.put(&CONFIG_RELOADS, &["refused"], self.reloads_refused.value());
        sheet.put(&ACCESS_LINES_DROPPED, &[], self.access_lines_dropped.value());
        sheet.put(&BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
    }
}

/// What the registry calls at a scrape.
struct Scrape {
    ledger: Arc<Ledger>,
    descriptions: Vec<Desc>,
}

impl Scrape {
    fn new(ledger: Arc<Ledger>) -> Self {
        let describe = |family: &&Family| {
            let labels = family.labels.iter().map(ToString::to_string).collect();
            Desc::new(family.name.to_string(), family.help.to_string(), labels, HashMap::new())
                .expect("family and label names are literals of this file, legal and never twice")
        };
        Self { ledger, descriptions: FAMILIES.iter().map(describe).collect() }
    }
}

impl Collector for Scrape {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.ledger.read()
    }
}

/// Milliseconds since 1970; a time before it, which only a broken clock gives, counts as 0.
fn unix_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
