//! `hosts` of a route: names, and wildcards for one label.

use super::super::entry::Entry;
use super::super::problem::Problem;
use super::context::Context;

/// Host names compare without case (RFC 9110 section 4.2.3); they are lowered once, here.
pub(super) fn hosts(context: &mut Context<'_>, entry: &Entry<Vec<Entry<String>>>) -> Vec<Box<str>> {
    let mut hosts: Vec<Box<str>> = Vec::new();
    for (host, span) in context.texts(entry, "hosts", "leave the key out to match any host") {
        if let Some(hint) = fault(&host) {
            context.report(Problem::error(span, format!("`{host}` is no host name")).hint(hint));
        }
        let host = host.to_ascii_lowercase().into();
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

/// A host that the routes naming `host` serve: itself, or a name below it that nobody has by itself.
pub(super) fn sample(host: &str) -> String {
    host.replacen('*', "-", 1)
}

fn fault(host: &str) -> Option<&'static str> {
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bracketed {
        return inner
            .parse::<std::net::Ipv6Addr>()
            .is_err()
            .then_some("an IPv6 address stands in brackets, as in \"[::1]\"");
    }
    if host == "*" {
        return Some("leave the key out to match any host");
    }
    let name = host.strip_prefix("*.").unwrap_or(host);
    if name.contains('*') {
        return Some("a wildcard stands for the first label, the whole of it: \"*.example.com\"");
    }
    // Numbers at the end make an address of any name (URL standard, section 3.5), and addresses have no labels.
    let last = name.rsplit('.').next().unwrap_or_default();
    if name.len() < host.len() && !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some("an address has no wildcard: name each");
    }
    if name.contains("//") {
        return Some("write the name alone, without scheme and path");
    }
    if name.contains(':') {
        return Some("write the name alone: routes match whatever the port is");
    }
    if name.ends_with('.') {
        return Some("write the name without the final dot");
    }
    let label = |label: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(legal)
    };
    (host.len() > 253 || !name.split('.').all(label))
        .then_some("use letters, digits, `-` and dots; write international names in their xn-- form")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wildcards_for_one_label_pass() {
        for host in
            ["example.com", "a_b.example", "localhost", "10.0.0.1", "[::1]", "*.example.com", "*.test", "*.a.1b"]
        {
            assert_eq!(fault(host), None, "{host}");
        }
    }

    #[test]
    fn what_no_request_can_ask_for_is_refused() {
        for host in [
            "*",
            "*.",
            "*.*.example.com",
            "a.*.example.com",
            "a*.example.com",
            "**.example.com",
            "*example.com",
            "*.0.0.1",
            "*.[::1]",
            "[*]",
            "*.example.com.",
            "*.example.com:80",
            "https://*.example.com",
            "a..b",
            ".a",
            "",
            "a b",
            "ü.example",
        ] {
            assert!(fault(host).is_some(), "{host}");
        }
    }

    #[test]
    fn a_sample_of_a_wildcard_is_below_it() {
        assert_eq!(
            (sample("*.example.com"), sample("a.example")),
            ("-.example.com".to_owned(), "a.example".to_owned())
        );
    }
}
