//! Reads that are sent to a second endpoint when the first takes long: who answers, what becomes of the other, and what is never sent twice.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h2_origin::{H2Origin, Manners};
use crate::support::origin::{HELLO, Origin};
use crate::support::uwsgi::Call;
use crate::support::within;

const HEDGES: [&str; 1] = ["reason=\"hedge\""];
const RETRIES: &str = "portcullis_upstream_retries_total";
const ERRORS: &str = "portcullis_upstream_errors_total";
const ELIGIBLE: &str = "portcullis_endpoint_eligible";
const LEASES: &str = "portcullis_upstream_leases";
/// Endpoints take turns, so that it is known which one is first.
const IN_TURN: &str = "balance = \"round-robin\"\nhedge = { after_ms = 20 }";

/// Reads each request, and never says a word.
async fn silent() -> Origin {
    Origin::start(|mut conn| async move { while conn.request().await.is_some() {} }).await
}

async fn before(origins: &[&Origin], keys: &str) -> Gateway {
    Setup::endpoints(origins.iter().map(|origin| origin.endpoint())).upstream(keys).start().await
}

async fn until_closed(origin: &Origin) {
    eventually("the end of all connections", || async { (origin.open() == 0).then_some(()) }).await;
}

fn seen(origins: &[&Origin]) -> usize {
    origins.iter().map(|origin| origin.requests().len()).sum()
}

#[tokio::test]
async fn a_read_that_takes_long_is_answered_by_another_endpoint_and_nobody_is_to_blame() {
    let (slow, other) = (silent().await, Origin::hello().await);
    let keys = format!("{IN_TURN}\neject = {{ consecutive = 2 }}\nretry = {{ attempts = 1 }}");
    let gateway = before(&[&slow, &other], &keys).await;
    let mut client = Client::plain(gateway.http).await;
    for number in 0..12 {
        assert_eq!(client.get(&format!("/{number}")).await.text(), "hello");
    }
    for method in ["HEAD", "OPTIONS"] {
        for _ in 0..4 {
            assert_eq!(client.by(method, "/", "").await.status(), 200, "{method}");
        }
    }
    assert!(slow.requests().len() > 5, "{}", slow.requests().len());
    until_closed(&slow).await;
    gateway.until_metric(LEASES, &[], 0).await;
    let scrape = gateway.scrape().await;
    assert!(scrape.count(RETRIES, &HEDGES) >= 5);
    assert_eq!(scrape.count(ERRORS, &[]), 0, "who lost did not fail");
    assert_eq!(scrape.count(ELIGIBLE, &[]), 2);
    let line = gateway.access_line("GET site.test/1 ").await;
    assert!(line.contains(&other.endpoint()), "{line}");
}

#[tokio::test]
async fn who_is_quick_is_sent_nothing_twice() {
    let (one, other) = (Origin::hello().await, Origin::hello().await);
    let gateway = before(&[&one, &other], "hedge = { after_ms = 20000 }").await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status(), 200);
    }
    assert_eq!(seen(&[&one, &other]), 10);
    gateway.until_metric(RETRIES, &HEDGES, 0).await;
}

#[tokio::test]
async fn nothing_but_a_read_without_a_body_is_sent_twice_and_nothing_at_all_unasked() {
    let asked = "response_timeout_secs = 0.2\neject = false\nretry = { attempts = 1 }\nhedge = { after_ms = 20 }";
    let with_body = |method: &str| format!("{method} / HTTP/1.1\r\nHost: site.test\r\nContent-Length: 1\r\n\r\nx");
    for (keys, request) in [
        (asked.to_owned(), with_body("POST")),
        (asked.to_owned(), with_body("PUT")),
        (asked.to_owned(), with_body("GET")),
        (asked.to_owned(), get("/").replace("GET", "DELETE")),
        (asked.to_owned(), get("/").replace("GET", "PURGE")),
        (asked.replace("attempts = 1", "attempts = 1, budget_share = 0, budget_min = 0"), get("/")),
        (asked.replace("hedge", "#"), get("/")),
    ] {
        let (one, other) = (silent().await, silent().await);
        let gateway = before(&[&one, &other], &keys).await;
        assert_eq!(Client::plain(gateway.http).await.ask(&request).await.status(), 504, "{request}");
        assert_eq!(seen(&[&one, &other]), 1, "{keys} {request}");
        let scrape = gateway.scrape().await;
        assert_eq!(scrape.count(RETRIES, &[]), 0);
        assert_eq!(
            scrape.count("portcullis_upstream_retry_budget_exhausted_total", &[]),
            0,
            "no failure was passed on"
        );
    }
}

#[tokio::test]
async fn one_request_is_hedged_once_and_its_end_ends_both() {
    let origins = [silent().await, silent().await, silent().await];
    let [one, two, three] = &origins;
    let all = [one, two, three];
    let keys = "response_timeout_secs = 0.4\nretry = { attempts = 1 }\nhedge = { after_ms = 20 }";
    let gateway = before(&all, keys).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 504);
    assert_eq!(seen(&all), 2);
    gateway.until_metric(ERRORS, &["stage=\"response_timeout\""], 2).await;

    let gateway = before(&all, "hedge = { after_ms = 20 }").await;
    let mut client = Client::plain(gateway.http).await;
    client.send(get("/left")).await;
    let both = || async { (one.open() + two.open() + three.open() == 2).then_some(()) };
    eventually("two tries", both).await;
    drop(client);
    for origin in all {
        until_closed(origin).await;
    }
    gateway.until_metric(LEASES, &[], 0).await;
    assert_eq!(gateway.scrape().await.count(ERRORS, &[]), 0, "the client left");
}

#[tokio::test]
async fn when_one_fails_the_other_goes_on() {
    for last in [HELLO, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nhello"] {
        let (fail, answer) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let gates = (Arc::clone(&fail), Arc::clone(&answer));
        let failing = Origin::start(move |mut conn| {
            let gate = Arc::clone(&gates.0);
            async move {
                conn.request().await;
                gate.acquire().await.unwrap().forget();
            }
        })
        .await;
        let answering = Origin::start(move |mut conn| {
            let gate = Arc::clone(&gates.1);
            async move {
                conn.request().await;
                gate.acquire().await.unwrap().forget();
                conn.send(last).await;
            }
        })
        .await;
        // The budget is for one: the hedge's part is free again when one of the two has failed.
        let keys = "hedge = { after_ms = 20 }\nretry = { budget_share = 0, budget_min = 1, on = [\"reset\"] }";
        let gateway = before(&[&failing, &answering], keys).await;
        let mut client = Client::plain(gateway.http).await;
        client.send(get("/")).await;
        let both = || async { (seen(&[&failing, &answering]) == 2).then_some(()) };
        eventually("both tries", both).await;
        fail.add_permits(1);
        gateway.until_metric(ERRORS, &["stage=\"reset\"", &failing.endpoint()], 1).await;
        answer.add_permits(1);
        assert_eq!(client.answer().await.text(), "hello");
        assert_eq!(seen(&[&failing, &answering]), 2);
        assert_eq!(gateway.scrape().await.count(ERRORS, &[]), 1);
    }
}

#[tokio::test]
async fn when_both_fail_it_is_tried_again_as_any_request() {
    let failing = || {
        Origin::start(|mut conn| async move {
            conn.request().await;
            tokio::time::sleep(std::time::Duration::from_millis(200)).await; // longer than it takes to be hedged
        })
    };
    let (one, other) = (failing().await, failing().await);
    let keys = "eject = false\nhedge = { after_ms = 20 }\nretry = { attempts = 2, backoff_ms = 1 }";
    let gateway = before(&[&one, &other], keys).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 502);
    assert_eq!(seen(&[&one, &other]), 3, "two tries, and one beside the first");
    gateway.until_metric(RETRIES, &HEDGES, 1).await;
}

#[tokio::test]
async fn an_answer_that_says_try_again_does_not_win_while_another_is_under_way() {
    let answer = Arc::new(Semaphore::new(0));
    let gate = Arc::clone(&answer);
    let slow = Origin::start(move |mut conn| {
        let gate = Arc::clone(&gate);
        async move {
            conn.request().await;
            gate.acquire().await.unwrap().forget();
            conn.send(HELLO).await;
        }
    })
    .await;
    let refusing = Origin::once("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno").await;
    // What is slow is asked first, and what refuses is asked beside it; then the other way round.
    let keys = "balance = \"round-robin\"\nhedge = { after_ms = 20 }\nretry = { on = [\"503\"] }\neject = false";
    let gateway = before(&[&slow, &refusing], keys).await;
    for _ in 0..2 {
        let mut client = Client::plain(gateway.http).await;
        let before = (slow.requests().len(), refusing.requests().len());
        client.send(get("/")).await;
        let both = || async {
            let now = (slow.requests().len(), refusing.requests().len());
            (now.0 > before.0 && now.1 > before.1).then_some(())
        };
        eventually("both", both).await;
        answer.add_permits(1);
        assert_eq!(client.answer().await.text(), "hello");
    }
}

#[tokio::test]
async fn a_client_that_stays_with_an_endpoint_is_not_moved_by_a_slow_answer() {
    let ((slow, gate), other) = (Origin::gated().await, Origin::hello().await);
    let keys = "balance = { sticky = { cookie = \"srv\", secret = { file = \"issuer.secret\" } } }\neject = false\n\
                hedge = { after_ms = 200 }\nresponse_timeout_secs = 1\nretry = { attempts = 1 }";
    let gateway = before(&[&slow, &other], keys).await;
    gate.add_permits(1000);
    let mut own = None;
    while own.is_none() {
        let had = slow.requests().len();
        let answer = Client::plain(gateway.http).await.get("/").await;
        let cookie = answer.field("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        own = (slow.requests().len() > had).then(|| format!("Cookie: {cookie}\r\n"));
    }
    gate.forget_permits(1000);
    // Whoever comes for the first time gets the cookie of the endpoint that answered.
    let mut cookies = BTreeSet::new();
    let had = slow.requests().len();
    while slow.requests().len() < had + 2 {
        let answer = Client::plain(gateway.http).await.get("/").await;
        assert_eq!(answer.status(), 200);
        cookies.insert(format!("Cookie: {}\r\n", answer.field("set-cookie").unwrap().split(';').next().unwrap()));
    }
    assert!(cookies.len() == 1 && !cookies.contains(own.as_ref().unwrap()), "{cookies:?}");
    // Whoever belongs to the slow one waits for it: its session may be there alone.
    let had = other.requests().len();
    assert_eq!(Client::plain(gateway.http).await.get_with("/", &own.unwrap()).await.status(), 504);
    assert_eq!(other.requests().len(), had);
}

#[tokio::test]
async fn hints_are_the_first_ones_alone() {
    let origin = |name: &'static str, answers: bool| {
        Origin::start(move |mut conn| async move {
            while conn.request().await.is_some() {
                conn.send(format!("HTTP/1.1 103 Early Hints\r\nLink: </{name}>\r\n\r\n")).await;
                if answers {
                    conn.send(HELLO).await;
                }
            }
        })
    };
    let (slow, quick) = (origin("slow", false).await, origin("quick", true).await);
    let gateway = before(&[&slow, &quick], &format!("{IN_TURN}\neject = false")).await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..6 {
        let had = slow.requests().len();
        client.send(get("/")).await;
        let hint = within("a hint", client.wire.head()).await.unwrap().unwrap();
        let mut last = within("an answer", client.wire.head()).await.unwrap().unwrap();
        within("its body", client.wire.request_body(&mut last)).await.unwrap();
        let first = if slow.requests().len() > had { "</slow>" } else { "</quick>" };
        assert_eq!((hint.status(), hint.field("link"), last.status()), (103, Some(first), 200));
    }
}

#[tokio::test]
async fn over_http2_the_stream_of_who_lost_is_reset_and_its_connection_kept() {
    let gate = Arc::new(Semaphore::new(0));
    // One stream at a time: the next request comes only if the last has ended.
    let slow = H2Origin::start(Manners { gate: Arc::clone(&gate), streams: 1, ..Manners::http2() }).await;
    let quick = H2Origin::start(Manners::http2()).await;
    let endpoints = [&slow, &quick].map(|origin| format!("h2c://{}", origin.address));
    let gateway = Setup::endpoints(endpoints).upstream(&format!("{IN_TURN}\nmax_connections = 1")).start().await;
    let mut client = Client::plain(gateway.http).await;
    for _ in 0..12 {
        assert_eq!(client.get("/").await.text(), "GET / 0");
    }
    assert!(slow.heads().len() > 3, "{}", slow.heads().len());
    assert_eq!(slow.accepted(), 1);
    assert_eq!(gateway.scrape().await.count(ERRORS, &[]), 0);
}

#[tokio::test]
async fn a_uwsgi_packet_is_sent_to_another_too() {
    let origin = |answers: bool| {
        Origin::start(move |mut conn| async move {
            let Some(call) = Call::read(&mut conn).await else { return };
            assert_eq!(call.text("REQUEST_URI"), Some("/path?query"));
            if answers {
                conn.send(HELLO).await;
            }
            conn.until_closed().await;
        })
    };
    let (slow, quick) = (origin(false).await, origin(true).await);
    let endpoints = [&slow, &quick].map(|origin| format!("uwsgi://{}", origin.address));
    let keys = format!("kind = \"uwsgi\"\n{IN_TURN}");
    let gateway = Setup::endpoints(endpoints).upstream(&keys).start().await;
    for _ in 0..4 {
        assert_eq!(Client::plain(gateway.http).await.get("/path?query").await.text(), "hello");
    }
    assert!(slow.accepted() > 0);
    until_closed(&slow).await;
}
