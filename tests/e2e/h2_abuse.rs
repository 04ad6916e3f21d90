//! Clients that abuse HTTP/2 (RFC 9113 section 10.5): their connection ends or does no harm, memory stays flat, and others are served.
//!
//! All floods are bounded. Memory is the resident set of the process, which a flood may raise by [`ROOM`] at most: the buffers and
//! windows of one connection, and what an allocator keeps.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::support::client::Client;
use crate::support::frames::{
    self, ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, GET, GOAWAY,
    HEADERS, PADDED, PING, POST, PREFACE, PRIORITY, RST_STREAM, frame, get, literal, post, reset, settings,
    window_update,
};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2::{ask, connect};
use crate::support::origin::Origin;
use crate::support::{eventually, h2};

/// What one abusive connection may cost, with the noise of a process that has just begun.
const ROOM: u64 = 12 << 20;
const PATIENCE: Duration = Duration::from_secs(3);

/// A gateway that has been at work, and what it needs for that.
async fn warm() -> (Origin, Gateway) {
    let origin = Origin::always("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await;
    let gateway = Setup::before(&origin).limits("write_timeout_secs = 2").start().await;
    let mut sender = connect(&gateway).await;
    for _ in 0..50 {
        assert_eq!(ask(&mut sender, h2::get("/")).await.0, 200);
    }
    (origin, gateway)
}

/// Asks again and again from connections of its own, until told to stop.
fn others(gateway: &Gateway) -> JoinHandle<()> {
    let http = gateway.http;
    tokio::spawn(async move {
        let mut client = Client::plain(http).await;
        loop {
            assert_eq!(client.get("/other").await.status(), 200);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

/// How an abused connection ended: the GOAWAY's code, if there was one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Told(u32),
    Closed,
    /// It is still open: what was sent did no harm.
    Open,
}

/// Sends `begin` and then `flood` up to `times`, while another client is served, and measures.
async fn abuse(gateway: &Gateway, begin: &[u8], flood: impl Fn(usize) -> Vec<u8>, times: usize) -> End {
    let before = gateway.resident_bytes();
    let served = others(gateway);
    let (mut sender, mut receiver) = frames::open(gateway, &[]).await;
    let reading = tokio::spawn(async move { receiver.until_end().await });
    assert!(sender.send(begin).await);
    for at in 0..times {
        if sender.flood(&flood(at), 1, PATIENCE).await == 0 {
            break;
        }
    }
    let end = match tokio::time::timeout(PATIENCE, reading).await {
        Ok(code) => code.unwrap().map_or(End::Closed, End::Told),
        Err(_) => End::Open,
    };
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < ROOM, "memory grew by {grown} bytes");
    assert!(!served.is_finished(), "the other client was refused: {:?}", served.await);
    served.abort();
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    end
}

/// Pieces of one kilobyte or so, so that a flood is many frames a write.
fn packed(frame: &[u8]) -> Vec<u8> {
    frame.repeat(1024 / frame.len() + 1)
}

#[tokio::test]
async fn frames_that_do_no_work_end_the_connection_and_are_counted() {
    let (_origin, gateway) = warm().await;
    let mut floods = 0;
    for (what, flood) in [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("SETTINGS", settings(&[(4, 65_535)])),
        ("empty SETTINGS", settings(&[])),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9])),
        ("WINDOW_UPDATE", window_update(0, 1)),
        ("WINDOW_UPDATE of a closed stream", window_update(1, 1)),
        ("RST_STREAM of a closed stream", reset(1, 8)),
        ("PING that answers nothing", frame(PING, ACK, 0, &[7; 8])),
        ("frames of an unknown kind", frame(0xbe, 0xff, 0, &[7; 100])),
        ("PRIORITY_UPDATE", frame(0x10, 0, 0, b"\0\0\0\x01u=1")),
    ] {
        let end = abuse(&gateway, &get(1), |_| packed(&flood), 2_000).await;
        assert_eq!(end, End::Told(ENHANCE_YOUR_CALM), "{what}");
        floods += 1;
        gateway.until_metric("portcullis_malformed_requests_total", &["reason=\"http2_flood\""], floods).await;
    }
}

#[tokio::test]
async fn empty_data_frames_end_the_connection() {
    let (_origin, gateway) = warm().await;
    let end = abuse(&gateway, &post(1), |_| packed(&frame(DATA, 0, 1, &[])), 2_000).await;
    assert_eq!(end, End::Told(ENHANCE_YOUR_CALM));
    let end = abuse(&gateway, &post(1), |_| packed(&frame(DATA, PADDED, 1, &[3, 0, 0, 0])), 2_000).await;
    assert_eq!(end, End::Told(ENHANCE_YOUR_CALM), "padding is no content");
}

#[tokio::test]
async fn requests_that_are_reset_at_once_end_the_connection() {
    let (origin, gateway) = warm().await;
    let stream = |at: usize| u32::try_from(2 * at + 1).unwrap();
    let pair = |at| [get(stream(at)), reset(stream(at), 8)].concat();
    let batch = |at: usize| (0..50).flat_map(|inner| pair(50 * at + inner)).collect();
    assert_eq!(abuse(&gateway, &[], batch, 100).await, End::Told(ENHANCE_YOUR_CALM));
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    let reached = origin.targets().iter().filter(|target| *target == "/").count();
    assert!(reached < 1_000, "{reached} of 5,000 reached the origin");
}

#[tokio::test]
async fn requests_that_make_the_gateway_reset_them_end_the_connection() {
    let (_origin, gateway) = warm().await;
    let stream = |at: usize| u32::try_from(2 * at + 1).unwrap();
    // Each is a stream error by the client, which the server must answer with a reset (MadeYouReset, CVE-2025-8671).
    for (what, wrong) in [
        ("a window of nothing", (|id| window_update(id, 0)) as fn(u32) -> Vec<u8>),
        ("a window that overflows", |id| window_update(id, 0x7fff_ffff)),
        ("DATA behind the end", |id| frame(DATA, 0, id, b"x")),
    ] {
        let batch = |at: usize| {
            (0..20).flat_map(|inner| [get(stream(20 * at + inner)), wrong(stream(20 * at + inner))].concat()).collect()
        };
        let end = abuse(&gateway, &[], batch, 500).await;
        assert!(matches!(end, End::Told(_) | End::Closed), "{what}: {end:?}");
        gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    }
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection() {
    let (_origin, gateway) = warm().await;
    let head = frame(HEADERS, END_STREAM, 1, &literal(&GET));
    let more = literal(&[("x-filler", &"x".repeat(100))]).repeat(100);
    for (what, piece) in [("empty pieces", vec![]), ("large pieces", more)] {
        let end = abuse(&gateway, &head, |_| frame(CONTINUATION, 0, 1, &piece), 5_000).await;
        assert!(matches!(end, End::Told(_) | End::Closed), "{what}: {end:?}");
    }
}

#[tokio::test]
async fn a_head_that_unpacks_to_far_more_than_it_is_costs_no_memory() {
    let (origin, gateway) = warm().await;
    // One field of 4,000 bytes goes into the table; then each byte of the head is that field again: 16 KB are 64 MB.
    let insert = [&[0x40, 3][..], b"x-a", &[0x7f, 0xa1, 0x1e], &[b'a'; 4000]].concat();
    let bomb = |at: usize| {
        let again = vec![0xbe; 12_000];
        let head = [literal(&GET), if at == 0 { insert.clone() } else { vec![] }, again].concat();
        frame(HEADERS, END_STREAM | END_HEADERS, u32::try_from(2 * at + 1).unwrap(), &head)
    };
    let end = abuse(&gateway, &[], bomb, 500).await;
    assert!(matches!(end, End::Told(_) | End::Closed), "{end:?}");
    assert!(origin.requests().iter().all(|request| request.all("x-a").is_empty()), "one reached the origin");
}

#[tokio::test]
async fn streams_whose_client_opens_no_window_are_given_up_in_time() {
    let origin = Origin::start(|mut conn| async move {
        let piece = vec![b'x'; 65_536];
        while conn.request().await.is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 16777216\r\n\r\n").await;
            for _ in 0..256 {
                if !conn.send(&piece).await {
                    return;
                }
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).limits("write_timeout_secs = 1").start().await;
    let before = gateway.resident_bytes();
    let (mut sender, mut receiver) = frames::open(&gateway, &[(4, 0)]).await; // SETTINGS_INITIAL_WINDOW_SIZE
    let requests: Vec<u8> = (0..50).flat_map(|at| get(2 * at + 1)).collect();
    assert!(sender.send(&requests).await);
    for _ in 0..50 {
        receiver.until("an answer's head", |frame| frame.kind == HEADERS).await.expect("an answer");
    }
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 2 * ROOM, "fifty answers that nobody takes hold {grown} bytes");
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

#[tokio::test]
async fn windows_that_overflow_end_the_connection_or_the_stream() {
    let (_origin, gateway) = warm().await;
    let end = abuse(&gateway, &window_update(0, 0x7fff_ffff), |_| window_update(0, 0x7fff_ffff), 10).await;
    assert_eq!(end, End::Told(FLOW_CONTROL_ERROR));
    let end = abuse(&gateway, &post(1), |_| window_update(1, 0x7fff_ffff), 2).await;
    assert_eq!(end, End::Open, "a stream of a connection that may go on");
}

#[tokio::test]
async fn a_client_that_sends_more_than_its_window_ends_its_connection() {
    let (_origin, gateway) = warm().await;
    let before = gateway.resident_bytes();
    let (mut sender, mut receiver) = frames::open(&gateway, &[]).await;
    // A body that nobody reads, because its request is refused: 4 MiB where a stream has room for 64 KiB and a connection for 1 MiB.
    let refused = frame(HEADERS, END_HEADERS, 1, &literal(&[&POST[..3], &[(":path", "/private/")]].concat()));
    let burst = [refused, frame(DATA, 0, 1, &[b'x'; 16_384]).repeat(256)].concat();
    sender.send(&burst).await;
    let end = receiver.until("an end", |frame| matches!(frame.kind, RST_STREAM | GOAWAY)).await;
    assert!(end.as_ref().is_none_or(|frame| [FLOW_CONTROL_ERROR, 0].contains(&frame.code())), "{end:?}");
    assert!(gateway.resident_bytes().saturating_sub(before) < ROOM);
}

#[tokio::test]
async fn a_client_that_never_ends_its_preface_is_cut_and_so_is_one_that_says_something_else() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("idle_timeout_secs = 0.3").start().await;
    for begin in [&PREFACE[..10], b"GET / HTTP/1.1\r\nHost: site.test\r\n\r\n", &[0; 64]] {
        let (mut sender, mut receiver) = frames::silent(&gateway).await;
        assert!(sender.send(begin).await);
        receiver.until_end().await;
    }
    assert!(origin.requests().is_empty());
    assert_eq!(ask(&mut connect(&gateway).await, h2::get("/")).await.0, 200);
}

#[tokio::test]
async fn a_busy_client_that_pings_and_opens_windows_as_it_goes_is_never_cut() {
    let body = vec![b'x'; 1 << 20];
    let answer = [format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes(), body].concat();
    let origin = Origin::always(answer).await;
    let gateway = Setup::before(&origin).start().await;
    let (mut sender, mut receiver) = frames::open(&gateway, &[]).await;
    // As careful as a client can be: both windows are opened again for every frame, with a ping to measure by.
    for at in 0..12 {
        let stream = 2 * at + 1;
        assert!(sender.send(&get(stream)).await);
        let mut taken = 0;
        while taken < 1 << 20 {
            let frame = receiver.until("data", |frame| frame.kind == DATA).await.expect("the connection goes on");
            taken += frame.payload.len();
            let length = u32::try_from(frame.payload.len()).unwrap();
            if length > 0 {
                let ping = frames::frame(PING, 0, 0, &[1; 8]);
                sender.send(&[window_update(0, length), window_update(stream, length), ping].concat()).await;
            }
        }
    }
    eventually("the last answer", || async { (origin.requests().len() == 12).then_some(()) }).await;
}
