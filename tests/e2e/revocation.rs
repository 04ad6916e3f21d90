//! The list of revoked tokens from outside: the admin listener, the watched file, the command, and what survives.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::gateway::{BINARY, Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::wire::Message;
use crate::support::{eventually, scrape, token};

const TABLE: &str = "[revocation]\nfile = \"revoked.txt\"\njournal = \"revoked.journal\"\nentries = 100\n";
const JSON: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

async fn gateway() -> (Origin, Gateway) {
    let origin = Origin::hello().await;
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("revoked.txt"), "# nobody yet\n").unwrap();
    let gateway = Setup::before(&origin).tables(TABLE).start_in(home).await;
    (origin, gateway)
}

async fn ask(gateway: &Gateway, method: &str, fields: &str, body: &str) -> Message {
    let length = body.len();
    let request = format!("{method} /revocations HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    Client::plain(gateway.admin).await.ask(request).await
}

async fn list(gateway: &Gateway) -> Value {
    let answer = ask(gateway, "GET", "Host: 127.0.0.1\r\n", "").await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.json()
}

fn replace(home: &Path, text: &str) {
    std::fs::write(home.join("draft"), text).unwrap();
    std::fs::rename(home.join("draft"), home.join("revoked.txt")).unwrap();
}

#[tokio::test]
async fn what_is_revoked_by_the_admin_listener_is_listed_counted_and_taken_back() {
    let (_origin, gateway) = gateway().await;
    for (body, shown) in [
        (json!({ "jti": "one" }), json!({ "jti": "one" })),
        (
            json!({ "sub": "alice", "before": 5, "issuer": "site" }),
            json!({ "sub": "alice", "before": 5, "issuer": "site" }),
        ),
    ] {
        let answer = ask(&gateway, "POST", JSON, &body.to_string()).await;
        assert_eq!(
            (answer.status(), &answer.json()["revoked"], &answer.json()["change"]),
            (201, &shown, &"new".into())
        );
    }
    let good = token::good();
    let answer = ask(&gateway, "POST", JSON, &json!({ "token": good }).to_string()).await;
    assert_eq!(answer.status(), 201);
    let signature = good.rsplit('.').next().unwrap();
    for file in ["revoked.journal", "log"] {
        let text = std::fs::read_to_string(gateway.home().join(file)).unwrap();
        assert!(!text.contains(signature), "{file} holds the token");
    }
    assert!(!answer.text().contains(signature));
    let found = list(&gateway).await;
    assert_eq!((&found["count"], &found["by_kind"]), (&3.into(), &json!({ "jti": 1, "sub": 1, "token": 1 })));
    assert_eq!(found["revocations"][2], json!({ "jti": "one" }), "the newest first: {found}");
    gateway.until_metric("portcullis_revocations", &["kind=\"sub\""], 1).await;
    assert!(scrape::ask(gateway.admin, "/").await.text().contains("<dt>revocations</dt><dd>3</dd>"));

    let answer = ask(&gateway, "DELETE", JSON, "{\"sub\":\"alice\",\"issuer\":\"site\"}").await;
    assert_eq!((answer.status(), answer.body.len()), (204, 0));
    let answer = ask(&gateway, "DELETE", JSON, "{\"sub\":\"alice\",\"issuer\":\"site\"}").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(list(&gateway).await["count"], 2);
}

#[tokio::test]
async fn what_a_web_page_could_send_changes_nothing() {
    let (_origin, gateway) = gateway().await;
    let body = "{\"jti\":\"a\"}";
    for (fields, status) in [
        (format!("{JSON}Origin: http://localhost\r\n"), 403),
        (format!("{JSON}Origin: null\r\n"), 403),
        (JSON.replace("localhost", "rebound.example"), 403),
        ("Host: localhost\r\nContent-Type: text/plain\r\n".to_owned(), 415),
        ("Host: localhost\r\n".to_owned(), 415),
    ] {
        for method in ["POST", "DELETE"] {
            let answer = ask(&gateway, method, &fields, body).await;
            assert_eq!(answer.status(), status, "{method} {fields}");
            assert_eq!(answer.field("content-type"), Some("application/problem+json"));
        }
    }
    assert_eq!(ask(&gateway, "GET", "Host: rebound.example\r\n", "").await.status(), 403);
    assert_eq!(list(&gateway).await["count"], 0);
}

#[tokio::test]
async fn what_is_no_revocation_is_refused_with_its_reason() {
    let (_origin, gateway) = gateway().await;
    replace(gateway.home(), "jti filed\n");
    gateway.until_metric("portcullis_revocations", &[], 1).await;
    for (method, body, status, reason) in [
        ("POST", "", 400, "JSON"),
        ("POST", "{\"jti\":\"a\",\"jti\":\"b\"}", 400, "once"),
        ("POST", "{\"jti\":\"a\",\"why\":\"x\"}", 400, "member"),
        ("POST", "{\"jti\":\"a\",\"until\":1000}", 400, "passed"),
        ("POST", "{\"jti\":\"a\",\"issuer\":\"stie\"}", 400, "no such issuer"),
        ("DELETE", "{\"jti\":\"filed\"}", 409, "revoked.txt"),
        ("PUT", "{\"jti\":\"a\"}", 405, "POST"),
    ] {
        let answer = ask(&gateway, method, JSON, body).await;
        assert_eq!(answer.status(), status, "{body}: {answer:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(reason), "{body}: {answer:?}");
    }
    let large = json!({ "jti": "x".repeat(70_000) }).to_string();
    assert_eq!(ask(&gateway, "POST", JSON, &large).await.status(), 413);
    for number in 1..100 {
        assert_eq!(ask(&gateway, "POST", JSON, &json!({ "jti": number.to_string() }).to_string()).await.status(), 201);
    }
    assert_eq!(ask(&gateway, "POST", JSON, "{\"jti\":\"one too many\"}").await.status(), 507);
}

#[tokio::test]
async fn the_file_is_read_again_when_it_changes_and_a_malformed_one_changes_nothing() {
    let (_origin, gateway) = gateway().await;
    replace(gateway.home(), "jti a\nsub alice before=2026-01-01T00:00:00Z\n");
    gateway.until_metric("portcullis_revocations", &[], 2).await;
    replace(gateway.home(), "jti a\nsub alice\njti c\n");
    let refused = || async {
        let error = gateway.readiness().await.json()["last_reload_error"].clone();
        error.as_str().is_some_and(|error| error.contains("revoked.txt:2")).then_some(())
    };
    eventually("the refusal that names file and line", refused).await;
    assert_eq!(list(&gateway).await["count"], 2);
    replace(gateway.home(), "jti d\n");
    gateway.until_metric("portcullis_revocations", &[], 1).await;
    assert_eq!(list(&gateway).await["revocations"], json!([{ "jti": "d" }]));
    assert_eq!(gateway.generation().await, 1, "a revocation is no new generation");
}

#[tokio::test]
async fn the_list_is_kept_across_reloads_and_the_table_can_come_and_go() {
    let (_origin, gateway) = gateway().await;
    assert_eq!(ask(&gateway, "POST", JSON, "{\"jti\":\"kept\"}").await.status(), 201);
    gateway.edit(|text| text.replace("entries = 100", "entries = 200"));
    gateway.until_generation(2).await;
    assert_eq!(list(&gateway).await["count"], 1);
    gateway.edit(|text| text.replace(&TABLE.replace("100", "200"), ""));
    gateway.until_generation(3).await;
    let answer = ask(&gateway, "GET", "Host: 127.0.0.1\r\n", "").await;
    assert_eq!(answer.status(), 404);
    assert!(answer.json()["detail"].as_str().unwrap().contains("[revocation]"));
    gateway.edit(|text| format!("{text}\n{TABLE}"));
    gateway.until_generation(4).await;
    assert_eq!(list(&gateway).await["revocations"], json!([{ "jti": "kept" }]));
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let (origin, mut gateway) = gateway().await;
    assert_eq!(ask(&gateway, "POST", JSON, "{\"jti\":\"kept\"}").await.status(), 201);
    gateway.signal("KILL");
    gateway.exit().await;
    let journal = std::fs::read_to_string(gateway.home().join("revoked.journal")).unwrap();
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("revoked.journal"), journal + "{\"add\":{\"jti\":\"to").unwrap();
    std::fs::write(home.path().join("revoked.txt"), "").unwrap();
    let again = Setup::before(&origin).tables(TABLE).start_in(home).await;
    assert_eq!(list(&again).await["revocations"], json!([{ "jti": "kept" }]));
    assert!(again.log().contains("torn by a crash"), "{}", again.log());
}

fn portcullis(gateway: &Gateway, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("revoke").args(arguments).arg("--config").arg(gateway.config());
    command.stdin(Stdio::null()).output().unwrap()
}

#[tokio::test]
async fn the_command_tells_the_running_gateway() {
    let (_origin, mut gateway) = gateway().await;
    let run = |arguments: &[&str]| {
        let output = portcullis(&gateway, arguments);
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let revoked = (0, "revoked: {\"jti\":\"a\"}\n".to_owned(), String::new());
    assert_eq!(run(&["--jti", "a"]), revoked);
    assert!(run(&["--jti", "a"]).1.starts_with("was revoked already: "));
    assert!(run(&["--sub", "alice", "--before", "2026-01-01T00:00:00Z"]).1.contains("1767225600"));
    assert!(run(&["--token", "a.b.c"]).1.contains("token_sha256"));
    assert_eq!(list(&gateway).await["count"], 3);
    assert_eq!(run(&["--jti", "a", "--undo"]).0, 0);
    let (code, out, err) = run(&["--jti", "a", "--undo", "--admin", &gateway.admin.to_string()]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.contains("404") && err.contains("no such revocation"), "{err}");
    assert!(run(&["--jti", "a", "--until", "soon"]).2.contains("RFC 3339"));
    for wrong in [&[][..], &["--jti", "a", "--sub", "b"], &["--jti", "a", "--before", "5"]] {
        assert_eq!(run(wrong).0, 2, "{wrong:?}");
    }
    gateway.signal("KILL");
    gateway.exit().await;
    let output = portcullis(&gateway, &["--jti", "b"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is the gateway running?"));
}

#[tokio::test]
async fn a_gateway_without_its_list_does_not_start() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(
        home.path().join("gateway.toml"),
        format!(
            "[listen.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nname = \"r\"\npath = \"/\"\nauth = \"public\"\n\
         redirect = {{ to = \"https://example.com/\" }}\n{TABLE}"
        ),
    )
    .unwrap();
    let run = |command: &str| {
        let output = Command::new(BINARY).arg(command).current_dir(home.path()).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    std::fs::write(home.path().join("revoked.txt"), "jti a\nnonsense\n").unwrap();
    let (code, said) = run("check");
    assert!(code == Some(1) && said.contains("revoked.txt:2: a line begins with"), "{said}");
    assert_eq!(run("run"), (code, said));
    std::fs::write(home.path().join("revoked.txt"), "jti a\n").unwrap();
    std::fs::write(home.path().join("revoked.journal"), "nonsense\n{\"add\":{\"jti\":\"b\"}}\n").unwrap();
    assert_eq!(run("check").0, Some(0), "the journal is the running gateway's");
    let (code, said) = run("run");
    assert!(code == Some(1) && said.contains("line 1 of the journal"), "{said}");
}
