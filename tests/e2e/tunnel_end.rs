//! How tunnels end: by their sides, by time, by their token, and with the process. Each side is told what it can be told.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};
use crate::support::websocket::{self as ws, CLOSE, Socket, TEXT, answer, ask, echo};
use crate::support::{eventually, h2, within};

/// An origin that notes the code it is told goodbye with.
async fn noting() -> (Origin, tokio::sync::mpsc::Receiver<Option<u16>>) {
    let (told, telling) = tokio::sync::mpsc::channel(64);
    let origin = Origin::start(move |conn| {
        let told = told.clone();
        async move {
            let Some(mut socket) = conn.switch("").await else { return };
            socket.say("open").await;
            loop {
                match socket.frame().await {
                    Some((CLOSE, payload)) => {
                        socket.send(CLOSE, &payload).await;
                        told.send(Some(u16::from_be_bytes([payload[0], payload[1]]))).await.ok();
                        return;
                    }
                    Some((first, payload)) => drop(socket.send(first, &payload).await),
                    None => {
                        told.send(None).await.ok();
                        return;
                    }
                }
            }
        }
    })
    .await;
    (origin, telling)
}

async fn ended(gateway: &Gateway, cause: &str, times: u64) {
    gateway.until_metric("portcullis_tunnels_ended_total", &[&format!("cause=\"{cause}\"")], times).await;
    gateway.until_metric("portcullis_tunnels_open", &[], 0).await;
    gateway.until_metric("portcullis_upstream_connections_open", &[], 0).await;
}

#[tokio::test]
async fn a_tunnel_lives_no_longer_than_its_token_unless_it_is_told_to() {
    let (origin, mut telling) = noting().await;
    let routes = route("on", "{ issuer = \"site\" }", "end_with_token = false");
    let gateway = Setup::before(&origin).tables(&routes).start().await;
    let mut sender = ws::http2(&gateway).await;
    let token = token::with(&json!({ "exp": token::now() + 2 }));
    let authorization = format!("Bearer {token}");
    let mut sockets = [
        ws::open(&gateway, "/private/", &bearer(&token)).await,
        ws::open_tls(&gateway, "/private/", &bearer(&token)).await,
        ws::open_http2(&mut sender, "/private/", &[("authorization", &authorization)]).await,
    ];
    let mut other = ws::open(&gateway, "/on/", &bearer(&token)).await;
    for socket in &mut sockets {
        assert_eq!(socket.hear().await, "open");
    }
    assert_eq!(other.hear().await, "open");
    for socket in &mut sockets {
        assert_eq!(socket.goodbye().await, 1008);
        assert!(socket.ends().await);
        assert_eq!(within("a goodbye", telling.recv()).await, Some(Some(1001)));
    }
    assert!(token::now() >= token_end(&token));
    other.echo("still here").await;
    assert!(!gateway.log().contains("outcome=cut"));
    drop(other);
    ended(&gateway, "token_expired", 3).await;
}

fn token_end(token: &str) -> u64 {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    serde_json::from_slice::<Value>(&claims).unwrap()["exp"].as_u64().unwrap()
}

#[tokio::test]
async fn a_revocation_ends_the_tunnels_of_its_token_and_no_others() {
    let (origin, _telling) = noting().await;
    let routes = "[revocation]\njournal = \"revoked.journal\"\n".to_owned()
        + &route("on", "{ issuer = \"site\" }", "end_with_token = false");
    let gateway = Setup::before(&origin).tables(&routes).start().await;
    let bad = token::with(&json!({ "jti": "bad" }));
    let (mut quiet, mut busy) =
        (ws::open(&gateway, "/private/", &bearer(&bad)).await, ws::open(&gateway, "/on/", &bearer(&bad)).await);
    let mut good = ws::open(&gateway, "/private/", &bearer(&token::with(&json!({ "jti": "good" })))).await;
    for socket in [&mut quiet, &mut busy, &mut good] {
        assert_eq!(socket.hear().await, "open");
    }
    let body = json!({ "jti": "bad" }).to_string();
    let head = "POST /revocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    assert_eq!(Client::plain(gateway.admin).await.ask(request).await.status(), 201);
    busy.say("hello").await; // it is noticed at the next message
    loop {
        match busy.frame().await {
            Some((TEXT, _)) => {}
            Some((CLOSE, payload)) => break assert_eq!(payload, 1008u16.to_be_bytes()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(quiet.goodbye().await, 1008, "and within seconds without one");
    good.echo("still here").await;
    gateway.until_metric("portcullis_tunnels_ended_total", &["cause=\"token_revoked\""], 2).await;
}

#[tokio::test]
async fn a_drain_says_goodbye_between_two_frames_and_does_not_wait_for_tunnels() {
    let (origin, mut telling) = noting().await;
    let mut gateway = Setup::before(&origin).start().await;
    let mut sender = ws::http2(&gateway).await;
    let mut sockets = ws::open_each(&gateway, &mut sender).await;
    for socket in &mut sockets {
        assert_eq!(socket.hear().await, "open");
    }
    let mut late = Client::plain(gateway.http).await;
    late.send("GET /").await; // begun before, so that the connection is not idle
    let begun = Instant::now();
    gateway.signal("TERM");
    for socket in &mut sockets {
        assert_eq!(socket.goodbye().await, 1012);
        assert!(socket.ends().await);
        assert_eq!(within("a goodbye", telling.recv()).await, Some(Some(1001)));
    }
    let refused = late.ask(&ask("/", "")["GET /".len()..]).await;
    assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("10")));
    drop((late, sender));
    assert!(gateway.exit().await.success());
    assert!(begun.elapsed() < Duration::from_secs(15), "the grace is 30 seconds");
    assert_eq!(gateway.log().matches("outcome=drain ").count(), 3);
}

#[tokio::test]
async fn a_tunnel_in_which_nothing_moves_ends() {
    let (origin, mut telling) = noting().await;
    let gateway = Setup::before(&origin).tables(&route("brief", "\"public\"", "tunnel_idle_secs = 1")).start().await;
    let mut socket = ws::open(&gateway, "/brief/", "").await;
    assert_eq!(socket.hear().await, "open");
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        socket.echo("moves").await;
    }
    assert_eq!(socket.goodbye().await, 1001);
    assert_eq!(within("a goodbye", telling.recv()).await, Some(Some(1001)));
    assert!(socket.ends().await);
    ended(&gateway, "idle", 1).await;
}

#[tokio::test]
async fn what_is_no_websocket_ends_the_tunnel_and_reaches_nobody() {
    let (origin, mut telling) = noting().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = ws::http2(&gateway).await;
    for bad in
        [&b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"[..], &ws::frame(false, TEXT, b"smuggled"), b"\x83\x80smuggled"]
    {
        for mut socket in [ws::open(&gateway, "/", "").await, ws::open_http2(&mut sender, "/", &[]).await] {
            assert_eq!(socket.hear().await, "open");
            socket.raw(&[&ws::frame(true, TEXT, b"good"), bad].concat()).await;
            assert_eq!(socket.goodbye_after_texts().await, 1002);
            assert_eq!(within("a goodbye", telling.recv()).await, Some(Some(1001)));
        }
    }
    assert!(!origin.bytes().windows(8).any(|bytes| bytes == b"smuggled"));
    ended(&gateway, "client_protocol", 6).await;

    let origin = Origin::start(|conn| async move {
        let Some(mut socket) = conn.switch("").await else { return };
        socket.raw(&ws::frame(true, TEXT, b"masked")).await;
        while socket.frame().await.is_some() {}
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    assert_eq!(ws::open(&gateway, "/", "").await.goodbye().await, 1011);
    ended(&gateway, "upstream_protocol", 1).await;
}

impl Socket {
    /// The code of the close frame behind whatever is said before it.
    async fn goodbye_after_texts(&mut self) -> u16 {
        loop {
            match self.frame().await {
                Some((CLOSE, payload)) => return u16::from_be_bytes([payload[0], payload[1]]),
                Some((TEXT, _)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn when_the_client_vanishes_the_upstream_is_let_go_within_a_second() {
    let (origin, mut telling) = noting().await;
    let gateway = Setup::before(&origin).start().await;
    let stream = TcpStream::connect(gateway.http).await.unwrap();
    let reset = TcpStream::connect(gateway.http).await.unwrap();
    #[allow(deprecated)] // a linger of zero does not block: it resets
    reset.set_linger(Some(Duration::ZERO)).unwrap();
    let mut sender = ws::http2(&gateway).await;
    let sockets = [
        ws::open_over(stream, "/", "").await,
        ws::open_over(reset, "/", "").await,
        ws::open_tls(&gateway, "/", "").await,
        ws::open_http2(&mut sender, "/", &[]).await,
    ];
    for mut socket in sockets {
        assert_eq!(socket.hear().await, "open");
        drop(socket);
        let gone = tokio::time::timeout(Duration::from_secs(1), telling.recv()).await;
        assert_eq!(gone, Ok(Some(None)), "it sees an end without a goodbye");
    }
    ended(&gateway, "client_gone", 4).await;
}

#[tokio::test]
async fn when_the_upstream_vanishes_the_client_sees_an_end_without_a_goodbye() {
    let origin = Origin::start(|conn| async move {
        let Some(mut socket) = conn.switch("").await else { return };
        socket.hear().await;
        socket.say("last words").await;
    })
    .await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = ws::http2(&gateway).await;
    for mut socket in ws::open_each(&gateway, &mut sender).await {
        socket.say("hello").await;
        assert_eq!(socket.hear().await, "last words");
        assert!(socket.ends().await);
    }
    ended(&gateway, "upstream_gone", 3).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_holds_the_upstream_back_and_is_cut() {
    let origin = Origin::start(|conn| async move {
        let Some(mut socket) = conn.switch("").await else { return };
        while socket.send(0x82, &vec![0; 60_000]).await {}
    })
    .await;
    let gateway = Setup::before(&origin).limits("write_timeout_secs = 1").start().await;
    let mut sender = ws::http2(&gateway).await;
    let sockets = [ws::open(&gateway, "/", "").await, ws::open_http2(&mut sender, "/", &[]).await];
    gateway.until_metric("portcullis_tunnels_ended_total", &["cause=\"client_stalled\""], 2).await;
    ended(&gateway, "client_stalled", 2).await;
    drop(sockets);
}

#[tokio::test]
async fn a_tunnel_leaves_one_line_when_it_ends_and_its_own_figures() {
    let origin = echo().await;
    let gateway = Setup::before(&origin).start().await;
    let mut sender = ws::http2(&gateway).await;
    let (mut one, mut two) = (ws::open(&gateway, "/one", "").await, ws::open_http2(&mut sender, "/two", &[]).await);
    gateway.until_metric("portcullis_tunnels_open", &["route=\"public\""], 2).await;
    for socket in [&mut one, &mut two] {
        socket.echo("12345").await;
    }
    gateway.until_metric("portcullis_tunnel_bytes_total", &["direction=\"in\""], 2 * 11).await;
    gateway.until_metric("portcullis_tunnel_bytes_total", &["direction=\"out\""], 2 * 7).await;
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_requests_in_flight", &["route=\"public\""]), 0, "a tunnel is no request");
    assert!(!gateway.log().contains("site.test/one"), "its line comes at its end");
    tokio::time::sleep(Duration::from_millis(300)).await; // so that it can be told from the time its request took
    for socket in [&mut one, &mut two] {
        socket.send(CLOSE, &1000u16.to_be_bytes()).await;
        assert_eq!(socket.goodbye().await, 1000);
    }
    for (marker, status, method) in [("site.test/one", "101", "GET"), ("site.test/two", "200", "CONNECT")] {
        let line = gateway.access_line(marker).await;
        assert!(line.contains(&format!(" {status} {method} ")), "{line}");
        assert!(line.contains(" in=19 out=11 ") && !line.contains("outcome="), "{line}");
        let took = line.split(' ').find_map(|word| word.strip_suffix("ms")).unwrap().parse::<f64>().unwrap();
        assert!(took >= 300.0, "{line}");
    }
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_requests_total", &["status=\"101\"", "method=\"GET\""]), 1);
    assert_eq!(scrape.count("portcullis_requests_total", &["status=\"200\"", "method=\"CONNECT\""]), 1);
    assert_eq!(scrape.count("portcullis_response_body_bytes_total", &["route=\"public\""]), 0);
    assert_eq!(scrape.count("portcullis_request_duration_seconds_count", &["route=\"public\""]), 0);
}

#[tokio::test]
async fn a_stream_of_events_ends_cleanly_with_its_token() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
            conn.send(format!("{head}9\r\ndata: 1\n\n\r\n")).await;
            conn.until_closed().await;
        }
    })
    .await;
    let routes = route("on", "{ issuer = \"site\" }", "end_with_token = false");
    let gateway = Setup::before(&origin).tables(&routes).start().await;
    let token = token::with(&json!({ "exp": token::now() + 2 }));
    let (mut client, mut other) = (Client::plain(gateway.http).await, Client::plain(gateway.http).await);
    other.send(format!("GET /on/ HTTP/1.1\r\nHost: a\r\n{}\r\n", bearer(&token))).await;
    let answer = client.get_with("/private/events", &bearer(&token)).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "data: 1\n\n"), "its end is no cut");
    assert!(token::now() >= token_end(&token));
    assert_eq!(client.get_with("/private/events", &bearer(&token)).await.status(), 401, "the connection goes on");
    assert!(gateway.access_line("/private/events").await.contains("outcome=token_expired"));
    eventually("the upstream let go", || async { (origin.open() == 1).then_some(()) }).await;

    let token = token::with(&json!({ "exp": token::now() + 2 }));
    let authorization = format!("Bearer {token}");
    let mut sender = h2::connect(&gateway).await;
    let request = h2::request("GET", "/private/events", &[("authorization", &authorization)]);
    assert_eq!(h2::ask(&mut sender, request).await, (http::StatusCode::OK, "data: 1\n\n".to_owned()));
    assert_eq!(origin.open(), 1, "the other goes on");
}

#[tokio::test]
async fn five_hundred_idle_tunnels_cost_little_and_are_all_let_go() {
    let origin = echo().await;
    let gateway = Setup::before(&origin).start().await;
    let warm = ws::open(&gateway, "/", "").await;
    let before = gateway.resident_bytes();
    let mut sockets = Vec::new();
    for _ in 0..500 {
        let mut socket = ws::open(&gateway, "/", "").await;
        socket.echo("hello").await;
        sockets.push(socket);
    }
    gateway.until_metric("portcullis_tunnels_open", &[], 501).await;
    #[allow(clippy::print_stdout)] // a figure to read; it depends on the build and the allocator
    {
        println!("an idle tunnel: {} bytes resident", gateway.resident_bytes().saturating_sub(before) / 500);
    }
    assert_eq!(Client::plain(gateway.http).await.ask(get("/a//b")).await.status(), 400);
    let (refused, _) = answer(&gateway, &ask("/private/", "")).await;
    assert_eq!(refused.status(), 401);
    drop((sockets, warm));
    ended(&gateway, "client_gone", 501).await;
}
