//! What is counted adds up, and no client can add a series.

use crate::support::Dice;
use crate::support::client::{Client, get};
use crate::support::gateway::Setup;
use crate::support::origin::Origin;
use crate::support::token;

#[tokio::test]
async fn ten_thousand_random_paths_add_not_one_series() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin)
        .tables("[[route]]\nname = \"one-host\"\nhosts = [\"only.test\"]\npath = \"/\"\nauth = \"public\"\nupstream = \"app\"\n")
        .server("workers = 1\ntoken_cache_entries = 1000")
        .start()
        .await;
    let mut dice = Dice::new(10_000);
    let mut random = move |count: u64| {
        (0..count)
            .map(|_| {
                let (path, method) = (dice.below(u64::MAX), dice.below(4));
                let method = ["GET", "PUT", "DELETE", "BREW"][usize::try_from(method).unwrap()];
                match dice.below(3) {
                    0 => format!("{method} /{path:x} HTTP/1.1\r\nHost: h{path:x}.test\r\n\r\n"),
                    1 => format!("{method} /private/{path:x}?{path} HTTP/1.1\r\nHost: site.test\r\n\r\n"),
                    _ => format!("{method} /a//{path:x} HTTP/1.1\r\nHost: site.test\r\nX-{path:x}: {path}\r\n\r\n"),
                }
            })
            .collect::<Vec<_>>()
    };
    let mut client = Client::plain(gateway.http).await;
    for request in random(200) {
        client.ask(request).await;
    }
    let before = gateway.scrape().await;
    for batch in random(10_000).chunks(100) {
        client.send(batch.concat()).await;
        for _ in batch {
            client.answer().await;
        }
    }
    let after = gateway.scrape().await;
    assert_eq!(before.names(), after.names());
    gateway.until_metric("portcullis_requests_total", &[], 10_200).await;
}

#[tokio::test]
async fn requests_in_are_outcomes_out() {
    let origin = Origin::start(|mut conn| async move {
        while let Some(request) = conn.request().await {
            if request.target().ends_with("broken") {
                conn.send("nonsense\r\n\r\n").await;
                return;
            }
            conn.send(crate::support::origin::HELLO).await;
        }
    })
    .await;
    let gateway = Setup::before(&origin).limits("body_bytes = 10").start().await;
    let mut client = Client::plain(gateway.http).await;
    let token = token::bearer(&token::good());
    let asked = [
        ("public", 200, get("/")),
        ("private", 401, get("/private/")),
        ("private", 200, format!("GET /private/ HTTP/1.1\r\nHost: a\r\n{token}\r\n")),
        ("public", 502, get("/broken")),
        ("none", 400, get("/a//b")),
        ("none", 405, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("public", 200, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        ("public", 200, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello".to_owned()),
        ("public", 413, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\n\r\n".to_owned()),
    ];
    for (route, status, request) in &asked {
        let mut client_or_new = if *status == 413 { Client::plain(gateway.http).await } else { client };
        client_or_new.send(request).await;
        let answer =
            if request.starts_with("HEAD") { client_or_new.head_answer().await } else { client_or_new.answer().await };
        assert_eq!(answer.status(), *status, "{route}: {request}");
        client = client_or_new;
    }
    gateway.until_metric("portcullis_requests_total", &[], 9).await;
    let scrape = gateway.scrape().await;
    for (route, status, _) in &asked {
        let same = asked.iter().filter(|(other, code, _)| (other, code) == (route, status)).count();
        let labels = [format!("route=\"{route}\""), format!("status=\"{status}\"")];
        let counted = scrape.count("portcullis_requests_total", &[&labels[0], &labels[1]]);
        assert_eq!(counted, same as u64, "{route} {status}");
    }
    for (family, labels, value) in [
        ("portcullis_request_duration_seconds_count", &[][..], 9),
        ("portcullis_requests_in_flight", &[], 0),
        ("portcullis_upstream_leases", &[], 0),
        ("portcullis_upstream_waiting_requests", &[], 0),
        ("portcullis_auth_decisions_total", &["reason=\"permitted\"", "route=\"private\""], 1),
        ("portcullis_auth_decisions_total", &["reason=\"missing_credentials\""], 1),
        ("portcullis_upstream_errors_total", &["stage=\"malformed\""], 1),
        ("portcullis_request_body_bytes_total", &["route=\"public\""], 5),
        ("portcullis_panics_total", &[], 0),
        ("portcullis_connections_accepted_total", &["listener=\"http\""], 2),
    ] {
        let counted = scrape.count(family, labels);
        assert_eq!(counted, value, "{family} {labels:?}");
    }
}

#[tokio::test]
async fn connections_and_handshakes_are_counted_where_they_happen() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    for _ in 0..3 {
        Client::tls(&gateway).await.get("/").await;
    }
    Client::plain(gateway.http).await.get("/").await;
    gateway.until_metric("portcullis_connections_open", &[], 0).await;
    let scrape = gateway.scrape().await;
    for (family, labels, value) in [
        ("portcullis_connections_accepted_total", &["listener=\"https\""][..], 3),
        ("portcullis_connections_accepted_total", &["listener=\"http\""], 1),
        ("portcullis_tls_handshakes_total", &["version=\"1.3\"", "result=\"ok\""], 3),
        ("portcullis_upstream_connections_opened_total", &[], 1),
        ("portcullis_upstream_connection_reuses_total", &[], 3),
    ] {
        let counted = scrape.count(family, labels);
        assert_eq!(counted, value, "{family} {labels:?}");
    }
}
