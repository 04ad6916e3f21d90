//! An upstream that fails as a whole: it is left alone, tried after a while, and used again when it is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;

use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{HELLO, Origin};
use crate::support::token::{bearer, with};

const STATE: &str = "portcullis_upstream_breaker_state";
const OPENED: &str = "portcullis_upstream_breaker_opened_total";
const REJECTED: &str = "portcullis_upstream_breaker_rejected_total";

/// An origin that closes without an answer unless it is well.
async fn moody() -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let mood = Arc::clone(&well);
    let origin = Origin::start(move |mut conn| {
        let mood = Arc::clone(&mood);
        async move {
            while conn.request().await.is_some() {
                if !mood.load(Ordering::SeqCst) {
                    return;
                }
                conn.send(HELLO).await;
            }
        }
    })
    .await;
    (origin, well)
}

async fn counts(gateway: &Gateway) -> [u64; 3] {
    let scrape = gateway.scrape().await;
    [STATE, OPENED, REJECTED].map(|family| scrape.count(family, &["upstream=\"app\""]))
}

#[tokio::test]
async fn an_upstream_whose_requests_fail_is_left_alone_and_clients_are_told_when_to_come_back() {
    let (origin, _) = moody().await;
    let gateway = Setup::before(&origin)
        .issuer("preset = \"simplejwt\"\nsecret = { file = \"issuer.secret\" }")
        .upstream("retry = { attempts = 2 }\nbreaker = { min_requests = 4, open_secs = 60 }")
        .start()
        .await;
    assert_eq!(counts(&gateway).await, [0, 0, 0]);
    let mut client = Client::plain(gateway.http).await;
    for number in 0..4 {
        assert_eq!(client.get(&format!("/{number}")).await.status(), 502);
    }
    let sent = origin.requests().len();
    assert!(sent >= 4, "{sent}");

    let rejected = client.get("/rejected").await;
    assert_eq!((rejected.status(), rejected.field("content-type")), (503, Some("application/problem+json")));
    let secs: u32 = rejected.field("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&secs), "{secs}");
    let line = gateway.access_line("/rejected").await;
    assert!(line.contains("upstream_breaker_open") && !line.contains(&origin.address.to_string()), "{line}");
    let token = with(&json!({ "user_id": 1, "token_type": "access", "jti": "a" }));
    let rejected = client.get_with("/private/", &bearer(&token)).await;
    assert_eq!((rejected.status(), rejected.field("content-type")), (503, Some("application/json")));
    assert_eq!(rejected.text(), r#"{"detail":"Service temporarily unavailable, try again later."}"#);
    let tunnel = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(client.get_with("/tunnel", tunnel).await.status(), 503);

    assert_eq!(origin.requests().len(), sent, "nothing is sent, and nothing sent again");
    assert_eq!(counts(&gateway).await, [2, 1, 3]);
    let page = crate::support::scrape::ask(gateway.admin, "/").await;
    assert!(page.text().contains("Breakers"), "{}", page.text());
}

#[tokio::test]
async fn after_a_while_a_few_requests_are_tried_and_decide() {
    let (origin, well) = moody().await;
    let keys = "retry = { attempts = 1 }\nbreaker = { min_requests = 2, open_secs = 0.3, probes = 2 }";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.status(), 502);
    }
    let before = origin.requests().len();
    gateway.until_metric(STATE, &[], 1).await;
    assert_eq!(client.get("/").await.status(), 502, "it is tried, and still fails");
    assert_eq!(origin.requests().len(), before + 1);
    assert_eq!(counts(&gateway).await[1], 2, "it opened again");

    well.store(true, Ordering::SeqCst);
    gateway.until_metric(STATE, &[], 1).await;
    let tried = [client.get("/").await.status(), client.get("/").await.status()];
    assert_eq!((tried, counts(&gateway).await[0]), ([200; 2], 0));
    for _ in 0..5 {
        assert_eq!(client.get("/").await.status(), 200);
    }
}

#[tokio::test]
async fn a_trial_whose_client_leaves_is_given_to_another() {
    let (origin, gate) = Origin::gated().await;
    let keys = "response_timeout_secs = 0.4\nretry = { attempts = 1 }\nbreaker = { min_requests = 1, open_secs = 0.3, probes = 1 }";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 504);
    gateway.edit(|text| text.replace("response_timeout_secs = 0.4", "response_timeout_secs = 60"));
    gateway.until_generation(2).await;
    gateway.until_metric(STATE, &[], 1).await; // open still, but its time is over
    let mut leaving = Client::plain(gateway.http).await;
    leaving.send(get("/leaving")).await;
    eventually("the trial", || async { origin.targets().iter().any(|target| target == "/leaving").then_some(()) })
        .await;
    drop(leaving);
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gate.add_permits(9);
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    assert_eq!(counts(&gateway).await[..2], [0, 1]);
}

#[tokio::test]
async fn a_reload_keeps_an_open_breaker_unless_its_settings_change() {
    let (origin, _) = moody().await;
    let keys = "retry = { attempts = 1 }\nbreaker = { min_requests = 1, open_secs = 60 }";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 502);
    gateway.edit(|text| text.replace("attempts = 1", "attempts = 2"));
    gateway.until_generation(2).await;
    assert_eq!(counts(&gateway).await, [2, 1, 0]);
    gateway.edit(|text| text.replace("open_secs = 60", "open_secs = 30"));
    gateway.until_generation(3).await;
    assert_eq!(counts(&gateway).await, [0, 1, 0], "what was counted is, in any case");
}

#[tokio::test]
async fn statuses_count_only_where_the_configuration_says_so_and_clients_faults_never() {
    let refusing = Origin::always("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno").await;
    for (keys, sent) in [("", 10), (", status = [503]", 3)] {
        let before = refusing.requests().len();
        let keys = format!("breaker = {{ min_requests = 3, open_secs = 60{keys} }}");
        let gateway = Setup::before(&refusing).limits("body_timeout_secs = 1").upstream(&keys).start().await;
        for _ in 0..3 {
            let mut leaving = Client::plain(gateway.http).await;
            leaving.send("POST /broken HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nabc").await;
        }
        gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
        let mut client = Client::plain(gateway.http).await;
        for _ in 0..10 {
            assert_eq!(client.get("/").await.status(), 503);
        }
        let targets = refusing.targets();
        assert_eq!(targets[before..].iter().filter(|target| *target == "/").count(), sent, "{keys}");
    }
}
