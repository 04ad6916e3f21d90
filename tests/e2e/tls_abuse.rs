//! What a client may do in a TLS connection besides sending data: there is no renegotiation, and key updates have a bound.

use std::process::Stdio;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio_rustls::client::TlsStream;

use crate::support::client::get;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::{tls, within};

/// `openssl s_client` with `arguments`, told to renegotiate (R) or to update keys (K). All that it says, and whether it ended well.
async fn openssl(gateway: &Gateway, version: &str, commands: &str) -> (String, bool) {
    let mut client = Command::new("openssl")
        .args(["s_client", version, "-servername", "site.test", "-connect", &gateway.https.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("openssl is here: tests/run installs it");
    let mut input = client.stdin.take().unwrap();
    input.write_all(commands.as_bytes()).await.unwrap();
    let output = within("the end of s_client", client.wait_with_output()).await.unwrap();
    drop(input);
    let said = [output.stdout, output.stderr].concat();
    (String::from_utf8_lossy(&said).into_owned(), output.status.success())
}

#[tokio::test]
async fn a_client_that_asks_for_renegotiation_is_told_that_there_is_none() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let (said, well) = openssl(&gateway, "-tls1_2", "R\n").await;
    assert!(said.contains("RENEGOTIATING"), "it was not asked for: {said}");
    assert!(said.contains("no renegotiation") && !well, "{said}");
    gateway.until_metric("portcullis_tls_handshakes_total", &["version=\"1.2\"", "result=\"ok\""], 1).await;
    gateway.until_metric("portcullis_connections_open", &[], 0).await;
}

async fn connected(gateway: &Gateway) -> TlsStream<TcpStream> {
    tls::connect(gateway.https, &gateway.roots(), &[b"http/1.1"]).await.unwrap()
}

/// Asks for new keys in both directions (RFC 8446 section 4.6.3); false if the gateway has closed.
async fn update_keys(stream: &mut TlsStream<TcpStream>, times: usize) -> bool {
    for _ in 0..times {
        if stream.get_mut().1.refresh_traffic_keys().is_err() || within("sending", stream.flush()).await.is_err() {
            return false;
        }
    }
    true
}

/// Whether a request is answered.
async fn asks(stream: &mut TlsStream<TcpStream>) -> bool {
    if stream.write_all(get("/").as_bytes()).await.is_err() || stream.flush().await.is_err() {
        return false;
    }
    let mut answer = Vec::new();
    while !answer.ends_with(b"hello") {
        match within("an answer", stream.read_buf(&mut answer)).await {
            Ok(read) if read > 0 => {}
            _ => return false,
        }
    }
    true
}

#[tokio::test]
async fn keys_may_be_updated_now_and_then_and_a_flood_of_updates_ends_the_connection() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let before = gateway.resident_bytes();
    let mut careful = connected(&gateway).await;
    for _ in 0..20 {
        assert!(
            update_keys(&mut careful, 10).await && asks(&mut careful).await,
            "updates between requests are no flood"
        );
    }
    let mut flood = connected(&gateway).await;
    assert!(asks(&mut flood).await);
    let ended = !update_keys(&mut flood, 10_000).await || !asks(&mut flood).await;
    assert!(ended, "ten thousand updates in a row are taken");
    assert!(asks(&mut careful).await, "others go on");
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 12 << 20, "memory grew by {grown} bytes");
    drop((flood, careful));
    gateway.until_metric("portcullis_connections_open", &[], 0).await;
}
