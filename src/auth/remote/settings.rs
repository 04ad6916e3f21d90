//! What an operator decides about a published key set.

use std::path::PathBuf;
use std::time::Duration;

use crate::fetch::{FetchSettings, Location};

/// Where a key set is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteSource {
    /// At this URL.
    KeySet(Location),
    /// Where the metadata of this issuer says. The URL is the issuer's identifier, byte for byte, not that of its metadata.
    Discovery(Location),
}

impl RemoteSource {
    /// The URL as it was configured.
    pub fn location(&self) -> &Location {
        match self {
            Self::KeySet(location) | Self::Discovery(location) => location,
        }
    }
}

/// One key set to be fetched and kept fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteSettings {
    /// Where the set is found.
    pub source: RemoteSource,
    /// The bounds of its fetches; the timeout holds for metadata and set together.
    pub fetch: FetchSettings,
    /// The least time between a good fetch and the next one that nobody asked for, whatever the issuer says.
    pub refresh_min: Duration,
    /// The most time, likewise.
    pub refresh_max: Duration,
    /// The least time between the end of any fetch and the next one that a token with an unknown key asks for.
    pub cooldown: Duration,
    /// How long the last good set serves while no other can be had.
    pub max_stale: Duration,
    /// A file for the last good set, so that a start while the issuer is down can serve.
    pub last_good: Option<PathBuf>,
}

impl RemoteSettings {
    /// The defaults: a refresh every 60 to 3600 seconds, a cool-down of 10 seconds, a day of staleness, no file.
    pub fn new(source: RemoteSource) -> Self {
        Self {
            source,
            fetch: FetchSettings::default(),
            refresh_min: Duration::from_mins(1),
            refresh_max: Duration::from_hours(1),
            cooldown: Duration::from_secs(10),
            max_stale: Duration::from_hours(24),
            last_good: None,
        }
    }
}
