//! Bodies both ways: streamed, bounded, and never ended cleanly by anybody but their sender.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::{HELLO, Origin};
use crate::support::{eventually, token, within};

/// Long enough that nothing here waits for it, short enough that a test which does fails.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_truncated_body_is_aborted_and_never_ends_cleanly() {
    let origin = Origin::start(|mut conn| async move {
        let Some(request) = conn.request().await else { return };
        conn.send(match request.target() {
            "/length" => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n",
            "/in-a-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nonly this",
            "/bad-chunk" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\nzz\r\n",
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n0\r\n",
        })
        .await;
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    for path in ["/length", "/chunked", "/in-a-chunk", "/bad-chunk", "/no-last-line"] {
        for secure in [false, true] {
            let mut client = if secure { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
            client.send(get(path)).await;
            let answer = client.try_answer().await;
            assert!(answer.is_err(), "{path} came to a clean end: {answer:?}");
        }
    }
    gateway.until_metric("portcullis_upstream_errors_total", &["stage=\"reset\""], 10).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

#[tokio::test]
async fn a_body_that_stalls_is_aborted_after_read_timeout() {
    let origin = Origin::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this").await;
            conn.until_closed().await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).upstream("read_timeout_secs = 0.5").start().await;
    let mut client = Client::plain(gateway.http).await;
    let begun = Instant::now();
    client.send(get("/")).await;
    assert!(client.try_answer().await.is_err());
    assert!(begun.elapsed() >= Duration::from_millis(450) && begun.elapsed() < SOON, "{:?}", begun.elapsed());
    eventually("a closed connection", || async { (origin.open() == 0).then_some(()) }).await;
}

#[tokio::test]
async fn an_early_response_reaches_a_client_that_is_still_sending() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.head().await {
            if request.method() == "POST" {
                conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nenough!").await;
                conn.until_closed().await;
                return;
            }
            conn.send(HELLO).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    // More than is read ahead of asking for an upstream.
    let beginning = "x".repeat(100_000);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n{beginning}")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "enough!"));
    // The origin's connection is not used again, because the request on it never ended, and it ends with its client.
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    assert_eq!(origin.accepted(), 2);
    drop(client);
    eventually("the end of the first connection", || async { (origin.open() == 1).then_some(()) }).await;
}

#[tokio::test]
async fn head_204_and_304_have_no_body_whatever_the_origin_sends() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            conn.send(match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\nsurprise",
                "/304" => "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsurprise",
                "/204-long" => {
                    "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nsurprise\r\n0\r\n\r\n"
                }
                "/bare" => "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsurprise",
            })
            .await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (method, path, status) in
        [("GET", "/204", 204), ("GET", "/304", 304), ("HEAD", "/", 200), ("HEAD", "/bare", 200), ("GET", "/204", 204)]
    {
        // Two requests at once: what is no body of the first would be the head of the second.
        client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n{}", get("/next"))).await;
        let answer = client.head_answer().await;
        assert_eq!(answer.status(), status, "{method} {path}");
        let next = client.answer().await;
        assert_eq!((next.status(), next.text().as_str()), (200, "surprise"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_204_with_a_transfer_coding_does_not_poison_the_connection() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            conn.send(match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nsurprise\r\n0\r\n\r\n",
                _ => HELLO,
            })
            .await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..5 {
        client.send(get("/204")).await;
        let answer = client.answer().await;
        assert!(matches!(answer.status(), 204 | 502), "{answer:?}");
        let next = client.get("/").await;
        assert_eq!((next.status(), next.text().as_str()), (200, "hello"));
    }
}

const EXPECTING: &str = "Host: a\r\nExpect: 100-continue\r\n";

#[tokio::test]
async fn a_refusal_comes_before_any_100_continue() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("body_bytes = 10").start().await;
    for (path, length, status) in [("/private/", 5, 401), ("/", 11, 413), ("/a//b", 5, 400)] {
        let mut client = Client::plain(gateway.http).await;
        client.send(format!("POST {path} HTTP/1.1\r\n{EXPECTING}Content-Length: {length}\r\n\r\n")).await;
        let first = within("an answer", client.wire.head()).await.unwrap().unwrap();
        assert_eq!(first.status(), status, "{path}");
        assert!(first.closes(), "a body that is not read is not waited for");
    }
    assert!(origin.bytes().is_empty());
}

#[tokio::test]
async fn who_expects_100_continue_gets_it_when_the_body_is_wanted() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let token = token::bearer(&token::good());
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..2 {
        client.send(format!("POST /private/ HTTP/1.1\r\n{EXPECTING}{token}Content-Length: 4\r\n\r\n")).await;
        let interim = within("100 Continue", client.wire.head()).await.unwrap().unwrap();
        assert_eq!(interim.status(), 100);
        client.send("body").await;
        assert_eq!(client.answer().await.status(), 200);
        let seen = origin.last();
        assert_eq!((seen.text().as_str(), seen.field("expect")), ("body", None));
    }
}

/// Sends a body that is over the limit and never stops, until the gateway closes.
async fn flood(mut client: Client, head: &str, piece: &[u8]) -> u16 {
    client.send(head).await;
    let mut sent = 0;
    while sent < 64 << 20 && client.send(piece).await {
        sent += piece.len();
        if sent > 512 << 10 {
            break; // more than any buffer on the way that is allowed for
        }
    }
    let answer = client.answer().await;
    client.until_end().await;
    answer.status()
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_can_be_read_by_a_client_that_goes_on_sending() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("body_bytes = 65536").start().await;
    let announced = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunk = [&b"4000\r\n"[..], &[b'x'; 0x4000], b"\r\n"].concat();
    for _ in 0..5 {
        assert_eq!(flood(Client::plain(gateway.http).await, announced, &[b'x'; 16384]).await, 413);
        assert_eq!(flood(Client::plain(gateway.http).await, chunked, &chunk).await, 413);
        assert_eq!(flood(Client::tls(&gateway).await, announced, &[b'x'; 16384]).await, 413);
        assert_eq!(flood(Client::tls(&gateway).await, chunked, &chunk).await, 413);
    }
    assert!(origin.requests().is_empty(), "no such request was completed");
}

#[tokio::test]
async fn a_body_right_at_the_limit_passes() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("body_bytes = 1000").start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.post("/", &"x".repeat(1000)).await.status(), 200);
    let body = "x".repeat(500);
    let chunked = format!("1f4\r\n{body}\r\n1f4\r\n{body}\r\n0\r\n\r\n");
    let answer = client.ask(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunked}")).await;
    assert_eq!(answer.status(), 200);
    assert!(origin.requests().iter().all(|request| request.body.len() == 1000));
}

#[tokio::test]
async fn a_401_to_a_client_that_is_still_sending_can_be_read() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let head = "POST /private/ HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
    for _ in 0..5 {
        assert_eq!(flood(Client::plain(gateway.http).await, head, &[b'x'; 16384]).await, 401);
    }
    assert!(origin.bytes().is_empty());
}

#[tokio::test]
async fn a_large_body_streams_both_ways() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            conn.send(head).await;
            conn.send(&request.body).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).limits("body_bytes = 100000000").start().await;
    let body: Vec<u8> = (0..8_000_000u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for mut client in [Client::plain(gateway.http).await, Client::tls(&gateway).await] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len())).await;
        client.send(&body).await;
        let answer = client.answer().await;
        assert!(answer.status() == 200 && answer.body == body, "the body came back as it went");
    }
}

#[tokio::test]
async fn a_streamed_response_is_passed_on_as_it_comes() {
    let (go, gone) = tokio::sync::mpsc::channel::<()>(1);
    let gone = Arc::new(Mutex::new(Some(gone)));
    let origin = Origin::start(move |mut conn| {
        let gone = gone.lock().unwrap().take();
        async move {
            let (Some(mut gone), Some(_)) = (gone, conn.request().await) else { return };
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
            gone.recv().await;
            conn.send("6\r\nsecond\r\n0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(get("/")).await;
    let mut seen = Vec::new();
    while !seen.ends_with(b"first\r\n") {
        within("the first piece", client.wire.fill()).await.unwrap();
        seen.extend(client.wire.rest());
    }
    go.send(()).await.unwrap();
    while !seen.ends_with(b"0\r\n\r\n") {
        within("the second piece", client.wire.fill()).await.unwrap();
        seen.extend(client.wire.rest());
    }
}
