//! A file in the place of an upstream's answer: the application says who may have it, the gateway sends it.
//!
//! Owns what is left of the application's answer (its cookies, its caching, its name for the download), and what is the file's own: length,
//! validators, ranges (RFC 9110 sections 8.8 and 14). An application that hands out what it may not has made a mistake, and nothing of its
//! answer is passed on. A file is sent once: what it says is never read as an order. Refuses to know which directories there are.

use std::time::{Duration, Instant};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, request};
use http_body_util::BodyExt as _;

use super::failure::Failure;
use crate::files::{FilesError, InternalRoots, NoRoot, Site};
use crate::http::handout::{self, HandoutFault};
use crate::http::{Body, hop};

const PRIVATE: HeaderValue = HeaderValue::from_static("private");
/// What Django and Flask say of an answer whose author said nothing, byte for byte.
const SAID_BY_DEFAULT: &[u8] = b"text/html; charset=utf-8";

/// Bytes of the application's own body that are read, so that its connection can be used again, and for how long.
const MOST_DISCARDED_BYTES: usize = 64 * 1024;
const DISCARD_PATIENCE: Duration = Duration::from_millis(250);

/// Why a file that was handed out is not sent. The texts are for the operator, and hold what to do.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadHandout {
    #[error("what the upstream `{upstream}` hands out cannot be read")]
    Unreadable {
        upstream: Box<str>,
        #[source]
        fault: HandoutFault,
    },
    #[error("the upstream `{upstream}` hands out {file:?}")]
    NoRoot {
        upstream: Box<str>,
        file: Box<str>,
        #[source]
        reason: NoRoot,
    },
}

/// What the client wants of a file, kept while its request is with the upstream.
#[derive(Debug)]
pub(super) struct Wish {
    method: Method,
    headers: HeaderMap,
}

impl Wish {
    /// Keeps what a file is asked for with, if one may be handed out. A request by another method becomes a GET, as it does with Nginx; its
    /// conditions were about something else.
    pub(super) fn of(head: &request::Parts, roots: &InternalRoots) -> Self {
        const KEPT: [HeaderName; 7] = [
            header::ACCEPT_ENCODING,
            header::RANGE,
            header::IF_RANGE,
            header::IF_MATCH,
            header::IF_NONE_MATCH,
            header::IF_MODIFIED_SINCE,
            header::IF_UNMODIFIED_SINCE,
        ];
        let reads = matches!(head.method, Method::GET | Method::HEAD);
        let method = if head.method == Method::HEAD { Method::HEAD } else { Method::GET };
        let mut headers = HeaderMap::new();
        let kept = if reads { &KEPT[..] } else { &KEPT[..1] };
        for name in kept.iter().filter(|_| roots.any_allowed()) {
            for value in head.headers.get_all(name) {
                headers.append(name, value.clone());
            }
        }
        if headers.get(header::RANGE).is_some_and(names_several) {
            headers.remove(header::RANGE);
        }
        Self { method, headers }
    }
}

/// Several ranges of what is handed out are answered whole (RFC 9110 section 14.2 lets a server): the parts of a `multipart/byteranges`
/// would each have the media type of the file, and the whole must not have the application's.
fn names_several(range: &HeaderValue) -> bool {
    range.as_bytes().contains(&b',')
}

/// Does what an upstream's answer says to the gateway alone, and passes nothing of that on.
pub(super) async fn heed(
    response: Response<Body>,
    internal: Option<(&InternalRoots, Wish)>,
    upstream: &str,
) -> Result<Response<Body>, Failure> {
    let (mut head, body) = response.into_parts();
    let handed_out = handout::read(&head.headers);
    handout::strip(&mut head.headers);
    if head.status != 200 || handed_out == Ok(None) {
        return Ok(Response::from_parts(head, body));
    }
    let Some((roots, wish)) = internal else {
        tracing::warn!(
            upstream,
            "the upstream hands out a file, but there is no route with `auth = \"internal\"`: its own answer was sent"
        );
        return Ok(Response::from_parts(head, body));
    };
    let (site, path) = find(roots, handed_out, upstream)?;
    let (answered, ()) = tokio::join!(site.answer(Instant::now(), &wish.method, &path, &wish.headers), discard(body));
    let mut response = answered.map_err(Failure::Files)?;
    if response.status() == 301 {
        return Err(Failure::Files(FilesError::NotFound)); // a directory: its path means nothing to the client
    }
    join(head.headers, &mut response);
    Ok(response)
}

fn find<'s>(
    roots: &'s InternalRoots,
    handed_out: Result<Option<handout::HandedOut>, HandoutFault>,
    upstream: &str,
) -> Result<(&'s Site, String), BadHandout> {
    let unreadable = |fault| BadHandout::Unreadable { upstream: upstream.into(), fault };
    let file = handed_out.map_err(unreadable)?.ok_or_else(|| unreadable(HandoutFault::NoPath))?;
    let (site, path) = roots.find(&file).map_err(|reason| {
        let file = match &file {
            handout::HandedOut::Path(path) => path.as_str().into(),
            handout::HandedOut::File(path) => path.to_string_lossy().into(),
        };
        BadHandout::NoRoot { upstream: upstream.into(), file, reason }
    })?;
    Ok((site, path))
}

/// Reads the body that nobody gets, within a bound: the connection of one that ends is used again, that of any other is closed.
async fn discard(mut body: Body) {
    let read = async {
        let mut left = MOST_DISCARDED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, bytes::Bytes::len)) else { return };
            left = rest;
        }
    };
    tokio::time::timeout(DISCARD_PATIENCE, read).await.ok(); // whatever came of it, the rest is dropped
}

/// The application's fields about its answer, and the file's about the file.
fn join(mut said: HeaderMap, response: &mut Response<Body>) {
    /// What the application says of the body that nobody gets.
    const OF_THE_BODY: [HeaderName; 11] = [
        header::CONTENT_LENGTH,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::ACCEPT_RANGES,
        header::ETAG,
        header::LAST_MODIFIED,
        header::TRAILER,
        HeaderName::from_static("digest"),
        HeaderName::from_static("content-digest"),
        HeaderName::from_static("repr-digest"),
        HeaderName::from_static("content-md5"),
    ];
    hop::strip(&mut said);
    for name in OF_THE_BODY {
        said.remove(name);
    }
    if said.get(header::CONTENT_TYPE).is_some_and(says_nothing) {
        said.remove(header::CONTENT_TYPE);
    }
    if response.status() == 304 {
        // RFC 9110 section 15.4.5: the client has these.
        for name in [header::CONTENT_TYPE, header::CONTENT_LANGUAGE, header::CONTENT_DISPOSITION] {
            said.remove(name);
        }
    }
    let headers = response.headers_mut();
    let varies: Vec<HeaderValue> = headers.get_all(header::VARY).iter().cloned().collect();
    let mut last = None;
    for (name, value) in said {
        // A name comes with the first of its values alone.
        match name {
            Some(name) => {
                headers.insert(name.clone(), value);
                last = Some(name);
            }
            None => {
                if let Some(name) = &last {
                    headers.append(name.clone(), value);
                }
            }
        }
    }
    if headers.get_all(header::VARY).iter().ne(&varies) {
        for value in varies {
            headers.append(header::VARY, value);
        }
    }
    headers.entry(header::CACHE_CONTROL).or_insert(PRIVATE);
}

/// Whether a media type is none that the application's author chose: then the file's name says more.
fn says_nothing(media_type: &HeaderValue) -> bool {
    let media_type = media_type.as_bytes().trim_ascii();
    media_type.is_empty() || media_type == SAID_BY_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, lines: &[(&'static str, &'static str)]) -> Response<Body> {
        let mut response = Response::builder().status(status);
        for (name, value) in lines {
            response = response.header(*name, *value);
        }
        response.body(Body::empty()).expect("a response")
    }

    fn joined(
        status: u16,
        said: &[(&'static str, &'static str)],
        file: &[(&'static str, &'static str)],
    ) -> Vec<String> {
        let mut response = answer(status, file);
        join(answer(200, said).headers().clone(), &mut response);
        let line = |(name, value): (&HeaderName, &HeaderValue)| format!("{name}: {}", value.to_str().expect("ASCII"));
        let mut lines: Vec<_> = response.headers().iter().map(line).collect();
        lines.sort();
        lines
    }

    const FILE: [(&str, &str); 4] = [
        ("content-type", "image/png"),
        ("content-length", "10"),
        ("etag", "\"f\""),
        ("x-content-type-options", "nosniff"),
    ];

    #[test]
    fn the_file_says_what_it_is_and_the_application_everything_else() {
        let said = [
            ("content-type", "text/html; charset=utf-8"),
            ("content-length", "0"),
            ("content-encoding", "gzip"),
            ("etag", "\"app\""),
            ("last-modified", "never"),
            ("cache-control", "max-age=5"),
            ("content-disposition", "attachment"),
            ("set-cookie", "a=1"),
            ("set-cookie", "b=2"),
            ("vary", "Cookie"),
        ];
        let expected = [
            "cache-control: max-age=5",
            "content-disposition: attachment",
            "content-length: 10",
            "content-type: image/png",
            "etag: \"f\"",
            "set-cookie: a=1",
            "set-cookie: b=2",
            "vary: Accept-Encoding",
            "vary: Cookie",
            "x-content-type-options: nosniff",
        ];
        let file = [&FILE[..], &[("vary", "Accept-Encoding")]].concat();
        assert_eq!(joined(200, &said, &file), expected);
    }

    #[test]
    fn a_media_type_that_was_chosen_stays() {
        for (said, kept) in
            [("application/pdf", true), ("text/html", true), ("", false), ("text/html; charset=utf-8", false)]
        {
            let lines = joined(200, &[("content-type", said)], &FILE);
            assert_eq!(lines.contains(&format!("content-type: {said}")), kept, "{said:?}");
            assert_eq!(lines.contains(&"content-type: image/png".to_owned()), !kept, "{said:?}");
        }
    }

    #[test]
    fn what_was_not_said_to_be_for_caches_is_private() {
        assert!(joined(200, &[], &FILE).contains(&"cache-control: private".to_owned()));
        let file = [&FILE[..], &[("cache-control", "max-age=9")]].concat();
        assert!(joined(200, &[], &file).contains(&"cache-control: max-age=9".to_owned()));
        assert!(joined(206, &[("cache-control", "no-store")], &file).contains(&"cache-control: no-store".to_owned()));
    }

    #[test]
    fn rfc9110_15_4_5_what_has_not_changed_is_not_described_again() {
        let said = [("content-type", "application/pdf"), ("content-disposition", "inline"), ("set-cookie", "a=1")];
        assert_eq!(
            joined(304, &said, &[("etag", "\"f\"")]),
            ["cache-control: private", "etag: \"f\"", "set-cookie: a=1"]
        );
    }
}
