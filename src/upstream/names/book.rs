//! What is known of all names: written when an answer comes, read when an upstream is built.
//!
//! Owns that changes are said once, and which endpoints a configured upstream has for now. Locked by the control thread alone.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::known::{Answer, Known, Spot, Trouble};
use super::{Name, NameSettings, Query, Records};
use crate::observe::NameStatus;
use crate::upstream::health::random;
use crate::upstream::{Address, Place, Rank, UpstreamSettings};

/// What is known of all names that are looked up.
#[derive(Debug, Default)]
pub struct NameBook {
    entries: Mutex<HashMap<Query, Entry>>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Entry {
    known: Known,
    /// When it was last heard what it stands for.
    good: Option<Instant>,
    lookups: Counts,
}

/// Questions, by what came of them.
#[derive(Debug, Default)]
struct Counts {
    ok: u64,
    troubles: HashMap<&'static str, u64>,
}

impl NameBook {
    /// These names are looked up from now on, and no others. Whether there has been an answer about each, of whatever kind.
    pub fn keep(&self, queries: &[Query]) -> bool {
        let mut entries = self.lock();
        entries.retain(|query, _| queries.contains(query));
        let mut heard = true;
        for query in queries {
            heard &= entries.entry(query.clone()).or_default().known.is_heard();
        }
        heard
    }

    /// Waits until something has changed since it was last waited for.
    ///
    /// Cancel safe.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What came of a question; how long to wait with the next one.
    pub fn heard(&self, query: &Query, came: &Result<Answer, Trouble>, settings: &NameSettings) -> Duration {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(query) else { return settings.ttl.1 };
        let (first, dice) = (!entry.known.is_heard(), random());
        let change = match came {
            Ok(answer) => {
                entry.lookups.ok += 1;
                entry.good = Some(Instant::now());
                entry.known.answered(answer, settings, dice)
            }
            Err(trouble) => {
                *entry.lookups.troubles.entry(trouble.label()).or_default() += 1;
                entry.known.failed(settings, dice)
            }
        };
        say(query, came, entry.known.spots(), change.endpoints, change.fortune);
        if change.crowded {
            tracing::warn!(name = %query, used = entry.known.spots().len(), "name has too many addresses: not all are used");
        }
        if change.endpoints || first {
            self.changed.notify_one();
        }
        change.again
    }

    /// The upstream with what its names stand for now in their place. Of a name that nothing is known of nothing is left, unless there
    /// is nothing else.
    pub fn expand(&self, settings: &UpstreamSettings) -> UpstreamSettings {
        if !settings.endpoints.iter().any(Address::is_name) {
            return settings.clone();
        }
        let configured = settings.endpoints.iter().zip(settings.ranks.iter().copied());
        let (endpoints, ranks) = self.endpoints(configured).into_iter().unzip();
        UpstreamSettings { endpoints, ranks, ..settings.clone() }
    }

    fn endpoints<'a>(&self, configured: impl Iterator<Item = (&'a Address, Rank)>) -> Vec<(Address, Rank)> {
        let (mut endpoints, mut unknown) = (Vec::new(), None);
        let entries = self.lock();
        for (address, rank) in configured {
            let Place::Name(name) = &address.place else {
                endpoints.push((address.clone(), rank));
                continue;
            };
            let spots = entries.get(&name.query()).map_or(&[][..], |entry| entry.known.spots());
            if spots.is_empty() {
                unknown.get_or_insert((address, rank));
            }
            for spot in spots {
                let place = Place::Found { of: name.clone(), at: at(name, spot) };
                endpoints.push((Address { place, ..address.clone() }, ranked(name, rank, spot)));
            }
        }
        if endpoints.is_empty() {
            endpoints.extend(unknown.map(|(address, rank): (&Address, Rank)| (address.clone(), rank)));
        }
        endpoints
    }

    /// Whether the last answer about its name lacks an endpoint.
    pub fn is_resting(&self, address: &Address) -> bool {
        let Place::Found { of, at: place } = &address.place else { return false };
        let entries = self.lock();
        let spots = entries.get(&of.query()).map_or(&[][..], |entry| entry.known.spots());
        spots.iter().any(|spot| spot.resting && at(of, spot) == *place)
    }

    /// How each name is.
    pub fn status(&self) -> Vec<NameStatus> {
        let entries = self.lock();
        let status = |(query, entry): (&Query, &Entry)| NameStatus {
            name: query.to_string().into(),
            addresses: entry.known.spots().iter().filter(|spot| !spot.resting).count(),
            failing: entry.known.is_failing(),
            age: entry.good.map(|good| good.elapsed()),
            lookups: lookups(&entry.lookups),
        };
        let mut all: Vec<NameStatus> = entries.iter().map(status).collect();
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        all
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Query, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where an endpoint is: an address's port is configured, a service's is in its records.
fn at(name: &Name, spot: &Spot) -> SocketAddr {
    match name.records {
        Records::Addresses { port } => SocketAddr::new(spot.found.at.ip(), port),
        Records::Services => spot.found.at,
    }
}

/// What an endpoint counts for: an address what is configured, a service what its record says, after what is configured.
fn ranked(name: &Name, configured: Rank, spot: &Spot) -> Rank {
    match name.records {
        Records::Addresses { .. } => configured,
        Records::Services => {
            Rank { weight: spot.found.weight, priority: configured.priority.saturating_add(spot.found.priority) }
        }
    }
}

fn lookups(counts: &Counts) -> Vec<(&'static str, u64)> {
    let trouble = |trouble: Trouble| {
        let label = trouble.label();
        (label, counts.troubles.get(label).copied().unwrap_or_default())
    };
    let troubles = [Trouble::Missing, Trouble::Empty, Trouble::Failed, Trouble::Timeout].map(trouble);
    [("ok", counts.ok)].into_iter().chain(troubles).collect()
}

/// Says what has changed, once.
fn say(query: &Query, came: &Result<Answer, Trouble>, spots: &[Spot], endpoints: bool, fortune: bool) {
    let addresses = || {
        let word = |spot: &Spot| format!("{}{}", spot.found.at.ip(), if spot.resting { " (resting)" } else { "" });
        spots.iter().map(word).collect::<Vec<_>>().join(" ")
    };
    match came {
        Err(trouble) if fortune && spots.is_empty() => {
            let (name, result) = (query.to_string(), trouble.label());
            tracing::error!(name, result, "name does not resolve: its endpoints are not known, it is asked for again");
        }
        Err(trouble) if fortune => {
            let (name, result) = (query.to_string(), trouble.label());
            tracing::warn!(name, result, kept = addresses(), "name does not resolve: the last known addresses stay");
        }
        Ok(_) if endpoints || fortune => tracing::info!(name = %query, addresses = addresses(), "name resolved"),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::names::Found;

    fn name(text: &str, services: bool) -> Address {
        text.parse::<Address>().expect("an address").as_name(services).expect("a name")
    }

    fn expand(book: &NameBook, configured: &[&Address]) -> Vec<(Address, Rank)> {
        book.endpoints(configured.iter().map(|address| (*address, Rank { weight: 7, priority: 2 })))
    }

    fn tell(book: &NameBook, address: &Address, found: &[(&str, u8, u16)]) {
        let Place::Name(name) = &address.place else { panic!("{address} is no name") };
        let found = found.iter().map(|(at, priority, weight)| Found {
            at: at.parse().expect("an address"),
            priority: *priority,
            weight: *weight,
        });
        let answer = Answer { found: found.collect(), ttl: Duration::ZERO, partial: false };
        book.heard(&name.query(), &Ok(answer), &NameSettings::default());
    }

    fn keep(book: &NameBook, addresses: &[&Address]) -> bool {
        let query = |address: &&Address| match &address.place {
            Place::Name(name) => name.query(),
            _ => panic!("{address} is no name"),
        };
        book.keep(&addresses.iter().map(query).collect::<Vec<_>>())
    }

    fn texts(endpoints: &[(Address, Rank)]) -> Vec<String> {
        endpoints.iter().map(|(address, _)| address.to_string()).collect()
    }

    #[test]
    fn a_name_becomes_its_addresses_and_nothing_where_nothing_is_known_of_it() {
        let (book, app) = (NameBook::default(), name("http://app.internal:8000", false));
        let other: Address = "http://10.9.9.9:80".parse().expect("an address");
        assert!(!keep(&book, &[&app]));
        assert_eq!(texts(&expand(&book, &[&app, &other])), ["http://10.9.9.9:80"]);
        assert_eq!(texts(&expand(&book, &[&app])), ["http://app.internal:8000"], "it alone stays");
        tell(&book, &app, &[("10.0.0.2:0", 0, 0), ("[fd00::1]:0", 0, 0), ("10.0.0.1:0", 0, 0)]);
        assert!(keep(&book, &[&app]));
        let expanded = expand(&book, &[&app, &other]);
        let expected = ["http://10.0.0.1:8000", "http://10.0.0.2:8000", "http://[fd00::1]:8000", "http://10.9.9.9:80"];
        assert_eq!(texts(&expanded), expected);
        assert!(expanded.iter().all(|(_, rank)| *rank == Rank { weight: 7, priority: 2 }));
        let labels: Vec<String> = expanded.iter().map(|(address, _)| address.label()).collect();
        assert_eq!(labels[..3], ["http://app.internal:8000"; 3], "metrics have the configured name");
    }

    #[test]
    fn the_records_of_a_service_say_port_weight_and_priority() {
        let (book, app) = (NameBook::default(), name("https://_http._tcp.app.internal", true));
        keep(&book, &[&app]);
        tell(&book, &app, &[("10.0.0.1:8001", 0, 30), ("10.0.0.1:8002", 1, 10)]);
        let expanded = expand(&book, &[&app]);
        assert_eq!(texts(&expanded), ["https://10.0.0.1:8001", "https://10.0.0.1:8002"]);
        let ranks: Vec<Rank> = expanded.iter().map(|(_, rank)| *rank).collect();
        assert_eq!(ranks, [Rank { weight: 30, priority: 2 }, Rank { weight: 10, priority: 3 }]);
        assert_eq!(expanded[0].0.label(), "https://_http._tcp.app.internal");
    }

    #[test]
    fn one_question_serves_all_ports_and_who_is_not_asked_for_is_forgotten() {
        let book = NameBook::default();
        let (one, other) = (name("http://app:1", false), name("h2c://app:2", false));
        keep(&book, &[&one, &other]);
        tell(&book, &one, &[("10.0.0.1:0", 0, 0)]);
        assert_eq!(texts(&expand(&book, &[&one, &other])), ["http://10.0.0.1:1", "h2c://10.0.0.1:2"]);
        assert_eq!(book.status().len(), 1);
        keep(&book, &[]);
        assert!(book.status().is_empty());
        assert_eq!(texts(&expand(&book, &[&other])), ["h2c://app:2"]);
    }

    #[test]
    fn an_endpoint_that_the_last_answer_lacks_rests() {
        let (book, app) = (NameBook::default(), name("http://app:80", false));
        keep(&book, &[&app]);
        tell(&book, &app, &[("10.0.0.1:0", 0, 0), ("10.0.0.2:0", 0, 0)]);
        tell(&book, &app, &[("10.0.0.1:0", 0, 0)]);
        let expanded = expand(&book, &[&app]);
        let resting: Vec<bool> = expanded.iter().map(|(address, _)| book.is_resting(address)).collect();
        assert_eq!(resting, [false, true]);
    }
}
