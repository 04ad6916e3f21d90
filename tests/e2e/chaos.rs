//! Origins that do everything wrong, at random and for a while: each client gets what it is due, nobody else notices, and afterwards
//! everything is as it was.
//!
//! `PORTCULLIS_CHAOS_SECS` lets it last longer than its 15 seconds, `PORTCULLIS_CHAOS_SEED` throws the dice anew. `tests/soak` does
//! both for as long as it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;

use crate::support::client::{Client, get};
use crate::support::gateway::{Gateway, Setup};
use crate::support::moods::{Due, Mood, Moody, body, judge};
use crate::support::origin::Origin;
use crate::support::port::Port;
use crate::support::{Dice, eventually, tls};

const CLIENTS: u64 = 24;
/// Beside them, those that ask an origin which does nothing wrong.
const CALM_CLIENTS: u64 = 4;
/// What a process may have in memory that it had not after the first third of the time.
const GROWTH: u64 = 24 * 1024 * 1024;

/// What the clients saw.
#[derive(Default)]
struct Tally {
    numbers: AtomicU64,
    statuses: Mutex<BTreeMap<u16, u64>>,
    cut: AtomicU64,
    /// Requests whose client did not wait for the answer: the gateway may have seen them or not.
    left: AtomicU64,
    /// Honest POSTs, and those of them that met a connection which was closed at the same moment.
    posts: AtomicU64,
    lost_posts: AtomicU64,
}

impl Tally {
    fn one(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::SeqCst);
    }

    fn saw(&self, status: u16) {
        *self.statuses.lock().unwrap().entry(status).or_default() += 1;
    }

    fn of(&self, status: u16) -> u64 {
        self.statuses.lock().unwrap().get(&status).copied().unwrap_or(0)
    }

    fn answered(&self) -> u64 {
        self.statuses.lock().unwrap().values().sum::<u64>() + self.cut.load(Ordering::SeqCst)
    }
}

/// Where the gateway is.
#[derive(Clone)]
struct Way {
    http: SocketAddr,
    https: SocketAddr,
    roots: [CertificateDer<'static>; 1],
}

impl Way {
    async fn connect(&self, secure: bool) -> Client {
        if !secure {
            return Client::plain(self.http).await;
        }
        Client::over(tls::connect(self.https, &self.roots, &[b"http/1.1"]).await.expect("a handshake"))
    }
}

/// One client, until the time is over.
async fn client(way: Way, seed: u64, number: u64, until: Instant, tally: Arc<Tally>) {
    let mut dice = Dice::new(seed.wrapping_mul(31).wrapping_add(number));
    let mut kept = None;
    while Instant::now() < until {
        let id = tally.numbers.fetch_add(1, Ordering::SeqCst);
        let (refused, post, leaves) = (dice.below(24) == 0, dice.below(3) == 0, dice.below(16) == 0);
        let mut client = match kept.take() {
            Some(client) if dice.below(4) > 0 => client,
            _ => way.connect(number.is_multiple_of(2)).await,
        };
        let path = if refused { format!("/gone/{id}") } else { format!("/{id}") };
        let mut request = get(&path).into_bytes();
        if post {
            let body = body(id);
            let head = format!("POST {path} HTTP/1.1\r\nHost: site.test\r\nContent-Length: {}\r\n\r\n", body.len());
            request = [head.into_bytes(), body].concat();
        }
        if leaves {
            let part = usize::try_from(dice.below(request.len() as u64)).unwrap();
            client.send(&request[..=part]).await;
            tokio::time::sleep(dice.millis(0..20)).await; // the race is about time
            Tally::one(&tally.left);
            continue;
        }
        let mood = Mood::of(seed, id);
        let due = if refused { Due::Failure(502) } else { mood.due(id) };
        let honest_post = post && matches!(due, Due::Answer(200, _));
        if honest_post {
            Tally::one(&tally.posts);
        }
        client.send(&request).await;
        match client.try_answer().await {
            Ok(answer) => {
                tally.saw(answer.status());
                match judge(due, id, &answer) {
                    Ok(()) => {}
                    // What may not be repeated may be lost with an idle connection that its server closes meanwhile.
                    Err(_) if honest_post && answer.status() == 502 => Tally::one(&tally.lost_posts),
                    Err(wrong) => {
                        panic!("seed {seed}: {mood:?} of {id}, post {post}: {wrong}, due {due:?}: {}", answer.start)
                    }
                }
                kept = (!answer.closes()).then_some(client);
            }
            Err(error) => {
                assert_eq!(due, Due::Cut, "seed {seed}: {mood:?} of {id}, post {post}: {error}");
                Tally::one(&tally.cut);
            }
        }
    }
}

/// One that asks an origin which does nothing wrong.
async fn calm_client(way: Way, secure: bool, until: Instant, tally: Arc<Tally>) {
    let mut client = way.connect(secure).await;
    while Instant::now() < until {
        let answer = client.get("/calm/").await;
        assert_eq!((answer.status(), answer.text().as_str(), answer.closes()), (200, "hello", false));
        tally.saw(200);
        tokio::time::sleep(Duration::from_millis(2)).await; // it is there to be hurt, not to load the machine
    }
}

fn from_env(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().expect("a number"))
}

#[tokio::test]
async fn whatever_origins_do_each_client_gets_its_due_and_nothing_is_left_behind() {
    let seed = from_env("PORTCULLIS_CHAOS_SEED", 1);
    let lasts = Duration::from_secs(from_env("PORTCULLIS_CHAOS_SECS", 15));
    let (moody, calm, gone) = (Moody::start(seed).await, Origin::hello().await, Port::reserve());
    let tables = format!(
        "[upstream.calm]\nendpoints = [\"{}\"]\n[upstream.gone]\nendpoints = [\"http://{}\"]\n\
         [[route]]\nname = \"calm\"\npath = \"/calm/\"\nauth = \"public\"\nupstream = \"calm\"\n\
         [[route]]\nname = \"gone\"\npath = \"/gone/\"\nauth = \"public\"\nupstream = \"gone\"\n",
        calm.endpoint(),
        gone.address
    );
    let gateway = Setup::endpoints([moody.endpoint()])
        .server("workers = 2")
        .upstream("response_timeout_secs = 1\nread_timeout_secs = 1\nmax_connections = 32\n")
        .tables(&tables)
        .start()
        .await;
    let descriptors = gateway.descriptors();
    let way = Way { http: gateway.http, https: gateway.https, roots: gateway.roots() };
    let (tally, until) = (Arc::new(Tally::default()), Instant::now() + lasts);
    let mut load = JoinSet::new();
    for number in 0..CLIENTS {
        load.spawn(client(way.clone(), seed, number, until, Arc::clone(&tally)));
    }
    for number in 0..CALM_CLIENTS {
        load.spawn(calm_client(way.clone(), number % 2 == 0, until, Arc::clone(&tally)));
    }
    tokio::time::sleep(lasts / 3).await; // what grows at first is room that is used again
    let resident = gateway.resident_bytes();
    load.join_all().await;
    drop(moody);
    calm.break_all();
    everything_adds_up(&gateway, &tally).await;
    let grown = gateway.resident_bytes().saturating_sub(resident);
    assert!(grown < GROWTH, "{grown} bytes more than after a third of the time");
    // The control thread opens a file now and then, for a moment.
    eventually("as many descriptors as at the start", || async {
        (gateway.descriptors() <= descriptors).then_some(())
    })
    .await;
    assert!(!gateway.log().contains("panicked"), "no panic");
    assert_eq!(Client::plain(gateway.http).await.get("/calm/").await.text(), "hello", "it serves on");
}

/// What the gateway counted is what its clients saw, and nothing is under way any more.
async fn everything_adds_up(gateway: &Gateway, tally: &Tally) {
    for gauge in [
        "portcullis_requests_in_flight",
        "portcullis_upstream_leases",
        "portcullis_upstream_waiting_requests",
        "portcullis_upstream_connections_open",
        "portcullis_connections_open",
    ] {
        gateway.until_metric(gauge, &[], 0).await;
    }
    let scrape = gateway.scrape().await;
    let (answered, left) = (tally.answered(), tally.left.load(Ordering::SeqCst));
    let total = scrape.count("portcullis_requests_total", &[]);
    assert!((answered..=answered + left).contains(&total), "{answered} answered, {left} left, {total} counted");
    for status in [403, 502, 504] {
        let (saw, counted) =
            (tally.of(status), scrape.count("portcullis_requests_total", &[&format!("status=\"{status}\"")]));
        assert!((saw..=saw + left).contains(&counted), "{status}: {saw} seen, {left} left, {counted} counted");
    }
    for status in [500, 503] {
        assert_eq!(scrape.count("portcullis_requests_total", &[&format!("status=\"{status}\"")]), 0, "{status}");
    }
    for stage in ["refused", "reset", "malformed", "response_timeout", "read_timeout"] {
        let count = scrape.count("portcullis_upstream_errors_total", &[&format!("stage=\"{stage}\"")]);
        assert!(count > 0, "{stage} was met, and is counted by its name");
    }
    assert_eq!(scrape.count("portcullis_panics_total", &[]), 0);
    let (posts, lost) = (tally.posts.load(Ordering::SeqCst), tally.lost_posts.load(Ordering::SeqCst));
    assert!(lost <= 2 + posts / 50, "{lost} of {posts} honest POSTs were lost");
    assert!(answered > 100 && left > 0 && tally.cut.load(Ordering::SeqCst) > 0, "the dice were thrown");
}
