//! Opaque tokens from outside: an issuer that answers, counts, is slow, dies, and talks nonsense.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::process::Command;
use tokio::sync::Semaphore;

use crate::support::client::Client;
use crate::support::gateway::{BINARY, Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::wire::Message;
use crate::support::{eventually, token, within};

const METRIC: &str = "portcullis_introspections_total";
const LOOKUPS: &str = "portcullis_token_cache_lookups_total";

fn keys(issuer: &Origin, more: &str) -> String {
    format!(
        "introspection = {{ url = \"{}/introspect\", client_id = \"gateway\", client_secret = {{ file = \"issuer.secret\" }}{more} }}\n\
         plain_http = true\nfetch_timeout_secs = 5\naudiences = [\"site\"]\n",
        issuer.endpoint()
    )
}

fn answer(json: &serde_json::Value) -> String {
    let body = json.to_string();
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// An issuer that stands by every token that begins with `good`.
async fn issuer() -> Origin {
    Origin::start(|mut conn| async move {
        while let Some(asked) = conn.request().await {
            conn.send(told(&asked)).await;
        }
    })
    .await
}

fn told(asked: &Message) -> String {
    let active = asked.text().starts_with("token=good");
    let exp = token::now() + 300;
    answer(&json!({ "active": active, "sub": "alice", "aud": "site", "scope": "read", "exp": exp }))
}

async fn started(issuer: &Origin, more: &str) -> (Origin, Gateway) {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).issuer(&keys(issuer, more)).start().await;
    (origin, gateway)
}

async fn get(gateway: &Gateway, token: &str) -> Message {
    Client::plain(gateway.http).await.get_with("/private/x", &token::bearer(token)).await
}

async fn counted(gateway: &Gateway, name: &str) -> u64 {
    gateway.scrape().await.count(METRIC, &[&format!("outcome=\"{name}\"")])
}

#[tokio::test]
async fn an_active_token_passes_and_its_issuer_is_asked_once() {
    let issuer = issuer().await;
    let (origin, gateway) = started(&issuer, "").await;
    for _ in 0..3 {
        assert_eq!(get(&gateway, "good-1").await.status(), 200);
    }
    let asked = issuer.only();
    assert_eq!((asked.method(), asked.target()), ("POST", "/introspect"));
    assert_eq!(asked.text(), "token=good-1&token_type_hint=access_token");
    assert_eq!(asked.field("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.field("accept"), Some("application/json"));
    assert!(asked.field("authorization").unwrap().starts_with("Basic "));
    assert_eq!(origin.last().field("x-user-id"), Some("alice"));
    assert_eq!(counted(&gateway, "active").await, 1);
    let log = gateway.log();
    assert!(!log.contains("good-1") && !log.contains("Basic "), "{log}");
}

#[tokio::test]
async fn an_inactive_token_is_challenged_and_a_flood_of_one_asks_seldom() {
    let issuer = issuer().await;
    let (origin, gateway) = started(&issuer, "").await;
    for _ in 0..20 {
        let refused = get(&gateway, "stolen").await;
        assert_eq!(refused.status(), 401);
        assert!(refused.field("www-authenticate").unwrap().contains("error=\"invalid_token\""));
    }
    assert!(issuer.requests().len() < 20, "{} questions", issuer.requests().len());
    assert!(origin.requests().is_empty());
    assert!(gateway.scrape().await.count("portcullis_auth_decisions_total", &["reason=\"inactive_token\""]) == 20);
}

#[tokio::test]
async fn an_answer_is_kept_for_its_time_and_no_longer() {
    let good = Arc::new(AtomicBool::new(true));
    let issuer = {
        let good = Arc::clone(&good);
        Origin::start(move |mut conn| {
            let good = Arc::clone(&good);
            async move {
                while conn.request().await.is_some() {
                    let active = good.load(Ordering::SeqCst);
                    conn.send(answer(&json!({ "active": active, "aud": "site", "sub": "a" }))).await;
                }
            }
        })
        .await
    };
    let (_origin, gateway) = started(&issuer, ", cache_secs = 1").await;
    assert_eq!(get(&gateway, "good").await.status(), 200);
    good.store(false, Ordering::SeqCst);
    let refused = || async { (get(&gateway, "good").await.status() == 401).then_some(()) };
    eventually("the end of what was kept", refused).await;
}

#[tokio::test]
async fn a_slow_issuer_is_asked_once_by_all_who_wait() {
    let gate = Arc::new(Semaphore::new(0));
    let issuer = {
        let gate = Arc::clone(&gate);
        Origin::start(move |mut conn| {
            let gate = Arc::clone(&gate);
            async move {
                while let Some(asked) = conn.request().await {
                    gate.acquire().await.unwrap().forget();
                    conn.send(told(&asked)).await;
                }
            }
        })
        .await
    };
    let (_origin, gateway) = started(&issuer, "").await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = Client::plain(gateway.http).await;
        client.send(format!("GET /private/x HTTP/1.1\r\nHost: site.test\r\n{}\r\n", token::bearer("good"))).await;
        clients.push(client);
    }
    let waiting = || async { (gateway.scrape().await.count(LOOKUPS, &["result=\"miss\""]) == 50).then_some(()) };
    eventually("fifty requests that wait", waiting).await;
    assert_eq!(Client::plain(gateway.http).await.get("/").await.status(), 200, "nobody else waits for the issuer");
    gate.add_permits(50);
    for client in &mut clients {
        assert_eq!(client.answer().await.status(), 200);
    }
    assert_eq!(issuer.requests().len(), 1);
}

#[tokio::test]
async fn an_issuer_that_dies_or_talks_nonsense_lets_nobody_new_pass() {
    let mood = Arc::new(std::sync::Mutex::new(String::new()));
    let issuer = {
        let mood = Arc::clone(&mood);
        Origin::start(move |mut conn| {
            let mood = Arc::clone(&mood);
            async move {
                while let Some(asked) = conn.request().await {
                    let reply = mood.lock().unwrap().clone();
                    match reply.as_str() {
                        "" => conn.send(told(&asked)).await,
                        "die" => return,
                        reply => conn.send(reply).await,
                    };
                }
            }
        })
        .await
    };
    let (origin, gateway) = started(&issuer, "").await;
    assert_eq!(get(&gateway, "good-known").await.status(), 200);
    let active = r#"{"active":true,"aud":"site"}"#;
    for reply in [
        "die".to_owned(),
        "SSH-2.0-OpenSSH_9.9\r\n\r\n".to_owned(),
        format!("HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\n\r\n{active}", active.len()),
        "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>".to_owned(),
        answer(&json!({ "active": "true", "aud": "site" })),
    ] {
        mood.lock().unwrap().clone_from(&reply);
        let refused = get(&gateway, "good-new").await;
        assert_eq!(refused.status(), 503, "{reply}");
        assert!(refused.field("retry-after").is_some() && refused.field("www-authenticate").is_none());
        assert_eq!(get(&gateway, "good-known").await.status(), 200, "what was answered before is known");
    }
    assert_eq!(counted(&gateway, "unavailable").await, 6);
    assert!(gateway.log().contains("a token cannot be introspected"), "{}", gateway.log());
    assert_eq!(origin.requests().len(), 7);
    mood.lock().unwrap().clear();
    assert_eq!(get(&gateway, "good-new").await.status(), 200);
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_is_given_up_in_time() {
    let issuer = Origin::start(|mut conn| async move {
        conn.request().await;
        conn.until_closed().await;
    })
    .await;
    let origin = Origin::hello().await;
    let keys = keys(&issuer, "").replace("fetch_timeout_secs = 5", "fetch_timeout_secs = 0.1");
    let gateway = Setup::before(&origin).issuer(&keys).start().await;
    assert_eq!(get(&gateway, "good").await.status(), 503);
    assert_eq!(counted(&gateway, "unavailable").await, 1);
}

#[tokio::test]
async fn what_was_answered_is_kept_over_a_reload_unless_the_issuer_changed() {
    let issuer = issuer().await;
    let (_origin, gateway) = started(&issuer, "").await;
    assert_eq!(get(&gateway, "good").await.status(), 200);
    gateway.edit(|text| text.replace("[upstream.app]", "[upstream.app]\nqueue_timeout_secs = 4"));
    gateway.until_generation(2).await;
    assert_eq!(get(&gateway, "good").await.status(), 200);
    assert_eq!(issuer.requests().len(), 1);
    gateway.edit(|text| text.replace("audiences = [\"site\"]", "audiences = [\"other\"]"));
    gateway.until_generation(3).await;
    assert_eq!(get(&gateway, "good").await.status(), 401);
    assert_eq!(issuer.requests().len(), 2);
}

#[tokio::test]
async fn explain_asks_the_issuer_only_if_it_is_told_to() {
    let issuer = issuer().await;
    let (_origin, gateway) = started(&issuer, "").await;
    let run = async |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["explain", "GET", "http://site.test/private/x"]).args(arguments);
        let running = command.arg("--config").arg(gateway.config()).stdin(Stdio::null()).output();
        String::from_utf8(within("the command", running).await.unwrap().stdout).unwrap()
    };
    let told = run(&["--token", "good"]).await;
    assert!(told.contains("would be sent to") && told.contains(&issuer.endpoint()), "{told}");
    assert!(told.contains("only the issuer knows") && issuer.requests().is_empty(), "{told}");
    let asked = run(&["--token", "good", "--introspect"]).await;
    assert!(asked.contains("calls it active") && asked.contains("the token passes"), "{asked}");
    assert_eq!(issuer.requests().len(), 1);
    let asked = run(&["--token", "stolen", "--introspect"]).await;
    assert!(asked.contains("inactive_token") && asked.contains("the token is refused"), "{asked}");
}
