//! Keys that an issuer publishes: taken up when they change, kept when it fails, and never fetched more often than agreed.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::RwLock;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::gateway::{BINARY, Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::signer::{Signer, encoded, set_of};
use crate::support::stub::{Reply, Stub};
use crate::support::token::{self, bearer};
use crate::support::wire::Message;
use crate::support::{Dice, eventually, scrape};

/// A fetch a second at most, and none that no token asks for, for as long as a test takes.
const ON_DEMAND: &str = "refetch_cooldown_secs = 1\nrefresh_min_secs = 600\n";
/// A fetch a second, asked for or not, of a set that is not to be kept.
const EAGER: &str = "refetch_cooldown_secs = 1\nrefresh_min_secs = 1\n";
/// What `refetch_cooldown_secs` above says, and what two clocks may differ by.
const COOLDOWN: Duration = Duration::from_millis(1100);

/// The keys of `[issuer.site]` that fetch from `stub`.
fn fetched(stub: &Stub, more: &str) -> String {
    format!(
        "jwks_url = \"{}\"\nplain_http = true\naudiences = [\"{}\"]\nleeway_secs = 0\n{more}",
        stub.url("http", "/keys"),
        token::AUDIENCE
    )
}

async fn before(origin: &Origin, stub: &Stub, more: &str) -> Gateway {
    Setup::before(origin).issuer(&fetched(stub, more)).start().await
}

async fn status(gateway: &Gateway, fields: &str) -> u16 {
    Client::plain(gateway.http).await.get_with("/private/", fields).await.status()
}

/// 503, soon to be tried again, and no word of credentials.
fn assert_unavailable(answer: &Message) {
    assert_eq!(answer.status(), 503, "{answer:?}");
    assert!(answer.field("retry-after").is_some_and(|secs| secs.parse::<u32>().is_ok()), "{answer:?}");
    assert_eq!(answer.field("www-authenticate"), None);
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
}

async fn fetches(gateway: &Gateway, outcome: &str) -> u64 {
    let outcome = format!("outcome=\"{outcome}\"");
    gateway.scrape().await.count("portcullis_jwks_fetches_total", &["issuer=\"site\"", &outcome])
}

async fn until_failed(gateway: &Gateway, least: u64) {
    eventually("a failed fetch", || async { (fetches(gateway, "failed").await >= least).then_some(()) }).await;
}

#[tokio::test]
async fn a_new_key_is_accepted_by_the_very_request_that_brings_it() {
    let (origin, old, new) = (Origin::hello().await, Signer::new("old"), Signer::new("new"));
    let stub = Stub::publishing(set_of(&[&old]));
    let gateway = before(&origin, &stub, ON_DEMAND).await;
    assert_eq!(status(&gateway, &old.bearer()).await, 200);
    stub.publish(set_of(&[&old, &new]));
    tokio::time::sleep(COOLDOWN).await; // what is tested is the first request after it
    assert_eq!((status(&gateway, &new.bearer()).await, stub.hits()), (200, 2));
    assert_eq!((status(&gateway, &old.bearer()).await, stub.hits()), (200, 2));
}

#[tokio::test]
async fn a_new_key_of_another_algorithm_is_accepted_as_well() {
    let (origin, old, new) = (Origin::hello().await, Signer::new("old"), Signer::ed25519("new"));
    let stub = Stub::publishing(set_of(&[&old]));
    let gateway = before(&origin, &stub, ON_DEMAND).await;
    assert_eq!(status(&gateway, &old.bearer()).await, 200);
    stub.publish(set_of(&[&old, &new]));
    tokio::time::sleep(COOLDOWN).await;
    assert_eq!(status(&gateway, &new.bearer()).await, 200);
}

#[tokio::test]
async fn a_withdrawn_key_is_refused_after_the_refresh_even_for_a_remembered_token() {
    let (origin, kept, withdrawn) = (Origin::hello().await, Signer::new("kept"), Signer::new("withdrawn"));
    let mut stub = Stub::down();
    stub.publish_for_now(set_of(&[&kept, &withdrawn]));
    stub.begin();
    let gateway = before(&origin, &stub, EAGER).await;
    let mut client = Client::plain(gateway.http).await;
    let token = withdrawn.bearer();
    for _ in 0..2 {
        assert_eq!(client.get_with("/private/", &token).await.status(), 200);
    }
    stub.publish_for_now(set_of(&[&kept]));
    stub.until_fetched_anew().await;
    assert_eq!(client.get_with("/private/", &token).await.status(), 401);
    assert_eq!(client.get_with("/private/", &kept.bearer()).await.status(), 200);
}

/// What many clients do while keys change under them.
struct Load {
    /// The key that signs now, and the tokens it signed.
    signing: RwLock<String>,
    /// Of a key that is never published.
    forged: String,
    over: AtomicBool,
    passed: AtomicUsize,
}

async fn press(load: Arc<Load>, mut client: Client, seed: u64) {
    let mut dice = Dice::new(seed);
    while !load.over.load(Ordering::SeqCst) {
        if dice.below(4) == 0 {
            assert_eq!(client.get_with("/private/", &load.forged).await.status(), 401);
            continue;
        }
        let signing = load.signing.read().await;
        assert_eq!(client.get_with("/private/", &signing).await.status(), 200);
        drop(signing);
        load.passed.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_rotation_under_load_gives_no_wrong_answer() {
    let origin = Origin::hello().await;
    let signers: Vec<Signer> = (0..4).map(|number| Signer::new(&number.to_string())).collect();
    let mut stub = Stub::down();
    stub.publish_for_now(set_of(&[&signers[0]]));
    stub.begin();
    let setup = Setup::before(&origin).server("workers = 2").issuer(&fetched(&stub, EAGER));
    let gateway = setup.start().await;
    let load = Arc::new(Load {
        signing: RwLock::new(signers[0].bearer()),
        forged: Signer::new("forged").bearer(),
        over: AtomicBool::new(false),
        passed: AtomicUsize::new(0),
    });
    let mut clients = JoinSet::new();
    for seed in 0..12 {
        clients.spawn(press(Arc::clone(&load), Client::plain(gateway.http).await, seed));
    }
    for pair in signers.windows(2) {
        let [old, new] = pair else { unreachable!() };
        stub.publish_for_now(set_of(&[old, new]));
        stub.until_fetched_anew().await;
        *load.signing.write().await = new.bearer();
        stub.publish_for_now(set_of(&[new]));
        stub.until_fetched_anew().await;
        assert_eq!(status(&gateway, &old.bearer()).await, 401, "withdrawn");
    }
    load.over.store(true, Ordering::SeqCst);
    clients.join_all().await;
    assert!(load.passed.load(Ordering::SeqCst) > 100);
    assert_eq!(fetches(&gateway, "failed").await, 0);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_causes_one_fetch_a_cool_down_and_honest_tokens_pass() {
    const CONNECTIONS: u64 = 50;
    const REQUESTS: usize = 400;
    let (origin, signer) = (Origin::hello().await, Signer::new("honest"));
    let stub = Stub::publishing(set_of(&[&signer]));
    let setup = Setup::before(&origin).server("workers = 2").log("access = false");
    let gateway = setup.issuer(&fetched(&stub, ON_DEMAND)).start().await;
    let honest = signer.bearer();
    assert_eq!(status(&gateway, &honest).await, 200);

    let begun = Instant::now();
    let (mut flood, over) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
    for seed in 0..CONNECTIONS {
        let mut client = Client::plain(gateway.http).await;
        let mut dice = Dice::new(seed);
        let claims = encoded(json!({ "exp": token::now() + 600, "aud": token::AUDIENCE }).to_string().as_bytes());
        flood.spawn(async move {
            for _ in 0..REQUESTS {
                let kid = format!("{}-{}", dice.below(u64::from(u32::MAX)), dice.below(u64::from(u32::MAX)));
                let header = encoded(json!({ "alg": "ES256", "kid": kid }).to_string().as_bytes());
                let forged = bearer(&format!("{header}.{claims}.{}", encoded(&[7; 64])));
                assert_eq!(client.get_with("/private/", &forged).await.status(), 401);
            }
        });
    }
    let mut honest_ones = JoinSet::new();
    for _ in 0..2 {
        let (mut client, over, honest) = (Client::plain(gateway.http).await, Arc::clone(&over), honest.clone());
        honest_ones.spawn(async move {
            let mut passed = 0;
            while !over.load(Ordering::SeqCst) {
                assert_eq!(client.get_with("/private/", &honest).await.status(), 200);
                passed += 1;
            }
            passed
        });
    }
    flood.join_all().await;
    let took = begun.elapsed();
    over.store(true, Ordering::SeqCst);
    let passed: usize = honest_ones.join_all().await.into_iter().sum();
    assert!(passed > 100, "{passed} honest requests in {took:?}");
    // The first fetch, then one for each cool-down that has passed.
    let allowed = 1 + 1 + usize::try_from(took.as_secs()).unwrap();
    assert!((1..=allowed).contains(&stub.hits()), "{} fetches in {took:?}", stub.hits());
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_503_until_it_is_back() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let mut stub = Stub::down();
    let gateway = before(&origin, &stub, ON_DEMAND).await;
    let mut client = Client::plain(gateway.http).await;
    assert_unavailable(&client.get_with("/private/", &signer.bearer()).await);
    assert_unavailable(&client.get_with("/private/", &bearer(&token::good())).await);
    assert_eq!(client.get("/private/").await.status(), 401, "no token is no matter of keys");
    assert_eq!(client.get("/").await.status(), 200, "the public route needs none");
    assert!(origin.requests().iter().all(|request| request.target() == "/"));
    until_failed(&gateway, 1).await;
    assert!(gateway.log().contains("the key set is not fetched"), "{}", gateway.log());
    let scrape = gateway.scrape().await;
    assert_eq!(scrape.count("portcullis_jwks_keys", &["issuer=\"site\""]), 0);
    assert!(!scrape.names().iter().any(|name| name.starts_with("portcullis_jwks_age_seconds{")), "never fetched");

    stub.publish(set_of(&[&signer]));
    stub.begin();
    let client = tokio::sync::Mutex::new(client);
    eventually("a token that passes", || async {
        let answer = client.lock().await.get_with("/private/", &signer.bearer()).await;
        if answer.status() == 200 {
            return Some(());
        }
        assert_unavailable(&answer);
        None
    })
    .await;
}

#[tokio::test]
async fn an_issuer_that_hangs_is_503_within_the_time_of_a_fetch() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let mut stub = Stub::down();
    stub.answer(|_| Reply::Hang);
    stub.begin();
    let gateway = before(&origin, &stub, &format!("{ON_DEMAND}fetch_timeout_secs = 0.3\n")).await;
    assert_unavailable(&Client::plain(gateway.http).await.get_with("/private/", &signer.bearer()).await);
    stub.publish(set_of(&[&signer]));
    let passes = || async { (status(&gateway, &signer.bearer()).await == 200).then_some(()) };
    eventually("a token that passes", passes).await;
}

#[tokio::test]
async fn a_cold_start_serves_the_last_good_keys() {
    let (origin, signer, home) = (Origin::hello().await, Signer::new("a"), tempfile::tempdir().unwrap());
    let copy = home.path().join("keys.json");
    let keys = format!("{ON_DEMAND}last_good_file = \"{}\"\n", copy.display());
    let mut stub = Stub::publishing(set_of(&[&signer]));
    let gateway = before(&origin, &stub, &keys).await;
    eventually("the copy", || async { copy.exists().then_some(()) }).await;
    drop(gateway);
    stub.die().await;

    let gateway = before(&origin, &stub, &keys).await;
    assert_eq!(status(&gateway, &signer.bearer()).await, 200);
    assert_eq!(status(&gateway, &Signer::new("a").bearer()).await, 401);
    until_failed(&gateway, 1).await;
    assert_eq!(gateway.scrape().await.count("portcullis_jwks_keys", &["issuer=\"site\""]), 1);
    drop(gateway);

    std::fs::write(&copy, "{\"source\"").unwrap();
    let gateway = before(&origin, &stub, &keys).await;
    assert_unavailable(&Client::plain(gateway.http).await.get_with("/private/", &signer.bearer()).await);
    assert!(gateway.log().contains("the last good key set is not used"), "{}", gateway.log());
}

#[tokio::test]
async fn the_last_keys_serve_while_the_issuer_is_down() {
    let (origin, signer, next) = (Origin::hello().await, Signer::new("a"), Signer::new("b"));
    let mut stub = Stub::down();
    stub.publish_for_now(set_of(&[&signer]));
    stub.begin();
    let gateway = before(&origin, &stub, EAGER).await;
    assert_eq!(status(&gateway, &signer.bearer()).await, 200);
    stub.die().await;
    until_failed(&gateway, 2).await;
    assert_eq!(status(&gateway, &signer.token_field("late")).await, 200, "of a token not seen before");
    assert_eq!(status(&gateway, &next.bearer()).await, 503, "its key may be one that can't be had");
    stub.publish_for_now(set_of(&[&signer, &next]));
    stub.begin();
    eventually("the new key", || async { (status(&gateway, &next.bearer()).await == 200).then_some(()) }).await;
    assert!(gateway.log().contains("the key set is fetched again"), "{}", gateway.log());
}

#[tokio::test]
async fn a_set_that_goes_bad_changes_nothing_and_shows() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let mut stub = Stub::down();
    stub.publish_for_now(set_of(&[&signer]));
    stub.begin();
    let gateway = before(&origin, &stub, EAGER).await;
    assert_eq!(status(&gateway, &signer.bearer()).await, 200);
    let weak = json!({ "kty": "RSA", "kid": "w", "n": encoded(&[0xC5; 128]), "e": "AQAB" });
    let secret = json!({ "kty": "oct", "kid": "s", "k": encoded(token::SECRET.as_bytes()) });
    for (body, said) in [
        ("<html>down for maintenance</html>".to_owned(), "not JSON"),
        (json!({ "keys": [] }).to_string(), "none of its 0 keys"),
        (json!({ "keys": [secret] }).to_string(), "shared secret"),
        (json!({ "keys": [weak] }).to_string(), "1024"),
        ("x".repeat(2_000_000), "longer than"),
    ] {
        stub.publish_for_now(body);
        let page = eventually("the failure on the status page", || async {
            let page = scrape::ask(gateway.admin, "/").await.text();
            page.contains(said).then_some(page)
        })
        .await;
        assert!(page.contains("Fetched key sets"));
        assert_eq!(status(&gateway, &signer.token_field(said)).await, 200, "{said}");
        assert_eq!(gateway.scrape().await.count("portcullis_jwks_keys", &["issuer=\"site\""]), 1);
        // The first failure's pause begins anew with a good fetch.
        stub.publish_for_now(set_of(&[&signer]));
        let page = || async { scrape::ask(gateway.admin, "/").await.text() };
        eventually("a good fetch", || async { (!page().await.contains(said)).then_some(()) }).await;
    }
    assert!(fetches(&gateway, "failed").await >= 5);
    let forged = token::with(&json!({}));
    assert_eq!(status(&gateway, &bearer(&forged)).await, 401, "the published secret signs nothing");
    assert_eq!(gateway.log().matches("the key set is not fetched").count(), 5, "each reason is said once");
}

#[tokio::test]
async fn the_metadata_of_another_issuer_is_believed_in_nothing() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let mut stub = Stub::down();
    stub.discoverable("https://evil.example", set_of(&[&signer]));
    stub.begin();
    let name = stub.url("http", "");
    let keys = format!(
        "discovery = \"{name}\"\nplain_http = true\naudiences = [\"{}\"]\nleeway_secs = 0\n{ON_DEMAND}",
        token::AUDIENCE
    );
    let gateway = Setup::before(&origin).issuer(&keys).start().await;
    let mut client = Client::plain(gateway.http).await;
    let own = bearer(&signer.token(&json!({ "iss": name })));
    assert_unavailable(&client.get_with("/private/", &own).await);
    let told = || async {
        let log = gateway.log();
        (log.contains("the metadata is of issuer `https://evil.example`") && log.contains(&name)).then_some(())
    };
    eventually("a line that says so", told).await;

    stub.discoverable(&name, set_of(&[&signer]));
    eventually("the right issuer", || async { (status(&gateway, &own).await == 200).then_some(()) }).await;
    for iss in [json!("https://evil.example"), json!(format!("{name}/")), json!(null)] {
        let token = bearer(&signer.token(&json!({ "iss": iss })));
        assert_eq!(client.get_with("/private/", &token).await.status(), 401, "{iss}");
    }
}

#[tokio::test]
async fn a_reload_keeps_the_keys_unless_the_source_changes() {
    let (origin, signer, other) = (Origin::hello().await, Signer::new("a"), Signer::new("a"));
    let mut stub = Stub::down();
    let (here, there) = (set_of(&[&signer]), set_of(&[&other]));
    stub.answer(move |path| Reply::Body("", if path == "/keys" { here.clone() } else { there.clone() }));
    stub.begin();
    let gateway = before(&origin, &stub, ON_DEMAND).await;
    let token = bearer(&signer.token(&json!({ "aud": "renamed" })));
    assert_eq!(status(&gateway, &token).await, 401);
    gateway.edit(|text| text.replace("[\"e2e\"]", "[\"renamed\"]"));
    gateway.until_generation(2).await;
    assert_eq!((status(&gateway, &token).await, stub.hits()), (200, 1));

    gateway.edit(|text| text.replace("/keys", "/others"));
    gateway.until_generation(3).await;
    assert_eq!(status(&gateway, &token).await, 401, "of the keys there, none signed it");
    let token = bearer(&other.token(&json!({ "aud": "renamed" })));
    assert_eq!((status(&gateway, &token).await, stub.hits()), (200, 2));
}

#[tokio::test]
async fn a_reload_that_changes_how_often_keys_are_fetched_keeps_them_while_the_issuer_is_down() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let mut stub = Stub::publishing(set_of(&[&signer]));
    let gateway = before(&origin, &stub, ON_DEMAND).await;
    assert_eq!(status(&gateway, &signer.bearer()).await, 200);
    stub.die().await;
    gateway.edit(|text| text.replace("refresh_min_secs = 600", "refresh_min_secs = 500"));
    gateway.until_generation(2).await;
    assert_eq!(status(&gateway, &signer.bearer()).await, 200);
    until_failed(&gateway, 1).await;
    assert_eq!(status(&gateway, &signer.bearer()).await, 200);
}

#[tokio::test]
async fn two_issuers_with_one_url_fetch_it_once() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let stub = Stub::publishing(set_of(&[&signer]));
    let other = fetched(&stub, ON_DEMAND).replace(token::AUDIENCE, "other");
    let tables = format!(
        "[issuer.other]\n{other}[[route]]\nname = \"other\"\npath = \"/other/\"\nauth = {{ issuer = \"other\" }}\n\
         upstream = \"app\"\n"
    );
    let gateway = Setup::before(&origin).issuer(&fetched(&stub, ON_DEMAND)).tables(&tables).start().await;
    let mut client = Client::plain(gateway.http).await;
    let (site, other) = (signer.bearer(), bearer(&signer.token(&json!({ "aud": "other" }))));
    for (path, token, status) in
        [("/private/", &site, 200), ("/other/", &other, 200), ("/private/", &other, 401), ("/other/", &site, 401)]
    {
        assert_eq!(client.get_with(path, token).await.status(), status, "{path}");
    }
    assert_eq!(stub.hits(), 1);
    let scrape = gateway.scrape().await;
    for issuer in ["issuer=\"site\"", "issuer=\"other\""] {
        assert_eq!(scrape.count("portcullis_jwks_keys", &[issuer]), 1);
        assert_eq!(scrape.count("portcullis_jwks_fetches_total", &[issuer, "outcome=\"ok\""]), 1);
        assert_eq!(scrape.count("portcullis_jwks_fetches_total", &[issuer, "outcome=\"failed\""]), 0);
        assert!(scrape.count("portcullis_jwks_age_seconds", &[issuer]) < 60);
    }
}

#[tokio::test]
async fn keys_over_https_need_an_authority_that_vouches_for_the_server() {
    let (origin, signer) = (Origin::hello().await, Signer::new("a"));
    let (stub, ca) = Stub::publishing_over_tls(set_of(&[&signer]));
    let keys = fetched(&stub, ON_DEMAND).replace("http:", "https:").replace("plain_http = true\n", "");
    let gateway = Setup::before(&origin).issuer(&keys).start().await;
    assert_unavailable(&Client::plain(gateway.http).await.get_with("/private/", &signer.bearer()).await);
    assert_eq!(stub.hits(), 0);

    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("issuer-ca.pem"), ca).unwrap();
    let keys = format!("{keys}ca_file = \"issuer-ca.pem\"\n");
    let gateway = Setup::before(&origin).issuer(&keys).start_in(home).await;
    assert_eq!((status(&gateway, &signer.bearer()).await, stub.hits()), (200, 1));
}

#[tokio::test]
async fn explain_judges_a_token_by_the_keys_that_are_published_now() {
    let (origin, signer, home) = (Origin::hello().await, Signer::new("a"), tempfile::tempdir().unwrap());
    let mut stub = Stub::publishing(set_of(&[&signer]));
    let copy = home.path().join("keys.json");
    let keys = format!("{ON_DEMAND}last_good_file = \"{}\"\n", copy.display());
    let gateway = before(&origin, &stub, &keys).await;
    eventually("the copy", || async { copy.exists().then_some(()) }).await;
    std::fs::remove_file(&copy).unwrap();
    let config = gateway.config();
    let explain = async |token: String| {
        let config = config.clone();
        let run = move || {
            let mut command = Command::new(BINARY);
            command.args(["explain", "GET", "http://site.test/private/", "--token", &token, "--config"]).arg(config);
            let output = command.stdin(Stdio::null()).output().unwrap();
            String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap()
        };
        tokio::task::spawn_blocking(run).await.unwrap()
    };
    let said = explain(signer.token(&json!({}))).await;
    assert!(said.contains("verdict   the token passes") && said.contains("keys: 1 in use"), "{said}");
    let said = explain(Signer::new("b").token(&json!({}))).await;
    assert!(said.contains("verdict   the token is refused") && said.contains("unknown_key"), "{said}");
    assert!(!copy.exists(), "whoever asks has not the gateway's account: the copy is not to become theirs");
    let said = explain(signer.token(&json!({ "cnf": { "x-unheard-of": "a" } }))).await;
    assert!(said.contains("verdict   the token is refused") && said.contains("bound_token"), "{said}");
    stub.die().await;
    let said = explain(signer.token(&json!({}))).await;
    assert!(said.contains("keys_unavailable") && said.contains("cannot be fetched"), "{said}");
}
