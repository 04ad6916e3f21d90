//! `/upstreams`: which endpoints get requests, and how one is taken out and put back.
//!
//! Owns the exchange. `POST /upstreams/NAME/endpoints/ADDRESS/drain` and `/undrain` change something, so what a web page could send is
//! refused here as for `/revocations`. What draining does belongs to whoever stands behind [`Drains`].

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;

use super::content;
use super::revocations::{JSON, Refusal, Refused, is_json, no_browser, refuse};

/// The endpoints, as the admin listener uses them.
pub trait Drains: Send + Sync {
    /// Each upstream with its endpoints, as JSON.
    fn list(&self) -> String;
    /// Takes an endpoint out, or puts it back.
    fn set(&self, upstream: &str, endpoint: &str, drained: bool) -> Result<(), Refused>;
    /// Whether it is out.
    fn is_drained(&self, upstream: &str, endpoint: &str) -> bool;
}

/// Whether a path is one of these.
pub(super) fn is_here(path: &str) -> bool {
    path == "/upstreams" || path.starts_with("/upstreams/")
}

/// The answer to a request for one of them.
pub(super) fn answer(drains: &dyn Drains, method: &Method, path: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    decide(drains, method, path, headers).unwrap_or_else(|(refusal, allowed)| {
        let mut answer = refusal.answer();
        if answer.headers().contains_key(header::ALLOW) {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
        }
        answer
    })
}

type Refuse = (Refusal, &'static str);

fn decide(
    drains: &dyn Drains,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<Response<Full<Bytes>>, Refuse> {
    no_browser(headers).map_err(|refusal| (refusal, ""))?;
    if path == "/upstreams" {
        if *method != Method::GET && *method != Method::HEAD {
            return Err((refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"), "GET, HEAD"));
        }
        return Ok(content(StatusCode::OK, JSON, drains.list()));
    }
    let detail = "see POST /upstreams/NAME/endpoints/ADDRESS/drain and /undrain, and GET /upstreams";
    let order = Order::read(path).ok_or((refuse(StatusCode::NOT_FOUND, detail), ""))?;
    if *method != Method::POST {
        return Err((refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST"), "POST"));
    }
    // A page's form has another type; what has none has no body.
    if headers.contains_key(header::CONTENT_TYPE) && !is_json(headers) {
        let detail = "a body, if there is one, must be of Content-Type: application/json";
        return Err((refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail), ""));
    }
    let set = drains.set(order.upstream, &order.endpoint, order.drained);
    set.map_err(|refused| (refused.into(), ""))?;
    let json = serde_json::json!({ "upstream": order.upstream, "endpoint": order.endpoint, "drained": order.drained });
    Ok(content(StatusCode::OK, JSON, format!("{json}\n")))
}

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Order<'p> {
    upstream: &'p str,
    endpoint: Cow<'p, str>,
    drained: bool,
}

impl<'p> Order<'p> {
    /// An address has slashes of its own: it may be percent-encoded, or stand as it is.
    fn read(path: &'p str) -> Option<Self> {
        let (upstream, rest) = path.strip_prefix("/upstreams/")?.split_once('/')?;
        let rest = rest.strip_prefix("endpoints/")?;
        let (endpoint, drained) = match rest.strip_suffix("/drain") {
            Some(endpoint) => (endpoint, true),
            None => (rest.strip_suffix("/undrain")?, false),
        };
        Some(Self { upstream, endpoint: percent_decode_str(endpoint).decode_utf8().ok()?, drained })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Why;
    use super::*;

    /// Knows one endpoint, which can't be spared.
    struct One;

    impl Drains for One {
        fn list(&self) -> String {
            "{}".to_owned()
        }

        fn set(&self, upstream: &str, endpoint: &str, drained: bool) -> Result<(), Refused> {
            let refused = |why| Err(Refused { why, detail: String::new() });
            match (upstream, endpoint) {
                ("web", "http://10.0.0.5:8000") if drained => refused(Why::Conflict),
                ("web", "http://10.0.0.5:8000") => Ok(()),
                _ => refused(Why::Unknown),
            }
        }

        fn is_drained(&self, _: &str, _: &str) -> bool {
            false
        }
    }

    const ADDRESS: &str = "/upstreams/web/endpoints/http://10.0.0.5:8000";

    fn ask(method: &Method, path: &str, fields: &[(&'static str, &'static str)]) -> (u16, Option<String>) {
        let headers =
            fields.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value)));
        let answer = answer(&One, method, path, &headers.collect());
        let allow = answer.headers().get(header::ALLOW).map(|allow| allow.to_str().expect("text").to_owned());
        (answer.status().as_u16(), allow)
    }

    #[test]
    fn an_address_stands_as_it_is_or_percent_encoded() {
        let read = |path| Order::read(path).map(|order| (order.upstream, order.endpoint.into_owned(), order.drained));
        let unix = || "unix:/run/app.sock".to_owned();
        assert_eq!(read("/upstreams/web/endpoints/unix:/run/app.sock/drain"), Some(("web", unix(), true)));
        assert_eq!(read("/upstreams/web/endpoints/unix:%2Frun%2Fapp.sock/undrain"), Some(("web", unix(), false)));
        for path in [
            "/upstreams/web",
            "/upstreams/web/endpoints/x",
            "/upstreams/web/x/drain",
            "/upstreams/a/endpoints/%FF/drain",
        ] {
            assert_eq!(read(path), None, "{path}");
        }
    }

    #[test]
    fn each_method_and_address_has_its_answer() {
        let host = ("host", "127.0.0.1:9180");
        let (drain, undrain) = (format!("{ADDRESS}/drain"), format!("{ADDRESS}/undrain"));
        assert_eq!(ask(&Method::GET, "/upstreams", &[host]).0, 200);
        assert_eq!(ask(&Method::POST, "/upstreams", &[host]), (405, Some("GET, HEAD".to_owned())));
        assert_eq!(ask(&Method::POST, &undrain, &[host]).0, 200);
        assert_eq!(ask(&Method::POST, &undrain, &[host, ("content-type", "application/json")]).0, 200);
        assert_eq!(ask(&Method::POST, &drain, &[host]).0, 409);
        assert_eq!(ask(&Method::GET, &drain, &[host]), (405, Some("POST".to_owned())));
        assert_eq!(ask(&Method::POST, "/upstreams/api/endpoints/x/drain", &[host]).0, 404);
        assert_eq!(ask(&Method::POST, "/upstreams/web", &[host]).0, 404);
    }

    #[test]
    fn what_a_web_page_can_send_is_refused() {
        let (undrain, host) = (format!("{ADDRESS}/undrain"), ("host", "127.0.0.1:9180"));
        assert_eq!(ask(&Method::POST, &undrain, &[host, ("origin", "null")]).0, 403);
        assert_eq!(ask(&Method::POST, &undrain, &[("host", "evil.example")]).0, 403);
        assert_eq!(ask(&Method::POST, &undrain, &[]).0, 403);
        assert_eq!(ask(&Method::POST, &undrain, &[host, ("content-type", "text/plain")]).0, 415);
        assert_eq!(ask(&Method::GET, "/upstreams", &[("host", "evil.example")]).0, 403);
    }
}
