//! Reloads that operators ask for by the admin listener, on their way to the control thread and back.
//!
//! Owns the queue between them, and which file may be meant. A file is named, and its digest given, by whoever asks: it is one beside the configuration that
//! runs, for nobody but its owner can put one there, and one whose contents are known to who asks, for problems are told with what is written there.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use tokio::sync::{mpsc, oneshot};

use super::plan::{Plan, Side};
use crate::config::{self, Config, Loaded, Sources as _, System};
use crate::observe::{Answering, Asked, Refused, Reloads, Why};

/// Requests that wait for the control thread: it is one at a time who reloads.
const WAITING: usize = 4;

/// A request, and where its answer is waited for.
pub(super) struct Request {
    pub(super) asked: Asked,
    answer: oneshot::Sender<Result<String, Refused>>,
}

/// Where requests are handed in.
#[derive(Debug)]
pub(super) struct ReloadDesk(mpsc::Sender<Request>);

impl ReloadDesk {
    pub(super) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, received) = mpsc::channel(WAITING);
        (Self(requests), received)
    }
}

impl Reloads for ReloadDesk {
    fn ask(&self, asked: Asked) -> Answering {
        let (answer, answered) = oneshot::channel();
        let sent = self.0.try_send(Request { asked, answer });
        Box::pin(async move {
            match sent {
                Ok(()) => answered.await.unwrap_or_else(|_| Err(ending())),
                Err(mpsc::error::TrySendError::Full(_)) => {
                    Err(failed("other requests to reload are waiting: ask again"))
                }
                Err(mpsc::error::TrySendError::Closed(_)) => Err(ending()),
            }
        })
    }
}

fn ending() -> Refused {
    failed("the gateway drains and reloads no more")
}

fn failed(detail: &str) -> Refused {
    Refused { why: Why::Failed, detail: detail.to_owned() }
}

/// A reload has to wait until there is one process again.
pub(super) fn upgrading() -> Refused {
    failed("an upgrade is under way: ask again when it is done")
}

impl Request {
    pub(super) fn answer(self, answer: Result<String, Refused>) {
        self.answer.send(answer).ok(); // whoever asked may have left
    }
}

/// What runs, for a request to be about.
pub(super) struct Running<'a> {
    /// The configuration file.
    pub(super) path: &'a Path,
    /// What it said when it was read last to be served.
    pub(super) text: &'a str,
    pub(super) config: &'a Config,
    pub(super) generation: u64,
}

impl Running<'_> {
    /// What a reload with the file that is asked about would do.
    pub(super) fn plan(&self, asked: &Asked) -> Result<Plan, Refused> {
        let loaded = self.candidate(asked)?;
        let new = Side { config: &loaded.config, text: &loaded.text };
        Ok(Plan::new(Side { config: self.config, text: self.text }, new))
    }

    fn candidate(&self, asked: &Asked) -> Result<Loaded, Refused> {
        let path = self.named(asked)?;
        let bytes = System.file(&path);
        if let Some((name, known)) = &asked.file {
            let is = bytes.as_deref().ok().map(fingerprint);
            if is != Some(known.to_ascii_lowercase()) {
                return Err(self.another(name));
            }
        }
        let invalid = |problems: config::Problems| Refused { why: Why::Invalid, detail: problems.to_string() };
        match bytes {
            Ok(bytes) => config::load_bytes(&path, &bytes, &System),
            Err(_) => config::load(&path), // which says why
        }
        .map_err(invalid)
    }

    /// A reload reads no other file than the one that runs.
    fn named(&self, asked: &Asked) -> Result<PathBuf, Refused> {
        let Some((name, _)) = &asked.file else { return Ok(self.path.to_owned()) };
        let path = self.path.with_file_name(name);
        if !asked.dry_run && path != self.path {
            let detail = format!("the gateway runs {}, and reloads no other file", self.path.display());
            return Err(Refused { why: Why::Conflict, detail });
        }
        Ok(path)
    }

    /// Whether there is such a file is not told.
    fn another(&self, name: &str) -> Refused {
        let beside = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let detail = format!(
            "the gateway has no `{name}` with these contents beside its configuration, in {}: put the file there, where the paths in it \
             mean what they will",
            beside.display()
        );
        Refused { why: Why::Conflict, detail }
    }

    /// The answer to a request.
    pub(super) fn said(&self, outcome: &str, plan: Option<&Plan>) -> String {
        let plan = plan.map(Plan::to_json);
        let json = serde_json::json!({ "outcome": outcome, "generation": self.generation, "plan": plan });
        format!("{json}\n")
    }
}

/// The SHA-256 of a file's contents, in hexadecimal.
pub fn fingerprint(contents: &[u8]) -> String {
    let digest = digest::digest(&digest::SHA256, contents);
    digest.as_ref().iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all that is written to it");
        text
    })
}
