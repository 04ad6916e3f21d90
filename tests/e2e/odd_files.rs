//! What lies in a directory beside plain files with plain names: things that are no files, files that may not be read, and names with
//! every character a file system takes. The first are as if they were not there; the last are served under their exact name.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{FileType, Mode, makedev, mkfifoat, mknodat};

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::{h2, place};

const ROUTE: &str = "[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\nfiles = { root = \"root\" }\n";

async fn gateway(furnish: impl FnOnce(&Path)) -> Gateway {
    let home = tempfile::tempdir().unwrap();
    place(home.path(), "root/plain.txt", "plain");
    furnish(&home.path().join("root"));
    Setup::endpoints(["http://127.0.0.1:9".to_owned()]).only(ROUTE).start_in(home).await
}

#[tokio::test]
async fn what_is_no_file_is_not_there_and_nobody_waits_for_it() {
    let mut kept = None;
    let gateway = gateway(|root| {
        let directory = File::open(root).unwrap();
        mkfifoat(&directory, "fifo.txt", Mode::RUSR | Mode::WUSR).unwrap();
        kept = Some(UnixListener::bind(root.join("socket.txt")).unwrap());
        for (target, link) in [
            ("/dev/zero", "zero.bin"),
            ("/dev/stdin", "stdin.txt"),
            ("/proc/self/environ", "environ.txt"),
            ("/proc/self/fd/0", "descriptor.txt"),
            ("fifo.txt", "to-fifo.txt"),
            ("socket.txt", "to-socket.txt"),
            ("itself.txt", "itself.txt"),
            ("nowhere.txt", "dangling.txt"),
            ("", "empty.txt"),
        ] {
            symlink(target, root.join(link)).ok(); // an empty target is refused by the system itself
        }
        // Only a privileged user makes devices; a machine where the tests are not run by one has that much less to try.
        mknodat(&directory, "device.bin", FileType::CharacterDevice, Mode::RUSR, makedev(1, 5)).ok();
        fs::create_dir(root.join("directory.txt")).unwrap();
        fs::create_dir_all(root.join("strange/index.html")).unwrap();
    })
    .await;
    let mut client = Client::plain(gateway.http).await;
    for name in [
        "fifo.txt",
        "socket.txt",
        "zero.bin",
        "stdin.txt",
        "environ.txt",
        "descriptor.txt",
        "to-fifo.txt",
        "to-socket.txt",
        "itself.txt",
        "dangling.txt",
        "empty.txt",
        "device.bin",
        "fifo.txt/",
        "fifo.txt/x",
        "zero.bin/",
        "plain.txt/",
        "plain.txt/x",
        "directory.txt/",
        "strange/",
        "nothing",
    ] {
        for path in [format!("/files/{name}"), format!("/files/{name}?again")] {
            assert_eq!(client.get(&path).await.status(), 404, "{path}");
        }
        assert_eq!(client.by("HEAD", &format!("/files/{name}"), "").await.status(), 404, "{name}");
    }
    assert_eq!(client.get("/files/plain.txt").await.text(), "plain");
}

#[tokio::test]
async fn a_file_that_may_not_be_read_is_not_there() {
    let gateway = gateway(|root| {
        place(root, "closed.txt", "closed");
        place(root, "closed/inner.txt", "closed");
        for name in ["closed.txt", "closed"] {
            fs::set_permissions(root.join(name), Permissions::from_mode(0o000)).unwrap();
        }
    })
    .await;
    let root = gateway.home().join("root");
    if File::open(root.join("closed.txt")).is_ok() {
        return; // whoever runs this may read everything
    }
    let mut client = Client::plain(gateway.http).await;
    for path in ["/files/closed.txt", "/files/closed/inner.txt", "/files/closed/"] {
        assert_eq!(client.get(path).await.status(), 404, "{path}");
    }
    for name in ["closed.txt", "closed"] {
        fs::set_permissions(root.join(name), Permissions::from_mode(0o700)).unwrap();
    }
    assert_eq!(client.get("/files/closed.txt").await.text(), "closed", "a missing file is not remembered");
    assert!(gateway.log().contains("check its owner and mode"), "the operator is told");
}

/// Every byte but the unreserved characters of RFC 3986 section 2.3 escaped.
fn escaped(name: &[u8]) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    name.iter().map(|byte| if plain(byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// The same with escapes in small letters (RFC 3986 section 2.1 knows no difference).
fn in_small_hexadecimal(escaped: &str) -> String {
    let mut parts = escaped.split('%');
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |path, part| format!("{path}%{}{}", part[..2].to_ascii_lowercase(), &part[2..]))
}

/// Names that are served, each with the shortest way to ask for it.
fn good_names() -> Vec<(Vec<u8>, Option<&'static str>)> {
    let mut names: Vec<(Vec<u8>, Option<&str>)> = [
        ("100%.txt", None),
        ("100%25.txt", None),
        ("a%2Fb.txt", None),
        ("%2e%2e", None),
        ("%2E%2E%2fescape", None),
        ("what?.txt", None),
        ("what#.txt", None),
        ("a b.txt", None),
        ("a+b.txt", Some("a+b.txt")),
        ("a&b=c.txt", Some("a&b=c.txt")),
        ("a;b.txt", Some("a;b.txt")),
        ("a:b.txt", Some("a:b.txt")),
        ("a,b'c(d)!*$.txt", Some("a,b'c(d)!*$.txt")),
        ("a@b.txt", Some("a@b.txt")),
        ("~home", Some("~home")),
        ("a..b", Some("a..b")),
        ("a.", Some("a.")),
        ("a..", Some("a..")),
        ("-rf", Some("-rf")),
        ("end ", None),
        (" start", None),
        ("\"quoted\".txt", None),
        ("<b>.txt", None),
        ("[1].txt", None),
        ("{1}|^`.txt", None),
        ("CON", Some("CON")),
        ("Stra\u{df}e.txt", None),
        ("u\u{308}ber.txt", None), // NFD
        ("\u{fc}ber.txt", None),   // NFC: another name
        ("\u{65e5}\u{672c}\u{8a9e}.txt", None),
        ("\u{1f600}.txt", None),
        ("\u{202e}txt.exe", None),
        ("\u{2025}", None),
        ("\u{ff0e}\u{ff0e}", None),
    ]
    .map(|(name, plain)| (name.as_bytes().to_vec(), plain))
    .to_vec();
    names.push((vec![b'n'; 255], None));
    names.push(("\u{fc}".repeat(127).into_bytes(), None));
    names
}

#[tokio::test]
async fn every_name_that_is_text_is_served_under_its_exact_name() {
    let names = good_names();
    let gateway = gateway(|root| {
        for (name, _) in &names {
            fs::write(root.join(OsStr::from_bytes(name)), escaped(name)).unwrap();
        }
    })
    .await;
    let mut client = Client::plain(gateway.http).await;
    let mut sender = h2::connect(&gateway).await;
    for (name, plain) in &names {
        let way = escaped(name);
        for path in [way.clone(), in_small_hexadecimal(&way)] {
            let path = format!("/files/{path}");
            let answer = client.get(&path).await;
            assert_eq!((answer.status(), answer.text()), (200, way.clone()), "{path}");
            assert_eq!(h2::ask(&mut sender, h2::get(&path)).await.1, way, "{path}");
        }
        if let Some(plain) = plain {
            assert_eq!(client.get(&format!("/files/{plain}")).await.text(), way, "{plain}");
        }
    }
}

#[tokio::test]
async fn a_name_that_two_programs_read_two_ways_is_refused_although_there_is_such_a_file() {
    let names: [&[u8]; 12] = [
        b"a\nb.txt",
        b"a\r\nSet-Cookie: x",
        b"a\tb.txt",
        b"a\x1b[31m.txt",
        b"a\x7fb.txt",
        b"a\\b.txt",
        b"..\\up.txt",
        b"\xfcber.txt",
        b"\xc0\xae",
        b"\xed\xa0\x80.txt",
        b"a\xff",
        b"..;",
    ];
    let gateway = gateway(|root| {
        for name in names {
            fs::write(root.join(OsStr::from_bytes(name)), "odd").unwrap();
        }
    })
    .await;
    let mut client = Client::plain(gateway.http).await;
    for name in names {
        let answer = client.get(&format!("/files/{}", escaped(name))).await;
        assert_eq!(answer.status(), 400, "{name:?}");
        assert!(!answer.text().contains("odd") && answer.all("set-cookie").is_empty());
    }
    assert_eq!(client.get("/files/plain.txt").await.text(), "plain");
}

#[tokio::test]
async fn a_name_or_a_path_that_no_file_can_have_is_not_there() {
    let gateway = gateway(|_| {}).await;
    for path in
        ["n".repeat(256), "n".repeat(2_000), format!("{}x", "d/".repeat(2_500)), format!("{}/x", "n".repeat(256))]
    {
        let mut client = Client::plain(gateway.http).await;
        let answer = client.ask(get(&format!("/files/{path}"))).await;
        assert_eq!(answer.status(), 404, "{} bytes", path.len());
        assert_eq!(client.get("/files/plain.txt").await.text(), "plain");
    }
}

#[tokio::test]
async fn a_directory_of_any_name_leads_to_its_slash() {
    let names =
        ["docs", "a b", "a:b", "100%", "what?", "a#b", "\u{fc}", "u\u{308}", "a&b", "-", "\u{65e5}\u{672c}", "x..y"];
    let gateway = gateway(|root| {
        for name in names {
            place(root, &format!("{name}/index.html"), name);
            place(root, &format!("deep/{name}/index.html"), name);
        }
    })
    .await;
    let mut client = Client::plain(gateway.http).await;
    for (name, above) in names.iter().flat_map(|name| [(name, "/files/"), (name, "/files/deep/")]) {
        let path = format!("{above}{}", escaped(name.as_bytes()));
        let answer = client.get(&path).await;
        assert_eq!(answer.status(), 301, "{path}");
        let location = answer.field("location").unwrap();
        // A relative reference of one segment, which replaces the last one (RFC 3986 section 5.3): no scheme, no host, no query.
        let segment = location.strip_suffix('/').unwrap();
        assert!(!segment.is_empty() && !segment.contains(['/', ':', '?', '#', ' ']), "{location}");
        let followed = client.get(&format!("{above}{location}")).await;
        assert_eq!((followed.status(), followed.text().as_str()), (200, *name), "{path}");
    }
}
