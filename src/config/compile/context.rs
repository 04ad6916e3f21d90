//! What every table's compilation needs: the world outside, the list of problems, and how single values are read.
//!
//! Owns the wording of what is wrong with one value by itself: its type, its range, its choice of words.

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::entry::Entry;
use super::super::problem::{Problem, Span};
use super::super::shapes::Seconds;
use super::super::sources::Sources;
use super::super::suggest;

/// Names end up in logs and metric labels.
const LONGEST_NAME: usize = 64;

pub(super) struct Context<'a> {
    file: &'a Path,
    sources: &'a dyn Sources,
    problems: Vec<Problem>,
    files_read: Vec<PathBuf>,
    shares: bool,
}

impl<'a> Context<'a> {
    pub(super) fn new(file: &'a Path, sources: &'a dyn Sources) -> Self {
        Self { file, sources, problems: Vec::new(), files_read: vec![file.to_owned()], shares: false }
    }

    /// There is a place where gateways share.
    pub(super) fn will_share(&mut self) {
        self.shares = true;
    }

    /// Whether there is a place where gateways share.
    pub(super) fn shares(&self) -> bool {
        self.shares
    }

    pub(super) fn report(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// How many problems there are by now.
    pub(super) fn reported(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    pub(super) fn files_read(&self) -> Vec<PathBuf> {
        self.files_read.clone()
    }

    pub(super) fn processors(&self) -> usize {
        self.sources.processors()
    }

    pub(super) fn variable(&self, name: &str) -> Option<Vec<u8>> {
        self.sources.variable(name)
    }

    /// The path as `compile` means it.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        super::beside(self.file, path)
    }

    /// Where programs put what nobody keeps (POSIX, `TMPDIR`).
    pub(super) fn temporary_directory(&self) -> PathBuf {
        let named = self.variable("TMPDIR").filter(|path| !path.is_empty());
        named.map_or_else(|| "/tmp".into(), |path| OsString::from_vec(path).into())
    }

    /// A file's contents; what cannot be read is reported with `remedy`.
    pub(super) fn read(&mut self, path: &str, span: Span, remedy: &str) -> Option<Vec<u8>> {
        self.read_by(path, span, remedy, |sources, full| sources.file(full))
    }

    /// The same for a list that may be long.
    pub(super) fn read_list(&mut self, path: &str, span: Span, remedy: &str) -> Option<Vec<u8>> {
        self.read_by(path, span, remedy, |sources, full| sources.list(full))
    }

    /// Whether a directory is there.
    pub(super) fn is_directory(&self, path: &Path) -> bool {
        self.sources.is_directory(path).unwrap_or(false)
    }

    fn read_by(
        &mut self,
        path: &str,
        span: Span,
        remedy: &str,
        read: impl FnOnce(&dyn Sources, &Path) -> std::io::Result<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let full = self.path(path);
        if !self.files_read.contains(&full) {
            self.files_read.push(full.clone());
        }
        match read(self.sources, &full) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                let message = format!("cannot read {}: {}", full.display(), reason(&error));
                self.report(Problem::error(span, message).hint(remedy));
                None
            }
        }
    }

    /// The value of a key, if it is there and of its type.
    pub(super) fn take<'e, T>(&mut self, entry: &'e Entry<T>) -> Option<(&'e T, Span)> {
        match entry {
            Entry::Absent => None,
            Entry::Given(span, value) => Some((value, *span)),
            Entry::Wrong(span, message) => {
                let problem = Problem::error(*span, message.clone());
                let quotable = message.starts_with("expected a string, found the number")
                    || message.starts_with("expected a string, found `");
                self.report(if quotable {
                    problem.hint("write it in quotes")
                } else if message.starts_with("expected an array, found ") {
                    problem.hint("write it in brackets")
                } else {
                    problem
                });
                None
            }
        }
    }

    /// The value of a key that must be there; `owner` is where, pointed at when it is not.
    pub(super) fn demand<'e, T>(
        &mut self,
        entry: &'e Entry<T>,
        owner: Span,
        missing: &str,
        hint: &str,
    ) -> Option<(&'e T, Span)> {
        if entry.is_absent() {
            self.report(Problem::error(owner, missing).hint(hint));
        }
        self.take(entry)
    }

    pub(super) fn flag(&mut self, entry: &Entry<bool>, default: bool) -> bool {
        self.take(entry).map_or(default, |(value, _)| *value)
    }

    /// A whole number; `unit` follows the range in the message (" bytes", or nothing).
    pub(super) fn number<N>(
        &mut self,
        entry: &Entry<i64>,
        key: &str,
        unit: &str,
        range: RangeInclusive<i64>,
        default: N,
    ) -> N
    where
        N: TryFrom<i64>,
    {
        let Some((value, span)) = self.take(entry) else { return default };
        if !range.contains(value) {
            self.out_of_range(span, key, unit, range.start(), range.end());
        }
        N::try_from(*value).unwrap_or(default)
    }

    pub(super) fn seconds(
        &mut self,
        entry: &Entry<Seconds>,
        key: &str,
        range: RangeInclusive<f64>,
        default: Duration,
    ) -> Duration {
        let Some((Seconds(value), span)) = self.take(entry) else { return default };
        if !range.contains(value) {
            self.out_of_range(span, key, " seconds", range.start(), range.end());
        }
        Duration::try_from_secs_f64(*value).unwrap_or(default)
    }

    /// A part of a whole.
    pub(super) fn share(&mut self, entry: &Entry<Seconds>, key: &str, range: RangeInclusive<f64>, default: f64) -> f64 {
        let Some((Seconds(value), span)) = self.take(entry) else { return default };
        if !range.contains(value) {
            self.out_of_range(span, key, "", range.start(), range.end());
        }
        *value
    }

    fn out_of_range<N: std::fmt::Display>(&mut self, span: Span, key: &str, unit: &str, least: N, most: N) {
        self.report(Problem::error(span, format!("`{key}` must be between {least} and {most}{unit}")));
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&mut self, entry: &Entry<String>, key: &str, words: &[(&str, T)], default: T) -> T {
        let Some((word, span)) = self.take(entry) else { return default };
        if let Some((_, value)) = words.iter().find(|(known, _)| known == word) {
            return *value;
        }
        let problem = Problem::error(span, format!("`{word}` is no value of `{key}`"));
        let hint = suggest::hint(word, words.iter().map(|(known, _)| *known));
        self.report(Problem { hint, ..problem });
        default
    }

    /// A text that is not empty.
    pub(super) fn text<'e>(&mut self, entry: &'e Entry<String>, key: &str) -> Option<(&'e str, Span)> {
        let (text, span) = self.take(entry)?;
        if text.is_empty() {
            self.report(Problem::error(span, format!("`{key}` is empty")).hint("leave the key out for the default"));
            return None;
        }
        Some((text, span))
    }

    /// The items of a list that are of their type. An empty list is refused: leaving the key out says what `without` says,
    /// and a list that was emptied by mistake must not.
    pub(super) fn list<'e, T>(
        &mut self,
        entry: &'e Entry<Vec<Entry<T>>>,
        key: &str,
        without: &str,
    ) -> Vec<(&'e T, Span)> {
        let Some((items, span)) = self.take(entry) else { return Vec::new() };
        if items.is_empty() {
            self.report(Problem::error(span, format!("`{key}` is an empty list")).hint(without));
        }
        items.iter().filter_map(|item| self.take(item)).collect()
    }

    /// The texts of a list, none of them empty or given twice.
    pub(super) fn texts(
        &mut self,
        entry: &Entry<Vec<Entry<String>>>,
        key: &str,
        without: &str,
    ) -> Vec<(Box<str>, Span)> {
        let mut texts: Vec<(Box<str>, Span)> = Vec::new();
        for (text, span) in self.list(entry, key, without) {
            if text.is_empty() {
                self.report(Problem::error(span, format!("an empty text in `{key}`")));
            } else if let Some((_, first)) = texts.iter().find(|(known, _)| **known == **text) {
                let first = *first;
                self.report(
                    Problem::error(span, format!("`{text}` is twice in `{key}`")).note(first, "the first is here"),
                );
            } else {
                texts.push((text.as_str().into(), span));
            }
        }
        texts
    }

    /// Names of tables and routes are metric labels and log fields.
    pub(super) fn check_name(&mut self, name: &str, span: Span) {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(legal) {
            let hint = format!("use 1 to {LONGEST_NAME} letters, digits, `-`, `_` and `.`");
            self.report(Problem::error(span, "this name cannot be a metric label").hint(hint));
        }
    }
}

/// `io::Error` without the "(os error 2)".
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// Texts without their positions.
pub(super) fn bare(texts: Vec<(Box<str>, Span)>) -> Vec<Box<str>> {
    texts.into_iter().map(|(text, _)| text).collect()
}
