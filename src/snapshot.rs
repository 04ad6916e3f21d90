//! One compiled configuration, as one worker uses it: what was configured, ready to be looked up.
//!
//! Each worker has a snapshot of its own, with its own pools, cache and meters, so nothing on the hot path crosses cores. A
//! request loads the live one once and uses nothing else, so it never sees the routes of one generation and the policy of
//! another. Refuses to know TOML and how a snapshot came about.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::auth::{Authority, ClaimPath, Identity, Policy};
use crate::files::{InternalRoots, Site};
use crate::http::Boundary;
use crate::http::compress::CompressSettings;
use crate::http::cors::Cors;
use crate::observe::{AuthMeter, RouteMeter};
use crate::route::Router;
use crate::serve::{ErrorPage, Limits, Places, RouteLimits};
use crate::upstream::Upstream;

/// One generation on one worker.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts published configurations, from 1.
    pub generation: u64,
    /// Which route a request takes.
    pub router: Router<Arc<Route>>,
    /// Who decides whether a policy is met; survives reloads, so that verified tokens stay known.
    pub authority: Arc<Authority>,
    /// What clients may not say.
    pub boundary: Boundary,
    /// How long and how much.
    pub limits: Limits,
    /// What a browser is shown of a failure that has no route.
    pub pages: Vec<ErrorPage>,
    /// Counts requests that no route matched.
    pub unmatched: RouteMeter,
}

/// One configured route.
#[derive(Debug)]
pub struct Route {
    /// Its name in logs and metrics.
    pub name: Arc<str>,
    /// What it demands.
    pub policy: Policy,
    /// What it does.
    pub action: Action,
    /// How often it may be used, if there is a limit.
    pub limits: Option<RouteLimits>,
    /// Most bytes of a request's body.
    pub body_bytes: u64,
    /// What tunnels through it may do.
    pub tunnels: Tunnels,
    /// Fields set on every response.
    pub response_headers: Vec<(HeaderName, HeaderValue)>,
    /// Fields set on every response that does not have them.
    pub default_headers: Vec<(HeaderName, HeaderValue)>,
    /// What a browser is shown of a failure, one page a status.
    pub pages: Vec<ErrorPage>,
    /// What scripts of other origins may do, if the gateway says it.
    pub cors: Option<Cors>,
    /// Which of its answers are compressed, if any.
    pub compress: Option<CompressSettings>,
    /// Counts its requests.
    pub meter: RouteMeter,
    /// Counts its decisions.
    pub decisions: AuthMeter,
}

/// What the tunnels of one route may do.
#[derive(Debug)]
pub struct Tunnels {
    /// How many there may be, for the whole process.
    pub places: Places,
    /// How long one may be idle.
    pub idle: Duration,
    /// Whether tunnels and streams of events end when their token expires.
    pub end_with_token: bool,
}

/// What a route does with a permitted request.
#[derive(Debug)]
pub enum Action {
    /// Forwards it.
    Proxy {
        /// To whom.
        upstream: Arc<Upstream>,
        /// The upstream's name in logs.
        name: Arc<str>,
        /// How the path changes on the way.
        rewrite: Option<Rewrite>,
        /// What the gateway signs in its own name for each request.
        identity: Option<Identity>,
        /// The files that the upstream may hand out; `None` if there are no internal routes at all.
        internal: Option<Arc<InternalRoots>>,
        /// The claim by which the upstream's endpoint is chosen, if it is one.
        affinity: Option<ClaimPath>,
    },
    /// Answers from a directory.
    Files {
        /// The directory.
        site: Arc<Site>,
        /// The route's path, below which files are named; without a trailing slash.
        prefix: Box<str>,
    },
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Answers with a document of the gateway's own.
    Publish(Document),
}

/// What is published, made once a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Its media type.
    pub media_type: HeaderValue,
    /// Its bytes.
    pub body: Bytes,
    /// A strong entity tag, quotes included.
    pub etag: HeaderValue,
}

/// Puts one path prefix in the place of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// The route's path, without a trailing slash.
    pub from: Box<str>,
    /// What stands in its place, without a trailing slash.
    pub to: Box<str>,
}

/// Where a redirect points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// The location, with `{host}`, `{path}` and `{query}` filled in per request.
    pub to: Box<str>,
    /// 301, 302, 307 or 308.
    pub status: StatusCode,
}

/// The snapshot one worker serves from now.
#[derive(Debug)]
pub struct Live(ArcSwap<Snapshot>);

impl Live {
    /// Starts with `first`.
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// The current snapshot; a request calls this once.
    pub fn current(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Makes `next` current. Requests under way finish with the snapshot they began with.
    pub fn publish(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}
