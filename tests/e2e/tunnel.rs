//! Tunnels while they last: who gets one, what passes, and how many there may be.

use std::time::Duration;

use http::StatusCode;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::{HELLO, Origin};
use crate::support::token::{self, bearer};
use crate::support::websocket::{self as ws, ACCEPT, KEY, TEXT, answer, ask, connect, echo, over_http2};
use crate::support::{eventually, h2, tls, within};

async fn gateway(origin: &Origin) -> Gateway {
    Setup::before(origin).start().await
}

#[tokio::test]
async fn without_a_token_a_tunnel_is_refused_before_the_upstream_hears_of_it() {
    let origin = echo().await;
    let gateway = gateway(&origin).await;
    let expired = bearer(&token::with(&serde_json::json!({ "exp": token::now() - 10 })));
    for fields in ["", &expired] {
        let (answer, _) = answer(&gateway, &ask("/private/live", fields)).await;
        assert_eq!(answer.status(), 401);
    }
    let mut sender = ws::http2(&gateway).await;
    assert_eq!(over_http2(&mut sender, connect("websocket", "/private/live", &[])).await.status(), 401);
    assert_eq!(origin.accepted(), 0);
    let mut socket = ws::open(&gateway, "/private/live?x=1", &bearer(&token::good())).await;
    socket.echo("hello").await;
    let seen = origin.only();
    assert_eq!(seen.start, "GET /private/live?x=1 HTTP/1.1");
    for (name, value) in [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", KEY),
        ("x-user-id", "alice"),
        ("x-forwarded-for", "127.0.0.1"),
    ] {
        assert_eq!(seen.field(name), Some(value), "{name}");
    }
    assert_eq!(seen.field("content-length").or(seen.field("transfer-encoding")), None);
}

#[tokio::test]
async fn messages_of_any_length_pass_both_ways_over_every_protocol() {
    let origin = echo().await;
    let gateway = gateway(&origin).await;
    let mut sender = ws::http2(&gateway).await;
    let sockets = [
        ws::open(&gateway, "/a", "").await,
        ws::open_tls(&gateway, "/b", "").await,
        ws::open_http2(&mut sender, "/c", &[]).await,
        ws::open_http2(&mut sender, "/d", &[]).await,
    ];
    for mut socket in sockets {
        for length in [0, 1, 125, 126, 65535, 65536, 1 << 20] {
            let payload = vec![b'x'; length];
            assert!(socket.send(0xc2, &payload).await);
            let echoed = socket.frame().await.is_some_and(|(first, back)| first == 0xc2 && back == payload);
            assert!(echoed, "{length}");
        }
        socket.send(ws::PING, b"are you there").await;
        assert_eq!(
            socket.frame().await,
            Some((ws::PING, b"are you there".to_vec())),
            "control frames are the endpoints'"
        );
        socket.send(ws::CLOSE, &1000u16.to_be_bytes()).await;
        assert_eq!(socket.frame().await, Some((ws::CLOSE, 1000u16.to_be_bytes().to_vec())));
        assert!(socket.ends().await);
    }
    gateway.until_metric("portcullis_tunnels_open", &[], 0).await;
    gateway.until_metric("portcullis_tunnels_ended_total", &["cause=\"closed\""], 4).await;
}

#[tokio::test]
async fn over_http_2_the_upstream_gets_an_upgrade_with_a_key_of_the_gateways_own() {
    let origin = Origin::start(|conn| async move {
        let Some(mut socket) = conn.switch("Sec-WebSocket-Extensions: permessage-deflate\r\n").await else { return };
        socket.say("first").await;
        while socket.frame().await.is_some() {}
    })
    .await;
    let gateway = gateway(&origin).await;
    let mut sender = ws::http2(&gateway).await;
    let authorization = format!("Bearer {}", token::good());
    let fields = [
        ("authorization", &*authorization),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "https://a.test"),
    ];
    let mut keys = Vec::new();
    for path in ["/private/one", "/private/two"] {
        let mut socket = ws::open_http2(&mut sender, path, &fields).await;
        assert_eq!(socket.hear().await, "first");
        let seen = origin.last();
        assert_eq!(seen.start, format!("GET {path} HTTP/1.1"));
        for (name, value) in [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("host", "site.test"),
            ("origin", "https://a.test"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("x-user-id", "alice"),
            ("x-forwarded-proto", "https"),
        ] {
            assert_eq!(seen.field(name), Some(value), "{name}");
        }
        keys.push(seen.field("sec-websocket-key").unwrap().to_owned());
    }
    assert!(keys[0].len() == 24 && keys[0] != keys[1], "{keys:?}");
    // The connection goes on to serve requests.
    let plain = http::Request::get("https://site.test/a//b").body(http_body_util::Empty::new()).unwrap();
    assert_eq!(over_http2(&mut sender, plain).await.status(), 400);
}

#[tokio::test]
async fn a_connect_that_is_for_no_websocket_is_refused() {
    let origin = echo().await;
    let gateway = gateway(&origin).await;
    let mut sender = ws::http2(&gateway).await;
    assert_eq!(over_http2(&mut sender, connect("connect-udp", "/", &[])).await.status(), StatusCode::NOT_IMPLEMENTED);
    let plain = http::Request::builder().method("CONNECT").uri("site.test:443");
    let answer = over_http2(&mut sender, plain.body(http_body_util::Empty::new()).unwrap()).await;
    assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.ask("CONNECT site.test:443 HTTP/1.1\r\nHost: site.test:443\r\n\r\n").await.status(), 405);
    assert_eq!(origin.accepted(), 0);
}

#[tokio::test]
async fn a_route_that_forwards_nothing_opens_nothing_whatever_it_would_answer_a_get() {
    let origin = echo().await;
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("page.html"), "a page").unwrap();
    let files = "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\nfiles = { root = \".\" }\n";
    let gateway = Setup::before(&origin).tables(files).start_in(home).await;
    let mut sender = ws::http2(&gateway).await;
    let answer = over_http2(&mut sender, connect("websocket", "/files/page.html", &[])).await;
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // An upgrade may be ignored (RFC 9110 section 7.8).
    assert_eq!(ws::answer(&gateway, &ask("/files/page.html", "")).await.0.text(), "a page");
}

#[tokio::test]
async fn a_handshake_that_is_none_is_refused_with_what_is_wrong() {
    let origin = echo().await;
    let gateway = gateway(&origin).await;
    let good = ask("/", "");
    for (change, by, status) in [
        ("GET", "POST", 400),
        ("Connection: Upgrade", "Connection: keep-alive", 400),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8", 426),
        (KEY, "c2hvcnQ=", 400),
        (KEY, "not base64 at all!!!!!!!", 400),
        ("Upgrade: websocket", "Upgrade: websocket\r\nContent-Length: 3", 400),
        ("Upgrade: websocket", "Upgrade: websocket\r\nTransfer-Encoding: chunked", 400),
    ] {
        let request = good.replace(change, by);
        assert_ne!(request, good);
        let (answer, _) = answer(&gateway, &request).await;
        assert_eq!(answer.status(), status, "{request}");
        if status == 426 {
            assert_eq!(answer.field("sec-websocket-version"), Some("13"));
            assert_eq!(answer.field("upgrade"), Some("websocket"));
        }
    }
    assert_eq!(origin.accepted(), 0);
}

#[tokio::test]
async fn other_upgrades_are_dropped_and_the_request_goes_on_as_a_plain_one() {
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let mut client = Client::plain(gateway.http).await;
    for fields in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n",
        "Connection: Upgrade\r\nUpgrade: websocketx\r\n",
    ] {
        assert_eq!(client.get_with("/", fields).await.status(), 200);
        assert!(origin.last().all("upgrade").is_empty() && origin.last().all("connection").is_empty());
    }
    // HTTP/1.0 knows no upgrade at all.
    let old = ask("/", "").replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(Client::plain(gateway.http).await.ask(old).await.status(), 200);
    assert!(origin.last().all("upgrade").is_empty());
}

#[tokio::test]
async fn an_upstream_that_does_not_agree_is_answered_for_as_ever() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            let wrong = ACCEPT.replace('s', "t");
            let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
            let said = match request.target() {
                "/no" => "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno".to_owned(),
                "/yes" => HELLO.to_owned(),
                "/wrong" => format!("HTTP/1.1 101 x\r\n{upgrade}Sec-WebSocket-Accept: {wrong}\r\n\r\n"),
                "/none" => format!("HTTP/1.1 101 x\r\n{upgrade}\r\n"),
                "/h2c" => "HTTP/1.1 101 x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(),
                _ => return,
            };
            conn.send(said).await;
        }
    })
    .await;
    let gateway = gateway(&origin).await;
    let mut client = Client::plain(gateway.http).await;
    for (path, status, body) in [("/no", 403, "no"), ("/yes", 200, "hello")] {
        let answer = client.ask(ask(path, "")).await;
        assert_eq!((answer.status(), answer.text().as_str()), (status, body), "{path}");
    }
    for path in ["/wrong", "/none", "/h2c", "/gone"] {
        assert_eq!(client.ask(ask(path, "")).await.status(), 502, "{path}");
    }
    let mut sender = ws::http2(&gateway).await;
    for (path, status) in [("/no", 403), ("/yes", 502), ("/wrong", 502)] {
        let answer = over_http2(&mut sender, connect("websocket", path, &[])).await;
        assert_eq!(answer.status(), status, "{path}: a success would open a tunnel");
    }
    gateway.until_metric("portcullis_upstream_connections_open", &[], 0).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
}

#[tokio::test]
async fn what_the_upstream_sends_with_its_101_is_not_lost() {
    let origin = Origin::start(|mut conn| async move {
        let Some(request) = conn.head().await else { return };
        let welcome = ws::frame(false, TEXT, b"welcome");
        conn.send([ws::agree(&request, "").as_bytes(), &welcome].concat()).await;
        conn.until_closed().await;
    })
    .await;
    let gateway = gateway(&origin).await;
    assert_eq!(ws::open(&gateway, "/", "").await.hear().await, "welcome");
}

#[tokio::test]
async fn a_client_that_does_not_wait_for_the_101_gets_no_tunnel() {
    let origin = Origin::start(|mut conn| async move {
        let Some(request) = conn.head().await else { return };
        tokio::time::sleep(Duration::from_millis(300)).await; // the race is about time
        conn.send(ws::agree(&request, "")).await;
        conn.until_closed().await;
    })
    .await;
    let gateway = gateway(&origin).await;
    let early = ws::frame(true, TEXT, b"early");
    let (answer, _) = answer(&gateway, &format!("{}\u{1}", ask("/", ""))).await;
    assert_eq!(answer.status(), 400, "it came with the request");
    assert_eq!(origin.accepted(), 0);

    let mut client = Client::plain(gateway.http).await;
    client.send(ask("/", "")).await;
    eventually("a request", || async { origin.requests().first().cloned() }).await;
    client.send(&early).await;
    assert_eq!(client.answer().await.status(), 101);
    let mut socket = ws::Socket::client(client.wire);
    assert_eq!(socket.goodbye().await, 1002);
    assert!(socket.ends().await);
    gateway.until_metric("portcullis_tunnels_ended_total", &["cause=\"client_protocol\""], 1).await;
    let seen = origin.bytes();
    assert!(!seen.windows(early.len()).any(|bytes| bytes == early), "nothing of it was passed on");
}

#[tokio::test]
async fn a_token_among_the_protocols_opens_a_tunnel_and_is_answered_as_the_rfc_demands() {
    let origin = Origin::start(|mut conn| async move {
        let Some(request) = conn.head().await else { return };
        let chosen = if request.target().ends_with("chat") { "Sec-WebSocket-Protocol: chat\r\n" } else { "" };
        conn.send(ws::agree(&request, chosen)).await;
        conn.until_closed().await;
    })
    .await;
    let auth = "{ issuer = \"site\", token = { websocket_protocol = true } }";
    let routes = route("kept", auth, "") + &route("bare", auth, "forward_token = false");
    let gateway = Setup::before(&origin).tables(&routes).start().await;
    let good = token::good();
    for (path, offered, selected, forwarded) in [
        ("/kept/chat", format!("bearer, {good}, chat"), "chat", Some("chat")),
        ("/kept/x", format!("chat, bearer, {good}"), "bearer", Some("chat")),
        ("/bare/x", format!("bearer, {good}"), "bearer", None),
    ] {
        let (answer, _client) = answer(&gateway, &ask(path, &format!("Sec-WebSocket-Protocol: {offered}\r\n"))).await;
        assert_eq!((answer.status(), answer.field("sec-websocket-protocol")), (101, Some(selected)), "{path}");
        let seen = origin.last();
        assert_eq!(seen.field("sec-websocket-protocol"), forwarded, "{path}");
        assert_eq!(seen.field("authorization").is_some(), path.starts_with("/kept"), "{path}");
    }
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("bearer"));
    let (answer, _) = answer(&gateway, &ask("/kept/x", "Sec-WebSocket-Protocol: bearer, a.b.c\r\n")).await;
    assert_eq!(answer.status(), 401);
}

#[tokio::test]
async fn another_site_gets_no_tunnel_by_a_cookie_whatever_the_protocol() {
    let origin = echo().await;
    let routes = route("cookie", "{ issuer = \"site\", token = { cookie = \"jwt\" } }", "");
    let gateway = Setup::before(&origin).tables(&routes).start().await;
    let cookie = format!("jwt={}", token::good());
    let mut sender = ws::http2(&gateway).await;
    for (origin, status) in [("https://evil.test", 403), ("https://site.test", 200)] {
        let request = connect("websocket", "/cookie/", &[("cookie", &cookie), ("origin", origin)]);
        assert_eq!(over_http2(&mut sender, request).await.status(), status, "{origin}");
    }
    let fields = format!("Cookie: {cookie}\r\nOrigin: https://evil.test\r\n");
    assert_eq!(answer(&gateway, &ask("/cookie/", &fields)).await.0.status(), 403);
}

#[tokio::test]
async fn a_route_has_no_more_tunnels_than_it_may_and_zero_means_none() {
    let origin = echo().await;
    let routes = route("two", "\"public\"", "max_tunnels = 2") + &route("none", "\"public\"", "max_tunnels = 0");
    let gateway = Setup::before(&origin).server("workers = 2").tables(&routes).start().await;
    let (refused, _) = answer(&gateway, &ask("/none/", "")).await;
    assert_eq!((refused.status(), origin.accepted()), (403, 0));
    let (mut one, two) = (ws::open(&gateway, "/two/", "").await, ws::open(&gateway, "/two/", "").await);
    for _ in 0..8 {
        let (refused, mut client) = answer(&gateway, &ask("/two/", "")).await;
        assert_eq!((refused.status(), refused.field("retry-after")), (503, Some("10")));
        let (declined, _) = answer(&gateway, &ask("/private/", "")).await;
        assert_eq!(declined.status(), 401, "other routes have places of their own");
        assert_eq!(client.get("/a//b").await.status(), 400, "the connection goes on");
    }
    // A reload keeps the count, and what is open.
    gateway.edit(|text| text.replace("max_tunnels = 2", "max_tunnels = 1"));
    gateway.until_generation(2).await;
    one.echo("still here").await;
    drop(two);
    gateway.until_metric("portcullis_tunnels_open", &["route=\"two\""], 1).await;
    assert_eq!(answer(&gateway, &ask("/two/", "")).await.0.status(), 503);
    drop(one);
    gateway.until_metric("portcullis_tunnels_open", &["route=\"two\""], 0).await;
    ws::open(&gateway, "/two/", "").await.echo("room again").await;
}

#[tokio::test]
async fn a_tunnel_that_is_declined_takes_no_place() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(&route("one", "\"public\"", "max_tunnels = 1")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..3 {
        assert_eq!(client.ask(ask("/one/", "")).await.status(), 200);
    }
    assert_eq!(client.ask(get("/")).await.status(), 200);
}

#[tokio::test]
async fn a_tunnel_outlives_the_idle_and_write_timers_of_its_connection() {
    let origin = echo().await;
    let gateway = Setup::before(&origin)
        .limits("idle_timeout_secs = 1\nwrite_timeout_secs = 1\nheader_timeout_secs = 1")
        .start()
        .await;
    let mut sender = ws::http2(&gateway).await;
    let mut sockets = ws::open_each(&gateway, &mut sender).await;
    for socket in &mut sockets {
        socket.echo("before").await;
    }
    tokio::time::sleep(Duration::from_millis(3500)).await; // longer than all of the timers together
    for socket in &mut sockets {
        socket.echo("after").await;
    }
    assert_eq!(origin.accepted(), 3);
}

#[tokio::test]
async fn a_tunnel_reaches_an_endpoint_behind_tls_and_one_that_died_is_passed_over() {
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let origin = echo().await;
    let gateway = Setup::endpoints([format!("http://{dead}"), origin.endpoint()]).start().await;
    for _ in 0..4 {
        ws::open(&gateway, "/", "").await.echo("found").await;
    }
    let front = gateway;
    let home = tempfile::tempdir().unwrap();
    let tls = front.config().with_file_name("site.crt");
    std::fs::copy(tls, home.path().join("front.crt")).unwrap();
    let keys = "tls = { ca_file = \"front.crt\", server_name = \"site.test\" }";
    let endpoint = format!("https://{}", front.https);
    let gateway = Setup::endpoints([endpoint]).upstream(keys).start_in(home).await;
    ws::open(&gateway, "/", "").await.echo("through both").await;
}

#[tokio::test]
async fn a_plain_http2_client_sees_that_tunnels_are_offered() {
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let stream = tls::connect(gateway.https, &gateway.roots(), &[b"h2"]).await.unwrap();
    let mut client = Client::over(stream);
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    within("settings", client.wire.fill()).await.unwrap();
    let settings = client.wire.rest();
    // SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441 section 3) is 8.
    assert!(settings[9..].chunks(6).any(|setting| setting == [0, 8, 0, 0, 0, 1]), "{settings:?}");
    assert_eq!(h2::ask(&mut h2::connect(&gateway).await, h2::get("/")).await.0, StatusCode::OK);
}
