//! The trust boundary: client fields that could speak for the gateway never pass it.
//!
//! Owns which names are removed and what replaces them, and who a trusted proxy says the client is. Answers for RFC 7239 section 8
//! (what clients write of themselves is not believed) and for what Python servers do with names: WSGI turns `-` into `_`, so a name with an underscore is another spelling of a name with a dash, and all
//! of those are dropped. Refuses to know what a claim is; it is told the identity headers' names.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::forwarded::{self, Hop};

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
    fields: TrustedFields,
    identity: Vec<HeaderName>,
}

/// Which fields trusted peers write. Only one kind is believed: a proxy passes on what it does not write, so the other may be a client's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrustedFields {
    /// `X-Forwarded-For` and `X-Forwarded-Proto`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
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
        Self { trusted, identity, fields: TrustedFields::default() }
    }

    /// The same, believing these fields of trusted peers.
    #[must_use]
    pub fn believing(self, fields: TrustedFields) -> Self {
        Self { fields, ..self }
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
        let said = match self.fields {
            TrustedFields::XForwarded => Hop { address: self.walk(headers), secure: scheme(headers) },
            TrustedFields::Forwarded => self.walk_forwarded(headers),
        };
        let request_id = headers.get(REQUEST_ID).filter(|id| is_request_id(id.as_bytes())).cloned();
        Client { address: said.address.unwrap_or(peer), secure: said.secure.unwrap_or(secure), request_id }
    }

    /// Right to left over the forwarded chain: the first address that is not a trusted proxy is the client.
    fn walk(&self, headers: &HeaderMap) -> Option<IpAddr> {
        let mut found = None;
        for value in headers.get_all(FORWARDED_FOR).iter().rev() {
            for hop in value.as_bytes().rsplit(|&byte| byte == b',') {
                // What is no address was written by nobody we trust: stop believing there.
                let Some(address) = str::from_utf8(hop).ok().and_then(parse_hop) else { return found };
                found = Some(address);
                if !self.trusts(address) {
                    return found;
                }
            }
        }
        found
    }

    /// The same over `Forwarded`. The walk ends with the first hop that has no address, too, but its scheme counts: a trusted proxy
    /// wrote it, and only hides or does not know whom it is about.
    fn walk_forwarded(&self, headers: &HeaderMap) -> Hop {
        let mut found = Hop::default();
        let lines = headers.get_all(header::FORWARDED).iter().rev();
        for element in lines.flat_map(|line| forwarded::elements(line.as_bytes())) {
            let Some(hop) = Hop::read(element) else { return found };
            found = Hop { address: hop.address.or(found.address), secure: hop.secure };
            if hop.address.is_none_or(|address| !self.trusts(address)) {
                return found;
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

/// What `X-Forwarded-Proto` says, if it says one thing. Of several that differ some may be a client's, so the request counts as not secure.
fn scheme(headers: &HeaderMap) -> Option<bool> {
    let lines = headers.get_all(FORWARDED_PROTO).iter();
    let mut said = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let first = said.next()?;
    if said.all(|other| other == first) { is_https(first) } else { Some(false) }
}

/// Whether a scheme is https; `None` if it is not http either.
pub(super) fn is_https(scheme: &[u8]) -> Option<bool> {
    if scheme.eq_ignore_ascii_case(b"https") {
        Some(true)
    } else {
        scheme.eq_ignore_ascii_case(b"http").then_some(false)
    }
}

/// Whether a field reaches nobody, whoever sends it and whatever is configured.
pub fn is_removed(name: &HeaderName) -> bool {
    is_forwarding(name.as_str()) || name.as_str().contains('_')
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
    fn a_scheme_that_is_said_twice_differently_is_not_secure() {
        let peer = "10.0.0.1:9".parse().expect("an address");
        for (lines, secure) in [
            (&["https"][..], true),
            (&["HTTPS"], true),
            (&["http"], false),
            (&["https", "https"], true),
            (&["https,https"], true),
            (&["https", "http"], false),
            (&["http", "https"], false),
            (&["https, http"], false),
            (&["gopher", "https"], false),
            (&["gopher"], true),
            (&[""], true),
            (&[], true),
        ] {
            let lines: Vec<_> = lines.iter().map(|value| ("x-forwarded-proto", *value)).collect();
            assert_eq!(boundary().admit(&mut headers(&lines), peer, true).secure, secure, "{lines:?}");
        }
    }

    #[test]
    fn a_trusted_forwarded_field_is_walked_right_to_left() {
        let boundary = boundary().believing(TrustedFields::Forwarded);
        let peer = "10.0.0.1:9".parse().expect("an address");
        for (lines, client, secure) in [
            (&["for=203.0.113.7"][..], "203.0.113.7", false),
            (&["for=203.0.113.7;proto=https"], "203.0.113.7", true),
            (&["for=6.6.6.6;proto=http, for=203.0.113.7;proto=https, for=10.0.0.2"], "203.0.113.7", true),
            (&["for=6.6.6.6", "for=\"[2001:db8::7]:1\";proto=https", "for=10.0.0.2;proto=http"], "2001:db8::7", true),
            (&["for=10.9.9.9;proto=https, for=10.0.0.2"], "10.9.9.9", true),
            (&["for=6.6.6.6, for=unknown;proto=https, for=10.0.0.2"], "10.0.0.2", true),
            (&["for=6.6.6.6, for=_hidden, for=10.0.0.2;proto=https"], "10.0.0.2", false),
            (&["for=6.6.6.6, proto=https, for=10.0.0.2"], "10.0.0.2", true),
            (&["for=6.6.6.6, nonsense;proto=http, for=10.0.0.2;proto=https"], "10.0.0.2", true),
            (&["for=6.6.6.6, , for=10.0.0.2"], "10.0.0.2", false),
            (&["for=6.6.6.6;x=\", for=203.0.113.7"], "203.0.113.7", false),
            (&["nonsense"], "10.0.0.1", false),
            (&[""], "10.0.0.1", false),
        ] {
            let lines: Vec<_> = lines.iter().map(|value| ("forwarded", *value)).collect();
            let mut map = headers(&lines);
            let found = boundary.admit(&mut map, peer, false);
            assert_eq!((found.address, found.secure), (client.parse().expect("an address"), secure), "{lines:?}");
            assert!(map.is_empty());
        }
    }

    #[test]
    fn only_the_fields_that_the_proxies_write_are_believed() {
        let both = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-proto", "https"), ("forwarded", "for=7.7.7.7")];
        let peer = "10.0.0.1:9".parse().expect("an address");
        let found = |fields| boundary().believing(fields).admit(&mut headers(&both), peer, false);
        let told = |client: Client| (client.address.to_string(), client.secure);
        assert_eq!(told(found(TrustedFields::XForwarded)), ("6.6.6.6".to_owned(), true));
        assert_eq!(told(found(TrustedFields::Forwarded)), ("7.7.7.7".to_owned(), false));
        let client = boundary().believing(TrustedFields::Forwarded).admit(&mut headers(&both[..2]), peer, false);
        assert_eq!(told(client), ("10.0.0.1".to_owned(), false), "without its own field nothing is believed");
        let stranger = "192.0.2.1:9".parse().expect("an address");
        let client = boundary().believing(TrustedFields::Forwarded).admit(&mut headers(&both), stranger, false);
        assert_eq!(told(client), ("192.0.2.1".to_owned(), false));
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
