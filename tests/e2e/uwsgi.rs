//! Endpoints that speak uwsgi: what they are told, what no client can tell them, and bodies whose length must be known first.

use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body::Frame;

use crate::support::client::{Client, post};
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::uwsgi::{Call, UwsgiOrigin, before};
use crate::support::wire::{Message, Wire};
use crate::support::{eventually, h2, token, within};

/// Long enough that nothing here waits for it, short enough that a test which does fails.
const SOON: Duration = Duration::from_secs(5);

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// The same body in chunks of `size` bytes, with a head that says no length.
fn chunked(path: &str, body: &[u8], size: usize) -> Vec<u8> {
    let mut request = chunked_head(path).into_bytes();
    for chunk in body.chunks(size) {
        request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        request.extend([chunk, b"\r\n"].concat());
    }
    request.extend(b"0\r\n\r\n");
    request
}

fn chunked_head(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n")
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

/// Keys of an upstream that spools into `directory`.
fn spooling(directory: &Path, more: &str) -> String {
    format!("spool_dir = {:?}\n{more}", directory.display().to_string())
}

async fn until_nothing_is_spooled(gateway: &Gateway) {
    gateway.until_metric("portcullis_spool_bytes", &["upstream=\"app\""], 0).await;
}

#[tokio::test]
async fn a_request_arrives_as_variables_of_cgi_and_each_on_a_connection_of_its_own() {
    let origin = UwsgiOrigin::start().await;
    let gateway = origin.setup().start().await;
    let mut client = Client::tls(&gateway).await;
    let fields = format!("{}Cookie: a=1\r\nX-Tag: one\r\nX-Tag: two\r\n", token::bearer(&token::good()));
    let answer = client.get_with("/private/caf%C3%A9/x%20y?q=%2F", &fields).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "0 bytes"));
    let call = origin.last();
    let port = gateway.https.port().to_string();
    for (name, expected) in [
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/private/caf%C3%A9/x%20y?q=%2F"),
        ("PATH_INFO", "/private/café/x y"),
        ("QUERY_STRING", "q=%2F"),
        ("SCRIPT_NAME", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "site.test"),
        ("SERVER_PORT", "443"),
        ("REQUEST_SCHEME", "https"),
        ("HTTPS", "on"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("REMOTE_USER", "alice"),
        ("CONTENT_TYPE", ""),
        ("CONTENT_LENGTH", ""),
        ("HTTP_HOST", "site.test"),
        ("HTTP_COOKIE", "a=1"),
        ("HTTP_X_TAG", "one, two"),
        ("HTTP_X_USER_ID", "alice"),
        ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
        ("HTTP_X_FORWARDED_PROTO", "https"),
        ("HTTP_X_FORWARDED_HOST", "site.test"),
    ] {
        assert_eq!(call.text(name), Some(expected), "{name}");
    }
    assert!(call.text("REMOTE_PORT").is_some_and(|number| number != port && number.parse::<u16>().unwrap() > 0));
    assert!(call.text("HTTP_AUTHORIZATION").is_some_and(|value| value.starts_with("Bearer ")));

    let answer =
        client.ask("POST / HTTP/1.1\r\nHost: a:81\r\nContent-Type: a/b\r\nContent-Length: 4\r\n\r\nbody").await;
    assert_eq!(answer.text(), "4 bytes");
    let call = origin.last();
    assert_eq!(
        (call.text("CONTENT_TYPE"), call.text("CONTENT_LENGTH"), &call.body[..]),
        (Some("a/b"), Some("4"), &b"body"[..])
    );
    assert_eq!(
        (call.text("SERVER_NAME"), call.text("SERVER_PORT"), call.text("REMOTE_USER")),
        (Some("a"), Some("81"), None)
    );
    client.by("POST", "/", "").await;
    assert_eq!(origin.last().text("CONTENT_LENGTH"), Some("0"));
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    assert_eq!((origin.last().text("HTTPS"), origin.last().text("SERVER_PORT")), (None, Some("80")));
    assert_eq!(origin.origin.accepted(), 4, "one connection a request");
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
    gateway.until_metric("portcullis_upstream_connections_open", &[], 0).await;
}

#[tokio::test]
async fn no_client_can_say_what_a_variable_says() {
    let origin = UwsgiOrigin::start().await;
    let gateway = origin.setup().start().await;
    let spoofed = "Script-Name: /x\r\nSCRIPT_NAME: /x\r\nPath-Info: /admin\r\nPATH_INFO: /admin\r\nProxy: http://evil\r\n\
                   HTTP_PROXY: http://evil\r\nX_User_Id: root\r\nX-User_Id: root\r\nX-User-Id: root\r\nRemote-User: root\r\n\
                   REMOTE_USER: root\r\nRemote-Addr: 6.6.6.6\r\nREMOTE_ADDR: 6.6.6.6\r\nUWSGI_FILE: /etc/passwd\r\n\
                   UWSGI_SCRIPT: evil\r\nHTTPS_: on\r\nConnection: x-forwarded-proto\r\n";
    for path in ["/public", "/private/x"] {
        let fields = format!("{spoofed}{}", token::bearer(&token::good()));
        assert_eq!(Client::plain(gateway.http).await.get_with(path, &fields).await.status(), 200);
        let call = origin.last();
        assert_eq!((call.text("SCRIPT_NAME"), call.text("PATH_INFO")), (Some(""), Some(path)));
        assert_eq!(call.text("REMOTE_ADDR"), Some("127.0.0.1"));
        assert_eq!(call.text("HTTP_X_FORWARDED_PROTO"), Some("http"));
        let user = (path == "/private/x").then_some("alice");
        assert_eq!((call.text("REMOTE_USER"), call.text("HTTP_X_USER_ID")), (user, user));
        for (name, value) in &call.variables {
            let value = String::from_utf8_lossy(value);
            assert!(!name.contains("PROXY") && !name.starts_with("UWSGI") && name != "HTTPS", "{name}");
            assert!(
                !["root", "evil", "6.6.6.6", "/etc", "/admin"].iter().any(|lie| value.contains(lie)),
                "{name}: {value}"
            );
        }
    }
}

#[tokio::test]
async fn a_user_is_named_only_where_the_name_can_mean_nobody_else() {
    let origin = UwsgiOrigin::start().await;
    let issuer = |name: &str| {
        format!("issuer = \"{name}\"\nsecret = {{ file = \"issuer.secret\" }}\naudiences = [\"{}\"]\n", token::AUDIENCE)
    };
    let other = format!("[issuer.other]\n{}", issuer("other"));
    let both = route("both", "{ issuers = [\"site\", \"other\"] }", "");
    let welcome = route("welcome", "{ issuer = \"site\", optional = true }", "");
    let gateway = origin.setup().issuer(&issuer("site")).tables(&[other, both, welcome].concat()).start().await;
    let mut client = Client::plain(gateway.http).await;
    let bearer = token::bearer(&token::with(&serde_json::json!({ "iss": "site" })));
    for (path, fields, user) in [
        ("/both/", &*bearer, None),
        ("/welcome/", &bearer, Some("alice")),
        ("/welcome/", "", None),
        ("/", &bearer, None),
    ] {
        assert_eq!(client.get_with(path, fields).await.status(), 200, "{path}");
        assert_eq!(origin.last().text("REMOTE_USER"), user, "{path}");
    }
}

#[tokio::test]
async fn a_body_of_known_length_streams_if_it_is_not_buffered() {
    let (seen, mut first) = tokio::sync::mpsc::channel(1);
    let origin = Origin::start(move |mut conn| {
        let seen = seen.clone();
        async move {
            let Some(mut call) = Call::read(&mut conn).await else { return };
            seen.send(call.length()).await.unwrap();
            call.read_body(&mut conn).await.unwrap();
            let came = if call.body == body(1_000_000) { "all" } else { "other" };
            conn.send(format!("HTTP/1.1 200 OK\r\n\r\n{came}")).await;
        }
    })
    .await;
    let gateway = before(&origin).upstream("buffer_requests = false").start().await;
    let mut client = Client::plain(gateway.http).await;
    let body = body(1_000_000);
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
    client.send(&body[..100_000]).await;
    assert_eq!(within("the packet", first.recv()).await, Some(1_000_000));
    client.send(&body[100_000..]).await;
    assert_eq!(client.answer().await.text(), "all", "an answer ends with its connection");
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_spooled_requests_total", &["upstream=\"app\""]), 0);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_spooled_and_its_length_told() {
    let origin = UwsgiOrigin::start().await;
    let home = tempfile::tempdir().unwrap();
    let keys = spooling(home.path(), "spool_memory_bytes = 1000");
    let gateway = origin.setup().upstream(&keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (length, size) in [(0, 1), (1, 1), (999, 7), (1000, 1000), (1001, 1), (300_000, 1000), (8_000_000, 100_000)] {
        let answer = client.ask(chunked("/up", &body(length), size)).await;
        assert_eq!((answer.status(), answer.text()), (200, format!("{length} bytes")));
        let call = origin.last();
        assert_eq!(call.text("CONTENT_LENGTH"), Some(length.to_string().as_str()));
        assert!(call.body == body(length), "{length} bytes came as they went");
        assert_eq!(call.text("HTTP_TRANSFER_ENCODING"), None);
        assert!(is_empty(home.path()));
    }
    assert_eq!(gateway.scrape().await.count("portcullis_spooled_requests_total", &["upstream=\"app\""]), 7);
    until_nothing_is_spooled(&gateway).await;
}

/// A body that does not say how long it is.
struct Unsized(Vec<Bytes>);

impl http_body::Body for Unsized {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop().map(|data| Ok(Frame::data(data))))
    }
}

#[tokio::test]
async fn a_body_that_comes_over_http_2_without_a_length_is_spooled_too() {
    let origin = UwsgiOrigin::start().await;
    let gateway = origin.setup().start().await;
    let mut sender = h2::connect::<Unsized>(&gateway).await;
    let pieces = vec![Bytes::from(vec![b'x'; 50_000]); 4];
    let request = Request::post("https://site.test/up").body(Unsized(pieces)).unwrap();
    let answer = within("an answer", sender.send_request(request)).await.unwrap();
    assert_eq!(h2::whole(answer).await.1, "200000 bytes");
    assert_eq!(origin.last().text("CONTENT_LENGTH"), Some("200000"));
    until_nothing_is_spooled(&gateway).await;
}

#[tokio::test]
async fn a_client_that_stops_or_leaves_is_given_up_and_nothing_is_kept() {
    let origin = UwsgiOrigin::start().await;
    let home = tempfile::tempdir().unwrap();
    let keys = spooling(home.path(), "spool_memory_bytes = 0");
    let gateway = origin.setup().limits("body_timeout_secs = 0.5").upstream(&keys).start().await;
    let beginning = chunked("/stops", &body(300_000), 10_000);
    let beginning = &beginning[..beginning.len() - 5];
    let spooled = || async {
        let bytes = gateway.scrape().await.count("portcullis_spool_bytes", &["upstream=\"app\""]);
        (bytes > 0).then_some(bytes)
    };

    let mut stopping = Client::plain(gateway.http).await;
    let begun = Instant::now();
    stopping.send(beginning).await;
    assert_eq!(stopping.answer().await.status(), 408);
    assert!(begun.elapsed() >= Duration::from_millis(450) && begun.elapsed() < SOON, "{:?}", begun.elapsed());
    until_nothing_is_spooled(&gateway).await;

    let mut leaving = Client::plain(gateway.http).await;
    leaving.send(beginning).await;
    eventually("something in the spool", spooled).await;
    assert!(is_empty(home.path()), "a file that nobody can find");
    drop(leaving);
    until_nothing_is_spooled(&gateway).await;
    assert_eq!(origin.origin.accepted(), 0, "an endpoint hears of a request when it is whole");
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
}

#[tokio::test]
async fn bodies_for_which_there_is_no_room_are_503_and_others_pass() {
    let origin = UwsgiOrigin::start().await;
    let keys = "spool_memory_bytes = 1000\nspool_bytes = 200000";
    let gateway = origin.setup().upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(chunked("/large", &body(600_000), 10_000)).await;
    let answer = client.answer().await;
    assert_eq!((answer.status(), answer.field("retry-after")), (503, Some("1")));
    assert!(gateway.access_line("/large").await.contains("spool_full"));
    until_nothing_is_spooled(&gateway).await;

    // One that is being sent takes room from the next, and gives it back.
    let mut slow = Client::plain(gateway.http).await;
    let held = chunked("/slow", &body(150_000), 10_000);
    slow.send(&held[..held.len() - 5]).await;
    gateway.until_metric("portcullis_spool_bytes", &[], 131_072).await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.ask(chunked("/next", &body(100_000), 10_000)).await.status(), 503);
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.ask(chunked("/small", &body(1000), 100)).await.status(), 200);
    slow.send(&held[held.len() - 5..]).await;
    assert_eq!(slow.answer().await.text(), "150000 bytes");
    until_nothing_is_spooled(&gateway).await;
    assert_eq!(client.ask(chunked("/again", &body(100_000), 10_000)).await.status(), 200);
}

#[tokio::test]
async fn a_reload_forgets_nothing_that_is_spooled() {
    let origin = UwsgiOrigin::start().await;
    let gateway = origin.setup().upstream("spool_memory_bytes = 0\nspool_bytes = 200000").start().await;
    let mut slow = Client::plain(gateway.http).await;
    let held = chunked("/slow", &body(150_000), 10_000);
    slow.send(&held[..held.len() - 5]).await;
    gateway.until_metric("portcullis_spool_bytes", &[], 131_072).await;
    gateway.edit(|text| text.replace("spool_bytes = 200000", "spool_bytes = 210000\nread_timeout_secs = 9"));
    gateway.until_generation(2).await;
    gateway.until_metric("portcullis_spool_bytes", &[], 131_072).await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.ask(chunked("/next", &body(100_000), 10_000)).await.status(), 503);
    slow.send(&held[held.len() - 5..]).await;
    assert_eq!(slow.answer().await.text(), "150000 bytes");
    until_nothing_is_spooled(&gateway).await;
    assert_eq!(gateway.scrape().await.count("portcullis_spooled_requests_total", &[]), 2);
}

#[tokio::test]
async fn an_endpoint_that_takes_a_spooled_body_slowly_is_waited_for() {
    let origin = Origin::start(|mut conn| async move {
        let Some(call) = Call::read(&mut conn).await else { return };
        let mut left = call.length();
        while left > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await; // slow on purpose: sixty of these are over the time-out
            let some = left.min(1_000_000);
            left -= conn.wire.exactly(some).await.unwrap().len();
        }
        conn.send("HTTP/1.1 200 OK\r\n\r\nall").await;
    })
    .await;
    let keys = "response_timeout_secs = 2";
    let gateway = before(&origin).limits("body_bytes = 100000000").upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    let answer = client.ask(chunked("/", &vec![b'x'; 60_000_000], 1_000_000)).await;
    assert_eq!((answer.status(), answer.text().as_str()), (200, "all"));
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_while_it_is_spooled() {
    let origin = UwsgiOrigin::start().await;
    let keys = "spool_memory_bytes = 0";
    let gateway = origin.setup().limits("body_bytes = 200000").upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(chunked("/", &body(400_000), 10_000)).await;
    assert_eq!(client.answer().await.status(), 413);
    until_nothing_is_spooled(&gateway).await;
    assert_eq!(origin.origin.accepted(), 0);
}

#[tokio::test]
async fn a_directory_that_has_gone_is_500_and_said() {
    let origin = UwsgiOrigin::start().await;
    let home = tempfile::tempdir().unwrap();
    let keys = spooling(home.path(), "spool_memory_bytes = 10");
    let gateway = origin.setup().upstream(&keys).start().await;
    drop(home);
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.ask(chunked("/lost", &body(100), 10)).await.status(), 500);
    assert!(gateway.log().contains("ERROR") && gateway.access_line("/lost").await.contains("spool_io"));
    assert_eq!(Client::plain(gateway.http).await.ask(chunked("/", &body(10), 10)).await.status(), 200);
}

#[tokio::test]
async fn uwsgis_own_http_gets_lengths_and_no_chunks() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).upstream("kind = \"uwsgi\"").start().await;
    let mut client = Client::plain(gateway.http).await;
    for length in [0, 5, 100_000] {
        assert_eq!(client.ask(chunked("/", &body(length), 1000)).await.status(), 200);
        let seen = origin.last();
        assert_eq!(seen.field("content-length"), Some(length.to_string().as_str()));
        assert!(seen.field("transfer-encoding").is_none() && seen.body == body(length));
    }
    assert_eq!(client.post("/", "known").await.status(), 200);
    assert_eq!(gateway.scrape().await.count("portcullis_spooled_requests_total", &[]), 3);
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_body_reaches_the_client() {
    let origin = Origin::start(|mut conn| async move {
        if Call::read(&mut conn).await.is_some() {
            conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        } // and closes, with what came unread
    })
    .await;
    let gateway = before(&origin).start().await;
    for _ in 0..20 {
        let mut client = Client::plain(gateway.http).await;
        client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n").await;
        client.send(body(1_000_000)).await;
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.text().as_str()), (403, "no"));
    }
}

#[tokio::test]
async fn a_head_that_no_packet_holds_is_431_and_one_that_is_refused_is_explained() {
    let origin = UwsgiOrigin::start().await;
    let picky = Origin::start(|mut conn| async move {
        let head = conn.wire.exactly(4).await.unwrap_or_default();
        if head.len() == 4 && u16::from_le_bytes([head[1], head[2]]) <= 4096 {
            conn.send("HTTP/1.1 200 OK\r\n\r\n").await;
        }
    })
    .await;
    let gateway = origin.setup().limits("header_bytes = 200000").start().await;
    let mut client = Client::plain(gateway.http).await;
    let large = |bytes: usize| format!("X-Large: {}\r\n", "v".repeat(bytes));
    assert_eq!(client.get_with("/", &large(60_000)).await.status(), 200);
    assert_eq!(client.get_with("/", &large(66_000)).await.status(), 431);
    assert_eq!(origin.origin.accepted(), 1);

    let gateway = before(&picky).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get_with("/", &large(3000)).await.status(), 200);
    assert_eq!(client.get_with("/refused", &large(5000)).await.status(), 502);
    assert!(gateway.access_line("/refused").await.contains("upstream_packet_refused"));
    assert!(gateway.log().contains("buffer-size"), "the remedy is told");
}

#[tokio::test]
async fn answers_of_all_kinds_come_as_they_were_framed() {
    let origin = UwsgiOrigin::answering(|call| {
        match call.text("PATH_INFO").unwrap() {
            "/close" => "HTTP/1.1 200 OK\r\n\r\nto the end",
            "/old" => "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
            "/chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "/304" => "HTTP/1.1 304 Not Modified\r\n\r\n",
            "/short" => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nonly this",
            "/garbage" => "what is this",
            _ => "",
        }
        .to_owned()
    })
    .await;
    let gateway = origin.setup().start().await;
    let mut client = Client::plain(gateway.http).await;
    for (path, text) in [("/close", "to the end"), ("/old", "ok"), ("/chunked", "ok")] {
        assert_eq!(client.get(path).await.text(), text, "{path}");
    }
    assert_eq!(client.by("HEAD", "/head", "").await.field("content-length"), Some("1000"));
    assert_eq!(client.get("/304").await.status(), 304);
    for path in ["/garbage", "/nothing"] {
        assert_eq!(client.get(path).await.status(), 502, "{path}");
    }
    client.send("GET /short HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.try_answer().await.is_err(), "never a clean end");
}

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over_with_the_request_whole() {
    let (nobody, origin) = (Port::reserve(), UwsgiOrigin::start().await);
    let endpoints = [format!("uwsgi://{}", nobody.address), format!("uwsgi://{}", origin.origin.address)];
    let gateway = Setup::endpoints(endpoints).upstream("kind = \"uwsgi\"").start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..10 {
        assert_eq!(client.ask(post("/x", "body")).await.text(), "4 bytes");
        assert_eq!(client.ask(chunked("/x", &body(200_000), 9000)).await.text(), "200000 bytes");
        assert_eq!(origin.last().text("HTTP_HOST"), Some("site.test"));
    }
}

#[tokio::test]
async fn a_uwsgi_endpoint_can_be_a_unix_socket() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("app.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut wire = Wire::new(stream, None);
            let head = wire.exactly(4).await.unwrap();
            let packet = wire.exactly(usize::from(u16::from_le_bytes([head[1], head[2]]))).await.unwrap();
            assert!(packet.windows(14).any(|window| window == b"REQUEST_METHOD"));
            wire.send(b"HTTP/1.1 200 OK\r\n\r\nhello").await.unwrap();
        }
    });
    let gateway =
        Setup::endpoints([format!("uwsgi+unix:{}", path.display())]).upstream("kind = \"uwsgi\"").start().await;
    let mut client = Client::plain(gateway.http).await;
    let answers: [Message; 3] = [client.get("/").await, client.get("/").await, client.get("/").await];
    assert!(answers.iter().all(|answer| answer.text() == "hello"));
}
