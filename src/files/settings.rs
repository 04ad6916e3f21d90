//! What `config::compile` hands to this room: a directory to serve and how.

use std::path::PathBuf;

use http::HeaderValue;

use crate::http::compress::CompressSettings;

/// One `files = { .. }` action.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteSettings {
    /// The directory nothing outside of which is ever served.
    pub root: PathBuf,
    /// File names tried, in order, for a request that names a directory.
    pub index: Vec<Box<str>>,
    /// Whether a directory without an index file is listed.
    pub listing: bool,
    /// `Cache-Control` of 200, 206, 301 and 304 answers; `None` sends none.
    pub cache_control: Option<HeaderValue>,
    /// Which files have a digest of their contents in their names, if the build wrote that down.
    pub manifest: Option<ManifestSettings>,
    /// What is sent for paths that name nothing and look like an application's own, below the root.
    pub fallback: Option<Box<str>>,
    /// Whether a file's precompressed siblings are sent to clients that take them.
    pub precompressed: bool,
    /// How small files without siblings are compressed, once for all requests; `None` leaves them as they are.
    pub compress: Option<CompressSettings>,
    /// Files up to this many bytes are answered from memory.
    pub cache_file_bytes: u64,
    /// How many bytes of files this site keeps in memory, per worker: contents, paths and headers. Zero keeps none.
    pub cache_total_bytes: u64,
}

/// `manifest` of a `files` action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestSettings {
    /// Its path below the root.
    pub name: Box<str>,
    /// `Cache-Control` of the files it lists, in place of the site's.
    pub cache_control: HeaderValue,
}
