//! `portcullis jwks doctor URL`: fetches a key set as the gateway would, and says what is right and wrong with it.
//!
//! Exit codes: 0 nothing is bad (warnings may have been printed), 1 something is, or there is no set.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::{fail, print};
use crate::auth::{Finding, Severity, check_key_set};
use crate::fetch::{FetchError, FetchSettings, Fetched, Fetcher, Location, LocationError};
use crate::observe::Chain;

/// Shorter than this, and every gateway asks all the time.
const SHORT: Duration = Duration::from_mins(1);
/// Longer than this, and a key that was taken out is believed for too long.
const LONG: Duration = Duration::from_hours(24);

/// What is done with key sets.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Jwks {
    /// Examine a published key set: how it is served, which keys can be used, and what the next rotation will meet.
    #[command(after_help = "\
Examples:
  portcullis jwks doctor https://id.example.com/.well-known/jwks.json
  portcullis jwks doctor https://id.internal/keys --ca-file /etc/ssl/internal-ca.pem
  portcullis jwks doctor ./keys.json

Every line begins with ok, warn or bad. The exit code is 1 if one is bad.")]
    Doctor(Doctor),
}

#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// The URL of the key set, or a file, which is judged as if it were published.
    #[arg(value_name = "URL|PATH")]
    set: String,
    /// The only authorities to trust, in PEM; those of the operating system by default.
    #[arg(long, value_name = "PATH")]
    ca_file: Option<PathBuf>,
    /// Allow http://, where anybody on the way could replace the keys.
    #[arg(long)]
    plain_http: bool,
    /// How long the fetch may take, in seconds.
    #[arg(long, default_value_t = 5, value_name = "SECS")]
    timeout_secs: u64,
}

/// Why nothing can be examined.
#[derive(Debug, thiserror::Error)]
enum DoctorError {
    #[error("cannot read {}", .path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot fetch {url}")]
    Location {
        url: String,
        #[source]
        source: LocationError,
    },
    #[error("cannot fetch")]
    Fetcher(#[source] FetchError),
    #[error("cannot start")]
    Runtime(#[source] io::Error),
}

pub(super) fn run(command: &Jwks) -> ExitCode {
    let Jwks::Doctor(arguments) = command;
    let findings = match examine(arguments) {
        Ok(findings) => findings,
        Err(error) => return fail(&error),
    };
    let printed = print(&findings.iter().map(line).collect::<String>());
    if findings.iter().any(|finding| finding.severity == Severity::Bad) { ExitCode::FAILURE } else { printed }
}

fn line(finding: &Finding) -> String {
    let Finding { severity, subject, message, advice } = finding;
    let word = match severity {
        Severity::Good => "ok",
        Severity::Warn => "warn",
        Severity::Bad => "bad",
    };
    let mut line = format!("{word:<6}{subject:<14}{message}");
    if !advice.is_empty() {
        write!(line, ": {advice}").expect("a string takes any text");
    }
    line.push('\n');
    line
}

fn examine(arguments: &Doctor) -> Result<Vec<Finding>, DoctorError> {
    let settings = FetchSettings {
        ca_pem: arguments.ca_file.as_ref().map(|path| read(path, u64::MAX)).transpose()?,
        plain_http: arguments.plain_http,
        timeout: Duration::from_secs(arguments.timeout_secs),
        ..FetchSettings::default()
    };
    if !arguments.set.contains("://") {
        let longest = u64::try_from(settings.max_bytes).unwrap_or(u64::MAX);
        return Ok(check_key_set(&read(&PathBuf::from(&arguments.set), longest)?));
    }
    let location = Location::parse(&arguments.set, settings.plain_http)
        .map_err(|source| DoctorError::Location { url: arguments.set.clone(), source })?;
    let fetcher = Fetcher::new(&settings).map_err(DoctorError::Fetcher)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(DoctorError::Runtime)?;
    Ok(match runtime.block_on(fetcher.get(&location)) {
        Ok(answer) => {
            let mut findings = vec![check_type(&answer), check_max_age(answer.max_age)];
            findings.extend(check_key_set(&answer.body));
            findings
        }
        Err(error) => vec![Finding::bad("fetch", Chain(&error).to_string(), remedy(&error))],
    })
}

fn read(path: &PathBuf, longest: u64) -> Result<Vec<u8>, DoctorError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(longest).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|source| DoctorError::Read { path: path.clone(), source })
}

fn check_type(answer: &Fetched) -> Finding {
    let sent = answer.content_type.as_deref().unwrap_or_default();
    let essence = sent.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let message =
        format!("{}, content type {}", answer.status, if sent.is_empty() { "absent" } else { sent }.escape_debug());
    match essence.as_str() {
        "application/jwk-set+json" | "application/json" => Finding::good("status", message),
        _ => Finding::warn("status", message, "serve it as application/jwk-set+json or application/json"),
    }
}

fn check_max_age(max_age: Option<Duration>) -> Finding {
    let subject = "max-age";
    let Some(age) = max_age else {
        let advice = "send `Cache-Control: max-age=600`, or gateways guess how often to ask";
        return Finding::warn(subject, "absent", advice);
    };
    let message = humantime::format_duration(age).to_string();
    if age < SHORT {
        Finding::warn(subject, message, "too short: gateways do not ask that often; send a minute or more")
    } else if age > LONG {
        Finding::warn(subject, message, "too long: a key that is taken out stays in use meanwhile; send a day or less")
    } else {
        Finding::good(subject, message)
    }
}

fn remedy(error: &FetchError) -> &'static str {
    match error {
        FetchError::Connect(_) => {
            "check name, port and network; for a certificate of an authority of your own, name it with --ca-file"
        }
        FetchError::Timeout(_) => "the server is too slow or not reachable from here; try --timeout-secs",
        FetchError::Redirect { .. } => "redirects are never followed: use the URL that they end at",
        FetchError::Status { .. } => "check the URL; a key set is public, so it must not need a login",
        FetchError::TooLarge { .. } => "a key set has a few keys of a few hundred bytes each: check the URL",
        FetchError::PlainHttp => "use https",
        FetchError::CaPem | FetchError::NoRoots | FetchError::Tls(_) => "check the trusted certificates",
        FetchError::Exchange(_) | FetchError::Body(_) => "the server does not speak HTTP/1.1 as it should: see its log",
    }
}
