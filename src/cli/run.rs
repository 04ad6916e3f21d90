//! `portcullis run`: the gateway itself, and on a development machine what to try next.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use super::{fail, paint, print};
use crate::app::{self, AppError};
use crate::auth::{Algorithm, IssuerSettings, KeySource, SigningKey, UnixSeconds, mint};
use crate::config::Config;

/// How long the token of the greeting is good for, in seconds.
const GREETING_TOKEN_SECS: u64 = 12 * 3600;

pub(super) fn run(path: &Path) -> ExitCode {
    if let Err(error) = app::prepare_development(path) {
        return fail(&error);
    }
    let greet = |config: &Config| {
        if config.server.development {
            print(&greeting(config));
        }
    };
    match app::run(path, greet) {
        Ok(()) => ExitCode::SUCCESS,
        Err(AppError::Config(problems)) => {
            let report = super::check::refusal(&problems, paint());
            io::stderr().write_all(report.as_bytes()).ok(); // nowhere is left to say it if this fails
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}

/// What to try next, with a token that works when pasted.
fn greeting(config: &Config) -> String {
    let mut text = String::from(
        "\nPortcullis is up, with DEVELOPMENT certificate and keys: never use them in earnest.\n\
         Try (-k, because nobody vouches for a development certificate):\n\n",
    );
    let listener = config.listeners.iter().find(|listener| listener.tls.is_some());
    let port = listener.map_or(443, |listener| listener.listen.address.port());
    let base = format!("https://localhost:{port}");
    let mut line = |words: &[&str]| {
        text.extend(words.iter().copied().chain(["\n"]));
    };
    line(&["  curl -k ", &base, "/"]);
    if let Some((path, token)) = guarded(config) {
        let path = path.trim_end_matches('/');
        line(&["  curl -k -i ", &base, path, "/whoami    # refused: no token"]);
        line(&["  curl -k ", &base, path, "/whoami -H 'Authorization: Bearer ", &token, "'"]);
    }
    if let Some(admin) = config.admin {
        line(&["\nStatus page: http://", &admin.to_string(), "/    Stop: Ctrl-C\n"]);
    }
    text
}

/// A route that needs a token, and one that passes.
fn guarded(config: &Config) -> Option<(&str, String)> {
    config.routes.iter().find_map(|route| {
        let issuer = route.auth.issuers().next()?;
        Some((&*route.path, development_token(&config.issuers[issuer])?))
    })
}

fn development_token(issuer: &IssuerSettings) -> Option<String> {
    let KeySource::Secret(secret) = &issuer.keys.first()?.source else { return None };
    let claims = super::token::standard_claims(issuer, Some("alice"), UnixSeconds::now(), GREETING_TOKEN_SECS);
    mint(Algorithm::Hs256, &SigningKey::Secret(secret.clone()), None, &claims).ok()
}
