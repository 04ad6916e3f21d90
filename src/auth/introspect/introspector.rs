//! The asker: one worker's way to one issuer's introspection endpoint.
//!
//! Owns the order of a question: what is remembered, who already asks, whose turn it is, the exchange, and what is remembered of it.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::answer::{self, Answer, AnswerFault};
use super::flights::Flights;
use super::memory::{Digest, Memory, Moment};
use super::request::{authorization, form};
use super::settings::IntrospectionSettings;
use crate::auth::claims::Claims;
use crate::auth::denied::Cause;
use crate::auth::issuer::Issuer;
use crate::auth::json::Value;
use crate::auth::time::UnixSeconds;
use crate::auth::verify::Verified;
use crate::fetch::{FetchError, Fetcher};
use crate::observe::{Chain, Introspected, IntrospectionMeter};

/// Questions under way at once, for one worker and issuer.
pub(super) const QUESTIONS: usize = 64;

/// What is found out about a token: what its issuer says, judged by all but its dates.
type Finding = Result<Arc<Verified>, Cause>;

/// Asks one issuer, on one worker: idle connections live on the runtime that dialled them.
pub(in crate::auth) struct Introspector {
    settings: IntrospectionSettings,
    authorization: HeaderValue,
    fetcher: OnceLock<Fetcher>,
    memory: Memory,
    flights: Flights<Finding>,
    turns: Semaphore,
    meter: Option<IntrospectionMeter>,
}

/// Why the issuer said nothing of the token.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// So many questions were under way that none of them ended in time.
    #[error("the issuer has too many questions to answer")]
    Busy,
    /// There was no answer.
    #[error("the issuer does not answer")]
    Fetch(#[source] FetchError),
    /// There was one, and it cannot be understood.
    #[error("the issuer cannot be understood")]
    Answer(#[source] AnswerFault),
}

impl Introspector {
    /// Connects to nobody yet. At most `entries` active tokens are remembered.
    pub(super) fn new(settings: IntrospectionSettings, entries: usize, meter: Option<IntrospectionMeter>) -> Self {
        Self {
            authorization: authorization(&settings),
            settings,
            fetcher: OnceLock::new(),
            memory: Memory::new(entries),
            flights: Flights::default(),
            turns: Semaphore::new(QUESTIONS),
            meter,
        }
    }

    /// What is remembered of the token, as [`vouch`](Self::vouch) would say it.
    pub(in crate::auth) fn recall(&self, digest: &Digest, now: UnixSeconds) -> Option<Finding> {
        self.memory.recall(digest, Moment { wall: now, steady: Instant::now() })
    }

    /// Asks the issuer, once for all who ask about this token now. Its dates are the caller's to ask.
    ///
    /// Cancel-safe, and over within twice the time of an exchange: one to wait for a turn, one for the exchange.
    pub(in crate::auth) async fn vouch(&self, issuer: &Issuer, token: &str, digest: &Digest) -> Finding {
        let found = self.flights.join(digest, || self.find_out(issuer, token, digest));
        timeout(2 * self.settings.fetch.timeout, found).await.unwrap_or(Err(Cause::IntrospectionUnavailable))
    }

    async fn find_out(&self, issuer: &Issuer, token: &str, digest: &Digest) -> Finding {
        let begun = Instant::now(); // an answer is as old as its question
        let (outcome, finding) = match self.ask(token).await {
            Ok(Answer::Active(claims)) => (Introspected::Active, judge(issuer, claims).map(Arc::new)),
            Ok(Answer::Inactive) => (Introspected::Inactive, Err(Cause::InactiveToken)),
            Err(error) => {
                tracing::warn!(issuer = issuer.name(), error = %Chain(&error), "a token cannot be introspected");
                (Introspected::Unavailable, Err(Cause::IntrospectionUnavailable))
            }
        };
        self.meter.iter().for_each(|meter| meter.asked(outcome, begun.elapsed()));
        if outcome != Introspected::Unavailable {
            self.memory.keep(digest, &finding, begun, self.settings.cache);
        }
        finding
    }

    /// One question, when it is its turn.
    pub(super) async fn ask(&self, token: &str) -> Result<Answer, AskError> {
        let turn = timeout(self.patience(), self.turns.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(AskError::Busy) };
        let client = self.client().map_err(AskError::Fetch)?;
        let exchange = client.post_form(&self.settings.url, Some(self.authorization.clone()), form(token));
        let answered = exchange.await.map_err(AskError::Fetch)?;
        answer::read(answered.body.into()).map_err(AskError::Answer)
    }

    fn patience(&self) -> Duration {
        self.settings.fetch.timeout
    }

    /// Made at the first question; where that fails (the system has no authorities), each one tries again.
    fn client(&self) -> Result<&Fetcher, FetchError> {
        if let Some(fetcher) = self.fetcher.get() {
            return Ok(fetcher);
        }
        let made = Fetcher::new(&self.settings.fetch)?;
        Ok(self.fetcher.get_or_init(|| made))
    }

    #[cfg(test)]
    pub(super) fn turns_left(&self) -> usize {
        self.turns.available_permits()
    }

    #[cfg(test)]
    pub(super) fn flights(&self) -> usize {
        self.flights.len()
    }
}

/// What an active token must say, judged as the claims of a signed one are; its dates apart, because they are asked again each time.
pub(super) fn judge(issuer: &Issuer, claims: Claims) -> Result<Verified, Cause> {
    refuse_other_kinds(&claims)?;
    let verified = Verified::of(issuer, claims)?;
    verified.check_issuer(issuer)?;
    verified.check_audience(issuer)?;
    verified.check_presence(issuer)?;
    verified.check_demands(issuer)?;
    Ok(verified)
}

/// An issuer calls refresh tokens active, too (RFC 7662 section 2.1), and ID tokens, where it can tell them; what an answer says of
/// a token's kind is believed against the token, never for it. The words are those of Hydra, Keycloak and others.
fn refuse_other_kinds(claims: &Claims) -> Result<(), Cause> {
    const OTHERS: [&str; 6] = ["refresh_token", "refresh", "offline", "id_token", "id", "logout"];
    for name in ["token_use", "token_type", "typ"] {
        let kind = claims.find(name).and_then(Value::as_str);
        if kind.is_some_and(|kind| OTHERS.iter().any(|other| kind.eq_ignore_ascii_case(other))) {
            return Err(Cause::WrongTokenType(name.into()));
        }
    }
    Ok(())
}
