//! What one client may take of what all share: connections, and handshakes. Clients are told apart by the loopback addresses they call from.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use portcullis::proxy_protocol::{Version, write};
use quinn::{ConnectionError, TransportErrorCode};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::h3::{self, Quic};
use crate::support::origin::Origin;
use crate::support::{eventually, tls, within};

const REFUSED: &str = "portcullis_connections_refused_total";

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, last).into()
}

/// A connection from 127.0.0.LAST.
async fn call(last: u8, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(address(last), 0)).unwrap();
    let stream = within("connecting", socket.connect(to)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A client of a plain listener that has been served.
async fn served(last: u8, gateway: &Gateway) -> Client {
    let mut client = Client::over(call(last, gateway.http).await.unwrap());
    assert_eq!(client.get("/").await.status(), 200, "127.0.0.{last}");
    client
}

/// The same over TLS.
async fn shaken(last: u8, gateway: &Gateway) -> io::Result<Client> {
    let stream = call(last, gateway.https).await?;
    let mut client = Client::over(tls::over(stream, "site.test", &gateway.roots(), &[b"http/1.1"]).await?);
    assert_eq!(client.get("/").await.status(), 200, "127.0.0.{last}");
    Ok(client)
}

/// Whether the gateway closes what calls from 127.0.0.LAST without a word.
async fn is_closed(last: u8, to: SocketAddr) -> bool {
    let Ok(stream) = call(last, to).await else { return true };
    let mut client = Client::over(stream);
    client.send(get("/")).await;
    client.try_answer().await.is_err()
}

async fn until_refused(gateway: &Gateway, listener: &str, reason: &str, count: u64) {
    let labels = [format!("listener=\"{listener}\""), format!("reason=\"{reason}\"")];
    gateway.until_metric(REFUSED, &labels.each_ref().map(String::as_str), count).await;
}

async fn until_everybody_has_left(gateway: &Gateway) {
    for gauge in ["portcullis_connections_open", "portcullis_clients", "portcullis_handshakes_under_way"] {
        gateway.until_metric(gauge, &[], 0).await;
    }
}

#[tokio::test]
async fn an_address_over_its_bound_is_refused_while_another_is_served() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("connections_per_address = 3").start().await;
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(served(2, &gateway).await);
    }
    held.push(shaken(2, &gateway).await.unwrap()); // all listeners together
    for _ in 0..5 {
        assert!(is_closed(2, gateway.http).await && is_closed(2, gateway.https).await);
    }
    drop((served(3, &gateway).await, shaken(3, &gateway).await.unwrap()));
    for listener in ["http", "https"] {
        until_refused(&gateway, listener, "connections_per_address", 5).await;
    }
    held.truncate(2);
    eventually("room for another", || async { (!is_closed(2, gateway.http).await).then_some(()) }).await;
    assert_eq!(held[0].get("/").await.status(), 200, "who is in stays in");
    drop(held);
    until_everybody_has_left(&gateway).await;
}

#[tokio::test]
async fn behind_a_relay_its_client_counts_and_behind_a_trusted_proxy_nobody() {
    let origin = Origin::hello().await;
    let setup = Setup::before(&origin).limits("connections_per_address = 1").http("proxy_protocol = [\"127.0.0.2\"]");
    let gateway = setup.server("workers = 2\ntrusted_proxies = [\"127.0.0.3\"]").start().await;
    let relayed = async |client: &str| {
        let mut stream = call(2, gateway.http).await.unwrap();
        let header = write(Version::V2, client.parse().unwrap(), "198.51.100.1:80".parse().unwrap());
        stream.write_all(&header).await.unwrap();
        let mut client = Client::over(stream);
        client.send(get("/")).await;
        (client.try_answer().await.ok().map(|answer| answer.status()), client)
    };
    let (first, _one) = relayed("203.0.113.1:1").await;
    let (second, _other) = relayed("203.0.113.2:1").await;
    let (again, _) = relayed("203.0.113.1:2").await;
    let (_, _v6) = relayed("[2001:db8::1]:1").await;
    let (same_line, _) = relayed("[2001:db8::2]:1").await;
    assert_eq!((first, second, again, same_line), (Some(200), Some(200), None, None));
    until_refused(&gateway, "http", "connections_per_address", 2).await;

    let _proxies = [served(3, &gateway).await, served(3, &gateway).await, served(3, &gateway).await];
    let _client = served(4, &gateway).await;
    assert!(is_closed(4, gateway.http).await);
    gateway.until_metric("portcullis_clients", &[], 4).await;
}

#[tokio::test]
async fn a_reload_changes_the_bounds_for_connections_to_come() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("connections_per_address = 2").start().await;
    let mut held = [served(2, &gateway).await, served(2, &gateway).await];
    assert!(is_closed(2, gateway.http).await);
    gateway.edit(|text| text.replace("connections_per_address = 2", "connections_per_address = 3"));
    gateway.until_generation(2).await;
    let third = served(2, &gateway).await;
    assert!(is_closed(2, gateway.http).await);
    gateway.edit(|text| text.replace("connections_per_address = 3", "connections_per_address = 1"));
    gateway.until_generation(3).await;
    assert!(is_closed(2, gateway.http).await);
    assert_eq!((held[0].get("/").await.status(), held[1].get("/").await.status()), (200, 200));
    drop(third);
    let _one = served(3, &gateway).await;
    assert!(is_closed(3, gateway.http).await);
    gateway.edit(|text| text.replace("connections_per_address = 1", "handshakes_per_address_sec = 1"));
    gateway.until_generation(4).await;
    let _another = served(3, &gateway).await;
    let _only = shaken(3, &gateway).await.unwrap();
    assert!(shaken(3, &gateway).await.is_err());
}

#[tokio::test]
async fn an_honest_client_shakes_hands_beside_a_flood_of_handshakes() {
    const RATE: u32 = 10;
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits(&format!("handshakes_per_address_sec = {RATE}")).start().await;
    let (stop, begun) = (Arc::new(AtomicBool::new(false)), Instant::now());
    let mut flood = JoinSet::new();
    for _ in 0..8 {
        let (stop, https, roots) = (Arc::clone(&stop), gateway.https, gateway.roots());
        flood.spawn(async move {
            let (mut passed, mut refused) = (0, 0);
            while !stop.load(Ordering::SeqCst) {
                let stream = call(2, https).await.unwrap();
                match tls::over(stream, "site.test", &roots, &[]).await {
                    Ok(_) => passed += 1,
                    Err(_) => refused += 1,
                }
            }
            (passed, refused)
        });
    }
    let reason = ["reason=\"handshakes_per_address_sec\""];
    let is_held = || async { (gateway.scrape().await.count(REFUSED, &reason) >= 500).then_some(()) };
    eventually("a flood that is held", is_held).await;
    for _ in 0..RATE {
        shaken(3, &gateway).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let counts = flood.join_all().await;
    let (passed, refused) = counts.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let most = f64::from(RATE) * (begun.elapsed().as_secs_f64() + 1.0);
    assert!(passed >= RATE && f64::from(passed) <= most, "{passed} handshakes of one address, {refused} refused");
    until_refused(&gateway, "https", "handshakes_per_address_sec", refused).await;
    drop(served(2, &gateway).await); // a plain listener has nothing to do with it
    until_everybody_has_left(&gateway).await;
}

#[tokio::test]
async fn handshakes_of_all_clients_have_a_rate_too_and_those_over_their_own_take_none_of_it() {
    let origin = Origin::hello().await;
    let limits = "handshakes_per_address_sec = 1\nhandshakes_per_sec = 3";
    let gateway = Setup::before(&origin).limits(limits).start().await;
    // Within a second: else there is one more of each, which the metrics would show.
    let mut held = vec![shaken(2, &gateway).await.unwrap()];
    for _ in 0..5 {
        held.extend(shaken(2, &gateway).await);
    }
    for last in 3..20 {
        held.extend(shaken(last, &gateway).await);
    }
    let scrape = gateway.scrape().await;
    let refused = |reason: &str| scrape.count(REFUSED, &[&format!("reason=\"{reason}\"")]);
    assert!(refused("handshakes_per_address_sec") > 0 && refused("handshakes_per_sec") > 0);
    let done = scrape.count("portcullis_tls_handshakes_total", &["result=\"ok\""]);
    assert_eq!(done, u64::try_from(held.len()).unwrap());
    assert!(done >= 3);
}

#[tokio::test]
async fn half_of_the_connections_may_be_in_the_middle_of_a_handshake() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).limits("connections = 140").start().await;
    let mut silent = Vec::new();
    for _ in 0..70 {
        silent.push(call(2, gateway.https).await.unwrap());
    }
    gateway.until_metric("portcullis_handshakes_under_way", &[], 70).await;
    assert!(is_closed(3, gateway.https).await);
    until_refused(&gateway, "https", "handshakes_under_way", 1).await;
    drop(served(3, &gateway).await);
    silent.pop();
    gateway.until_metric("portcullis_handshakes_under_way", &[], 69).await;
    let connected = shaken(3, &gateway).await.unwrap();
    drop((silent, connected));
    until_everybody_has_left(&gateway).await;
}

#[tokio::test]
async fn over_quic_the_same_bounds_hold() {
    let origin = Origin::hello().await;
    let gateway = h3::start(Setup::before(&origin).limits("connections_per_address = 1")).await;
    let was_refused = |result: Result<Quic, ConnectionError>| match result {
        Err(ConnectionError::ConnectionClosed(close)) => close.error_code == TransportErrorCode::CONNECTION_REFUSED,
        _ => false,
    };
    let first = Quic::from(address(2), &gateway).await.expect("the first of its address");
    assert!(was_refused(Quic::from(address(2), &gateway).await));
    assert!(is_closed(2, gateway.https).await, "over TCP it is the same client");
    drop(Quic::from(address(3), &gateway).await.expect("another address"));
    drop(first);

    gateway.edit(|text| text.replace("connections_per_address = 1", "handshakes_per_address_sec = 4"));
    gateway.until_generation(2).await;
    let mut passed = 0;
    // Proof of the address is asked for in between, and given.
    while let Ok(quic) = Quic::from(address(4), &gateway).await {
        passed += 1;
        drop(quic);
        assert!(passed < 1000, "nobody is refused");
    }
    assert!(passed >= 4);
    Quic::from(address(5), &gateway).await.expect("another address");
    let asked = ["outcome=\"retried\""];
    assert!(gateway.scrape().await.count("portcullis_quic_attempts_total", &asked) > 0);
    until_refused(&gateway, "https", "handshakes_per_address_sec", 1).await;
}

#[tokio::test]
async fn ten_thousand_connections_that_come_and_go_leave_nothing_behind() {
    let origin = Origin::hello().await;
    let setup = Setup::before(&origin).server("workers = 2").limits("connections_per_address = 50");
    let gateway = setup.start().await;
    let mut clients = JoinSet::new();
    for last in 2..22 {
        let (http, https) = (gateway.http, gateway.https);
        clients.spawn(async move {
            for round in 0..500 {
                let mut stream = call(last, if round % 2 == 0 { http } else { https }).await.unwrap();
                match round % 5 {
                    0 => {}                                             // gone at once
                    1 => drop(stream.write_all(b"\x16\x03\x01").await), // in the middle of a handshake or a head
                    2 => drop(stream.write_all(get("/").as_bytes()).await),
                    3 => stream.set_zero_linger().unwrap(), // reset
                    _ => {
                        let mut client = Client::over(stream);
                        client.send(get("/")).await;
                        client.try_answer().await.ok(); // https says no to that
                    }
                }
            }
        });
    }
    within("ten thousand connections", clients.join_all()).await;
    until_everybody_has_left(&gateway).await;
    let scrape = gateway.scrape().await;
    let refused = scrape.count(REFUSED, &[]);
    assert_eq!(scrape.count("portcullis_connections_accepted_total", &[]) + refused, 10_000);
    drop(served(2, &gateway).await);
    assert!(origin.requests().len() >= 1000, "a tenth of them asked and waited for the answer");
}
