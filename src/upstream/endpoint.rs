//! One address of an upstream: its pool on this worker, and what the whole process shares about it.
//!
//! Owns the way from "a request for this endpoint" to "a connection that may carry it". Over HTTP/1.1: a lease, then the connection
//! in it if that may be trusted, else a fresh one. Over uwsgi: a lease and a fresh connection. Over HTTP/2: a stream of a shared
//! connection. `max_connections` holds for the process: each open connection has a permit of one semaphore, and a worker in want of one
//! makes the others give up idle connections.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::{Instant as Moment, timeout, timeout_at};

use super::connect::{Connection, Keeper, speak};
use super::gate::{Gate, Turn};
use super::health::{Standing, Watch};
use super::keepalive::KeepAlive;
use super::multiplex::{StreamLease, Trunks};
use super::queue::{Place, Queue};
use super::slot::{Lease, Slots, pool};
use super::stream::{Stream, open};
use super::tls::TlsClient;
use super::{Address, OnBehalf, Presence, UpstreamFailure, UpstreamSettings, Wire};
use crate::deadline::Deadline;
use crate::observe::{EndpointMeter, Held, UpstreamFailure as Stage};
use crate::shutdown::Tasks;

/// How often a worker that waits for a permit asks the others again to give up an idle connection.
const ASK_AGAIN: Duration = Duration::from_millis(20);

/// How many slots are looked at for a warm connection before a new one is dialled.
const LOOK_BEHIND: u32 = 8;

/// What all workers share about one endpoint.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) permits: Arc<Semaphore>,
    pub(super) keep_alive: KeepAlive,
    /// Outlives the rest, which is about connections.
    pub(super) presence: Arc<Presence>,
    /// There if requests wait for a turn before they are given a connection.
    pub(super) gate: Option<Arc<Gate>>,
    wanted: Arc<Notify>,
}

impl Shared {
    pub(super) fn new(settings: &UpstreamSettings, wire: Wire, presence: Arc<Presence>) -> Arc<Self> {
        Arc::new(Self {
            presence,
            gate: Gate::of(settings, wire),
            permits: Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS))),
            keep_alive: KeepAlive::new(settings.keep_alive, Instant::now()),
            wanted: Arc::new(Notify::new()),
        })
    }
}

/// One endpoint as one worker sees it.
#[derive(Debug)]
pub(super) struct Endpoint {
    lanes: Arc<Lanes>,
    queue: Arc<Queue>,
    pub(super) standing: Arc<Standing>,
    /// There if it matters how requests go.
    watch: Option<Arc<Watch>>,
}

/// What one worker has of an endpoint: its connections, and how more are made. Outlives reloads that change neither.
#[derive(Debug)]
pub(super) struct Lanes {
    address: Address,
    label: Arc<str>,
    meter: EndpointMeter,
    shared: Arc<Shared>,
    leased: Arc<AtomicUsize>,
    /// Requests that wait for a slot which is being made.
    growing: AtomicUsize,
    // Made by the first request, on the worker's own runtime.
    pool: OnceLock<Pool>,
    trunks: Trunks,
    /// There if the address says TLS.
    tls: Option<TlsClient>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Pool {
    slots: bb8::Pool<Slots>,
    yielding: AbortHandle,
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.yielding.abort();
    }
}

/// What carries one exchange: a connection of its own, or a stream of one that is shared.
#[derive(Debug)]
pub(super) enum Carrier {
    Slot(Lease),
    Stream(StreamLease),
    /// A connection that belongs to no pool.
    Own(Box<Connection>),
}

impl Carrier {
    /// The connection that carries this exchange and no other, if there is one.
    pub(super) fn connection(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Slot(lease) => lease.connection(),
            Self::Own(connection) => Some(connection),
            Self::Stream(_) => None,
        }
    }

    /// The deadline of the exchange under way.
    pub(super) fn deadline(&mut self) -> Option<&mut Deadline> {
        match self {
            Self::Stream(stream) => Some(stream.deadline()),
            Self::Slot(_) | Self::Own(_) => self.connection().map(Connection::deadline),
        }
    }
}

/// A carrier that may take the request, and how it came.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) carrier: Carrier,
    /// How long its connection had been idle, if it was not dialled for this request.
    pub(super) reused: Option<Duration>,
    /// How long it was waited for while all others were taken.
    pub(super) queued: Duration,
    pub(super) leased: Leased,
}

/// Counts a lease for balancing and metrics as long as it lives.
#[derive(Debug)]
pub(super) struct Leased {
    count: Arc<AtomicUsize>,
    meter: EndpointMeter,
    watch: Option<Arc<Watch>>,
    turn: Option<Turn>,
    /// Nothing for what takes no slot and no stream.
    _gauge: Option<Held>,
}

impl Leased {
    fn new(endpoint: &Endpoint) -> Self {
        Self::counting(endpoint, Some(endpoint.meter().leased()))
    }

    /// Counts for balancing alone.
    fn outside(endpoint: &Endpoint) -> Self {
        Self::counting(endpoint, None)
    }

    fn counting(endpoint: &Endpoint, gauge: Option<Held>) -> Self {
        let (Lanes { leased, meter, .. }, watch) = (&*endpoint.lanes, &endpoint.watch);
        leased.fetch_add(1, Ordering::Relaxed);
        Self { count: Arc::clone(leased), meter: meter.clone(), watch: watch.clone(), turn: None, _gauge: gauge }
    }

    /// The endpoint this lease is of failed after the head of its response.
    pub(super) fn failed(&self, stage: Stage) {
        self.meter.failed(stage);
        if let Some(watch) = &self.watch {
            watch.broke_off();
        }
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        drop(self.turn.take()); // whoever has it next finds this one gone
    }
}

/// What a request needs of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Any that seems alive: the request can be sent again.
    Any,
    /// One whose idle age the endpoint is known to respect: the request can't be sent again.
    Trusted,
    /// One just dialled.
    Fresh,
}

impl Lanes {
    pub(super) fn new(
        address: Address,
        tls: Option<TlsClient>,
        shared: Arc<Shared>,
        meter: EndpointMeter,
        tasks: Tasks,
    ) -> Arc<Self> {
        Arc::new(Self {
            label: address.to_string().into(),
            address,
            meter,
            shared,
            leased: Arc::default(),
            growing: AtomicUsize::new(0),
            pool: OnceLock::new(),
            trunks: Trunks::default(),
            tls,
            tasks,
        })
    }
}

impl Endpoint {
    pub(super) fn new(
        lanes: Arc<Lanes>,
        queue: Arc<Queue>,
        standing: Arc<Standing>,
        watch: Option<Arc<Watch>>,
    ) -> Self {
        Self { lanes, queue, standing, watch }
    }

    /// What it has, for another that takes its place.
    pub(super) fn lanes(&self) -> Arc<Lanes> {
        Arc::clone(&self.lanes)
    }

    pub(super) fn address(&self) -> &Address {
        &self.lanes.address
    }

    /// Its address, for people.
    pub(super) fn label(&self) -> &Arc<str> {
        &self.lanes.label
    }

    pub(super) fn meter(&self) -> &EndpointMeter {
        &self.lanes.meter
    }

    /// The count of requests of this worker that hold a lease.
    pub(super) fn active(&self) -> &Arc<AtomicUsize> {
        &self.lanes.leased
    }

    /// It answered with this status.
    pub(super) fn answered(&self, status: u16) {
        if let Some(watch) = &self.watch {
            watch.answered(status);
        }
    }

    /// The first byte of its answer came after so long, and the client had nothing to do with that.
    pub(super) fn took(&self, first_byte: Duration) {
        if let Some(watch) = &self.watch {
            watch.took(first_byte);
        }
        if let Some(gate) = &self.lanes.shared.gate {
            gate.answered(first_byte);
        }
    }

    /// It failed, and not for a fault of the client's. `sent` is whether it was sent all of the request's body.
    pub(super) fn failed(&self, failure: &UpstreamFailure, sent: bool) {
        if let Some(watch) = &self.watch
            && failure.speaks_against_endpoint(sent)
        {
            watch.failed();
        }
    }

    /// Requests of this worker that hold a lease.
    pub(super) fn leased(&self) -> usize {
        self.lanes.leased.load(Ordering::Relaxed)
    }

    /// Whether it is the one that is shared as `shared`.
    pub(super) fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Arc::ptr_eq(&self.lanes.shared, shared)
    }

    /// What is known of its address.
    pub(super) fn presence(&self) -> &Presence {
        &self.lanes.shared.presence
    }

    /// A carrier that meets `need`. A uwsgi `packet` opens a connection of its own.
    ///
    /// Cancel safe: a lease that is dropped closes what it holds.
    pub(super) async fn ready(
        &self,
        need: Need,
        packet: Option<Bytes>,
        settings: &UpstreamSettings,
        behalf: &OnBehalf,
    ) -> Result<Ready, UpstreamFailure> {
        let until = Moment::now() + settings.queue_timeout;
        let (turn, waited) = match &self.lanes.shared.gate {
            None => (None, Duration::ZERO),
            Some(gate) => {
                let (turn, waited) = gate.enter(&self.queue, self.meter(), until).await?;
                (Some(turn), waited)
            }
        };
        let mut ready = match self.lanes.address.wire {
            Wire::Http1 => self.slot(need, None, until, settings, behalf).await?,
            Wire::Uwsgi => self.slot(Need::Fresh, packet, until, settings, behalf).await?,
            Wire::Http2 => Box::pin(self.stream(settings)).await?,
        };
        ready.leased.turn = turn;
        ready.queued += waited;
        Ok(ready)
    }

    async fn slot(
        &self,
        need: Need,
        packet: Option<Bytes>,
        until: Moment,
        settings: &UpstreamSettings,
        behalf: &OnBehalf,
    ) -> Result<Ready, UpstreamFailure> {
        let (mut lease, mut queued) = self.lease(settings).await?;
        let leased = Leased::new(self);
        if let Some(idle) = self.may_reuse(&mut lease, need, settings)
            && is_ready(&mut lease, settings.connect_timeout).await
        {
            self.lanes.meter.reused();
            return Ok(Ready { carrier: Carrier::Slot(lease), reused: Some(idle), queued, leased });
        }
        // What is given up frees its permit when its task ends, which is soon but not now.
        lease.close();
        // Boxed: a dial is rare, and its state would be part of every request's future.
        let (connection, waited) = Box::pin(self.connect(until, packet, settings, behalf)).await?;
        lease.fill(connection);
        queued += waited;
        Ok(Ready { carrier: Carrier::Slot(lease), reused: None, queued, leased })
    }

    async fn connect(
        &self,
        until: Moment,
        packet: Option<Bytes>,
        settings: &UpstreamSettings,
        behalf: &OnBehalf,
    ) -> Result<(Connection, Duration), UpstreamFailure> {
        let (permit, waited) = self.permit(until).await?;
        let announcement = behalf.announcement(settings.announce);
        let speaking = async {
            let stream = self.dial(&announcement).await?;
            let stream = match packet {
                Some(packet) => stream.with_packet(packet),
                None => stream,
            };
            speak(stream, Some(permit), self.keeper(), &self.lanes.tasks).await
        };
        Ok((self.in_time(settings.connect_timeout, speaking).await?, waited))
    }

    /// A connection of its own, outside of the pool and its bounds, for a request that asks for a tunnel.
    pub(super) async fn dial_tunnel(
        &self,
        settings: &UpstreamSettings,
        behalf: &OnBehalf,
    ) -> Result<(Connection, Leased), UpstreamFailure> {
        let leased = Leased::outside(self);
        let announcement = behalf.announcement(settings.announce);
        let speaking = async { speak(self.dial(&announcement).await?, None, self.keeper(), &self.lanes.tasks).await };
        Ok((self.in_time(settings.connect_timeout, speaking).await?, leased))
    }

    async fn dial(&self, announcement: &[u8]) -> io::Result<Stream> {
        open(&self.lanes.address, self.lanes.tls.as_ref(), announcement).await
    }

    /// The outcome of dialling, typed.
    async fn in_time<T>(
        &self,
        limit: Duration,
        dialling: impl Future<Output = io::Result<T>>,
    ) -> Result<T, UpstreamFailure> {
        match timeout(limit, dialling).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) if self.lanes.tls.is_some() && error.kind() == io::ErrorKind::InvalidData => {
                Err(UpstreamFailure::Tls(error))
            }
            Ok(Err(_)) if self.lanes.address.is_name() => Err(UpstreamFailure::Unresolved),
            Ok(Err(error)) => Err(UpstreamFailure::Connect(error)),
            Err(_) => Err(UpstreamFailure::ConnectTimeout),
        }
    }

    /// A stream of a shared connection. When all are full, one request at a time opens another, and the others wait for it or for a
    /// stream that ends.
    async fn stream(&self, settings: &UpstreamSettings) -> Result<Ready, UpstreamFailure> {
        if let Some(stream) = self.lanes.trunks.lease(settings.max_streams) {
            return Ok(self.on(stream, true, Duration::ZERO));
        }
        let begun = Moment::now();
        let until = begun + settings.queue_timeout;
        let _waiting = self.lanes.meter.waiting();
        let (mut place, mut since) = (None, None);
        let _turn = if let Ok(turn) = self.lanes.trunks.dialling.try_lock() {
            turn
        } else {
            place = Some(self.enter()?);
            since = Some(begun);
            let turn = timeout_at(until, self.lanes.trunks.dialling.lock()).await;
            turn.map_err(|_| UpstreamFailure::QueueTimeout)?
        };
        let mut reused = true;
        loop {
            let queued = since.map_or(Duration::ZERO, |since: Moment| since.elapsed());
            if let Some(stream) = self.lanes.trunks.lease(settings.max_streams) {
                return Ok(self.on(stream, reused, queued));
            }
            if let Ok(permit) = Arc::clone(&self.lanes.shared.permits).try_acquire_owned() {
                let adding = async {
                    self.lanes
                        .trunks
                        .add(self.dial(&[]).await?, settings, permit, &self.lanes.meter, &self.lanes.tasks)
                        .await
                };
                self.in_time(settings.connect_timeout, adding).await?;
                reused = false;
                continue;
            }
            if place.is_none() {
                place = Some(self.enter()?);
            }
            since.get_or_insert(begun);
            // Whatever ends is told of, but for connections of other workers.
            drop(timeout(ASK_AGAIN, self.lanes.trunks.freed.notified()).await);
            if Moment::now() >= until {
                return Err(UpstreamFailure::QueueTimeout);
            }
        }
    }

    fn on(&self, stream: StreamLease, reused: bool, queued: Duration) -> Ready {
        if reused {
            self.lanes.meter.reused();
        }
        let leased = Leased::new(self);
        Ready { carrier: Carrier::Stream(stream), reused: reused.then_some(Duration::ZERO), queued, leased }
    }

    /// A place among those who wait for this upstream.
    fn enter(&self) -> Result<Place, UpstreamFailure> {
        self.queue.enter().ok_or(UpstreamFailure::QueueFull)
    }

    /// A slot, and how long others had all of them.
    async fn lease(&self, settings: &UpstreamSettings) -> Result<(Lease, Duration), UpstreamFailure> {
        let slots = &self.pool(settings).slots;
        let waiting = self.lanes.meter.waiting();
        let (slot, queued) = {
            let mut coming = pin!(slots.get_owned());
            match poll_fn(|cx| Poll::Ready(coming.as_mut().poll(cx))).await {
                Poll::Ready(slot) => (slot, Duration::ZERO),
                Poll::Pending => {
                    let wait = self.wait(settings.max_connections)?;
                    (coming.await, wait.over())
                }
            }
        };
        drop(waiting);
        let mut lease = Lease::new(slot.map_err(|_| UpstreamFailure::QueueTimeout)?);
        if lease.open().is_some() {
            return Ok((lease, queued));
        }
        // An empty slot came first; a warm connection may wait behind it.
        let mut empty = Vec::new();
        for _ in 0..slots.state().idle_connections.min(LOOK_BEHIND) {
            let Ok(Ok(slot)) = timeout(Duration::ZERO, slots.get_owned()).await else { break };
            empty.push(std::mem::replace(&mut lease, Lease::new(slot)));
            if lease.open().is_some() {
                break;
            }
        }
        Ok((lease, queued))
    }

    /// No slot is there at once: one is being made, for as many as there may be slots, and all others queue.
    fn wait(&self, most: usize) -> Result<Wait<'_>, UpstreamFailure> {
        let growing = self.lanes.growing.fetch_add(1, Ordering::Relaxed);
        if self.leased() + growing < most {
            return Ok(Wait { growing: Some(&self.lanes.growing), queued: None });
        }
        self.lanes.growing.fetch_sub(1, Ordering::Relaxed);
        Ok(Wait { growing: None, queued: Some((self.enter()?, Instant::now())) })
    }

    fn keeper(&self) -> Keeper {
        Keeper { shared: Arc::clone(&self.lanes.shared), meter: self.lanes.meter.clone() }
    }

    /// How long the leased connection has been idle, if that is short enough.
    fn may_reuse(&self, lease: &mut Lease, need: Need, settings: &UpstreamSettings) -> Option<Duration> {
        let now = Instant::now();
        let idle = lease.open()?.idle_for(now);
        let trusted = match need {
            Need::Any => idle < settings.keep_alive,
            Need::Trusted => idle < settings.keep_alive && idle < self.lanes.shared.keep_alive.trusted_age(now),
            Need::Fresh => false,
        };
        trusted.then_some(idle)
    }

    /// The endpoint closed a connection that had been idle for `age`.
    pub(super) fn closed_after(&self, age: Duration) {
        self.lanes.shared.keep_alive.closed_after(age, Instant::now());
    }

    /// The right to another connection, and how long others had all of them.
    async fn permit(&self, until: Moment) -> Result<(OwnedSemaphorePermit, Duration), UpstreamFailure> {
        if let Ok(permit) = Arc::clone(&self.lanes.shared.permits).try_acquire_owned() {
            return Ok((permit, Duration::ZERO));
        }
        let (_place, since) = (self.enter()?, Instant::now());
        let asking = async {
            loop {
                self.lanes.shared.wanted.notify_waiters();
                let waiting = Arc::clone(&self.lanes.shared.permits).acquire_owned();
                if let Ok(Ok(permit)) = timeout(ASK_AGAIN, waiting).await {
                    return permit;
                }
            }
        };
        let permit = timeout_at(until, asking).await.map_err(|_| UpstreamFailure::QueueTimeout)?;
        Ok((permit, since.elapsed()))
    }

    fn pool(&self, settings: &UpstreamSettings) -> &Pool {
        self.lanes.pool.get_or_init(|| {
            let slots = pool(settings.max_connections, settings.keep_alive, settings.queue_timeout);
            let yielding = self.lanes.tasks.spawn(yield_idle(slots.clone(), Arc::clone(&self.lanes.shared.wanted)));
            Pool { slots, yielding: yielding.abort_handle() }
        })
    }
}

/// A request that waits for a slot.
struct Wait<'a> {
    growing: Option<&'a AtomicUsize>,
    queued: Option<(Place, Instant)>,
}

impl Wait<'_> {
    /// How long it was in the queue.
    fn over(self) -> Duration {
        self.queued.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(growing) = self.growing {
            growing.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Waits until the connection left by the last request can take the next one; false if it is closed instead.
async fn is_ready(lease: &mut Lease, limit: Duration) -> bool {
    let Some(connection) = lease.open() else { return false };
    let (sender, _) = connection.wake();
    sender.is_ready() || matches!(timeout(limit, sender.ready()).await, Ok(Ok(())))
}

/// Closes one idle connection of this worker's pool each time another worker wants one.
async fn yield_idle(slots: bb8::Pool<Slots>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let mut held = Vec::new();
        for _ in 0..slots.state().idle_connections {
            let Ok(Ok(slot)) = timeout(Duration::ZERO, slots.get_owned()).await else { break };
            let mut lease = Lease::new(slot);
            if lease.close() {
                break;
            }
            held.push(lease);
        }
    }
}
