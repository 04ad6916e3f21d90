//! `/revocations`: what is revoked, and how more is, by machines and by hand.
//!
//! Owns the exchange: who may ask, how much may be sent, what is answered. What a revocation is and how it is kept belongs to whoever stands
//! behind [`Revocations`]. There is no login, so the one thing that must not happen is that a web page in an operator's browser asks:
//! requests that a page can make are refused (the `Origin` of RFC 6454, any other `Content-Type` than JSON), and so is a `Host` that a
//! page could have pointed here by its own DNS.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};

use super::content;

/// Bytes of a body that are read as one revocation.
const MOST_BODY: usize = 64 * 1024;
/// Bytes read of a body that is too large, so that its sender hears the answer.
const MOST_DISCARDED: usize = 1024 * 1024;
/// Entries listed unless the request says `limit=`.
const LISTED: usize = 100;
const MOST_LISTED: usize = 10_000;

/// The list of revoked tokens, as the admin listener uses it. The calls may wait for a disk; they are made on threads that may.
pub trait Revocations: Send + Sync {
    /// A JSON object with the counts and at most `limit` entries, the newest first.
    fn list(&self, limit: usize) -> Result<String, Refused>;
    /// Adds what a JSON body says and answers with JSON, which never holds a token.
    fn add(&self, body: &[u8]) -> Result<String, Refused>;
    /// Removes what a JSON body says.
    fn remove(&self, body: &[u8]) -> Result<(), Refused>;
    /// How many entries there are; `None` where nothing can be revoked.
    fn count(&self) -> Option<usize>;
}

/// Why what was asked for was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Whose fault it is.
    pub why: Why,
    /// For who asked; never a part of a token.
    pub detail: String,
}

/// The kinds of refusals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The body does not say what it should.
    Malformed,
    /// There is no such entry.
    Unknown,
    /// It contradicts what is configured or what the file says.
    Conflict,
    /// The list is as long as it may be.
    Full,
    /// The disk failed, or the gateway has no time for it now.
    Failed,
    /// What it is about may not be used: a configuration with problems.
    Invalid,
}

/// The answer to a request for `/revocations`.
pub(super) async fn answer<B>(list: Option<Arc<dyn Revocations>>, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Send + Unpin,
{
    let (head, body) = request.into_parts();
    let body = read(body).await;
    match decide(list, &head.method, &head.uri, &head.headers, body).await {
        Ok(answer) => answer,
        Err(refusal) => refusal.answer(),
    }
}

type Answer = Response<Full<Bytes>>;

/// A status, and why.
pub(super) struct Refusal {
    code: StatusCode,
    detail: Cow<'static, str>,
}

async fn decide(
    list: Option<Arc<dyn Revocations>>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: Result<Bytes, Refusal>,
) -> Result<Answer, Refusal> {
    no_browser(headers)?;
    let detail = "there is no [revocation] table in the configuration: it enables this";
    let list = list.ok_or(refuse(StatusCode::NOT_FOUND, detail))?;
    if *method == Method::GET || *method == Method::HEAD {
        let limit = limit(uri)?;
        return on_a_thread(move || list.list(limit)).await.map(|json| content(StatusCode::OK, JSON, json));
    }
    if *method != Method::POST && *method != Method::DELETE {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "only GET, HEAD, POST and DELETE"));
    }
    if !is_json(headers) {
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be of Content-Type: application/json"));
    }
    let body = body?;
    if *method == Method::POST {
        return on_a_thread(move || list.add(&body)).await.map(|json| content(StatusCode::CREATED, JSON, json));
    }
    on_a_thread(move || list.remove(&body)).await.map(|()| {
        let mut gone = content(StatusCode::NO_CONTENT, JSON, Bytes::new());
        gone.headers_mut().remove(header::CONTENT_TYPE);
        gone
    })
}

pub(super) const JSON: &str = "application/json";

/// A list of a million entries takes its time, and so does a disk; neither may hold up the control thread. Cancelling loses the answer, not
/// what was begun.
async fn on_a_thread<T: Send + 'static>(
    ask: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::task::spawn_blocking(ask).await {
        Ok(answer) => answer.map_err(Refusal::from),
        Err(error) => {
            tracing::error!(%error, "a request for /revocations panicked");
            Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "the request failed inside; the log has more"))
        }
    }
}

/// A page can't leave `Origin` out of what changes something, and can't choose a `Host` that is an address.
pub(super) fn no_browser(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.contains_key(header::ORIGIN) {
        return Err(refuse(StatusCode::FORBIDDEN, "requests from web pages (those with an Origin) are refused"));
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).filter(|_| hosts.next().is_none());
    if host.is_some_and(is_local_name) {
        return Ok(());
    }
    Err(refuse(StatusCode::FORBIDDEN, "the Host must be an IP address or localhost: a name could be a web page's"))
}

fn is_local_name(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let bracketed = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let known = match bracketed {
        Some(address) => address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    };
    known && port.bytes().all(|digit| digit.is_ascii_digit())
}

pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON))
}

fn limit(uri: &Uri) -> Result<usize, Refusal> {
    let Some(query) = uri.query() else { return Ok(LISTED) };
    let limit = query.strip_prefix("limit=").and_then(|limit| limit.parse().ok());
    let detail = "the query is limit=NUMBER, 0 to 10000, or nothing";
    limit.filter(|limit| *limit <= MOST_LISTED).ok_or_else(|| refuse(StatusCode::BAD_REQUEST, detail))
}

/// A body within the bound. One beyond it is still read for a while: an answer to a client that is sending may get lost.
pub(super) async fn read<B: Body<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, Refusal> {
    let (mut kept, mut seen) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| refuse(StatusCode::BAD_REQUEST, "the body broke off"))?;
        let Ok(data) = frame.into_data() else { continue };
        seen = seen.saturating_add(data.len());
        if seen > MOST_DISCARDED {
            break;
        }
        if seen <= MOST_BODY {
            kept.extend_from_slice(&data);
        }
    }
    if seen > MOST_BODY {
        return Err(refuse(StatusCode::PAYLOAD_TOO_LARGE, "a body has at most 65536 bytes"));
    }
    Ok(kept.into())
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        let code = match refused.why {
            Why::Unknown => StatusCode::NOT_FOUND,
            Why::Malformed => StatusCode::BAD_REQUEST,
            Why::Conflict => StatusCode::CONFLICT,
            Why::Full => StatusCode::INSUFFICIENT_STORAGE,
            Why::Failed => StatusCode::SERVICE_UNAVAILABLE,
            Why::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
        };
        Self { code, detail: refused.detail.into() }
    }
}

pub(super) fn refuse(code: StatusCode, detail: &'static str) -> Refusal {
    Refusal { code, detail: detail.into() }
}

impl Refusal {
    /// RFC 9457.
    pub(super) fn answer(self) -> Answer {
        let Self { code, detail } = self;
        let title = code.canonical_reason().unwrap_or_default();
        let json =
            serde_json::json!({ "type": "about:blank", "title": title, "status": code.as_u16(), "detail": detail });
        let mut answer = content(code, "application/problem+json", format!("{json}\n"));
        if code == StatusCode::METHOD_NOT_ALLOWED {
            answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD, POST, DELETE"));
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    /// Remembers bodies.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Revocations for Notes {
        fn list(&self, limit: usize) -> Result<String, Refused> {
            Ok(format!("{limit}"))
        }

        fn add(&self, body: &[u8]) -> Result<String, Refused> {
            self.0.lock().unwrap().push(String::from_utf8(body.to_vec()).unwrap());
            Ok("{}".to_owned())
        }

        fn remove(&self, body: &[u8]) -> Result<(), Refused> {
            match body {
                b"known" => Ok(()),
                b"panic" => panic!("part of the test"),
                _ => Err(Refused { why: Why::Unknown, detail: "there is none".to_owned() }),
            }
        }

        fn count(&self) -> Option<usize> {
            Some(self.0.lock().unwrap().len())
        }
    }

    async fn ask(notes: &Arc<Notes>, method: &str, uri: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> u16 {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let list: Arc<dyn Revocations> = Arc::clone(notes) as _;
        answer(Some(list), request.body(Full::new(body.into())).unwrap()).await.status().as_u16()
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:9180");
    const TYPE: (&str, &str) = ("content-type", "application/json");

    #[tokio::test]
    async fn each_method_has_its_answer() {
        let notes = Arc::<Notes>::default();
        assert_eq!(ask(&notes, "GET", "/revocations", &[HOST], "").await, 200);
        assert_eq!(ask(&notes, "GET", "/revocations?limit=5", &[HOST], "").await, 200);
        for query in ["limit=10001", "limit=", "limit=-1", "x", ""] {
            assert_eq!(ask(&notes, "GET", &format!("/revocations?{query}"), &[HOST], "").await, 400, "{query}");
        }
        assert_eq!(ask(&notes, "POST", "/revocations", &[HOST, TYPE], "one").await, 201);
        assert_eq!(ask(&notes, "DELETE", "/revocations", &[HOST, TYPE], "known").await, 204);
        assert_eq!(ask(&notes, "DELETE", "/revocations", &[HOST, TYPE], "other").await, 404);
        assert_eq!(ask(&notes, "DELETE", "/revocations", &[HOST, TYPE], "panic").await, 500);
        assert_eq!(ask(&notes, "PUT", "/revocations", &[HOST, TYPE], "one").await, 405);
        assert_eq!(*notes.0.lock().unwrap(), ["one"]);
    }

    #[tokio::test]
    async fn what_a_web_page_can_send_is_refused() {
        let notes = Arc::<Notes>::default();
        let plain = ("content-type", "text/plain");
        for (fields, code) in [
            (&[HOST, TYPE, ("origin", "http://127.0.0.1:9180")][..], 403),
            (&[HOST, TYPE, ("origin", "null")], 403),
            (&[("host", "evil.example"), TYPE], 403),
            (&[("host", "localhost.evil.example"), TYPE], 403),
            (&[("host", "127.0.0.1.evil.example:9180"), TYPE], 403),
            (&[("host", "127.0.0.1:9180@evil.example"), TYPE], 403),
            (&[("host", "[::1].evil.example"), TYPE], 403),
            (&[("host", ""), TYPE], 403),
            (&[HOST, HOST, TYPE], 403),
            (&[TYPE], 403),
            (&[HOST], 415),
            (&[HOST, plain], 415),
            (&[HOST, ("content-type", "application/x-www-form-urlencoded")], 415),
            (&[HOST, ("content-type", "application/jsonp")], 415),
        ] {
            for method in ["POST", "DELETE"] {
                assert_eq!(ask(&notes, method, "/revocations", fields, "known").await, code, "{fields:?}");
            }
        }
        assert_eq!(ask(&notes, "GET", "/revocations", &[("host", "evil.example")], "").await, 403);
        assert_eq!(notes.count(), Some(0));
        for host in ["localhost", "LOCALHOST:9180", "127.0.0.1", "[::1]:9180", "[::1]", "10.0.0.5:80"] {
            assert_eq!(ask(&notes, "POST", "/revocations", &[("host", host), TYPE], "x").await, 201, "{host}");
        }
        let charset = ("content-type", "Application/JSON; charset=utf-8");
        assert_eq!(ask(&notes, "POST", "/revocations", &[HOST, charset], "x").await, 201);
    }

    #[tokio::test]
    async fn a_body_has_at_most_64_kib() {
        let notes = Arc::<Notes>::default();
        assert_eq!(ask(&notes, "POST", "/revocations", &[HOST, TYPE], vec![b'x'; MOST_BODY]).await, 201);
        assert_eq!(ask(&notes, "POST", "/revocations", &[HOST, TYPE], vec![b'x'; MOST_BODY + 1]).await, 413);
        assert_eq!(ask(&notes, "POST", "/revocations", &[HOST, TYPE], vec![b'x'; MOST_DISCARDED + 1]).await, 413);
        assert_eq!(notes.count(), Some(1));
    }

    #[tokio::test]
    async fn without_a_list_the_answer_names_the_table_that_enables_it() {
        let request = Request::get("/revocations").header("host", "localhost").body(Full::new(Bytes::new())).unwrap();
        let answer = answer(None, request).await;
        assert_eq!(
            (answer.status().as_u16(), answer.headers()["content-type"].as_bytes()),
            (404, &b"application/problem+json"[..])
        );
        let mut body = answer.into_body();
        let text = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(String::from_utf8_lossy(&text).contains("[revocation]"));
    }
}
