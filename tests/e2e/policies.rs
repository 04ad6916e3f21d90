//! What docs/authorization.md promises of a route's policy, asked of the running gateway.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::client::Client;
use crate::support::gateway::Setup;
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};

fn route(name: &str, auth: &str, more: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\npath = \"/{name}/\"\nauth = {auth}\nupstream = \"app\"\n{more}")
}

#[tokio::test]
async fn reads_pass_without_a_token_but_not_with_a_bad_one_and_writes_need_a_good_one() {
    let origin = Origin::hello().await;
    let drf = route("articles", "{ issuer = \"site\", permission = \"authenticated-or-read-only\" }", "");
    let apart = route("catalogue", "{ read = \"public\", write = { issuer = \"site\", scopes = [\"write\"] } }", "");
    let gateway = Setup::before(&origin).tables(&(drf + &apart)).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/articles/").await.status(), 200);
    assert_eq!(client.get_with("/articles/", &bearer("a.b.c")).await.status(), 401);
    assert_eq!(client.post("/articles/", "").await.status(), 401);
    assert_eq!(client.get_with("/catalogue/", &bearer("a.b.c")).await.status(), 200, "nobody looks at it");
    let mut write = async |claims| {
        let field = bearer(&token::with(&claims));
        client.ask(format!("DELETE /catalogue/7 HTTP/1.1\r\nHost: site.test\r\n{field}\r\n")).await.status()
    };
    assert_eq!(write(json!({ "scope": "read" })).await, 403);
    assert_eq!(write(json!({ "scope": "write" })).await, 200);
}

#[tokio::test]
async fn one_of_several_conditions_is_enough() {
    let origin = Origin::hello().await;
    let any = "{ issuer = \"site\", any = [{ require = { is_staff = true } }, { scopes = [\"orders\"], require = { tenant = \"a\" } }] }";
    let gateway = Setup::before(&origin).tables(&route("orders", any, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (claims, status) in [
        (json!({ "is_staff": true }), 200),
        (json!({ "scope": "orders", "tenant": "a" }), 200),
        (json!({ "scope": "orders", "tenant": "b" }), 403),
        (json!({ "scope": "other", "tenant": "a" }), 403),
        (json!({}), 403),
    ] {
        assert_eq!(client.get_with("/orders/", &bearer(&token::with(&claims))).await.status(), status, "{claims}");
    }
}

#[tokio::test]
async fn a_cookie_is_spent_by_this_site_and_the_named_ones_alone() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", token = { cookie = \"__Host-access\" }, origins = [\"https://app.example.com\"] }";
    let gateway = Setup::before(&origin).tables(&route("api", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    let mut post = async |fields: &str| {
        let head = format!(
            "POST /api/ HTTP/1.1\r\nHost: site.test\r\nCookie: a=1; __Host-access={good}\r\nContent-Length: 0\r\n"
        );
        client.ask(format!("{head}{fields}\r\n")).await
    };
    for fields in
        ["Sec-Fetch-Site: same-origin\r\n", "Origin: http://site.test\r\n", "Origin: https://app.example.com\r\n"]
    {
        assert_eq!(post(fields).await.status(), 200, "{fields}");
        assert_eq!(origin.last().field("authorization"), Some(format!("Bearer {good}").as_str()));
    }
    for fields in ["", "Origin: https://evil.example\r\n", "Sec-Fetch-Site: same-site\r\n", "Origin: null\r\n"] {
        let answer = post(fields).await;
        assert_eq!((answer.status(), answer.field("www-authenticate")), (403, None), "{fields}");
    }
    assert_eq!(post(&bearer(&good)).await.status(), 400, "tokens in two places");
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn a_token_in_the_query_is_not_sent_on_and_its_answer_is_private() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", token = { query = \"access_token\" } }";
    let gateway = Setup::before(&origin).tables(&route("downloads", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client.get(&format!("/downloads/r.pdf?a=1&access_token={}&b=2", token::good())).await;
    assert_eq!((answer.status(), answer.field("cache-control")), (200, Some("private")));
    assert_eq!(origin.last().target(), "/downloads/r.pdf?a=1&b=2");
}

#[tokio::test]
async fn the_application_reads_the_claims_as_they_were_signed_and_has_no_token() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", token = { header = \"X-Device-Token\" } }";
    let told = "forward_all_claims = \"X-Claims\"\nforward_token = false\n";
    let gateway = Setup::before(&origin).tables(&route("devices", auth, told)).start().await;
    let mut client = Client::plain(gateway.http).await;
    let token = token::with(&json!({ "id": 9_007_199_254_740_993_u64, "name": "Zoë" }));
    for fields in [bearer(&token), format!("X-Device-Token: {token}\r\n")] {
        let answer = client.get_with("/devices/", &format!("{fields}X-Claims: forged\r\n")).await;
        assert_eq!(answer.status(), 200, "{answer:?}");
        let seen = origin.last();
        let [claims] = seen.all("x-claims")[..] else { panic!("{seen:?}") };
        let claims: serde_json::Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!((&claims["id"], &claims["name"]), (&json!(9_007_199_254_740_993_u64), &json!("Zoë")));
        assert_eq!((seen.field("authorization"), seen.field("x-device-token")), (None, None));
    }
}

#[tokio::test]
async fn pages_lead_to_the_login_and_scripts_get_401() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", scopes = [\"members\"], login_url = \"/login/?next={url}\" }";
    let gateway = Setup::before(&origin).tables(&route("members", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let page = "Accept: text/html,*/*\r\nSec-Fetch-Mode: navigate\r\n";
    for fields in [page.to_owned(), "Accept: text/html\r\n".to_owned(), format!("{page}{}", bearer("a.b.c"))] {
        let answer = client.get_with("/members/a?b=c", &fields).await;
        assert_eq!((answer.status(), answer.field("cache-control")), (303, Some("no-store")), "{fields}");
        let login = "/login/?next=http%3A%2F%2Fsite%2Etest%2Fmembers%2Fa%3Fb%3Dc";
        assert_eq!(answer.field("location"), Some(login));
    }
    for fields in ["Accept: application/json\r\n", "", "Accept: text/html\r\nSec-Fetch-Mode: cors\r\n"] {
        assert_eq!(client.get_with("/members/", fields).await.status(), 401, "{fields}");
    }
    assert_eq!(client.post("/members/", "").await.status(), 401);
    let little = format!("{page}{}", bearer(&token::good()));
    assert_eq!(client.get_with("/members/", &little).await.status(), 403, "logging in again would not help");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_challenge_names_the_metadata_of_the_resource() {
    let origin = Origin::hello().await;
    let url = "https://mcp.example.com/.well-known/oauth-protected-resource";
    let auth = format!("{{ issuer = \"site\", resource_metadata = \"{url}\" }}");
    let gateway = Setup::before(&origin).tables(&route("mcp", &auth, "")).start().await;
    let answer = Client::plain(gateway.http).await.get("/mcp/").await;
    let challenge = format!("Bearer realm=\"portcullis\", resource_metadata=\"{url}\"");
    assert_eq!((answer.status(), answer.field("www-authenticate")), (401, Some(challenge.as_str())));
}
