//! The list as its callers see it: against a naive model, across restarts and crashes, and its refusals.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const NOW: u64 = 1_000_000;

fn at(secs: u64) -> UnixSeconds {
    UnixSeconds::from_secs(secs)
}

fn settings(home: &Path) -> RevocationSettings {
    RevocationSettings {
        file: Some(home.join("revoked.txt")),
        journal: Some(home.join("revoked.journal")),
        entries: 1_000_000,
        shared: false,
        issuers: vec!["a".into(), "b".into()],
    }
}

/// A directory with an empty file of revocations.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    write(home.path(), "");
    home
}

fn write(home: &Path, text: &str) {
    std::fs::write(home.join("revoked.txt"), text).unwrap();
}

fn open(home: &Path) -> DenyList {
    DenyList::open(&settings(home), at(NOW)).unwrap()
}

fn jti(jti: &str) -> Entry {
    Entry { revoked: Revoked::Jti { jti: jti.into(), issuer: None }, until: None }
}

fn token<'a>(jti: &'a str, sub: &'a str, issued_at: Option<u64>) -> Presented<'a> {
    Presented { issuer: "a", jti: Some(jti), subject: Some(sub), issued_at: issued_at.map(at), digest: &[7; 32] }
}

#[test]
fn an_empty_list_denies_nothing_and_takes_nothing() {
    let list = DenyList::empty();
    assert!(!list.denies(&token("x", "y", None), at(NOW)) && list.is_empty() && !list.needs_digest());
    assert!(matches!(list.add(jti("x"), at(NOW)), Err(RevokeError::NoJournal)));
    assert!(!list.remove(&jti("x"), at(NOW)).unwrap());
    assert!(!list.reread(at(NOW)).unwrap());
}

#[test]
fn each_kind_denies_what_it_names_and_nothing_else() {
    let home = home();
    write(home.path(), "jti j\njti k issuer=b\nsub alice before=500\n");
    let list = open(home.path());
    let denied = |token: &Presented<'_>| list.denies(token, at(NOW));
    assert!(denied(&token("j", "x", Some(900))));
    assert!(!denied(&token("k", "x", Some(900))), "another issuer's");
    assert!(denied(&Presented { issuer: "b", ..token("k", "x", Some(900)) }));
    assert!(denied(&token("x", "alice", Some(499))) && denied(&token("x", "alice", None)));
    assert!(!denied(&token("x", "alice", Some(500))) && !denied(&token("alice", "j", Some(1))));
    assert!(!list.needs_digest());
    list.add(Entry { revoked: Revoked::Token { digest: [7; 32] }, until: None }, at(NOW)).unwrap();
    assert!(list.needs_digest() && denied(&token("x", "x", Some(900))));
    assert!(!denied(&Presented { digest: &[8; 32], ..token("x", "x", Some(900)) }));
    assert_eq!(list.counts(), RevokedCounts { jti: 2, sub: 1, token: 1 });
}

#[test]
fn what_was_acknowledged_survives_a_restart() {
    let home = home();
    let list = open(home.path());
    let entries = [jti("a"), jti("b c\n"), Entry::of_token("x.y.z", Some(NOW + 5))];
    for entry in &entries {
        assert_eq!(list.add(entry.clone(), at(NOW)).unwrap(), Added::New);
    }
    assert_eq!(list.add(jti("a"), at(NOW)).unwrap(), Added::Known);
    assert!(list.remove(&jti("a"), at(NOW)).unwrap() && !list.remove(&jti("a"), at(NOW)).unwrap());
    drop(list);
    let journal = std::fs::read_to_string(home.path().join("revoked.journal")).unwrap();
    assert!(!journal.contains("x.y.z"), "a token is never written: {journal}");
    let list = open(home.path());
    assert_eq!(list.list(10), [entries[2].clone(), entries[1].clone()]);
    drop(list);
    let late = DenyList::open(&settings(home.path()), at(NOW + 305)).unwrap();
    assert_eq!(late.list(10), [entries[1].clone()], "what expired is dropped");
    assert_eq!(std::fs::read_to_string(home.path().join("revoked.journal")).unwrap().lines().count(), 1);
}

#[test]
fn a_journal_torn_by_a_crash_loses_its_last_line_alone() {
    let home = home();
    let path = home.path().join("revoked.journal");
    let list = open(home.path());
    list.add(jti("a"), at(NOW)).unwrap();
    list.add(jti("b"), at(NOW)).unwrap();
    drop(list);
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in first..=whole.len() {
        std::fs::write(&path, &whole[..cut]).unwrap();
        let list = open(home.path());
        assert!(list.denies(&token("a", "", None), at(NOW)));
        assert_eq!(list.denies(&token("b", "", None), at(NOW)), cut >= whole.len() - 1, "{cut}");
        list.add(jti("c"), at(NOW)).unwrap();
        drop(list);
        assert!(open(home.path()).denies(&token("c", "", None), at(NOW)), "what follows a torn line is read");
    }
    std::fs::write(&path, [&whole[..], b"\0\0\0\0\0"].concat()).unwrap();
    assert_eq!(open(home.path()).len(), 2, "a file that grew before its bytes came ends in zeros");
}

#[test]
fn a_journal_that_is_broken_elsewhere_is_refused_by_line() {
    let home = home();
    let good = r#"{"add":{"jti":"a"}}"#;
    for bad in ["", "x", "{}", r#"{"add":{}}"#, r#"{"ad":{"jti":"a"}}"#, r#"{"add":{"jti":"a"},"add":{"jti":"b"}}"#] {
        std::fs::write(home.path().join("revoked.journal"), format!("{good}\n{bad}\n{good}\n")).unwrap();
        let refused = DenyList::open(&settings(home.path()), at(NOW)).unwrap_err();
        assert!(matches!(refused, RevokeError::Corrupt { line: 2, .. }), "{bad}: {refused}");
    }
}

#[test]
fn a_journal_has_one_keeper_and_is_for_nobody_else_to_read() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = home();
    let list = open(home.path());
    assert!(matches!(DenyList::open(&settings(home.path()), at(NOW)), Err(RevokeError::Locked { .. })));
    let mode = std::fs::metadata(home.path().join("revoked.journal")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(list);
    open(home.path());
}

#[test]
fn a_journal_that_cannot_be_written_adds_nothing_and_recovers() {
    let home = home();
    let journals = home.path().join("journals");
    std::fs::create_dir(&journals).unwrap();
    let settings = RevocationSettings { journal: Some(journals.join("j")), ..settings(home.path()) };
    let list = DenyList::open(&settings, at(NOW)).unwrap();
    list.add(jti("a"), at(NOW)).unwrap();
    lock(&list.desk).journal.as_mut().unwrap().lose();
    let moved = home.path().join("moved");
    std::fs::rename(&journals, &moved).unwrap();
    let version = list.version();
    assert!(matches!(list.add(jti("b"), at(NOW)), Err(RevokeError::Journal { .. })));
    assert!(matches!(list.add(jti("b"), at(NOW)), Err(RevokeError::Journal { .. })));
    assert_eq!((list.len(), list.version()), (1, version));
    std::fs::rename(&moved, &journals).unwrap();
    list.add(jti("c"), at(NOW)).unwrap();
    drop(list);
    assert_eq!(DenyList::open(&settings, at(NOW)).unwrap().list(9), [jti("c"), jti("a")]);
}

#[test]
fn a_journal_is_compacted_when_it_has_doubled() {
    let home = home();
    let list = open(home.path());
    for number in 0..1200 {
        list.add(jti("same"), at(NOW)).unwrap();
        assert!(list.remove(&jti("same"), at(NOW)).unwrap(), "{number}");
    }
    let lines = std::fs::read_to_string(home.path().join("revoked.journal")).unwrap().lines().count();
    assert!(lines <= 1100, "{lines}");
}

#[test]
fn a_file_with_a_fault_changes_nothing() {
    let home = home();
    write(home.path(), "jti a\n");
    let list = open(home.path());
    let version = list.version();
    assert!(!list.reread(at(NOW)).unwrap(), "nothing changed");
    write(home.path(), "jti b\nnonsense\n");
    let refused = list.reread(at(NOW)).unwrap_err();
    assert!(refused.to_string().contains("revoked.txt"), "{refused}");
    assert!(matches!(refused, RevokeError::Line { fault: LineFault { line: 2, .. }, .. }));
    assert!(list.reread(at(NOW)).is_err(), "it is refused until it is good");
    std::fs::remove_file(home.path().join("revoked.txt")).unwrap();
    assert!(matches!(list.reread(at(NOW)), Err(RevokeError::File { .. })));
    assert_eq!((list.list(9), list.version()), (vec![jti("a")], version));
    write(home.path(), "jti b\n");
    assert!(list.reread(at(NOW)).unwrap());
    assert_eq!(list.list(9), [jti("b")]);
    assert_ne!(list.version(), version);
}

#[test]
fn the_bound_refuses_additions_until_something_expires() {
    let home = home();
    let settings = RevocationSettings { entries: 2, ..settings(home.path()) };
    let list = DenyList::open(&settings, at(NOW)).unwrap();
    let short = Entry { until: Some(NOW + 1), ..jti("short") };
    list.add(short.clone(), at(NOW)).unwrap();
    list.add(jti("a"), at(NOW)).unwrap();
    assert!(matches!(list.add(jti("b"), at(NOW)), Err(RevokeError::Full(2))));
    assert_eq!(list.add(Entry { until: Some(NOW + 2), ..short }, at(NOW)).unwrap(), Added::Extended);
    list.add(jti("b"), at(NOW + 302)).unwrap();
    assert_eq!(list.list(9), [jti("b"), jti("a")]);
    write(home.path(), "jti x\njti y\njti z\n");
    assert!(matches!(list.reread(at(NOW)), Err(RevokeError::FileTooLong { bound: 2, .. })));
}

#[test]
fn what_would_deny_nothing_is_refused() {
    let home = home();
    write(home.path(), "jti listed\n");
    let list = open(home.path());
    let past = Entry { until: Some(NOW - 300), ..jti("a") };
    assert!(matches!(list.add(past, at(NOW)), Err(RevokeError::Past)));
    let misspelt = Entry { revoked: Revoked::Jti { jti: "a".into(), issuer: Some("c".into()) }, until: None };
    assert!(matches!(list.add(misspelt, at(NOW)), Err(RevokeError::NoIssuer)));
    assert!(matches!(list.remove(&jti("listed"), at(NOW)), Err(RevokeError::InFile { .. })));
}

#[test]
fn changed_settings_keep_an_open_journal_and_let_go_of_another() {
    let home = home();
    let list = open(home.path());
    list.add(jti("a"), at(NOW)).unwrap();
    let other = RevocationSettings { file: None, entries: 5, ..settings(home.path()) };
    list.apply(list.prepare(Some(&other), at(NOW)).unwrap());
    assert_eq!(list.list(9), [jti("a")]);
    let moved = RevocationSettings { journal: Some(home.path().join("other.journal")), ..other };
    list.apply(list.prepare(Some(&moved), at(NOW)).unwrap());
    assert!(list.is_empty());
    assert!(open(home.path()).denies(&token("a", "", None), at(NOW)), "the old journal is unlocked and whole");
    list.add(jti("b"), at(NOW)).unwrap();
    let version = list.version();
    list.apply(list.prepare(None, at(NOW)).unwrap());
    assert!(list.is_empty() && list.version() != version);
    assert!(matches!(list.add(jti("b"), at(NOW)), Err(RevokeError::NoJournal)));
}

#[test]
fn a_journal_that_is_lent_denies_on_and_takes_nothing_until_it_is_back() {
    let home = home();
    let list = open(home.path());
    list.add(jti("a"), at(NOW)).unwrap();
    list.lend_journal();
    assert!(list.denies(&token("a", "", None), at(NOW)));
    assert!(matches!(list.add(jti("b"), at(NOW)), Err(RevokeError::Lent)));
    assert!(matches!(list.remove(&jti("a"), at(NOW)), Err(RevokeError::Lent)));
    let other = open(home.path());
    other.add(jti("c"), at(NOW)).unwrap();
    drop(other);
    list.apply(list.prepare(Some(&settings(home.path())), at(NOW)).unwrap());
    assert!(list.denies(&token("c", "", None), at(NOW)), "what the borrower added is taken over");
    list.add(jti("b"), at(NOW)).unwrap();
}

#[test]
fn a_check_judges_lines_and_names_issuers() {
    let found = check_revocations(b"jti a issuer=x\njti b issuer=y\njti c issuer=x\n").unwrap();
    assert_eq!(found, RevokedSummary { entries: 3, issuers: vec![(1, "x".into()), (2, "y".into())] });
    assert_eq!(check_revocations(b"\njti\n").unwrap_err().line, 2);
}

/// What happens to a list.
#[derive(Debug, Clone)]
enum Step {
    Add(Entry),
    Remove(Entry),
    Reread(Vec<Entry>),
    Reopen,
    Later(u64),
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let issuer = || prop::option::of(prop::sample::select(vec!["a", "b"]).prop_map(Box::from));
    let name = || prop::sample::select(vec!["x", "y", "z w"]).prop_map(Box::from);
    let revoked = prop_oneof![
        (name(), issuer()).prop_map(|(jti, issuer)| Revoked::Jti { jti, issuer }),
        (name(), NOW - 5..NOW + 5, issuer()).prop_map(|(sub, before, issuer)| Revoked::Sub { sub, before, issuer }),
        (0_u8..3).prop_map(|byte| Revoked::Token { digest: [byte; 32] }),
    ];
    (revoked, prop::option::of(NOW - 100..NOW + 100)).prop_map(|(revoked, until)| Entry { revoked, until })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => any_entry().prop_map(Step::Add),
        2 => any_entry().prop_map(Step::Remove),
        1 => prop::collection::vec(any_entry(), 0..4).prop_map(Step::Reread),
        1 => Just(Step::Reopen),
        1 => (0_u64..40).prop_map(Step::Later),
    ]
}

/// Everything by kind, value and issuer, in two plain maps that nothing ever leaves but by removal.
#[derive(Default)]
struct Model {
    file: BTreeMap<String, Entry>,
    journal: BTreeMap<String, Entry>,
}

fn name_of(entry: &Entry) -> String {
    match &entry.revoked {
        Revoked::Jti { jti, issuer } => format!("jti {jti} {issuer:?}"),
        Revoked::Sub { sub, issuer, .. } => format!("sub {sub} {issuer:?}"),
        Revoked::Token { digest } => format!("token {digest:?}"),
    }
}

fn put(map: &mut BTreeMap<String, Entry>, entry: &Entry) {
    map.entry(name_of(entry)).and_modify(|known| *known = known.joined(entry)).or_insert_with(|| entry.clone());
}

fn holds(entry: &Entry, now: u64) -> bool {
    entry.until.is_none_or(|until| now < until + 300)
}

impl Model {
    fn denies(&self, token: &Presented<'_>, now: u64) -> bool {
        self.file.values().chain(self.journal.values()).any(|entry| {
            holds(entry, now)
                && match &entry.revoked {
                    Revoked::Jti { jti, issuer } => {
                        token.jti == Some(jti) && issuer.as_deref().is_none_or(|issuer| issuer == token.issuer)
                    }
                    Revoked::Sub { sub, before, issuer } => {
                        token.subject == Some(sub)
                            && issuer.as_deref().is_none_or(|issuer| issuer == token.issuer)
                            && token.issued_at.is_none_or(|issued| issued.as_secs() < *before)
                    }
                    Revoked::Token { digest } => token.digest == digest,
                }
        })
    }
}

fn line_of(entry: &Entry) -> String {
    let json = entry.to_json();
    let option = |name: &str| json.get(name).map(|value| format!(" {name}={value}")).unwrap_or_default();
    let (word, value) = ["jti", "sub"]
        .iter()
        .find_map(|word| Some((*word, json.get(word)?.clone())))
        .unwrap_or_else(|| ("token", json["token_sha256"].clone()));
    format!("{word} {value}{}{}{}\n", option("issuer"), option("before"), option("until"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_list_agrees_with_a_naive_model(steps in prop::collection::vec(any_step(), 1..30)) {
        let home = home();
        let (mut list, mut model, mut now) = (open(home.path()), Model::default(), NOW);
        for step in steps {
            match step {
                Step::Add(entry) => {
                    let added = list.add(entry.clone(), at(now));
                    prop_assert_eq!(added.is_ok(), holds(&entry, now));
                    if added.is_ok() {
                        put(&mut model.journal, &entry);
                    }
                }
                Step::Remove(entry) => {
                    if let Ok(removed) = list.remove(&entry, at(now)) {
                        let known = model.journal.remove(&name_of(&entry));
                        let expired = known.as_ref().is_some_and(|known| !holds(known, now));
                        prop_assert!(removed == known.is_some() || expired);
                    }
                }
                Step::Reread(entries) => {
                    write(home.path(), &entries.iter().map(line_of).collect::<String>());
                    list.reread(at(now)).unwrap();
                    model.file.clear();
                    // Expired lines are left out before lines of one key are joined.
                    for entry in entries.iter().filter(|entry| holds(entry, now)) {
                        put(&mut model.file, entry);
                    }
                }
                Step::Reopen => {
                    drop(list);
                    list = DenyList::open(&settings(home.path()), at(now)).unwrap();
                    model.journal.retain(|_, entry| holds(entry, now));
                }
                Step::Later(secs) => now += secs,
            }
            for jti in ["x", "y", "z w"] {
                for (issuer, byte, issued_at) in [("a", 0, None), ("b", 1, Some(NOW)), ("c", 2, Some(NOW - 3))] {
                    let digest = [byte; 32];
                    let issued_at = issued_at.map(at);
                    let token = Presented { issuer, jti: Some(jti), subject: Some(jti), issued_at, digest: &digest };
                    prop_assert_eq!(list.denies(&token, at(now)), model.denies(&token, now), "{:?} {}", token, now);
                    let bare = Presented { jti: None, subject: None, digest: &[9; 32], ..token };
                    prop_assert!(!list.denies(&bare, at(now)));
                }
            }
        }
    }
}
