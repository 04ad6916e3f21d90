//! The command line: what is printed where, exit codes, and a first start on a fresh machine.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::support::client::Client;
use crate::support::gateway::BINARY;
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::{eventually, scrape, tls, token};

fn portcullis(home: &Path, arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).current_dir(home).stdin(Stdio::null()).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn home(more: &str) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("issuer.secret"), token::SECRET).unwrap();
    let text = format!(
        "[listen.http]\naddress = \"127.0.0.1:8080\"\n[issuer.site]\nsecret = {{ file = \"issuer.secret\" }}\n\
         audiences = [\"{}\"]\n[upstream.app]\nendpoints = [\"builtin:whoami\"]\n\
         [[route]]\nname = \"public\"\npath = \"/\"\nauth = \"public\"\nupstream = \"app\"\n\
         [[route]]\nname = \"private\"\npath = \"/private/\"\nmethods = [\"GET\"]\n\
         auth = {{ issuer = \"site\", scopes = [\"read\"] }}\nforward_claims = {{ \"X-User-Id\" = \"sub\" }}\n\
         upstream = \"app\"\n{more}",
        token::AUDIENCE
    );
    std::fs::write(home.path().join("gateway.toml"), text).unwrap();
    home
}

#[test]
fn check_is_0_for_a_good_file_and_1_with_every_problem_for_a_bad_one() {
    let good = home("");
    let checked = portcullis(good.path(), &["check"]);
    assert_eq!((checked.status.code(), err(&checked)), (Some(0), String::new()));
    assert_eq!(out(&checked), "ok: 2 routes, 1 listener, 1 issuer, 1 upstream, 0 warnings\n");

    let bad = home("upstraem = \"app\"\n[[route]]\nname = \"open\"\npath = \"/open/\"\nupstream = \"nobody\"\n");
    let checked = portcullis(bad.path(), &["check", "--config", "gateway.toml"]);
    assert_eq!((checked.status.code(), out(&checked)), (Some(1), String::new()));
    for problem in ["upstraem", "did you mean", "does not say who may pass", "nobody"] {
        assert!(err(&checked).contains(problem), "{problem}: {}", err(&checked));
    }

    let nothing = portcullis(good.path(), &["check", "--config", "none.toml"]);
    assert_eq!(nothing.status.code(), Some(1));
    assert!(err(&nothing).contains("none.toml"));
}

#[test]
fn run_refuses_what_check_refuses_and_says_the_same() {
    let bad = home("upstraem = \"app\"\n");
    let (ran, checked) = (portcullis(bad.path(), &["run"]), portcullis(bad.path(), &["check"]));
    assert_eq!((ran.status.code(), err(&ran)), (Some(1), err(&checked)));
}

#[test]
fn run_says_which_address_it_cannot_have() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let home = home("");
    let text = std::fs::read_to_string(home.path().join("gateway.toml")).unwrap();
    std::fs::write(home.path().join("gateway.toml"), text.replace("127.0.0.1:8080", &address)).unwrap();
    let ran = portcullis(home.path(), &["run"]);
    assert_eq!(ran.status.code(), Some(1));
    assert!(err(&ran).contains(&address) && err(&ran).contains("[listen.http]"), "{}", err(&ran));
}

#[test]
fn a_wrong_command_line_is_2() {
    let home = home("");
    for arguments in [
        &["chek"][..],
        &["--frobnicate"],
        &["explain"],
        &["explain", "GET"],
        &["token"],
        &["token", "mint"],
        &["jwks", "doctor"],
        &["run", "x"],
    ] {
        let wrong = portcullis(home.path(), arguments);
        assert_eq!((wrong.status.code(), out(&wrong)), (Some(2), String::new()), "{arguments:?}");
        assert!(err(&wrong).contains("Usage"), "{arguments:?}: {}", err(&wrong));
    }
    for arguments in [&["--help"][..], &["--version"], &["token", "mint", "--help"]] {
        assert_eq!(portcullis(home.path(), arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn schema_is_a_json_schema() {
    let schema = portcullis(Path::new("/"), &["schema"]);
    assert_eq!(schema.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).unwrap();
    assert!(schema["$schema"].as_str().unwrap().contains("json-schema.org"));
    for table in ["server", "limits", "listen", "issuer", "upstream", "route"] {
        assert!(schema["properties"][table].is_object(), "{table}");
    }
}

#[test]
fn a_token_that_is_minted_can_be_inspected_and_explained() {
    let home = home("");
    let minted = portcullis(
        home.path(),
        &["token", "mint", "--issuer", "site", "--claim", "sub=bob", "--claim", "scope=read write"],
    );
    assert_eq!((minted.status.code(), err(&minted)), (Some(0), String::new()));
    let token = out(&minted).trim().to_owned();

    let inspected = portcullis(home.path(), &["token", "inspect", &token]);
    assert_eq!(inspected.status.code(), Some(0));
    for shown in ["HS256", "\"bob\"", "read write", token::AUDIENCE, "exp"] {
        assert!(out(&inspected).contains(shown), "{shown}: {}", out(&inspected));
    }
    assert!(!out(&inspected).contains(token.rsplit_once('.').unwrap().1), "a signature need not be shown");

    let url = "http://site.test/private/x";
    let explained = portcullis(home.path(), &["explain", "GET", url, "--token", &token]);
    assert_eq!(explained.status.code(), Some(0));
    for line in ["route     private", "the token passes", "x-user-id from claim sub"] {
        assert!(out(&explained).contains(line), "{line}: {}", out(&explained));
    }
    let little = token::with(&serde_json::json!({}));
    let explained = portcullis(home.path(), &["explain", "GET", url, "--token", &little]);
    assert!(out(&explained).contains("the token is refused") && out(&explained).contains("NO"), "{}", out(&explained));
    let explained = portcullis(home.path(), &["explain", "POST", url]);
    assert!(out(&explained).contains("405") && out(&explained).contains("GET"), "{}", out(&explained));
    let explained = portcullis(home.path(), &["explain", "GET", "http://site.test/a/../b"]);
    assert_eq!(explained.status.code(), Some(1));
}

#[test]
fn hosts_and_what_is_said_to_browsers_are_explained() {
    let more = "[[route]]\nname = \"tenants\"\nhosts = [\"*.site.test\"]\npath = \"/\"\nauth = \"public\"\nupstream = \"app\"\n\
                response_headers = { \"X-Frame-Options\" = \"SAMEORIGIN\" }\nsecurity_headers = \"standard\"\n\
                cors = { origins = [\"https://*.app.test\"], expose = [\"X-Total\"], credentials = true }\n\
                [server]\nunknown_host = \"refuse\"\n";
    let home = home(more);
    let explained = portcullis(home.path(), &["explain", "GET", "http://a.site.test/x"]);
    for line in [
        "matches   *.site.test /\n",
        "answers   x-frame-options: SAMEORIGIN\n",
        "answers   x-content-type-options: nosniff, unless the upstream says otherwise\n",
        "cors      https://*.app.test by GET, HEAD, POST, reading X-Total, with credentials\n",
    ] {
        assert!(out(&explained).contains(line), "{line}: {}", out(&explained));
    }
    assert!(!out(&explained).contains("DENY"), "{}", out(&explained));
    let explained = portcullis(home.path(), &["explain", "GET", "http://else.test/x"]);
    assert!(out(&explained).contains("none names this host: answered 421"), "{}", out(&explained));
}

#[test]
fn a_policy_is_explained_one_clause_a_line_with_reads_and_writes_apart() {
    let home = home(
        "[issuer.partners]\nissuer = \"https://login.partner.example/\"\nsecret = { file = \"issuer.secret\" }\naudiences = [\"orders\"]\n\
         [[route]]\nname = \"orders\"\npath = \"/orders/\"\nupstream = \"app\"\nforward_all_claims = \"X-Claims\"\nforward_token = false\n\
         [route.auth]\nread = { issuer = \"site\", optional = true }\n\
         [route.auth.write]\nscopes = [\"orders\"]\ntoken = { cookie = \"access\" }\norigins = [\"https://app.example.com\"]\n\
         any = [{ issuer = \"site\" }, { issuer = \"partners\", require = { tenant = \"acme\" }, scopes_any = [\"read\", \"write\"] }]\n",
    );
    let explained = portcullis(home.path(), &["explain", "POST", "http://site.test/orders/7"]);
    assert_eq!((explained.status.code(), err(&explained)), (Some(0), String::new()));
    let expected = format!(
        "\
request   POST http://site.test/orders/7
route     orders
matches   any host /orders/
policy    GET, HEAD, OPTIONS:
            a token of issuer `site`, signed with HS256
            claim `aud` holds one of: {audience}
            claim `exp` is present
            dates are forgiven 30 seconds
            a request without a token passes too, as nobody
          other methods:
            a token of one of these kinds, as its `iss` says:
            - of issuer `site`, signed with HS256
              claim `aud` holds one of: {audience}
              claim `exp` is present
              dates are forgiven 30 seconds
            - of issuer `partners`, signed with HS256
              claim `iss` is \"https://login.partner.example/\"
              claim `aud` holds one of: orders
              claim `exp` is present
              dates are forgiven 30 seconds
            scopes granted: orders
            one of these:
            - the issuer is `site`
            - the issuer is `partners`
              claim `tenant` is \"acme\"
              one of these scopes granted: read write
            the token stands in `Authorization` or the cookie `access`
            only this site can spend the cookie on a change, and https://app.example.com
action    upstream app
body      at most 10485760 bytes
sets      x-claims from all claims
removes   the token, wherever it stood
",
        audience = token::AUDIENCE
    );
    assert_eq!(out(&explained), expected);

    let token = token::with(&serde_json::json!({ "sub": "ann" }));
    let tried = |method: &str| {
        out(&portcullis(home.path(), &["explain", method, "http://site.test/orders/7", "--token", &token]))
    };
    assert!(tried("GET").contains("the token passes"), "{}", tried("GET"));
    assert!(tried("POST").contains("NO      route demands: insufficient_scope"), "{}", tried("POST"));
}

#[test]
fn what_is_no_token_or_names_no_issuer_is_1() {
    let home = home("");
    for arguments in [
        &["token", "inspect", "nonsense"][..],
        &["token", "mint", "--issuer", "nobody"],
        &["token", "mint", "--issuer", "site", "--claim", "no-equals-sign"],
        &["token", "mint", "--issuer", "site", "--algorithm", "RS256"],
    ] {
        let failed = portcullis(home.path(), arguments);
        assert_eq!((failed.status.code(), out(&failed)), (Some(1), String::new()), "{arguments:?}");
        assert!(err(&failed).starts_with("error: "), "{}", err(&failed));
    }
}

/// A P-256 key (the example of RFC 7517, appendix A.1) with these members besides.
fn published(members: &str) -> String {
    let (x, y) = ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");
    format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{x}\",\"y\":\"{y}\"{members}}}")
}

fn good_set() -> String {
    let key = |kid| published(&format!(",\"kid\":\"{kid}\",\"alg\":\"ES256\",\"use\":\"sig\""));
    format!("{{\"keys\":[{},{}]}}", key("now"), key("next"))
}

async fn doctor(arguments: &[&str]) -> Output {
    let arguments: Vec<String> = ["jwks", "doctor"].iter().chain(arguments).map(ToString::to_string).collect();
    let run = move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        portcullis(Path::new("/"), &arguments)
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn the_doctor_says_how_a_key_set_is_served_and_what_is_wrong_with_it() {
    let serve = |set: &str, lines: &str| {
        let length = set.len();
        Origin::always(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{lines}\r\n{set}"))
    };
    let good = serve(&good_set(), "Content-Type: application/json\r\nCache-Control: max-age=600\r\n").await;
    let told = doctor(&[&format!("http://{}/keys", good.address), "--plain-http"]).await;
    assert_eq!((told.status.code(), err(&told)), (Some(0), String::new()));
    for line in
        ["ok    status        200, content type application/json", "ok    max-age       10m", "2 of 2 can be used"]
    {
        assert!(out(&told).contains(line), "{line}: {}", out(&told));
    }
    assert!(out(&told).lines().all(|line| line.starts_with("ok ")), "{}", out(&told));

    let leaking = format!("{{\"keys\":[{}]}}", published(",\"d\":\"AAAA\""));
    let poor = serve(&leaking, "Cache-Control: no-store\r\n").await;
    let told = doctor(&[&format!("http://{}/keys", poor.address), "--plain-http"]).await;
    assert_eq!((told.status.code(), err(&told)), (Some(1), String::new()));
    for (word, subject) in
        [("warn", "status"), ("warn", "max-age"), ("bad", "keys"), ("bad", "exposed"), ("warn", "overlap")]
    {
        let line = format!("{word:<6}{subject:<14}");
        assert!(
            out(&told).lines().any(|told| told.starts_with(&line) && told.contains(": ")),
            "{line}: {}",
            out(&told)
        );
    }
}

#[tokio::test]
async fn the_doctor_reads_files_and_says_why_there_is_no_set() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("keys.json");
    std::fs::write(&path, good_set()).unwrap();
    let told = doctor(&[path.to_str().unwrap()]).await;
    assert_eq!(told.status.code(), Some(0), "{}{}", out(&told), err(&told));
    assert!(!out(&told).contains("max-age"), "a file has none");

    let elsewhere = Origin::always("HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n").await;
    let url = format!("http://{}/keys", elsewhere.address);
    let told = doctor(&[&url, "--plain-http"]).await;
    assert_eq!(told.status.code(), Some(1));
    assert!(out(&told).starts_with("bad   fetch") && out(&told).contains("redirect"), "{}", out(&told));

    let missing = home.path().join("none.json");
    for (arguments, said) in [(&[&*url][..], "plain http"), (&[missing.to_str().unwrap()], "none.json")] {
        let told = doctor(arguments).await;
        assert_eq!((told.status.code(), out(&told)), (Some(1), String::new()));
        assert!(err(&told).starts_with("error: ") && err(&told).contains(said), "{}", err(&told));
    }
}

/// The repository's own configuration with its site, and ports of its own.
struct Checkout {
    home: TempDir,
    ports: [Port; 3],
}

impl Checkout {
    fn new() -> Self {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(home.path().join("deploy/site")).unwrap();
        for file in ["deploy/site/index.html", "deploy/site/style.css"] {
            std::fs::copy(root.join(file), home.path().join(file)).unwrap();
        }
        let ports = [(); 3].map(|()| Port::reserve());
        let mut text = std::fs::read_to_string(root.join("gateway.toml")).unwrap();
        for (written, port) in ["127.0.0.1:8443", "127.0.0.1:8080", "127.0.0.1:9180"].into_iter().zip(&ports) {
            assert!(text.contains(written));
            text = text.replace(written, &port.address.to_string());
        }
        std::fs::write(home.path().join("gateway.toml"), text).unwrap();
        Self { home, ports }
    }

    fn path(&self) -> &Path {
        self.home.path()
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("log")).unwrap_or_default()
    }

    fn start(&self) -> Running {
        let log = File::create(self.path().join("log")).unwrap();
        let mut command = Command::new(BINARY);
        command.current_dir(self.path()).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Running(command.spawn().unwrap()) // without arguments: `run` with ./gateway.toml is the default
    }
}

struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok(); // it may have ended by itself
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn a_first_start_makes_what_it_needs_and_greets_with_a_token_that_works() {
    let checkout = Checkout::new();
    let running = checkout.start();
    let [https, http, admin] = &checkout.ports;
    let greeting = eventually("the greeting", || async {
        let log = checkout.log();
        log.contains("Status page").then_some(log)
    })
    .await;
    let certificate = tls::read(&checkout.path().join("certs/dev.crt"));
    for (file, mode) in [("dev.crt", 0o644), ("dev.key", 0o600), ("dev.secret", 0o600), ("dev.identity", 0o600)] {
        use std::os::unix::fs::PermissionsExt;
        let permissions = std::fs::metadata(checkout.path().join("certs").join(file)).unwrap().permissions();
        assert_eq!(permissions.mode() & 0o777, mode, "{file}");
    }
    assert!(
        greeting.contains("DEVELOPMENT") && greeting.contains(&format!("https://localhost:{}", https.address.port()))
    );

    let mut client = client(https, &certificate).await;
    let home = client.ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!((home.status(), &home.json()["target"]), (200, &"/".into()));
    let site = client.ask("GET /site/ HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(site.status(), 200);
    assert_eq!(client.ask("GET /api/whoami HTTP/1.1\r\nHost: localhost\r\n\r\n").await.status(), 401);
    let token = greeting.split("Authorization: Bearer ").nth(1).unwrap().split('\'').next().unwrap();
    let request = format!("GET /api/whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n");
    let whoami = client.ask(request).await;
    assert_eq!((whoami.status(), &whoami.json()["headers"]["x-user-id"]), (200, &"alice".into()));
    assert!(whoami.json()["headers"]["x-portcullis-identity"].is_string());

    let redirect = Client::plain(http.address).await.get("/a?b").await;
    let location = format!("https://site.test:{}/a?b", https.address.port());
    assert_eq!((redirect.status(), redirect.field("location")), (308, Some(location.as_str())));
    assert_eq!(scrape::ask(admin.address, "/").await.status(), 200);

    // The second start finds it all there.
    drop(running);
    let _running = checkout.start();
    eventually("the greeting again", || async { checkout.log().contains("Status page").then_some(()) }).await;
    assert_eq!(tls::read(&checkout.path().join("certs/dev.crt")), certificate);
}

async fn client(https: &Port, certificate: &rustls::pki_types::CertificateDer<'static>) -> Client {
    Client::over(
        tls::connect_to("localhost", https.address, std::slice::from_ref(certificate), &[b"http/1.1"]).await.unwrap(),
    )
}

#[tokio::test]
async fn development_material_is_refused_in_earnest() {
    let checkout = Checkout::new();
    let running = checkout.start();
    eventually("the greeting", || async { checkout.log().contains("Status page").then_some(()) }).await;
    drop(running);
    let file = checkout.path().join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("development = true", "development = false")).unwrap();
    for command in ["check", "run"] {
        let refused = portcullis(checkout.path(), &[command]);
        assert_eq!(refused.status.code(), Some(1));
        for what in ["certificate", "secret", "key"].map(|what| format!("this {what} is development material")) {
            assert!(err(&refused).contains(&what), "{what}: {}", err(&refused));
        }
    }
    std::fs::remove_dir_all(checkout.path().join("certs")).unwrap();
    assert_eq!(portcullis(checkout.path(), &["run"]).status.code(), Some(1));
    assert!(!checkout.path().join("certs").exists(), "and none is made");
}

#[test]
fn development_on_an_address_that_is_not_loopback_is_refused() {
    let checkout = Checkout::new();
    let file = checkout.path().join("gateway.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let [https, ..] = &checkout.ports;
    std::fs::write(&file, text.replace(&https.address.to_string(), "0.0.0.0:8443")).unwrap();
    let refused = portcullis(checkout.path(), &["check"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("development = true"), "{}", err(&refused));
}
