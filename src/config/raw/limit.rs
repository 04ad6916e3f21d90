//! The tables of rate limits.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Entry;

/// How many requests may come, of whom. A route that names it in `rate_limits` is limited by it.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["key", "requests", "per_secs"]))]
pub(in crate::config) struct RateLimit {
    /// What has a count of its own: "client" (the address), "claim:PATH" (a claim of the token, as "claim:sub"), "header:NAME" (the value of
    /// a field) or "route" (everything together). Required. Where the claim or the field is missing it is the address.
    pub(in crate::config) key: Entry<String>,
    /// Requests in `per_secs`, 1 to 1000000. Required.
    pub(in crate::config) requests: Entry<i64>,
    /// Seconds, 1 to 86400. Required. Requests are given back evenly: 60 in 60 seconds are one a second.
    pub(in crate::config) per_secs: Entry<i64>,
    /// Requests that may come at once, 1 to 1000000. Default: `requests`. Lower it to spread what comes.
    pub(in crate::config) burst: Entry<i64>,
    /// Whether what would be refused is only counted and logged. Default: false. To try a limit out.
    pub(in crate::config) dry_run: Entry<bool>,
    /// Keys remembered at once, 1000 to 10000000, each in 10 bytes. Default: 100000. When there are more, those that have used least are
    /// forgotten.
    pub(in crate::config) entries: Entry<i64>,
    /// Whether answers say what is left, in the fields `RateLimit` and `RateLimit-Policy`, and by which limit. Default: true.
    pub(in crate::config) headers: Entry<bool>,
    /// Whether all gateways that name the same `[redis]` count together. Default: false. While Redis is away each counts alone.
    pub(in crate::config) shared: Entry<bool>,
    /// Leading bits of an IPv6 address that make one client, 32 to 128. Default: 64, what a subscriber has at least.
    pub(in crate::config) ipv6_prefix: Entry<i64>,
}
