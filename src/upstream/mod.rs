//! Upstreams: pools of leased connections and forwarding.
//!
//! Owns how a request gets to one of several equal endpoints and how the response comes back. Refuses to know who the
//! client is, what a permit is and how a failure is answered.

mod address;
mod body;
mod connect;
mod endpoint;
mod failure;
mod forward;
mod interim;
mod keepalive;
mod multiplex;
mod settings;
mod slot;
mod stream;
mod tls;
mod upgrade;
mod uwsgi;
mod whoami;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

pub use address::{Address, AddressError, Place, Wire};
pub use failure::{BodyFailure, UpstreamFailure};
pub use forward::{Failed, Forwarded, OnBehalf};
pub use interim::{Interim, OnInterim};
pub use settings::*;
pub use tls::{TlsClient, UpstreamTlsProblem};
pub use upgrade::{Switched, TunnelEnd, Upgrade};

use crate::http::Spool;
use crate::observe::EndpointMeter;
use crate::shutdown::Tasks;
use endpoint::{Endpoint, Shared};

/// What the whole process shares about one upstream: permits, learned keep-alive. Survives reloads that leave its settings alone.
#[derive(Debug)]
pub struct Group {
    settings: Arc<UpstreamSettings>,
    shared: Vec<Arc<Shared>>,
    /// There if an endpoint wants it.
    tls: Option<TlsClient>,
    /// There if a server needs to know how long a body is.
    spool: Option<Spool>,
}

/// One upstream as one worker sees it, with that worker's own pools.
#[derive(Debug)]
pub struct Upstream {
    settings: Arc<UpstreamSettings>,
    endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    spool: Option<Spool>,
}

impl Upstream {
    /// Whether its endpoints are told who the user is otherwise than by a field.
    pub fn tells_user(&self) -> bool {
        self.settings.endpoints.iter().any(|address| address.wire == Wire::Uwsgi)
    }

    /// What kind of application server it is.
    pub fn kind(&self) -> Kind {
        self.settings.kind
    }

    /// Whether all endpoints take many requests on one connection, so that one which lasts holds little.
    pub fn converses(&self) -> bool {
        self.endpoints.iter().all(|endpoint| endpoint.address.wire == Wire::Http2)
    }

    /// Where a body of unknown length must be kept until it is whole, if it must.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }
}

impl Group {
    /// A group whose endpoints nothing is known of yet.
    pub fn new(settings: UpstreamSettings) -> Result<Self, UpstreamTlsProblem> {
        let shared = settings.endpoints.iter().map(|_| Shared::new(&settings)).collect();
        let wants_tls = settings.endpoints.iter().any(|address| address.tls);
        let tls = wants_tls.then(|| TlsClient::compile(&settings.tls)).transpose()?;
        let spool = settings.needs_length().then(|| Spool::new(settings.spool.clone()));
        Ok(Self { settings: Arc::new(settings), shared, tls, spool })
    }

    /// What is spooled for the upstream that had this name before counts for this one.
    #[must_use]
    pub fn continuing(self, before: &Self) -> Self {
        let spool = match (self.spool, &before.spool) {
            (Some(spool), Some(before)) => Some(spool.continuing(before)),
            (spool, _) => spool,
        };
        Self { spool, ..self }
    }

    /// Where bodies are kept that must be whole, if any must.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// What it was made from.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// The group as one worker will use it; connections' tasks are spawned on `tasks`, `meter` gives each endpoint its meter.
    pub fn on_worker(&self, tasks: &Tasks, meter: impl Fn(&Address) -> EndpointMeter) -> Upstream {
        let endpoints = self.settings.endpoints.iter().zip(&self.shared);
        let endpoint = |(address, shared): (&Address, &Arc<Shared>)| {
            let tls = self.tls.clone().filter(|_| address.tls);
            Endpoint::new(address.clone(), tls, Arc::clone(shared), meter(address), tasks.clone())
        };
        Upstream {
            settings: Arc::clone(&self.settings),
            endpoints: endpoints.map(endpoint).collect(),
            turn: AtomicUsize::new(0),
            spool: self.spool.clone(),
        }
    }
}
