//! Redis, or Valkey: what several gateways share, and whether it is there.
//!
//! Owns one connection for the process, over which the questions of all workers go one after the other without waiting for each other's answers
//! (that is why there is no pool: a leased connection would carry one question at a time), and the knowledge that it is gone. A question has a
//! bounded time; the first that gets no answer is the last that waits: from then on everybody is told at once, until a connection has been made
//! anew. Refuses to know what is asked: rate limits and revocations bring their own scripts and texts. A leaf.

mod keeper;
mod set;
mod settings;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    Client, ConnectionAddr, ConnectionInfo, ErrorKind, FromRedisValue, IntoConnectionInfo as _, ProtocolVersion,
    RedisConnectionInfo, RedisError, TlsCertificates,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;

pub use settings::*;

/// Messages that may wait to be taken in; when there are more, everything is read anew.
const HEARD: usize = 1024;

/// The process' one link to Redis.
#[derive(Debug)]
pub struct Redis {
    settings: RedisSettings,
    client: Client,
    /// Whether questions are asked at all: read on the way of requests.
    up: AtomicBool,
    link: Mutex<Link>,
    /// Wakes [`Self::keep`]: somebody got no answer.
    doubted: Notify,
    fallbacks: AtomicU64,
    missed: AtomicBool,
    /// Who takes in messages, if anybody does.
    listener: Option<mpsc::Sender<Heard>>,
}

/// How the link is.
#[derive(Debug)]
struct Link {
    connection: Option<MultiplexedConnection>,
    /// Counts connections, so that what is said of an old one does not hurt the new one.
    number: u64,
    since: Instant,
    error: Option<String>,
}

/// What a listener hears.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// There is a new connection: whatever was said in between was missed.
    Connected,
    /// A message from a gateway, this one included.
    Message(Vec<u8>),
}

/// There is no answer from Redis, and no more is to be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis does not answer")]
pub struct Away;

/// How the link is, for operators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkStatus {
    /// Where Redis is, without who we are there.
    pub place: String,
    /// Whether it answers.
    pub up: bool,
    /// Since when it does, or does not.
    pub since: Instant,
    /// Why it last did not.
    pub error: Option<String>,
    /// Questions that got no answer.
    pub fallbacks: u64,
}

/// A script that Redis runs as a whole, with nothing of others in between.
#[derive(Debug)]
pub struct Script(::redis::Script);

impl Script {
    /// A script in Lua.
    pub fn new(lua: &str) -> Self {
        Self(::redis::Script::new(lua))
    }
}

impl Redis {
    /// A link that is not there yet: [`Self::keep`] makes it. With `listening`, what gateways say to each other is heard by the receiver.
    pub fn new(settings: RedisSettings, listening: bool) -> Result<(Self, mpsc::Receiver<Heard>), RedisError> {
        let client = client(&settings)?;
        let (listener, heard) = mpsc::channel(HEARD);
        let link = Link { connection: None, number: 0, since: Instant::now(), error: None };
        let redis = Self {
            settings,
            client,
            up: AtomicBool::new(false),
            link: Mutex::new(link),
            doubted: Notify::new(),
            fallbacks: AtomicU64::new(0),
            missed: AtomicBool::new(false),
            listener: listening.then_some(listener),
        };
        Ok((redis, heard))
    }

    /// Whether settings can be used at all.
    pub fn check(settings: &RedisSettings) -> Result<(), RedisError> {
        client(settings).map(drop)
    }

    /// Runs a script, within the time that a request may wait. Cancel-safe, except that the script may have run.
    pub async fn run(&self, script: &Script, keys: &[String], arguments: &[u64]) -> Result<Vec<i64>, Away> {
        let answer = self.try_run(script, keys, arguments).await;
        if answer.is_err() {
            self.fallbacks.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn try_run(&self, script: &Script, keys: &[String], arguments: &[u64]) -> Result<Vec<i64>, Away> {
        let (number, mut connection) = self.connection()?;
        let mut invocation = script.0.prepare_invoke();
        invocation.key(keys).arg(arguments);
        let answer = timeout(self.settings.timeout, invocation.invoke_async(&mut connection)).await;
        self.judge(number, answer)
    }

    /// Sends commands at once, within the time that a connection may take to be had.
    async fn send<T: FromRedisValue>(&self, commands: &::redis::Pipeline) -> Result<T, Away> {
        let (number, mut connection) = self.connection()?;
        match timeout(self.settings.connect_timeout, commands.query_async(&mut connection)).await {
            // It is there and will not: what it would do for requests is another question.
            Ok(Err(error)) if matches!(error.kind(), ErrorKind::Server(_)) => {
                let redis = &self.settings.place;
                tracing::error!(%redis, %error, "Redis refuses what is to be shared: it is tried again");
                Err(Away)
            }
            answer => self.judge(number, answer),
        }
    }

    /// Whether it answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// What the names of keys begin with.
    pub fn prefix(&self) -> &str {
        &self.settings.prefix
    }

    /// How the link is.
    pub fn status(&self) -> LinkStatus {
        let link = self.link();
        LinkStatus {
            place: self.settings.place.to_string(),
            up: self.is_up(),
            since: link.since,
            error: link.error.clone(),
            fallbacks: self.fallbacks.load(Ordering::Relaxed),
        }
    }

    /// A message could not be taken in: what is shared is to be read again.
    pub fn miss(&self) {
        self.missed.store(true, Ordering::Release);
    }

    /// Whether something was missed since this was last asked.
    pub fn has_missed(&self) -> bool {
        self.missed.swap(false, Ordering::AcqRel)
    }

    fn connection(&self) -> Result<(u64, MultiplexedConnection), Away> {
        if !self.is_up() {
            return Err(Away);
        }
        let link = self.link();
        let connection = link.connection.clone().ok_or(Away)?;
        Ok((link.number, connection))
    }

    fn judge<T>(
        &self,
        number: u64,
        answer: Result<Result<T, RedisError>, tokio::time::error::Elapsed>,
    ) -> Result<T, Away> {
        let reason = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long to answer".to_owned(),
        };
        self.fall(number, reason);
        Err(Away)
    }

    /// No more is asked over this connection. Said once, however many find out.
    fn fall(&self, number: u64, reason: String) {
        let mut link = self.link();
        if link.number != number || link.connection.take().is_none() {
            return;
        }
        self.up.store(false, Ordering::Release);
        link.since = Instant::now();
        tracing::warn!(redis = %self.settings.place, reason, "Redis is away: this gateway decides alone");
        link.error = Some(reason);
        drop(link);
        self.doubted.notify_one();
    }

    /// No lock is held while anything is waited for, and nothing is half done under it.
    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn client(settings: &RedisSettings) -> Result<Client, RedisError> {
    // RESP3 (Redis 6 and later) carries answers and messages on one connection.
    let mut who = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(settings.database.into())
        .set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        who = who.set_username(username);
    }
    if let Some(password) = &settings.password {
        who = who.set_password(password.expose());
    }
    let address = match &settings.place {
        Place::Tcp { host, port, tls: false } => ConnectionAddr::Tcp(host.to_string(), *port),
        Place::Tcp { host, port, tls: true } => {
            ConnectionAddr::TcpTls { host: host.to_string(), port: *port, insecure: false, tls_params: None }
        }
        Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
    };
    let tcp = ::redis::io::tcp::TcpSettings::default().set_nodelay(true);
    let info: ConnectionInfo = address.into_connection_info()?.set_redis_settings(who).set_tcp_settings(tcp);
    match &settings.ca_pem {
        Some(pem) => Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) }),
        None => Client::open(info),
    }
}
