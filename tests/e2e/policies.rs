//! What a route asks of whom: permissions, reads apart from writes, alternatives, and several issuers on one route.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};
use crate::support::wire::Message;

/// The secrets of the issuers `alpha` and `beta`, which are called so in `iss`, and of `old`, which does not look at it.
const SECRETS: [(&str, &str); 3] = [
    ("alpha", "the-secret-of-alpha-is-longer-than-32-bytes"),
    ("beta", "the-secret-of-beta-is-longer-than-32-bytes"),
    ("old", "the-secret-of-old-is-longer-than-32-bytes"),
];
/// RFC 9110 section 9.2.1, without TRACE, which is never forwarded.
const READS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];
/// Everything else, known or not; methods are case-sensitive.
const WRITES: [&str; 8] = ["POST", "PUT", "PATCH", "DELETE", "PROPFIND", "QUERY", "BREW", "GETS"];

/// A gateway with the three issuers beside `site`.
async fn with_issuers(origin: &Origin, routes: &str) -> Gateway {
    let home = tempfile::tempdir().unwrap();
    let issuer = |(name, secret): (&str, &str)| {
        std::fs::write(home.path().join(format!("{name}.secret")), secret).unwrap();
        let iss = if name == "old" { String::new() } else { format!("issuer = \"https://{name}.test/\"\n") };
        let audience = token::AUDIENCE;
        format!("[issuer.{name}]\nsecret = {{ file = \"{name}.secret\" }}\naudiences = [\"{audience}\"]\n{iss}")
    };
    let tables: String = SECRETS.into_iter().map(issuer).collect();
    Setup::before(origin).tables(&(tables + routes)).start_in(home).await
}

/// A token signed by `signer` that says it is of `iss`.
fn of(signer: &str, iss: Option<&str>, more: &Value) -> String {
    let (_, secret) = SECRETS.into_iter().find(|(name, _)| *name == signer).unwrap();
    let mut claims = json!({ "sub": signer, "aud": token::AUDIENCE, "exp": token::now() + 3600 });
    if let Some(iss) = iss {
        claims["iss"] = iss.into();
    }
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    token::signed(secret, &claims)
}

fn alpha(more: &Value) -> String {
    of("alpha", Some("https://alpha.test/"), more)
}

fn beta(more: &Value) -> String {
    of("beta", Some("https://beta.test/"), more)
}

fn with_scope(scope: &str) -> String {
    bearer(&token::with(&json!({ "scope": scope })))
}

async fn status(client: &mut Client, method: &str, path: &str, fields: &str) -> u16 {
    client.by(method, path, fields).await.status()
}

fn challenge(answer: &Message) -> Option<&str> {
    answer.field("www-authenticate")
}

#[tokio::test]
async fn authenticated_or_read_only_lets_reads_pass_without_a_token_and_nothing_else() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", permission = \"authenticated-or-read-only\" }";
    let gateway = Setup::before(&origin).tables(&route("notes", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = bearer(&token::good());
    for method in READS {
        assert_eq!(status(&mut client, method, "/notes/", "").await, 200, "{method}");
        assert_eq!(status(&mut client, method, "/notes/", &good).await, 200, "{method} with a token");
    }
    let seen = origin.requests().len();
    for method in WRITES {
        let answer = client.by(method, "/notes/", "").await;
        assert_eq!(answer.status(), 401, "{method}");
        assert_eq!(challenge(&answer), Some("Bearer realm=\"portcullis\""));
    }
    assert_eq!(origin.requests().len(), seen);
    for method in WRITES {
        assert_eq!(status(&mut client, method, "/notes/", &good).await, 200, "{method} with a token");
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_where_none_is_needed() {
    let origin = Origin::hello().await;
    let routes = route("notes", "{ issuer = \"site\", permission = \"authenticated-or-read-only\" }", "")
        + &route("maybe", "{ issuer = \"site\", optional = true }", "");
    let gateway = Setup::before(&origin).tables(&routes).start().await;
    let mut client = Client::plain(gateway.http).await;
    let expired = token::with(&json!({ "exp": token::now() - 1 }));
    for (fields, refused) in [
        (bearer(&expired), 401),
        (bearer("nonsense"), 401),
        ("Authorization: Bearer\r\n".to_owned(), 400),
        (format!("{0}{0}", bearer(&token::good())), 400),
    ] {
        for method in READS {
            for path in ["/notes/", "/maybe/"] {
                assert_eq!(status(&mut client, method, path, &fields).await, refused, "{method} {path} {fields}");
            }
        }
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn permissions_hold_over_http_2_too() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", permission = \"authenticated-or-read-only\" }";
    let gateway = Setup::before(&origin).tables(&route("notes", auth, "")).start().await;
    let mut sender = h2::connect(&gateway).await;
    let good = format!("Bearer {}", token::good());
    for method in READS {
        assert_eq!(h2::ask(&mut sender, h2::request(method, "/notes/", &[])).await.0, 200, "{method}");
        let bad = h2::request(method, "/notes/", &[("authorization", "Bearer nonsense")]);
        assert_eq!(h2::ask(&mut sender, bad).await.0, 401, "{method} with a bad token");
    }
    for method in WRITES {
        assert_eq!(h2::ask(&mut sender, h2::request(method, "/notes/", &[])).await.0, 401, "{method}");
        let with = h2::request(method, "/notes/", &[("authorization", &good)]);
        assert_eq!(h2::ask(&mut sender, with).await.0, 200, "{method} with a token");
    }
}

#[tokio::test]
async fn admin_asks_for_staff_of_readers_and_writers() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", permission = \"admin\" }";
    let gateway = Setup::before(&origin).tables(&route("desk", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for method in ["GET", "OPTIONS", "POST"] {
        assert_eq!(status(&mut client, method, "/desk/", "").await, 401, "{method}");
        for claims in [json!({}), json!({ "is_staff": false }), json!({ "is_staff": "true" }), json!({ "is_staff": 1 })]
        {
            let fields = bearer(&token::with(&claims));
            assert_eq!(status(&mut client, method, "/desk/", &fields).await, 403, "{method} {claims}");
        }
        let staff = bearer(&token::with(&json!({ "is_staff": true })));
        assert_eq!(status(&mut client, method, "/desk/", &staff).await, 200, "{method}");
    }
}

#[tokio::test]
async fn reads_and_writes_may_ask_for_different_scopes() {
    let origin = Origin::hello().await;
    let auth =
        "{ read = { issuer = \"site\", scopes = [\"read\"] }, write = { issuer = \"site\", scopes = [\"write\"] } }";
    let gateway = Setup::before(&origin).tables(&route("notes", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for method in READS {
        assert_eq!(status(&mut client, method, "/notes/", &with_scope("read")).await, 200, "{method}");
        assert_eq!(status(&mut client, method, "/notes/", &with_scope("write")).await, 403, "{method}");
    }
    for method in WRITES {
        assert_eq!(status(&mut client, method, "/notes/", &with_scope("write")).await, 200, "{method}");
        let answer = client.by(method, "/notes/", &with_scope("read")).await;
        assert_eq!(answer.status(), 403, "{method}");
        let said = "Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"write\"";
        assert_eq!(challenge(&answer), Some(said), "{method}");
    }
}

#[tokio::test]
async fn public_reads_look_at_no_token_and_know_nobody() {
    let origin = Origin::hello().await;
    let auth = "{ read = \"public\", write = { issuer = \"site\" } }";
    let keys = "forward_claims = { \"X-User-Id\" = \"sub\" }";
    let gateway = Setup::before(&origin).tables(&route("notes", auth, keys)).start().await;
    let mut client = Client::plain(gateway.http).await;
    for fields in [String::new(), bearer("nonsense"), bearer(&token::good())] {
        let fields = format!("{fields}X-User-Id: spoofed\r\n");
        assert_eq!(status(&mut client, "GET", "/notes/", &fields).await, 200, "{fields}");
        assert_eq!(origin.last().field("x-user-id"), None, "{fields}");
    }
    assert_eq!(status(&mut client, "POST", "/notes/", "").await, 401);
    assert_eq!(status(&mut client, "POST", "/notes/", &bearer(&token::good())).await, 200);
    assert_eq!(origin.last().field("x-user-id"), Some("alice"));
}

#[tokio::test]
async fn an_optional_token_makes_somebody_and_none_makes_nobody() {
    let origin = Origin::hello().await;
    let keys = "forward_claims = { \"X-User-Id\" = \"sub\" }";
    let auth = "{ issuer = \"site\", optional = true, scopes = [\"read\"] }";
    let gateway = Setup::before(&origin).tables(&route("maybe", auth, keys)).start().await;
    let mut client = Client::plain(gateway.http).await;
    for method in ["GET", "POST", "BREW"] {
        assert_eq!(status(&mut client, method, "/maybe/", "X-User-Id: spoofed\r\n").await, 200, "{method}");
        assert_eq!(origin.last().field("x-user-id"), None);
        assert_eq!(status(&mut client, method, "/maybe/", &with_scope("read")).await, 200, "{method}");
        assert_eq!(origin.last().field("x-user-id"), Some("alice"));
        assert_eq!(status(&mut client, method, "/maybe/", &with_scope("less")).await, 403, "{method}");
    }
    let basic = "Authorization: Basic dTpw\r\n";
    assert_eq!(status(&mut client, "GET", "/maybe/", basic).await, 200, "another scheme is no token");
    assert_eq!(origin.last().field("authorization"), Some("Basic dTpw"));
}

#[tokio::test]
async fn one_of_several_scopes_is_enough_and_all_are_named_when_none_is_there() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", scopes = [\"base\"], scopes_any = [\"read\", \"write\"] }";
    let gateway = Setup::before(&origin).tables(&route("notes", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for scope in ["base read", "write base", "read base write more"] {
        assert_eq!(status(&mut client, "GET", "/notes/", &with_scope(scope)).await, 200, "{scope}");
    }
    for scope in ["", "base", "read write", "base reader", "base READ"] {
        let answer = client.by("GET", "/notes/", &with_scope(scope)).await;
        assert_eq!(answer.status(), 403, "{scope}");
        let said = "Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"base read write\"";
        assert_eq!(challenge(&answer), Some(said), "{scope}");
    }
}

#[tokio::test]
async fn an_alternative_is_one_issuer_with_its_own_conditions() {
    let origin = Origin::hello().await;
    let auth =
        "{ any = [{ issuer = \"alpha\", scopes = [\"read\"] }, { issuer = \"beta\", require = { staff = true } }] }";
    let gateway = with_issuers(&origin, &route("either", auth, "")).await;
    let mut client = Client::plain(gateway.http).await;
    for (what, token, expected) in [
        ("alpha with its scope", alpha(&json!({ "scope": "read" })), 200),
        ("beta with its claim", beta(&json!({ "staff": true })), 200),
        ("alpha with beta's claim", alpha(&json!({ "staff": true })), 403),
        ("beta with alpha's scope", beta(&json!({ "scope": "read" })), 403),
        ("neither", of("old", None, &json!({ "scope": "read", "staff": true })), 401),
        ("alpha's key under beta's name", of("alpha", Some("https://beta.test/"), &json!({ "staff": true })), 401),
    ] {
        for _ in 0..2 {
            assert_eq!(status(&mut client, "GET", "/either/", &bearer(&token)).await, expected, "{what}");
        }
    }
    let answer = client.by("GET", "/either/", &bearer(&alpha(&json!({})))).await;
    let said = "Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"read\"";
    assert_eq!(challenge(&answer), Some(said));
}

#[tokio::test]
async fn conditions_beside_alternatives_hold_for_every_one_of_them() {
    let origin = Origin::hello().await;
    let auth = "{ issuer = \"site\", require = { tenant = \"a\" }, any = [{ scopes = [\"read\"] }, \
        { all = [{ require = { staff = true } }, { scopes_any = [\"x\", \"y\"] }] }] }";
    let gateway = Setup::before(&origin).tables(&route("deep", auth, "")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (claims, expected) in [
        (json!({ "tenant": "a", "scope": "read" }), 200),
        (json!({ "tenant": "a", "staff": true, "scope": "y" }), 200),
        (json!({ "tenant": "b", "scope": "read" }), 403),
        (json!({ "scope": "read" }), 403),
        (json!({ "tenant": "a" }), 403),
        (json!({ "tenant": "a", "staff": true }), 403),
        (json!({ "tenant": "a", "scope": "x" }), 403),
        (json!({ "tenant": "b", "staff": true, "scope": "x" }), 403),
    ] {
        assert_eq!(status(&mut client, "GET", "/deep/", &bearer(&token::with(&claims))).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn issuers_are_told_apart_by_iss_and_none_signs_for_another() {
    let origin = Origin::hello().await;
    let auth = "{ issuers = [\"alpha\", \"beta\", \"old\"] }";
    let gateway = with_issuers(&origin, &route("many", auth, "forward_claims = { \"X-User-Id\" = \"sub\" }")).await;
    let mut client = Client::plain(gateway.http).await;
    for (signer, iss) in [
        ("alpha", Some("https://alpha.test/")),
        ("beta", Some("https://beta.test/")),
        ("old", None),
        ("old", Some("https://elsewhere.test/")),
    ] {
        let path = format!("/many/{signer}{}", iss.unwrap_or_default().len());
        let fields = bearer(&of(signer, iss, &json!({})));
        for _ in 0..2 {
            assert_eq!(status(&mut client, "GET", &path, &fields).await, 200, "{signer} {iss:?}");
            assert_eq!(origin.last().field("x-user-id"), Some(signer));
        }
        let line = gateway.access_line(&path).await;
        assert!(line.contains(&format!(" issuer={signer} ")), "{line}");
    }
    let seen = origin.requests().len();
    for (signer, iss) in [
        ("beta", Some("https://alpha.test/")),
        ("old", Some("https://alpha.test/")),
        ("alpha", Some("https://beta.test/")),
        ("alpha", None),
        ("beta", Some("https://elsewhere.test/")),
        ("alpha", Some("https://ALPHA.test/")),
        ("alpha", Some("https://alpha.test")),
    ] {
        for _ in 0..2 {
            let fields = bearer(&of(signer, iss, &json!({})));
            assert_eq!(status(&mut client, "GET", "/many/", &fields).await, 401, "{signer} as {iss:?}");
        }
    }
    assert_eq!(origin.requests().len(), seen);
}

#[tokio::test]
async fn what_another_route_has_verified_makes_no_issuer_of_a_token() {
    let origin = Origin::hello().await;
    let routes = route("alone", "{ issuer = \"old\" }", "") + &route("many", "{ issuers = [\"alpha\", \"old\"] }", "");
    let gateway = with_issuers(&origin, &routes).await;
    let mut client = Client::plain(gateway.http).await;
    let fields = bearer(&of("old", Some("https://alpha.test/"), &json!({})));
    assert_eq!(status(&mut client, "GET", "/many/", &fields).await, 401, "alpha did not sign it");
    assert_eq!(status(&mut client, "GET", "/alone/", &fields).await, 200, "`old` does not look at `iss`");
    assert_eq!(status(&mut client, "GET", "/many/", &fields).await, 401, "and it is remembered now");
}

#[tokio::test]
async fn the_access_log_names_the_issuer_that_verified_the_token() {
    let origin = Origin::hello().await;
    let routes = route("apart", "{ read = { issuer = \"alpha\" }, write = { issuer = \"beta\" } }", "")
        + &route("open", "{ read = \"public\", write = { issuer = \"beta\" } }", "")
        + &route("maybe", "{ issuer = \"beta\", optional = true }", "");
    let gateway = with_issuers(&origin, &routes).await;
    let mut client = Client::plain(gateway.http).await;
    let (alpha, beta) = (bearer(&alpha(&json!({}))), bearer(&beta(&json!({}))));
    for (method, path, fields, named) in [
        ("GET", "/apart/read", &alpha, Some("alpha")),
        ("POST", "/apart/write", &beta, Some("beta")),
        ("GET", "/open/read", &beta, None),
        ("POST", "/open/write", &beta, Some("beta")),
        ("GET", "/maybe/with", &beta, Some("beta")),
        ("GET", "/maybe/without", &String::new(), None),
    ] {
        assert_eq!(status(&mut client, method, path, fields).await, 200, "{path}");
        let line = gateway.access_line(path).await;
        let said = line.split(" issuer=").nth(1).and_then(|rest| rest.split(' ').next());
        assert_eq!(said, named, "{line}");
    }
}

#[tokio::test]
async fn every_refusal_has_its_status_challenge_reason_and_count() {
    let origin = Origin::hello().await;
    let routes = route("scoped", "{ issuers = [\"alpha\", \"beta\"], scopes = [\"read\"] }", "")
        + &route("staff", "{ issuer = \"alpha\", require = { staff = true } }", "");
    let gateway = with_issuers(&origin, &routes).await;
    let mut client = Client::plain(gateway.http).await;
    let good = alpha(&json!({ "scope": "read" }));
    let (signed, _) = good.rsplit_once('.').unwrap();
    let invalid = Some("error=\"invalid_token\"");
    let rows = [
        ("scoped", String::new(), 401, "missing_credentials", None),
        ("scoped", "Authorization: Bearer\r\n".to_owned(), 400, "malformed_header", Some("error=\"invalid_request\"")),
        ("scoped", format!("{0}{0}", bearer(&good)), 400, "two_credentials", Some("error=\"invalid_request\"")),
        ("scoped", bearer("a.b.c"), 401, "malformed_token", invalid),
        ("scoped", bearer(&format!("{signed}.AAAA")), 401, "bad_signature", invalid),
        ("scoped", bearer(&alpha(&json!({ "exp": 1 }))), 401, "expired", invalid),
        ("scoped", bearer(&alpha(&json!({ "nbf": token::now() + 600 }))), 401, "not_yet_valid", invalid),
        ("scoped", bearer(&of("old", None, &json!({}))), 401, "wrong_issuer", invalid),
        ("scoped", bearer(&alpha(&json!({ "aud": "other" }))), 401, "wrong_audience", invalid),
        ("scoped", bearer(&alpha(&json!({ "exp": "soon" }))), 401, "malformed_claim", invalid),
        (
            "scoped",
            bearer(&beta(&json!({}))),
            403,
            "insufficient_scope",
            Some("error=\"insufficient_scope\", scope=\"read\""),
        ),
        ("staff", bearer(&alpha(&json!({}))), 403, "demand_unmet", Some("error=\"insufficient_scope\"")),
    ];
    for (number, (path, fields, expected, reason, error)) in rows.iter().enumerate() {
        let marker = format!("/{path}/{number}/");
        let answer = client.by("GET", &marker, fields).await;
        assert_eq!(answer.status(), *expected, "{reason}");
        let said = error.map_or_else(String::new, |error| format!(", {error}"));
        assert_eq!(challenge(&answer), Some(format!("Bearer realm=\"portcullis\"{said}").as_str()), "{reason}");
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        let problem = answer.json();
        assert_eq!(problem["status"], *expected);
        assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
        let line = gateway.access_line(&marker).await;
        assert!(line.contains(&format!(" outcome={reason} ")) && !line.contains(" subject="), "{line}");
        let labels = [format!("route=\"{path}\""), format!("reason=\"{reason}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        gateway.until_metric("portcullis_auth_decisions_total", &labels, 1).await;
    }
    assert!(origin.requests().is_empty());
}
