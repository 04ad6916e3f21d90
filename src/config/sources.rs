//! The world outside the file, as `compile` sees it: files, environment variables and the number of processors.
//!
//! Owns the only access to them, so that everything else is pure and tests bring their own world.

use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use crate::files::check_manifest;
use crate::http::check_spool_directory;

/// Keys, certificates and key sets are small; a path that names a device must not fill the memory.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;
/// A list of revocations may have millions of lines.
const LARGEST_LIST: u64 = 256 * 1024 * 1024;

/// What a configuration may look at besides its own text.
pub trait Sources {
    /// The whole contents of a file.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The whole contents of a file that may be as long as a list of revocations.
    fn list(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.file(path)
    }

    /// Whether a directory is there; an error says why it can't be told.
    fn is_directory(&self, path: &Path) -> io::Result<bool>;

    /// Whether a manifest below a root of files can be used; an error says why not.
    fn manifest(&self, root: &Path, name: &str) -> io::Result<()>;

    /// Whether files can be made in a directory; an error says why not.
    fn takes_files(&self, directory: &Path) -> io::Result<()>;

    /// The bytes of an environment variable; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<Vec<u8>>;

    /// How many workers `workers = "auto"` means.
    fn processors(&self) -> usize;
}

/// The real file system and environment.
#[derive(Debug, Clone, Copy)]
pub struct System;

impl Sources for System {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        read(path, LARGEST_FILE, "larger than 16 MiB")
    }

    fn list(&self, path: &Path) -> io::Result<Vec<u8>> {
        read(path, LARGEST_LIST, "larger than 256 MiB")
    }

    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        std::fs::metadata(path).map(|found| found.is_dir())
    }

    fn manifest(&self, root: &Path, name: &str) -> io::Result<()> {
        check_manifest(root, name)
    }

    fn takes_files(&self, directory: &Path) -> io::Result<()> {
        check_spool_directory(directory)
    }

    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        // `var_os` panics on names the environment cannot hold.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name).map(OsStringExt::into_vec)
    }

    fn processors(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

fn read(path: &Path, most: u64, refusal: &'static str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, refusal));
    }
    Ok(bytes)
}
