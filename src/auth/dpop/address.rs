//! Whether a proof's `htu` is the address of this request.
//!
//! Owns the comparison: without query and fragment, after the normalisation by syntax and scheme of RFC 3986 sections 6.2.2 and 6.2.3
//! (RFC 9449 section 4.3). Dot segments are compared as they are: a request that has any was refused long before. Knows no proofs.

/// One address, its query and fragment left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Address<'a> {
    pub(super) scheme: &'a str,
    /// Host and port; no user.
    pub(super) authority: &'a str,
    /// From the first slash; empty means the root.
    pub(super) path: &'a str,
}

impl<'a> Address<'a> {
    /// Takes an absolute URI apart; `None` for anything else, and for one with a user in it.
    pub(super) fn parse(uri: &'a str) -> Option<Self> {
        let (scheme, rest) = uri.split_once("://")?;
        let rest = rest.split(['?', '#']).next()?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        (!authority.contains('@')).then_some(Self { scheme, authority, path })
    }

    /// Whether both are one address.
    pub(super) fn is(&self, other: &Self) -> bool {
        let (host, port) = self.host_and_port();
        let (other_host, other_port) = other.host_and_port();
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && !host.is_empty()
            && host.eq_ignore_ascii_case(other_host)
            && port == other_port
            && normal(self.path).eq(normal(other.path))
    }

    /// The port is empty where it is the scheme's own.
    fn host_and_port(&self) -> (&'a str, &'a str) {
        let default = match self.scheme {
            scheme if scheme.eq_ignore_ascii_case("https") => "443",
            scheme if scheme.eq_ignore_ascii_case("http") => "80",
            _ => "",
        };
        match self.authority.rsplit_once(':') {
            // What follows the last colon of a bare IPv6 literal ends in its bracket.
            Some((host, port)) if !port.ends_with(']') => (host, if port == default { "" } else { port }),
            _ => (self.authority, ""),
        }
    }
}

/// The bytes of a path: an escape of an unreserved character is that character, any other is in upper case, no path is the root.
fn normal(path: &str) -> impl Iterator<Item = u8> {
    let path = if path.is_empty() { "/" } else { path };
    let mut rest = path.as_bytes();
    let mut pending: [Option<u8>; 2] = [None; 2];
    std::iter::from_fn(move || {
        if let Some(byte) = pending[0].take().or_else(|| pending[1].take()) {
            return Some(byte);
        }
        let (first, after) = rest.split_first()?;
        rest = after;
        if *first != b'%' {
            return Some(*first);
        }
        let Some((digits, after)) = rest.split_first_chunk::<2>() else { return Some(b'%') };
        let Some(byte) = escaped(*digits) else { return Some(b'%') };
        rest = after;
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            return Some(byte);
        }
        pending = digits.map(|digit| Some(digit.to_ascii_uppercase()));
        Some(b'%')
    })
}

fn escaped([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn same(one: &str, other: &str) -> bool {
        let other = Address::parse(other).unwrap();
        Address::parse(one).is_some_and(|one| one.is(&other) && other.is(&one))
    }

    #[test]
    fn spellings_of_one_address_are_one() {
        for other in [
            "https://api.example.com/a%2Fb/~c",
            "HTTPS://API.Example.COM/a%2Fb/~c",
            "https://api.example.com:443/a%2Fb/~c",
            "https://api.example.com:/a%2Fb/~c",
            "https://api.example.com/%61%2fb/%7Ec",
            "https://api.example.com/a%2Fb/~c?page=2#top",
            "https://api.example.com/a%2Fb/~c#top?page=2",
        ] {
            assert!(same("https://api.example.com/a%2Fb/~c", other), "{other}");
        }
        assert!(same("http://[::1]/", "http://[::1]:80"));
        assert!(same("https://a.test?x=/y", "https://a.test/"));
    }

    #[test]
    fn other_addresses_are_others() {
        for other in [
            "http://api.example.com/a/b",
            "https://api.example.com:8443/a/b",
            "https://api.example.com:80/a/b",
            "https://api.example.org/a/b",
            "https://api.example.com.evil.test/a/b",
            "https://api.example.com/a/B",
            "https://api.example.com/a/b/",
            "https://api.example.com/a%2Fb",
            "https://api.example.com/a/./b",
            "https://api.example.com//a/b",
            "https://api.example.com/a/b%",
            "https://api.example.com/a/b%0",
            "https://api.example.com/a/b%00",
            "https://[::1]/a/b",
        ] {
            assert!(!same("https://api.example.com/a/b", other), "{other}");
        }
    }

    #[test]
    fn what_is_no_absolute_uri_is_no_address() {
        for text in ["", "/a/b", "api.example.com/a/b", "https:/api.example.com", "https://user@api.example.com/"] {
            assert!(Address::parse(text).is_none(), "{text}");
        }
        let nobody = Address::parse("https:///a").unwrap();
        assert!(!nobody.is(&nobody), "an address has a host");
    }

    proptest! {
        #[test]
        fn an_escape_of_any_byte_compares_without_case(byte: u8) {
            let (upper, lower) = (format!("https://a.test/%{byte:02X}"), format!("https://a.test/%{byte:02x}"));
            prop_assert!(same(&upper, &lower));
        }

        #[test]
        fn no_text_panics(one in ".{0,60}", other in ".{0,60}") {
            if let (Some(one), Some(other)) = (Address::parse(&one), Address::parse(&other)) {
                prop_assert_eq!(one.is(&other), other.is(&one));
            }
        }
    }
}
