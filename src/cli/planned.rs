//! What `portcullis reload` says: the plan of a reload, or what it has done, in lines for people.

use std::fmt::Write as _;

use serde_json::Value;

/// The answer of a gateway, or of a comparison, in words.
pub(super) fn described(said: &Value) -> String {
    let generation = said["generation"].as_u64();
    let mut text = match (said["outcome"].as_str(), generation) {
        (Some("live"), Some(number)) => format!("reloaded: generation {number} is live\n"),
        (Some("unchanged"), Some(number)) => format!("nothing changes: generation {number} is what the file says\n"),
        (Some("differs"), Some(number)) => format!("this would change in generation {number}, which runs:\n"),
        (Some("unchanged"), None) => "nothing changes: both files mean the same\n".to_owned(),
        (Some("differs"), None) => "this would change:\n".to_owned(),
        _ => format!("{said}\n"), // of a gateway that is newer
    };
    let plan = &said["plan"];
    tables(&mut text, plan);
    effects(&mut text, plan);
    let waiting = list(&plan["needs_restart"]);
    if !waiting.is_empty() {
        text.push_str("\nwaits for a restart or an upgrade, a reload does not change it:\n");
    }
    for waits in waiting {
        let (running, file) = (word(&waits["running"]), word(&waits["file"]));
        let values = if running.is_empty() { String::new() } else { format!(": {running} -> {file}") };
        line(&mut text, &format!("    {}{values}", word(&waits["key"])));
    }
    text
}

fn tables(text: &mut String, plan: &Value) {
    let tables = list(&plan["tables"]);
    for change in tables {
        let sign = match word(&change["change"]) {
            "added" => '+',
            "removed" => '-',
            _ => '~',
        };
        line(text, &format!("\n{sign} {}", word(&change["table"])));
        let keys = list(&change["keys"]);
        if keys.is_empty() && sign == '~' {
            line(text, "    what it takes from other tables, or from files, changes");
        }
        for key in keys {
            let name = word(&key["key"]);
            match (key["old"].as_str(), key["new"].as_str()) {
                (None, Some(new)) if sign == '+' => line(text, &format!("    {name}: {new}")),
                (Some(_), None) if sign == '-' => {}
                (old, new) => {
                    let (old, new) = (old.unwrap_or("(default)"), new.unwrap_or("(default)"));
                    line(text, &format!("    {name}: {old} -> {new}"));
                }
            }
        }
    }
    if tables.is_empty() && plan["publishes"] == true {
        line(text, "\nno table changes but their order, or which files are read");
    }
}

/// What becomes of what runs. What is simply kept is counted.
fn effects(text: &mut String, plan: &Value) {
    if plan["publishes"] != true {
        return;
    }
    text.push('\n');
    for (what, verb) in [("listeners", "listener"), ("rate_limits", "rate limit"), ("issuers", "issuer")] {
        for one in changed(&plan[what]) {
            let explained = match word(&one["fate"]) {
                "opened" => "is opened",
                "closed" => "is closed; its connections end by themselves",
                "counts anew" => "counts anew: what was used is forgotten",
                "verifies anew" => "changes: its tokens are verified anew",
                "added" => "is added",
                "removed" => "is removed",
                other => other,
            };
            line(text, &format!("{verb} {} {explained}", word(&one["name"])));
        }
    }
    if plan["forgets_tokens"] == true {
        line(text, "all tokens are verified anew");
    }
    for upstream in changed(&plan["upstreams"]) {
        for endpoint in list(&upstream["endpoints"]) {
            let explained = match word(&endpoint["fate"]) {
                "kept" => "keeps its connections and its health",
                "connects anew" => "connects anew and keeps its health",
                "added" => "is added",
                "dropped" => "is dropped; requests under way end there",
                other => other,
            };
            let (name, endpoint) = (word(&upstream["name"]), word(&endpoint["name"]));
            line(text, &format!("upstream {name}: {endpoint} {explained}"));
        }
    }
    let kept = |what: &str| list(&plan[what]).iter().filter(|one| one["fate"] == "kept").count();
    let counts = [
        (kept("listeners"), "listener"),
        (kept("upstreams"), "upstream"),
        (kept("rate_limits"), "rate limit"),
        (kept("issuers"), "issuer"),
    ];
    let words: Vec<_> = counts.iter().filter(|(count, _)| *count > 0).map(|(count, noun)| many(*count, noun)).collect();
    if !words.is_empty() {
        line(text, &format!("kept as they are, with their connections and counts: {}", words.join(", ")));
    }
}

fn many(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn changed(value: &Value) -> impl Iterator<Item = &Value> {
    list(value).iter().filter(|one| one["fate"] != "kept")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a string takes all that is written to it");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_is_told_table_by_table_with_what_becomes_of_what_runs() {
        let key = |key: &str, old: Option<&str>, new: Option<&str>| json!({ "key": key, "old": old, "new": new });
        let said = json!({ "outcome": "differs", "generation": 3, "plan": {
            "differs": true, "publishes": true,
            "tables": [
                { "table": "[upstream.app]", "change": "changed", "keys": [key("queue", None, Some("9")), key("kind", Some("\"http\""), None)] },
                { "table": "[listen.b]", "change": "added", "keys": [key("address", None, Some("\"127.0.0.1:2\""))] },
                { "table": "[[route]] old", "change": "removed", "keys": [key("path", Some("\"/old/\""), None)] },
                { "table": "[[route]] large", "change": "changed", "keys": [] },
            ],
            "listeners": [{ "name": "a (127.0.0.1:1)", "fate": "kept" }, { "name": "b (127.0.0.1:2)", "fate": "opened" }],
            "upstreams": [{ "name": "app", "fate": "changed", "endpoints": [{ "name": "http://h:1", "fate": "connects anew" }, { "name": "http://h:2", "fate": "dropped" }] }],
            "rate_limits": [{ "name": "login", "fate": "counts anew" }],
            "issuers": [],
            "forgets_tokens": false,
            "needs_restart": [{ "key": "[server] workers", "running": "1", "file": "2" }, { "key": "[log] besides level", "running": "", "file": "" }],
        }});
        let wanted = "\
this would change in generation 3, which runs:

~ [upstream.app]
    queue: (default) -> 9
    kind: \"http\" -> (default)

+ [listen.b]
    address: \"127.0.0.1:2\"

- [[route]] old

~ [[route]] large
    what it takes from other tables, or from files, changes

listener b (127.0.0.1:2) is opened
rate limit login counts anew: what was used is forgotten
upstream app: http://h:1 connects anew and keeps its health
upstream app: http://h:2 is dropped; requests under way end there
kept as they are, with their connections and counts: 1 listener

waits for a restart or an upgrade, a reload does not change it:
    [server] workers: 1 -> 2
    [log] besides level
";
        assert_eq!(described(&said), wanted);
    }

    #[test]
    fn where_nothing_changes_one_line_says_so() {
        let plan = json!({ "publishes": false, "tables": [], "listeners": [{ "name": "a", "fate": "kept" }] });
        let said = json!({ "outcome": "unchanged", "generation": 7, "plan": plan });
        assert_eq!(described(&said), "nothing changes: generation 7 is what the file says\n");
    }
}
