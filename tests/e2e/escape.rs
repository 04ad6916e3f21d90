//! Nothing escapes: every way we know to write a path that some server reads as another one, against a house in which secrets lie
//! beside the roots, in dotfiles, behind links, and below routes that demand a token.
//!
//! The corpus is made by a table, the same in every run. A target passes if its answer is no failure of ours, holds no secret, and
//! leaves the connection where the next request is read as it was sent.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;

use http::uri::PathAndQuery;
use tempfile::TempDir;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;
use crate::support::wire::Message;
use crate::support::{h2, place, token};

const SECRET: &str = "what nobody may read: 7f3a91";

/// What an answer never holds: the secret files, the gateway's own, and the machine's.
const NEVER: [&str; 5] = [SECRET, token::SECRET, "PRIVATE KEY", "[[route]]", "root:x:0"];

/// All that is public here.
const PUBLIC: [&str; 6] = ["", "home", "style", "deep", "known", "hello"];

const ROUTES: &str = r#"
[[route]]
name = "home"
path = "/"
auth = "public"
files = { root = "home" }

[[route]]
name = "members"
path = "/members/"
auth = { issuer = "site" }
files = { root = "home/members" }

[[route]]
name = "static"
path = "/static/"
auth = "public"
files = { root = "static" }

[[route]]
name = "inner"
path = "/static/inner/"
auth = { issuer = "site" }
files = { root = "static/inner" }

[[route]]
name = "app"
path = "/app/"
auth = "public"
upstream = "app"
"#;

fn furnish(at: &Path) {
    for root in ["home", "static"] {
        place(at, &format!("{root}/index.html"), "home");
        place(at, &format!("{root}/style.css"), "style");
        place(at, &format!("{root}/1/2/3/4/5/6/7/8/leaf.txt"), "deep");
        place(at, &format!("{root}/.well-known/security.txt"), "known");
        for hidden in [".env", ".git/config", ".git/HEAD", "1/.htpasswd", "1/.svn/entries", ".well-known/.key"] {
            place(at, &format!("{root}/{hidden}"), SECRET);
        }
        for (target, link) in [("../outside.txt", "link.txt"), ("..", "up"), ("../../../outside.txt", "1/2/link.txt")] {
            symlink(target, at.join(root).join(link)).unwrap();
        }
        symlink(at.join("outside.txt"), at.join(root).join("absolute.txt")).unwrap();
        symlink("/", at.join(root).join("all")).unwrap();
        symlink("/proc/self/root", at.join(root).join("magic")).unwrap();
    }
    // A sibling whose name begins like the root's: `/static../` must not be a way into it.
    for secret in ["outside.txt", "static-old/a.txt", "home/members/a.txt", "static/inner/a.txt", "beside/a.txt"] {
        place(at, secret, SECRET);
    }
}

async fn house() -> (Gateway, Origin) {
    let home: TempDir = tempfile::tempdir().unwrap();
    furnish(home.path());
    let origin = Origin::hello().await;
    (Setup::before(&origin).only(ROUTES).start_in(home).await, origin)
}

/// Ways to write `..`.
const DOTS: [&str; 34] = [
    "..",
    "%2e%2e",
    "%2E%2E",
    "%2e%2E",
    ".%2e",
    "%2E.",
    "%252e%252e",
    "%252E.",
    "%25252e%25252e",
    "%%32%65%%32%65",
    "%2%65%2%65",
    "%c0%ae%c0%ae",
    "%C0%AE%C0%AE",
    "%c0%2e%c0%2e",
    "%e0%80%ae%e0%80%ae",
    "%f0%80%80%ae%f0%80%80%ae",
    "%fc%80%80%80%80%ae.",
    "%u002e%u002e",
    "%uff0e%uff0e",
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a5",
    "\u{ff0e}\u{ff0e}",
    "..;",
    "..;x=1",
    "..%3b",
    "..%3Bx",
    "..%00",
    "..%20",
    "..%09",
    "..%0d%0a",
    "...",
    "....",
    ".%00.",
    "..%c0%80",
];

/// Ways to write `/`.
const SLASHES: [&str; 22] = [
    "/",
    "%2f",
    "%2F",
    "%252f",
    "%25252F",
    "\\",
    "%5c",
    "%5C",
    "%255c",
    "//",
    "/./",
    "/%2e/",
    "/;/",
    ";/",
    "\\/",
    "%2f/",
    "%c0%af",
    "%e0%80%af",
    "%c1%9c",
    "%u2215",
    "%u2216",
    "%ef%bc%8f",
];

/// Where climbing begins, and how many steps lead out of the root there.
const PREFIXES: [(&str, usize); 8] = [
    ("/", 1),
    ("/1/2/", 3),
    ("/.well-known/", 2),
    ("/static/", 1),
    ("/static/1/2/3/4/5/6/7/8/", 9),
    ("/static/.well-known/", 2),
    ("/members/", 1),
    ("/static/inner/", 1),
];

/// What is to be found outside: below the house, below the machine's root, in a sibling route.
const PRIZES: [&str; 6] = ["outside.txt", "beside/a.txt", "members/a.txt", "inner/a.txt", ".env", "etc/passwd"];

/// Every way to climb from every prefix: by the number of steps that leads out just so, and by one to eight steps in turn.
fn climbs() -> Vec<String> {
    let mut targets = Vec::new();
    for (prefix, out) in PREFIXES {
        for dots in DOTS {
            for slash in SLASHES {
                let turn = targets.len();
                let step = [dots, slash].concat();
                targets.push(format!("{prefix}{}{}", step.repeat(out), PRIZES[turn % 2]));
                targets.push(format!("{prefix}{}{}", step.repeat(1 + turn / 2 % 8), PRIZES[turn / 2 % PRIZES.len()]));
            }
        }
    }
    targets
}

/// What lies below a root and is not for everybody.
const HIDDEN: [&str; 14] = [
    "/.env",
    "/.git/config",
    "/.git/HEAD",
    "/1/.htpasswd",
    "/1/.svn/entries",
    "/.well-known/.key",
    "/link.txt",
    "/1/2/link.txt",
    "/absolute.txt",
    "/up/outside.txt",
    "/all/etc/passwd",
    "/magic/etc/passwd",
    "/members/a.txt",
    "/inner/a.txt",
];

/// What is hidden below a root, and what is protected below a public route, by other names.
fn disguises() -> Vec<String> {
    let ways: [fn(&str) -> String; 27] = [
        str::to_owned,
        |path| format!("{path}/"),
        |path| format!("{path}."),
        |path| format!("{path}%20"),
        |path| format!("{path}%2e"),
        |path| format!("{path}%00"),
        |path| format!("{path}%00.css"),
        |path| format!("{path};.css"),
        |path| format!("{path}%3b.css"),
        |path| format!("{path}%23.css"),
        |path| format!("{path}%3f.css"),
        |path| format!("{path}::$DATA"),
        |path| format!("{path}?x=/style.css"),
        |path| format!("{path}#/style.css"),
        |path| format!("/{path}"),
        |path| format!("/.{path}"),
        |path| format!("/%2e{path}"),
        |path| format!("/;{path}"),
        |path| format!("/x/..{path}"),
        |path| format!("/x/%2e%2e{path}"),
        |path| format!("/1/..;{path}"),
        |path| format!("/style.css/..{path}"),
        |path| path.replacen('.', "%2e", 1),
        |path| path.replace('/', "%2f").replacen("%2f", "/", 1),
        |path| path.replace('/', "\\").replacen('\\', "/", 1),
        |path| path.chars().map(|letter| letter.to_ascii_uppercase()).collect(),
        |path| path.bytes().map(|byte| if byte == b'/' { "/".to_owned() } else { format!("%{byte:02x}") }).collect(),
    ];
    let roots = ["", "/static"];
    let under = |root, path: &str| ways.map(|way| format!("{root}{}", way(path)));
    roots.iter().flat_map(|root| HIDDEN.iter().flat_map(move |path| under(root, path))).collect()
}

/// What belongs to no table: the prefix itself tampered with, and targets in forms that are no path.
const ODDITIES: [&str; 62] = [
    "/static../outside.txt",
    "/static..%2foutside.txt",
    "/static..;/outside.txt",
    "/static-old/a.txt",
    "/static%2d%6fld/a.txt",
    "/static/-old/a.txt",
    "/staticinner/a.txt",
    "/static%2finner/a.txt",
    "/static%2Finner%2Fa.txt",
    "/STATIC/inner/a.txt",
    "/static/INNER/a.txt",
    "/static/inner;/a.txt",
    "/static/inner;x=1/a.txt",
    "/static/inner%20/a.txt",
    "/static/inner./a.txt",
    "/static/%69nner/a.txt",
    "/%73tatic/%69nner/a.txt",
    "/app/../outside.txt",
    "/app/..%2f..%2foutside.txt",
    "/app/%2e%2e/members/a.txt",
    "/app/..;/members/a.txt",
    "/app//members/a.txt",
    "/?/../../outside.txt",
    "/?file=../outside.txt",
    "/style.css?../../outside.txt",
    "/#/../../outside.txt",
    "outside.txt",
    "../outside.txt",
    "..",
    ".",
    "*",
    "//",
    "///",
    "//outside.txt",
    "//site.test/../outside.txt",
    "/%",
    "/%2",
    "/%zz",
    "/%ff%fe",
    "http://site.test/../outside.txt",
    "http://site.test/%2e%2e/outside.txt",
    "http://site.test/.env",
    "http://site.test/members/a.txt",
    "http://site.test/static/inner/a.txt",
    "http://site.test//members/a.txt",
    "http://site.test",
    "http://site.test:80@other.test/../outside.txt",
    "http://../outside.txt",
    "http:///outside.txt",
    "http:/outside.txt",
    "http:outside.txt",
    "https://site.test/members/a.txt",
    "ftp://site.test/outside.txt",
    "file:///etc/passwd",
    "file:/etc/passwd",
    "site.test:443",
    "/.. /outside.txt",
    "/..\t/outside.txt",
    "/\0/outside.txt",
    "/..\r/outside.txt",
    "/..\n/outside.txt",
    "/ HTTP/1.1/../outside.txt",
];

/// Those, and what is very long.
fn oddities() -> Vec<String> {
    let mut targets: Vec<_> = ODDITIES.map(str::to_owned).to_vec();
    for length in [255, 256, 4_095, 4_096, 9_000, 20_000] {
        targets.push(format!("/{}", "a".repeat(length)));
        targets.push(format!("/{}outside.txt", "../".repeat(length / 3)));
        targets.push(format!("/static/{}.env", "a/".repeat(length / 2)));
        targets.push(format!("/{}members/a.txt", "%2e%2e/".repeat(length / 7)));
    }
    targets
}

fn corpus() -> Vec<String> {
    [climbs(), disguises(), oddities()].concat()
}

/// The one rule of this file. `shown` is the answer's head and body.
fn judge(target: &str, status: u16, body: &str, shown: &str) {
    for never in NEVER {
        assert!(!shown.contains(never), "{target:?} brought {never:?} out");
    }
    match status {
        200 => assert!(PUBLIC.contains(&body), "{target:?} brought out {body:?}"),
        301 | 400 | 401 | 404 | 405 | 414 | 431 => {}
        _ => panic!("{target:?} was answered {status}: {shown}"),
    }
}

/// How often each status came.
type Tally = BTreeMap<u16, usize>;

/// An attack that none of the ways ends at is no test of them.
fn assert_all_ways_were_tried(tally: &Tally) {
    for (status, at_least) in [(200, 3), (400, 2_000), (401, 50), (404, 300)] {
        assert!(tally.get(&status).is_some_and(|count| *count >= at_least), "few were answered {status}: {tally:?}");
    }
}

#[tokio::test]
async fn the_secrets_are_there_and_are_recognised_when_they_are_shown() {
    let (gateway, _origin) = house().await;
    let mut client = Client::plain(gateway.http).await;
    let allowed = token::bearer(&token::good());
    for path in ["/members/a.txt", "/static/inner/a.txt"] {
        assert_eq!(client.get_with(path, &allowed).await.text(), SECRET, "{path}");
        assert_eq!(client.get(path).await.status(), 401, "{path}");
    }
    for (path, body) in [("/", "home"), ("/static/1/2/3/4/5/6/7/8/leaf.txt", "deep"), ("/app/x", "hello")] {
        assert_eq!(client.get(path).await.text(), body, "{path}");
    }
    assert!(climbs().len() > 10_000 && disguises().len() > 700);
}

#[tokio::test]
async fn over_http1_no_target_brings_a_secret_out_or_confuses_the_connection() {
    let (gateway, origin) = house().await;
    let mut tally = Tally::new();
    let mut client = Client::plain(gateway.http).await;
    for target in corpus() {
        // Both at once: what the first leaves behind is what the second begins with.
        assert!(client.send([get(&target), get("/style.css")].concat()).await, "closed before {target:?}");
        let answer = client.try_answer().await.unwrap_or_else(|error| panic!("{target:?}: {error}"));
        judge(&target, answer.status(), &answer.text(), &format!("{:?} {}", answer.fields, answer.text()));
        *tally.entry(answer.status()).or_default() += 1;
        if answer.closes() {
            assert!(client.until_end().await.is_empty(), "{target:?}: something came after the last answer");
            client = Client::plain(gateway.http).await;
            continue;
        }
        let next = client.answer().await;
        assert_eq!((next.status(), next.text().as_str()), (200, "style"), "after {target:?}");
    }
    assert_all_ways_were_tried(&tally);
    assert_nothing_was_hidden_from(&origin);
}

#[tokio::test]
async fn over_http2_no_target_brings_a_secret_out_or_ends_the_connection() {
    let (gateway, origin) = house().await;
    let mut tally = Tally::new();
    let mut sender = h2::connect(&gateway).await;
    // What is no path has no place in `:path`; the client used here would not send it.
    let is_path = |target: &String| target.starts_with('/') && target.parse::<PathAndQuery>().is_ok();
    for target in corpus().into_iter().filter(is_path) {
        let answer: Message = h2::message(&mut sender, h2::get(&target)).await;
        judge(&target, answer.status(), &answer.text(), &format!("{:?} {}", answer.fields, answer.text()));
        *tally.entry(answer.status()).or_default() += 1;
    }
    assert_all_ways_were_tried(&tally);
    assert_eq!(h2::ask(&mut sender, h2::get("/style.css")).await.1, "style");
    assert_nothing_was_hidden_from(&origin);
}

/// What went on to the upstream lies where its route says, in whatever way it is read.
fn assert_nothing_was_hidden_from(origin: &Origin) {
    for target in origin.targets() {
        let path = target.split('?').next().unwrap();
        assert!(path.starts_with("/app/") && !path.contains("..") && !path.contains("//"), "{target} was forwarded");
    }
}
