//! `portcullis schema`: the JSON Schema of the configuration language, for editors.

use std::io::{self, Write as _};
use std::process::ExitCode;

/// Prints the schema on standard output; exit code 1 if that fails.
pub fn run() -> ExitCode {
    let text = format!("{:#}\n", crate::config::schema());
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
