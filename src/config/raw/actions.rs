//! The tables of what a route does.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Entry;

/// Files below a directory.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["root"]))]
pub(in crate::config) struct Files {
    /// The directory; nothing outside of it is ever served. Required.
    pub(in crate::config) root: Entry<String>,
    /// File names tried, in order, for a request that names a directory. Default: `["index.html"]`.
    pub(in crate::config) index: Entry<Vec<Entry<String>>>,
    /// Whether a directory without an index file is listed, for everybody who may pass. Default: false. HTML, or JSON for clients that
    /// prefer it; 1000 entries a page.
    pub(in crate::config) listing: Entry<bool>,
    /// `Cache-Control` of the answers. Default: none is sent; with a `manifest`, "max-age=60, public" for what it does not list. On a
    /// route that asks for a token the defaults say `private` in place of `public`.
    pub(in crate::config) cache_control: Entry<String>,
    /// Path, below `root`, of the manifest that Django's `ManifestStaticFilesStorage` writes ("staticfiles.json"). What it lists has a
    /// digest in its name and may be kept for ever: it gets `Cache-Control: public, max-age=315360000, immutable`. Default: none.
    pub(in crate::config) manifest: Entry<String>,
    /// Path, below `root`, of the file that is sent with 200 for a path that names nothing and whose last segment has no dot, as single-page
    /// applications want it ("index.html"). Default: none; such a path is answered 404.
    pub(in crate::config) fallback: Entry<String>,
    /// Whether a file's precompressed siblings, named like it with `.zst`, `.br` or `.gz`, are sent to clients that take them. Default:
    /// true. A sibling that is older than the file is left alone.
    pub(in crate::config) precompressed: Entry<bool>,
    /// Files up to this many bytes are answered from memory, 0 to 16777216. Default: 65536. A file with siblings is, if all of them are.
    pub(in crate::config) cache_file_bytes: Entry<i64>,
    /// Bytes of file contents kept in memory by each worker, 0 to 68719476736. Default: 67108864. 0 keeps none.
    pub(in crate::config) cache_total_bytes: Entry<i64>,
}

/// An answer that sends the client elsewhere.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["to"]))]
pub(in crate::config) struct Redirect {
    /// Where to: an absolute path or an http(s) URL; {host}, {path} and {query} stand for the request's own (the query with
    /// its question mark). Required.
    pub(in crate::config) to: Entry<String>,
    /// 301, 302, 307 or 308. Default: 308, permanent and with the method kept.
    #[schemars(extend("enum" = [301, 302, 307, 308]))]
    pub(in crate::config) status: Entry<i64>,
}

/// A document that says more than a word can.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["resource_metadata"]))]
pub(in crate::config) struct PublishTable {
    /// The metadata of a protected resource (RFC 9728), by which clients find out where tokens are to be had.
    pub(in crate::config) resource_metadata: Entry<ResourceMetadata>,
}

/// The metadata of a protected resource (RFC 9728).
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("required" = ["resource", "issuers"]))]
pub(in crate::config) struct ResourceMetadata {
    /// The resource's own URL: https, without a fragment, as in `"https://api.example.com/"`. Required.
    pub(in crate::config) resource: Entry<String>,
    /// Names of the `[issuer.NAME]` whose tokens are taken; each has an `issuer`, which is told. Required.
    pub(in crate::config) issuers: Entry<Vec<Entry<String>>>,
    /// Scopes that are worth asking for. Default: none are told.
    pub(in crate::config) scopes_supported: Entry<Vec<Entry<String>>>,
}
