//! The configuration language as operators meet it: what `check` prints, whether the reference and the documentation are
//! complete, and that no file whatever makes the loader panic.
//!
//! `tests/config/NAME.toml` is a case and `NAME.stderr` what `check` prints about it, exactly. After a change that is meant,
//! `BLESS=1 cargo test --test config` writes the expected texts anew; read the difference before it is committed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::LazyLock;

use portcullis::auth::{self, Test};
use portcullis::cli::check;
use portcullis::config::{self, Loaded, Paint, Problems, Sources};
use proptest::prelude::*;

/// A world where every file exists unless its name says otherwise.
struct World;

impl Sources for World {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        match path.file_name().and_then(|name| name.to_str()) {
            Some("missing.pem" | "missing.secret" | "missing.html") => Err(io::Error::from_raw_os_error(2)),
            Some("unreadable.key") => Err(io::Error::from_raw_os_error(13)),
            Some("empty.secret") => Ok(b"\n".to_vec()),
            Some("empty.html") => Ok(Vec::new()),
            Some("large.html") => Ok(vec![b'x'; 256 * 1024 + 1]),
            Some("weak.secret") => Ok(b"too short a secret\n".to_vec()),
            Some("development.secret") => Ok(b"0123456789abcdef-portcullis-development-secret-do-not-trust".to_vec()),
            Some("identity.pem" | "dev.identity") => Ok(signing_key().serialize_pem().into_bytes()),
            Some("development.identity") => {
                Ok(format!("Portcullis development key - do not trust\n{}", signing_key().serialize_pem()).into_bytes())
            }
            Some("other.key") => Ok(rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes()),
            Some(name) => Ok(contents(Path::new(name))),
            None => Err(io::Error::from_raw_os_error(21)),
        }
    }

    fn is_directory(&self, path: &Path) -> io::Result<bool> {
        if path.ends_with("missing") { Err(io::Error::from_raw_os_error(2)) } else { Ok(!path.ends_with("a-file")) }
    }

    fn manifest(&self, _root: &Path, name: &str) -> io::Result<()> {
        match name {
            "missing.json" => Err(io::Error::new(io::ErrorKind::NotFound, "there is no such file")),
            _ => Ok(()),
        }
    }

    fn takes_files(&self, directory: &Path) -> io::Result<()> {
        if directory.ends_with("read-only") { Err(io::Error::from_raw_os_error(30)) } else { Ok(()) }
    }

    fn variable(&self, name: &str) -> Option<Vec<u8>> {
        match name {
            "DJANGO_SECRET_KEY" => Some(b"django-insecure-0123456789abcdef0123456789abcdef".to_vec()),
            "EMPTY" => Some(Vec::new()),
            _ => None,
        }
    }

    fn processors(&self) -> usize {
        4
    }
}

/// A key for identity tokens.
fn signing_key() -> &'static rcgen::KeyPair {
    static MADE: LazyLock<rcgen::KeyPair> =
        LazyLock::new(|| rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap());
    &MADE
}

/// What a file of this name holds: a certificate, its key, a public key, a key set or a secret, all of them good.
fn contents(name: &Path) -> Vec<u8> {
    static MADE: LazyLock<rcgen::CertifiedKey<rcgen::KeyPair>> =
        LazyLock::new(|| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    match name.extension().and_then(|extension| extension.to_str()) {
        Some("crt") => MADE.cert.pem().into_bytes(),
        Some("key") => MADE.signing_key.serialize_pem().into_bytes(),
        Some("pem") => MADE.signing_key.public_key_pem().into_bytes(),
        Some("json") if name.starts_with("rsa.json") => RSA_KEY_SET.as_bytes().to_vec(),
        Some("json") => KEY_SET.as_bytes().to_vec(),
        Some("txt") if name.starts_with("malformed.txt") => b"jti a\nsub alice\n".to_vec(),
        Some("txt") => b"jti a\nsub alice before=1800000000 issuer=elsewhere\n".to_vec(),
        _ => b"contents of a file that is long enough for a secret\n".to_vec(),
    }
}

/// The public key of RFC 8037 appendix A.2 and the curve point of RFC 7517 appendix A.1.
const KEY_SET: &str = r#"{"keys":[
    {"kty":"OKP","crv":"Ed25519","kid":"ed","use":"sig","alg":"EdDSA","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
    {"kty":"EC","crv":"P-256","kid":"ec","use":"sig","alg":"ES256",
     "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// The RSA key of RFC 7517 appendix A.1.
const RSA_KEY_SET: &str = r#"{"keys":[{"kty":"RSA","kid":"2011-04-29","alg":"RS256","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}"#;

fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(manifest().join(path)).unwrap()
}

fn load(text: &str) -> Result<Loaded, Problems> {
    config::load_str(Path::new("gateway.toml"), text, &World)
}

/// All that `check` prints.
fn checked(name: &str, text: &str) -> String {
    match config::load_str(Path::new(name), text, &World) {
        Ok(loaded) => loaded.warnings.render(Paint::Plain) + &check::summary(&loaded),
        Err(problems) => check::refusal(&problems, Paint::Plain),
    }
}

fn cases() -> Vec<PathBuf> {
    let files = std::fs::read_dir(manifest().join("tests/config")).unwrap().map(|entry| entry.unwrap().path());
    let mut cases: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    cases.sort();
    cases
}

#[test]
fn check_prints_exactly_what_is_expected() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let name = case.file_name().unwrap().to_str().unwrap();
        let shown = checked(name, &std::fs::read_to_string(&case).unwrap());
        let expected = case.with_extension("stderr");
        if bless {
            std::fs::write(&expected, &shown).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != shown {
            differing.push(format!("--- {name} now prints:\n{shown}"));
        }
    }
    assert!(cases().len() >= 20, "the cases are gone");
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn the_reference_runs_as_it_stands() {
    let loaded = load(&read("gateway.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    assert_eq!(loaded.config.routes.len(), 4);
    assert!(loaded.config.server.development);
}

#[test]
fn the_defaults_of_the_reference_are_the_real_defaults() {
    let reference = read("gateway.toml");
    let spelled_out: Vec<_> = reference.lines().map(|line| default_of(line).unwrap_or(line)).collect();
    assert!(spelled_out.len() > reference.lines().filter_map(default_of).count());
    let plain = load(&reference).unwrap_or_else(|problems| panic!("{problems}"));
    let spelled_out = load(&spelled_out.join("\n")).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(plain.config, spelled_out.config);
}

#[test]
fn every_example_of_the_reference_compiles() {
    let reference = read("gateway.toml");
    let lines: Vec<_> = reference.lines().collect();
    let tables: Vec<_> = reference.split("\n\n").filter(|paragraph| paragraph.contains("\n#: [")).collect();
    for table in &tables {
        if let Err(problems) = load(&reference.replace(table, &table.replace("\n#: ", "\n"))) {
            panic!("{table}\n{problems}");
        }
    }
    let in_table = |line: &str| tables.iter().any(|table| table.lines().any(|other| other == line));
    let alone = |index: &usize| example(lines[*index]).is_some() && !in_table(lines[*index]);
    let examples: Vec<_> = (0..lines.len()).filter(alone).collect();
    assert!(examples.len() > 10 && !tables.is_empty());
    for index in examples {
        let text = with_example(&lines, index);
        if let Err(problems) = load(&text) {
            panic!("{}\n{problems}", lines[index]);
        }
    }
}

#[test]
fn every_key_is_in_the_reference() {
    let reference = read("gateway.toml").replace("\n#: [", "\n[");
    for key in config::keys(&config::schema()) {
        let (table, last) = (key.split('.').next().unwrap(), key.rsplit('.').next().unwrap());
        let found = reference.split("\n[").any(|block| {
            let header = block.trim_start_matches('[');
            let own = header.starts_with(table) && header[table.len()..].starts_with(['.', ']']);
            own && (last == table || names(block, last))
        });
        assert!(found, "gateway.toml does not mention {key}");
    }
}

#[test]
fn every_key_has_one_card_and_every_card_a_key() {
    let page = read("docs/configuration.md");
    let headings: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect();
    let cards: BTreeSet<_> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    assert_eq!(cards.len(), headings.len(), "a card is there twice");
    // A table of values is described by its section; only keys that hold something have a card.
    let keys = config::keys(&config::schema()).into_iter().filter(|key| key.contains('.'));
    assert_eq!(cards, keys.map(carded).collect::<BTreeSet<_>>());
}

/// The key whose card describes this one. Tables within `any` and `all` hold conditions as `auth` itself does, and within each other
/// again: one card a condition covers it wherever it stands.
fn carded(key: String) -> String {
    const CONDITIONS: [&str; 2] = ["route.auth.any.", "route.auth.all."];
    match key.rsplit_once('.') {
        Some((_, last)) if CONDITIONS.iter().any(|table| key.starts_with(table)) => format!("route.auth.{last}"),
        _ => key,
    }
}

#[test]
fn every_card_has_all_its_lines() {
    let page = read("docs/configuration.md");
    for card in page.split("\n### ").skip(1) {
        let card = card.split("\n## ").next().unwrap();
        let name = card.lines().next().unwrap();
        for line in ["- Syntax: ", "- Unit: ", "- Default: ", "- Why: ", "- See also: "] {
            assert_eq!(card.matches(&format!("\n{line}")).count(), 1, "{name}: {line}");
        }
    }
}

#[test]
fn every_key_is_described_in_the_schema() {
    let schema = config::schema();
    for (name, table) in schema["$defs"].as_object().unwrap() {
        for (key, value) in table["properties"].as_object().unwrap() {
            assert!(value["description"].as_str().is_some_and(|text| text.len() > 10), "{name}.{key}");
        }
    }
}

#[test]
fn secrets_are_in_no_message_and_no_debug_text() {
    let text = "[issuer.a]\nsecret = \"hunter2-hunter2\"\n[issuer.b]\nsecret = { value = \"hunter2\", key = \"hunter2\" }\n\
                [issuer.c]\nsecret_key = \"hunter2\"\n[issuer.d]\nsecret = 8472951\n[issuer.e]\nsecret = [\"hunter2\"]\n\
                [issuer.f]\nintrospection = { url = \"https://a:hunter2@b/\", client_secret = \"hunter2\" }\n";
    let problems = load(text).unwrap_err();
    for shown in [problems.render(Paint::Plain), problems.render(Paint::Colour)] {
        assert!(!shown.contains("hunter2") && !shown.contains("8472951"), "{shown}");
    }
    for broken in ["secret = \"hunter2\n", "introspection = { client_id = \"a\", client_secret = \"hunter2\n"] {
        let problems = load(&format!("[issuer.a]\n{broken}")).unwrap_err();
        assert!(!problems.render(Paint::Plain).contains("hunter2"), "{problems}");
    }
    let loaded = load(&read("gateway.toml")).unwrap();
    assert!(!format!("{:?}", loaded.config).contains("long enough for a secret"));
}

#[test]
fn a_file_that_is_not_there_is_a_problem_that_names_it() {
    let problems = config::load(Path::new("no/such/gateway.toml")).unwrap_err();
    let shown = problems.to_string();
    assert!(shown.contains("no/such/gateway.toml") && shown.contains("--config"), "{shown}");
}

#[test]
fn files_are_found_beside_the_configuration_file_and_watched() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    let text = "[server]\ndevelopment = true\n[listen.http]\naddress = \"127.0.0.1:0\"\n[issuer.a]\naudiences = [\"x\"]\n\
                secret = { file = \"a.secret\" }\n[upstream.u]\nendpoints = [\"builtin:whoami\"]\n\
                [[route]]\nname = \"r\"\npath = \"/\"\nauth = { issuer = \"a\" }\nupstream = \"u\"\n";
    std::fs::write(&path, text).unwrap();
    let problems = config::load(&path).unwrap_err();
    assert!(problems.to_string().contains("a.secret: no such file"), "{problems}");
    std::fs::write(directory.path().join("a.secret"), "0123456789abcdef0123456789abcdef\r\n").unwrap();
    let loaded = config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    let auth::KeySource::Secret(secret) = &loaded.config.issuers[0].keys[0].source else { panic!("a secret") };
    assert_eq!(secret.expose(), b"0123456789abcdef0123456789abcdef");
    assert_eq!(loaded.config.files_read, [path, directory.path().join("a.secret")]);
}

#[test]
fn the_exit_code_of_check_is_0_for_a_configuration_that_may_run_and_1_for_one_that_may_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.toml");
    assert_eq!(check::run(&path), ExitCode::FAILURE);
    let text = "[listen.http]\naddress = \"127.0.0.1:0\"\n[[route]]\nname = \"r\"\npath = \"/\"\nauth = \"public\"\n\
                redirect = { to = \"https://example.com{path}\" }\n";
    std::fs::write(&path, text).unwrap();
    assert_eq!(check::run(&path), ExitCode::SUCCESS);
    std::fs::write(&path, text.replace("auth", "aut")).unwrap();
    assert_eq!(check::run(&path), ExitCode::FAILURE);
}

#[test]
fn the_simplejwt_preset_is_what_simplejwt_issues() {
    let issuer = |keys: &str| {
        let text = format!(
            "[listen.http]\naddress = \"127.0.0.1:0\"\n[issuer.a]\npreset = \"simplejwt\"\n\
             secret = {{ env = \"DJANGO_SECRET_KEY\" }}\n{keys}"
        );
        load(&text).unwrap_or_else(|problems| panic!("{problems}")).config.issuers.remove(0)
    };
    let plain = issuer("");
    assert_eq!((plain.leeway_secs, plain.require_exp, plain.style), (0, true, auth::Style::Drf));
    assert_eq!((&*plain.realm, &*plain.subject_claim), ("api", "user_id"));
    assert_eq!(plain.algorithms, [auth::Algorithm::Hs256]);
    assert_eq!(plain.required_claims, [Box::<str>::from("jti")]);
    let access = auth::Demand::equals("token_type", "access");
    let present = auth::Demand::present;
    assert_eq!(plain.require, [access.clone(), present("user_id")]);

    let changed = issuer("require = { is_staff = true }\nsubject_claim = \"sub\"\nleeway_secs = 5\n");
    assert_eq!(changed.require[0], access, "a demand of one's own never lets refresh tokens pass");
    assert_eq!(changed.require[1], present("sub"), "the demand on the subject follows the subject claim");
    assert_eq!(changed.require.len(), 3);
    assert_eq!(changed.required_claims, [Box::<str>::from("jti")]);
    assert_eq!(changed.leeway_secs, 5);
    assert_eq!(issuer("require = { token_type = \"sliding\" }\n").require.len(), 2);
}

#[test]
fn hashed_names_are_kept_for_ever_and_by_no_shared_cache_where_a_token_is_asked_for() {
    let said = |auth: &str, keys: &str| {
        let text = format!(
            "[listen.http]\naddress = \"127.0.0.1:0\"\n[issuer.a]\naudiences = [\"x\"]\n\
             secret = {{ env = \"DJANGO_SECRET_KEY\" }}\n[[route]]\nname = \"r\"\npath = \"/\"\nauth = {auth}\n\
             files = {{ root = \"static\", manifest = \"m.json\"{keys} }}\n"
        );
        let config = load(&text).unwrap_or_else(|problems| panic!("{problems}")).config;
        let config::Action::Files(site) = &config.routes[0].action else { panic!("files") };
        let values = [&site.manifest.as_ref().unwrap().cache_control, site.cache_control.as_ref().unwrap()];
        values.map(|value| value.to_str().unwrap().to_owned())
    };
    let (for_ever, guarded) = ("public, max-age=315360000, immutable", "private, max-age=315360000, immutable");
    assert_eq!(said("\"public\"", ""), [for_ever, "max-age=60, public"]);
    assert_eq!(said("{ issuer = \"a\" }", ""), [guarded, "max-age=60, private"]);
    assert_eq!(said("{ issuer = \"a\", optional = true }", ""), [guarded, "max-age=60, private"]);
    assert_eq!(said("{ read = \"public\", write = { issuer = \"a\" } }", ""), [for_ever, "max-age=60, public"]);
    assert_eq!(said("\"public\"", ", cache_control = \"no-cache\""), [for_ever, "no-cache"]);
}

#[test]
fn every_preset_is_in_the_schema_and_has_a_row_in_the_documentation() {
    let names = auth::Preset::ALL.map(auth::Preset::name);
    assert_eq!(config::schema()["$defs"]["Issuer"]["properties"]["preset"]["enum"], serde_json::json!(names));
    let page = read("docs/configuration.md");
    for name in names {
        assert!(page.lines().any(|line| line.starts_with(&format!("| `{name}` |"))), "{name}");
    }
}

#[test]
fn a_table_of_tests_demands_what_it_says() {
    let loaded = load(&read("tests/config/ok-demands.toml")).unwrap_or_else(|problems| panic!("{problems}"));
    let auth::Access::Token(policy) = &loaded.config.routes[0].auth.read else { panic!("a token") };
    let number = |text: &str| auth::Number::parse(text);
    let expected = [
        ("plain", Test::Equals("a".into())),
        ("numbers", Test::OneOf(vec![1.into(), (-2.5).into(), u64::MAX.into()])),
        ("flag", Test::Equals(true.into())),
        ("realm_access.roles", Test::Contains("admin".into())),
        ("https://example.com/roles", Test::ContainsAny(vec!["a".into(), "b".into()])),
        ("/kubernetes.io/groups/0", Test::Prefix("team-".into())),
        ("permissions", Test::ContainsAll(vec!["read".into(), "write".into()])),
        ("age", Test::Between { min: number("18"), max: number("120.5") }),
        ("id", Test::Between { min: number("170141183460469231731687303715884105727"), max: None }),
        ("tenant", Test::All(vec![Test::Present, Test::OneOf(vec!["a".into(), "b".into()]), Test::Prefix("a".into())])),
        ("kind", Test::Equals("access".into())),
        ("user", Test::Present),
    ];
    let demand = |(claim, test)| auth::Demand { claim: auth::ClaimPath::parse(claim).unwrap(), test };
    let expected = expected.map(|one| auth::Rule::Claim(demand(one)));
    assert_eq!(policy.rule, auth::Rule::All(expected.to_vec()));
}

#[test]
fn redirects_lead_to_port_443_or_the_first_https_listener() {
    let port = |https: &str| {
        let certificates = "certificates = [{ cert = \"a.crt\", key = \"a.key\" }]\n";
        let text = format!(
            "[listen.http]\naddress = \"127.0.0.1:80\"\nredirect_to_https = true\n{}",
            https.replace('@', certificates)
        );
        load(&text).unwrap_or_else(|problems| panic!("{problems}")).config.listeners.remove(0).redirect_to_https
    };
    let (b, a) = ("[listen.b]\naddress = \"127.0.0.1:9443\"\n@", "[listen.a]\naddress = \"127.0.0.1:443\"\n@");
    assert_eq!(port(b), Some(config::HttpsPort::Other(9443)));
    assert_eq!(port(&format!("{b}{a}")), Some(config::HttpsPort::Standard));
    assert_eq!(port(&format!("{b}{}", a.replace("443", "8443"))), Some(config::HttpsPort::Other(9443)));
}

#[test]
fn spans_point_at_what_the_stages_will_judge() {
    let loaded = load(&read("gateway.toml")).unwrap();
    let at = |span: config::Span| &loaded.text[span.start..span.end];
    assert_eq!(at(loaded.spans.issuers[0].keys[0]), "\"certs/dev.secret\"");
    assert_eq!(at(loaded.spans.listeners[0].certificates[0].key), "\"certs/dev.key\"");
    assert_eq!(at(loaded.spans.upstreams[0].endpoints[0]), "\"builtin:whoami\"");
    assert_eq!(at(loaded.spans.routes[0].files_root.unwrap()), "\"deploy/site\"");
    assert_eq!(at(loaded.spans.admin.unwrap()), "\"127.0.0.1:9180\"");
}

#[test]
fn bytes_that_are_no_text_are_a_problem_with_a_place() {
    let problems = config::load_bytes(Path::new("g.toml"), b"a = 1\nb = \"\xff\"\n", &World).unwrap_err();
    assert!(problems.to_string().contains("g.toml:2:6"), "{problems}");
}

proptest! {
    #[test]
    fn no_bytes_make_the_loader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        never_panics(&bytes);
    }

    #[test]
    fn no_mutation_of_a_file_makes_the_loader_panic(
        case in any::<prop::sample::Index>(),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..12, any::<prop::sample::Index>()), 1..8),
    ) {
        let files = [cases(), vec![manifest().join("gateway.toml")]].concat();
        let mut bytes = std::fs::read(case.get(&files)).unwrap();
        for (at, removed, inserted) in edits {
            const PIECES: [&str; 16] =
                ["", "\"", "[", "]", "{", "}", "=", "\n", "é", "\0", "-1", "[[route]]", "1e999", ".", "true", "99999999999999999999"];
            let at = at.index(bytes.len() + 1);
            let end = bytes.len().min(at + removed);
            bytes.splice(at..end, inserted.get(&PIECES).bytes());
        }
        never_panics(&bytes);
    }
}

fn never_panics(bytes: &[u8]) {
    if let Err(problems) = config::load_bytes(Path::new("gateway.toml"), bytes, &World) {
        assert!(problems.errors() > 0);
        assert!(!problems.render(Paint::Plain).contains('\x1b'));
        assert!(problems.render(Paint::Colour).contains('\x1b'));
    }
}

/// The key and value of a `# key = value` line; prose has no such form.
fn default_of(line: &str) -> Option<&str> {
    assignment(line.strip_prefix("# ")?)
}

/// The key and value of a `#: key = value` line.
fn example(line: &str) -> Option<&str> {
    assignment(line.strip_prefix("#: ")?)
}

fn assignment(text: &str) -> Option<&str> {
    let (key, _) = text.split_once(" = ")?;
    key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_').then_some(text)
}

/// The text with one example active, and what it cannot stand beside out of its table.
fn with_example(lines: &[&str], index: usize) -> String {
    const RIVALS: [&[&str]; 2] = [
        &["secret", "public_keys", "jwks_file", "jwks_url", "discovery", "keys", "introspection", "algorithms"],
        &["upstream", "redirect", "forward_claims", "identity_token"],
    ];
    let active = example(lines[index]).unwrap();
    let key = active.split(' ').next().unwrap();
    let is_rival = |group: &&[&str]| group.contains(&key) && !["algorithms", "identity_token"].contains(&key);
    let rivals = RIVALS.into_iter().find(is_rival).unwrap_or(&[]);
    let start = lines[..index].iter().rposition(|line| line.starts_with('[')).unwrap();
    let end = lines[index..].iter().position(|line| line.starts_with('[')).map_or(lines.len(), |length| index + length);
    let kept = |at: usize, line: &&str| {
        let own = line.split(' ').next().unwrap();
        !((start..end).contains(&at) && (own == key || rivals.contains(&own)))
    };
    let text = lines.iter().enumerate().filter(|(at, line)| kept(*at, line));
    text.map(|(at, line)| if at == index { active } else { line }).collect::<Vec<_>>().join("\n")
}

fn names(block: &str, key: &str) -> bool {
    let as_key = format!("{key} = ");
    let whole = |at: usize| !block[..at].ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    block.match_indices(&as_key).any(|(at, _)| whole(at)) || block.contains(&format!(".{key}]"))
}
