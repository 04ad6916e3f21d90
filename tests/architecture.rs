//! The walls of the house, read from its source: who may import whom, who alone may do what, and what is nowhere.
//!
//! ARCHITECTURE.md gives the reasons. A failure says what to do; an exception is an entry in a list here, with its reason.

#![allow(clippy::unwrap_used)]

#[path = "architecture/source.rs"]
mod source;

use std::sync::LazyLock;

use source::{File, files, line_of, name_at, words};

/// Leaf vocabulary: they know no other room, but for `http`, whose bodies wait.
const LEAVES: [&str; 7] = ["deadline", "fetch", "http", "observe", "proxy_protocol", "redis", "shutdown"];
/// What a request passes through.
const STAGES: [&str; 7] = ["auth", "files", "limit", "listen", "route", "tls", "upstream"];
/// Where the stages meet.
const SERVING: [&str; 2] = ["serve", "snapshot"];
/// What the process begins with. `main` only calls `cli`, `lib` only lists the rooms.
const EDGE: [&str; 4] = ["app", "cli", "main", "lib"];

const LONGEST_FILE: usize = 600;
const LONGEST_FUNCTION: usize = 70;

static SRC: LazyLock<Vec<File>> = LazyLock::new(|| files("src"));
static BESIDE: LazyLock<Vec<File>> =
    LazyLock::new(|| [files("tests"), files("benches")].into_iter().flatten().collect());

/// Fails with one line a finding, after what the rule is and what to do.
fn wall(rule: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<_> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}\n  {}\n", findings.join("\n  "));
}

fn room(file: &File) -> &str {
    file.path.trim_start_matches("src/").split('/').next().unwrap().trim_end_matches(".rs")
}

/// Every place where a file of `rooms` names a room that is neither its own nor `allowed`.
fn trespasses(rooms: &[&str], allowed: &[&[&str]]) -> Vec<String> {
    let mut found = Vec::new();
    for file in SRC.iter().filter(|file| rooms.contains(&room(file))) {
        for (line, named) in file.rooms_named() {
            if named != room(file) && !allowed.iter().any(|rooms| rooms.contains(&named)) {
                found.push(format!("{}:{line} names `{named}`", file.path));
            }
        }
    }
    found
}

/// Every place in `files` where `word` stands by itself in the code.
fn uses_of(word: &str, among: impl Fn(&str) -> bool) -> Vec<String> {
    let found = |file: &File| {
        let at = |at| format!("{}:{}", file.path, line_of(&file.code, at));
        words(&file.code, word).map(at).collect::<Vec<_>>()
    };
    SRC.iter().filter(|file| among(&file.path)).flat_map(found).collect()
}

/// The source, the tests and the benchmarks.
fn everything() -> impl Iterator<Item = &'static File> {
    SRC.iter().chain(&*BESIDE)
}

#[test]
fn every_room_has_its_place() {
    let known = |name| [&LEAVES[..], &STAGES, &SERVING, &["config"], &EDGE].iter().any(|rooms| rooms.contains(&name));
    wall(
        "a top-level module belongs to a layer: add it to LEAVES, STAGES, SERVING or EDGE here, and to ARCHITECTURE.md",
        SRC.iter().filter(|file| !known(room(file))).map(|file| file.path.clone()),
    );
}

#[test]
fn a_leaf_imports_no_other_room() {
    let rule = "a leaf knows nobody: hand it what it needs as an argument, or move the code to the stage that knows";
    wall(rule, trespasses(&["deadline", "fetch", "observe", "proxy_protocol", "redis", "shutdown"], &[]));
    wall(rule, trespasses(&["http"], &[&["deadline"]]));
}

#[test]
fn a_stage_imports_leaves_only() {
    wall(
        "a stage knows no other stage, no configuration and not who calls it: join stages in `serve`, put shared \
         vocabulary into a leaf, give the stage a settings struct that `config::compile` fills in",
        trespasses(&STAGES, &[&LEAVES]),
    );
}

#[test]
fn serving_knows_the_stages_and_not_how_they_were_configured() {
    wall(
        "`serve` and `snapshot` import stages and leaves: what they need of the configuration, `app::assemble` puts into \
         the snapshot",
        trespasses(&SERVING, &[&LEAVES, &STAGES, &SERVING]),
    );
}

#[test]
fn configuration_knows_settings_and_nobody_above() {
    wall(
        "`config` imports stages, leaves and the settings of `serve`: what acts on a configuration belongs to `app`",
        trespasses(&["config"], &[&LEAVES, &STAGES, &["serve"]]),
    );
    let mut beyond = Vec::new();
    for file in SRC.iter().filter(|file| room(file) == "config") {
        for at in words(&file.code, "serve") {
            let used = file.code[at..].strip_prefix("serve::").map(name_at);
            if used.is_some_and(|name| !["Limits", "ErrorPage"].contains(&name)) {
                beyond.push(format!("{}:{}", file.path, line_of(&file.code, at)));
            }
        }
    }
    wall("of `serve`, `config` fills in `Limits` and `ErrorPage`s and uses nothing else", beyond);
}

#[test]
fn nobody_imports_the_command_line() {
    wall(
        "`app` runs without a command line: pass what it needs as an argument",
        trespasses(&["app"], &[&LEAVES, &STAGES, &SERVING, &["config"]]),
    );
    let outside = SRC.iter().filter(|file| room(file) != "main");
    let named =
        outside.filter(|file| words(&file.code, "portcullis").any(|at| file.code[at..].contains("portcullis::")));
    wall("inside of the library a path begins with `crate::`", named.map(|file| file.path.clone()));
}

/// The shape of `gateway.toml` is `raw` and the files below it; `entry` and `shapes` are its containers, written by hand for the sake of their error
/// messages; `mod` calls them. `auth/json.rs` reads claims, not the file, and implements no `Deserialize`.
#[test]
fn only_raw_derives_deserialize_for_the_file() {
    const HOMES: [&str; 3] = ["src/config/entry.rs", "src/config/shapes.rs", "src/config/mod.rs"];
    let raw = |path: &str| path == "src/config/raw.rs" || path.starts_with("src/config/raw/");
    wall(
        "what is typed in gateway.toml is a struct of config/raw.rs, which `config::compile` turns into a stage's settings",
        uses_of("Deserialize", |path| !raw(path) && !HOMES.contains(&path)),
    );
    let derived = SRC.iter().filter(|file| !raw(&file.path));
    let derived = derived.filter(|file| {
        file.code
            .match_indices("derive(")
            .any(|(at, _)| file.code[at..].split(')').next().is_some_and(|list| list.contains("Deserialize")))
    });
    wall("only config/raw.rs derives Deserialize", derived.map(|file| file.path.clone()));
}

/// Everything sent to Redis has a bounded time, and whoever gets no answer takes part in finding out that it is gone.
#[test]
fn only_one_room_talks_to_redis() {
    const ASKING: [&str; 3] = ["src/limit/fleet.rs", "src/app/sharing.rs", "src/app/limits.rs"];
    let client = SRC.iter().filter(|file| room(file) != "redis" && !file.is_test);
    let client = client.filter(|file| {
        file.code
            .split("mod tests")
            .next()
            .is_some_and(|code| code.contains(" ::redis::") || code.contains("(::redis::"))
    });
    wall(
        "the crate `redis` is used in src/redis alone: ask through `crate::redis::Redis`",
        client.map(|file| file.path.clone()),
    );
    let wiring =
        |path: &str| path.starts_with("src/redis/") || path.starts_with("src/config/") || path == "src/app/assemble.rs";
    wall(
        "what is asked of Redis is asked by `limit::fleet` and `app::sharing`: a stage that wants to share goes through them",
        uses_of("Redis", |path| !ASKING.contains(&path) && !wiring(path)),
    );
}

#[test]
fn only_metrics_name_metrics() {
    let home = |path: &str| path == "src/observe/metrics.rs" || path.starts_with("src/observe/metrics/");
    let named = |file: &File| {
        let mine = file.literals.iter().filter(|(_, literal)| literal.contains("\"portcullis_"));
        mine.map(|(line, _)| format!("{}:{line}", file.path)).collect::<Vec<_>>()
    };
    wall(
        "metric families are constants of observe/metrics.rs, listed in FAMILIES and docs/metrics.md: count through a meter",
        SRC.iter().filter(|file| !home(&file.path)).flat_map(named),
    );
}

/// Who else may name a status, and why that is no failure's.
#[test]
fn only_respond_knows_the_status_of_a_failure() {
    const OTHERS: [(&str, &str); 15] = [
        ("src/serve/redirect.rs", "the status of a redirect"),
        ("src/serve/publish.rs", "a document that the client has already: 304"),
        ("src/serve/preflight.rs", "the answer to a preflight: 204"),
        ("src/snapshot.rs", "the status of a configured redirect"),
        ("src/config/values.rs", "the status of a configured redirect"),
        ("src/config/compile/action.rs", "the four redirects that may be configured"),
        ("src/files/answer.rs", "the successes of a file: 200, 206, 301 and 304"),
        ("src/files/lists.rs", "a listing that the client has already: 304"),
        ("src/serve/upgrade.rs", "the successes of a tunnel: 101, and 200 over HTTP/2"),
        ("src/upstream/forward.rs", "the one status of an upstream that is never forwarded: 101"),
        ("src/upstream/upgrade.rs", "the one status by which an endpoint agrees to a tunnel: 101"),
        ("src/observe/admin.rs", "the admin listener, which is a server of its own"),
        ("src/observe/admin/drains.rs", "the admin listener, which is a server of its own"),
        ("src/observe/admin/reload.rs", "the admin listener, which is a server of its own"),
        ("src/observe/admin/revocations.rs", "the admin listener, which is a server of its own"),
    ];
    let home = |path: &str| path == "src/serve/respond.rs" || OTHERS.iter().any(|(other, _)| *other == path);
    wall(
        "a failure is a variant of its stage's error; its status is a row of the table in serve/respond.rs",
        uses_of("StatusCode", |path| !home(path)),
    );
}

#[test]
fn the_tables_of_failures_have_no_row_for_the_rest() {
    const TABLES: [(&str, &[&str]); 2] = [
        ("src/serve/respond.rs", &["status", "target_status", "handshake_status", "upstream_status", "denied_status"]),
        ("src/serve/grpc.rs", &["code", "target_code", "upstream_code", "denied_code"]),
    ];
    for (path, tables) in TABLES {
        let file = SRC.iter().find(|file| file.path == path).unwrap();
        let functions = file.functions();
        for table in tables {
            let function = functions.iter().find(|function| function.name == *table);
            let function = function.unwrap_or_else(|| panic!("{path} has no table `{table}`"));
            let body: Vec<_> = file.code.lines().skip(function.line - 1).take(function.lines).collect();
            let caught = body.iter().any(|line| line.trim_start().starts_with("_ =>"));
            assert!(
                !caught,
                "`{table}` has an arm for all the rest: give every variant a row, so that a new one is noticed"
            );
        }
    }
}

/// What a gRPC client is told, and who may say it. The metrics have the names of the codes, `http` their numbers.
#[test]
fn only_one_table_knows_the_code_of_a_failure() {
    let home = |path: &str| ["src/serve/grpc.rs", "src/http/grpc.rs"].contains(&path);
    // HTTP/3 has codes of its own; whoever means those of gRPC has to say so.
    let says_so = |file: &&File| words(&file.code, "grpc").next().is_some();
    let named = SRC.iter().filter(|file| !home(&file.path)).filter(says_so).flat_map(|file| {
        let codes = words(&file.code, "Code").filter(|at| file.code[*at..].starts_with("Code::"));
        codes.map(|at| format!("{}:{}", file.path, line_of(&file.code, at))).collect::<Vec<_>>()
    });
    wall("a failure's gRPC code is a row of the table in serve/grpc.rs", named);
}

#[test]
fn only_the_judge_hands_out_permits() {
    let all = &*SRC;
    let permit = all.iter().find(|file| file.path == "src/auth/permit.rs").unwrap();
    let (before, after) = permit.code.split_once("pub struct Permit").unwrap();
    let fields = after.split(';').next().unwrap();
    assert!(!fields.contains("pub"), "a field of Permit is public: then anybody can make one");
    let attributes = before.rsplit('}').next().unwrap();
    assert!(!attributes.contains("derive"), "Permit derives nothing: a copy or a default is a permit nobody granted");
    let mut makers = Vec::new();
    for file in all {
        for function in file.functions() {
            let public = function.signature.trim_start().starts_with("pub ");
            let given = function.signature.rsplit_once("->").map_or("", |(_, given)| given);
            let own = file.path == permit.path && words(given, "Self").next().is_some();
            if public && (own || words(given, "Permit").next().is_some()) {
                makers.push(format!("{}:{} {}", file.path, function.line, function.name));
            }
        }
    }
    makers.retain(|maker| !(maker.starts_with("src/auth/authority.rs:") && maker.ends_with(" authorize")));
    wall("only Authority::authorize returns a Permit to other rooms", makers);
    let conversions = all.iter().flat_map(|file| {
        let found = words(&file.code, "Permit").filter(|at| file.code[..*at].ends_with(" for "));
        let found = found.filter(|at| !file.code[..*at].ends_with("fmt::Debug for "));
        found.map(|at| format!("{}:{}", file.path, line_of(&file.code, at))).collect::<Vec<_>>()
    });
    wall("Permit implements Debug and nothing else: a conversion would be another way to make one", conversions);
}

/// `Tasks` counts what a drain waits for. Connections of the admin listener outlast the drain on purpose, so that `/readyz` can
/// tell of it; they have a tracker and a deadline of their own.
#[test]
fn only_counted_tasks_are_spawned() {
    const TRACKERS: [&str; 3] = ["src/shutdown.rs", "src/observe/admin.rs", "src/app/operators.rs"];
    let rule = "a task nobody counts is a request that a drain cuts off: spawn on `shutdown::Tasks`";
    let bare = |file: &File| {
        let names = ["tokio::spawn", "task::spawn", "task::spawn_local", "spawn_local"];
        let found =
            names.iter().flat_map(|name| words(&file.code, name).map(|at| line_of(&file.code, at)).collect::<Vec<_>>());
        found.map(|line| format!("{}:{line}", file.path)).collect::<Vec<_>>()
    };
    wall(rule, SRC.iter().filter(|file| file.path != "src/shutdown.rs").flat_map(bare));
    wall(rule, uses_of("TaskTracker", |path| !TRACKERS.contains(&path)));
}

#[test]
fn every_module_says_what_it_is_for() {
    let silent = SRC.iter().filter(|file| !file.text.starts_with("//! "));
    wall(
        "a module opens with `//!`: what it owns, what it refuses to know, which RFC sections it answers for",
        silent.map(|file| file.path.clone()),
    );
}

#[test]
fn nothing_is_unsafe_or_unfinished() {
    wall("`unsafe` has no business in a gateway: find a safe crate", uses_of("unsafe", |_| true));
    for unfinished in ["todo", "unimplemented", "dbg"] {
        let found = uses_of(unfinished, |_| true);
        wall("what is not finished is not merged", found.into_iter().map(|at| format!("{at} {unfinished}")));
    }
    let markers = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
    let marked = everything().flat_map(|file| {
        let marked = |comment: &str| markers.iter().any(|marker| words(comment, marker).next().is_some());
        let lines = file.comments.iter().filter(|(_, comment)| marked(comment));
        lines.map(|(line, _)| format!("{}:{line}", file.path)).collect::<Vec<_>>()
    });
    wall("do it, or leave it out; a plan belongs in ARCHITECTURE.md", marked);
}

#[test]
fn comments_are_no_banners() {
    let drawn = |comment: &str| {
        let text = comment.trim_start_matches(['/', '!']).trim_start_matches('*').trim();
        ["---", "===", "***", "###", "///", "~~~", "+++"]
            .iter()
            .any(|run| text.starts_with(run) || (text.ends_with(run) && !text.starts_with('`')))
    };
    let found = everything().flat_map(|file| {
        let lines = file.comments.iter().filter(|(_, comment)| drawn(comment));
        lines.map(|(line, _)| format!("{}:{line}", file.path)).collect::<Vec<_>>()
    });
    wall("a comment gives a reason: a file that needs rulers is two files", found);
}

#[test]
fn a_file_is_one_idea() {
    let long = everything().filter_map(|file| {
        let lines = file.text.lines().count();
        (lines > LONGEST_FILE).then(|| format!("{} has {lines} lines", file.path))
    });
    wall(&format!("no file has more than {LONGEST_FILE} lines: split it by idea, tests go to a file beside it"), long);
}

#[test]
fn a_function_is_one_thought() {
    let mut long = Vec::new();
    for file in everything() {
        let functions = file.functions();
        let functions = functions.iter().filter(|function| function.lines > LONGEST_FUNCTION);
        long.extend(functions.map(|one| format!("{}:{} {} has {} lines", file.path, one.line, one.name, one.lines)));
    }
    wall(&format!("no function has more than {LONGEST_FUNCTION} lines: name its parts"), long);
}

#[test]
fn modules_are_named_for_what_they_own() {
    const REFUSED: [&str; 9] = ["util", "utils", "helper", "helpers", "types", "manager", "common", "misc", "shared"];
    let vague = SRC.iter().filter(|file| file.module().iter().any(|part| REFUSED.contains(part)));
    wall("these names own nothing: name the module for its idea", vague.map(|file| file.path.clone()));
}

#[test]
fn the_walls_are_read_from_real_source() {
    let all = &*SRC;
    assert!(all.len() > 100, "only {} files", all.len());
    let dispatch = all.iter().find(|file| file.path == "src/serve/dispatch.rs").unwrap();
    assert!(dispatch.functions().iter().any(|function| function.name == "dispatch"));
    let context = all.iter().find(|file| file.path == "src/serve/context.rs").unwrap();
    let rooms: Vec<_> = context.rooms_named().into_iter().map(|(_, room)| room).collect();
    assert!(rooms.contains(&"auth") && rooms.contains(&"http"), "{rooms:?}");
    let values = all.iter().find(|file| file.path == "src/config/values.rs").unwrap();
    assert!(values.rooms_named().iter().any(|(_, room)| *room == "serve"), "groups are read too");
    assert!(all.iter().any(|file| file.is_test), "test modules are told apart");
    let metrics = all.iter().find(|file| file.path == "src/observe/metrics.rs").unwrap();
    assert!(metrics.literals.iter().any(|(_, literal)| literal.starts_with("\"portcullis_")));
}
