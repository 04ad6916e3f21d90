//! The world outside the file, as `compile` sees it: files, environment variables and the number of processors.
//!
//! Owns the only access to them, so that everything else is pure and tests bring their own world.

use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Keys, certificates and key sets are small; a path that names a device must not fill the memory.
const LARGEST_FILE: u64 = 16 * 1024 * 1024;

/// What a configuration may look at besides its own text.
pub trait Sources {
    /// The whole contents of a file.
    fn file(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Whether a directory is there; an error says why it can't be told.
    fn is_directory(&self, path: &Path) -> io::Result<bool>;

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
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(LARGEST_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_FILE {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        Ok(bytes)
    }

    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        std::fs::metadata(path).map(|found| found.is_dir())
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
