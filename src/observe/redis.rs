//! What operators are told about Redis, asked for when they look.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

/// How the link to Redis is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisStatus {
    /// Where it is.
    pub place: String,
    /// Whether it answers.
    pub up: bool,
    /// For how long it does, or does not.
    pub lasting: Duration,
    /// Why it last did not.
    pub error: Option<String>,
    /// Questions that got no answer, so that this gateway decided alone.
    pub fallbacks: u64,
}

type Ask = Box<dyn Fn() -> RedisStatus + Send + Sync>;

/// Whom to ask, if anything is shared.
#[derive(Default)]
pub struct Sharing(OnceLock<Ask>);

impl Sharing {
    /// `ask` answers how the link is. The first one counts.
    pub fn answered_by(&self, ask: impl Fn() -> RedisStatus + Send + Sync + 'static) {
        self.0.get_or_init(|| Box::new(ask));
    }

    /// How the link is; `None` where nothing is shared.
    pub fn status(&self) -> Option<RedisStatus> {
        self.0.get().map(|ask| ask())
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sharing(..)")
    }
}
