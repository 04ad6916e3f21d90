//! The command line: arguments in, exit codes out, no logic. One file a subcommand.
//!
//! Exit codes: 0 done, 1 it failed and standard error says why, 2 usage (clap's own); and 3 of `reload --dry-run`, something would change.
//! Standard output is for results, standard error for everything else.

mod admin;
pub mod check;
mod compress;
mod explain;
mod jwks;
mod link;
mod planned;
mod reload;
mod revoke;
mod run;
pub mod schema;
mod token;

use std::error::Error;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::Paint;
use crate::observe::Chain;

/// The front door of a web application: TLS, JWT at the edge, static files, pooled upstreams.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = EXAMPLES)]
struct Cli {
    /// The configuration file.
    #[arg(short, long, global = true, value_name = "PATH", default_value = "gateway.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  portcullis                                      run with ./gateway.toml
  portcullis run -c /etc/portcullis/gateway.toml  run with another file
  portcullis check                                say everything that is wrong with the file
  portcullis explain GET https://localhost:8443/api/items --token TOKEN
                                                  which route, which policy, and why
  portcullis token mint --issuer dev --claim sub=alice
                                                  a token that this gateway accepts
  portcullis jwks doctor https://id.example.com/.well-known/jwks.json
                                                  what is wrong with a published key set
  portcullis reload --dry-run -c new.toml         what another file would change in the running gateway
  portcullis reload                               reload it, and say how that went
  portcullis revoke --sub alice                   no token issued to alice until now passes any more
  portcullis compress staticfiles                 siblings of static files in zstd, brotli and gzip
  portcullis schema > gateway.schema.json         JSON Schema, for editors";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (the default).
    Run,
    /// Check a configuration and print every problem of it.
    Check,
    /// Tell which route, policy and headers a request meets, and why a token passes or fails.
    Explain(explain::Explain),
    /// Make or read tokens.
    #[command(subcommand)]
    Token(token::Token),
    /// Make or read signed links.
    #[command(subcommand)]
    Link(link::Link),
    /// Examine published key sets.
    #[command(subcommand)]
    Jwks(jwks::Jwks),
    /// Reload the running gateway and say how that went, or say what a reload would change.
    Reload(reload::Reload),
    /// Revoke a token, or all tokens of a subject, at the running gateway.
    Revoke(revoke::Revoke),
    /// Make the compressed siblings of static files, which the gateway sends in their place.
    Compress(compress::Compress),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// Runs what was asked for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command.unwrap_or(Command::Run) {
        Command::Run => run::run(&cli.config),
        Command::Check => check::run(&cli.config),
        Command::Explain(arguments) => explain::run(&cli.config, &arguments),
        Command::Token(command) => token::run(&cli.config, &command),
        Command::Link(command) => link::run(&cli.config, &command),
        Command::Jwks(command) => jwks::run(&command),
        Command::Reload(arguments) => reload::run(&cli.config, &arguments),
        Command::Revoke(arguments) => revoke::run(&cli.config, &arguments),
        Command::Compress(arguments) => compress::run(&arguments),
        Command::Schema => schema::run(),
    }
}

/// Prints a result; a reader that went away heard enough, a full disk did not.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

/// Most bytes of a token on standard input.
const LONGEST_TOKEN: u64 = 1 << 20;

/// A token as it was given: itself, or `-` for standard input.
fn token_of(given: &str) -> io::Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut piped = String::new();
    io::stdin().take(LONGEST_TOKEN).read_to_string(&mut piped)?;
    Ok(piped.trim().to_owned())
}

/// Says why something failed.
fn fail(error: &dyn Error) -> ExitCode {
    let said = Chain(error).to_string();
    writeln!(io::stderr(), "error: {}", said.trim_end()).ok(); // nowhere is left to say it if this fails too
    ExitCode::FAILURE
}

/// Colours on a terminal, unless they are not wanted (<https://no-color.org>).
fn paint() -> Paint {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stderr().is_terminal() && !refused { Paint::Colour } else { Paint::Plain }
}
