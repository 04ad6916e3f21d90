//! The listening sockets of the process: bound or inherited, and copied for the next process.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;

use super::AppError;
use crate::config::{Config, Listener};
use crate::listen::{Inherited, bind_all};

/// A listener's name and its sockets, at least one for each worker.
pub(super) type Bound = (Box<str>, Vec<TcpListener>);

/// Binds what a process begins with, and says which of the sockets that were opened for it are of no use.
pub(super) fn bind_first(config: &Config, inherited: &mut Inherited) -> Result<Vec<Bound>, AppError> {
    let bound = bind(config, config.listeners.iter(), inherited)?;
    for address in inherited.unclaimed() {
        tracing::warn!(%address, "an inherited socket belongs to no listener");
    }
    Ok(bound)
}

/// Binds what `listeners` ask for and nobody has opened for them.
pub(super) fn bind<'a>(
    config: &Config,
    listeners: impl Iterator<Item = &'a Listener>,
    inherited: &mut Inherited,
) -> Result<Vec<Bound>, AppError> {
    let workers = config.server.workers;
    let bind_one = |listener: &Listener| {
        let sockets = match inherited.take(&listener.listen, workers)? {
            Some(sockets) => sockets,
            None => bind_all(&listener.listen, workers)?,
        };
        Ok((listener.listen.name.clone(), sockets))
    };
    listeners.map(bind_one).collect()
}

/// The same sockets once more.
pub(super) fn copies(bound: &[Bound]) -> io::Result<HashMap<Box<str>, Vec<TcpListener>>> {
    let copy = |(name, sockets): &Bound| {
        let copies = sockets.iter().map(TcpListener::try_clone).collect::<io::Result<_>>()?;
        Ok((name.clone(), copies))
    };
    bound.iter().map(copy).collect()
}
