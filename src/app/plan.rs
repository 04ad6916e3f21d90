//! The plan of a reload: what another configuration would change about the one that runs, before anything happens.
//!
//! A pure function of two configurations with their texts. What is said of keys is in the words of the file, but a table whose keys
//! are written otherwise and mean the same has not changed; what becomes of connections and counts is asked of [`super::carry`]. Refuses to know how either
//! was read, and what only the system can refuse: an address that is in use shows when it is bound.

mod keys;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use self::keys::{KeyChange, Keys, label};
use super::carry;
use super::restart::{Waiting, keep_what_waits};
use crate::auth::{IssuerSettings, RouteAuth};
use crate::config::{Action, Config, Internal, Publication, Route};
use crate::limit::LimitSettings;
use crate::upstream::UpstreamSettings;

/// A configuration and the text it was read from.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What it means.
    pub config: &'a Config,
    /// What it says.
    pub text: &'a str,
}

/// What a reload would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether it would publish another generation.
    publishes: bool,
    tables: Vec<TableChange>,
    listeners: Vec<Becomes>,
    upstreams: Vec<(Becomes, Vec<Becomes>)>,
    rate_limits: Vec<Becomes>,
    issuers: Vec<Becomes>,
    /// Whether all verified tokens are forgotten.
    forgets_tokens: bool,
    waiting: Vec<Waiting>,
}

/// A table that is there or means something else.
#[derive(Debug, Clone, PartialEq, Eq)]
struct TableChange {
    table: String,
    fate: &'static str,
    /// None, if it is because of another table or of the contents of a file.
    keys: Vec<KeyChange>,
}

/// What becomes of something that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Becomes {
    name: String,
    fate: &'static str,
}

impl Plan {
    /// What a reload from `old` to `new` would do.
    pub fn new(old: Side<'_>, new: Side<'_>) -> Self {
        let mut config = new.config.clone();
        let waiting = keep_what_waits(&mut config, old.config);
        // Until it takes the place of the file that runs, it has another name.
        if let (Some(name), Some(running)) = (config.files_read.first_mut(), old.config.files_read.first()) {
            name.clone_from(running);
        }
        let (before, after) = (old.config, &config);
        let mut tables = tables((before, &keys::tables(old.text)), (after, &keys::tables(new.text)));
        for change in &mut tables {
            change.keys.retain(|key| !waits(&waiting, &change.table, &key.key));
        }
        Self {
            publishes: before != after,
            tables,
            listeners: listeners(before, after),
            upstreams: upstreams(before, after),
            rate_limits: rate_limits(before, after),
            issuers: issuers(before, after),
            forgets_tokens: before.server.token_cache_entries != after.server.token_cache_entries,
            waiting,
        }
    }

    /// Whether the file says something else than what runs, be it for a reload or for a restart.
    pub fn differs(&self) -> bool {
        self.publishes || !self.waiting.is_empty()
    }

    /// For machines, and for the command line.
    pub fn to_json(&self) -> Value {
        let table = |change: &TableChange| {
            let key = |key: &KeyChange| json!({ "key": key.key, "old": key.old, "new": key.new });
            let keys: Vec<_> = change.keys.iter().map(key).collect();
            json!({ "table": change.table, "change": change.fate, "keys": keys })
        };
        let upstream = |(upstream, endpoints): &(Becomes, Vec<Becomes>)| json!({ "name": upstream.name, "fate": upstream.fate, "endpoints": all(endpoints) });
        let waiting =
            |waiting: &Waiting| json!({ "key": waiting.key, "running": waiting.running, "file": waiting.file });
        json!({
            "differs": self.differs(),
            "publishes": self.publishes,
            "tables": self.tables.iter().map(table).collect::<Vec<_>>(),
            "listeners": all(&self.listeners),
            "upstreams": self.upstreams.iter().map(upstream).collect::<Vec<_>>(),
            "rate_limits": all(&self.rate_limits),
            "issuers": all(&self.issuers),
            "forgets_tokens": self.forgets_tokens,
            "needs_restart": self.waiting.iter().map(waiting).collect::<Vec<_>>(),
        })
    }
}

fn all(becomes: &[Becomes]) -> Vec<Value> {
    becomes.iter().map(|one| json!({ "name": one.name, "fate": one.fate })).collect()
}

/// Whether a key is among those that are said to wait.
fn waits(waiting: &[Waiting], table: &str, key: &str) -> bool {
    waiting.iter().any(|waiting| match waiting.key.strip_prefix(table) {
        Some("") => true, // all of the table
        Some(" besides level") => key != "level",
        rest => rest.and_then(|rest| rest.strip_prefix(' ')) == Some(key),
    })
}

type Written<'a> = (&'a Config, &'a BTreeMap<String, Keys>);

/// The tables that differ, routes last.
fn tables((before, old): Written<'_>, (after, new): Written<'_>) -> Vec<TableChange> {
    let alike = alike((before, old), (after, new));
    let mut labels: Vec<&String> = old.keys().chain(new.keys()).chain(alike.keys()).collect();
    labels.sort_unstable_by_key(|label| (label.starts_with("[["), *label));
    labels.dedup();
    let none = Keys::new();
    let change = |table: &String| {
        let (was, is) = (old.get(table), new.get(table));
        if alike.get(table).copied().unwrap_or(was == is) {
            return None;
        }
        let fate = match (was, is) {
            (None, Some(_)) => "added",
            (Some(_), None) => "removed",
            _ => "changed",
        };
        let keys = keys::changes(was.unwrap_or(&none), is.unwrap_or(&none));
        Some(TableChange { table: table.clone(), fate, keys })
    };
    labels.into_iter().filter_map(change).collect()
}

/// Which tables mean the same: all that are there by default, and those with a name that both have. Of others their keys are compared.
fn alike((before, old): Written<'_>, (after, new): Written<'_>) -> BTreeMap<String, bool> {
    // Whom the proxies' bounds do not bind is said in [server].
    let guards_alike = {
        let exempt = before.guard.exempt.clone();
        before.guard == crate::listen::GuardSettings { exempt, ..after.guard.clone() }
    };
    let mut alike: BTreeMap<String, bool> = [
        ("[server]", before.server == after.server),
        ("[limits]", before.limits == after.limits && guards_alike),
        ("[log]", before.log == after.log),
        ("[admin]", true), // it waits, if it differs
        ("[revocation]", before.revocation == after.revocation),
        ("[identity]", before.identity == after.identity),
    ]
    .map(|(table, alike)| (table.to_owned(), alike))
    .into();
    for listener in &before.listeners {
        let name = &listener.listen.name;
        if let Some(now) = after.listeners.iter().find(|now| now.listen.name == *name) {
            alike.insert(label("listen", name), now == listener);
        }
    }
    let named = before.upstreams.iter().filter_map(|was| Some((was, upstream(after, &was.name)?)));
    alike.extend(named.map(|(was, is)| (label("upstream", &was.name), was == is)));
    let named = before.rate_limits.iter().filter_map(|was| Some((was, rate_limit(after, &was.name)?)));
    alike.extend(named.map(|(was, is)| (label("rate_limit", &was.name), was == is)));
    let named = before.issuers.iter().filter_map(|was| Some((was, issuer(after, &was.name)?)));
    alike.extend(named.map(|(was, is)| (label("issuer", &was.name), was == is)));
    for was in &before.routes {
        if let Some(is) = after.routes.iter().find(|is| is.name == was.name) {
            let label = label("route", &was.name);
            let same = routes_alike((before, was), (after, is), old.get(&label) == new.get(&label));
            alike.insert(label, same);
        }
    }
    for was in &before.internal {
        if let Some(is) = after.internal.iter().find(|is| is.name == was.name) {
            alike.insert(label("route", &was.name), internal_alike((before, was), (after, is)));
        }
    }
    alike
}

fn upstream<'a>(config: &'a Config, name: &str) -> Option<&'a UpstreamSettings> {
    config.upstreams.iter().find(|one| *one.name == *name)
}

fn rate_limit<'a>(config: &'a Config, name: &str) -> Option<&'a LimitSettings> {
    config.rate_limits.iter().find(|one| *one.name == *name)
}

fn issuer<'a>(config: &'a Config, name: &str) -> Option<&'a IssuerSettings> {
    config.issuers.iter().find(|one| *one.name == *name)
}

/// Routes name others by their places, which are other places in another file: names are compared instead. Where issuers have moved, what is
/// written of the route decides what it demands.
fn routes_alike((before, was): (&Config, &Route), (after, is): (&Config, &Route), written_alike: bool) -> bool {
    let order = |config: &Config| config.issuers.iter().map(|issuer| issuer.name.clone()).collect::<Vec<_>>();
    let in_place = order(before) == order(after);
    let limits = |config: &Config, route: &Route| {
        route.rate_limits.iter().map(|at| config.rate_limits[*at].name.clone()).collect::<Vec<_>>()
    };
    let action = match (&was.action, &is.action) {
        (
            Action::Upstream { upstream: old, replace_prefix: cut },
            Action::Upstream { upstream: new, replace_prefix },
        ) => before.upstreams[*old].name == after.upstreams[*new].name && cut == replace_prefix,
        (
            Action::Publish(Publication::ResourceMetadata { .. }),
            Action::Publish(Publication::ResourceMetadata { .. }),
        ) if !in_place => written_alike,
        (old, new) => old == new,
    };
    let rest = |route: &Route| Route {
        auth: RouteAuth::public(),
        action: Action::Publish(Publication::KeySet),
        rate_limits: Vec::new(),
        ..route.clone()
    };
    let auth = if in_place { was.auth == is.auth } else { written_alike };
    auth && action && limits(before, was) == limits(after, is) && rest(was) == rest(is)
}

fn internal_alike((before, was): (&Config, &Internal), (after, is): (&Config, &Internal)) -> bool {
    let by = |config: &Config, internal: &Internal| {
        internal.handed_out_by.iter().map(|at| config.upstreams[*at].name.clone()).collect::<Vec<_>>()
    };
    was.path == is.path && was.site == is.site && by(before, was) == by(after, is)
}

fn listeners(before: &Config, after: &Config) -> Vec<Becomes> {
    let becomes = |fate| {
        move |listener: &crate::config::Listener| Becomes {
            name: format!("{} ({})", listener.listen.name, listener.listen.address),
            fate,
        }
    };
    let (old, new) = (&before.listeners, &after.listeners);
    let kept = new.iter().filter(|listener| old.iter().any(|known| known.listen == listener.listen));
    let closed = carry::closed(old, new).map(becomes("closed"));
    kept.map(becomes("kept")).chain(closed).chain(carry::opened(old, new).map(becomes("opened"))).collect()
}

fn upstreams(before: &Config, after: &Config) -> Vec<(Becomes, Vec<Becomes>)> {
    let endpoints = |settings: &UpstreamSettings, fate| {
        let endpoints = settings.endpoints.iter();
        endpoints.map(|address| Becomes { name: address.to_string(), fate }).collect::<Vec<_>>()
    };
    let becomes = |settings: &UpstreamSettings, fate| Becomes { name: settings.name.to_string(), fate };
    let now = after.upstreams.iter().map(|is| {
        let Some(was) = upstream(before, &is.name) else {
            return (becomes(is, "added"), endpoints(is, "added"));
        };
        let stays = if carry::keeps_connections(was, is) { "kept" } else { "connects anew" };
        let now = is.endpoints.iter().map(|address| Becomes {
            name: address.to_string(),
            fate: if was.endpoints.contains(address) { stays } else { "added" },
        });
        let gone = was.endpoints.iter().filter(|address| !is.endpoints.contains(address));
        let gone = gone.map(|address| Becomes { name: address.to_string(), fate: "dropped" });
        (becomes(is, if was == is { "kept" } else { "changed" }), now.chain(gone).collect())
    });
    let gone = before.upstreams.iter().filter(|was| upstream(after, &was.name).is_none());
    now.chain(gone.map(|was| (becomes(was, "removed"), endpoints(was, "dropped")))).collect()
}

fn rate_limits(before: &Config, after: &Config) -> Vec<Becomes> {
    let now = after.rate_limits.iter().map(|is| Becomes {
        name: is.name.to_string(),
        fate: match rate_limit(before, &is.name) {
            None => "added",
            Some(was) if carry::goes_on_counting(was, is) => "kept",
            Some(_) => "counts anew",
        },
    });
    let gone = before.rate_limits.iter().filter(|was| rate_limit(after, &was.name).is_none());
    now.chain(gone.map(|was| Becomes { name: was.name.to_string(), fate: "removed" })).collect()
}

/// An issuer with its settings keeps the tokens that were verified with it.
fn issuers(before: &Config, after: &Config) -> Vec<Becomes> {
    let now = after.issuers.iter().map(|is| Becomes {
        name: is.name.to_string(),
        fate: match issuer(before, &is.name) {
            None => "added",
            Some(was) if was == is => "kept",
            Some(_) => "verifies anew",
        },
    });
    let gone = before.issuers.iter().filter(|was| issuer(after, &was.name).is_none());
    now.chain(gone.map(|was| Becomes { name: was.name.to_string(), fate: "removed" })).collect()
}

#[cfg(test)]
mod tests;
