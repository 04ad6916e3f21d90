//! `portcullis explain METHOD URL`: which route a request takes, what that route demands and does, and why a token passes or fails.
//!
//! Uses the same target, router, policy and verification as a request does, so that what it says is what happens.

use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};

use super::{fail, print, token_of};
use crate::app::described;
use crate::auth::{
    Asking, Forward, Forwarding, Issuer, IssuerSettings, KeyProblem, Policy, RemoteKeys, RemoteSettings, Step,
    UnixSeconds, explain_introspected, explain_link, explain_token, introspection_url,
};
use crate::config::{self, Action, Config, Internal, Problems, Route};
use crate::fetch::FetchError;
use crate::http::compress::CompressSettings;
use crate::http::cors::CorsSettings;
use crate::http::{Target, TargetError};
use crate::limit::{CountedBy, LimitSettings, Quota};
use crate::route::{RouteError, Router, Rule};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  portcullis explain GET https://localhost:8443/api/items
  portcullis explain POST https://api.example.com/orders/7 --token - < token.txt
  portcullis explain GET https://api.example.com/files --token - --introspect < token.txt")]
pub(super) struct Explain {
    /// The request's method.
    method: Method,
    /// The request's URL.
    url: Uri,
    /// A bearer token to try, or `-` for standard input, which keeps it out of the shell's history.
    #[arg(long)]
    token: Option<String>,
    /// Ask the issuer about the token, where a request would have it asked; the token is sent there.
    #[arg(long, requires = "token")]
    introspect: bool,
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
    #[error("the system gives no runtime to ask the issuer with")]
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
    let router = Router::new(rules).with_unknown_host(config.server.unknown_host);
    match router.find(target.host(), target.path(), &arguments.method) {
        Err(RouteError::UnknownHost) => text.push_str("route     none names this host: answered 421\n"),
        Err(RouteError::NotFound) => text.push_str("route     none: answered 404\n"),
        Err(RouteError::MethodNotAllowed { allow }) => {
            let allow: Vec<_> = allow.iter().map(Method::as_str).collect();
            writeln!(text, "route     none for this method: answered 405, Allow: {}", allow.join(", "))
                .expect("a string takes any text");
        }
        Ok(route) => tell(&mut text, &config, route, &target, arguments)?,
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

fn tell(
    text: &mut String,
    config: &Config,
    route: &Route,
    target: &Target,
    arguments: &Explain,
) -> Result<(), ExplainError> {
    let words = described(config, route);
    let mut fetches = Vec::new();
    let policy = policy(config, route, &mut fetches)?;
    let mut line = |name: &str, value: &str| {
        let value = value.replace('\n', "\n          "); // what belongs to a name stands below it
        writeln!(text, "{name:<10}{value}").expect("a string takes any text");
    };
    line("route", &words.name);
    line("matches", &words.matches);
    line("policy", &policy.describe());
    for failure in &fetches {
        line("keys", failure);
    }
    line("action", &words.action);
    for internal in handed_out(config, route) {
        let root = internal.site.root.display();
        line("sends", &format!("files of {root}, named {} by X-Accel-Redirect, or by X-Sendfile", internal.path));
    }
    line("body", &format!("at most {} bytes", route.body_bytes));
    for (name, value) in forwarded(&route.auth.forward) {
        line(name, &value);
    }
    if let (Some(identity), Some(audience)) = (&config.identity, &route.auth.forward.identity) {
        line("sets", &format!("{}, signed by the gateway for `{audience}`", identity.header));
    }
    let field =
        |(name, value): &(HeaderName, HeaderValue)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()));
    for set in &route.response_headers {
        line("answers", &field(set));
    }
    let said = |name: &HeaderName| route.response_headers.iter().any(|(set, _)| set == name);
    for default in route.default_headers.iter().filter(|(name, _)| !said(name)) {
        line("answers", &format!("{}, unless the upstream says otherwise", field(default)));
    }
    let limits = route.rate_limits.iter().map(|index| ("limit", limited(&config.rate_limits[*index])));
    let cors = route.cors.iter().map(|cors| ("cors", shown_to(cors)));
    let compress = route.compress.iter().map(|settings| ("compress", compressed(settings)));
    for (name, value) in limits.chain(cors).chain(compress) {
        line(name, &value);
    }
    if arguments.token.is_none()
        && let Some(step) = explain_link(&policy, &asking(&arguments.method, target))
    {
        line(if step.ok { "  ok" } else { "  NO" }, &format!("{}: {}", step.name, step.detail));
        line("verdict", if step.ok { "the link passes" } else { "the link is refused" });
    }
    if let Some(given) = &arguments.token {
        let token = token_of(given).map_err(ExplainError::Token)?;
        let url = introspection_url(&policy, &arguments.method, &token);
        if let Some(url) = url.filter(|_| !arguments.introspect) {
            line("  ?", &format!("introspection: the token would be sent to {url}; --introspect sends it"));
            line("verdict", "only the issuer knows");
            return Ok(());
        }
        let steps = steps(&policy, target.path(), arguments, &token)?;
        for step in &steps {
            line(if step.ok { "  ok" } else { "  NO" }, &format!("{}: {}", step.name, step.detail));
        }
        let passes = steps.iter().all(|step| step.ok);
        line("verdict", if passes { "the token passes" } else { "the token is refused" });
    }
    Ok(())
}

/// The request as far as links are judged.
fn asking<'r>(method: &'r Method, target: &'r Target) -> Asking<'r> {
    static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    Asking {
        method,
        headers: &NO_FIELDS,
        target,
        secure: target.scheme() == "https",
        client_certificate: None,
        tunnel: false,
        now: UnixSeconds::now(),
    }
}

/// What the route's upstream may have the gateway send.
fn handed_out<'c>(config: &'c Config, route: &Route) -> impl Iterator<Item = &'c Internal> {
    let by = match &route.action {
        Action::Upstream { upstream, .. } => Some(*upstream),
        _ => None,
    };
    config.internal.iter().filter(move |internal| by.is_some_and(|by| internal.handed_out_by.contains(&by)))
}

/// Whose scripts may use a route, and how.
fn shown_to(cors: &CorsSettings) -> String {
    let origins: Vec<_> = cors.origins.iter().map(ToString::to_string).collect();
    let mut text = format!("{} by {}", origins.join(" "), String::from_utf8_lossy(cors.methods.as_bytes()));
    for (what, names) in [("sending", &cors.headers), ("reading", &cors.expose)] {
        let names = names.iter().map(|names| format!(", {what} {}", String::from_utf8_lossy(names.as_bytes())));
        text.extend(names);
    }
    text + if cors.credentials { ", with credentials" } else { "" }
}

/// How often a route may be used, and by whom.
fn limited(limit: &LimitSettings) -> String {
    let Quota { requests, per_secs, burst } = limit.quota;
    let by = match &limit.by {
        CountedBy::Client { .. } => "for each client".to_owned(),
        CountedBy::Header { name, .. } => format!("for each value of {name}"),
        CountedBy::Claim { path, .. } => format!("for each value of the claim {path}"),
        CountedBy::Route => "for all together".to_owned(),
    };
    let trial = if limit.dry_run { ", on trial" } else { "" };
    format!("{}: {requests} requests in {per_secs} s, {burst} at once, {by}{trial}", limit.name)
}

/// Which answers of a route are compressed.
fn compressed(settings: &CompressSettings) -> String {
    let codings: Vec<_> = settings.codings.iter().map(|coding| coding.name()).collect();
    let cookies = if settings.with_cookies { ", with cookies too" } else { "" };
    format!("{} from {} bytes on{cookies}", codings.join(" "), settings.min_bytes)
}

/// What the upstream is told of who passed.
fn forwarded(forward: &Forwarding) -> Vec<(&'static str, String)> {
    let one = |one: &Forward| ("sets", format!("{} from claim {}", one.header, one.claim));
    let mut lines: Vec<_> = forward.claims.iter().map(one).collect();
    lines.extend(forward.all_claims.iter().map(|header| ("sets", format!("{header} from all claims"))));
    if !forward.token {
        lines.push(("removes", "the token, wherever it stood".to_owned()));
    }
    lines
}

fn steps(policy: &Policy, path: &str, arguments: &Explain, token: &str) -> Result<Vec<Step>, ExplainError> {
    let now = UnixSeconds::now();
    if !arguments.introspect {
        return Ok(explain_token(policy, &arguments.method, path, token, now));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(ExplainError::Runtime)?;
    Ok(runtime.block_on(explain_introspected(policy, &arguments.method, path, token, now)))
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
