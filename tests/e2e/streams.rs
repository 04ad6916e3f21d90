//! Answers that take their time: event streams and long polls. What comes is passed on as it comes, and a client that leaves lets its
//! upstream go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::sync::Semaphore;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::{eventually, h2, within};

const EVENTS: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

fn event(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

/// Sends an event for each permit, and never ends.
async fn events(gate: &Arc<Semaphore>) -> Origin {
    let gate = Arc::clone(gate);
    Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            if conn.request().await.is_none() {
                return;
            }
            conn.send(EVENTS).await;
            let sending = async {
                for number in 0.. {
                    gate.acquire().await.unwrap().forget();
                    if !conn.send(event(&format!("data: {number}\n\n"))).await {
                        break;
                    }
                }
            };
            sending.await;
        }
    })
    .await
}

/// Waits for the request and then for the gateway to leave.
async fn silent() -> Origin {
    Origin::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.until_closed().await;
        }
    })
    .await
}

/// Sends the head of a stream, one event, and then waits for the gateway to leave.
async fn quiet() -> Origin {
    Origin::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.send(format!("{EVENTS}{}", event("data: first\n\n"))).await;
            conn.until_closed().await;
        }
    })
    .await
}

#[tokio::test]
async fn an_event_is_passed_on_when_it_comes_and_not_when_the_next_does() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = events(&gate).await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(get("/events")).await;
    let mut sender = h2::connect(&gateway).await;
    let mut stream = h2::answer(&mut sender, h2::get("/events")).await.into_body();
    for number in 0..5 {
        gate.add_permits(2);
        let expected = format!("data: {number}\n\n");
        let frame = within("an event over HTTP/2", stream.frame()).await.expect("a frame").expect("an event");
        assert_eq!(frame.into_data().expect("data"), expected);
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(expected.trim_end()) {
            assert!(within("an event over HTTP/1.1", client.wire.fill()).await.expect("more") > 0);
            seen.extend(client.wire.rest());
        }
    }
}

/// How long it takes until the origin has been let go, once `leave` has made the client leave.
async fn let_go(origin: &Origin, leave: impl FnOnce()) -> Duration {
    eventually("the request at the origin", || async {
        (origin.open() == 1 && origin.requests().len() == 1).then_some(())
    })
    .await;
    leave();
    let begun = Instant::now();
    eventually("a closed upstream connection", || async { (origin.open() == 0).then_some(()) }).await;
    begun.elapsed()
}

async fn opened(gateway: &Gateway, path: &str, tls: bool) -> Client {
    let mut client = if tls { Client::tls(gateway).await } else { Client::plain(gateway.http).await };
    client.send(get(path)).await;
    client
}

#[tokio::test]
async fn a_client_that_leaves_a_long_poll_lets_the_upstream_go_within_a_second() {
    for tls in [false, true] {
        let origin = silent().await;
        let gateway = Setup::before(&origin).start().await;
        let client = opened(&gateway, "/poll", tls).await;
        assert!(let_go(&origin, || drop(client)).await < Duration::from_secs(1), "TLS: {tls}");
        gateway.until_metric("portcullis_requests_total", &["status=\"499\""], 1).await;
        gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    }
    let origin = silent().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = h2::connect(&gateway).await;
    let asking = tokio::spawn(async move { sender.send_request(h2::get("/poll")).await.map(drop) });
    assert!(let_go(&origin, || asking.abort()).await < Duration::from_secs(1));
    gateway.until_metric("portcullis_requests_total", &["status=\"499\""], 1).await;
}

#[tokio::test]
async fn a_client_that_leaves_a_quiet_stream_lets_the_upstream_go_within_a_second() {
    for tls in [false, true] {
        let origin = quiet().await;
        let gateway = Setup::before(&origin).start().await;
        let mut client = opened(&gateway, "/events", tls).await;
        assert!(within("the first event", client.wire.fill()).await.expect("bytes") > 0);
        assert!(let_go(&origin, || drop(client)).await < Duration::from_secs(1), "TLS: {tls}");
        gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    }
    let origin = quiet().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = h2::connect(&gateway).await;
    let answer = h2::answer(&mut sender, h2::get("/events")).await;
    assert!(let_go(&origin, || drop(answer)).await < Duration::from_secs(1));
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

#[tokio::test]
async fn a_stream_goes_on_for_as_long_as_something_comes_within_read_timeout() {
    let origin = Origin::start(|mut conn| async move {
        if conn.request().await.is_none() {
            return;
        }
        conn.send(EVENTS).await;
        let mut beat = tokio::time::interval(Duration::from_millis(200));
        for _ in 0..10 {
            beat.tick().await;
            conn.send(event(": still here\n\n")).await;
        }
        conn.send(format!("{}0\r\n\r\n", event("data: last\n\n"))).await;
    })
    .await;
    let gateway = Setup::before(&origin).upstream("read_timeout_secs = 0.8\nresponse_timeout_secs = 0.8").start().await;
    let answer = Client::plain(gateway.http).await.get("/events").await;
    assert!(answer.text().ends_with("data: last\n\n"), "{answer:?}");
    assert_eq!(answer.text().matches("still here").count(), 10);
}
