//! Rate limits: exactly as many requests pass as may, whoever counts them, and the others are told when to come again.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::{BINARY, Gateway, Setup, route};
use crate::support::grpc::{self, begin};
use crate::support::origin::Origin;
use crate::support::wire::Message;
use crate::support::{eventually, h2, token};

const DECISIONS: &str = "portcullis_rate_limit_decisions_total";

/// A limit that gives nothing back while a test lasts.
fn limit(name: &str, key: &str, requests: u32, keys: &str) -> String {
    format!("[rate_limit.{name}]\nkey = \"{key}\"\nrequests = {requests}\nper_secs = 86400\n{keys}\n")
}

/// `/NAME/` with its limits.
fn limited(name: &str, auth: &str, limits: &[&str]) -> String {
    route(name, auth, &format!("rate_limits = {limits:?}"))
}

async fn get(gateway: &Gateway, path: &str, fields: &str) -> Message {
    Client::plain(gateway.http).await.get_with(path, fields).await
}

/// How many of several requests in a row pass.
async fn passing(address: SocketAddr, times: usize, path: &str, fields: &str) -> usize {
    let (mut client, mut passed) = (Client::plain(address).await, 0);
    for _ in 0..times {
        match client.get_with(path, fields).await.status() {
            200 => passed += 1,
            status => assert_eq!(status, 429),
        }
    }
    passed
}

async fn decisions(gateway: &Gateway, limit: &str) -> [u64; 3] {
    let scrape = gateway.scrape().await;
    let of =
        |decision: &str| scrape.count(DECISIONS, &[&format!("limit=\"{limit}\""), &format!("decision=\"{decision}\"")]);
    ["passed", "refused", "would_refuse"].map(of)
}

#[tokio::test]
async fn clients_of_all_workers_together_get_what_the_limit_says_and_not_one_more() {
    let origin = Origin::hello().await;
    let tables = [limit("all", "client", 100, ""), limited("a", "\"public\"", &["all"])].concat();
    let gateway = Setup::before(&origin).server("workers = 4").tables(&tables).start().await;
    let mut clients = JoinSet::new();
    for _ in 0..16 {
        let address = gateway.http;
        clients.spawn(async move { passing(address, 20, "/a/", "").await });
    }
    assert_eq!(clients.join_all().await.into_iter().sum::<usize>(), 100);
    assert_eq!(origin.requests().len(), 100);
    assert_eq!(decisions(&gateway, "all").await, [100, 220, 0]);
    assert_eq!(get(&gateway, "/", "").await.status(), 200, "another route has no limit");
}

#[tokio::test]
async fn a_refusal_says_by_what_and_for_how_long() {
    let origin = Origin::hello().await;
    let tables = [
        "[rate_limit.login]\nkey = \"client\"\nrequests = 2\nper_secs = 100\n[rate_limit.quiet]\nkey = \"client\"\n\
         requests = 1\nper_secs = 100\nheaders = false\n"
            .to_owned(),
        limited("a", "\"public\"", &["login"]),
        limited("q", "\"public\"", &["quiet"]),
    ];
    let gateway = Setup::before(&origin).tables(&tables.concat()).start().await;
    let policy = Some("\"login\";q=2;w=100");
    for (left, next) in [(1, 50), (0, 50)] {
        let passed = get(&gateway, "/a/", "").await;
        assert_eq!((passed.status(), passed.field("ratelimit-policy")), (200, policy));
        assert_eq!(passed.field("ratelimit"), Some(&*format!("\"login\";r={left};t={next}")));
        assert_eq!(passed.field("retry-after"), None);
    }
    let refused = get(&gateway, "/a/over", "").await;
    assert_eq!((refused.status(), refused.field("ratelimit-policy")), (429, policy));
    let wait: u32 = refused.field("retry-after").unwrap().parse().unwrap();
    assert!((45..=50).contains(&wait), "{wait}");
    assert_eq!(refused.field("ratelimit"), Some(&*format!("\"login\";r=0;t={wait}")));
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert_eq!(refused.field("cache-control"), Some("no-store"));
    assert_eq!(
        refused.json(),
        json!({
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded", "title": "Too Many Requests",
            "status": 429, "detail": "there were too many requests", "violated-policies": ["login"],
        })
    );
    let line = gateway.access_line("/a/over").await;
    assert!(line.contains(" 429 ") && line.contains("outcome=rate_limited limit=login"), "{line}");

    assert_eq!(get(&gateway, "/q/", "").await.field("ratelimit-policy"), None);
    let refused = get(&gateway, "/q/", "").await;
    assert_eq!((refused.status(), refused.field("ratelimit"), refused.field("ratelimit-policy")), (429, None, None));
    assert!(refused.field("retry-after").is_some() && !refused.text().contains("quiet"));
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn what_was_refused_passes_when_its_time_has_come() {
    let origin = Origin::hello().await;
    let table = "[rate_limit.one]\nkey = \"client\"\nrequests = 1\nper_secs = 1\n";
    let tables = [table, &limited("a", "\"public\"", &["one"])].concat();
    let gateway = Setup::before(&origin).tables(&tables).start().await;
    assert_eq!(get(&gateway, "/a/", "").await.status(), 200);
    eventually("the next", || async { (get(&gateway, "/a/", "").await.status() == 200).then_some(()) }).await;
}

#[tokio::test]
async fn bad_tokens_are_counted_and_refused_before_they_are_looked_at() {
    let origin = Origin::hello().await;
    let tables = [limit("door", "client", 3, ""), limited("p", "{ issuer = \"site\" }", &["door"])].concat();
    let gateway = Setup::before(&origin).tables(&tables).start().await;
    for left in [2, 1, 0] {
        let denied = get(&gateway, "/p/", "Authorization: Bearer a.b.c\r\n").await;
        assert_eq!(denied.status(), 401);
        assert!(denied.field("ratelimit").unwrap().starts_with(&format!("\"door\";r={left};")));
    }
    assert_eq!(get(&gateway, "/p/", "Authorization: Bearer a.b.c\r\n").await.status(), 429);
    assert_eq!(get(&gateway, "/p/", &token::bearer(&token::good())).await.status(), 429);
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_auth_decisions_total", &["route=\"p\""]), 3);
}

#[tokio::test]
async fn each_user_has_a_count_of_its_own_wherever_the_requests_come_from() {
    let origin = Origin::hello().await;
    let tables = [
        limit("user", "claim:sub", 3, ""),
        limited("p", "{ issuer = \"site\" }", &["user"]),
        limited("o", "{ issuer = \"site\", optional = true }", &["user"]),
    ];
    let gateway = Setup::before(&origin)
        .server("workers = 2\ntrusted_proxies = [\"127.0.0.1\"]")
        .tables(&tables.concat())
        .start()
        .await;
    let user = |sub: serde_json::Value, from: &str| {
        token::bearer(&token::with(&json!({ "sub": sub, "jti": from }))) + &format!("X-Forwarded-For: {from}\r\n")
    };
    assert_eq!(passing(gateway.http, 2, "/p/", &user(json!("ann"), "192.0.2.1")).await, 2);
    assert_eq!(passing(gateway.http, 4, "/p/", &user(json!("ann"), "192.0.2.2")).await, 1);
    assert_eq!(passing(gateway.http, 4, "/o/", &user(json!("ann"), "192.0.2.3")).await, 0, "one count for all routes");
    assert_eq!(passing(gateway.http, 4, "/p/", &user(json!("bob"), "192.0.2.1")).await, 3);
    // Without the claim, and without a token where it is optional, the address counts.
    assert_eq!(passing(gateway.http, 4, "/p/", &user(json!(null), "192.0.2.7")).await, 3);
    assert_eq!(passing(gateway.http, 4, "/o/", "X-Forwarded-For: 192.0.2.7\r\n").await, 0);
    assert_eq!(passing(gateway.http, 4, "/o/", "X-Forwarded-For: 192.0.2.8\r\n").await, 3);
    assert_eq!(
        passing(gateway.http, 4, "/p/", &user(json!("192.0.2.8"), "192.0.2.9")).await,
        3,
        "a subject is no address"
    );
}

#[tokio::test]
async fn a_header_field_counts_by_its_value_and_the_address_where_it_says_nothing() {
    let origin = Origin::hello().await;
    let tables = [limit("key", "header:X-Api-Key", 2, ""), limited("a", "\"public\"", &["key"])].concat();
    let gateway = Setup::before(&origin).tables(&tables).start().await;
    assert_eq!(passing(gateway.http, 3, "/a/", "X-Api-Key: one\r\n").await, 2);
    assert_eq!(passing(gateway.http, 3, "/a/", "X-Api-Key: two\r\n").await, 2);
    assert_eq!(passing(gateway.http, 1, "/a/", "").await, 1);
    assert_eq!(passing(gateway.http, 1, "/a/", "X-Api-Key:\r\n").await, 1);
    assert_eq!(passing(gateway.http, 3, "/a/", "X-Api-Key: three\r\nX-Api-Key: four\r\n").await, 0);
}

#[tokio::test]
async fn an_ipv6_network_is_one_client_and_the_route_is_everybodys() {
    let origin = Origin::hello().await;
    let tables =
        [limit("net", "client", 2, ""), limit("all", "route", 5, ""), limited("a", "\"public\"", &["net", "all"])];
    let gateway =
        Setup::before(&origin).server("trusted_proxies = [\"127.0.0.1\"]").tables(&tables.concat()).start().await;
    let from = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    assert_eq!(passing(gateway.http, 2, "/a/", &from("2001:db8:1:1::1")).await, 2);
    assert_eq!(passing(gateway.http, 2, "/a/", &from("2001:db8:1:1:ffff::2")).await, 0);
    assert_eq!(passing(gateway.http, 2, "/a/", &from("2001:db8:1:2::1")).await, 2);
    assert_eq!(passing(gateway.http, 2, "/a/", &from("192.0.2.1")).await, 1, "five in all");
}

#[tokio::test]
async fn a_request_that_one_limit_refuses_is_counted_by_none() {
    let origin = Origin::hello().await;
    let tables = [
        limit("wide", "client", 10, ""),
        limit("trial", "client", 1, "dry_run = true"),
        limit("narrow", "header:X-Api-Key", 2, ""),
        limited("a", "\"public\"", &["wide", "trial", "narrow"]),
    ];
    let gateway = Setup::before(&origin).tables(&tables.concat()).start().await;
    assert_eq!(passing(gateway.http, 20, "/a/", "X-Api-Key: one\r\n").await, 2);
    let passed = get(&gateway, "/a/", "X-Api-Key: two\r\n").await;
    assert!(passed.field("ratelimit").unwrap().starts_with("\"wide\";r=7;"), "{:?}", passed.fields);
    assert_eq!(
        passed.field("ratelimit-policy"),
        Some("\"wide\";q=10;w=86400, \"trial\";q=1;w=86400, \"narrow\";q=2;w=86400")
    );
    let refused = get(&gateway, "/a/", "X-Api-Key: one\r\n").await;
    assert!(refused.field("ratelimit").unwrap().starts_with("\"narrow\";r=0;"));
}

#[tokio::test]
async fn a_limit_on_trial_refuses_nobody_and_tells() {
    let origin = Origin::hello().await;
    let tables = [limit("trial", "client", 1, "dry_run = true"), limited("a", "\"public\"", &["trial"])].concat();
    let gateway = Setup::before(&origin).tables(&tables).start().await;
    assert_eq!(passing(gateway.http, 4, "/a/", "").await, 4);
    assert_eq!(get(&gateway, "/a/marked", "").await.status(), 200);
    let line = gateway.access_line("/a/marked").await;
    assert!(line.contains(" 200 ") && line.contains("limit=trial") && !line.contains("outcome="), "{line}");
    assert_eq!(decisions(&gateway, "trial").await, [1, 0, 4]);
    // In earnest the counts go on.
    gateway.edit(|text| text.replace("dry_run = true", ""));
    gateway.until_generation(2).await;
    assert_eq!(passing(gateway.http, 2, "/a/", "").await, 0);
}

#[tokio::test]
async fn a_reload_keeps_the_counts_of_a_limit_that_did_not_change() {
    let origin = Origin::hello().await;
    let tables = [
        limit("kept", "client", 2, ""),
        limit("changed", "client", 2, "entries = 5000"),
        limited("k", "\"public\"", &["kept"]),
        limited("c", "\"public\"", &["changed"]),
    ];
    let gateway = Setup::before(&origin).server("workers = 2").tables(&tables.concat()).start().await;
    assert_eq!(passing(gateway.http, 3, "/k/", "").await, 2);
    assert_eq!(passing(gateway.http, 3, "/c/", "").await, 2);
    gateway.edit(|text| text.replace("entries = 5000", "entries = 6000"));
    gateway.until_generation(2).await;
    assert_eq!(passing(gateway.http, 3, "/k/", "").await, 0);
    assert_eq!(passing(gateway.http, 3, "/c/", "").await, 2);
    assert_eq!(decisions(&gateway, "kept").await, [2, 4, 0]);
}

#[tokio::test]
async fn under_the_preset_a_refusal_reads_as_djangos_on_the_login_too() {
    let origin = Origin::hello().await;
    let tables = [
        limit("door", "client", 1, ""),
        limited("login", "\"public\"", &["door"]),
        limited("p", "{ issuer = \"site\" }", &["door"]),
    ];
    let issuer = "preset = \"simplejwt\"\nsecret = { file = \"issuer.secret\" }\naudiences = [\"e2e\"]";
    let gateway = Setup::before(&origin).issuer(issuer).tables(&tables.concat()).start().await;
    assert_eq!(get(&gateway, "/login/", "").await.status(), 200);
    for path in ["/login/", "/p/"] {
        let refused = get(&gateway, path, "").await;
        assert_eq!((refused.status(), refused.field("content-type")), (429, Some("application/json")));
        let wait = refused.field("retry-after").unwrap();
        let text = format!("Request was throttled. Expected available in {wait} seconds.");
        assert_eq!(refused.json(), json!({ "detail": text }));
    }
}

#[tokio::test]
async fn http2_and_grpc_are_limited_as_all_is() {
    let server = grpc::Server::start().await;
    let tables = [limit("calls", "client", 1, ""), limited("t", "\"public\"", &["calls"])].concat();
    let gateway = Setup::endpoints([server.endpoint()]).tables(&tables).start().await;
    let sender = h2::connect(&gateway).await;
    let mut call = begin(&sender, "/t/Echo", &[], &["hello"]).await;
    call.say = None;
    assert_eq!(call.end().await.code, 0);
    let mut call = begin(&sender, "/t/Echo", &[], &["hello"]).await;
    call.say = None;
    assert!(call.head.headers.contains_key("retry-after") && call.head.headers.contains_key("ratelimit"));
    assert_eq!(call.end().await.code, 14, "UNAVAILABLE");
    let mut sender = h2::connect(&gateway).await;
    let refused = h2::answer(&mut sender, h2::request("GET", "/t/", &[])).await;
    assert_eq!((refused.status().as_u16(), refused.headers().contains_key("ratelimit-policy")), (429, true));
    let line = gateway.access_line("grpc=UNAVAILABLE").await;
    assert!(line.contains("outcome=rate_limited limit=calls"), "{line}");
}

#[tokio::test]
async fn a_flood_of_new_keys_does_not_help_a_client_over_its_limit() {
    let origin = Origin::hello().await;
    let tables = [limit("key", "header:X-Api-Key", 3, "entries = 1000"), limited("a", "\"public\"", &["key"])];
    let gateway = Setup::before(&origin).tables(&tables.concat()).start().await;
    assert_eq!(passing(gateway.http, 4, "/a/", "X-Api-Key: honest\r\n").await, 3);
    let mut client = Client::plain(gateway.http).await;
    for number in 0..5000 {
        assert_eq!(client.get_with("/a/", &format!("X-Api-Key: {number}\r\n")).await.status(), 200);
    }
    assert_eq!(passing(gateway.http, 2, "/a/", "X-Api-Key: honest\r\n").await, 0);
}

#[tokio::test]
async fn explain_shows_the_limits_of_a_route() {
    let origin = Origin::hello().await;
    let tables = [
        limit("door", "client", 5, "burst = 2"),
        limit("user", "claim:sub", 7, "dry_run = true"),
        limited("p", "{ issuer = \"site\" }", &["door", "user"]),
    ];
    let gateway = Setup::before(&origin).tables(&tables.concat()).start().await;
    let mut explain = Command::new(BINARY);
    explain.args(["explain", "GET", "http://site.test/p/", "--config"]).arg(gateway.config());
    let explained = String::from_utf8(explain.output().unwrap().stdout).unwrap();
    assert!(explained.contains("limit     door: 5 requests in 86400 s, 2 at once, for each client\n"), "{explained}");
    let user = "limit     user: 7 requests in 86400 s, 7 at once, for each value of the claim sub, on trial\n";
    assert!(explained.contains(user), "{explained}");
}
