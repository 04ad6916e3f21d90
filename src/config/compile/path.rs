//! Paths as the configuration may write them: the canonical form of a target's path, because only that form is ever matched.

use super::super::problem::{Problem, Span};
use super::context::Context;

/// Reports a path that is not canonical.
pub(super) fn report(context: &mut Context<'_>, path: &str, span: Span) {
    if let Err((reason, hint)) = check(path) {
        context.report(Problem::error(span, format!("the path `{path}` {reason}")).hint(hint));
    }
}

/// Why a text is no canonical path (RFC 3986 section 3.3, narrowed): the reason, and what to do.
pub(super) fn check(path: &str) -> Result<(), (&'static str, &'static str)> {
    if !path.starts_with('/') {
        return Err(("must start with `/`", "a path is absolute, as in \"/api/\""));
    }
    if path.contains(['?', '#']) {
        return Err(("has a query or a fragment", "only the path of a request is matched"));
    }
    if path.contains('*') {
        return Err(("has a wildcard", "a path covers everything below it: write \"/api/\" for /api/*"));
    }
    if path.contains("//") {
        return Err(("has an empty segment", "write each `/` once"));
    }
    if path.split('/').any(|segment| matches!(segment, "." | "..")) {
        return Err(("has a `.` or `..` segment", "write where the path leads"));
    }
    if !path.bytes().all(legal) {
        return Err(("has a character that no canonical path has", "use letters, digits and `-._~!$&'()+,;=:@`"));
    }
    Ok(())
}

/// `pchar` without percent-encoding: an encoded character would have two spellings.
fn legal(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_paths_pass() {
        for path in ["/", "/api", "/api/", "/a/.well-known/x", "/~user/a-b_c;v=1", "/@me"] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn what_two_parsers_read_two_ways_is_refused() {
        for path in
            ["", "api", "/a//b", "/a/../b", "/a/.", "/a%2Fb", "/a b", "/a?x", "/a#x", "/a\\b", "/é", "/a/*", "/\n"]
        {
            assert!(check(path).is_err(), "{path}");
        }
    }
}
