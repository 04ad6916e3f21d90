//! The thread that writes the access log, so that no worker ever waits for a disk or a pipe.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use super::AccessProblem;
use crate::observe::metrics::Metrics;

/// Whole lines, handed over by one worker.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

#[derive(Debug)]
pub(super) enum Message {
    Batch(Batch),
    Reopen,
    Stop,
}

/// How the rest of the process reaches the writer.
#[derive(Debug)]
pub(super) struct WriterHandle {
    sender: SyncSender<Message>,
    orders: Arc<Orders>,
    done: Receiver<()>,
}

/// What was asked for while the queue was full: the writer looks here after every message, and a full queue means that
/// there is one to come.
#[derive(Debug, Default)]
struct Orders {
    reopen: AtomicBool,
    stop: AtomicBool,
}

impl WriterHandle {
    pub(super) fn sender(&self) -> SyncSender<Message> {
        self.sender.clone()
    }

    pub(super) fn reopen(&self) {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Reopen) {
            self.orders.reopen.store(true, Ordering::Release);
        }
    }

    pub(super) fn finish(self, deadline: Duration) -> bool {
        if let Err(TrySendError::Full(_)) = self.sender.try_send(Message::Stop) {
            self.orders.stop.store(true, Ordering::Release);
        }
        // The writer sends nothing: it lets go of its end when all is written.
        matches!(self.done.recv_timeout(deadline), Err(RecvTimeoutError::Disconnected))
    }
}

/// The open log and what happened to it.
pub(super) struct Writer {
    path: Option<PathBuf>,
    output: Output,
    metrics: Arc<Metrics>,
    /// The last write failed: said once, not for every batch.
    failing: bool,
    /// The last write ended within a line: the next one must not begin there.
    torn: bool,
}

enum Output {
    Standard(io::Stdout),
    File(File),
}

impl Writer {
    pub(super) fn open(path: Option<PathBuf>, metrics: Arc<Metrics>) -> Result<Self, AccessProblem> {
        let output = match &path {
            None => Output::Standard(io::stdout()),
            Some(file) => {
                Output::File(append_to(file).map_err(|source| AccessProblem::Open { path: file.clone(), source })?)
            }
        };
        Ok(Self { path, output, metrics, failing: false, torn: false })
    }

    pub(super) fn start(self, sender: SyncSender<Message>, queue: Receiver<Message>) -> io::Result<WriterHandle> {
        let orders = Arc::new(Orders::default());
        let (done_sender, done) = sync_channel(0);
        let theirs = Arc::clone(&orders);
        thread::Builder::new().name("access-log".to_string()).spawn(move || {
            self.run(&queue, &theirs);
            drop(done_sender);
        })?;
        Ok(WriterHandle { sender, orders, done })
    }

    fn run(mut self, queue: &Receiver<Message>, orders: &Orders) {
        while let Ok(message) = queue.recv() {
            match message {
                Message::Batch(batch) => self.write(&batch),
                Message::Reopen => self.reopen(),
                Message::Stop => orders.stop.store(true, Ordering::Relaxed),
            }
            if orders.reopen.swap(false, Ordering::Acquire) {
                self.reopen();
            }
            if orders.stop.load(Ordering::Acquire) {
                break;
            }
        }
        while let Ok(message) = queue.try_recv() {
            if let Message::Batch(batch) = message {
                self.write(&batch);
            }
        }
    }

    fn write(&mut self, batch: &Batch) {
        match self.try_write(&batch.bytes) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("the access log is written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.metrics.access_lines_dropped(batch.lines);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(%error, "cannot write the access log; lines are lost until it works again");
                }
            }
        }
    }

    fn try_write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if self.torn {
            self.output.write_all(b"\n")?;
            self.torn = false;
        }
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.torn = bytes[written - 1] != b'\n';
                    bytes = &bytes[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.output.flush()
    }

    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => {
                self.output = Output::File(file);
                self.torn = false;
            }
            Err(error) => {
                tracing::error!(%error, path = %path.display(), "cannot reopen the access log; the old file stays in use");
            }
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Standard(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Standard(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
        }
    }
}

/// Opens the log at its end; a new file can be read by its owner and group alone, since it names who did what.
fn append_to(path: &PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}
