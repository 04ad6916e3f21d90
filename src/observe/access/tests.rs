//! Access lines from a record to the file.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::mpsc::Receiver;
use std::time::UNIX_EPOCH;

use http::Version;
use proptest::prelude::*;

use super::*;
use crate::observe::Vocabulary;

fn metrics() -> Arc<Metrics> {
    Metrics::new(Vocabulary { auth_reasons: &[], malformed_reasons: &[] })
}

fn record() -> Record<'static> {
    Record {
        time: UNIX_EPOCH + Duration::from_millis(951_827_696_123),
        request_id: "0a1b",
        client: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
        method: b"GET",
        host: b"api.example.com",
        path: b"/api/orders?page=2&token=abc",
        protocol: Version::HTTP_11,
        status: 200,
        grpc: None,
        route: "api",
        outcome: "ok",
        limit: None,
        issuer: Some("django"),
        subject: Some("42"),
        upstream: Some("web"),
        endpoint: Some("127.0.0.1:8000"),
        bytes_in: 0,
        bytes_out: 512,
        duration: Duration::from_micros(3214),
        auth: Some(Duration::from_micros(18)),
        queue: Some(Duration::from_micros(1500)),
        connect: Some(Duration::ZERO),
        first_byte: Some(Duration::from_micros(2900)),
        user_agent: Some(b"curl/8.5"),
    }
}

/// A sink, and the end of its queue that no writer reads.
fn sink(layout: Layout, bound: usize) -> (AccessSink, Receiver<Message>, Arc<Metrics>) {
    let (sender, queue) = sync_channel(bound);
    let metrics = metrics();
    (AccessSink::new(sender, layout, Arc::clone(&metrics)), queue, metrics)
}

fn line(layout: Layout, record: &Record<'_>) -> String {
    let (sink, queue, _) = sink(layout, 1);
    sink.write(record);
    sink.flush();
    match queue.try_recv() {
        Ok(Message::Batch(batch)) => String::from_utf8(batch.bytes).unwrap(),
        other => panic!("no batch: {other:?}"),
    }
}

fn dropped(metrics: &Metrics) -> u64 {
    let scrape = metrics.encode();
    let line = scrape.lines().find(|line| line.starts_with("portcullis_access_log_dropped_lines_total ")).unwrap();
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn a_json_line_holds_every_field() {
    assert_eq!(
        line(Layout::Json, &record()),
        concat!(
            r#"{"time":"2000-02-29T12:34:56.123Z","request_id":"0a1b","client":"192.0.2.7","method":"GET","#,
            r#""host":"api.example.com","path":"/api/orders?page=2&token=REDACTED","protocol":"HTTP/1.1","status":200,"#,
            r#""route":"api","outcome":"ok","issuer":"django","subject":"42","upstream":"web","#,
            r#""endpoint":"127.0.0.1:8000","bytes_in":0,"bytes_out":512,"duration_ms":3.214,"auth_ms":0.018,"#,
            r#""queue_ms":1.500,"connect_ms":0.000,"first_byte_ms":2.900,"user_agent":"curl/8.5"}"#,
            "\n"
        )
    );
}

#[test]
fn what_does_not_apply_is_left_out_of_a_json_line() {
    let record = Record {
        grpc: None,
        issuer: None,
        subject: None,
        upstream: None,
        endpoint: None,
        auth: None,
        queue: None,
        connect: None,
        first_byte: None,
        user_agent: None,
        ..record()
    };
    let line: serde_json::Value = serde_json::from_str(&line(Layout::Json, &record)).unwrap();
    for key in [
        "grpc",
        "issuer",
        "subject",
        "upstream",
        "endpoint",
        "auth_ms",
        "queue_ms",
        "connect_ms",
        "first_byte_ms",
        "user_agent",
    ] {
        assert!(line.get(key).is_none(), "{key}");
    }
    assert_eq!(line["duration_ms"], 3.214);
}

#[test]
fn a_grpc_call_says_what_its_client_was_told() {
    let record = Record { grpc: Some("UNAVAILABLE"), ..record() };
    let json: serde_json::Value = serde_json::from_str(&line(Layout::Json, &record)).unwrap();
    assert_eq!((&json["status"], &json["grpc"]), (&200.into(), &"UNAVAILABLE".into()));
    assert!(line(Layout::Text { colour: false }, &record).contains(" grpc=UNAVAILABLE route=api "));
}

#[test]
fn a_text_line_reads_from_left_to_right() {
    let record = Record { status: 403, outcome: "insufficient_scope", user_agent: Some(b"two words"), ..record() };
    assert_eq!(
        line(Layout::Text { colour: false }, &record),
        "2000-02-29T12:34:56.123Z 403 GET api.example.com/api/orders?page=2&token=REDACTED 3.214ms route=api \
         outcome=insufficient_scope client=192.0.2.7 issuer=django subject=42 upstream=web endpoint=127.0.0.1:8000 in=0 \
         out=512 auth=0.018ms queue=1.500ms connect=0.000ms first_byte=2.900ms protocol=HTTP/1.1 id=0a1b agent=\"two words\"\n"
    );
}

#[test]
fn colour_adds_nothing_but_escape_codes() {
    let coloured = line(Layout::Text { colour: true }, &record());
    let mut plain = String::new();
    for part in coloured.split('\x1b') {
        plain.push_str(part.strip_prefix('[').and_then(|code| code.split_once('m')).map_or(part, |(_, rest)| rest));
    }
    assert_ne!(coloured, plain);
    assert_eq!(plain, line(Layout::Text { colour: false }, &record()));
}

#[test]
fn lines_wait_in_the_buffer_until_it_is_full_or_flushed() {
    let (sink, queue, _) = sink(Layout::Json, 4);
    sink.write(&record());
    assert!(queue.try_recv().is_err());
    sink.flush();
    assert!(matches!(queue.try_recv(), Ok(Message::Batch(Batch { lines: 1, .. }))));
    sink.flush();
    assert!(queue.try_recv().is_err(), "an empty buffer is not handed over");
    let long = vec![b'a'; 8 * 1024];
    for _ in 0..2 {
        sink.write(&Record { path: &long, ..record() });
    }
    assert!(matches!(queue.try_recv(), Ok(Message::Batch(Batch { lines: 2, .. }))));
}

#[test]
fn a_full_queue_drops_lines_and_counts_them() {
    let (sink, queue, metrics) = sink(Layout::Json, 1);
    for _ in 0..3 {
        sink.write(&record());
        sink.write(&record());
        sink.flush();
    }
    assert_eq!(dropped(&metrics), 4);
    drop(queue);
    sink.write(&record());
    sink.flush();
    assert_eq!(dropped(&metrics), 5, "a writer that is gone loses lines as well");
}

#[test]
fn a_sink_that_ends_hands_its_lines_over() {
    let (sink, queue, _) = sink(Layout::Json, 1);
    sink.write(&record());
    drop(sink);
    assert!(matches!(queue.try_recv(), Ok(Message::Batch(_))));
}

fn to_file(path: PathBuf) -> LogSettings {
    LogSettings { level: tracing::Level::INFO, format: LogFormat::Auto, access: true, access_file: Some(path) }
}

#[test]
fn a_rotated_file_is_let_go_after_reopen() {
    let directory = tempfile::tempdir().unwrap();
    let (path, rotated) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let log = AccessLog::open(&to_file(path.clone()), metrics()).unwrap();
    let sink = log.sink();
    sink.write(&Record { request_id: "before", ..record() });
    sink.flush();
    std::fs::rename(&path, &rotated).unwrap();
    log.reopen();
    sink.write(&Record { request_id: "after", ..record() });
    sink.flush();
    assert!(log.finish(Duration::from_secs(30)));
    let read = |path| std::fs::read_to_string(path).unwrap();
    assert!(read(&rotated).contains("before") && !read(&rotated).contains("after"));
    assert!(read(&path).contains("after") && !read(&path).contains("before"));
}

#[test]
fn finish_writes_what_was_handed_over_by_all_workers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("access.log");
    let metrics = metrics();
    let log = AccessLog::open(&to_file(path.clone()), Arc::clone(&metrics)).unwrap();
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let sink = log.sink();
            std::thread::spawn(move || (0..200).for_each(|_| sink.write(&record())))
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    assert!(log.finish(Duration::from_secs(30)));
    let written = std::fs::read_to_string(&path).unwrap();
    assert_eq!(written.lines().count(), 800);
    assert_eq!(dropped(&metrics), 0);
    assert!(written.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}

#[test]
fn a_log_that_cannot_be_opened_names_its_file() {
    let problem = AccessLog::open(&to_file("/nonexistent/access.log".into()), metrics()).unwrap_err();
    assert_eq!(problem.to_string(), "cannot open the access log /nonexistent/access.log");
}

#[test]
fn lines_that_cannot_be_written_are_counted() {
    let metrics = metrics();
    // Linux's own full disk: every write fails with ENOSPC.
    let log = AccessLog::open(&to_file("/dev/full".into()), Arc::clone(&metrics)).unwrap();
    let sink = log.sink();
    sink.write(&record());
    sink.flush();
    assert!(log.finish(Duration::from_secs(30)));
    assert_eq!(dropped(&metrics), 1);
}

proptest! {
    #[test]
    fn whatever_a_client_sends_is_one_line_and_valid_json(
        method in prop::collection::vec(any::<u8>(), 0..300),
        host in prop::collection::vec(any::<u8>(), 0..300),
        path in prop::collection::vec(any::<u8>(), 0..300),
        agent in prop::collection::vec(any::<u8>(), 0..2000),
        subject in any::<String>(),
    ) {
        let record = Record {
            method: &method, host: &host, path: &path, user_agent: Some(&agent), subject: Some(&subject), ..record()
        };
        for layout in [Layout::Json, Layout::Text { colour: false }] {
            let line = line(layout, &record);
            let body = line.strip_suffix('\n').unwrap();
            prop_assert!(!body.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{2029}'), "{}", body);
        }
        let json: serde_json::Value = serde_json::from_str(&line(Layout::Json, &record)).unwrap();
        prop_assert_eq!(&json["route"], "api");
        if subject.len() <= 256 {
            prop_assert_eq!(json["subject"].as_str(), Some(subject.as_str()));
        }
    }
}

#[test]
fn every_field_of_a_line_is_documented_and_no_other() {
    let (_, fields) = include_str!("../../../docs/logs.md").split_once("| field | type | meaning |").unwrap();
    let documented: Vec<(&str, &str)> = fields
        .lines()
        .skip(2)
        .map_while(|row| row.strip_prefix("| `")?.split_once("` | "))
        .map(|(field, rest)| (field, rest.split(' ').next().unwrap()))
        .collect();
    let line = line(Layout::Json, &Record { grpc: Some("OK"), limit: Some("login"), ..record() });
    let written: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(documented.len(), written.as_object().unwrap().len());
    let mut at = 0;
    for (field, kind) in documented {
        let value = &written[field];
        assert_eq!(kind, if value.is_string() { "string" } else { "number" }, "{field}");
        let place = line.find(&format!("\"{field}\":")).unwrap();
        assert!(place > at, "{field} is documented out of order");
        at = place;
    }
}
