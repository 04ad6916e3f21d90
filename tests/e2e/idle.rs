//! Idle means that nothing is under way in either direction: a connection put aside, timed out or drained in the middle of a message
//! would lose it, or read its rest as something else.

use std::time::Duration;

use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::{HELLO, Origin};
use crate::support::within;

/// Longer than a connection may be without a request before its parser is put away.
const A_WHILE: Duration = Duration::from_millis(600);

#[tokio::test]
async fn the_rest_of_a_body_that_was_answered_early_is_never_a_request() {
    let origin = Origin::start(|mut conn| async move {
        if conn.head().await.is_some() {
            conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 7\r\n\r\nenough!").await;
            conn.until_closed().await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let beginning = "x".repeat(100_000);
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{beginning}")).await;
    assert_eq!(client.answer().await.status(), 403);
    tokio::time::sleep(A_WHILE).await; // the race is about time
    client.send(get("/smuggled")).await;
    client.send(get("/smuggled")).await;
    let rest = String::from_utf8_lossy(&client.until_end().await).into_owned();
    assert!(!rest.contains("HTTP/1.1 200"), "{rest}");
    assert!(!origin.targets().iter().any(|target| target == "/smuggled"), "{:?}", origin.targets());
}

#[tokio::test]
async fn an_idle_client_is_served_again_after_a_while_and_after_a_stray_line_end() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for secure in [false, true] {
        let mut client = if secure { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
        for between in ["", "\r\n"] {
            assert_eq!(client.get("/").await.status(), 200);
            client.send(between).await;
            tokio::time::sleep(A_WHILE).await;
        }
        let two = format!("{}{}", get("/one"), get("/two"));
        assert_eq!((client.ask(two).await.status(), client.answer().await.status()), (200, 200));
        tokio::time::sleep(A_WHILE).await;
        // The first byte alone wakes the connection; the rest may take its time.
        client.send("G").await;
        tokio::time::sleep(A_WHILE).await;
        assert_eq!(client.ask(&get("/late")[1..]).await.status(), 200);
    }
}

#[tokio::test]
async fn a_head_pipelined_behind_a_slow_answer_waits_its_turn() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            if request.target() == "/slow" {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            conn.send(HELLO).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).limits("header_timeout_secs = 1").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(format!("{}GET /second HTTP/1.1\r\nHo", get("/slow"))).await;
    assert_eq!(client.answer().await.status(), 200);
    assert_eq!(client.ask("st: a\r\n\r\n").await.status(), 200);
}

#[tokio::test]
async fn a_slow_reader_gets_the_tail_of_its_answer_although_the_process_drains() {
    let body = vec![b'x'; 3 << 20];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
    let origin = Origin::always([head.as_bytes(), &body].concat()).await;
    let mut gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(get("/large")).await;
    // Wait until the answer has begun, then let it stand: the gateway holds its tail.
    within("the beginning", client.wire.fill()).await.unwrap();
    gateway.signal("TERM");
    tokio::time::sleep(Duration::from_secs(4)).await; // longer than an idle client is given
    assert_eq!(client.answer().await.body.len(), body.len());
    drop(client);
    assert!(gateway.exit().await.success());
}

#[tokio::test]
async fn slow_bodies_take_no_connection_from_others() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).upstream("max_connections = 2\nqueue_timeout_secs = 1").start().await;
    let mut slow = Vec::new();
    for _ in 0..6 {
        let mut client = Client::plain(gateway.http).await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx").await;
        slow.push(client);
    }
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    for client in &mut slow {
        assert_eq!(client.ask("y".repeat(999)).await.status(), 200);
    }
}
