//! Which answers go out compressed, and what they then say of themselves (RFC 9110 sections 8.4, 8.8, 12.5.3 and 12.5.5, RFC 9530).
//!
//! Owns the rules: a route must ask for it, the client must take it, nobody may have forbidden it, and nobody who is not its reader may
//! learn from its length. Refuses to know how bytes are encoded; `http::compress` does.
//!
//! The length of a compressed answer tells how much of what its sender chose is in it already. Who can have a browser ask again
//! and again, with its cookies, for a page that shows a secret beside a word of his own reads the secret so, byte by byte (BREACH). So
//! an answer to what a browser sends by itself is compressed only if the operator says that none is like that.

use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, COOKIE, ETAG,
    HeaderMap, HeaderValue, IF_NONE_MATCH, SET_COOKIE, VARY,
};
use http::{Method, Response, Version, request};
use http_body::Body as _;

use super::respond::directs;
use crate::http::Body;
use crate::http::coding::{Accepted, Coding};
use crate::http::compress::{CompressSettings, Compressed, Room, strip_digests};
use crate::http::grpc::is_grpc;
use crate::observe::RouteMeter;
use crate::snapshot::{Action, Route};

const ACCEPT_ENCODING: HeaderValue = HeaderValue::from_static("Accept-Encoding");

/// Statuses whose answers have no content of their own, or a part of it (RFC 9110 sections 15.2, 15.3.5 to 15.3.7 and 15.5.17).
const NO_CONTENT: [u16; 3] = [204, 205, 416];
const PARTIAL: u16 = 206;
const NOT_MODIFIED: u16 = 304;

/// What a request says of how its answer may come.
#[derive(Debug)]
pub(super) struct Wanted {
    coding: Option<Coding>,
    /// Whether it carries what a browser sends by itself, whoever had it ask.
    ambient: bool,
    head: bool,
    /// The tags of the answers that the client has.
    held: Option<HeaderValue>,
}

impl Wanted {
    /// Reads the request. An HTTP/1.0 client gets a length and no coding: it could not tell the end of such an answer from a
    /// connection that broke.
    pub(super) fn read(settings: &CompressSettings, head: &request::Parts, certified: bool) -> Self {
        let accepted = (head.version > Version::HTTP_10).then(|| Accepted::read(&head.headers));
        Self {
            coding: accepted.and_then(|accepted| accepted.best(settings.codings.iter().copied())),
            ambient: certified || is_ambient(&head.headers),
            head: head.method == Method::HEAD,
            held: head.headers.get(IF_NONE_MATCH).cloned(),
        }
    }
}

/// Cookies, and the schemes of `Authorization` that browsers answer by themselves once they were logged in; only scripts of a site send
/// that site's bearer tokens.
fn is_ambient(headers: &HeaderMap) -> bool {
    let by_script = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"bearer") || scheme.eq_ignore_ascii_case(b"dpop")
    };
    headers.contains_key(COOKIE) || headers.get_all(AUTHORIZATION).iter().any(|value| !by_script(value))
}

/// Compresses the answer of a route that asks for it, if it may be.
pub(super) fn answer(response: &mut Response<Body>, wanted: &Wanted, route: &Route) {
    let Some(settings) = &route.compress else { return };
    // Files and documents of the gateway's own have nothing of the request in them.
    let mixes = matches!(route.action, Action::Proxy { .. });
    Rules { settings, mixes, meter: &route.meter, room: Room::of_the_process() }.apply(response, wanted);
}

/// What holds on one route.
struct Rules<'r> {
    settings: &'r CompressSettings,
    /// Whether an answer may have both a secret and something of the request in it.
    mixes: bool,
    meter: &'r RouteMeter,
    room: &'r Room,
}

impl Rules<'_> {
    /// Compresses an answer that may be, and says what it depends on in any case.
    fn apply(&self, response: &mut Response<Body>, wanted: &Wanted) {
        let settings = self.settings;
        let status = response.status().as_u16();
        if status == NOT_MODIFIED {
            vary(response.headers_mut());
            tag_as_held(response.headers_mut(), wanted);
            return;
        }
        if status < 200 || NO_CONTENT.contains(&status) || !is_of_the_kind(response.headers(), settings) {
            return;
        }
        vary(response.headers_mut());
        let headers = response.headers();
        let encoded = headers.contains_key(CONTENT_ENCODING);
        if encoded || status == PARTIAL || headers.contains_key(CONTENT_RANGE) || self.length_tells(headers, wanted) {
            return;
        }
        let Some(coding) = wanted.coding.filter(|_| is_long_enough(response, wanted, settings)) else { return };
        if wanted.head {
            describe(response.headers_mut(), coding);
            *response.body_mut() = Body::empty();
            return;
        }
        let Some(slot) = self.room.begin() else {
            self.meter.compression_skipped();
            return;
        };
        describe(response.headers_mut(), coding);
        let meter = self.meter.compressed(coding.name());
        let told = move |bytes_in, bytes_out| meter.moved(bytes_in, bytes_out);
        let body = std::mem::take(response.body_mut());
        *response.body_mut() = Body::stream(Compressed::new(body, coding, slot, told));
    }

    fn length_tells(&self, headers: &HeaderMap, wanted: &Wanted) -> bool {
        self.mixes && !self.settings.with_cookies && (wanted.ambient || headers.contains_key(SET_COOKIE))
    }
}

/// Whether its like is compressed at all. `no-transform` is a word to every proxy (RFC 9111 section 5.2.2.6).
fn is_of_the_kind(headers: &HeaderMap, settings: &CompressSettings) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| settings.types.hold(value.as_bytes()))
        && !is_grpc(headers)
        && !directs(headers, |directive| directive.eq_ignore_ascii_case(b"no-transform"))
}

fn is_long_enough(response: &Response<Body>, wanted: &Wanted, settings: &CompressSettings) -> bool {
    let said = || response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse::<u64>().ok();
    // The body of an answer to HEAD says nothing of what that to GET would be.
    let known = if wanted.head { said() } else { response.body().size_hint().exact() };
    known.is_none_or(|length| length > 0 && length >= settings.min_bytes)
}

/// What is true of the answer in this coding.
fn describe(headers: &mut HeaderMap, coding: Coding) {
    headers.insert(CONTENT_ENCODING, coding.value());
    headers.remove(CONTENT_LENGTH);
    headers.remove(ACCEPT_RANGES); // ranges are of other bytes than these
    strip_digests(headers);
    weaken(headers);
}

/// RFC 9110 section 8.8.1: a strong tag is for these bytes and no others. One that is neither may be taken for one.
fn weaken(headers: &mut HeaderMap) {
    let Some(tag) = headers.get(ETAG) else { return };
    if tag.as_bytes().starts_with(b"W/") {
        return;
    }
    match weak(tag) {
        Some(weak) => drop(headers.insert(ETAG, weak)),
        None => drop(headers.remove(ETAG)),
    }
}

/// The weak form of a strong tag.
fn weak(tag: &HeaderValue) -> Option<HeaderValue> {
    tag.as_bytes().starts_with(b"\"").then(|| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()).flatten()
}

/// RFC 9110 section 15.4.5 and RFC 9111 section 4.3.4: a 304 has the tag of the answer that the client is told to use, and a cache looks
/// for it by a strong one.
fn tag_as_held(headers: &mut HeaderMap, wanted: &Wanted) {
    let weak = headers.get(ETAG).and_then(weak);
    let (Some(weak), Some(held)) = (weak, &wanted.held) else { return };
    if held.as_bytes().windows(weak.len()).any(|part| part == weak.as_bytes()) {
        headers.insert(ETAG, weak);
    }
}

/// RFC 9110 section 12.5.5: a cache must not give the one's answer to the other.
fn vary(headers: &mut HeaderMap) {
    let names = |value: &HeaderValue| {
        let mut names = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        names.any(|name| name == b"*" || name.eq_ignore_ascii_case(ACCEPT_ENCODING.as_bytes()))
    };
    if headers.get_all(VARY).iter().any(names) {
        return;
    }
    let lines: Vec<&[u8]> = headers.get_all(VARY).iter().map(HeaderValue::as_bytes).collect();
    let all = [lines, vec![ACCEPT_ENCODING.as_bytes()]].concat().join(&b", "[..]);
    headers.insert(VARY, HeaderValue::from_bytes(&all).unwrap_or(ACCEPT_ENCODING));
}

#[cfg(test)]
mod tests;
