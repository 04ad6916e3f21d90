//! Cross-origin requests: preflights are answered at the edge, and answers say whom they may be shown to.

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::h2;
use crate::support::origin::Origin;
use crate::support::token;
use crate::support::wire::Message;

const APP: &str = "https://app.test";
const CORS: &str = "cors = { origins = [\"https://app.test\", \"https://*.tenants.test\"], methods = [\"GET\", \"PUT\"], \
                    headers = [\"Authorization\", \"X-Trace\"], expose = [\"X-Total\"], credentials = true }";

/// The same request over HTTP/1.1 and over HTTP/2, on connections of their own: the answers are one.
async fn ask(gateway: &Gateway, method: &str, path: &str, fields: &[(&str, &str)]) -> Message {
    let lines: Vec<_> = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let one = Client::tls(gateway).await.by(method, path, &lines.concat()).await;
    let mut sender = h2::connect(gateway).await;
    let two = h2::message(&mut sender, h2::request(method, path, fields)).await;
    assert_eq!(one.status(), two.status(), "{method} {path} {fields:?}");
    assert_eq!(protocol(&one), protocol(&two), "{method} {path} {fields:?}");
    one
}

async fn preflight(gateway: &Gateway, origin: &str, method: &str, path: &str) -> Message {
    let fields = [("origin", origin), ("access-control-request-method", method)];
    ask(gateway, "OPTIONS", path, &fields).await
}

/// What an answer says in the protocol, in order of names, without `access-control-`; and `vary`.
fn protocol(answer: &Message) -> Vec<String> {
    let lines = answer.fields.iter().map(|(name, value)| format!("{}: {value}", name.to_ascii_lowercase()));
    let mut lines: Vec<_> = lines
        .filter_map(|line| {
            let own = line.strip_prefix("access-control-").map(str::to_owned);
            own.or_else(|| line.starts_with("vary: ").then_some(line))
        })
        .collect();
    lines.sort();
    lines
}

/// What is said to an origin that may see the answer.
const SHOWN: [&str; 4] =
    ["allow-credentials: true", "allow-origin: https://app.test", "expose-headers: X-Total", "vary: Origin"];
/// And to one that may not, or to nobody.
const HIDDEN: [&str; 1] = ["vary: Origin"];

#[tokio::test]
async fn a_preflight_is_answered_without_a_token_and_without_the_upstream() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(&route("api", "{ issuer = \"site\" }", CORS)).start().await;
    let answer = preflight(&gateway, APP, "PUT", "/api/x?y=1").await;
    assert_eq!((answer.status(), answer.body.len()), (204, 0));
    assert_eq!(
        protocol(&answer),
        [
            "allow-credentials: true",
            "allow-headers: Authorization, X-Trace",
            "allow-methods: GET, PUT",
            "allow-origin: https://app.test",
            "expose-headers: X-Total",
            "max-age: 600",
            "vary: Access-Control-Request-Method",
            "vary: Origin",
        ]
    );
    assert!(origin.requests().is_empty());
    let line = gateway.access_line("204 OPTIONS site.test/api/x").await;
    assert!(line.contains("route=api") && !line.contains("outcome="), "{line}");

    let tenant = preflight(&gateway, "https://a.tenants.test", "GET", "/api/").await;
    assert_eq!((tenant.status(), tenant.field("access-control-allow-origin")), (204, Some("https://a.tenants.test")));
}

#[tokio::test]
async fn a_preflight_of_another_origin_is_refused_and_told_nothing() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(&route("api", "\"public\"", CORS)).start().await;
    for other in
        ["https://evil.test", "null", "https://app.test.evil.test", "http://app.test", "https://b.a.tenants.test", "*"]
    {
        let answer = preflight(&gateway, other, "GET", "/api/x").await;
        assert_eq!((answer.status(), protocol(&answer)), (403, HIDDEN.map(str::to_owned).to_vec()), "{other}");
    }
    assert!(origin.requests().is_empty());
    let line = gateway.access_line("403 OPTIONS site.test/api/x").await;
    assert!(line.contains("outcome=origin_refused"), "{line}");
}

#[tokio::test]
async fn the_route_of_the_method_to_come_answers_its_preflight() {
    let origin = Origin::hello().await;
    let at = |name: &str, methods: &str, auth: &str, more: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/api/\"\nmethods = [{methods}]\nauth = {auth}\nupstream = \"app\"\n{more}\n"
        )
    };
    let routes = [
        at("reads", "\"GET\", \"HEAD\"", "\"public\"", "cors = { origins = [\"*\"] }"),
        at(
            "writes",
            "\"POST\", \"PUT\"",
            "{ issuer = \"site\" }",
            "cors = { origins = [\"https://app.test\"], headers = [\"authorization\"] }",
        ),
        at("options", "\"OPTIONS\", \"PATCH\"", "\"public\"", ""),
    ];
    let gateway = Setup::before(&origin).tables(&routes.concat()).start().await;
    for (method, status, methods) in [
        ("GET", 204, Some("GET, HEAD")),
        ("POST", 204, Some("POST, PUT")),
        ("PUT", 204, Some("POST, PUT")),
        ("PATCH", 200, None), // the upstream answers for the routes that the gateway does not speak for
        ("DELETE", 200, None),
        ("get", 200, None), // methods are compared with their case
        ("TRACE", 200, None),
    ] {
        let answer = preflight(&gateway, "https://app.test", method, "/api/x").await;
        assert_eq!((answer.status(), answer.field("access-control-allow-methods")), (status, methods), "{method}");
    }
    assert_eq!(preflight(&gateway, "https://other.test", "GET", "/api/x").await.status(), 204);
    assert_eq!(preflight(&gateway, "https://other.test", "PUT", "/api/x").await.status(), 403);
}

#[tokio::test]
async fn what_is_no_preflight_goes_the_way_of_every_request() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(&route("api", "{ issuer = \"site\" }", CORS)).start().await;
    let (from, by) = (("origin", APP), ("access-control-request-method", "PUT"));
    for fields in
        [vec![], vec![from], vec![by], vec![from, ("access-control-request-method", "P T")], vec![from, by, by]]
    {
        let answer = ask(&gateway, "OPTIONS", "/api/x", &fields).await;
        assert_eq!(answer.status(), 401, "{fields:?}");
    }
    assert_eq!(ask(&gateway, "OPTIONS", "/api/x", &[from, from, by]).await.status(), 401, "two origins are none");
    let with_token = token::bearer(&token::good());
    let answer = Client::tls(&gateway).await.by("OPTIONS", "/api/x", &with_token).await;
    assert_eq!((answer.status(), origin.last().method()), (200, "OPTIONS"));
}

#[tokio::test]
async fn the_path_of_a_preflight_is_read_as_that_of_any_request() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(&route("api", "\"public\"", CORS)).start().await;
    for path in ["/api/../x", "/api//x", "/api/%2e%2e/x", "/api%2Fx", "/api/%00"] {
        let answer = preflight(&gateway, APP, "GET", path).await;
        assert_eq!((answer.status(), protocol(&answer).len()), (400, 0), "{path}");
    }
    let elsewhere = preflight(&gateway, APP, "GET", "/apiary").await;
    assert_eq!((elsewhere.status(), protocol(&elsewhere).len()), (200, 0), "by segments, and the upstream's to answer");
}

#[tokio::test]
async fn answers_and_refusals_alike_say_whom_they_may_be_shown_to() {
    let origin = Origin::hello().await;
    let dead = "[upstream.dead]\nendpoints = [\"http://127.0.0.1:1\"]\nconnect_timeout_secs = 1\n\
                [[route]]\nname = \"dead\"\npath = \"/dead/\"\nauth = \"public\"\nupstream = \"dead\"\n";
    let moved = "[[route]]\nname = \"moved\"\npath = \"/moved/\"\nauth = \"public\"\nredirect = { to = \"/api/\" }\n";
    let routes = [
        route("api", "\"public\"", CORS),
        route("guarded", "{ issuer = \"site\", scopes = [\"write\"] }", &format!("{CORS}\nbody_bytes = 2")),
        format!("{dead}{CORS}\n{moved}{CORS}\n"),
    ];
    let gateway = Setup::before(&origin).tables(&routes.concat()).start().await;
    let good = format!("Bearer {}", token::good());
    for (path, authorization, status) in [
        ("/api/x", "", 200),
        ("/guarded/x", "", 401),
        ("/guarded/x", "Bearer a.b.c", 401),
        ("/guarded/x", good.as_str(), 403),
        ("/dead/x", "", 502),
        ("/moved/x", "", 308),
    ] {
        let token = [("authorization", authorization)];
        let token = if authorization.is_empty() { &token[1..] } else { &token[..] };
        for (origin, said) in [(Some(APP), &SHOWN[..]), (Some("https://evil.test"), &HIDDEN), (None, &HIDDEN)] {
            let from: Vec<_> = origin.iter().map(|origin| ("origin", *origin)).collect();
            let answer = ask(&gateway, "GET", path, &[&from[..], token].concat()).await;
            assert_eq!(
                (answer.status(), protocol(&answer)),
                (status, said.iter().map(ToString::to_string).collect()),
                "{path}"
            );
        }
    }
    let reader = token::with(&serde_json::json!({ "scope": "write" }));
    let post = format!(
        "POST /guarded/x HTTP/1.1\r\nHost: site.test\r\nOrigin: {APP}\r\n{}Content-Length: 5\r\n\r\nhello",
        token::bearer(&reader)
    );
    let answer = Client::tls(&gateway).await.ask(post).await;
    assert_eq!((answer.status(), protocol(&answer)), (413, SHOWN.map(str::to_owned).to_vec()));
}

#[tokio::test]
async fn where_the_gateway_speaks_the_upstream_does_not() {
    let says = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Origin: https://evil.test\r\n\
                Access-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: X-Own\r\nVary: Accept\r\n\r\nhello";
    let origin = Origin::always(says).await;
    let narrow = "cors = { origins = [\"https://app.test\"] }";
    let gateway = Setup::before(&origin).tables(&route("api", "\"public\"", narrow)).start().await;
    let from = |origin| [("origin", origin)];
    let shown = ask(&gateway, "GET", "/api/x", &from(APP)).await;
    assert_eq!(protocol(&shown), ["allow-origin: https://app.test", "vary: Accept", "vary: Origin"]);
    let hidden = ask(&gateway, "GET", "/api/x", &from("https://evil.test")).await;
    assert_eq!(protocol(&hidden), ["vary: Accept", "vary: Origin"]);
    let own = ask(&gateway, "GET", "/", &from("https://evil.test")).await;
    assert_eq!(own.all("access-control-allow-origin").len(), 2, "elsewhere the upstream's word is left alone");
    assert_eq!(origin.last().field("origin"), Some("https://evil.test"), "the upstream still learns who asked");
}

#[tokio::test]
async fn null_and_everybody_are_admitted_only_where_that_is_said() {
    let origin = Origin::hello().await;
    let routes = [
        route("null", "\"public\"", "cors = { origins = [\"null\"] }"),
        route(
            "open",
            "\"public\"",
            "cors = { origins = [\"*\"], methods = [\"*\"], headers = [\"*\"], max_age_secs = 0 }",
        ),
    ];
    let gateway = Setup::before(&origin).tables(&routes.concat()).start().await;
    let answer = ask(&gateway, "GET", "/null/", &[("origin", "null")]).await;
    assert_eq!(protocol(&answer), ["allow-origin: null", "vary: Origin"]);
    assert_eq!(protocol(&ask(&gateway, "GET", "/null/", &[("origin", APP)]).await), HIDDEN);
    for fields in [vec![("origin", "null")], vec![("origin", APP)], vec![]] {
        assert_eq!(protocol(&ask(&gateway, "GET", "/open/", &fields).await), ["allow-origin: *"], "one answer for all");
    }
    let answer = preflight(&gateway, APP, "DELETE", "/open/").await;
    assert_eq!(answer.status(), 204);
    let said = [
        "allow-headers: *",
        "allow-methods: *",
        "allow-origin: *",
        "max-age: 0",
        "vary: Access-Control-Request-Method",
    ];
    assert_eq!(protocol(&answer), said);
}

#[tokio::test]
async fn files_are_shown_to_other_origins_too() {
    let origin = Origin::hello().await;
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("fonts")).unwrap();
    std::fs::write(home.path().join("fonts/a.woff2"), "font").unwrap();
    let files = format!(
        "[[route]]\nname = \"fonts\"\npath = \"/fonts/\"\nauth = \"public\"\nfiles = {{ root = \"fonts\" }}\n{CORS}\n"
    );
    let gateway = Setup::before(&origin).tables(&files).start_in(home).await;
    let found = ask(&gateway, "GET", "/fonts/a.woff2", &[("origin", APP)]).await;
    assert_eq!((found.status(), protocol(&found)), (200, SHOWN.map(str::to_owned).to_vec()));
    let etag = found.field("etag").unwrap().to_owned();
    let known = ask(&gateway, "GET", "/fonts/a.woff2", &[("origin", APP), ("if-none-match", &etag)]).await;
    assert_eq!((known.status(), protocol(&known)), (304, SHOWN.map(str::to_owned).to_vec()));
    assert_eq!(ask(&gateway, "GET", "/fonts/none", &[("origin", APP)]).await.status(), 404);
}

#[tokio::test]
async fn a_reload_changes_who_is_admitted() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(&route("api", "\"public\"", CORS)).start().await;
    assert_eq!(preflight(&gateway, "https://new.test", "GET", "/api/").await.status(), 403);
    gateway.edit(|text| text.replace("origins = [\"https://app.test\"", "origins = [\"https://new.test\""));
    gateway.until_generation(2).await;
    assert_eq!(preflight(&gateway, "https://new.test", "GET", "/api/").await.status(), 204);
    assert_eq!(preflight(&gateway, APP, "GET", "/api/").await.status(), 403);
}
