//! Rust source as the walls look at it: code without comments and literals, and what was taken out beside it.
//!
//! Owns just enough of the language's lexical grammar to tell code from text. Knows no rule of the house.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One file of the repository.
pub(crate) struct File {
    /// Its path from the root of the repository, with `/`.
    pub(crate) path: String,
    /// All of it.
    pub(crate) text: String,
    /// The same bytes with comments, the contents of literals and test modules blanked, so that offsets and lines agree.
    pub(crate) code: String,
    /// Line and contents of every literal outside of test modules.
    pub(crate) literals: Vec<(usize, String)>,
    /// Line and contents of every comment, test modules included.
    pub(crate) comments: Vec<(usize, String)>,
    /// Whether the whole file is a test module.
    pub(crate) is_test: bool,
}

/// A function that has a body.
pub(crate) struct Function<'f> {
    pub(crate) name: &'f str,
    pub(crate) line: usize,
    /// Lines from its `fn` to its closing brace.
    pub(crate) lines: usize,
    /// From the start of its line to its body.
    pub(crate) signature: &'f str,
}

/// Every Rust file below `directory` of the repository.
pub(crate) fn files(directory: &str) -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    collect(&root.join(directory), &mut paths);
    paths.sort();
    let mut test_files = BTreeSet::new();
    let mut files: Vec<_> = paths.iter().map(|path| read(root, path, &mut test_files)).collect();
    for file in &mut files {
        file.is_test = test_files.contains(&file.path);
        if file.is_test {
            file.code.clear();
            file.literals.clear();
        }
    }
    files
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read(root: &Path, path: &Path, test_files: &mut BTreeSet<String>) -> File {
    let text = fs::read_to_string(path).unwrap();
    let path = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
    let (mut code, mut literals, mut comments) = (text.clone().into_bytes(), Vec::new(), Vec::new());
    let mut at = 0;
    while at < text.len() {
        let (kind, end) = piece(&text, at);
        match kind {
            Kind::Code => {}
            Kind::Comment => comments.push((line_of(&text, at), text[at..end].to_owned())),
            Kind::Literal => literals.push((at, text[at..end].to_owned())),
        }
        if !matches!(kind, Kind::Code) {
            blank(&mut code[at..end]);
        }
        at = end;
    }
    let told = String::from_utf8(code.clone()).unwrap();
    let tests = test_items(&told);
    for (start, end) in &tests {
        if let Some((_, module)) = told[*start..*end].strip_suffix(';').and_then(|item| item.rsplit_once("mod ")) {
            test_files.extend(child_paths(&path, module.trim()));
        }
        blank(&mut code[*start..*end]);
    }
    literals.retain(|(at, _)| !tests.iter().any(|(start, end)| (start..end).contains(&at)));
    let literals = literals.into_iter().map(|(at, words)| (line_of(&text, at), words)).collect();
    let code = String::from_utf8(code).unwrap();
    File { path, text, code, literals, comments, is_test: false }
}

enum Kind {
    Code,
    Comment,
    Literal,
}

/// What begins at `at`, and where it ends.
fn piece(text: &str, at: usize) -> (Kind, usize) {
    let rest = &text[at..];
    let until = |end: Option<usize>| at + end.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return (Kind::Comment, until(rest.find('\n')));
    }
    if rest.starts_with("/*") {
        return (Kind::Comment, until(rest.find("*/").map(|end| end + 2)));
    }
    let name = rest.len() - rest.trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_').len();
    let (prefix, after) = rest.split_at(name);
    if matches!(prefix, "r" | "br" | "cr") {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let end = after[hashes + 1..].find(&close).map(|end| name + hashes + 1 + end + close.len());
            return (Kind::Literal, until(end));
        }
    }
    if matches!(prefix, "" | "b" | "c") && after.starts_with('"') {
        return (Kind::Literal, at + name + 1 + quoted(&after[1..], '"'));
    }
    if matches!(prefix, "" | "b") && after.starts_with('\'') {
        let mut letters = after[1..].chars();
        if letters.next() == Some('\\') || letters.next() == Some('\'') {
            return (Kind::Literal, at + name + 1 + quoted(&after[1..], '\''));
        }
    }
    (Kind::Code, at + name.max(rest.chars().next().map_or(1, char::len_utf8)))
}

/// The length of a quoted literal behind its first quote, its last one included.
fn quoted(text: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Makes white space of whole characters; lines stay lines.
fn blank(code: &mut [u8]) {
    code.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Start and end of every item under `#[cfg(test)]`.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let starts = code.match_indices("#[cfg(test)]").map(|(at, _)| at);
    starts.map(|start| (start, start + item_length(&code[start..]))).collect()
}

/// To the semicolon or the closing brace that ends an item.
fn item_length(code: &str) -> usize {
    let end = code.find([';', '{']).unwrap_or(code.len());
    if code[end..].starts_with('{') { end + block_length(&code[end..]) } else { (end + 1).min(code.len()) }
}

/// The length of the block at whose opening brace `code` begins.
fn block_length(code: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Where the file of a module declared in `parent` may be.
fn child_paths(parent: &str, module: &str) -> [String; 2] {
    let stem = parent.trim_end_matches(".rs");
    let home = stem.strip_suffix("/mod").unwrap_or(stem);
    [format!("{home}/{module}.rs"), format!("{home}/{module}/mod.rs")]
}

/// The line, counted from 1, of an offset.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Offsets at which `word` stands by itself.
pub(crate) fn words<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    let part_of_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| !code[..*at].ends_with(part_of_name) && !code[*at + word.len()..].starts_with(part_of_name))
}

/// The name at the start of `code`.
pub(crate) fn name_at(code: &str) -> &str {
    let end = code.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(code.len());
    &code[..end]
}

impl File {
    /// The module path below `src`: `src/config/compile/path.rs` is `["config", "compile", "path"]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| !matches!(*part, "mod" | "lib" | "main")).collect()
    }

    /// Every top-level module this file names by `crate::` or by climbing out of its own, with the line.
    pub(crate) fn rooms_named(&self) -> Vec<(usize, &str)> {
        let mut named = Vec::new();
        let mut note = |at: usize, after: usize| {
            let heads = heads(&self.code[after..]);
            named.extend(heads.into_iter().map(|room| (line_of(&self.code, at), room)));
        };
        for at in words(&self.code, "crate") {
            let after = at + "crate".len();
            if self.code[after..].starts_with("::") {
                note(at, after + 2);
            }
        }
        let climb = "super::".repeat(self.module().len());
        for at in words(&self.code, climb.trim_end_matches("::")).filter(|_| !climb.is_empty()) {
            let after = at + climb.len();
            if self.code[at..].starts_with(&climb) {
                note(at, after);
            }
        }
        named
    }

    /// Every function with a body, outside of test modules.
    pub(crate) fn functions(&self) -> Vec<Function<'_>> {
        let code = &self.code;
        let function = |at: usize| {
            let body = at + code[at..].find([';', '{'])?;
            if !code[body..].starts_with('{') {
                return None; // declared only, or the type of a function
            }
            let end = body + block_length(&code[body..]);
            let begin = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
            let name = name_at(code[at + "fn".len()..].trim_start());
            let (line, lines) = (line_of(code, at), code[at..end].matches('\n').count() + 1);
            (!name.is_empty()).then_some(Function { name, line, lines, signature: &code[begin..body] })
        };
        words(code, "fn").filter_map(function).collect()
    }
}

/// The first name of each path in a use tree: `a::b` gives `a`, `{a, b::{c, d}}` gives `a` and `b`.
fn heads(tree: &str) -> Vec<&str> {
    let Some(group) = tree.strip_prefix('{') else { return vec![name_at(tree)] };
    let mut heads = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, letter) in group.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(name_at(group[begin..at].trim_start()));
                begin = at + 1;
                if letter == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}
