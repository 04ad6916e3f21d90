//! Reload is a transaction that no request notices; stop finishes what was begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::{HELLO, Origin};
use crate::support::port::Port;
use crate::support::token::{self, bearer};
use crate::support::{eventually, scrape, tls, within};

/// One more route; each edit may have another answer to tell generations apart.
fn extra_route(value: &str) -> String {
    format!(
        "\n[[route]]\nname = \"extra\"\npath = \"/extra/\"\nauth = \"public\"\n\
         redirect = {{ to = \"/{value}\", status = 307 }}\n"
    )
}

/// Clients that ask without a pause until told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Load {
    async fn begin(gateway: &Gateway, clients: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut load = Self { stop, answered, clients: JoinSet::new() };
        let token = bearer(&token::good());
        for number in 0..clients {
            let mut client =
                if number % 2 == 0 { Client::plain(gateway.http).await } else { Client::tls(gateway).await };
            let (stop, answered, token) = (Arc::clone(&load.stop), Arc::clone(&load.answered), token.clone());
            load.clients.spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(client.get_with("/private/", &token).await.status(), 200);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        load.more(10).await;
        load
    }

    /// Waits until so many more requests were answered.
    async fn more(&self, count: u64) {
        let goal = self.answered.load(Ordering::SeqCst) + count;
        eventually("more answers", || async { (self.answered.load(Ordering::SeqCst) >= goal).then_some(()) }).await;
    }

    /// Every request was answered 200, and no connection was closed under one.
    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
    }
}

#[tokio::test]
async fn an_edit_goes_live_under_load_and_no_request_fails() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let load = Load::begin(&gateway, 6).await;
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/extra/").await.text(), "hello");
    gateway.edit(|text| text + &extra_route("new"));
    gateway.until_generation(2).await;
    let answer = client.get("/extra/").await;
    assert_eq!(
        (answer.status(), answer.field("location")),
        (307, Some("/new")),
        "on a connection of the old generation"
    );
    load.more(100).await;
    load.end().await;
    let warm = gateway.scrape().await.count("portcullis_upstream_connections_opened_total", &[]);
    assert!(warm < 20, "upstream connections are carried over, and {warm} were opened");
}

#[tokio::test]
async fn thirty_quick_reloads_count_up_and_no_request_fails() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let load = Load::begin(&gateway, 4).await;
    gateway.edit(|text| text + &extra_route("0"));
    gateway.until_generation(2).await;
    let mut last = gateway.generation().await;
    for number in 1..=30 {
        gateway.edit(|text| text.replace(&format!("/{}\", status", number - 1), &format!("/{number}\", status")));
        gateway.signal("HUP");
        let live = format!("/{number}");
        eventually("the edit", || async {
            let answer = Client::plain(gateway.http).await.get("/extra/").await;
            (answer.field("location") == Some(live.as_str())).then_some(())
        })
        .await;
        let generation = gateway.generation().await;
        assert!(generation > last, "{generation} after {last}");
        last = generation;
    }
    load.more(20).await;
    load.end().await;
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_config_generation", &[]), last);
    assert_eq!(scrape.count("portcullis_config_reloads_total", &["result=\"refused\""]), 0);
    assert!(scrape.count("portcullis_config_reloads_total", &["result=\"ok\""]) >= 31);
}

#[tokio::test]
async fn a_broken_edit_keeps_the_old_generation_and_says_so() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let good = std::fs::read_to_string(gateway.config()).unwrap();
    gateway.edit(|text| text.replace("auth = \"public\"", "auht = \"public\""));
    let detail = eventually("the refusal", || async {
        let readiness = gateway.readiness().await;
        assert_eq!(readiness.status(), 200, "it still serves");
        readiness.json()["last_reload_error"].as_str().map(str::to_owned)
    })
    .await;
    assert!(detail.contains("auht") && detail.contains("gateway.toml"), "{detail}");
    assert_eq!(gateway.generation().await, 1);
    assert!(gateway.log().contains("ERROR") && gateway.log().contains("auht"), "the log has the reason");
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_config_last_reload_successful", &[]), 0);
    assert_eq!(scrape.count("portcullis_config_reloads_total", &["result=\"refused\""]), 1);
    assert_eq!(scrape.count("portcullis_config_generation", &[]), 1);
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);

    gateway.edit(|_| good);
    gateway.until_metric("portcullis_config_last_reload_successful", &[], 1).await;
    assert!(gateway.readiness().await.json()["last_reload_error"].is_null());
}

#[tokio::test]
async fn an_address_that_is_taken_refuses_the_reload_whole() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    gateway.edit(|text| text + &extra_route("new") + &format!("\n[listen.more]\naddress = \"{address}\"\n"));
    eventually("the refusal", || async {
        gateway.readiness().await.json()["last_reload_error"].as_str().map(str::to_owned)
    })
    .await;
    assert_eq!(gateway.generation().await, 1);
    assert_eq!(Client::plain(gateway.http).await.get("/extra/").await.text(), "hello", "nothing of it is live");
}

#[tokio::test]
async fn sighup_reloads() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    gateway.edit(|text| text + &extra_route("new"));
    gateway.signal("HUP");
    gateway.until_generation(2).await;
    gateway.signal("HUP"); // with nothing changed is no new generation
    gateway.edit(|text| text.replace("/new", "/newer"));
    gateway.until_generation(3).await;
    assert_eq!(Client::plain(gateway.http).await.get("/extra/").await.field("location"), Some("/newer"));
    assert_eq!(gateway.generation().await, 3);
}

/// The certificate a new connection is shown.
async fn shown(gateway: &Gateway, roots: &[rustls::pki_types::CertificateDer<'static>]) -> Vec<u8> {
    let stream = tls::connect(gateway.https, roots, &[b"http/1.1"]).await.expect("a handshake");
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_certificate_is_swapped_live() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let old = gateway.roots()[0].clone();
    assert_eq!(shown(&gateway, std::slice::from_ref(&old)).await, old.to_vec());
    let mut before = Client::tls(&gateway).await;
    assert_eq!(before.get("/").await.status(), 200);

    let new = tls::certificate(gateway.home(), "site");
    let roots = [old.clone(), new.clone()];
    eventually("the new certificate", || async { (shown(&gateway, &roots).await == new.to_vec()).then_some(()) }).await;
    assert_eq!(before.get("/").await.status(), 200, "connections of before go on");
    gateway.until_metric("portcullis_config_last_reload_successful", &[], 1).await;
}

#[tokio::test]
async fn a_certificate_that_does_not_match_its_key_keeps_the_old_one() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let other = tempfile::tempdir().unwrap();
    tls::certificate(other.path(), "site");
    std::fs::copy(other.path().join("site.key"), gateway.home().join("site.key")).unwrap();
    gateway.until_metric("portcullis_config_last_reload_successful", &[], 0).await;
    assert_eq!(shown(&gateway, &gateway.roots()).await, gateway.roots()[0].to_vec());
    assert_eq!(Client::tls(&gateway).await.get("/").await.status(), 200);
}

#[tokio::test]
async fn a_rotated_secret_refuses_old_tokens_at_once_though_they_are_remembered() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let old = bearer(&token::good());
    for _ in 0..3 {
        assert_eq!(client.get_with("/private/", &old).await.status(), 200);
    }
    let secret = "another-end-to-end-secret-of-more-than-32-bytes";
    std::fs::write(gateway.home().join("issuer.secret"), secret).unwrap();
    gateway.until_generation(2).await;
    assert_eq!(client.get_with("/private/", &old).await.status(), 401);
    let claims = serde_json::json!({ "aud": token::AUDIENCE, "exp": token::now() + 60 });
    assert_eq!(client.get_with("/private/", &bearer(&token::signed(secret, &claims))).await.status(), 200);
}

#[tokio::test]
async fn a_claim_newly_required_is_asked_of_tokens_that_are_remembered() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let token = bearer(&token::good());
    assert_eq!(client.get_with("/private/", &token).await.status(), 200);
    gateway.edit(|text| text.replace("leeway_secs = 0", "leeway_secs = 0\nrequired_claims = [\"jti\"]"));
    gateway.until_generation(2).await;
    assert_eq!(client.get_with("/private/", &token).await.status(), 401);
}

#[tokio::test]
async fn listeners_come_and_go_by_reload() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let port = Port::reserve();
    assert!(TcpStream::connect(port.address).await.is_err());
    let table = format!("\n[listen.more]\naddress = \"{}\"\n", port.address);
    gateway.edit(|text| text + &table);
    gateway.until_generation(2).await;
    let mut client = Client::plain(port.address).await;
    assert_eq!(client.get("/").await.status(), 200);

    gateway.edit(|text| text.replace(&table, ""));
    gateway.until_generation(3).await;
    eventually("a closed port", || async { TcpStream::connect(port.address).await.is_err().then_some(()) }).await;
    assert_eq!(client.get("/").await.status(), 200, "its connections end by themselves");
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200);

    gateway.edit(|text| text + &table);
    gateway.until_generation(4).await;
    assert_eq!(Client::plain(port.address).await.get("/").await.status(), 200, "and it can come back");
}

#[tokio::test]
async fn no_request_sees_the_routes_of_one_generation_and_the_policy_of_another() {
    let origin = Origin::hello().await;
    let switch = |text: String| {
        if text.contains("name = \"a-open\"") {
            text.replace("path = \"/a/\"\nauth = \"public\"", "path = \"/a/\"\nauth = { issuer = \"site\" }")
                .replace("a-open", "a-shut")
                .replace("/of-open", "/of-shut")
        } else {
            text.replace("path = \"/a/\"\nauth = { issuer = \"site\" }", "path = \"/a/\"\nauth = \"public\"")
                .replace("a-shut", "a-open")
                .replace("/of-shut", "/of-open")
        }
    };
    // Open it says `of-open`; shut it would say `of-shut`, but to nobody without a token.
    let gateway = Setup::before(&origin)
        .tables("[[route]]\nname = \"a-open\"\npath = \"/a/\"\nauth = \"public\"\nredirect = { to = \"/of-open\" }\n")
        .start()
        .await;
    let mut client = Client::plain(gateway.http).await;
    let (mut open, mut shut) = (0, 0);
    for generation in 2..8 {
        gateway.edit(switch);
        gateway.signal("HUP");
        loop {
            let live = gateway.generation().await >= generation; // asked first, so that each generation answers at least once
            let answer = client.get("/a/").await;
            match answer.status() {
                308 => assert_eq!(answer.field("location"), Some("/of-open")),
                401 => assert_eq!(answer.field("location"), None),
                other => panic!("{other}"),
            }
            open += u32::from(answer.status() == 308);
            shut += u32::from(answer.status() == 401);
            if live {
                break;
            }
        }
    }
    assert!(open > 0 && shut > 0);
}

/// An origin that answers when it is let to.
async fn held() -> (Origin, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let origin = Origin::start(move |mut conn| {
        let opened = Arc::clone(&opened);
        async move {
            while let Some(request) = conn.request().await {
                if request.target() == "/held" {
                    opened.acquire().await.unwrap().forget();
                }
                conn.send(HELLO).await;
            }
        }
    })
    .await;
    (origin, gate)
}

#[tokio::test]
async fn while_it_drains_readyz_is_503_and_what_was_begun_is_finished() {
    let (origin, gate) = held().await;
    let mut gateway = Setup::before(&origin).start().await;
    let (mut plain, mut secure) = (Client::plain(gateway.http).await, Client::tls(&gateway).await);
    for client in [&mut plain, &mut secure] {
        client.get("/").await;
        client.send(get("/held")).await;
    }
    let mut idle = Client::plain(gateway.http).await;
    idle.get("/").await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 2).await;
    gateway.signal("TERM");
    let readiness = eventually("a readiness of 503", || async {
        let readiness = gateway.readiness().await;
        (readiness.status() == 503).then_some(readiness)
    })
    .await;
    assert_eq!((&readiness.json()["draining"], &readiness.json()["ready"]), (&true.into(), &false.into()));
    assert_eq!(scrape::ask(gateway.admin, "/healthz").await.status(), 200);
    eventually("closed listeners", || async {
        let both = [gateway.http, gateway.https].map(TcpStream::connect);
        let [http, https] = both;
        (http.await.is_err() && https.await.is_err()).then_some(())
    })
    .await;
    assert!(idle.until_end().await.is_empty(), "an idle connection is closed");

    gate.add_permits(2);
    for client in [&mut plain, &mut secure] {
        let answer = client.answer().await;
        assert_eq!((answer.status(), answer.closes()), (200, true));
        assert!(client.until_end().await.is_empty());
    }
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_upload_and_a_download_under_way_are_finished_too() {
    let go = Arc::new(Semaphore::new(0));
    let waiting = Arc::clone(&go);
    let origin = Origin::start(move |mut conn| {
        let waiting = Arc::clone(&waiting);
        async move {
            let Some(request) = conn.request().await else { return };
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nfirst ").await;
            if request.method() == "GET" {
                waiting.acquire().await.unwrap().forget();
            }
            conn.send("second").await;
        }
    })
    .await;
    let mut gateway = Setup::before(&origin).start().await;
    let (mut download, mut upload) = (Client::plain(gateway.http).await, Client::plain(gateway.http).await);
    download.send(get("/")).await;
    within("the first half", download.wire.fill()).await.unwrap();
    upload.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 2).await;
    gateway.signal("TERM");
    eventually("the drain", || async { (gateway.readiness().await.status() == 503).then_some(()) }).await;
    go.add_permits(1);
    upload.send("rest!").await;
    assert_eq!(download.answer().await.text(), "first second");
    assert_eq!(upload.answer().await.text(), "first second");
    assert_eq!(gateway.exit().await.code(), Some(0));
}

#[tokio::test]
async fn under_load_every_request_that_was_sent_gets_its_answer() {
    let origin = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            tokio::time::sleep(Duration::from_millis(2)).await;
            conn.send(HELLO).await;
        }
    })
    .await;
    let mut gateway = Setup::before(&origin).server("workers = 2").start().await;
    let answered = Arc::new(AtomicU64::new(0));
    let mut load = JoinSet::new();
    for number in 0..24 {
        let mut client = if number % 3 == 0 { Client::tls(&gateway).await } else { Client::plain(gateway.http).await };
        let answered = Arc::clone(&answered);
        load.spawn(async move {
            for request in 0.. {
                assert!(client.send(get(&format!("/{number}/{request}"))).await, "an open connection takes a request");
                let answer = client.answer().await;
                assert_eq!(answer.status(), 200);
                answered.fetch_add(1, Ordering::SeqCst);
                if answer.closes() {
                    return;
                }
            }
        });
    }
    eventually("a load", || async { (answered.load(Ordering::SeqCst) > 300).then_some(()) }).await;
    gateway.signal("TERM");
    load.join_all().await;
    assert_eq!(gateway.exit().await.code(), Some(0));
    let total = usize::try_from(answered.load(Ordering::SeqCst)).unwrap();
    assert_eq!(origin.requests().len(), total, "and nothing was asked of the origin that nobody heard of");
}

#[tokio::test]
async fn the_grace_ends_what_does_not_end() {
    let (origin, _gate) = held().await;
    let mut gateway = Setup::before(&origin).server("workers = 1\ndrain_secs = 1").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send(get("/held")).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.exit().await.code(), Some(0));
    assert!(begun.elapsed() >= Duration::from_millis(900) && begun.elapsed() < Duration::from_secs(10));
    assert!(client.try_answer().await.is_err());
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    for second in ["TERM", "INT"] {
        let (origin, _gate) = held().await;
        let mut gateway = Setup::before(&origin).start().await;
        let mut client = Client::plain(gateway.http).await;
        client.send(get("/held")).await;
        gateway.until_metric("portcullis_requests_in_flight", &[], 1).await;
        gateway.signal("TERM");
        eventually("the drain", || async { (gateway.readiness().await.status() == 503).then_some(()) }).await;
        let begun = Instant::now();
        gateway.signal(second);
        assert_eq!(gateway.exit().await.code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5), "the grace of 30 s was not waited for");
    }
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_on_either_signal() {
    for signal in ["TERM", "INT"] {
        let origin = Origin::hello().await;
        let mut gateway = Setup::before(&origin).start().await;
        let begun = Instant::now();
        gateway.signal(signal);
        assert_eq!(gateway.exit().await.code(), Some(0));
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn sighup_opens_a_rotated_access_log_anew() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).log("access_file = \"access.log\"").start().await;
    let (file, rotated) = (gateway.home().join("access.log"), gateway.home().join("access.log.1"));
    let holds = |path: std::path::PathBuf, text: &'static str| async move {
        let read = || async { std::fs::read_to_string(&path).unwrap_or_default().contains(text).then_some(()) };
        eventually("an access line", read).await;
    };
    let mut client = Client::plain(gateway.http).await;
    client.get("/before").await;
    holds(file.clone(), "/before").await;
    std::fs::rename(&file, &rotated).unwrap();
    gateway.signal("HUP");
    eventually("a new file", || async { file.exists().then_some(()) }).await;
    client.get("/after").await;
    holds(file.clone(), "/after").await;
    assert!(!std::fs::read_to_string(&rotated).unwrap().contains("/after"));
}
