//! The admin listener of the process: where operators and their programs come to the desks of the control thread.

use std::net::TcpListener;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AppError;
use super::board::Board;
use super::drains::DrainDesk;
use super::request::{ReloadDesk, Request};
use super::revocation::RevocationDesk;
use crate::config::Config;
use crate::listen::Inherited;
use crate::observe::{Admin, Metrics};

/// Who answers what.
pub(super) struct Desks<'a> {
    pub(super) board: &'a Arc<Board>,
    pub(super) revocations: &'a Arc<RevocationDesk>,
    pub(super) drains: &'a Arc<DrainDesk>,
}

/// Ends the answers, a copy of the socket if there is one, and the reloads that are asked for.
type Opened = (CancellationToken, Option<TcpListener>, mpsc::Receiver<Request>);

impl Desks<'_> {
    /// Answers operators until it is cancelled, once this thread waits for something.
    pub(super) fn open(
        self,
        config: &Config,
        metrics: &Arc<Metrics>,
        inherited: &mut Inherited,
    ) -> Result<Opened, AppError> {
        let (reloads, requests) = ReloadDesk::new();
        let (stop, mut copy) = (CancellationToken::new(), None);
        if let Some(address) = config.admin {
            let failed = |source| AppError::Admin { address, source };
            let listener =
                inherited.take_one(address).map_or_else(|| TcpListener::bind(address), Ok).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            copy = Some(listener.try_clone().map_err(failed)?);
            let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
            let board = Arc::clone(self.board);
            let admin = Admin::new(Arc::clone(metrics), Arc::new(move || board.status()));
            let admin = admin.revoking(Arc::clone(self.revocations) as _).draining(Arc::clone(self.drains) as _);
            let admin = Arc::new(admin.reloading(Arc::new(reloads)));
            let tasks = TaskTracker::new();
            tasks.spawn(admin.serve(listener, tasks.clone(), stop.clone()));
        }
        Ok((stop, copy, requests))
    }
}
