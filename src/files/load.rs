//! One visit to the file system: open, judge, and read what is small.
//!
//! Owns: the guarantee that contents handed on as one block are those of one state of the file. Runs on a blocking
//! thread. Refuses to know: HTTP, the cache.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;

use super::made::made;
use super::manifest::Names;
use super::open::{Found, Identity, Opened, Root, Visit};
use super::resolve::Wanted;
use super::variants::{Variants, counts};
use crate::http::coding::Coding;
use crate::http::compress::CompressSettings;

/// What a visit brings home.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The file is as the caller knows it.
    Unchanged,
    /// A small file, whole, with its siblings, or with the codings that were made of it.
    Small { files: Variants<Small>, made: Vec<(Coding, Bytes)>, path: String, hashed: bool },
    /// A file to be streamed.
    Large { files: Variants<Opened>, hashed: bool },
    /// A directory, asked for without the slash at its end.
    Directory,
    /// Nothing that is served.
    Missing,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Small {
    pub(super) identity: Identity,
    pub(super) content: Bytes,
}

/// What a file and its siblings were when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct State {
    pub(super) files: Variants<Identity>,
    /// Whether its name is one that carries a digest of the contents.
    pub(super) hashed: bool,
}

impl State {
    /// Whether an unchanged state proves unchanged contents: see [`Identity::settled`].
    pub(super) fn settled(&self, wall: SystemTime) -> bool {
        self.files.iter().all(|identity| identity.settled(wall))
    }
}

/// What the caller knows and how much it wants read.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    /// A file is read whole if it and each of its siblings has no more bytes than this.
    pub(super) small_bytes: u64,
    /// The names that carry a digest, as of now.
    pub(super) names: Option<Arc<Names>>,
    /// Whether precompressed siblings are looked for.
    pub(super) precompressed: bool,
    /// How a small file without siblings is compressed, if it is.
    pub(super) compress: Option<Arc<CompressSettings>>,
    /// The state whose contents the caller has already, if they can be trusted not to have changed unseen.
    pub(super) known: Option<State>,
    /// When the request came.
    pub(super) now: Instant,
}

impl Terms {
    fn is_hashed(&self, path: &str) -> bool {
        self.names.as_ref().is_some_and(|names| names.contains(path))
    }
}

/// Opens what `wanted` names and reads it if it is small and not known.
///
/// What is brought home was there together: a file that is replaced while its siblings are opened, or written while it is read, is
/// opened anew. When it will not hold still it is left to the stream, alone, which breaks off when it notices.
pub(super) fn load(root: &Root, wanted: Wanted<'_>, index: &[Box<str>], terms: &Terms) -> io::Result<Loaded> {
    const ATTEMPTS: usize = 3;
    let visit = root.visit(terms.now);
    for _ in 0..ATTEMPTS {
        let opened = match visit.find(wanted, index)? {
            Found::File(opened) => opened,
            Found::Directory => return Ok(Loaded::Directory),
            Found::Missing => return Ok(Loaded::Missing),
        };
        let siblings = if terms.precompressed { siblings(&visit, &opened)? } else { Vec::new() };
        let path = opened.path.clone();
        let files = Variants::new(opened, siblings);
        let state = State { files: files.as_ref().map(|_, file| file.identity), hashed: terms.is_hashed(&path) };
        if terms.known.as_ref() == Some(&state) {
            return Ok(Loaded::Unchanged);
        }
        if let Some(loaded) = read_small(files, path, state.hashed, terms)? {
            return Ok(loaded);
        }
    }
    Ok(match visit.find(wanted, index)? {
        Found::File(opened) => {
            let hashed = terms.is_hashed(&opened.path);
            Loaded::Large { files: Variants::new(opened, Vec::new()), hashed }
        }
        Found::Directory => Loaded::Directory,
        Found::Missing => Loaded::Missing,
    })
}

fn siblings(visit: &Visit<'_>, opened: &Opened) -> io::Result<Vec<(Coding, Opened)>> {
    let mut siblings = Vec::new();
    for coding in Coding::ALL {
        let sibling = visit.beside(opened, coding.suffix())?;
        siblings.extend(sibling.filter(|one| counts(&one.identity, &opened.identity)).map(|one| (coding, one)));
    }
    Ok(siblings)
}

/// `None` when one of the files changed meanwhile: it was written, or lost its name, both of which its identity feels.
fn read_small(files: Variants<Opened>, path: String, hashed: bool, terms: &Terms) -> io::Result<Option<Loaded>> {
    let small = files.iter().all(|file| file.identity.size <= terms.small_bytes);
    let mut contents = Vec::new();
    for file in files.iter().filter(|_| small) {
        let Some(content) = read_whole(&file.file, file.identity.size)? else { return Ok(None) };
        contents.push(content);
    }
    // A large file that stands alone is as it is: the stream looks after it.
    for file in files.iter().filter(|_| small || files.vary()) {
        if Identity::of(&file.file)? != file.identity {
            return Ok(None);
        }
    }
    if !small {
        return Ok(Some(Loaded::Large { files, hashed }));
    }
    let mut contents = contents.into_iter();
    let files = files.map(|_, opened| {
        let content = contents.next().expect("each file was read once, in this order");
        Small { identity: opened.identity, content }
    });
    let made = terms.compress.as_ref().map_or_else(Vec::new, |settings| made(&files, &path, settings));
    Ok(Some(Loaded::Small { files, made, path, hashed }))
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
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn terms(small_bytes: u64) -> Terms {
        let now = Instant::now();
        Terms { small_bytes, names: None, precompressed: true, compress: None, known: None, now }
    }

    fn visit(root: &Root, path: &str, small_bytes: u64, known: Option<State>) -> Loaded {
        let terms = Terms { known, ..terms(small_bytes) };
        load(root, Wanted::File(path), &[], &terms).unwrap()
    }

    fn state(loaded: &Loaded) -> State {
        let Loaded::Small { files, .. } = loaded else { panic!("not small: {loaded:?}") };
        State { files: files.as_ref().map(|_, file| file.identity), hashed: false }
    }

    fn contents(loaded: &Loaded) -> Vec<String> {
        let Loaded::Small { files, .. } = loaded else { panic!("not small: {loaded:?}") };
        files.iter().map(|file| String::from_utf8(file.content.to_vec()).unwrap()).collect()
    }

    /// A root with these files, all of one age.
    fn root_with(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            write(&directory.path().join(name), content, 0);
        }
        let root = Root::open(directory.path().to_owned(), Instant::now()).unwrap();
        (directory, root)
    }

    fn write(path: &Path, content: &str, older_secs: u64) {
        fs::write(path, content).unwrap();
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - older_secs);
        File::options().write(true).open(path).unwrap().set_modified(at).unwrap();
    }

    #[test]
    fn small_files_come_whole_and_large_ones_open() {
        let (directory, root) = root_with(&[("ten", "0123456789"), ("none", "")]);
        let small = visit(&root, "ten", 10, None);
        assert_eq!(contents(&small), ["0123456789"]);
        assert!(matches!(visit(&root, "ten", 9, None), Loaded::Large { .. }));
        assert_eq!(contents(&visit(&root, "none", 0, None)), [""]);
        assert!(matches!(visit(&root, "ten", 10, Some(state(&small))), Loaded::Unchanged));
        fs::write(directory.path().join("ten"), "01234567890").unwrap();
        assert!(matches!(visit(&root, "ten", 20, Some(state(&small))), Loaded::Small { .. }));
    }

    #[test]
    fn siblings_come_with_the_file_in_order_and_what_is_none_is_left_out() {
        let (directory, root) =
            root_with(&[("a", "plain"), ("a.gz", "gz"), ("a.zst", "zst"), ("b", "b"), ("b.br", "")]);
        fs::create_dir(directory.path().join("b.zst")).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join("b.gz")).unwrap();
        assert_eq!(contents(&visit(&root, "a", 10, None)), ["plain", "zst", "gz"]);
        assert_eq!(contents(&visit(&root, "b", 10, None)), ["b"]);
        let terms = Terms {
            small_bytes: 10,
            names: None,
            precompressed: false,
            compress: None,
            known: None,
            now: Instant::now(),
        };
        assert_eq!(contents(&load(&root, Wanted::File("a"), &[], &terms).unwrap()), ["plain"]);
    }

    #[test]
    fn one_large_variant_makes_a_file_large() {
        let (_directory, root) = root_with(&[("a", "plain"), ("a.gz", "larger than that")]);
        let Loaded::Large { files, .. } = visit(&root, "a", 10, None) else { panic!("not large") };
        assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["a", "a"]);
    }

    #[test]
    fn a_name_that_the_manifest_begins_or_ceases_to_list_is_a_change() {
        let (_directory, root) = root_with(&[("a.1.css", "plain"), ("docs.html", "page")]);
        let now = Instant::now();
        let load = |names: &[&str], known| {
            let names = Some(Arc::new(names.iter().map(|name| Box::from(*name)).collect()));
            let terms = Terms { small_bytes: 10, names, precompressed: true, compress: None, known, now };
            load(&root, Wanted::File("a.1.css"), &[], &terms).unwrap()
        };
        let Loaded::Small { hashed: true, files, .. } = load(&["a.1.css"], None) else { panic!("not listed") };
        let listed = State { files: files.as_ref().map(|_, file| file.identity), hashed: true };
        assert!(matches!(load(&["a.1.css", "b"], Some(listed.clone())), Loaded::Unchanged));
        assert!(matches!(load(&["a.css"], Some(listed)), Loaded::Small { hashed: false, .. }));
    }

    #[test]
    fn a_sibling_that_comes_goes_or_changes_is_a_change() {
        let (directory, root) = root_with(&[("a", "plain"), ("a.br", "br")]);
        let path = |name| directory.path().join(name);
        let before = state(&visit(&root, "a", 10, None));
        assert!(matches!(visit(&root, "a", 10, Some(before.clone())), Loaded::Unchanged));
        write(&path("a.gz"), "gz", 0);
        let both = visit(&root, "a", 10, Some(before.clone()));
        assert_eq!(contents(&both), ["plain", "br", "gz"]);
        fs::write(path("a.br"), "other").unwrap();
        assert_eq!(contents(&visit(&root, "a", 10, Some(state(&both)))), ["plain", "other", "gz"]);
        write(&path("a.br"), "stale", 1);
        fs::remove_file(path("a.gz")).unwrap();
        assert_eq!(contents(&visit(&root, "a", 10, Some(before))), ["plain"]);
    }

    #[test]
    fn a_file_that_changes_under_the_reader_is_read_again() {
        let (directory, root) = root_with(&[("f", "0123456789"), ("f.gz", "gz")]);
        let found = || match root.visit(Instant::now()).find(Wanted::File("f"), &[]).unwrap() {
            Found::File(opened) => opened,
            other => panic!("{other:?}"),
        };
        let read = |files, small_bytes| read_small(files, String::new(), false, &terms(small_bytes));
        let alone = || Variants::new(found(), Vec::new());
        let older = || Identity { device: 1, inode: 1, size: 1, modified: (0, 0), changed: (0, 0) };
        let (shrunk, beside) = (alone(), root.visit(Instant::now()));
        let streamed = Variants::new(found(), siblings(&beside, &found()).unwrap());
        fs::write(directory.path().join("f"), "short").unwrap();
        assert!(read(shrunk, 100).unwrap().is_none());
        assert!(read(streamed, 1).unwrap().is_none());
        let (replaced, large) = (alone(), alone());
        let streamed = Variants::new(found(), siblings(&beside, &Opened { identity: older(), ..found() }).unwrap());
        assert!(streamed.vary());
        fs::write(directory.path().join("new"), "short").unwrap();
        fs::rename(directory.path().join("new"), directory.path().join("f")).unwrap();
        assert!(read(replaced, 100).unwrap().is_none());
        assert!(read(streamed, 1).unwrap().is_none(), "new siblings never go with an old file");
        assert!(matches!(read(large, 1).unwrap(), Some(Loaded::Large { .. })));
    }
}
