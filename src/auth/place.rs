//! Where the token stands: in the one place of a request that has one.
//!
//! Owns the finding and nothing of what the token says. Tokens in two places, or twice in one, are two answers to one question and
//! refused. RFC 6750 section 2, RFC 6265 section 4.2, RFC 6455 section 11.3.4.

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use percent_encoding::percent_decode;

use super::access::Place;
use super::asking::Asking;
use super::bearer::{self, Scheme};
use super::denied::{Cause, HeaderFault};

/// The protocol name that announces a token as the next one: `new WebSocket(url, ["bearer", token, "chat"])`.
pub(super) const WEBSOCKET_PROTOCOL: &str = "bearer";

/// A token and where it stood.
#[derive(Debug)]
pub(super) struct Found<'r> {
    pub(super) token: &'r [u8],
    pub(super) place: &'r Place,
    pub(super) scheme: Scheme,
}

/// The token of a request, looked for in every one of `places`.
pub(super) fn find<'r>(places: &'r [Place], asking: &Asking<'r>) -> Result<Found<'r>, Cause> {
    let mut found = None;
    for place in places {
        let Some((scheme, token)) = look(place, asking)? else { continue };
        if found.replace(Found { token, place, scheme }).is_some() {
            return Err(Cause::TwoCredentials);
        }
    }
    found.ok_or(Cause::MissingCredentials)
}

fn look<'r>(place: &Place, asking: &Asking<'r>) -> Result<Option<(Scheme, &'r [u8])>, Cause> {
    match place {
        Place::Authorization => authorization(asking.headers),
        Place::Cookie(name) if hides_cookie(asking.headers, name) => Err(Cause::TwoCredentials),
        Place::Query(name) if hides_parameter(asking.target.query(), name) => Err(Cause::TwoCredentials),
        // Some applications log out by an empty cookie instead of an expired one.
        Place::Cookie(name) => bare(only(cookies(asking.headers, name))?.filter(|token| !token.is_empty())),
        Place::Header(name) => bare(only(asking.headers.get_all(name).iter().map(HeaderValue::as_bytes))?),
        Place::Query(name) => bare(only(parameters(asking.target.query(), name))?),
        Place::WebSocketProtocol => websocket_protocol(asking.headers),
    }
}

fn authorization(headers: &HeaderMap) -> Result<Option<(Scheme, &[u8])>, Cause> {
    only(headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes))?.map_or(Ok(None), bearer::credentials)
}

fn bare(field: Option<&[u8]>) -> Result<Option<(Scheme, &[u8])>, Cause> {
    field.map(|token| Ok((Scheme::Bearer, bearer::bounded(token)?))).transpose()
}

fn only<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, Cause> {
    let first = all.next();
    if all.next().is_some() { Err(Cause::TwoCredentials) } else { Ok(first) }
}

/// The values of every cookie of this name, over all lines: a browser's own and one planted by a sibling domain look alike.
fn cookies<'r>(headers: &'r HeaderMap, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| cookie(pair.trim_ascii(), name))
}

/// Whether a cookie of this name stands behind white space in another's value, where `http.cookies` of Python begins the next.
fn hides_cookie(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';')).any(|pair| {
        let pair = pair.trim_ascii();
        memchr::memmem::find_iter(pair, name).any(|at| {
            let (before, after) = (&pair[..at], &pair[at + name.len()..]);
            before.last().is_some_and(u8::is_ascii_whitespace) && after.trim_ascii_start().starts_with(b"=")
        })
    })
}

fn parameters<'r>(query: Option<&'r str>, name: &str) -> impl Iterator<Item = &'r [u8]> {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    pairs.filter_map(move |pair| parameter(pair.as_bytes(), name))
}

/// Whether a parameter of this name stands behind a semicolon, where some servers (Rack 2, Python before 3.9.2) begin the next.
fn hides_parameter(query: Option<&str>, name: &str) -> bool {
    let pairs = query.into_iter().flat_map(|query| query.split('&'));
    pairs.flat_map(|pair| pair.split(';').skip(1)).any(|piece| parameter(piece.as_bytes(), name).is_some())
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn websocket_protocol(headers: &HeaderMap) -> Result<Option<(Scheme, &[u8])>, Cause> {
    let announced = || protocols(headers).filter(|name| *name == WEBSOCKET_PROTOCOL.as_bytes()).count();
    let mut names = protocols(headers).skip_while(|name| *name != WEBSOCKET_PROTOCOL.as_bytes());
    if names.next().is_none() {
        return Ok(None);
    }
    if announced() > 1 {
        return Err(Cause::TwoCredentials);
    }
    bare(Some(names.next().ok_or(Cause::MalformedHeader(HeaderFault::NoToken))?))
}

/// Takes the token out of what is sent on. A cookie or parameter of another name stays as it is; a field that held nothing else goes.
pub(super) fn remove(place: &Place, headers: &mut HeaderMap) {
    match place {
        Place::Authorization => drop(headers.remove(AUTHORIZATION)),
        Place::Header(name) => drop(headers.remove(name)),
        Place::Cookie(name) => rewrite(headers, &COOKIE, b"; ", |headers| {
            let pairs = headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
            let other = |pair: &&[u8]| !pair.is_empty() && cookie(pair, name).is_none();
            pairs.map(<[u8]>::trim_ascii).filter(other).map(<[u8]>::to_vec).collect()
        }),
        Place::WebSocketProtocol => rewrite(headers, &SEC_WEBSOCKET_PROTOCOL, b", ", |headers| {
            let mut after_announcement = false;
            let keep = |name: &&[u8]| {
                let token = std::mem::replace(&mut after_announcement, *name == WEBSOCKET_PROTOCOL.as_bytes());
                !token && !after_announcement
            };
            protocols(headers).filter(keep).map(<[u8]>::to_vec).collect()
        }),
        Place::Query(_) => {} // it stands in the target, which `without_parameter` makes anew
    }
}

/// The query without the parameter that held the token; `None` when nothing is left.
pub(super) fn without_parameter(query: &str, name: &str) -> Option<String> {
    let other = |pair: &&str| parameter(pair.as_bytes(), name).is_none();
    let rest: Vec<&str> = query.split('&').filter(other).collect();
    (!rest.is_empty()).then(|| rest.join("&"))
}

/// The value of a cookie that an application would call so: they strip white space around names, some of them that beyond ASCII too.
fn cookie<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let (found, value) = split(pair)?;
    let blank = |byte: &u8| byte.is_ascii_whitespace() || !byte.is_ascii();
    let start = found.iter().position(|byte| !blank(byte))?;
    let end = found.iter().rposition(|byte| !blank(byte))? + 1;
    (&found[start..end] == name.as_bytes()).then_some(value)
}

/// The value of a parameter that is called so, however its name is escaped.
fn parameter<'p>(pair: &'p [u8], name: &str) -> Option<&'p [u8]> {
    let (found, value) = split(pair)?;
    percent_decode(found).eq(name.bytes()).then_some(value)
}

fn split(pair: &[u8]) -> Option<(&[u8], &[u8])> {
    let equals = memchr::memchr(b'=', pair)?;
    Some((&pair[..equals], &pair[equals + 1..]))
}

fn rewrite(
    headers: &mut HeaderMap,
    field: &HeaderName,
    separator: &[u8],
    keep: impl FnOnce(&HeaderMap) -> Vec<Vec<u8>>,
) {
    let kept = keep(headers).join(separator);
    if kept.is_empty() {
        headers.remove(field);
        return;
    }
    let value = HeaderValue::from_bytes(&kept).expect("legal values joined by legal bytes");
    headers.insert(field, value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;

    use super::super::fixtures::Request;
    use super::*;

    fn places() -> [Place; 5] {
        [
            Place::Authorization,
            Place::Cookie("jwt".into()),
            Place::Header("x-token".parse().unwrap()),
            Place::Query("access_token".into()),
            Place::WebSocketProtocol,
        ]
    }

    fn found(uri: &str, fields: &[(&'static str, &str)]) -> Result<String, Cause> {
        let request = Request::new(Method::GET, uri, fields);
        find(&places(), &request.asking()).and_then(|found| bearer::well_formed(found.token).map(str::to_owned))
    }

    #[test]
    fn a_token_is_found_wherever_it_stands() {
        for (uri, fields) in [
            ("/", vec![("authorization", "Bearer a.b.c")]),
            ("/", vec![("cookie", "x=1; jwt=a.b.c; jwtx=2")]),
            ("/", vec![("cookie", "x=1"), ("cookie", "jwt=a.b.c")]),
            ("/", vec![("x-token", "a.b.c")]),
            ("/?q=1&access_token=a.b.c", vec![]),
            ("/?q=1;2&access_token=a.b.c", vec![("cookie", "x=y z; y = jwt; z=my jwt; zz=myjwt=1")]),
            ("/", vec![("sec-websocket-protocol", "chat, bearer, a.b.c, other")]),
            ("/", vec![("sec-websocket-protocol", "bearer"), ("sec-websocket-protocol", "a.b.c")]),
        ] {
            assert_eq!(found(uri, &fields).unwrap(), "a.b.c", "{uri} {fields:?}");
        }
    }

    #[test]
    fn tokens_in_two_places_are_two_credentials() {
        for (uri, fields) in [
            ("/", vec![("authorization", "Bearer a"), ("cookie", "jwt=a")]),
            ("/", vec![("authorization", "Bearer a"), ("authorization", "Bearer a")]),
            ("/", vec![("cookie", "jwt=a; jwt=b")]),
            ("/", vec![("cookie", "jwt=a"), ("cookie", "jwt=b")]),
            ("/", vec![("x-token", "a"), ("x-token", "b")]),
            ("/?access_token=a&access_token=a", vec![]),
            ("/?access_token=a", vec![("x-token", "a")]),
            ("/?access_token=a&access%5Ftoken=b", vec![]),
            ("/", vec![("cookie", "jwt=a; jwt =b")]),
            ("/", vec![("cookie", "jwt=a;\u{a0}jwt\t\u{2003}=b")]),
            ("/", vec![("cookie", "jwt=a; x=y jwt=b")]),
            ("/", vec![("cookie", "x=\"y\"\tjwt = b")]),
            ("/?x=y;access_token=a", vec![]),
            ("/?access_token=a&x=y;access%5Ftoken=b", vec![]),
            ("/", vec![("sec-websocket-protocol", "bearer, a, bearer, b")]),
        ] {
            assert_eq!(found(uri, &fields).unwrap_err(), Cause::TwoCredentials, "{uri} {fields:?}");
        }
    }

    #[test]
    fn what_is_not_there_is_missing_and_what_is_no_token_is_malformed() {
        for (uri, fields) in [
            ("/", vec![]),
            ("/?xaccess_token=a", vec![("cookie", "xjwt=a; jwtx=b")]),
            ("/", vec![("sec-websocket-protocol", "chat")]),
            ("/", vec![("cookie", "a=1; jwt=")]),
        ] {
            assert_eq!(found(uri, &fields).unwrap_err(), Cause::MissingCredentials, "{uri} {fields:?}");
        }
        for (uri, fields) in [
            ("/?access_token=", vec![]),
            ("/?access_token=a%2Eb", vec![]),
            ("/", vec![("cookie", "jwt=\"a.b.c\"")]),
            ("/", vec![("x-token", "Bearer a")]),
            ("/", vec![("sec-websocket-protocol", "bearer")]),
        ] {
            assert_eq!(found(uri, &fields).unwrap_err().reason(), "malformed_header", "{uri} {fields:?}");
        }
    }

    #[test]
    fn the_token_is_taken_out_and_everything_else_stays() {
        let left = |place: &Place, field: &'static str, value: &str| {
            let mut headers = HeaderMap::from_iter([(HeaderName::from_static(field), value.parse().unwrap())]);
            remove(place, &mut headers);
            headers.get(field).map(|value| value.to_str().unwrap().to_owned())
        };
        let [_, cookie, header, _, protocol] = &places();
        assert_eq!(left(cookie, "cookie", "a=1; jwt=x;b=2").unwrap(), "a=1; b=2");
        assert_eq!(left(cookie, "cookie", "jwt=x"), None);
        assert_eq!(left(header, "x-token", "x"), None);
        assert_eq!(left(protocol, "sec-websocket-protocol", "chat, bearer, x, v2").unwrap(), "chat, v2");
        assert_eq!(left(protocol, "sec-websocket-protocol", "bearer, x"), None);
        assert_eq!(without_parameter("a=1&t=x&b=2", "t").unwrap(), "a=1&b=2");
        assert_eq!(without_parameter("t=x", "t"), None);
        assert_eq!(left(cookie, "cookie", "a=1; jwt =x;jwt\u{a0}=y").unwrap(), "a=1");
        assert_eq!(without_parameter("a=%74&%74=x&%=1", "t").unwrap(), "a=%74&%=1");
    }
}
