//! The program's own log, on standard error.
//!
//! Levels say what the operator must do. Error: someone must act, requests fail or will. Warn: something is wrong and
//! can wait for the morning (a key skipped, a certificate that ends soon). Info: the state changed (started, reloaded,
//! draining). Debug: one line an event of interest to who follows one request. Trace: for who works on the program.
//! Single requests belong to the access log, and never make an error here.

use std::io::{self, IsTerminal};

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::settings::{LogFormat, LogSettings};

/// This library warns of what clients send, which is no event of ours: anybody could fill the log.
const QUIC: &str = "quinn_proto";

/// The program's log could not be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum TracingProblem {
    /// There can be one log a process.
    #[error("the log is already set up")]
    Twice(#[source] TryInitError),
    /// The log is gone, which happens only while the process ends.
    #[error("the log is gone")]
    Gone(#[source] reload::Error),
}

/// Changes the level of the log while it runs.
#[derive(Debug, Clone)]
pub struct LevelHandle(reload::Handle<Targets, Registry>);

impl LevelHandle {
    /// Shows what is at least as severe as `level` from now on.
    pub fn set(&self, level: Level) -> Result<(), TracingProblem> {
        self.0.reload(shown(level)).map_err(TracingProblem::Gone)
    }
}

/// Sets up the program's log for the whole process: text on a terminal, JSON otherwise, unless the settings say more.
pub fn init(settings: &LogSettings) -> Result<LevelHandle, TracingProblem> {
    let terminal = io::stderr().is_terminal();
    let json = match settings.format {
        LogFormat::Json => true,
        LogFormat::Text => false,
        LogFormat::Auto => !terminal,
    };
    let lines = fmt::layer().with_writer(io::stderr);
    let lines = if json {
        lines.json().flatten_event(true).with_current_span(false).boxed()
    } else {
        lines.with_ansi(terminal && colour_allowed()).boxed()
    };
    let (filter, handle) = reload::Layer::new(shown(settings.level));
    tracing_subscriber::registry().with(filter).with(lines).try_init().map_err(TracingProblem::Twice)?;
    Ok(LevelHandle(handle))
}

/// Whether a terminal may be written to in colour: not when `NO_COLOR` is set to anything.
pub(super) fn colour_allowed() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The configured level is ours alone: libraries speak up from warn on, or an operator who looks for one request at
/// debug would drown in frames. Trace is for developers and shows the libraries' debug lines as well. `h2` speaks up from error on: it
/// warns of what clients do, once a frame, and so anybody could fill the log. So does `hickory`: what comes of a question about a name is
/// said by who asked, once.
fn shown(level: Level) -> Targets {
    let libraries = if level == Level::TRACE { Level::DEBUG } else { level.min(Level::WARN) };
    let shown = Targets::new()
        .with_target(env!("CARGO_CRATE_NAME"), LevelFilter::from_level(level))
        .with_target(QUIC, LevelFilter::from_level(if level == Level::TRACE { Level::DEBUG } else { Level::ERROR }))
        .with_default(LevelFilter::from_level(libraries));
    if level == Level::TRACE {
        shown
    } else {
        shown.with_targets([("h2", LevelFilter::ERROR), ("hickory", LevelFilter::ERROR)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_is_ours_and_libraries_speak_from_warn_on() {
        for (level, ours, theirs) in [
            (Level::ERROR, Level::ERROR, Level::ERROR),
            (Level::INFO, Level::INFO, Level::WARN),
            (Level::DEBUG, Level::DEBUG, Level::WARN),
            (Level::TRACE, Level::TRACE, Level::DEBUG),
        ] {
            let shown = shown(level);
            for asked in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
                assert_eq!(shown.would_enable("portcullis::serve", &asked), asked <= ours, "{level}: ours at {asked}");
                assert_eq!(shown.would_enable("rustls::conn", &asked), asked <= theirs, "{level}: theirs at {asked}");
                let frames = if level == Level::TRACE { theirs } else { Level::ERROR };
                for chatty in ["quinn_proto::connection", "h2::proto"] {
                    assert_eq!(shown.would_enable(chatty, &asked), asked <= frames, "{level}: {chatty} at {asked}");
                }
            }
        }
    }
}
