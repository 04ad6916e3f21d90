//! Which files carry a digest of their contents in their names: the manifest that Django's `ManifestStaticFilesStorage` writes.
//!
//! Owns: reading it, within bounds, and looking again when it may have changed. Such a file never changes under its name, so it may
//! be kept for ever; the manifest is the one that knows, where a guess by the shape of a name would be wrong sooner or later. Runs on
//! blocking threads. Refuses to know: HTTP.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::open::{Found, Identity, Opened, Root};
use super::resolve::{Wanted, resolve};

/// The manifest of one root, for all workers.
#[derive(Debug)]
pub struct Manifest {
    root: Root,
    name: Box<str>,
    names: ArcSwap<Names>,
    looked: Mutex<Looked>,
}

/// The names that carry a digest.
pub(super) type Names = HashSet<Box<str>>;

/// What the last look saw.
#[derive(Debug)]
struct Looked {
    at: Instant,
    /// The state that, found again, need not be read again, good or bad.
    known: Option<Identity>,
    /// How many looks in a row could make nothing of it.
    failures: u32,
}

/// Half of what a change may take to be seen: the other half is the age at which a file in memory is looked at again.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A hundred thousand names take 15 MB.
const MOST_BYTES: u64 = 64 * 1024 * 1024;

/// Whether a manifest could be used; the error says why not.
///
/// # Errors
///
/// As [`Manifest::open`].
pub fn check_manifest(root: &Path, name: &str) -> io::Result<()> {
    Manifest::open(root, name).map(drop)
}

impl Manifest {
    /// Reads the manifest `name` below `root`.
    ///
    /// # Errors
    ///
    /// What the file system says of the root or of the file, or `InvalidData` for one that is no manifest.
    pub fn open(root: &Path, name: &str) -> io::Result<Self> {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let root = Root::open(root.to_owned(), now)?;
        let opened = find(&root, name, now)?;
        let names = read(&opened)?;
        let known = opened.identity.settled(wall).then_some(opened.identity);
        Ok(Self {
            root,
            name: name.into(),
            names: ArcSwap::from_pointee(names),
            looked: Mutex::new(Looked { at: now, known, failures: 0 }),
        })
    }

    /// Whether this is the manifest `name` below `root`.
    pub fn is(&self, root: &Path, name: &str) -> bool {
        self.root.path() == root && *self.name == *name
    }

    /// The names as of half a second ago or later. Whoever comes first after that looks; nobody waits for them.
    pub(super) fn names(&self, now: Instant) -> Arc<Names> {
        let looked = match self.looked.try_lock() {
            Ok(looked) => Some(looked),
            // What it guards is whole after any panic: it is written when everything else is done.
            Err(TryLockError::Poisoned(poisoned)) => Some(PoisonError::into_inner(poisoned)),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut looked) = looked.filter(|looked| now.saturating_duration_since(looked.at) >= LOOK_EVERY) {
            looked.at = now;
            self.look_again(&mut looked, now);
        }
        self.names.load_full()
    }

    fn look_again(&self, looked: &mut Looked, now: Instant) {
        let wall = SystemTime::now();
        let found = find(&self.root, &self.name, now);
        let seen = found.as_ref().ok().map(|opened| opened.identity);
        if seen.is_some() && seen == looked.known {
            return;
        }
        match found.and_then(|opened| read(&opened)) {
            Ok(names) => {
                if looked.failures > 1 {
                    tracing::info!(manifest = self.name, "the manifest can be read again");
                }
                looked.failures = 0;
                if names != **self.names.load() {
                    self.names.store(Arc::new(names));
                }
            }
            Err(error) => {
                looked.failures = looked.failures.saturating_add(1);
                // `collectstatic` removes the manifest before it writes the new one: one bad look means nothing.
                if looked.failures == 2 {
                    let root = self.root.path().display();
                    tracing::warn!(%root, manifest = self.name, %error, "the manifest can't be used and the last good one stays: run `manage.py collectstatic`");
                }
                // Whatever is wrong with it may be that it is not yet written to its end.
                looked.known = None;
                return;
            }
        }
        looked.known = seen.filter(|identity| identity.settled(wall));
    }
}

fn find(root: &Root, name: &str, now: Instant) -> io::Result<Opened> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such file");
    let Some(wanted @ Wanted::File(_)) = resolve(name) else { return Err(missing()) };
    match root.visit(now).find(wanted, &[])? {
        Found::File(opened) => Ok(opened),
        Found::Directory | Found::Missing => Err(missing()),
    }
}

fn read(opened: &Opened) -> io::Result<Names> {
    if opened.identity.size > MOST_BYTES {
        return Err(invalid(format!("it is larger than {} MiB", MOST_BYTES >> 20)));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(opened.identity.size).map_err(io::Error::other)?);
    let mut file: &File = &opened.file;
    file.by_ref().take(MOST_BYTES).read_to_end(&mut bytes)?;
    if Identity::of(file)? != opened.identity {
        return Err(invalid("it is being written"));
    }
    hashed_names(&bytes)
}

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

/// The values of `paths`: what a file is called with the digest of its contents. A name that stands for itself has none.
fn hashed_names(json: &[u8]) -> io::Result<Names> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let Contents { names, version } = Whole
        .deserialize(&mut reader)
        .and_then(|contents| reader.end().map(|()| contents))
        .map_err(|error| invalid(format!("it is no manifest of Django's static files: {error}")))?;
    match version.as_deref() {
        Some("1.0" | "1.1") => {}
        Some(other) => return Err(invalid(format!("its version is {other:?}; 1.0 and 1.1 are known"))),
        None => return Err(invalid("it has no `version`")),
    }
    names.ok_or_else(|| invalid("it has no `paths`"))
}

struct Contents {
    names: Option<Names>,
    version: Option<String>,
}

/// The object itself.
struct Whole;

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Contents;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Contents, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Contents;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `paths` and `version`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Contents, A::Error> {
        let mut contents = Contents { names: None, version: None };
        while let Some(member) = members.next_key::<String>()? {
            match member.as_str() {
                "paths" => contents.names = Some(members.next_value_seed(Paths)?),
                "version" => contents.version = Some(members.next_value()?),
                _ => {
                    members.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(contents)
    }
}

/// The object of names, of which only the values are kept.
struct Paths;

impl<'de> DeserializeSeed<'de> for Paths {
    type Value = Names;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Names, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Paths {
    type Value = Names;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object from names to names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Names, A::Error> {
        let mut names = Names::new();
        while let Some((name, hashed)) = members.next_entry::<String, String>()? {
            if hashed != name {
                names.insert(hashed.into());
            }
        }
        names.shrink_to_fit();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    const TWO: &str = r#"{"paths": {"css/a.css": "css/a.1f2e.css", "b.js": "b.77.js", "c.txt": "c.txt"}, "version": "1.1", "hash": "x"}"#;
    const ONE: &str = r#"{"version": "1.0", "paths": {"b.js": "b.88.js"}}"#;

    fn sorted(names: &Names) -> Vec<&str> {
        let mut names: Vec<_> = names.iter().map(|name| &**name).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn names_with_a_digest_are_the_values_that_are_not_their_own_keys() {
        assert_eq!(sorted(&hashed_names(TWO.as_bytes()).unwrap()), ["b.77.js", "css/a.1f2e.css"]);
        let more = br#"{"paths": {"\u00e9.css": "\u00e9.1.css"}, "more": [{"paths": 1}], "version": "1.0"}"#;
        assert_eq!(sorted(&hashed_names(more).unwrap()), ["é.1.css"]);
    }

    #[test]
    fn what_is_no_manifest_is_an_error_that_says_why() {
        for (json, why) in [
            ("", "EOF"),
            ("[]", "an object with `paths` and `version`"),
            ("{}", "no `version`"),
            (r#"{"version": "1.1"}"#, "no `paths`"),
            (r#"{"version": "2.0", "paths": {}}"#, "its version is \"2.0\"; 1.0 and 1.1 are known"),
            (r#"{"version": 1, "paths": {}}"#, "expected a string"),
            (r#"{"version": "1.1", "paths": ["a"]}"#, "an object from names to names"),
            (r#"{"version": "1.1", "paths": {"a": 1}}"#, "expected a string"),
            (r#"{"version": "1.1", "paths": {}} x"#, "trailing"),
            (&TWO[..TWO.len() - 9], "EOF"),
        ] {
            let error = hashed_names(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(why), "{json}: {error}");
        }
    }

    #[test]
    fn a_manifest_lies_below_its_root_and_is_no_larger_than_its_bound() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(directory.path().join("outside.json"), TWO).unwrap();
        fs::write(root.join("staticfiles.json"), TWO).unwrap();
        symlink("../outside.json", root.join("link.json")).unwrap();
        let large = File::create(root.join("large.json")).unwrap();
        large.set_len(MOST_BYTES + 1).unwrap();
        assert!(check_manifest(&root, "staticfiles.json").is_ok());
        for name in ["../outside.json", "link.json", "absent.json", "", "./staticfiles.json"] {
            assert_eq!(check_manifest(&root, name).unwrap_err().kind(), io::ErrorKind::NotFound, "{name:?}");
        }
        assert!(check_manifest(&root, "large.json").unwrap_err().to_string().contains("larger than 64 MiB"));
        assert!(check_manifest(&directory.path().join("absent"), "staticfiles.json").is_err());
    }

    #[test]
    fn a_change_is_seen_after_half_a_second_and_what_broke_leaves_the_last_good_names() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("staticfiles.json");
        fs::write(&path, TWO).unwrap();
        let manifest = Manifest::open(directory.path(), "staticfiles.json").unwrap();
        let start = manifest.looked.lock().unwrap().at;
        let at = |after_ms| manifest.names(start + Duration::from_millis(after_ms));
        let first = at(0);
        assert_eq!(sorted(&first), ["b.77.js", "css/a.1f2e.css"]);
        fs::write(&path, ONE).unwrap();
        assert!(Arc::ptr_eq(&first, &at(499)));
        let second = at(500);
        assert_eq!(sorted(&second), ["b.88.js"]);
        for (after_ms, broken) in [(1_000, Some("{")), (1_500, None), (2_000, Some("[]"))] {
            fs::remove_file(&path).unwrap_or_default();
            if let Some(broken) = broken {
                fs::write(&path, broken).unwrap();
            }
            assert!(Arc::ptr_eq(&second, &at(after_ms)), "{broken:?}");
        }
        assert_eq!(manifest.looked.lock().unwrap().failures, 3);
        fs::write(&path, TWO).unwrap();
        assert_eq!(sorted(&at(2_500)), ["b.77.js", "css/a.1f2e.css"]);
        assert_eq!(manifest.looked.lock().unwrap().failures, 0);
    }

    #[test]
    fn nobody_waits_for_whoever_looks() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("m.json"), TWO).unwrap();
        let manifest = Manifest::open(directory.path(), "m.json").unwrap();
        let looking = manifest.looked.lock().unwrap();
        fs::write(directory.path().join("m.json"), ONE).unwrap();
        assert_eq!(manifest.names(looking.at + Duration::from_secs(9)).len(), 2);
        drop(looking);
        assert_eq!(manifest.names(Instant::now() + Duration::from_secs(9)).len(), 1);
    }

    proptest! {
        #[test]
        fn no_file_panics(json in any::<Vec<u8>>(), text in "[\\[\\]{}:,\"pathsversion10.\\\\]{0,60}") {
            drop(hashed_names(&json));
            drop(hashed_names(text.as_bytes()));
        }
    }
}
