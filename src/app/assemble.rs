//! From a compiled configuration to what each worker serves: the transaction of a reload.
//!
//! Builds everything first and publishes last, so that any problem leaves the old generation as it was. What did not change is
//! carried over, not rebuilt: issuers (and with them the verified tokens), upstreams (and with them warm connections), sites
//! (and with them cached files), TLS session keys.

mod renamed;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::drains::Known;
use super::limits;
use super::publish::documents;
use crate::auth::{
    Authority, ClaimPath, DenyList, Identity, IdentityKey, Issuer, KeyProblem, Policy, Possession, RemoteKeys,
};
use crate::config::{Action, Config, HttpsPort, Internal, Listener, Route};
use crate::fetch::FetchError;
use crate::files::{InternalRoot, InternalRoots, Manifest, Site, SiteSettings, absolute};
use crate::http::cors::Cors;
use crate::http::{Boundary, Spool, SpoolUsage, own_name, own_value};
use crate::limit::Limiter;
use crate::observe::{KeptBodies, Metrics, NO_ROUTE, SpoolStatus, UpstreamStatus};
use crate::redis::Redis;
use crate::route::{Router, Rule};
use crate::serve::{Places, RouteLimits};
use crate::shutdown::Tasks;
use crate::snapshot::{self, Document, Redirect, Rewrite, Snapshot, Tunnels};
use crate::tls::{Acceptor, CertInfo, TlsProblem};
use crate::upstream::{Balance, Group, HashOn, NameBook, Upstream, UpstreamSettings, UpstreamTlsProblem};

/// Why a configuration that compiled can't be served all the same.
#[derive(Debug, thiserror::Error)]
pub(super) enum AssembleError {
    /// A key that was good when the file was read; `config` checks them first.
    #[error("issuer `{issuer}`: {}", problems.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "))]
    Keys { issuer: Box<str>, problems: Vec<KeyProblem> },
    /// The authorities for an issuer's key set can't be used.
    #[error("issuer `{issuer}`")]
    Fetch {
        issuer: Box<str>,
        #[source]
        source: FetchError,
    },
    /// A signing key that was good when the file was read.
    #[error("[identity]")]
    Identity(#[source] KeyProblem),
    /// A certificate that was good when the file was read.
    #[error("listener `{listener}`")]
    Tls {
        listener: Box<str>,
        #[source]
        problem: TlsProblem,
    },
    /// An upstream's TLS settings that were good when the file was read.
    #[error("upstream `{upstream}`: tls")]
    UpstreamTls {
        upstream: Box<str>,
        #[source]
        problem: UpstreamTlsProblem,
    },
    /// A static root that can't be opened.
    #[error("route `{route}`: cannot open the files root")]
    Root {
        route: Box<str>,
        #[source]
        source: io::Error,
    },
    /// A manifest that was good when the file was read.
    #[error("route `{route}`: cannot use the manifest of its files")]
    Manifest {
        route: Box<str>,
        #[source]
        source: io::Error,
    },
}

/// What is carried from one generation to the next.
#[derive(Debug)]
pub(super) struct Assembly {
    config: Config,
    issuers: Vec<Arc<Issuer>>,
    groups: Vec<Arc<Group>>,
    crew: Vec<Carried>,
    acceptors: HashMap<Box<str>, Acceptor>,
    /// One for each published key set, whichever issuers verify with it.
    remotes: Vec<Arc<RemoteKeys>>,
    /// The tunnels of each route, by its name.
    places: HashMap<Box<str>, Places>,
    /// In the order of the configuration.
    limiters: Vec<Arc<Limiter>>,
    /// One for each that is named, whichever routes and workers look into it.
    manifests: Vec<Arc<Manifest>>,
    commons: Commons,
}

/// What all workers share in every generation.
#[derive(Debug, Clone)]
pub(super) struct Commons {
    /// What is revoked.
    pub(super) revoked: Arc<DenyList>,
    /// Which proofs of possession were used.
    pub(super) possession: Arc<Possession>,
    /// Where gateways share.
    pub(super) redis: Option<Arc<Redis>>,
    /// What names stand for.
    pub(super) names: Arc<NameBook>,
}

/// What one worker carries over.
#[derive(Debug)]
struct Carried {
    authority: Arc<Authority>,
    upstreams: Vec<Arc<Upstream>>,
    sites: Vec<(SiteSettings, Arc<Site>)>,
}

impl Carried {
    fn site(&self, settings: &SiteSettings) -> Arc<Site> {
        let (_, site) = self
            .sites
            .iter()
            .find(|(known, _)| known == settings)
            .expect("`carry` opened a site for every route with files");
        Arc::clone(site)
    }
}

/// A generation ready to be published.
pub(super) struct Assembled {
    pub(super) assembly: Assembly,
    /// One for each worker, in order.
    pub(super) snapshots: Vec<Snapshot>,
    /// One for each TLS listener.
    pub(super) acceptors: Vec<(Box<str>, Acceptor)>,
    pub(super) certificates: Vec<CertInfo>,
}

impl Assembly {
    /// What is served now.
    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// What all workers share.
    pub(super) fn commons(&self) -> &Commons {
        &self.commons
    }

    /// The published key sets to be kept fresh.
    pub(super) fn remotes(&self) -> &[Arc<RemoteKeys>] {
        &self.remotes
    }

    /// What is kept for each upstream, whenever it is called.
    pub(super) fn spools(&self) -> impl Fn() -> Vec<SpoolStatus> + Send + Sync + use<> {
        let usage = |spool: Option<&Spool>| spool.map(|spool| Arc::clone(spool.usage()));
        let usages = self.groups.iter().map(|group| {
            let (requests, responses) = (usage(group.spool()), usage(group.buffer()));
            (group.settings().name.clone(), requests, responses)
        });
        let usages: Vec<_> = usages.collect();
        let kept = |usage: &Arc<SpoolUsage>| KeptBodies {
            disk_bytes: usage.disk_bytes(),
            bodies: usage.bodies(),
            written_bytes: usage.written_bytes(),
        };
        move || {
            let status = usages.iter().map(|(upstream, requests, responses)| SpoolStatus {
                upstream: upstream.clone(),
                requests: requests.as_ref().map(kept),
                responses: responses.as_ref().map(kept),
            });
            status.collect()
        }
    }

    /// The endpoints of all upstreams.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = Known> {
        self.groups.iter().flat_map(|group| {
            group.presences().map(|(address, presence)| Known {
                upstream: group.settings().name.clone(),
                endpoint: address.to_string().into(),
                presence: Arc::clone(presence),
            })
        })
    }

    /// The upstreams, in the order of the configuration.
    pub(super) fn groups(&self) -> &[Arc<Group>] {
        &self.groups
    }

    /// How each upstream is, whenever it is called.
    pub(super) fn upstreams(&self) -> impl Fn() -> Vec<UpstreamStatus> + Send + Sync + use<> {
        let groups = self.groups.clone();
        move || groups.iter().map(|group| group.status()).collect()
    }

    /// The issuers, in the order of the configuration.
    pub(super) fn issuers(&self) -> &[Arc<Issuer>] {
        &self.issuers
    }
}

/// Builds `generation` of `config` for the workers whose upstream tasks are given, carrying over from `before`.
pub(super) fn assemble(
    config: Config,
    before: Option<&Assembly>,
    generation: u64,
    metrics: &Metrics,
    crew: &[Tasks],
    commons: &Commons,
) -> Result<Assembled, AssembleError> {
    let remotes = remotes(&config, before)?;
    let issuers = issuers(&config, before, &remotes)?;
    let groups = groups(&config, before, &commons.names)?;
    let documents = documents(&config, &issuers, identity_key(&config)?.as_ref());
    let places = places(&config, before);
    let limiters = limits::limiters(&config, before.map(|before| &*before.limiters));
    let manifests = manifests(&config, before)?;
    let (acceptors, certificates) = acceptors(&config, before)?;
    let mut carried = Vec::with_capacity(crew.len());
    let mut snapshots = Vec::with_capacity(crew.len());
    for (number, tasks) in crew.iter().enumerate() {
        let identity = identity_key(&config)?.map(Arc::new); // of its own: a signature counts references to the key
        let bench = Bench {
            config: &config,
            issuers: &issuers,
            identity,
            documents: &documents,
            groups: &groups,
            places: &places,
            limiters: &limiters,
            manifests: &manifests,
            metrics,
            number,
            commons,
        };
        let old = before.and_then(|before| before.crew.get(number).map(|carried| (before, carried)));
        let worker = bench.carry(old, tasks)?;
        snapshots.push(bench.snapshot(generation, &worker));
        carried.push(worker);
    }
    let kept = acceptors.iter().map(|(name, acceptor)| (name.clone(), acceptor.clone())).collect();
    let assembly = Assembly {
        config,
        issuers,
        groups,
        crew: carried,
        acceptors: kept,
        remotes,
        places,
        limiters,
        manifests,
        commons: commons.clone(),
    };
    Ok(Assembled { assembly, snapshots, acceptors, certificates })
}

/// A key set whose settings did not change is carried over, whatever else changed about its issuers; one that is only to be fetched
/// otherwise begins with the keys it had.
fn remotes(config: &Config, before: Option<&Assembly>) -> Result<Vec<Arc<RemoteKeys>>, AssembleError> {
    let mut remotes: Vec<Arc<RemoteKeys>> = Vec::new();
    for issuer in &config.issuers {
        let Some(settings) = &issuer.remote else { continue };
        if remotes.iter().any(|known| known.settings() == settings) {
            continue;
        }
        let old = || before.iter().flat_map(|before| &before.remotes);
        let failed = |source| AssembleError::Fetch { issuer: issuer.name.clone(), source };
        if let Some(same) = old().find(|known| known.settings() == settings) {
            remotes.push(Arc::clone(same));
            continue;
        }
        let remote = RemoteKeys::new(settings.clone()).map_err(failed)?;
        remotes.push(Arc::new(match old().find(|known| known.settings().source == settings.source) {
            Some(like) => remote.continuing(like),
            None => remote,
        }));
    }
    Ok(remotes)
}

fn issuers(
    config: &Config,
    before: Option<&Assembly>,
    remotes: &[Arc<RemoteKeys>],
) -> Result<Vec<Arc<Issuer>>, AssembleError> {
    let mut issuers = Vec::with_capacity(config.issuers.len());
    for settings in &config.issuers {
        let same = before.and_then(|before| {
            let at = before.config.issuers.iter().position(|old| old == settings)?;
            before.issuers.get(at).cloned()
        });
        let compile = || {
            let failed = |problems| AssembleError::Keys { issuer: settings.name.clone(), problems };
            let (issuer, _) = Issuer::compile(settings.clone()).map_err(failed)?;
            let remote =
                settings.remote.as_ref().and_then(|wanted| remotes.iter().find(|one| one.settings() == wanted));
            Ok(Arc::new(match remote {
                Some(remote) => issuer.fed_by(Arc::clone(remote)),
                None => issuer,
            }))
        };
        issuers.push(same.map_or_else(compile, Ok)?);
    }
    Ok(issuers)
}

fn identity_key(config: &Config) -> Result<Option<IdentityKey>, AssembleError> {
    config.identity.as_ref().map(IdentityKey::compile).transpose().map_err(AssembleError::Identity)
}

/// What is carried over and compared has the endpoints that names stand for now in the place of the names.
fn groups(config: &Config, before: Option<&Assembly>, book: &NameBook) -> Result<Vec<Arc<Group>>, AssembleError> {
    let group = |settings: &UpstreamSettings| {
        let settings = book.expand(settings);
        let same = before.and_then(|before| before.groups.iter().find(|group| *group.settings() == settings));
        let failed = |problem| AssembleError::UpstreamTls { upstream: settings.name.clone(), problem };
        let named = || before?.groups.iter().find(|group| group.settings().name == settings.name);
        if let Some(same) = same {
            return Ok(Arc::clone(same));
        }
        let group = Group::new(settings.clone()).map_err(failed)?;
        let reloading = before.is_some();
        Ok(Arc::new(if reloading { group.continuing(named().map(|group| &**group)) } else { group }))
    };
    config.upstreams.iter().map(group).collect()
}

/// Tunnels outlive reloads, and so does their count.
fn places(config: &Config, before: Option<&Assembly>) -> HashMap<Box<str>, Places> {
    let places = |route: &Route| {
        let known = before.and_then(|before| before.places.get(&route.name));
        (route.name.clone(), known.cloned().unwrap_or_default().at_most(route.tunnels.most))
    };
    config.routes.iter().map(places).collect()
}

/// A manifest may be large: it is read once for all workers, and not anew while it is the same one.
fn manifests(config: &Config, before: Option<&Assembly>) -> Result<Vec<Arc<Manifest>>, AssembleError> {
    let mut manifests: Vec<Arc<Manifest>> = Vec::new();
    for (route, settings) in sites(config) {
        if settings.manifest.is_none() || manifest(settings, &manifests).is_some() {
            continue;
        }
        let same = before.and_then(|before| manifest(settings, &before.manifests));
        let open = |name: &str| {
            let failed = |source| AssembleError::Manifest { route: route.clone(), source };
            Manifest::open(&settings.root, name).map(Arc::new).map_err(failed)
        };
        let opened = || settings.manifest.as_ref().map(|manifest| open(&manifest.name)).transpose();
        manifests.extend(same.map_or_else(opened, |same| Ok(Some(same)))?);
    }
    Ok(manifests)
}

/// What serves files, to clients or for an upstream, with the name of its route.
fn sites(config: &Config) -> impl Iterator<Item = (&Box<str>, &SiteSettings)> {
    let served = config.routes.iter().filter_map(|route| match &route.action {
        Action::Files(settings) => Some((&route.name, settings)),
        _ => None,
    });
    served.chain(config.internal.iter().map(|internal| (&internal.name, &internal.site)))
}

/// The one that `settings` name.
fn manifest(settings: &SiteSettings, manifests: &[Arc<Manifest>]) -> Option<Arc<Manifest>> {
    let wanted = settings.manifest.as_ref()?;
    manifests.iter().find(|known| known.is(&settings.root, &wanted.name)).cloned()
}

type Acceptors = (Vec<(Box<str>, Acceptor)>, Vec<CertInfo>);

fn acceptors(config: &Config, before: Option<&Assembly>) -> Result<Acceptors, AssembleError> {
    let (mut acceptors, mut certificates) = (Vec::new(), Vec::new());
    for Listener { listen, tls, .. } in &config.listeners {
        let Some(settings) = tls else { continue };
        let old = before.and_then(|before| before.acceptors.get(&listen.name));
        let compiled = old.map_or_else(|| Acceptor::compile(settings), |old| old.recompile(settings));
        let (acceptor, infos) =
            compiled.map_err(|problem| AssembleError::Tls { listener: listen.name.clone(), problem })?;
        acceptors.push((listen.name.clone(), acceptor));
        certificates.extend(infos);
    }
    Ok((acceptors, certificates))
}

/// The port a plain listener sends its requests to.
pub(super) fn https_port(listener: &Listener) -> Option<u16> {
    listener.redirect_to_https.map(|port| match port {
        HttpsPort::Standard => 443,
        HttpsPort::Other(port) => port,
    })
}

/// Where one worker's snapshot is put together.
struct Bench<'a> {
    config: &'a Config,
    issuers: &'a [Arc<Issuer>],
    identity: Option<Arc<IdentityKey>>,
    /// In the order of the routes.
    documents: &'a [Option<Document>],
    groups: &'a [Arc<Group>],
    places: &'a HashMap<Box<str>, Places>,
    limiters: &'a [Arc<Limiter>],
    manifests: &'a [Arc<Manifest>],
    metrics: &'a Metrics,
    number: usize,
    commons: &'a Commons,
}

impl Bench<'_> {
    fn carry(&self, old: Option<(&Assembly, &Carried)>, tasks: &Tasks) -> Result<Carried, AssembleError> {
        let entries = self.config.server.token_cache_entries;
        let authority = old.filter(|(before, _)| before.config.server.token_cache_entries == entries).map_or_else(
            || {
                let Commons { revoked, possession, .. } = self.commons.clone();
                Arc::new(Authority::new(entries, revoked, possession).counted_on(self.metrics.worker(self.number)))
            },
            |(_, carried)| Arc::clone(&carried.authority),
        );
        let mut sites: Vec<(SiteSettings, Arc<Site>)> = Vec::new();
        for (route, settings) in self::sites(self.config) {
            if sites.iter().any(|(known, _)| known == settings) {
                continue;
            }
            let same = old.and_then(|(_, carried)| carried.sites.iter().find(|(known, _)| known == settings));
            let site = match same {
                Some((_, site)) => Arc::clone(site),
                None => Arc::new(
                    Site::open(settings.clone(), manifest(settings, self.manifests))
                        .map_err(|source| AssembleError::Root { route: route.clone(), source })?,
                ),
            };
            sites.push((settings.clone(), site));
        }
        let upstreams = self.groups.iter().map(|group| self.upstream(group, old, tasks)).collect();
        Ok(Carried { authority, upstreams, sites })
    }

    fn upstream(&self, group: &Arc<Group>, old: Option<(&Assembly, &Carried)>, tasks: &Tasks) -> Arc<Upstream> {
        let same = old.and_then(|(before, carried)| {
            let at = before.groups.iter().position(|known| Arc::ptr_eq(known, group))?;
            carried.upstreams.get(at)
        });
        same.cloned().unwrap_or_else(|| {
            let name = &group.settings().name;
            let before = old.and_then(|(before, carried)| {
                let at = before.groups.iter().position(|known| known.settings().name == *name)?;
                carried.upstreams.get(at)
            });
            let meter = |address: &crate::upstream::Address| self.metrics.endpoint(self.number, name, &address.label());
            Arc::new(group.on_worker(tasks, meter, before.map(|before| &**before)))
        })
    }

    fn snapshot(&self, generation: u64, carried: &Carried) -> Snapshot {
        let internal = self.internal(carried);
        let rules = self.config.routes.iter().zip(self.documents).map(|(route, document)| Rule {
            hosts: route.hosts.clone(),
            path: route.path.clone(),
            methods: route.methods.clone(),
            value: Arc::new(self.route(route, document.as_ref(), carried, &internal)),
        });
        Snapshot {
            generation,
            router: Router::new(rules).with_unknown_host(self.config.server.unknown_host),
            authority: Arc::clone(&carried.authority),
            boundary: Boundary::new(self.config.server.trusted_proxies.clone(), identity_headers(self.config))
                .believing(self.config.server.trusted_fields),
            limits: self.config.limits,
            pages: self.config.server.error_pages.clone(),
            unmatched: self.metrics.route(self.number, NO_ROUTE),
        }
    }

    fn route(
        &self,
        route: &Route,
        document: Option<&Document>,
        carried: &Carried,
        internal: &[Option<Arc<InternalRoots>>],
    ) -> snapshot::Route {
        snapshot::Route {
            name: (*route.name).into(),
            policy: Policy::compile(&route.auth, self.issuers),
            action: self.action(route, document, carried, internal),
            limits: self.limits(route),
            body_bytes: route.body_bytes,
            tunnels: Tunnels {
                places: self.places.get(&route.name).cloned().unwrap_or_default(),
                idle: route.tunnels.idle,
                end_with_token: route.tunnels.end_with_token,
            },
            response_headers: own_copies(&route.response_headers),
            default_headers: own_copies(&route.default_headers),
            pages: route.error_pages.clone(),
            cors: route.cors.as_ref().map(Cors::new),
            compress: route.compress.clone(),
            meter: self.metrics.route(self.number, &route.name),
            decisions: self.metrics.auth(self.number, &route.name),
        }
    }

    fn limits(&self, route: &Route) -> Option<RouteLimits> {
        let redis = self.commons.redis.as_ref();
        limits::of_route(self.config, route, self.limiters, redis, |limit| self.metrics.limit(self.number, limit))
    }

    fn action(
        &self,
        route: &Route,
        document: Option<&Document>,
        carried: &Carried,
        internal: &[Option<Arc<InternalRoots>>],
    ) -> snapshot::Action {
        let prefix: Box<str> = route.path.trim_end_matches('/').into();
        match &route.action {
            Action::Upstream { upstream, replace_prefix } => snapshot::Action::Proxy {
                upstream: Arc::clone(&carried.upstreams[*upstream]),
                name: (*self.config.upstreams[*upstream].name).into(),
                rewrite: replace_prefix
                    .as_ref()
                    .map(|to| Rewrite { from: prefix, to: to.trim_end_matches('/').into() }),
                identity: self.identity(route),
                internal: internal[*upstream].clone(),
                affinity: self.affinity(*upstream),
            },
            Action::Files(settings) => snapshot::Action::Files { site: carried.site(settings), prefix },
            Action::Redirect { to, status } => snapshot::Action::Redirect(Redirect { to: to.clone(), status: *status }),
            Action::Publish(_) => {
                let document = document.expect("`documents` made one for every route that publishes");
                snapshot::Action::Publish(document.clone())
            }
        }
    }

    /// What each upstream may hand out, in their order.
    fn internal(&self, carried: &Carried) -> Vec<Option<Arc<InternalRoots>>> {
        let of = |upstream: usize| {
            let root = |internal: &Internal| InternalRoot {
                name: internal.name.clone(),
                path: internal.path.trim_end_matches('/').into(),
                root: absolute(&internal.site.root),
                site: carried.site(&internal.site),
                allowed: internal.handed_out_by.contains(&upstream),
            };
            let any = !self.config.internal.is_empty();
            any.then(|| Arc::new(InternalRoots::new(self.config.internal.iter().map(root))))
        };
        (0..self.config.upstreams.len()).map(of).collect()
    }

    fn affinity(&self, upstream: usize) -> Option<ClaimPath> {
        match &self.config.upstreams[upstream].balance {
            Balance::Hash { on: HashOn::Claim(path), .. } => ClaimPath::parse(path).ok(),
            _ => None,
        }
    }

    fn identity(&self, route: &Route) -> Option<Identity> {
        let audience = route.auth.forward.identity.as_deref()?;
        self.identity.as_ref().map(|key| Identity::new(Arc::clone(key), audience))
    }
}

/// Fields in bytes of this worker's own: each answer counts references to them.
fn own_copies(fields: &[(HeaderName, HeaderValue)]) -> Vec<(HeaderName, HeaderValue)> {
    fields.iter().map(|(name, value)| (own_name(name), own_value(value))).collect()
}

/// The headers that carry claims or the gateway's own token, on any route: removed from every request before anything else is done.
fn identity_headers(config: &Config) -> impl Iterator<Item = HeaderName> {
    let own = config.identity.iter().map(|identity| &identity.header);
    config.routes.iter().flat_map(|route| route.auth.identity_headers()).chain(own).cloned()
}
