//! Interim responses (1xx) of an endpoint, told as they come.
//!
//! Answers for RFC 9110 sections 7.6.1 and 15.2: what is passed on and what of it. hyper tells of those that come over HTTP/1.1 (and so
//! in reply to a uwsgi packet); of those over HTTP/2 it does not. Refuses to know how a client is told.

use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, Request, header};

use crate::http::hop;

/// One interim response.
#[derive(Debug, Clone)]
pub struct Interim {
    /// Its status, 102 to 199.
    pub code: u16,
    /// Its fields; none of them is hop-by-hop or speaks of a body.
    pub headers: HeaderMap,
}

/// Who is told of the interim responses to one request. Called while the endpoint's connection reads: it must not wait.
#[derive(Clone)]
pub struct OnInterim(Arc<dyn Fn(Interim) + Send + Sync>);

impl OnInterim {
    /// Tells `listener`.
    pub fn new(listener: impl Fn(Interim) + Send + Sync + 'static) -> Self {
        Self(Arc::new(listener))
    }

    /// Tells of one.
    pub fn tell(&self, interim: Interim) {
        (self.0)(interim);
    }

    /// Has whoever sends `request` tell of what comes before its response.
    pub(super) fn attend<B>(&self, request: &mut Request<B>) {
        let listener = self.clone();
        hyper::ext::on_informational(request, move |interim| {
            if let Some(interim) = Interim::of(interim.status().as_u16(), interim.headers()) {
                listener.tell(interim);
            }
        });
    }
}

impl fmt::Debug for OnInterim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnInterim")
    }
}

impl Interim {
    /// `None` for what is not passed on: 100 answers an `Expect` that the gateway has answered itself, and 101 is no interim answer.
    fn of(code: u16, headers: &HeaderMap) -> Option<Self> {
        if !(102..200).contains(&code) {
            return None;
        }
        let mut headers = headers.clone();
        hop::strip(&mut headers);
        for framing in [header::CONTENT_LENGTH, header::TRAILER] {
            headers.remove(framing); // RFC 9110 section 8.6: there is no content to speak of
        }
        Some(Self { code, headers })
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn all_but_100_and_101_are_passed_on_without_what_concerns_the_connection() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("link", "</a.css>; rel=preload"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let codes: Vec<_> =
            (100..=200).filter_map(|code| Interim::of(code, &headers)).map(|passed| passed.code).collect();
        assert_eq!(codes, (102..200).collect::<Vec<_>>());
        let passed = Interim::of(103, &headers).unwrap();
        assert_eq!(passed.headers.keys().collect::<Vec<_>>(), ["link"]);
    }
}
