//! What is wrong with a configuration: one [`Problem`] a finding, and the list of them for one file.
//!
//! Owns severity, position and wording of findings. Knows nothing of TOML or of what the keys mean; how a finding looks
//! on a terminal is `render`'s.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::render;

/// Where something stands in the text: byte offsets, the end excluded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset after the last byte.
    pub end: usize,
}

impl From<Range<usize>> for Span {
    fn from(range: Range<usize>) -> Self {
        Self { start: range.start, end: range.end }
    }
}

/// What a finding means for the start of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration works, and probably not as meant.
    Warning,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it refuses the configuration.
    pub severity: Severity,
    /// What it points at; `None` speaks of the file as a whole.
    pub span: Option<Span>,
    /// What is wrong, one line, no full stop.
    pub message: String,
    /// A second place that explains the first ("the other one is here").
    pub note: Option<(Span, String)>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Source text never shown, because it may hold a secret.
    pub masked: Option<Span>,
}

impl Problem {
    /// A finding that refuses the configuration.
    pub fn error(span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span.into(), message.into())
    }

    /// A finding that does not.
    pub fn warning(span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span.into(), message.into())
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Self {
        Self { severity, span, message, note: None, hint: None, masked: None }
    }

    /// Says what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Points at a second place.
    #[must_use]
    pub fn note(mut self, span: Span, text: impl Into<String>) -> Self {
        self.note = Some((span, text.into()));
        self
    }

    /// Keeps a piece of the source out of everything that is shown.
    #[must_use]
    pub fn mask(mut self, span: Span) -> Self {
        self.masked = Some(span);
        self
    }
}

/// The findings of one file, in the order of the text, with all that is needed to show them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    text: Arc<str>,
    list: Vec<Problem>,
}

impl Problems {
    /// Sorts the findings by position and drops repetitions.
    pub fn new(file: impl Into<PathBuf>, text: Arc<str>, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.span);
        list.dedup();
        Self { file: file.into(), text, list }
    }

    /// The file they were found in.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The findings themselves.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many of them refuse the configuration.
    pub fn errors(&self) -> usize {
        self.list.iter().filter(|problem| problem.severity == Severity::Error).count()
    }

    /// The findings as an operator reads them: each with its line, carets and help.
    pub fn render(&self, paint: Paint) -> String {
        render::render(&self.file, &self.text, &self.list, paint)
    }
}

/// Whether the text carries terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paint {
    /// Text only: files, pipes and `NO_COLOR`.
    Plain,
    /// ANSI colours, for a terminal.
    Colour,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Paint::Plain))
    }
}

impl std::error::Error for Problems {}
