//! The table of names that are looked up.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Entry, Seconds};

/// How names are looked up that stand for endpoints: those of endpoints with `resolve`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Dns {
    /// Servers that are asked, as `["10.0.0.2:53"]`; the port may be left out. Default: those of /etc/resolv.conf. /etc/hosts comes first
    /// in any case.
    pub(in crate::config) servers: Entry<Vec<Entry<String>>>,
    /// Seconds that one question may take, with all that is asked on its way, 0.1 to 60. Default: 5.
    pub(in crate::config) timeout_secs: Entry<Seconds>,
    /// Seconds after which a name is asked for again at the soonest, whatever its records say, 0.1 to 3600. Default: 1.
    pub(in crate::config) min_ttl_secs: Entry<Seconds>,
    /// Seconds after which a name is asked for again at the latest, 0.1 to 86400. Default: 30. Lower it where records live long and change
    /// all the same, as those of Docker do.
    pub(in crate::config) max_ttl_secs: Entry<Seconds>,
}
