//! The control thread: starts the workers, answers operators, reloads, upgrades and stops.
//!
//! A reload is a transaction: load, assemble and bind first, publish last. Any problem keeps the generation that runs, says why
//! at ERROR, and shows on the board and in the metrics.

mod names;
mod requests;

use std::collections::HashMap;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::AppError;
use super::assemble::{Assembled, Assembly, Commons, assemble, https_port};
use super::board::{Board, listening};
use super::carry;
use super::drains::DrainDesk;
use super::names::NameDesk;
use super::operators::Desks;
use super::quic::{Addresses, Change};
use super::request::Request;
use super::restart::keep_what_waits;
use super::revocation::RevocationDesk;
use super::sharing::{self, Shared};
use super::sockets::{Bound, bind, bind_first, copies};
use super::upgrade::{Legacy, Predecessor, Successor, UpgradeError};
use super::upkeep::{self, Upkeep};
use super::watch::Watch;
use super::worker::{Entrance, Handle, Order, Post, start};
use crate::auth::Possession;
use crate::config::{self, Config, Loaded};
use crate::listen::{ConnectionLimit, Guard, Inherited};
use crate::observe::{AccessLog, Chain, LevelHandle, Metrics};
use crate::serve::{RequestIds, Worker};
use crate::shutdown::{Drain, DrainTrigger, Tasks};
use crate::snapshot::{Live, Snapshot};

/// How long the access log may take to be written when all requests are done.
const FINISH_LOG: Duration = Duration::from_secs(2);
/// Files are looked at again this often, in case the kernel had no event for a change: network file systems have none, and a file
/// whose absence refused a reload may appear in a directory that is not watched.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// The running process.
pub(super) struct Control {
    path: PathBuf,
    /// What the file said that is served.
    text: Arc<str>,
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
    /// Copies of all listening sockets, for the next process. A socket stays open as long as its copy.
    sockets: HashMap<Box<str>, Vec<TcpListener>>,
    admin_socket: Option<TcpListener>,
    /// The line to the process before this one.
    line: Option<UnixStream>,
    /// The process that is to take the place of this one.
    successor: Option<Successor>,
    drain: DrainTrigger,
    /// Yields `None` when the last worker has ended.
    workers_done: mpsc::Receiver<()>,
    admin: CancellationToken,
    upkeep: Upkeep,
    revocations: Arc<RevocationDesk>,
    /// Reloads that operators ask for.
    requests: mpsc::Receiver<Request>,
    drains: Arc<DrainDesk>,
    names: NameDesk,
    /// Whether a reload waits until names that it brings have been looked up, and who asked for it.
    awaits_names: bool,
    held: Option<Request>,
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
        loaded: Loaded,
        metrics: Arc<Metrics>,
        access: Option<AccessLog>,
        level: LevelHandle,
        legacy: Legacy,
        names: NameDesk,
    ) -> Result<Self, AppError> {
        let (Legacy { mut inherited, line }, Loaded { config, text, .. }) = (legacy, loaded);
        let (board, shared) = (Arc::new(Board::of(&metrics)), sharing::begin(&config, &metrics)?);
        let revocations = RevocationDesk::open(&config, &metrics, shared.as_ref())?;
        let drains = Arc::new(DrainDesk::default());
        let desks = Desks { board: &board, revocations: &revocations, drains: &drains };
        let (admin, admin_socket, requests) = desks.open(&config, &metrics, &mut inherited)?;
        let bound = bind_first(&config, &mut inherited)?;
        let sockets = copies(&bound)?;
        let addresses = Addresses::held(line.is_some());
        let quic = addresses.change(&config.listeners, &bound, config.server.workers)?;
        let tasks: Vec<Tasks> = (0..config.server.workers).map(|_| Tasks::new()).collect();
        let first = first(config, &metrics, &tasks, (&revocations, &names), shared.as_ref())?;
        let (trigger, drain) = Drain::new();
        let (done, workers_done) = mpsc::channel(1);
        let Assembled { assembly, snapshots, acceptors, certificates } = first;
        let limit = ConnectionLimit::new(assembly.config().limits.connections);
        let (guard, mut crew) = (guard(assembly.config(), &metrics), Vec::new());
        for (number, (snapshot, upstream_tasks)) in snapshots.into_iter().zip(tasks).enumerate() {
            let worker = worker(number, snapshot, access.as_ref(), &metrics, &drain);
            let grace = assembly.config().server.drain;
            let (limit, guard, done) = (limit.clone(), guard.clone(), done.clone());
            crew.push(start(Post { number, worker, upstream_tasks, limit, guard, grace, done })?);
        }
        let mut control = Self {
            path: path.to_owned(),
            text,
            board,
            level,
            access,
            assembly,
            guard,
            generation: 1,
            crew,
            entrances: HashMap::new(),
            addresses,
            sockets,
            admin_socket,
            line,
            successor: None,
            drain: trigger,
            workers_done,
            admin,
            upkeep: Upkeep::sharing(shared.and_then(|shared| shared.exchange(&revocations))),
            revocations,
            requests,
            drains,
            names,
            awaits_names: false,
            held: None,
            list_refused: None,
            refused: None,
            waiting: String::new(),
            metrics,
        };
        control.enter(&acceptors, bound, quic);
        control.announce(&certificates);
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
        let mut upgrade = signal(SignalKind::user_defined2())?;
        let mut watch = Watch::new();
        watch.files(&self.config().files_read);
        let book = Arc::clone(self.names.book());
        let mut predecessor = self.line.take().map(Predecessor::take_over).transpose()?;
        notify_service(&[sd_notify::NotifyState::Ready]);
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                Some(()) = hang_up.recv() => drop(self.hang_up()),
                Some(request) = self.requests.recv(), if self.held.is_none() => self.take(request),
                Some(()) = upgrade.recv() => self.begin_upgrade(),
                served = serves(&mut self.successor) => match served {
                    Ok(()) => return self.hand_over(terminate, interrupt).await,
                    Err(error) => self.give_up_upgrade(&error),
                },
                () = gone(&mut predecessor) => {
                    predecessor = None;
                    self.succeed();
                }
                () = book.changed() => self.names_changed(),
                () = watch.changed() => drop(self.reload()),
                () = tokio::time::sleep(LOOK_AGAIN) => drop(self.reload()),
            }
            self.reread_revocations();
            watch.files(&self.config().files_read);
        }
        if let Some(successor) = self.successor.take() {
            successor.end();
        }
        notify_service(&[sd_notify::NotifyState::Stopping]);
        self.stop(terminate, interrupt).await;
        Ok(())
    }

    /// Starts the process that is to take the place of this one.
    fn begin_upgrade(&mut self) {
        if self.successor.is_some() {
            tracing::warn!("an upgrade is under way already");
            return;
        }
        self.revocations.lend();
        match Successor::start(self.sockets.values().flatten().chain(&self.admin_socket)) {
            Ok(successor) => {
                tracing::info!(pid = successor.pid(), "upgrade: a new process was started and given the sockets");
                self.successor = Some(successor);
            }
            Err(error) => self.give_up_upgrade(&error),
        }
    }

    /// Goes on as if nothing had been asked.
    fn give_up_upgrade(&mut self, error: &UpgradeError) {
        if let Some(successor) = self.successor.take() {
            successor.end();
        }
        self.reread_revocations();
        tracing::error!(error = %Chain(error), "the upgrade has failed, this process serves on");
    }

    /// Leaves everything new to the process that serves now, and finishes what is old.
    async fn hand_over(self, terminate: Signal, interrupt: Signal) -> Result<(), AppError> {
        let pid = self.successor.as_ref().and_then(Successor::pid);
        tracing::info!(pid, "upgrade: the new process serves, this one drains");
        // Said by this process: a service manager believes the one it knows.
        if let Some(pid) = pid {
            notify_service(&[sd_notify::NotifyState::MainPid(pid)]);
        }
        self.admin.cancel(); // who asks how the gateway is means the new one
        self.stop(terminate, interrupt).await;
        Ok(())
    }

    /// The process before this one has ended, and its datagrams with it.
    fn succeed(&mut self) {
        tracing::info!("upgrade: the process before this one has ended");
        self.addresses.release();
        let config = self.assembly.config();
        match self.addresses.change(&config.listeners, &[], config.server.workers) {
            Ok(quic) => self.answer_quic(quic),
            Err(error) => tracing::error!(error = %Chain(&error), "cannot answer quic until the next reload"),
        }
    }

    /// Refuses new work, finishes old work within the grace, and says so.
    async fn stop(mut self, mut terminate: Signal, mut interrupt: Signal) {
        tracing::info!(grace_secs = self.config().server.drain.as_secs(), "draining: a second signal ends at once");
        self.board.draining();
        self.sockets.clear(); // before the workers close theirs, or connections would still queue
        self.admin_socket = None;
        drop(self.requests);
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

    /// What SIGHUP does, and operators who ask.
    fn hang_up(&mut self) -> Outcome {
        if let Some(access) = &self.access {
            access.reopen();
        }
        self.reload()
    }

    /// Takes what the files say now, if it is good and different. Not while a new process reads them: it has the sockets there were.
    fn reload(&mut self) -> Outcome {
        if self.successor.is_some() {
            return Outcome::Unchanged;
        }
        self.awaits_names = false;
        let result = config::load_beside(&self.path, self.config()).map_err(AppError::Config).and_then(|loaded| {
            let mut config = loaded.config;
            self.keep_what_waits(&mut config);
            if &config == self.config() {
                return Ok(Reloaded::Nothing);
            }
            if self.must_wait_for_names(&config) {
                return Ok(Reloaded::Later);
            }
            self.replace(config).map(|()| Reloaded::Text(loaded.text))
        });
        match result {
            Ok(Reloaded::Later) => Outcome::Later,
            Ok(Reloaded::Text(text)) => {
                (self.refused, self.text) = (None, text);
                Outcome::Live
            }
            Ok(Reloaded::Nothing) => {
                if self.refused.take().is_some() {
                    tracing::info!("the configuration is again the one that runs");
                    self.board.unchanged();
                    self.metrics.reload_taken_back();
                }
                Outcome::Unchanged
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
                    self.refused = Some(said.clone());
                }
                Outcome::Refused(said)
            }
        }
    }

    /// Takes what the file of revocations says now. Whether the rest of the configuration is good does not matter: a revocation must
    /// not wait for it.
    fn reread_revocations(&mut self) {
        let mut read = Ok(());
        if self.successor.is_none() {
            read = self.revocations.take_back(self.assembly.config().revocation.as_ref());
        }
        let said = read.and_then(|()| self.revocations.reread()).err().map(|error| Chain(&error).to_string());
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
        let old = self.config().listeners.clone();
        let tasks: Vec<Tasks> = self.crew.iter().map(|handle| handle.upstream_tasks.clone()).collect();
        let list = (config.revocation != self.config().revocation)
            .then(|| self.revocations.prepare(config.revocation.as_ref()))
            .transpose()?;
        let next =
            assemble(config, Some(&self.assembly), self.generation + 1, &self.metrics, &tasks, self.assembly.commons())
                .map_err(|error| AppError::Assemble(error.into()))?;
        // Binding comes last of what can fail: connections queue at a socket from the moment it is bound.
        let config = next.assembly.config();
        let bound = bind(config, carry::opened(&old, &config.listeners), &mut Inherited::default())?;
        let copies = copies(&bound)?;
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
        for gone in carry::closed(&old, &self.assembly.config().listeners) {
            let name = &gone.listen.name;
            self.sockets.remove(name);
            self.order(|_| Order::Close { name: name.clone() });
        }
        self.sockets.extend(copies);
        self.enter(&acceptors, bound, quic);
        self.announce(&certificates);
        Ok(())
    }

    /// What can't change while the process runs keeps its old value, and the operator is told.
    fn keep_what_waits(&mut self, config: &mut Config) {
        let kept: Vec<_> = keep_what_waits(config, self.config()).iter().map(|waiting| waiting.key).collect();
        let kept = kept.join(", ");
        if kept != self.waiting {
            if !kept.is_empty() {
                tracing::warn!(keys = kept, "these changes wait for a restart");
            }
            self.waiting = kept;
        }
    }

    /// Lets clients in where the configuration says, and nowhere else.
    fn enter(&mut self, acceptors: &[(Box<str>, crate::tls::Acceptor)], bound: Vec<Bound>, quic: Change) {
        self.set_entrances(acceptors);
        self.open(bound);
        self.answer_quic(quic);
    }

    fn answer_quic(&mut self, mut quic: Change) {
        self.addresses.changed(&mut quic);
        for name in &quic.closed {
            self.order(|_| Order::CloseQuic { name: name.clone() });
        }
        for listener in &self.assembly.config().listeners {
            let port = self.addresses.http3_port(listener).map(Arc::new);
            if let Some(entrance) = self.entrances.get(&listener.listen.name) {
                entrance.http3_port.store(port);
            }
        }
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

    /// Gives each listener its certificates, its redirect, its relays and what it says of TLS.
    fn set_entrances(&mut self, acceptors: &[(Box<str>, crate::tls::Acceptor)]) {
        for listener in &self.assembly.config().listeners {
            let name = &listener.listen.name;
            let fresh = || Arc::new(Entrance::new(name.clone()));
            let entrance = self.entrances.entry(name.clone()).or_insert_with(fresh);
            let acceptor = acceptors.iter().find(|(of, _)| of == name).map(|(_, acceptor)| acceptor.clone());
            entrance.tls.store(acceptor.map(Arc::new));
            entrance.to_https.store(https_port(listener).map(Arc::new));
            entrance.hsts.store(listener.hsts.clone().map(Arc::new));
            entrance.relays.store(Arc::new(listener.relays.clone()));
        }
        let listeners = &self.assembly.config().listeners;
        self.entrances.retain(|name, _| listeners.iter().any(|listener| listener.listen.name == *name));
    }

    /// Deals the sockets out to the workers.
    fn open(&self, bound: Vec<Bound>) {
        for (name, sockets) in bound {
            let Some(entrance) = self.entrances.get(&name) else { continue };
            for (at, listener) in sockets.into_iter().enumerate() {
                let number = at % self.crew.len();
                let (entrance, meter) = (Arc::clone(entrance), self.metrics.listener(number, &name));
                self.order_one(number, Order::Open { entrance, listener, meter });
            }
        }
    }

    fn order(&self, mut order: impl FnMut(usize) -> Order) {
        for number in 0..self.crew.len() {
            self.order_one(number, order(number));
        }
    }

    fn order_one(&self, worker: usize, order: Order) {
        if self.crew[worker].orders.try_send(order).is_err() {
            tracing::error!(worker, "a worker takes no orders");
        }
    }

    fn announce(&mut self, certificates: &[crate::tls::CertInfo]) {
        self.metrics.published(self.generation, SystemTime::now());
        self.metrics.certificates(certificates.iter().map(|info| (info.label.as_str(), info.not_after)));
        self.upkeep.keep_fresh(self.assembly.remotes());
        self.know_endpoints();
        self.metrics.key_sets().answered_by(upkeep::reports(self.assembly.issuers()));
        self.metrics.spools().answered_by(self.assembly.spools());
        self.names.look_up(&[self.assembly.config()]);
        self.board.published(self.generation, self.config(), certificates, self.assembly.groups());
        let listening = listening(self.config()).collect::<Vec<_>>().join(" ");
        tracing::info!(
            generation = self.generation,
            routes = self.config().routes.len(),
            listening,
            "configuration live"
        );
    }
}

/// One worker, which serves `first` to begin with.
fn worker(number: usize, first: Snapshot, access: Option<&AccessLog>, metrics: &Metrics, drain: &Drain) -> Arc<Worker> {
    Arc::new(Worker {
        live: Live::new(first),
        access: access.map(AccessLog::sink),
        meter: metrics.worker(number),
        drain: drain.for_worker(),
        ids: RequestIds::default(),
        tasks: Tasks::new(),
    })
}

/// What has been done with the files.
enum Reloaded {
    /// They were published: what they say.
    Text(Arc<str>),
    Nothing,
    Later,
}

/// How a reload ended.
enum Outcome {
    Live,
    /// The files say what runs.
    Unchanged,
    /// Why; what ran runs on.
    Refused(String),
    /// When names that the files bring have been looked up.
    Later,
}

/// Who judges what one client may take, and is asked by the metrics.
fn guard(config: &Config, metrics: &Metrics) -> Guard {
    let guard = Guard::new(config.guard.clone(), config.limits.connections);
    let watched = guard.clone();
    metrics.crowd().answered_by(move || (watched.clients(), watched.handshakes()));
    guard
}

/// Whether the next process serves; for ever undecided while there is none.
async fn serves(successor: &mut Option<Successor>) -> Result<(), UpgradeError> {
    match successor {
        Some(successor) => successor.serves().await,
        None => std::future::pending().await,
    }
}

/// Waits until the process before this one has ended, if there is one.
async fn gone(predecessor: &mut Option<Predecessor>) {
    match predecessor {
        Some(predecessor) => predecessor.gone().await,
        None => std::future::pending().await,
    }
}

/// The first generation, with what outlives every configuration.
fn first(
    config: Config,
    metrics: &Metrics,
    tasks: &[Tasks],
    (revocations, names): (&RevocationDesk, &NameDesk),
    shared: Option<&Shared>,
) -> Result<Assembled, AppError> {
    let possession = Possession::new(config.server.dpop_window_secs).map_err(io::Error::other)?;
    let commons = Commons {
        revoked: Arc::clone(revocations.list()),
        possession: Arc::new(possession),
        redis: shared.map(Shared::link),
        names: Arc::clone(names.book()),
    };
    assemble(config, None, 1, metrics, tasks, &commons).map_err(|error| AppError::Assemble(error.into()))
}

/// Tells systemd, if it listens. It being absent is no error.
fn notify_service(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}
