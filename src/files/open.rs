//! Opens what a path names, beneath the root and nowhere else.
//!
//! Owns: the root's descriptor, the walk below it, and the judgement on what was opened. Everything is decided about an
//! open descriptor, so there is nothing between a check and an open for a link to be swapped into. Refuses to know:
//! HTTP.
//!
//! With `openat2(RESOLVE_BENEATH)` (Linux 5.6) the kernel follows links that stay beneath the root and refuses those
//! that leave it. Without it the path is walked segment by segment and no link is followed at all: stricter, equally
//! safe.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::resolve::Wanted;

/// What was behind a path.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file, open for reading.
    File(Opened),
    /// A directory, asked for without the slash at its end.
    Directory,
    /// Nothing that is served.
    Missing,
}

/// A regular file and what it was when it was opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) identity: Identity,
    /// The path below the root, with the index file's name when a directory was asked for. A precompressed sibling has the path of
    /// the file whose contents it holds.
    pub(super) path: String,
}

/// What tells one state of one file from every other. A change of contents cannot leave `changed` as it was, unless it
/// shares the clock tick of the change before it: see [`Identity::settled`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Length in bytes.
    pub(super) size: u64,
    /// Last change of the contents: seconds and nanoseconds since the Unix epoch.
    pub(super) modified: (i64, i64),
    /// Last change of contents or attributes; no program can set it.
    pub(super) changed: (i64, i64),
}

impl Identity {
    /// What `file` is now.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|metadata| Self::from(&metadata))
    }

    /// Whether a further change would be bound to show. Coarse clocks give two changes one time stamp; two seconds is
    /// the coarsest in use (FAT).
    pub(super) fn settled(&self, wall: SystemTime) -> bool {
        const COARSEST_SECS: u64 = 2;
        let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        u64::try_from(self.changed.0).is_ok_and(|changed| changed.saturating_add(COARSEST_SECS) < now)
    }
}

impl From<&Metadata> for Identity {
    fn from(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The directory nothing outside of which is opened.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
    held: Mutex<Held>,
    beneath: Beneath,
}

#[derive(Debug)]
struct Held {
    directory: Arc<OwnedFd>,
    since: Instant,
}

/// Who keeps a path beneath the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beneath {
    Kernel,
    Walk,
}

/// How long a descriptor of the root is used before the root is opened anew, for a deployment that swaps the directory
/// itself, or a link on the way to it. What was read through it is believed for a while from then on: the two times
/// together are the second within which any change is seen.
const REOPEN_ROOT_AFTER: Duration = Duration::from_millis(100);

impl Root {
    /// Opens the root itself, following links on the way to it: the operator named it.
    pub(super) fn open(path: PathBuf, now: Instant) -> io::Result<Self> {
        let directory = open_directory(&path)?;
        let beneath = if kernel_resolves_beneath(directory.as_fd()) { Beneath::Kernel } else { Beneath::Walk };
        Ok(Self { path, held: Mutex::new(Held { directory: Arc::new(directory), since: now }), beneath })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The root as it is now, for several looks below the same directory.
    pub(super) fn visit(&self, now: Instant) -> Visit<'_> {
        Visit { root: self, directory: self.directory(now) }
    }

    /// The root's descriptor, at most [`REOPEN_ROOT_AFTER`] old. While the root is away the last one stays.
    pub(super) fn directory(&self, now: Instant) -> Arc<OwnedFd> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(held.since) >= REOPEN_ROOT_AFTER {
            held.since = now;
            if let Ok(directory) = open_directory(&self.path) {
                held.directory = Arc::new(directory);
            }
        }
        Arc::clone(&held.directory)
    }

    /// Opens whatever `path` names beneath `root`, with flags that follow no link by themselves; `None` if there is nothing.
    pub(super) fn open_any(&self, root: BorrowedFd<'_>, path: &str, flags: OFlags) -> io::Result<Option<File>> {
        match self.open_at(root, path, flags) {
            Ok(descriptor) => Ok(Some(File::from(descriptor))),
            Err(errno) if is_absence(errno) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open_at(&self, root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        match self.beneath {
            Beneath::Kernel => open_beneath(root, path, flags),
            Beneath::Walk => walk(root, path, flags),
        }
    }

    fn open_regular(&self, root: BorrowedFd<'_>, path: String) -> io::Result<Found> {
        match self.open_at(root, &path, READ) {
            Ok(descriptor) => judge(File::from(descriptor), path),
            Err(errno) if is_absence(errno) => {
                if matches!(errno, Errno::ACCESS | Errno::PERM) {
                    tracing::warn!(root = %self.path.display(), ?path, "a static file may not be read: check its owner and mode");
                }
                Ok(Found::Missing)
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

/// The root as one request sees it, whatever is put into its place meanwhile.
#[derive(Debug)]
pub(super) struct Visit<'r> {
    root: &'r Root,
    directory: Arc<OwnedFd>,
}

impl Visit<'_> {
    /// Opens what `wanted` names; for a directory, the first of `index` that is a regular file in it.
    ///
    /// Blocks on the file system: not for a worker's thread.
    pub(super) fn find(&self, wanted: Wanted<'_>, index: &[Box<str>]) -> io::Result<Found> {
        let directory = match wanted {
            Wanted::File(path) => return self.open(path.to_owned()),
            Wanted::Directory(directory) => directory,
        };
        for name in index {
            let path = if directory.is_empty() { name.to_string() } else { format!("{directory}/{name}") };
            if let found @ Found::File(_) = self.open(path)? {
                return Ok(found);
            }
        }
        Ok(Found::Missing)
    }

    /// The regular file that lies beside `opened` and is named like it, with `suffix`. It keeps the path of `opened`.
    pub(super) fn beside(&self, opened: &Opened, suffix: &str) -> io::Result<Option<Opened>> {
        Ok(match self.open(format!("{}{suffix}", opened.path))? {
            Found::File(sibling) => Some(Opened { path: opened.path.clone(), ..sibling }),
            Found::Directory | Found::Missing => None,
        })
    }

    fn open(&self, path: String) -> io::Result<Found> {
        self.root.open_regular(self.directory.as_fd(), path)
    }
}

/// Reading is all that is asked for. `NONBLOCK` keeps the open itself from waiting for the other end of a FIFO.
pub(super) const READ: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY).union(OFlags::NOFOLLOW);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

/// Older kernels do not know the call, and some container sandboxes refuse what they do not know.
fn kernel_resolves_beneath(root: BorrowedFd<'_>) -> bool {
    rustix::fs::openat2(root, ".", DIRECTORY, Mode::empty(), ResolveFlags::BENEATH).is_ok()
}

fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    // The kernel answers EAGAIN when a rename elsewhere keeps it from proving that a link with `..` stayed beneath.
    // Each attempt costs microseconds.
    const ATTEMPTS: usize = 128;
    let flags = flags.difference(OFlags::NOFOLLOW); // the kernel keeps links beneath
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut outcome = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        outcome = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(outcome, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    outcome
}

/// One segment at a time, each opened in the descriptor of the one before, no link followed.
fn walk(root: BorrowedFd<'_>, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let Some((directories, name)) = path.rsplit_once('/') else {
        return rustix::fs::openat(root, path, flags, Mode::empty());
    };
    let mut held: Option<OwnedFd> = None;
    for directory in directories.split('/') {
        let parent = held.as_ref().map_or(root, AsFd::as_fd);
        held = Some(rustix::fs::openat(parent, directory, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?);
    }
    rustix::fs::openat(held.as_ref().map_or(root, AsFd::as_fd), name, flags, Mode::empty())
}

fn judge(file: File, path: String) -> io::Result<Found> {
    let metadata = file.metadata()?;
    Ok(match metadata.file_type() {
        kind if kind.is_file() => Found::File(Opened { identity: Identity::from(&metadata), file, path }),
        kind if kind.is_dir() => Found::Directory,
        _ => Found::Missing,
    })
}

/// Whether an errno says something about the path, rather than about us. `XDEV` is a link that leaves the root, `LOOP`
/// a link where none is followed, `NXIO` a socket, `NODEV` a device without a driver.
fn is_absence(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT
            | Errno::NOTDIR
            | Errno::LOOP
            | Errno::XDEV
            | Errno::NAMETOOLONG
            | Errno::NXIO
            | Errno::NODEV
            | Errno::ACCESS
            | Errno::PERM
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tempfile::TempDir;

    use super::*;

    /// A directory with a root in it and a secret beside the root.
    fn house() -> TempDir {
        let house = tempfile::tempdir().unwrap();
        fs::create_dir_all(house.path().join("root/docs/deep")).unwrap();
        fs::write(house.path().join("secret"), "secret").unwrap();
        fs::write(house.path().join("root/a.txt"), "public").unwrap();
        fs::write(house.path().join("root/docs/index.html"), "public").unwrap();
        house
    }

    fn roots(house: &TempDir) -> [Root; 2] {
        [Beneath::Kernel, Beneath::Walk].map(|beneath| {
            let root = Root::open(house.path().join("root"), Instant::now()).unwrap();
            Root { beneath, ..root }
        })
    }

    fn find(root: &Root, wanted: Wanted<'_>) -> Found {
        root.visit(Instant::now()).find(wanted, &["index.html".into()]).unwrap()
    }

    fn contents(found: Found) -> String {
        let Found::File(mut opened) = found else { panic!("{found:?}") };
        let mut text = String::new();
        opened.file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn regular_files_open_and_directories_lead_to_their_index() {
        let house = house();
        for root in roots(&house) {
            assert_eq!(contents(find(&root, Wanted::File("a.txt"))), "public");
            assert_eq!(contents(find(&root, Wanted::File("docs/index.html"))), "public");
            assert_eq!(contents(find(&root, Wanted::Directory("docs"))), "public");
            assert!(matches!(find(&root, Wanted::File("docs")), Found::Directory));
            assert!(matches!(find(&root, Wanted::Directory("")), Found::Missing));
            assert!(matches!(find(&root, Wanted::Directory("docs/deep")), Found::Missing));
            assert!(matches!(find(&root, Wanted::Directory("a.txt")), Found::Missing));
            assert!(matches!(find(&root, Wanted::File("a.txt/b")), Found::Missing));
            assert!(matches!(find(&root, Wanted::File("absent")), Found::Missing));
            assert!(matches!(find(&root, Wanted::File(&"a".repeat(5000))), Found::Missing));
        }
    }

    #[test]
    fn links_that_leave_the_root_are_refused() {
        let house = house();
        let root_path = house.path().join("root");
        symlink("../secret", root_path.join("relative")).unwrap();
        symlink(house.path().join("secret"), root_path.join("absolute")).unwrap();
        symlink("..", root_path.join("up")).unwrap();
        symlink("/proc/self/root", root_path.join("magic")).unwrap();
        symlink("loop", root_path.join("loop")).unwrap();
        for root in roots(&house) {
            for path in
                ["relative", "absolute", "up/secret", "up", "up/root/a.txt", "magic", "magic/etc/passwd", "loop"]
            {
                assert!(matches!(find(&root, Wanted::File(path)), Found::Missing), "{path}");
            }
        }
    }

    #[test]
    fn links_that_stay_are_followed_by_the_kernel_and_refused_by_the_walk() {
        let house = house();
        let root_path = house.path().join("root");
        symlink("a.txt", root_path.join("file")).unwrap();
        symlink("docs", root_path.join("folder")).unwrap();
        symlink("../../a.txt", root_path.join("docs/deep/up")).unwrap();
        let [kernel, walk] = roots(&house);
        for path in ["file", "folder/index.html", "docs/deep/up"] {
            assert_eq!(contents(find(&kernel, Wanted::File(path))), "public", "{path}");
            assert!(matches!(find(&walk, Wanted::File(path)), Found::Missing), "{path}");
        }
    }

    #[test]
    fn fifos_sockets_and_devices_are_no_files_and_never_block() {
        let house = house();
        let root_path = house.path().join("root");
        let directory = open_directory(&root_path).unwrap();
        rustix::fs::mkfifoat(&directory, "fifo", Mode::RUSR | Mode::WUSR).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(root_path.join("socket")).unwrap();
        for root in roots(&house) {
            assert!(matches!(find(&root, Wanted::File("fifo")), Found::Missing));
            assert!(matches!(find(&root, Wanted::File("socket")), Found::Missing));
        }
        let devices = Root::open(PathBuf::from("/dev"), Instant::now()).unwrap();
        assert!(matches!(find(&devices, Wanted::File("null")), Found::Missing));
    }

    #[test]
    fn a_link_swapped_while_it_is_opened_never_leads_out() {
        let house = house();
        let root_path = house.path().join("root");
        symlink("a.txt", root_path.join("swapped")).unwrap();
        fs::create_dir(house.path().join("outside")).unwrap();
        fs::write(house.path().join("outside/index.html"), "secret").unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    for (target, name) in
                        [("../secret", "swapped"), ("a.txt", "swapped"), ("../outside", "folder"), ("docs", "folder")]
                    {
                        symlink(target, root_path.join("next")).unwrap();
                        fs::rename(root_path.join("next"), root_path.join(name)).unwrap();
                    }
                }
            });
            let seen: Vec<_> = roots(&house).iter().flat_map(open_many_times).collect();
            done.store(true, Ordering::Relaxed);
            assert!(seen.iter().any(|text| text == "public"));
            assert!(seen.iter().all(|text| text == "public"));
        });
    }

    fn open_many_times(root: &Root) -> Vec<String> {
        let paths = [Wanted::File("swapped"), Wanted::File("folder/index.html"), Wanted::Directory("folder")];
        let attempts = (0..2_000).flat_map(|_| paths);
        let opened = attempts.filter_map(|wanted| root.visit(Instant::now()).find(wanted, &["index.html".into()]).ok());
        opened.filter(|found| matches!(found, Found::File(_))).map(contents).collect()
    }

    #[test]
    fn a_replaced_root_is_seen_within_a_tenth_of_a_second_and_a_missing_one_is_waited_for() {
        let house = house();
        let start = Instant::now();
        let root = Root::open(house.path().join("root"), start).unwrap();
        let read = |after_ms| {
            contents(root.visit(start + Duration::from_millis(after_ms)).find(Wanted::File("a.txt"), &[]).unwrap())
        };
        fs::rename(house.path().join("root"), house.path().join("old")).unwrap();
        assert_eq!(read(100), "public");
        fs::create_dir(house.path().join("root")).unwrap();
        fs::write(house.path().join("root/a.txt"), "released").unwrap();
        assert_eq!(read(199), "public");
        assert_eq!(read(200), "released");
    }

    #[test]
    fn a_root_that_is_no_directory_is_an_error() {
        let house = house();
        assert!(Root::open(house.path().join("absent"), Instant::now()).is_err());
        assert!(Root::open(house.path().join("secret"), Instant::now()).is_err());
    }

    #[test]
    fn a_file_settles_once_two_seconds_have_passed_since_its_change() {
        let identity = Identity { device: 1, inode: 2, size: 3, modified: (90, 0), changed: (100, 5) };
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);
        assert!(!identity.settled(at(50)));
        assert!(!identity.settled(at(102)));
        assert!(identity.settled(at(103)));
    }
}
