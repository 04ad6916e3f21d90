//! What gateways share in Redis, and what becomes of it when Redis is slow, gone or back. It wants a real redis-server, which tests/run installs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::Origin;
use crate::support::redis::Redis;
use crate::support::wire::Message;
use crate::support::{eventually, scrape, tls, token};

const AWAY: &str = "Redis is away";

/// A shared limit that gives nothing back while a test lasts, and a route that asks it.
fn limit(name: &str, key: &str, requests: u32, keys: &str) -> String {
    let limit = format!(
        "[rate_limit.{name}]\nkey = \"{key}\"\nrequests = {requests}\nper_secs = 86400\nshared = true\n{keys}\n"
    );
    limit + &route(name, "\"public\"", &format!("rate_limits = [\"{name}\"]"))
}

fn place(url: &str, keys: &str) -> String {
    format!("[redis]\nurl = \"{url}\"\n{keys}\n")
}

async fn gateway(origin: &Origin, tables: &str) -> Gateway {
    let gateway = Setup::before(origin).server("workers = 2").tables(tables).start().await;
    gateway.until_metric("portcullis_redis_up", &[], 1).await;
    gateway
}

async fn get(gateway: &Gateway, path: &str, fields: &str) -> Message {
    Client::plain(gateway.http).await.get_with(path, fields).await
}

async fn passing(gateway: &Gateway, path: &str, times: usize) -> usize {
    let mut passed = 0;
    for _ in 0..times {
        match get(gateway, path, "").await.status() {
            200 => passed += 1,
            status => assert_eq!(status, 429),
        }
    }
    passed
}

/// How often a line with `text` is in the log.
fn said(gateway: &Gateway, text: &str) -> usize {
    gateway.log().lines().filter(|line| line.contains(text)).count()
}

#[tokio::test]
async fn gateways_with_one_limit_let_through_together_what_it_says() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let tables =
        place(&redis.url(), "timeout_ms = 2000") + &limit("all", "client", 40, "") + &limit("other", "client", 3, "");
    let (one, other) = (gateway(&origin, &tables).await, gateway(&origin, &tables).await);
    let counts = tokio::join!(passing(&one, "/all/", 30), passing(&other, "/all/", 30), passing(&one, "/all/", 30));
    assert_eq!(counts.0 + counts.1 + counts.2, 40, "{counts:?}");
    assert_eq!(passing(&other, "/other/", 5).await, 3, "each limit by itself");
    assert_eq!(passing(&one, "/other/", 5).await, 0);
    let refused = get(&one, "/all/", "").await;
    assert!(refused.field("ratelimit").unwrap().starts_with("\"all\";r=0;t="), "{refused:?}");
    for gateway in [&one, &other] {
        assert_eq!(gateway.scrape().await.count("portcullis_redis_fallbacks_total", &[]), 0);
        assert!(scrape::ask(gateway.admin, "/").await.text().contains("<dt>redis</dt>"));
    }
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    assert!(keys.len() == 2 && keys.iter().all(|key| key.starts_with("portcullis:rate:")), "{keys:?}");
    for key in keys {
        let millis: i64 = redis.ask(&["PTTL", &key]).await;
        assert!((1..=86_400_000).contains(&millis), "what is given back is forgotten: {millis}");
    }
}

#[tokio::test]
async fn a_shared_limit_says_what_one_of_this_gateway_alone_would() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let own = "[rate_limit.own]\nkey = \"client\"\nrequests = 4\nper_secs = 86400\nburst = 3\n".to_owned()
        + &route("own", "\"public\"", "rate_limits = [\"own\"]");
    let tables = place(&redis.url(), "timeout_ms = 2000") + &own + &limit("all", "client", 4, "burst = 3");
    let gateway = gateway(&origin, &tables).await;
    let numbers = |message: &Message, name: &str| {
        let field = message.field("ratelimit").unwrap().replace(&format!("\"{name}\";r="), "").replace(";t=", " ");
        let (left, wait) = field.split_once(' ').unwrap();
        (message.status(), left.parse::<u32>().unwrap(), wait.parse::<u32>().unwrap())
    };
    for _ in 0..5 {
        let (own, all) = (get(&gateway, "/own/", "").await, get(&gateway, "/all/", "").await);
        let policy = |message: &Message| message.field("ratelimit-policy").unwrap().to_owned();
        assert_eq!(policy(&own).replace("own", "all"), policy(&all));
        let (own, all) = (numbers(&own, "own"), numbers(&all, "all"));
        assert_eq!((own.0, own.1), (all.0, all.1));
        assert!(own.2.abs_diff(all.2) <= 20, "the one was asked after the other: {own:?} {all:?}");
    }
}

#[tokio::test]
async fn a_request_is_counted_by_all_limits_of_a_route_or_by_none_shared_or_not() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let table = |name: &str, key: &str, requests: u32, shared: bool| {
        format!("[rate_limit.{name}]\nkey = \"{key}\"\nrequests = {requests}\nper_secs = 86400\nshared = {shared}\n")
    };
    let tables = [
        place(&redis.url(), "timeout_ms = 2000"),
        table("wide", "client", 6, true),
        table("narrow", "header:X-Key", 2, true),
        table("here", "client", 5, false),
        table("user", "claim:sub", 3, true),
        route("two", "\"public\"", "rate_limits = [\"wide\", \"narrow\", \"here\"]"),
        route("one", "\"public\"", "rate_limits = [\"wide\"]"),
        route("own", "\"public\"", "rate_limits = [\"here\"]"),
        route("user", "{ issuer = \"site\" }", "rate_limits = [\"user\"]"),
    ];
    let gateway = gateway(&origin, &tables.concat()).await;
    for (left, status) in [(1, 200), (0, 200), (0, 429), (0, 429)] {
        let answer = get(&gateway, "/two/", "X-Key: a\r\n").await;
        assert_eq!(answer.status(), status);
        assert!(answer.field("ratelimit").unwrap().contains(&format!("\"narrow\";r={left};")), "{answer:?}");
    }
    assert_eq!(passing(&gateway, "/one/", 9).await, 4, "what `narrow` refused was not counted by `wide`");
    assert_eq!(passing(&gateway, "/own/", 9).await, 3, "nor by `here`");
    assert_eq!(get(&gateway, "/user/", "").await.status(), 401);
    for (user, passes) in [("alice", 3), ("bob", 3)] {
        let fields = token::bearer(&token::with(&serde_json::json!({ "sub": user })));
        for at in 0..5 {
            assert_eq!(get(&gateway, "/user/", &fields).await.status(), if at < passes { 200 } else { 429 }, "{user}");
        }
    }
    assert_eq!(gateway.scrape().await.count("portcullis_redis_fallbacks_total", &[]), 0);
}

#[tokio::test]
async fn when_redis_dies_under_load_no_request_fails_and_when_it_is_back_it_is_shared_again() {
    let (origin, mut redis) = (Origin::hello().await, Redis::start().await);
    let tables = place(&redis.url(), "timeout_ms = 2000")
        + &limit("many", "client", 1_000_000, "")
        + &limit("few", "client", 5, "");
    let gateways = [gateway(&origin, &tables).await, gateway(&origin, &tables).await];
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..8)
        .map(|number| {
            let (stop, address) = (Arc::clone(&stop), gateways[number % 2].http);
            tokio::spawn(async move {
                let mut client = Client::plain(address).await;
                let mut asked = 0_u64;
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get("/many/").await.status(), 200);
                    asked += 1;
                }
                asked
            })
        })
        .collect();
    redis.kill();
    for gateway in &gateways {
        gateway.until_metric("portcullis_redis_up", &[], 0).await;
        assert_eq!(passing(gateway, "/few/", 8).await, 5, "each decides alone, by the same limit");
        assert!(scrape::ask(gateway.admin, "/").await.text().contains(">away</span>"));
    }
    redis.again().await;
    for gateway in &gateways {
        gateway.until_metric("portcullis_redis_up", &[], 1).await;
    }
    let [one, other] = &gateways;
    assert_eq!(passing(one, "/few/", 3).await + passing(other, "/few/", 8).await, 5, "they count together again");
    stop.store(true, Ordering::SeqCst);
    for client in load {
        assert!(client.await.unwrap() > 0);
    }
    for gateway in &gateways {
        assert_eq!(said(gateway, AWAY), 1, "it is said once, not for each request");
        assert_eq!(said(gateway, "Redis is there"), 2);
        assert!(gateway.scrape().await.count("portcullis_redis_fallbacks_total", &[]) >= 8);
    }
}

#[tokio::test]
async fn a_redis_that_says_nothing_costs_one_wait_and_not_one_for_each_request() {
    const WAIT: Duration = Duration::from_secs(1);
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let tables =
        place(&redis.url(), "timeout_ms = 1000\nconnect_timeout_ms = 5000") + &limit("many", "client", 1_000_000, "");
    let gateway = gateway(&origin, &tables).await;
    assert_eq!(passing(&gateway, "/many/", 3).await, 3);
    redis.stall();
    let begun = Instant::now();
    assert_eq!(passing(&gateway, "/many/", 40).await, 40);
    assert!(begun.elapsed() < 20 * WAIT, "{:?} for 40 requests", begun.elapsed());
    assert_eq!((said(&gateway, AWAY), gateway.scrape().await.count("portcullis_redis_up", &[])), (1, 0));
    redis.go_on();
    gateway.until_metric("portcullis_redis_up", &[], 1).await;
    let alone = gateway.scrape().await.count("portcullis_redis_fallbacks_total", &[]);
    assert_eq!((passing(&gateway, "/many/", 3).await, said(&gateway, AWAY)), (3, 1));
    assert_eq!(gateway.scrape().await.count("portcullis_redis_fallbacks_total", &[]), alone);
}

#[tokio::test]
async fn a_gateway_begins_without_redis_and_shares_when_it_comes() {
    let (origin, mut redis) = (Origin::hello().await, Redis::start().await);
    redis.kill();
    let tables = place(&redis.url(), "timeout_ms = 2000") + &limit("few", "client", 5, "");
    let gateway = Setup::before(&origin).tables(&tables).start().await;
    assert_eq!(passing(&gateway, "/few/", 8).await, 5);
    eventually("one line", || async { (said(&gateway, AWAY) == 1).then_some(()) }).await;
    redis.again().await;
    gateway.until_metric("portcullis_redis_up", &[], 1).await;
    assert_eq!(passing(&gateway, "/few/", 8).await, 5, "Redis has counted nothing yet");
    assert_eq!(said(&gateway, AWAY), 1);
}

#[tokio::test]
async fn nothing_a_client_says_is_in_redis() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let tables =
        place(&redis.url(), "timeout_ms = 2000\nprefix = \"test.1:\"") + &limit("keys", "header:X-Api-Key", 5, "");
    let gateway = gateway(&origin, &tables).await;
    let long = "k".repeat(4000);
    for key in ["secret-key", "a b * ? [x]", "portcullis:revocations", "\u{e9}\u{e9}", &long] {
        assert_eq!(get(&gateway, "/keys/", &format!("X-Api-Key: {key}\r\n")).await.status(), 200);
    }
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    assert_eq!(keys.len(), 5, "{keys:?}");
    for key in keys {
        let digest = key.strip_prefix("test.1:rate:keys:5/86400/5:").unwrap();
        assert!(digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        let value: String = redis.ask(&["GET", &key]).await;
        assert!(value.bytes().all(|byte| byte.is_ascii_digit()), "{value}");
    }
}

#[tokio::test]
async fn a_key_that_is_something_else_in_redis_stops_nobody() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let tables = place(&redis.url(), "timeout_ms = 2000") + &limit("all", "route", 5, "");
    let gateway = gateway(&origin, &tables).await;
    assert_eq!(passing(&gateway, "/all/", 1).await, 1);
    let keys: Vec<String> = redis.ask(&["KEYS", "*"]).await;
    for (value, passes) in [("not a number", 5), ("9007199254740991", 0)] {
        let _: String = redis.ask(&["SET", &keys[0], value]).await;
        assert_eq!(passing(&gateway, "/all/", 8).await, passes, "{value}");
    }
    let millis: i64 = redis.ask(&["PTTL", &keys[0]]).await;
    assert!((1..=86_400_001).contains(&millis), "a moment too far away is brought back: {millis}");
}

#[tokio::test]
async fn a_password_is_sent_and_never_shown() {
    let (origin, redis) = (
        Origin::hello().await,
        Redis::with(&["--requirepass", "open-sesame", "--unixsocket", "HOME/redis.sock"]).await,
    );
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("redis.password"), "open-sesame\n").unwrap();
    let url = format!("redis+unix://{}/redis.sock?db=3", redis.home().display());
    let tables =
        place(&url, "password = { file = \"redis.password\" }\ntimeout_ms = 2000") + &limit("few", "client", 2, "");
    let gateway = Setup::before(&origin).tables(&tables).start_in(home).await;
    gateway.until_metric("portcullis_redis_up", &[], 1).await;
    assert_eq!(passing(&gateway, "/few/", 3).await, 2);

    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("redis.password"), "open-barley\n").unwrap();
    let refused = Setup::before(&origin).tables(&tables).start_in(other).await;
    eventually("a refusal", || async { (said(&refused, AWAY) == 1).then_some(()) }).await;
    assert_eq!(passing(&refused, "/few/", 3).await, 2, "without Redis it decides alone");
    for gateway in [&gateway, &refused] {
        let page = scrape::ask(gateway.admin, "/").await;
        assert!(!gateway.log().contains("open-") && !page.text().contains("open-"));
    }
}

#[tokio::test]
async fn over_tls_only_a_redis_that_the_authority_vouches_for_is_asked() {
    let origin = Origin::hello().await;
    let home = tempfile::tempdir().unwrap();
    tls::certificate_for(home.path(), "redis", &["localhost"]);
    tls::certificate_for(home.path(), "stranger", &["localhost"]);
    let file = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (file("redis.crt"), file("redis.key"));
    let port = crate::support::port::Port::reserve();
    let tls_port = port.address.port().to_string();
    let arguments = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let arguments = [&arguments[..], &["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"]].concat();
    let _redis = Redis::with(&arguments).await;
    let url = format!("rediss://localhost:{tls_port}");
    let tables = |ca: &str| {
        place(&url, &format!("ca_file = {:?}\ntimeout_ms = 2000", file(ca))) + &limit("few", "client", 2, "")
    };
    let trusting = gateway(&origin, &tables("redis.crt")).await;
    assert_eq!(passing(&trusting, "/few/", 3).await, 2);
    assert_eq!(trusting.scrape().await.count("portcullis_redis_fallbacks_total", &[]), 0);
    let wary = Setup::before(&origin).tables(&tables("stranger.crt")).start().await;
    eventually("a refusal", || async { (said(&wary, AWAY) == 1).then_some(()) }).await;
    assert!(wary.log().contains("certificate"), "{}", wary.log());
}
