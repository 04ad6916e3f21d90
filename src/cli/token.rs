//! `portcullis token mint` and `token inspect`: make a token this gateway accepts, and read what a token says of itself.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Map, Value};

use super::{fail, print, token_of};
use crate::auth::{
    Algorithm, Cause, IssuerSettings, KeySource, MintError, Secret, SigningKey, Test, UnixSeconds, inspect, mint,
};
use crate::config::{self, Problems};

/// What is done with tokens.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Token {
    /// Sign a token for an issuer of the configuration.
    #[command(after_help = "\
Examples:
  portcullis token mint --issuer dev --claim sub=alice
  portcullis token mint --issuer corp --key private.pem --kid 2026-11 --algorithm ES256 --expires-secs 3600
  portcullis token mint --issuer django --claim user_id=7 --claim is_staff=true")]
    Mint(Mint),
    /// Print a token's header and claims without verifying it.
    #[command(after_help = "Example:\n  portcullis token inspect - < token.txt")]
    Inspect {
        /// The token, or `-` for standard input, which keeps it out of the shell's history.
        token: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Mint {
    /// The [issuer.NAME] whose settings the token follows.
    #[arg(long, value_name = "NAME")]
    issuer: String,
    /// A PEM private key; needed unless the issuer has a shared secret.
    #[arg(long, value_name = "PATH")]
    key: Option<PathBuf>,
    /// The algorithm; the issuer's first by default.
    #[arg(long, value_name = "ALG")]
    algorithm: Option<Algorithm>,
    /// The key's id.
    #[arg(long)]
    kid: Option<String>,
    /// A claim; the value is JSON where it can be read as JSON, text otherwise. May be given several times.
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    claims: Vec<String>,
    /// How long it is good for, in seconds.
    #[arg(long, default_value_t = 3600, value_name = "SECS")]
    expires_secs: u64,
}

/// Why no token was made or read.
#[derive(Debug, thiserror::Error)]
enum TokenError {
    #[error("{0}")]
    Config(Problems),
    #[error("there is no [issuer.{0}] in the configuration")]
    NoIssuer(String),
    #[error("[issuer.{0}] has no shared secret: name its private key with --key PATH")]
    NoKey(String),
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{0}` is not of the form NAME=VALUE")]
    Claim(String),
    #[error("cannot sign")]
    Mint(#[from] MintError),
    #[error("this is no token")]
    Inspect(#[source] Cause),
}

pub(super) fn run(path: &Path, command: &Token) -> ExitCode {
    let result = match command {
        Token::Mint(arguments) => minted(path, arguments),
        Token::Inspect { token } => inspected(token),
    };
    match result {
        Ok(text) => print(&text),
        Err(error) => fail(&error),
    }
}

fn minted(path: &Path, arguments: &Mint) -> Result<String, TokenError> {
    let loaded = config::load(path).map_err(TokenError::Config)?;
    let issuer = loaded.config.issuers.iter().find(|issuer| *issuer.name == *arguments.issuer);
    let issuer = issuer.ok_or_else(|| TokenError::NoIssuer(arguments.issuer.clone()))?;
    let key = signing_key(issuer, arguments)?;
    let usual = match key {
        SigningKey::Secret(_) => Algorithm::Hs256,
        SigningKey::Pem(_) => Algorithm::Rs256,
    };
    let algorithm = arguments.algorithm.or(issuer.algorithms.first().copied()).unwrap_or(usual);
    let mut claims = standard_claims(issuer, None, UnixSeconds::now(), arguments.expires_secs);
    for claim in &arguments.claims {
        let (name, value) = claim.split_once('=').ok_or_else(|| TokenError::Claim(claim.clone()))?;
        claims.insert(name.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| Value::from(value)));
    }
    Ok(format!("{}\n", mint(algorithm, &key, arguments.kid.as_deref(), &claims)?))
}

fn signing_key(issuer: &IssuerSettings, arguments: &Mint) -> Result<SigningKey, TokenError> {
    if let Some(path) = &arguments.key {
        let read = |source| TokenError::Read { path: path.clone(), source };
        return Ok(SigningKey::Pem(Secret::new(std::fs::read(path).map_err(read)?)));
    }
    let secret = issuer.keys.iter().find_map(|key| match &key.source {
        KeySource::Secret(secret) => Some(SigningKey::Secret(secret.clone())),
        _ => None,
    });
    secret.ok_or_else(|| TokenError::NoKey(arguments.issuer.clone()))
}

/// The claims every token of `issuer` needs, so that it is accepted as it is.
pub(super) fn standard_claims(
    issuer: &IssuerSettings,
    subject: Option<&str>,
    now: UnixSeconds,
    expires_secs: u64,
) -> Map<String, Value> {
    let now = now.as_secs();
    let mut claims = Map::new();
    claims.insert("iat".to_owned(), now.into());
    claims.insert("exp".to_owned(), now.saturating_add(expires_secs).into());
    claims.insert("jti".to_owned(), format!("minted-{now}").into());
    if let Some(subject) = subject {
        claims.insert(issuer.subject_claim.to_string(), subject.into());
    }
    if let Some(name) = &issuer.issuer {
        claims.insert("iss".to_owned(), (**name).into());
    }
    if let Some(audience) = issuer.audiences.first() {
        claims.insert("aud".to_owned(), (**audience).into());
    }
    for demand in &issuer.require {
        if let Test::Equals(value) = &demand.test {
            demand.claim.place(&mut claims, value.clone());
        }
    }
    claims
}

fn inspected(token: &str) -> Result<String, TokenError> {
    let read = |source| TokenError::Read { path: "standard input".into(), source };
    let token = token_of(token).map_err(read)?;
    let token = inspect(&token).map_err(TokenError::Inspect)?;
    let mut text = format!("header      {}\nclaims      {}\n", token.header, token.claims);
    for (name, date) in [("issued", token.issued_at), ("not before", token.not_before), ("expires", token.expires_at)] {
        if let Some(date) = date {
            writeln!(text, "{name:<10}  {}", shown(date)).expect("a string takes any text");
        }
    }
    text.push_str("\nNothing of this is proved: `portcullis explain METHOD URL --token -` verifies.\n");
    Ok(text)
}

fn shown(date: UnixSeconds) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(date.as_secs()));
    at.map_or_else(|| "a date too far to show".to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string())
}
