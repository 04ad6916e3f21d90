//! Published key sets before a real server on loopback.
//!
//! Time passes only in [`pass`], while no exchange is under way: a clock that runs ahead of the sockets would end their exchanges.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::super::fixtures;
use super::*;
use crate::fetch::testing::{Reply, Server, ok, status};
use crate::fetch::{FetchSettings, Location};
use crate::shutdown::Tasks;

const SECOND: Duration = Duration::from_secs(1);

fn set_of(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn first_set() -> String {
    set_of(&[fixtures::ec256().jwk("first")])
}

fn second_set() -> String {
    set_of(&[fixtures::ec256().jwk("first"), fixtures::ed().jwk("second")])
}

fn settings(server: &Server) -> RemoteSettings {
    RemoteSettings { fetch: server.settings(), ..RemoteSettings::new(RemoteSource::KeySet(server.at("/keys"))) }
}

/// Keys whose first fetch has ended.
async fn kept(settings: RemoteSettings) -> Arc<RemoteKeys> {
    let keys = Arc::new(RemoteKeys::new(settings).unwrap());
    keep(&keys);
    until(&keys, 1).await;
    keys
}

fn keep(keys: &Arc<RemoteKeys>) -> tokio::task::JoinHandle<()> {
    let keys = Arc::clone(keys);
    Tasks::new().spawn(async move { keys.keep_fresh().await })
}

/// Waits for the end of the fetch with this number.
async fn until(keys: &RemoteKeys, round: u64) {
    keys.rounds().wait_for(|rounds| rounds.ended >= round).await.unwrap();
}

async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn kids(keys: &RemoteKeys) -> Vec<String> {
    let set = keys.current().unwrap();
    set.members.iter().map(|member| member.kid.as_deref().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_rotation_is_seen_when_a_token_names_the_new_key() {
    let server = Server::tls(|_| ok("", &first_set())).await;
    let keys = kept(settings(&server)).await;
    assert_eq!(kids(&keys), ["first"]);
    let version = keys.version().unwrap();

    server.answer(|_| ok("", &second_set()));
    assert!(keys.refetch().await, "nobody asked for the first fetch, so it cools nothing down");
    assert_eq!(server.hits(), 2);
    assert_eq!(kids(&keys), ["first", "second"]);
    assert_ne!(keys.version().unwrap(), version);

    assert!(!keys.refetch().await, "the cool-down counts from the end of the one that was asked for");
    assert_eq!(server.hits(), 2);
    pass(10 * SECOND).await;
    let version = keys.version();
    assert!(keys.refetch().await);
    assert_eq!((keys.version(), server.hits()), (version, 3), "the same set has the same version");
    let status = keys.status();
    assert_eq!((status.keys, status.fetches_ok, status.fetches_failed, status.stale), (2, 3, 0, false));
}

#[tokio::test]
async fn a_set_is_fetched_again_before_it_expires_within_the_bounds() {
    for (lines, least, most) in [
        ("Cache-Control: max-age=1\r\n", 60, 66),
        ("Cache-Control: no-store\r\n", 60, 66),
        ("Cache-Control: max-age=1000\r\nAge: 500\r\n", 400, 475),
        ("Cache-Control: max-age=9999999\r\n", 2880, 3420),
        ("", 480, 570),
    ] {
        let server = Server::plain(move |_| ok(lines, &first_set())).await;
        let keys = kept(settings(&server)).await;
        let (due, now) = (keys.due().unwrap(), Instant::now());
        // The fetch itself took a little of it.
        assert!(due <= now + most * SECOND && due + SECOND * 5 > now + least * SECOND, "{lines}: {:?}", due - now);
        pass(due - now).await;
        until(&keys, 2).await;
        assert_eq!(server.hits(), 2);
    }
}

#[tokio::test]
async fn a_thousand_askers_cause_one_fetch_and_all_learn_its_end() {
    let server = Server::plain(|_| ok("", &first_set())).await;
    let keys = kept(settings(&server)).await;
    pass(10 * SECOND).await;
    let gate = Arc::new(Semaphore::new(0));
    let Reply::Bytes(bytes) = ok("", &second_set()) else { unreachable!() };
    let reply = Reply::Gated(Arc::clone(&gate), bytes);
    server.answer(move |_| reply.clone());

    let tasks = Tasks::new();
    let ask = |_| {
        let keys = Arc::clone(&keys);
        tasks.spawn(async move { keys.refetch().await })
    };
    let askers: Vec<_> = (0..1000).map(ask).collect();
    while keys.waiting() < 1000 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(1);
    for asker in askers {
        assert!(asker.await.unwrap());
    }
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn ten_thousand_askers_cause_one_fetch_a_cool_down() {
    let server = Server::plain(|_| ok("", &first_set())).await;
    let keys = kept(settings(&server)).await;
    for round in 2..5 {
        pass(10 * SECOND).await;
        let mut granted = 0;
        for _ in 0..10_000 {
            granted += usize::from(keys.refetch().await);
        }
        assert_eq!((granted, server.hits()), (1, round));
    }
}

#[tokio::test]
async fn stale_keys_serve_while_the_issuer_is_down_and_not_for_ever() {
    let server = Server::plain(|_| ok("", &first_set())).await;
    let keys = kept(settings(&server)).await;
    server.answer(|_| status(503, ""));
    pass(3600 * SECOND).await;
    until(&keys, 2).await;
    let down = keys.status();
    assert_eq!((down.keys, down.fetches_ok, down.fetches_failed, down.stale), (1, 1, 1, true));
    assert!(down.last_error.unwrap().contains("status 503"));
    assert!(down.age.unwrap() >= 3600 * SECOND);
    assert_eq!(kids(&keys), ["first"]);

    pass(Duration::from_hours(23)).await;
    assert!(keys.current().is_none() && keys.version().is_none());
    assert_eq!(keys.status().keys, 0);
    until(&keys, 3).await;
    assert!(keys.current().is_none());

    server.answer(|_| ok("", &second_set()));
    pass(61 * SECOND).await;
    keys.rounds().wait_for(|rounds| rounds.good > 1).await.unwrap();
    assert_eq!(kids(&keys), ["first", "second"]);
    let up = keys.status();
    assert_eq!((up.last_error, up.stale), (None, false));
}

#[tokio::test]
async fn what_is_no_set_of_usable_keys_leaves_the_old_one() {
    let server = Server::plain(|_| ok("", &first_set())).await;
    let mut settings = settings(&server);
    settings.fetch = FetchSettings { timeout: Duration::from_millis(200), max_bytes: 4000, ..settings.fetch };
    let keys = kept(settings).await;
    let secret = set_of(&[json!({"kty": "oct", "kid": "s", "k": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"})]);
    for (reply, said) in [
        (status(302, "Location: /other\r\n"), "redirect"),
        (status(500, ""), "status 500"),
        (ok("", "<html>"), "not JSON"),
        (ok("", "{\"keys\":[]}"), "none of its 0 keys"),
        (ok("", &secret), "shared secret"),
        (ok("", &"x".repeat(4001)), "longer than 4000"),
        (Reply::Stall(b"HTTP/1.1 200 OK\r\n".to_vec()), "within 200ms"),
        (Reply::Close(b"junk\r\n\r\n".to_vec()), "broke off"),
    ] {
        let before = keys.rounds().borrow().ended;
        server.answer(move |_| reply.clone());
        pass(10 * SECOND).await;
        // A retry may be due before anybody asks: either way the next fetch is this one.
        assert!(!keys.refetch().await, "{said}");
        until(&keys, before + 1).await;
        let status = keys.status();
        assert!(status.last_error.as_ref().is_some_and(|error| error.contains(said)), "{said}: {status:?}");
        assert!(status.fetches_failed >= before);
        assert_eq!(kids(&keys), ["first"]);
    }
}

#[tokio::test]
async fn plain_http_is_refused_where_it_is_not_allowed() {
    let server = Server::plain(|_| ok("", &first_set())).await;
    let mut settings = settings(&server);
    let ca_pem = Server::tls(|_| ok("", "")).await.settings().ca_pem;
    settings.fetch = FetchSettings { plain_http: false, ca_pem, ..settings.fetch };
    let keys = kept(settings).await;
    assert!(keys.current().is_none());
    assert!(keys.status().last_error.unwrap().contains("plain http is not allowed"));
    assert_eq!(server.connections(), 0);
}

/// Waits for the blocking thread that writes the copy.
async fn until_copied(path: &Path) {
    while !path.exists() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_cold_start_serves_the_copy_on_disk_while_it_is_young_enough() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keys.json");
    let server = Server::plain(|_| ok("", &second_set())).await;
    let settings = RemoteSettings { last_good: Some(path.clone()), ..settings(&server) };
    let keys = kept(settings.clone()).await;
    until_copied(&path).await;

    server.answer(|_| status(500, ""));
    let cold = kept(settings.clone()).await;
    assert_eq!(kids(&cold), ["first", "second"]);
    assert_eq!(cold.version(), keys.version());
    let status = cold.status();
    assert_eq!((status.stale, status.fetches_ok, status.fetches_failed), (true, 0, 1));

    let date = |age| File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - age).unwrap();
    date(Duration::from_hours(23));
    let old = RemoteKeys::new(settings.clone()).unwrap();
    assert!(old.current().is_some() && old.status().age.unwrap() >= Duration::from_hours(23));
    pass(Duration::from_hours(1)).await;
    assert!(old.current().is_none(), "its age counts on from what it was");
    date(Duration::from_hours(25));
    assert!(RemoteKeys::new(settings.clone()).unwrap().current().is_none());
    date(Duration::ZERO);
    let other = RemoteSettings { source: RemoteSource::KeySet(server.at("/other")), ..settings };
    assert!(RemoteKeys::new(other).unwrap().current().is_none(), "a copy serves its own source alone");
}

#[tokio::test(start_paused = true)]
async fn an_asker_waits_no_longer_than_a_fetch_may_take() {
    let location = Location::parse("http://127.0.0.1:9/", true).unwrap();
    let mut settings = RemoteSettings::new(RemoteSource::KeySet(location));
    settings.fetch.plain_http = true;
    let keys = RemoteKeys::new(settings).unwrap();
    let begun = Instant::now();
    assert!(!keys.refetch().await, "nobody fetches");
    assert_eq!(begun.elapsed().as_secs(), 6);
}

#[tokio::test]
async fn another_thread_with_another_runtime_may_ask() {
    let server = Server::plain(|_| ok("", &first_set())).await;
    let keys = kept(RemoteSettings { cooldown: Duration::ZERO, ..settings(&server) }).await;
    let asking = Arc::clone(&keys);
    let asker = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asking.refetch())
    });
    assert!(asker.await.unwrap());
    assert_eq!(server.hits(), 2);
}

#[tokio::test]
async fn a_writer_that_is_dropped_in_the_middle_can_be_run_again() {
    let server = Server::plain(|_| Reply::Stall(Vec::new())).await;
    let keys = Arc::new(RemoteKeys::new(settings(&server)).unwrap());
    let writer = keep(&keys);
    while server.hits() == 0 {
        tokio::task::yield_now().await;
    }
    writer.abort();
    assert!(writer.await.unwrap_err().is_cancelled());
    server.answer(|_| ok("", &first_set()));
    keep(&keys);
    until(&keys, 2).await;
    assert_eq!(kids(&keys), ["first"]);
}

/// An issuer below `/tenant` whose metadata is answered by `metadata`, given the URL of the server.
async fn issuer(metadata: impl Fn(&str, &str) -> Reply + Send + Sync + 'static) -> (Server, RemoteSettings) {
    let server = Server::tls(|_| status(404, "")).await;
    let root = server.text("");
    server.answer(move |asked| match asked.target() {
        "/keys" => ok("", &first_set()),
        other => metadata(other, &root),
    });
    let source = RemoteSource::Discovery(server.at("/tenant"));
    let settings = RemoteSettings { fetch: server.settings(), ..RemoteSettings::new(source) };
    (server, settings)
}

fn metadata(root: &str, issuer: &str) -> Reply {
    ok("", &json!({"issuer": format!("{root}{issuer}"), "jwks_uri": format!("{root}/keys")}).to_string())
}

#[tokio::test]
async fn the_key_set_is_found_by_openid_metadata() {
    let (server, settings) = issuer(|target, root| {
        assert_eq!(target, "/tenant/.well-known/openid-configuration");
        metadata(root, "/tenant")
    })
    .await;
    let keys = kept(settings).await;
    assert_eq!((kids(&keys), server.hits()), (vec!["first".to_owned()], 2));
}

#[tokio::test]
async fn the_key_set_is_found_by_rfc_8414_metadata_where_openid_has_none() {
    for nothing in [status(404, ""), status(302, "Location: /login\r\n"), ok("", "<html>front page</html>")] {
        let (server, settings) = issuer(move |target, root| match target {
            "/.well-known/oauth-authorization-server/tenant" => metadata(root, "/tenant"),
            _ => nothing.clone(),
        })
        .await;
        let keys = kept(settings).await;
        assert_eq!((kids(&keys), server.hits()), (vec!["first".to_owned()], 3));
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_ends_the_search() {
    for other in ["", "/tenant/", "/TENANT", "/tenant2"] {
        let (server, settings) = issuer(move |_, root| metadata(root, other)).await;
        let keys = kept(settings).await;
        assert!(keys.current().is_none());
        let error = keys.status().last_error.unwrap();
        assert!(error.contains("the metadata is of issuer"), "{error}");
        assert_eq!(server.hits(), 1);
    }
}

#[tokio::test]
async fn metadata_cannot_lead_to_plain_http() {
    let (server, settings) = issuer(|_, root| {
        let plain = root.replace("https:", "http:");
        ok("", &json!({"issuer": format!("{root}/tenant"), "jwks_uri": format!("{plain}/keys")}).to_string())
    })
    .await;
    let keys = kept(settings).await;
    let error = keys.status().last_error.unwrap();
    assert!(error.contains("jwks_uri") && error.contains("plain http"), "{error}");
    assert_eq!(server.hits(), 1);
}
