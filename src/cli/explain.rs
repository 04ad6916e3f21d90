//! `portcullis explain METHOD URL`: which route a request takes, what that route demands and does, and why a token passes or fails.
//!
//! Uses the same target, router, policy and verification as a request does, so that what it says is what happens.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use http::{Method, Request, Uri, header};

use super::{fail, print, token_of};
use crate::app::described;
use crate::auth::{Issuer, IssuerSettings, KeyProblem, Policy, RemoteKeys, RemoteSettings, UnixSeconds, explain_token};
use crate::config::{self, Config, Problems, Route};
use crate::fetch::FetchError;
use crate::http::{Target, TargetError};
use crate::route::{RouteError, Router, Rule};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis explain GET https://localhost:8443/api/items
  portcullis explain POST https://api.example.com/orders/7 --token - < token.txt")]
pub(super) struct Explain {
    /// The request's method.
    method: Method,
    /// The request's URL.
    url: Uri,
    /// A bearer token to try, or `-` for standard input, which keeps it out of the shell's history.
    #[arg(long)]
    token: Option<String>,
}

/// Why there is nothing to explain.
#[derive(Debug, thiserror::Error)]
enum ExplainError {
    #[error("{0}")]
    Config(Problems),
    #[error("the URL must be absolute, as https://HOST/PATH")]
    NotAbsolute,
    #[error("this request is refused with status 400 or 405 before any route is looked for")]
    Target(#[source] TargetError),
    #[error("cannot read the token")]
    Token(#[source] io::Error),
    #[error("the issuer's keys can't be fetched")]
    Fetch(#[source] FetchError),
    #[error("the system gives no runtime to fetch keys with")]
    Runtime(#[source] io::Error),
    #[error("the issuer's keys can't be used: {0:?}")]
    Keys(Vec<KeyProblem>),
}

pub(super) fn run(path: &Path, arguments: &Explain) -> ExitCode {
    match explained(path, arguments) {
        Ok(text) => print(&text),
        Err(error) => fail(&error),
    }
}

fn explained(path: &Path, arguments: &Explain) -> Result<String, ExplainError> {
    let config = config::load(path).map_err(ExplainError::Config)?.config;
    let target = target(arguments, config.limits.target_bytes)?;
    let mut text =
        format!("request   {} {}://{}{}\n", arguments.method, target.scheme(), target.authority(), target.path());
    let rules = config.routes.iter().map(|route| Rule {
        hosts: route.hosts.clone(),
        path: route.path.clone(),
        methods: route.methods.clone(),
        value: route,
    });
    match Router::new(rules).find(target.host(), target.path(), &arguments.method) {
        Err(RouteError::NotFound) => text.push_str("route     none: answered 404\n"),
        Err(RouteError::MethodNotAllowed { allow }) => {
            let allow: Vec<_> = allow.iter().map(Method::as_str).collect();
            writeln!(text, "route     none for this method: answered 405, Allow: {}", allow.join(", "))
                .expect("a string takes any text");
        }
        Ok(route) => tell(&mut text, &config, route, arguments)?,
    }
    Ok(text)
}

fn target(arguments: &Explain, longest: usize) -> Result<Target, ExplainError> {
    let host = arguments.url.authority().ok_or(ExplainError::NotAbsolute)?;
    let secure = arguments.url.scheme_str() == Some("https");
    let request = Request::builder().method(&arguments.method).uri(&arguments.url).header(header::HOST, host.as_str());
    let (head, ()) = request.body(()).map_err(|_| ExplainError::NotAbsolute)?.into_parts();
    Target::read(&head, secure, longest).map_err(ExplainError::Target)
}

fn tell(text: &mut String, config: &Config, route: &Route, arguments: &Explain) -> Result<(), ExplainError> {
    let words = described(config, route);
    let mut fetches = Vec::new();
    let policy = policy(config, route, &mut fetches)?;
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<10}{value}").expect("a string takes any text");
    line("route", &words.name);
    line("matches", &words.matches);
    line("policy", &policy.describe());
    for failure in &fetches {
        line("keys", failure);
    }
    line("action", &words.action);
    line("body", &format!("at most {} bytes", route.body_bytes));
    for forward in &route.auth.forward.claims {
        line("sets", &format!("{} from claim {}", forward.header, forward.claim));
    }
    if let Some(header) = &route.auth.forward.all_claims {
        line("sets", &format!("{header} from all claims"));
    }
    for (name, value) in &route.response_headers {
        line("answers", &format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())));
    }
    if let Some(given) = &arguments.token {
        let token = token_of(given).map_err(ExplainError::Token)?;
        let steps = explain_token(&policy, &arguments.method, &token, UnixSeconds::now());
        for step in &steps {
            line(if step.ok { "  ok" } else { "  NO" }, &format!("{}: {}", step.name, step.detail));
        }
        let passes = steps.iter().all(|step| step.ok);
        line("verdict", if passes { "the token passes" } else { "the token is refused" });
    }
    Ok(())
}

/// The route's policy with the keys its issuers have now; a fetch that failed is told in `failures`.
fn policy(config: &Config, route: &Route, failures: &mut Vec<String>) -> Result<Policy, ExplainError> {
    let asked: Vec<usize> = route.auth.issuers().collect();
    let compile = |(index, settings): (usize, &IssuerSettings)| {
        let (issuer, _) = Issuer::compile(settings.clone()).map_err(ExplainError::Keys)?;
        let remote = settings.remote.as_ref().filter(|_| asked.contains(&index));
        let remote = remote.map(|remote| fetched(remote, failures)).transpose()?;
        Ok(Arc::new(match remote {
            Some(remote) => issuer.fed_by(Arc::new(remote)),
            None => issuer,
        }))
    };
    let issuers: Result<Vec<_>, _> = config.issuers.iter().enumerate().map(compile).collect();
    Ok(Policy::compile(&route.auth, &issuers?))
}

/// The keys an issuer publishes now, else the copy a gateway would begin with. What is wrong with them, the trace of a token says.
fn fetched(settings: &RemoteSettings, failures: &mut Vec<String>) -> Result<RemoteKeys, ExplainError> {
    // The copy is the gateway's to write: with another account's file there, it could not.
    let not_kept = RemoteSettings { last_good: None, ..settings.clone() };
    let remote = RemoteKeys::new(not_kept).map_err(ExplainError::Fetch)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExplainError::Runtime)?;
    let came = runtime.block_on(async {
        tokio::select! {
            came = remote.refetch() => came,
            () = remote.keep_fresh() => false,
        }
    });
    if !came {
        let error = remote.status().last_error.unwrap_or_else(|| "no answer in time".to_owned());
        failures.push(format!("cannot be fetched: {error}"));
        return RemoteKeys::new(settings.clone()).map_err(ExplainError::Fetch);
    }
    Ok(remote)
}
