//! What a reload can't change: such keys keep their values until another process takes the place of this one.
//!
//! Asked by the reload, which keeps them, and by the plan of one, which says so beforehand.

use crate::config::Config;
use crate::observe::LogSettings;
use crate::redis::RedisSettings;

/// A key whose change waits for a restart or an upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    /// With its table.
    pub(super) key: &'static str,
    /// What runs, and what the file says; empty where it takes more than one word.
    pub(super) running: String,
    pub(super) file: String,
}

/// Gives what can't change while the process runs its old value, and says what that was.
pub(super) fn keep_what_waits(config: &mut Config, running: &Config) -> Vec<Waiting> {
    let mut kept = Vec::new();
    let mut keep = |key, running: String, file: String| kept.push(Waiting { key, running, file });
    let (server, old) = (&mut config.server, &running.server);
    if server.workers != old.workers {
        keep("[server] workers", old.workers.to_string(), server.workers.to_string());
        server.workers = old.workers;
    }
    if server.drain != old.drain {
        keep("[server] drain_secs", old.drain.as_secs_f64().to_string(), server.drain.as_secs_f64().to_string());
        server.drain = old.drain;
    }
    if server.dpop_window_secs != old.dpop_window_secs {
        let (was, is) = (old.dpop_window_secs.to_string(), server.dpop_window_secs.to_string());
        keep("[server] dpop_window_secs", was, is);
        server.dpop_window_secs = old.dpop_window_secs;
    }
    let (limits, old) = (&mut config.limits, &running.limits);
    if limits.connections != old.connections {
        keep("[limits] connections", old.connections.to_string(), limits.connections.to_string());
        limits.connections = old.connections;
    }
    if config.admin != running.admin {
        let words =
            |address: Option<std::net::SocketAddr>| address.map_or_else(|| "none".to_owned(), |a| a.to_string());
        keep("[admin] address", words(running.admin), words(config.admin));
        config.admin = running.admin;
    }
    if config.redis != running.redis {
        let words = |redis: Option<&RedisSettings>| redis.map_or_else(|| "none".to_owned(), |to| to.place.to_string());
        let (was, is) = (words(running.redis.as_ref()), words(config.redis.as_ref()));
        let (was, is) = if was == is { Default::default() } else { (was, is) };
        keep("[redis]", was, is);
        config.redis.clone_from(&running.redis);
    }
    let shares = running.revocation.as_ref().is_some_and(|list| list.shared);
    if let Some(list) = config.revocation.as_mut().filter(|list| list.shared != shares) {
        keep("[revocation] shared", shares.to_string(), list.shared.to_string());
        list.shared = shares;
    }
    let level = config.log.level;
    if (LogSettings { level, ..running.log.clone() }) != config.log {
        keep("[log] besides level", String::new(), String::new());
        config.log = LogSettings { level, ..running.log.clone() };
    }
    kept
}
