//! The `Forwarded` field (RFC 7239), element by element from the right.
//!
//! From the right, because that is where the proxy next to us writes, and because reading from the left would let a client swallow what
//! proxies add: a quote that it leaves open would go on into their elements. Refuses to know which proxies are believed.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::boundary::is_https;

/// What one proxy says of where it got the request from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hop {
    /// The address; `None` if the proxy does not know it, hides it or says nothing of it.
    pub(super) address: Option<IpAddr>,
    /// Whether it came over https, if that is said.
    pub(super) secure: Option<bool>,
}

/// The elements of one line, the last one first.
pub(super) fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest?;
        let Some(comma) = last_comma(line) else { return rest.take() };
        rest = Some(&line[..comma]);
        Some(&line[comma + 1..])
    })
}

/// The last comma outside of a quoted string.
fn last_comma(line: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in line.iter().enumerate().rev() {
        match byte {
            b'"' => quoted = !quoted || is_escaped(&line[..at]), // one that ends a string, begins it, or is part of it
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Whether the byte behind `before` stands behind a backslash that is not escaped itself.
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

impl Hop {
    /// RFC 7239 section 4: pairs with `;` between them, each name at most once. `None` if it is anything else, or empty. White space
    /// around `;`, which the RFC's own example has, is taken; so are addresses with a port that should stand in quotes.
    pub(super) fn read(element: &[u8]) -> Option<Self> {
        let mut rest = element.trim_ascii();
        let (mut source, mut scheme) = (None, None);
        let mut any = false;
        while !rest.is_empty() {
            if let Some(more) = rest.strip_prefix(b";") {
                rest = more.trim_ascii_start();
                continue;
            }
            let (Pair { name, value }, more) = pair(rest)?;
            any = true;
            let known = match name {
                name if name.eq_ignore_ascii_case(b"for") => source.replace(value),
                name if name.eq_ignore_ascii_case(b"proto") => scheme.replace(value),
                _ => None, // `by` and `host` are the proxy's business: what counts is the request's own Host
            };
            if known.is_some() {
                return None;
            }
            rest = more.trim_ascii_start();
            if !rest.is_empty() && !rest.starts_with(b";") {
                return None;
            }
        }
        let address = match source {
            Some(node) => node_address(&node)?,
            None => None,
        };
        any.then(|| Self { address, secure: scheme.and_then(|scheme| is_https(&scheme)) })
    }
}

/// `name=value`, the value without its quotes.
struct Pair<'a> {
    name: &'a [u8],
    value: Cow<'a, [u8]>,
}

/// The pair that `text` begins with, and what follows.
fn pair(text: &[u8]) -> Option<(Pair<'_>, &[u8])> {
    let equals = memchr::memchr(b'=', text)?;
    let (name, value) = (&text[..equals], &text[equals + 1..]);
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return None;
    }
    if let Some(quoted) = value.strip_prefix(b"\"") {
        let (value, rest) = unquoted(quoted)?;
        return Some((Pair { name, value }, rest));
    }
    let plain = |byte: &u8| is_token(*byte) || matches!(byte, b':' | b'[' | b']');
    let end = value.iter().position(|byte| !plain(byte)).unwrap_or(value.len());
    (end > 0).then(|| (Pair { name, value: Cow::Borrowed(&value[..end]) }, &value[end..]))
}

/// The content of a quoted string that has begun, and what follows it.
fn unquoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', text)?;
    if text[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut content = Vec::new();
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((Cow::Owned(content), &text[at + 1..])),
            b'\\' => content.push(*bytes.next()?.1),
            byte => content.push(*byte),
        }
    }
    None
}

/// RFC 7239 section 6: an address with or without a port, an IPv6 one in brackets; `unknown` and obfuscated identifiers have none.
/// `None` if it is no node.
#[allow(clippy::option_option)] // no node, one without an address, one with
fn node_address(node: &[u8]) -> Option<Option<IpAddr>> {
    let node = str::from_utf8(node).ok()?;
    let end = node.rfind(']').map(|bracket| bracket + 1).or_else(|| node.find(':')).unwrap_or(node.len());
    let (name, port) = node.split_at(end);
    let port_is_good = port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| !port.is_empty() && port.bytes().all(is_obfuscated_byte));
    if !port_is_good {
        return None;
    }
    if name.eq_ignore_ascii_case("unknown") {
        return Some(None);
    }
    if let Some(hidden) = name.strip_prefix('_') {
        return (!hidden.is_empty() && hidden.bytes().all(is_obfuscated_byte)).then_some(None);
    }
    let address = match name.strip_prefix('[') {
        Some(literal) => literal.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        None => name.parse::<Ipv4Addr>().ok().map(IpAddr::from),
    };
    address.map(|address| Some(address.to_canonical()))
}

fn is_obfuscated_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hop(address: &str, secure: Option<bool>) -> Hop {
        Hop { address: address.parse().ok(), secure }
    }

    #[test]
    fn an_element_names_a_node_and_a_scheme() {
        for (element, expected) in [
            ("for=192.0.2.43", hop("192.0.2.43", None)),
            ("For=192.0.2.43;PROTO=HTTPS;by=203.0.113.43", hop("192.0.2.43", Some(true))),
            ("for=192.0.2.60; proto=http; by=203.0.113.43", hop("192.0.2.60", Some(false))),
            ("for=\"192.0.2.43:47011\"", hop("192.0.2.43", None)),
            ("for=192.0.2.43:47011", hop("192.0.2.43", None)),
            ("for=\"192.0.2.43:_port\"", hop("192.0.2.43", None)),
            ("for=\"[2001:db8:cafe::17]\"", hop("2001:db8:cafe::17", None)),
            ("for=\"[2001:db8:cafe::17]:4711\";proto=https", hop("2001:db8:cafe::17", Some(true))),
            ("for=[2001:db8:cafe::17]:4711", hop("2001:db8:cafe::17", None)),
            ("for=\"[::ffff:192.0.2.43]\"", hop("192.0.2.43", None)),
            ("for=\"1\\92.0.2.43\"", hop("192.0.2.43", None)),
            ("for=unknown;proto=https", hop("", Some(true))),
            ("for=Unknown", hop("", None)),
            ("for=_gazonk", hop("", None)),
            ("for=\"_SEVKISEK:_1\"", hop("", None)),
            ("proto=https", hop("", Some(true))),
            ("host=evil.test;x=\"a;for=6.6.6.6\";for=192.0.2.43;", hop("192.0.2.43", None)),
            (";;for=192.0.2.43;;proto=gopher", hop("192.0.2.43", None)),
        ] {
            assert_eq!(Hop::read(element.as_bytes()), Some(expected), "{element}");
        }
    }

    #[test]
    fn an_element_of_another_form_says_nothing() {
        for element in [
            "",
            " ",
            ";",
            "for",
            "for=",
            "=192.0.2.43",
            "for =192.0.2.43",
            "for= 192.0.2.43",
            "for=192.0.2.43 proto=https",
            "for=192.0.2.43;for=192.0.2.44",
            "for=192.0.2.43;proto=https;proto=http",
            "for=\"192.0.2.43",
            "for=\"192.0.2.43\\\"",
            "for=\"192.0.2.43\"x",
            "for=192.0.2.43\"",
            "for=2001:db8::17",
            "for=\"2001:db8::17\"",
            "for=\"[2001:db8::17\"",
            "for=\"[192.0.2.43]\"",
            "for=\"[2001:db8::17]4711\"",
            "for=\"192.0.2.43:\"",
            "for=\"192.0.2.43:1:2\"",
            "for=192.0.2.043",
            "for=site.test",
            "for=_",
            "for=_a/b",
            "for=:80",
            "for=\"]\"",
            "for=\"\u{fc}\"",
        ] {
            assert_eq!(Hop::read(element.as_bytes()), None, "{element:?}");
        }
    }

    fn split(line: &str) -> Vec<&str> {
        elements(line.as_bytes()).map(|element| str::from_utf8(element).unwrap().trim()).collect()
    }

    #[test]
    fn elements_come_from_the_right_and_quoted_commas_part_none() {
        assert_eq!(split("for=a, for=b,for=c"), ["for=c", "for=b", "for=a"]);
        assert_eq!(split("for=a;x=\"1, 2\", for=\"b\""), ["for=\"b\"", "for=a;x=\"1, 2\""]);
        assert_eq!(split("x=\"a\\\", b\", for=c"), ["for=c", "x=\"a\\\", b\""]);
        assert_eq!(split("x=\"a\\\\\", for=c"), ["for=c", "x=\"a\\\\\""]);
        assert_eq!(split(""), [""]);
        assert_eq!(split(",a,"), ["", "a", ""]);
    }

    proptest! {
        /// Whatever a client sends, what a proxy adds behind it is read as it was written.
        #[test]
        fn a_client_changes_nothing_of_what_stands_to_its_right(
            before in "[ -~]{0,30}",
            added in prop_oneof![
                Just("for=192.0.2.43"), Just("for=\"[2001:db8::1]:80\";proto=https"), Just("for=_x;host=\"a,b\""),
                Just("for=192.0.2.43;host=\"a\\\", \\\\\""),
            ],
        ) {
            let line = format!("{before}, {added}");
            let first = elements(line.as_bytes()).next().expect("one at least");
            prop_assert_eq!(first.trim_ascii(), added.as_bytes());
            prop_assert!(Hop::read(first).is_some());
        }

        #[test]
        fn no_bytes_panic(line in prop::collection::vec(any::<u8>(), 0..60)) {
            for element in elements(&line) {
                Hop::read(element);
            }
        }
    }
}
