//! Files and directories that are swapped while they are asked for: links that lead out come and go, deployments are switched by a
//! link, small files are replaced and rewritten. What is answered is always one thing that was there, never a mixture, never a secret.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::place;
use crate::support::wire::Message;

const SECRET: &str = "what nobody may read: 51c0de";

/// After this long nobody is answered with what is no longer there.
const SEEN_WITHIN: Duration = Duration::from_secs(1);

/// `/cold/` goes to the file system each time, `/warm/` keeps what it read; both serve `root`.
fn routes(root: &str) -> String {
    let route = |name: &str, keys: &str| {
        format!(
            "[[route]]\nname = \"{name}\"\npath = \"/{name}/\"\nauth = \"public\"\nfiles = {{ root = \"{root}\"{keys} }}\n"
        )
    };
    [route("cold", ", cache_total_bytes = 0"), route("warm", "")].concat()
}

async fn gateway(root: &str, furnish: impl FnOnce(&Path)) -> Gateway {
    let home = tempfile::tempdir().unwrap();
    furnish(home.path());
    Setup::endpoints(["http://127.0.0.1:9".to_owned()]).only(&routes(root)).start_in(home).await
}

/// A thread that changes something over and over until it is told to stop, or has done so often enough or long enough.
struct Flipping {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Flipping {
    const MOST: usize = 200_000;
    const LONGEST: Duration = Duration::from_secs(20);

    /// `flip` is told whether the turn is odd.
    fn start(mut flip: impl FnMut(bool) + Send + 'static) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, count, begun) = (Arc::clone(&stop), Arc::clone(&done), Instant::now());
        let thread = thread::spawn(move || {
            for turn in 0..Self::MOST {
                if told.load(Ordering::Relaxed) || begun.elapsed() > Self::LONGEST {
                    break;
                }
                flip(turn % 2 == 1);
                count.store(turn + 1, Ordering::Relaxed);
            }
        });
        Self { stop, done, thread }
    }

    /// How often something was changed.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.done.load(Ordering::Relaxed)
    }
}

/// Puts what `make` makes in the place of `path`, in one step.
fn replace(path: &Path, make: impl FnOnce(&Path)) {
    let draft = path.with_extension("next");
    make(&draft);
    fs::rename(&draft, path).unwrap();
}

/// Two names change places in one step.
fn exchange(one: &Path, other: &Path) {
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).unwrap();
}

const LARGE: usize = 200_000;

fn furnish_with_ways_out(at: &Path) {
    for (directory, text) in [("beside", SECRET.to_owned()), ("root/folder", "public".to_owned())] {
        place(at, &format!("{directory}/page.txt"), &text);
        place(at, &format!("{directory}/index.html"), &text);
        place(at, &format!("{directory}/large.bin"), text.repeat(LARGE / text.len()));
        place(at, &format!("{directory}/deep/er/page.txt"), &text);
    }
    place(at, "root/page.txt", "public");
    symlink("../beside", at.join("root/out")).unwrap();
}

#[tokio::test]
async fn a_link_that_is_swapped_in_while_files_are_asked_for_never_leads_out() {
    let gateway = gateway("root", furnish_with_ways_out).await;
    let root = gateway.home().join("root");
    let (folder, out, page) = (root.join("folder"), root.join("out"), root.join("page.txt"));
    let flipping = Flipping::start({
        let (folder, out, page) = (folder.clone(), out.clone(), page.clone());
        move |odd| {
            exchange(&folder, &out);
            replace(&page, |draft| {
                if odd { fs::write(draft, "public") } else { symlink("../beside/page.txt", draft) }.unwrap();
            });
        }
    });
    let askers = (0..4).map(|_| tokio::spawn(ask_for_everything(gateway.http)));
    for asker in askers.collect::<Vec<_>>() {
        asker.await.unwrap();
    }
    let flips = flipping.end();
    assert!(flips > 100, "there were {flips} flips: no race");
    // Which way it ended is chance; both states are what they should be when they stay.
    if fs::symlink_metadata(&folder).unwrap().is_symlink() {
        exchange(&folder, &out);
    }
    let mut client = Client::plain(gateway.http).await;
    replace(&page, |draft| fs::write(draft, "public").unwrap());
    for path in ["/cold/page.txt", "/cold/folder/page.txt", "/cold/folder/", "/cold/folder/deep/er/page.txt"] {
        assert_eq!(client.get(path).await.text(), "public", "{path}");
    }
    exchange(&folder, &out);
    replace(&page, |draft| symlink("../beside/page.txt", draft).unwrap());
    for path in ["/cold/page.txt", "/cold/folder/page.txt", "/cold/folder/", "/cold/folder/deep/er/page.txt"] {
        assert_eq!(client.get(path).await.status(), 404, "{path}");
    }
}

async fn ask_for_everything(address: std::net::SocketAddr) {
    const PATHS: [&str; 6] =
        ["page.txt", "folder/page.txt", "folder/", "folder", "folder/large.bin", "folder/deep/er/page.txt"];
    let mut client = Client::plain(address).await;
    for _ in 0..300 {
        for path in PATHS {
            for route in ["cold", "warm"] {
                let answer = client.get(&format!("/{route}/{path}")).await;
                assert!(is_innocent(&answer), "/{route}/{path}: {} {:.60}", answer.start, answer.text());
            }
        }
    }
}

fn is_innocent(answer: &Message) -> bool {
    match answer.status() {
        200 => answer.body.len().is_multiple_of(6) && answer.body.chunks(6).all(|word| word == b"public"),
        301 => answer.field("location") == Some("folder/"),
        404 => !answer.text().contains(SECRET),
        _ => false,
    }
}

/// Two releases whose files hold one letter over and over, and a link to the first.
fn furnish_releases(at: &Path) {
    for release in ["1", "2"] {
        place(at, &format!("releases/{release}/page.txt"), release.repeat(1_000));
        place(at, &format!("releases/{release}/large.bin"), release.repeat(LARGE));
        for late in 1..=3 {
            place(at, &format!("releases/{release}/late-{late}.txt"), release);
        }
    }
    symlink("releases/1", at.join("current")).unwrap();
}

fn deploy(home: &Path, release: &str) {
    replace(&home.join("current"), |draft| symlink(format!("releases/{release}"), draft).unwrap());
}

#[tokio::test]
async fn a_deployment_that_is_switched_by_a_link_is_never_served_mixed() {
    let gateway = gateway("current", furnish_releases).await;
    let home: PathBuf = gateway.home().to_owned();
    let flipping = Flipping::start(move |odd| {
        deploy(&home, if odd { "1" } else { "2" });
        thread::sleep(Duration::from_millis(1)); // a deployment lasts longer than that; the gateway looks now and then only
    });
    let mut client = Client::plain(gateway.http).await;
    let mut seen = [0, 0];
    let begun = Instant::now();
    while begun.elapsed() < 3 * SEEN_WITHIN {
        for path in ["/cold/page.txt", "/warm/page.txt", "/cold/large.bin"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status(), 200, "{path}");
            let release = answer.body[0];
            assert!(answer.body.iter().all(|byte| *byte == release), "{path} is of two releases");
            seen[usize::from(release - b'1')] += 1;
        }
    }
    assert!(flipping.end() > 100);
    assert!(seen.iter().sum::<usize>() > 100, "{seen:?}");
}

#[tokio::test]
async fn a_new_deployment_is_all_that_is_served_after_a_second() {
    let gateway = gateway("current", furnish_releases).await;
    let mut client = Client::plain(gateway.http).await;
    for (release, late) in [("2", "/warm/late-1.txt"), ("1", "/warm/late-2.txt"), ("2", "/warm/late-3.txt")] {
        // What was looked at a second ago is looked at anew, so the old deployment has just been seen.
        tokio::time::sleep(SEEN_WITHIN).await;
        for path in ["/warm/page.txt", "/cold/page.txt"] {
            assert_eq!(client.get(path).await.status(), 200);
        }
        deploy(gateway.home(), release);
        let deployed = Instant::now();
        // What is first asked for meanwhile may be the old one's, and may be remembered, but not for another second.
        tokio::time::sleep(SEEN_WITHIN / 2).await;
        assert_eq!(client.get(late).await.status(), 200);
        tokio::time::sleep(SEEN_WITHIN.saturating_sub(deployed.elapsed())).await;
        for path in ["/warm/page.txt", "/warm/large.bin", late, "/cold/page.txt", "/cold/large.bin"] {
            let answer = client.get(path).await;
            assert!(answer.body.iter().all(|byte| *byte == release.as_bytes()[0]), "{path} is of the old release");
        }
    }
}

/// Two contents of one file, of different lengths and small enough that one write is one state.
fn contents(odd: bool) -> Vec<u8> {
    if odd { vec![b'a'; 3_000] } else { vec![b'b'; 2_000] }
}

/// A reader of one file that is always wholly one thing, with the tag and the length of that thing. How many different bodies it saw,
/// and how many answers broke off.
async fn read_over_and_over(gateway: &Gateway, rounds: usize) -> (usize, usize) {
    let mut client = Client::plain(gateway.http).await;
    let mut tags = std::collections::HashMap::new();
    let (mut bodies, mut broken) = (std::collections::HashSet::new(), 0);
    for turn in 0..rounds {
        let path = if turn % 4 == 0 { "/warm/page.txt" } else { "/cold/page.txt" };
        client.send(format!("GET {path} HTTP/1.1\r\nHost: site.test\r\n\r\n")).await;
        let Ok(answer) = client.try_answer().await else {
            client = Client::plain(gateway.http).await;
            broken += 1;
            continue;
        };
        assert_eq!(answer.status(), 200, "{path}");
        // Whoever empties a file before writing it anew has it empty for a moment, and that is a state it was in.
        let known = answer.body.is_empty() || [true, false].map(contents).contains(&answer.body);
        assert!(known, "{path} is half one thing, half another: {} bytes", answer.body.len());
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()));
        let tag = answer.field("etag").unwrap().to_owned();
        let first = tags.entry(tag).or_insert_with(|| answer.body.clone());
        assert!(*first == answer.body, "one tag for two contents");
        bodies.insert(answer.body.len());
    }
    (bodies.len(), broken)
}

#[tokio::test]
async fn a_small_file_that_is_replaced_again_and_again_is_never_half_old_and_half_new() {
    let gateway = gateway("root", |at| place(at, "root/page.txt", contents(true))).await;
    let page = gateway.home().join("root/page.txt");
    let flipping = Flipping::start(move |odd| replace(&page, |draft| fs::write(draft, contents(odd)).unwrap()));
    assert_eq!(read_over_and_over(&gateway, 3_000).await, (2, 0), "both contents were seen, and nothing else");
    assert!(flipping.end() > 100);
}

#[tokio::test]
async fn a_small_file_that_is_rewritten_in_place_is_never_half_old_and_half_new() {
    let gateway = gateway("root", |at| place(at, "root/page.txt", contents(true))).await;
    let page = gateway.home().join("root/page.txt");
    let flipping = Flipping::start(move |odd| fs::write(&page, contents(odd)).unwrap());
    // One that is never still when it is looked at is streamed, and broken off when it turns out to be another.
    let (bodies, broken) = read_over_and_over(&gateway, 3_000).await;
    assert!(bodies >= 2 && broken < 300, "both contents were seen: {bodies} bodies, {broken} broken off");
    assert!(flipping.end() > 100);
}

#[tokio::test]
async fn a_changed_small_file_is_all_that_is_served_after_a_second() {
    let gateway = gateway("root", |at| place(at, "root/page.txt", contents(true))).await;
    let page = gateway.home().join("root/page.txt");
    let mut client = Client::plain(gateway.http).await;
    assert_eq!(client.get("/warm/page.txt").await.body, contents(true));
    let in_place = |page: &Path, odd| fs::write(page, contents(odd)).unwrap();
    let anew = |page: &Path, odd| replace(page, |draft| fs::write(draft, contents(odd)).unwrap());
    for (odd, change) in [(false, in_place as fn(&Path, bool)), (true, anew), (false, anew), (true, in_place)] {
        // The last moment at which it is right to remember the old contents.
        client.get("/warm/page.txt").await;
        change(&page, odd);
        let changed = Instant::now();
        tokio::time::sleep(SEEN_WITHIN.saturating_sub(changed.elapsed())).await;
        let answer = client.get("/warm/page.txt").await;
        assert!(answer.body == contents(odd), "the old contents were served after a second");
    }
}
