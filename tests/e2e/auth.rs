//! Who is refused is told so as RFC 6750 says, or as the application would have; who passes is presented in one form.

use serde_json::json;

use crate::support::client::Client;
use crate::support::gateway::Setup;
use crate::support::origin::Origin;
use crate::support::token::{self, bearer};
use crate::support::wire::Message;
use crate::support::{Dice, eventually};

const SCOPED: &str = "[[route]]\nname = \"scoped\"\npath = \"/scoped/\"\n\
    auth = { issuer = \"site\", scopes = [\"read\", \"write\"] }\nupstream = \"app\"\n\
    [[route]]\nname = \"staff\"\npath = \"/staff/\"\nauth = { issuer = \"site\", require = { is_staff = true } }\n\
    upstream = \"app\"\n";

fn challenge(answer: &Message) -> &str {
    answer.field("www-authenticate").expect("a challenge")
}

fn assert_problem(answer: &Message, status: u16) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(answer.field("cache-control"), Some("no-store"));
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["type"], "about:blank");
    assert!(problem["title"].is_string() && problem["detail"].is_string(), "{problem}");
}

#[tokio::test]
async fn no_token_is_401_without_an_error_code() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let answer = Client::plain(gateway.http).await.get("/private/").await;
    assert_problem(&answer, 401);
    assert_eq!(challenge(&answer), "Bearer realm=\"portcullis\"");
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_bad_token_is_401_invalid_token() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let unsigned = "eyJhbGciOiJub25lIn0"; // {"alg":"none"}
    for (what, bad) in [
        (
            "another key's",
            token::signed("another-secret-that-is-also-long-enough", &json!({ "exp": token::now() + 60 })),
        ),
        ("expired", token::with(&json!({ "exp": token::now() - 1 }))),
        ("without end", token::with(&json!({ "exp": null }))),
        ("of tomorrow", token::with(&json!({ "nbf": token::now() + 600 }))),
        ("for another audience", token::with(&json!({ "aud": "other" }))),
        ("for no audience", token::with(&json!({ "aud": null }))),
        ("with its claims cut off", format!("{header}.{signature}")),
        ("with its signature cut off", format!("{signed}.")),
        ("with padding", format!("{good}=")),
        ("of algorithm none", format!("{unsigned}.{}.", signed.split_once('.').unwrap().1)),
        ("nonsense", "nonsense".to_owned()),
    ] {
        let answer = client.get_with("/private/", &bearer(&bad)).await;
        assert_problem(&answer, 401);
        assert_eq!(challenge(&answer), "Bearer realm=\"portcullis\", error=\"invalid_token\"", "{what}");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn no_changed_byte_of_a_token_passes() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    assert_eq!(client.get_with("/private/", &bearer(&good)).await.status(), 200); // and is remembered from now on
    let mut dice = Dice::new(6750);
    for _ in 0..200 {
        let mut bytes = good.clone().into_bytes();
        let at = usize::try_from(dice.below(bytes.len() as u64)).unwrap();
        let other = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
            [usize::try_from(dice.below(64)).unwrap()];
        if bytes[at] == other {
            continue;
        }
        bytes[at] = other;
        let changed = String::from_utf8(bytes).unwrap();
        assert_eq!(client.get_with("/private/", &bearer(&changed)).await.status(), 401, "{changed}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn two_credentials_are_400_invalid_request() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = bearer(&token::good());
    for fields in [
        format!("{good}{good}"),
        format!("{good}authorization: Basic dTpw\r\n"),
        format!("Authorization: Basic dTpw\r\n{good}"),
    ] {
        let answer = client.get_with("/private/", &fields).await;
        assert_problem(&answer, 400);
        assert_eq!(challenge(&answer), "Bearer realm=\"portcullis\", error=\"invalid_request\"");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn a_malformed_authorization_is_refused() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for fields in [
        "Authorization: Bearer\r\n".to_owned(),
        format!("Authorization: Bearer {good} {good}\r\n"),
        format!("Authorization: Bearer {good}, Bearer {good}\r\n"),
        format!("Authorization: Bearer{good}\r\n"),
        format!("Authorization: {good}\r\n"),
        "Authorization: Basic dTpw\r\n".to_owned(),
        "Authorization:\r\n".to_owned(),
    ] {
        let answer = client.get_with("/private/", &fields).await;
        assert!(matches!(answer.status(), 400 | 401), "{fields}: {answer:?}");
    }
    for path in [format!("/private/?access_token={good}"), format!("/private/?token={good}")] {
        assert_eq!(client.get(&path).await.status(), 401, "a token in the query is none");
    }
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn too_little_scope_is_403_and_says_what_is_needed() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(SCOPED).start().await;
    let mut client = Client::plain(gateway.http).await;
    for claims in [json!({}), json!({ "scope": "" }), json!({ "scope": "read" }), json!({ "scope": "read writes" })] {
        let answer = client.get_with("/scoped/", &bearer(&token::with(&claims))).await;
        assert_problem(&answer, 403);
        assert_eq!(
            challenge(&answer),
            "Bearer realm=\"portcullis\", error=\"insufficient_scope\", scope=\"read write\"",
            "{claims}"
        );
    }
    assert!(origin.requests().is_empty());
    for claims in [json!({ "scope": "write read" }), json!({ "scp": ["read", "write", "more"] })] {
        assert_eq!(client.get_with("/scoped/", &bearer(&token::with(&claims))).await.status(), 200, "{claims}");
    }
}

#[tokio::test]
async fn a_claim_that_is_not_as_the_route_requires_is_403() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).tables(SCOPED).start().await;
    let mut client = Client::plain(gateway.http).await;
    for claims in [json!({}), json!({ "is_staff": false }), json!({ "is_staff": "true" }), json!({ "is_staff": 1 })] {
        let answer = client.get_with("/staff/", &bearer(&token::with(&claims))).await;
        assert_problem(&answer, 403);
    }
    assert!(origin.requests().is_empty());
    assert_eq!(client.get_with("/staff/", &bearer(&token::with(&json!({ "is_staff": true })))).await.status(), 200);
}

#[tokio::test]
async fn the_simplejwt_preset_answers_as_django_would() {
    let origin = Origin::hello().await;
    let gateway =
        Setup::before(&origin).issuer("preset = \"simplejwt\"\nsecret = { file = \"issuer.secret\" }").start().await;
    let mut client = Client::plain(gateway.http).await;
    let access = |more: &serde_json::Value| {
        let mut claims = json!({ "token_type": "access", "jti": "1", "user_id": 7, "exp": token::now() + 60 });
        for (name, value) in more.as_object().unwrap() {
            claims[name] = value.clone();
        }
        bearer(&token::signed(token::SECRET, &claims))
    };
    let not_valid = |message: &str| {
        format!(
            r#"{{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":[{{"token_class":"AccessToken","token_type":"access","message":"{message}"}}]}}"#
        )
    };
    for (fields, body) in [
        (String::new(), r#"{"detail":"Authentication credentials were not provided."}"#.to_owned()),
        (access(&json!({ "exp": token::now() - 1 })), not_valid("Token is expired")),
        (access(&json!({ "token_type": "refresh" })), not_valid("Token has wrong type")),
        (bearer(&token::signed("another-secret-that-is-also-long-enough", &json!({}))), not_valid("Token is invalid")),
    ] {
        let answer = client.get_with("/private/", &fields).await;
        assert_eq!((answer.status(), answer.text()), (401, body));
        assert_eq!(answer.field("content-type"), Some("application/json"));
        assert_eq!(challenge(&answer), "Bearer realm=\"api\"");
    }
    assert!(origin.requests().is_empty());
    assert_eq!(client.get_with("/private/", &access(&json!({}))).await.status(), 200);
}

#[tokio::test]
async fn a_token_that_expires_while_it_is_remembered_is_refused() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let end = token::now() + 3;
    let token = bearer(&token::with(&json!({ "exp": end })));
    for _ in 0..3 {
        assert_eq!(client.get_with("/private/", &token).await.status(), 200);
    }
    let hits = gateway.scrape().await.count("portcullis_token_cache_lookups_total", &["result=\"hit\""]);
    assert!(hits >= 2, "it was remembered");
    let client = tokio::sync::Mutex::new(client);
    eventually("the refusal of an expired token", || async {
        let before = token::now();
        let answer = client.lock().await.get_with("/private/", &token).await;
        if answer.status() == 200 {
            assert!(before < end, "accepted at {before}, its end was {end}");
            return None;
        }
        assert!(token::now() >= end);
        assert_problem(&answer, 401);
        Some(())
    })
    .await;
}

#[tokio::test]
async fn authorization_reaches_the_origin_in_one_form() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    for field in [
        format!("Authorization: Bearer {good}\r\n"),
        format!("authorization: bearer {good}\r\n"),
        format!("AUTHORIZATION:BEARER {good}   \r\n"),
    ] {
        assert_eq!(client.get_with("/private/", &field).await.status(), 200, "{field}");
        assert_eq!(origin.last().field("authorization"), Some(format!("Bearer {good}").as_str()));
    }
}

#[tokio::test]
async fn claims_are_handed_on_with_every_digit_or_refused_whole() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    for (subject, forwarded) in [
        (json!(9_007_199_254_740_993_u64), Some("9007199254740993")),
        (json!("a b"), Some("a b")),
        (json!(["a", "b"]), Some("a,b")),
        (json!("a\r\nX-Admin: 1"), None),
    ] {
        let answer = client.get_with("/private/", &bearer(&token::with(&json!({ "sub": subject })))).await;
        assert_eq!(answer.status() == 200, forwarded.is_some(), "{subject}: {answer:?}");
        if forwarded.is_some() {
            assert_eq!(origin.last().field("x-user-id"), forwarded);
        }
    }
    assert_eq!(origin.requests().len(), 3);
}

#[tokio::test]
async fn neither_log_nor_metrics_show_a_token() {
    let origin = Origin::hello().await;
    let gateway = Setup::before(&origin).start().await;
    let mut client = Client::plain(gateway.http).await;
    let good = token::good();
    client.get_with("/private/?marked", &bearer(&good)).await;
    client.get_with("/private/?marked", &bearer("nonsense-token")).await;
    client.get(&format!("/private/?marked&access_token={good}")).await;
    let log = eventually("three access lines", || async {
        let log = gateway.log();
        (log.matches("marked").count() == 3).then_some(log)
    })
    .await;
    let signature = good.rsplit_once('.').unwrap().1;
    for page in [log, crate::support::scrape::ask(gateway.admin, "/metrics").await.text()] {
        assert!(
            !page.contains(signature) && !page.contains("nonsense-token") && !page.contains(token::SECRET),
            "{page}"
        );
    }
}
