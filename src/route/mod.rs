//! Routing: host, then longest path prefix by segment, then method.
//!
//! Pure, and generic in what it finds. Refuses to know what a route does with a request, and never sees a path that is not
//! canonical. `/api` and `/api/` are one prefix: it matches `/api` and `/api/x`, never `/apiary`.

use std::collections::HashMap;

use http::Method;

/// One rule: for which requests `value` is found.
#[derive(Debug, Clone)]
pub struct Rule<T> {
    /// Hosts in lower case, without port; empty means any host.
    pub hosts: Vec<Box<str>>,
    /// The path prefix, starting with `/`.
    pub path: Box<str>,
    /// Methods; empty means any.
    pub methods: Vec<Method>,
    /// What is found.
    pub value: T,
}

/// Why a request matches no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No rule has the host and a prefix of the path.
    #[error("no route matches")]
    NotFound,
    /// The longest matching prefix has rules, but none for this method.
    #[error("no route for this method")]
    MethodNotAllowed {
        /// The methods there are, for the `Allow` field (RFC 9110 section 10.2.1).
        allow: Vec<Method>,
    },
}

/// All rules, ready to be searched.
#[derive(Debug)]
pub struct Router<T> {
    by_host: HashMap<Box<str>, Prefixes>,
    any_host: Prefixes,
    values: Vec<T>,
}

#[derive(Debug, Default)]
struct Prefixes {
    by_path: HashMap<Box<str>, Vec<Entry>>,
    /// Segments of the longest prefix: deeper parts of a path decide nothing, so a path of thousands of segments costs no more.
    depth: usize,
}

#[derive(Debug)]
struct Entry {
    methods: Vec<Method>,
    value: usize,
}

impl<T> Router<T> {
    /// Builds the tables. Where two rules are equal, the first one is found; `config` refuses such files.
    pub fn new(rules: impl IntoIterator<Item = Rule<T>>) -> Self {
        let mut router = Self { by_host: HashMap::new(), any_host: Prefixes::default(), values: Vec::new() };
        for rule in rules {
            let value = router.values.len();
            router.values.push(rule.value);
            if rule.hosts.is_empty() {
                router.any_host.add(&rule.path, &rule.methods, value);
            }
            for host in rule.hosts {
                router.by_host.entry(host).or_default().add(&rule.path, &rule.methods, value);
            }
        }
        router
    }

    /// The value of the best rule. Rules that name the host come before rules for any host.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&T, RouteError> {
        let named = if self.by_host.is_empty() { None } else { self.by_host.get(host) };
        let entries =
            named.and_then(|prefixes| prefixes.longest(path)).or_else(|| self.any_host.longest(path)).unwrap_or(&[]);
        let found = entries.iter().find(|entry| entry.methods.is_empty() || entry.methods.contains(method));
        match found {
            Some(entry) => Ok(&self.values[entry.value]),
            None if entries.is_empty() => Err(RouteError::NotFound),
            None => Err(RouteError::MethodNotAllowed {
                allow: entries.iter().flat_map(|entry| entry.methods.iter().cloned()).collect(),
            }),
        }
    }

    /// Everything that can be found, in the order of the rules.
    pub fn values(&self) -> &[T] {
        &self.values
    }
}

impl Prefixes {
    fn add(&mut self, path: &str, methods: &[Method], value: usize) {
        let prefix = path.trim_end_matches('/');
        self.depth = self.depth.max(prefix.matches('/').count());
        let entries = self.by_path.entry(prefix.into()).or_default();
        // A rule for some methods is more exact than one for any.
        let at = if methods.is_empty() {
            entries.len()
        } else {
            entries.iter().position(|entry| entry.methods.is_empty()).unwrap_or(entries.len())
        };
        entries.insert(at, Entry { methods: methods.to_vec(), value });
    }

    fn longest(&self, path: &str) -> Option<&[Entry]> {
        let mut end = end_of_segment(path, self.depth);
        loop {
            if let Some(entries) = self.by_path.get(&path[..end]) {
                return Some(entries);
            }
            end = path[..end].rfind('/')?;
        }
    }
}

/// Where the first `count` segments of `path` end.
fn end_of_segment(path: &str, count: usize) -> usize {
    memchr::memchr_iter(b'/', path.as_bytes()).nth(count).unwrap_or(path.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn router(rules: &[(&str, &str, &str)]) -> Router<usize> {
        Router::new(rules.iter().enumerate().map(|(value, (host, path, methods))| Rule {
            hosts: host.split_whitespace().map(Into::into).collect(),
            path: (*path).into(),
            methods: methods.split_whitespace().map(|name| name.parse().expect("a method")).collect(),
            value,
        }))
    }

    #[test]
    fn the_longest_prefix_wins_by_whole_segments_whatever_the_order() {
        let router = router(&[("", "/", ""), ("", "/api/v1/", ""), ("", "/api", "")]);
        for (path, found) in
            [("/", 0), ("/apiary", 0), ("/api", 2), ("/api/", 2), ("/api/v1x", 2), ("/api/v1", 1), ("/api/v1/a/b/c", 1)]
        {
            assert_eq!(router.find("h", path, &Method::GET), Ok(&found), "{path}");
        }
    }

    #[test]
    fn a_rule_that_names_the_host_comes_first_and_any_host_catches_the_rest() {
        let router = router(&[("", "/deep/er", ""), ("a.example", "/deep", ""), ("", "/", "")]);
        assert_eq!(router.find("a.example", "/deep/er", &Method::GET), Ok(&1));
        assert_eq!(router.find("b.example", "/deep/er", &Method::GET), Ok(&0));
        assert_eq!(router.find("a.example", "/x", &Method::GET), Ok(&2));
    }

    #[test]
    fn without_a_catch_all_an_unknown_path_is_not_found() {
        let router = router(&[("a", "/x", "")]);
        assert_eq!(router.find("a", "/", &Method::GET), Err(RouteError::NotFound));
        assert_eq!(router.find("b", "/x", &Method::GET), Err(RouteError::NotFound));
    }

    #[test]
    fn the_longest_prefix_decides_before_the_method_does() {
        let router = router(&[("", "/", ""), ("", "/x", "GET HEAD"), ("", "/y", ""), ("", "/y", "POST")]);
        let allow = vec![Method::GET, Method::HEAD];
        assert_eq!(router.find("h", "/x", &Method::POST), Err(RouteError::MethodNotAllowed { allow }));
        assert_eq!(router.find("h", "/y", &Method::POST), Ok(&3));
        assert_eq!(router.find("h", "/y", &Method::GET), Ok(&2));
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_a_plain_search(
            rules in proptest::collection::vec("(/[ab]{1,2}){0,3}", 0..6), path in "(/[ab]{1,2}){1,5}",
        ) {
            let table: Vec<_> = rules.iter().map(|rule| ("", if rule.is_empty() { "/" } else { rule }, "")).collect();
            let plain = rules
                .iter()
                .enumerate()
                .filter(|(_, rule)| path == **rule || path.starts_with(&format!("{rule}/")))
                .max_by_key(|(at, rule)| (rule.len(), std::cmp::Reverse(*at)))
                .map(|(at, _)| at);
            prop_assert_eq!(router(&table).find("h", &path, &Method::GET).ok().copied(), plain);
        }
    }
}
