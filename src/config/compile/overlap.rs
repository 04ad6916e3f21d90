//! Routes that match the same requests. The order of the file means nothing, so two such routes have no winner, and a request
//! must not be authorised by the one and served by the other.

use std::collections::HashMap;

use super::super::problem::{Problem, Span};
use super::super::values::Route;

/// Every route that shares a host, the path and a method with an earlier one.
pub(super) fn overlaps(routes: &[(Route, Span)]) -> Vec<Problem> {
    let mut by_path: HashMap<&str, Vec<&(Route, Span)>> = HashMap::new();
    let mut problems = Vec::new();
    for candidate in routes {
        let earlier = by_path.entry(prefix(&candidate.0.path)).or_default();
        if let Some((first, at)) = earlier.iter().find(|(other, _)| same_requests(other, &candidate.0)) {
            problems.push(problem(candidate, first, *at));
        }
        earlier.push(candidate);
    }
    problems
}

/// Paths match by segment: `/api` and `/api/` are one prefix.
fn prefix(path: &str) -> &str {
    path.strip_suffix('/').unwrap_or(path)
}

fn same_requests(one: &Route, other: &Route) -> bool {
    // A route with hosts is looked up before one without, and a name before a wildcard for it, so those never compete.
    let hosts = match (one.hosts.is_empty(), other.hosts.is_empty()) {
        (true, true) => true,
        (false, false) => one.hosts.iter().any(|host| other.hosts.contains(host)),
        _ => false,
    };
    hosts
        && (one.methods.is_empty() || other.methods.is_empty() || one.methods.iter().any(|m| other.methods.contains(m)))
}

fn problem((route, span): &(Route, Span), first: &Route, at: Span) -> Problem {
    let message = match (&*first.name, &*route.name) {
        ("", _) | (_, "") => "two routes match the same requests".to_owned(),
        (first, second) => format!("the routes `{first}` and `{second}` match the same requests"),
    };
    let hint = "the longest path wins and order means nothing: give them different paths, hosts or methods";
    Problem::error(*span, message).note(at, "the other one is here").hint(hint)
}
