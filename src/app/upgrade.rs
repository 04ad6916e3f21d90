//! A new process in the place of this one, with no connection refused in between: what both of them do.
//!
//! The old process starts the program at its own path, with its own arguments, and gives it one end of a line as standard input. Over
//! it go the listening sockets, and back comes the word that the new one serves; then the old one drains. A descriptor on standard
//! input needs no number to be agreed upon, and the end of the line can't be missed. Refuses to know what is served.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use crate::listen::{Inherited, hand_over, is_serving, receive, say_serving};

/// Tells a process that it was started to take the place of another, and of which.
const PREDECESSOR: &str = "PORTCULLIS_PREDECESSOR";
/// How long the new process may take until it serves: a configuration with large key sets, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a process that has closed its line may take to end.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// Why the new process does not take over.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// Everything in its container ends with the first process.
    #[error("this is process 1, with which its container ends: replace the container instead")]
    FirstProcess,
    /// The program can't be started, or not be given the sockets.
    #[error("cannot start {}", program.display())]
    Start {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// It ended before it served.
    #[error("the new process ended before it served ({0}): its last lines in the log say why")]
    Ended(ExitStatus),
    /// It neither served nor ended.
    #[error("the new process did not serve within {} s and was ended", PATIENCE.as_secs())]
    Late,
}

/// The process that is to take the place of this one. The line between the two ends when this is dropped.
#[derive(Debug)]
pub(super) struct Successor {
    child: Child,
    line: tokio::net::UnixStream,
    latest: Instant,
}

impl Successor {
    /// Starts the program that is now at the path of this one, and hands it `sockets`.
    pub(super) fn start<'a>(sockets: impl Iterator<Item = &'a TcpListener>) -> Result<Self, UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::FirstProcess);
        }
        let program = program().map_err(|source| UpgradeError::Start { program: "/proc/self/exe".into(), source })?;
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1));
        Self::start_as(command, sockets).map_err(|source| UpgradeError::Start { program, source })
    }

    fn start_as<'a>(mut command: Command, sockets: impl Iterator<Item = &'a TcpListener>) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        command.env(PREDECESSOR, std::process::id().to_string()).stdin(OwnedFd::from(theirs));
        let mut child = command.spawn()?;
        drop(command); // and with it this process's copy of the other end
        let handed = || {
            match hand_over(&ours, sockets) {
                // It has ended already; waiting for it tells how.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                handed => handed?,
            }
            ours.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(ours)
        };
        match handed() {
            Ok(line) => Ok(Self { child, line, latest: Instant::now() + PATIENCE }),
            Err(error) => {
                child.start_kill().ok(); // it may have ended, which is why
                Err(error)
            }
        }
    }

    /// The process's number.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it serves, or for the reason why it never will. Cancel safe: what was read is the last there is to read.
    pub(super) async fn serves(&mut self) -> Result<(), UpgradeError> {
        let mut read = [0; 1];
        let said = timeout_at(self.latest, self.line.read(&mut read)).await;
        if let Ok(Ok(count)) = said
            && is_serving(&read[..count])
        {
            return Ok(());
        }
        if said.is_err() {
            self.child.start_kill().ok(); // it may have ended by itself
        }
        // What it holds is free when it has ended.
        match timeout(LAST_STEPS, self.child.wait()).await {
            Ok(Ok(status)) if said.is_ok() => Err(UpgradeError::Ended(status)),
            _ => Err(UpgradeError::Late),
        }
    }

    /// Ends it, by its number, which is its own until it was waited for.
    pub(super) fn end(mut self) {
        self.child.start_kill().ok(); // it may have ended by itself
    }
}

/// The process whose place this one takes.
#[derive(Debug)]
pub(super) struct Predecessor {
    line: tokio::net::UnixStream,
}

impl Predecessor {
    /// Tells it over `line` that this process serves: it drains from now on.
    pub(super) fn take_over(line: UnixStream) -> io::Result<Self> {
        if let Err(error) = say_serving(&line) {
            tracing::warn!(%error, "the process before this one has ended by itself");
        }
        line.set_nonblocking(true)?;
        Ok(Self { line: tokio::net::UnixStream::from_std(line)? })
    }

    /// Waits until it has ended. Cancel safe.
    pub(super) async fn gone(&mut self) {
        while self.line.read(&mut [0; 8]).await.is_ok_and(|read| read > 0) {}
    }
}

/// What other processes have prepared for this one.
#[derive(Debug)]
pub(super) struct Legacy {
    pub(super) inherited: Inherited,
    /// The line to the process before this one, if it takes the place of one.
    pub(super) line: Option<UnixStream>,
}

impl Legacy {
    /// Takes it from the environment and from standard input. Call it once, before any thread is started.
    pub(super) fn of_process() -> io::Result<Self> {
        let inherited = Inherited::from_env()?; // it clears environment variables
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
        let named = std::env::var(PREDECESSOR).ok();
        // Of a parent that has ended nobody waits for this process: it begins as any other.
        if named.is_none() || named != parent {
            return Ok(Self { inherited, line: None });
        }
        let line = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        Ok(Self { inherited: Inherited::of_predecessor(receive(&line)?), line: Some(line) })
    }
}

/// The program that would be started by the same name now: the file itself may have been replaced, which proc(5) marks.
fn program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let replaced = path.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    Ok(match replaced {
        Some(named) if !path.exists() => OsStr::from_bytes(named).into(),
        _ => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Successor {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Successor::start_as(command, std::iter::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_process_that_says_so_serves() {
        let mut successor = shell("printf '!' >&0; exec sleep 60");
        successor.serves().await.unwrap();
        successor.end();
    }

    #[tokio::test]
    async fn a_process_that_ends_or_says_something_else_does_not() {
        let error = shell("exit 3").serves().await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let error = shell("echo hello >&0").serves().await.unwrap_err();
        assert!(matches!(error, UpgradeError::Ended(_)), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_says_nothing_is_late_and_ended() {
        let mut successor = shell("exec sleep 600");
        assert!(matches!(successor.serves().await.unwrap_err(), UpgradeError::Late));
        let pid = successor.pid().unwrap();
        successor.end();
        let state = || std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        while !state().is_empty() && !state().contains(") Z") {
            tokio::task::yield_now().await;
        }
    }
}
