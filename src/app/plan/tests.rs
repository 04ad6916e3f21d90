//! Plans between configurations that differ in one thing.

#![allow(clippy::unwrap_used)]

use std::io;
use std::path::Path;
use std::time::Instant;

use super::*;
use crate::app::carry;
use crate::config::{self, Loaded, Sources};
use crate::limit::{CountedBy, Decision, Key, Limiter, Quota};

/// Every file holds a good secret of its own, and this much more.
struct World(&'static str);

impl Sources for World {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(format!("a secret that is long enough for {}{}\n", path.display(), self.0).into_bytes())
    }

    fn is_directory(&self, _: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn manifest(&self, _: &Path, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn takes_files(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn variable(&self, _: &str) -> Option<Vec<u8>> {
        None
    }

    fn processors(&self) -> usize {
        2
    }
}

const TEXT: &str = "\
[server]
workers = 2
[listen.http]
address = \"127.0.0.1:8080\"
[issuer.one]
issuer = \"https://one.example\"
secret = { file = \"one.secret\" }
audiences = [\"a\"]
[issuer.two]
issuer = \"https://two.example\"
secret = { file = \"two.secret\" }
audiences = [\"a\"]
[rate_limit.few]
key = \"client\"
requests = 5
per_secs = 60
[upstream.app]
endpoints = [\"http://127.0.0.1:8001\", \"http://127.0.0.1:8002\"]
[upstream.other]
endpoints = [\"builtin:whoami\"]
[[route]]
name = \"api\"
path = \"/api/\"
auth = { issuer = \"two\" }
rate_limits = [\"few\"]
upstream = \"app\"
[[route]]
name = \"rest\"
path = \"/\"
auth = \"public\"
upstream = \"other\"
";

fn load(text: &str, world: &World) -> Loaded {
    config::load_str(Path::new("gateway.toml"), text, world).unwrap_or_else(|problems| panic!("{problems}"))
}

fn between(old: &Loaded, new: &Loaded) -> Plan {
    let (was, is) = ((&old.config, &*old.text), (&new.config, &*new.text));
    Plan::new(Side { config: was.0, text: was.1 }, Side { config: is.0, text: is.1 })
}

/// The plan from the text above to one that was edited.
fn edited(edits: &[(&str, &str)]) -> Plan {
    let mut text = TEXT.to_owned();
    for (from, to) in edits {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    between(&load(TEXT, &World("")), &load(&text, &World("")))
}

fn changed(plan: &Plan) -> Vec<(&str, &str)> {
    plan.tables.iter().map(|change| (&*change.table, change.fate)).collect()
}

fn fates(becomes: &[Becomes]) -> Vec<(&str, &str)> {
    becomes.iter().map(|one| (&*one.name, one.fate)).collect()
}

#[test]
fn the_same_meaning_in_other_words_changes_nothing() {
    for edits in [
        &[][..],
        &[("[server]", "# a remark\n[server]\ndrain_secs = 30")],
        &[("requests = 5", "requests   = 5\nburst = 5")],
        &[("auth = \"public\"", "auth = \"public\"\nmax_tunnels = 10000")],
    ] {
        let plan = edited(edits);
        assert!(!plan.differs(), "{edits:?}: {plan:?}");
        assert_eq!(changed(&plan), []);
    }
}

#[test]
fn a_changed_key_is_told_with_both_values_and_no_other_table_is() {
    let plan = edited(&[("requests = 5", "requests = 6")]);
    assert_eq!(changed(&plan), [("[rate_limit.few]", "changed")]);
    let [key] = &plan.tables[0].keys[..] else { panic!("{plan:?}") };
    assert_eq!((&*key.key, key.old.as_deref(), key.new.as_deref()), ("requests", Some("5"), Some("6")));
    assert_eq!(fates(&plan.rate_limits), [("few", "counts anew")]);
    assert!(plan.upstreams.iter().all(|(upstream, _)| upstream.fate == "kept"), "{plan:?}");
}

#[test]
fn a_table_before_the_others_moves_no_route() {
    let issuer =
        "[issuer.before]\nissuer = \"https://b.example\"\nsecret = { file = \"b.secret\" }\naudiences = [\"a\"]\n";
    let others = "[rate_limit.before]\nkey = \"route\"\nrequests = 1\nper_secs = 1\n[upstream.before]\nendpoints = [\"builtin:whoami\"]\n";
    let (with, limits) = (format!("{issuer}[issuer.one]"), format!("{others}[rate_limit.few]"));
    let plan = edited(&[("[issuer.one]", &with), ("[rate_limit.few]", &limits)]);
    let added = [("[issuer.before]", "added"), ("[rate_limit.before]", "added"), ("[upstream.before]", "added")];
    assert_eq!(changed(&plan), added);
    assert_eq!(fates(&plan.issuers), [("before", "added"), ("one", "kept"), ("two", "kept")]);
}

#[test]
fn a_route_that_goes_elsewhere_has_changed() {
    for (from, to) in [
        ("upstream = \"app\"", "upstream = \"other\""),
        ("auth = { issuer = \"two\" }", "auth = { issuer = \"one\" }"),
        ("rate_limits = [\"few\"]\n", ""),
        ("path = \"/api/\"", "path = \"/api2/\""),
    ] {
        let plan = edited(&[(from, to)]);
        assert_eq!(changed(&plan), [("[[route]] api", "changed")], "{to}");
        assert_eq!(plan.tables[0].keys.len(), 1, "{plan:?}");
    }
    let plan = edited(&[("name = \"rest\"", "name = \"all\"")]);
    assert_eq!(changed(&plan), [("[[route]] all", "added"), ("[[route]] rest", "removed")]);
}

#[test]
fn what_a_route_takes_from_limits_is_its_change_too() {
    let plan = edited(&[("[server]", "[limits]\nbody_bytes = 7\n[server]")]);
    let routes = [("[limits]", "added"), ("[[route]] api", "changed"), ("[[route]] rest", "changed")];
    assert!(changed(&plan).ends_with(&routes[1..]), "{plan:?}");
    assert!(plan.tables.last().unwrap().keys.is_empty(), "its own keys are as they were");
}

#[test]
fn another_content_of_a_file_is_a_change_and_is_not_shown() {
    let plan = between(&load(TEXT, &World("")), &load(TEXT, &World(" hunter2")));
    assert_eq!(changed(&plan), [("[issuer.one]", "changed"), ("[issuer.two]", "changed")]);
    assert_eq!(fates(&plan.issuers), [("one", "verifies anew"), ("two", "verifies anew")]);
    let shown = plan.to_json().to_string();
    assert!(!shown.contains("hunter2") && !shown.contains("a secret that"), "{shown}");
    let plan = edited(&[("file = \"two.secret\"", "file = \"three.secret\"")]);
    assert!(plan.to_json().to_string().contains("three.secret"), "which file is no secret");
}

#[test]
fn endpoints_are_added_dropped_and_connected_to_anew() {
    let plan = edited(&[("\"http://127.0.0.1:8002\"", "\"http://127.0.0.1:8003\"")]);
    let (app, endpoints) = &plan.upstreams[0];
    assert_eq!(app.fate, "changed");
    let (first, other, gone) = ("http://127.0.0.1:8001", "http://127.0.0.1:8003", "http://127.0.0.1:8002");
    assert_eq!(fates(endpoints), [(first, "kept"), (other, "added"), (gone, "dropped")]);
    let plan = edited(&[("[upstream.app]", "[upstream.app]\nread_timeout_secs = 7")]);
    assert_eq!(plan.upstreams[0].0.fate, "changed", "though connections are made as they were");
    assert_eq!(fates(&plan.upstreams[0].1), [(first, "kept"), (gone, "kept")]);
    let plan = edited(&[("[upstream.app]", "[upstream.app]\nkeep_alive_secs = 7")]);
    let again = [("http://127.0.0.1:8001", "connects anew"), ("http://127.0.0.1:8002", "connects anew")];
    assert_eq!(fates(&plan.upstreams[0].1), again);
    assert_eq!(fates(&plan.upstreams[1].1), [("builtin:whoami", "kept")]);
}

#[test]
fn a_listener_that_moves_is_closed_and_opened() {
    let plan = edited(&[("127.0.0.1:8080", "127.0.0.1:8081")]);
    assert_eq!(fates(&plan.listeners), [("http (127.0.0.1:8080)", "closed"), ("http (127.0.0.1:8081)", "opened")]);
    let plan = edited(&[("requests = 5", "requests = 6")]);
    assert_eq!(fates(&plan.listeners), [("http (127.0.0.1:8080)", "kept")]);
}

#[test]
fn what_waits_for_a_restart_is_told_apart_and_not_twice() {
    let plan = edited(&[("workers = 2", "workers = 3")]);
    assert!(plan.differs() && !plan.publishes);
    assert_eq!(changed(&plan), []);
    assert_eq!(
        (plan.waiting[0].key, &*plan.waiting[0].running, &*plan.waiting[0].file),
        ("[server] workers", "2", "3")
    );
    let plan = edited(&[("workers = 2", "workers = 3\ntoken_cache_entries = 9")]);
    assert_eq!(changed(&plan), [("[server]", "changed")]);
    assert_eq!(plan.tables[0].keys.len(), 1, "{plan:?}");
    assert!(plan.forgets_tokens && plan.waiting.len() == 1);
    let plan = edited(&[("[server]", "[admin]\naddress = \"127.0.0.1:9180\"\n[log]\nformat = \"json\"\n[server]")]);
    let waiting: Vec<_> = plan.waiting.iter().map(|waiting| waiting.key).collect();
    assert_eq!((changed(&plan), waiting), (vec![], vec!["[admin] address", "[log] besides level"]));
}

#[test]
fn a_limit_goes_on_counting_where_it_is_said_to() {
    let quota = Quota { requests: 1, per_secs: 60, burst: 1 };
    let by = CountedBy::Client { ipv6_prefix: 64 };
    let settings =
        LimitSettings { name: "a".into(), by, quota, entries: 1000, dry_run: false, headers: true, shared: false };
    for other in [
        settings.clone(),
        LimitSettings { dry_run: true, headers: false, ..settings.clone() },
        LimitSettings { entries: 2000, ..settings.clone() },
        LimitSettings { by: CountedBy::Route, ..settings.clone() },
        LimitSettings { quota: Quota { per_secs: 61, ..quota }, ..settings.clone() },
    ] {
        let now = Instant::now();
        let used = Limiter::new(settings.clone());
        used.take(used.account(Key::All), now);
        let next = Limiter::continuing(other.clone(), &used);
        let refused = matches!(next.take(next.account(Key::All), now), Decision::Refused { .. });
        assert_eq!(refused, carry::goes_on_counting(&settings, &other), "{other:?}");
    }
}
