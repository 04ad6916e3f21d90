//! Tokens bound to keys and certificates: they pass with whoever they were issued to, and with nobody else.

use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use http::Request;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use quinn::ConnectionError;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::h3::{self, Quic};
use crate::support::origin::Origin;
use crate::support::signer::{Signer, encoded, set_of};
use crate::support::token::{self, bearer};
use crate::support::wire::Message;
use crate::support::{eventually, tls, within};

const ALGS: &str = "algs=\"ES256 ES384 EdDSA PS256 PS384 PS512 RS256 RS384 RS512\"";
/// Where the plain listener's requests are for: the client's own words, whatever the port.
const URL: &str = "http://site.test/private/";

/// An issuer, a client's key, and a gateway that takes the one's tokens.
struct Stage {
    origin: Origin,
    issuer: Signer,
    holder: Signer,
    gateway: Gateway,
}

impl Stage {
    async fn set(server: &str, keys: &str) -> Self {
        Self::with(server, keys, "").await
    }

    async fn with(server: &str, keys: &str, tables: &str) -> Self {
        let (origin, issuer, home) = (Origin::hello().await, Signer::new("issuer"), tempfile::tempdir().unwrap());
        std::fs::write(home.path().join("keys.json"), set_of(&[&issuer])).unwrap();
        let keys = format!("jwks_file = \"keys.json\"\naudiences = [\"{}\"]\nleeway_secs = 0\n{keys}", token::AUDIENCE);
        let setup = Setup::before(&origin).server(server).issuer(&keys).tables(tables);
        let gateway = setup.start_in(home).await;
        Self { origin, issuer, holder: Signer::new("holder"), gateway }
    }

    async fn alone() -> Self {
        Self::set("workers = 1", "").await
    }

    fn token(&self) -> String {
        self.issuer.token_bound_to(&self.holder)
    }

    /// The fields of a request with `token` and a proof for it.
    fn fields(&self, token: &str, more: &Value) -> String {
        presented(token, &self.holder.proof("GET", URL, token, more))
    }

    async fn ask(&self, fields: &str) -> Message {
        Client::plain(self.gateway.http).await.get_with("/private/", fields).await
    }

    /// Waits for an access line with this reason.
    async fn until_logged(&self, reason: &str) {
        let reason = format!("outcome={reason} ");
        eventually(&reason, || async { self.gateway.log().contains(&reason).then_some(()) }).await;
    }
}

fn presented(token: &str, proof: &str) -> String {
    format!("Authorization: DPoP {token}\r\nDPoP: {proof}\r\n")
}

fn challenge(answer: &Message) -> &str {
    answer.field("www-authenticate").unwrap_or_else(|| panic!("a challenge: {answer:?}"))
}

/// 401 that asks for a proof, and with which algorithms.
fn assert_challenged(answer: &Message, error: &str) {
    assert_eq!(answer.status(), 401, "{answer:?}");
    let said = challenge(answer);
    assert!(said.starts_with("DPoP ") && said.contains(ALGS), "{said}");
    assert!(said.contains(&format!("error=\"{error}\"")), "{said}");
    assert_eq!(answer.field("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_bound_token_passes_with_its_proof_and_both_reach_the_upstream() {
    let stage = Stage::alone().await;
    let token = stage.token();
    let proof = stage.holder.proof("GET", URL, &token, &json!({}));
    assert_eq!(stage.ask(&presented(&token, &proof)).await.status(), 200);
    let seen = stage.origin.only();
    assert_eq!(seen.field("authorization"), Some(format!("DPoP {token}").as_str()));
    assert_eq!((seen.field("dpop"), seen.field("x-user-id")), (Some(proof.as_str()), Some("alice")));
    // Another proof for a token that is remembered by now, the scheme in other letters, the address in other words.
    let proof = stage.holder.proof("GET", "HTTP://SITE.test:80/private/?x#y", &token, &json!({}));
    let fields = presented(&token, &proof).replace("DPoP ey", "dpop ey");
    assert_eq!(stage.ask(&fields).await.status(), 200);
    assert_eq!(stage.origin.last().field("authorization"), Some(format!("DPoP {token}").as_str()));
    assert!(!stage.gateway.log().contains(&proof), "no proof in the log");
}

#[tokio::test]
async fn a_bound_token_without_proof_is_refused_and_told_how_to_prove() {
    let stage = Stage::alone().await;
    let token = stage.token();
    assert_challenged(&stage.ask(&bearer(&token)).await, "invalid_token");
    stage.until_logged("bound_token").await;
    let proof = stage.holder.proof("GET", URL, &token, &json!({}));
    let beside = format!("{}DPoP: {proof}\r\n", bearer(&token));
    assert_challenged(&stage.ask(&beside).await, "invalid_token");
    assert_challenged(&stage.ask(&format!("Authorization: DPoP {token}\r\n")).await, "invalid_dpop_proof");
    stage.until_logged("proof_missing").await;
    let twice = format!("{}DPoP: {proof}\r\n", presented(&token, &proof));
    assert_challenged(&stage.ask(&twice).await, "invalid_dpop_proof");
    stage.until_logged("proof_repeated").await;
    assert!(stage.origin.requests().is_empty());
}

#[tokio::test]
async fn each_fault_of_a_proof_is_refused_with_its_reason() {
    let stage = Stage::alone().await;
    let token = stage.token();
    let other = stage.issuer.token(&json!({ "jti": "other", "cnf": { "jkt": stage.holder.thumbprint() } }));
    let now = token::now();
    for (more, reason) in [
        (json!({ "htm": "POST" }), "proof_method"),
        (json!({ "htm": "get" }), "proof_method"),
        (json!({ "htu": "https://site.test/private/" }), "proof_address"),
        (json!({ "htu": "http://site.test/private" }), "proof_address"),
        (json!({ "htu": "http://site.test/private/%2e" }), "proof_address"),
        (json!({ "htu": "http://other.test/private/" }), "proof_address"),
        (json!({ "htu": "http://site.test:8080/private/" }), "proof_address"),
        (json!({ "ath": encoded(digest(&SHA256, other.as_bytes()).as_ref()) }), "proof_token"),
        (json!({ "ath": null }), "proof_claim"),
        (json!({ "jti": null }), "proof_claim"),
        (json!({ "iat": now - 120 }), "proof_too_old"),
        (json!({ "iat": now + 120 }), "proof_future"),
    ] {
        let before = count(&stage.gateway, reason).await;
        let answer = stage.ask(&stage.fields(&token, &more)).await;
        assert_challenged(&answer, "invalid_dpop_proof");
        stage.until_logged(reason).await;
        assert_eq!(count(&stage.gateway, reason).await, before + 1, "{more}");
    }
    let thief = Signer::new("holder");
    let stolen = presented(&token, &thief.proof("GET", URL, &token, &json!({})));
    assert_challenged(&stage.ask(&stolen).await, "invalid_token");
    stage.until_logged("bound_token").await;
    let proof = stage.holder.proof("GET", URL, &token, &json!({}));
    let forged = format!("{}{}", &proof[..proof.len() - 8], "AAAAAAAA");
    assert_challenged(&stage.ask(&presented(&token, &forged)).await, "invalid_dpop_proof");
    stage.until_logged("proof_signature").await;
    assert_challenged(&stage.ask(&presented(&token, &token)).await, "invalid_dpop_proof");
    stage.until_logged("proof_type").await;
    assert!(stage.origin.requests().is_empty());
    assert_eq!(stage.ask(&presented(&token, &proof)).await.status(), 200, "none of that used up the good one");
}

async fn count(gateway: &Gateway, reason: &str) -> u64 {
    gateway.scrape().await.count("portcullis_auth_decisions_total", &[&format!("\"{reason}\"")])
}

#[tokio::test]
async fn a_proof_is_used_once_whichever_worker_sees_it() {
    let stage = Stage::set("workers = 2", "").await;
    let token = stage.token();
    // The kernel spreads connections over the workers: that one of the two gets none of these, nobody lives to see.
    let mut clients = Vec::new();
    for _ in 0..24 {
        clients.push(Client::plain(stage.gateway.http).await);
    }
    for _ in 0..4 {
        let fields = stage.fields(&token, &json!({}));
        let mut passed = 0;
        for client in &mut clients {
            let answer = client.get_with("/private/", &fields).await;
            if answer.status() == 200 {
                passed += 1;
            } else {
                assert_challenged(&answer, "invalid_dpop_proof");
            }
        }
        assert_eq!(passed, 1);
    }
    stage.until_logged("proof_replayed").await;
    let fields = stage.fields(&token, &json!({}));
    let mut at_once = tokio::task::JoinSet::new();
    for mut client in clients {
        let fields = fields.clone();
        at_once.spawn(async move { client.get_with("/private/", &fields).await.status() });
    }
    let statuses = at_once.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
}

#[tokio::test]
async fn a_nonce_is_asked_for_and_with_it_the_proof_passes() {
    let stage = Stage::set("workers = 2", "dpop_nonce = true").await;
    let token = stage.token();
    let answer = stage.ask(&stage.fields(&token, &json!({}))).await;
    assert_challenged(&answer, "use_dpop_nonce");
    let nonce = answer.field("dpop-nonce").expect("a nonce").to_owned();
    stage.until_logged("proof_nonce").await;
    for _ in 0..4 {
        assert_eq!(stage.ask(&stage.fields(&token, &json!({ "nonce": nonce }))).await.status(), 200);
    }
    let answer = stage.ask(&stage.fields(&token, &json!({ "nonce": encoded(&[1; 16]) }))).await;
    assert_challenged(&answer, "use_dpop_nonce");
    assert!(answer.field("dpop-nonce").is_some());
    let thief = Signer::new("holder");
    let stolen = presented(&token, &thief.proof("GET", URL, &token, &json!({})));
    let answer = stage.ask(&stolen).await;
    assert_challenged(&answer, "invalid_token");
    assert_eq!(answer.field("dpop-nonce"), None);
}

#[tokio::test]
async fn an_issuer_whose_tokens_are_all_bound_takes_no_other() {
    let stage = Stage::set("workers = 1", "binding = \"key\"").await;
    let unbound = stage.issuer.token(&json!({}));
    assert_eq!(stage.ask(&bearer(&unbound)).await.status(), 401);
    stage.until_logged("unbound_token").await;
    assert_eq!(stage.ask(&stage.fields(&unbound, &json!({}))).await.status(), 401);
    let nothing = stage.ask("").await;
    assert!(nothing.status() == 401 && challenge(&nothing).starts_with("DPoP "), "{nothing:?}");
    assert!(challenge(&nothing).contains(ALGS) && !challenge(&nothing).contains("error="));
    let token = stage.token();
    assert_eq!(stage.ask(&stage.fields(&token, &json!({}))).await.status(), 200);
    assert_eq!(stage.origin.requests().len(), 1);
}

#[tokio::test]
async fn an_unbound_token_is_no_dpop_token() {
    let stage = Stage::alone().await;
    let unbound = stage.issuer.token(&json!({}));
    assert_eq!(stage.ask(&bearer(&unbound)).await.status(), 200);
    assert_eq!(stage.ask(&stage.fields(&unbound, &json!({}))).await.status(), 401);
    stage.until_logged("unbound_token").await;
}

#[tokio::test]
async fn a_token_bound_to_something_unknown_is_refused() {
    let stage = Stage::alone().await;
    for cnf in [
        json!({}),
        json!({ "kid": "a" }),
        json!({ "jwk": stage.holder.jwk() }),
        json!({ "jkt": "too-short" }),
        json!({ "jkt": 7 }),
        json!("a"),
        json!(null),
        json!([]),
    ] {
        let claims = json!({ "sub": "alice", "aud": token::AUDIENCE, "exp": token::now() + 60, "cnf": cnf });
        let token = stage.issuer.sign(&json!({ "alg": "ES256", "kid": "issuer" }), &claims);
        assert_eq!(stage.ask(&bearer(&token)).await.status(), 401, "{cnf}");
        assert_eq!(stage.ask(&stage.fields(&token, &json!({}))).await.status(), 401, "{cnf}");
    }
    assert!(stage.origin.requests().is_empty());
}

#[tokio::test]
async fn a_token_that_is_not_sent_on_takes_its_proof_with_it() {
    let tables = "[[route]]\nname = \"kept\"\npath = \"/private/kept/\"\nauth = { issuer = \"site\" }\n\
                  forward_token = false\nupstream = \"app\"\n";
    let stage = Stage::with("workers = 1", "", tables).await;
    let token = stage.token();
    let proof = stage.holder.proof("GET", "http://site.test/private/kept/", &token, &json!({}));
    let mut client = Client::plain(stage.gateway.http).await;
    assert_eq!(client.get_with("/private/kept/", &presented(&token, &proof)).await.status(), 200);
    let seen = stage.origin.only();
    assert_eq!((seen.field("authorization"), seen.field("dpop")), (None, None));
    let bytes = String::from_utf8(stage.origin.bytes()).unwrap();
    assert!(!bytes.contains(&token) && !bytes.contains(&proof));
}

#[tokio::test]
async fn a_proof_is_of_the_method_and_address_of_an_http2_request_too() {
    let stage = Stage::alone().await;
    let token = stage.token();
    let stream = tls::connect(stage.gateway.https, &stage.gateway.roots(), &[b"h2"]).await.unwrap();
    let (mut sender, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (method, htu, status) in [
        ("GET", "https://site.test/private/", 200),
        ("GET", "https://site.test:443/private/", 200),
        ("POST", "https://site.test/private/", 401),
        ("GET", URL, 401),
    ] {
        let proof = stage.holder.proof(method, htu, &token, &json!({}));
        let request = Request::get("https://site.test/private/?page=2")
            .header("authorization", format!("DPoP {token}"))
            .header("dpop", proof)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = within("an answer", sender.send_request(request)).await.unwrap();
        assert_eq!(answer.status(), status, "{method} {htu}");
    }
}

/// An authority for clients' certificates, written as `NAME.pem`.
fn authority(home: &Path, name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let made = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(home.join(format!("{name}.pem")), made.pem()).unwrap();
    made
}

/// A client with a certificate, or without.
struct Holder {
    config: Arc<ClientConfig>,
    thumbprint: String,
}

impl Holder {
    fn of(authority: &CertifiedIssuer<'static, KeyPair>, gateway: &Gateway) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, authority).unwrap();
        let thumbprint = encoded(digest(&SHA256, certificate.der()).as_ref());
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        Self { config: client(gateway, Some((certificate.der().clone(), key))), thumbprint }
    }

    fn nobody(gateway: &Gateway) -> Self {
        Self { config: client(gateway, None), thumbprint: String::new() }
    }

    async fn connect(&self, gateway: &Gateway) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = within("connecting", TcpStream::connect(gateway.https)).await?;
        let name = ServerName::try_from("site.test").unwrap();
        within("a handshake", TlsConnector::from(Arc::clone(&self.config)).connect(name, stream)).await
    }

    async fn ask(&self, gateway: &Gateway, fields: &str) -> Message {
        Client::over(self.connect(gateway).await.unwrap()).get_with("/private/", fields).await
    }

    /// A token that is bound to its certificate.
    fn token(&self, issuer: &Signer) -> String {
        bearer(&issuer.token(&json!({ "cnf": { "x5t#S256": self.thumbprint } })))
    }
}

fn client(gateway: &Gateway, own: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(gateway.roots()[0].clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = versions.with_root_certificates(roots);
    let mut config = match own {
        Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

async fn before_clients(
    certificates: &str,
    keys: &str,
) -> (Origin, Signer, CertifiedIssuer<'static, KeyPair>, Gateway) {
    let (origin, issuer, home) = (Origin::hello().await, Signer::new("issuer"), tempfile::tempdir().unwrap());
    let authority = authority(home.path(), "clients");
    std::fs::write(home.path().join("keys.json"), set_of(&[&issuer])).unwrap();
    let keys = format!("jwks_file = \"keys.json\"\naudiences = [\"{}\"]\n{keys}", token::AUDIENCE);
    let https = format!("client_ca = \"clients.pem\"\n{certificates}");
    let gateway = Setup::before(&origin).https(&https).issuer(&keys).start_in(home).await;
    (origin, issuer, authority, gateway)
}

#[tokio::test]
async fn a_token_bound_to_a_certificate_passes_over_its_connections_alone() {
    let (origin, issuer, authority, gateway) = before_clients("client_certificates = \"optional\"", "").await;
    let (holder, other) = (Holder::of(&authority, &gateway), Holder::of(&authority, &gateway));
    let token = holder.token(&issuer);
    assert_eq!(holder.ask(&gateway, &token).await.status(), 200);
    let nobody = Holder::nobody(&gateway);
    for client in [&other, &nobody] {
        let answer = client.ask(&gateway, &token).await;
        assert_eq!(answer.status(), 401);
        assert!(challenge(&answer).contains("error=\"invalid_token\""), "{answer:?}");
    }
    let plain = Client::plain(gateway.http).await.get_with("/private/", &token).await;
    assert_eq!(plain.status(), 401, "no certificate is shown there");
    assert_eq!(nobody.ask(&gateway, &bearer(&issuer.token(&json!({})))).await.status(), 200, "optional");
    assert_eq!(origin.requests().len(), 2);
    eventually("the reason", || async { gateway.log().contains("outcome=bound_token ").then_some(()) }).await;
}

#[tokio::test]
async fn a_resumed_session_shows_the_certificate_of_the_first() {
    let (_origin, issuer, authority, gateway) = before_clients("client_certificates = \"optional\"", "").await;
    let (holder, other) = (Holder::of(&authority, &gateway), Holder::of(&authority, &gateway));
    let token = holder.token(&issuer);
    for (client, status) in [(&holder, 200), (&other, 401)] {
        assert_eq!(client.ask(&gateway, &token).await.status(), status);
        let stream = client.connect(&gateway).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        assert_eq!(Client::over(stream).get_with("/private/", &token).await.status(), status);
    }
}

#[tokio::test]
async fn where_certificates_are_required_nobody_else_is_heard() {
    let (origin, issuer, authority, gateway) = before_clients("", "binding = \"certificate\"").await;
    let holder = Holder::of(&authority, &gateway);
    assert_eq!(holder.ask(&gateway, &holder.token(&issuer)).await.status(), 200);
    assert_eq!(holder.ask(&gateway, &bearer(&issuer.token(&json!({})))).await.status(), 401, "an unbound token");
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Holder::of(&self::authority(elsewhere.path(), "strangers"), &gateway);
    for client in [Holder::nobody(&gateway), stranger] {
        // In TLS 1.3 the client learns of the refusal with its first read.
        let heard = match client.connect(&gateway).await {
            Err(_) => false,
            Ok(stream) => {
                let mut client = Client::over(stream);
                client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
                client.try_answer().await.is_ok()
            }
        };
        assert!(!heard);
    }
    assert_eq!(origin.requests().len(), 1);
}

#[tokio::test]
async fn a_token_bound_to_both_needs_both() {
    let (_origin, issuer, authority, gateway) = before_clients("client_certificates = \"optional\"", "").await;
    let (holder, key) = (Holder::of(&authority, &gateway), Signer::new("holder"));
    let cnf = json!({ "cnf": { "x5t#S256": holder.thumbprint, "jkt": key.thumbprint() } });
    let token = issuer.token(&cnf);
    let fields = || presented(&token, &key.proof("GET", "https://site.test/private/", &token, &json!({})));
    assert_eq!(holder.ask(&gateway, &fields()).await.status(), 200);
    assert_eq!(holder.ask(&gateway, &bearer(&token)).await.status(), 401);
    assert_eq!(Holder::nobody(&gateway).ask(&gateway, &fields()).await.status(), 401);
}

impl Holder {
    /// The status of a request over QUIC.
    async fn ask_over_quic(&self, gateway: &Gateway, token: &str) -> u16 {
        let quic = Quic::with(gateway, ClientConfig::clone(&self.config)).await.expect("a handshake");
        let mut client = h3::Client::over(quic).await;
        let bearer = format!("Bearer {token}");
        client.ask(h3::request("GET", "/private/", &[("authorization", &bearer)])).await.status().as_u16()
    }
}

#[tokio::test]
async fn over_quic_certificates_count_as_they_do_over_tcp() {
    let optional = format!("client_certificates = \"optional\"\n{}", h3::ON);
    let (origin, issuer, authority, gateway) = before_clients(&optional, "").await;
    let (holder, other) = (Holder::of(&authority, &gateway), Holder::of(&authority, &gateway));
    let token = issuer.token(&json!({ "cnf": { "x5t#S256": holder.thumbprint } }));
    for again in ["at first", "when the session is taken up again"] {
        assert_eq!(holder.ask_over_quic(&gateway, &token).await, 200, "{again}");
        for client in [&other, &Holder::nobody(&gateway)] {
            assert_eq!(client.ask_over_quic(&gateway, &token).await, 401, "{again}");
        }
    }
    assert_eq!(origin.requests().len(), 2);

    let (origin, _issuer, _authority, gateway) = before_clients(h3::ON, "").await;
    let refused = match Quic::with(&gateway, ClientConfig::clone(&Holder::nobody(&gateway).config)).await {
        Ok(quic) => within("the end of the connection", quic.connection.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(refused, ConnectionError::ConnectionClosed(_)), "{refused:?}");
    assert!(origin.requests().is_empty());
}
