//! Hop-by-hop fields: what concerns one connection only and is never forwarded.
//!
//! Answers for RFC 9110 section 7.6.1. Runs *before* the gateway adds fields of its own, so that a client's
//! `Connection: x-user-id` can't name them. Refuses to know which direction a message goes.

use http::header::{self, HeaderMap, HeaderName};

/// Whether a field is hop-by-hop although no `Connection` names it. `Upgrade` and `HTTP2-Settings` are, because a connection is
/// never switched to `h2c`.
fn is_always_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// What the removed fields asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hop {
    /// `Connection: close` was there.
    pub close: bool,
    /// `TE: trailers` was there; it is made anew towards the upstream.
    pub trailers: bool,
}

/// Removes what `Connection` names, then every field that is hop-by-hop by definition.
pub fn strip(headers: &mut HeaderMap) -> Hop {
    // One look at the names: most messages have none of these, and nine look-ups would find that out more slowly.
    if !headers.keys().any(is_always_hop) {
        return Hop::default();
    }
    let mut hop = Hop { close: false, trailers: accepts_trailers(headers) };
    if headers.contains_key(header::CONNECTION) {
        for named in named_by_connection(headers) {
            hop.close |= named == "close";
            headers.remove(named);
        }
    }
    let standing: Vec<HeaderName> = headers.keys().filter(|name| is_always_hop(name)).cloned().collect();
    for name in standing {
        headers.remove(name);
    }
    hop
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(header::CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect()
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_connection_names_is_removed_with_the_standing_list() {
        let mut map = headers(&[
            ("connection", "close, X-Secret"),
            ("x-secret", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "gzip, trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("accept", "*/*"),
        ]);
        assert_eq!(strip(&mut map), Hop { close: true, trailers: true });
        assert_eq!(map.len(), 1);
        assert!(map.contains_key("accept"));
    }

    #[test]
    fn several_connection_lines_count_as_one_list() {
        let mut map = HeaderMap::new();
        map.append(header::CONNECTION, HeaderValue::from_static("x-a"));
        map.append(header::CONNECTION, HeaderValue::from_static("x-b , ,x-c"));
        for name in ["x-a", "x-b", "x-c", "x-d"] {
            map.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        strip(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-d"]);
    }
}
