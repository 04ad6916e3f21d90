//! Revocations that gateways share in Redis: who is logged out at one is logged out at all, whatever becomes of Redis in between.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::redis::Redis;
use crate::support::wire::Message;
use crate::support::{eventually, token};

fn setup(origin: &Origin, redis: &Redis, journal: &str) -> Setup {
    let tables = format!(
        "[redis]\nurl = \"{}\"\ntimeout_ms = 2000\n\n[revocation]\nshared = true\nentries = 100\n{journal}\n",
        redis.url()
    );
    Setup::before(origin).tables(&tables)
}

async fn up(gateway: &Gateway) {
    gateway.until_metric("portcullis_redis_up", &[], 1).await;
}

async fn gateway(origin: &Origin, redis: &Redis) -> Gateway {
    let gateway = setup(origin, redis, "").start().await;
    up(&gateway).await;
    gateway
}

async fn ask(gateway: &Gateway, method: &str, body: &Value) -> Message {
    let (body, fields) = (body.to_string(), "Host: localhost\r\nContent-Type: application/json\r\n");
    let length = body.len();
    let request = format!("{method} /revocations HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    Client::plain(gateway.admin).await.ask(request).await
}

async fn revoke(gateway: &Gateway, body: Value) {
    let answer = ask(gateway, "POST", &body).await;
    assert_eq!(answer.status(), 201, "{answer:?}");
}

/// A token of this identifier, as a field.
fn bearer(jti: &str) -> String {
    token::bearer(&token::with(&json!({ "jti": jti })))
}

async fn status(gateway: &Gateway, jti: &str) -> u16 {
    Client::plain(gateway.http).await.get_with("/private/", &bearer(jti)).await.status()
}

async fn until(gateway: &Gateway, jti: &str, wanted: u16) {
    let is = || async { (status(gateway, jti).await == wanted).then_some(()) };
    eventually(&format!("{wanted} for {jti}"), is).await;
}

#[tokio::test]
async fn what_is_revoked_at_one_gateway_is_denied_at_the_other_and_taken_back_there_too() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let (one, other) = (gateway(&origin, &redis).await, gateway(&origin, &redis).await);
    for gateway in [&one, &other] {
        assert_eq!(status(gateway, "a").await, 200);
    }
    let until_then = token::now() + 3600;
    revoke(&one, json!({ "jti": "a", "until": until_then })).await;
    assert_eq!(status(&one, "a").await, 401, "in force when it is answered");
    until(&other, "a", 401).await;
    revoke(&other, json!({ "jti": "b" })).await;
    until(&one, "b", 401).await;
    let set: Vec<String> = redis.ask(&["ZRANGE", "portcullis:revocations", "0", "-1", "WITHSCORES"]).await;
    assert_eq!(set.len(), 4, "{set:?}");
    assert_eq!(set[1].parse::<u64>().unwrap(), until_then + 300, "forgotten with the longest leeway: {set:?}");
    assert_eq!(set[3], "inf");

    // Longer at another gateway: two entries in Redis, and both are taken back.
    revoke(&other, json!({ "jti": "a", "until": until_then + 60 })).await;
    let answer = ask(&one, "DELETE", &json!({ "jti": "a" })).await;
    assert_eq!(answer.status(), 204, "{answer:?}");
    until(&one, "a", 200).await;
    until(&other, "a", 200).await;
    let left = || async {
        let set: Vec<String> = redis.ask(&["ZRANGE", "portcullis:revocations", "0", "-1"]).await;
        (set.len() == 1).then_some(())
    };
    eventually("one entry", left).await;
    assert_eq!(status(&other, "b").await, 401);
}

#[tokio::test]
async fn what_is_revoked_while_redis_is_away_is_in_force_at_once_and_reaches_the_others_when_it_is_back() {
    let (origin, mut redis) = (Origin::hello().await, Redis::start().await);
    let (one, other) = (gateway(&origin, &redis).await, gateway(&origin, &redis).await);
    revoke(&one, json!({ "jti": "before" })).await;
    until(&other, "before", 401).await;
    redis.kill();
    for gateway in [&one, &other] {
        gateway.until_metric("portcullis_redis_up", &[], 0).await;
        assert_eq!(status(gateway, "before").await, 401, "what was learned stays");
    }
    revoke(&one, json!({ "jti": "meanwhile" })).await;
    assert_eq!((status(&one, "meanwhile").await, status(&other, "meanwhile").await), (401, 200));
    let refused = ask(&one, "DELETE", &json!({ "jti": "before" })).await;
    assert_eq!(refused.status(), 409, "it would come back: {refused:?}");

    redis.again().await; // with nothing in it
    until(&other, "meanwhile", 401).await;
    for gateway in [&one, &other] {
        assert_eq!(status(gateway, "before").await, 401, "an empty Redis undoes nothing");
    }
    let third = gateway(&origin, &redis).await;
    for jti in ["before", "meanwhile"] {
        until(&third, jti, 401).await;
    }
}

#[tokio::test]
async fn a_gateway_that_starts_learns_all_and_with_a_journal_keeps_it_without_redis() {
    let (origin, mut redis) = (Origin::hello().await, Redis::start().await);
    let one = gateway(&origin, &redis).await;
    for number in 0..20 {
        revoke(&one, json!({ "jti": format!("id-{number}") })).await;
    }
    let home = tempfile::tempdir().unwrap();
    let journal = home.path().join("revoked.journal");
    let late = setup(&origin, &redis, "journal = \"revoked.journal\"").start_in(home).await;
    for number in 0..20 {
        until(&late, &format!("id-{number}"), 401).await;
    }
    let kept = std::fs::read(&journal).unwrap();
    drop(late);
    drop(one);
    redis.kill();
    let again = tempfile::tempdir().unwrap();
    std::fs::write(again.path().join("revoked.journal"), kept).unwrap();
    let alone = setup(&origin, &redis, "journal = \"revoked.journal\"").start_in(again).await;
    for number in 0..20 {
        assert_eq!(status(&alone, &format!("id-{number}")).await, 401);
    }
    assert_eq!(status(&alone, "another").await, 200);
}

#[tokio::test]
async fn what_is_no_revocation_in_redis_changes_nothing() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    let long = format!("+{}", json!({ "jti": "x".repeat(20_000) }));
    for text in ["nonsense", "{\"jti\":\"a\",\"why\":1}", "{\"jti\":\"a\"} ", "\u{0}"] {
        let _: i64 = redis.ask(&["ZADD", "portcullis:revocations", "+inf", text]).await;
    }
    let gateway = gateway(&origin, &redis).await;
    for message in ["", "+", "-", "+{}", "*{\"jti\":\"b\"}", "{\"jti\":\"b\"}", "+{\"jti\":\"b\",\"jti\":\"c\"}", &long]
    {
        let heard: i64 = redis.ask(&["PUBLISH", "portcullis:revocations", message]).await;
        assert_eq!(heard, 1);
    }
    let _: i64 = redis.ask(&["PUBLISH", "portcullis:revocations", "+{\"jti\":\"good\"}"]).await;
    until(&gateway, "good", 401).await;
    assert_eq!(
        (status(&gateway, "a").await, status(&gateway, "b").await),
        (401, 200),
        "the third text is JSON with a space"
    );
    gateway.until_metric("portcullis_revocations", &[], 2).await;
}

#[tokio::test]
async fn there_is_never_more_than_entries_says_and_it_is_told() {
    let (origin, redis) = (Origin::hello().await, Redis::start().await);
    for number in 0..130 {
        let text = json!({ "jti": format!("id-{number}") }).to_string();
        let _: i64 = redis.ask(&["ZADD", "portcullis:revocations", "+inf", &text]).await;
    }
    let gateway = gateway(&origin, &redis).await;
    gateway.until_metric("portcullis_revocations", &["kind=\"jti\""], 100).await;
    eventually("a line", || async { gateway.log().contains("raise `entries`").then_some(()) }).await;
}
