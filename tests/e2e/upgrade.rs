//! A new process takes the place of the old one, and nobody who asks notices; one that can't changes nothing.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustls::pki_types::CertificateDer;
use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup, install};
use crate::support::origin::{HELLO, Origin};
use crate::support::websocket::{self as ws, Socket, agree};
use crate::support::{eventually, h3, tls};

/// Answers `hello`, and says nothing over WebSockets.
async fn origin() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            if request.field("upgrade").is_none() {
                conn.send(HELLO).await;
                continue;
            }
            conn.send(agree(&request, "")).await;
            Socket::server(conn.wire).frame().await;
            return;
        }
    })
    .await
}

fn program(gateway: &Gateway) -> std::path::PathBuf {
    gateway.home().join("portcullis")
}

/// Puts another program in the place of the one that runs, as packages do: the old file is gone.
fn replace(path: &Path, script: &str) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, script).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Clients that ask without a pause.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

#[derive(Clone)]
struct Way {
    address: SocketAddr,
    /// Of a TLS listener.
    roots: Option<[CertificateDer<'static>; 1]>,
    keeps: bool,
}

impl Way {
    async fn connect(&self) -> Client {
        match &self.roots {
            None => Client::plain(self.address).await,
            Some(roots) => Client::over(tls::connect(self.address, roots, &[b"http/1.1"]).await.expect("a handshake")),
        }
    }
}

impl Load {
    fn begin(gateway: &Gateway) -> Self {
        let mut load = Self { stop: Arc::default(), answered: Arc::default(), clients: JoinSet::new() };
        for number in 0..12 {
            let (secure, keeps) = (number % 3 == 0, number % 2 == 0);
            let address = if secure { gateway.https } else { gateway.http };
            let way = Way { address, roots: secure.then(|| gateway.roots()), keeps };
            load.clients.spawn(ask_on(way, Arc::clone(&load.stop), Arc::clone(&load.answered)));
        }
        load
    }

    /// Waits until so many more requests were answered.
    async fn more(&mut self, count: u64) {
        let goal = self.answered.load(Ordering::SeqCst) + count;
        eventually("more answers", || async { (self.answered.load(Ordering::SeqCst) >= goal).then_some(()) }).await;
        assert!(self.clients.try_join_next().is_none(), "a client failed");
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
    }
}

/// Connects, asks, and is answered, each time. A kept connection is left when the answer says so, and never lost before.
async fn ask_on(way: Way, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let mut kept = None;
    while !stop.load(Ordering::SeqCst) {
        let mut client = match kept.take() {
            Some(client) => client,
            None => way.connect().await,
        };
        let answer = client.get("/").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        answered.fetch_add(1, Ordering::SeqCst);
        kept = (way.keeps && !answer.closes()).then_some(client);
    }
}

#[tokio::test]
async fn upgrades_under_load_refuse_no_connection_and_fail_no_request() {
    let origin = origin().await;
    let mut gateway = Setup::before(&origin).server("workers = 2").own_program().start().await;
    let mut tunnel = ws::open(&gateway, "/live", "").await;
    let first = gateway.pid();
    let mut load = Load::begin(&gateway);
    load.more(50).await;
    // Each has another number of workers than the one before it, and so of sockets.
    for (before, after) in [(2, 3), (3, 1), (1, 2)] {
        gateway.edit(|text| text.replace(&format!("workers = {before}"), &format!("workers = {after}")));
        install(&program(&gateway));
        gateway.upgrade().await;
        load.more(100).await;
        assert_eq!(gateway.readiness().await.status(), 200);
        assert_eq!(gateway.generation().await, 1, "it is another process that answers operators");
    }
    load.end().await;
    assert_eq!(tunnel.goodbye().await, 1012);
    assert_ne!(gateway.pid(), first);
    assert_eq!(gateway.exit().await.code(), Some(0), "the first process has drained");
    let log = gateway.log();
    assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{log}");
}

#[tokio::test]
async fn what_the_old_process_has_begun_it_finishes_and_the_service_manager_is_told_of_the_new_one() {
    let (origin, gate) = Origin::gated().await;
    let home = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(home.path().join("notify")).unwrap();
    manager.set_nonblocking(true).unwrap();
    let notified = || {
        let mut bytes = [0; 1024];
        let said = std::iter::from_fn(|| manager.recv(&mut bytes).ok().map(|read| bytes[..read].to_vec()));
        said.map(|said| String::from_utf8(said).unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    let path = home.path().join("notify").to_string_lossy().into_owned();
    let mut gateway = Setup::before(&origin).environment("NOTIFY_SOCKET", path).start().await;
    assert_eq!(notified(), ["READY=1"]);
    let mut held = Client::plain(gateway.http).await;
    held.send(get("/")).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    gateway.signal("USR2");
    let new = eventually("a successor", || async { gateway.successors().first().copied() }).await;
    // The new process counts from nothing.
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    eventually("the drain", || async { gateway.log().contains("this one drains").then_some(()) }).await;
    gate.add_permits(2);
    let answer = held.answer().await;
    assert_eq!((answer.status(), answer.closes()), (200, true));
    let answer = Client::plain(gateway.http).await.get("/").await;
    assert_eq!((answer.status(), answer.closes()), (200, false));
    assert_eq!(gateway.exit().await.code(), Some(0));
    let mut said = notified();
    said.sort_unstable();
    assert_eq!(said, [format!("MAINPID={new}"), "READY=1".to_owned()], "and not that anything stops");
}

#[tokio::test]
async fn a_process_that_does_not_come_to_serve_changes_nothing() {
    let origin = Origin::hello().await;
    let table = "[revocation]\njournal = \"revoked.journal\"\n";
    let mut gateway = Setup::before(&origin).tables(table).own_program().start().await;
    let revoke = |admin: SocketAddr, jti: &'static str| async move {
        let body = json!({ "jti": jti }).to_string();
        let fields = "Host: localhost\r\nContent-Type: application/json\r\n";
        let length = body.len();
        let request = format!("POST /revocations HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
        Client::plain(admin).await.ask(request).await.status()
    };
    assert_eq!(revoke(gateway.admin, "one").await, 201);
    let (first, good) = (gateway.pid(), std::fs::read_to_string(gateway.config()).unwrap());
    let mut kept = Client::plain(gateway.http).await;
    let changes = [("unreadable", "exit status: 1"), ("other", "exit status: 7"), ("gone", "cannot start")];
    for (before, (change, reason)) in changes.into_iter().enumerate() {
        match change {
            "unreadable" => gateway.edit(|text| text.replace("auth = \"public\"", "auht = \"public\"")),
            "other" => replace(&program(&gateway), "#!/bin/sh\nexit 7\n"),
            _ => std::fs::remove_file(program(&gateway)).unwrap(),
        }
        gateway.signal("USR2");
        let failed = || async {
            let log = gateway.log();
            let lines: Vec<_> = log.lines().filter(|line| line.contains("the upgrade has failed")).collect();
            lines.get(before).map(|line| (*line).to_owned())
        };
        let line = eventually("the failure", failed).await;
        assert!(line.contains("ERROR") && line.contains(reason), "{line}");
        assert_eq!((gateway.pid(), kept.get("/").await.status()), (first, 200));
        assert_eq!(gateway.readiness().await.status(), 200);
        assert_eq!(revoke(gateway.admin, change).await, 201, "the journal is open again");
    }
    gateway.edit(|_| good);
    install(&program(&gateway));
    gateway.upgrade().await;
    let list = Client::plain(gateway.admin).await.ask("GET /revocations HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(list.json()["count"], 4, "what was revoked before is revoked now");
    assert_eq!(revoke(gateway.admin, "after").await, 201);
}

#[tokio::test]
async fn http3_pauses_while_the_old_process_drains_and_comes_back() {
    let origin = Origin::hello().await;
    let mut gateway = h3::start(Setup::before(&origin)).await;
    assert_eq!(h3::Client::connect(&gateway).await.get("/").await.text(), "hello");
    gateway.upgrade().await;
    eventually("http/3 being offered", || async {
        Client::tls(&gateway).await.get("/").await.field("alt-svc").map(drop)
    })
    .await;
    assert_eq!(h3::Client::connect(&gateway).await.get("/").await.text(), "hello");
}
