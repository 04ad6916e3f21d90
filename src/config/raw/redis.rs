//! The table of what gateways share.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Entry, SecretSource};

/// Redis or Valkey, where several gateways share rate limits and revocations that say `shared`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub(in crate::config) struct Redis {
    /// Where it is: `redis://[USER@]HOST[:PORT][/DATABASE]`, the same with "rediss://" for TLS, or `redis+unix:///PATH[?db=DATABASE]`. Required.
    /// Redis 6 or later, or Valkey. A password has no place in it.
    pub(in crate::config) url: Entry<String>,
    /// What the gateway logs in with: `{ env = "NAME" }` or `{ file = "PATH" }`. Default: none.
    pub(in crate::config) password: Entry<SecretSource>,
    /// PEM file of the authorities that may sign its certificate, for "rediss://". Default: the system's.
    pub(in crate::config) ca_file: Entry<String>,
    /// Milliseconds that a connection may take to be had, and a list of revocations to be exchanged, 10 to 60000. Default: 1000.
    pub(in crate::config) connect_timeout_ms: Entry<i64>,
    /// Milliseconds that a request may wait for Redis to decide, 1 to 5000. Default: 20. After it, and as long as Redis is away, the gateway
    /// decides alone.
    pub(in crate::config) timeout_ms: Entry<i64>,
    /// What the names of all keys and channels begin with, 1 to 64 letters, digits and `-._:`. Default: "portcullis:". Gateways share with those that
    /// have the same one.
    pub(in crate::config) prefix: Entry<String>,
}
