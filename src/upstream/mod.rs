//! Upstreams: pools of leased connections and forwarding.
//!
//! Owns how a request gets to one of several equal endpoints and how the response comes back. Refuses to know who the
//! client is, what a permit is and how a failure is answered.

mod address;
mod affinity;
mod balance;
mod balance_settings;
mod body;
mod breaker;
mod buffer;
mod connect;
mod endpoint;
mod failure;
mod forward;
mod gate;
mod health;
mod interim;
mod keepalive;
mod members;
mod multiplex;
mod names;
mod presence;
mod queue;
mod retry;
mod settings;
mod slot;
mod stream;
mod tally;
mod tls;
mod upgrade;
mod uwsgi;
mod whoami;

use std::future::Future;
use std::sync::Arc;
use std::time::Instant;

pub use address::{Address, AddressError, Place, Wire};
pub use affinity::Affinity;
pub use balance_settings::{Balance, HashOn, Rank, SealSecret, StickySettings};
pub use breaker::BreakerSettings;
pub use failure::{BodyFailure, UpstreamFailure};
pub use forward::{Failed, Forwarded, OnBehalf};
pub use gate::{ConcurrencyBounds, QueueOrder};
pub use health::{EjectSettings, HealthSettings, LatencySettings, ProbeSettings, Question, Standing};
pub use interim::{Interim, OnInterim};
pub use names::{Answer, Found, Name, NameBook, NameSettings, Query, Records, Resolver, Trouble};
pub use presence::Presence;
pub use retry::RetrySettings;
pub use settings::*;
pub use tls::{TlsClient, UpstreamTlsProblem};
pub use upgrade::{Switched, TunnelEnd, Upgrade};

use crate::http::{RequestBody, Spool, SpoolError};
use crate::observe::{EndpointHealth, EndpointMeter, UpstreamStatus};
use crate::shutdown::Tasks;
use breaker::{Breaker, Fuse};
use buffer::Buffers;
use endpoint::{Endpoint, Lanes, Shared};
use health::{Gone, Ward, Watch, keep_comparing, keep_probing};
use members::Members;
use queue::Queue;
use retry::Retries;

/// What the whole process shares about one upstream: permits, learned keep-alive, endpoints' standing. What belongs to one endpoint survives
/// reloads that keep the endpoint; its connections do where they keep how it is connected to.
#[derive(Debug, Clone)]
pub struct Group {
    settings: Arc<UpstreamSettings>,
    /// Parallel to the settings' endpoints.
    shared: Vec<Arc<Shared>>,
    /// There if an endpoint wants it.
    tls: Option<TlsClient>,
    /// There if requests' bodies are kept until they are whole.
    spool: Option<Spool>,
    /// There if responses are kept for slow clients.
    buffer: Option<Spool>,
    ward: Arc<Ward>,
    /// There if it is left alone when it fails.
    breaker: Option<Arc<Breaker>>,
    retries: Arc<Retries>,
    queue: Arc<Queue>,
}

/// One upstream as one worker sees it, with that worker's own pools.
#[derive(Debug)]
pub struct Upstream {
    settings: Arc<UpstreamSettings>,
    members: Members,
    spool: Option<Spool>,
    buffers: Option<Arc<Buffers>>,
    fuse: Option<Fuse>,
    retries: Arc<Retries>,
}

/// What is known of one endpoint.
type Known<'a> = (((&'a Address, &'a Arc<Presence>), &'a Arc<Standing>), &'a Arc<Shared>);

impl Upstream {
    /// Whether its endpoints are told who the user is otherwise than by a field.
    pub fn tells_user(&self) -> bool {
        self.settings.endpoints.iter().any(|address| address.wire == Wire::Uwsgi)
    }

    /// What kind of application server it is.
    pub fn kind(&self) -> Kind {
        self.settings.kind
    }

    /// Whether its endpoints are told when a request came.
    pub fn says_request_start(&self) -> bool {
        self.settings.request_start
    }

    /// Whether all endpoints take many requests on one connection, so that one which lasts holds little.
    pub fn converses(&self) -> bool {
        self.members.endpoints().all(|endpoint| endpoint.address().wire == Wire::Http2)
    }

    /// Takes as much of a request's body as must be there before a connection is leased: a client that sends slowly keeps itself waiting
    /// and no connection. All of it, if its length must be known and is not, or if slow clients are to hold nothing here; else the
    /// beginning, or all if that is little. What the client does wrong shows when the body is read.
    ///
    /// Not cancel safe: what was read is lost.
    pub async fn gather(&self, body: &mut RequestBody) -> Result<(), SpoolError> {
        let unknown = http_body::Body::size_hint(body).exact().is_none();
        let whole = match &self.spool {
            Some(spool) if unknown && self.settings.needs_length() => Some(spool),
            spool => {
                body.read_ahead().await;
                spool.as_ref().filter(|_| self.settings.buffer_requests && body.is_coming())
            }
        };
        match whole {
            // Boxed: few bodies come so slowly, and its state would be part of every request's future.
            Some(spool) => Box::pin(body.spool(spool)).await,
            None => Ok(()),
        }
    }
}

impl Group {
    /// A group whose endpoints nothing is known of yet.
    pub fn new(settings: UpstreamSettings) -> Result<Self, UpstreamTlsProblem> {
        let now = Instant::now();
        let fresh = |address: &Address| Shared::new(&settings, address.wire, Arc::new(Presence::new(now)));
        let shared: Vec<Arc<Shared>> = settings.endpoints.iter().map(fresh).collect();
        let wants_tls = settings.endpoints.iter().any(|address| address.tls);
        let tls = wants_tls.then(|| TlsClient::compile(&settings.tls)).transpose()?;
        let spool = settings.spools().then(|| Spool::new(settings.spool.clone()));
        let buffer = settings.buffer_responses.clone().map(Spool::new);
        let queue = Queue::new(settings.queue);
        let (ward, retries) = (Arc::new(ward(&settings, &shared)), Retries::new(None));
        let breaker = settings.breaker.as_ref().map(|breaker| Breaker::new(&settings.name, breaker, None));
        Ok(Self { settings: Arc::new(settings), shared, tls, spool, buffer, ward, breaker, retries, queue })
    }

    /// It comes by a reload. What is kept and known for the upstream that had this name before counts for this one. An endpoint that stays
    /// keeps its presence and standing, and its connections too if nothing changed about how they are made; one that is new has to be well
    /// before it is used, if it is probed, and warms up.
    #[must_use]
    pub fn continuing(self, before: Option<&Self>) -> Self {
        let continuing = |now: Option<Spool>, before: Option<&Spool>| match (now, before) {
            (Some(now), Some(before)) => Some(now.continuing(before)),
            (now, _) => now,
        };
        let spool = continuing(self.spool, before.and_then(Self::spool));
        let buffer = continuing(self.buffer, before.and_then(Self::buffer));
        let (now, alike) = (Instant::now(), before.filter(|before| self.settings.connects_like(&before.settings)));
        let shared =
            self.settings.endpoints.iter().map(|address| match before.and_then(|before| before.shared_of(address)) {
                Some(same) if alike.is_some() => Arc::clone(same),
                Some(same) => Shared::new(&self.settings, address.wire, Arc::clone(&same.presence)),
                None if before.is_some() => Shared::new(&self.settings, address.wire, Arc::new(Presence::added(now))),
                None => Shared::new(&self.settings, address.wire, Arc::new(Presence::new(now))),
            });
        let shared: Vec<Arc<Shared>> = shared.collect();
        let tls = alike.and_then(|before| before.tls.clone()).or(self.tls);
        let ward = ward(&self.settings, &shared).continuing(before.map(|before| &*before.ward));
        let retries = Retries::new(before.map(|before| &*before.retries));
        let known = before.and_then(|before| before.breaker.as_ref());
        let breaker = self.settings.breaker.as_ref().map(|breaker| Breaker::new(&self.settings.name, breaker, known));
        let (settings, queue, ward) = (self.settings, self.queue, Arc::new(ward));
        Self { settings, shared, tls, spool, buffer, ward, breaker, retries, queue }
    }

    /// The same with other endpoints, because a name of its settings has other addresses. All else is what it was, and so is an endpoint that
    /// stays.
    #[must_use]
    pub fn with_endpoints(&self, settings: UpstreamSettings) -> Self {
        let now = Instant::now();
        let shared = settings.endpoints.iter().map(|address| {
            let added = || Shared::new(&settings, address.wire, Arc::new(Presence::added(now)));
            self.shared_of(address).map_or_else(added, Arc::clone)
        });
        let shared: Vec<Arc<Shared>> = shared.collect();
        let ward = Arc::new(ward(&settings, &shared).continuing(Some(&self.ward)));
        let retries = Retries::new(Some(&self.retries));
        Self { settings: Arc::new(settings), shared, ward, retries, ..self.clone() }
    }

    fn shared_of(&self, address: &Address) -> Option<&Arc<Shared>> {
        let at = self.settings.endpoints.iter().position(|known| known == address)?;
        self.shared.get(at)
    }

    /// Its endpoints, and what is known of each whatever connections there are.
    pub fn presences(&self) -> impl Iterator<Item = (&Address, &Arc<Presence>)> {
        self.settings.endpoints.iter().zip(self.shared.iter().map(|shared| &shared.presence))
    }

    /// It is live now. What keeps asking its endpoints how they are, one future an endpoint that is probed; `tasks` runs what they need.
    pub fn watch(&self, tasks: &Tasks) -> Vec<(Arc<Standing>, impl Future<Output = ()> + Send + use<>)> {
        self.ward.settle();
        let asks = self.settings.health.probe.is_some();
        let probed = self.ward.addresses().enumerate().filter(|(_, address)| asks && !address.is_name());
        let keep = |(at, address): (usize, &Address)| {
            let tls = self.tls.clone().filter(|_| address.tls);
            let ward = Arc::clone(&self.ward);
            let probing = keep_probing(ward, at, address.clone(), tls, self.settings.announce, tasks.clone());
            (Arc::clone(self.ward.standing(at)), probing)
        };
        probed.map(keep).collect()
    }

    /// What keeps comparing its endpoints with one another, if slow ones are ejected.
    pub fn compare(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.ward.comparing().map(|_| keep_comparing(Arc::clone(&self.ward)))
    }

    /// Whether what asks the endpoints of `other` asks those that are its own too as it would.
    pub fn probes_like(&self, other: &Self) -> bool {
        let asked = |group: &Self| group.settings.health.probe.clone();
        self.settings.connects_like(&other.settings) && asked(self) == asked(other)
    }

    /// How its endpoints are, and what was tried again.
    pub fn status(&self) -> UpstreamStatus {
        let known = self.presences().zip(self.ward.standings()).zip(&self.shared);
        let endpoint = |(((address, presence), standing), shared): Known<'_>| EndpointHealth {
            endpoint: address.to_string().into(),
            label: address.label().into(),
            standing: match address.is_name() {
                true => "not resolved",
                false if presence.is_resting() => "resting",
                false => standing.word(),
            },
            eligible: standing.eligible() && !address.is_name(),
            ejections: standing.ejections(),
            limit: shared.gate.as_ref().and_then(|gate| gate.limit()),
            probes: self.settings.health.probe.as_ref().map(|_| standing.probes()),
        };
        let gone = |gone: &Gone| EndpointHealth {
            endpoint: gone.label.clone(),
            label: gone.label.clone(),
            standing: "gone",
            eligible: false,
            ejections: gone.ejections.clone(),
            limit: None,
            probes: self.settings.health.probe.as_ref().map(|_| gone.probes.clone()),
        };
        UpstreamStatus {
            gone: self.ward.gone().iter().map(gone).collect(),
            upstream: self.settings.name.clone(),
            endpoints: known.map(endpoint).collect(),
            breaker: self.breaker.as_ref().map(|breaker| breaker.status()),
            retries: self.retries.counts(),
            retries_refused: self.retries.exhausted(),
        }
    }

    /// Where requests' bodies are kept until they are whole, if any are.
    pub fn spool(&self) -> Option<&Spool> {
        self.spool.as_ref()
    }

    /// Where responses are kept for slow clients, if any are.
    pub fn buffer(&self) -> Option<&Spool> {
        self.buffer.as_ref()
    }

    /// What it was made from.
    pub fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// The group as one worker will use it; connections and slow clients' responses have their tasks on `tasks`, `meter` gives each endpoint
    /// its meter. What the same worker had `before` of endpoints that continue is used on, with all connections.
    pub fn on_worker(
        &self,
        tasks: &Tasks,
        meter: impl Fn(&Address) -> EndpointMeter,
        before: Option<&Upstream>,
    ) -> Upstream {
        let endpoints = self.settings.endpoints.iter().zip(&self.shared).enumerate();
        let endpoint = |(at, (address, shared)): (usize, (&Address, &Arc<Shared>))| {
            let known = before.and_then(|before| before.members.endpoints().find(|endpoint| endpoint.is_of(shared)));
            let make = || {
                let tls = self.tls.clone().filter(|_| address.tls);
                Lanes::new(address.clone(), tls, Arc::clone(shared), meter(address), tasks.clone())
            };
            let lanes = known.map_or_else(make, Endpoint::lanes);
            let watch = Watch::new(&self.ward, at);
            let endpoint = Endpoint::new(lanes, Arc::clone(&self.queue), Arc::clone(self.ward.standing(at)), watch);
            self.retries.watch(endpoint.active());
            endpoint
        };
        let endpoints = endpoints.map(endpoint).collect();
        Upstream {
            settings: Arc::clone(&self.settings),
            members: Members::new(endpoints, Arc::clone(&self.ward), Arc::clone(&self.settings)),
            spool: self.spool.clone(),
            buffers: self.buffer.clone().map(|spool| Arc::new(Buffers::new(spool, tasks.clone()))),
            fuse: self.breaker.as_ref().map(Fuse::new),
            retries: Arc::clone(&self.retries),
        }
    }
}

/// The standing of each endpoint of an upstream that nothing is known of.
fn ward(settings: &UpstreamSettings, shared: &[Arc<Shared>]) -> Ward {
    let presences = shared.iter().map(|shared| Arc::clone(&shared.presence));
    let endpoints = settings.endpoints.iter().cloned().zip(presences);
    Ward::new(&settings.name, settings.health.clone(), endpoints)
}
