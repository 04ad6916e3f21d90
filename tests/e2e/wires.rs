//! What is spoken with an endpoint is what its scheme says, and an endpoint over TLS is who it must be.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use sha2_of::spki;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_origin::{H2Origin, Manners, server_tls};
use crate::support::origin::Origin;
use crate::support::{eventually, tls, token};

/// The digest that a pin is.
mod sha2_of {
    use rustls::pki_types::CertificateDer;

    pub fn spki(certificate: &CertificateDer<'_>) -> Vec<u8> {
        let (_, parsed) = x509_parser::parse_x509_certificate(certificate).unwrap();
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parsed.public_key().raw).as_ref().to_vec()
    }
}

fn h2c(origin: &H2Origin) -> Setup {
    Setup::endpoints([format!("h2c://{}", origin.address)])
}

#[tokio::test]
async fn an_h2c_endpoint_gets_http_2_with_an_authority_and_without_fields_of_one_connection() {
    let origin = H2Origin::start(Manners::http2()).await;
    let gateway = h2c(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/a?b=c").await.text(), "GET /a?b=c 0");
    let bearer = format!("Authorization: Bearer {}\r\nTE: trailers\r\n", token::good());
    assert_eq!(client.get_with("/private/x", &bearer).await.status(), 200);
    assert_eq!(client.post("/upload", "hello").await.text(), "POST /upload 5");
    let chunked =
        "POST /chunked HTTP/1.1\r\nHost: site.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(client.ask(chunked).await.text(), "POST /chunked 3");
    let heads = origin.heads();
    for head in &heads {
        assert_eq!(head.version, http::Version::HTTP_2);
        assert_eq!(head.uri.authority().map(http::uri::Authority::as_str), Some("site.test"));
        for field in ["connection", "transfer-encoding", "keep-alive", "host"] {
            assert!(!head.headers.contains_key(field), "{field} in {head:?}");
        }
    }
    assert_eq!(heads[1].headers["te"], "trailers");
    assert!(heads[1].headers.contains_key("x-user-id"));
    assert_eq!(origin.accepted(), 1, "requests share a connection");
}

#[tokio::test]
async fn another_connection_is_opened_only_when_all_streams_are_taken() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = H2Origin::start(Manners { streams: 3, gate: Arc::clone(&gate), ..Manners::http2() }).await;
    let gateway = h2c(&origin).start().await;
    let mut all = JoinSet::new();
    let (address, total) = (gateway.http, 10);
    for number in 0..total {
        all.spawn(async move { Client::plain(address).await.get(&format!("/{number}")).await.status() });
    }
    eventually("all requests at the origin", || async { (origin.heads().len() == total).then_some(()) }).await;
    assert_eq!(origin.accepted(), 4, "three streams on each");
    gate.add_permits(total);
    assert!(all.join_all().await.iter().all(|status| *status == 200));
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

#[tokio::test]
async fn an_upstream_whose_streams_are_all_taken_is_503_after_queue_timeout() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = H2Origin::start(Manners { gate: Arc::clone(&gate), ..Manners::http2() }).await;
    let keys = "max_streams = 2\nmax_connections = 1\nqueue_timeout_secs = 0.3";
    let gateway = h2c(&origin).upstream(keys).start().await;
    let mut held = JoinSet::new();
    let address = gateway.http;
    for number in 0..2 {
        held.spawn(async move { Client::plain(address).await.get(&format!("/{number}")).await.status() });
    }
    eventually("two requests at the origin", || async { (origin.heads().len() == 2).then_some(()) }).await;
    assert_eq!(Client::plain(gateway.http).await.get("/third").await.status(), 503);
    gate.add_permits(9);
    assert!(held.join_all().await.iter().all(|status| *status == 200));
    assert_eq!(Client::plain(gateway.http).await.get("/fourth").await.status(), 200);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn an_idle_http_2_connection_is_closed_after_keep_alive() {
    let origin = H2Origin::start(Manners::http2()).await;
    let gateway = h2c(&origin).upstream("keep_alive_secs = 0.2").start().await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    eventually("a closed connection", || async { (origin.open() == 0).then_some(()) }).await;
    gateway.until_metric("portcullis_upstream_connections_open", &[], 0).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    assert_eq!(origin.accepted(), 2);
}

#[tokio::test]
async fn a_client_that_leaves_resets_its_stream_and_no_other() {
    let gate = Arc::new(Semaphore::new(0));
    let origin = H2Origin::start(Manners { gate: Arc::clone(&gate), ..Manners::http2() }).await;
    let gateway = h2c(&origin).start().await;
    let mut leaving = Client::plain(gateway.http).await;
    leaving.send("GET /leaving HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    let address = gateway.http;
    let staying = tokio::spawn(async move { Client::plain(address).await.get("/staying").await.status() });
    eventually("both at the origin", || async { (origin.heads().len() == 2).then_some(()) }).await;
    drop(leaving);
    gateway.until_metric("portcullis_upstream_leases", &[], 1).await;
    gate.add_permits(2);
    assert_eq!(staying.await.unwrap(), 200);
    assert_eq!(origin.accepted(), 1);
}

#[tokio::test]
async fn a_connection_that_says_goodbye_takes_no_more_and_what_comes_back_is_sent_on_another() {
    let gate = Arc::new(Semaphore::new(0));
    let manners = Manners { gate: Arc::clone(&gate), ..Manners::http2() };
    let farewell = Arc::clone(&manners.farewell);
    let origin = H2Origin::start(manners).await;
    let gateway = h2c(&origin).start().await;
    let address = gateway.http;
    let held = tokio::spawn(async move { Client::plain(address).await.get("/held").await.status() });
    eventually("a request at the origin", || async { (origin.heads().len() == 1).then_some(()) }).await;
    farewell.notify_waiters();
    gate.add_permits(20);
    // The held request's permit is among them; each of the others may meet the goodbye on its way.
    for number in 0..10 {
        let mut client = Client::plain(gateway.http).await;
        assert_eq!(client.post(&format!("/{number}"), "body").await.text(), format!("POST /{number} 4"));
    }
    assert_eq!(held.await.unwrap(), 200);
    gateway.until_metric("portcullis_upstream_leases", &[], 0).await;
}

/// Each holds a window's worth of its answer in the gateway, and the connection to the endpoint has room for them all.
#[tokio::test]
async fn clients_that_read_nothing_hold_up_nobody_else_on_a_shared_connection() {
    let origin = H2Origin::start(Manners { padding: 8 << 20, ..Manners::http2() }).await;
    let gateway = h2c(&origin).start().await;
    let mut idle = Vec::new();
    for number in 0..40 {
        let mut client = Client::plain(gateway.http).await;
        client.send(format!("GET /{number} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        idle.push(client);
    }
    eventually("all requests at the origin", || async { (origin.heads().len() == 40).then_some(()) }).await;
    for _ in 0..5 {
        assert_eq!(Client::plain(gateway.http).await.get("/small").await.text(), "GET /small 0");
    }
    assert_eq!(origin.accepted(), 1);
}

/// Knowing HTTP/2 beforehand is knowing wrong, here: found out when the first SETTINGS do not come.
#[tokio::test]
async fn an_h2c_endpoint_that_speaks_http_1_is_502() {
    let origin = Origin::hello().await;
    let gateway = Setup::endpoints([format!("h2c://{}", origin.address)]).start().await;
    let answer = Client::plain(gateway.http).await.get("/").await;
    assert!(matches!(answer.status(), 502 | 504), "{answer:?}");
}

#[tokio::test]
async fn a_connection_whose_endpoint_goes_away_is_used_no_more() {
    let origin = H2Origin::start(Manners::http2()).await;
    let gateway = h2c(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/1").await.status(), 200);
    drop(origin);
    gateway.until_metric("portcullis_upstream_connections_open", &[], 0).await;
    assert_eq!(client.get("/2").await.status(), 502);
}

/// A directory with the origin's certificate `app` and a stranger's, both for `site.test`.
fn certificates() -> (TempDir, CertificateDer<'static>, CertificateDer<'static>) {
    let home = tempfile::tempdir().unwrap();
    let app = tls::certificate(home.path(), "app");
    let stranger = tls::certificate(home.path(), "stranger");
    (home, app, stranger)
}

/// A gateway before an origin over TLS, with the origin's certificates in its directory.
async fn before_tls(scheme: &str, origin: &H2Origin, home: &Path, tls: &str) -> Gateway {
    let own = tempfile::tempdir().unwrap();
    for file in ["app.crt", "app.key", "stranger.crt", "stranger.key"] {
        std::fs::copy(home.join(file), own.path().join(file)).unwrap();
    }
    let keys = format!("tls = {{ {tls} }}");
    Setup::endpoints([format!("{scheme}://{}", origin.address)]).upstream(&keys).start_in(own).await
}

async fn tls_origin(home: &Path, http2: bool, clients: Option<&CertificateDer<'static>>) -> H2Origin {
    let alpn: &[&[u8]] = if http2 { &[b"h2"] } else { &[b"http/1.1"] };
    let tls = Some(server_tls(home, "app", alpn, clients));
    H2Origin::start(Manners { http2, tls, ..Manners::http2() }).await
}

#[tokio::test]
async fn an_endpoint_over_tls_is_believed_by_the_authority_that_is_named() {
    let (home, ..) = certificates();
    for (scheme, http2) in [("https", false), ("h2", true)] {
        let origin = tls_origin(home.path(), http2, None).await;
        let trusting = "ca_file = \"app.crt\", server_name = \"site.test\"";
        let gateway = before_tls(scheme, &origin, home.path(), trusting).await;
        let mut client = Client::plain(gateway.http).await;
        assert_eq!(client.post("/x", "abc").await.text(), "POST /x 3", "{scheme}");
        assert_eq!(client.get("/y").await.status(), 200);
        assert_eq!(origin.accepted(), 1, "{scheme}: a connection is used again");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_who_it_must_be_is_502_and_gets_no_request() {
    let (home, app, stranger) = certificates();
    let pin = |certificate| format!("\"sha256/{}\"", STANDARD.encode(spki(certificate)));
    for (tls, good) in [
        ("ca_file = \"stranger.crt\", server_name = \"site.test\"".to_owned(), false),
        ("ca_file = \"app.crt\", server_name = \"other.test\"".to_owned(), false),
        ("ca_file = \"app.crt\"".to_owned(), false), // the certificate names no 127.0.0.1
        ("verify = false".to_owned(), true),
        (format!("verify = false, pins = [{}]", pin(&app)), true),
        (format!("verify = false, pins = [{}]", pin(&stranger)), false),
        (format!("ca_file = \"app.crt\", server_name = \"site.test\", pins = [{}]", pin(&stranger)), false),
        (
            format!("ca_file = \"app.crt\", server_name = \"site.test\", pins = [{}, {}]", pin(&stranger), pin(&app)),
            true,
        ),
    ] {
        let origin = tls_origin(home.path(), false, None).await;
        let gateway = before_tls("https", &origin, home.path(), &tls).await;
        let status = Client::plain(gateway.http).await.get("/").await.status();
        assert_eq!((status, origin.heads().len()), if good { (200, 1) } else { (502, 0) }, "{tls}");
        if !good {
            gateway.until_metric("portcullis_upstream_errors_total", &["stage=\"tls\""], 1).await;
        }
    }
}

#[tokio::test]
async fn the_gateway_shows_its_certificate_to_an_endpoint_that_asks() {
    let (home, _, stranger) = certificates();
    let origin = tls_origin(home.path(), false, Some(&stranger)).await;
    let trusting = "ca_file = \"app.crt\", server_name = \"site.test\"";
    let showing = format!("{trusting}, cert = \"stranger.crt\", key = \"stranger.key\"");
    let gateway = before_tls("https", &origin, home.path(), &showing).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);
    let gateway = before_tls("https", &origin, home.path(), trusting).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 502);
}

#[tokio::test]
async fn an_endpoint_that_does_not_agree_on_http_2_is_502() {
    let (home, ..) = certificates();
    let origin = tls_origin(home.path(), false, None).await;
    let trusting = "ca_file = \"app.crt\", server_name = \"site.test\"";
    let gateway = before_tls("h2", &origin, home.path(), trusting).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 502);
    assert_eq!(origin.heads().len(), 0);
}

/// An origin that expects a PROXY line before each request, and answers with what it was.
async fn announced() -> Origin {
    Origin::start(|mut conn| async move {
        let Some(line) = conn.wire.announcement().await else { return };
        if conn.request().await.is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{line}", line.len())).await;
        }
        conn.until_closed().await;
    })
    .await
}

#[tokio::test]
async fn a_connection_that_says_whose_it_is_carries_one_request_of_that_client() {
    let origin = announced().await;
    let gateway = Setup::before(&origin).upstream("proxy_protocol = \"v1\"").start().await;
    let stream = tokio::net::TcpStream::connect(gateway.http).await.unwrap();
    let own = stream.local_addr().unwrap();
    let mut client = Client::over(stream);
    for number in 1..=3 {
        let line = client.get("/").await.text();
        assert_eq!(line, format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}", own.port(), gateway.http.port()));
        assert_eq!(origin.accepted(), number);
    }
    eventually("closed connections", || async { (origin.open() == 0).then_some(()) }).await;
    gateway.until_metric("portcullis_upstream_connections_open", &[], 0).await;
}
