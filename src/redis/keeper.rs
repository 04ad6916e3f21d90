//! Keeps the link: connects, asks now and then whether Redis is there, and begins anew with growing pauses when it is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redis::aio::MultiplexedConnection;
use ::redis::{AsyncConnectionConfig, ErrorKind, PushInfo, PushKind, RedisError, Value, cmd};
use tokio::time::{sleep, timeout};

use super::{Heard, Redis};

/// How often an idle Redis is asked whether it is there.
const PING: Duration = Duration::from_secs(1);
/// Pauses between attempts: the first, and the longest.
const PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(2)];
/// A connection that has lasted so long was good: the next pause is the first again.
const STEADY: Duration = Duration::from_secs(10);
/// Questions that may wait to be written, of all workers.
const WAITING: usize = 1024;

impl Redis {
    /// Keeps the link for as long as it is polled, in a runtime that nothing blocks: it carries the answers of all workers.
    pub async fn keep(self: Arc<Self>) {
        let mut pause = PAUSES[0];
        loop {
            let number = self.link().number + 1;
            match self.connect(number).await {
                Ok(connection) => {
                    let begun = Instant::now();
                    self.rise(number, connection.clone());
                    self.watch(number, connection).await;
                    if begun.elapsed() >= STEADY {
                        pause = PAUSES[0];
                    }
                }
                Err(error) => self.still_away(&error),
            }
            sleep(pause).await;
            pause = PAUSES[1].min(2 * pause);
        }
    }

    async fn connect(self: &Arc<Self>, number: u64) -> Result<MultiplexedConnection, RedisError> {
        let keeper = Arc::downgrade(self);
        let hear = move |said: PushInfo| -> Result<(), ::redis::aio::SendError> {
            if let Some(redis) = keeper.upgrade() {
                redis.hear(number, said);
            }
            Ok(())
        };
        let within = self.settings.connect_timeout;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(within))
            .set_response_timeout(None) // each question has a time of its own
            .set_pipeline_buffer_size(WAITING)
            .set_push_sender(hear);
        let connecting = async {
            let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
            if self.listener.is_some() {
                connection.subscribe(self.channel()).await?;
            }
            Ok(connection)
        };
        let late = |_| RedisError::from((ErrorKind::Io, "it took too long to connect"));
        timeout(within, connecting).await.map_err(late)?
    }

    fn rise(&self, number: u64, connection: MultiplexedConnection) {
        let mut link = self.link();
        link.connection = Some(connection);
        link.number = number;
        link.since = Instant::now();
        drop(link);
        self.up.store(true, std::sync::atomic::Ordering::Release);
        tracing::info!(redis = %self.settings.place, "Redis is there: what is to be shared is shared");
        self.tell(Heard::Connected);
    }

    /// The first attempt of a process that fails is worth a line; what fell has had one.
    fn still_away(&self, error: &RedisError) {
        let mut link = self.link();
        let first = link.error.is_none();
        link.error = Some(error.to_string());
        drop(link);
        if first {
            let reason = error.to_string();
            tracing::warn!(redis = %self.settings.place, reason, "Redis is away: this gateway decides alone");
        }
    }

    /// Returns when the connection is of no use any more.
    async fn watch(&self, number: u64, mut connection: MultiplexedConnection) {
        while self.is_up() {
            tokio::select! {
                () = self.doubted.notified() => {}
                () = sleep(PING) => {
                    let ping = async { cmd("PING").query_async::<Value>(&mut connection).await };
                    let answer = timeout(self.settings.connect_timeout, ping).await;
                    drop(self.judge(number, answer));
                }
            }
        }
    }

    /// What Redis says unasked. Called while answers are read: it must not wait.
    fn hear(&self, number: u64, said: PushInfo) {
        match (said.kind, &*said.data) {
            (PushKind::Disconnection, _) => self.fall(number, "it closed the connection".to_owned()),
            (PushKind::Message, [_, Value::BulkString(message)]) => self.tell(Heard::Message(message.clone())),
            _ => {}
        }
    }

    fn tell(&self, heard: Heard) {
        if let Some(listener) = &self.listener
            && listener.try_send(heard).is_err()
        {
            self.miss();
        }
    }
}
