//! What gateways share: the link to Redis, kept on a thread of its own, so that neither a request nor a file that is read holds its answers up;
//! and the revocations that go over it.
//!
//! Each gateway's own list is the truth there. Redis carries news, and keeps all of it for who was not there: at each new connection a gateway reads what it missed,
//! and writes what Redis lacks.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::AppError;
use super::revocation::RevocationDesk;
use crate::auth::{Entry, UnixSeconds};
use crate::config::Config;
use crate::observe::{Metrics, RedisStatus, Refused, Why};
use crate::redis::{Away, Heard, Redis};

/// Changes that may wait to be told; when there are more, everything is compared.
const ORDERS: usize = 1024;
/// Messages that are taken in together.
const TOGETHER: usize = 256;
/// When what Redis refused is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// Clocks may differ by so much without that anything is forgotten too early.
const CLOCK_DOUBT_SECS: u64 = 3600;
/// A message longer than the longest revocation.
const LONGEST_MESSAGE: usize = 16 * 1024;

/// The link, and what it needs to carry revocations.
pub(super) struct Shared {
    redis: Arc<Redis>,
    heard: mpsc::Receiver<Heard>,
    orders: mpsc::Receiver<Order>,
    /// How the other gateways are told of revocations, if they are.
    fleet: Option<Fleet>,
}

/// What other gateways are to be told.
#[derive(Debug)]
pub(super) enum Order {
    Revoke(Entry),
    TakeBack(Entry),
}

/// The other gateways, as who changes the list knows them.
#[derive(Debug, Clone)]
pub(super) struct Fleet {
    redis: Arc<Redis>,
    orders: mpsc::Sender<Order>,
}

/// Begins to keep the link, if anything is to be shared, and tells operators of it.
pub(super) fn begin(config: &Config, metrics: &Metrics) -> Result<Option<Shared>, AppError> {
    let Some(settings) = &config.redis else { return Ok(None) };
    let revocations = config.revocation.as_ref().is_some_and(|list| list.shared);
    let (redis, heard) = Redis::new(settings.clone(), revocations).map_err(io::Error::other)?;
    let redis = Arc::new(redis);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kept = Arc::clone(&redis);
    std::thread::Builder::new().name("redis".to_owned()).spawn(move || runtime.block_on(kept.keep()))?;
    let asked = Arc::clone(&redis);
    metrics.sharing().answered_by(move || {
        let status = asked.status();
        RedisStatus {
            place: status.place,
            up: status.up,
            lasting: status.since.elapsed(),
            error: status.error,
            fallbacks: status.fallbacks,
        }
    });
    let (sender, orders) = mpsc::channel(ORDERS);
    let fleet = revocations.then(|| Fleet { redis: Arc::clone(&redis), orders: sender });
    Ok(Some(Shared { redis, heard, orders, fleet }))
}

impl Fleet {
    /// Tells them, now or when they can be told.
    pub(super) fn revoked(&self, entry: Entry) {
        if self.orders.try_send(Order::Revoke(entry)).is_err() {
            self.redis.miss();
        }
    }

    /// The means to tell them that a revocation is taken back. Without it, it would come back from them.
    pub(super) fn to_take_back(&self) -> Result<mpsc::Permit<'_, Order>, Refused> {
        let refused = |detail: &str| Refused { why: Why::Conflict, detail: detail.to_owned() };
        if !self.redis.is_up() {
            return Err(refused(
                "Redis is away, and the revocation would come back with it: try again when it is there",
            ));
        }
        self.orders.try_reserve().map_err(|_| refused("the other gateways are being told of much: try again"))
    }
}

impl Shared {
    /// The link, for who asks over it.
    pub(super) fn link(&self) -> Arc<Redis> {
        Arc::clone(&self.redis)
    }

    /// The other gateways, for who changes the list, if they are to be told.
    pub(super) fn fleet(&self) -> Option<Fleet> {
        self.fleet.clone()
    }

    /// Carries revocations between the desk and Redis, for as long as it is polled; `None` if they are not shared.
    pub(super) fn exchange(self, desk: &Arc<RevocationDesk>) -> Option<impl Future<Output = ()> + Send + use<>> {
        let desk = Arc::clone(desk);
        self.fleet.is_some().then(|| self.carry(desk))
    }

    async fn carry(mut self, desk: Arc<RevocationDesk>) {
        let (redis, mut heard, mut behind) = (Arc::clone(&self.redis), Vec::new(), false);
        loop {
            tokio::select! {
                _ = self.heard.recv_many(&mut heard, TOGETHER) => {
                    behind |= heard.contains(&Heard::Connected);
                    take_in(&desk, heard.drain(..));
                }
                Some(order) = self.orders.recv() => behind |= carry_out(&redis, order).await.is_err(),
                () = tokio::time::sleep(RETRY), if behind => {}
            }
            // While Redis is away nothing is tried: the next connection is heard of.
            behind |= redis.has_missed();
            if behind && redis.is_up() {
                behind = reconcile(&redis, &desk).await.is_err();
            }
        }
    }
}

/// Takes in what was said, in its order.
fn take_in(desk: &RevocationDesk, heard: impl Iterator<Item = Heard>) {
    let mut news = Vec::new();
    for message in heard {
        let Heard::Message(message) = message else { continue };
        let Some((sign, text)) = message.split_first().filter(|_| message.len() <= LONGEST_MESSAGE) else { continue };
        // Other versions may say other things; whoever else writes there is not listened to.
        let Some(entry) = read(text) else { continue };
        match sign {
            b'+' => news.push(entry),
            b'-' => {
                desk.learn(std::mem::take(&mut news));
                desk.unlearn(&entry);
            }
            _ => {}
        }
    }
    desk.learn(news);
}

async fn carry_out(redis: &Redis, order: Order) -> Result<(), Away> {
    match order {
        Order::Revoke(entry) => redis.publish(&[text(&entry)], word).await,
        Order::TakeBack(entry) => {
            let taken_back = take_back(redis, &entry).await;
            if taken_back.is_err() {
                tracing::warn!("Redis went away while a revocation was taken back: take it back again if it returns");
            }
            taken_back
        }
    }
}

/// The same revocation may stand there several times, with the moments that different gateways were told.
async fn take_back(redis: &Redis, entry: &Entry) -> Result<(), Away> {
    let (mut cursor, mut found) = (0, Vec::new());
    loop {
        let (next, texts) = redis.read(cursor).await?;
        let same = |text: &Vec<u8>| read(text).is_some_and(|other| other.is_about_the_same(entry));
        found.extend(texts.into_iter().filter(same));
        if next == 0 {
            break;
        }
        cursor = next;
    }
    let (text, _) = text(entry);
    redis.withdraw(&found, &format!("-{text}")).await
}

/// Reads what was missed, and writes what is missing there.
async fn reconcile(redis: &Redis, desk: &RevocationDesk) -> Result<(), Away> {
    let now = UnixSeconds::now();
    redis.forget_before(now.as_secs().saturating_sub(CLOCK_DOUBT_SECS)).await?;
    let (mut cursor, mut there) = (0, HashSet::new());
    loop {
        let (next, texts) = redis.read(cursor).await?;
        desk.learn(texts.iter().filter_map(|text| read(text)).collect());
        there.extend(texts);
        if next == 0 {
            break;
        }
        cursor = next;
    }
    let known = desk.list().known(now);
    let missing: Vec<_> = known.iter().map(text).filter(|(text, _)| !there.contains(text.as_bytes())).collect();
    redis.publish(&missing, word).await?;
    tracing::info!(read = there.len(), written = missing.len(), "revocations were compared with those in Redis");
    Ok(())
}

fn read(text: &[u8]) -> Option<Entry> {
    Entry::from_json(text, UnixSeconds::now()).ok()
}

fn text(entry: &Entry) -> (String, Option<u64>) {
    (entry.to_json().to_string(), entry.forgotten_at())
}

fn word(text: &str) -> String {
    format!("+{text}")
}
