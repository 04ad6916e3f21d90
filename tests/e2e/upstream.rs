//! What an origin does wrong is that request's failure: in time, said by its status, and never the next client's answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::client::{Client, get, post};
use crate::support::gateway::Setup;
use crate::support::origin::{HELLO, Origin};
use crate::support::port::Port;
use crate::support::{Dice, eventually, token, within};

/// Long enough that nothing here waits for it, short enough that a test which does fails.
const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_refused_connection_is_502_at_once() {
    let nobody = Port::reserve();
    let gateway = Setup::endpoints([format!("http://{}", nobody.address)]).start().await;
    let mut client = Client::plain(gateway.http).await;
    for request in [get("/"), post("/", "body"), get("/")] {
        let begun = Instant::now();
        let answer = client.ask(&request).await;
        assert_eq!(answer.status(), 502, "{request}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        if answer.closes() {
            client = Client::plain(gateway.http).await;
        }
    }
    gateway.until_metric("portcullis_upstream_errors_total", &["stage=\"refused\""], 3).await;
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over_for_one_that_does_not() {
    let (nobody, origin) = (Port::reserve(), Origin::hello().await);
    let gateway = Setup::endpoints([format!("http://{}", nobody.address), origin.endpoint()]).start().await;
    let mut client = Client::plain(gateway.http).await;
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}")).await.status(), 200);
        assert_eq!(client.post(&format!("/{number}"), "body").await.status(), 200);
    }
    assert_eq!(origin.requests().len(), 40);
}

/// A listener whose backlog is full answers no more SYNs, which is the only way to a slow connect on loopback.
#[tokio::test]
async fn a_connect_that_takes_too_long_is_504_within_its_limit() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
        filling.push(stream);
        assert!(filling.len() < 64, "this system takes every connection: its backlog has no end");
    }
    let gateway = Setup::endpoints([format!("http://{address}")]).upstream("connect_timeout_secs = 0.5").start().await;
    let begun = Instant::now();
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 504);
    assert!(begun.elapsed() >= Duration::from_millis(450) && begun.elapsed() < SOON, "{:?}", begun.elapsed());
    gateway.until_metric("portcullis_upstream_errors_total", &["stage=\"connect_timeout\""], 1).await;
}

#[tokio::test]
async fn a_silent_origin_is_504_within_response_timeout() {
    let origin = Origin::start(|mut conn| async move { conn.until_closed().await }).await;
    let gateway = Setup::before(&origin).upstream("response_timeout_secs = 0.5").start().await;
    for request in [get("/"), post("/", "body")] {
        let begun = Instant::now();
        assert_eq!(Client::plain(gateway.http).await.ask(&request).await.status(), 504);
        assert!(begun.elapsed() >= Duration::from_millis(450) && begun.elapsed() < SOON, "{:?}", begun.elapsed());
    }
    // The connection went with the request that waited on it.
    eventually("closed connections", || async { (origin.open() == 0).then_some(()) }).await;
    assert_eq!(origin.accepted(), 2, "a request that may have been seen is not sent again after a time-out");
}

#[tokio::test]
async fn a_post_that_was_not_answered_is_502_and_was_seen_once() {
    let origin = Origin::start(|mut conn| async move {
        let Some(request) = conn.request().await else { return };
        if request.target() != "/dropped" {
            conn.send(HELLO).await;
            conn.request().await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/").await.status(), 200);
    // On a kept connection and on a fresh one.
    for _ in 0..2 {
        assert_eq!(client.post("/dropped", "body").await.status(), 502);
    }
    let posts = origin.requests().iter().filter(|request| request.method() == "POST").count();
    assert_eq!(posts, 2);
}

#[tokio::test]
async fn a_get_is_sent_again_when_a_kept_connection_turns_out_to_be_closed() {
    let origin = Origin::start(|mut conn| async move {
        // Each connection answers once, takes a second request, and closes without a word.
        if conn.request().await.is_some() {
            conn.send(HELLO).await;
            conn.request().await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}")).await.status(), 200, "{number}");
    }
}

#[tokio::test]
async fn a_get_with_a_body_or_a_post_is_never_sent_again() {
    let origin = Origin::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.send(HELLO).await;
            conn.request().await;
        }
    })
    .await;
    for method in ["POST", "PATCH", "GET"] {
        // A new gateway each time: one that has seen a connection go stale trusts none of that age again.
        let gateway = Setup::before(&origin).start().await;
        let mut client = Client::plain(gateway.http).await;
        client.get("/warm").await;
        let answer =
            client.ask(format!("{method} /{method} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")).await;
        let seen = origin.targets().iter().filter(|target| **target == format!("/{method}")).count();
        assert_eq!((answer.status(), seen), (502, 1), "{method}");
    }
}

#[tokio::test]
async fn a_malformed_response_head_is_502() {
    let answers = [
        ("garbage", "I am no server\r\n\r\n"),
        ("nothing but line ends", "\r\n\r\n\r\n\r\n"),
        ("another protocol", "SSH-2.0-OpenSSH_9.9\r\n\r\n"),
        ("a bare CR in a value", "HTTP/1.1 200 OK\r\nX: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n"),
        ("NUL in a value", "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n"),
        ("a space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n"),
        ("a folded line", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n"),
        ("no colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n"),
        ("length beside coding", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("coding beside length", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n"),
        ("two lengths that differ", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        ("two lengths alike", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
        ("a list of lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3, 4\r\n\r\nabcd"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc"),
        ("an unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: cow\r\n\r\nabc"),
        ("two codings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (
            "two lines of coding",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("an unsolicited 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
        ("a status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n"),
        ("half a head", "HTTP/1.1 200 OK\r\nContent-Le"),
    ];
    let which = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&which);
    let origin = Origin::start(move |mut conn| {
        let answer = answers[now.load(Ordering::SeqCst)].1;
        async move {
            if conn.request().await.is_some() {
                conn.send(answer).await;
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (number, (what, _)) in answers.into_iter().enumerate() {
        which.store(number, Ordering::SeqCst);
        // A POST, so that no second try hides the first. What was kept from before is gone with its malformed answer.
        let answer = client.post(&format!("/{number}"), "x").await;
        assert_eq!(answer.status(), 502, "{what}: {answer:?}");
        assert_eq!(origin.accepted(), number + 1, "{what}: the connection before this one was not used again");
    }
}

#[tokio::test]
async fn a_response_head_without_bound_is_502() {
    let endless = format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(100_000));
    let origin = Origin::once(endless).await;
    let gateway = Setup::before(&origin).start().await;
    assert_eq!(Client::plain(gateway.http).await.post("/", "x").await.status(), 502);
}

const POISON: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";

fn naming(request: &crate::support::wire::Message) -> String {
    let body = request.target();
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn extra_bytes_behind_a_response_are_never_the_next_clients_response() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            conn.send(format!("{}{POISON}", naming(&request))).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut clients = [Client::plain(gateway.http).await, Client::plain(gateway.http).await];
    for number in 0..200 {
        let path = format!("/{number}");
        let answer = if number % 3 == 0 {
            clients[number % 2].post(&path, "x").await
        } else {
            clients[number % 2].get(&path).await
        };
        assert_eq!((answer.status(), answer.text()), (200, path));
    }
}

#[tokio::test]
async fn bytes_that_come_on_an_idle_connection_are_never_the_next_clients_response() {
    let poisoned = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&poisoned);
    let origin = Origin::start(move |mut conn| {
        let sent = Arc::clone(&sent);
        async move {
            while let Some(request) = conn.request().await {
                conn.send(naming(&request)).await;
                tokio::time::sleep(Duration::from_millis(1)).await; // the response has gone by itself
                conn.send(POISON).await;
                sent.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for number in 0..100 {
        let path = format!("/{number}");
        let answer = client.get(&path).await;
        assert_eq!((answer.status(), answer.text()), (200, path));
        eventually("the poison", || async { (poisoned.load(Ordering::SeqCst) > number).then_some(()) }).await;
    }
}

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
async fn who_finds_no_free_connection_in_time_gets_503_and_may_try_again() {
    let origin = Origin::start(|mut conn| async move {
        conn.head().await;
        conn.until_closed().await;
    })
    .await;
    let gateway = Setup::before(&origin).upstream("max_connections = 1\nqueue_timeout_secs = 0.5").start().await;
    let mut first = Client::plain(gateway.http).await;
    first.send(get("/first")).await;
    eventually("the first request", || async { (origin.accepted() == 1).then_some(()) }).await;
    let begun = Instant::now();
    let answer = Client::plain(gateway.http).await.get("/second").await;
    assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")));
    assert!(begun.elapsed() >= Duration::from_millis(450) && begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert_eq!(origin.targets(), ["/first"]);
}

#[tokio::test]
async fn who_waits_for_a_connection_gets_it_when_it_is_free() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            conn.send(HELLO).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).upstream("max_connections = 2").start().await;
    let mut waiting = JoinSet::new();
    for _ in 0..20 {
        let mut client = Client::plain(gateway.http).await;
        waiting.spawn(async move { client.get("/").await.status() });
    }
    assert_eq!(waiting.join_all().await, [200; 20]);
    assert!(origin.accepted() <= 2, "{} connections", origin.accepted());
}

/// Reads requests and closes the connection at a random age of idleness, as origins with a short keep-alive do.
async fn fickle() -> Origin {
    let seeds = Arc::new(AtomicUsize::new(1));
    Origin::start(move |mut conn| {
        let mut dice = Dice::new(seeds.fetch_add(1, Ordering::SeqCst) as u64);
        async move {
            let mut patience = Duration::from_mins(1); // keep-alive begins with the first response
            while let Ok(Some(_)) = tokio::time::timeout(patience, conn.request()).await {
                conn.send(HELLO).await;
                patience = dice.millis(2..50);
            }
        }
    })
    .await
}

#[tokio::test]
async fn an_origin_that_closes_idle_connections_at_random_ages_fails_no_get_and_at_most_a_thousandth_of_posts() {
    const CLIENTS: u64 = 24;
    let origin = fickle().await;
    let gateway = Setup::before(&origin).start().await;
    let until = Instant::now() + Duration::from_secs(4);
    let mut load = JoinSet::new();
    for number in 0..CLIENTS {
        let mut client = Client::plain(gateway.http).await;
        load.spawn(async move {
            let (mut dice, mut gets, mut posts, mut failed_posts) = (Dice::new(number + 100), 0, 0, 0);
            while Instant::now() < until {
                if dice.below(2) == 0 {
                    gets += 1;
                    assert_eq!(client.get(&format!("/get/{number}/{gets}")).await.status(), 200, "no GET fails");
                } else {
                    posts += 1;
                    let answer = client.post(&format!("/post/{number}/{posts}"), "body").await;
                    assert!(matches!(answer.status(), 200 | 502), "{answer:?}");
                    failed_posts += usize::from(answer.status() == 502);
                    assert!(!answer.closes(), "an origin's failure does not close the client's connection");
                }
                tokio::time::sleep(dice.millis(0..20)).await;
            }
            (gets, posts, failed_posts)
        });
    }
    let (mut gets, mut posts, mut failed) = (0, 0, 0);
    for (more_gets, more_posts, more_failed) in load.join_all().await {
        gets += more_gets;
        posts += more_posts;
        failed += more_failed;
    }
    assert!(gets > 1000 && posts > 1000, "{gets} GETs and {posts} POSTs are too few to tell");
    assert!(failed * 1000 <= posts, "{failed} of {posts} POSTs failed");
    let mut seen: HashMap<String, usize> = HashMap::new();
    for request in origin.requests() {
        *seen.entry(request.target().to_owned()).or_default() += 1;
    }
    let twice: Vec<_> = seen.iter().filter(|(target, count)| target.starts_with("/post") && **count > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[tokio::test]
async fn when_all_upstream_connections_break_at_once_the_next_request_succeeds() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
            conn.send(HELLO).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(Client::plain(gateway.http).await);
    }
    for round in 0..5 {
        let asking = clients.iter_mut().map(|client| client.get("/"));
        for status in futures(asking).await {
            assert_eq!(status, 200, "round {round}");
        }
        origin.break_all();
        let begun = Instant::now();
        assert_eq!(clients[0].get("/").await.status(), 200);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

/// Runs all at once, for their statuses.
async fn futures<F: Future<Output = crate::support::wire::Message>>(all: impl Iterator<Item = F>) -> Vec<u16> {
    let mut all: Vec<_> = all.map(|one| (Box::pin(one), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, status) in &mut all {
            if status.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(answer) => *status = Some(answer.status()),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    all.into_iter().map(|(_, status)| status.expect("all are ready")).collect()
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

#[tokio::test]
async fn a_connection_that_the_origin_says_it_closes_is_never_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: x, Close\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let origin = Origin::always(answer).await; // it says so and does not do it
        let gateway = Setup::before(&origin).start().await;
        let mut client = Client::plain(gateway.http).await;
        for number in 1..=5 {
            let kept = client.post("/", "x").await;
            assert_eq!((kept.text().as_str(), kept.closes()), ("hello", false));
            assert_eq!(origin.accepted(), number, "{answer}");
        }
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_comes_whole() {
    let origin = Origin::once("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end").await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "to the end");
    }
}

#[tokio::test]
async fn interim_responses_do_not_count_as_the_answer() {
    let origin = Origin::always(format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n{HELLO}"
    ))
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..3 {
        let answer = client.post("/", "x").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }
}

/// An origin that knows at each accept how many of its sockets are still open at the other end.
async fn counting_origin() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let most = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&most);
    tokio::spawn(async move {
        let mut all: Vec<Arc<TcpStream>> = Vec::new();
        loop {
            let stream = Arc::new(listener.accept().await.unwrap().0);
            // On loopback a close has arrived before the next connect does: what can be peeked as an end is closed.
            all.retain(|known| {
                let ended = socket2::SockRef::from(&**known).peek(&mut [std::mem::MaybeUninit::uninit(); 1]);
                !matches!(ended, Ok(0)) && !ended.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
            });
            all.push(Arc::clone(&stream));
            counted.fetch_max(all.len(), Ordering::SeqCst);
            tokio::spawn(answer_slowly(stream));
        }
    });
    (address, most)
}

async fn answer_slowly(stream: Arc<TcpStream>) {
    let mut seen = Vec::new();
    loop {
        stream.readable().await.unwrap();
        let mut buffer = [0; 4096];
        match stream.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return,
        }
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            tokio::time::sleep(Duration::from_millis(3)).await;
            if stream.writable().await.is_err() || stream.try_write(HELLO.as_bytes()).is_err() {
                return;
            }
        }
    }
}

#[tokio::test]
async fn max_connections_holds_for_the_process_and_every_worker_gets_its_turn() {
    const MOST: usize = 3;
    let (address, most) = counting_origin().await;
    let gateway = Setup::endpoints([format!("http://{address}")])
        .server("workers = 2")
        .upstream(&format!("max_connections = {MOST}"))
        .start()
        .await;
    let mut load = JoinSet::new();
    for _ in 0..16 {
        let http = gateway.http;
        load.spawn(async move {
            // A fresh connection now and then, so that both workers are asked.
            for _ in 0..4 {
                let mut client = Client::plain(http).await;
                for _ in 0..15 {
                    assert_eq!(client.get("/").await.status(), 200);
                }
            }
        });
    }
    load.join_all().await;
    let seen = most.load(Ordering::SeqCst);
    assert!((1..=MOST).contains(&seen), "{seen} connections at once");
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    gateway.until_metric("portcullis_upstream_waiting_requests", &[], 0).await;
}

#[tokio::test]
async fn clients_that_leave_at_random_moments_leave_nothing_behind() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
            let slow = request.target().contains("slow");
            if !conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await {
                return;
            }
            for _ in 0..if slow { 20 } else { 2 } {
                if !conn.send(format!("400\r\n{}\r\n", "x".repeat(1024))).await {
                    return;
                }
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
            conn.send("0\r\n\r\n").await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).upstream("max_connections = 8").start().await;
    let mut load = JoinSet::new();
    for number in 0..16 {
        let http = gateway.http;
        load.spawn(async move {
            let mut dice = Dice::new(number);
            for _ in 0..60 {
                let mut stream = TcpStream::connect(http).await.unwrap();
                let request = match dice.below(3) {
                    0 => get("/slow"),
                    1 => get("/quick"),
                    _ => "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nbegun".to_owned(),
                };
                stream.write_all(request.as_bytes()).await.unwrap();
                let mut buffer = [0; 512];
                tokio::time::timeout(dice.millis(0..8), stream.read(&mut buffer)).await.ok();
                if dice.below(2) == 0 {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap(); // leave by a reset
                }
            }
        });
    }
    load.join_all().await;
    for gauge in ["portcullis_requests_in_flight", "portcullis_upstream_leases", "portcullis_upstream_waiting_requests"]
    {
        gateway.until_metric(gauge, &[], 0).await;
    }
    gateway.until_metric("portcullis_connections_open", &[], 0).await;
    assert_eq!(Client::plain(gateway.http).await.get("/quick").await.status(), 200);
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

#[tokio::test]
async fn a_unix_socket_is_an_endpoint_too() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut wire = crate::support::wire::Wire::new(stream, None);
            tokio::spawn(async move {
                while let Ok(Some(_)) = wire.request().await {
                    wire.send(HELLO.as_bytes()).await.ok();
                }
            });
        }
    });
    let gateway = Setup::endpoints([format!("unix:{}", path.display())]).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "hello");
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(client.get("/").await.status(), 200, "a connection that is open stays");
}
