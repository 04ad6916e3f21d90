//! The last good set on disk, for a start while the issuer is down.
//!
//! Owns the file: written beside and renamed over (so that a crash leaves the old one or the new one), mode 0600, its age that of
//! its last write, and which source it is a copy of. Refuses what others could have written: whoever writes it chooses the keys.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::published::KeySet;

/// A file dated this much ahead is from a clock that is a little off, not from the future.
const CLOCKS_APART: Duration = Duration::from_mins(1);

/// Why a copy is not used.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it is not a plain file that this user alone can write")]
    Writable,
    #[error("it is longer than {0} bytes")]
    TooLarge(usize),
    #[error("it is dated in the future")]
    Future,
    #[error("it is a copy of another source")]
    Foreign,
    #[error("it is no key set: {0}")]
    NotASet(String),
}

/// The copy of `source` at `path`, with its age; `None` when there is no file.
pub(super) fn read(path: &Path, source: &str, max_bytes: usize) -> Result<Option<(KeySet, Duration)>, CopyError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(CopyError::Read(error)),
    };
    let metadata = file.metadata().map_err(CopyError::Read)?;
    let own = is_trusted(metadata.uid(), rustix::process::geteuid().as_raw());
    if !metadata.is_file() || metadata.permissions().mode() & 0o022 != 0 || !own {
        return Err(CopyError::Writable);
    }
    let age = age(metadata.modified().map_err(CopyError::Read)?, SystemTime::now())?;
    let mut body = Vec::new();
    let bound = u64::try_from(max_bytes).unwrap_or(u64::MAX).saturating_add(1);
    file.take(bound).read_to_end(&mut body).map_err(CopyError::Read)?;
    if body.len() > max_bytes {
        return Err(CopyError::TooLarge(max_bytes));
    }
    let copy: Value = serde_json::from_slice(&body).map_err(|_| CopyError::NotASet("it is not JSON".to_owned()))?;
    if copy.get("source").and_then(Value::as_str) != Some(source) {
        return Err(CopyError::Foreign);
    }
    let set = KeySet::read(&body).map_err(|bad| CopyError::NotASet(bad.message))?;
    Ok(Some((set, age)))
}

/// Whoever owns a file can write it, whatever its mode; the superuser can write any.
fn is_trusted(owner: u32, this_user: u32) -> bool {
    owner == this_user || owner == 0
}

/// Makes `entries` of `source` the copy at `path`. Blocks.
pub(super) fn write(path: &Path, source: &str, entries: &Value) -> io::Result<()> {
    let draft = draft(path)?;
    // What a crash left there, or a link that somebody laid: never written through.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = fill(&draft, &json!({"source": source, "keys": entries})).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        fs::remove_file(&draft).ok(); // the first error is the one to tell
    }
    written
}

fn fill(draft: &Path, copy: &Value) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(copy.to_string().as_bytes())?;
    file.sync_all()
}

/// A name in the same directory, since a rename is atomic only there.
fn draft(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    Ok(path.with_file_name(format!(".{}.{}.draft", name.to_string_lossy(), std::process::id())))
}

fn age(modified: SystemTime, now: SystemTime) -> Result<Duration, CopyError> {
    match now.duration_since(modified) {
        Ok(age) => Ok(age),
        Err(ahead) if ahead.duration() <= CLOCKS_APART => Ok(Duration::ZERO),
        Err(_) => Err(CopyError::Future),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::Permissions;

    use super::super::super::fixtures;
    use super::*;

    const SOURCE: &str = "https://a.test/keys";

    fn copy() -> (tempfile::TempDir, PathBuf) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("keys.json");
        write(&path, SOURCE, &json!([fixtures::ec256().jwk("a")])).unwrap();
        (home, path)
    }

    #[test]
    fn a_copy_is_read_back_and_is_for_this_user_alone() {
        let (home, path) = copy();
        let (set, age) = read(&path, SOURCE, 10_000).unwrap().unwrap();
        assert_eq!(set.members.len(), 1);
        assert!(age < Duration::from_mins(1));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        write(&path, SOURCE, &json!([fixtures::ec256().jwk("a"), fixtures::ed().jwk("b")])).unwrap();
        assert_eq!(read(&path, SOURCE, 10_000).unwrap().unwrap().0.members.len(), 2);
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn no_file_is_no_error_and_what_cannot_be_trusted_is_one() {
        let (home, path) = copy();
        assert!(read(&home.path().join("none"), SOURCE, 10_000).unwrap().is_none());
        assert!(matches!(read(&path, "https://b.test/keys", 10_000), Err(CopyError::Foreign)));
        assert!(matches!(read(&path, SOURCE, 50), Err(CopyError::TooLarge(50))));
        assert!(matches!(read(home.path(), SOURCE, 50), Err(CopyError::Writable)));
        fs::set_permissions(&path, Permissions::from_mode(0o620)).unwrap();
        assert!(matches!(read(&path, SOURCE, 10_000), Err(CopyError::Writable)));
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "{\"source\"").unwrap();
        assert!(matches!(read(&path, SOURCE, 10_000), Err(CopyError::NotASet(_))));
    }

    #[test]
    fn a_copy_of_another_user_is_not_trusted() {
        assert!(is_trusted(1000, 1000) && is_trusted(0, 1000));
        assert!(!is_trusted(1001, 1000) && !is_trusted(1000, 0));
        let (_home, path) = copy();
        // Only the superuser can give a file away; for others there is nothing more to try.
        if std::os::unix::fs::chown(&path, Some(12345), None).is_ok() {
            assert!(matches!(read(&path, SOURCE, 10_000), Err(CopyError::Writable)));
        }
    }

    #[test]
    fn a_draft_that_is_a_link_is_not_written_through() {
        let (home, path) = copy();
        let victim = home.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, draft(&path).unwrap()).unwrap();
        write(&path, SOURCE, &json!([fixtures::ed().jwk("b")])).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn the_age_is_that_of_the_last_write_and_a_date_ahead_is_refused() {
        let now = SystemTime::now();
        assert_eq!(age(now - Duration::from_hours(2), now).unwrap(), Duration::from_hours(2));
        assert_eq!(age(now + Duration::from_secs(2), now).unwrap(), Duration::ZERO);
        assert!(matches!(age(now + Duration::from_hours(1), now), Err(CopyError::Future)));
    }
}
