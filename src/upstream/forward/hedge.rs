//! A try and, if it has no answer in time, another beside it: whichever answers first wins.
//!
//! Owns when a request is sent twice at once, and what becomes of the one that loses: it is dropped, which closes its connection or resets its
//! stream, and nobody hears of it. An endpoint that was slow once is not ill, and what was never waited for can't be judged. Refuses to
//! know which endpoint is as good as another, and what may be sent again once both have failed.

use std::pin::pin;
use std::time::Instant;

use http::{Method, Request};
use tokio::time::timeout;

use super::{Attempt, Forwarded, OnBehalf, Try, note};
use crate::http::{BodyWatch, RequestBody};
use crate::upstream::Upstream;
use crate::upstream::members::Wish;
use crate::upstream::retry::{Reason, Retrying};

/// A read, which may be done twice without anybody noticing (RFC 9110 section 9.2.1). TRACE and what nobody knows is not worth it.
pub(super) fn is_read(request: &Request<RequestBody>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS) && request.body().is_empty()
}

impl Upstream {
    /// One try, and after a time without an answer's head another at an endpoint that is as good; `tried` becomes the one whose outcome it
    /// is. When one fails the other goes on by itself.
    ///
    /// Cancel safe: dropping the future drops both tries, and so closes the connections they were using.
    pub(super) async fn hedged(
        &self,
        tried: &mut Try,
        wish: Wish,
        begun: Instant,
        request: Request<RequestBody>,
        watch: &BodyWatch,
        behalf: &OnBehalf,
    ) -> Result<Forwarded, Attempt> {
        let copy = self.copy_of(&request);
        let mut first = pin!(self.attempt(*tried, begun, request, watch, behalf));
        if let Ok(outcome) = timeout(self.settings.hedge.unwrap_or_default(), first.as_mut()).await {
            return outcome;
        }
        let beside = copy.and_then(|copy| self.beside(*tried, wish).map(|(other, within)| (copy, other, within)));
        let Some((copy, mut other, within)) = beside else { return first.await };
        self.retries.count(Reason::Hedge);
        (tried.round.hedged, other.round.hedged) = (true, true);
        // Two that hint at different things would be one too many: interim responses are the first one's.
        let quietly = OnBehalf { interim: None, ..behalf.clone() };
        let mut second = pin!(self.attempt(other, Instant::now(), *copy, watch, &quietly));
        let (outcome, mut is_first) = tokio::select! {
            biased;
            outcome = first.as_mut() => (outcome, true),
            outcome = second.as_mut() => (outcome, false),
        };
        let outcome = match outcome {
            Ok(answered) => Ok(answered),
            Err(failed) => {
                let at = if is_first { tried.at } else { other.at };
                note(self.members.at(at), &failed, true, watch.is_sent());
                drop((failed, within)); // what they have of the budget is free
                is_first = !is_first;
                if is_first { first.await } else { second.await }
            }
        };
        if !is_first {
            *tried = other;
        }
        outcome
    }

    /// The try that goes beside another, and its part of the budget. One that there is no room for is not missed.
    fn beside(&self, first: Try, wish: Wish) -> Option<(Try, Retrying)> {
        let at = self.members.beside(wish, first.at)?;
        let within = self.retries.begin_unmissed(&self.settings.retry)?;
        Some((Try { at, ..first }, within))
    }
}
