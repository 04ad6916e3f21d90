//! The process: workers, control thread, reload, upgrade and stop.
//!
//! One of the few rooms that know every stage. Owns what happens when: load, bind, start, publish, drain. Refuses to know how
//! a request is served. Nothing is half started: what fails before the first generation is live ends the process with a reason.

mod assemble;
mod board;
mod carry;
mod control;
mod drains;
mod hatch;
mod limits;
mod names;
mod operators;
mod plan;
mod publish;
mod quic;
mod request;
mod restart;
mod revocation;
mod sharing;
mod sockets;
mod upgrade;
mod upkeep;
mod watch;
mod worker;

pub use board::described;
pub use plan::{Plan, Side};
pub use request::fingerprint;

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::auth::{Denied, RevokeError};
use crate::config::{self, Config, Problems};
use crate::listen::BindError;
use crate::observe::{self, AccessLog, AccessProblem, Metrics, TracingProblem, Vocabulary};
use crate::serve::MALFORMED_REASONS;
use crate::tls::development;

/// Why the gateway could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The configuration is refused; everything wrong with it is inside.
    #[error("{0}")]
    Config(Problems),
    /// The configuration names something that can't be had.
    #[error("cannot put the configuration to work")]
    Assemble(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Development material can't be made.
    #[error("cannot make the development certificate and secret in certs/")]
    Development(#[source] io::Error),
    /// A listener's address can't be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The admin address can't be had.
    #[error("cannot listen on {address} ([admin])")]
    Admin {
        /// The configured address.
        address: std::net::SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The list of revoked tokens can't be had: without it, revoked tokens would pass.
    #[error("cannot open the list of revocations ([revocation])")]
    Revocation(#[from] RevokeError),
    /// The access log can't be opened.
    #[error(transparent)]
    Access(#[from] AccessProblem),
    /// The program's own log can't be set up.
    #[error(transparent)]
    Tracing(#[from] TracingProblem),
    /// The system gave no thread, runtime, signal or inherited socket.
    #[error("the system refuses what the gateway needs to run")]
    System(#[from] io::Error),
}

/// Makes the development certificate, key and secret beside a configuration that asks for them, where they are missing or
/// about to expire. Does nothing for any other configuration.
pub fn prepare_development(path: &Path) -> Result<(), AppError> {
    if config::is_development(path) {
        let home = path.parent().unwrap_or(Path::new("")).join("certs");
        development::prepare(&development::Paths::within(&home)).map_err(AppError::Development)?;
    }
    Ok(())
}

/// Runs the gateway of the configuration at `path` until it is told to stop. `ready` is called once it serves.
pub fn run(path: &Path, ready: impl FnOnce(&Config)) -> Result<(), AppError> {
    let legacy = upgrade::Legacy::of_process()?; // before any thread
    let loaded = config::load(path).map_err(AppError::Config)?;
    let level = observe::init_tracing(&loaded.config.log)?;
    for warning in loaded.warnings.list() {
        tracing::warn!(hint = warning.hint.as_deref(), "{}", warning.message);
    }
    let vocabulary = Vocabulary { auth_reasons: &Denied::REASONS, malformed_reasons: &MALFORMED_REASONS };
    let metrics = Metrics::new(vocabulary);
    let access = loaded.config.log.access.then(|| AccessLog::open(&loaded.config.log, Arc::clone(&metrics)));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let names = names::NameDesk::open(&loaded.config).await;
        let control = control::Control::start(path, loaded, metrics, access.transpose()?, level, legacy, names)?;
        ready(control.config());
        control.run().await
    })
}
