//! What the admin listener is told about the process: the board the control thread writes and operators read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use super::assemble::https_port;
use crate::auth::{Access, RouteAuth, Rule};
use crate::config::{Action, Config, Internal, Publication, Route};
use crate::observe::{
    CertificateStatus, EndpointStatus, KeySets, ListenerStatus, Metrics, ReloadStatus, RouteStatus, Sharing, Status,
    Upstreams,
};
use crate::tls::CertInfo;
use crate::upstream::{Address, Group};

/// The state operators see.
#[derive(Debug)]
pub(super) struct Board {
    begun: Instant,
    status: Mutex<Status>,
    key_sets: KeySets,
    upstreams: Upstreams,
    sharing: Arc<Sharing>,
}

impl Board {
    /// A board that asks whom the metrics ask.
    pub(super) fn of(metrics: &Metrics) -> Self {
        let (key_sets, upstreams) = (metrics.key_sets().clone(), metrics.upstreams().clone());
        let sharing = Arc::clone(metrics.sharing());
        let status = Status { version: env!("CARGO_PKG_VERSION"), ..Status::default() };
        Self { begun: Instant::now(), status: Mutex::new(status), key_sets, upstreams, sharing }
    }

    /// What is to be shown now.
    pub(super) fn status(&self) -> Status {
        let mut status = self.write(|status| status.clone());
        status.uptime = self.begun.elapsed();
        status.key_sets = self.key_sets.status();
        status.upstreams = self.upstreams.status();
        status.redis = self.sharing.status();
        status
    }

    /// A generation went live.
    pub(super) fn published(&self, generation: u64, config: &Config, certificates: &[CertInfo], groups: &[Arc<Group>]) {
        self.write(|status| {
            if status.generation > 0 {
                status.last_reload = Some(ReloadStatus { at: SystemTime::now(), error: None });
            }
            status.generation = generation;
            status.ready = true;
            status.listeners = listeners(config);
            status.certificates = certificates.iter().map(certificate).collect();
            let internal = config.internal.iter().map(|internal| withheld(config, internal));
            status.routes = config.routes.iter().map(|route| described(config, route)).chain(internal).collect();
            status.endpoints = endpoints(groups);
        });
    }

    /// These are the endpoints from now on.
    pub(super) fn endpoints(&self, groups: &[Arc<Group>]) {
        self.write(|status| status.endpoints = endpoints(groups));
    }

    /// A reload was refused; the old generation stays.
    pub(super) fn refused(&self, error: String) {
        self.write(|status| status.last_reload = Some(ReloadStatus { at: SystemTime::now(), error: Some(error) }));
    }

    /// What is configured is what runs again, after a refused reload was taken back.
    pub(super) fn unchanged(&self) {
        self.write(|status| {
            if let Some(reload) = status.last_reload.as_mut().filter(|reload| reload.error.is_some()) {
                *reload = ReloadStatus { at: SystemTime::now(), error: None };
            }
        });
    }

    /// The drain has begun.
    pub(super) fn draining(&self) {
        self.write(|status| status.draining = true);
    }

    fn write<R>(&self, change: impl FnOnce(&mut Status) -> R) -> R {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn listeners(config: &Config) -> Vec<ListenerStatus> {
    let listener = |listener: &crate::config::Listener| ListenerStatus {
        name: listener.listen.name.clone(),
        address: listener.listen.address,
        tls: listener.tls.is_some(),
        http3: listener.http3.is_some(),
    };
    config.listeners.iter().map(listener).collect()
}

fn certificate(info: &CertInfo) -> CertificateStatus {
    CertificateStatus {
        label: info.label.as_str().into(),
        names: info.names.iter().map(ToString::to_string).collect(),
        expires: info.not_after,
    }
}

fn endpoints(groups: &[Arc<Group>]) -> Vec<EndpointStatus> {
    let of = |group: &Arc<Group>| {
        let (name, slots) = (group.settings().name.clone(), group.settings().max_connections);
        let endpoint = move |address: &Address| EndpointStatus {
            upstream: name.clone(),
            endpoint: address.to_string().into(),
            label: address.label().into(),
            slots,
            drained: false, // the admin listener asks when it is asked
        };
        group.settings().endpoints.iter().map(endpoint).collect::<Vec<_>>()
    };
    groups.iter().flat_map(of).collect()
}

/// One route in words, for the status page and `explain`.
pub fn described(config: &Config, route: &Route) -> RouteStatus {
    let hosts = if route.hosts.is_empty() { "any host".to_owned() } else { route.hosts.join(", ") };
    let methods: Vec<_> = route.methods.iter().map(http::Method::as_str).collect();
    let methods = if methods.is_empty() { String::new() } else { format!("{} ", methods.join(", ")) };
    RouteStatus {
        name: route.name.clone(),
        matches: format!("{methods}{hosts} {}", route.path),
        policy: policy(config, &route.auth),
        action: match &route.action {
            Action::Upstream { upstream, .. } => format!("upstream {}", config.upstreams[*upstream].name),
            Action::Files(site) => format!("files {}", site.root.display()),
            Action::Redirect { to, status } => format!("{} {to}", status.as_u16()),
            Action::Publish(publication) => format!("publish {}", published(config, publication)),
        },
    }
}

/// The same for one that no client takes.
fn withheld(config: &Config, internal: &Internal) -> RouteStatus {
    let by: Vec<&str> = internal.handed_out_by.iter().map(|index| &*config.upstreams[*index].name).collect();
    RouteStatus {
        name: internal.name.clone(),
        matches: format!("no request; {} in X-Accel-Redirect", internal.path),
        policy: format!("internal, handed out by {}", by.join(" or ")),
        action: format!("files {}", internal.site.root.display()),
    }
}

fn published(config: &Config, publication: &Publication) -> String {
    match publication {
        Publication::KeySet => "all public keys".to_owned(),
        Publication::IdentityKey => "the identity key".to_owned(),
        Publication::ResourceMetadata { resource, issuers, .. } => {
            let names: Vec<&str> = issuers.iter().map(|index| &*config.issuers[*index].name).collect();
            format!("the metadata of {resource} (tokens of {})", names.join(" or "))
        }
    }
}

/// Who may pass, on one line.
fn policy(config: &Config, auth: &RouteAuth) -> String {
    let words = |access: &Access| match access {
        Access::Public => "public".to_owned(),
        Access::Link(_) => "signed link".to_owned(),
        Access::Token(settings) => {
            let names: Vec<&str> = settings.issuers.iter().map(|index| &*config.issuers[*index].name).collect();
            let optional = if settings.optional { "optional " } else { "" };
            let rule = asked(&settings.rule);
            let also = if rule.is_empty() { "" } else { ", " };
            let link = if settings.links.is_some() { ", or signed link" } else { "" };
            format!("{optional}token of {}{also}{rule}{link}", names.join(" or "))
        }
    };
    let (read, write) = (words(&auth.read), words(&auth.write));
    if read == write { read } else { format!("reads: {read}; writes: {write}") }
}

/// What a rule asks, without the values.
fn asked(rule: &Rule) -> String {
    let all = |rules: &[Rule], word: &str| {
        rules.iter().map(asked).filter(|words| !words.is_empty()).collect::<Vec<_>>().join(word)
    };
    match rule {
        Rule::All(rules) => all(rules, ", "),
        Rule::Any(rules) => format!("({})", all(rules, " or ")),
        Rule::From(_) => String::new(),
        Rule::Claim(demand) => format!("claim {}", demand.claim),
        Rule::Own(own) => format!("path {}", own.as_str()),
        Rule::Scopes(scopes) => format!("scope {}", scopes.join(" ")),
        Rule::AnyScope(scopes) => format!("one of the scopes {}", scopes.join(" ")),
    }
}

/// One line a listener, for the log.
pub(super) fn listening(config: &Config) -> impl Iterator<Item = String> {
    config.listeners.iter().map(|listener| {
        let scheme = if listener.tls.is_some() { "https" } else { "http" };
        let redirect = https_port(listener).map(|port| format!(" (redirects to port {port})")).unwrap_or_default();
        let http3 = listener.http3.map(|_| " (HTTP/3 too)").unwrap_or_default();
        format!("{scheme}://{}{redirect}{http3}", listener.listen.address)
    })
}
