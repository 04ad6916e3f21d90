//! Revoked tokens at the door: refused from the next request on, wherever they are remembered, and let in again when it is taken back.

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::signer::{Signer, set_of};
use crate::support::token::{self, bearer};
use crate::support::{eventually, signer};

const TABLE: &str = "[revocation]\nfile = \"revoked.txt\"\njournal = \"revoked.journal\"\n";

/// Two workers and enough open connections that both have some.
struct Door {
    origin: Origin,
    gateway: Gateway,
    clients: Vec<Client>,
}

impl Door {
    async fn open() -> Self {
        Self::with(|setup| setup, &[]).await
    }

    async fn with(change: impl FnOnce(Setup) -> Setup, files: &[(&str, String)]) -> Self {
        let (origin, home) = (Origin::hello().await, tempfile::tempdir().unwrap());
        std::fs::write(home.path().join("revoked.txt"), "").unwrap();
        for (name, text) in files {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        let setup = change(Setup::before(&origin).server("workers = 2").tables(TABLE));
        let gateway = setup.start_in(home).await;
        let mut clients = Vec::new();
        for _ in 0..16 {
            clients.push(Client::plain(gateway.http).await);
        }
        Self { origin, gateway, clients }
    }

    /// What every connection gets with this token.
    async fn all(&mut self, token: &str) -> u16 {
        let mut statuses = Vec::new();
        for client in &mut self.clients {
            statuses.push(client.get_with("/private/", &bearer(token)).await.status());
        }
        assert!(statuses.windows(2).all(|pair| pair[0] == pair[1]), "{statuses:?}");
        statuses[0]
    }

    async fn change(&self, method: &str, entry: &Value) -> u16 {
        let body = entry.to_string();
        let head = format!("{method} /revocations HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        Client::plain(self.gateway.admin).await.ask(request).await.status()
    }

    async fn file(&self, text: &str, entries: u64) {
        let home = self.gateway.home();
        std::fs::write(home.join("draft"), text).unwrap();
        std::fs::rename(home.join("draft"), home.join("revoked.txt")).unwrap();
        self.gateway.until_metric("portcullis_revocations", &[], entries).await;
    }
}

fn sha256(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    digest.as_ref().iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

fn tokens() -> [String; 2] {
    let claims = |jti: &str, sub: &str| json!({ "jti": jti, "sub": sub, "iat": token::now() - 100 });
    [token::with(&claims("one", "alice")), token::with(&claims("two", "bob"))]
}

#[tokio::test]
async fn what_the_admin_listener_revokes_is_refused_at_once_on_every_open_connection() {
    let mut door = Door::open().await;
    let [bad, good] = tokens();
    for entry in [
        json!({ "jti": "one" }),
        json!({ "jti": "one", "issuer": "site" }),
        json!({ "sub": "alice" }),
        json!({ "sub": "alice", "before": token::now() - 50 }),
        json!({ "token": bad }),
        json!({ "token_sha256": sha256(&bad) }),
    ] {
        assert_eq!((door.all(&bad).await, door.all(&good).await), (200, 200), "both are remembered");
        assert_eq!(door.change("POST", &entry).await, 201, "{entry}");
        // No waiting: what was acknowledged is in force.
        assert_eq!((door.all(&bad).await, door.all(&good).await), (401, 200), "{entry}");
        assert_eq!(door.change("DELETE", &entry).await, 204, "{entry}");
    }
    assert_eq!(door.all(&bad).await, 200);
    eventually("the reason", || async { door.gateway.log().contains("outcome=revoked ").then_some(()) }).await;
    let before = door.origin.requests().len();
    for harmless in [
        json!({ "jti": "One" }),
        json!({ "sub": "alice", "before": token::now() - 200 }),
        json!({ "sub": "alic" }),
        json!({ "token": format!("A{bad}") }),
    ] {
        assert_eq!(door.change("POST", &harmless).await, 201);
        assert_eq!(door.all(&bad).await, 200, "{harmless}");
    }
    assert_eq!(door.origin.requests().len(), before + 4 * 16);
}

#[tokio::test]
async fn what_the_file_revokes_is_refused_until_the_line_is_gone() {
    let mut door = Door::open().await;
    let [bad, good] = tokens();
    let digest = format!("token {}", sha256(&bad));
    for line in ["jti one", "jti one issuer=site", "sub alice before=2100-01-01T00:00:00Z", &digest] {
        assert_eq!((door.all(&bad).await, door.all(&good).await), (200, 200));
        door.file(&format!("{line}\n"), 1).await;
        assert_eq!((door.all(&bad).await, door.all(&good).await), (401, 200), "{line}");
        door.file("", 0).await;
    }
    assert_eq!(door.all(&bad).await, 200);
}

#[tokio::test]
async fn what_both_revoke_is_refused_until_both_take_it_back() {
    let mut door = Door::open().await;
    let [bad, _] = tokens();
    assert_eq!(door.change("POST", &json!({ "jti": "one" })).await, 201);
    door.file("jti one\n", 2).await;
    assert_eq!(door.change("DELETE", &json!({ "jti": "one" })).await, 409);
    assert_eq!(door.all(&bad).await, 401);
    door.file("", 1).await;
    assert_eq!(door.all(&bad).await, 401);
    assert_eq!(door.change("DELETE", &json!({ "jti": "one" })).await, 204);
    assert_eq!(door.all(&bad).await, 200);
}

#[tokio::test]
async fn a_token_without_date_is_revoked_with_its_subject() {
    let mut door = Door::open().await;
    let undated = token::with(&json!({}));
    assert_eq!(door.all(&undated).await, 200);
    assert_eq!(door.change("POST", &json!({ "sub": "alice", "before": 1000 })).await, 201);
    assert_eq!(door.all(&undated).await, 401);
}

#[tokio::test]
async fn a_revoked_token_does_not_come_back_with_its_signature_written_otherwise() {
    let issuer = Signer::new("a");
    let keys = format!("jwks_file = \"keys.json\"\naudiences = [\"{}\"]", token::AUDIENCE);
    let mut door = Door::with(|setup| setup.issuer(&keys), &[("keys.json", set_of(&[&issuer]))]).await;
    let token = issuer.token(&json!({}));
    let twin = signer::other_signature(&token);
    assert!(token != twin);
    assert_eq!((door.all(&token).await, door.all(&twin).await), (200, 200), "ECDSA has two signatures of everything");
    assert_eq!(door.change("POST", &json!({ "token": token })).await, 201);
    assert_eq!((door.all(&token).await, door.all(&twin).await), (401, 401));
}
