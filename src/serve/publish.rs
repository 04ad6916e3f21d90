//! Documents of the gateway's own: how one is served.
//!
//! Answers GET and HEAD, with an entity tag (RFC 9110 sections 8.8.3 and 13.1.2). Refuses to know what a document says; it is the same
//! for everybody, so shared caches may keep it.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use super::failure::Failure;
use crate::http::Body;
use crate::http::conditional::{Validators, Verdict, evaluate};
use crate::snapshot::Document;

/// Short enough for a new key to be known before much is signed with it.
const CACHE_CONTROL: HeaderValue = HeaderValue::from_static("public, max-age=300");
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

/// The document, a 304, or why it is neither.
pub(super) fn answer(document: &Document, method: &Method, asked: &HeaderMap) -> Result<Response<Body>, Failure> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Failure::ReadOnly);
    }
    let validators = Validators { etag: document.etag.clone(), modified_secs: None, settled: false };
    let not_modified = match evaluate(asked, &validators) {
        Verdict::Proceed => false,
        Verdict::NotModified => true,
        Verdict::Failed => return Err(Failure::PreconditionFailed),
    };
    let silent = not_modified || *method == Method::HEAD;
    let mut response = Response::new(if silent { Body::empty() } else { Body::full(document.body.clone()) });
    if not_modified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(header::ETAG, document.etag.clone());
    headers.insert(header::CACHE_CONTROL, CACHE_CONTROL);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if !not_modified {
        headers.insert(header::CONTENT_TYPE, document.media_type.clone());
        headers.insert(header::CONTENT_LENGTH, document.body.len().into());
    }
    Ok(response)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body::Body as _;

    use super::*;

    fn document() -> Document {
        Document {
            media_type: HeaderValue::from_static("application/json"),
            body: Bytes::from_static(b"{}"),
            etag: HeaderValue::from_static("\"a\""),
        }
    }

    fn asked(method: &Method, fields: &[(header::HeaderName, &'static str)]) -> Result<Response<Body>, Failure> {
        let fields = fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_static(value)));
        answer(&document(), method, &fields.collect())
    }

    #[test]
    fn get_and_head_say_the_same_of_it() {
        let whole = asked(&Method::GET, &[]).expect("an answer");
        let head = asked(&Method::HEAD, &[]).expect("an answer");
        assert_eq!(whole.headers(), head.headers());
        assert_eq!(whole.headers()[header::CONTENT_LENGTH], "2");
        assert_eq!(whole.headers()[header::CACHE_CONTROL], "public, max-age=300");
        assert_eq!((whole.body().size_hint().exact(), head.body().size_hint().exact()), (Some(2), Some(0)));
    }

    #[test]
    fn who_has_it_already_is_told_so() {
        let known = asked(&Method::GET, &[(header::IF_NONE_MATCH, "\"b\", W/\"a\"")]).expect("an answer");
        assert_eq!((known.status(), known.body().size_hint().exact()), (StatusCode::NOT_MODIFIED, Some(0)));
        assert_eq!(known.headers()[header::ETAG], "\"a\"");
        assert!(!known.headers().contains_key(header::CONTENT_LENGTH));
        let other = asked(&Method::GET, &[(header::IF_NONE_MATCH, "\"b\"")]).expect("an answer");
        assert_eq!(other.status(), StatusCode::OK);
        assert!(matches!(asked(&Method::GET, &[(header::IF_MATCH, "\"b\"")]), Err(Failure::PreconditionFailed)));
    }

    #[test]
    fn nobody_changes_it() {
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
            assert!(matches!(asked(&method, &[]), Err(Failure::ReadOnly)), "{method}");
        }
    }
}
