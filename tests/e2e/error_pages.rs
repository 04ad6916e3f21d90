//! What people are shown when there is no normal answer, and what programs still get.

use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::Origin;
use crate::support::{h2, token};

const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
const SCRIPT: &str = "Accept: application/json, */*\r\n";
const PAGE_404: &str = "<h1>Nothing here</h1>";
const PAGE_401: &str = "<h1>Who are you?</h1>";
const PAGE_503: &str = "<h1>We are away</h1>";
const DEFAULT_404: &str = "No such address";

fn tables() -> String {
    let pages = "error_pages = { 401 = \"pages/401.html\", 404 = \"pages/404.html\", 405 = \"pages/405.html\", 502 = \"pages/502.html\" }\n";
    [
        route("api", "{ issuer = \"site\" }", pages),
        route("plain", "\"public\"", ""),
        format!(
            "[[route]]\nname = \"site\"\npath = \"/site/\"\nauth = \"public\"\nfiles = {{ root = \"site\" }}\n{pages}"
        ),
    ]
    .concat()
}

fn write(home: &Path, name: &str, contents: &str) {
    let path = home.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

async fn gateway(setup: Setup) -> Gateway {
    let home: TempDir = tempfile::tempdir().unwrap();
    write(home.path(), "site/index.html", "home");
    for (status, page) in [(401, PAGE_401), (404, PAGE_404), (405, "<h1>Not so</h1>"), (502, PAGE_503)] {
        write(home.path(), &format!("pages/{status}.html"), page);
    }
    write(home.path(), "default.txt", DEFAULT_404);
    let server = "error_pages = { 404 = \"default.txt\" }";
    setup.server(server).tables(&tables()).start_in(home).await
}

#[tokio::test]
async fn people_get_the_page_and_programs_what_they_always_got() {
    let origin = Origin::hello().await;
    let gateway = gateway(Setup::before(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.get_with("/site/none", BROWSER).await;
    assert_eq!((page.status(), page.text().as_str()), (404, PAGE_404));
    assert_eq!((page.field("content-type"), page.field("vary")), (Some("text/html; charset=utf-8"), Some("Accept")));
    for fields in [SCRIPT, "", "Accept: */*\r\n", "Accept: text/html;q=0\r\n"] {
        let problem = client.get_with("/site/none", fields).await;
        assert_eq!(
            (problem.status(), problem.field("content-type")),
            (404, Some("application/problem+json")),
            "{fields}"
        );
        assert_eq!((problem.field("vary"), problem.json()["status"].clone()), (Some("Accept"), json!(404)));
    }
    let fine = client.get_with("/site/", BROWSER).await;
    assert_eq!((fine.status(), fine.text().as_str(), fine.field("vary")), (200, "home", None));
    let head = client.by("HEAD", "/site/none", BROWSER).await;
    assert_eq!((head.status(), head.field("content-length")), (404, Some(PAGE_404.len().to_string().as_str())));
    let refused = client.by("POST", "/site/", BROWSER).await;
    assert_eq!(
        (refused.status(), refused.field("allow"), refused.text().as_str()),
        (405, Some("GET, HEAD"), "<h1>Not so</h1>")
    );
}

#[tokio::test]
async fn a_page_for_who_may_not_pass_keeps_the_challenge() {
    let origin = Origin::hello().await;
    let gateway =
        gateway(Setup::before(&origin).issuer("preset = \"simplejwt\"\nsecret = { file = \"issuer.secret\" }\n")).await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.get_with("/api/x", BROWSER).await;
    assert_eq!((page.status(), page.text().as_str()), (401, PAGE_401));
    assert!(page.field("www-authenticate").unwrap().starts_with("Bearer realm="), "{page:?}");
    assert_eq!(page.field("cache-control"), Some("no-store"));
    let drf = client.get_with("/api/x", SCRIPT).await;
    assert_eq!((drf.status(), drf.json()), (401, json!({ "detail": "Authentication credentials were not provided." })));
    assert_eq!(drf.field("www-authenticate"), page.field("www-authenticate"));
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn what_the_upstream_answers_is_its_own() {
    let origin = Origin::always("HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nits own").await;
    let gateway = gateway(Setup::before(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client.get_with("/api/x", &format!("{BROWSER}Authorization: Bearer {}\r\n", token::good())).await;
    assert_eq!((answer.status(), answer.text().as_str(), answer.field("vary")), (404, "its own", None));
}

#[tokio::test]
async fn a_dead_upstream_is_excused_by_a_page() {
    let origin = Origin::hello().await;
    let dead = origin.endpoint();
    drop(origin);
    let gateway = gateway(Setup::endpoints([dead])).await;
    let mut client = Client::plain(gateway.http).await;
    let asked = |fields: &str| format!("{fields}Authorization: Bearer {}\r\n", token::good());
    let page = client.get_with("/api/x", &asked(BROWSER)).await;
    assert_eq!((page.status(), page.text().as_str()), (502, PAGE_503));
    let problem = client.get_with("/api/x", &asked(SCRIPT)).await;
    assert_eq!((problem.status(), problem.field("content-type")), (502, Some("application/problem+json")));
    let other = client.get_with("/plain/x", BROWSER).await;
    assert_eq!(
        (other.status(), other.field("content-type"), other.field("vary")),
        (502, Some("application/problem+json"), None)
    );
}

#[tokio::test]
async fn what_no_route_matches_has_the_pages_of_the_server() {
    let origin = Origin::hello().await;
    let gateway = gateway(Setup::before(&origin)).await;
    gateway.edit(|text| text.replace("path = \"/\"\n", "path = \"/somewhere/\"\n"));
    gateway.until_generation(2).await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.get_with("/nowhere", BROWSER).await;
    assert_eq!((page.status(), page.text().as_str()), (404, DEFAULT_404));
    assert_eq!(page.field("content-type"), Some("text/plain; charset=utf-8"));
    let problem = client.get_with("/nowhere", SCRIPT).await;
    assert_eq!((problem.status(), problem.field("content-type")), (404, Some("application/problem+json")));
    let mut sender = h2::connect(&gateway).await;
    let (status, page) = h2::ask(&mut sender, h2::request("GET", "/nowhere", &[("accept", "text/html")])).await;
    assert_eq!((status.as_u16(), page.as_str()), (404, DEFAULT_404));
    let call = [("accept", "text/html"), ("content-type", "application/grpc")];
    let refused = h2::message(&mut sender, h2::request("POST", "/nowhere", &call)).await;
    assert_eq!((refused.field("grpc-status"), refused.field("vary"), refused.body.len()), (Some("12"), None, 0));
}

#[tokio::test]
async fn a_host_that_is_not_served_here_has_a_page() {
    let home: TempDir = tempfile::tempdir().unwrap();
    write(home.path(), "wrong-host.html", "wrong host");
    let origin = Origin::hello().await;
    let named = route("named", "\"public\"", "hosts = [\"site.test\"]");
    let server = "unknown_host = \"refuse\"\nerror_pages = { 421 = \"wrong-host.html\" }";
    let gateway = Setup::before(&origin).server(server).tables(&named).start_in(home).await;
    let mut client = Client::plain(gateway.http).await;
    let page = client.ask(format!("GET / HTTP/1.1\r\nHost: elsewhere.test\r\n{BROWSER}\r\n")).await;
    assert_eq!((page.status(), page.text().as_str()), (421, "wrong host"));
    assert_eq!(client.get_with("/", BROWSER).await.text(), "hello");
}

#[tokio::test]
async fn a_changed_page_is_shown_after_a_reload_and_a_missing_one_keeps_the_old() {
    let origin = Origin::hello().await;
    let gateway = gateway(Setup::before(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let page = gateway.home().join("pages/404.html");
    let draft = gateway.home().join("pages/draft");
    std::fs::write(&draft, "<h1>Gone fishing</h1>").unwrap();
    std::fs::rename(&draft, &page).unwrap();
    gateway.until_generation(2).await;
    assert_eq!(client.get_with("/site/none", BROWSER).await.text(), "<h1>Gone fishing</h1>");
    std::fs::remove_file(&page).unwrap();
    gateway.until_metric("portcullis_config_reloads_total", &["result=\"refused\""], 1).await;
    assert_eq!(client.get_with("/site/none", BROWSER).await.text(), "<h1>Gone fishing</h1>");
    assert!(gateway.log().contains("404.html: no such file"), "{}", gateway.log());
}
