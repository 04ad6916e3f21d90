//! Redirects: to the TLS listener, and to where a route says.
//!
//! What is filled in is the client's own path and query, already checked; it stands behind the configured scheme and host, so
//! it can't lead elsewhere.

use http::header::LOCATION;
use http::{HeaderValue, Response, StatusCode};

use crate::http::{Body, Target, TargetError};
use crate::snapshot::Redirect;

/// The port a URL leaves out.
const HTTPS_PORT: u16 = 443;

/// Sends a plain request to the same place over TLS. 308 keeps the method and the body (RFC 9110 section 15.4.9).
pub(super) fn to_https(target: &Target, port: u16) -> Response<Body> {
    let (host, path) = (target.host(), target.path_and_query());
    let location =
        if port == HTTPS_PORT { format!("https://{host}{path}") } else { format!("https://{host}:{port}{path}") };
    let location = HeaderValue::from_str(&location).expect("a checked host and path are visible ASCII");
    answer(StatusCode::PERMANENT_REDIRECT, location)
}

/// Sends the client where `redirect` says, with what is to be handed on of its query.
pub(super) fn to(redirect: &Redirect, target: &Target, query: Option<&str>) -> Result<Response<Body>, TargetError> {
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    let location =
        redirect.to.replace("{host}", target.host()).replace("{path}", target.raw_path()).replace("{query}", &query);
    let location = HeaderValue::from_str(&location).map_err(|_| TargetError::Malformed)?;
    Ok(answer(redirect.status, location))
}

fn answer(status: StatusCode, location: HeaderValue) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response.headers_mut().insert(LOCATION, location);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(uri: &str, host: &str) -> Target {
        let request = http::Request::builder().uri(uri).header("host", host).body(()).expect("a request");
        Target::read(&request.into_parts().0, false, 8192).expect("a target")
    }

    #[test]
    fn a_plain_request_goes_to_the_same_place_over_tls() {
        let at = |host, port| to_https(&target("/a%20b?c=d", host), port).headers()[LOCATION].clone();
        assert_eq!(at("Example.com:8080", 8443), "https://example.com:8443/a%20b?c=d");
        assert_eq!(at("[::1]:80", 443), "https://[::1]/a%20b?c=d");
    }

    #[test]
    fn placeholders_are_filled_with_the_clients_own_bytes() {
        let redirect = Redirect { to: "https://www.{host}{path}{query}".into(), status: StatusCode::MOVED_PERMANENTLY };
        let target = target("/x?y=1", "a.example:80");
        let response = to(&redirect, &target, target.query()).expect("a location");
        assert_eq!(response.status(), StatusCode::MOVED_PERMANENTLY);
        assert_eq!(response.headers()[LOCATION], "https://www.a.example/x?y=1");
    }
}
