//! Relays: who announces a client by a PROXY header is believed if the configuration names it, and nobody else is.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use portcullis::proxy_protocol::{Version, write};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::{eventually, h2, tls, within};

/// The tests' own connections come from a relay.
const RELAYS: &str = "proxy_protocol = [\"127.0.0.0/8\"]";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn announcing(source: &str) -> [Vec<u8>; 2] {
    let (source, destination) = (source.parse().unwrap(), "198.51.100.1:443".parse().unwrap());
    [Version::V1, Version::V2].map(|version| write(version, source, destination))
}

async fn behind_relays(origin: &Origin) -> Gateway {
    Setup::before(origin).http(RELAYS).https(RELAYS).start().await
}

/// A relay: what a client of it sends first leaves together with the header, in one piece.
async fn relay(address: SocketAddr, header: Vec<u8>) -> DuplexStream {
    let mut outside = within("connecting", TcpStream::connect(address)).await.unwrap();
    let (client, mut inside) = tokio::io::duplex(64 * 1024);
    tokio::spawn(async move {
        let mut first = header;
        inside.read_buf(&mut first).await.unwrap();
        outside.write_all(&first).await.unwrap();
        tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok();
    });
    client
}

/// What the gateway says to `bytes` until it closes.
async fn said_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut client = Client::plain(address).await;
    client.send(bytes).await;
    client.until_end().await
}

async fn until_counted(gateway: &Gateway, listener: &str, result: &str, value: u64) {
    let labels = [format!("listener=\"{listener}\""), format!("result=\"{result}\"")];
    gateway.until_metric("portcullis_proxy_headers_total", &labels.each_ref().map(String::as_str), value).await;
}

#[tokio::test]
async fn the_client_is_whom_the_header_announces() {
    let origin = Origin::hello().await;
    let gateway = behind_relays(&origin).await;
    for source in ["203.0.113.7:4711", "[2001:db8::7]:4711"] {
        let address = source.parse::<SocketAddr>().unwrap().ip().to_string();
        for header in announcing(source) {
            let mut client = Client::plain(gateway.http).await;
            client.send([&header, get("/plain").as_bytes()].concat()).await;
            assert_eq!(client.answer().await.status(), 200);
            assert_eq!(client.get("/again").await.status(), 200);
            assert_eq!(origin.last().field("x-forwarded-for"), Some(address.as_str()));

            let stream = relay(gateway.https, header).await;
            let stream = tls::over(stream, "site.test", &gateway.roots(), &[b"http/1.1"]).await.expect("a handshake");
            assert_eq!(Client::over(stream).get("/tls").await.status(), 200);
            assert_eq!(origin.last().field("x-forwarded-for"), Some(address.as_str()));
        }
    }
    let line = gateway.access_line("/tls").await;
    assert!(line.contains("client=203.0.113.7 "), "{line}");
    until_counted(&gateway, "http", "relayed", 4).await;
    until_counted(&gateway, "https", "relayed", 4).await;
}

#[tokio::test]
async fn an_http2_client_is_announced_too() {
    let origin = Origin::hello().await;
    let gateway = behind_relays(&origin).await;
    let [_, header] = announcing("203.0.113.7:4711");
    let stream = relay(gateway.https, header).await;
    let stream = tls::over(stream, "site.test", &gateway.roots(), &[b"h2"]).await.expect("a handshake");
    let (mut sender, connection) =
        http2::handshake::<_, _, Full<_>>(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    tokio::spawn(connection);
    assert_eq!(h2::ask(&mut sender, h2::get("/h2")).await.0, 200);
    assert_eq!(origin.only().field("x-forwarded-for"), Some("203.0.113.7"));
}

#[tokio::test]
async fn a_relay_that_speaks_for_itself_is_the_client() {
    let origin = Origin::hello().await;
    let gateway = behind_relays(&origin).await;
    for header in [b"PROXY UNKNOWN\r\n", LOCAL] {
        let mut client = Client::plain(gateway.http).await;
        client.send([header, get("/").as_bytes()].concat()).await;
        assert_eq!(client.answer().await.status(), 200);
        assert_eq!(origin.last().field("x-forwarded-for"), Some("127.0.0.1"));
    }
    until_counted(&gateway, "http", "own", 2).await;
}

#[tokio::test]
async fn a_relay_without_a_good_header_is_closed_without_a_word() {
    let origin = Origin::hello().await;
    let gateway = behind_relays(&origin).await;
    let request = get("/");
    let [_, mut unknown] = announcing("203.0.113.7:4711");
    unknown[12] = 0x22;
    for header in [
        &b"PROXY TCP4 203.0.113.7 198.51.100.1 1 65536\r\n"[..],
        b"PROXY TCP4 203.0.113.7 198.51.100.1 1 2\n",
        &[b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat(),
        &unknown,
    ] {
        let bytes = [header, request.as_bytes()].concat();
        for address in [gateway.http, gateway.https] {
            assert_eq!(said_to(address, &bytes).await.escape_ascii().to_string(), "");
        }
    }
    assert_eq!(said_to(gateway.http, request.as_bytes()).await, b"");
    tls::connect(gateway.https, &gateway.roots(), &[b"h2"]).await.expect_err("no handshake without a header");
    assert!(origin.bytes().is_empty());
    for listener in ["http", "https"] {
        until_counted(&gateway, listener, "malformed", 4).await;
        until_counted(&gateway, listener, "missing", 1).await;
    }
    let mut left = TcpStream::connect(gateway.http).await.unwrap();
    left.write_all(b"PROXY TCP4 203").await.unwrap();
    drop(left);
    until_counted(&gateway, "http", "closed", 1).await;
}

#[tokio::test]
async fn a_relay_that_does_not_send_its_header_is_closed_by_the_timer_of_its_listener() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin)
        .limits("header_timeout_secs = 1")
        .http(RELAYS)
        .https(&format!("{RELAYS}\nhandshake_timeout_secs = 1"))
        .start()
        .await;
    for (listener, address) in [("http", gateway.http), ("https", gateway.https)] {
        for begin in [&b""[..], b"PROXY TCP4 ", &LOCAL[..14]] {
            let begun = Instant::now();
            assert_eq!(said_to(address, begin).await, b"");
            assert!(begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(8));
        }
        until_counted(&gateway, listener, "timeout", 3).await;
    }
}

#[tokio::test]
async fn one_deadline_holds_for_the_header_and_the_handshake() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).https(&format!("{RELAYS}\nhandshake_timeout_secs = 1")).start().await;
    let begun = Instant::now();
    assert_eq!(said_to(gateway.https, LOCAL).await, b"");
    assert!(begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(8));
    gateway.until_metric("portcullis_tls_handshakes_total", &["result=\"timeout\""], 1).await;
}

#[tokio::test]
async fn nobody_else_is_believed() {
    let origin = Origin::hello().await;
    let others = "proxy_protocol = [\"10.0.0.0/8\", \"::1/128\"]";
    for setup in [Setup::before(&origin), Setup::before(&origin).http(others).https(others)] {
        let gateway = setup.start().await;
        for header in announcing("203.0.113.7:4711") {
            let answer = said_to(gateway.http, &[&header, get("/spoofed").as_bytes()].concat()).await;
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
            let stream = relay(gateway.https, header).await;
            tls::over(stream, "site.test", &gateway.roots(), &[]).await.expect_err("no handshake after a header");
        }
        assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
        assert_eq!(Client::tls(&gateway).await.get("/").await.status(), 200);
        assert_eq!(origin.last().field("x-forwarded-for"), Some("127.0.0.1"));
        assert!(origin.targets().iter().all(|target| target == "/"));
        assert_eq!(gateway.scrape().await.count("portcullis_proxy_headers_total", &[]), 0);
    }
}

#[tokio::test]
async fn what_a_client_says_of_itself_is_judged_by_the_address_that_was_announced() {
    let origin = Origin::hello().await;
    let trusting = "workers = 1\ntrusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]";
    let gateway = Setup::before(&origin).server(trusting).http(RELAYS).start().await;
    for (source, believed) in [("203.0.113.7:1", "203.0.113.7"), ("10.0.0.9:1", "192.0.2.44")] {
        for header in announcing(source) {
            let mut client = Client::plain(gateway.http).await;
            client.send(header).await;
            assert_eq!(client.get_with("/", "X-Forwarded-For: 192.0.2.44\r\n").await.status(), 200);
            assert_eq!(origin.last().field("x-forwarded-for"), Some(believed), "{source}");
        }
    }
}

#[tokio::test]
async fn a_second_header_is_the_clients_and_no_header() {
    let origin = Origin::hello().await;
    let gateway = behind_relays(&origin).await;
    for header in announcing("203.0.113.7:4711") {
        for spoofed in announcing("192.0.2.44:1") {
            let answer = said_to(gateway.http, &[&header, &spoofed, get("/").as_bytes()].concat()).await;
            assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", answer.escape_ascii());
        }
    }
    assert!(origin.bytes().is_empty());
}

#[tokio::test]
async fn a_reload_changes_the_relays_in_place() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).http("proxy_protocol = []").start().await;
    let mut before = Client::plain(gateway.http).await;
    assert_eq!(before.get("/").await.status(), 200);
    gateway.edit(|text| text.replace("proxy_protocol = []", RELAYS));
    gateway.until_generation(2).await;
    assert_eq!(before.get("/").await.status(), 200, "a connection goes on as it began");
    let refused = || async { said_to(gateway.http, get("/").as_bytes()).await.is_empty().then_some(()) };
    eventually("a listener that asks for a header", refused).await;
    let [header, _] = announcing("203.0.113.7:4711");
    let mut client = Client::plain(gateway.http).await;
    client.send(header).await;
    assert_eq!(client.get("/").await.status(), 200);
    assert_eq!(origin.last().field("x-forwarded-for"), Some("203.0.113.7"));

    gateway.edit(|text| text.replace(RELAYS, "proxy_protocol = [\"10.0.0.0/8\"]"));
    gateway.until_generation(3).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
}
