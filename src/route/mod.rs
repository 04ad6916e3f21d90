//! Routing: host, then longest path prefix by segment, then method.
//!
//! Pure, and generic in what it finds. Refuses to know what a route does with a request, and never sees a path that is not
//! canonical. `/api` and `/api/` are one prefix: it matches `/api` and `/api/x`, never `/apiary`. `*.example.com` is any name with
//! exactly one label more than `example.com`, as in certificates (RFC 9525 section 6.3). Answers for RFC 9110 section 7.4: a host that
//! is not served here may be refused.

use std::collections::HashMap;

use http::Method;

/// One rule: for which requests `value` is found.
#[derive(Debug, Clone)]
pub struct Rule<T> {
    /// Hosts in lower case, without port, each a name or `*.` and the rest of one; empty means any host.
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
    /// No rule names the host, and such hosts are refused.
    #[error("no route names the host")]
    UnknownHost,
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

/// What becomes of a host that no rule names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownHost {
    /// It is served by the rules for any host.
    #[default]
    Route,
    /// It is refused, and rules for any host are for all hosts that are named.
    Refuse,
}

/// All rules, ready to be searched.
#[derive(Debug)]
pub struct Router<T> {
    by_host: HashMap<Box<str>, Prefixes>,
    /// Wildcards, by what follows `*.`.
    by_parent: HashMap<Box<str>, Prefixes>,
    any_host: Prefixes,
    unknown_host: UnknownHost,
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
        let (by_host, by_parent, any_host) = (HashMap::new(), HashMap::new(), Prefixes::default());
        let mut router = Self { by_host, by_parent, any_host, unknown_host: UnknownHost::Route, values: Vec::new() };
        for rule in rules {
            let value = router.values.len();
            router.values.push(rule.value);
            if rule.hosts.is_empty() {
                router.any_host.add(&rule.path, &rule.methods, value);
            }
            for host in rule.hosts {
                let prefixes = match host.strip_prefix("*.") {
                    Some(parent) => router.by_parent.entry(parent.into()),
                    None => router.by_host.entry(host),
                };
                prefixes.or_default().add(&rule.path, &rule.methods, value);
            }
        }
        router
    }

    /// The same, for hosts that no rule names.
    #[must_use]
    pub fn with_unknown_host(self, unknown_host: UnknownHost) -> Self {
        Self { unknown_host, ..self }
    }

    /// The value of the best rule. Rules that name the host come before those that name it by a wildcard, and these before rules for
    /// any host.
    pub fn find(&self, host: &str, path: &str, method: &Method) -> Result<&T, RouteError> {
        let (named, below) = (self.named(host), self.below(host));
        if named.is_none() && below.is_none() {
            self.unknown()?;
        }
        let named = named.and_then(|prefixes| prefixes.longest(path));
        let entries = named
            .or_else(|| below.and_then(|prefixes| prefixes.longest(path)))
            .or_else(|| self.any_host.longest(path))
            .unwrap_or(&[]);
        let found = entries.iter().find(|entry| entry.methods.is_empty() || entry.methods.contains(method));
        match found {
            Some(entry) => Ok(&self.values[entry.value]),
            None if entries.is_empty() => Err(RouteError::NotFound),
            None => Err(RouteError::MethodNotAllowed {
                allow: entries.iter().flat_map(|entry| entry.methods.iter().cloned()).collect(),
            }),
        }
    }

    /// Whether anything at all is served to this host, for who answers without looking for a rule.
    pub fn admits(&self, host: &str) -> Result<(), RouteError> {
        if self.named(host).is_some() || self.below(host).is_some() { Ok(()) } else { self.unknown() }
    }

    fn named(&self, host: &str) -> Option<&Prefixes> {
        if self.by_host.is_empty() { None } else { self.by_host.get(host) }
    }

    fn below(&self, host: &str) -> Option<&Prefixes> {
        if self.by_parent.is_empty() {
            return None;
        }
        let (label, parent) = host.split_once('.')?;
        if label.is_empty() { None } else { self.by_parent.get(parent) }
    }

    fn unknown(&self) -> Result<(), RouteError> {
        match self.unknown_host {
            UnknownHost::Route => Ok(()),
            UnknownHost::Refuse => Err(RouteError::UnknownHost),
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

    #[test]
    fn an_exact_host_comes_before_a_wildcard_and_a_wildcard_before_any_host() {
        let router = router(&[("", "/", ""), ("*.a.example", "/x", ""), ("b.a.example", "/x", ""), ("", "/x/y", "")]);
        for (host, path, found) in [
            ("b.a.example", "/x/y", 2),
            ("c.a.example", "/x/y", 1),
            ("a.example", "/x/y", 3),
            ("c.a.example", "/z", 0),
            ("b.a.example", "/z", 0),
        ] {
            assert_eq!(router.find(host, path, &Method::GET), Ok(&found), "{host}{path}");
        }
    }

    #[test]
    fn what_an_exact_host_does_not_have_its_wildcard_may() {
        let router = router(&[("*.a.example", "/", ""), ("b.a.example", "/x", "")]);
        assert_eq!(router.find("b.a.example", "/x", &Method::GET), Ok(&1));
        assert_eq!(router.find("b.a.example", "/y", &Method::GET), Ok(&0));
    }

    #[test]
    fn a_wildcard_stands_for_exactly_one_label() {
        let router = router(&[("*.a.example", "/", "")]);
        assert!(router.find("b.a.example", "/", &Method::GET).is_ok());
        for host in ["a.example", ".a.example", "c.b.a.example", "ba.example", "b.a.example.evil", "*", "", "[::1]"] {
            assert_eq!(router.find(host, "/", &Method::GET), Err(RouteError::NotFound), "{host}");
        }
    }

    #[test]
    fn a_host_that_no_rule_names_is_refused_where_that_is_said() {
        let rules = [("a.example *.b.example", "/x", ""), ("", "/", "")];
        let router = router(&rules).with_unknown_host(UnknownHost::Refuse);
        let find = |host, path| router.find(host, path, &Method::GET).copied();
        assert_eq!((find("a.example", "/x"), find("c.b.example", "/x")), (Ok(0), Ok(0)));
        assert_eq!((find("a.example", "/y"), find("c.b.example", "/y")), (Ok(1), Ok(1)));
        for host in ["b.example", "c.example", "d.c.b.example", "10.0.0.1", "[::1]"] {
            assert_eq!(
                (find(host, "/"), router.admits(host)),
                (Err(RouteError::UnknownHost), Err(RouteError::UnknownHost))
            );
        }
        assert_eq!((router.admits("a.example"), router.admits("c.b.example")), (Ok(()), Ok(())));
    }

    /// How exactly a rule's hosts name `host`; `None` if they don't.
    fn exactness(hosts: &[String], host: &str) -> Option<u8> {
        let parent = host.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        if hosts.iter().any(|name| name == host) {
            Some(2)
        } else if hosts.iter().any(|name| Some(name) == parent.as_ref()) {
            Some(1)
        } else {
            hosts.is_empty().then_some(0)
        }
    }

    proptest! {
        #[test]
        fn the_answer_is_that_of_a_plain_search(
            rules in proptest::collection::vec((
                proptest::collection::vec("(\\*|[ab])(\\.[ab]){1,2}", 0..3), "(/[ab]{1,2}){0,3}",
                proptest::sample::select(vec!["", "GET", "POST", "GET POST"]),
            ), 0..8),
            host in "[ab](\\.[ab]){0,3}", path in "(/[ab]{1,2}){1,5}", post: bool, refuse: bool,
        ) {
            let (method, name) = if post { (Method::POST, "POST") } else { (Method::GET, "GET") };
            let table: Vec<_> = rules
                .iter()
                .map(|(hosts, path, methods)| (hosts.join(" "), if path.is_empty() { "/" } else { path }, *methods))
                .collect();
            let table: Vec<_> = table.iter().map(|(hosts, path, methods)| (hosts.as_str(), *path, *methods)).collect();
            let unknown_host = if refuse { UnknownHost::Refuse } else { UnknownHost::Route };
            let router = router(&table).with_unknown_host(unknown_host);

            let matching: Vec<_> = rules
                .iter()
                .enumerate()
                .filter(|(_, (_, prefix, _))| path == *prefix || path.starts_with(&format!("{prefix}/")))
                .filter_map(|(at, (hosts, prefix, methods))| Some(((exactness(hosts, &host)?, prefix.len()), at, *methods)))
                .collect();
            let best = matching.iter().map(|(rank, ..)| *rank).max();
            let best: Vec<_> = matching.iter().filter(|(rank, ..)| Some(*rank) == best).collect();
            let exact = best.iter().find(|(_, _, methods)| methods.contains(name));
            let plain = exact.or_else(|| best.iter().find(|(_, _, methods)| methods.is_empty())).map(|(_, at, _)| *at);
            let known = rules.iter().any(|(hosts, ..)| exactness(hosts, &host) > Some(0));

            let answer = router.find(&host, &path, &method);
            prop_assert_eq!(answer == Err(RouteError::UnknownHost), refuse && !known);
            match answer {
                Err(RouteError::UnknownHost) => {}
                Err(RouteError::NotFound) => prop_assert!(best.is_empty()),
                Err(RouteError::MethodNotAllowed { .. }) => prop_assert!(!best.is_empty() && plain.is_none()),
                Ok(found) => prop_assert_eq!(Some(*found), plain),
            }
            prop_assert_eq!(router.admits(&host).is_ok(), known || !refuse);
        }
    }
}
