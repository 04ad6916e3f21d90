//! The access log: one line a request, that no client can forge and no slow disk can stall.
//!
//! Owns: what a line holds, how it is escaped and redacted, and its way to the file. Refuses to know: why a request
//! ended as it did. A worker appends to a buffer of its own ([`AccessSink`]); a writer thread of its own takes full
//! buffers from a bounded queue. When that queue is full the buffer is dropped and its lines counted: a worker never
//! waits for the log.

mod clock;
mod escape;
mod json;
mod record;
mod redact;
mod text;
mod writer;

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::clock::Clock;
pub use self::record::Record;
pub use self::redact::is_redacted;
use self::writer::{Batch, Message, Writer, WriterHandle};
use super::metrics::Metrics;
use super::settings::{LogFormat, LogSettings};
use super::tracing::colour_allowed;

/// A worker hands its buffer over when it holds this much.
const BATCH_BYTES: usize = 16 * 1024;

/// Batches that may wait for the writer: about 4 MiB of lines.
const QUEUE_BATCHES: usize = 256;

/// The access log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AccessProblem {
    /// The operator's file can't be written to.
    #[error("cannot open the access log {}", path.display())]
    Open {
        /// The configured file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system gave no thread for the writer.
    #[error("cannot start the access-log writer")]
    Thread(#[source] io::Error),
}

/// The access log of the process.
#[derive(Debug)]
pub struct AccessLog {
    writer: WriterHandle,
    layout: Layout,
    metrics: Arc<Metrics>,
}

impl AccessLog {
    /// Opens the configured file, or standard output, and starts the writer thread. Whether requests are logged at all
    /// ([`LogSettings::access`]) is for the caller to ask.
    pub fn open(settings: &LogSettings, metrics: Arc<Metrics>) -> Result<Self, AccessProblem> {
        let layout = Layout::of(settings);
        let writer = Writer::open(settings.access_file.clone(), Arc::clone(&metrics))?;
        let (sender, receiver) = sync_channel(QUEUE_BATCHES);
        let writer = writer.start(sender, receiver).map_err(AccessProblem::Thread)?;
        Ok(Self { writer, layout, metrics })
    }

    /// The end of the log that one worker writes to.
    pub fn sink(&self) -> AccessSink {
        AccessSink::new(self.writer.sender(), self.layout, Arc::clone(&self.metrics))
    }

    /// Closes the file and opens it again under its name, so that a rotated file can be let go. Lines handed over
    /// before go to the old file, unless the queue is full. A file that can't be opened leaves the old one in use, with an error in the log.
    pub fn reopen(&self) {
        self.writer.reopen();
    }

    /// Writes what was handed over, then ends the writer; whether that was done within `deadline`. Flush the sinks
    /// first: lines that come later are dropped.
    pub fn finish(self, deadline: Duration) -> bool {
        self.writer.finish(deadline)
    }
}

/// One worker's end of the access log.
#[derive(Debug)]
pub struct AccessSink {
    lines: Mutex<Lines>,
    sender: SyncSender<Message>,
    layout: Layout,
    metrics: Arc<Metrics>,
}

impl AccessSink {
    fn new(sender: SyncSender<Message>, layout: Layout, metrics: Arc<Metrics>) -> Self {
        Self { lines: Mutex::default(), sender, layout, metrics }
    }

    /// Appends a line. Hands the buffer over when it is full, and never waits.
    pub fn write(&self, record: &Record<'_>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let Lines { buffer, clock, count } = &mut *lines;
        let time = clock.format(record.time);
        match self.layout {
            Layout::Json => json::line(buffer, time, record),
            Layout::Text { colour } => text::line(buffer, time, record, colour),
        }
        *count += 1;
        if lines.buffer.len() >= BATCH_BYTES {
            self.hand_over(&mut lines);
        }
    }

    /// Hands over what there is. To be called from a timer of the worker, about ten times a second, and when it ends.
    pub fn flush(&self) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.count > 0 {
            self.hand_over(&mut lines);
        }
    }

    fn hand_over(&self, lines: &mut Lines) {
        let spare = Vec::with_capacity(lines.buffer.len());
        let batch = Batch { bytes: std::mem::replace(&mut lines.buffer, spare), lines: lines.count };
        lines.count = 0;
        if let Err(rejected) = self.sender.try_send(Message::Batch(batch)) {
            drop_batch(&self.metrics, rejected);
        }
    }
}

impl Drop for AccessSink {
    fn drop(&mut self) {
        self.flush();
    }
}

#[derive(Debug, Default)]
struct Lines {
    buffer: Vec<u8>,
    clock: Clock,
    count: u64,
}

/// How a line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Json,
    Text { colour: bool },
}

impl Layout {
    fn of(settings: &LogSettings) -> Self {
        let terminal = settings.access_file.is_none() && io::stdout().is_terminal();
        match settings.format {
            LogFormat::Json => Self::Json,
            LogFormat::Auto if !terminal => Self::Json,
            LogFormat::Auto | LogFormat::Text => Self::Text { colour: terminal && colour_allowed() },
        }
    }
}

fn drop_batch(metrics: &Metrics, rejected: std::sync::mpsc::TrySendError<Message>) {
    use std::sync::mpsc::TrySendError::{Disconnected, Full};
    let (Full(message) | Disconnected(message)) = rejected;
    if let Message::Batch(batch) = message {
        metrics.access_lines_dropped(batch.lines);
    }
}

#[cfg(test)]
mod tests;
