//! What the gateway says in its own name: identity tokens to upstreams, and the documents that routes publish.

use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::client::{Client, get, post};
use crate::support::gateway::{BINARY, Gateway, Setup};
use crate::support::origin::{HELLO, Origin};
use crate::support::{eventually, token};

const FIELD: &str = "x-portcullis-identity";
const TABLES: &str = r#"
[identity]
key = "identity.pem"
issuer = "https://gateway.test"
lifetime_secs = 20

[[route]]
name = "vouched"
path = "/vouched/"
auth = { issuer = "site", optional = true, token = { query = "access_token" } }
identity_token = true
replace_prefix = "/app"
upstream = "app"

[[route]]
name = "keys"
path = "/.well-known/jwks.json"
auth = "public"
publish = "identity"

[[route]]
name = "metadata"
path = "/.well-known/oauth-protected-resource"
auth = "public"
response_headers = { "Access-Control-Allow-Origin" = "*" }
publish = { resource_metadata = { resource = "https://site.test/", issuers = ["site"], scopes_supported = ["read"] } }
"#;

fn issuer() -> String {
    let audience = token::AUDIENCE;
    format!("secret = {{ file = \"issuer.secret\" }}\nissuer = \"https://id.test\"\naudiences = [\"{audience}\"]")
}

fn setup(origin: &Origin) -> Setup {
    Setup::before(origin).issuer(&issuer()).tables(TABLES)
}

async fn start(setup: Setup) -> Gateway {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("identity.pem"), key()).unwrap();
    setup.start_in(home).await
}

fn key() -> String {
    rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem()
}

fn good() -> String {
    token::with(&json!({ "iss": "https://id.test" }))
}

fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn the_upstream_is_told_who_asked_for_what_in_the_gateways_own_name() {
    let origin = Origin::hello().await;
    let gateway = start(setup(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let before = token::now();
    let request = format!("/vouched/x%20y?a=1&access_token={}&b=%2F", good());
    assert_eq!(client.ask(get(&request)).await.status(), 200);
    let seen = origin.only();
    let claims = part(seen.field(FIELD).unwrap(), 1);
    assert_eq!(seen.target(), "/app/x%20y?a=1&b=%2F");
    for (name, value) in [
        ("iss", json!("https://gateway.test")),
        ("aud", json!("app")),
        ("sub", json!("alice")),
        ("issuer", json!("site")),
        ("htm", json!("GET")),
        ("htp", json!(seen.target())),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    let iat = claims["iat"].as_u64().unwrap();
    assert!((before..=token::now()).contains(&iat) && claims["exp"] == json!(iat + 20), "{claims}");

    let fields = token::bearer(&good());
    assert_eq!(client.ask(post("/vouched/", "{}").replacen("\r\n", &format!("\r\n{fields}"), 1)).await.status(), 200);
    let other = part(origin.last().field(FIELD).unwrap(), 1);
    assert_eq!((&other["htm"], &other["htp"]), (&json!("POST"), &json!("/app/")));
    assert_ne!(other["jti"], claims["jti"]);
}

#[tokio::test]
async fn nobody_and_no_client_is_vouched_for() {
    let origin = Origin::hello().await;
    let gateway = start(setup(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    for path in ["/", "/vouched/"] {
        for name in ["X-Portcullis-Identity", "x-PORTCULLIS-identity", "X_Portcullis_Identity", "X-Portcullis_Identity"]
        {
            assert_eq!(client.get_with(path, &format!("{name}: forged\r\n")).await.status(), 200, "{path} {name}");
        }
    }
    assert_eq!(origin.requests().len(), 8);
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("forged"));
    assert!(origin.requests().iter().all(|request| request.field(FIELD).is_none()));

    let fields = format!("{}X-Portcullis-Identity: forged\r\n", token::bearer(&good()));
    assert_eq!(client.get_with("/vouched/", &fields).await.status(), 200);
    assert_eq!(origin.last().all(FIELD).len(), 1);
    assert_ne!(origin.last().field(FIELD), Some("forged"));
    assert_eq!(client.get_with("/vouched/", &token::bearer("a.b.c")).await.status(), 401);
}

#[tokio::test]
async fn the_token_is_dated_when_the_body_has_come() {
    let origin = Origin::hello().await;
    let gateway = start(setup(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let fields = format!("Host: site.test\r\n{}Content-Length: 2\r\n", token::bearer(&good()));
    client.send(format!("POST /vouched/ HTTP/1.1\r\n{fields}\r\n{{")).await;
    let begun = token::now();
    eventually("the next second", || async { (token::now() > begun).then_some(()) }).await;
    client.send("}").await;
    assert_eq!(client.answer().await.status(), 200);
    assert!(part(origin.only().field(FIELD).unwrap(), 1)["iat"].as_u64().unwrap() > begun);
}

#[tokio::test]
async fn a_field_that_gunicorn_would_refuse_is_refused_here() {
    let origin = Origin::hello().await;
    let limits = "header_bytes = 65536\ntarget_bytes = 32768";
    let gateway = start(setup(&origin).limits(limits).upstream("kind = \"gunicorn\"")).await;
    let mut client = Client::plain(gateway.http).await;
    let ask = |bytes: usize| {
        // In the query, which is not sent on: the subject is in no field but the gateway's own.
        let long = token::with(&json!({ "iss": "https://id.test", "sub": "s".repeat(bytes) }));
        format!("/vouched/?access_token={long}")
    };
    let answer = client.ask(get(&ask(2000))).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let answer = client.ask(get(&ask(7000))).await;
    assert_eq!(answer.status(), 431, "{}", answer.text());
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_new_key_signs_and_is_published_without_a_restart() {
    let origin = Origin::always(HELLO).await;
    let gateway = start(setup(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let published = client.get("/.well-known/jwks.json").await;
    let before = published.json()["keys"][0]["kid"].clone();
    std::fs::write(gateway.home().join("draft"), key()).unwrap();
    std::fs::rename(gateway.home().join("draft"), gateway.home().join("identity.pem")).unwrap();
    gateway.until_generation(2).await;
    assert_eq!(client.get(&format!("/vouched/?access_token={}", good())).await.status(), 200);
    let kid = &part(origin.only().field(FIELD).unwrap(), 0)["kid"];
    let now = client.get("/.well-known/jwks.json").await;
    assert!(*kid != before && now.json()["keys"][0]["kid"] == *kid);
    assert_ne!(now.field("etag"), published.field("etag"));
}

#[tokio::test]
async fn published_documents_are_read_by_anybody_and_changed_by_nobody() {
    let origin = Origin::hello().await;
    let gateway = start(setup(&origin)).await;
    let mut client = Client::plain(gateway.http).await;
    let keys = client.get("/.well-known/jwks.json").await;
    assert_eq!((keys.status(), keys.field("content-type")), (200, Some("application/jwk-set+json")));
    assert_eq!(keys.field("cache-control"), Some("public, max-age=300"));
    let set = keys.json();
    let [key] = &set["keys"].as_array().unwrap()[..] else { panic!("one key") };
    assert_eq!((&key["kty"], &key["alg"], &key["use"]), (&json!("OKP"), &json!("EdDSA"), &json!("sig")));
    assert!(key.get("d").is_none());

    let metadata = client.get("/.well-known/oauth-protected-resource").await;
    assert_eq!((metadata.status(), metadata.field("content-type")), (200, Some("application/json")));
    assert_eq!(metadata.field("access-control-allow-origin"), Some("*"));
    let expected = json!({
        "resource": "https://site.test/", "authorization_servers": ["https://id.test"], "scopes_supported": ["read"],
        "bearer_methods_supported": ["header"],
    });
    assert_eq!(metadata.json(), expected);

    let etag = keys.field("etag").unwrap();
    client.send("HEAD /.well-known/jwks.json HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    let head = client.head_answer().await;
    assert_eq!((head.status(), head.field("etag")), (200, Some(etag)));
    assert_eq!(head.field("content-length"), keys.field("content-length"));
    let known = client.get_with("/.well-known/jwks.json", &format!("If-None-Match: {etag}\r\n")).await;
    assert_eq!((known.status(), known.text()), (304, String::new()));
    let posted = client.post("/.well-known/jwks.json", "{}").await;
    assert_eq!((posted.status(), posted.field("allow")), (405, Some("GET, HEAD")));
    assert!(origin.requests().is_empty());
}

#[tokio::test]
async fn our_own_doctor_finds_nothing_wrong_with_the_published_set() {
    let origin = Origin::hello().await;
    let tables = TABLES.replace("publish = \"identity\"", "publish = \"jwks\"");
    let more = "[issuer.corp]\npublic_keys = [\"corp.pem\"]\nissuer = \"https://corp.test\"\naudiences = [\"e2e\"]\n";
    let home = tempfile::tempdir().unwrap();
    let corp = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    std::fs::write(home.path().join("identity.pem"), key()).unwrap();
    std::fs::write(home.path().join("corp.pem"), corp.public_key_pem()).unwrap();
    let setup = Setup::before(&origin).issuer(&issuer()).tables(&tables).tables(more);
    let gateway = setup.start_in(home).await;
    let url = format!("http://{}/.well-known/jwks.json", gateway.http);
    let run = move || {
        let mut doctor = Command::new(BINARY);
        doctor.args(["jwks", "doctor", &url, "--plain-http"]).stdin(Stdio::null()).output().unwrap()
    };
    let told = tokio::task::spawn_blocking(run).await.unwrap();
    let said = String::from_utf8(told.stdout).unwrap();
    assert_eq!(told.status.code(), Some(0), "{said}");
    // Two types of keys in one set are no mistake here.
    let good = |line: &str| line.starts_with("ok ") || line.starts_with("warn  types");
    assert!(said.contains("2 of 2 can be used") && said.lines().all(good), "{said}");
}
