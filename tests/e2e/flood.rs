//! Forged tokens in number, and changes of a route's `auth`, beside honest requests: every answer is right and nothing hangs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup, route};
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};
use crate::support::{Dice, eventually, h2};

/// Connections that each send one forged token after the other, no two alike, until told to stop.
struct Flood {
    stop: Arc<AtomicBool>,
    refused: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Flood {
    async fn begin(gateway: &Gateway, path: &'static str, connections: u64) -> Self {
        let (stop, refused) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut flood = Self { stop, refused, clients: JoinSet::new() };
        for number in 0..connections {
            let mut client = Client::plain(gateway.http).await;
            let (stop, refused) = (Arc::clone(&flood.stop), Arc::clone(&flood.refused));
            flood.clients.spawn(async move {
                let mut dice = Dice::new(number + 1);
                while !stop.load(Ordering::SeqCst) {
                    let forged = forged(&mut dice);
                    assert_eq!(client.get_with(path, &bearer(&forged)).await.status(), 401, "{forged}");
                    refused.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        flood.more(connections).await;
        flood
    }

    async fn more(&self, count: u64) {
        let goal = self.refused.load(Ordering::SeqCst) + count;
        eventually("more refusals", || async { (self.refused.load(Ordering::SeqCst) >= goal).then_some(()) }).await;
    }

    /// Every one was refused; how many there were.
    async fn end(self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await;
        self.refused.load(Ordering::SeqCst)
    }
}

/// A good token's header and claims under a signature of another key.
fn forged(dice: &mut Dice) -> String {
    let claims = json!({ "aud": token::AUDIENCE, "exp": token::now() + 60, "jti": dice.below(u64::MAX) });
    token::signed("another-secret-that-is-also-long-enough", &claims)
}

#[tokio::test]
async fn honest_requests_are_answered_right_beside_three_hundred_connections_of_forged_tokens() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let honest = bearer(&token::good());
    assert_eq!(Client::plain(gateway.http).await.get_with("/private/", &honest).await.status(), 200);
    let flood = Flood::begin(&gateway, "/private/", 300).await;
    let mut clients = JoinSet::new();
    for number in 0..8 {
        let (http, known) = (gateway.http, honest.clone());
        clients.spawn(async move {
            let mut client = Client::plain(http).await;
            for round in 0..20 {
                let fresh = bearer(&token::with(&json!({ "sub": format!("{number}-{round}") })));
                for (fields, status) in [(&known, 200), (&fresh, 200), (&String::new(), 401), (&known, 200)] {
                    assert_eq!(client.get_with("/private/", fields).await.status(), status, "{fields}");
                }
                assert_eq!(client.get("/").await.status(), 200);
            }
        });
    }
    clients.join_all().await;
    let refused = flood.end().await;
    let reasons = ["reason=\"bad_signature\"", "route=\"private\""];
    gateway.until_metric("portcullis_auth_decisions_total", &reasons, refused).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    assert_eq!(gateway.scrape().await.count("portcullis_panics_total", &[]), 0);
    assert_eq!(origin.requests().len(), 1 + 8 * 20 * 4);
}

#[tokio::test]
async fn honest_streams_are_answered_right_beside_forged_ones_on_the_same_connection() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let sender = h2::connect(&gateway).await;
    let honest = format!("Bearer {}", token::good());
    let mut streams = JoinSet::new();
    let mut dice = Dice::new(9113);
    for number in 0..500 {
        let (mut sender, forged) = (sender.clone(), format!("Bearer {}", forged(&mut dice)));
        let (value, expected) = if number % 5 == 0 { (honest.clone(), 200) } else { (forged, 401) };
        streams.spawn(async move {
            let request = h2::request("GET", "/private/", &[("authorization", &value)]);
            assert_eq!(h2::ask(&mut sender, request).await.0, expected, "{number}");
        });
    }
    streams.join_all().await;
    assert_eq!(origin.requests().len(), 100);
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
}

#[tokio::test]
async fn a_routes_auth_changes_under_a_flood_and_no_request_is_dropped() {
    let origin = Origin::hello().await;
    let strict = route("app", "{ issuer = \"site\" }", "");
    let gateway = Setup::before(&origin).tables(&strict).start().await;
    let flood = Flood::begin(&gateway, "/app/", 40).await;
    let (stop, http, honest) = (Arc::new(AtomicBool::new(false)), gateway.http, bearer(&token::good()));
    let mut load = JoinSet::new();
    for _ in 0..4 {
        let (stop, honest) = (Arc::clone(&stop), honest.clone());
        load.spawn(async move {
            let mut client = Client::plain(http).await;
            while !stop.load(Ordering::SeqCst) {
                assert_eq!(client.get_with("/app/", &honest).await.status(), 200);
            }
        });
    }
    let good = token::good();
    let mut client = Client::plain(gateway.http).await;
    let mut current = "{ issuer = \"site\" }".to_owned();
    let places = "token = { cookie = \"jwt\", query = \"access_token\" }";
    for (generation, auth, [nobody, cookie, query]) in [
        (1, current.clone(), [401, 401, 401]),
        (2, "{ issuer = \"site\", optional = true }".to_owned(), [200, 200, 200]),
        (3, format!("{{ issuer = \"site\", {places} }}"), [401, 200, 200]),
        (4, "{ issuer = \"site\", token = { header = \"X-Token\" } }".to_owned(), [401, 401, 401]),
    ] {
        gateway.edit(|text| text.replace(&format!("auth = {current}\n"), &format!("auth = {auth}\n")));
        gateway.until_generation(generation).await;
        current = auth;
        for (path, fields, expected) in [
            ("/app/".to_owned(), String::new(), nobody),
            ("/app/".to_owned(), format!("Cookie: jwt={good}\r\n"), cookie),
            (format!("/app/?access_token={good}"), String::new(), query),
        ] {
            assert_eq!(client.get_with(&path, &fields).await.status(), expected, "{current}: {path} {fields}");
        }
        flood.more(40).await;
    }
    stop.store(true, Ordering::SeqCst);
    load.join_all().await;
    assert!(flood.end().await > 0);
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
}
