//! Every rule by itself: an answer that would be compressed, and what keeps it from that.

use http_body_util::BodyExt as _;

use super::super::endless::Endless;
use super::*;
use crate::http::compress::{MediaRange, MediaRanges};
use crate::observe::{CODINGS, Metrics, Vocabulary};

type Fields<'f> = &'f [(&'static str, &'static str)];

const TEXT: &str = "a text that is worth it, a text that is worth it, a text that is worth it";
const ALL: (&str, &str) = ("accept-encoding", "gzip, br, zstd");
const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

fn settings() -> CompressSettings {
    CompressSettings { min_bytes: 20, ..CompressSettings::default() }
}

fn wanted(method: Method, version: Version, fields: Fields<'_>) -> Wanted {
    let mut request = http::Request::builder().method(method).version(version);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    Wanted::read(&settings(), &request.body(()).unwrap().into_parts().0, false)
}

fn get(fields: Fields<'_>) -> Wanted {
    wanted(Method::GET, Version::HTTP_11, fields)
}

fn says(status: u16, fields: Fields<'_>, body: Body) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(*name, *value);
    }
    response.body(body).unwrap()
}

fn html(more: Fields<'_>) -> Response<Body> {
    says(200, &[&[HTML], more].concat(), Body::full(TEXT))
}

struct World {
    settings: CompressSettings,
    mixes: bool,
    room: Room,
    metrics: std::sync::Arc<Metrics>,
}

impl World {
    fn new() -> Self {
        let metrics = Metrics::new(Vocabulary { auth_reasons: &[], malformed_reasons: &[] });
        Self { settings: settings(), mixes: true, room: Room::new(1), metrics }
    }

    /// The answer as it goes out.
    fn answer(&self, wanted: &Wanted, mut response: Response<Body>) -> Response<Body> {
        let meter = &self.metrics.route(0, "r");
        let Self { settings, mixes, room, .. } = self;
        Rules { settings, mixes: *mixes, meter, room }.apply(&mut response, wanted);
        response
    }

    /// The coding it goes out in.
    fn coding(&self, wanted: &Wanted, response: Response<Body>) -> Option<String> {
        field(&self.answer(wanted, response), "content-encoding")
    }
}

fn field(response: &Response<Body>, name: &str) -> Option<String> {
    response.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn an_answer_is_compressed_in_the_coding_that_the_client_takes_and_the_route_prefers() {
    let world = World::new();
    for (accepted, coding) in [
        ("gzip, br, zstd", Some("zstd")),
        ("gzip, br", Some("br")),
        ("gzip", Some("gzip")),
        ("zstd;q=0.5, gzip", Some("gzip")),
        ("identity", None),
        ("deflate", None),
        ("gzip;q=0", None),
    ] {
        let wanted = get(&[("accept-encoding", accepted)]);
        assert_eq!(world.coding(&wanted, html(&[])).as_deref(), coding, "{accepted}");
    }
    assert_eq!(world.coding(&get(&[]), html(&[])), None, "who says nothing gets what there is");
}

#[test]
fn what_was_true_of_the_bytes_alone_is_said_no_more() {
    let told = [
        ("content-length", "73"),
        ("accept-ranges", "bytes"),
        ("etag", "\"v1\""),
        ("content-md5", "x"),
        ("digest", "x"),
        ("content-digest", "x"),
        ("repr-digest", "x"),
        ("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT"),
    ];
    let answer = World::new().answer(&get(&[ALL]), html(&told));
    let mut names: Vec<_> = answer.headers().keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["content-encoding", "content-type", "etag", "last-modified", "vary"]);
    assert_eq!(field(&answer, "etag").as_deref(), Some("W/\"v1\""));
    assert_eq!(answer.body().size_hint().exact(), None);
    let weak = World::new().answer(&get(&[ALL]), html(&[("etag", "W/\"v1\"")]));
    assert_eq!(field(&weak, "etag").as_deref(), Some("W/\"v1\""));
    assert_eq!(field(&World::new().answer(&get(&[ALL]), html(&[("etag", "v1")])), "etag"), None, "it is no tag");
}

#[test]
fn an_answer_that_is_not_compressed_keeps_all_it_says() {
    let told = [("content-length", "73"), ("etag", "\"v1\""), ("accept-ranges", "bytes"), ("content-digest", "x")];
    let answer = World::new().answer(&get(&[]), html(&told));
    for (name, value) in told {
        assert_eq!(field(&answer, name).as_deref(), Some(value));
    }
}

#[test]
fn rfc9110_12_5_5_every_answer_of_the_kind_says_what_it_depends_on() {
    let world = World::new();
    let vary = |wanted: &Wanted, response| {
        let answer = world.answer(wanted, response);
        let lines: Vec<_> =
            answer.headers().get_all("vary").iter().map(|line| line.to_str().unwrap().to_owned()).collect();
        lines.join(" | ")
    };
    let none = get(&[]);
    for wanted in [&none, &get(&[ALL]), &get(&[ALL, ("cookie", "a=b")])] {
        assert_eq!(vary(wanted, html(&[])), "Accept-Encoding");
        assert_eq!(vary(wanted, says(304, &[], Body::empty())), "Accept-Encoding");
    }
    assert_eq!(vary(&none, html(&[("vary", "Origin"), ("vary", "Cookie")])), "Origin, Cookie, Accept-Encoding");
    assert_eq!(vary(&none, html(&[("vary", "accept-encoding, Origin")])), "accept-encoding, Origin");
    assert_eq!(vary(&none, html(&[("vary", "*")])), "*");
    assert_eq!(vary(&none, html(&[("content-encoding", "gzip")])), "Accept-Encoding");
    assert_eq!(vary(&none, says(206, &[HTML, ("content-range", "bytes 0-1/9")], Body::full("ab"))), "Accept-Encoding");
    assert_eq!(vary(&none, says(200, &[("content-type", "image/png")], Body::full(TEXT))), "");
    assert_eq!(vary(&none, says(204, &[HTML], Body::empty())), "");
}

#[test]
fn a_304_has_the_tag_of_the_answer_that_the_client_holds() {
    let world = World::new();
    for (held, tag, told) in [
        ("W/\"v1\"", "\"v1\"", "W/\"v1\""),
        ("\"v0\", W/\"v1\"", "\"v1\"", "W/\"v1\""),
        ("\"v1\"", "\"v1\"", "\"v1\""),
        ("*", "\"v1\"", "\"v1\""),
        ("W/\"v1\"", "W/\"v1\"", "W/\"v1\""),
    ] {
        let answer = world.answer(&get(&[ALL, ("if-none-match", held)]), says(304, &[("etag", tag)], Body::empty()));
        assert_eq!(field(&answer, "etag").as_deref(), Some(told), "{held} {tag}");
        assert_eq!(field(&answer, "content-encoding"), None);
    }
}

#[test]
fn what_is_encoded_already_stays_so() {
    for coding in ["gzip", "br", "identity", "compress"] {
        let answer = World::new().answer(&get(&[ALL]), html(&[("content-encoding", coding)]));
        assert_eq!(field(&answer, "content-encoding").as_deref(), Some(coding));
        assert_eq!(answer.body().size_hint().exact(), Some(TEXT.len() as u64));
    }
}

#[test]
fn no_transform_is_obeyed() {
    for directives in ["no-transform", "public, No-Transform, max-age=60"] {
        let answer = World::new().answer(&get(&[ALL]), html(&[("cache-control", directives)]));
        assert_eq!((field(&answer, "content-encoding"), field(&answer, "vary")), (None, None), "{directives}");
    }
    let named = html(&[("cache-control", "private=\"no-transform\"")]);
    assert!(World::new().coding(&get(&[ALL]), named).is_some(), "a name in quotes is no directive");
}

#[test]
fn answers_without_content_or_with_a_part_of_it_stay_as_they_are() {
    for status in [101, 204, 205, 206, 304, 416] {
        assert_eq!(World::new().coding(&get(&[ALL]), says(status, &[HTML], Body::full(TEXT))), None, "{status}");
    }
    assert_eq!(World::new().coding(&get(&[ALL]), html(&[("content-range", "bytes 0-72/99")])), None);
    for status in [200, 201, 203, 404, 500, 503] {
        assert!(World::new().coding(&get(&[ALL]), says(status, &[HTML], Body::full(TEXT))).is_some(), "{status}");
    }
}

#[test]
fn what_is_known_to_be_short_stays_as_it_is() {
    let world = World::new();
    let of = |bytes: usize| says(200, &[HTML], Body::full(TEXT[..bytes].to_owned()));
    assert_eq!(world.coding(&get(&[ALL]), of(19)), None);
    assert!(world.coding(&get(&[ALL]), of(20)).is_some());
    assert!(World::new().coding(&get(&[ALL]), says(200, &[HTML], Body::stream(Endless))).is_some(), "nobody knows");
    let all = World { settings: CompressSettings { min_bytes: 0, ..settings() }, ..World::new() };
    assert_eq!(all.coding(&get(&[ALL]), says(200, &[HTML], Body::empty())), None, "nothing becomes no more");
}

#[test]
fn only_listed_kinds_are_compressed_and_events_only_by_their_name() {
    let of = |kind: &'static str| says(200, &[("content-type", kind)], Body::full(TEXT));
    for kind in
        ["image/png", "application/octet-stream", "text/event-stream", "application/grpc", "application/grpc+json"]
    {
        assert_eq!(World::new().coding(&get(&[ALL]), of(kind)), None, "{kind}");
    }
    assert_eq!(World::new().coding(&get(&[ALL]), says(200, &[], Body::full(TEXT))), None, "of no kind");
    let named = ["text/event-stream", "application/*+json"].map(|text| MediaRange::parse(text).unwrap());
    let types = MediaRanges::new(named.to_vec());
    let world = World { settings: CompressSettings { types, ..settings() }, ..World::new() };
    assert!(world.coding(&get(&[ALL]), of("text/event-stream")).is_some());
    assert_eq!(world.coding(&get(&[ALL]), of("application/grpc+json")), None, "calls have codings of their own");
}

#[test]
fn what_a_browser_sends_by_itself_keeps_an_answer_from_being_compressed() {
    let world = || World::new();
    for field in [("cookie", "session=1"), ("authorization", "Basic YTpi"), ("authorization", "Negotiate x")] {
        assert_eq!(world().coding(&get(&[ALL, field]), html(&[])), None, "{field:?}");
    }
    for field in [("authorization", "Bearer a.b.c"), ("authorization", "dpop a.b.c"), ("x-api-key", "x")] {
        assert!(world().coding(&get(&[ALL, field]), html(&[])).is_some(), "{field:?}");
    }
    assert_eq!(world().coding(&get(&[ALL]), html(&[("set-cookie", "a=b")])), None);
    let (head, ()) = http::Request::builder().header(ALL.0, ALL.1).body(()).unwrap().into_parts();
    assert_eq!(world().coding(&Wanted::read(&settings(), &head, true), html(&[])), None, "a client certificate");
}

#[test]
fn cookies_are_no_obstacle_where_the_operator_or_the_action_says_so() {
    let wanted = get(&[ALL, ("cookie", "session=1")]);
    let forgiving = World { settings: CompressSettings { with_cookies: true, ..settings() }, ..World::new() };
    assert!(forgiving.coding(&wanted, html(&[("set-cookie", "a=b")])).is_some());
    let files = World { mixes: false, ..World::new() };
    assert!(files.coding(&wanted, html(&[])).is_some());
}

#[test]
fn rfc9110_9_3_2_head_says_what_get_would() {
    let head = wanted(Method::HEAD, Version::HTTP_11, &[ALL]);
    let told = [("content-length", "73"), ("etag", "\"v1\"")];
    for body in [Body::empty(), Body::full(TEXT)] {
        let world = World::new();
        let got = world.answer(&get(&[ALL]), html(&told));
        let answer = world.answer(&head, says(200, &[&[HTML], &told[..]].concat(), body));
        assert_eq!(answer.headers(), got.headers());
        assert!(answer.body().is_end_stream());
    }
    let short = says(200, &[HTML, ("content-length", "19")], Body::empty());
    assert_eq!(World::new().coding(&head, short), None);
    assert!(World::new().coding(&head, says(200, &[HTML], Body::empty())).is_some(), "a length that nobody knows");
}

#[test]
fn an_http_1_0_client_gets_a_length_and_no_coding() {
    let old = wanted(Method::GET, Version::HTTP_10, &[ALL]);
    let answer = World::new().answer(&old, html(&[]));
    assert_eq!((field(&answer, "content-encoding"), answer.body().size_hint().exact()), (None, Some(73)));
    assert_eq!(field(&answer, "vary").as_deref(), Some("Accept-Encoding"));
}

#[tokio::test]
async fn beyond_the_bound_answers_go_out_as_they_are_and_are_counted() {
    let world = World::new();
    let first = world.answer(&get(&[ALL]), html(&[]));
    let second = world.answer(&get(&[ALL]), html(&[("etag", "\"v1\"")]));
    assert_eq!(field(&second, "content-encoding"), None);
    assert_eq!(
        (field(&second, "etag").as_deref(), field(&second, "vary").as_deref()),
        (Some("\"v1\""), Some("Accept-Encoding"))
    );
    let mut body = first.into_body();
    while let Some(frame) = body.frame().await {
        frame.unwrap();
    }
    assert_eq!(world.coding(&get(&[ALL]), html(&[])).as_deref(), Some("zstd"), "there is room again");
    let scrape = world.metrics.encode();
    for (family, value) in [("responses", "2"), ("skipped", "1"), ("input_bytes", "73")] {
        let sample = format!("portcullis_compress_{family}_total{{");
        let line = scrape.lines().find(|line| line.starts_with(&sample)).unwrap();
        assert_eq!(line.rsplit(' ').next(), Some(value), "{line}");
    }
}

#[test]
fn every_coding_has_a_label() {
    assert_eq!(Coding::ALL.map(Coding::name), CODINGS);
}
