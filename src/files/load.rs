//! One visit to the file system: open, judge, and read what is small.
//!
//! Owns: the guarantee that contents handed on as one block are those of one state of the file. Runs on a blocking
//! thread. Refuses to know: HTTP, the cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Instant;

use bytes::Bytes;

use super::open::{Found, Identity, Opened, Root};
use super::resolve::Wanted;

/// What a visit brings home.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The file is as the caller knows it.
    Unchanged,
    /// A small file, whole.
    Small { identity: Identity, path: String, content: Bytes },
    /// A file to be streamed.
    Large(Opened),
    /// A directory, asked for without the slash at its end.
    Directory,
    /// Nothing that is served.
    Missing,
}

/// What the caller knows and how much it wants read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// Files up to this many bytes are read whole.
    pub(super) small_bytes: u64,
    /// The state whose contents the caller has already, if they can be trusted not to have changed unseen.
    pub(super) known: Option<Identity>,
    /// When the request came.
    pub(super) now: Instant,
}

/// Opens what `wanted` names and reads it if it is small and not known.
pub(super) fn load(root: &Root, wanted: Wanted<'_>, index: &[Box<str>], terms: Terms) -> io::Result<Loaded> {
    let opened = match root.find(wanted, index, terms.now)? {
        Found::File(opened) => opened,
        Found::Directory => return Ok(Loaded::Directory),
        Found::Missing => return Ok(Loaded::Missing),
    };
    if terms.known == Some(opened.identity) {
        return Ok(Loaded::Unchanged);
    }
    read_small(opened, terms.small_bytes)
}

/// A file that is being written while it is read is read again, and when it will not hold still, left to the stream,
/// which breaks off when it notices.
fn read_small(mut opened: Opened, small_bytes: u64) -> io::Result<Loaded> {
    const ATTEMPTS: usize = 3;
    for _ in 0..ATTEMPTS {
        if opened.identity.size > small_bytes {
            break;
        }
        let content = read_whole(&opened.file, opened.identity.size)?;
        let after = Identity::of(&opened.file)?;
        match content {
            Some(content) if after == opened.identity => {
                return Ok(Loaded::Small { identity: after, path: opened.path, content });
            }
            _ => opened.identity = after,
        }
    }
    Ok(Loaded::Large(opened))
}

/// `None` when the file has become shorter than `size`.
fn read_whole(file: &File, size: u64) -> io::Result<Option<Bytes>> {
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut content = vec![0; size];
    match file.read_exact_at(&mut content, 0) {
        Ok(()) => Ok(Some(Bytes::from(content))),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn visit(root: &Root, path: &str, small_bytes: u64, known: Option<Identity>) -> Loaded {
        load(root, Wanted::File(path), &[], Terms { small_bytes, known, now: Instant::now() }).unwrap()
    }

    #[test]
    fn small_files_come_whole_and_large_ones_open() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ten"), "0123456789").unwrap();
        fs::write(directory.path().join("none"), "").unwrap();
        let root = Root::open(directory.path().to_owned(), Instant::now()).unwrap();
        let Loaded::Small { identity, content, .. } = visit(&root, "ten", 10, None) else { panic!("not small") };
        assert_eq!(content, "0123456789");
        assert!(matches!(visit(&root, "ten", 9, None), Loaded::Large(_)));
        assert!(matches!(visit(&root, "none", 0, None), Loaded::Small { content, .. } if content.is_empty()));
        assert!(matches!(visit(&root, "ten", 10, Some(identity)), Loaded::Unchanged));
        fs::write(directory.path().join("ten"), "01234567890").unwrap();
        assert!(matches!(visit(&root, "ten", 20, Some(identity)), Loaded::Small { .. }));
    }

    #[test]
    fn a_file_that_shrinks_under_the_reader_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("f"), "0123456789").unwrap();
        let root = Root::open(directory.path().to_owned(), Instant::now()).unwrap();
        let Found::File(opened) = root.find(Wanted::File("f"), &[], Instant::now()).unwrap() else { panic!("no file") };
        fs::write(directory.path().join("f"), "short").unwrap();
        let Loaded::Small { identity, content, .. } = read_small(opened, 100).unwrap() else { panic!("not small") };
        assert_eq!(content, "short");
        assert_eq!(identity.size, 5);
    }
}
