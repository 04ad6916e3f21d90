//! Counting, adding up and encoding, as a scrape sees them.

use std::collections::BTreeSet;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;

use super::super::key_sets::KeySetStatus;
use super::super::names::NameStatus;
use super::super::redis::RedisStatus;
use super::super::spools::{KeptBodies, SpoolStatus};
use super::super::upstreams::{BreakerStatus, EndpointHealth, UpstreamStatus};
use super::*;

const VOCABULARY: Vocabulary =
    Vocabulary { auth_reasons: &["expired", "no_credentials"], malformed_reasons: &["bare_lf", "bad_host"] };

/// A set of counts in which every family has at least one sample.
fn exercised() -> Arc<Metrics> {
    let metrics = Metrics::new(VOCABULARY);
    metrics.key_sets().answered_by(|| {
        vec![KeySetStatus {
            issuer: "corp".into(),
            keys: 2,
            age: Some(Duration::from_secs(9)),
            fetches_ok: 3,
            fetches_failed: 1,
            last_error: None,
            stale: false,
        }]
    });
    metrics.sharing().answered_by(|| RedisStatus {
        place: "redis://cache:6379".to_owned(),
        up: true,
        lasting: Duration::from_secs(9),
        error: None,
        fallbacks: 3,
    });
    metrics.spools().answered_by(|| {
        let requests = Some(KeptBodies { disk_bytes: 7, bodies: 3, written_bytes: 0 });
        let responses = Some(KeptBodies { disk_bytes: 5, bodies: 2, written_bytes: 9 });
        vec![SpoolStatus { upstream: "web".into(), requests, responses }]
    });
    metrics.upstreams().answered_by(|| {
        let health = EndpointHealth {
            endpoint: "127.0.0.1:8000".into(),
            label: "127.0.0.1:8000".into(),
            standing: "ejected",
            eligible: false,
            ejections: vec![("consecutive", 2)],
            limit: Some(12),
            probes: Some(vec![("ok", 9), ("timeout", 1)]),
        };
        vec![UpstreamStatus {
            upstream: "web".into(),
            endpoints: vec![health],
            breaker: Some(BreakerStatus { state: "half-open", opened: 2, rejected: 7 }),
            gone: Vec::new(),
            retries: vec![("connect", 4)],
            retries_refused: 1,
        }]
    });
    metrics.names().answered_by(|| {
        let lookups = vec![("ok", 3), ("timeout", 1)];
        let age = Some(Duration::from_secs(7));
        vec![NameStatus { name: "app.internal".into(), addresses: 2, failing: true, age, lookups }]
    });
    let route = metrics.route(0, "api");
    drop(route.begin());
    route.finish(&Method::GET, 200, Duration::from_millis(3), 1, 2);
    route.called(14);
    route.tunnel().ended(TunnelCause::Closed);
    route.compressed("br").moved(100, 20);
    metrics.auth(0, "api").permitted();
    metrics.limit(0, "login").passed();
    metrics.endpoint(0, "web", "127.0.0.1:8000").reused();
    metrics.listener(0, "https").handshake(Handshake::Done(TlsVersion::Tls13));
    metrics.worker(0).panicked();
    metrics.worker(0).introspections("id").asked(Introspected::Active, Duration::from_millis(3));
    metrics.certificates([("dev.crt", UNIX_EPOCH + Duration::from_secs(5))]);
    metrics.published(1, UNIX_EPOCH + Duration::from_millis(1500));
    metrics
}

fn has(scrape: &str, line: &str) -> bool {
    scrape.lines().any(|known| known == line)
}

#[test]
fn every_family_has_help_and_type_once_and_is_in_the_list() {
    let scrape = exercised().encode();
    let mut typed = BTreeSet::new();
    for line in scrape.lines().filter(|line| line.starts_with("# TYPE ")) {
        let mut words = line.split(' ').skip(2);
        let name = words.next().unwrap().to_string();
        assert!(scrape.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(typed.insert(name.clone()), "{name} appears twice");
    }
    let ours: BTreeSet<&str> =
        typed.iter().map(String::as_str).filter(|name| name.starts_with("portcullis_")).collect();
    assert_eq!(ours, FAMILIES.iter().map(|family| family.name).collect());
    assert_eq!(ours.len(), FAMILIES.len(), "FAMILIES has a name twice");
    assert!(typed.contains("process_resident_memory_bytes"));
}

#[test]
fn a_call_is_counted_by_the_name_of_its_code() {
    let metrics = exercised();
    metrics.route(1, "api").called(14);
    metrics.route(1, "api").called(17);
    let scrape = metrics.encode();
    assert!(has(&scrape, "portcullis_grpc_calls_total{route=\"api\",code=\"UNAVAILABLE\"} 2"), "{scrape}");
    assert_eq!(scrape.matches("portcullis_grpc_calls_total{").count(), 1, "a code shows once it has happened");
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for family in FAMILIES {
        let name = family.name;
        assert!(name.starts_with("portcullis_"), "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == Kind::Counter, "{name}");
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
        for banned in ["counter", "gauge", "histogram", "milliseconds", "millis", "kilobytes", "percent", "minutes"] {
            assert!(!name.contains(banned), "{name} contains {banned}");
        }
        for suffix in ["_count", "_sum", "_bucket"] {
            assert!(!name.ends_with(suffix), "{name} ends with {suffix}");
        }
        if family.kind == Kind::Histogram {
            assert!(name.ends_with("_seconds"), "{name}");
        }
        for label in family.labels {
            assert!(label.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') && *label != "le", "{name} {label}");
        }
    }
}

#[test]
fn no_series_appears_twice() {
    let metrics = exercised();
    metrics
        .certificates([("a.crt", UNIX_EPOCH + Duration::from_secs(9)), ("a.crt", UNIX_EPOCH + Duration::from_secs(7))]);
    let scrape = metrics.encode();
    let mut seen = BTreeSet::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        assert!(seen.insert(series), "{series} appears twice");
    }
    assert!(has(&scrape, r#"portcullis_certificate_expiry_timestamp_seconds{certificate="a.crt"} 7"#), "{scrape}");
}

#[test]
fn a_scrape_sums_the_shards_of_all_workers() {
    let metrics = Metrics::new(VOCABULARY);
    for worker in 0..4 {
        let route = metrics.route(worker, "api");
        route.finish(&Method::POST, 201, Duration::from_millis(40), 100, 7);
        metrics.auth(worker, "api").denied("expired");
        metrics.endpoint(worker, "web", "a:1").failed(UpstreamFailure::Reset);
        metrics.worker(worker).cache_hit();
        metrics.listener(worker, "https").handshake(Handshake::Timeout);
    }
    let scrape = metrics.encode();
    for line in [
        r#"portcullis_requests_total{method="POST",route="api",status="201"} 4"#,
        r#"portcullis_request_body_bytes_total{route="api"} 400"#,
        r#"portcullis_response_body_bytes_total{route="api"} 28"#,
        r#"portcullis_request_duration_seconds_bucket{route="api",le="0.025"} 0"#,
        r#"portcullis_request_duration_seconds_bucket{route="api",le="0.05"} 4"#,
        r#"portcullis_request_duration_seconds_bucket{route="api",le="+Inf"} 4"#,
        r#"portcullis_request_duration_seconds_sum{route="api"} 0.16"#,
        r#"portcullis_request_duration_seconds_count{route="api"} 4"#,
        r#"portcullis_auth_decisions_total{reason="expired",route="api"} 4"#,
        r#"portcullis_upstream_errors_total{endpoint="a:1",stage="reset",upstream="web"} 4"#,
        r#"portcullis_token_cache_lookups_total{result="hit"} 4"#,
        r#"portcullis_tls_handshakes_total{listener="https",result="timeout",version="unknown"} 4"#,
    ] {
        assert!(has_unordered(&scrape, line), "{line} is not in\n{scrape}");
    }
}

/// Whether a sample is there, whatever the order of its labels.
fn has_unordered(scrape: &str, wanted: &str) -> bool {
    let sorted = |line: &str| -> (String, BTreeSet<String>, String) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',').map(str::to_string).collect();
        (name.to_string(), labels, value.to_string())
    };
    scrape.lines().filter(|line| !line.starts_with('#')).any(|line| sorted(line) == sorted(wanted))
}

#[test]
fn a_guard_gives_its_unit_back_however_it_ends() {
    let metrics = Metrics::new(VOCABULARY);
    let route = metrics.route(0, "api");
    let (first, second) = (route.begin(), metrics.route(1, "api").begin());
    assert!(has(&metrics.encode(), r#"portcullis_requests_in_flight{route="api"} 2"#));
    drop(first);
    std::thread::spawn(move || drop(second)).join().unwrap();
    let panicked = std::panic::catch_unwind(|| {
        let _held = route.begin();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.is_err());
    assert!(has(&metrics.encode(), r#"portcullis_requests_in_flight{route="api"} 0"#));
}

#[test]
fn one_name_keeps_its_counts_across_generations() {
    let metrics = Metrics::new(VOCABULARY);
    metrics.route(0, "api").finish(&Method::GET, 200, Duration::ZERO, 0, 0);
    metrics.route(0, "api").finish(&Method::GET, 200, Duration::ZERO, 0, 0);
    assert_eq!(metrics.route_numbers()["api"].requests, 2);
}

#[test]
fn the_first_generation_is_no_reload() {
    let metrics = Metrics::new(VOCABULARY);
    metrics.published(1, UNIX_EPOCH + Duration::from_millis(1500));
    assert!(has(&metrics.encode(), r#"portcullis_config_reloads_total{result="ok"} 0"#));
    metrics.published(2, UNIX_EPOCH + Duration::from_millis(2500));
    metrics.reload_refused();
    let scrape = metrics.encode();
    for line in [
        r#"portcullis_config_reloads_total{result="ok"} 1"#,
        r#"portcullis_config_reloads_total{result="refused"} 1"#,
        "portcullis_config_generation 2",
        "portcullis_config_last_reload_successful 0",
        "portcullis_config_last_reload_success_timestamp_seconds 2.5",
    ] {
        assert!(has(&scrape, line), "{line} is not in\n{scrape}");
    }
    metrics.published(3, UNIX_EPOCH);
    assert!(has(&metrics.encode(), "portcullis_config_last_reload_successful 1"));
}

#[test]
fn revocations_are_counted_by_kind() {
    let metrics = Metrics::new(VOCABULARY);
    metrics.revocations_changed(|| [3, 2, 1]);
    metrics.revocations_changed(|| [3, 2, 0]);
    let scrape = metrics.encode();
    for line in [
        r#"portcullis_revocations{kind="jti"} 3"#,
        r#"portcullis_revocations{kind="sub"} 2"#,
        r#"portcullis_revocations{kind="token"} 0"#,
        "portcullis_revocation_changes_total 2",
    ] {
        assert!(has(&scrape, line), "{line} is not in\n{scrape}");
    }
}

#[test]
fn a_reason_outside_its_list_counts_as_other() {
    let metrics = Metrics::new(VOCABULARY);
    metrics.auth(0, "api").denied("made up");
    metrics.worker(0).malformed("made up");
    let scrape = metrics.encode();
    assert!(has_unordered(&scrape, r#"portcullis_auth_decisions_total{route="api",reason="other"} 1"#), "{scrape}");
    assert!(has(&scrape, r#"portcullis_malformed_requests_total{reason="other"} 1"#), "{scrape}");
}

#[test]
fn the_numbers_of_an_endpoint_follow_its_guards() {
    let metrics = Metrics::new(VOCABULARY);
    let meter = metrics.endpoint(0, "web", "a:1");
    let _connection = meter.opened();
    let lease = meter.leased();
    let _waiting = meter.waiting();
    meter.failed(UpstreamFailure::Refused);
    let key = (Box::from("web"), Box::from("a:1"));
    assert_eq!(metrics.endpoint_numbers()[&key], EndpointNumbers { open: 1, leased: 1, waiting: 1, errors: 1 });
    drop(lease);
    assert_eq!(metrics.endpoint_numbers()[&key].leased, 0);
}

proptest! {
    #[test]
    fn no_request_adds_more_series_than_the_closed_lists(
        requests in prop::collection::vec(("[A-Z]{1,12}", any::<u16>()), 0..64),
    ) {
        let metrics = Metrics::new(VOCABULARY);
        let route = metrics.route(0, "api");
        for (method, status) in &requests {
            route.finish(&Method::from_bytes(method.as_bytes()).unwrap(), *status, Duration::ZERO, 0, 0);
        }
        let mut total = 0;
        for (method, status, count) in RouteCells::requests(&[&*metrics.ledger.routes.shard(0, "api".into(), RouteCells::default)]) {
            prop_assert!(METHODS.contains(&method));
            prop_assert!(status == "other" || STATUSES.contains(&status.parse().unwrap()));
            total += count;
        }
        prop_assert_eq!(total, requests.len() as u64);
    }
}

#[test]
fn spools_are_asked_when_somebody_looks() {
    let scrape = exercised().encode();
    assert!(has(&scrape, r#"portcullis_spool_bytes{upstream="web"} 7"#), "{scrape}");
    assert!(has(&scrape, r#"portcullis_spooled_requests_total{upstream="web"} 3"#), "{scrape}");
    assert!(has(&scrape, r#"portcullis_buffered_response_bytes{upstream="web"} 5"#), "{scrape}");
    assert!(has(&scrape, r#"portcullis_buffered_responses_total{upstream="web"} 2"#), "{scrape}");
    assert!(has(&scrape, r#"portcullis_buffered_response_written_bytes_total{upstream="web"} 9"#), "{scrape}");
}

#[test]
fn fetched_key_sets_are_asked_when_somebody_looks() {
    let scrape = exercised().encode();
    for line in [
        r#"portcullis_jwks_keys{issuer="corp"} 2"#,
        r#"portcullis_jwks_age_seconds{issuer="corp"} 9"#,
        r#"portcullis_jwks_fetches_total{issuer="corp",outcome="failed"} 1"#,
        r#"portcullis_jwks_fetches_total{issuer="corp",outcome="ok"} 3"#,
    ] {
        assert!(scrape.lines().any(|found| found == line), "{line} in {scrape}");
    }
}

#[test]
fn the_decisions_of_a_limit_are_added_up_over_the_workers() {
    let metrics = exercised();
    metrics.limit(1, "login").passed();
    metrics.limit(1, "login").refused();
    metrics.limit(2, "login").would_refuse();
    let scrape = metrics.encode();
    for (decision, count) in [("passed", 2), ("refused", 1), ("would_refuse", 1)] {
        let line = format!("portcullis_rate_limit_decisions_total{{limit=\"login\",decision=\"{decision}\"}} {count}");
        assert!(has(&scrape, &line), "{scrape}");
    }
}

#[test]
fn what_a_name_stands_for_is_one_series_the_sum_of_all() {
    let metrics = Metrics::new(VOCABULARY);
    metrics.upstreams().answered_by(|| {
        let health = |endpoint: &str, eligible, ejections| EndpointHealth {
            endpoint: endpoint.into(),
            label: "http://app:80".into(),
            standing: "",
            eligible,
            ejections: vec![("consecutive", ejections)],
            limit: Some(5),
            probes: None,
        };
        vec![UpstreamStatus {
            upstream: "web".into(),
            endpoints: vec![health("http://10.0.0.1:80", true, 1), health("http://10.0.0.2:80", true, 2)],
            breaker: None,
            gone: vec![EndpointHealth { limit: None, ..health("http://app:80", false, 4) }],
            retries: Vec::new(),
            retries_refused: 0,
        }]
    });
    let text = metrics.encode();
    let of = |family: &str| text.lines().filter(|line| line.starts_with(family)).collect::<Vec<_>>();
    let labels = "upstream=\"web\",endpoint=\"http://app:80\"";
    assert_eq!(of("portcullis_endpoint_eligible"), [format!("portcullis_endpoint_eligible{{{labels}}} 2")]);
    let ejections = format!("portcullis_endpoint_ejections_total{{{labels},reason=\"consecutive\"}} 7");
    assert_eq!(of("portcullis_endpoint_ejections_total"), [ejections]);
    let limit = format!("portcullis_endpoint_concurrency_limit{{{labels}}} 10");
    assert_eq!(of("portcullis_endpoint_concurrency_limit"), [limit]);
}
