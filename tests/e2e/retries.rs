//! What is tried again, and what never is: counted where it arrives.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::{HELLO, Origin};

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
const RETRIES: &str = "portcullis_upstream_retries_total";
const EXHAUSTED: &str = "portcullis_upstream_retry_budget_exhausted_total";
/// Retries of everything that may be, without ejections in between.
const EAGER: &str =
    "eject = false\nretry = { on = [\"connect\", \"reset\", \"502\", \"503\", \"504\"], backoff_ms = 1 }";

/// Reads each request whole, and closes without a word.
async fn closing() -> Origin {
    Origin::start(|mut conn| async move {
        conn.request().await;
    })
    .await
}

async fn silent() -> Origin {
    Origin::start(|mut conn| async move { conn.until_closed().await }).await
}

/// How often each target came to all of these origins together.
fn seen(origins: &[&Origin]) -> BTreeMap<String, usize> {
    let mut seen = BTreeMap::new();
    for target in origins.iter().flat_map(|origin| origin.targets()) {
        *seen.entry(target).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn an_answer_that_says_try_again_is_tried_elsewhere_if_the_configuration_says_so() {
    let (refusing, other) = (Origin::always(UNAVAILABLE).await, Origin::hello().await);
    let gateway = Setup::endpoints([refusing.endpoint(), other.endpoint()]).upstream(EAGER).start().await;
    let mut client = Client::plain(gateway.http).await;
    for number in 0..10 {
        assert_eq!(client.get(&format!("/{number}")).await.status(), 200, "{number}");
    }
    let passed_over = refusing.requests().len();
    assert!(passed_over > 0);
    gateway.until_metric(RETRIES, &["reason=\"status\""], passed_over.try_into().unwrap()).await;

    let plain = Setup::endpoints([refusing.endpoint(), other.endpoint()]).upstream("eject = false").start().await;
    let mut client = Client::plain(plain.http).await;
    let mut refused = 0;
    for _ in 0..10 {
        refused += usize::from(client.get("/plain").await.status() == 503);
    }
    assert_eq!(refusing.targets().iter().filter(|target| *target == "/plain").count(), refused);
    assert!(refused > 0, "without being asked nothing is done about an answer");
}

#[tokio::test]
async fn a_post_is_never_sent_twice_whatever_is_reason_to_try_again() {
    for origins in [
        [Origin::always(UNAVAILABLE).await, Origin::always(UNAVAILABLE).await],
        [closing().await, closing().await],
        [closing().await, Origin::always(UNAVAILABLE).await],
    ] {
        let keys = EAGER.replace("backoff_ms", "try_timeout_secs = 1, backoff_ms");
        let gateway = Setup::endpoints(origins.iter().map(Origin::endpoint)).upstream(&keys).start().await;
        for number in 0..10 {
            for method in ["POST", "PATCH"] {
                let status =
                    Client::plain(gateway.http).await.by(method, &format!("/{method}/{number}"), "").await.status();
                assert!([502, 503].contains(&status), "{status}");
            }
            let answer = Client::plain(gateway.http).await.post(&format!("/body/{number}"), "body").await;
            assert!([502, 503].contains(&answer.status()), "{}", answer.status());
        }
        let [one, other] = &origins;
        let seen = seen(&[one, other]);
        assert_eq!(seen.len(), 30);
        assert!(seen.values().all(|times| *times == 1), "{seen:?}");
    }
}

#[tokio::test]
async fn a_get_that_gets_no_answer_is_tried_as_often_as_it_may_be() {
    for attempts in [1, 2, 4] {
        let origin = closing().await;
        let keys = format!("retry = {{ attempts = {attempts}, backoff_ms = 1 }}");
        let gateway = Setup::before(&origin).upstream(&keys).start().await;
        assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 502);
        assert_eq!(origin.requests().len(), attempts);
        let retries = u64::try_from(attempts).unwrap() - 1;
        gateway.until_metric(RETRIES, &["reason=\"reset\""], retries).await;
    }
}

#[tokio::test]
async fn without_a_budget_failures_are_passed_on_and_not_multiplied() {
    let origin = Origin::always(UNAVAILABLE).await;
    let keys = EAGER.replace("eject = false", "").replace("backoff_ms", "budget_share = 0, budget_min = 0, backoff_ms");
    let gateway = Setup::before(&origin).upstream(&keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..20 {
        let answer = client.get("/").await;
        assert_eq!((answer.status(), answer.text()), (503, "no".to_owned()), "the endpoint's own words");
    }
    assert_eq!(origin.requests().len(), 20);
    gateway.until_metric(EXHAUSTED, &[], 20).await;
    gateway.until_metric(RETRIES, &[], 0).await;
}

#[tokio::test]
async fn at_most_as_many_are_tried_again_at_once_as_the_budget_has() {
    // Every request is in the hands of the origin before the first is given up, and no retry is answered.
    let origin = silent().await;
    let keys = "retry = { attempts = 2, try_timeout_secs = 1, budget_share = 0, budget_min = 2, backoff_ms = 1 }\nresponse_timeout_secs = 3";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let mut client = Client::plain(gateway.http).await;
        clients.spawn(async move { client.get("/").await.status() });
    }
    assert_eq!(clients.join_all().await, [504; 8]);
    assert_eq!(origin.accepted(), 8 + 2);
    gateway.until_metric(EXHAUSTED, &[], 6).await;
    gateway.until_metric(RETRIES, &["reason=\"timeout\""], 2).await;
}

#[tokio::test]
async fn a_try_that_takes_too_long_goes_elsewhere() {
    let (stalling, other) = (silent().await, Origin::hello().await);
    let keys = "eject = false\nretry = { try_timeout_secs = 0.2 }";
    let gateway = Setup::endpoints([stalling.endpoint(), other.endpoint()]).upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..6 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert!(stalling.accepted() > 0);
    gateway.until_metric(RETRIES, &["reason=\"timeout\""], stalling.accepted().try_into().unwrap()).await;
}

#[tokio::test]
async fn all_tries_together_take_no_longer_than_one_may() {
    let (one, other) = (silent().await, silent().await);
    let keys = "eject = false\nresponse_timeout_secs = 1\nretry = { attempts = 10, try_timeout_secs = 0.4 }";
    let gateway = Setup::endpoints([one.endpoint(), other.endpoint()]).upstream(keys).start().await;
    let begun = Instant::now();
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 504);
    assert!(
        begun.elapsed() >= Duration::from_millis(800) && begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    assert!((2..=4).contains(&(one.accepted() + other.accepted())));
}

#[tokio::test]
async fn a_closed_connection_is_no_try_and_needs_no_budget() {
    let origin = Origin::start(|mut conn| async move {
        // Each connection answers once, takes a second request, and closes without a word.
        if conn.request().await.is_some() {
            conn.send(HELLO).await;
            conn.request().await;
        }
    })
    .await;
    let keys = "retry = { attempts = 1, budget_share = 0, budget_min = 0 }";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    for number in 0..20 {
        assert_eq!(client.ask(get(&format!("/{number}"))).await.status(), 200, "{number}");
    }
    assert!(gateway.scrape().await.count(RETRIES, &["reason=\"stale\""]) > 0);
}
