//! From a file's facts and a request's headers to an answer.
//!
//! Owns: the order of method, preconditions and range (RFC 9110 section 13.2.2), and the headers of 200, 206, 301 and
//! 304 (sections 15.3.1, 15.3.7, 15.4.2 and 15.4.5). Refuses to know: where the bytes are; the caller hands them in.
//! Failures leave as [`FilesError`], for `serve` to answer.

use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::content::Content;
use super::error::FilesError;
use super::media_type;
use super::multipart::Multipart;
use super::open::Identity;
use super::range::{self, Ranged, Span};
use crate::http::Body;
use crate::http::coding::Coding;
use crate::http::conditional::{self, Validators, Verdict, evaluate, range_applies};

/// Everything an answer says about a file but its bytes, made once a file.
#[derive(Debug)]
pub(super) struct Representation {
    /// Length in bytes.
    size: u64,
    validators: Validators,
    /// The headers of a 200, complete.
    headers: HeaderMap,
}

/// What is sent of a representation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    Whole,
    Part(Span),
    Parts(Vec<Span>),
    NotModified,
}

impl Representation {
    /// `path` gives the media type. `wall` is now: nothing is said to have been modified later than that (section
    /// 8.8.2.1).
    pub(super) fn new(identity: &Identity, path: &str, cache_control: Option<&HeaderValue>, wall: SystemTime) -> Self {
        let size = identity.size;
        let validators = validators(identity, wall);
        let mut headers = HeaderMap::with_capacity(8);
        headers.insert(header::CONTENT_TYPE, media_type::of(path));
        headers.insert(header::CONTENT_LENGTH, size.into());
        headers.insert(header::ETAG, validators.etag.clone());
        headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
        if let Some(modified) = validators.modified_secs.and_then(conditional::http_date) {
            headers.insert(header::LAST_MODIFIED, modified);
        }
        if let Some(cache_control) = cache_control {
            headers.insert(header::CACHE_CONTROL, cache_control.clone());
        }
        Self { size, validators, headers }
    }

    /// The same contents in a coding: another representation, with a tag of its own (section 8.8.3.3).
    pub(super) fn coded(mut self, coding: Coding) -> Self {
        let tag = self.validators.etag.as_bytes();
        let tag = [&tag[..tag.len() - 1], b"-", coding.name().as_bytes(), b"\""].concat();
        self.validators.etag = HeaderValue::from_bytes(&tag).expect("a tag and a name are a value");
        self.headers.insert(header::ETAG, self.validators.etag.clone());
        self.headers.insert(header::CONTENT_ENCODING, coding.value());
        self
    }

    /// One of several between which `Accept-Encoding` decides: whichever is sent, caches must know (section 12.5.5).
    pub(super) fn varying(mut self) -> Self {
        self.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        self
    }

    /// What to send for this request, a GET or HEAD. Ranges are for GET alone (section 14.2).
    pub(super) fn plan(&self, method: &Method, headers: &HeaderMap) -> Result<Plan, FilesError> {
        match evaluate(headers, &self.validators) {
            Verdict::Failed => return Err(FilesError::PreconditionFailed),
            Verdict::NotModified => return Ok(Plan::NotModified),
            Verdict::Proceed => {}
        }
        let mut ranges = headers.get_all(header::RANGE).iter();
        let (Some(range), None, &Method::GET) = (ranges.next(), ranges.next(), method) else { return Ok(Plan::Whole) };
        if !range_applies(headers, &self.validators) {
            return Ok(Plan::Whole);
        }
        match range::read(range.as_bytes(), self.size) {
            Ranged::Whole => Ok(Plan::Whole),
            Ranged::Part(span) => Ok(Plan::Part(span)),
            // `Content-Encoding` would speak of the parts and be read as if it spoke of what holds them.
            Ranged::Parts(_) if self.headers.contains_key(header::CONTENT_ENCODING) => Ok(Plan::Whole),
            Ranged::Parts(spans) => Ok(Plan::Parts(spans)),
            Ranged::Unsatisfiable => Err(FilesError::RangeNotSatisfiable { len: self.size }),
        }
    }

    /// The answer to a plan. A HEAD or a 304 takes nothing of the content.
    pub(super) fn answer(&self, method: &Method, plan: Plan, content: Content<'_>) -> Response<Body> {
        let (status, headers, span) = match plan {
            Plan::NotModified => return answer(StatusCode::NOT_MODIFIED, self.reminder(), Body::empty()),
            Plan::Whole => (StatusCode::OK, self.headers.clone(), Span { start: 0, len: self.size }),
            Plan::Part(span) => (StatusCode::PARTIAL_CONTENT, self.headers_of(span), span),
            Plan::Parts(spans) => return self.parts(&spans, content),
        };
        let silent = *method == Method::HEAD || span.len == 0;
        answer(status, headers, if silent { Body::empty() } else { content.span(span) })
    }

    /// Only a GET has parts. Each says which it is, so the whole does not (section 15.3.7.2).
    fn parts(&self, spans: &[Span], content: Content<'_>) -> Response<Body> {
        let multipart = Multipart::new(spans, self.size, self.headers.get(header::CONTENT_TYPE));
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_LENGTH, multipart.len().into());
        headers.insert(header::CONTENT_TYPE, multipart.content_type());
        answer(StatusCode::PARTIAL_CONTENT, headers, content.parts(multipart))
    }

    /// What a 304 repeats of a 200 (section 15.4.5); `Date` is hyper's.
    fn reminder(&self) -> HeaderMap {
        const REPEATED: [HeaderName; 5] =
            [header::ETAG, header::LAST_MODIFIED, header::CACHE_CONTROL, header::VARY, header::X_CONTENT_TYPE_OPTIONS];
        let mut headers = HeaderMap::with_capacity(REPEATED.len());
        for name in REPEATED {
            if let Some(value) = self.headers.get(&name) {
                headers.insert(name, value.clone());
            }
        }
        headers
    }

    fn headers_of(&self, span: Span) -> HeaderMap {
        let range = span.content_range(self.size);
        let mut headers = self.headers.clone();
        headers.insert(header::CONTENT_LENGTH, span.len.into());
        headers
            .insert(header::CONTENT_RANGE, HeaderValue::try_from(range).expect("digits and punctuation are a value"));
        headers
    }
}

/// Everything but the unreserved characters of RFC 3986 section 2.3: a colon would make a scheme of what precedes it.
pub(super) const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The answer to a directory named without its slash: the same path with it (section 15.4.2). The reference is
/// relative, because a site does not know below which prefix it stands, and is made from the last segment of the path.
/// How long it may be kept is said as for a file: of a 301 that says nothing, browsers assume for ever (section 15.4.2).
pub(super) fn redirect_to_slash(path: &str, cache_control: Option<&HeaderValue>) -> Response<Body> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let location = format!("{}/", utf8_percent_encode(name, RESERVED));
    let mut headers = HeaderMap::with_capacity(3);
    headers.insert(header::LOCATION, HeaderValue::try_from(location).expect("percent-encoding leaves visible ASCII"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, NOSNIFF);
    if let Some(cache_control) = cache_control {
        headers.insert(header::CACHE_CONTROL, cache_control.clone());
    }
    answer(StatusCode::MOVED_PERMANENTLY, headers, Body::empty())
}

/// What we say about the type is true; a browser that guesses can be led to run what was uploaded as a picture.
const NOSNIFF: HeaderValue = HeaderValue::from_static("nosniff");

fn answer(status: StatusCode, headers: HeaderMap, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A strong tag (section 8.8.1): two states of a path share time, length and inode only if the bytes are the same, or
/// within one tick of the clock.
fn validators(identity: &Identity, wall: SystemTime) -> Validators {
    let (secs, nanos) = identity.modified;
    let tag = format!("\"{secs:x}.{nanos:x}-{:x}-{:x}\"", identity.size, identity.inode);
    let now = wall.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    Validators {
        etag: HeaderValue::try_from(tag).expect("hexadecimal digits and punctuation are a value"),
        modified_secs: u64::try_from(secs).ok().map(|secs| secs.min(now)),
        settled: identity.settled(wall),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http_body::Body as _;

    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn representation(size: u64) -> Representation {
        let identity =
            Identity { device: 1, inode: 0xbeef, size, modified: (784_111_777, 255), changed: (784_111_777, 255) };
        let cache_control = HeaderValue::from_static("max-age=60");
        Representation::new(&identity, "a.txt", Some(&cache_control), UNIX_EPOCH + Duration::from_secs(800_000_000))
    }

    fn request(lines: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn respond(method: &Method, lines: &[(HeaderName, &str)]) -> Result<Response<Body>, FilesError> {
        let representation = representation(10);
        let plan = representation.plan(method, &request(lines))?;
        Ok(representation.answer(method, plan, Content::Memory(&Bytes::from_static(b"0123456789"))))
    }

    fn lines(response: &Response<Body>) -> Vec<String> {
        let mut lines: Vec<_> =
            response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    const COMMON: [&str; 4] = [
        "cache-control: max-age=60",
        "etag: \"2ebc98a1.ff-a-beef\"",
        "last-modified: Sun, 06 Nov 1994 08:49:37 GMT",
        "x-content-type-options: nosniff",
    ];

    fn with_common(more: &[&str]) -> Vec<String> {
        let mut lines: Vec<_> = COMMON.iter().chain(more).map(|line| (*line).to_owned()).collect();
        lines.sort();
        lines
    }

    #[test]
    fn rfc9110_9_3_1_get_is_answered_with_the_whole() {
        let response = respond(&Method::GET, &[]).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(
            lines(&response),
            with_common(&["accept-ranges: bytes", "content-length: 10", "content-type: text/plain; charset=utf-8"])
        );
        assert_eq!(response.body().size_hint().exact(), Some(10));
    }

    #[test]
    fn rfc9110_9_3_2_head_has_the_headers_of_get_and_no_body() {
        let head = respond(&Method::HEAD, &[]).unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(lines(&head), lines(&respond(&Method::GET, &[]).unwrap()));
        assert_eq!(head.body().size_hint().exact(), Some(0));
    }

    #[test]
    fn rfc9110_14_2_range_on_head_is_ignored() {
        let response = respond(&Method::HEAD, &[(header::RANGE, "bytes=0-1")]).unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()[header::CONTENT_LENGTH], "10");
        assert_eq!(respond(&Method::HEAD, &[(header::RANGE, "bytes=10-")]).unwrap().status(), 200);
    }

    #[test]
    fn rfc9110_15_3_7_a_part_says_which_and_how_long() {
        let response = respond(&Method::GET, &[(header::RANGE, "bytes=2-4")]).unwrap();
        assert_eq!(response.status(), 206);
        assert_eq!(
            lines(&response),
            with_common(&[
                "accept-ranges: bytes",
                "content-length: 3",
                "content-range: bytes 2-4/10",
                "content-type: text/plain; charset=utf-8"
            ])
        );
        assert_eq!(response.body().size_hint().exact(), Some(3));
    }

    #[test]
    fn rfc9110_15_3_7_2_several_parts_say_of_the_whole_how_long_it_is() {
        let representation = representation(1000);
        let headers = request(&[(header::RANGE, "bytes=0-0,-1")]);
        let plan = representation.plan(&Method::GET, &headers).unwrap();
        let response = representation.answer(&Method::GET, plan, Content::Memory(&vec![b'x'; 1000].into()));
        assert_eq!(response.status(), 206);
        let length = response.headers()[header::CONTENT_LENGTH].to_str().unwrap().parse().ok();
        assert_eq!(response.body().size_hint().exact(), length);
        assert!(!response.headers().contains_key(header::CONTENT_RANGE));
        assert!(
            response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("multipart/byteranges; boundary=")
        );
        for common in ["cache-control: max-age=60", "etag: \"2ebc98a1.ff-3e8-beef\"", "accept-ranges: bytes"] {
            assert!(lines(&response).iter().any(|line| line == common), "{common}");
        }
        let coded = representation.coded(Coding::Gzip);
        assert_eq!(coded.plan(&Method::GET, &headers).unwrap(), Plan::Whole);
        assert_eq!(coded.plan(&Method::HEAD, &headers).unwrap(), Plan::Whole);
    }

    #[test]
    fn rfc9110_15_5_17_a_range_outside_is_refused_with_the_length() {
        let refused = respond(&Method::GET, &[(header::RANGE, "bytes=10-")]);
        assert!(matches!(refused, Err(FilesError::RangeNotSatisfiable { len: 10 })));
    }

    #[test]
    fn rfc9110_14_2_a_range_that_came_twice_is_ignored() {
        let response = respond(&Method::GET, &[(header::RANGE, "bytes=0-1"), (header::RANGE, "bytes=0-1")]).unwrap();
        assert_eq!(response.status(), 200);
    }

    #[test]
    fn rfc9110_13_1_5_if_range_decides_between_part_and_whole() {
        let status = |validator| {
            respond(&Method::GET, &[(header::RANGE, "bytes=0-1"), (header::IF_RANGE, validator)]).unwrap().status()
        };
        assert_eq!(status("\"2ebc98a1.ff-a-beef\""), 206);
        assert_eq!(status(MODIFIED), 206);
        assert_eq!(status("\"other\""), 200);
        let outside = respond(&Method::GET, &[(header::RANGE, "bytes=99-"), (header::IF_RANGE, "\"other\"")]);
        assert_eq!(outside.unwrap().status(), 200);
    }

    #[test]
    fn rfc9110_15_4_5_not_modified_repeats_validators_and_caching() {
        for method in [Method::GET, Method::HEAD] {
            let response = respond(&method, &[(header::IF_NONE_MATCH, "*"), (header::RANGE, "bytes=0-1")]).unwrap();
            assert_eq!(response.status(), 304);
            assert_eq!(lines(&response), with_common(&[]));
            assert!(response.body().is_end_stream());
        }
    }

    #[test]
    fn rfc9110_15_4_5_vary_is_repeated_and_8_8_3_3_tags_differ_with_the_coding() {
        let representation = representation(10).coded(Coding::Brotli).varying();
        let headers = request(&[(header::IF_NONE_MATCH, "\"2ebc98a1.ff-a-beef-br\"")]);
        let plan = representation.plan(&Method::GET, &headers).unwrap();
        assert_eq!(plan, Plan::NotModified);
        let response = representation.answer(&Method::GET, plan, Content::Memory(&Bytes::new()));
        assert_eq!(response.headers()[header::VARY], "Accept-Encoding");
        assert!(!response.headers().contains_key(header::CONTENT_ENCODING));
    }

    #[test]
    fn rfc9110_13_2_2_a_failed_precondition_comes_before_the_range() {
        let refused = respond(&Method::GET, &[(header::IF_MATCH, "\"other\""), (header::RANGE, "bytes=99-")]);
        assert!(matches!(refused, Err(FilesError::PreconditionFailed)));
    }

    #[test]
    fn rfc9110_8_8_2_1_no_file_was_modified_in_the_future_or_before_the_epoch() {
        let wall = UNIX_EPOCH + Duration::from_secs(784_111_777);
        let at = |secs| {
            let identity = Identity { device: 1, inode: 1, size: 1, modified: (secs, 0), changed: (0, 0) };
            let representation = Representation::new(&identity, "a", None, wall);
            representation.headers.get(header::LAST_MODIFIED).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(at(i64::MAX).as_deref(), Some(MODIFIED));
        assert_eq!(at(0).as_deref(), Some("Thu, 01 Jan 1970 00:00:00 GMT"));
        assert_eq!(at(-1), None);
    }

    #[test]
    fn rfc9110_15_4_2_a_directory_redirects_to_its_last_segment_and_a_slash() {
        for (path, location) in
            [("docs", "docs/"), ("a/docs", "docs/"), ("a:b", "a%3Ab/"), ("a/ü \"\r\n?#", "%C3%BC%20%22%0D%0A%3F%23/")]
        {
            let response = redirect_to_slash(path, Some(&HeaderValue::from_static("max-age=60")));
            assert_eq!(response.status(), 301);
            assert_eq!(response.headers()[header::CACHE_CONTROL], "max-age=60");
            assert_eq!(response.headers()[header::LOCATION], location);
            assert_eq!(response.headers()[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            assert!(response.body().is_end_stream());
        }
    }
}
