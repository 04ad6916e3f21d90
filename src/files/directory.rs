//! The names in a directory that a client may ask for.
//!
//! Owns: which names those are, their order, and how many of them are read. Each is judged as the file it names would be when it is asked
//! for: opened beneath the root, and looked at as opened. Runs on a blocking thread. Refuses to know: HTTP, how a listing looks.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use rustix::fs::{Dir, FileType, OFlags};

use super::listing::{Entry, Kind, Listing};
use super::open::{READ, Root};
use super::resolve::admits;

/// Names on one page.
const A_PAGE: usize = 1000;
/// Names read of one directory, those that are left out included: what one request costs has a bound.
const MOST: usize = 100_000;

const LIST: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);
/// To look at something without opening it.
const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW);

/// One page of what is in `directory`, a path below the root without a slash at its end; `None` if it can't be read or has no such page.
pub(super) fn read(root: &Root, directory: &str, page: usize, now: Instant) -> io::Result<Option<Listing>> {
    if !(1..=MOST.div_ceil(A_PAGE)).contains(&page) {
        return Ok(None);
    }
    let top = root.directory(now);
    let inside = Inside { root, top: top.as_fd(), directory };
    let path = if directory.is_empty() { "." } else { directory };
    let Some(opened) = root.open_any(top.as_fd(), path, LIST)? else { return Ok(None) };
    let Names { mut names, cut } = inside.names(Dir::new(OwnedFd::from(opened))?, MOST)?;
    let pages = names.len().div_ceil(A_PAGE).max(1);
    if page > pages {
        return Ok(None);
    }
    names.sort_unstable();
    let total = names.len();
    let mut entries = Vec::with_capacity(total.min(A_PAGE));
    for (kind, name) in names.into_iter().skip((page - 1) * A_PAGE).take(A_PAGE) {
        entries.extend(inside.entry(kind, name)?);
    }
    Ok(Some(Listing { entries, page, pages, total, cut }))
}

/// A directory that is being read.
struct Inside<'d> {
    root: &'d Root,
    top: BorrowedFd<'d>,
    directory: &'d str,
}

struct Names {
    names: Vec<(Kind, Box<str>)>,
    /// Whether there are more.
    cut: bool,
}

impl Inside<'_> {
    fn names(&self, directory: Dir, most: usize) -> io::Result<Names> {
        let mut names = Vec::new();
        let mut seen = 0;
        for entry in directory {
            let entry = entry?;
            if matches!(entry.file_name().to_bytes(), b"." | b"..") {
                continue;
            }
            if seen == most {
                return Ok(Names { names, cut: true });
            }
            seen += 1;
            let Some(name) = entry.file_name().to_str().ok().filter(|name| self.may_be_asked_for(name)) else {
                continue;
            };
            let kind = match entry.file_type() {
                FileType::RegularFile => Some(Kind::File),
                FileType::Directory => Some(Kind::Directory),
                // A link is what it leads to. Some file systems don't say what a name is.
                FileType::Symlink | FileType::Unknown => self.look(name, LOOK)?.and_then(|found| kind(&found)),
                _ => None,
            };
            names.extend(kind.map(|kind| (kind, name.into())));
        }
        Ok(Names { names, cut: false })
    }

    /// Control characters can't be sent in a path, and could write over what is shown beside them.
    fn may_be_asked_for(&self, name: &str) -> bool {
        admits(name, self.directory.is_empty()) && !name.contains(char::is_control)
    }

    /// A name with what is to be told of it; `None` if it would not be served, or is not what it was a moment ago.
    fn entry(&self, kind: Kind, name: Box<str>) -> io::Result<Option<Entry>> {
        let flags = if kind == Kind::File { READ } else { LOOK };
        let found = self.look(&name, flags)?.filter(|found| self::kind(found) == Some(kind));
        Ok(found.map(|found| Entry { name, kind, size: found.len(), modified: u64::try_from(found.mtime()).ok() }))
    }

    fn look(&self, name: &str, flags: OFlags) -> io::Result<Option<Metadata>> {
        let opened = match self.directory {
            "" => self.root.open_any(self.top, name, flags)?,
            directory => self.root.open_any(self.top, &format!("{directory}/{name}"), flags)?,
        };
        opened.as_ref().map(File::metadata).transpose()
    }
}

/// `None` for what is never served.
fn kind(found: &Metadata) -> Option<Kind> {
    match found.file_type() {
        kind if kind.is_file() => Some(Kind::File),
        kind if kind.is_dir() => Some(Kind::Directory),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;

    fn list(at: &Path, directory: &str, page: usize) -> Option<Listing> {
        let now = Instant::now();
        read(&Root::open(at.to_owned(), now).unwrap(), directory, page, now).unwrap()
    }

    fn names(listing: &Listing) -> Vec<&str> {
        listing.entries.iter().map(|entry| &*entry.name).collect()
    }

    fn touch(path: impl AsRef<Path>) {
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn directories_come_first_and_then_names_in_order() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path();
        for name in ["b.txt", "a.txt", "Z.txt", "a.txt.gz"] {
            touch(at.join(name));
        }
        for name in ["z", "empty"] {
            fs::create_dir(at.join(name)).unwrap();
        }
        let listing = list(at, "", 1).unwrap();
        assert_eq!(names(&listing), ["empty", "z", "Z.txt", "a.txt", "a.txt.gz", "b.txt"]);
        assert_eq!((listing.page, listing.pages, listing.total, listing.cut), (1, 1, 6, false));
        let last = listing.entries.last().unwrap();
        assert_eq!((last.kind, last.size), (Kind::File, 1));
        assert!(last.modified.is_some_and(|secs| secs > 1_700_000_000));
        let empty = list(at, "empty", 1).unwrap();
        assert_eq!((empty.entries.len(), empty.pages, empty.total), (0, 1, 0));
        assert_eq!(list(at, "empty", 2), None);
        assert_eq!(list(at, "missing", 1), None);
        assert_eq!(list(at, "a.txt", 1), None);
    }

    #[test]
    fn what_would_not_be_served_is_not_named() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().join("root");
        fs::create_dir_all(at.join("sub/.well-known")).unwrap();
        fs::create_dir_all(at.join(".well-known")).unwrap();
        fs::create_dir_all(at.join(".git")).unwrap();
        touch(home.path().join("secret"));
        for name in [".env", "back\\slash", "line\nbreak", "bell\u{7}", "next\u{85}line", "fine", "sub/inner"] {
            touch(at.join(name));
        }
        touch(at.join(std::ffi::OsStr::from_bytes(b"latin-\xe9")));
        rustix::fs::mkfifoat(rustix::fs::CWD, at.join("fifo"), rustix::fs::Mode::RUSR).unwrap();
        let socket = std::os::unix::net::UnixListener::bind(at.join("socket")).unwrap();
        for (link, to) in [
            ("out", "../secret"),
            ("absolute", "/etc/passwd"),
            ("dangling", "nowhere"),
            ("loop", "loop"),
            ("device", "/dev/null"),
            ("within", "fine"),
            ("sub/up", "../fine"),
            ("to-sub", "sub"),
        ] {
            symlink(to, at.join(link)).unwrap();
        }
        assert_eq!(names(&list(&at, "", 1).unwrap()), [".well-known", "sub", "to-sub", "fine", "within"]);
        assert_eq!(names(&list(&at, "sub", 1).unwrap()), ["inner", "up"]);
        assert_eq!(names(&list(&at, "to-sub", 1).unwrap()), ["inner", "up"]);
        drop(socket);
    }

    #[test]
    fn what_may_not_be_read_is_not_named() {
        let home = tempfile::tempdir().unwrap();
        touch(home.path().join("closed"));
        touch(home.path().join("open"));
        fs::set_permissions(home.path().join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(home.path().join("closed")).is_ok() {
            return; // root may read anything
        }
        assert_eq!(names(&list(home.path(), "", 1).unwrap()), ["open"]);
    }

    #[test]
    fn a_directory_without_end_is_read_to_the_bound() {
        let home = tempfile::tempdir().unwrap();
        for name in [".hidden", "a", "b"] {
            touch(home.path().join(name));
        }
        let root = Root::open(home.path().to_owned(), Instant::now()).unwrap();
        let top = root.directory(Instant::now());
        let inside = Inside { root: &root, top: top.as_fd(), directory: "" };
        let read = |most| {
            let opened = root.open_any(top.as_fd(), ".", LIST).unwrap().unwrap();
            inside.names(Dir::new(OwnedFd::from(opened)).unwrap(), most).unwrap()
        };
        for (most, cut) in [(0, true), (2, true), (3, false), (4, false)] {
            assert_eq!(read(most).cut, cut, "{most}");
        }
        assert_eq!(read(3).names.len(), 2);
        assert!(read(1).names.len() <= 1);
    }

    #[test]
    fn a_thousand_names_make_a_page() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..2001 {
            touch(home.path().join(format!("{number:04}")));
        }
        let page = |number| list(home.path(), "", number);
        let (first, last) = (page(1).unwrap(), page(3).unwrap());
        assert_eq!((first.entries.len(), first.pages, first.total), (1000, 3, 2001));
        assert_eq!((names(&first)[0], names(&first)[999]), ("0000", "0999"));
        assert_eq!(names(&last), ["2000"]);
        for absent in [0, 4, 100, 101, usize::MAX] {
            assert_eq!(page(absent), None, "{absent}");
        }
    }
}
