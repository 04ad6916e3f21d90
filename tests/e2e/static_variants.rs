//! Files in their codings, by Django's manifest, for single-page applications and in parts, end to end.

use std::path::Path;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::wire::Message;

const ROUTES: &str = "[[route]]\nname = \"static\"\npath = \"/static/\"\nauth = \"public\"\n\
    files = { root = \"site\", manifest = \"staticfiles.json\" }\n\
    [[route]]\nname = \"app\"\npath = \"/app/\"\nauth = \"public\"\n\
    files = { root = \"site\", fallback = \"index.html\", precompressed = false }\n";

fn write(home: &Path, name: &str, contents: impl AsRef<[u8]>) {
    let path = home.join("site").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

fn large() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

async fn gateway() -> (Gateway, Origin) {
    let home: TempDir = tempfile::tempdir().unwrap();
    let at = home.path();
    write(at, "staticfiles.json", r#"{"paths": {"css/a.css": "css/a.1f2e.css"}, "version": "1.1", "hash": ""}"#);
    write(at, "css/a.css", "body{}");
    write(at, "css/a.1f2e.css", "body{}");
    write(at, "css/a.1f2e.css.br", "brotli");
    write(at, "css/a.1f2e.css.gz", "gzipped");
    write(at, "large.bin", large());
    write(at, "large.bin.zst", large().repeat(2));
    write(at, "index.html", "<p>app");
    let origin = Origin::hello().await;
    (Setup::before(&origin).tables(ROUTES).start_in(home).await, origin)
}

async fn accepting(client: &mut Client, path: &str, codings: &str, more: &str) -> Message {
    client.get_with(path, &format!("Accept-Encoding: {codings}\r\n{more}")).await
}

#[tokio::test]
async fn a_client_gets_the_coding_it_takes_and_caches_are_told() {
    let (gateway, origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let mut tags = Vec::new();
    for (codings, coding, body) in [
        ("gzip, deflate, br, zstd", Some("br"), "brotli"),
        ("gzip", Some("gzip"), "gzipped"),
        ("br;q=0.1, gzip;q=0.2", Some("gzip"), "gzipped"),
        ("identity", None, "body{}"),
        ("gzip;q=0, br;q=0", None, "body{}"),
    ] {
        let answer = accepting(&mut client, "/static/css/a.1f2e.css", codings, "").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{codings}");
        assert_eq!(answer.field("content-encoding"), coding, "{codings}");
        assert_eq!(answer.field("vary"), Some("Accept-Encoding"));
        assert_eq!(answer.field("content-type"), Some("text/css; charset=utf-8"));
        let tag = answer.field("etag").unwrap().to_owned();
        let again =
            accepting(&mut client, "/static/css/a.1f2e.css", codings, &format!("If-None-Match: {tag}\r\n")).await;
        assert_eq!((again.status(), again.field("vary")), (304, Some("Accept-Encoding")), "{codings}");
        tags.push(tag);
    }
    tags.sort();
    tags.dedup();
    assert_eq!(tags.len(), 3);
    let plain = accepting(&mut client, "/static/css/a.css", "gzip, br", "").await;
    assert_eq!((plain.field("vary"), plain.field("content-encoding"), plain.text().as_str()), (None, None, "body{}"));
    let streamed = accepting(&mut client, "/static/large.bin", "zstd", "Range: bytes=0-3,-4\r\n").await;
    assert_eq!((streamed.status(), streamed.field("content-encoding")), (200, Some("zstd")));
    assert!(streamed.body == large().repeat(2));
    let left_alone = accepting(&mut client, "/app/css/a.1f2e.css", "gzip, br", "").await;
    assert_eq!((left_alone.field("vary"), left_alone.text().as_str()), (None, "body{}"));
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn what_the_manifest_lists_is_kept_for_ever_and_a_new_manifest_is_seen_without_a_reload() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let for_ever = Some("public, max-age=315360000, immutable");
    assert_eq!(client.get("/static/css/a.1f2e.css").await.field("cache-control"), for_ever);
    assert_eq!(client.get("/static/css/a.css").await.field("cache-control"), Some("max-age=60, public"));
    assert_eq!(client.get("/app/css/a.1f2e.css").await.field("cache-control"), None);
    let generation = gateway.generation().await;
    write(gateway.home(), "css/b.77.css", "p{}");
    write(gateway.home(), "staticfiles.json", r#"{"paths": {"css/b.css": "css/b.77.css"}, "version": "1.1"}"#);
    eventually("the new manifest", || async {
        let mut client = Client::plain(gateway.http).await;
        let new = client.get("/static/css/b.77.css").await.field("cache-control") == for_ever;
        let old = client.get("/static/css/a.1f2e.css").await.field("cache-control") == Some("max-age=60, public");
        (new && old).then_some(())
    })
    .await;
    std::fs::remove_file(gateway.home().join("site/staticfiles.json")).unwrap();
    eventually("the warning", || async {
        let answer = Client::plain(gateway.http).await.get("/static/css/b.77.css").await;
        assert_eq!(answer.field("cache-control"), for_ever, "the last good manifest stays");
        gateway.log().contains("the last good one stays").then_some(())
    })
    .await;
    assert_eq!(gateway.generation().await, generation);
}

#[tokio::test]
async fn a_single_page_application_is_there_under_every_path_of_its_own() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.get("/app/index.html").await;
    for path in ["/app/", "/app/users", "/app/users/7/", "/app/v1.2/x%20y"] {
        let answer = client.get(path).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "<p>app"), "{path}");
        assert_eq!(answer.field("etag"), page.field("etag"));
    }
    for (path, status) in [
        ("/app/main.js", 404),
        ("/app/.env", 404),
        ("/app/.well-known/change-password", 404),
        ("/app/..%2fusers", 400),
        ("/static/users", 404),
        ("/app/css", 301),
    ] {
        assert_eq!(client.get(path).await.status(), status, "{path}");
    }
    assert_eq!(client.by("POST", "/app/users", "").await.status(), 405);
    assert_eq!(client.by("HEAD", "/app/users", "").await.field("content-length"), Some("6"));
}

#[tokio::test]
async fn several_ranges_come_in_parts_under_an_exact_length() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let contents = large();
    let answer = client.get_with("/app/large.bin", "Range: bytes=400000-799999, 10-19, 2000000-, -4\r\n").await;
    assert_eq!((answer.status(), answer.field("content-range")), (206, None));
    let boundary = answer.field("content-type").unwrap().strip_prefix("multipart/byteranges; boundary=").unwrap();
    let mut expected = Vec::new();
    for (range, bytes) in [
        ("400000-799999", &contents[400_000..800_000]),
        ("10-19", &contents[10..20]),
        ("1199996-1199999", &contents[1_199_996..]),
    ] {
        let kind = "application/octet-stream";
        let head = format!("--{boundary}\r\nContent-Type: {kind}\r\nContent-Range: bytes {range}/1200000\r\n\r\n");
        expected.extend([head.as_bytes(), bytes, b"\r\n"].concat());
    }
    expected.extend(format!("--{boundary}--\r\n").into_bytes());
    assert!(answer.body == expected);
    assert_eq!(answer.field("content-length"), Some(expected.len().to_string().as_str()));
    for (ranges, status, length) in [
        ("0-99,50-149", 206, 150),
        ("0-9,5000000-", 206, 10),
        ("0-,0-,0-,0-,0-", 206, 1_200_000),
        (&(0..17).map(|at| format!("{0}-{0}", at * 1000)).collect::<Vec<_>>().join(","), 200, 1_200_000),
    ] {
        let answer = client.get_with("/app/large.bin", &format!("Range: bytes={ranges}\r\n")).await;
        assert_eq!((answer.status(), answer.body.len()), (status, length), "{ranges}");
    }
    let outside = client.get_with("/app/large.bin", "Range: bytes=5000000-,-0\r\n").await;
    assert_eq!((outside.status(), outside.field("content-range")), (416, Some("bytes */1200000")));
    assert_eq!(client.get("/app/").await.status(), 200, "the connection is in step");
}
