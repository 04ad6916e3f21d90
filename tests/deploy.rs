//! Holds what is deployed and documented against the program: metric names and labels, ports and times.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use portcullis::observe::{FAMILIES, Family, Kind};

/// Labels that Prometheus itself adds to every series, or to the buckets of a histogram.
const ADDED_LABELS: [&str; 3] = ["job", "instance", "le"];

#[test]
fn alerts_and_dashboard_name_only_metrics_that_exist() {
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/portcullis.json"] {
        let text = read(file);
        let names = metric_names(&text);
        assert!(names.len() > 5, "{file} names {names:?}");
        for name in names {
            assert!(family_of(name).is_some(), "{file} names {name}, which is no metric");
        }
    }
}

#[test]
fn the_dashboard_shows_every_metric() {
    let text = read("deploy/grafana/portcullis.json");
    let shown: BTreeSet<&str> =
        metric_names(&text).into_iter().filter_map(family_of).map(|family| family.name).collect();
    assert_eq!(shown, all_names());
}

#[test]
fn queries_select_only_labels_that_exist() {
    let dashboard = read("deploy/grafana/portcullis.json").replace("\\\"", "\"");
    for text in [read("deploy/prometheus/alerts.yml"), dashboard] {
        for (name, labels) in selectors(&text) {
            let family = family_of(name).unwrap();
            for label in labels {
                let known = family.labels.contains(&label) || ADDED_LABELS.contains(&label);
                assert!(known, "{name} has no label {label}, only {:?}", family.labels);
            }
        }
    }
}

#[test]
fn queries_use_histograms_by_their_series_and_others_by_their_name() {
    for file in ["deploy/prometheus/alerts.yml", "deploy/grafana/portcullis.json"] {
        let text = read(file);
        for name in metric_names(&text) {
            let family = family_of(name).unwrap();
            assert_eq!(family.kind == Kind::Histogram, name != family.name, "{file} names {name}");
        }
    }
}

#[test]
fn every_metric_is_documented_as_it_is_and_no_other() {
    let text = read("docs/metrics.md");
    let documented: BTreeMap<&str, Vec<&str>> = table_rows(&text)
        .filter(|cells| cells[0].starts_with("`portcullis_"))
        .map(|cells| (cells[0].trim_matches('`'), cells))
        .collect();
    assert_eq!(documented.keys().copied().collect::<BTreeSet<_>>(), all_names());
    for family in FAMILIES {
        let cells = &documented[family.name];
        assert_eq!(cells[1], format!("{:?}", family.kind).to_lowercase(), "type of {}", family.name);
        let labels: Vec<&str> =
            cells[2].split(", ").filter(|label| *label != "none").map(|l| l.trim_matches('`')).collect();
        assert_eq!(labels, family.labels, "labels of {}", family.name);
        assert!(cells.len() == 6 && cells[3..].iter().all(|cell| !cell.is_empty()), "{} lacks a cell", family.name);
    }
}

#[test]
fn other_pages_name_only_metrics_that_exist() {
    for file in ["docs/logs.md", "docs/deployment.md"] {
        for name in metric_names(&read(file)) {
            assert!(family_of(name).is_some(), "{file} names {name}, which is no metric");
        }
    }
}

#[test]
fn kubernetes_waits_longer_than_the_pause_and_the_drain() {
    let manifest = read("deploy/kubernetes/portcullis.yaml");
    let drain = configured(&manifest)["server"]["drain_secs"].as_integer().unwrap();
    let pause = number_after(&manifest, "sleep: { seconds: ");
    assert!(number_after(&manifest, "terminationGracePeriodSeconds: ") > pause + drain);
}

#[test]
fn kubernetes_opens_the_ports_that_its_configuration_binds() {
    let manifest = read("deploy/kubernetes/portcullis.yaml");
    let config = configured(&manifest);
    for (port, address) in [
        ("https", &config["listen"]["https"]["address"]),
        ("http", &config["listen"]["http"]["address"]),
        ("admin", &config["admin"]["address"]),
    ] {
        let (host, bound) = address.as_str().unwrap().rsplit_once(':').unwrap();
        assert_eq!(host, "0.0.0.0", "{port} must be reachable from outside of the pod");
        assert!(manifest.contains(&format!("name: {port}, containerPort: {bound} }}")), "{port} is bound to {bound}");
    }
    for path in ["/healthz", "/readyz"] {
        assert!(manifest.contains(&format!("httpGet: {{ path: {path}, port: admin }}")), "no probe of {path}");
    }
}

#[test]
fn systemd_waits_longer_than_the_default_drain() {
    const DEFAULT_DRAIN_SECS: i64 = 30;
    assert!(number_after(&read("deploy/systemd/portcullis.service"), "TimeoutStopSec=") > DEFAULT_DRAIN_SECS);
}

#[test]
fn the_image_is_built_with_the_compiler_of_the_manifest() {
    let manifest: toml::Table = toml::from_str(&read("Cargo.toml")).unwrap();
    let package = &manifest["package"];
    let rust = package["rust-version"].as_str().unwrap();
    assert!(read("deploy/Dockerfile").contains(&format!("FROM rust:{rust}-")));
    let version = package["version"].as_str().unwrap();
    assert!(read("deploy/kubernetes/portcullis.yaml").contains(&format!("image: portcullis:{version}\n")));
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn all_names() -> BTreeSet<&'static str> {
    FAMILIES.iter().map(|family| family.name).collect()
}

/// Every word of the text that looks like one of our metrics.
fn metric_names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
        .filter(|word| word.starts_with("portcullis_"))
        .collect()
}

/// The family that a name in a query belongs to: by its own name, or by a series of a histogram.
fn family_of(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().copied().find(|family| {
        name == family.name
            || family.kind == Kind::Histogram
                && ["_bucket", "_sum", "_count"].iter().any(|series| name.strip_suffix(series) == Some(family.name))
    })
}

/// The metrics that a text selects by labels, `name{label="value", ...}`, with these labels.
fn selectors(text: &str) -> Vec<(&str, Vec<&str>)> {
    let mut selectors = Vec::new();
    for (brace, _) in text.match_indices('{') {
        let start = text[..brace].rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).map_or(0, |at| at + 1);
        let name = &text[start..brace];
        if let Some((inside, _)) = text[brace + 1..].split_once('}').filter(|_| name.starts_with("portcullis_")) {
            let labels = inside.split(", ").map(|matcher| matcher.split(['=', '!']).next().unwrap()).collect();
            selectors.push((name, labels));
        }
    }
    assert!(!selectors.is_empty());
    selectors
}

/// The cells of each row of each Markdown table.
fn table_rows(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")).map(|row| row.split(" | ").collect())
}

/// The gateway.toml within the manifest.
fn configured(manifest: &str) -> toml::Table {
    let (_, block) = manifest.split_once("gateway.toml: |\n").unwrap();
    let lines = block.lines().take_while(|line| line.is_empty() || line.starts_with("    "));
    toml::from_str(&lines.map(str::trim_start).collect::<Vec<_>>().join("\n")).unwrap()
}

fn number_after(text: &str, key: &str) -> i64 {
    let (_, rest) = text.split_once(key).unwrap();
    rest.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
