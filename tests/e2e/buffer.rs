//! Clients that send or take slowly, before servers that serve one request at a time: they hold nothing there, and get what they would
//! have got.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::Semaphore;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{Conn, Origin};
use crate::support::{eventually, h2, tls, within};

/// More than the kernel keeps for a client that reads nothing, however much it may.
const LARGE: usize = 24_000_000;
const APP: [&str; 1] = ["upstream=\"app\""];

/// Made once: it takes a while in a build for tests.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(LARGE).collect());

fn pattern(length: usize) -> &'static [u8] {
    &PATTERN[..length]
}

/// A gateway before a server that serves one request at a time.
fn before(origin: &Origin, keys: &str) -> Setup {
    Setup::before(origin)
        .upstream(&format!("kind = \"gunicorn\"\nmax_connections = 1\nqueue_timeout_secs = 0.5\n{keys}"))
}

/// Answers as the target says: `/large` with what no kernel buffers, anything else at once.
async fn large_or_small(mut conn: Conn) {
    while let Some(request) = conn.request().await {
        let (fields, length) = match request.target() {
            "/events" => ("Content-Type: text/event-stream\r\n", LARGE),
            "/unbuffered" => ("X-Accel-Buffering: no\r\n", LARGE),
            "/grpc" => ("Content-Type: application/grpc\r\n", LARGE),
            "/yes" => ("X-Accel-Buffering: yes\r\n", 5),
            "/large" => ("", LARGE),
            _ => ("", 5),
        };
        conn.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n")).await;
        conn.send(pattern(length)).await;
    }
}

/// A client that has asked and reads nothing yet.
async fn unread(gateway: &Gateway, path: &str) -> Client {
    let mut client = Client::plain(gateway.http).await;
    client.send(get(path)).await;
    client
}

async fn until_free(gateway: &Gateway) {
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

async fn until_nothing_is_kept(gateway: &Gateway) {
    gateway.until_metric("portcullis_buffered_response_bytes", &APP, 0).await;
    gateway.until_metric("portcullis_spool_bytes", &APP, 0).await;
    until_free(gateway).await;
}

async fn until_some_is_on_disk(gateway: &Gateway) -> u64 {
    let kept = || async {
        Some(gateway.scrape().await.count("portcullis_buffered_response_bytes", &APP)).filter(|bytes| *bytes > 0)
    };
    eventually("a response on disk", kept).await
}

async fn buffered(gateway: &Gateway) -> u64 {
    gateway.scrape().await.count("portcullis_buffered_responses_total", &APP)
}

#[tokio::test]
async fn a_slow_upload_reaches_the_application_when_it_is_whole() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, "").start().await;
    let body = pattern(400_000);
    let mut slow = Client::plain(gateway.http).await;
    slow.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n").await;
    slow.send(&body[..300_000]).await;
    gateway.until_metric("portcullis_spool_bytes", &APP, 131_072).await;
    assert_eq!(Client::plain(gateway.http).await.get("/fast").await.text(), "hello", "the one place there is free");
    assert_eq!(origin.targets(), ["/fast"]);
    slow.send(&body[300_000..]).await;
    assert_eq!(slow.answer().await.text(), "hello");
    let came = origin.last();
    assert_eq!((came.field("content-length"), came.body == body), (Some("400000"), true));
    assert_eq!(gateway.scrape().await.count("portcullis_spooled_requests_total", &APP), 1);
    until_nothing_is_kept(&gateway).await;
}

#[tokio::test]
async fn a_body_that_was_read_ahead_is_not_spooled() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, "spool_memory_bytes = 0\nspool_bytes = 0").start().await;
    let mut client = Client::plain(gateway.http).await;
    for length in [0, 1, 65_536] {
        client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")).await;
        client.send(pattern(length)).await;
        assert_eq!(client.answer().await.status(), 200);
        assert!(origin.last().body == pattern(length), "{length}");
    }
    assert_eq!(gateway.scrape().await.count("portcullis_spooled_requests_total", &APP), 0);
}

#[tokio::test]
async fn a_body_over_its_limit_is_413_before_a_byte_reaches_the_application() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, "").limits("body_bytes = 200000").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 200001\r\n\r\n").await;
    let first = within("an answer", client.wire.head()).await.unwrap().unwrap();
    assert_eq!(first.status(), 413, "and no 100 before it");

    let mut client = Client::plain(gateway.http).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..11 {
        client.send(format!("4e20\r\n{}\r\n", "x".repeat(20_000))).await;
    }
    assert_eq!(client.answer().await.status(), 413);
    assert_eq!(origin.accepted(), 0);
    until_nothing_is_kept(&gateway).await;
}

#[tokio::test]
async fn a_client_that_expects_100_is_told_to_go_on() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, "").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 200000\r\n\r\n").await;
    let first = within("an answer", client.wire.head()).await.unwrap().unwrap();
    assert_eq!((first.status(), origin.accepted()), (100, 0));
    assert_eq!(client.ask(pattern(200_000)).await.text(), "hello");
    assert!(origin.only().body == pattern(200_000) && origin.only().field("expect").is_none());
}

#[tokio::test]
async fn a_body_for_which_there_is_no_room_is_503() {
    let origin = Origin::hello().await;
    let gateway = before(&origin, "spool_bytes = 100000").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n").await;
    client.send(pattern(400_000)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("retry-after"), origin.accepted()), (503, Some("1"), 0));
    assert!(gateway.access_line("/large").await.contains("spool_full"));
    until_nothing_is_kept(&gateway).await;
}

#[tokio::test]
async fn requests_that_are_not_buffered_go_on_as_they_come() {
    let seen = Arc::new(Semaphore::new(0));
    let head_seen = Arc::clone(&seen);
    let origin = Origin::start(move |mut conn| {
        let seen = Arc::clone(&head_seen);
        async move {
            let Some(mut request) = conn.head().await else { return };
            seen.add_permits(1);
            conn.wire.request_body(&mut request).await.ok();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = before(&origin, "buffer_requests = false").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n").await;
    client.send(pattern(300_000)).await;
    within("the head", seen.acquire()).await.unwrap().forget();
    client.send(&pattern(400_000)[300_000..]).await;
    assert_eq!(client.answer().await.status(), 200);
}

/// The same twice, so that it shows what makes the difference.
#[tokio::test]
async fn a_slow_reader_lets_the_endpoint_go() {
    let origin = Origin::start(large_or_small).await;
    let held = before(&origin, "buffer_responses = false").start().await;
    let slow = unread(&held, "/large").await;
    held.until_metric("portcullis_upstream_leases", &[], 1).await;
    assert_eq!(Client::plain(held.http).await.get("/small").await.status(), 503, "the one place there is taken");
    drop((slow, held));

    let home = tempfile::tempdir().unwrap();
    let gateway = before(&origin, &format!("spool_dir = {:?}", home.path().display().to_string())).start().await;
    let mut slow = unread(&gateway, "/large").await;
    eventually("a buffered response", || async { (buffered(&gateway).await == 1).then_some(()) }).await;
    until_free(&gateway).await;
    let mut fast = Client::plain(gateway.http).await;
    assert_eq!(fast.get("/small").await.text().len(), 5);
    assert!(until_some_is_on_disk(&gateway).await > 0);
    assert!(std::fs::read_dir(home.path()).unwrap().next().is_none(), "a file that nobody can find");
    let answer = slow.answer().await;
    assert_eq!(answer.field("content-length"), Some(LARGE.to_string().as_str()));
    assert!(answer.body == pattern(LARGE), "it came as it went");
    assert_eq!(slow.get("/small").await.status(), 200, "the client's connection serves on");
    until_nothing_is_kept(&gateway).await;
    assert!(gateway.scrape().await.count("portcullis_buffered_response_written_bytes_total", &APP) > 1_000_000);
    assert!(!gateway.access_line("/large").await.contains("outcome="), "nothing went wrong");
}

#[tokio::test]
async fn a_client_that_opens_no_window_holds_no_endpoint() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            conn.send("5\r\nhello\r\n").await;
            conn.send("0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = before(&origin, "").start().await;
    let stream = tls::connect(gateway.https, &gateway.roots(), &[b"h2"]).await.unwrap();
    let mut shut = http2::Builder::new(TokioExecutor::new());
    let handshake = shut.initial_stream_window_size(0).handshake::<_, Full<Bytes>>(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.unwrap();
    tokio::spawn(connection);
    let answer = h2::answer(&mut sender, h2::get("/")).await;
    assert_eq!(answer.status(), 200);
    until_free(&gateway).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.text(), "hello");
    drop(answer);
}

/// Each piece is sent only when the one before has arrived.
#[tokio::test]
async fn a_client_that_keeps_up_gets_each_piece_as_it_comes() {
    let next = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&next);
    let origin = Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            if conn.request().await.is_none() {
                return;
            }
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for number in 0..10 {
                gate.acquire().await.unwrap().forget();
                conn.send(format!("7\r\npiece {number}\r\n")).await;
            }
            conn.send("0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = before(&origin, "").start().await;
    let mut client = unread(&gateway, "/").await;
    let head = within("a head", client.wire.head()).await.unwrap().unwrap();
    assert_eq!(head.field("transfer-encoding"), Some("chunked"));
    for number in 0..10 {
        next.add_permits(1);
        let chunk = format!("7\r\npiece {number}\r\n");
        assert_eq!(within("a piece", client.wire.exactly(chunk.len())).await.unwrap(), chunk.as_bytes());
    }
    assert_eq!(within("the end", client.wire.exactly(5)).await.unwrap(), b"0\r\n\r\n");
    assert_eq!(buffered(&gateway).await, 0);
}

#[tokio::test]
async fn events_calls_and_what_the_application_says_are_not_buffered() {
    let origin = Origin::start(large_or_small).await;
    let keys = "kind = \"gunicorn\"";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    let mut unbuffered = Vec::new();
    for path in ["/events", "/unbuffered", "/grpc"] {
        unbuffered.push(unread(&gateway, path).await);
    }
    gateway.until_metric("portcullis_upstream_leases", &[], 3).await;
    // Whoever comes later is looked at later.
    let later = unread(&gateway, "/large").await;
    eventually("a buffered response", || async { (buffered(&gateway).await == 1).then_some(()) }).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 3).await;
    let answer = unbuffered[1].answer().await;
    assert!(answer.body == pattern(LARGE) && answer.field("x-accel-buffering").is_none());
    let answer = Client::plain(gateway.http).await.get("/yes").await;
    assert_eq!((answer.status(), answer.field("x-accel-buffering")), (200, None));
    assert_eq!(buffered(&gateway).await, 1);
    drop((unbuffered, later));
    until_nothing_is_kept(&gateway).await;
}

#[tokio::test]
async fn when_room_is_used_up_the_endpoint_is_read_at_the_client_s_pace() {
    let origin = Origin::start(large_or_small).await;
    for keys in [
        "response_memory_bytes = 0\nresponse_disk_bytes = 300000",
        "response_memory_bytes = 0\nresponse_disk_bytes = 0",
    ] {
        let gateway = before(&origin, keys).start().await;
        let mut slow = unread(&gateway, "/large").await;
        eventually("a buffered response", || async { (buffered(&gateway).await == 1).then_some(()) }).await;
        if keys.ends_with("300000") {
            assert!(until_some_is_on_disk(&gateway).await <= 300_000);
        }
        assert_eq!(gateway.scrape().await.count("portcullis_upstream_leases", &[]), 1, "there is more to come");
        assert!(slow.answer().await.body == pattern(LARGE), "{keys}");
        until_nothing_is_kept(&gateway).await;
    }
}

#[tokio::test]
async fn a_disk_that_fails_slows_the_endpoint_down_and_loses_nothing() {
    let origin = Origin::start(large_or_small).await;
    let home = tempfile::tempdir().unwrap();
    let spool = home.path().join("spool");
    std::fs::create_dir(&spool).unwrap();
    let gateway = before(&origin, &format!("spool_dir = {:?}", spool.display().to_string())).start().await;
    std::fs::remove_dir(&spool).unwrap();
    let mut slow = unread(&gateway, "/large").await;
    eventually("a word of it", || async { gateway.log().contains("can't be buffered on disk").then_some(()) }).await;
    assert_eq!(gateway.scrape().await.count("portcullis_upstream_leases", &[]), 1);
    assert!(slow.answer().await.body == pattern(LARGE));
    until_nothing_is_kept(&gateway).await;
}

/// Sends more than half of what it said, then what `end` does.
async fn broken_off(stalls: bool) -> Origin {
    Origin::start(move |mut conn| async move {
        if conn.request().await.is_none() {
            return;
        }
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n")).await;
        conn.send(pattern(LARGE / 4 * 3)).await;
        if stalls {
            conn.until_closed().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_truncated_response_stays_truncated() {
    for (stalls, stage) in [(false, "stage=\"reset\""), (true, "stage=\"read_timeout\"")] {
        LazyLock::force(&PATTERN); // no part of the pauses here
        let origin = broken_off(stalls).await;
        let gateway = before(&origin, "read_timeout_secs = 1").start().await;
        let mut slow = unread(&gateway, "/broken").await;
        gateway.until_metric("portcullis_upstream_errors_total", &[stage], 1).await;
        until_free(&gateway).await;
        let head = within("a head", slow.wire.head()).await.unwrap().unwrap();
        assert_eq!(head.field("content-length"), Some(LARGE.to_string().as_str()));
        // What is still in the gateway's own buffers when an answer breaks off goes with it, as ever.
        let (body, came) = (slow.until_end().await, LARGE / 4 * 3);
        assert!(pattern(came).starts_with(&body) && body.len() > came - 300_000, "{} bytes of {came}", body.len());
        let outcome = if stalls { "upstream_read_timeout" } else { "upstream_truncated" };
        assert!(gateway.access_line("/broken").await.contains(outcome));
        until_nothing_is_kept(&gateway).await;
    }
}

#[tokio::test]
async fn a_slow_client_that_leaves_leaves_nothing_behind() {
    let origin = Origin::start(large_or_small).await;
    let gateway = before(&origin, "response_disk_bytes = 1000000").start().await;
    let slow = unread(&gateway, "/large").await;
    assert!(until_some_is_on_disk(&gateway).await <= 1_000_000);
    assert_eq!(origin.open(), 1);
    drop(slow);
    until_nothing_is_kept(&gateway).await;
    eventually("a closed connection", || async { (origin.open() == 0).then_some(()) }).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    assert_eq!(Client::plain(gateway.http).await.get("/small").await.status(), 200);
}

#[tokio::test]
async fn a_reload_forgets_nothing_that_is_kept() {
    let origin = Origin::start(large_or_small).await;
    let gateway = before(&origin, "response_memory_bytes = 0\nresponse_disk_bytes = 400000").start().await;
    let mut slow = unread(&gateway, "/large").await;
    let kept = until_some_is_on_disk(&gateway).await;
    gateway.edit(|text| text.replace("response_disk_bytes = 400000", "response_disk_bytes = 500000"));
    gateway.until_generation(2).await;
    assert!(gateway.scrape().await.count("portcullis_buffered_response_bytes", &APP) >= kept);
    assert_eq!(buffered(&gateway).await, 1);
    assert!(slow.answer().await.body == pattern(LARGE));
    until_nothing_is_kept(&gateway).await;
}

#[tokio::test]
async fn memory_is_bounded_by_what_was_said() {
    let origin = Origin::start(large_or_small).await;
    let keys = "kind = \"gunicorn\"\nresponse_memory_bytes = 100000\nresponse_disk_bytes = 2000000000";
    let gateway = Setup::before(&origin).upstream(keys).start().await;
    assert_eq!(Client::plain(gateway.http).await.get("/small").await.status(), 200);
    let before = gateway.resident_bytes();
    let mut slow = Vec::new();
    for _ in 0..8 {
        slow.push(unread(&gateway, "/large").await);
    }
    eventually("buffered responses", || async { (buffered(&gateway).await == 8).then_some(()) }).await;
    until_free(&gateway).await;
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 24_000_000, "{grown} bytes for 192 MB that nobody has taken");
    drop(slow);
    until_nothing_is_kept(&gateway).await;
}
