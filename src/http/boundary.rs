//! The trust boundary: client fields that could speak for the gateway never pass it.
//!
//! Owns which names are removed and what replaces them. Answers for RFC 7239's warnings and for what Python servers do
//! with names: WSGI turns `-` into `_`, so a name with an underscore is another spelling of a name with a dash, and all
//! of those are dropped. Refuses to know what a claim is; it is told the identity headers' names.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

/// `X-Forwarded-For`.
pub const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`: the one scheme header sent; Gunicorn answers 400 to several that disagree.
pub const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Request-Id`.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Which peers may speak for others, and which names only the gateway may set.
#[derive(Debug, Clone, Default)]
pub struct Boundary {
    trusted: Vec<IpNet>,
    identity: Vec<HeaderName>,
}

/// Who a request comes from, after the boundary: proved by the socket or by a trusted proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The client's address.
    pub address: IpAddr,
    /// Whether the client's own connection was secure.
    pub secure: bool,
    /// The request id a trusted peer gave, if it was well formed.
    pub request_id: Option<HeaderValue>,
}

impl Boundary {
    /// `trusted` peers' forwarded headers are believed; `identity` headers are removed from every request.
    pub fn new(trusted: Vec<IpNet>, identity: impl IntoIterator<Item = HeaderName>) -> Self {
        let mut identity: Vec<_> = identity.into_iter().collect();
        identity.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        identity.dedup();
        Self { trusted, identity }
    }

    /// Reads what a trusted peer says, then removes every field that only the gateway may set.
    pub fn admit(&self, headers: &mut HeaderMap, peer: SocketAddr, secure: bool) -> Client {
        let peer = peer.ip().to_canonical();
        let client = if self.trusts(peer) {
            self.believe(headers, peer, secure)
        } else {
            Client { address: peer, secure, request_id: None }
        };
        self.strip(headers);
        client
    }

    /// Whether a peer may speak for others.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|net| net.contains(&address))
    }

    fn believe(&self, headers: &HeaderMap, peer: IpAddr, secure: bool) -> Client {
        let secure = match headers.get(FORWARDED_PROTO).map(HeaderValue::as_bytes) {
            Some(b"https") => true,
            Some(b"http") => false,
            _ => secure,
        };
        let request_id = headers.get(REQUEST_ID).filter(|id| is_request_id(id.as_bytes())).cloned();
        Client { address: self.walk(headers).unwrap_or(peer), secure, request_id }
    }

    /// Right to left over the forwarded chain: the first address that is not a trusted proxy is the client.
    fn walk(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut found = None;
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            for hop in value.as_bytes().rsplit(|&byte| byte == b',') {
                // What is no address was written by nobody we trust: stop believing there.
                let Some(address) = std::str::from_utf8(hop).ok().and_then(parse_hop) else { return found };
                found = Some(address);
                if !self.trusts(address) {
                    return found;
                }
            }
        }
        found
    }

    fn strip(&self, headers: &mut HeaderMap) {
        // Two passes, because a header map can't be changed while it is read; nearly always nothing is found.
        let reserved: Vec<HeaderName> = headers.keys().filter(|name| self.is_reserved(name)).cloned().collect();
        for name in reserved {
            headers.remove(name);
        }
        if headers.contains_key(TRACEPARENT) && !has_one_traceparent(headers) {
            headers.remove(TRACEPARENT);
            headers.remove(TRACESTATE);
        }
    }

    fn is_reserved(&self, name: &HeaderName) -> bool {
        let name_text = name.as_str();
        is_forwarding(name_text)
            || name_text.as_bytes().contains(&b'_')
            || self.identity.iter().any(|reserved| reserved == name)
    }
}

/// Names that could speak for a proxy, whoever sends them; also those that have an application act by another method than the one
/// that was matched and authorised.
fn is_forwarding(name: &str) -> bool {
    if let Some(rest) = name.strip_prefix("x-") {
        return rest.starts_with("forwarded")
            || rest.starts_with("accel-")
            || matches!(rest, "http-method" | "http-method-override" | "method-override")
            || matches!(rest, "real-ip" | "original-url" | "rewrite-url" | "request-id" | "sendfile" | "client-ip");
    }
    matches!(
        name,
        "forwarded" | "proxy" | "script-name" | "path-info" | "remote-user" | "remote-addr" | "true-client-ip"
    )
}

/// W3C Trace Context section 3.2.2: version, trace id, parent id and flags in lower-case hex; all-zero ids are invalid.
fn has_one_traceparent(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let parts: Vec<&[u8]> = line.as_bytes().split(|&byte| byte == b'-').collect();
    let hex =
        |part: &[u8], length| part.len() == length && part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let set = |part: &[u8]| part.iter().any(|&byte| byte != b'0');
    match parts[..] {
        [version, trace, parent, flags] => {
            hex(version, 2)
                && version != b"ff"
                && hex(trace, 32)
                && set(trace)
                && hex(parent, 16)
                && set(parent)
                && hex(flags, 2)
        }
        _ => false,
    }
}

/// A request id from outside is believed only in this form, so that it can stand in logs and headers as it is.
fn is_request_id(id: &[u8]) -> bool {
    (1..=64).contains(&id.len()) && id.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

fn parse_hop(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let address = text.parse::<IpAddr>().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|socket| socket.ip()))?;
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundary() -> Boundary {
        Boundary::new(
            vec!["10.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")],
            [HeaderName::from_static("x-user-id")],
        )
    }

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn headers_that_could_speak_for_us_are_removed_in_every_spelling() {
        let mut map = headers(&[
            ("x-user-id", "1"),
            ("x_user_id", "1"),
            ("x-user_id", "1"),
            ("script-name", "/x"),
            ("script_name", "/x"),
            ("path-info", "/x"),
            ("proxy", "http://evil"),
            ("forwarded", "for=1.2.3.4"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-protocol", "https"),
            ("x-forwarded-ssl", "on"),
            ("x-forwarded-host", "evil"),
            ("x-real-ip", "1.2.3.4"),
            ("x-original-url", "/admin"),
            ("x-rewrite-url", "/admin"),
            ("x-http-method-override", "DELETE"),
            ("x-http-method", "DELETE"),
            ("x-method-override", "DELETE"),
            ("x-accel-redirect", "/secret"),
            ("x-request-id", "spoofed"),
            ("accept", "*/*"),
            ("x-requested-with", "fetch"),
        ]);
        let client = boundary().admit(&mut map, "192.0.2.1:5".parse().expect("an address"), true);
        assert_eq!(client.address, IpAddr::from([192, 0, 2, 1]));
        assert!(client.secure && client.request_id.is_none());
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-requested-with"]);
    }

    #[test]
    fn a_trusted_chain_is_walked_right_to_left() {
        let peer = "10.0.0.1:9".parse().expect("an address");
        for (chain, client) in [
            ("203.0.113.7", "203.0.113.7"),
            ("6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
            ("10.9.9.9, 10.0.0.2", "10.9.9.9"),
            ("203.0.113.7:4711, 10.0.0.2", "203.0.113.7"),
            ("6.6.6.6, nonsense, 10.0.0.2", "10.0.0.2"),
            ("nonsense", "10.0.0.1"),
        ] {
            let mut map = headers(&[("x-forwarded-for", chain)]);
            let found = boundary().admit(&mut map, peer, false);
            assert_eq!(found.address, client.parse::<IpAddr>().expect("an address"), "{chain}");
        }
    }

    #[test]
    fn a_request_id_from_a_trusted_peer_is_kept_only_if_well_formed() {
        let peer = "10.0.0.1:9".parse().expect("an address");
        for (id, kept) in [("abc-123", true), ("a b", false), ("a\"b", false), ("", false)] {
            let mut map = headers(&[("x-request-id", id)]);
            assert_eq!(boundary().admit(&mut map, peer, true).request_id.is_some(), kept, "{id:?}");
        }
    }

    #[test]
    fn a_traceparent_that_is_not_well_formed_is_removed_with_its_state() {
        let id = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (value, kept) in [
            (id, true),
            ("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", false),
            ("00-00000000000000000000000000000000-00f067aa0ba902b7-01", false),
            ("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", false),
            ("x", false),
        ] {
            let mut map = headers(&[("traceparent", value), ("tracestate", "a=b")]);
            boundary().admit(&mut map, "192.0.2.1:5".parse().expect("an address"), true);
            assert_eq!(map.contains_key("traceparent"), kept, "{value}");
            assert_eq!(map.contains_key("tracestate"), kept, "{value}");
        }
    }

    #[test]
    fn an_ipv4_client_on_a_dual_stack_socket_is_seen_as_ipv4() {
        let mut map = HeaderMap::new();
        let client = boundary().admit(&mut map, "[::ffff:10.0.0.1]:9".parse().expect("an address"), true);
        assert_eq!(client.address, IpAddr::from([10, 0, 0, 1]));
    }
}
