//! A URL that may be fetched, judged when the configuration is read.
//!
//! Owns what such a URL may hold (RFC 3986 section 3): scheme, host, port, path and query, and neither credentials nor a fragment.

use std::fmt;
use std::str::FromStr as _;

use http::Uri;
use http::uri::Scheme;

/// An absolute URL that was judged. It keeps the bytes it was written with: identifiers of issuers are compared by them.
#[derive(Clone, PartialEq, Eq)]
pub struct Location {
    text: Box<str>,
    uri: Uri,
}

/// What is wrong with a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LocationError {
    /// It is no URL, or a relative one, or not in ASCII.
    #[error("it is not an absolute URL, as https://HOST/PATH")]
    NotAbsolute,
    /// `http://` where it is not allowed.
    #[error("plain http is not allowed: whoever is on the way could replace the answer")]
    PlainHttp,
    /// A scheme that is neither `https` nor `http`.
    #[error("its scheme is not https")]
    Scheme,
    /// User or password before the host.
    #[error("it has credentials before its host")]
    Userinfo,
    /// No host.
    #[error("it has no host")]
    Host,
    /// A port that is none.
    #[error("its port is not a number from 1 to 65535")]
    Port,
    /// A fragment, which is never sent.
    #[error("it has a fragment")]
    Fragment,
}

impl Location {
    /// Judges `text`; `http://` passes only where `plain_http` says so.
    pub fn parse(text: &str, plain_http: bool) -> Result<Self, LocationError> {
        // The parser drops a fragment without a word, and passes bytes beyond ASCII on to the wire.
        if text.contains('#') {
            return Err(LocationError::Fragment);
        }
        if !text.is_ascii() {
            return Err(LocationError::NotAbsolute);
        }
        let uri = Uri::from_str(text).map_err(|_| LocationError::NotAbsolute)?;
        match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => {}
            Some(scheme) if *scheme == Scheme::HTTP && plain_http => {}
            Some(scheme) if *scheme == Scheme::HTTP => return Err(LocationError::PlainHttp),
            Some(_) => return Err(LocationError::Scheme),
            None => return Err(LocationError::NotAbsolute),
        }
        let authority = uri.authority().ok_or(LocationError::Host)?;
        if authority.as_str().contains('@') {
            return Err(LocationError::Userinfo);
        }
        let host = authority.host();
        if host.is_empty() {
            return Err(LocationError::Host);
        }
        // A port that cannot be read would be taken for the scheme's own by the client.
        if authority.as_str().len() > host.len() && authority.port_u16().is_none_or(|port| port == 0) {
            return Err(LocationError::Port);
        }
        Ok(Self { text: text.into(), uri })
    }

    /// The URL as it was written, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Scheme and authority, as `https://host:port`.
    pub fn origin(&self) -> &str {
        let after_scheme = self.text.find("://").map_or(0, |at| at + 3);
        let length = self.text[after_scheme..].find(['/', '?']).unwrap_or(self.text.len() - after_scheme);
        &self.text[..after_scheme + length]
    }

    /// The path; `/` where none was written.
    pub fn path(&self) -> &str {
        self.uri.path()
    }

    /// The query, without its `?`.
    pub fn query(&self) -> Option<&str> {
        self.uri.query()
    }

    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(super) fn is_plain(&self) -> bool {
        self.uri.scheme() == Some(&Scheme::HTTP)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_https_url_keeps_its_bytes_and_knows_its_parts() {
        let location = Location::parse("https://Id.example.com:8443/tenant?x=1", false).unwrap();
        assert_eq!(location.as_str(), "https://Id.example.com:8443/tenant?x=1");
        assert_eq!(location.origin(), "https://Id.example.com:8443");
        assert_eq!((location.path(), location.query()), ("/tenant", Some("x=1")));
        assert_eq!(Location::parse("https://[::1]:8443/", false).unwrap().origin(), "https://[::1]:8443");
        assert_eq!(Location::parse("https://a.test", false).unwrap().path(), "/");
        assert_eq!(Location::parse("https://a.test?x", false).unwrap().origin(), "https://a.test");
    }

    #[test]
    fn plain_http_passes_only_where_it_is_allowed() {
        assert_eq!(Location::parse("http://a.test/", false), Err(LocationError::PlainHttp));
        assert!(Location::parse("http://a.test/", true).unwrap().is_plain());
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_leak_is_refused() {
        for (text, error) in [
            ("", LocationError::NotAbsolute),
            ("/keys", LocationError::NotAbsolute),
            ("a.test/keys", LocationError::NotAbsolute),
            ("https://", LocationError::NotAbsolute),
            ("https://a.test/\u{e9}", LocationError::NotAbsolute),
            ("https://a.test/ b", LocationError::NotAbsolute),
            ("ftp://a.test/", LocationError::Scheme),
            ("file:///etc/keys", LocationError::NotAbsolute),
            ("https://u@a.test/", LocationError::Userinfo),
            ("https://u:p@a.test/", LocationError::Userinfo),
            ("https://a.test/#f", LocationError::Fragment),
            ("https://a.test:99999/", LocationError::Port),
            ("https://a.test:0/", LocationError::Port),
        ] {
            assert_eq!(Location::parse(text, true), Err(error), "{text}");
        }
    }
}
