//! Files that an application hands out: it says who may have them, the gateway sends them, and nothing outside of what it was given.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{HELLO, Origin};
use crate::support::token;
use crate::support::wire::Message;

const ROUTES: &str = "[upstream.other]\nendpoints = [\"OTHER\"]\n\
    [[route]]\nname = \"elsewhere\"\npath = \"/elsewhere/\"\nauth = \"public\"\nupstream = \"other\"\n\
    [[route]]\nname = \"protected\"\npath = \"/protected/\"\nauth = \"internal\"\nfiles = { root = \"media\" }\n\
    handed_out_by = [\"app\"]\n\
    [[route]]\nname = \"timed\"\npath = \"/protected/timed/\"\nauth = \"internal\"\n\
    files = { root = \"timed\", cache_control = \"max-age=7\" }\n";

fn write(home: &Path, name: &str, contents: impl AsRef<[u8]>) {
    let path = home.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

fn large() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

fn media() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let at = home.path();
    write(at, "media/a b.txt", "0123456789");
    write(at, "media/100%.txt", "percent");
    write(at, "media/why?.txt", "question");
    write(at, "media/über/große.txt", "umlaut");
    write(at, "media/index.html", "<h1>index</h1>");
    write(at, "media/picture.png", "picture");
    write(at, "media/empty", "");
    write(at, "media/.hidden", "hidden");
    write(at, "media/large.bin", large());
    write(at, "media/sub/file", "sub");
    write(at, "timed/file", "timed");
    write(at, "outside.txt", "outside");
    std::os::unix::fs::symlink(at.join("outside.txt"), at.join("media/way-out")).unwrap();
    std::os::unix::fs::symlink("..", at.join("media/up")).unwrap();
    home
}

/// Answers with the status and the fields that the request asks for: `Say: 200|Name: value|..`, and with as many bytes.
async fn obedient() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let said = request.field("say").unwrap_or("200").to_owned();
            let (status, fields) = said.split_once('|').unwrap_or((&said, ""));
            let lines = if fields.is_empty() { String::new() } else { format!("{}\r\n", fields.replace('|', "\r\n")) };
            let body = "x".repeat(request.field("bytes").map_or(0, |bytes| bytes.parse().unwrap()));
            let content = if request.method() == "HEAD" { "" } else { &body };
            let length = body.len();
            conn.send(format!("HTTP/1.1 {status} OK\r\n{lines}Content-Length: {length}\r\n\r\n{content}")).await;
        }
    })
    .await
}

struct Scene {
    gateway: Gateway,
    origin: Origin,
    other: Origin,
}

async fn scene() -> Scene {
    let (origin, other) = (obedient().await, obedient().await);
    let setup = Setup::before(&origin).tables(&ROUTES.replace("OTHER", &other.endpoint()));
    Scene { gateway: setup.start_in(media()).await, origin, other }
}

impl Scene {
    async fn client(&self) -> Client {
        Client::plain(self.gateway.http).await
    }

    fn at(&self, name: &str) -> String {
        self.gateway.home().join(name).to_str().unwrap().to_owned()
    }
}

fn nothing_leaks(answer: &Message) {
    for (name, _) in &answer.fields {
        assert!(
            !name.to_ascii_lowercase().starts_with("x-accel") && !name.eq_ignore_ascii_case("x-sendfile"),
            "{answer:?}"
        );
    }
}

async fn handed(client: &mut Client, said: &str, fields: &str) -> Message {
    let answer = client.get_with("/download", &format!("Say: 200|{said}\r\n{fields}")).await;
    nothing_leaks(&answer);
    answer
}

#[tokio::test]
async fn a_file_is_sent_in_the_place_of_the_answer_however_its_name_is_written() {
    let scene = scene().await;
    let mut client = scene.client().await;
    for (path, body) in [
        ("/protected/a%20b.txt", "0123456789"),
        ("/protected/a b.txt", "0123456789"),
        ("/protected/100%25.txt", "percent"),
        ("/protected/why%3F.txt", "question"),
        ("/protected/%C3%BCber/gro%C3%9Fe.txt", "umlaut"),
        ("/protected/über/große.txt", "umlaut"),
        ("/protected/sub/file?a=b", "sub"),
        ("/protected/timed/file", "timed"),
        ("/protected/empty", ""),
    ] {
        let answer = handed(&mut client, &format!("X-Accel-Redirect: {path}"), "").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{path}");
    }
    for (name, body) in
        [("a b.txt", "0123456789"), ("100%.txt", "percent"), ("why?.txt", "question"), ("über/große.txt", "umlaut")]
    {
        let path = scene.at(&format!("media/{name}"));
        let answer = handed(&mut client, &format!("X-Sendfile: {path}"), "").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{path}");
    }
    let answer = handed(&mut client, "X-Accel-Redirect: /protected/large.bin", "").await;
    assert!(answer.body == large(), "a large file comes as it is");
    assert_eq!(scene.origin.accepted(), 1, "the application's connection was used again");
}

#[tokio::test]
async fn an_internal_route_is_no_route_for_clients() {
    let scene = scene().await;
    let mut client = scene.client().await;
    for path in ["/protected/a%20b.txt", "/protected/", "/protected", "/protected/timed/file"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status(), answer.body.len()), (200, 0), "{path}: the route for everything has it");
        assert_eq!(scene.origin.last().target(), path);
    }
    let alone = "[[route]]\nname = \"only\"\npath = \"/only/\"\nauth = \"public\"\nupstream = \"app\"\n";
    scene.gateway.edit(|text| text.replace("path = \"/\"\n", "path = \"/rest/\"\n") + alone);
    scene.gateway.until_generation(2).await;
    assert_eq!(scene.client().await.get("/protected/a%20b.txt").await.status(), 404);
}

#[tokio::test]
async fn the_file_answers_conditions_and_ranges() {
    let scene = scene().await;
    let mut client = scene.client().await;
    let order =
        "X-Accel-Redirect: /protected/a%20b.txt|ETag: \"of-the-app\"|Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
    let whole = handed(&mut client, order, "").await;
    let (etag, modified) = (whole.field("etag").unwrap().to_owned(), whole.field("last-modified").unwrap().to_owned());
    assert_ne!(etag, "\"of-the-app\"");
    assert_eq!((whole.field("accept-ranges"), whole.field("content-length")), (Some("bytes"), Some("10")));
    for (fields, status, body) in [
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        (format!("Range: bytes=2-4\r\nIf-Range: {etag}\r\n"), 206, "234"),
        ("Range: bytes=2-4\r\nIf-Range: \"of-the-app\"\r\n".to_owned(), 200, "0123456789"),
        (format!("If-None-Match: {etag}\r\n"), 304, ""),
        (format!("If-Modified-Since: {modified}\r\n"), 304, ""),
        ("If-None-Match: \"of-the-app\"\r\n".to_owned(), 200, "0123456789"),
    ] {
        let answer = handed(&mut client, order, &fields).await;
        assert_eq!((answer.status(), answer.text().as_str()), (status, body), "{fields}");
        assert_eq!(answer.field("etag"), Some(&*etag), "{fields}");
        assert_eq!(answer.field("cache-control"), Some("private"), "{fields}");
    }
    assert_eq!(handed(&mut client, order, "Range: bytes=2-4\r\n").await.field("content-range"), Some("bytes 2-4/10"));
    let several = "X-Accel-Redirect: /protected/large.bin|Content-Type: video/mp4";
    let several = handed(&mut client, several, "Range: bytes=0-0,-1\r\n").await;
    assert_eq!((several.status(), several.field("content-type")), (200, Some("video/mp4")), "no parts of another type");
    assert!(several.body == large());
    let beyond = handed(&mut client, order, "Range: bytes=10-\r\n").await;
    assert_eq!((beyond.status(), beyond.field("content-range")), (416, Some("bytes */10")));
    assert_eq!(handed(&mut client, order, "If-Match: \"other\"\r\n").await.status(), 412);
}

#[tokio::test]
async fn the_application_keeps_what_it_says_of_its_answer() {
    let scene = scene().await;
    let mut client = scene.client().await;
    let said = "X-Accel-Redirect: /protected/picture.png|X-Accel-Expires: 60|Content-Type: text/html; charset=utf-8|\
                Content-Disposition: attachment; filename=\"a.png\"|Content-Security-Policy: sandbox|Set-Cookie: a=1|\
                Set-Cookie: b=2|Cache-Control: max-age=5|Content-Encoding: gzip|Vary: Cookie|X-Own: kept";
    let answer = handed(&mut client, said, "").await;
    for (name, value) in [
        ("content-type", "image/png"),
        ("content-disposition", "attachment; filename=\"a.png\""),
        ("content-security-policy", "sandbox"),
        ("cache-control", "max-age=5"),
        ("vary", "Cookie"),
        ("x-own", "kept"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.field(name), Some(value), "{answer:?}");
    }
    assert_eq!(answer.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((answer.field("content-encoding"), answer.text().as_str()), (None, "picture"));
    let chosen = "X-Accel-Redirect: /protected/picture.png|Content-Type: application/x-own";
    assert_eq!(handed(&mut client, chosen, "").await.field("content-type"), Some("application/x-own"));
    let timed = handed(&mut client, "X-Accel-Redirect: /protected/timed/file", "").await;
    assert_eq!(timed.field("cache-control"), Some("max-age=7"));
}

#[tokio::test]
async fn head_has_no_body_and_every_other_method_gets_the_file_as_get_does() {
    let scene = scene().await;
    let mut client = scene.client().await;
    let order = "Say: 200|X-Accel-Redirect: /protected/a%20b.txt\r\n";
    let head = client.by("HEAD", "/download", order).await;
    assert_eq!((head.status(), head.field("content-length")), (200, Some("10")));
    for method in ["POST", "DELETE"] {
        let answer = client.by(method, "/download", &format!("{order}Range: bytes=0-1\r\nIf-Match: \"x\"\r\n")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "0123456789"), "{method}");
    }
}

#[tokio::test]
async fn only_a_200_is_an_order_and_the_field_never_passes() {
    let scene = scene().await;
    let mut client = scene.client().await;
    for status in ["201", "302", "403", "404", "500"] {
        let fields =
            format!("Say: {status}|X-Accel-Redirect: /protected/a%20b.txt|X-Sendfile: /etc/passwd\r\nBytes: 3\r\n");
        let answer = client.get_with("/download", &fields).await;
        nothing_leaks(&answer);
        assert_eq!((answer.status().to_string().as_str(), answer.text().as_str()), (status, "xxx"));
    }
    let answer =
        client.get_with("/download", "Say: 200|X-Accel-Buffering: no|X-Accel-Limit-Rate: 1\r\nBytes: 3\r\n").await;
    nothing_leaks(&answer);
    assert_eq!((answer.status(), answer.text().as_str()), (200, "xxx"));
}

#[tokio::test]
async fn what_may_not_be_handed_out_is_502_and_the_log_says_what_to_do() {
    let scene = scene().await;
    let mut client = scene.client().await;
    let outside = scene.at("media/../outside.txt");
    for said in [
        "X-Accel-Redirect: /protected/../outside.txt".to_owned(),
        "X-Accel-Redirect: /protected/%2e%2e/outside.txt".to_owned(),
        "X-Accel-Redirect: /protected/sub%2Ffile".to_owned(),
        "X-Accel-Redirect: /protected\\a".to_owned(),
        "X-Accel-Redirect: @named".to_owned(),
        "X-Accel-Redirect: http://site.test/protected/sub/file".to_owned(),
        "X-Accel-Redirect: /elsewhere/a".to_owned(),
        "X-Accel-Redirect: /protectedx/a".to_owned(),
        "X-Accel-Redirect: /protected/".to_owned(),
        "X-Accel-Redirect: /protected/sub/file|X-Accel-Redirect: /protected/sub/file".to_owned(),
        format!("X-Accel-Redirect: /protected/sub/file|X-Sendfile: {}", scene.at("media/sub/file")),
        "X-Sendfile: /etc/passwd".to_owned(),
        "X-Sendfile: media/sub/file".to_owned(),
        format!("X-Sendfile: {outside}"),
        format!("X-Sendfile: {}", scene.at("outside.txt")),
    ] {
        let answer = handed(&mut client, &said, "Bytes: 9\r\n").await;
        assert_eq!(answer.status(), 502, "{said}");
        assert!(!answer.text().contains("xxx") && !answer.text().contains("outside"), "{said}: {answer:?}");
    }
    let log = scene.gateway.log();
    for remedy in ["auth = \\\"internal\\\"", "percent-encode", "send one", "name the file"] {
        assert!(log.contains(remedy) || log.contains(&remedy.replace('\\', "")), "{remedy}: {log}");
    }
    assert!(scene.gateway.access_line("502 GET").await.contains("bad_handout"));
}

#[tokio::test]
async fn another_upstream_hands_out_nothing_of_a_route_that_does_not_name_it() {
    let scene = scene().await;
    let mut client = scene.client().await;
    let fields = "Say: 200|X-Accel-Redirect: /protected/sub/file\r\n";
    assert_eq!(client.get_with("/elsewhere/", fields).await.status(), 502);
    assert!(scene.gateway.log().contains("handed_out_by"));
    let fields = "Say: 200|X-Accel-Redirect: /protected/timed/file\r\n";
    assert_eq!(client.get_with("/elsewhere/", fields).await.text(), "timed", "a route that names nobody is for all");
    assert_eq!(scene.other.requests().len(), 2);
}

#[tokio::test]
async fn what_is_not_there_hidden_or_outside_is_404_in_the_gateways_words() {
    let scene = scene().await;
    let mut client = scene.client().await;
    for name in ["none", ".hidden", "way-out", "up/outside.txt", "sub", "sub/file/x"] {
        for said in [
            format!("X-Accel-Redirect: /protected/{name}"),
            format!("X-Sendfile: {}", scene.at(&format!("media/{name}"))),
        ] {
            let answer = handed(&mut client, &said, "Bytes: 9\r\n").await;
            assert_eq!(answer.status(), 404, "{said}");
            assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{said}");
        }
    }
    let line = scene.gateway.access_line("404 GET").await;
    assert!(
        line.contains("file_not_found") && line.contains("route=public") && line.contains("upstream=app"),
        "{line}"
    );
}

#[tokio::test]
async fn a_short_body_of_the_application_is_read_and_a_long_one_costs_its_connection() {
    let scene = scene().await;
    let mut client = scene.client().await;
    for bytes in [1, 1000, 60_000] {
        let answer = handed(&mut client, "X-Accel-Redirect: /protected/sub/file", &format!("Bytes: {bytes}\r\n")).await;
        assert_eq!(answer.text(), "sub");
    }
    assert_eq!(scene.origin.accepted(), 1);
    handed(&mut client, "X-Accel-Redirect: /protected/sub/file", "Bytes: 2000000\r\n").await;
    assert_eq!(handed(&mut client, "X-Accel-Redirect: /protected/sub/file", "").await.text(), "sub");
    assert_eq!(scene.origin.accepted(), 2);
}

#[tokio::test]
async fn without_internal_routes_the_answer_passes_and_its_orders_do_not() {
    let origin = obedient().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = handed(&mut client, "X-Accel-Redirect: /protected/a|X-Sendfile: /srv/a", "Bytes: 3\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "xxx"));
    assert!(gateway.log().contains("hands out a file"), "{}", gateway.log());
    let plain = Origin::always(HELLO).await;
    let gateway = Setup::before(&plain).start().await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.text(), "hello");
}

const OWN: &str = "[[route]]\nname = \"own\"\npath = \"/own/\"\nfiles = { root = \"media\" }\n\
    auth = { issuer = \"site\", any = [{ own_path = \"/own/{folder}/\" }, { require = { is_staff = true } }] }\n\
    [[route]]\nname = \"app-own\"\npath = \"/app-own/\"\nupstream = \"app\"\nreplace_prefix = \"/\"\n\
    auth = { issuer = \"site\", own_path = \"/app-own/u_{id}\" }\n";

#[tokio::test]
async fn a_token_opens_its_own_path_and_no_other() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(OWN).start_in(media()).await;
    let mut client = Client::plain(gateway.http).await;
    for (claims, path, status) in [
        (json!({ "folder": "sub" }), "/own/sub/file", 200),
        (json!({ "folder": "über" }), "/own/%C3%BCber/gro%C3%9Fe.txt", 200),
        (json!({ "folder": "sub" }), "/own/%73ub/file", 200),
        (json!({ "folder": "sub" }), "/own/a%20b.txt", 403),
        (json!({ "folder": "sub" }), "/own/sub2/file", 403),
        (json!({ "folder": "sub" }), "/own/", 403),
        (json!({ "folder": "su" }), "/own/sub/file", 403),
        (json!({ "folder": "" }), "/own/", 403),
        (json!({ "folder": ".." }), "/own/sub/file", 403),
        (json!({ "folder": "sub/" }), "/own/sub/file", 403),
        (json!({ "folder": null }), "/own/sub/file", 403),
        (json!({ "folder": ["sub"] }), "/own/sub/file", 403),
        (json!({ "folder": "sub" }), "/own/sub/../a%20b.txt", 400),
        (json!({ "folder": "sub" }), "/own/sub%2Ffile", 400),
        (json!({ "is_staff": true }), "/own/a%20b.txt", 200),
        (json!({ "id": 7 }), "/app-own/u_7/x", 200),
        (json!({ "id": 7 }), "/app-own/u_77", 403),
        (json!({ "id": 7.0 }), "/app-own/u_7", 403),
        (json!({ "id": true }), "/app-own/u_true", 403),
    ] {
        let token = token::bearer(&token::with(&claims));
        for round in ["anew", "remembered"] {
            let answer = client.get_with(path, &token).await;
            assert_eq!(answer.status(), status, "{claims} {path}, {round}: {answer:?}");
        }
    }
    let token = token::bearer(&token::with(&json!({ "folder": "sub" })));
    let refused = client.get_with("/own/other?marked", &token).await;
    assert!(refused.field("www-authenticate").unwrap().contains("insufficient_scope"), "{refused:?}");
    assert!(gateway.access_line("/own/other?marked").await.contains("own_path"));
    assert_eq!(origin.targets(), ["/u_7/x", "/u_7/x"]);
}
