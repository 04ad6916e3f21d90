//! `portcullis revoke`: tells the running gateway that a token, or a subject's tokens, must not pass any more.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Map, Value};

use super::admin::{AskFailure, ask};
use super::{fail, print, token_of};
use crate::auth::Entry;
use crate::config::{self, Problems};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis revoke --token - < stolen-token.txt     one token; only its SHA-256 is sent
  portcullis revoke --jti 4f1c2a --until 2026-11-05T10:00:00Z
  portcullis revoke --sub alice                      everything issued to alice until now
  portcullis revoke --sub alice --undo
  portcullis revoke --sub alice --admin 127.0.0.1:9180
                                                     where the configuration cannot be read")]
pub(super) struct Revoke {
    #[command(flatten)]
    what: What,
    /// With --sub: tokens issued before this are revoked; Unix time or RFC 3339 in UTC. Now, if it is left out.
    #[arg(long, value_name = "TIME", conflicts_with_all = ["jti", "token"])]
    before: Option<String>,
    /// The [issuer.NAME] it is limited to.
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    issuer: Option<String>,
    /// When the tokens have expired by themselves, so that the revocation may be forgotten; Unix time or RFC 3339 in UTC.
    #[arg(long, value_name = "TIME", conflicts_with = "undo")]
    until: Option<String>,
    /// Take the revocation back.
    #[arg(long)]
    undo: bool,
    /// The admin listener, instead of the configuration's.
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct What {
    /// The `jti` of a token.
    #[arg(long)]
    jti: Option<String>,
    /// The subject all of whose tokens are meant.
    #[arg(long)]
    sub: Option<String>,
    /// The token itself, or `-` for standard input, which keeps it out of the shell's history.
    #[arg(long)]
    token: Option<String>,
}

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
enum RevokeFailure {
    #[error("{0}")]
    Config(Problems),
    #[error("the configuration has no [admin] to ask: name the listener with --admin IP:PORT")]
    NoAdmin,
    #[error("cannot read the token from standard input")]
    Token(#[source] io::Error),
    #[error(transparent)]
    Ask(#[from] AskFailure),
    #[error("the gateway refuses ({status}): {detail}")]
    Refused { status: u16, detail: String },
}

pub(super) fn run(path: &Path, arguments: &Revoke) -> ExitCode {
    match revoke(path, arguments) {
        Ok(said) => print(&said),
        Err(error) => fail(&error),
    }
}

fn revoke(path: &Path, arguments: &Revoke) -> Result<String, RevokeFailure> {
    let address = match arguments.admin {
        Some(address) => address,
        None => config::load(path).map_err(RevokeFailure::Config)?.config.admin.ok_or(RevokeFailure::NoAdmin)?,
    };
    let body = body(arguments)?.to_string();
    let method = if arguments.undo { "DELETE" } else { "POST" };
    let (status, answer) = ask(address, method, "/revocations", &body)?;
    if arguments.undo && status == 204 {
        return Ok("the revocation is taken back\n".to_owned());
    }
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    if status != 201 {
        let detail = answer["detail"].as_str().unwrap_or("it does not say why").to_owned();
        return Err(RevokeFailure::Refused { status, detail });
    }
    let said = match answer["change"].as_str() {
        Some("known") => "was revoked already",
        Some("extended") => "was revoked already, and is now for more or longer",
        _ => "revoked",
    };
    Ok(format!("{said}: {}\n", answer["revoked"]))
}

fn body(arguments: &Revoke) -> Result<Value, RevokeFailure> {
    let What { jti, sub, token } = &arguments.what;
    let mut body = Map::new();
    if let Some(token) = token {
        let token = token_of(token).map_err(RevokeFailure::Token)?;
        body.insert("token_sha256".to_owned(), Entry::of_token(token.trim(), None).to_json()["token_sha256"].clone());
    }
    let Revoke { before, issuer, until, .. } = arguments;
    for (name, value) in [("jti", jti), ("sub", sub), ("before", before), ("issuer", issuer), ("until", until)] {
        if let Some(value) = value {
            body.insert(name.to_owned(), value.as_str().into());
        }
    }
    Ok(Value::Object(body))
}
