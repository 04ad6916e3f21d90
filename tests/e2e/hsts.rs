//! What every answer of a TLS listener says of TLS, and what answers of a route say to careful browsers.

use crate::support::client::Client;
use crate::support::gateway::{Setup, route};
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::wire::Message;

const HSTS: &str = "hsts = { max_age_secs = 63072000, include_subdomains = true }";
const SAID: &str = "max-age=63072000; includeSubDomains";

fn said(answer: &Message) -> Option<&str> {
    answer.field("strict-transport-security")
}

fn origin_that_says(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{fields}\r\nhello")
}

#[tokio::test]
async fn every_answer_of_the_listener_says_it_once_and_whatever_the_upstream_says() {
    let own = "Strict-Transport-Security: max-age=1\r\nStrict-Transport-Security: max-age=2; preload\r\n";
    let origin = Origin::always(origin_that_says(own)).await;
    let route = route("set", "\"public\"", "response_headers = { \"Strict-Transport-Security\" = \"max-age=3\" }");
    let gone = "[[route]]\nname = \"moved\"\npath = \"/moved\"\nauth = \"public\"\nredirect = { to = \"/\" }\n\
                [upstream.gone]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                [[route]]\nname = \"gone\"\npath = \"/gone\"\nauth = \"public\"\nupstream = \"gone\"\n";
    let gateway = Setup::before(&origin).https(HSTS).tables(&route).tables(gone).start().await;
    let mut client = Client::tls(&gateway).await;
    let mut sender = h2::connect(&gateway).await;
    for (method, path, status) in [
        ("GET", "/", 200),
        ("POST", "/", 200),
        ("GET", "/set/", 200),
        ("GET", "/private/", 401),
        ("GET", "/moved", 308),
        ("GET", "/gone", 502),
        ("GET", "/a//b", 400),
        ("TRACE", "/", 405),
    ] {
        let one = client.by(method, path, "").await;
        assert_eq!((one.status(), said(&one)), (status, Some(SAID)), "{method} {path}");
        let two = h2::message(&mut sender, h2::request(method, path, &[])).await;
        assert_eq!((two.status(), said(&two)), (status, Some(SAID)), "{method} {path} over HTTP/2");
    }
    assert_eq!(said(&client.by("HEAD", "/", "").await), Some(SAID));
    assert_eq!(
        said(&Client::tls(&gateway).await.ask("GET / HTTP/1.1\r\n\r\n").await),
        Some(SAID),
        "even without a host"
    );
}

#[tokio::test]
async fn a_plain_listener_says_nothing_and_sends_clients_where_it_is_said() {
    let origin = Origin::hello().await;
    let port = Port::reserve();
    let plain = format!("[listen.plain]\naddress = \"{}\"\nredirect_to_https = true\n", port.address);
    let gateway = Setup::before(&origin).https(HSTS).tables(&plain).start().await;
    for (method, path) in
        [("GET", "/"), ("HEAD", "/x?y=1"), ("POST", "/form"), ("PUT", "/x"), ("DELETE", "/x"), ("OPTIONS", "/x")]
    {
        let answer = Client::plain(port.address).await.by(method, path, "").await;
        let location = format!("https://site.test:{}{path}", gateway.https.port());
        assert_eq!(
            (answer.status(), answer.field("location")),
            (308, Some(location.as_str())),
            "{method}: 308 keeps it"
        );
        assert_eq!(said(&answer), None, "RFC 6797 section 7.2");
    }
    let mut client = Client::plain(port.address).await;
    let answer = client.ask("POST /form HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nhello").await;
    assert_eq!((answer.status(), answer.closes()), (308, true), "nobody reads the body here");
    assert_eq!(said(&Client::plain(gateway.http).await.get("/").await), None);
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_plain_listener_redirects_no_host_that_is_refused() {
    let origin = Origin::hello().await;
    let port = Port::reserve();
    let tables = format!(
        "[listen.plain]\naddress = \"{}\"\nredirect_to_https = true\n\
         [[route]]\nname = \"named\"\nhosts = [\"*.site.test\"]\npath = \"/\"\nauth = \"public\"\nupstream = \"app\"\n",
        port.address
    );
    let setup = Setup::before(&origin).server("workers = 1\nunknown_host = \"refuse\"");
    let _gateway = setup.tables(&tables).start().await;
    let mut client = Client::plain(port.address).await;
    for (host, status) in [("www.site.test", 308), ("evil.test", 421)] {
        let answer = client.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!((answer.status(), answer.field("location").is_some()), (status, status == 308), "{host}");
    }
}

#[tokio::test]
async fn a_reload_changes_what_is_said_on_new_connections() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).https(HSTS).start().await;
    let mut before = Client::tls(&gateway).await;
    assert_eq!(said(&before.get("/").await), Some(SAID));
    gateway.edit(|text| text.replace(HSTS, "hsts = { max_age_secs = 0 }"));
    gateway.until_generation(2).await;
    assert_eq!(said(&Client::tls(&gateway).await.get("/").await), Some("max-age=0"));
    assert_eq!(said(&before.get("/").await), Some(SAID), "a connection keeps what it began with");
    gateway.edit(|text| {
        text.replace("hsts = { max_age_secs = 0 }", "hsts = { preload = true, include_subdomains = true }")
    });
    gateway.until_generation(3).await;
    let answer = Client::tls(&gateway).await.get("/").await;
    assert_eq!(said(&answer), Some("max-age=31536000; includeSubDomains; preload"));
    gateway.edit(|text| text.replace("hsts = ", "# hsts = "));
    gateway.until_generation(4).await;
    assert_eq!(said(&Client::tls(&gateway).await.get("/").await), None);
}

#[tokio::test]
async fn security_headers_fill_in_what_nobody_said() {
    let own = "X-Frame-Options: SAMEORIGIN\r\nReferrer-Policy: no-referrer\r\nReferrer-Policy: same-origin\r\n";
    let origin = Origin::always(origin_that_says(own)).await;
    let keys = "security_headers = \"standard\"\n\
                response_headers = { \"Referrer-Policy\" = \"origin\", \"Permissions-Policy\" = \"usb=(self)\" }";
    let guarded = route("guarded", "{ issuer = \"site\" }", "security_headers = \"standard\"");
    let gateway = Setup::before(&origin).tables(&route("both", "\"public\"", keys)).tables(&guarded).start().await;
    let mut client = Client::plain(gateway.http).await;

    let answer = client.get("/both/").await;
    assert_eq!(answer.field("x-frame-options"), Some("SAMEORIGIN"), "the upstream's word goes before the preset's");
    assert_eq!(answer.field("referrer-policy"), Some("origin"), "and the route's before both");
    assert_eq!(answer.field("permissions-policy"), Some("usb=(self)"));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.field("cross-origin-opener-policy"), Some("same-origin"));

    let refused = client.get("/guarded/").await;
    assert_eq!(refused.status(), 401);
    assert_eq!(refused.field("x-frame-options"), Some("DENY"));
    assert_eq!(refused.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(refused.field("referrer-policy"), Some("strict-origin-when-cross-origin"));
    assert!(refused.field("permissions-policy").unwrap().contains("camera=()"));

    let plain = client.get("/").await;
    assert_eq!((plain.field("x-content-type-options"), plain.field("x-frame-options")), (None, Some("SAMEORIGIN")));
}
