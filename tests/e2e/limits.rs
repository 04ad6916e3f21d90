//! Every wait has a deadline: whoever keeps the gateway waiting is closed by the timer that is for it, and not before.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::Origin;
use crate::support::within;

/// The limit every test here sets, and the others far above it.
const LIMIT: Duration = Duration::from_secs(1);
const PATIENT: &str =
    "header_timeout_secs = 60\nidle_timeout_secs = 60\nbody_timeout_secs = 60\nwrite_timeout_secs = 60";

/// All limits are long, but for this one.
fn only(key: &str) -> String {
    PATIENT.replace(&format!("{key} = 60"), &format!("{key} = 1"))
}

/// Clocks and timers may differ a little; a connection closed well before its limit was closed by something else.
fn assert_at_the_limit(begun: Instant) {
    let elapsed = begun.elapsed();
    assert!(elapsed >= LIMIT.mul_f64(0.9) && elapsed < LIMIT * 8, "closed after {elapsed:?}");
}

#[tokio::test]
async fn a_silent_client_is_closed_by_the_idle_timer() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&only("idle_timeout_secs")).start().await;
    let begun = Instant::now();
    let mut client = Client::plain(gateway.http).await;
    assert!(client.until_end().await.is_empty());
    assert_at_the_limit(begun);
}

#[tokio::test]
async fn an_idle_kept_alive_client_is_closed_by_the_idle_timer() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&only("idle_timeout_secs")).start().await;
    for secure in [false, true] {
        let mut client = if secure { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
        client.get("/").await;
        let begun = Instant::now();
        assert!(client.until_end().await.is_empty());
        assert_at_the_limit(begun);
    }
}

#[tokio::test]
async fn a_partial_head_is_closed_by_the_header_timer() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&only("header_timeout_secs")).start().await;
    for partial in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: site.test\r\nX: "] {
        let mut client = Client::plain(gateway.http).await;
        let begun = Instant::now();
        client.send(partial).await;
        client.until_end().await;
        assert_at_the_limit(begun);
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_head_that_trickles_is_closed_by_the_header_timer_all_the_same() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&only("header_timeout_secs")).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.get("/").await; // a kept-alive connection is no exception
    let begun = Instant::now();
    let mut trickle = get("/trickle").into_bytes().into_iter();
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            _ = client.until_end() => break,
            _ = pace.tick() => {
                client.send([trickle.next().expect("closed before the head was whole")]).await;
            }
        }
    }
    assert_at_the_limit(begun);
    assert_eq!(origin.targets(), ["/"]);
}

#[tokio::test]
async fn a_handshake_that_is_never_finished_is_closed_by_its_own_timer() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(PATIENT).https("handshake_timeout_secs = 1").start().await;
    for begin in [&b""[..], b"\x16\x03\x01\x01\x00\x01"] {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(gateway.https).await.unwrap();
        stream.write_all(begin).await.unwrap();
        Client::over(stream).until_end().await;
        assert_at_the_limit(begun);
    }
    gateway.until_metric("portcullis_tls_handshakes_total", &["result=\"timeout\""], 2).await;
}

#[tokio::test]
async fn a_body_that_stops_is_408() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&only("body_timeout_secs")).start().await;
    for request in [
        "POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 100\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "POST / HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n3",
    ] {
        let mut client = Client::plain(gateway.http).await;
        let begun = Instant::now();
        client.send(request).await;
        assert_eq!(client.answer().await.status(), 408, "{request}");
        assert_at_the_limit(begun);
        client.until_end().await;
    }
    assert!(origin.requests().is_empty(), "no such request was completed");
}

#[tokio::test]
async fn a_body_that_goes_on_is_not_408_however_long_it_takes() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&only("body_timeout_secs")).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 8\r\n\r\n").await;
    let mut pace = tokio::time::interval(Duration::from_millis(300));
    for _ in 0..8 {
        pace.tick().await;
        client.send("x").await;
    }
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(origin.only().text(), "xxxxxxxx");
}

/// A client that never reads, with a small window: the response fills every buffer on the way and then stands still.
async fn zero_window(address: std::net::SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = within("connecting", socket.connect(address)).await.unwrap();
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_closed_by_the_write_timer() {
    let large = [&b"HTTP/1.1 200 OK\r\nContent-Length: 33554432\r\n\r\n"[..], &vec![b'x'; 32 << 20]].concat();
    let origin = Origin::always(large).await;
    let gateway = Setup::before(&origin).limits(&only("write_timeout_secs")).start().await;
    let begun = Instant::now();
    let stream = zero_window(gateway.http).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    gateway.until_metric("portcullis_connections_open", &["listener=\"http\""], 0).await;
    assert_at_the_limit(begun);
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    drop(stream);
}

#[tokio::test]
async fn a_slow_answer_is_no_idle_client() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(LIMIT * 2).await;
            conn.send(crate::support::origin::HELLO).await;
        }
    })
    .await;
    let all = PATIENT.replace("= 60", "= 1");
    let gateway = Setup::before(&origin).limits(&all).start().await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
}

#[tokio::test]
async fn connections_over_the_limit_wait_and_are_served_when_there_is_room() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("connections = 2").start().await;
    let mut first = Client::plain(gateway.http).await;
    let mut second = Client::plain(gateway.http).await;
    assert_eq!((first.get("/").await.status(), second.get("/").await.status()), (200, 200));
    let mut third = Client::plain(gateway.http).await;
    third.send(get("/")).await;
    let early = tokio::time::timeout(Duration::from_millis(200), third.wire.head()).await;
    assert!(early.is_err(), "a third connection waits");
    drop(first);
    assert_eq!(third.answer().await.status(), 200);
}
