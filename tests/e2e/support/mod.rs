//! What the stories are told with: a gateway process, origins that misbehave on demand, and clients that speak exact bytes.

pub mod client;
pub mod dns;
pub mod frames;
pub mod gateway;
pub mod grpc;
pub mod h2;
pub mod h2_origin;
pub mod h3;
pub mod malformed;
pub mod moods;
pub mod origin;
pub mod port;
pub mod redis;
pub mod scrape;
pub mod signer;
pub mod stub;
pub mod tls;
pub mod token;
pub mod uwsgi;
pub mod websocket;
pub mod wire;

use std::future::Future;
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine; what waits this long hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The outcome of `future`, which must come in time.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing came in {PATIENCE:?}"))
}

/// Asks again and again until `question` yields something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut question: impl FnMut() -> F) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = question().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Writes a file below a directory, with the directories on its way.
pub fn place(home: &Path, name: &str, contents: impl AsRef<[u8]>) {
    let path = home.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

/// Numbers that look random and are the same in every run (xorshift64*).
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32) % bound
    }

    pub fn millis(&mut self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_micros(1000 * range.start + self.below(1000 * (range.end - range.start)))
    }
}
