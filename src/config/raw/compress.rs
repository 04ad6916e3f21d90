//! The table of `compress` of a route.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Entry;

/// Which answers are compressed, and how.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct CompressTable {
    /// Codings, the one that is preferred among those a client takes equally first: "zstd", "br" and "gzip". Default: all of them, in
    /// this order.
    pub(in crate::config) codings: Entry<Vec<Entry<String>>>,
    /// Bytes from which on an answer is compressed, if its length is known, 1 to 1048576. Default: 1024. Less fits into one packet
    /// anyhow.
    pub(in crate::config) min_bytes: Entry<i64>,
    /// Media types, as "text/html", "text/*" and "application/*+json". Default: text, JSON, XML, JavaScript, SVG, WebAssembly and fonts
    /// that their format does not compress. A list replaces these. "text/event-stream" is meant only by its own name.
    pub(in crate::config) types: Entry<Vec<Entry<String>>>,
    /// Whether answers that set cookies, or that answer what a browser sends by itself (cookies, HTTP Basic, a client certificate), are
    /// compressed too. Default: false: their length could tell a secret in them (BREACH). Files are compressed in any case.
    pub(in crate::config) with_cookies: Entry<bool>,
}
