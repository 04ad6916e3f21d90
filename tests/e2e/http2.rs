//! HTTP/2 over TLS: many requests on one connection, each of them as canonical as one of HTTP/1.1.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::frames::{
    self, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, RST_STREAM, frame, literal, settings,
};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2::{Pieces, answer, ask, connect, get, request, whole};
use crate::support::origin::{HELLO, Origin};
use crate::support::{eventually, malformed, tls, token, within};

/// An origin that answers with the target it was asked for.
async fn echo() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let body = format!("{} {}", request.target(), request.body.len());
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())).await;
        }
    })
    .await
}

#[tokio::test]
async fn many_requests_share_one_connection_and_each_gets_its_own_answer() {
    let origin = echo().await;
    let gateway = Setup::before(&origin).start().await;
    let sender = connect(&gateway).await;
    let mut all = JoinSet::new();
    for number in 0..200 {
        let mut sender = sender.clone();
        all.spawn(async move {
            let path = format!("/{number}");
            assert_eq!(ask(&mut sender, get(&path)).await, (StatusCode::OK, format!("{path} 0")));
        });
    }
    all.join_all().await;
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_connections_accepted_total", &["listener=\"https\""]), 1);
    assert!(scrape.count("portcullis_upstream_connections_opened_total", &[]) <= 100, "as many as streams at once");
}

#[tokio::test]
async fn a_client_that_offers_only_http_1_gets_that() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let stream = tls::connect(gateway.https, &gateway.roots(), &[]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), None);
    assert_eq!(Client::over(stream).get("/").await.status(), 200);
    let refused = tls::connect(gateway.https, &gateway.roots(), &[b"h3"]).await;
    assert!(refused.is_err(), "no protocol in common is no connection");
}

#[tokio::test]
async fn http2_can_be_switched_off() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).https("http2 = false").start().await;
    let stream = tls::connect(gateway.https, &gateway.roots(), &[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn what_reaches_the_origin_is_one_canonical_http_1_request() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    let request = Request::get("https://site.test/private/x?y=z")
        .header("authorization", format!("bearer {}", token::good()))
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("x-user-id", "spoofed")
        .header("x_user_id", "spoofed")
        .header("x-forwarded-for", "6.6.6.6")
        .header("te", "trailers")
        .header("accept", "kept")
        .body(Full::default())
        .unwrap();
    assert_eq!(ask(&mut sender, request).await.0, StatusCode::OK);
    let seen = origin.only();
    assert_eq!(seen.start, "GET /private/x?y=z HTTP/1.1");
    for (name, value) in [
        ("host", "site.test"),
        ("cookie", "a=1; b=2"),
        ("x-user-id", "alice"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "site.test"),
        ("te", "trailers"),
        ("accept", "kept"),
        ("authorization", &format!("Bearer {}", token::good())),
    ] {
        assert_eq!(seen.field(name).unwrap_or_default().split('.').next(), value.split('.').next(), "{name}");
    }
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("spoofed"));
    assert!(seen.fields.iter().all(|(name, _)| !name.starts_with(':')));
}

#[tokio::test]
async fn authority_and_host_must_agree() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    for (host, status) in [("site.test", 200), ("SITE.test", 200), ("other.test", 400), ("site.test:81", 400)] {
        let request = Request::get("https://site.test/").header("host", host).body(Full::default()).unwrap();
        assert_eq!(ask(&mut sender, request).await.0, status, "{host}");
    }
    assert_eq!(origin.requests().len(), 2);
}

#[tokio::test]
async fn refusals_are_the_same_as_over_http_1() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("body_bytes = 10").start().await;
    let mut sender = connect(&gateway).await;
    for (path, status) in [("/private/", 401), ("/a//b", 400), ("/a%2fb", 400)] {
        assert_eq!(ask(&mut sender, get(path)).await.0, status, "{path}");
    }
    let post = Request::post("https://site.test/").body(Full::from("more than ten bytes")).unwrap();
    assert_eq!(ask(&mut sender, post).await.0, 413);
    let trace = Request::builder().method("TRACE").uri("https://site.test/").body(Full::default()).unwrap();
    assert_eq!(ask(&mut sender, trace).await.0, 405);
    assert!(origin.bytes().is_empty());
    assert_eq!(ask(&mut sender, get("/")).await.0, 200, "the connection has seen worse");
}

#[tokio::test]
async fn an_answer_to_head_has_no_content_whoever_made_it() {
    let origin = Origin::once("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n").await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    for (path, status) in [("/private/", 401), ("/a//b", 400), ("/", 200)] {
        let answer = answer(&mut sender, request("HEAD", path, &[])).await;
        assert!(answer.headers()["content-length"] != "0", "{path}: the length a GET would have");
        assert_eq!(whole(answer).await, (StatusCode::from_u16(status).unwrap(), String::new()), "{path}");
    }
}

/// RFC 9110 section 8.6. Servers say 0 all the same.
#[tokio::test]
async fn an_answer_without_content_says_no_length() {
    let origin = Origin::once("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nX-Kept: yes\r\n\r\n").await;
    let gateway = Setup::before(&origin).start().await;
    let answer = answer(&mut connect(&gateway).await, get("/")).await;
    assert_eq!((answer.status().as_u16(), &answer.headers()["x-kept"]), (204, &"yes".parse().unwrap()));
    assert!(!answer.headers().contains_key("content-length"));
    assert_eq!(whole(answer).await.1, "");
}

#[tokio::test]
async fn no_answer_has_a_field_of_one_connection() {
    let origin =
        Origin::once("HTTP/1.1 200 OK\r\nConnection: close\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n\r\nhello")
            .await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    let response = within("an answer", sender.send_request(get("/"))).await.expect("no protocol error");
    for name in ["connection", "keep-alive", "upgrade", "transfer-encoding"] {
        assert!(!response.headers().contains_key(name), "{name}");
    }
    assert_eq!(whole(response).await.1, "hello");
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[tokio::test]
async fn trailers_pass_to_who_wants_them_without_fields_of_one_connection() {
    let origin = Origin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\
         Connection: x-named\r\nx-named: 1\r\nKeep-Alive: 5\r\nContent-Length: 9\r\nTransfer-Encoding: gzip\r\n\r\n",
    )
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    for (te, passed) in [(&[("te", "trailers")][..], &["x-sum"][..]), (&[], &[])] {
        let answer = answer(&mut sender, request("GET", "/", te)).await;
        let body = within("a body", answer.into_body().collect()).await.expect("a whole body");
        let names = body.trailers().map(|trailers| trailers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>());
        assert_eq!(names.unwrap_or_default(), passed);
        assert_eq!(body.to_bytes(), "hello");
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len())).await;
            conn.send(&request.body).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).limits("body_bytes = 100000000").start().await;
    let mut sender = connect(&gateway).await;
    let body = pattern(6_000_000);
    let request = Request::post("https://site.test/").body(Full::from(body.clone())).unwrap();
    let response = within("an answer", sender.send_request(request)).await.unwrap();
    let back = within("a body", response.into_body().collect()).await.unwrap().to_bytes();
    assert!(back == body, "the body came back as it went");
    assert_eq!(origin.only().field("content-length"), Some("6000000"));
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_back_the_origin_and_nobody_else() {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let origin = Origin::start(move |mut conn| {
        let counted = Arc::clone(&counted);
        async move {
            while let Some(request) = conn.request().await {
                if request.target() != "/large" {
                    conn.send(HELLO).await;
                    continue;
                }
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 67108864\r\n\r\n").await;
                let piece = vec![b'x'; 65536];
                for _ in 0..1024 {
                    if !conn.send(&piece).await {
                        return;
                    }
                    counted.fetch_add(65536, Ordering::SeqCst);
                }
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    let response = within("an answer", sender.send_request(get("/large"))).await.unwrap();
    // Whoever is held back stands still: the same count three times in a row, and far from the end.
    let mut seen = [u64::MAX; 3];
    eventually("a standstill", || {
        seen.rotate_left(1);
        seen[2] = sent.load(Ordering::SeqCst);
        let still = seen.iter().all(|count| *count == seen[2]) && seen[2] > 0;
        async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
            still.then_some(())
        }
    })
    .await;
    assert!(seen[2] < 32 << 20, "{} bytes wait for a client that reads nothing", seen[2]);
    assert_eq!(ask(&mut sender, get("/other")).await.1, "hello", "on the same connection");
    let body = within("the rest", response.into_body().collect()).await.unwrap().to_bytes();
    assert_eq!(body.len(), 64 << 20);
}

#[tokio::test]
async fn an_upload_comes_piece_by_piece_and_a_client_that_leaves_never_completes_it() {
    let origin = echo().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    let (pieces, body) = mpsc::channel(1);
    let mut uploading = sender.clone();
    let answer = tokio::spawn(async move {
        let request = Request::post("https://site.test/upload").body(Pieces(body)).unwrap();
        whole(uploading.send_request(request).await.unwrap()).await
    });
    for number in 0..5u8 {
        // The first piece is more than is read ahead of asking for an upstream; from then on each goes through as it comes.
        let length = if number == 0 { 100_000 } else { 1000 };
        pieces.send(Bytes::from(vec![number; length])).await.unwrap();
        let arrived = || async { (origin.bytes().split(|byte| *byte == number).count() > 900).then_some(()) };
        eventually("the piece", arrived).await;
    }
    drop(pieces);
    assert_eq!(answer.await.unwrap(), (StatusCode::OK, "/upload 104000".to_owned()));

    let (pieces, body) = mpsc::channel(1);
    let request = Request::post("https://site.test/abandoned").body(Pieces(body)).unwrap();
    let leaving = tokio::spawn(async move { sender.send_request(request).await.map(drop) });
    pieces.send("abandoned".repeat(10_000).into()).await.unwrap();
    let begun = || async { String::from_utf8_lossy(&origin.bytes()).contains("\r\nabandoned").then_some(()) };
    eventually("its beginning", begun).await;
    leaving.abort(); // resets the stream
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    assert_eq!(origin.targets(), ["/upload"], "the other was never whole");
}

#[tokio::test]
async fn streams_that_are_reset_leave_nothing_behind() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            conn.send(HELLO).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    let mut dice = crate::support::Dice::new(9113);
    for number in 0..150 {
        let asking = sender.send_request(get("/"));
        tokio::time::timeout(dice.millis(0..4), asking).await.ok(); // a time-out resets the stream
        if number % 50 == 49 {
            sender = connect(&gateway).await; // before the gateway takes it for a flood of resets
        }
    }
    for gauge in ["portcullis_requests_in_flight", "portcullis_upstream_leases", "portcullis_upstream_waiting_requests"]
    {
        gateway.until_metric(gauge, &[], 0).await;
    }
    assert_eq!(ask(&mut sender, get("/")).await.1, "hello");
}

#[tokio::test]
async fn a_drain_sends_goaway_and_answers_what_was_sent() {
    let (origin, gate) = Origin::gated().await;
    let mut gateway = Setup::before(&origin).start().await;
    let mut sender = connect(&gateway).await;
    let mut all = JoinSet::new();
    for number in 0..20 {
        let mut sender = sender.clone();
        all.spawn(async move { ask(&mut sender, get(&format!("/{number}"))).await });
    }
    gateway.until_metric("portcullis_requests_in_flight", &[], 20).await;
    gateway.signal("TERM");
    eventually("the drain", || async { (gateway.readiness().await.status() == 503).then_some(()) }).await;
    gate.add_permits(20);
    for answer in all.join_all().await {
        assert_eq!(answer, (StatusCode::OK, "hello".to_owned()));
    }
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(sender.send_request(get("/late")).await.is_err());
}

#[tokio::test]
async fn under_load_a_drain_answers_or_says_that_it_never_began() {
    let origin = Origin::hello().await;
    let mut gateway = Setup::before(&origin).start().await;
    let answered = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    for _ in 0..3 {
        let sender = connect(&gateway).await;
        for _ in 0..4 {
            let (mut sender, answered) = (sender.clone(), Arc::clone(&answered));
            load.spawn(async move {
                loop {
                    // GOAWAY says which requests were not looked at: `send_request` fails for those, and only those.
                    let response = match within("an answer", sender.send_request(get("/"))).await {
                        Ok(response) => response,
                        Err(error) => {
                            assert!(never_began(&error), "{error:?}");
                            return;
                        }
                    };
                    assert_eq!(whole(response).await, (StatusCode::OK, "hello".to_owned()));
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    }
    eventually("a load", || async { (answered.load(Ordering::SeqCst) > 200).then_some(()) }).await;
    gateway.signal("TERM");
    load.join_all().await;
    assert_eq!(gateway.exit().await.code(), Some(0));
    let total = usize::try_from(answered.load(Ordering::SeqCst)).unwrap();
    assert_eq!(origin.requests().len(), total, "what was asked of the origin was answered");
}

/// Whether the error says that the other side has not begun with the request.
fn never_began(error: &hyper::Error) -> bool {
    let said = format!("{error:?}");
    error.is_canceled()
        || error.is_closed()
        || said.contains("GoAway") && said.contains("NO_ERROR")
        || said.contains("REFUSED_STREAM")
}

/// The kind of the frame that answers a request on stream 1, or `GOAWAY`, or `None` if the connection just ends.
async fn answered_by(gateway: &Gateway, fields: &[(&str, &str)]) -> Option<u8> {
    let (mut sender, mut receiver) = frames::silent(gateway).await;
    let request = frame(HEADERS, END_STREAM | END_HEADERS, 1, &literal(fields));
    assert!(sender.send(&[PREFACE, &settings(&[]), &request].concat()).await);
    let answer = receiver.until("an answer", |frame| frame.stream == 1 || frame.kind == GOAWAY).await;
    answer.map(|frame| frame.kind)
}

#[tokio::test]
async fn fields_of_one_connection_and_other_malformed_requests_are_refused() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    assert_eq!(answered_by(&gateway, &malformed::GOOD).await, Some(HEADERS));
    assert_eq!(origin.requests().len(), 1);
    for (what, fields) in malformed::heads() {
        let answer = answered_by(&gateway, &fields).await;
        assert!(matches!(answer, None | Some(RST_STREAM | GOAWAY)), "{what}: answered by a frame of kind {answer:?}");
    }
    for (what, fields) in malformed::request_lines().into_iter().chain(malformed::targets()) {
        answered_by(&gateway, &fields).await; // by 400 or a reset
        assert_eq!(origin.requests().len(), 1, "{what} reached the origin");
    }
}
