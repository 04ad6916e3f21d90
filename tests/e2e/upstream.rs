//! What an origin does wrong is that request's failure: in time, said by its status, and sent again only where that is safe.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::support::client::{Client, get, post};
use crate::support::eventually;
use crate::support::gateway::Setup;
use crate::support::origin::{HELLO, Origin};
use crate::support::port::Port;

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
async fn a_kept_connection_that_turns_out_to_be_closed_excuses_what_is_idempotent_and_no_post() {
    let origin = Origin::start(|mut conn| async move {
        if conn.request().await.is_some() {
            conn.send(HELLO).await;
            conn.request().await;
        }
    })
    .await;
    for (method, due) in [("POST", (502, 1)), ("PATCH", (502, 1)), ("GET", (200, 2)), ("PUT", (200, 2))] {
        // A new gateway each time: one that has seen a connection go stale trusts none of that age again.
        let gateway = Setup::before(&origin).start().await;
        let mut client = Client::plain(gateway.http).await;
        client.get("/warm").await;
        let answer =
            client.ask(format!("{method} /{method} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody")).await;
        let seen = origin.targets().iter().filter(|target| **target == format!("/{method}")).count();
        assert_eq!((answer.status(), seen), due, "{method}");
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

/// Python servers answer an upload they do not want and close: what was not read of it makes that a reset.
#[tokio::test]
async fn an_answer_that_comes_before_the_end_of_an_upload_is_not_lost_to_the_reset_behind_it() {
    let origin = Origin::start(|mut conn| async move {
        if conn.head().await.is_some() {
            conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much").await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    for _ in 0..20 {
        let answer = Client::plain(gateway.http).await.post("/upload", &"x".repeat(4 << 20)).await;
        assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"));
    }
}
