//! `portcullis check`: says everything that is wrong with a configuration, without starting anything.
//!
//! Exit codes: 0 the configuration may run (warnings may have been printed), 1 it may not. Usage errors are clap's 2.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use crate::config::{self, Loaded, Paint, Problems};

/// Checks the file: problems on standard error, a summary on standard output if it may run.
pub fn run(path: &Path) -> ExitCode {
    let paint = super::paint();
    let (report, summary, code) = match config::load(path) {
        Ok(loaded) => (loaded.warnings.render(paint), summary(&loaded), ExitCode::SUCCESS),
        Err(problems) => (refusal(&problems, paint), String::new(), ExitCode::FAILURE),
    };
    let written = io::stderr().write_all(report.as_bytes()).and_then(|()| io::stdout().write_all(summary.as_bytes()));
    // A reader that went away heard enough; a full disk did not.
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => code,
    }
}

/// Everything `check` prints about a configuration that may not run.
pub fn refusal(problems: &Problems, paint: Paint) -> String {
    let warnings = problems.list().len() - problems.errors();
    let mut counts = count(problems.errors(), "error");
    if warnings > 0 {
        counts = format!("{counts} and {}", count(warnings, "warning"));
    }
    format!("{}{}: {counts}\n", problems.render(paint), problems.file().display())
}

/// The one line `check` prints about a configuration that may run.
pub fn summary(loaded: &Loaded) -> String {
    let config = &loaded.config;
    let parts = [
        count(config.routes.len() + config.internal.len(), "route"),
        count(config.listeners.len(), "listener"),
        count(config.issuers.len(), "issuer"),
        count(config.upstreams.len(), "upstream"),
        count(loaded.warnings.list().len(), "warning"),
    ];
    format!("ok: {}\n", parts.join(", "))
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}
