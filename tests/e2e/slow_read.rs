//! Clients that take a little of their answer now and then: each wait is short, and the write timer never strikes. They are cut by their
//! rate, and whoever waits for something that is not there yet is not.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::{MissedTickBehavior, interval};

use crate::support::client::{Client, get};
use crate::support::frames::{self, DATA, GET, HEADERS, RST_STREAM, literal, window_update};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h3::{self, request};
use crate::support::origin::Origin;
use crate::support::within;

/// More than the kernel holds on the way.
const LARGE: usize = 96 << 20;
/// No client is as fast as this; each has the grace of four write time-outs.
const STRICT: &str = "write_timeout_secs = 0.5\nmin_write_bytes_per_sec = 1073741824";
const GRACE: Duration = Duration::from_secs(2);

/// Answers with a body of zeros.
async fn large() -> Origin {
    let body = vec![0; LARGE];
    Origin::always([format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n").as_bytes(), &body].concat()).await
}

/// How much a client gets that takes half a mebibyte every twentieth of a second, and how long that takes.
async fn taken_slowly(gateway: &Gateway) -> (usize, Duration) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(128 * 1024).unwrap();
    let mut stream = within("connecting", socket.connect(gateway.http)).await.unwrap();
    stream.write_all(get("/large").as_bytes()).await.unwrap();
    let (begun, mut taken, mut piece) = (Instant::now(), 0, vec![0; 512 * 1024]);
    let mut pace = interval(Duration::from_millis(50));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while taken < LARGE {
        pace.tick().await;
        match within("a piece", stream.read_exact(&mut piece)).await {
            Ok(_) => taken += piece.len(),
            Err(_) => break,
        }
    }
    (taken, begun.elapsed())
}

async fn until_let_go(gateway: &Gateway) {
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

#[tokio::test]
async fn a_client_that_takes_too_little_over_time_is_cut_by_its_rate() {
    let origin = large().await;
    let gateway = Setup::before(&origin).limits(STRICT).start().await;
    let (taken, elapsed) = taken_slowly(&gateway).await;
    assert!(taken < LARGE && elapsed >= GRACE, "{taken} bytes in {elapsed:?}");
    until_let_go(&gateway).await;
}

#[tokio::test]
async fn the_same_client_gets_all_of_it_where_its_rate_is_enough_or_none_is_asked_for() {
    let origin = large().await;
    for rate in [500, 0] {
        let limits = format!("write_timeout_secs = 3\nmin_write_bytes_per_sec = {rate}");
        let gateway = Setup::before(&origin).limits(&limits).start().await;
        let (taken, _) = taken_slowly(&gateway).await;
        assert!(taken >= LARGE, "{taken} bytes");
        until_let_go(&gateway).await;
    }
}

#[tokio::test]
async fn who_waits_for_events_owes_nothing() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            for _ in 0..12 {
                tokio::time::sleep(GRACE / 8).await;
                conn.send("9\r\ndata: x\n\n\r\n").await;
            }
            conn.send("0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = h3::start(Setup::before(&origin).limits(STRICT)).await;
    let mut plain = Client::plain(gateway.http).await;
    let mut secure = Client::tls(&gateway).await;
    let mut quic = h3::Client::connect(&gateway).await;
    let (mut sender, mut receiver) = frames::open(&gateway, &[]).await;
    assert!(sender.send(&frames::get(1)).await);
    let ended = receiver.until("the end of the events", |frame| frame.flags & frames::END_STREAM != 0);
    let (one, other, third, fourth) = tokio::join!(plain.get("/"), secure.get("/"), quic.get("/"), ended);
    assert_eq!((one.body.len(), other.body.len(), third.body.len()), (108, 108, 108));
    assert_eq!(fourth.expect("an end").kind, DATA);
}

#[tokio::test]
async fn a_stream_whose_window_opens_a_little_now_and_then_is_reset_and_its_neighbours_are_served() {
    let origin = large().await;
    let gateway = Setup::before(&origin).limits(STRICT).start().await;
    let (mut sender, mut receiver) = frames::open(&gateway, &[(4, 16_384)]).await; // SETTINGS_INITIAL_WINDOW_SIZE
    assert!(sender.send(&[frames::get(1), window_update(0, 1 << 30)].concat()).await);
    let begun = Instant::now();
    let opening = async {
        let mut pace = interval(Duration::from_millis(100));
        loop {
            pace.tick().await;
            sender.send(&window_update(1, 8_192)).await;
        }
    };
    let mut taken = 0;
    let taking = async {
        loop {
            let frame = receiver.next().await.expect("the connection goes on");
            match (frame.kind, frame.stream) {
                (DATA, 1) => taken += frame.payload.len(),
                (RST_STREAM, 1) => break,
                _ => {}
            }
        }
    };
    tokio::select! {
        () = opening => {}
        () = within("a reset", taking) => {}
    }
    let elapsed = begun.elapsed();
    assert!(taken > 16_384 && elapsed >= GRACE, "{taken} bytes in {elapsed:?}");
    let head = literal(&[&GET[..3], &[(":path", "/private/")]].concat());
    assert!(sender.send(&frames::frame(HEADERS, frames::END_STREAM | frames::END_HEADERS, 3, &head)).await);
    receiver.until("an answer", |frame| (frame.kind, frame.stream) == (HEADERS, 3)).await.expect("an answer");
    until_let_go(&gateway).await;
}

#[tokio::test]
async fn an_http3_client_that_takes_too_little_over_time_is_cut_by_its_rate() {
    let origin = large().await;
    let gateway = h3::start(Setup::before(&origin).limits(STRICT)).await;
    let mut client = h3::Client::connect(&gateway).await;
    let begun = Instant::now();
    let (head, ()) = request("GET", "/large", &[]).map(|_| ()).into_parts();
    let mut exchange = client.begin(http::Request::from_parts(head, ())).await;
    exchange.finish().await;
    exchange.head().await.unwrap();
    let (mut taken, mut next) = (0, 0);
    let mut pace = interval(Duration::from_millis(50));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while let Ok(Some(data)) = exchange.data().await {
        taken += data.len();
        if taken > next {
            next = taken + 256 * 1024;
            pace.tick().await;
        }
    }
    let elapsed = begun.elapsed();
    assert!(taken < LARGE && elapsed >= GRACE, "{taken} bytes in {elapsed:?}");
    until_let_go(&gateway).await;
    let small = client.ask(request("GET", "/private/", &[])).await;
    assert_eq!(small.status(), 401, "the connection goes on");
}

#[tokio::test]
async fn a_body_may_be_asked_for_at_any_rate_or_at_none() {
    let origin = Origin::hello().await;
    // A byte each tenth of a second: ten a second, of which 1 gives ten seconds more, and 1000 next to nothing.
    for (rate, status) in [(1000, 408), (0, 200), (1, 200)] {
        let limits = format!("body_timeout_secs = 0.5\nmin_body_bytes_per_sec = {rate}");
        let gateway = Setup::before(&origin).limits(&limits).start().await;
        let mut client = Client::plain(gateway.http).await;
        client.send("POST / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 30\r\n\r\n").await;
        let mut pace = interval(Duration::from_millis(100));
        for _ in 0..30 {
            pace.tick().await;
            client.send("x").await;
        }
        assert_eq!(client.answer().await.status(), status, "{rate}");
    }
}
