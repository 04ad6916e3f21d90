//! The tables of what browsers are told: `hsts` of a listener, `cors` of a route.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Entry;

/// `Strict-Transport-Security`, in every answer of a TLS listener; what an upstream says of it is replaced.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct Hsts {
    /// Seconds for which browsers remember it, 0 to 315360000. Default: 31536000. 0 has them forget it.
    pub(in crate::config) max_age_secs: Entry<i64>,
    /// Whether all hosts below are meant too, whoever serves them. Default: false.
    pub(in crate::config) include_subdomains: Entry<bool>,
    /// Whether browsers may be shipped with it; hard to take back. Default: false. Needs `include_subdomains` and a year.
    pub(in crate::config) preload: Entry<bool>,
}

/// What scripts of other origins may do (CORS, Fetch standard section 3.3). Preflights are answered by the gateway.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["origins"]))]
pub(in crate::config) struct Cors {
    /// Whose scripts: origins as `"https://app.example.com"`, `"https://*.example.com"` for one label, "null", or "*" alone for
    /// everybody. Required.
    pub(in crate::config) origins: Entry<Vec<Entry<String>>>,
    /// Methods they may use, or `["*"]`. Default: those of the route, else GET, HEAD and POST.
    pub(in crate::config) methods: Entry<Vec<Entry<String>>>,
    /// Fields they may send besides those that browsers always allow, or `["*"]`, which leaves Authorization out. Default: none.
    pub(in crate::config) headers: Entry<Vec<Entry<String>>>,
    /// Fields of an answer they may read besides those that browsers always show, or `["*"]`. Default: none.
    pub(in crate::config) expose: Entry<Vec<Entry<String>>>,
    /// Whether browsers send their cookies and client certificates. Default: false. Not with "*" or "null".
    pub(in crate::config) credentials: Entry<bool>,
    /// Seconds for which a browser may remember the answer to a preflight, 0 to 86400. Default: 600.
    pub(in crate::config) max_age_secs: Entry<i64>,
}
