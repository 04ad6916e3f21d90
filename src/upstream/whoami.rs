//! `builtin:whoami`: answers with what an upstream would have received, so that a first run needs nothing else installed.
//!
//! Reads the request's body to its end and reports its size. Secrets are shown to whoever sent them, and to nobody else:
//! the answer goes back on the same connection and is never stored.

use std::fmt::Write as _;

use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt;

use super::UpstreamFailure;
use crate::http::{Body, RequestBody};

/// The answer, once the body has been read.
pub(super) async fn answer(request: Request<RequestBody>) -> Result<Response<Body>, UpstreamFailure> {
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0usize;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| UpstreamFailure::RequestBody)?;
        body_bytes += frame.data_ref().map_or(0, bytes::Bytes::len);
    }
    let mut text = String::from("{\n");
    member(&mut text, "method", head.method.as_str());
    member(&mut text, "target", head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str));
    text.push_str("  \"headers\": {");
    let mut separator = "\n";
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        let (name, value) = (json(name.as_str()), json(&value));
        write!(text, "{separator}    {name}: {value}").expect("a string takes any text");
        separator = ",\n";
    }
    write!(text, "\n  }},\n  \"body_bytes\": {body_bytes}\n}}\n").expect("a string takes any text");
    let mut response = Response::new(Body::full(text));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn member(text: &mut String, name: &str, value: &str) {
    writeln!(text, "  {}: {},", json(name), json(value)).expect("a string takes any text");
}

fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
