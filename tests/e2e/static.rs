//! Files, end to end: what is there, what has not changed, what was asked for in part, and nothing outside.

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::place;

const FILES: &str = "[[route]]\nname = \"files\"\npath = \"/site/\"\nauth = \"public\"\n\
    files = { root = \"site\", cache_control = \"max-age=60\" }\nresponse_headers = { \"X-Frame-Options\" = \"DENY\" }\n";

fn large() -> Vec<u8> {
    (0..300_000u32).flat_map(u32::to_le_bytes).collect()
}

async fn gateway() -> (Gateway, Origin) {
    let home: TempDir = tempfile::tempdir().unwrap();
    let at = home.path();
    place(at, "site/index.html", "<h1>home</h1>");
    place(at, "site/a b.txt", "0123456789");
    place(at, "site/style.css", "body{}");
    place(at, "site/empty.txt", "");
    place(at, "site/sub/index.html", "sub");
    place(at, "site/bare/file", "no index here");
    place(at, "site/.env", "hidden");
    place(at, "site/.git/config", "hidden");
    place(at, "site/.well-known/security.txt", "known");
    place(at, "site/large.bin", large());
    place(at, "outside.txt", "outside");
    std::os::unix::fs::symlink(at.join("outside.txt"), at.join("site/way-out")).unwrap();
    let origin = Origin::hello().await;
    (Setup::before(&origin).tables(FILES).start_in(home).await, origin)
}

#[tokio::test]
async fn files_come_whole_with_their_type_and_validators() {
    let (gateway, origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for (path, kind, body) in [
        ("/site/", "text/html", "<h1>home</h1>"),
        ("/site/index.html", "text/html", "<h1>home</h1>"),
        ("/site/style.css", "text/css", "body{}"),
        ("/site/a%20b.txt", "text/plain", "0123456789"),
        ("/site/sub/", "text/html", "sub"),
        ("/site/.well-known/security.txt", "text/plain", "known"),
        ("/site/empty.txt", "text/plain", ""),
    ] {
        let answer = client.get(path).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{path}");
        assert!(answer.field("content-type").unwrap().starts_with(kind), "{path}: {answer:?}");
        for name in ["etag", "last-modified", "date", "content-length"] {
            assert!(answer.field(name).is_some(), "{path} has no {name}");
        }
        assert_eq!(answer.field("cache-control"), Some("max-age=60"));
        assert_eq!(answer.field("x-frame-options"), Some("DENY"));
        assert_eq!(answer.field("accept-ranges"), Some("bytes"));
    }
    let answer = client.get("/site/large.bin").await;
    assert!(answer.body == large(), "a large file comes as it is");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn head_says_what_get_would() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for path in ["/site/", "/site/a%20b.txt", "/site/large.bin", "/site/none"] {
        let get = client.get(path).await;
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        let head = client.head_answer().await;
        let facts = |fields: &crate::support::wire::Message| {
            let mut facts = fields.fields.clone();
            facts.retain(|(name, _)| name != "date" && name != "x-request-id");
            facts
        };
        assert_eq!((head.status(), facts(&head)), (get.status(), facts(&get)), "{path}");
    }
}

#[tokio::test]
async fn what_has_not_changed_is_304() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let whole = client.get("/site/a%20b.txt").await;
    let (etag, modified) = (whole.field("etag").unwrap(), whole.field("last-modified").unwrap());
    for condition in [
        format!("If-None-Match: {etag}\r\n"),
        format!("If-None-Match: \"other\", {etag}\r\n"),
        "If-None-Match: *\r\n".to_owned(),
        format!("If-None-Match: {etag}\r\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"),
    ] {
        let answer = client.get_with("/site/a%20b.txt", &condition).await;
        assert_eq!((answer.status(), answer.body.len()), (304, 0), "{condition}");
        assert_eq!((answer.field("etag"), answer.field("cache-control")), (Some(etag), Some("max-age=60")));
        assert!(answer.field("date").is_some());
    }
    for condition in ["If-None-Match: \"other\"\r\n", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"] {
        assert_eq!(client.get_with("/site/a%20b.txt", condition).await.status(), 200, "{condition}");
    }
    assert_eq!(client.get_with("/site/a%20b.txt", "If-Match: \"other\"\r\n").await.status(), 412);
    let earlier = format!("If-Unmodified-Since: {modified}\r\n");
    assert_eq!(client.get_with("/site/a%20b.txt", &earlier).await.status(), 200);
}

#[tokio::test]
async fn a_range_is_206_and_one_beyond_the_end_416() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for (range, contents, body) in [
        ("bytes=0-3", "bytes 0-3/10", "0123"),
        ("bytes=8-", "bytes 8-9/10", "89"),
        ("bytes=-4", "bytes 6-9/10", "6789"),
        ("bytes=5-999", "bytes 5-9/10", "56789"),
    ] {
        let answer = client.get_with("/site/a%20b.txt", &format!("Range: {range}\r\n")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (206, body), "{range}");
        assert_eq!(answer.field("content-range"), Some(contents));
    }
    let answer = client.get_with("/site/a%20b.txt", "Range: bytes=10-\r\n").await;
    assert_eq!((answer.status(), answer.field("content-range")), (416, Some("bytes */10")));
    for ignored in ["lines=0-3", "bytes=3-1", "bytes=x"] {
        let answer = client.get_with("/site/a%20b.txt", &format!("Range: {ignored}\r\n")).await;
        assert_eq!(answer.status(), 200, "{ignored}");
    }
    let answer = client.get_with("/site/a%20b.txt", "Range: bytes=0-3\r\nIf-Range: \"other\"\r\n").await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "0123456789"));
    let answer = client.get_with("/site/large.bin", "Range: bytes=400000-800000\r\n").await;
    assert!(answer.status() == 206 && answer.body == large()[400_000..=800_000]);
}

#[tokio::test]
async fn nothing_outside_of_the_root_is_served() {
    let (gateway, origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for (path, status) in [
        ("/site/.env", 404),
        ("/site/.git/config", 404),
        ("/site/%2eenv", 404),
        ("/site/way-out", 404),
        ("/site/none", 404),
        ("/site/bare/", 404),
        ("/site/style.css/", 404),
        ("/site/style.css/x", 404),
        ("/site/../outside.txt", 400),
        ("/site/%2e%2e/outside.txt", 400),
        ("/site/..%2foutside.txt", 400),
        ("/site/..%5coutside.txt", 400),
        ("/site//etc/passwd", 400),
        ("/site/a%00.txt", 400),
    ] {
        let answer = client.get(path).await;
        assert_eq!(answer.status(), status, "{path}");
        assert!(!answer.text().contains("outside") && !answer.text().contains("hidden"), "{path}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_directory_redirects_to_its_slash() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for (path, location) in [("/site/sub", "/site/sub/"), ("/site", "/site/")] {
        let answer = client.get(path).await;
        assert!((300..400).contains(&answer.status()) || answer.status() == 200, "{path}: {answer:?}");
        if let Some(relative) = answer.field("location") {
            // A relative reference replaces the last segment (RFC 3986 section 5.3).
            let base = &path[..=path.rfind('/').unwrap()];
            let resolved = if relative.starts_with('/') { relative.to_owned() } else { format!("{base}{relative}") };
            assert_eq!(resolved, location);
        }
    }
}

#[tokio::test]
async fn only_get_and_head_are_for_files_and_the_connection_survives_a_refused_body() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for method in ["PUT", "DELETE", "POST"] {
        let answer = client.ask(format!("{method} /site/style.css HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.field("allow")), (405, Some("GET, HEAD")), "{method}");
    }
    let answer = client.ask("POST /site/x HTTP/1.1\r\nHost: site.test\r\nContent-Length: 3\r\n\r\nabc").await;
    assert_eq!(answer.status(), 405);
    if answer.closes() {
        assert!(client.until_end().await.is_empty());
    } else {
        assert_eq!(client.get("/site/").await.status(), 200);
    }
}

#[tokio::test]
async fn a_file_that_is_replaced_is_served_anew_and_whole() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let before = client.get("/site/style.css").await;
    let draft = gateway.home().join("site/.draft");
    std::fs::write(&draft, "body{color:red}").unwrap();
    std::fs::rename(&draft, gateway.home().join("site/style.css")).unwrap();
    let after = crate::support::eventually("the new file", || async {
        let answer = Client::plain(gateway.http).await.get("/site/style.css").await;
        assert!(matches!(answer.text().as_str(), "body{}" | "body{color:red}"), "{answer:?}");
        (answer.text() != "body{}").then_some(answer)
    })
    .await;
    assert_ne!(before.field("etag"), after.field("etag"));
}
