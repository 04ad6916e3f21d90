//! Requests that are sent again with their bodies: what arrives, byte for byte, and what is never sent twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::Client;
use crate::support::gateway::Setup;
use crate::support::h2_origin::{H2Origin, Manners};
use crate::support::origin::{HELLO, Origin};
use crate::support::port::Port;
use crate::support::uwsgi::{self, Call};

const RETRIES: &str = "portcullis_upstream_retries_total";

/// Reads each request whole, closes without a word until it has had so many, and answers those after.
async fn answering_from(number: usize) -> Origin {
    let had = Arc::new(AtomicUsize::new(0));
    Origin::start(move |mut conn| {
        let had = Arc::clone(&had);
        async move {
            while conn.request().await.is_some() {
                if had.fetch_add(1, Ordering::SeqCst) + 1 < number {
                    return;
                }
                conn.send(HELLO).await;
            }
        }
    })
    .await
}

fn with_length(method: &str, body: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: site.test\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn chunked(method: &str, body: &str) -> String {
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    format!("{method} / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}")
}

/// Bytes that tell when one is missing or in another place.
fn bytes(length: usize) -> String {
    (0..length).map(|at| char::from(b'a' + u8::try_from((at + at / 251) % 26).unwrap())).collect()
}

#[tokio::test]
async fn an_idempotent_request_with_a_small_body_is_sent_again_whole() {
    let large = bytes(64 * 1024);
    for request in [
        with_length("PUT", "name=value"),
        with_length("DELETE", "name=value"),
        chunked("PUT", "name=value"),
        with_length("PUT", &large),
    ] {
        let origin = answering_from(3).await;
        let gateway = Setup::before(&origin).upstream("retry = { backoff_ms = 1 }").start().await;
        let mut client = Client::plain(gateway.http).await;
        assert_eq!(client.ask(&request).await.status(), 200);
        let requests = origin.requests();
        assert_eq!(requests.len(), 3);
        let body = if request.contains(&large) { &*large } else { "name=value" };
        for seen in &requests {
            assert!(seen.text() == body && seen.method() == requests[0].method(), "{} {}", seen.start, seen.body.len());
            assert_eq!(seen.all("content-length").len() + seen.all("transfer-encoding").len(), 1, "{seen:?}");
        }
        gateway.until_metric(RETRIES, &["reason=\"reset\""], 2).await;
        // The connection whose first two uses were lost is as good as any.
        assert_eq!(client.ask(&request).await.status(), 200);
        assert_eq!(origin.requests().len(), 4);
    }
}

#[tokio::test]
async fn a_body_that_is_spooled_in_memory_is_sent_again_too_and_one_in_a_file_is_not() {
    let body = bytes(200 * 1024);
    for (keys, times) in [("spool_memory_bytes = 300000", 3), ("spool_memory_bytes = 100000", 1)] {
        let origin = answering_from(3).await;
        let keys = format!("buffer_requests = true\n{keys}\nretry = {{ body_bytes = 300000, backoff_ms = 1 }}");
        let gateway = Setup::before(&origin).upstream(&keys).start().await;
        let answer = Client::plain(gateway.http).await.ask(with_length("PUT", &body)).await;
        assert_eq!(answer.status(), if times == 3 { 200 } else { 502 });
        assert_eq!(origin.requests().len(), times);
        assert!(origin.requests().iter().all(|seen| seen.text() == body));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_or_still_coming_is_sent_once() {
    let streaming = bytes(256 * 1024);
    for (keys, request) in [
        ("", with_length("PUT", &streaming)),
        ("", chunked("PUT", &streaming)),
        ("body_bytes = 9, ", with_length("PUT", "name=value")),
        ("body_bytes = 0, ", with_length("DELETE", "1")),
        ("", with_length("POST", "name=value")),
        ("", with_length("PATCH", "name=value")),
        ("", chunked("POST", "name=value")),
    ] {
        let origin = answering_from(2).await;
        let gateway = Setup::before(&origin).upstream(&format!("retry = {{ {keys}backoff_ms = 1 }}")).start().await;
        let mut client = Client::plain(gateway.http).await;
        assert_eq!(client.ask(&request).await.status(), 502, "{keys}");
        assert_eq!(origin.requests().len(), 1);
        gateway.until_metric(RETRIES, &[], 0).await;
    }
}

#[tokio::test]
async fn what_nobody_has_seen_goes_elsewhere_with_its_body_whatever_it_is() {
    let refusing = Port::reserve();
    let origin = Origin::hello().await;
    let gateway = Setup::endpoints([format!("http://{}", refusing.address), origin.endpoint()])
        .upstream("eject = false")
        .start()
        .await;
    let streaming = bytes(512 * 1024);
    for number in 0..8 {
        for (body, request) in [
            ("name=value", with_length("POST", "name=value")),
            ("name=value", chunked("POST", "name=value")),
            (&*streaming, with_length("PATCH", &streaming)),
        ] {
            let answer = Client::plain(gateway.http).await.ask(&request).await;
            assert_eq!(answer.status(), 200, "{number}");
            assert!(origin.last().text() == body, "{number}: {}", origin.last().body.len());
        }
    }
    assert_eq!(origin.requests().len(), 24, "each came once");
    assert!(gateway.scrape().await.count(RETRIES, &["reason=\"connect\""]) > 0);
}

#[tokio::test]
async fn a_uwsgi_packet_is_followed_by_the_body_each_time() {
    let (calls, had) = (Arc::new(std::sync::Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let log = Arc::clone(&calls);
    let origin = Origin::start(move |mut conn| {
        let (log, had) = (Arc::clone(&log), Arc::clone(&had));
        async move {
            let Some(mut call) = Call::read(&mut conn).await else { return };
            call.read_body(&mut conn).await;
            log.lock().unwrap().push((
                call.text("REQUEST_METHOD").map(str::to_owned),
                call.length(),
                call.body.clone(),
            ));
            if had.fetch_add(1, Ordering::SeqCst) == 2 {
                conn.send(HELLO).await;
            }
        }
    })
    .await;
    let gateway = uwsgi::before(&origin).upstream("retry = { backoff_ms = 1 }").start().await;
    assert_eq!(Client::plain(gateway.http).await.ask(chunked("PUT", "name=value")).await.status(), 200);
    let expected = (Some("PUT".to_owned()), 10, b"name=value".to_vec());
    assert_eq!(*calls.lock().unwrap(), vec![expected; 3]);
}

#[tokio::test]
async fn a_try_that_took_too_long_is_repeated_with_its_body_over_http2_elsewhere() {
    let origin = H2Origin::start(Manners::http2()).await;
    let refusing = Origin::start(|mut conn| async move { conn.until_closed().await }).await;
    let endpoints = [format!("h2c://{}", origin.address), refusing.endpoint()];
    let keys = "eject = false\nbalance = \"round-robin\"\nretry = { try_timeout_secs = 0.2, backoff_ms = 1 }";
    let gateway = Setup::endpoints(endpoints).upstream(keys).start().await;
    for _ in 0..4 {
        let answer = Client::plain(gateway.http).await.ask(with_length("PUT", "name=value")).await;
        assert_eq!((answer.status(), answer.text()), (200, "PUT / 10".to_owned()));
    }
    assert!(gateway.scrape().await.count(RETRIES, &["reason=\"timeout\""]) > 0);
}
