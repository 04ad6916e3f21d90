//! Tokens whose issuer is asked, judged as requests are, with a real issuer on loopback.

#![allow(clippy::unwrap_used)]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use http::Method;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::introspector::QUESTIONS;
use super::*;
use crate::auth::fixtures::{self, NOW, Request};
use crate::auth::verify::Verified;
use crate::auth::{
    Access, Algorithm, Authority, Cause, Demand, Denied, Forwarding, IssuerSettings, Kind, Permit, Policy,
    PolicySettings, RouteAuth, Rule, Secret, UnixSeconds, explain_token,
};
use crate::fetch::testing::{Asked, Reply, Server, ok, status};
use crate::fetch::{FetchSettings, Location};
use crate::shutdown::Tasks;

/// Settings for an endpoint that nobody asks.
pub(super) fn settings_at(url: &str) -> IntrospectionSettings {
    IntrospectionSettings::new(Location::parse(url, true).unwrap(), "gateway", Secret::new(*b"hunter2"))
}

/// An answer that was judged good.
pub(super) fn vouched(json: &str) -> Arc<Verified> {
    let issuer = Issuer::compile(issuer_settings(settings_at("https://id.test/"))).unwrap().0;
    Arc::new(Verified::read(&issuer, json.as_bytes().to_vec()).unwrap())
}

fn issuer_settings(introspection: IntrospectionSettings) -> IssuerSettings {
    IssuerSettings { introspection: Some(introspection), require_exp: false, ..IssuerSettings::named("id") }
}

fn issuer(server: &Server, change: impl FnOnce(&mut IssuerSettings)) -> Arc<Issuer> {
    let introspection = settings_at(&server.text("/introspect"));
    let fetch = FetchSettings { max_bytes: introspection.fetch.max_bytes, ..server.settings() };
    let mut settings = issuer_settings(IntrospectionSettings { fetch, ..introspection });
    change(&mut settings);
    Arc::new(Issuer::compile(settings).unwrap().0)
}

fn policy(issuers: &[Arc<Issuer>], rules: Vec<Rule>) -> Policy {
    let settings = PolicySettings {
        issuers: (0..issuers.len()).collect(),
        rule: Rule::All(rules),
        ..PolicySettings::of_issuer(0)
    };
    let access = Access::Token(Box::new(settings));
    Policy::compile(&RouteAuth { read: access.clone(), write: access, forward: Forwarding::default() }, issuers)
}

async fn judged_at(authority: &Authority, policy: &Policy, token: &str, now: u64) -> Result<Permit, Denied> {
    let mut request = Request::bearing(token);
    request.now = UnixSeconds::from_secs(now);
    authority.authorize(policy, &request.asking()).await
}

async fn judged(authority: &Authority, policy: &Policy, token: &str) -> Result<Permit, Denied> {
    judged_at(authority, policy, token, NOW).await
}

fn token_of(asked: &Asked) -> &str {
    asked.body.strip_prefix("token=").unwrap().strip_suffix("&token_type_hint=access_token").unwrap()
}

/// Active is every token that begins with `good`, good until [`NOW`] + 300.
fn opaque(asked: &Asked) -> Reply {
    let active = token_of(asked).starts_with("good");
    ok("", &json!({ "active": active, "sub": "alice", "scope": "read", "exp": NOW + 300 }).to_string())
}

#[tokio::test]
async fn the_issuer_is_asked_as_it_wants_to_be() {
    let server = Server::tls(|asked| {
        assert!(asked.head.starts_with("POST /introspect HTTP/1.1\r\n"), "{}", asked.head);
        assert!(asked.head.contains("authorization: Basic Z2F0ZXdheTpodW50ZXIy\r\n"), "{}", asked.head);
        assert!(asked.head.contains("accept: application/json\r\n"), "{}", asked.head);
        assert_eq!(asked.body, "token=good%2Ftoken%3D%3D&token_type_hint=access_token");
        ok("", r#"{"active":true,"sub":"alice"}"#)
    })
    .await;
    let policy = policy(&[issuer(&server, |_| {})], vec![]);
    let permit = judged(&fixtures::authority(8), &policy, "good/token==").await.unwrap();
    assert_eq!((permit.subject(), permit.issuer().unwrap().name()), (Some("alice"), "id"));
}

#[tokio::test]
async fn an_active_token_of_another_kind_is_no_access_token() {
    let server = Server::plain(|asked| {
        let (name, kind) = token_of(asked).split_once('-').unwrap();
        ok("", &json!({ "active": true, "sub": "alice", name: kind }).to_string())
    })
    .await;
    let policy = policy(&[issuer(&server, |_| {})], vec![]);
    let authority = fixtures::authority(8);
    for token in
        ["token_use-refresh_token", "token_type-Refresh", "typ-Refresh", "typ-Offline", "typ-ID", "token_use-id"]
    {
        for _ in 0..2 {
            assert_eq!(judged(&authority, &policy, token).await.unwrap_err().reason(), "wrong_token_type", "{token}");
        }
    }
    for token in ["token_use-access_token", "token_type-Bearer", "typ-Bearer", "token_type-DPoP"] {
        assert!(judged(&authority, &policy, token).await.is_ok(), "{token}");
    }
}

#[tokio::test]
async fn an_answer_is_kept_and_its_dates_and_the_routes_rule_are_asked_each_time() {
    let server = Server::plain(opaque).await;
    let issuers = [issuer(&server, |_| {})];
    let open = policy(&issuers, vec![]);
    let strict = policy(&issuers, vec![Rule::Scopes(vec!["write".into()])]);
    let authority = fixtures::authority(8);
    for _ in 0..3 {
        assert!(judged(&authority, &open, "good").await.is_ok());
        assert_eq!(judged(&authority, &strict, "good").await.unwrap_err().reason(), "insufficient_scope");
    }
    assert_eq!(server.hits(), 1);
    assert_eq!(judged_at(&authority, &open, "good", NOW + 300).await.unwrap_err().reason(), "expired");
    assert_eq!(server.hits(), 2, "past `exp` nothing that was kept is used");
}

#[tokio::test]
async fn an_inactive_token_is_invalid_and_is_not_asked_about_at_each_request() {
    let server = Server::plain(opaque).await;
    let policy = policy(&[issuer(&server, |_| {})], vec![]);
    let authority = fixtures::authority(8);
    for _ in 0..3 {
        let denied = judged(&authority, &policy, "bad").await.unwrap_err();
        assert_eq!((denied.reason(), denied.kind()), ("inactive_token", Kind::InvalidToken));
    }
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn without_room_or_time_every_request_asks() {
    let server = Server::plain(opaque).await;
    let kept = policy(&[issuer(&server, |_| {})], vec![]);
    let anew = policy(
        &[issuer(&server, |settings| settings.introspection.iter_mut().for_each(|one| one.cache = Duration::ZERO))],
        vec![],
    );
    let (none, some) = (fixtures::authority(0), fixtures::authority(8));
    for calls in 1..4 {
        assert!(judged(&none, &kept, "good").await.is_ok());
        assert!(judged(&some, &anew, "good").await.is_ok() && judged(&some, &anew, "bad").await.is_err());
        assert_eq!(server.hits(), 3 * calls);
    }
}

#[tokio::test]
async fn what_the_issuer_settings_demand_of_claims_they_demand_of_the_answer() {
    let server = Server::plain(|_| ok("", "")).await;
    let issuers = [issuer(&server, |settings| {
        settings.issuer = Some("https://id.test/".into());
        settings.audiences = vec!["orders".into()];
        settings.required_claims = vec!["exp".into()];
        settings.require = vec![Demand::equals("token_use", "access")];
        settings.subject_claim = "username".into();
        settings.leeway_secs = 5;
    })];
    let good = json!({
        "active": true, "iss": "https://id.test/", "aud": ["orders", "x"], "exp": NOW + 60, "token_use": "access", "username": "ann",
    });
    let policy = policy(&issuers, vec![]);
    let said = async |change: serde_json::Value| {
        let mut answer = good.clone();
        for (name, value) in change.as_object().unwrap() {
            answer[name.as_str()] = value.clone();
        }
        answer.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        server.answer(move |_| ok("", &answer.to_string()));
        let judged = judged(&fixtures::authority(8), &policy, "opaque").await;
        judged.map(|permit| permit.subject().map(str::to_owned)).map_err(|denied| denied.cause().clone())
    };
    assert_eq!(said(json!({})).await, Ok(Some("ann".to_owned())));
    assert_eq!(said(json!({ "exp": NOW - 4 })).await, Ok(Some("ann".to_owned())), "within the leeway");
    for (change, cause) in [
        (json!({ "exp": NOW - 5 }), Cause::Expired),
        (json!({ "exp": null }), Cause::MissingClaim("exp".into())),
        (json!({ "exp": "soon" }), Cause::MalformedClaim("exp")),
        (json!({ "nbf": NOW + 6 }), Cause::NotYetValid("nbf")),
        (json!({ "iss": "https://other.test/" }), Cause::WrongIssuer),
        (json!({ "iss": null }), Cause::MissingClaim("iss".into())),
        (json!({ "aud": "x" }), Cause::WrongAudience),
        (json!({ "token_use": "id" }), Cause::WrongTokenType("token_use".into())),
        (json!({ "active": false }), Cause::InactiveToken),
        (json!({ "active": "true" }), Cause::IntrospectionUnavailable),
    ] {
        assert_eq!(said(change.clone()).await, Err(cause), "{change}");
    }
}

#[tokio::test]
async fn what_cannot_be_understood_lets_nobody_pass_and_is_not_kept() {
    let server = Server::plain(|_| ok("", "")).await;
    let policy = policy(&[issuer(&server, |_| {})], vec![]);
    let authority = fixtures::authority(8);
    let large = format!(r#"{{"active":true,"x":"{}"}}"#, "x".repeat(64 * 1024));
    let active = r#"{"active":true}"#;
    for reply in [
        ok("", "<html>log in</html>"),
        ok("", "{}"),
        ok("", &large),
        status(401, ""),
        status(201, ""),
        status(302, &format!("Location: {}\r\n", server.text("/other"))),
        Reply::Close(format!("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{active}").into_bytes()),
        Reply::Close(Vec::new()),
    ] {
        server.answer(move |_| reply.clone());
        let denied = judged(&authority, &policy, "good").await.unwrap_err();
        assert_eq!((denied.reason(), denied.kind()), ("introspection_unavailable", Kind::Unavailable));
    }
    server.answer(|_| ok("", active));
    assert!(judged(&authority, &policy, "good").await.is_ok());
}

/// A hundred tasks that ask to pass with one token.
fn a_hundred(authority: &Arc<Authority>, policy: &Policy, token: &'static str) -> Vec<JoinHandle<Option<String>>> {
    let tasks = Tasks::new();
    let one = |_| {
        let (authority, policy) = (Arc::clone(authority), policy.clone());
        tasks.spawn(async move { judged(&authority, &policy, token).await.ok()?.subject().map(str::to_owned) })
    };
    (0..100).map(one).collect()
}

#[tokio::test]
async fn a_hundred_requests_with_one_new_token_ask_once() {
    let gate = Arc::new(Semaphore::new(0));
    let server = {
        let gate = Arc::clone(&gate);
        Server::plain(move |_| Reply::Gated(Arc::clone(&gate), body_of(r#"{"active":true,"sub":"alice"}"#))).await
    };
    let policy = policy(&[issuer(&server, |_| {})], vec![]);
    let authority = Arc::new(fixtures::authority(8));
    let waiting = a_hundred(&authority, &policy, "good");
    until_asked(&server, 1).await;
    gate.add_permits(100);
    for one in waiting {
        assert_eq!(one.await.unwrap().as_deref(), Some("alice"));
    }
    assert_eq!(server.hits(), 1);
}

#[tokio::test]
async fn when_the_client_that_asked_leaves_the_others_are_answered_all_the_same() {
    let gate = Arc::new(Semaphore::new(0));
    let server = {
        let gate = Arc::clone(&gate);
        Server::plain(move |_| Reply::Gated(Arc::clone(&gate), body_of(r#"{"active":true,"sub":"alice"}"#))).await
    };
    let policy = policy(&[issuer(&server, |_| {})], vec![]);
    let authority = Arc::new(fixtures::authority(8));
    let mut waiting = a_hundred(&authority, &policy, "good");
    until_asked(&server, 1).await;
    waiting.remove(0).abort();
    until_asked(&server, 2).await;
    gate.add_permits(100);
    for one in waiting {
        assert_eq!(one.await.unwrap().as_deref(), Some("alice"));
    }
    assert_eq!(server.hits(), 2);
}

/// Everybody else runs until the issuer has been asked so often.
async fn until_asked(server: &Server, times: usize) {
    while server.hits() < times {
        tokio::task::yield_now().await;
    }
}

fn body_of(json: &str) -> Vec<u8> {
    let Reply::Bytes(bytes) = ok("", json) else { unreachable!("`ok` answers with bytes") };
    bytes
}

fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn questions_under_way_are_bounded_and_who_waits_too_long_is_told_so() {
    let server = Server::plain(|_| Reply::Stall(Vec::new())).await;
    let issuer = issuer(&server, |settings| {
        settings.introspection.iter_mut().for_each(|one| one.fetch.timeout = Duration::from_millis(200));
    });
    let asker = Introspector::new(issuer.settings().introspection.clone().unwrap(), 8, None);
    let tokens: Vec<(String, [u8; 32])> =
        (0..=u8::try_from(QUESTIONS).unwrap()).map(|n| (n.to_string(), [n; 32])).collect();
    let mut asking: Vec<_> =
        tokens.iter().map(|(token, digest)| Box::pin(asker.vouch(&issuer, token, digest))).collect();
    for one in &mut asking {
        assert!(poll_once(one.as_mut()).is_pending());
    }
    assert_eq!((asker.turns_left(), asker.flights()), (0, QUESTIONS + 1));
    let mut last = pin!(asking.pop().unwrap());
    assert_eq!((&mut last).await.unwrap_err(), Cause::IntrospectionUnavailable);
    assert_eq!(server.hits(), 0, "nobody else was driven meanwhile, so it waited for its turn alone");
    drop(asking);
    assert_eq!((asker.turns_left(), asker.flights()), (QUESTIONS, 0), "who leaves gives its turn back");
}

#[tokio::test]
async fn a_token_goes_to_the_issuer_that_is_asked_only_if_it_is_nobody_elses() {
    let server = Server::plain(|_| ok("", r#"{"active":true,"sub":"asked"}"#)).await;
    let asked = |name: Option<&str>| {
        issuer(&server, |settings| {
            settings.issuer = None;
            settings.name = name.unwrap_or("id").into();
        })
    };
    let signed = |name: &str, iss: Option<&str>| {
        let settings = IssuerSettings {
            keys: vec![fixtures::ec256().key()],
            issuer: iss.map(Into::into),
            ..IssuerSettings::named(name)
        };
        Arc::new(Issuer::compile(settings).unwrap().0)
    };
    let token = |iss: &str| {
        let claims = format!(r#"{{"exp":{},"sub":"signed","iss":"{iss}"}}"#, NOW + 9);
        fixtures::ec256().sign(Algorithm::Es256, r#"{"alg":"ES256"}"#, &claims)
    };
    let who = async |policy: &Policy, token: &str| {
        let authority = fixtures::authority(8);
        let first = judged(&authority, policy, token).await.map(|permit| permit.subject().unwrap().to_owned());
        let again = judged(&authority, policy, token).await.map(|permit| permit.subject().unwrap().to_owned());
        assert_eq!(first.as_ref().ok(), again.as_ref().ok(), "what is kept changes nothing");
        first.map_err(|denied| denied.reason())
    };
    let named = policy(&[signed("a", Some("https://a/")), asked(None)], vec![]);
    let unnamed = policy(&[asked(None), signed("b", None)], vec![]);
    for opaque in ["opaque", "a.b", "a.b.c", "e30.e30.e30", "a.b.c.d.e"] {
        assert_eq!(who(&named, opaque).await.unwrap(), "asked", "{opaque}");
        assert_eq!(who(&unnamed, opaque).await.unwrap(), "asked", "{opaque}");
    }
    assert_eq!(who(&named, &token("https://a/")).await.unwrap(), "signed");
    assert_eq!(who(&named, &token("https://c/")).await.unwrap(), "asked");
    assert_eq!(who(&unnamed, &token("https://c/")).await.unwrap(), "signed");
    let calls = server.hits();
    let forged = format!("{}AAAA", &token("https://a/")[..token("https://a/").len() - 4]);
    assert_eq!(who(&named, &forged).await.unwrap_err(), "bad_signature");
    assert_eq!(server.hits(), calls, "a bad token of an issuer with keys is shown to nobody");
}

#[tokio::test]
async fn an_asker_lives_as_long_as_its_issuer() {
    let server = Server::plain(opaque).await;
    let askers = Introspectors::new(8);
    let first = issuer(&server, |_| {});
    let asker = askers.of(&first, None).unwrap();
    assert!(Arc::ptr_eq(&asker, &askers.of(&first, None).unwrap()));
    let other = issuer(&server, |settings| settings.leeway_secs = 1);
    assert!(!Arc::ptr_eq(&asker, &askers.of(&other, None).unwrap()), "other rules, other answers");
    assert!(askers.of(&fixtures::django(), None).is_none());
    drop(first);
    askers.forget_gone();
    assert_eq!(Arc::strong_count(&asker), 1);
}

#[tokio::test]
async fn explaining_asks_nobody_unless_it_is_told_to() {
    let server = Server::plain(opaque).await;
    let policy = policy(&[issuer(&server, |_| {})], vec![Rule::Scopes(vec!["write".into()])]);
    let now = UnixSeconds::from_secs(NOW);
    assert!(policy.describe().contains(&format!("calls active at {}", server.text("/introspect"))));
    assert_eq!(introspection_url(&policy, &Method::GET, "good").unwrap().as_str(), server.text("/introspect"));
    assert!(explain_token(&policy, &Method::GET, "/", "good", now).iter().any(|step| !step.ok));
    assert_eq!(server.hits(), 0);
    let wrong = async |token: &str| {
        let steps = explain_introspected(&policy, &Method::GET, "/", token, now).await;
        steps
            .into_iter()
            .filter(|step| !step.ok)
            .map(|step| format!("{}: {}", step.name, step.detail))
            .collect::<Vec<_>>()
    };
    assert_eq!(wrong("good").await, ["route demands: insufficient_scope: the token lacks a scope the route asks"]);
    assert!(wrong("bad").await[0].starts_with("introspection: inactive_token"));
    server.answer(|_| status(500, ""));
    let told = wrong("good").await;
    assert!(told[0].contains("introspection_unavailable") && told[0].contains("status 500"), "{told:?}");
    let django = fixtures::policy(fixtures::django(), vec![]);
    assert!(introspection_url(&django, &Method::GET, "opaque").is_none());
}

#[test]
fn the_secret_shows_nowhere() {
    let settings = settings_at("https://id.test/introspect");
    let shown = format!("{settings:?} {:?} {:?}", issuer_settings(settings.clone()), request::authorization(&settings));
    assert!(!shown.contains("hunter2") && !shown.contains("Z2F0ZXdheTpodW50ZXIy"), "{shown}");
}
