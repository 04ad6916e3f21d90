//! Who asks: one question about one name, and what came of it.
//!
//! Answers for RFC 2782. The library has the wire, the servers' addresses and `/etc/hosts`; it remembers nothing, because who asks
//! here asks when the answer's time has run out. Refuses to know what is done with an answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name as Domain, RData, RecordType};
use tokio::time::{Instant as Moment, timeout_at};

use super::known::{Answer, Found, Trouble};
use super::{NameSettings, Query};

/// Most records of a service that are looked at.
const MOST_RECORDS: usize = 64;
/// What the operating system says of names and servers.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Asks about names.
#[derive(Debug)]
pub struct Resolver {
    settings: NameSettings,
    made: Mutex<Option<(Stamp, TokioResolver)>>,
}

/// When the files of the system were last changed.
type Stamp = [Option<SystemTime>; 2];

impl Resolver {
    /// One that asks as the settings say.
    pub fn new(settings: NameSettings) -> Self {
        Self { settings, made: Mutex::new(None) }
    }

    /// What it was made from.
    pub fn settings(&self) -> &NameSettings {
        &self.settings
    }

    /// Asks, within the time that one question has.
    ///
    /// Cancel safe: it keeps nothing.
    pub async fn ask(&self, query: &Query) -> Result<Answer, Trouble> {
        let until = Moment::now() + self.settings.timeout;
        let resolver = self.resolver().ok_or(Trouble::Failed)?;
        if query.services {
            return services(&resolver, &query.host, until).await;
        }
        let (found, ttl, partial) = addresses(&resolver, &query.host, until).await?;
        let found = found.into_iter().map(|ip| Found { at: SocketAddr::new(ip, 0), priority: 0, weight: 0 });
        Ok(Answer { found: found.collect(), ttl, partial })
    }

    /// The library's, made anew when the files of the system have changed.
    fn resolver(&self) -> Option<TokioResolver> {
        let changed = |path: &str| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let stamp = SYSTEM_FILES.map(changed);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.as_ref().is_none_or(|(known, _)| *known != stamp) {
            let fresh = make(&self.settings).inspect_err(|error| tracing::error!(%error, "names can't be looked up"));
            *made = Some((stamp, fresh.ok()?));
        }
        made.as_ref().map(|(_, resolver)| resolver.clone())
    }
}

fn make(settings: &NameSettings) -> Result<TokioResolver, NetError> {
    let own = || {
        let servers = settings.servers.iter().map(|server| {
            let mut config = NameServerConfig::udp_and_tcp(server.ip());
            config.connections.iter_mut().for_each(|connection| connection.port = server.port());
            config
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    // Without servers of its own, a system may still have /etc/hosts.
    let mut builder =
        if settings.servers.is_empty() { TokioResolver::builder_tokio().unwrap_or_else(|_| own()) } else { own() };
    let options = builder.options_mut();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Always;
    // Two tries within the time of the whole.
    options.timeout = settings.timeout / 2;
    options.attempts = 1;
    builder.build()
}

type Addresses = (Vec<IpAddr>, Duration, bool);

/// All addresses of a host, for how long, and whether those of one family could not be learned.
async fn addresses(resolver: &TokioResolver, host: &str, until: Moment) -> Result<Addresses, Trouble> {
    let of = |records| timeout_at(until, resolver.lookup(host, records));
    let (four, six) = tokio::join!(of(RecordType::A), of(RecordType::AAAA));
    let heard = [four, six].map(|one| one.map_err(|_| Trouble::Timeout).and_then(|one| one.map_err(|e| trouble(&e))));
    let (mut found, mut ttl, mut troubles) = (Vec::new(), Duration::MAX, Vec::new());
    for one in heard {
        match one {
            Ok(lookup) => {
                let addresses = lookup.answers().iter().filter_map(|record| record.data.ip_addr());
                found.extend(addresses);
                ttl = ttl.min(left(&lookup));
            }
            Err(trouble) => troubles.push(trouble),
        }
    }
    let unknown = troubles.iter().find(|trouble| matches!(trouble, Trouble::Failed | Trouble::Timeout));
    if found.is_empty() {
        return Err(unknown.or(troubles.first()).copied().unwrap_or(Trouble::Empty));
    }
    Ok((found, ttl, unknown.is_some()))
}

/// The endpoints of a service. Addresses that came along with its records are not asked for.
async fn services(resolver: &TokioResolver, host: &str, until: Moment) -> Result<Answer, Trouble> {
    let lookup = timeout_at(until, resolver.lookup(host, RecordType::SRV)).await.map_err(|_| Trouble::Timeout)?;
    let lookup = lookup.map_err(|error| trouble(&error))?;
    let mut records: Vec<&SRV> = lookup.answers().iter().filter_map(|record| as_srv(&record.data)).collect();
    records.retain(|srv| !srv.target.is_root()); // RFC 2782: "decidedly not available at this domain"
    records.sort_unstable_by_key(|srv| (srv.priority, u16::MAX - srv.weight, srv.port, srv.target.clone()));
    let priorities: BTreeMap<u16, u8> = ranks(records.iter().map(|srv| srv.priority));
    let mut answer = Answer { found: Vec::new(), ttl: left(&lookup), partial: false };
    let mut trouble = Trouble::Empty;
    for srv in records.into_iter().take(MOST_RECORDS) {
        let along = lookup.additionals().iter().filter(|record| record.name == srv.target);
        let mut hosts: Vec<IpAddr> = along.clone().filter_map(|record| record.data.ip_addr()).collect();
        if let Some(ttl) = along.map(|record| record.ttl).min().filter(|_| !hosts.is_empty()) {
            answer.ttl = answer.ttl.min(Duration::from_secs(ttl.into()));
        } else {
            match addresses(resolver, &absolute(&srv.target), until).await {
                Ok((found, ttl, partial)) => {
                    hosts = found;
                    answer.ttl = answer.ttl.min(ttl);
                    answer.partial |= partial;
                }
                Err(why @ (Trouble::Failed | Trouble::Timeout)) => {
                    answer.partial = true;
                    trouble = why;
                }
                Err(_) => {}
            }
        }
        let priority = priorities.get(&srv.priority).copied().unwrap_or_default();
        let found = |ip| Found { at: SocketAddr::new(ip, srv.port), priority, weight: srv.weight.max(1) };
        answer.found.extend(hosts.into_iter().map(found));
    }
    if answer.found.is_empty() { Err(trouble) } else { Ok(answer) }
}

fn as_srv(data: &RData) -> Option<&SRV> {
    match data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    }
}

/// The host of a record is a whole name: nothing is to be appended to it.
fn absolute(target: &Domain) -> String {
    let mut target = target.clone();
    target.set_fqdn(true);
    target.to_ascii()
}

/// Priorities of 16 bits, as numbers from 0 in their order.
fn ranks(priorities: impl Iterator<Item = u16>) -> BTreeMap<u16, u8> {
    let mut ranks: BTreeMap<u16, u8> = priorities.map(|priority| (priority, 0)).collect();
    for (at, (_, rank)) in ranks.iter_mut().enumerate() {
        *rank = u8::try_from(at).unwrap_or(u8::MAX);
    }
    ranks
}

/// How long an answer is good.
fn left(lookup: &Lookup) -> Duration {
    lookup.valid_until().saturating_duration_since(Instant::now())
}

fn trouble(error: &NetError) -> Trouble {
    match error {
        NetError::Timeout => Trouble::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => Trouble::Missing,
            ResponseCode::NoError => Trouble::Empty,
            _ => Trouble::Failed,
        },
        _ => Trouble::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_keep_their_order_as_small_numbers() {
        let ranks = ranks([20, 10, 65535, 10].into_iter());
        assert_eq!(ranks.into_iter().collect::<Vec<_>>(), [(10, 0), (20, 1), (65535, 2)]);
    }

    #[tokio::test]
    async fn localhost_needs_no_server() {
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let resolver = Resolver::new(NameSettings { servers: vec![nobody], ..NameSettings::default() });
        let query = Query { host: "localhost".into(), services: false };
        let answer = resolver.ask(&query).await.expect("an answer");
        assert!(answer.found.iter().any(|found| found.at.ip() == IpAddr::from([127, 0, 0, 1])), "{answer:?}");
    }
}
