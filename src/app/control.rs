//! The control thread: starts the workers, answers operators, reloads and stops.
//!
//! A reload is a transaction: load, assemble and bind first, publish last. Any problem keeps the generation that runs, says why
//! at ERROR, and shows on the board and in the metrics.

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::AppError;
use super::assemble::{Assembled, Assembly, Commons, assemble, https_port};
use super::board::{Board, listening};
use super::quic::{Addresses, Change};
use super::revocation::RevocationDesk;
use super::sharing;
use super::upkeep::{self, Upkeep};
use super::watch::Watch;
use super::worker::{Entrance, Handle, Order, Post, start};
use crate::auth::Possession;
use crate::config::{self, Config, Listener};
use crate::listen::{ConnectionLimit, Guard, Inherited, bind_all};
use crate::observe::{AccessLog, Admin, Chain, LevelHandle, Metrics};
use crate::serve::{RequestIds, Worker};
use crate::shutdown::{Drain, DrainTrigger, Tasks};
use crate::snapshot::Live;

/// How long the access log may take to be written when all requests are done.
const FINISH_LOG: Duration = Duration::from_secs(2);
/// Files are looked at again this often, in case the kernel had no event for a change: network file systems have none, and a file
/// whose absence refused a reload may appear in a directory that is not watched.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The running process.
pub(super) struct Control {
    path: PathBuf,
    metrics: Arc<Metrics>,
    board: Arc<Board>,
    level: LevelHandle,
    access: Option<AccessLog>,
    assembly: Assembly,
    guard: Guard,
    generation: u64,
    crew: Vec<Handle>,
    entrances: HashMap<Box<str>, Arc<Entrance>>,
    addresses: Addresses,
    drain: DrainTrigger,
    /// Yields `None` when the last worker has ended.
    workers_done: mpsc::Receiver<()>,
    admin: CancellationToken,
    upkeep: Upkeep,
    revocations: Arc<RevocationDesk>,
    /// Why the file of revocations was refused, so that it is said once.
    list_refused: Option<String>,
    /// Why the files as they are were refused, so that it is said once.
    refused: Option<String>,
    /// The keys whose change waits for a restart, likewise.
    waiting: String,
}

impl Control {
    /// Binds, starts the workers and publishes the first generation.
    pub(super) fn start(
        path: &Path,
        config: Config,
        metrics: Arc<Metrics>,
        access: Option<AccessLog>,
        level: LevelHandle,
        mut inherited: Inherited,
    ) -> Result<Self, AppError> {
        let board = Arc::new(Board::of(&metrics));
        let shared = sharing::begin(&config, &metrics)?;
        let fleet = shared.as_ref().and_then(|shared| shared.fleet.clone());
        let revocations = RevocationDesk::open(config.revocation.as_ref(), &metrics, fleet)?;
        let admin = serve_admin(&config, &metrics, &board, &revocations)?;
        let bound = bind(&config, config.listeners.iter(), &mut inherited)?;
        let quic = Addresses::default().change(&config.listeners, &bound, config.server.workers)?;
        for address in inherited.unclaimed() {
            tracing::warn!(%address, "an inherited socket belongs to no listener");
        }
        let tasks: Vec<Tasks> = (0..config.server.workers).map(|_| Tasks::new()).collect();
        let possession = Possession::new(config.server.dpop_window_secs).map_err(io::Error::other)?;
        let revoked = Arc::clone(revocations.list());
        let commons = Commons { revoked, possession: Arc::new(possession), redis: sharing::link(shared.as_ref()) };
        let first =
            assemble(config, None, 1, &metrics, &tasks, &commons).map_err(|error| AppError::Assemble(error.into()))?;
        let (trigger, drain) = Drain::new();
        let (done, workers_done) = mpsc::channel(1);
        let Assembled { assembly, snapshots, acceptors, certificates } = first;
        let limit = ConnectionLimit::new(assembly.config().limits.connections);
        let guard = guard(assembly.config(), &metrics);
        let mut crew = Vec::new();
        for (number, (snapshot, upstream_tasks)) in snapshots.into_iter().zip(tasks).enumerate() {
            let worker = Arc::new(Worker {
                live: Live::new(snapshot),
                access: access.as_ref().map(AccessLog::sink),
                meter: metrics.worker(number),
                drain: drain.for_worker(),
                ids: RequestIds::default(),
                tasks: Tasks::new(),
            });
            let grace = assembly.config().server.drain;
            let (limit, guard, done) = (limit.clone(), guard.clone(), done.clone());
            crew.push(start(Post { number, worker, upstream_tasks, limit, guard, grace, done })?);
        }
        let mut control = Self {
            path: path.to_owned(),
            board,
            level,
            access,
            assembly,
            guard,
            generation: 1,
            crew,
            entrances: HashMap::new(),
            addresses: Addresses::default(),
            drain: trigger,
            workers_done,
            admin,
            upkeep: Upkeep::default(),
            revocations,
            list_refused: None,
            refused: None,
            waiting: String::new(),
            metrics,
        };
        control.enter(&acceptors, bound, quic);
        control.announce(&certificates);
        control.upkeep.share(shared.and_then(|shared| shared.exchange(&control.revocations)));
        Ok(control)
    }

    /// What is served now.
    pub(super) fn config(&self) -> &Config {
        self.assembly.config()
    }

    /// Serves until told to stop, then drains.
    pub(super) async fn run(mut self) -> Result<(), AppError> {
        let mut hang_up = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut watch = Watch::new();
        watch.files(&self.config().files_read);
        notify_service(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(()) = hang_up.recv() => {
                    if let Some(access) = &self.access {
                        access.reopen();
                    }
                    self.reload();
                }
                () = watch.changed() => self.reload(),
                () = tokio::time::sleep(LOOK_AGAIN) => self.reload(),
            }
            self.reread_revocations();
            watch.files(&self.config().files_read);
        }
        self.stop(terminate, interrupt).await;
        Ok(())
    }

    /// Refuses new work, finishes old work within the grace, and says so.
    async fn stop(mut self, mut terminate: Signal, mut interrupt: Signal) {
        tracing::info!(grace_secs = self.config().server.drain.as_secs(), "draining: a second signal ends at once");
        notify_service(&[sd_notify::NotifyState::Stopping]);
        self.board.draining();
        self.drain.begin();
        tokio::select! {
            _ = self.workers_done.recv() => {
                for handle in self.crew {
                    if handle.thread.join().is_err() {
                        tracing::error!("a worker panicked");
                    }
                }
            }
            _ = terminate.recv() => tracing::warn!("ended by a second signal"),
            _ = interrupt.recv() => tracing::warn!("ended by a second signal"),
        }
        self.admin.cancel();
        if self.access.take().is_some_and(|access| !access.finish(FINISH_LOG)) {
            tracing::warn!("the access log could not be written to its end");
        }
        tracing::info!("stopped");
    }

    /// Takes what the files say now, if it is good and different.
    fn reload(&mut self) {
        let result = config::load_beside(&self.path, self.config()).map_err(AppError::Config).and_then(|loaded| {
            let mut config = loaded.config;
            self.keep_what_needs_a_restart(&mut config);
            if &config == self.config() { Ok(false) } else { self.replace(config).map(|()| true) }
        });
        match result {
            Ok(true) => self.refused = None,
            Ok(false) => {
                if self.refused.take().is_some() {
                    tracing::info!("the configuration is again the one that runs");
                    self.board.unchanged();
                    self.metrics.reload_taken_back();
                }
            }
            Err(error) => {
                let said = Chain(&error).to_string();
                // A broken file is said once, not at every look.
                if self.refused.as_ref() != Some(&said) {
                    tracing::error!(
                        generation = self.generation,
                        "reload refused, the old configuration stays:\n{said}"
                    );
                    self.metrics.reload_refused();
                    self.board.refused(said.clone());
                    self.refused = Some(said);
                }
            }
        }
    }

    /// Takes what the file of revocations says now. Whether the rest of the configuration is good does not matter: a revocation must
    /// not wait for it.
    fn reread_revocations(&mut self) {
        let said = self.revocations.reread().err().map(|error| Chain(&error).to_string());
        if said != self.list_refused {
            if let Some(error) = &said {
                tracing::error!(error, "the file of revocations is refused, the old list stays");
            } else {
                tracing::info!("the file of revocations is good again");
            }
            self.list_refused = said;
        }
    }

    /// Everything that can fail comes before anything that changes.
    fn replace(&mut self, config: Config) -> Result<(), AppError> {
        let old: Vec<_> = self.config().listeners.iter().map(|listener| listener.listen.clone()).collect();
        let tasks: Vec<Tasks> = self.crew.iter().map(|handle| handle.upstream_tasks.clone()).collect();
        let list = (config.revocation != self.config().revocation)
            .then(|| self.revocations.prepare(config.revocation.as_ref()))
            .transpose()?;
        let next =
            assemble(config, Some(&self.assembly), self.generation + 1, &self.metrics, &tasks, self.assembly.commons())
                .map_err(|error| AppError::Assemble(error.into()))?;
        // Binding comes last of what can fail: connections queue at a socket from the moment it is bound.
        let config = next.assembly.config();
        let new = config.listeners.iter().filter(|listener| !old.contains(&listener.listen));
        let bound = bind(config, new, &mut Inherited::default())?;
        let quic = self.addresses.change(&config.listeners, &bound, config.server.workers)?;
        let Assembled { assembly, snapshots, acceptors, certificates } = next;
        if assembly.config().log.level != self.config().log.level
            && let Err(error) = self.level.set(assembly.config().log.level)
        {
            tracing::error!(%error, "cannot change the log level");
        }
        self.assembly = assembly;
        if let Some(prepared) = list {
            self.revocations.apply(prepared, self.assembly.config().revocation.as_ref());
        }
        self.generation += 1;
        self.guard.change(self.config().guard.clone());
        for (handle, snapshot) in self.crew.iter().zip(snapshots) {
            handle.worker.live.publish(snapshot);
        }
        let kept: Vec<_> = self.config().listeners.iter().map(|listener| listener.listen.clone()).collect();
        for gone in old.iter().filter(|listen| !kept.contains(listen)) {
            self.order(|_| Order::Close { name: gone.name.clone() });
        }
        self.enter(&acceptors, bound, quic);
        self.announce(&certificates);
        Ok(())
    }

    /// What can't change while the process runs keeps its old value, and the operator is told.
    fn keep_what_needs_a_restart(&mut self, config: &mut Config) {
        let running = self.assembly.config();
        let mut kept = Vec::new();
        if config.server.workers != running.server.workers {
            config.server.workers = running.server.workers;
            kept.push("[server] workers");
        }
        if config.server.drain != running.server.drain {
            config.server.drain = running.server.drain;
            kept.push("[server] drain_secs");
        }
        if config.server.dpop_window_secs != running.server.dpop_window_secs {
            config.server.dpop_window_secs = running.server.dpop_window_secs;
            kept.push("[server] dpop_window_secs");
        }
        if config.limits.connections != running.limits.connections {
            config.limits.connections = running.limits.connections;
            kept.push("[limits] connections");
        }
        if config.admin != running.admin {
            config.admin = running.admin;
            kept.push("[admin] address");
        }
        if config.redis != running.redis {
            config.redis.clone_from(&running.redis);
            kept.push("[redis]");
        }
        let shares = running.revocation.as_ref().is_some_and(|list| list.shared);
        if let Some(list) = config.revocation.as_mut().filter(|list| list.shared != shares) {
            list.shared = shares;
            kept.push("[revocation] shared");
        }
        let level = config.log.level;
        if (crate::observe::LogSettings { level, ..running.log.clone() }) != config.log {
            config.log = crate::observe::LogSettings { level, ..running.log.clone() };
            kept.push("[log] besides level");
        }
        let kept = kept.join(", ");
        if kept != self.waiting {
            if !kept.is_empty() {
                tracing::warn!(keys = kept, "these changes wait for a restart");
            }
            self.waiting = kept;
        }
    }

    /// Lets clients in where the configuration says, and nowhere else.
    fn enter(&mut self, acceptors: &[(Box<str>, crate::tls::Acceptor)], bound: Vec<Bound>, mut quic: Change) {
        self.addresses.changed(&mut quic);
        for name in &quic.closed {
            self.order(|_| Order::CloseQuic { name: name.clone() });
        }
        self.set_entrances(acceptors);
        self.open(bound);
        for (name, sockets) in quic.opened {
            let Some(entrance) = self.entrances.get(&name) else { continue };
            let mut sockets = sockets.into_iter();
            self.order(|number| Order::OpenQuic {
                entrance: Arc::clone(entrance),
                socket: sockets.next().expect("`bind_quic` gives one socket for each worker"),
                meter: self.metrics.listener(number, &name),
            });
        }
    }

    /// Gives each listener its certificates, its redirect, its relays, its alternative and what it says of TLS.
    fn set_entrances(&mut self, acceptors: &[(Box<str>, crate::tls::Acceptor)]) {
        for listener in &self.assembly.config().listeners {
            let name = &listener.listen.name;
            let fresh = || Arc::new(Entrance::new(name.clone()));
            let entrance = self.entrances.entry(name.clone()).or_insert_with(fresh);
            entrance.http3_port.store(self.addresses.http3_port(listener).map(Arc::new));
            let acceptor = acceptors.iter().find(|(of, _)| of == name).map(|(_, acceptor)| acceptor.clone());
            entrance.tls.store(acceptor.map(Arc::new));
            entrance.to_https.store(https_port(listener).map(Arc::new));
            entrance.hsts.store(listener.hsts.clone().map(Arc::new));
            entrance.relays.store(Arc::new(listener.relays.clone()));
        }
        let listeners = &self.assembly.config().listeners;
        self.entrances.retain(|name, _| listeners.iter().any(|listener| listener.listen.name == *name));
    }

    fn open(&self, bound: Vec<Bound>) {
        for (name, sockets) in bound {
            let Some(entrance) = self.entrances.get(&name) else { continue };
            let mut sockets = sockets.into_iter();
            self.order(|number| Order::Open {
                entrance: Arc::clone(entrance),
                listener: sockets.next().expect("`bind_all` gives one socket for each worker"),
                meter: self.metrics.listener(number, &name),
            });
        }
    }

    fn order(&self, mut order: impl FnMut(usize) -> Order) {
        for (number, handle) in self.crew.iter().enumerate() {
            if handle.orders.try_send(order(number)).is_err() {
                tracing::error!(worker = number, "a worker takes no orders");
            }
        }
    }

    fn announce(&mut self, certificates: &[crate::tls::CertInfo]) {
        self.metrics.published(self.generation, SystemTime::now());
        self.metrics.certificates(certificates.iter().map(|info| (info.label.as_str(), info.not_after)));
        self.upkeep.keep_fresh(self.assembly.remotes());
        self.upkeep.probe(self.assembly.groups());
        self.metrics.upstreams().answered_by(self.assembly.upstreams());
        self.metrics.key_sets().answered_by(upkeep::reports(self.assembly.issuers()));
        self.metrics.spools().answered_by(self.assembly.spools());
        self.board.published(self.generation, self.config(), certificates);
        let listening = listening(self.config()).collect::<Vec<_>>().join(" ");
        tracing::info!(
            generation = self.generation,
            routes = self.config().routes.len(),
            listening,
            "configuration live"
        );
    }
}

/// Who judges what one client may take, and is asked by the metrics.
fn guard(config: &Config, metrics: &Metrics) -> Guard {
    let guard = Guard::new(config.guard.clone(), config.limits.connections);
    let watched = guard.clone();
    metrics.crowd().answered_by(move || (watched.clients(), watched.handshakes()));
    guard
}

/// A listener's name and its sockets, one for each worker.
type Bound = (Box<str>, Vec<TcpListener>);

fn bind<'a>(
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

fn serve_admin(
    config: &Config,
    metrics: &Arc<Metrics>,
    board: &Arc<Board>,
    revocations: &Arc<RevocationDesk>,
) -> Result<CancellationToken, AppError> {
    let stop = CancellationToken::new();
    if let Some(address) = config.admin {
        let failed = |source| AppError::Admin { address, source };
        let listener = TcpListener::bind(address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(failed)?;
        let board = Arc::clone(board);
        let admin = Admin::new(Arc::clone(metrics), Arc::new(move || board.status()));
        let admin = Arc::new(admin.revoking(Arc::clone(revocations) as _));
        let tasks = TaskTracker::new();
        tasks.spawn(admin.serve(listener, tasks.clone(), stop.clone()));
    }
    Ok(stop)
}

/// Tells systemd, if it listens. It being absent is no error.
fn notify_service(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
