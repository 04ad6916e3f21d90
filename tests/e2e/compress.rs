//! Compression: what goes out in a coding, what never does, and that nothing is held back or passed off as whole.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::support::client::{Client, get};
use crate::support::gateway::{BINARY, Gateway, Setup, route};
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::wire::Message;
use crate::support::within;

const ALL: (&str, &str) = ("accept-encoding", "gzip, deflate, br, zstd");
const PAGE: &str = "Content-Type: text/html; charset=utf-8\r\nETag: \"v1\"\r\nAccept-Ranges: bytes\r\nContent-Digest: sha-256=:AA==:\r\n";

fn text() -> String {
    (0..400).map(|number| format!("<li>the item with the number {number}</li>")).collect::<Vec<_>>().concat()
}

/// An answer with a length.
fn answer(fields: &str, body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len())
}

fn decoded(coding: Option<&str>, bytes: &[u8]) -> String {
    let mut text = String::new();
    let read = match coding {
        None => return String::from_utf8(bytes.to_vec()).unwrap(),
        Some("zstd") => zstd::stream::read::Decoder::new(bytes).unwrap().read_to_string(&mut text),
        Some("br") => brotli::Decompressor::new(bytes, 4096).read_to_string(&mut text),
        Some("gzip") => flate2::read::GzDecoder::new(bytes).read_to_string(&mut text),
        Some(other) => panic!("{other} was not asked for"),
    };
    read.unwrap_or_else(|error| panic!("{coding:?}: {error}"));
    text
}

/// What can be read of gzip that has not ended.
fn gunzipped_so_far(bytes: &[u8]) -> String {
    let (mut reader, mut text, mut piece) = (flate2::read::GzDecoder::new(bytes), Vec::new(), [0; 256]);
    while let Ok(read @ 1..) = reader.read(&mut piece) {
        text.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(text).unwrap()
}

/// The data of the chunks that have come, the last of which may be cut.
fn dechunked_so_far(mut raw: &[u8]) -> Vec<u8> {
    let mut data = Vec::new();
    while let Some(end) = raw.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..end]).unwrap(), 16).unwrap();
        let rest = &raw[end + 2..];
        data.extend_from_slice(&rest[..size.min(rest.len())]);
        raw = rest.get(size + 2..).unwrap_or_default();
    }
    data
}

/// The same request over HTTP/1.1 and over HTTP/2: what the answers say of their content is one.
async fn ask(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)]) -> Message {
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let one = Client::tls(gateway).await.by(method, path, &lines.concat()).await;
    let mut sender = h2::connect(gateway).await;
    let response = h2::answer(&mut sender, h2::request(method, path, fields)).await;
    assert_eq!(one.status(), response.status().as_u16());
    for name in ["content-encoding", "content-length", "vary", "etag", "accept-ranges", "content-digest"] {
        let two = response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!(one.field(name), two, "{name} of {method} {path} {fields:?}");
    }
    let two = within("a body", response.into_body().collect()).await.unwrap().to_bytes();
    let coding = one.field("content-encoding");
    if method != "HEAD" {
        assert_eq!(decoded(coding, &one.body), decoded(coding, &two));
    }
    one
}

#[tokio::test]
async fn an_answer_goes_out_in_the_coding_its_client_takes_on_a_route_that_says_so() {
    let origin = Origin::always(answer(PAGE, &text())).await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    for (accepted, coding) in
        [("gzip, deflate, br, zstd", "zstd"), ("gzip, br", "br"), ("gzip", "gzip"), ("br;q=0.1, gzip;q=0.2", "gzip")]
    {
        let got = ask(&gateway, "GET", "/packed/", &[("accept-encoding", accepted)]).await;
        assert_eq!(got.field("content-encoding"), Some(coding), "{accepted}");
        assert_eq!(decoded(Some(coding), &got.body), text());
        assert!(got.body.len() < text().len() / 3);
        assert_eq!((got.field("etag"), got.field("vary")), (Some("W/\"v1\""), Some("Accept-Encoding")));
        for gone in ["content-length", "accept-ranges", "content-digest"] {
            assert_eq!(got.field(gone), None, "{gone}");
        }
        assert_eq!(origin.last().field("accept-encoding"), Some(accepted), "the upstream may do it itself");
    }
    for fields in [&[][..], &[("accept-encoding", "identity")], &[("accept-encoding", "deflate, gzip;q=0")]] {
        let got = ask(&gateway, "GET", "/packed/", fields).await;
        assert_eq!((got.field("content-encoding"), got.field("etag")), (None, Some("\"v1\"")));
        assert_eq!((got.text(), got.field("vary")), (text(), Some("Accept-Encoding")));
        assert_eq!(got.field("content-digest"), Some("sha-256=:AA==:"));
    }
    let mut explain = Command::new(BINARY);
    explain.args(["explain", "GET", "http://site.test/packed/", "--config"]).arg(gateway.config());
    let explained = String::from_utf8(explain.output().unwrap().stdout).unwrap();
    assert!(explained.contains("compress  zstd br gzip from 1024 bytes on\n"), "{explained}");
    let elsewhere = ask(&gateway, "GET", "/", &[ALL]).await;
    assert_eq!((elsewhere.field("content-encoding"), elsewhere.field("vary")), (None, None));

    let scrape = gateway.scrape().await;
    let of = |family: &str, coding: &str| scrape.count(family, &["route=\"packed\"", &format!("coding=\"{coding}\"")]);
    assert_eq!(["zstd", "br", "gzip"].map(|coding| of("portcullis_compress_responses_total", coding)), [2, 2, 4]);
    assert_eq!(of("portcullis_compress_input_bytes_total", "br"), 2 * text().len() as u64);
    let out = of("portcullis_compress_output_bytes_total", "br");
    assert!(out > 0 && out < text().len() as u64);
}

#[tokio::test]
async fn what_forbids_it_or_does_it_already_is_left_alone() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let fields = match request.target() {
                "/packed/no-transform" => "Content-Type: text/html\r\nCache-Control: public, no-transform\r\n",
                "/packed/encoded" => "Content-Type: text/html\r\nContent-Encoding: x-own\r\n",
                "/packed/image" => "Content-Type: image/png\r\n",
                "/packed/part" => "Content-Type: text/html\r\nContent-Range: bytes 0-9/100\r\n",
                "/packed/cookie" => "Content-Type: text/html\r\nSet-Cookie: session=1\r\n",
                "/packed/events" => "Content-Type: text/event-stream\r\n",
                "/packed/short" => {
                    conn.send(answer("Content-Type: text/html\r\n", &"x".repeat(1023))).await;
                    continue;
                }
                _ => "",
            };
            conn.send(answer(fields, &text())).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    for (path, vary) in [
        ("no-transform", None),
        ("encoded", Some("Accept-Encoding")),
        ("image", None),
        ("part", Some("Accept-Encoding")),
        ("cookie", Some("Accept-Encoding")),
        ("events", None),
        ("short", Some("Accept-Encoding")),
        ("of-no-kind", None),
    ] {
        let got =
            Client::tls(&gateway).await.get_with(&format!("/packed/{path}"), "Accept-Encoding: gzip, br\r\n").await;
        assert_eq!(got.field("content-encoding"), (path == "encoded").then_some("x-own"), "{path}");
        assert_eq!(
            (got.field("vary"), got.body.len()),
            (vary, if path == "short" { 1023 } else { text().len() }),
            "{path}"
        );
    }
}

#[tokio::test]
async fn what_a_browser_sends_by_itself_keeps_an_answer_from_being_compressed_unless_the_route_says_so() {
    let origin = Origin::always(answer(PAGE, &text())).await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    std::fs::write(home.path().join("site/a.css"), text()).unwrap();
    let files = "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\nfiles = { root = \"site\" }\ncompress = true\n";
    let routes = [
        route("careful", "\"public\"", "compress = true"),
        route("bold", "\"public\"", "compress = { with_cookies = true }"),
        files.to_owned(),
    ];
    let gateway = Setup::before(&origin).tables(&routes.concat()).start_in(home).await;
    for (path, field, coding) in [
        ("/careful/", ("cookie", "session=1"), None),
        ("/careful/", ("authorization", "Basic YTpi"), None),
        ("/careful/", ("authorization", "Bearer abc"), Some("zstd")),
        ("/bold/", ("cookie", "session=1"), Some("zstd")),
        ("/files/a.css", ("cookie", "session=1"), Some("zstd")),
    ] {
        let got = ask(&gateway, "GET", path, &[ALL, field]).await;
        assert_eq!(got.field("content-encoding"), coding, "{path} {field:?}");
        assert_eq!(got.field("vary"), Some("Accept-Encoding"));
        assert_eq!(decoded(coding, &got.body), text());
    }
}

#[tokio::test]
async fn a_small_file_is_compressed_once_and_is_then_a_file_in_that_coding() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    std::fs::write(home.path().join("site/a.css"), text()).unwrap();
    std::fs::write(home.path().join("site/a.png"), text()).unwrap();
    let origin = Origin::always(answer(PAGE, "")).await;
    let files = |name: &str, more: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}/\"\nauth = \"public\"\nfiles = {{ root = \"site\" }}\ncompress = true\n{more}\n"
        )
    };
    let frozen = files("frozen", "response_headers = { \"Cache-Control\" = \"No-Transform\" }");
    let gateway = Setup::before(&origin).tables(&[files("files", ""), frozen].concat()).start_in(home).await;
    let mut tags = Vec::new();
    for coding in [Some("zstd"), Some("br"), Some("gzip"), None] {
        let accept = ("accept-encoding", coding.unwrap_or("identity"));
        let got = ask(&gateway, "GET", "/files/a.css", &[accept]).await;
        assert_eq!(got.field("content-encoding"), coding);
        assert_eq!(decoded(coding, &got.body), text());
        assert_eq!(got.field("content-length"), Some(got.body.len().to_string().as_str()), "no chunks");
        let tag = got.field("etag").unwrap().to_owned();
        let known = ask(&gateway, "GET", "/files/a.css", &[accept, ("if-none-match", &tag)]).await;
        assert_eq!((known.status(), known.field("etag")), (304, Some(&*tag)));
        let ranged = format!("{}: {}\r\nRange: bytes=2-5\r\nIf-Range: {tag}\r\n", accept.0, accept.1);
        let part = Client::tls(&gateway).await.by("GET", "/files/a.css", &ranged).await;
        assert_eq!((part.status(), &part.body[..]), (206, &got.body[2..6]), "ranges are of the coded bytes");
        tags.push(tag);
    }
    tags.dedup();
    assert_eq!(tags.len(), 4, "{tags:?}");
    assert!(tags.iter().all(|tag| tag.starts_with('"')), "all of them strong: {tags:?}");
    for path in ["/files/a.png", "/frozen/a.css"] {
        assert_eq!(ask(&gateway, "GET", path, &[ALL]).await.field("content-encoding"), None, "{path}");
    }
}

#[tokio::test]
async fn rfc9110_9_3_2_head_says_what_get_says_and_carries_nothing() {
    let whole = answer(PAGE, &text());
    let origin = Origin::start(move |mut conn| {
        let whole = whole.clone();
        async move {
            while let Some(request) = conn.request().await {
                let head = whole.split_inclusive("\r\n\r\n").next().unwrap();
                conn.send(if request.method() == "HEAD" { head } else { &whole }).await;
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    let (got, head) = (ask(&gateway, "GET", "/packed/", &[ALL]).await, ask(&gateway, "HEAD", "/packed/", &[ALL]).await);
    assert_eq!((got.field("content-encoding"), head.field("content-encoding")), (Some("zstd"), Some("zstd")));
    for name in ["etag", "vary", "content-length", "accept-ranges", "content-type", "content-digest"] {
        assert_eq!(got.field(name), head.field(name), "{name}");
    }
    let mut client = Client::plain(gateway.http).await;
    client.send("HEAD /packed/ HTTP/1.1\r\nHost: site.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    assert_eq!(client.head_answer().await.status(), 200);
    assert_eq!(client.get("/packed/").await.text(), text(), "the connection goes on: nothing came behind the head");
}

#[tokio::test]
async fn rfc9110_13_1_2_the_weak_tag_of_a_compressed_answer_is_good_for_a_304() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let known = request.field("if-none-match").is_some_and(|tags| tags.contains("\"v1\""));
            let not_modified = "HTTP/1.1 304 Not Modified\r\nETag: \"v1\"\r\nVary: Cookie\r\n\r\n".to_owned();
            conn.send(if known { not_modified } else { answer(PAGE, &text()) }).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    let first = ask(&gateway, "GET", "/packed/", &[ALL]).await;
    let tag = first.field("etag").unwrap();
    let again = ask(&gateway, "GET", "/packed/", &[ALL, ("if-none-match", tag)]).await;
    assert_eq!((again.status(), again.field("etag")), (304, Some("W/\"v1\"")));
    assert_eq!((again.field("vary"), again.field("content-encoding")), (Some("Cookie, Accept-Encoding"), None));
    let plain = ask(&gateway, "GET", "/packed/", &[("if-none-match", "\"v1\"")]).await;
    assert_eq!((plain.status(), plain.field("etag")), (304, Some("\"v1\"")));
}

#[tokio::test]
async fn an_http_1_0_client_gets_a_length_and_no_coding() {
    let origin = Origin::always(answer(PAGE, &text())).await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let got = client.ask("GET /packed/ HTTP/1.0\r\nHost: site.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    assert_eq!((got.field("content-encoding"), got.text()), (None, text()));
    assert_eq!(got.field("content-length"), Some(text().len().to_string().as_str()));
    assert_eq!(got.field("vary"), Some("Accept-Encoding"));
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n";

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Sends a line for each permit; then it ends, or breaks off.
async fn lines(kind: &'static str, gate: &Arc<Semaphore>, count: usize, ends: bool) -> Origin {
    let gate = Arc::clone(gate);
    Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            while conn.request().await.is_some() {
                conn.send(format!("{CHUNKED}Content-Type: {kind}\r\n\r\n")).await;
                for number in 0..count {
                    gate.acquire().await.unwrap().forget();
                    conn.send(chunk(&format!("data: {number}\n\n"))).await;
                }
                if !ends {
                    return;
                }
                conn.send("0\r\n\r\n").await;
            }
        }
    })
    .await
}

#[tokio::test]
async fn what_has_come_is_sent_while_the_rest_has_not() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = lines("text/event-stream", &gate, 3, true).await;
    let named = "compress = { codings = [\"gzip\"], types = [\"text/event-stream\"] }";
    let gateway = Setup::before(&origin).tables(&route("live", "\"public\"", named)).start().await;

    let mut client = Client::plain(gateway.http).await;
    client.send("GET /live/ HTTP/1.1\r\nHost: site.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let head = within("a head", client.wire.head()).await.unwrap().unwrap();
    assert_eq!(head.field("content-encoding"), Some("gzip"));
    let (mut raw, mut expected) = (Vec::new(), String::new());
    for number in 0..3 {
        gate.add_permits(1);
        expected = format!("{expected}data: {number}\n\n");
        while gunzipped_so_far(&dechunked_so_far(&raw)) != expected {
            assert_ne!(within("the line", client.wire.fill()).await.unwrap(), 0);
            raw.extend(client.wire.rest());
        }
    }
    while !raw.ends_with(b"\r\n0\r\n\r\n") {
        assert_ne!(within("the end", client.wire.fill()).await.unwrap(), 0);
        raw.extend(client.wire.rest());
    }
    assert_eq!(decoded(Some("gzip"), &dechunked_so_far(&raw)), expected);

    let mut sender = h2::connect(&gateway).await;
    gate.add_permits(1);
    let mut two = h2::answer(&mut sender, h2::request("GET", "/live/", &[("accept-encoding", "gzip")])).await;
    let mut packed = Vec::new();
    while gunzipped_so_far(&packed) != "data: 0\n\n" {
        let frame = within("the line", two.body_mut().frame()).await.unwrap().unwrap();
        packed.extend_from_slice(frame.data_ref().unwrap());
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_never_ends_cleanly() {
    let gate = Arc::new(Semaphore::new(1000));
    let origin = lines("text/plain", &gate, 2, false).await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    for coding in ["zstd", "br", "gzip"] {
        let mut client = Client::plain(gateway.http).await;
        client.send(get("/packed/").replace("\r\n\r\n", &format!("\r\nAccept-Encoding: {coding}\r\n\r\n"))).await;
        client.try_answer().await.expect_err("a whole answer");
        let mut sender = h2::connect(&gateway).await;
        let two = h2::answer(&mut sender, h2::request("GET", "/packed/", &[("accept-encoding", coding)])).await;
        assert_eq!(two.headers()["content-encoding"], coding);
        within("the end", two.into_body().collect()).await.expect_err("a whole answer");
    }
    assert!(gateway.access_line("200 GET site.test/packed/").await.contains("outcome="));
}

#[tokio::test]
async fn a_large_answer_comes_back_as_it_was_and_so_do_its_trailers() {
    let large = (0..200_000).map(|number| format!("{number} and ")).collect::<Vec<_>>().concat();
    let body =
        format!("{CHUNKED}Content-Type: text/plain\r\nTrailer: X-Sum\r\n\r\n{}0\r\nX-Sum: 7\r\n\r\n", chunk(&large));
    let origin = Origin::always(body).await;
    let gateway = Setup::before(&origin).tables(&route("packed", "\"public\"", "compress = true")).start().await;
    for coding in ["zstd", "br", "gzip"] {
        let fields = format!("Accept-Encoding: {coding}\r\nTE: trailers\r\nConnection: TE\r\n");
        let got = Client::tls(&gateway).await.get_with("/packed/", &fields).await;
        assert_eq!(decoded(Some(coding), &got.body), large, "{coding}");
        assert!(got.trailers.eq_ignore_ascii_case("x-sum: 7\n"), "{coding}: {}", got.trailers);
    }
}

fn compress(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("compress").args(arguments).current_dir(home).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn the_command_makes_siblings_says_what_it_did_and_does_it_once() {
    let home = tempfile::tempdir().unwrap();
    let site = home.path().join("site");
    std::fs::create_dir_all(site.join("deep")).unwrap();
    for (name, contents) in [("a.css", text()), ("deep/b.js", text()), ("tiny.css", "a{}".to_owned())] {
        std::fs::write(site.join(name), contents).unwrap();
    }
    std::fs::write(site.join("gone.css.br"), "x").unwrap();
    let said = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();

    let dry = compress(home.path(), &["site", "--dry-run", "--prune"]);
    assert_eq!(dry.status.code(), Some(0));
    for line in ["would make site/a.css.zst", "would make site/deep/b.js.gz", "would remove site/gone.css.br"] {
        assert!(said(&dry).lines().any(|said| said == line), "{line}: {}", said(&dry));
    }
    assert!(!site.join("a.css.zst").exists() && site.join("gone.css.br").exists());

    let first = compress(home.path(), &["site"]);
    assert_eq!((first.status.code(), first.stderr.len()), (Some(0), 0), "no bar where nobody looks");
    assert!(said(&first).starts_with("2 files compressed, 1 passed over\nzstd  2 made ("), "{}", said(&first));
    for (suffix, coding) in [("zst", "zstd"), ("br", "br"), ("gz", "gzip")] {
        for name in ["a.css", "deep/b.js"] {
            let packed = std::fs::read(site.join(format!("{name}.{suffix}"))).unwrap();
            assert_eq!(decoded(Some(coding), &packed), text());
        }
    }
    assert!(site.join("gone.css.br").exists());

    let again = compress(home.path(), &["site", "--codings", "br,gzip", "--prune", "--jobs", "1"]);
    let expected = "0 files compressed, 1 passed over\nbr    0 made (0 B to 0 B), 2 current, 0 hardly smaller\n\
                    gzip  0 made (0 B to 0 B), 2 current, 0 hardly smaller\npruned 1 file\n";
    assert_eq!((again.status.code(), said(&again).as_str()), (Some(0), expected));
    assert!(!site.join("gone.css.br").exists());
}

#[test]
fn the_command_fails_where_it_can_do_nothing() {
    let home = tempfile::tempdir().unwrap();
    let none = compress(home.path(), &["nowhere"]);
    let error = String::from_utf8(none.stderr).unwrap();
    assert_eq!((none.status.code(), none.stdout.len()), (Some(1), 0));
    assert!(error.starts_with("error: cannot read nowhere"), "{error}");
    for wrong in [&["."; 0][..], &[".", "--codings", "deflate"], &[".", "--jobs", "0"]] {
        assert_eq!(compress(home.path(), wrong).status.code(), Some(2), "{wrong:?}");
    }
}
