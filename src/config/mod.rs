//! The configuration: from `gateway.toml` to a [`Config`] that needs no further check, or to the list of everything that is
//! wrong with it.
//!
//! In order: `unknown` removes and reports unknown keys, `raw` takes the text as typed, `compile` says what it means, reads the
//! files it names and collects every problem, `values` is the result and `spans` where it stands; `problem` and `render` tell
//! the operator. Whether a key is strong enough or a certificate fits its key is for the stages to judge; `proof` asks them.

mod compile;
mod entry;
mod problem;
mod proof;
mod raw;
mod render;
mod shapes;
mod sources;
mod spans;
mod suggest;
mod unknown;
mod values;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize as _;
use toml::de::DeTable;

pub use problem::{Paint, Problem, Problems, Severity, Span};
pub use sources::{Sources, System};
pub use spans::{CertificateSpans, IdentitySpans, IssuerSpans, ListenerSpans, RouteSpans, Spans, UpstreamSpans};
pub use unknown::keys;
pub use values::{Action, Config, Http3, HttpsPort, Internal, Listener, Publication, Route, Server};

/// A configuration that may run, with what is needed to say more about it.
#[derive(Debug)]
pub struct Loaded {
    /// What it means.
    pub config: Config,
    /// Where it stands, for what the stages find.
    pub spans: Spans,
    /// What is probably not as meant.
    pub warnings: Problems,
    /// The file's text.
    pub text: Arc<str>,
}

/// Loads a configuration file and every file it names.
pub fn load(path: &Path) -> Result<Loaded, Problems> {
    load_file(path, None)
}

/// The same while `running` is served: what means the same as that was proved when it began, and is not proved again at each look. So a
/// disk that hangs or is full for a moment does not matter to a configuration that stays as it is.
pub fn load_beside(path: &Path, running: &Config) -> Result<Loaded, Problems> {
    load_file(path, Some(running))
}

fn load_file(path: &Path, running: Option<&Config>) -> Result<Loaded, Problems> {
    match System.file(path) {
        Ok(bytes) => read_bytes(path, &bytes, &System, running),
        Err(error) => {
            let problem = Problem::error(None, format!("cannot read the configuration: {error}"))
                .hint("name another file with --config PATH");
            Err(Problems::new(path, Arc::from(""), vec![problem]))
        }
    }
}

/// Loads a configuration from its bytes; `path` names it in messages, and the files it names are beside it.
pub fn load_bytes(path: &Path, bytes: &[u8], sources: &dyn Sources) -> Result<Loaded, Problems> {
    read_bytes(path, bytes, sources, None)
}

fn read_bytes(path: &Path, bytes: &[u8], sources: &dyn Sources, running: Option<&Config>) -> Result<Loaded, Problems> {
    match std::str::from_utf8(bytes) {
        Ok(text) => read_str(path, text, sources, running),
        Err(error) => {
            let text: Arc<str> = String::from_utf8_lossy(bytes).into();
            let at = error.valid_up_to();
            let problem = Problem::error(Span { start: at, end: at + 1 }, "this byte is not UTF-8")
                .hint("TOML files are UTF-8: save the file in that encoding");
            Err(Problems::new(path, text, vec![problem]))
        }
    }
}

/// Loads a configuration from its text; `path` names it in messages, and the files it names are beside it.
pub fn load_str(path: &Path, text: &str, sources: &dyn Sources) -> Result<Loaded, Problems> {
    read_str(path, text, sources, None)
}

fn read_str(path: &Path, text: &str, sources: &dyn Sources, running: Option<&Config>) -> Result<Loaded, Problems> {
    let text: Arc<str> = text.into();
    let refuse = |list| Problems::new(path, Arc::clone(&text), list);
    let (mut table, errors) = DeTable::parse_recoverable(&text);
    if !errors.is_empty() {
        return Err(refuse(syntax(&text, &errors)));
    }
    let mut problems = unknown::prune(table.get_mut(), &schema());
    let raw = match raw::File::deserialize(toml::de::Deserializer::from(table)) {
        Ok(raw) => raw,
        Err(error) => {
            problems.push(Problem::error(error.span().map(Span::from), error.message()));
            return Err(refuse(problems));
        }
    };
    match compile::compile(&raw, path, sources) {
        Ok(compiled) => {
            problems.extend(compiled.warnings);
            if running != Some(&compiled.config) {
                problems.extend(proof::prove(&compiled.config, &compiled.spans, sources));
            }
            if problems.iter().any(|problem| problem.severity == Severity::Error) {
                return Err(refuse(problems));
            }
            let warnings = refuse(problems);
            Ok(Loaded { config: compiled.config, spans: compiled.spans, warnings, text: Arc::clone(&text) })
        }
        Err(more) => Err(refuse([problems, more].concat())),
    }
}

/// Whether the file asks for development material, as far as it can be read: such material is made before the file is loaded.
pub fn is_development(path: &Path) -> bool {
    let text = System.file(path).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
    let table: toml::Table = text.parse().unwrap_or_default();
    table.get("server").and_then(|server| server.get("development")).and_then(toml::Value::as_bool).unwrap_or(false)
}

/// Where the gateway that runs with this file answers operators, as far as the file can be read: it may be one that is refused for something else.
pub fn admin_address(text: &str) -> Option<SocketAddr> {
    let table: toml::Table = text.parse().ok()?;
    table.get("admin")?.get("address")?.as_str()?.parse().ok()
}

/// The JSON Schema of the language, for editors: every key with its description.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(raw::File).to_value()
}

/// Syntax errors stand alone: what comes after them may be read wrongly. One a line, for the rest is echo.
fn syntax(text: &str, errors: &[toml::de::Error]) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Vec::new();
    let mut lines = Vec::new();
    for error in errors {
        let start = error.span().map_or(text.len(), |span| span.start.min(text.len()));
        let line = memchr::memchr_iter(b'\n', &text.as_bytes()[..start]).count();
        if !lines.contains(&line) {
            lines.push(line);
            let end = error.span().map_or(start, |span| span.end);
            let problem = Problem::error(Span { start, end }, format!("this is no TOML: {}", error.message()));
            problems.push(match secret_on_line(text, start) {
                Some(span) => problem.mask(span),
                None => problem,
            });
        }
    }
    problems
}

/// The value of a `secret` key on the line of a syntax error, which must not be shown.
fn secret_on_line(text: &str, offset: usize) -> Option<Span> {
    let bytes = text.as_bytes();
    let start = bytes[..offset].iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
    let end = bytes[start..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| start + length);
    let line = &bytes[start..end];
    let named = line.windows(6).position(|word| word.eq_ignore_ascii_case(b"secret"))?;
    let equals = named + line[named..].iter().position(|byte| *byte == b'=')?;
    Some(Span { start: start + equals + 1, end })
}
