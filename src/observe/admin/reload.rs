//! `/reload`: asks for a reload, or for what one would do.
//!
//! Owns the exchange: who may ask, and what is answered. What a reload is belongs to whoever stands behind [`Reloads`]. As for `/revocations`
//! there is no login, so what a web page can send is refused. What whoever asks can choose is little: the name of a file beside the configuration that
//! runs, and only one whose contents it knows, so that nothing is read for it that it could not read itself.

use std::pin::Pin;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::Full;
use serde_json::Value;

use super::content;
use super::revocations::{JSON, Refusal, Refused, Why, is_json, no_browser, read, refuse};

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Whether only to say what would happen.
    pub dry_run: bool,
    /// The name of a file in the directory of the configuration, and the SHA-256 of its contents in hexadecimal.
    pub file: Option<(String, String)>,
}

/// The answer, when there is one.
pub type Answering = Pin<Box<dyn Future<Output = Result<String, Refused>> + Send>>;

/// Who reloads.
pub trait Reloads: Send + Sync {
    /// Does it and answers with JSON.
    fn ask(&self, asked: Asked) -> Answering;
}

/// The answer to a request for `/reload`.
pub(super) async fn answer<B>(reloads: &dyn Reloads, request: Request<B>) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Send + Unpin,
{
    let (head, body) = request.into_parts();
    let body = read(body).await;
    match decide(reloads, &head.method, &head.headers, body).await {
        Ok(json) => content(StatusCode::OK, JSON, json),
        Err(refusal) => {
            let mut answer = refusal.answer();
            if answer.status() == StatusCode::METHOD_NOT_ALLOWED {
                answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            answer
        }
    }
}

async fn decide(
    reloads: &dyn Reloads,
    method: &Method,
    headers: &HeaderMap,
    body: Result<Bytes, Refusal>,
) -> Result<String, Refusal> {
    no_browser(headers)?;
    if *method != Method::POST {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "only POST"));
    }
    if !is_json(headers) {
        return Err(refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must be of Content-Type: application/json"));
    }
    let asked = Asked::read(&body?).ok_or_else(|| Refused {
        why: Why::Malformed,
        detail: "the body is {}, or has the members dry_run (a boolean), and file (a name without slashes) with sha256"
            .to_owned(),
    })?;
    Ok(reloads.ask(asked).await?)
}

impl Asked {
    /// An unknown member is refused: it may be a `dry_run` that was misspelt.
    fn read(body: &[u8]) -> Option<Self> {
        let Value::Object(members) = serde_json::from_slice(body).ok()? else { return None };
        if members.keys().any(|name| !["dry_run", "file", "sha256"].contains(&&**name)) {
            return None;
        }
        let text = |name: &str| match members.get(name) {
            None => Some(None),
            Some(value) => value.as_str().map(|text| Some(text.to_owned())),
        };
        let file = match (text("file")?, text("sha256")?) {
            (None, None) => None,
            (Some(file), Some(digest)) => {
                let plain = !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\0']);
                Some((file, digest)).filter(|_| plain)?.into()
            }
            _ => return None,
        };
        let dry_run = members.get("dry_run").map_or(Some(false), Value::as_bool)?;
        Some(Self { dry_run, file })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Mutex;

    use super::*;

    /// Remembers what it was asked.
    #[derive(Default)]
    struct Notes(Mutex<Vec<Asked>>);

    impl Reloads for Notes {
        fn ask(&self, asked: Asked) -> Answering {
            let broken = asked.file.as_ref().is_some_and(|(name, _)| name == "broken.toml");
            self.0.lock().unwrap().push(asked);
            Box::pin(async move {
                let refused = Refused { why: Why::Invalid, detail: "it is broken".to_owned() };
                if broken { Err(refused) } else { Ok("{}".to_owned()) }
            })
        }
    }

    async fn ask(notes: &Notes, method: &str, fields: &[(&str, &str)], body: &'static str) -> u16 {
        let mut request = Request::builder().method(method).uri("/reload");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        answer(notes, request.body(Full::new(Bytes::from_static(body.as_bytes()))).unwrap()).await.status().as_u16()
    }

    const HOST: (&str, &str) = ("host", "127.0.0.1:9180");
    const TYPE: (&str, &str) = ("content-type", "application/json");

    #[tokio::test]
    async fn only_what_no_web_page_can_send_is_heard() {
        let notes = Notes::default();
        for (method, fields, code) in [
            ("POST", &[HOST, TYPE, ("origin", "http://127.0.0.1:9180")][..], 403),
            ("POST", &[("host", "evil.example"), TYPE], 403),
            ("POST", &[HOST], 415),
            ("POST", &[HOST, ("content-type", "text/plain")], 415),
            ("GET", &[HOST, TYPE], 405),
            ("DELETE", &[HOST, TYPE], 405),
        ] {
            assert_eq!(ask(&notes, method, fields, "{}").await, code, "{method} {fields:?}");
        }
        assert!(notes.0.lock().unwrap().is_empty());
        assert_eq!(ask(&notes, "POST", &[HOST, TYPE], "{}").await, 200);
        let broken = "{\"dry_run\":true,\"file\":\"broken.toml\",\"sha256\":\"00\"}";
        assert_eq!(ask(&notes, "POST", &[HOST, TYPE], broken).await, 422);
        assert_eq!(notes.0.lock().unwrap()[0], Asked { dry_run: false, file: None });
        assert!(notes.0.lock().unwrap()[1].dry_run);
    }

    #[tokio::test]
    async fn a_body_that_is_not_understood_does_nothing() {
        let notes = Notes::default();
        for body in [
            "",
            "[]",
            "true",
            "{\"dryrun\":true}",
            "{\"dry_run\":\"yes\"}",
            "{\"dry_run\":null}",
            "{\"file\":\"a.toml\"}",
            "{\"sha256\":\"00\"}",
            "{\"file\":1,\"sha256\":\"00\"}",
            "{\"file\":\"../a.toml\",\"sha256\":\"00\"}",
            "{\"file\":\"/etc/passwd\",\"sha256\":\"00\"}",
            "{\"file\":\"..\",\"sha256\":\"00\"}",
            "{\"file\":\"\",\"sha256\":\"00\"}",
        ] {
            assert_eq!(ask(&notes, "POST", &[HOST, TYPE], body).await, 400, "{body}");
        }
        assert!(notes.0.lock().unwrap().is_empty());
    }
}
