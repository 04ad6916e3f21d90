//! `portcullis link mint` and `link inspect`: make a signed link, and tell what is wrong with one.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use http::{Method, Request, Uri, header};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::{fail, print};
use crate::auth::{LinkFault, LinkSettings, UnixSeconds, inspect_link, sign_link};
use crate::config::{self, Config, Problems, Route};
use crate::http::{Target, TargetError};
use crate::route::{Router, Rule};

/// What is done with signed links.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Link {
    /// Sign a link for a route that takes such.
    #[command(after_help = "\
Examples:
  portcullis link mint https://www.example.com/media/a%20b.pdf --expires-in 3600
  portcullis link mint \"/media/a b.pdf\"           only path and query, encoded")]
    Mint {
        /// The URL, or its path and query. What cannot stand in a URL is encoded.
        url: String,
        /// For how long it is good, in seconds.
        #[arg(long, default_value_t = 3600, value_name = "SECS")]
        expires_in: u64,
    },
    /// Tell when a link expires, which secret signed it, and why it would be refused.
    #[command(after_help = "\
Example:
  portcullis link inspect \"https://www.example.com/media/a.pdf?expires=1764250000&signature=...\"")]
    Inspect {
        /// The link, or its path and query.
        url: String,
    },
}

/// Why no link was made or read.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("{0}")]
    Config(Problems),
    #[error("`{0}` is neither a URL as https://HOST/PATH nor a path as /PATH")]
    Url(String),
    #[error("this request is refused before any route is looked for")]
    Target(#[source] TargetError),
    #[error("no route that takes `signed_links` matches")]
    NoRoute,
    #[error("a link of the route `{route}` is good for {most} seconds at most (`max_age_secs`)")]
    TooLong { route: Box<str>, most: u64 },
    #[error("cannot sign")]
    Sign(#[source] LinkFault),
}

pub(super) fn run(path: &Path, command: &Link) -> ExitCode {
    let result = match command {
        Link::Mint { url, expires_in } => minted(path, url, *expires_in),
        Link::Inspect { url } => inspected(path, url),
    };
    match result {
        Ok(text) => print(&text),
        Err(error) => fail(&error),
    }
}

fn minted(path: &Path, url: &str, expires_in: u64) -> Result<String, LinkError> {
    let config = config::load(path).map_err(LinkError::Config)?.config;
    let asked = Asked::read(url)?;
    let (route, links, target) = asked.find(&config)?;
    if expires_in > links.max_age_secs {
        return Err(LinkError::TooLong { route: route.name.clone(), most: links.max_age_secs });
    }
    let expires = UnixSeconds::from_secs(UnixSeconds::now().as_secs().saturating_add(expires_in));
    let signed = sign_link(links, target.path_and_query().as_str(), expires).map_err(LinkError::Sign)?;
    Ok(format!("{}{signed}\n", asked.origin))
}

fn inspected(path: &Path, url: &str) -> Result<String, LinkError> {
    let config = config::load(path).map_err(LinkError::Config)?.config;
    let (route, links, target) = Asked::read(url)?.find(&config)?;
    let found = inspect_link(links, &target, UnixSeconds::now());
    let mut text = String::new();
    let mut line = |name: &str, value: &str| writeln!(text, "{name:<10}{value}").expect("a string takes any text");
    line("route", &route.name);
    if let Some(expires) = found.expires {
        line("expires", &shown(expires));
    }
    let by = found.signed_by.map(|at| format!("secret {} of {}", at + 1, links.secrets.len()));
    line("signed by", by.as_deref().unwrap_or("none of the route's secrets"));
    match found.fault {
        None => line("verdict", "the link passes"),
        Some(fault) => line("verdict", &format!("refused: {fault}")),
    }
    Ok(text)
}

/// A URL as it was given, encoded where it must be.
struct Asked {
    /// Scheme and authority; empty if only a path was given.
    origin: String,
    uri: Uri,
}

impl Asked {
    fn read(url: &str) -> Result<Self, LinkError> {
        /// What stands in no URL as it is (RFC 3986 section 2). A `%` is taken for the beginning of an escape.
        const ILLEGAL: &AsciiSet = &CONTROLS
            .add(b' ')
            .add(b'"')
            .add(b'<')
            .add(b'>')
            .add(b'\\')
            .add(b'^')
            .add(b'`')
            .add(b'{')
            .add(b'|')
            .add(b'}');
        let wrong = || LinkError::Url(url.to_owned());
        let uri: Uri = utf8_percent_encode(url, ILLEGAL).to_string().parse().map_err(|_| wrong())?;
        let origin = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
            (None, None) if url.starts_with('/') => String::new(),
            _ => return Err(wrong()),
        };
        Ok(Self { origin, uri })
    }

    /// The route that takes the request, as the gateway would find it; without a host, at the first host whose route takes links.
    fn find<'c>(&self, config: &'c Config) -> Result<(&'c Route, &'c LinkSettings, Target), LinkError> {
        let rules = config.routes.iter().map(|route| Rule {
            hosts: route.hosts.clone(),
            path: route.path.clone(),
            methods: route.methods.clone(),
            value: route,
        });
        let router = Router::new(rules);
        let hosts: Vec<String> = match self.uri.authority() {
            Some(authority) => vec![authority.to_string()],
            None => config.routes.iter().filter(|route| route.auth.links().is_some()).map(host_of).collect(),
        };
        for host in hosts {
            let target = self.target(&host, config.limits.target_bytes)?;
            let Ok(route) = router.find(target.host(), target.path(), &Method::GET) else { continue };
            if let Some(links) = route.auth.links() {
                return Ok((route, links, target));
            }
        }
        Err(LinkError::NoRoute)
    }

    fn target(&self, host: &str, longest: usize) -> Result<Target, LinkError> {
        let secure = self.uri.scheme_str() != Some("http");
        let request = Request::builder().uri(&self.uri).header(header::HOST, host).body(());
        let (head, ()) = request.map_err(|_| LinkError::Url(self.uri.to_string()))?.into_parts();
        Target::read(&head, secure, longest).map_err(LinkError::Target)
    }
}

fn host_of(route: &Route) -> String {
    route.hosts.first().map_or_else(|| "localhost".to_owned(), |host| host.replace('*', "any"))
}

fn shown(date: UnixSeconds) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_secs(date.as_secs()));
    at.map_or_else(|| "a date too far to show".to_owned(), |at| humantime::format_rfc3339_seconds(at).to_string())
}
