//! Interim responses (1xx) of an origin reach HTTP/1.1 clients when they come, and never stand inside of another message
//! (RFC 9110 section 15.2, RFC 8297).

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::support::client::{Client, get, post};
use crate::support::gateway::Setup;
use crate::support::h2;
use crate::support::origin::{Conn, HELLO, Origin};
use crate::support::uwsgi::UwsgiOrigin;
use crate::support::wire::Message;
use crate::support::within;

const HINT: &str = "HTTP/1.1 103 Early Hints\r\nLink: </site.css>; rel=preload\r\n\r\n";

/// The next head, an interim one or not.
async fn head(client: &mut Client) -> Message {
    within("a head", client.wire.head()).await.unwrap().expect("an open connection")
}

/// Reads a body whose head was read, and has a length.
async fn body(client: &mut Client, head: &Message) -> Vec<u8> {
    let mut message = head.clone();
    within("a body", client.wire.request_body(&mut message)).await.unwrap();
    message.body
}

#[tokio::test]
async fn hints_come_before_the_origin_has_an_answer() {
    let go = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&go);
    let origin = Origin::start(move |mut conn: Conn| {
        let gate = Arc::clone(&gate);
        async move {
            while conn.request().await.is_some() {
                conn.send(HINT).await;
                gate.acquire().await.unwrap().forget();
                conn.send(HELLO).await;
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    for secure in [false, true] {
        let mut client = if secure { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
        for request in [get("/"), post("/", "body"), get("/again")] {
            client.send(request).await;
            let hint = head(&mut client).await;
            assert_eq!(
                (hint.start.as_str(), hint.field("link")),
                ("HTTP/1.1 103 Early Hints", Some("</site.css>; rel=preload"))
            );
            go.add_permits(1);
            let last = head(&mut client).await;
            assert_eq!((last.status(), body(&mut client, &last).await.as_slice()), (200, &b"hello"[..]));
        }
    }
    assert!(origin.accepted() <= 2, "connections are kept all the same");
}

#[tokio::test]
async fn what_concerns_one_connection_only_is_not_passed_on() {
    let origin = Origin::always(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nConnection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nContent-Length: 5\r\n\
         Link: </a>\r\nLink: </b>\r\n\r\nHTTP/1.1 199 \r\nX-Own: yes\r\n\r\n{HELLO}"
    ))
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..3 {
        client.send(get("/")).await;
        let mut seen = Vec::new();
        loop {
            let message = head(&mut client).await;
            let fields = message.fields.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
            if message.status() >= 200 {
                assert_eq!(body(&mut client, &message).await, b"hello");
                break;
            }
            seen.push((message.status(), fields.join(" ")));
        }
        let expected = [(102, ""), (103, "link=</a> link=</b>"), (199, "x-own=yes")];
        assert_eq!(seen, expected.map(|(status, fields)| (status, fields.to_owned())));
    }
}

#[tokio::test]
async fn too_many_hints_are_dropped_and_the_answer_is_not() {
    let large = format!("HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n", "x".repeat(10_000));
    let origin = Origin::always([&large.repeat(3), &HINT.repeat(40), HELLO].concat()).await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..3 {
        client.send(get("/")).await;
        let mut bytes = 0;
        let mut hints = 0;
        let last = loop {
            let message = head(&mut client).await;
            if message.status() != 103 {
                break message;
            }
            hints += 1;
            bytes += message.field("link").map_or(0, str::len);
        };
        assert_eq!((last.status(), body(&mut client, &last).await.as_slice()), (200, &b"hello"[..]));
        assert_eq!(hints, 16, "one of the large ones, then small ones up to the bound");
        assert!(bytes < 16 * 1024, "{bytes}");
    }
}

#[tokio::test]
async fn clients_of_http2_get_the_answer_alone() {
    let origin = Origin::always(format!("{HINT}{HELLO}")).await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = h2::connect(&gateway).await;
    for _ in 0..3 {
        assert_eq!(h2::ask(&mut sender, h2::get("/")).await, (http::StatusCode::OK, "hello".to_owned()));
    }
}

#[tokio::test]
async fn hints_of_a_uwsgi_server_are_passed_on_too() {
    let origin = UwsgiOrigin::answering(|_| format!("{HINT}HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")).await;
    let gateway = origin.setup().start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..2 {
        client.send(get("/")).await;
        assert_eq!(head(&mut client).await.status(), 103);
        assert_eq!(client.answer().await.text(), "hello");
    }
}

#[tokio::test]
async fn hints_of_pipelined_requests_stand_before_their_own_answers() {
    let origin = Origin::start(|mut conn: Conn| async move {
        while let Some(request) = conn.request().await {
            let target = request.target();
            conn.send(format!("HTTP/1.1 103 Early Hints\r\nLink: <{target}>\r\n\r\n")).await;
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len())).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let targets: Vec<String> = (0..20).map(|number| format!("/{number}")).collect();
    client.send(targets.iter().map(|target| get(target)).collect::<String>()).await;
    for target in &targets {
        let hint = head(&mut client).await;
        assert_eq!((hint.status(), hint.field("link")), (103, Some(format!("<{target}>").as_str())));
        let last = head(&mut client).await;
        assert_eq!((last.status(), body(&mut client, &last).await), (200, target.clone().into_bytes()));
    }
}

/// A client that reads slowly keeps the end of one answer from leaving while the next request is on its way already: the hints of that
/// one must not get into the answer.
#[tokio::test]
async fn hints_never_stand_inside_of_an_answer_that_is_still_being_sent() {
    const LENGTH: usize = 6 << 20;
    let large =
        [format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes(), vec![b'x'; LENGTH]].concat();
    let large = Arc::new(large);
    let origin = Origin::start(move |mut conn: Conn| {
        let large = Arc::clone(&large);
        async move {
            while let Some(request) = conn.request().await {
                match request.target() {
                    "/large" => conn.send(&*large).await,
                    _ => conn.send([HINT, HINT, HELLO].concat()).await,
                };
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    for secure in [false, true] {
        let mut client = if secure { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
        for _ in 0..3 {
            client.send([get("/large"), get("/hints"), get("/large"), get("/hints")].concat()).await;
            for _ in 0..2 {
                let first = head(&mut client).await;
                assert_eq!(first.status(), 200);
                let body_of_first = body(&mut client, &first).await;
                assert!(body_of_first.len() == LENGTH && body_of_first.iter().all(|byte| *byte == b'x'));
                let mut next = head(&mut client).await;
                while next.status() == 103 {
                    next = head(&mut client).await;
                }
                assert_eq!((next.status(), body(&mut client, &next).await.as_slice()), (200, &b"hello"[..]));
            }
        }
    }
}

#[tokio::test]
async fn an_answer_of_the_gateways_own_may_follow_hints() {
    let origin = Origin::once(HINT).await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(post("/", "body")).await;
    assert_eq!(head(&mut client).await.status(), 103);
    assert_eq!(client.answer().await.status(), 502);
    assert_eq!(client.get("/a//b").await.status(), 400);
}
