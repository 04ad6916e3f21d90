//! From a decoded path to the file it may name. Pure.
//!
//! Owns: the refusal of every path that could be read in two ways or that names what is nobody's business. The path
//! comes decoded and canonical, and is checked here all the same: this is the last place before the file system.
//! Refuses to know: the file system; what `open` does with links is its own.

/// What a path asks for, every segment of it harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted<'p> {
    /// A path without a slash at its end.
    File(&'p str),
    /// A path that ended in a slash, without it; the empty string is the root itself.
    Directory(&'p str),
}

/// The one directory below which dotfiles are not private (RFC 8615); itself only as the first segment.
const WELL_KNOWN: &str = ".well-known";

/// Reads a path relative to the root, percent-decoded, without a leading slash. `None` means it is refused.
pub(super) fn resolve(path: &str) -> Option<Wanted<'_>> {
    let (inner, wanted): (_, fn(_) -> _) = match path.strip_suffix('/') {
        Some(directory) => (directory, Wanted::Directory),
        None if path.is_empty() => return Some(Wanted::Directory("")),
        None => (path, Wanted::File),
    };
    let harmless = inner.split('/').enumerate().all(|(at, segment)| admits(segment, at == 0));
    harmless.then(|| wanted(inner))
}

/// Whether a path that names nothing may be one of a single-page application's own. Where its last segment has a dot it asks for a
/// file, and what is well known (RFC 8615) is asked for by programs, which must be told that it is not there.
pub(super) fn may_be_a_page(path: &str) -> bool {
    let (Some(Wanted::File(inner) | Wanted::Directory(inner)), mut segments) = (resolve(path), path.split('/')) else {
        return false;
    };
    let last = inner.rsplit('/').next().unwrap_or_default();
    !last.contains('.') && segments.next() != Some(WELL_KNOWN)
}

/// Whether `path` is one under which a file could be served: what an operator names below a root is held to the same rules.
pub fn is_file_path(path: &str) -> bool {
    matches!(resolve(path), Some(Wanted::File(_)))
}

/// A segment is refused when it is empty, a dotfile (which `.` and `..` are too), or holds a NUL, where C would end the
/// name, or a backslash, where another system would end the segment.
pub(super) fn admits(segment: &str, first: bool) -> bool {
    let dotfile = segment.starts_with('.') && !(first && segment == WELL_KNOWN);
    !segment.is_empty() && !dotfile && !segment.contains(['\0', '\\', '/'])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_name_files_and_a_slash_names_a_directory() {
        for (path, wanted) in [
            ("a.css", Wanted::File("a.css")),
            ("css/a b+c~é.css", Wanted::File("css/a b+c~é.css")),
            ("a..b/c.d", Wanted::File("a..b/c.d")),
            ("", Wanted::Directory("")),
            ("docs/", Wanted::Directory("docs")),
            ("docs/deep/", Wanted::Directory("docs/deep")),
            (".well-known", Wanted::File(".well-known")),
            (".well-known/acme-challenge/token", Wanted::File(".well-known/acme-challenge/token")),
        ] {
            assert_eq!(resolve(path), Some(wanted), "{path:?}");
        }
    }

    #[test]
    fn traversal_nul_backslash_empty_segments_and_dotfiles_are_refused() {
        for path in [
            "..",
            "../",
            "../etc/passwd",
            "a/../b",
            "a/..",
            "a/../",
            ".",
            "./a",
            "a/./b",
            "a/.",
            "....//",
            "....//etc",
            "...",
            "..\\",
            "..\\etc",
            "a\\b",
            "\\",
            "a\0",
            "\0",
            "a\0.png",
            "/",
            "//",
            "/etc/passwd",
            "a//b",
            "a//",
            "//a",
            ".git/config",
            ".env",
            "a/.env",
            "a/.htpasswd/",
            "x/.well-known/y",
            ".well-known/.secret",
            ".well-known/../a",
            ".well-known2",
            "..;/a",
            "..%2f",
        ] {
            assert_eq!(resolve(path), None, "{path:?}");
        }
    }

    #[test]
    fn pages_have_no_dot_in_their_last_segment() {
        for path in ["", "users", "users/7", "users/7/", "v1.2/users", "a b"] {
            assert!(may_be_a_page(path), "{path:?}");
        }
        for path in [
            "app.js",
            "users/a.png",
            "users/v1.2/",
            "../users",
            "a//b",
            ".env",
            ".git/config",
            "a\\b",
            "a\0",
            ".well-known",
            ".well-known/change-password",
        ] {
            assert!(!may_be_a_page(path), "{path:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_admitted_never_climbs_or_hides(path in "[a./\\\\\\x00-]{0,12}") {
            if let Some(Wanted::File(inner) | Wanted::Directory(inner)) = resolve(&path) {
                prop_assert!(!inner.starts_with('/') && !inner.contains("//"));
                prop_assert!(!inner.contains(['\0', '\\']));
                prop_assert!(inner.split('/').all(|segment| !segment.starts_with('.')));
            }
        }

        #[test]
        fn no_path_panics(path in any::<String>()) {
            resolve(&path);
        }
    }
}
