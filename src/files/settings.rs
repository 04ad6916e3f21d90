//! What `config::compile` hands to this room: a directory to serve and how.

use std::path::PathBuf;

use http::HeaderValue;

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
    /// Files up to this many bytes are answered from memory.
    pub cache_file_bytes: u64,
    /// How many bytes of files this site keeps in memory, per worker: contents, paths and headers. Zero keeps none.
    pub cache_total_bytes: u64,
}
