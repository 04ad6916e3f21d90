//! `portcullis reload`: what a new file would change is said before anything happens, and a reload says how it went.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::eventually;
use crate::support::gateway::{BINARY, Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::wire::Message;

/// Something would change.
const DIFFERS: Option<i32> = Some(3);

async fn gateway() -> (Origin, Gateway) {
    let origin = Origin::hello().await;
    let tables = "[rate_limit.few]\nkey = \"client\"\nrequests = 900\nper_secs = 60\n\
                  [[route]]\nname = \"turn\"\npath = \"/turn/\"\nauth = \"public\"\nrate_limits = [\"few\"]\n\
                  redirect = { to = \"/there\", status = 307 }\n";
    let gateway = Setup::before(&origin).tables(tables).start().await;
    (origin, gateway)
}

/// Writes a candidate beside the configuration.
fn candidate(gateway: &Gateway, change: impl FnOnce(String) -> String) {
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.home().join("next.toml"), change(text)).unwrap();
}

/// Runs `portcullis reload` in the gateway's directory, off the thread that tests run on.
async fn reload(home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(BINARY);
    command.arg("reload").args(arguments).current_dir(home).stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

async fn dry_run(gateway: &Gateway) -> Output {
    reload(gateway.home(), &["--dry-run", "--config", "next.toml"]).await
}

async fn plan(gateway: &Gateway) -> (Option<i32>, Value) {
    let output = reload(gateway.home(), &["--dry-run", "--config", "next.toml", "--format", "json"]).await;
    (output.status.code(), serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}")))
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

async fn ask(gateway: &Gateway, fields: &str, body: &Value) -> Message {
    let body = body.to_string();
    let length = body.len();
    let request = format!("POST /reload HTTP/1.1\r\n{fields}Content-Length: {length}\r\n\r\n{body}");
    Client::plain(gateway.admin).await.ask(request).await
}

async fn turn(gateway: &Gateway) -> Message {
    Client::plain(gateway.http).await.get("/turn/").await
}

const JSON: &str = "Host: localhost\r\nContent-Type: application/json\r\n";

#[tokio::test]
async fn a_dry_run_of_what_runs_says_that_nothing_changes() {
    let (_origin, gateway) = gateway().await;
    let output = reload(gateway.home(), &["--dry-run"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(out(&output), "nothing changes: generation 1 is what the file says\n");
    candidate(&gateway, |text| format!("# the same in other words\n{text}"));
    assert_eq!(dry_run(&gateway).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_dry_run_says_what_changes_and_changes_nothing() {
    let (origin, gateway) = gateway().await;
    let (endpoint, free) = (origin.endpoint(), Port::reserve());
    candidate(&gateway, |text| {
        let two = format!("endpoints = [\"{endpoint}\", \"http://127.0.0.1:9\"]");
        let text = text.replace(&format!("endpoints = [\"{endpoint}\"]"), &two);
        let text = text.replace("requests = 900", "requests = 901").replace("workers = 1", "workers = 2");
        let text = text.replace("\"/there\"", "\"/elsewhere\"");
        format!("[listen.more]\naddress = \"{}\"\n{text}", free.address)
    });
    let output = dry_run(&gateway).await;
    assert_eq!(output.status.code(), DIFFERS, "{output:?}");
    let said = out(&output);
    let opened = format!("listener more ({}) is opened", free.address);
    for line in [
        "this would change in generation 1, which runs:",
        "+ [listen.more]",
        "~ [rate_limit.few]",
        "    requests: 900 -> 901",
        "~ [upstream.app]",
        "~ [[route]] turn",
        "    redirect.to: \"/there\" -> \"/elsewhere\"",
        &opened,
        "rate limit few counts anew: what was used is forgotten",
        "upstream app: http://127.0.0.1:9 is added",
        "    [server] workers: 1 -> 2",
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
    let (code, plan) = plan(&gateway).await;
    assert_eq!((code, &plan["outcome"], &plan["generation"]), (DIFFERS, &json!("differs"), &json!(1)));
    assert_eq!(plan["plan"]["needs_restart"], json!([{ "key": "[server] workers", "running": "1", "file": "2" }]));
    assert_eq!(gateway.generation().await, 1);
    assert_eq!(turn(&gateway).await.field("location"), Some("/there"));
    assert!(std::net::TcpListener::bind(free.address).is_ok(), "nobody listens there");
}

#[tokio::test]
async fn a_listener_that_moves_and_one_that_goes_are_told() {
    let (_origin, gateway) = gateway().await;
    let free = Port::reserve();
    let (from, to) = (gateway.http.to_string(), free.address.to_string());
    candidate(&gateway, |text| text.replace(&from, &to));
    let said = out(&dry_run(&gateway).await);
    for line in [
        format!("    address: \"{from}\" -> \"{to}\""),
        format!("listener http ({from}) is closed; its connections end by themselves"),
        format!("listener http ({to}) is opened"),
    ] {
        assert!(said.lines().any(|said| said == line), "{line}\n{said}");
    }
}

#[tokio::test]
async fn a_file_with_problems_is_refused_by_the_dry_run_as_check_would() {
    let (_origin, gateway) = gateway().await;
    for (change, said) in
        [("requests = 0", "requests = 0"), ("requests = [", "this is no TOML"), ("requsts = 5", "requsts = 5")]
    {
        candidate(&gateway, |text| text.replace("requests = 900", change));
        let output = dry_run(&gateway).await;
        assert_eq!((output.status.code(), &*out(&output)), (Some(1), ""), "{output:?}");
        assert!(err(&output).contains("next.toml:") && err(&output).contains(said), "{output:?}");
    }
    assert_eq!(gateway.readiness().await.json()["last_reload_error"], Value::Null, "nobody tried to reload");
}

#[tokio::test]
async fn no_secret_is_shown_and_another_one_is_noticed() {
    let (_origin, gateway) = gateway().await;
    let other = "another secret, also long enough for HS256 ";
    std::fs::write(gateway.home().join("other.secret"), other).unwrap();
    candidate(&gateway, |text| text.replace("\"issuer.secret\"", "\"other.secret\""));
    let output = dry_run(&gateway).await;
    let said = out(&output);
    assert!(said.contains("    secret.file: \"issuer.secret\" -> \"other.secret\"\n"), "{said}");
    assert!(said.contains("issuer site changes: its tokens are verified anew\n"), "{said}");
    let known = std::fs::read_to_string(gateway.home().join("issuer.secret")).unwrap();
    assert!(!said.contains(other.trim()) && !said.contains(known.trim()), "{said}");
}

#[tokio::test]
async fn a_reload_waits_and_says_which_generation_is_live() {
    let (_origin, gateway) = gateway().await;
    let output = reload(gateway.home(), &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(out(&output), "nothing changes: generation 1 is what the file says\n");
    gateway.edit(|text| text.replace("\"/there\"", "\"/elsewhere\""));
    let output = reload(gateway.home(), &[]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // The watch may have been quicker.
    let first = out(&output).lines().next().unwrap().to_owned();
    let known =
        ["reloaded: generation 2 is live", "nothing changes: generation 2 is what the file says"].contains(&&*first);
    assert!(known, "{first}");
    assert_eq!(turn(&gateway).await.field("location"), Some("/elsewhere"), "without waiting any more");
}

#[tokio::test]
async fn a_reload_that_is_refused_says_why_and_keeps_what_runs() {
    let (_origin, gateway) = gateway().await;
    gateway.edit(|text| text.replace("requests = 900", "requests = 0"));
    let output = reload(gateway.home(), &[]).await;
    assert_eq!((output.status.code(), &*out(&output)), (Some(1), ""), "{output:?}");
    let said = err(&output);
    assert!(said.contains("gateway.toml:") && said.contains("requests = 0"), "{said}");
    assert!(said.ends_with("refused: the configuration that runs stays\n"), "{said}");
    assert_eq!(gateway.generation().await, 1);
    assert_eq!(turn(&gateway).await.status(), 307);
    assert!(gateway.readiness().await.json()["last_reload_error"].as_str().unwrap().contains("requests"));
    let admin = gateway.admin.to_string();
    assert_eq!(reload(Path::new("/"), &["--admin", &admin]).await.status.code(), Some(1), "again, without the file");
    // What only the system refuses.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let more = format!("[listen.more]\naddress = \"{}\"\n", taken.local_addr().unwrap());
    gateway.edit(|text| more + &text.replace("requests = 0", "requests = 900"));
    let output = reload(gateway.home(), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err(&output).contains(&taken.local_addr().unwrap().to_string()), "{output:?}");
}

#[tokio::test]
async fn only_a_file_beside_the_configuration_and_known_to_who_asks_is_read() {
    let (_origin, gateway) = gateway().await;
    std::fs::write(gateway.home().join("private.toml"), "token = \"hunter2\"\n").unwrap();
    let zeros = "0".repeat(64);
    for (body, status) in [
        (json!({ "dry_run": true, "file": "private.toml", "sha256": zeros }), 409),
        (json!({ "dry_run": true, "file": "missing.toml", "sha256": zeros }), 409),
        (json!({ "dry_run": true, "file": "../etc/passwd", "sha256": zeros }), 400),
        (json!({ "dry_run": true, "file": "private.toml" }), 400),
    ] {
        let answer = ask(&gateway, JSON, &body).await;
        assert_eq!(answer.status(), status, "{body}: {answer:?}");
        assert!(!answer.text().contains("hunter2"), "{answer:?}");
    }
    assert_eq!(ask(&gateway, &format!("{JSON}Origin: null\r\n"), &json!({})).await.status(), 403);
    assert_eq!(ask(&gateway, "Host: localhost\r\n", &json!({})).await.status(), 415);
    // From elsewhere, by the same name.
    let elsewhere = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(elsewhere.path().join("gateway.toml"), format!("# not the same\n{text}")).unwrap();
    let output = reload(elsewhere.path(), &["--dry-run"]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err(&output).contains("beside its configuration"), "{output:?}");
    candidate(&gateway, |text| text);
    let output = reload(gateway.home(), &["--config", "next.toml"]).await;
    assert!(err(&output).contains("reloads no other file"), "{output:?}");
    assert_eq!(gateway.generation().await, 1);
}

#[tokio::test]
async fn a_configuration_without_admin_is_compared_by_its_files_alone() {
    let (_origin, mut gateway) = gateway().await;
    gateway.signal("TERM");
    gateway.exit().await;
    let output = reload(gateway.home(), &[]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("is the gateway running?"), "{output:?}");
    let (admin, none) = (format!("[admin]\naddress = \"{}\"\n", gateway.admin), "");
    candidate(&gateway, |text| text.replace(&admin, none).replace("requests = 900", "requests = 901"));
    let output = dry_run(&gateway).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for remedy in ["[admin]", "--admin", "--against"] {
        assert!(err(&output).contains(remedy), "{output:?}");
    }
    // The old file may be anywhere: it is read as if it were here.
    let elsewhere = tempfile::tempdir().unwrap();
    let old = elsewhere.path().join("old.toml");
    std::fs::copy(gateway.config(), &old).unwrap();
    let old = old.to_str().unwrap();
    let output = reload(gateway.home(), &["--dry-run", "--config", "next.toml", "--against", old]).await;
    assert_eq!(output.status.code(), DIFFERS, "{output:?}");
    let said = out(&output);
    assert!(said.starts_with("this would change:\n") && said.contains("    requests: 900 -> 901\n"), "{said}");
    let output = reload(gateway.home(), &["--dry-run", "--against", old]).await;
    assert_eq!((output.status.code(), &*out(&output)), (Some(0), "nothing changes: both files mean the same\n"));
    std::fs::write(old, "[server]\nworkers = 0\n").unwrap();
    let output = reload(gateway.home(), &["--dry-run", "--against", old]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("old.toml is refused"), "{output:?}");
}

#[tokio::test]
async fn nothing_is_reloaded_while_the_gateway_drains() {
    let origin = Origin::start(|mut conn| async move {
        if conn.request().await.is_some() {
            std::future::pending::<()>().await; // until the gateway gives up
        }
    })
    .await;
    let mut gateway = Setup::before(&origin).server("workers = 1\ndrain_secs = 10").start().await;
    let mut client = Client::plain(gateway.http).await;
    client.send("GET / HTTP/1.1\r\nHost: site.test\r\n\r\n").await;
    eventually("the request upstream", || async { (origin.open() > 0).then_some(()) }).await;
    gateway.signal("TERM");
    eventually("the drain", || async { (gateway.readiness().await.status() == 503).then_some(()) }).await;
    let output = reload(gateway.home(), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(err(&output).contains("drains"), "{output:?}");
    gateway.signal("TERM");
    gateway.exit().await;
}
