//! Files handed out: what an upstream's answer says to the gateway alone, in the place of a body of its own.
//!
//! Owns the fields (`X-Accel-*`, `X-Sendfile`), that no client ever sees them, and how the file they name is read: a path by the rules that
//! clients' paths are read by, so that nobody can read it in another way. Refuses to know which files there are and who may hand them out.

use std::path::PathBuf;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::target;

/// A path below an internal route, percent-encoded or not.
const ACCEL_REDIRECT: HeaderName = HeaderName::from_static("x-accel-redirect");
/// An absolute path of the file system, as it is.
const SENDFILE: HeaderName = HeaderName::from_static("x-sendfile");
/// What else Nginx listens to (limits, buffering, caching) begins like this.
const ACCEL: &[u8] = b"x-accel-";

/// The file an upstream hands out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HandedOut {
    /// By its canonical path, decoded; it names a file, not a directory.
    Path(String),
    /// By its absolute path in the file system.
    File(PathBuf),
}

/// Why what an upstream says names no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HandoutFault {
    /// Two fields, or two lines of one.
    #[error("there is more than one of X-Accel-Redirect and X-Sendfile: send one")]
    Several,
    /// Neither a path nor ASCII or UTF-8.
    #[error(
        "it is no path in ASCII or UTF-8 that begins with a slash: send `/PREFIX/` and the file's name, percent-encoded"
    )]
    NoPath,
    /// A path that two programs could read in two ways.
    #[error(
        "the path can be read in more than one way: percent-encode each part of it, and leave out empty parts and dots"
    )]
    Ambiguous,
    /// A directory.
    #[error("the path names a directory: name the file")]
    Directory,
}

/// Whether an answer says anything to the gateway alone. One look at the names: next to no answer does.
pub fn speaks(headers: &HeaderMap) -> bool {
    headers.keys().any(is_ours)
}

/// Removes what is not for clients: it tells them where files are.
pub fn strip(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name)).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
}

/// The file that is to be sent instead, if one is.
pub fn read(headers: &HeaderMap) -> Result<Option<HandedOut>, HandoutFault> {
    let path = only(headers, &ACCEL_REDIRECT)?;
    let file = only(headers, &SENDFILE)?;
    match (path, file) {
        (None, None) => Ok(None),
        (Some(path), None) => read_path(path.as_bytes()).map(HandedOut::Path).map(Some),
        (None, Some(file)) => read_file(file.as_bytes()).map(HandedOut::File).map(Some),
        (Some(_), Some(_)) => Err(HandoutFault::Several),
    }
}

fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.starts_with(b"x-") && (name.starts_with(ACCEL) || name == SENDFILE.as_str().as_bytes())
}

fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h HeaderValue>, HandoutFault> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next();
    if lines.next().is_some() { Err(HandoutFault::Several) } else { Ok(first) }
}

/// A name with spaces or letters beyond ASCII may stand there as it is: nothing else can be meant by it. What follows a `?` is Nginx's query.
fn read_path(value: &[u8]) -> Result<String, HandoutFault> {
    let text = str::from_utf8(value).map_err(|_| HandoutFault::NoPath)?;
    let path = text.split('?').next().unwrap_or_default();
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        return Err(HandoutFault::NoPath);
    }
    let decoded = target::canonical(path).map_err(|_| HandoutFault::Ambiguous)?;
    let path = decoded.map_or_else(|| path.to_owned(), String::from);
    if path.ends_with('/') { Err(HandoutFault::Directory) } else { Ok(path) }
}

/// Nothing is decoded: it is a name for the file system, which knows no escapes.
fn read_file(value: &[u8]) -> Result<PathBuf, HandoutFault> {
    let path = str::from_utf8(value).map_err(|_| HandoutFault::NoPath)?;
    if !path.starts_with('/') || path.chars().any(char::is_control) {
        return Err(HandoutFault::NoPath);
    }
    if path.contains('\\') || path.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(HandoutFault::Ambiguous);
    }
    if path.ends_with('/') { Err(HandoutFault::Directory) } else { Ok(path.into()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).expect("a value"))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines.iter().map(line) {
            headers.append(name, value);
        }
        headers
    }

    fn path(value: &str) -> Result<String, HandoutFault> {
        match read(&headers(&[("x-accel-redirect", value)])) {
            Ok(Some(HandedOut::Path(path))) => Ok(path),
            Ok(other) => panic!("{value}: {other:?}"),
            Err(fault) => Err(fault),
        }
    }

    fn file(value: &str) -> Result<String, HandoutFault> {
        match read(&headers(&[("x-sendfile", value)])) {
            Ok(Some(HandedOut::File(path))) => Ok(path.to_str().expect("UTF-8").to_owned()),
            Ok(other) => panic!("{value}: {other:?}"),
            Err(fault) => Err(fault),
        }
    }

    #[test]
    fn a_path_is_read_encoded_or_as_it_is() {
        for (value, expected) in [
            ("/protected/a.pdf", "/protected/a.pdf"),
            ("/protected/a%20b.pdf", "/protected/a b.pdf"),
            ("/protected/a b.pdf", "/protected/a b.pdf"),
            ("/protected/%C3%BCber.pdf", "/protected/über.pdf"),
            ("/protected/über uns.pdf", "/protected/über uns.pdf"),
            ("/protected/100%25.pdf", "/protected/100%.pdf"),
            ("/protected/why%3F.pdf", "/protected/why?.pdf"),
            ("/protected/a.pdf?token=1", "/protected/a.pdf"),
            ("/protected/a+b#1.pdf", "/protected/a+b#1.pdf"),
        ] {
            assert_eq!(path(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_is_no_path_or_can_be_read_in_two_ways_is_refused() {
        for value in ["@named", "http://a/b", "protected/a", "", "?/a", "/a\tb", "=?utf-8?b?w7w=?="] {
            assert_eq!(path(value), Err(HandoutFault::NoPath), "{value}");
        }
        for value in [
            "/p/../etc/passwd",
            "/p/%2e%2e/x",
            "/p/..",
            "/p/./x",
            "//p/x",
            "/p//x",
            "/p/a%2Fb",
            "/p/a%5Cb",
            "/p/a\\b",
            "/p/a%00",
            "/p/a%0a",
            "/p/100%.pdf",
            "/p/%ff",
            "/p/..;/x",
        ] {
            assert_eq!(path(value), Err(HandoutFault::Ambiguous), "{value}");
        }
        assert_eq!(path("/p/"), Err(HandoutFault::Directory));
        let latin = HeaderMap::from_iter([(ACCEL_REDIRECT, HeaderValue::from_bytes(b"/p/\xfc").expect("a value"))]);
        assert_eq!(read(&latin), Err(HandoutFault::NoPath));
    }

    #[test]
    fn a_file_is_named_as_the_file_system_names_it() {
        for value in ["/srv/media/a b.pdf", "/srv/media/100%.pdf", "/srv/media/a%20b", "/srv/media/ü?.pdf"] {
            assert_eq!(file(value).as_deref(), Ok(value), "{value}");
        }
        for value in ["/srv/media/../x", "/srv/./x", "/srv/..", "/srv/a\\b"] {
            assert_eq!(file(value), Err(HandoutFault::Ambiguous), "{value}");
        }
        assert_eq!((file("media/a"), file("/srv/media/")), (Err(HandoutFault::NoPath), Err(HandoutFault::Directory)));
    }

    #[test]
    fn two_orders_are_none() {
        let twice = headers(&[("x-accel-redirect", "/a"), ("x-accel-redirect", "/a")]);
        let both = headers(&[("x-accel-redirect", "/a"), ("x-sendfile", "/a")]);
        assert_eq!((read(&twice), read(&both)), (Err(HandoutFault::Several), Err(HandoutFault::Several)));
        assert_eq!(read(&headers(&[("x-accel-buffering", "no")])), Ok(None));
    }

    #[test]
    fn what_is_for_the_gateway_is_stripped_and_nothing_else() {
        let mut said = headers(&[
            ("x-accel-redirect", "/a"),
            ("x-accel-expires", "60"),
            ("x-accel-buffering", "no"),
            ("x-sendfile", "/a"),
            ("x-sendfile-type", "x"),
            ("x-accelerator", "y"),
            ("content-type", "z"),
        ]);
        assert!(speaks(&said));
        strip(&mut said);
        assert!(!speaks(&said));
        let mut left: Vec<_> = said.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-type", "x-accelerator", "x-sendfile-type"]);
    }

    proptest! {
        #[test]
        fn no_value_panics_and_no_path_climbs(value in "/[ -~é]{0,30}") {
            for name in [ACCEL_REDIRECT, SENDFILE] {
                let value = HeaderValue::from_bytes(value.as_bytes()).expect("a value");
                let path = match read(&HeaderMap::from_iter([(name, value)])) {
                    Ok(Some(HandedOut::Path(path))) => path,
                    Ok(Some(HandedOut::File(path))) => path.to_str().expect("UTF-8").to_owned(),
                    _ => continue,
                };
                prop_assert!(path.starts_with('/') && !path.ends_with('/') && !path.contains('\\'));
                prop_assert!(path.split('/').all(|part| part != "." && part != ".."));
            }
        }
    }
}
