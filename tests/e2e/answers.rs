//! How a refusal is told: challenges, the way to the login for browsers, and the two kinds of bodies.

use percent_encoding::percent_decode_str;
use serde_json::json;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};
use crate::support::wire::Message;

const METADATA: &str = "https://site.test/.well-known/oauth-protected-resource";
const SIMPLEJWT: &str = "preset = \"simplejwt\"\nsecret = { file = \"issuer.secret\" }";
const LOGIN: &str = "https://id.test/login?next=";
/// What browsers send when a user follows a link.
const PAGE: &str =
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nSec-Fetch-Mode: navigate\r\n";

fn with_login(more: &str) -> String {
    format!("{{ issuer = \"site\", login_url = \"{LOGIN}{{url}}\"{more} }}")
}

async fn before(origin: &Origin, routes: &str) -> Gateway {
    Setup::before(origin).tables(routes).start().await
}

/// The page that the login is told to come back to.
fn wanted(answer: &Message) -> String {
    assert_eq!(answer.status(), 303, "{answer:?}");
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.field("www-authenticate"), None);
    let location = answer.field("location").expect("a location");
    let page = location.strip_prefix(LOGIN).unwrap_or_else(|| panic!("{location}"));
    assert!(page.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'%'), "{page}");
    percent_decode_str(page).decode_utf8().unwrap().into_owned()
}

#[tokio::test]
async fn every_challenge_names_the_resource_metadata() {
    let origin = Origin::hello().await;
    let auth = format!(
        "{{ issuer = \"site\", scopes = [\"read\"], require = {{ staff = true }}, resource_metadata = \"{METADATA}\" }}"
    );
    let gateway = before(&origin, &route("told", &auth, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let staff = token::with(&json!({ "staff": true }));
    let reader = token::with(&json!({ "scope": "read" }));
    for (fields, status, error) in [
        (String::new(), 401, ""),
        (bearer("a.b.c"), 401, ", error=\"invalid_token\""),
        ("Authorization: Bearer\r\n".to_owned(), 400, ", error=\"invalid_request\""),
        (bearer(&staff), 403, ", error=\"insufficient_scope\", scope=\"read\""),
        (bearer(&reader), 403, ", error=\"insufficient_scope\""),
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let answer = client.by(method, "/told/", &fields).await;
            let said = format!("Bearer realm=\"portcullis\"{error}, resource_metadata=\"{METADATA}\"");
            assert_eq!((answer.status(), answer.field("www-authenticate")), (status, Some(said.as_str())), "{fields}");
        }
    }
}

#[tokio::test]
async fn a_challenge_of_the_simplejwt_preset_names_the_metadata_on_401_alone() {
    let origin = Origin::hello().await;
    let auth = format!("{{ issuer = \"site\", permission = \"admin\", resource_metadata = \"{METADATA}\" }}");
    let gateway = Setup::before(&origin).issuer(SIMPLEJWT).tables(&route("told", &auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let said = format!("Bearer realm=\"api\", resource_metadata=\"{METADATA}\"");
    let access = json!({ "token_type": "access", "jti": "1", "user_id": 7, "exp": token::now() + 60 });
    let access = bearer(&token::signed(token::SECRET, &access));
    for (fields, status, challenge) in [
        (String::new(), 401, Some(said.as_str())),
        (bearer("a.b.c"), 401, Some(said.as_str())),
        ("Authorization: Bearer\r\n".to_owned(), 401, Some(said.as_str())),
        (access, 403, None),
    ] {
        let answer = client.by("GET", "/told/", &fields).await;
        assert_eq!((answer.status(), answer.field("www-authenticate")), (status, challenge), "{fields}");
    }
}

#[tokio::test]
async fn a_browser_that_asks_for_a_page_is_sent_to_log_in_and_told_the_way_back() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("app", &with_login(""), "")).await;
    let mut client = Client::plain(gateway.http).await;
    for target in [
        "/app/",
        "/app/?",
        "/app/a%20b",
        "/app/%C3%BC/%E2%82%AC",
        "/app/100%25",
        "/app/x?a=1&b=2",
        "/app/x?next=https://evil.test/&url={url}",
        "/app/x?a=%0d%0aSet-Cookie:%20a=b",
        "/app/a\"b\"{c}",
        "/app/x?a=%22b%22&c='d'",
        "/app/x?a=b+c;d,e:f@g!$*()[]|\\^`~",
        "/app/x?a=b?c=d",
        "/app/;v=1/:@!$&'()*+,=",
    ] {
        let answer = client.get_with(target, PAGE).await;
        assert_eq!(wanted(&answer), format!("http://site.test{target}"));
        assert!(answer.body.is_empty());
    }
    assert_eq!(wanted(&client.by("HEAD", "/app/x", PAGE).await), "http://site.test/app/x");
    for target in ["/app/ü", "/app/?ü", "/app/?a=<b>", "/app/%0d%0aSet-Cookie:a=b", "/app/%FF"] {
        let answer = Client::plain(gateway.http).await.get_with(target, PAGE).await;
        assert_eq!((answer.status(), answer.field("location")), (400, None), "{target}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn the_way_back_is_the_one_the_client_took() {
    let origin = Origin::hello().await;
    let trusted = "workers = 1\ntrusted_proxies = [\"127.0.0.1/32\"]";
    let gateway = Setup::before(&origin).server(trusted).tables(&route("app", &with_login(""), "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let secure = format!("{PAGE}X-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.test\r\n");
    assert_eq!(wanted(&client.get_with("/app/", &secure).await), "https://site.test/app/");
    let mut sender = h2::connect(&gateway).await;
    let fields = [("accept", "text/html"), ("sec-fetch-mode", "navigate")];
    let answer = h2::answer(&mut sender, h2::request("GET", "/app/?a=%20", &fields)).await;
    assert_eq!(answer.status(), 303);
    let location = answer.headers()["location"].to_str().unwrap();
    assert_eq!(location, format!("{LOGIN}https%3A%2F%2Fsite%2Etest%2Fapp%2F%3Fa%3D%2520"));
}

#[tokio::test]
async fn a_token_that_is_no_longer_good_leads_to_the_login_too() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("app", &with_login(", token = { cookie = \"jwt\" }"), "")).await;
    let mut client = Client::plain(gateway.http).await;
    let expired = token::with(&json!({ "exp": token::now() - 1 }));
    for fields in [format!("Cookie: jwt={expired}\r\n"), "Cookie: jwt=a.b.c\r\n".to_owned(), bearer(&expired)] {
        let answer = client.get_with("/app/x", &format!("{PAGE}{fields}")).await;
        assert_eq!(wanted(&answer), "http://site.test/app/x", "{fields}");
    }
}

#[tokio::test]
async fn the_way_back_does_not_hold_a_query_token() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("app", &with_login(", token = { query = \"access_token\" }"), "")).await;
    let mut client = Client::plain(gateway.http).await;
    let other = token::with(&json!({ "aud": "another-gateway" })); // refused here, good there
    for (query, left) in
        [(format!("?a=%20&access_token={other}&b"), "?a=%20&b"), (format!("?access_token={other}"), "")]
    {
        let answer = client.get_with(&format!("/app/{query}"), PAGE).await;
        assert_eq!(wanted(&answer), format!("http://site.test/app/{left}"), "and coming back would fail again");
    }
}

#[tokio::test]
async fn scripts_and_programs_get_401_and_no_redirect() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, &route("app", &with_login(""), "")).await;
    let mut client = Client::plain(gateway.http).await;
    for fields in [
        "",
        "Accept: */*\r\n",
        "Accept: application/json\r\n",
        "Accept: application/json, text/plain, */*\r\n",
        "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n",
        "Accept: text/html\r\nSec-Fetch-Mode: same-origin\r\n",
        "Accept: text/html\r\nSec-Fetch-Mode: no-cors\r\n",
        "Accept: text/html\r\nSec-Fetch-Mode: websocket\r\n",
        "Accept: */*\r\nSec-Fetch-Mode: navigate\r\n",
    ] {
        let answer = client.by("GET", "/app/", fields).await;
        assert_eq!((answer.status(), answer.field("location")), (401, None), "{fields}");
        assert!(answer.field("www-authenticate").is_some());
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
        let answer = client.by(method, "/app/", PAGE).await;
        assert_eq!((answer.status(), answer.field("location")), (401, None), "{method}");
    }
}

#[tokio::test]
async fn who_is_logged_in_and_may_not_pass_is_not_sent_to_log_in() {
    let origin = Origin::hello().await;
    let more = ", scopes_any = [\"read\"], any = [{ require = { staff = true } }], token = { cookie = \"jwt\" }";
    let gateway = before(&origin, &route("app", &with_login(more), "")).await;
    let mut client = Client::plain(gateway.http).await;
    for (claims, status) in [
        (json!({}), 403),
        (json!({ "scope": "read" }), 403),
        (json!({ "scope": "write", "staff": true }), 403),
        (json!({ "scope": "read", "staff": true }), 200),
    ] {
        let answer = client.get_with("/app/", &format!("{PAGE}Cookie: jwt={}\r\n", token::with(&claims))).await;
        assert_eq!((answer.status(), answer.field("location")), (status, None), "{claims}");
    }
    let twice = format!("{PAGE}{0}{0}", bearer(&token::good()));
    assert_eq!(client.get_with("/app/", &twice).await.status(), 400);
}

#[tokio::test]
async fn no_host_path_or_query_leads_the_login_elsewhere() {
    let origin = Origin::hello().await;
    let local = "{ issuer = \"site\", login_url = \"/login/?next={url}\" }";
    let gateway = before(&origin, &(route("app", &with_login(""), "") + &route("local", local, ""))).await;
    for (path, login) in [("/app/", LOGIN), ("/local/", "/login/?next=")] {
        for (target, fields) in [
            (format!("{path}?{{url}}"), "Host: site.test\r\n"),
            (format!("{path}?next=//evil.test"), "Host: site.test\r\n"),
            (format!("{path}@evil.test/"), "Host: site.test\r\n"),
            (format!("{path}https://evil.test/"), "Host: site.test\r\n"),
            (format!("/{path}"), "Host: site.test\r\n"),
            (format!("/evil.test/..{path}"), "Host: site.test\r\n"),
            (format!("http://evil.test{path}"), "Host: site.test\r\n"),
            (path.to_owned(), "Host: evil.test\r\n"),
            (path.to_owned(), "Host: evil.test#\r\n"),
            (path.to_owned(), "Host: site.test@evil.test\r\n"),
            (path.to_owned(), "Host: evil.test/\r\n"),
            (path.to_owned(), "Host: site.test\r\nHost: evil.test\r\n"),
            (path.to_owned(), "Host: site.test\r\nX-Forwarded-Host: evil.test\r\n"),
            (path.to_owned(), "Host: site.test\r\nForwarded: host=evil.test\r\n"),
            (path.to_owned(), "Host: site.test\r\nX-Original-URL: //evil.test/\r\n"),
        ] {
            let mut client = Client::plain(gateway.http).await;
            let answer = client.ask(format!("GET {target} HTTP/1.1\r\n{fields}{PAGE}\r\n")).await;
            let Some(location) = answer.field("location") else {
                assert!(matches!(answer.status(), 400 | 200), "{target} {fields}: {answer:?}"); // 200: the public route
                continue;
            };
            let page = location.strip_prefix(login).unwrap_or_else(|| panic!("{target} {fields}: {location}"));
            assert!(!page.contains(['/', ':', '@', '?', '&', '#', '\\']), "{target} {fields}: {location}");
            let page = percent_decode_str(page).decode_utf8().unwrap();
            // The page is the request's own, whatever other fields say of it: no page of the site can make a browser lie in `Host`.
            let host =
                if target.starts_with("http") || fields.starts_with("Host: evil.test\r\n") { "evil" } else { "site" };
            assert!(page.starts_with(&format!("http://{host}.test/")), "{target} {fields}: {page}");
        }
    }
}

#[tokio::test]
async fn a_request_sent_by_another_site_is_403_without_a_challenge_and_without_a_login() {
    let origin = Origin::hello().await;
    let auth = with_login(&format!(", resource_metadata = \"{METADATA}\", token = {{ cookie = \"jwt\" }}"));
    let gateway = before(&origin, &route("app", &auth, "")).await;
    let mut client = Client::plain(gateway.http).await;
    let cookie = format!("{PAGE}Cookie: jwt={}\r\nOrigin: http://evil.test\r\n", token::good());
    let answer = client.by("POST", "/app/", &cookie).await;
    assert_eq!((answer.status(), answer.field("www-authenticate"), answer.field("location")), (403, None, None));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    assert_eq!(answer.json()["detail"], "the request was sent by another site");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn the_simplejwt_preset_words_every_refusal_as_django_does() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", permission = \"admin\", token = { cookie = \"jwt\" } }";
    let gateway = Setup::before(&origin).issuer(SIMPLEJWT).tables(&route("desk", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let access = |more: &serde_json::Value| {
        let mut claims = json!({ "token_type": "access", "jti": "1", "user_id": 7, "exp": token::now() + 60 });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        token::signed(token::SECRET, &claims)
    };
    let bad_header = r#"{"detail":"Authorization header must contain two space-delimited values","code":"bad_authorization_header"}"#;
    let not_permitted = r#"{"detail":"You do not have permission to perform this action."}"#;
    let staff = access(&json!({ "is_staff": true }));
    for (method, fields, status, body) in [
        ("GET", String::new(), 401, r#"{"detail":"Authentication credentials were not provided."}"#),
        ("POST", String::new(), 401, r#"{"detail":"Authentication credentials were not provided."}"#),
        ("GET", "Authorization: Bearer\r\n".to_owned(), 401, bad_header),
        ("GET", format!("{}Cookie: jwt={staff}\r\n", bearer(&staff)), 401, bad_header),
        ("GET", bearer(&access(&json!({}))), 403, not_permitted),
        ("GET", bearer(&access(&json!({ "is_staff": 1 }))), 403, not_permitted),
        ("POST", format!("Cookie: jwt={staff}\r\n"), 403, r#"{"detail":"CSRF Failed: Origin checking failed."}"#),
    ] {
        let answer = client.by(method, "/desk/", &fields).await;
        assert_eq!((answer.status(), answer.text().as_str()), (status, body), "{fields}");
        assert_eq!(answer.field("content-type"), Some("application/json"));
        let challenge = (status == 401).then_some("Bearer realm=\"api\"");
        assert_eq!(answer.field("www-authenticate"), challenge);
    }
    assert!(origin.requests().is_empty());
    let own = format!("Cookie: jwt={staff}\r\nOrigin: http://site.test\r\n");
    assert_eq!(client.by("POST", "/desk/", &own).await.status(), 200);
}

#[tokio::test]
async fn a_refusal_is_not_cached_whatever_the_route_says_of_its_answers() {
    let origin = Origin::hello().await;
    let keys = "response_headers = { \"Cache-Control\" = \"public, max-age=60\", \"X-Frame-Options\" = \"DENY\" }";
    let gateway = before(&origin, &route("app", &with_login(", scopes = [\"read\"]"), keys)).await;
    let mut client = Client::plain(gateway.http).await;
    let reader = bearer(&token::with(&json!({ "scope": "read" })));
    for (fields, status, said) in [
        (String::new(), 401, "no-store"),
        (PAGE.to_owned(), 303, "no-store"),
        (bearer(&token::good()), 403, "no-store"),
        (reader, 200, "public, max-age=60"),
    ] {
        let answer = client.by("GET", "/app/", &fields).await;
        assert_eq!((answer.status(), answer.field("cache-control")), (status, Some(said)), "{fields}");
        assert_eq!(answer.field("x-frame-options"), Some("DENY"));
    }
}
