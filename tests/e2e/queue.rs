//! Requests that wait for a connection: as many as may, no more, and who waited is told.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::origin::Origin;
use crate::support::token::{bearer, with};

const SIMPLEJWT: &str = "preset = \"simplejwt\"\nsecret = { file = \"issuer.secret\" }";

#[tokio::test]
async fn a_full_queue_answers_at_once_and_those_in_it_get_their_turn() {
    let (origin, gate) = Origin::gated().await;
    let gateway = Setup::before(&origin)
        .issuer(SIMPLEJWT)
        .upstream("max_connections = 1\nqueue = 2\nqueue_timeout_secs = 20")
        .start()
        .await;
    let mut waiting = JoinSet::new();
    for number in 0..3 {
        let mut client = Client::plain(gateway.http).await;
        client.send(get(&format!("/{number}"))).await;
        waiting.spawn(async move { client.answer().await.status() });
        gateway.until_metric("portcullis_requests_in_flight", &["route=\"public\""], number + 1).await;
    }
    gateway.until_metric("portcullis_upstream_waiting_requests", &[], 2).await;
    let begun = Instant::now();
    let refused = Client::plain(gateway.http).await.get("/refused").await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert_eq!(refused.field("content-type"), Some("application/problem+json"));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // Where clients of Django REST framework are refused in its words, so are they here.
    let token = with(&json!({ "user_id": 1, "token_type": "access", "jti": "a" }));
    let refused = Client::plain(gateway.http).await.get_with("/private/", &bearer(&token)).await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("1")));
    assert_eq!(refused.field("content-type"), Some("application/json"));
    assert_eq!(refused.text(), r#"{"detail":"Service temporarily unavailable, try again later."}"#);

    gate.add_permits(3);
    assert_eq!(waiting.join_all().await, [200; 3]);
    assert_eq!(origin.requests().len(), 3);
    gateway.until_metric("portcullis_upstream_errors_total", &["stage=\"queue_full\""], 2).await;
}

#[tokio::test]
async fn connections_that_are_only_being_made_are_no_queue() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).upstream("max_connections = 32\nqueue = 1").start().await;
    let mut clients = Vec::new();
    for _ in 0..32 {
        clients.push(Client::plain(gateway.http).await);
    }
    let mut asking = JoinSet::new();
    for mut client in clients {
        asking.spawn(async move { client.get("/").await.status() });
    }
    assert_eq!(asking.join_all().await, [200; 32]);
}

#[tokio::test]
async fn the_access_log_says_how_long_a_request_was_in_the_queue() {
    let (origin, gate) = Origin::gated().await;
    let gateway = Setup::before(&origin).upstream("max_connections = 1").start().await;
    let mut first = Client::plain(gateway.http).await;
    first.send(get("/first")).await;
    eventually("the first request", || async { (origin.requests().len() == 1).then_some(()) }).await;
    let mut second = Client::plain(gateway.http).await;
    second.send(get("/second")).await;
    gateway.until_metric("portcullis_upstream_waiting_requests", &[], 1).await;
    gate.add_permits(2);
    assert_eq!((first.answer().await.status(), second.answer().await.status()), (200, 200));
    assert!(gateway.access_line("/first").await.contains(" queue=0.000ms "));
    let line = gateway.access_line("/second").await;
    let queued = line.split_once(" queue=").and_then(|(_, rest)| rest.split_once("ms")).expect("a time").0;
    assert!(queued.parse::<f64>().unwrap() > 0.0, "{line}");
}

#[tokio::test]
async fn an_upstream_is_told_when_a_request_came_if_it_wants_to_know() {
    let micros = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros();
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).upstream("request_start = true").start().await;
    let before = micros();
    Client::plain(gateway.http).await.get_with("/", "X-Request-Start: t=1\r\n").await;
    let request = origin.only();
    let told = request.all("x-request-start");
    assert_eq!(told.len(), 1, "and the client's own word is not passed on: {told:?}");
    let told: u128 = told[0].strip_prefix("t=").unwrap().parse().unwrap();
    assert!((before..=micros()).contains(&told), "{before} {told}");

    let plain = Setup::before(&origin).start().await;
    Client::plain(plain.http).await.get("/").await;
    assert_eq!(origin.last().field("x-request-start"), None);
}

/// Sends requests one after the other, each when the one before waits; what the origin then gets, in which order.
async fn served_in_order(keys: &str, pause: Duration) -> Vec<String> {
    let (origin, gate) = Origin::gated().await;
    let keys = format!("max_connections = 1\nqueue_timeout_secs = 20\n{keys}");
    let gateway = Setup::before(&origin).upstream(&keys).start().await;
    let mut clients = JoinSet::new();
    for number in 0..4 {
        let mut client = Client::plain(gateway.http).await;
        client.send(get(&format!("/{number}"))).await;
        clients.spawn(async move { client.answer().await.status() });
        gateway.until_metric("portcullis_requests_in_flight", &["route=\"public\""], number + 1).await;
        gateway.until_metric("portcullis_upstream_waiting_requests", &[], number).await;
    }
    sleep(pause).await;
    gate.add_permits(4);
    assert_eq!(clients.join_all().await, [200; 4]);
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    origin.targets()
}

#[tokio::test]
async fn under_overload_who_came_last_is_served_first_if_that_is_asked_for() {
    let standing = Duration::from_millis(300);
    assert_eq!(served_in_order("", standing).await, ["/0", "/1", "/2", "/3"]);
    assert_eq!(served_in_order("queue_order = \"adaptive\"", standing).await, ["/0", "/3", "/2", "/1"]);
}

#[tokio::test]
async fn whoever_leaves_the_line_or_waits_too_long_holds_up_nobody() {
    let (origin, gate) = Origin::gated().await;
    let keys = "max_connections = 1\nqueue = 2\nqueue_order = \"adaptive\"\nqueue_timeout_secs = 1";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    let mut first = Client::plain(gateway.http).await;
    first.send(get("/first")).await;
    eventually("the first request", || async { (origin.requests().len() == 1).then_some(()) }).await;
    let mut leaving = Client::plain(gateway.http).await;
    leaving.send(get("/leaving")).await;
    gateway.until_metric("portcullis_upstream_waiting_requests", &[], 1).await;
    let mut waiting = Client::plain(gateway.http).await;
    waiting.send(get("/waiting")).await;
    gateway.until_metric("portcullis_upstream_waiting_requests", &[], 2).await;
    assert_eq!(Client::plain(gateway.http).await.get("/full").await.status(), 503);
    drop(leaving);
    assert_eq!(waiting.answer().await.status(), 503);
    gateway.until_metric("portcullis_upstream_waiting_requests", &[], 0).await;
    let errors = gateway.scrape().await;
    let errors = ["queue_full", "queue_timeout"]
        .map(|stage| errors.count("portcullis_upstream_errors_total", &[&format!("stage=\"{stage}\"")]));
    assert_eq!(errors, [1, 1]);
    gate.add_permits(2);
    assert_eq!(first.answer().await.status(), 200);
    assert_eq!(waiting.get("/again").await.status(), 200);
    assert_eq!(origin.targets(), ["/first", "/again"]);
}

#[tokio::test]
async fn an_endpoint_is_given_as_many_requests_at_once_as_was_found_out() {
    for (keys, limit) in [("concurrency = \"adaptive\"", 8), ("concurrency = { min = 2, max = 3 }", 3)] {
        let (origin, gate) = Origin::gated().await;
        let gateway = Setup::before(&origin).server("workers = 2").upstream(keys).start().await;
        let mut clients = JoinSet::new();
        for number in 0..12 {
            let mut client = Client::plain(gateway.http).await;
            client.send(get(&format!("/{number}"))).await;
            clients.spawn(async move { client.answer().await.status() });
        }
        gateway.until_metric("portcullis_upstream_waiting_requests", &[], 12 - limit).await;
        let at_once = || async { (origin.requests().len() as u64 == limit).then_some(()) };
        eventually("as many as may be", at_once).await;
        gateway.until_metric("portcullis_endpoint_concurrency_limit", &[], limit).await;
        gate.add_permits(12);
        assert_eq!(clients.join_all().await, [200; 12], "{keys}");
        gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    }
}
