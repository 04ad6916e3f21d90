//! What `config::compile` hands to this room: what is logged, where and how.

use std::path::PathBuf;

/// The `[log]` table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Least severe level shown: error, warn, info, debug or trace.
    pub level: tracing::Level,
    /// How lines look.
    pub format: LogFormat,
    /// Whether each request leaves a line.
    pub access: bool,
    /// Where access lines go; `None` is standard output.
    pub access_file: Option<PathBuf>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Human-readable on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}
