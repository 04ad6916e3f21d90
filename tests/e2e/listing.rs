//! Directories without an index file, end to end: who may see what is in them, and in which form.

use std::path::Path;

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;

const ROUTES: &str = "[[route]]\nname = \"media\"\npath = \"/media/\"\nauth = \"public\"\n\
    files = { root = \"media\", cache_control = \"max-age=60\", listing = true }\n\
    [[route]]\nname = \"closed\"\npath = \"/closed/\"\nauth = \"public\"\nfiles = { root = \"media\" }\n\
    [[route]]\nname = \"guarded\"\npath = \"/guarded/\"\nauth = { issuer = \"site\" }\n\
    files = { root = \"media\", listing = true }\nresponse_headers = { \"Cache-Control\" = \"max-age=5\" }\n";

/// Names that mean something to HTML, to URLs or to a shell.
const STRANGE: [&str; 9] = [
    "<b>&\"'.txt",
    "100%.txt",
    "%2e%2e",
    "a?b#c.txt",
    "javascript:alert(1)",
    "grüße €.txt",
    "with space",
    "a;b=c",
    "~x+y",
];

fn write(home: &Path, name: &str, contents: impl AsRef<[u8]>) {
    let path = home.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

async fn gateway() -> (Gateway, Origin) {
    let home: TempDir = tempfile::tempdir().unwrap();
    let at = home.path();
    write(at, "media/docs/style.css", "body{}");
    write(at, "media/docs/style.css.gz", "compressed");
    write(at, "media/docs/sub/inner.txt", "inner");
    write(at, "media/docs/.env", "hidden");
    write(at, "media/docs/.well-known/x", "hidden: not at the root");
    write(at, "media/.well-known/security.txt", "known");
    write(at, "media/indexed/index.html", "its own page");
    for name in STRANGE {
        write(at, &format!("media/strange/{name}"), name);
    }
    write(at, "outside.txt", "outside");
    for (to, link) in [("../../outside.txt", "way-out"), ("/etc", "etc"), ("style.css", "inside"), ("docs", "itself")] {
        std::os::unix::fs::symlink(to, at.join("media/docs").join(link)).unwrap();
    }
    let origin = Origin::hello().await;
    (Setup::before(&origin).tables(ROUTES).start_in(home).await, origin)
}

/// The names in the document for programs.
fn names(document: &serde_json::Value) -> Vec<&str> {
    document["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect()
}

/// The links in the page for people, but for the one that leads up.
fn links(page: &str) -> Vec<String> {
    let links = page.split("<th scope=\"row\"><a href=\"").skip(1);
    links.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_directory_is_listed_with_what_would_be_served_and_nothing_else() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.get("/media/docs/").await;
    assert_eq!((page.status(), page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(links(&page.text()), ["sub/", "inside", "style.css", "style.css.gz"], "{}", page.text());
    assert!(!page.text().contains("outside") && !page.text().contains(".env"));
    assert_eq!((page.field("cache-control"), page.field("vary")), (Some("no-cache"), Some("Accept")));
    assert!(page.field("content-security-policy").unwrap().starts_with("default-src 'none'; style-src 'sha256-"));
    let document = client.get_with("/media/docs/", "Accept: application/json\r\n").await;
    assert_eq!((document.status(), document.field("content-type")), (200, Some("application/json")));
    assert_eq!((document.field("vary"), document.field("content-security-policy")), (Some("Accept"), None));
    let document = document.json();
    assert_eq!(names(&document), ["sub", "inside", "style.css", "style.css.gz"]);
    assert_eq!((document["path"].as_str(), document["total"].as_u64()), (Some("/media/docs/"), Some(4)));
    let file = &document["entries"][2];
    assert_eq!((file["kind"].as_str(), file["size"].as_u64()), (Some("file"), Some(6)));
    assert!(humantime::parse_rfc3339(file["modified"].as_str().unwrap()).is_ok(), "{file}");
    let root = client.get_with("/media/", "Accept: application/json\r\n").await.json();
    assert_eq!(names(&root), [".well-known", "docs", "indexed", "strange"]);
}

#[tokio::test]
async fn every_link_of_a_listing_leads_to_what_it_names() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.get("/media/strange/").await.text();
    assert!(!page.contains("<b>&"), "{page}");
    let mut found = Vec::new();
    for link in links(&page) {
        let answer = client.get(&format!("/media/strange/{link}")).await;
        assert_eq!(answer.status(), 200, "{link}");
        found.push(answer.text());
    }
    let mut all = STRANGE.map(str::to_owned);
    all.sort();
    assert_eq!(found, all, "each file holds its own name, and names are in order");
}

#[tokio::test]
async fn a_listing_is_asked_for_by_the_route_and_with_a_slash() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/closed/docs/").await.status(), 404, "not asked for, not listed");
    assert_eq!(client.get("/media/indexed/").await.text(), "its own page");
    assert_eq!(client.get("/media/docs/style.css").await.text(), "body{}");
    for (path, location) in [("/media/docs", "docs/"), ("/media", "media/")] {
        let answer = client.get(path).await;
        assert_eq!((answer.status(), answer.field("location")), (301, Some(location)), "{path}");
    }
    for path in [
        "/media/none/",
        "/media/docs/none",
        "/media/docs/style.css/",
        "/media/docs/way-out/",
        "/media/docs/etc/",
        "/media/.git/",
    ] {
        assert_eq!(client.get(path).await.status(), 404, "{path}");
    }
    assert_eq!(client.by("POST", "/media/docs/", "").await.status(), 405);
}

#[tokio::test]
async fn a_listing_is_for_those_who_pass_the_route() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/guarded/docs/").await.status(), 401);
    let token = crate::support::token::good();
    let answer = client.get_with("/guarded/docs/", &format!("Authorization: Bearer {token}\r\n")).await;
    assert_eq!(
        (answer.status(), answer.field("cache-control")),
        (200, Some("max-age=5")),
        "the route's word goes first"
    );
}

#[tokio::test]
async fn an_unchanged_listing_is_304_and_head_has_no_body() {
    let (gateway, _origin) = gateway().await;
    let mut client = Client::plain(gateway.http).await;
    for accept in ["text/html", "application/json"] {
        let fields = format!("Accept: {accept}\r\n");
        let page = client.get_with("/media/docs/", &fields).await;
        let head = client.by("HEAD", "/media/docs/", &fields).await;
        assert_eq!((head.status(), head.field("content-length")), (200, Some(page.body.len().to_string().as_str())));
        let etag = page.field("etag").unwrap();
        assert!(etag.starts_with('"'), "strong: {etag}");
        let again = client.get_with("/media/docs/", &format!("{fields}If-None-Match: {etag}\r\n")).await;
        assert_eq!((again.status(), again.field("etag"), again.body.len()), (304, Some(etag), 0));
        assert_eq!((again.field("vary"), again.field("cache-control")), (Some("Accept"), Some("no-cache")));
        let other = client.get_with("/media/docs/", &format!("{fields}If-None-Match: \"other\"\r\n")).await;
        assert_eq!((other.status(), other.body), (200, page.body.clone()));
    }
}

#[tokio::test]
async fn a_large_directory_comes_in_pages() {
    let home: TempDir = tempfile::tempdir().unwrap();
    for number in 0..1001 {
        write(home.path(), &format!("media/many/{number:04}"), "");
    }
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(ROUTES).start_in(home).await;
    let mut client = Client::plain(gateway.http).await;
    let mut page = async |query: &str| {
        let answer = client.get_with(&format!("/media/many/{query}"), "Accept: application/json\r\n").await;
        (answer.status() == 200).then(|| answer.json())
    };
    let (first, second) = (page("").await.unwrap(), page("?page=2").await.unwrap());
    assert_eq!(
        (names(&first).len(), first["next"].as_str(), first["previous"].as_str()),
        (1000, Some("?page=2"), None)
    );
    assert_eq!(
        (names(&second), second["next"].as_str(), second["previous"].as_str()),
        (vec!["1000"], None, Some("?page=1"))
    );
    assert_eq!(
        (second["pages"].as_u64(), second["total"].as_u64(), second["truncated"].as_bool()),
        (Some(2), Some(1001), Some(false))
    );
    for query in ["?page=3", "?page=0", "?page=99999999999999999999"] {
        assert_eq!(page(query).await, None, "{query}");
    }
    let html = client.get("/media/many/?page=2").await.text();
    assert!(html.contains("<a rel=\"prev\" href=\"?page=1\">") && !html.contains("rel=\"next\""), "{html}");
}
