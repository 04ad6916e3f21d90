//! `portcullis reload`: has the running gateway reload and says how that went; with `--dry-run`, what a reload would change.
//!
//! The gateway itself reads the file and compares: it alone has the environment, the rights and the generation that runs. Only with
//! `--against` two files are compared here, and no gateway is asked.
//!
//! Exit codes: 0 done, or nothing would change; 1 it failed or was refused, and standard error says why; 3 something would change (2 is
//! clap's, for usage).

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::admin::{AskFailure, ask};
use super::planned::described;
use super::{check, fail, paint, print};
use crate::app::{Plan, Side, fingerprint};
use crate::config::{self, Problems, System};

/// Something would change.
const DIFFERS: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis reload                                  reload now, and say whether it did
  portcullis reload --dry-run -c /etc/portcullis/new.toml
                                                     what it would change, in the place of the file that runs;
                                                     it must be in the same directory
  portcullis reload --dry-run --format json          the same for the file itself, for programs
  portcullis reload --dry-run -c gateway.toml --against /tmp/old.toml
                                                     compare two files, without a gateway
  portcullis reload --admin 127.0.0.1:9180           where the configuration cannot be read

Exit status: 0 reloaded, or nothing would change; 1 refused, the old configuration runs on; 2 usage; with --dry-run 3, something
would change.")]
pub(super) struct Reload {
    /// Change nothing: say what a reload with this file would change.
    #[arg(long)]
    dry_run: bool,
    /// Compare with this file, which is read as if it stood in the place of the other, and not with a running gateway.
    #[arg(long, value_name = "PATH", requires = "dry_run", conflicts_with = "admin")]
    against: Option<PathBuf>,
    /// The admin listener, instead of the configuration's.
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// How to say it: text for people, json for programs.
    #[arg(long, default_value = "text", value_parser = ["text", "json"])]
    format: String,
}

/// Why nothing was reloaded or compared.
#[derive(Debug, thiserror::Error)]
enum ReloadFailure {
    #[error("{0}")]
    Config(Box<Problems>),
    #[error(
        "the configuration has no [admin] with an `address`, by which the running gateway is asked: add it and restart, name the listener \
         with --admin IP:PORT, or compare two files by --dry-run --against OLD.toml; SIGHUP reloads without an answer"
    )]
    NoAdmin,
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} is refused, in the place of {}:\n{problems}", path.display(), problems.file().display())]
    Against { path: PathBuf, problems: Box<Problems> },
    #[error(transparent)]
    Ask(#[from] AskFailure),
    /// What is wrong with the configuration, as the gateway says it.
    #[error("{detail}")]
    Invalid { detail: String },
    #[error("the gateway refuses ({status}): {detail}")]
    Refused { status: u16, detail: String },
}

pub(super) fn run(path: &Path, arguments: &Reload) -> ExitCode {
    let said = match &arguments.against {
        Some(old) => compared(old, path).map(|plan| {
            let outcome = if plan.differs() { "differs" } else { "unchanged" };
            json!({ "outcome": outcome, "generation": null, "plan": plan.to_json() })
        }),
        None => asked(path, arguments),
    };
    match said {
        Ok(said) => {
            let text = if arguments.format == "json" { format!("{said:#}\n") } else { described(&said) };
            let printed = print(&text);
            if printed == ExitCode::SUCCESS && said["outcome"] == "differs" { ExitCode::from(DIFFERS) } else { printed }
        }
        Err(ReloadFailure::Config(problems)) => complain(&check::refusal(&problems, paint())),
        Err(ReloadFailure::Invalid { detail }) => {
            complain(&format!("{}\nrefused: the configuration that runs stays\n", detail.trim_end()))
        }
        Err(error) => fail(&error),
    }
}

fn complain(report: &str) -> ExitCode {
    io::stderr().write_all(report.as_bytes()).ok(); // nowhere is left to say it if this fails
    ExitCode::FAILURE
}

/// Two files, the old one as if it stood where the new one does: what they name is beside it.
fn compared(old: &Path, new: &Path) -> Result<Plan, ReloadFailure> {
    let is = config::load(new).map_err(|problems| ReloadFailure::Config(Box::new(problems)))?;
    let refused = |problems| ReloadFailure::Against { path: old.to_owned(), problems: Box::new(problems) };
    let was = config::load_bytes(new, &read(old)?, &System).map_err(refused)?;
    let (old, new) = (Side { config: &was.config, text: &was.text }, Side { config: &is.config, text: &is.text });
    Ok(Plan::new(old, new))
}

fn read(path: &Path) -> Result<Vec<u8>, ReloadFailure> {
    std::fs::read(path).map_err(|source| ReloadFailure::Read { path: path.to_owned(), source })
}

/// What the running gateway answers.
fn asked(path: &Path, arguments: &Reload) -> Result<Value, ReloadFailure> {
    let mut body = json!({ "dry_run": arguments.dry_run });
    let mut address = arguments.admin;
    if arguments.dry_run || address.is_none() {
        let bytes = read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        address = address.or_else(|| config::admin_address(&text));
        if address.is_none() {
            // Most often because it is no TOML.
            config::load(path).map_err(|problems| ReloadFailure::Config(Box::new(problems)))?;
        }
        body["file"] = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default().into();
        body["sha256"] = fingerprint(&bytes).into();
    }
    let address = address.ok_or(ReloadFailure::NoAdmin)?;
    let (status, answer) = ask(address, "POST", "/reload", &body.to_string())?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if status == 200 {
        return Ok(answer);
    }
    let detail = answer["detail"].as_str().unwrap_or("it does not say why").to_owned();
    Err(if status == 422 { ReloadFailure::Invalid { detail } } else { ReloadFailure::Refused { status, detail } })
}
