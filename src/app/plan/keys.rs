//! The keys of a configuration as its author wrote them: table by table, and what differs between two files.
//!
//! Knows the language only as far as to cut it into tables. Never shows a secret: they stand in files and variables, whose names are shown;
//! what could hold one all the same is hidden.

use std::collections::BTreeMap;

use toml::{Table, Value};

/// What a key says, by its path within its table.
pub(super) type Keys = BTreeMap<String, String>;

/// A key that says something else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeyChange {
    pub(super) key: String,
    /// Without it the default holds.
    pub(super) old: Option<String>,
    pub(super) new: Option<String>,
}

const HIDDEN: &str = "(hidden)";
/// Tables of tables, each with a name.
const NAMED: [&str; 4] = ["issuer", "listen", "rate_limit", "upstream"];

/// How a table is called that has this name in the file: `[upstream.app]`.
pub(super) fn label(kind: &str, name: &str) -> String {
    match kind {
        "route" => format!("[[route]] {name}"),
        _ => format!("[{kind}.{name}]"),
    }
}

/// The tables of a file that was read before, by their labels.
pub(super) fn tables(text: &str) -> BTreeMap<String, Keys> {
    let mut tables = BTreeMap::new();
    let file: Table = text.parse().unwrap_or_default();
    for (kind, value) in &file {
        match value {
            Value::Table(named) if NAMED.contains(&&**kind) => {
                tables.extend(named.iter().map(|(name, value)| (label(kind, name), keys(value))));
            }
            Value::Array(routes) if kind == "route" => {
                let name = |route: &Value| route.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
                tables.extend(routes.iter().map(|route| (label(kind, &name(route)), keys(route))));
            }
            value => drop(tables.insert(format!("[{kind}]"), keys(value))),
        }
    }
    tables
}

/// What differs, in the order of the keys.
pub(super) fn changes(old: &Keys, new: &Keys) -> Vec<KeyChange> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let change = |name: &String| {
        let (old, new) = (old.get(name), new.get(name));
        (old != new).then(|| KeyChange { key: name.clone(), old: old.cloned(), new: new.cloned() })
    };
    names.into_iter().filter_map(change).collect()
}

fn keys(table: &Value) -> Keys {
    let mut keys = Keys::new();
    flatten("", table, &mut keys);
    keys
}

fn flatten(path: &str, value: &Value, into: &mut Keys) {
    match value {
        Value::Table(table) if path.is_empty() || !table.is_empty() => {
            for (key, value) in table {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                flatten(&path, &shown(key, value), into);
            }
        }
        value => drop(into.insert(path.to_owned(), value.to_string())),
    }
}

/// What may be shown of a value.
fn shown(key: &str, value: &Value) -> Value {
    match value {
        Value::String(_) if key.contains("secret") || key.contains("password") => HIDDEN.into(),
        Value::String(text) => without_userinfo(text).into(),
        Value::Array(items) => Value::Array(items.iter().map(|item| shown(key, item)).collect()),
        Value::Table(table) => {
            Value::Table(table.iter().map(|(key, value)| (key.clone(), shown(key, value))).collect())
        }
        other => other.clone(),
    }
}

/// A URL may hold a password before its host (RFC 3986 section 3.2.1).
fn without_userinfo(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{HIDDEN}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_cut_into_its_tables() {
        let text = "[server]\nworkers = 2\n[upstream.app]\nendpoints = [\"http://127.0.0.1:1\"]\nprobe = { path = \"/up\" }\n\
                    [redis]\nurl = \"redis://10.0.0.1\"\n[[route]]\nname = \"api\"\nmethods = []\nauth = \"public\"\n";
        let tables = tables(text);
        let labels: Vec<_> = tables.keys().map(String::as_str).collect();
        assert_eq!(labels, ["[[route]] api", "[redis]", "[server]", "[upstream.app]"]);
        assert_eq!(tables["[upstream.app]"]["endpoints"], "[\"http://127.0.0.1:1\"]");
        assert_eq!(tables["[upstream.app]"]["probe.path"], "\"/up\"");
        assert_eq!(tables["[[route]] api"]["methods"], "[]");
    }

    #[test]
    fn a_key_is_added_removed_or_changed() {
        let tables = ["[limits]\na = 1\nb = 2\nc = [1, 2]", "[limits]\nb = 3\nc = [1, 2]\nd = true"].map(tables);
        let said: Vec<_> = changes(&tables[0]["[limits]"], &tables[1]["[limits]"])
            .into_iter()
            .map(|change| (change.key, change.old, change.new))
            .collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            said,
            [
                ("a".to_owned(), some("1"), None),
                ("b".to_owned(), some("2"), some("3")),
                ("d".to_owned(), None, some("true"))
            ]
        );
    }

    #[test]
    fn what_may_hold_a_secret_is_hidden() {
        let text = "[issuer.a]\nsecret = { env = \"THE_NAME\" }\n[redis]\nurl = \"rediss://app:hunter2@10.0.0.1:6379/0?x=@\"\npassword = \"hunter2\"\n\
                    [[route]]\nname = \"r\"\nauth = { signed_links = { secrets = [\"hunter2\", { file = \"a.secret\" }] } }\n\
                    urls = [\"http://hunter2@a/\", \"http://a/@\"]\n";
        let tables = tables(text);
        assert!(!format!("{tables:?}").contains("hunter2"), "{tables:?}");
        assert_eq!(tables["[issuer.a]"]["secret.env"], "\"THE_NAME\"");
        assert_eq!(tables["[redis]"]["url"], "\"rediss://(hidden)@10.0.0.1:6379/0?x=@\"");
        assert!(tables["[[route]] r"]["auth.signed_links.secrets"].contains("a.secret"), "{tables:?}");
        assert!(tables["[[route]] r"]["urls"].contains("http://a/@"), "{tables:?}");
    }
}
