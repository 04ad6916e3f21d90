//! How findings look on a terminal: message, position, the source line with carets, notes and help, as rustc does it.
//!
//! Owns layout and colours. The source text is hostile until shown: control characters never reach the terminal, and what
//! a problem masks is replaced by asterisks wherever that line is shown.

use std::fmt::Write as _;
use std::path::Path;

use super::problem::{Paint, Problem, Severity, Span};

const MASK: &str = "***";
const TAB: &str = "    ";

pub(super) fn render(file: &Path, text: &str, problems: &[Problem], paint: Paint) -> String {
    let page = Page { file, text, paint, masked: problems.iter().filter_map(|problem| problem.masked).collect() };
    let mut out = String::new();
    for problem in problems {
        page.problem(&mut out, problem);
        out.push('\n');
    }
    out
}

struct Page<'a> {
    file: &'a Path,
    text: &'a str,
    paint: Paint,
    masked: Vec<Span>,
}

impl Page<'_> {
    fn problem(&self, out: &mut String, problem: &Problem) {
        let (word, style) = match problem.severity {
            Severity::Error => ("error", Style::Error),
            Severity::Warning => ("warning", Style::Warning),
        };
        self.headline(out, word, style, &problem.message);
        let lines = [problem.span, problem.note.as_ref().map(|(span, _)| *span)];
        let gutter =
            lines.into_iter().flatten().map(|span| self.line_number(span).to_string().len()).max().unwrap_or(0);
        match problem.span {
            Some(span) => self.snippet(out, gutter, span, style),
            None => line(out, &format!("{} {}", self.painted(Style::Frame, " -->"), self.file.display())),
        }
        if let Some((span, text)) = &problem.note {
            self.headline(out, "note", Style::Note, text);
            self.snippet(out, gutter, *span, Style::Note);
        }
        if let Some(hint) = &problem.hint {
            let frame = self.painted(Style::Frame, &format!("{:gutter$} =", ""));
            let word = self.painted(Style::Note, "help");
            line(out, &format!("{frame} {word}: {}", printable(hint)));
        }
    }

    fn headline(&self, out: &mut String, word: &str, style: Style, message: &str) {
        let word = self.painted(style, word);
        let message = self.painted(Style::Message, &format!(": {}", printable(message)));
        line(out, &format!("{word}{message}"));
    }

    fn snippet(&self, out: &mut String, gutter: usize, span: Span, style: Style) {
        let number = self.line_number(span);
        let shown = self.shown_line(span);
        let arrow = self.painted(Style::Frame, &format!("{:gutter$}-->", ""));
        line(out, &format!("{arrow} {}:{number}:{}", self.file.display(), self.column(span)));
        line(out, &self.painted(Style::Frame, &format!("{:gutter$} |", "")));
        let frame = self.painted(Style::Frame, &format!("{number:>gutter$} |"));
        line(out, &format!("{frame} {}", shown.text));
        let frame = self.painted(Style::Frame, &format!("{:gutter$} |", ""));
        let carets = self.painted(style, &"^".repeat(shown.width));
        line(out, &format!("{frame} {:indent$}{carets}", "", indent = shown.indent));
    }

    /// One-based, as editors count.
    fn line_number(&self, span: Span) -> usize {
        memchr::memchr_iter(b'\n', &self.text.as_bytes()[..self.clamp(span.start)]).count() + 1
    }

    /// One-based, in characters, as editors count.
    fn column(&self, span: Span) -> usize {
        let start = self.clamp(span.start);
        self.text[self.line_start(start)..start].chars().count() + 1
    }

    /// The source line of the span's start as it may be shown, and where the carets go below it.
    fn shown_line(&self, span: Span) -> Shown {
        let start = self.clamp(span.start);
        let from = self.line_start(start);
        let line = self.text[from..].split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let mut shown = Shown { text: String::new(), indent: 0, width: 0 };
        let mut columns = 0;
        let mut hidden = false;
        for (offset, character) in line.char_indices().map(|(offset, character)| (from + offset, character)) {
            let was_hidden = std::mem::replace(&mut hidden, self.is_masked(offset));
            let piece = match character {
                _ if hidden && was_hidden => String::new(),
                _ if hidden => MASK.to_owned(),
                '\t' => TAB.to_owned(),
                other => printable_char(other).to_string(),
            };
            let width = piece.chars().count();
            if offset < start {
                shown.indent += width;
            } else if offset < span.end {
                shown.width += width;
            }
            columns += width;
            shown.text.push_str(&piece);
        }
        shown.indent = shown.indent.min(columns);
        shown.width = shown.width.max(1);
        shown
    }

    fn is_masked(&self, offset: usize) -> bool {
        self.masked.iter().any(|span| (span.start..span.end).contains(&offset))
    }

    fn line_start(&self, offset: usize) -> usize {
        self.text[..offset].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// The nearest offset that is inside the text and between two characters.
    fn clamp(&self, offset: usize) -> usize {
        self.text.floor_char_boundary(offset.min(self.text.len()))
    }

    fn painted(&self, style: Style, text: &str) -> String {
        let mut out = String::new();
        match self.paint {
            Paint::Plain => out.push_str(text),
            // Writing to a String cannot fail.
            Paint::Colour => drop(write!(out, "\x1b[{}m{text}\x1b[0m", style.code())),
        }
        out
    }
}

fn line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

struct Shown {
    text: String,
    indent: usize,
    width: usize,
}

#[derive(Clone, Copy)]
enum Style {
    Error,
    Warning,
    Note,
    Message,
    Frame,
}

impl Style {
    /// The parameters of ECMA-48's SGR sequence.
    fn code(self) -> &'static str {
        match self {
            Self::Error => "1;31",
            Self::Warning => "1;33",
            Self::Note => "1;36",
            Self::Message => "1",
            Self::Frame => "1;34",
        }
    }
}

fn printable(text: &str) -> String {
    text.chars().map(printable_char).collect()
}

/// Control and direction-changing characters could repaint the terminal or reorder what is read.
fn printable_char(character: char) -> char {
    let reorders = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if character.is_control() || reorders { '\u{fffd}' } else { character }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str, problem: Problem) -> String {
        render(Path::new("g.toml"), text, &[problem], Paint::Plain)
    }

    #[test]
    fn carets_stand_under_the_span_after_tabs_and_wide_lines() {
        let text = "a = 1\n\tkéy = 2\n";
        let start = text.find('2').unwrap();
        let shown = plain(text, Problem::error(Span { start, end: start + 1 }, "no").hint("three"));
        assert_eq!(shown, "error: no\n --> g.toml:2:8\n  |\n2 |     kéy = 2\n  |           ^\n  = help: three\n\n");
    }

    #[test]
    fn a_masked_span_is_never_shown_not_even_by_another_problem_of_its_line() {
        let text = "secret = \"hunter2\" # x\n";
        let masked = Span { start: 9, end: 18 };
        let problems = [Problem::error(masked, "one").mask(masked), Problem::error(Span { start: 21, end: 22 }, "two")];
        let shown = render(Path::new("g.toml"), text, &problems, Paint::Plain);
        assert!(!shown.contains("hunter2"));
        assert!(shown.contains("1 | secret = *** # x\n  |          ^^^\n"), "{shown}");
        assert!(shown.contains("  |                ^\n"), "{shown}");
    }

    #[test]
    fn control_characters_never_reach_the_terminal() {
        let shown = plain("a = \"\x1b[2J\"\n", Problem::error(Span { start: 0, end: 1 }, "say \x1b[31m"));
        assert!(!shown.contains('\x1b'));
    }

    #[test]
    fn a_span_outside_the_text_still_renders() {
        for (start, end) in [(5, 9), (100, 200), (3, 1)] {
            assert!(plain("é", Problem::error(Span { start, end }, "x")).contains('^'));
        }
    }

    #[test]
    fn colours_are_only_in_the_coloured_form() {
        let problem = Problem::warning(Span { start: 0, end: 1 }, "x");
        let coloured = render(Path::new("g.toml"), "a", std::slice::from_ref(&problem), Paint::Colour);
        assert!(coloured.contains("\x1b[1;33mwarning\x1b[0m"));
        assert!(!plain("a", problem).contains('\x1b'));
    }
}
