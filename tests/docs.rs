//! Holds the documentation against the repository: links lead somewhere, examples load without a complaint, commands exist.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use portcullis::auth::Denied;
use portcullis::config::{self, Sources};
use portcullis::http::TargetError;
use portcullis::serve::MALFORMED_REASONS;

/// One page, by its path from the root of the repository.
struct Page {
    path: PathBuf,
    text: String,
}

/// A fenced block: what stands behind its fence, and its lines.
struct Block {
    info: String,
    text: String,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every page that is part of the repository.
fn pages() -> Vec<Page> {
    let mut paths = Vec::new();
    for directory in ["", "certs", "docs", "deploy", "benches", "tests"] {
        let Ok(entries) = fs::read_dir(root().join(directory)) else { continue };
        let entries = entries.map(|entry| entry.unwrap().path());
        paths.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    paths.sort();
    let page = |path: PathBuf| Page {
        text: fs::read_to_string(&path).unwrap(),
        path: path.strip_prefix(root()).unwrap().to_owned(),
    };
    paths.into_iter().map(page).collect()
}

impl Page {
    fn blocks(&self) -> Vec<Block> {
        let mut blocks: Vec<Block> = Vec::new();
        let mut open = false;
        for line in self.text.lines() {
            match line.strip_prefix("```") {
                Some(_) if open => open = false,
                Some(info) => {
                    open = true;
                    blocks.push(Block { info: info.to_owned(), text: String::new() });
                }
                None if open => {
                    let block = blocks.last_mut().unwrap();
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                None => {}
            }
        }
        assert!(!open, "{}: a fence is not closed", self.path.display());
        blocks
    }

    /// The lines that are neither fenced nor indented code.
    fn prose(&self) -> String {
        let mut fenced = false;
        let mut prose = String::new();
        for line in self.text.lines() {
            if line.starts_with("```") {
                fenced = !fenced;
            } else if !fenced && !line.starts_with("    ") {
                prose.push_str(line);
                prose.push('\n');
            }
        }
        prose
    }

    /// Where the links of the prose lead.
    fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let target = |rest: &str| rest.split(')').next().unwrap_or_default().to_owned();
        prose.split("](").skip(1).map(target).collect()
    }

    /// The anchors of its headings, as forges make them.
    fn anchors(&self) -> BTreeSet<String> {
        let prose = self.prose();
        let headings = prose
            .lines()
            .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
        let kept = |letter: &char| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_');
        headings
            .map(|heading| heading.to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-"))
            .collect()
    }

    /// Every command line of the program: in fenced and indented code, and in code within a sentence.
    fn commands(&self) -> Vec<String> {
        let code = self.text.lines().filter_map(|line| line.strip_prefix("    ").map(ToOwned::to_owned));
        let fenced = self.blocks().into_iter().filter(|block| block.info == "sh");
        let fenced = fenced.flat_map(|block| block.text.lines().map(ToOwned::to_owned).collect::<Vec<_>>());
        let inline = self.prose().split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>();
        code.chain(fenced)
            .chain(inline)
            .filter_map(|line| line.strip_prefix("portcullis ").map(ToOwned::to_owned))
            .collect()
    }
}

fn is_source(code: &str) -> bool {
    Path::new(code).extension().is_some_and(|extension| extension == "rs") && !code.contains(' ')
}

/// Without `.` and `..`, by the text alone.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                normal.pop();
            }
            Component::CurDir => {}
            other => normal.push(other),
        }
    }
    normal
}

#[test]
fn every_relative_link_leads_somewhere() {
    let pages = pages();
    let anchors: BTreeMap<_, _> = pages.iter().map(|page| (page.path.clone(), page.anchors())).collect();
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in &pages {
        for link in page.links() {
            if link.starts_with("https://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let home = page.path.parent().unwrap();
            let target = if file.is_empty() { page.path.clone() } else { normal(&home.join(file)) };
            let there = root().join(&target).exists();
            let anchored = anchor.is_empty() || anchors.get(&target).is_some_and(|known| known.contains(anchor));
            if !there || !anchored {
                broken.push(format!("{}: {link}", page.path.display()));
            }
        }
    }
    assert!(seen > 20, "only {seen} links were found");
    assert!(broken.is_empty(), "links that lead nowhere:\n  {}", broken.join("\n  "));
}

/// The RSA key of RFC 7517 appendix A.1.
const KEY_SET: &str = r#"{"keys":[{"kty":"RSA","kid":"2011-04-29","alg":"RS256","e":"AQAB","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw"}]}"#;

/// A world where everything an example names is there, and good.
struct World {
    certificate: rcgen::CertifiedKey<rcgen::KeyPair>,
}

impl Sources for World {
    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(match path.extension().and_then(|extension| extension.to_str()) {
            _ if path.ends_with("identity.pem") => {
                rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap().serialize_pem().into_bytes()
            }
            Some("crt") => self.certificate.cert.pem().into_bytes(),
            Some("key") => self.certificate.signing_key.serialize_pem().into_bytes(),
            Some("json") => KEY_SET.as_bytes().to_vec(),
            Some("pem") => self.certificate.signing_key.public_key_pem().into_bytes(),
            _ => b"a secret that is long enough for any algorithm, whatever it may be".to_vec(),
        })
    }

    fn is_directory(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }

    fn manifest(&self, _root: &Path, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn takes_files(&self, _directory: &Path) -> io::Result<()> {
        Ok(())
    }

    fn variable(&self, _name: &str) -> Option<Vec<u8>> {
        self.file(Path::new("")).ok()
    }

    fn processors(&self) -> usize {
        4
    }
}

#[test]
fn every_complete_example_loads_without_a_complaint() {
    let world = World { certificate: rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap() };
    let mut loaded = Vec::new();
    for page in pages() {
        for block in page.blocks().iter().filter(|block| block.info == "toml,complete") {
            let found =
                config::load_str(&page.path, &block.text, &world).unwrap_or_else(|problems| panic!("{problems}"));
            assert!(found.warnings.is_empty(), "{}", found.warnings);
            loaded.push(page.path.clone());
        }
    }
    assert!(loaded.contains(&PathBuf::from("README.md")), "the README has lost its example");
}

#[test]
fn the_class_that_django_is_given_is_the_one_that_is_tested() {
    let tested = fs::read_to_string(root().join("tests/python/project/backend/identity.py")).unwrap();
    let page = pages().into_iter().find(|page| page.path == Path::new("docs/identity.md")).unwrap();
    let quoted = page.blocks().iter().any(|block| block.info == "python" && block.text == tested);
    assert!(quoted, "docs/identity.md quotes another class than tests/python/project/backend/identity.py");
}

#[test]
fn every_toml_block_says_whether_it_is_complete() {
    for page in pages() {
        for block in page.blocks() {
            let known = ["toml,complete", "toml,part"].contains(&block.info.as_str());
            let said = known || !block.info.starts_with("toml");
            assert!(said, "{}: write `toml,complete` or `toml,part`, not `{}`", page.path.display(), block.info);
        }
    }
}

/// What the program says of itself under `words`, if it knows them.
fn help(words: &[&str]) -> Option<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis")).args(words).arg("--help").output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

#[test]
fn every_documented_command_exists() {
    let mut unknown = Vec::new();
    let mut seen = BTreeSet::new();
    for page in pages() {
        for line in page.commands() {
            let line = line.split(['#', '>', '<', '|']).next().unwrap_or_default();
            let words: Vec<&str> = line.split_whitespace().collect();
            let depth = if matches!(words.first(), Some(&("token" | "jwks" | "link"))) { 2 } else { 1 };
            let (subcommand, rest) = words.split_at(depth.min(words.len()));
            let Some(help) = help(subcommand) else {
                unknown.push(format!("{}: portcullis {line}", page.path.display()));
                continue;
            };
            seen.insert(subcommand.join(" "));
            for option in rest.iter().filter(|word| word.len() > 1 && word.starts_with('-')) {
                let listed =
                    help.split(|letter: char| letter.is_whitespace() || letter == ',').any(|word| word == *option);
                if !listed {
                    unknown.push(format!("{}: portcullis {line}: {option}", page.path.display()));
                }
            }
        }
    }
    assert!(unknown.is_empty(), "commands that do not exist:\n  {}", unknown.join("\n  "));
    for needed in ["check", "explain", "jwks doctor", "run", "schema", "token inspect", "token mint"] {
        assert!(seen.contains(needed), "`portcullis {needed}` is not documented");
    }
}

/// Documents cite files and symbols, never lines. A file is cited from the root or from `src`.
#[test]
fn every_cited_source_file_exists() {
    let mut gone = Vec::new();
    let mut seen = 0;
    for page in pages() {
        for cited in page.prose().split('`').skip(1).step_by(2).filter(|code| is_source(code)) {
            seen += 1;
            if !root().join(cited).exists() && !root().join("src").join(cited).exists() {
                gone.push(format!("{}: {cited}", page.path.display()));
            }
        }
    }
    assert!(seen > 30, "only {seen} files are cited");
    assert!(gone.is_empty(), "files that do not exist:\n  {}", gone.join("\n  "));
}

/// The names in the first column of the tables of a page.
fn tabled(path: &str) -> BTreeSet<String> {
    let page = fs::read_to_string(root().join(path)).unwrap();
    let firsts = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    firsts.flat_map(|first| first.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>()).collect()
}

/// Every text that a function `label` of a source file answers.
fn labels(path: &str) -> Vec<String> {
    let source = fs::read_to_string(root().join(path)).unwrap();
    let bodies = source.split("fn label(").skip(1);
    let bodies = bodies.map(|body| body.split("\n}\n").next().unwrap().split("\n    }\n").next().unwrap().to_owned());
    bodies.flat_map(|body| body.split('"').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>()).collect()
}

#[test]
fn every_outcome_of_the_access_log_is_documented() {
    let documented = tabled("docs/logs.md");
    let labels = ["src/serve/failure.rs", "src/serve/record.rs", "src/upstream/failure.rs"].map(labels).concat();
    assert!(labels.len() > 20, "only {} labels were found", labels.len());
    let reasons = TargetError::REASONS.iter().chain(&Denied::REASONS).map(ToString::to_string);
    // A failed request body is always told as the client's failure that it is.
    let outcomes = labels.into_iter().chain(reasons).filter(|label| label != "request_body");
    let missing: Vec<_> = outcomes.filter(|outcome| !documented.contains(outcome)).collect();
    assert!(missing.is_empty(), "docs/logs.md lacks {missing:?}");
}

#[test]
fn every_reason_of_a_malformed_request_is_documented() {
    let documented = tabled("docs/metrics.md");
    let missing: Vec<_> = MALFORMED_REASONS.iter().filter(|reason| !documented.contains(**reason)).collect();
    assert!(missing.is_empty(), "docs/metrics.md lacks {missing:?}");
}

#[test]
fn the_readme_has_the_two_commands_and_a_place_for_the_measurements() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for line in ["    cargo run --release", "    tests/run"] {
        assert!(readme.lines().any(|found| found == line), "the README has lost `{}`", line.trim());
    }
    let begin = readme.find("<!-- bench -->").expect("the README has a place for the measurements");
    let end = readme.find("<!-- /bench -->").expect("the place for the measurements ends");
    assert!(begin < end);
}
