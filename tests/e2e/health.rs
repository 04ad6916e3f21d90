//! Endpoints that fail: they are taken out of use for what requests or probes find, come back, and clients hardly notice.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_origin::{H2Origin, Manners, server_tls};
use crate::support::origin::{HELLO, Origin};
use crate::support::tls;

const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno";
const ELIGIBLE: &str = "portcullis_endpoint_eligible";
const EJECTIONS: &str = "portcullis_endpoint_ejections_total";

/// An origin that is well as long as it is told to be: then it answers, else it closes without a word. Its probes it answers by status.
async fn moody() -> (Origin, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(true));
    let mood = Arc::clone(&well);
    let origin = Origin::start(move |mut conn| {
        let mood = Arc::clone(&mood);
        async move {
            while let Some(request) = conn.request().await {
                let well = mood.load(Ordering::SeqCst);
                match (request.target().starts_with("/healthz"), well) {
                    (_, true) => conn.send(HELLO).await,
                    (true, false) => conn.send(UNAVAILABLE).await,
                    (false, false) => return,
                };
            }
        }
    })
    .await;
    (origin, well)
}

/// Requests that were no probes.
fn served(origin: &Origin) -> usize {
    origin.targets().iter().filter(|target| !target.starts_with("/healthz")).count()
}

async fn standing(gateway: &Gateway, origin: &Origin) -> String {
    gateway.readiness().await.json()["upstreams"]["app"][origin.endpoint()].as_str().unwrap_or_default().to_owned()
}

async fn until_standing(gateway: &Gateway, origin: &Origin, word: &str) {
    eventually(word, || async { (standing(gateway, origin).await == word).then_some(()) }).await;
}

fn label(origin: &Origin) -> String {
    format!("endpoint=\"{}\"", origin.endpoint())
}

/// Sends `all` GETs over a few connections while one of two origins is killed; how many were not answered 200.
async fn failures_while_one_of_two_is_killed(keys: &str, all: usize) -> usize {
    let (dying, living) = (Origin::hello().await, Origin::hello().await);
    let setup = Setup::endpoints([dying.endpoint(), living.endpoint()]).server("workers = 2").upstream(keys);
    let gateway = setup.start().await;
    let (asked, mut clients) = (Arc::new(AtomicUsize::new(0)), JoinSet::new());
    for _ in 0..4 {
        let (mut client, asked) = (Client::plain(gateway.http).await, Arc::clone(&asked));
        clients.spawn(async move {
            let mut failed = 0;
            while asked.fetch_add(1, Ordering::SeqCst) < all {
                failed += usize::from(client.get("/").await.status() != 200);
            }
            failed
        });
    }
    eventually("half of the load", || async { (asked.load(Ordering::SeqCst) >= all / 2).then_some(()) }).await;
    assert!(served(&dying) > all / 8, "both are used: {}", served(&dying));
    let label = label(&dying);
    drop(dying);
    let failed = clients.join_all().await.into_iter().sum();
    gateway.until_metric(ELIGIBLE, &[&label], 0).await;
    assert_eq!(gateway.scrape().await.count(EJECTIONS, &[&label, "reason=\"consecutive\""]), 1);
    failed
}

#[tokio::test]
async fn one_of_two_endpoints_that_is_killed_under_load_fails_no_request() {
    assert_eq!(failures_while_one_of_two_is_killed("eject = { base_secs = 60 }", 4000).await, 0);
}

#[tokio::test]
async fn without_retries_it_fails_less_than_a_thousandth() {
    let keys = "eject = { base_secs = 60 }\nretry = { attempts = 1 }";
    let failed = failures_while_one_of_two_is_killed(keys, 12_000).await;
    assert!(failed < 12, "{failed} of 12000");
    assert!(failed > 0, "somebody found out");
}

#[tokio::test]
async fn an_endpoint_that_fails_so_often_in_a_row_gets_no_requests_and_comes_back() {
    let ((sick, well), other) = (moody().await, Origin::hello().await);
    well.store(false, Ordering::SeqCst);
    let keys = "eject = { consecutive = 3, base_secs = 60 }\nkeep_alive_secs = 0";
    let gateway = Setup::endpoints([sick.endpoint(), other.endpoint()]).upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    let mut asked = 0;
    while standing(&gateway, &sick).await == "eligible" {
        assert_eq!(client.get("/").await.status(), 200, "the other has it");
        asked += 1;
        assert!(asked < 30, "it is never ejected");
    }
    assert_eq!(standing(&gateway, &sick).await, "ejected");
    let before = served(&sick);
    assert_eq!(before, 3);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!(served(&sick), before, "nothing is sent to it");

    // A shorter time, by a reload that keeps the endpoints: what was ejected stays so, and the next ejection ends by itself.
    gateway.edit(|text| text.replace("base_secs = 60", "base_secs = 0.2, max_secs = 0.2"));
    gateway.until_generation(2).await;
    assert_eq!(standing(&gateway, &sick).await, "ejected");
}

#[tokio::test]
async fn an_ejection_ends_by_itself() {
    let ((sick, well), other) = (moody().await, Origin::hello().await);
    well.store(false, Ordering::SeqCst);
    let keys = "eject = { consecutive = 1, base_secs = 0.3, max_secs = 0.3 }\nkeep_alive_secs = 0";
    let gateway = Setup::endpoints([sick.endpoint(), other.endpoint()]).upstream(keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    while served(&sick) == 0 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    gateway.until_metric(EJECTIONS, &[&label(&sick)], 1).await;
    well.store(true, Ordering::SeqCst);
    until_standing(&gateway, &sick, "eligible").await;
    let before = served(&sick);
    while served(&sick) == before {
        assert_eq!(client.get("/").await.status(), 200, "it is used again");
    }
}

/// Sends GETs until this endpoint is ejected for being slow.
async fn until_found_slow(gateway: &Gateway, slow: &Origin) {
    let (label, mut clients) = (label(slow), JoinSet::new());
    for _ in 0..6 {
        let mut client = Client::plain(gateway.http).await;
        clients.spawn(async move {
            loop {
                assert_eq!(client.get("/").await.status(), 200);
            }
        });
    }
    gateway.until_metric(EJECTIONS, &[&label, "reason=\"latency\""], 1).await;
    clients.shutdown().await;
}

#[tokio::test]
async fn an_endpoint_that_is_slow_beside_two_others_gets_no_requests() {
    let (one, other) = (Origin::hello().await, Origin::hello().await);
    let slow = Origin::start(|mut conn| async move {
        while conn.request().await.is_some() {
            sleep(Duration::from_millis(300)).await;
            conn.send(HELLO).await;
        }
    })
    .await;
    let keys =
        "balance = \"round-robin\"\neject = { latency_factor = 2, min_requests = 3, window_secs = 1, base_secs = 60 }";
    let endpoints = [one.endpoint(), slow.endpoint(), other.endpoint()];
    let gateway = Setup::endpoints(endpoints).upstream(keys).start().await;
    until_found_slow(&gateway, &slow).await;
    assert_eq!(standing(&gateway, &slow).await, "ejected");
    let (before, mut client) = (served(&slow), Client::plain(gateway.http).await);
    for _ in 0..20 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!((served(&slow), gateway.scrape().await.count(EJECTIONS, &[])), (before, 1));
}

#[tokio::test]
async fn what_clients_do_wrong_ejects_nobody() {
    let silent = || Origin::start(|mut conn| async move { conn.until_closed().await });
    let (one, other) = (silent().await, silent().await);
    let keys = "eject = { consecutive = 1, base_secs = 60 }";
    let gateway = Setup::endpoints([one.endpoint(), other.endpoint()])
        .limits("body_timeout_secs = 1")
        .upstream(keys)
        .start()
        .await;
    for _ in 0..4 {
        // One leaves while it waits, one in the middle of its body, and one sends no more.
        let mut leaving = Client::plain(gateway.http).await;
        leaving.send(get("/")).await;
        let mut breaking = Client::plain(gateway.http).await;
        breaking.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\nabc").await;
        drop((leaving, breaking));
    }
    let mut slow = Client::plain(gateway.http).await;
    let begun = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(100_000));
    slow.send(begun).await;
    assert_eq!(slow.answer().await.status(), 408);
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    let scrape = gateway.scrape().await;
    assert_eq!((scrape.count(ELIGIBLE, &[]), scrape.count(EJECTIONS, &[])), (2, 0));
}

#[tokio::test]
async fn a_status_counts_only_where_the_configuration_says_so() {
    for (keys, ejected) in [("", 0), (", status = [503]", 1)] {
        let (refusing, other) = (Origin::always(UNAVAILABLE).await, Origin::hello().await);
        let keys = format!("eject = {{ consecutive = 3, base_secs = 60{keys} }}");
        let gateway = Setup::endpoints([refusing.endpoint(), other.endpoint()]).upstream(&keys).start().await;
        let mut client = Client::plain(gateway.http).await;
        for _ in 0..20 {
            client.get("/").await;
        }
        assert_eq!(gateway.scrape().await.count(EJECTIONS, &[]), ejected, "{keys}");
        assert_eq!(served(&refusing) == 3, ejected == 1, "{}", served(&refusing));
    }
}

const PROBE: &str =
    "probe = { path = \"/healthz\", interval_secs = 0.1, healthy_after = 1, unhealthy_after = 2 }\neject = false";

#[tokio::test]
async fn probes_decide_where_requests_go_and_readyz_tells() {
    let ((sick, well), (other, other_well)) = (moody().await, moody().await);
    let gateway = Setup::endpoints([sick.endpoint(), other.endpoint()]).upstream(PROBE).start().await;
    assert_eq!(standing(&gateway, &sick).await, "eligible", "from the start");
    well.store(false, Ordering::SeqCst);
    until_standing(&gateway, &sick, "failing probes").await;
    assert_eq!(gateway.readiness().await.status(), 200, "the gateway itself is ready");
    let mut client = Client::plain(gateway.http).await;
    let before = served(&sick);
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!(served(&sick), before);
    gateway.until_metric(ELIGIBLE, &[&label(&sick)], 0).await;
    assert!(gateway.scrape().await.count("portcullis_probe_results_total", &[&label(&sick), "result=\"answer\""]) >= 2);

    // When none is well all are used: better a bad answer than none.
    other_well.store(false, Ordering::SeqCst);
    until_standing(&gateway, &other, "failing probes").await;
    client.get("/").await;
    assert!(served(&sick) + served(&other) > before + 10);

    well.store(true, Ordering::SeqCst);
    until_standing(&gateway, &sick, "eligible").await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status(), 200, "the one that is well has them all");
    }
}

#[tokio::test]
async fn an_endpoint_that_a_reload_adds_is_used_once_a_probe_says_that_it_is_well() {
    let ((old, old_well), (kept, _), (new, new_well)) = (moody().await, moody().await, moody().await);
    let gateway = Setup::endpoints([old.endpoint(), kept.endpoint()]).upstream(PROBE).start().await;
    old_well.store(false, Ordering::SeqCst);
    until_standing(&gateway, &old, "failing probes").await;
    new_well.store(false, Ordering::SeqCst);
    gateway.edit(|text| {
        text.replace(&format!("{:?}", kept.endpoint()), &format!("{:?}, {:?}", kept.endpoint(), new.endpoint()))
    });
    gateway.until_generation(2).await;
    assert_eq!(standing(&gateway, &old).await, "failing probes", "what is known of an endpoint is kept");
    assert_eq!(standing(&gateway, &new).await, "not probed yet");
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!((served(&new), served(&old)), (0, 0));
    new_well.store(true, Ordering::SeqCst);
    until_standing(&gateway, &new, "eligible").await;
    while served(&new) == 0 {
        assert_eq!(client.get("/").await.status(), 200);
    }
}

/// A server of the health service that says SERVING of the service it knows.
async fn health_service() -> (String, JoinHandle<()>) {
    async fn check(
        request: Request<Incoming>,
    ) -> Result<Response<impl http_body::Body<Data = Bytes, Error = Infallible>>, Infallible> {
        let known = request.uri().path() == "/grpc.health.v1.Health/Check";
        let asked = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let serving = known && asked[..] == *b"\0\0\0\0\x06\x0a\x04shop";
        let message: &[u8] = if serving { b"\0\0\0\0\x02\x08\x01" } else { b"\0\0\0\0\x02\x08\x02" };
        let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
        let body = Full::new(Bytes::from_static(message)).with_trailers(async { Some(Ok(trailers)) });
        Ok(Response::builder().header("content-type", "application/grpc").body(body).unwrap())
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let endpoint = format!("h2c://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            let serving =
                http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service_fn(check));
            connections.spawn(async move { serving.await.ok() });
        }
    });
    (endpoint, serving)
}

#[tokio::test]
async fn every_wire_can_be_asked() {
    let home = tempfile::tempdir().unwrap();
    tls::certificate_for(home.path(), "origin", &["127.0.0.1"]);
    let secure = Manners {
        http2: false,
        tls: Some(server_tls(home.path(), "origin", &[b"http/1.1"], None)),
        ..Manners::http2()
    };
    let (http2, secure) = (H2Origin::start(Manners::http2()).await, H2Origin::start(secure).await);
    let (health, serving) = health_service().await;
    let socket = home.path().join("app.sock");
    let unix = tokio::net::UnixListener::bind(&socket).unwrap();
    let accepting = tokio::spawn(async move { while unix.accept().await.is_ok() {} });
    let trusted = "tls = { ca_file = \"origin.crt\" }";
    for (endpoint, probe, more, result) in [
        (format!("h2c://{}", http2.address), "path = \"/up\", body = \"GET /up 0\"", "", "ok"),
        (format!("h2c://{}", http2.address), "path = \"/up\", body = \"GET /down\"", "", "answer"),
        (format!("https://{}", secure.address), "path = \"/up?x\", body = \"GET /up?x 0\"", trusted, "ok"),
        (format!("https://{}", secure.address), "path = \"/up\"", "", "connect"),
        (health.clone(), "kind = \"grpc\", service = \"shop\"", "", "ok"),
        (health.clone(), "kind = \"grpc\", service = \"else\"", "", "answer"),
        (format!("uwsgi+unix:{}", socket.display()), "kind = \"tcp\"", "kind = \"uwsgi\"", "ok"),
        (format!("unix:{}", socket.with_extension("none").display()), "kind = \"tcp\"", "", "connect"),
        (format!("unix:{}", socket.display()), "path = \"/\", timeout_secs = 0.2", "", "answer"),
    ] {
        let home = tempfile::tempdir_in(home.path()).unwrap();
        std::fs::copy(home.path().parent().unwrap().join("origin.crt"), home.path().join("origin.crt")).unwrap();
        let keys = format!("probe = {{ {probe} }}\n{more}");
        let gateway = Setup::endpoints([endpoint.clone()]).upstream(&keys).start_in(home).await;
        let found = || async {
            let scrape = gateway.scrape().await;
            ["ok", "connect", "timeout", "answer"]
                .into_iter()
                .find(|result| scrape.count("portcullis_probe_results_total", &[&format!("result=\"{result}\"")]) > 0)
        };
        assert_eq!(eventually("a probe", found).await, result, "{endpoint} {probe}");
    }
    serving.abort();
    accepting.abort();
}

#[tokio::test]
async fn a_probe_that_gets_no_answer_ends_in_time_and_sends_what_it_is_told() {
    let origin = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.until_closed().await;
    })
    .await;
    let probe = "probe = { path = \"/healthz\", host = \"www.site.test\", timeout_secs = 0.2, interval_secs = 60 }";
    let gateway = Setup::before(&origin).upstream(probe).start().await;
    gateway.until_metric("portcullis_probe_results_total", &["result=\"timeout\""], 1).await;
    let asked = origin.only();
    assert_eq!((asked.method(), asked.target(), asked.field("host")), ("GET", "/healthz", Some("www.site.test")));
    eventually("a closed connection", || async { (origin.open() == 0).then_some(()) }).await;
}
