//! Internal roots: directories that no client reaches by itself, and what an upstream may hand out of them.
//!
//! Owns the finding of the one root a file is meant to be in. By path, the longest prefix by segment decides, as it does for routes; by file,
//! the innermost root. That root is then the only one: what it does not hold, or what the upstream may not take from it, is not looked for in
//! another. Pure but for [`absolute`]; whether the file is there and lies beneath the root is `open`'s to say.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::site::Site;
use crate::http::handout::HandedOut;

/// One directory, as one upstream sees it.
#[derive(Debug, Clone)]
pub struct InternalRoot<S = Arc<Site>> {
    /// The name of its route, for logs.
    pub name: Box<str>,
    /// The path below which its files are named, without a trailing slash.
    pub path: Box<str>,
    /// The directory, by an absolute path: see [`absolute`].
    pub root: PathBuf,
    /// Who opens its files.
    pub site: S,
    /// Whether this upstream may hand them out.
    pub allowed: bool,
}

/// All internal roots, as one upstream sees them.
#[derive(Debug)]
pub struct InternalRoots<S = Arc<Site>>(Box<[InternalRoot<S>]>);

/// Why no internal root holds a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoRoot {
    /// There is none above it.
    #[error(
        "it is below no route with `auth = \"internal\"`: its `path` is for X-Accel-Redirect, its `root` for X-Sendfile"
    )]
    Unknown,
    /// There is one that names other upstreams.
    #[error(
        "the internal route `{0}` is not for this upstream: add it to `handed_out_by` if it may hand these files out"
    )]
    NotAllowed(Box<str>),
}

impl<S> InternalRoots<S> {
    /// The roots in any order.
    pub fn new(roots: impl IntoIterator<Item = InternalRoot<S>>) -> Self {
        Self(roots.into_iter().collect())
    }

    /// Whether any of them is for this upstream.
    pub fn any_allowed(&self) -> bool {
        self.0.iter().any(|root| root.allowed)
    }

    /// Where the file is, and its path there. Two roots of one path are for different upstreams.
    pub fn find(&self, file: &HandedOut) -> Result<(&S, String), NoRoot> {
        let below = |root| below(root, file).map(|rest| (root, rest));
        let mut found: Vec<(&InternalRoot<S>, String)> = self.0.iter().filter_map(below).collect();
        // The shortest rest is below the longest prefix.
        let shortest = found.iter().map(|(_, rest)| rest.len()).min().ok_or(NoRoot::Unknown)?;
        found.retain(|(_, rest)| rest.len() == shortest);
        let at = found
            .iter()
            .position(|(root, _)| root.allowed)
            .ok_or_else(|| NoRoot::NotAllowed(found[0].0.name.clone()))?;
        let (root, rest) = found.swap_remove(at);
        Ok((&root.site, rest))
    }
}

fn below<S>(root: &InternalRoot<S>, file: &HandedOut) -> Option<String> {
    match file {
        HandedOut::Path(path) => {
            let rest = path.strip_prefix(&*root.path)?.strip_prefix('/')?;
            (!rest.is_empty()).then(|| rest.to_owned())
        }
        HandedOut::File(path) => {
            let rest = path.strip_prefix(&root.root).ok()?;
            let names = rest.components().map(|part| part.as_os_str().to_str()).collect::<Option<Vec<_>>>()?;
            (!names.is_empty()).then(|| names.join("/"))
        }
    }
}

/// A root as applications name it: from `/` on, without `.` and `..`. By the text alone, as `os.path.abspath` has it, so that a link which a
/// deployment swaps stays what it is called.
pub fn absolute(root: &Path) -> PathBuf {
    let mut absolute = PathBuf::new();
    for part in std::path::absolute(root).unwrap_or_else(|_| root.to_owned()).components() {
        match part {
            Component::ParentDir => {
                absolute.pop();
            }
            Component::CurDir => {}
            other => absolute.push(other),
        }
    }
    absolute
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> InternalRoots<&'static str> {
        let root = |name: &'static str, path: &str, root: &str, allowed| InternalRoot {
            name: name.into(),
            path: path.into(),
            root: root.into(),
            site: name,
            allowed,
        };
        InternalRoots::new([
            root("all", "/protected", "/srv/media", true),
            root("invoices", "/protected/invoices", "/srv/media/invoices", false),
            root("other", "/shared", "/srv/other", false),
            root("own", "/shared", "/srv/own", true),
        ])
    }

    fn by_path(path: &str) -> Result<(&'static str, String), NoRoot> {
        roots().find(&HandedOut::Path(path.to_owned())).map(|(site, rest)| (*site, rest))
    }

    fn by_file(path: &str) -> Result<(&'static str, String), NoRoot> {
        roots().find(&HandedOut::File(path.into())).map(|(site, rest)| (*site, rest))
    }

    #[test]
    fn the_longest_prefix_by_segment_is_meant_and_no_other() {
        assert_eq!(by_path("/protected/a/b c.pdf"), Ok(("all", "a/b c.pdf".into())));
        assert_eq!(by_path("/protected/invoices2"), Ok(("all", "invoices2".into())));
        assert_eq!(by_path("/protected/invoices/1.pdf"), Err(NoRoot::NotAllowed("invoices".into())));
        for path in ["/protected", "/protectedx/a", "/a", "/srv/media/a"] {
            assert_eq!(by_path(path), Err(NoRoot::Unknown), "{path}");
        }
    }

    #[test]
    fn a_file_is_in_the_innermost_root() {
        assert_eq!(by_file("/srv/media/a//b.pdf"), Ok(("all", "a/b.pdf".into())));
        assert_eq!(by_file("/srv/media/invoices/1.pdf"), Err(NoRoot::NotAllowed("invoices".into())));
        for path in ["/srv/media", "/srv/mediax/a", "/etc/passwd", "/srv"] {
            assert_eq!(by_file(path), Err(NoRoot::Unknown), "{path}");
        }
    }

    #[test]
    fn one_path_leads_each_upstream_to_its_own_files() {
        assert_eq!(by_path("/shared/a"), Ok(("own", "a".into())));
        assert_eq!(by_file("/srv/other/a"), Err(NoRoot::NotAllowed("other".into())));
    }

    #[test]
    fn a_root_is_called_what_applications_call_it() {
        assert_eq!(absolute(Path::new("/srv/conf/../media/./x/")), Path::new("/srv/media/x"));
        assert!(absolute(Path::new("media")).is_absolute());
    }
}
