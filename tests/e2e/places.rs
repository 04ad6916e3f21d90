//! Where a token may stand, what is left of it for the upstream, and whom a browser's cookie serves.

use serde_json::json;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};
use crate::support::{h2, scrape};

const ANYWHERE: &str = "{ issuer = \"site\", check_origin = false, \
    token = { cookie = \"jwt\", header = \"X-Token\", query = \"access_token\", websocket_protocol = true } }";
const COOKIE: &str = "{ issuer = \"site\", token = { authorization = false, cookie = \"jwt\" } }";
const QUERY: &str = "{ issuer = \"site\", token = { query = \"access_token\" } }";

/// A token in every place of [`ANYWHERE`]: the parameter for the query, and the fields.
fn everywhere(token: &str) -> [(&'static str, String, String); 5] {
    let query = format!("?access_token={token}");
    [
        ("authorization", String::new(), bearer(token)),
        ("cookie", String::new(), format!("Cookie: jwt={token}\r\n")),
        ("header", String::new(), format!("X-Token: {token}\r\n")),
        ("query", query, String::new()),
        ("protocol", String::new(), format!("Sec-WebSocket-Protocol: bearer, {token}\r\n")),
    ]
}

async fn before(origin: &Origin, routes: &str) -> Gateway {
    Setup::before(origin).tables(routes).start().await
}

async fn status(client: &mut Client, method: &str, path: &str, fields: &str) -> u16 {
    client.by(method, path, fields).await.status()
}

fn captured(origin: &Origin) -> String {
    String::from_utf8_lossy(&origin.bytes()).into_owned()
}

#[tokio::test]
async fn a_token_is_taken_from_every_place_named_and_no_other() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("any", ANYWHERE, "forward_claims = { \"X-User-Id\" = \"sub\" }")).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (place, query, fields) in everywhere(&good) {
        assert_eq!(status(&mut client, "GET", &format!("/any/{query}"), &fields).await, 200, "{place}");
        let seen = origin.last();
        assert_eq!(seen.field("x-user-id"), Some("alice"), "{place}");
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {good}").as_str()), "{place}");
    }
    let seen = origin.requests().len();
    for (place, query, fields) in everywhere(&good).into_iter().skip(1) {
        assert_eq!(status(&mut client, "GET", &format!("/private/{query}"), &fields).await, 401, "{place}");
    }
    assert_eq!(origin.requests().len(), seen);
}

#[tokio::test]
async fn a_bad_token_is_refused_wherever_it_stands() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("any", ANYWHERE, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    let forged = token::signed("another-secret-that-is-also-long-enough", &json!({ "exp": token::now() + 60 }));
    for bad in [forged, token::with(&json!({ "exp": token::now() - 1 })), good.replace('.', "-"), good + "x"] {
        for (place, query, fields) in everywhere(&bad) {
            let answer = client.by("GET", &format!("/any/{query}"), &fields).await;
            assert_eq!(answer.status(), 401, "{place}");
            let said = "Bearer realm=\"portcullis\", error=\"invalid_token\"";
            assert_eq!(answer.field("www-authenticate"), Some(said), "{place}");
        }
    }
    for (place, query, fields) in everywhere("") {
        if place == "cookie" {
            continue; // that is how some applications log out
        }
        let status = status(&mut client, "GET", &format!("/any/{query}"), &fields).await;
        assert_eq!(status, 400, "nothing in {place}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn tokens_in_two_places_are_refused_even_if_they_are_one_token() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("any", ANYWHERE, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let all = everywhere(&token::good());
    for (first, query, fields) in &all {
        for (second, other_query, other_fields) in &all {
            let query = match (query.is_empty(), other_query.is_empty()) {
                (false, false) => format!("{query}&{}", &other_query[1..]),
                _ => format!("{query}{other_query}"),
            };
            let answer = client.by("GET", &format!("/any/{query}"), &format!("{fields}{other_fields}")).await;
            assert_eq!(answer.status(), 400, "{first} and {second}");
            let said = "Bearer realm=\"portcullis\", error=\"invalid_request\"";
            assert_eq!(answer.field("www-authenticate"), Some(said), "{first} and {second}");
        }
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_second_token_is_found_under_the_names_applications_take_for_the_same() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("any", ANYWHERE, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for name in ["access%5Ftoken", "%61ccess_token", "access%5ftoken"] {
        let path = format!("/any/?{name}=unverified");
        assert_eq!(status(&mut client, "GET", &path, &bearer(&good)).await, 400, "{name}");
    }
    for cookies in ["jwt =unverified", "jwt\t=unverified", "a=1; jwt =unverified", "jwt\u{a0}=unverified"] {
        for fields in [
            format!("{}Cookie: {cookies}\r\n", bearer(&good)),
            format!("Cookie: jwt={good}; {cookies}\r\n"),
            format!("Cookie: jwt={good}\r\nCookie: {cookies}\r\n"),
        ] {
            assert_eq!(status(&mut client, "GET", "/any/", &fields).await, 400, "{fields}");
        }
    }
    assert!(!captured(&origin).contains("unverified"));
}

#[tokio::test]
async fn a_token_that_is_not_sent_on_leaves_no_trace() {
    let origin = Origin::hello().await;
    let keys = "forward_token = false\nforward_claims = { \"X-User-Id\" = \"sub\" }";
    let gateway = before(&origin, &route("any", ANYWHERE, keys)).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (place, query, fields) in everywhere(&good) {
        for (more, method) in [("", "GET"), ("DPoP: a.b.c\r\n", "POST")] {
            let path = format!("/any/{query}");
            assert_eq!(status(&mut client, method, &path, &format!("{fields}{more}")).await, 200, "{place}");
            let seen = origin.last();
            assert_eq!(seen.field("x-user-id"), Some("alice"), "{place}");
            for name in ["authorization", "dpop", "x-token", "cookie", "sec-websocket-protocol"] {
                assert_eq!(seen.field(name), None, "{place}: {name}");
            }
            assert_eq!(seen.target(), "/any/", "{place}");
        }
    }
    for part in good.split('.').skip(1) {
        assert!(!captured(&origin).contains(part));
    }
}

#[tokio::test]
async fn what_stood_beside_the_token_is_sent_on() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("any", ANYWHERE, "forward_token = false")).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (sent, name, left) in [
        (format!("Cookie: a=1; jwt={good}; b=\"2\"; jwtx=3\r\n"), "cookie", "a=1; b=\"2\"; jwtx=3"),
        (format!("Cookie: a=1\r\nCookie: jwt={good}\r\nCookie: b=2\r\n"), "cookie", "a=1; b=2"),
        (
            format!("Sec-WebSocket-Protocol: chat, bearer, {good}, v2.chat\r\n"),
            "sec-websocket-protocol",
            "chat, v2.chat",
        ),
        (format!("X-Token: {good}\r\nX-Tokens: 1\r\n"), "x-tokens", "1"),
        (format!("X-Token: {good}\r\nAuthorization: Basic dTpw\r\n"), "authorization", "Basic dTpw"),
    ] {
        assert_eq!(status(&mut client, "GET", "/any/", &sent).await, 200, "{sent}");
        assert_eq!(origin.last().field(name), Some(left), "{sent}");
    }
    assert!(!captured(&origin).contains(good.rsplit_once('.').unwrap().1));
}

#[tokio::test]
async fn cookie_lines_split_by_http_2_hold_one_token() {
    let origin = Origin::hello().await;
    let routes = route("cookie", COOKIE, "") + &route("bare", COOKIE, "forward_token = false");
    let gateway = before(&origin, &routes).await;
    let mut sender = h2::connect(&gateway).await;
    let cookie = format!("jwt={}", token::good());
    for (path, left) in [("/cookie/", format!("a=1; {cookie}; b=2")), ("/bare/", "a=1; b=2".to_owned())] {
        let fields = [("cookie", "a=1"), ("cookie", &cookie), ("cookie", "b=2")];
        assert_eq!(h2::ask(&mut sender, h2::request("GET", path, &fields)).await.0, 200);
        assert_eq!(origin.last().field("cookie"), Some(left.as_str()));
    }
    let twice = [("cookie", cookie.as_str()), ("cookie", "a=1"), ("cookie", cookie.as_str())];
    assert_eq!(h2::ask(&mut sender, h2::request("GET", "/cookie/", &twice)).await.0, 400);
    let own = [("cookie", cookie.as_str()), ("origin", "https://site.test")];
    assert_eq!(h2::ask(&mut sender, h2::request("POST", "/cookie/", &own)).await.0, 200);
    let other = [("cookie", cookie.as_str()), ("origin", "http://site.test")];
    assert_eq!(h2::ask(&mut sender, h2::request("POST", "/cookie/", &other)).await.0, 403, "another scheme");
}

#[tokio::test]
async fn only_the_own_and_the_named_origins_spend_a_cookie_on_writes() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", token = { cookie = \"jwt\" }, origins = [\"https://app.test:8443\"] }";
    let gateway = before(&origin, &route("cookie", auth, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let cookie = format!("Cookie: jwt={}\r\n", token::good());
    for (fields, admitted) in [
        ("", false),
        ("Origin: http://site.test\r\n", true),
        ("Origin: http://site.test:80\r\n", false),
        ("Origin: https://site.test\r\n", false),
        ("Origin: http://site.test:8080\r\n", false),
        ("Origin: http://sub.site.test\r\n", false),
        ("Origin: http://site.test.evil.test\r\n", false),
        ("Origin: http://evilsite.test\r\n", false),
        ("Origin: http://site.test@evil.test\r\n", false),
        ("Origin: null\r\n", false),
        ("Origin:\r\n", false),
        ("Origin: null\r\nReferer: http://site.test/\r\n", false),
        ("Origin: http://evil.test\r\nReferer: http://site.test/\r\n", false),
        ("Origin: https://app.test:8443\r\n", true),
        ("Origin: https://app.test\r\n", false),
        ("Origin: http://site.test\r\nOrigin: http://evil.test\r\n", false),
        ("Origin: http://evil.test\r\nOrigin: http://evil.test\r\nReferer: http://site.test/\r\n", false),
        ("Referer: http://site.test/form?x=http://evil.test/\r\n", true),
        ("Referer: http://site.test\r\n", true),
        ("Referer: http://evil.test/http://site.test/\r\n", false),
        ("Referer: http://evil.test?http://site.test\r\n", false),
        ("Referer: http://site.test@evil.test/\r\n", false),
        ("Referer: http://site.test\\@evil.test/\r\n", false),
        ("Referer: /\r\n", false),
        ("Sec-Fetch-Site: same-origin\r\n", true),
        ("Sec-Fetch-Site: none\r\n", true),
        ("Sec-Fetch-Site: same-site\r\n", false),
        ("Sec-Fetch-Site: cross-site\r\n", false),
        ("Sec-Fetch-Site: same-site\r\nOrigin: http://sub.site.test\r\n", false),
        ("Sec-Fetch-Site: cross-site\r\nOrigin: https://app.test:8443\r\n", true),
        ("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Site: same-origin\r\n", false),
        ("Sec-Fetch-Site: cross-site, same-origin\r\n", false),
        ("X-Forwarded-Host: evil.test\r\nOrigin: http://evil.test\r\n", false),
        ("X-Forwarded-Proto: https\r\nOrigin: https://site.test\r\n", false),
    ] {
        for method in ["POST", "PUT", "DELETE", "BREW"] {
            let answer = client.by(method, "/cookie/", &format!("{cookie}{fields}")).await;
            assert_eq!(answer.status(), if admitted { 200 } else { 403 }, "{method} {fields}");
            assert_eq!(answer.field("www-authenticate"), None, "no token would help");
        }
        for method in ["GET", "HEAD", "OPTIONS"] {
            let answer = client.by(method, "/cookie/", &format!("{cookie}{fields}")).await;
            assert_eq!(answer.status(), 200, "{method} {fields}");
        }
    }
}

#[tokio::test]
async fn the_origin_guard_is_for_cookies_alone_and_for_tunnels_too() {
    let origin = Origin::hello().await;
    let routes = route("cookie", "{ issuer = \"site\", token = { cookie = \"jwt\" } }", "")
        + &route("unguarded", "{ issuer = \"site\", check_origin = false, token = { cookie = \"jwt\" } }", "");
    let gateway = before(&origin, &routes).await;
    let mut client = Client::plain(gateway.http).await;
    let (evil, own) = ("Origin: http://evil.test\r\n", "Origin: http://site.test\r\n");
    let (cookie, bearer) = (format!("Cookie: jwt={}\r\n", token::good()), bearer(&token::good()));
    assert_eq!(status(&mut client, "POST", "/cookie/", &format!("{bearer}{evil}")).await, 200, "no site can send this");
    assert_eq!(status(&mut client, "POST", "/unguarded/", &format!("{cookie}{evil}")).await, 200);
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(client.get_with("/cookie/", &format!("{cookie}{upgrade}{evil}")).await.status(), 403);
    assert_eq!(client.get_with("/cookie/", &format!("{cookie}{upgrade}")).await.status(), 403);
    assert_ne!(client.get_with("/cookie/", &format!("{cookie}{upgrade}{own}")).await.status(), 403);
    gateway.until_metric("portcullis_auth_decisions_total", &["reason=\"cross_origin\"", "route=\"cookie\""], 2).await;
}

#[tokio::test]
async fn an_authorization_field_nobody_looked_at_does_not_look_verified() {
    let origin = Origin::hello().await;
    let maybe = "{ issuer = \"site\", optional = true, token = { authorization = false, cookie = \"jwt\" } }";
    let routes = route("cookie", COOKIE, "")
        + &route("bare", COOKIE, "forward_token = false")
        + &route("maybe", maybe, "")
        + &route("nothing", maybe, "forward_token = false");
    let gateway = before(&origin, &routes).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    let cookie = format!("Cookie: jwt={good}\r\n");
    let unverified =
        ["Bearer", "bearer", "BEARER", "DPoP"].map(|scheme| format!("Authorization: {scheme} evil.e.e\r\n"));
    let twice = format!("Authorization: Basic dTpw\r\n{}", unverified[0]);
    for field in unverified.iter().chain([&twice]) {
        assert_eq!(status(&mut client, "GET", "/cookie/", field).await, 401, "{field}");
        assert_eq!(status(&mut client, "GET", "/cookie/", &format!("{field}{cookie}")).await, 200, "{field}");
        assert_eq!(origin.last().field("authorization"), Some(format!("Bearer {good}").as_str()), "{field}");
        for (path, fields) in
            [("/bare/", format!("{field}{cookie}")), ("/maybe/", field.clone()), ("/nothing/", field.clone())]
        {
            assert_eq!(status(&mut client, "GET", path, &fields).await, 200, "{path} {field}");
            assert_eq!(origin.last().field("authorization"), None, "{path} {field}");
        }
    }
    assert!(!captured(&origin).contains("evil"));
}

#[tokio::test]
async fn a_query_token_is_hidden_from_the_upstream_and_the_log_and_other_parameters_keep_their_bytes() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("query", QUERY, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (number, (sent, left)) in [
        ("access_token=T", ""),
        ("a=%2F%20+&access_token=T", "?a=%2F%20+"),
        ("access_token=T&b=%C3%BC&c", "?b=%C3%BC&c"),
        ("a=1&&access_token=T&b=;'{}|^`[]", "?a=1&&b=;'{}|^`[]"),
        (
            "xaccess_token=1&access_token=T&access_tokens=2&access_token_=3",
            "?xaccess_token=1&access_tokens=2&access_token_=3",
        ),
        ("q=access_token&access_token=T", "?q=access_token"),
        ("access_token=T&a=b=c?d", "?a=b=c?d"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = format!("/query/%C3%BC{number}/?{}", sent.replace('T', &good));
        assert_eq!(client.by("GET", &path, "").await.status(), 200, "{sent}");
        assert_eq!(origin.last().target(), format!("/query/%C3%BC{number}/{left}"), "{sent}");
        gateway.access_line(&format!("/query/%C3%BC{number}/")).await;
    }
    let signature = good.rsplit_once('.').unwrap().1;
    let targets = origin.targets().join(" ");
    for page in [gateway.log(), scrape::ask(gateway.admin, "/metrics").await.text(), targets] {
        assert!(!page.contains(signature), "{page}");
    }
}

#[tokio::test]
async fn a_query_token_is_taken_out_behind_a_replaced_prefix_too() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("query", QUERY, "replace_prefix = \"/v2\"\nforward_token = false")).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (sent, seen) in [("/query/x%20y?a=1&access_token=", "x%20y?a=1"), ("/query/?access_token=", "")] {
        assert_eq!(client.by("GET", &format!("{sent}{good}"), "").await.status(), 200);
        assert!(origin.last().target().ends_with(seen), "{:?}", origin.last().target());
    }
    assert!(!captured(&origin).contains("access_token") && !captured(&origin).contains("eyJ"));
}

#[tokio::test]
async fn an_answer_to_a_query_token_is_in_no_shared_cache() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let said = request.field("x-say").map(|said| format!("Cache-Control: {said}\r\n")).unwrap_or_default();
            conn.send(format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\nok")).await;
        }
    })
    .await;
    let routes = route("query", QUERY, "")
        + &route("said", QUERY, "response_headers = { \"Cache-Control\" = \"public, max-age=60\" }");
    let gateway = before(&origin, &routes).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (path, said, sent) in [
        ("query", "", Some("private")),
        ("query", "public, max-age=600", Some("private")),
        ("query", "max-age=600, s-maxage=900", Some("private")),
        ("query", "public, private=\"set-cookie\"", Some("private")),
        ("query", "max-age=60, x-not-private", Some("private")),
        ("query", "max-age=60, x=\"a, private, b\"", Some("private")),
        ("query", "Private, max-age=600", Some("Private, max-age=600")),
        ("query", "no-store", Some("no-store")),
        ("said", "", Some("private")),
    ] {
        let fields = if said.is_empty() { String::new() } else { format!("X-Say: {said}\r\n") };
        let answer = client.by("GET", &format!("/{path}/?access_token={good}"), &fields).await;
        assert_eq!((answer.status(), answer.field("cache-control")), (200, sent), "{path} {said}");
        let answer = client.by("GET", &format!("/{path}/"), &format!("{fields}{}", bearer(&good))).await;
        let own = if path == "said" { "public, max-age=60" } else { said };
        assert_eq!(answer.field("cache-control").unwrap_or_default(), own, "what the upstream says, otherwise");
    }
}

#[tokio::test]
async fn an_answer_to_a_cookies_token_is_in_no_shared_cache_unless_the_origin_says_so() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let said = request.field("x-say").map(|said| format!("Cache-Control: {said}\r\n")).unwrap_or_default();
            conn.send(format!("HTTP/1.1 200 OK\r\n{said}Content-Length: 2\r\n\r\nok")).await;
        }
    })
    .await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    std::fs::write(home.path().join("site/a.txt"), "a").unwrap();
    let files =
        format!("[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = {ANYWHERE}\nfiles = {{ root = \"site\" }}\n");
    let gateway = Setup::before(&origin).tables(&(route("any", ANYWHERE, "") + &files)).start_in(home).await;
    let mut client = Client::plain(gateway.http).await;
    let (_, _, cookie) = everywhere(&token::good())[1].clone();
    for (said, sent) in [
        ("", vec!["private"]),
        ("max-age=60", vec!["max-age=60", "private"]),
        ("x=\"public\"", vec!["x=\"public\"", "private"]),
        ("no-store", vec!["no-store"]),
        ("private", vec!["private"]),
        ("Public, max-age=60", vec!["Public, max-age=60"]),
        ("s-maxage=60", vec!["s-maxage=60"]),
    ] {
        let fields = if said.is_empty() { cookie.clone() } else { format!("{cookie}X-Say: {said}\r\n") };
        let answer = client.by("GET", "/any/", &fields).await;
        assert_eq!((answer.status(), answer.all("cache-control")), (200, sent), "{said}");
    }
    for (_, query, fields) in everywhere(&token::good()) {
        let answer = client.by("GET", &format!("/files/a.txt{query}"), &fields).await;
        let personal = !fields.starts_with("Authorization");
        assert_eq!((answer.status(), answer.field("cache-control")), (200, personal.then_some("private")), "{fields}");
    }
}

#[tokio::test]
async fn a_file_and_a_failure_behind_a_query_token_are_in_no_shared_cache_either() {
    let origin = Origin::once("nonsense\r\n\r\n").await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("site")).unwrap();
    std::fs::write(home.path().join("site/a.txt"), "a").unwrap();
    let files = format!(
        "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = {QUERY}\n\
         files = {{ root = \"site\", cache_control = \"public, max-age=31536000\" }}\n"
    );
    let routes = files + &route("broken", QUERY, "response_headers = { \"Cache-Control\" = \"public, max-age=60\" }");
    let gateway = Setup::before(&origin).tables(&routes).start_in(home).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (method, path, fields, status) in [
        ("GET", "files/a.txt", "", 200),
        ("HEAD", "files/a.txt", "", 200),
        ("GET", "files/a.txt", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n", 304),
        ("GET", "files/none.txt", "", 404),
        ("GET", "broken/", "", 502),
    ] {
        let answer = client.by(method, &format!("/{path}?access_token={good}"), fields).await;
        assert_eq!((answer.status(), answer.field("cache-control")), (status, Some("private")), "{method} {path}");
    }
    let answer = client.by("GET", "/files/a.txt", &bearer(&good)).await;
    assert_eq!(answer.field("cache-control"), Some("public, max-age=31536000"));
}

#[tokio::test]
async fn a_redirect_does_not_hand_the_query_token_on() {
    let origin = Origin::hello().await;
    let table = format!(
        "[[route]]\nname = \"moved\"\npath = \"/moved/\"\nauth = {QUERY}\n\
         redirect = {{ to = \"https://elsewhere.test{{path}}{{query}}\", status = 307 }}\n"
    );
    let gateway = before(&origin, &table).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for (query, left) in [(format!("?a=1&access_token={good}&b=2"), "?a=1&b=2"), (format!("?access_token={good}"), "")]
    {
        let answer = client.by("GET", &format!("/moved/{query}"), "").await;
        let location = format!("https://elsewhere.test/moved/{left}");
        assert_eq!((answer.status(), answer.field("location")), (307, Some(location.as_str())));
    }
}

#[tokio::test]
async fn all_claims_are_forwarded_as_they_were_signed_and_only_by_the_gateway() {
    let origin = Origin::hello().await;
    let keys = "forward_all_claims = \"X-Claims\"\nforward_token = false";
    let maybe = "{ issuer = \"site\", optional = true }";
    let gateway =
        before(&origin, &(route("claims", "{ issuer = \"site\" }", keys) + &route("maybe", maybe, keys))).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::with(&json!({ "big": 9_007_199_254_740_993_u64, "name": "Zoë", "deep": { "a": [1, null] } }));
    let spoofed = "X-Claims: spoofed\r\nx-claims: spoofed\r\nX_Claims: spoofed\r\nX-User-Id: spoofed\r\n";
    for path in ["/claims/", "/maybe/"] {
        assert_eq!(status(&mut client, "GET", path, &format!("{spoofed}{}", bearer(&good))).await, 200);
        assert_eq!(origin.last().field("x-claims"), good.split('.').nth(1), "the bytes that were signed");
    }
    for path in ["/", "/maybe/"] {
        assert_eq!(status(&mut client, "GET", path, spoofed).await, 200);
        assert_eq!(origin.last().field("x-claims"), None, "{path}");
    }
    let trailers = format!(
        "POST /claims/ HTTP/1.1\r\nHost: site.test\r\n{}Transfer-Encoding: chunked\r\nTrailer: X-Claims\r\n\r\n\
         2\r\nok\r\n0\r\nX-Claims: spoofed\r\nAuthorization: Bearer spoofed\r\n\r\n",
        bearer(&good)
    );
    assert_eq!(client.ask(trailers).await.status(), 200);
    assert!(!captured(&origin).contains("spoofed"));
}

#[tokio::test]
async fn a_connection_field_cannot_name_what_the_gateway_sets() {
    let origin = Origin::hello().await;
    let keys = "forward_claims = { \"X-User-Id\" = \"sub\" }\nforward_all_claims = \"X-Claims\"";
    let gateway = before(&origin, &route("any", ANYWHERE, keys)).await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    let names = "Connection: x-user-id, x-claims, authorization, x-token, cookie, sec-websocket-protocol\r\n";
    for (place, query, fields) in everywhere(&good) {
        assert_eq!(status(&mut client, "GET", &format!("/any/{query}"), &format!("{names}{fields}")).await, 200);
        let seen = origin.last();
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {good}").as_str()), "{place}");
        assert_eq!(seen.field("x-user-id"), Some("alice"), "{place}");
        assert_eq!(seen.field("x-claims"), good.split('.').nth(1), "{place}");
    }
}
