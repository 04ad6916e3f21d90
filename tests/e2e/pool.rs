//! Connections to an origin are shared by all clients, and none of them may notice: bounded, watched while idle, used again only
//! when proven clean.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::{HELLO, Origin};
use crate::support::{Dice, eventually};

/// Long enough that nothing here waits for it, short enough that a test which does fails.
const SOON: Duration = Duration::from_secs(5);

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

/// A spooled body has come whole long before it has gone out.
#[tokio::test]
async fn a_connection_on_which_a_spooled_body_is_still_being_sent_is_not_used_again() {
    let origin = Origin::start(|mut conn| async move {
        let Some(head) = conn.head().await else { return };
        if head.method() == "POST" {
            conn.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
            std::future::pending::<()>().await; // reads no more, and stays
        }
        conn.send(HELLO).await;
        conn.until_closed().await;
    })
    .await;
    let gateway = Setup::before(&origin).upstream("kind = \"uwsgi\"").start().await;
    let mut client = Client::plain(gateway.http).await;
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    client.send("POST /upload HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for _ in 0..128 {
        client.send(&chunk).await;
    }
    client.send("0\r\n\r\n").await;
    assert_eq!(client.answer().await.status(), 413);
    assert_eq!(Client::plain(gateway.http).await.get("/next").await.text(), "hello");
    assert_eq!(origin.accepted(), 2);
    gateway.until_metric("portcullis_upstream_connections_open", &[], 1).await;
}
