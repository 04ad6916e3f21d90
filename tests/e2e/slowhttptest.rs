//! The tool slowhttptest against the gateway with its default limits: a thousand slow clients in each of the tool's four modes, an honest
//! client beside them, and the tool's own verdict.
//!
//! Ignored, because the tool is not everywhere: `tests/run` installs and runs it.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::gateway::{Gateway, Setup};
use crate::support::origin::Origin;

const CONNECTIONS: u64 = 1000;
/// How long an attack lasts, in seconds: longer than a head may take.
const LENGTH: &str = "14";

/// The modes, and what they ask for: each is dangerous where the answer is large or the request has a body.
const MODES: [(&str, &[&str], &str); 4] = [
    ("slow headers", &["-H", "-i", "3"], "/"),
    ("slow body", &["-B", "-i", "3", "-s", "8192"], "/"),
    ("slow read", &["-X", "-n", "2", "-w", "256", "-y", "1024", "-z", "32", "-k", "3"], "/files/large.bin"),
    ("range", &["-R", "-t", "HEAD", "-a", "5", "-b", "3000"], "/files/large.bin"),
];

/// A thousand connections are two thousand descriptors here, where all ends are in two processes.
fn raise_the_soft_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
}

/// Asks again and again, each time on a connection of its own and on one that is kept, until told to stop. How long each answer took.
async fn honest(gateway: &Gateway, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let mut kept = Client::plain(gateway.http).await;
    let mut times = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let mut fresh = Client::over(TcpStream::connect(gateway.http).await.expect("a listener"));
        assert_eq!(fresh.get("/").await.status(), 200);
        times.push(begun.elapsed());
        let begun = Instant::now();
        assert_eq!(kept.get("/").await.status(), 200);
        times.push(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    times
}

/// The median, and what one in a hundred exceeds.
fn percentiles(times: &mut [Duration]) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

/// Runs the tool to its end. For each second: connections that were closed, that stood, and whether it found the service available.
async fn attack(gateway: &Gateway, home: &Path, mode: &[&str], path: &str) -> Vec<(u64, u64, bool)> {
    let report = home.join("report");
    let count = CONNECTIONS.to_string();
    let status = Command::new("slowhttptest")
        .args(mode)
        .args(["-c", &count, "-r", "500", "-l", LENGTH, "-p", "5", "-v", "0", "-g", "-o"])
        .arg(&report)
        .args(["-u", &format!("http://{}{path}", gateway.http)])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .status();
    let status = tokio::time::timeout(2 * PATIENCE, status).await.expect("the tool ends in time");
    assert!(status.expect("slowhttptest is here: tests/run installs it").success());
    let table = std::fs::read_to_string(report.with_extension("csv")).unwrap();
    let row = |line: &str| {
        let numbers: Vec<u64> = line.split(',').map(|number| number.trim().parse().unwrap()).collect();
        (numbers[1], numbers[3], numbers[4] > 0)
    };
    table.lines().skip(1).map(row).collect()
}

#[tokio::test]
#[ignore = "wants slowhttptest, which tests/run installs"]
#[allow(clippy::print_stderr)] // what was measured, for whoever looks
async fn a_thousand_slow_clients_of_any_kind_leave_the_service_available() {
    raise_the_soft_limit();
    let origin = Origin::hello().await;
    let home = tempfile::tempdir().unwrap();
    let files = home.path().join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("large.bin"), vec![b'x'; 4 << 20]).unwrap();
    let route =
        format!("[[route]]\nname = \"files\"\npath = \"/files/\"\nauth = \"public\"\nfiles = {{ root = {files:?} }}\n");
    let gateway = Setup::before(&origin).tables(&route).start().await;

    let stop = Arc::new(AtomicBool::new(false));
    let (calm, ()) = tokio::join!(honest(&gateway, Arc::clone(&stop)), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        stop.store(true, Ordering::SeqCst);
    });
    eprintln!("alone: p50 and p99 {:?}", percentiles(&mut { calm }));
    for (name, mode, path) in MODES {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut times, rows) = tokio::join!(honest(&gateway, Arc::clone(&stop)), async {
            let rows = attack(&gateway, home.path(), mode, path).await;
            stop.store(true, Ordering::SeqCst);
            rows
        });
        let most = rows.iter().map(|(closed, stood, _)| closed + stood).max();
        // The tool's last row may be older than its last connections: where all are answered at once, it is over within three seconds.
        assert!(most.is_some_and(|most| most >= CONNECTIONS / 2), "{name}: no attack: {rows:?}");
        assert!(rows.iter().all(|(_, _, available)| *available), "{name}: not available: {rows:?}");
        let answers = times.len();
        let (p50, p99) = percentiles(&mut times);
        eprintln!("{name}: {answers} honest answers, p50 and p99 {:?}; {:?} at the end", (p50, p99), rows.last());
        let slowest = times.last().copied().unwrap_or_default();
        assert!(slowest < Duration::from_secs(5), "{name}: an honest client waited for {slowest:?}");
    }
    gateway.until_metric("portcullis_connections_open", &[], 0).await;
    gateway.until_metric("portcullis_requests_in_flight", &[], 0).await;
    gateway.until_metric("portcullis_clients", &[], 0).await;
}
