//! Thousands of reloads under load: nobody notices, what did not change is kept, and nothing is left behind.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{HELLO, Origin};
use crate::support::token::{self, bearer};
use crate::support::websocket::{self as ws, Socket, agree};
use crate::support::{PATIENCE, eventually, tls};

const RELOADS: u64 = 2000;
/// Until then the process has seen all there is to see.
const WARM: u64 = 200;
/// What 1,800 reloads may add to the memory of the process: 4 KiB each would be twice that.
const GROWTH: u64 = 4 * 1024 * 1024;

/// Answers `hello`, and echoes over WebSockets; keeps connections.
async fn origin() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            if request.field("upgrade").is_none() {
                conn.send(HELLO).await;
                continue;
            }
            conn.send(agree(&request, "")).await;
            let mut socket = Socket::server(conn.wire);
            while let Some((first, payload)) = socket.frame().await {
                socket.send(first, &payload).await;
            }
            return;
        }
    })
    .await
}

/// One of two configurations: they differ in a route, in an upstream and in the certificate.
fn variant(text: &str, odd: bool) -> String {
    let (to, most, name) = if odd { ("/odd", 11, "odd") } else { ("/even", 10, "even") };
    text.replace("/turned", to)
        .replace("1234", &most.to_string())
        .replace("site.crt", &format!("{name}.crt"))
        .replace("site.key", &format!("{name}.key"))
}

/// How a client comes to the gateway.
#[derive(Clone)]
struct Way {
    http: SocketAddr,
    https: SocketAddr,
    roots: Vec<CertificateDer<'static>>,
    secure: bool,
    keeps: bool,
}

impl Way {
    async fn connect(&self) -> Client {
        if !self.secure {
            return Client::plain(self.http).await;
        }
        Client::over(tls::connect(self.https, &self.roots, &[b"http/1.1"]).await.expect("a handshake"))
    }
}

/// Asks every route in turn, and is answered as one of the two configurations has it, each time.
async fn ask_on(way: Way, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let token = bearer(&token::good());
    let mut kept = None;
    while !stop.load(Ordering::SeqCst) {
        let mut client = match kept.take() {
            Some(client) => client,
            None => way.connect().await,
        };
        for (path, fields, status) in [("/private/", &*token, 200), ("/changing/", "", 200), ("/turn/", "", 307)] {
            let answer = client.get_with(path, fields).await;
            assert_eq!((answer.status(), answer.closes()), (status, false), "{path}");
            match answer.field("location") {
                Some(to) => assert!(["/odd", "/even"].contains(&to), "{to}"),
                None => assert_eq!(answer.text(), "hello", "{path}"),
            }
            answered.fetch_add(1, Ordering::SeqCst);
        }
        if way.keeps {
            kept = Some(client);
        }
        tokio::time::sleep(Duration::from_millis(2)).await; // a load that is there all the time, and leaves time for reloads
    }
}

/// Where the changing route leads now.
async fn turned(gateway: &Gateway) -> String {
    Client::plain(gateway.http).await.get("/turn/").await.field("location").unwrap_or_default().to_owned()
}

/// Waits without pauses: there are thousands of reloads to wait for.
async fn until_generation(gateway: &Gateway, number: u64) {
    let begun = Instant::now();
    loop {
        let generation = gateway.generation().await;
        assert!(generation <= number, "one edit is one generation: {generation} after {number}");
        if generation == number {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "generation {number} does not come");
    }
}

#[tokio::test]
async fn two_thousand_reloads_fail_no_request_and_leave_nothing_behind() {
    let (origin, changing) = (origin().await, Origin::hello().await);
    let tables = format!(
        "[upstream.changing]\nendpoints = [\"{}\"]\nmax_connections = 1234\n\
         [[route]]\nname = \"changing\"\npath = \"/changing/\"\nauth = \"public\"\nupstream = \"changing\"\n\
         [[route]]\nname = \"turn\"\npath = \"/turn/\"\nauth = \"public\"\nredirect = {{ to = \"/turned\", status = 307 }}\n",
        changing.endpoint()
    );
    let gateway = Setup::before(&origin).server("workers = 2").tables(&tables).start().await;
    let roots = ["site", "odd", "even"].map(|name| tls::certificate(gateway.home(), name));
    let roots = [gateway.roots().to_vec(), roots.to_vec()].concat();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    let variants = [false, true].map(|odd| variant(&text, odd));
    gateway.edit(|_| variants[1].clone());
    gateway.signal("HUP");
    eventually("the first variant", || async { (turned(&gateway).await == "/odd").then_some(()) }).await;
    let first = gateway.generation().await;

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut load = JoinSet::new();
    for (secure, keeps) in [(false, true), (true, true), (false, false), (true, false)] {
        let way = Way { http: gateway.http, https: gateway.https, roots: roots.clone(), secure, keeps };
        load.spawn(ask_on(way, Arc::clone(&stop), Arc::clone(&answered)));
    }
    let mut tunnel = ws::open(&gateway, "/private/live", &bearer(&token::good())).await;
    let (mut resident, mut descriptors) = (0, 0);
    for number in 1..=RELOADS {
        gateway.edit(|_| variants[usize::try_from((number + 1) % 2).unwrap()].clone());
        gateway.signal("HUP");
        until_generation(&gateway, first + number).await;
        if number % 100 == 0 {
            tunnel.echo(&format!("still here at {number}")).await;
            assert!(load.try_join_next().is_none(), "a client failed");
        }
        if number == WARM {
            (resident, descriptors) = (gateway.resident_bytes(), gateway.descriptors());
        }
    }
    let grown = gateway.resident_bytes().saturating_sub(resident);
    stop.store(true, Ordering::SeqCst);
    load.join_all().await;
    tunnel.echo("and at the end").await;

    assert!(answered.load(Ordering::SeqCst) > 1000, "there was a load: {answered:?}");
    assert!(grown < GROWTH, "{grown} bytes more after {RELOADS} reloads than after {WARM}");
    eventually("no more descriptors than before", || async { (gateway.descriptors() <= descriptors).then_some(()) })
        .await;
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_config_generation", &[]), first + RELOADS);
    assert_eq!(scrape.count("portcullis_config_reloads_total", &["result=\"ok\""]), first - 1 + RELOADS);
    assert_eq!(scrape.count("portcullis_config_reloads_total", &["result=\"refused\""]), 0);
    // Each worker has its own connections: no more than clients at once, and the tunnel's.
    assert!(
        origin.accepted() <= 2 * 5,
        "connections of an upstream that stays are kept: {} were made",
        origin.accepted()
    );
    assert!(changing.accepted() > 100, "those of one that changes are not");
    eventually("the old ones to go", || async { (changing.open() <= 2 * 4).then_some(()) }).await;
}
