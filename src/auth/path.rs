//! Where a claim stands in a token.
//!
//! Owns the three ways a configuration may write it: a plain or dotted name (`realm_access.roles`), a URI, which is one name
//! (`https://example.com/roles`), and a JSON Pointer (`/kubernetes.io/namespace`). Knows no claims and no tests. RFC 6901.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde_json::{Map, Value};

/// Names in one path.
const MOST_STEPS: usize = 8;
/// Bytes of one path as written.
const MOST_BYTES: usize = 256;

/// The place of one claim. Two paths are equal when they lead to the same place, however they are written.
#[derive(Debug, Clone)]
pub struct ClaimPath {
    text: Box<str>,
    first: Box<str>,
    rest: Box<[Step]>,
}

/// One step below the top level: into the member of that name or, of an array, to the element of that index. Only a pointer has
/// indices.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub(super) name: Box<str>,
    pub(super) index: Option<usize>,
}

/// Why a text is no place of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Nothing at all.
    #[error("is empty")]
    Empty,
    /// Nothing between two separators, or before the first or after the last.
    #[error("has an empty part")]
    EmptyStep,
    /// A `~` that is neither `~0` nor `~1` (RFC 6901 section 3).
    #[error("has a `~` that is neither `~0` nor `~1`")]
    Escape,
    /// More names than the bound.
    #[error("has more than {MOST_STEPS} parts")]
    TooDeep,
    /// More bytes than the bound.
    #[error("is longer than {MOST_BYTES} bytes")]
    TooLong,
}

impl ClaimPath {
    /// Reads a path as an operator writes it: what begins with `/` is a JSON Pointer, what holds a `:` is the name of one top-level
    /// member, and else dots separate the names of members.
    pub fn parse(text: &str) -> Result<Self, PathProblem> {
        if text.is_empty() {
            return Err(PathProblem::Empty);
        }
        if text.len() > MOST_BYTES {
            return Err(PathProblem::TooLong);
        }
        let steps = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(pointed).collect::<Result<Vec<_>, _>>()?,
            None if text.contains(':') => vec![Step::named(text)],
            None => text.split('.').map(Step::named).collect(),
        };
        if steps.iter().any(|step| step.name.is_empty()) {
            return Err(PathProblem::EmptyStep);
        }
        if steps.len() > MOST_STEPS {
            return Err(PathProblem::TooDeep);
        }
        Ok(Self::of(text, steps))
    }

    /// The top-level member of exactly this name, whatever characters it holds.
    pub fn top(name: &str) -> Self {
        Self { text: name.into(), first: name.into(), rest: Box::default() }
    }

    /// The member `name` of the object at this path, in its shortest spelling.
    pub fn below(&self, name: &str) -> Result<Self, PathProblem> {
        let names: Vec<&str> = self.names().chain([name]).collect();
        let pointer = names.iter().any(|name| name.contains(['.', '/', ':', '~']));
        let text = if pointer {
            let escaped = |name: &&str| name.replace('~', "~0").replace('/', "~1");
            format!("/{}", names.iter().map(escaped).collect::<Vec<_>>().join("/"))
        } else {
            names.join(".")
        };
        Self::parse(&text)
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Puts `value` at this path, with an object on every step of the way; what stood there is replaced.
    pub fn place(&self, claims: &mut Map<String, Value>, value: Value) {
        let mut at = claims;
        let mut name = &self.first;
        for step in &self.rest {
            let below = at.entry(&**name).or_insert_with(|| Map::new().into());
            if !below.is_object() {
                *below = Map::new().into();
            }
            at = below.as_object_mut().expect("it was made an object if it was none");
            name = &step.name;
        }
        at.insert(name.to_string(), value);
    }

    /// The top-level member and what leads on from it.
    pub(super) fn steps(&self) -> (&str, &[Step]) {
        (&self.first, &self.rest)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&*self.first).chain(self.rest.iter().map(|step| &*step.name))
    }

    /// `steps` are not empty: splitting a text yields one piece at least.
    fn of(text: &str, mut steps: Vec<Step>) -> Self {
        let rest = steps.split_off(1);
        let first = steps.swap_remove(0).name;
        Self { text: text.into(), first, rest: rest.into() }
    }
}

impl fmt::Display for ClaimPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for ClaimPath {
    fn eq(&self, other: &Self) -> bool {
        self.steps() == other.steps()
    }
}

impl Eq for ClaimPath {}

impl Hash for ClaimPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.steps().hash(state);
    }
}

impl Step {
    fn named(name: &str) -> Self {
        Self { name: name.into(), index: None }
    }
}

/// A reference token of RFC 6901 section 3; section 4 says which of them are indices.
fn pointed(token: &str) -> Result<Step, PathProblem> {
    let known = |rest: &str| rest.starts_with(['0', '1']);
    if token.split('~').skip(1).any(|rest| !known(rest)) {
        return Err(PathProblem::Escape);
    }
    let canonical = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    let index = if canonical { token.parse().ok() } else { None };
    // `~1` first, so that `~01` is `~1` and not `/`.
    Ok(Step { name: token.replace("~1", "/").replace("~0", "~").into(), index })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashSet;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn names(text: &str) -> Vec<String> {
        ClaimPath::parse(text).unwrap().names().map(str::to_owned).collect()
    }

    #[test]
    fn a_path_is_written_in_three_ways() {
        for (text, expected) in [
            ("sub", &["sub"][..]),
            ("realm_access.roles", &["realm_access", "roles"]),
            ("https://example.com/roles", &["https://example.com/roles"]),
            ("cognito:groups", &["cognito:groups"]),
            ("a/b", &["a/b"]),
            ("/sub", &["sub"]),
            ("/kubernetes.io/namespace", &["kubernetes.io", "namespace"]),
            ("/https:~1~1example.com~1app/roles/0", &["https://example.com/app", "roles", "0"]),
            ("/a~01b/c~10", &["a~1b", "c/0"]),
            ("a.b.c.d.e.f.g.h", &["a", "b", "c", "d", "e", "f", "g", "h"]),
        ] {
            assert_eq!(names(text), expected, "{text}");
            assert_eq!(ClaimPath::parse(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_path_is_refused() {
        let long = "x".repeat(MOST_BYTES + 1);
        for (text, problem) in [
            ("", PathProblem::Empty),
            (".", PathProblem::EmptyStep),
            ("a.", PathProblem::EmptyStep),
            (".a", PathProblem::EmptyStep),
            ("a..b", PathProblem::EmptyStep),
            ("/", PathProblem::EmptyStep),
            ("/a/", PathProblem::EmptyStep),
            ("//a", PathProblem::EmptyStep),
            ("/a~", PathProblem::Escape),
            ("/a~2", PathProblem::Escape),
            ("/~~0", PathProblem::Escape),
            ("a.b.c.d.e.f.g.h.i", PathProblem::TooDeep),
            (&long, PathProblem::TooLong),
        ] {
            assert_eq!(ClaimPath::parse(text).unwrap_err(), problem, "{text}");
        }
        assert_eq!(names(&"x".repeat(MOST_BYTES)).len(), 1);
    }

    #[test]
    fn paths_to_one_place_are_equal_however_they_are_written() {
        let paths = ["a.b", "/a/b", "/a/b/0", "a.b.0", "/a.b"].map(|text| ClaimPath::parse(text).unwrap());
        assert_eq!(paths[0], paths[1]);
        assert_ne!(paths[2], paths[3], "only a pointer looks into arrays");
        assert_eq!(paths[4], ClaimPath::top("a.b"));
        assert_eq!(paths.into_iter().collect::<HashSet<_>>().len(), 4);
    }

    #[test]
    fn a_member_below_is_spelled_so_that_it_leads_there() {
        for (outer, name, spelled) in [
            ("realm_access", "roles", "realm_access.roles"),
            ("/a/b", "c", "a.b.c"),
            ("https://x.example/app", "roles", "/https:~1~1x.example~1app/roles"),
            ("resource_access.app", "a.b~c", "/resource_access/app/a.b~0c"),
        ] {
            assert_eq!(ClaimPath::parse(outer).unwrap().below(name).unwrap().as_str(), spelled);
        }
    }

    #[test]
    fn a_value_is_placed_where_the_path_leads() {
        let mut claims = Map::from_iter([("a".to_owned(), json!(1))]);
        ClaimPath::parse("a.b").unwrap().place(&mut claims, json!("x"));
        ClaimPath::parse("a.c.d").unwrap().place(&mut claims, json!("y"));
        ClaimPath::parse("urn:e.f").unwrap().place(&mut claims, json!("z"));
        assert_eq!(Value::from(claims), json!({ "a": { "b": "x", "c": { "d": "y" } }, "urn:e.f": "z" }));
    }

    proptest! {
        #[test]
        fn no_text_panics_and_a_path_keeps_its_text(text in "[a./:~01]{0,12}|\\PC{0,20}") {
            if let Ok(path) = ClaimPath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }

        #[test]
        fn a_member_below_has_one_name_more(outer in "[a./:~0]{1,8}", name in "[b./:~0]{1,4}") {
            if let Ok(path) = ClaimPath::parse(&outer) {
                let below = path.below(&name).unwrap_or_else(|problem| panic!("{outer} {name}: {problem}"));
                prop_assert_eq!(below.names().collect::<Vec<_>>(), path.names().chain([&*name]).collect::<Vec<_>>());
            }
        }
    }
}
