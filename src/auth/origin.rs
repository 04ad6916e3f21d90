//! Whether a browser's request comes from a site that may send it.
//!
//! Owns the guard of tokens in cookies, which browsers attach to any site's requests. What a browser says of a request's origin, no script
//! can change: `Sec-Fetch-Site` where it is sent, else `Origin`, else the origin of `Referer`, as Django looks at them. A request
//! that says nothing is refused. Fetch Metadata section 2.3, RFC 6454 section 7.

use http::HeaderMap;
use http::header::{HeaderName, ORIGIN, REFERER, UPGRADE};

use super::access::OriginGuard;
use super::asking::Asking;
use super::denied::Cause;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl OriginGuard {
    /// Refuses a request that another site may have had the browser send. Safe methods pass; the request for a WebSocket is one that
    /// changes something, and no browser keeps other sites from sending it.
    pub(super) fn check(&self, asking: &Asking<'_>) -> Result<(), Cause> {
        let changes = !asking.is_safe() || asking.tunnel || asking.headers.contains_key(UPGRADE);
        if !changes || self.admits(asking) { Ok(()) } else { Err(Cause::CrossOrigin) }
    }

    fn admits(&self, asking: &Asking<'_>) -> bool {
        // `none` is a user's own doing: an address typed, a bookmark.
        if matches!(single(asking.headers, &SEC_FETCH_SITE), Some("same-origin" | "none")) {
            return true;
        }
        let said = if asking.headers.contains_key(ORIGIN) {
            single(asking.headers, &ORIGIN)
        } else {
            single(asking.headers, &REFERER).map(origin_of)
        };
        said.is_some_and(|origin| self.origins.iter().any(|known| **known == *origin) || is_own(origin, asking))
    }
}

fn is_own(origin: &str, asking: &Asking<'_>) -> bool {
    // A browser that names the site says what it found itself; `cross-site` from the own origin does not happen.
    let own = format!("{}://{}", asking.scheme(), asking.target.authority());
    let default_port = if asking.secure { ":443" } else { ":80" };
    origin == own.strip_suffix(default_port).unwrap_or(&own)
}

/// A field that is there exactly once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

/// Scheme, host and port of a URL, as `Origin` writes them.
fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(url.len(), |at| at + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |at| host + at);
    &url[..end]
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::fixtures::Request;
    use super::*;

    fn admits(method: Method, fields: &[(&'static str, &str)]) -> bool {
        let guard = OriginGuard { origins: vec!["https://app.example.com".into()] };
        guard.check(&Request::new(method, "/", fields).asking()).is_ok()
    }

    #[test]
    fn safe_methods_pass_but_not_a_websocket_request() {
        assert!(admits(Method::GET, &[]));
        assert!(!admits(Method::GET, &[("upgrade", "websocket"), ("origin", "https://evil.example")]));
        assert!(admits(Method::GET, &[("upgrade", "websocket"), ("origin", "https://gateway.test")]));
        let request = Request::new(Method::GET, "/", &[("origin", "https://evil.example")]);
        let connect = Asking { tunnel: true, ..request.asking() };
        assert!(OriginGuard::default().check(&connect).is_err(), "an extended CONNECT has no such field");
    }

    #[test]
    fn only_the_own_and_the_named_origins_may_change_anything() {
        for (fields, admitted) in [
            (vec![("sec-fetch-site", "same-origin")], true),
            (vec![("sec-fetch-site", "none")], true),
            (vec![("sec-fetch-site", "same-site")], false),
            (vec![("sec-fetch-site", "cross-site")], false),
            (vec![("sec-fetch-site", "cross-site"), ("origin", "https://app.example.com")], true),
            (vec![("sec-fetch-site", "same-site"), ("origin", "https://other.gateway.test")], false),
            (vec![("origin", "https://gateway.test")], true),
            (vec![("origin", "http://gateway.test")], false),
            (vec![("origin", "https://gateway.test:444")], false),
            (vec![("origin", "https://gateway.test.evil.example")], false),
            (vec![("origin", "null")], false),
            (vec![("origin", "null"), ("referer", "https://gateway.test/")], false),
            (vec![("origin", "https://gateway.test"), ("origin", "https://evil.example")], false),
            (vec![("origin", "a"), ("origin", "a"), ("referer", "https://gateway.test/")], false),
            (vec![("referer", "https://gateway.test/page?x")], true),
            (vec![("referer", "https://evil.example/https://gateway.test/")], false),
            (vec![("referer", "https://gateway.test@evil.example/")], false),
            (vec![], false),
        ] {
            assert_eq!(admits(Method::POST, &fields), admitted, "{fields:?}");
        }
    }
}
