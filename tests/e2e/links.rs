//! Signed links: whoever has one reads what it names until it expires, and nothing else.

use std::path::Path;
use std::process::Command;

use portcullis::auth::{LinkSettings, Secret, UnixSeconds, sign_link};
use serde_json::json;

use crate::support::client::Client;
use crate::support::gateway::{BINARY, Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::token;

const SECRET: &str = "a-secret-for-links-of-more-than-32-bytes";
const OLD: &str = "an-older-secret-for-links-of-more-than-32-bytes";

const ROUTES: &str = "[[route]]\nname = \"media\"\npath = \"/media/\"\nfiles = { root = \"media\", cache_control = \"public, max-age=60\" }\n\
    auth = { signed_links = { secret = { file = \"link.secret\" }, max_age_secs = 3600 } }\n\
    [[route]]\nname = \"both\"\npath = \"/both/\"\nupstream = \"app\"\n\
    auth = { issuer = \"site\", token = { query = \"access_token\" }, signed_links = { secrets = [{ file = \"link.secret\" }, { file = \"old.secret\" }] } }\n";

async fn gateway(origin: &Origin) -> Gateway {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("media")).unwrap();
    for (name, contents) in
        [("media/a b.txt", "0123456789"), ("media/ü.txt", "umlaut"), ("link.secret", SECRET), ("old.secret", OLD)]
    {
        std::fs::write(home.path().join(name), contents).unwrap();
    }
    Setup::before(origin).tables(ROUTES).start_in(home).await
}

fn link_by(secret: &str, target: &str, in_secs: i64) -> String {
    let settings = LinkSettings { secrets: vec![Secret::new(secret.as_bytes())], max_age_secs: 0 };
    sign_link(&settings, target, UnixSeconds::from_secs(token::now().checked_add_signed(in_secs).unwrap())).unwrap()
}

fn link(target: &str, in_secs: i64) -> String {
    link_by(SECRET, target, in_secs)
}

#[tokio::test]
async fn a_link_reads_its_file_until_it_expires() {
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let mut client = Client::plain(gateway.http).await;
    for (path, body) in
        [("/media/a%20b.txt", "0123456789"), ("/media/%C3%BC.txt", "umlaut"), ("/media/a%20b.txt?size=2", "0123456789")]
    {
        let answer = client.get(&link(path, 600)).await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, body), "{path}");
        assert_eq!(answer.field("cache-control"), Some("private"), "{path}: the link is this client's");
    }
    assert_eq!(client.get_with(&link("/media/a%20b.txt", 600), "Range: bytes=2-4\r\n").await.text(), "234");
    assert_eq!(client.by("HEAD", &link("/media/a%20b.txt", 600), "").await.status(), 200);
    assert_eq!(client.get(&link("/media/none.txt", 600)).await.status(), 404);

    let expired = client.get(&link("/media/a%20b.txt", -1)).await;
    assert_eq!((expired.status(), expired.field("cache-control")), (410, Some("no-store")));
    let good = link("/media/a%20b.txt", 600);
    for (refused, outcome) in [
        ("/media/a%20b.txt".to_owned(), "link_missing"),
        (link("/media/a%20b.txt", 7200), "link_lifetime"),
        (link_by(OLD, "/media/a%20b.txt", 600), "link_signature"),
        (good.replace("a%20b", "%C3%BC"), "link_signature"),
        (good.replace("a%20b", "a%20%62"), "link_signature"),
        (format!("{good}&more=1"), "link_malformed"),
        (good.replace("expires=", "expires=1&expires="), "link_malformed"),
    ] {
        let marked = client.get_with(&refused, "User-Agent: marked\r\n").await;
        assert_eq!(marked.status(), 403, "{refused}");
        assert_eq!((marked.field("www-authenticate"), marked.field("cache-control")), (None, Some("no-store")));
        let lines = gateway.access_line(&format!(" 403 GET site.test{} ", shown(&refused))).await;
        assert!(lines.contains(outcome), "{refused}: {lines}");
    }
    assert_eq!(client.post(&good, "x").await.status(), 403);
    assert!(!gateway.log().contains(good.rsplit('=').next().unwrap()), "a signature is in the log");
}

/// A link as the access log shows it.
fn shown(link: &str) -> String {
    let Some((before, after)) = link.split_once("&signature=") else { return link.to_owned() };
    let rest = after.split_once('&').map_or(String::new(), |(_, rest)| format!("&{rest}"));
    format!("{before}&signature=REDACTED{rest}")
}

#[tokio::test]
async fn a_link_stands_in_for_a_token_and_a_token_alone_decides_where_there_is_one() {
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let mut client = Client::plain(gateway.http).await;
    let (good, bad) = (link("/both/x?size=2", 600), link("/both/x?size=2", 600).replace("size=2", "size=3"));
    let (token, forged) =
        (token::good(), token::signed("another-secret-of-more-than-32-bytes-here", &json!({ "sub": "eve" })));

    assert_eq!(client.get(&good).await.status(), 200);
    assert_eq!((origin.last().target(), origin.last().field("authorization")), ("/both/x?size=2", None));
    assert_eq!(client.get(&link_by(OLD, "/both/x", 600)).await.status(), 200, "secrets take turns");
    assert_eq!(origin.last().target(), "/both/x");

    assert_eq!(client.get_with(&bad, &token::bearer(&token)).await.status(), 200);
    assert_eq!(origin.last().target(), "/both/x?size=3", "a link that is not looked at is not sent on");
    assert_eq!(client.get(&format!("/both/x?expires=1&signature=2&access_token={token}&a=b")).await.status(), 200);
    assert_eq!(origin.last().target(), "/both/x?a=b");
    assert_eq!(client.get_with(&good, &token::bearer(&forged)).await.status(), 401, "a bad token never passes");
    assert_eq!(client.get(&bad).await.status(), 403);
    assert_eq!(client.get(&link("/both/x", -5)).await.status(), 410);
    let neither = client.get("/both/x").await;
    assert_eq!(neither.status(), 401);
    assert!(neither.field("www-authenticate").is_some());
    assert_eq!(client.by("DELETE", &good, "").await.status(), 403, "a link is for reading");
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    assert_eq!(Client::plain(gateway.http).await.get_with(&good, upgrade).await.status(), 403);
}

#[tokio::test]
async fn a_changed_secret_is_seen_without_a_restart() {
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let good = link("/media/a%20b.txt", 600);
    assert_eq!(Client::plain(gateway.http).await.get(&good).await.status(), 200);
    std::fs::write(gateway.home().join("link.secret"), OLD.to_uppercase()).unwrap();
    gateway.until_generation(2).await;
    assert_eq!(Client::plain(gateway.http).await.get(&good).await.status(), 403);
}

fn portcullis(home: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(BINARY).args(arguments).current_dir(home).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test]
async fn the_command_line_makes_links_that_pass_and_tells_what_is_wrong_with_others() {
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let run = |arguments: &[&str]| portcullis(gateway.home(), arguments);
    let mut client = Client::plain(gateway.http).await;
    let (code, minted, said) = run(&["link", "mint", "/media/a b.txt", "--expires-in", "600"]);
    assert_eq!((code, said.as_str()), (Some(0), ""));
    assert!(minted.starts_with("/media/a%20b.txt?expires="), "{minted}");
    assert_eq!(client.get(minted.trim()).await.text(), "0123456789");
    let (_, minted, _) = run(&["link", "mint", "http://site.test/media/%C3%BC.txt"]);
    let target = minted.trim().strip_prefix("http://site.test").unwrap();
    assert_eq!(client.get(target).await.text(), "umlaut");
    for (arguments, reason) in [
        (["link", "mint", "/media/a", "--expires-in=3601"], "max_age_secs"),
        (["link", "mint", "/elsewhere", "--expires-in=60"], "signed_links"),
        (["link", "mint", "media/a", "--expires-in=60"], "neither a URL"),
        (["link", "mint", "/media/../a", "--expires-in=60"], "refused"),
        (["link", "mint", "/media/a?expires=1", "--expires-in=60"], "cannot sign"),
    ] {
        let (code, out, said) = run(&arguments);
        assert!(code == Some(1) && out.is_empty() && said.contains(reason), "{arguments:?}: {said}");
    }

    let good = link("/media/a%20b.txt", 600);
    for (url, told) in [
        (good.clone(), "the link passes"),
        (good.replace("a%20b", "a"), "does not verify"),
        (link("/media/a%20b.txt", -1), "has expired"),
        ("/media/a%20b.txt".to_owned(), "no signed link"),
    ] {
        let (code, out, said) = run(&["link", "inspect", &url]);
        assert!(code == Some(0) && out.contains(told), "{url}: {out}{said}");
        assert!(out.contains("secret 1 of 1") == (told == "the link passes" || told == "has expired"), "{out}");
        let (_, out, said) = run(&["explain", "GET", &format!("http://site.test{url}")]);
        assert!(out.contains(told), "{url}: {out}{said}");
        assert!(out.contains("a signed link, by GET or HEAD"), "{out}");
    }
}

/// The function of the documentation, run by Python as it stands there.
#[tokio::test]
async fn the_documented_function_signs_links_that_pass() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/media.md")).unwrap();
    let blocks = page.split("```python\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let function = blocks.into_iter().find(|block| block.contains("def signed_url")).expect("the function");
    let program = format!("{function}\nimport sys\nprint(signed_url(sys.argv[1], int(sys.argv[2])))\n");
    let origin = Origin::hello().await;
    let gateway = gateway(&origin).await;
    let mut client = Client::plain(gateway.http).await;
    for (path, seconds, status) in [
        ("/media/a%20b.txt", "600", 200),
        ("/media/%C3%BC.txt?v=2", "600", 200),
        ("/media/a%20b.txt", "-1", 410),
        ("/media/a%20b.txt", "7200", 403),
    ] {
        let mut python = Command::new("python3");
        python.args(["-c", &program, path, seconds]).env("MEDIA_LINK_SECRET", SECRET);
        let output = python.output().expect("python3 is there: tests/run installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let url = String::from_utf8(output.stdout).unwrap();
        assert_eq!(client.get(url.trim()).await.status(), status, "{url}");
    }
}
