//! Which rate limits a request is counted by, and what its answer says of them.
//!
//! Two times on the way of a request: before anybody looks at its token, by what anybody can see (its address, a header field, the route
//! itself), so that a flood of bad tokens costs little; and after its token was found good, by its claims. At each of these all limits must pass; if one refuses,
//! the request is counted by none of them. What was counted before the token was looked at stays counted.
//!
//! Limits that gateways share are asked last, all of a stage at once.
//!
//! Answers for RFC 6585 section 4 with `serve::respond`, and for draft-ietf-httpapi-ratelimit-headers-11. Refuses to know how is counted:
//! `limit` does.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Client, Exchange, Notes};
use super::failure::Failure;
use crate::auth::{ClaimPath, Permit, Style};
use crate::limit::{Account, CountedBy, Decision, Fleet, Key, Limiter, MOST_LIMITS, Question, Remaining};
use crate::observe::LimitMeter;
use crate::snapshot::Route;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits of one route on one worker.
#[derive(Debug)]
pub struct RouteLimits {
    limits: Box<[RouteLimit]>,
    /// Which of them need no token, and which do.
    stages: [Stage; 2],
    /// Where those are counted that are shared; `None` if none is.
    fleet: Option<Fleet>,
    /// What every answer says of those that are told.
    policy: Option<HeaderValue>,
    style: Style,
}

/// Limits that are asked at once: first those that are counted here, for what they refuse needs to be asked nowhere.
#[derive(Debug, Clone)]
struct Stage {
    own: Range<usize>,
    shared: Range<usize>,
}

/// One limit of a route on one worker.
#[derive(Debug)]
pub struct RouteLimit {
    limiter: Arc<Limiter>,
    /// Of this worker's own: answers count references to it.
    name: Arc<str>,
    claim: Option<ClaimPath>,
    meter: LimitMeter,
}

impl RouteLimits {
    /// At most [`MOST_LIMITS`], whose refusals are worded in `style`; `None` if there are none. Those that are shared are counted in `fleet`.
    pub fn new(limits: impl IntoIterator<Item = RouteLimit>, fleet: Option<Fleet>, style: Style) -> Option<Self> {
        let is_shared = |limit: &RouteLimit| fleet.is_some() && limit.limiter.settings().shared;
        let mut limits: Box<[_]> = limits.into_iter().collect();
        if limits.is_empty() {
            return None;
        }
        limits.sort_by_key(|limit| (limit.claim.is_some(), is_shared(limit))); // stable: else in the order of the file
        let mut end = 0;
        let mut next = |late: bool, shared: bool| {
            let of = |limit: &&RouteLimit| limit.claim.is_some() == late && is_shared(limit) == shared;
            let begin = end;
            end += limits.iter().filter(of).count();
            begin..end
        };
        let stages = [false, true].map(|late| Stage { own: next(late, false), shared: next(late, true) });
        let told: Vec<_> = limits.iter().filter(|limit| limit.is_told()).map(|limit| limit.limiter.policy()).collect();
        let policy = (!told.is_empty())
            .then(|| HeaderValue::from_str(&told.join(", ")).expect("names of limits are letters, digits, `-._`"));
        let any_shared = stages.iter().any(|stage| !stage.shared.is_empty());
        Some(Self { limits, stages, fleet: fleet.filter(|_| any_shared), policy, style })
    }
}

impl RouteLimit {
    /// A limit as this worker counts it; `claim` is where its key stands in a token, if it is there.
    pub fn new(limiter: Arc<Limiter>, claim: Option<ClaimPath>, meter: LimitMeter) -> Self {
        let name = (*limiter.settings().name).into();
        Self { limiter, name, claim, meter }
    }

    fn is_told(&self) -> bool {
        self.limiter.settings().headers
    }

    /// Where a key is counted here; if it is counted elsewhere too, that is to be asked.
    fn account(&self, key: Key<'_>, elsewhere: Option<Elsewhere<'_>>) -> Account {
        if let Some((fleet, question)) = elsewhere {
            fleet.add(question, &self.limiter, key);
        }
        self.limiter.account(key)
    }
}

/// Where limits are shared, and what is to be asked there.
type Elsewhere<'a> = (&'a Fleet, &'a mut Question);

/// Refuses what comes too often, as far as can be told before its token is looked at.
pub(super) fn admit_sender<'r>(
    route: &'r Route,
    exchange: &Exchange,
    client: &Client,
) -> Result<Option<Box<Pending<'r>>>, Failure> {
    let Some(limits) = &route.limits else { return Ok(None) };
    let headers = &exchange.head.headers;
    limits.take(&limits.stages[0], &exchange.notes, |limit, elsewhere| {
        let by = &limit.limiter.settings().by;
        let client = || Key::client(client.socket.ip(), by.ipv6_prefix());
        let key = match by {
            CountedBy::Route => Key::All,
            CountedBy::Header { name, .. } => only(headers, name).map_or_else(client, Key::Header),
            CountedBy::Client { .. } | CountedBy::Claim { .. } => client(),
        };
        limit.account(key, elsewhere)
    })
}

/// Refuses what comes too often of whoever bears the token.
pub(super) fn admit_holder<'r>(
    route: &'r Route,
    exchange: &Exchange,
    client: &Client,
    permit: &Permit,
) -> Result<Option<Box<Pending<'r>>>, Failure> {
    let Some(limits) = &route.limits else { return Ok(None) };
    limits.take(&limits.stages[1], &exchange.notes, |limit, elsewhere| {
        let claim = limit.claim.as_ref().and_then(|path| permit.claim(path));
        let key = match &claim {
            Some((issuer, value)) => Key::Claim { issuer, value },
            None => Key::client(client.socket.ip(), limit.limiter.settings().by.ipv6_prefix()),
        };
        limit.account(key, elsewhere)
    })
}

/// The value of a field that says one thing.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.as_bytes();
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

/// What the limits of a stage have said so far, by their places in the route.
type Taken = [Option<Remaining>; MOST_LIMITS];

impl RouteLimits {
    /// Counts a request by the limits of a stage, or by none of them. Those that are shared are pending then.
    fn take(
        &self,
        stage: &Stage,
        notes: &Notes,
        account: impl Fn(&RouteLimit, Option<Elsewhere<'_>>) -> Account,
    ) -> Result<Option<Box<Pending<'_>>>, Failure> {
        let Stage { own, shared } = stage;
        if own.is_empty() && shared.is_empty() {
            return Ok(None);
        }
        let (now, mut taken) = (Instant::now(), Taken::default());
        for at in own.clone() {
            let limit = &self.limits[at];
            let decision = limit.limiter.take(account(limit, None), now);
            if let Err(remaining) = self.count(at, decision, &mut taken, notes) {
                // What is on trial and would have refused has counted nothing.
                for at in (own.start..at).filter(|at| taken[*at].is_some()) {
                    let limit = &self.limits[at];
                    limit.limiter.give_back(account(limit, None), now);
                }
                return Err(self.refuse(at, remaining, notes));
            }
        }
        let Some(fleet) = self.fleet.as_ref().filter(|_| !shared.is_empty()) else {
            self.note_left(own.clone(), &taken, notes);
            return Ok(None);
        };
        let mut question = Question::default();
        let accounts = (own.start..shared.end).map(|at| {
            let elsewhere = shared.contains(&at).then_some((fleet, &mut question));
            account(&self.limits[at], elsewhere)
        });
        let accounts = accounts.collect();
        let notes = notes.clone();
        Ok(Some(Box::new(Pending { limits: self, fleet, stage: stage.clone(), question, accounts, taken, notes })))
    }

    /// Counts what one limit has decided; what is left there, if it has refused in earnest.
    fn count(&self, at: usize, decision: Decision, taken: &mut Taken, notes: &Notes) -> Result<(), Remaining> {
        let limit = &self.limits[at];
        match decision {
            Decision::Passed(remaining) => {
                limit.meter.passed();
                taken[at] = Some(remaining);
            }
            Decision::Refused(_) if limit.limiter.settings().dry_run => {
                limit.meter.would_refuse();
                notes.write(|story| story.limit = Some(Arc::clone(&limit.name)));
            }
            Decision::Refused(remaining) => {
                limit.meter.refused();
                return Err(remaining);
            }
        }
        Ok(())
    }

    fn note_left(&self, range: Range<usize>, taken: &Taken, notes: &Notes) {
        if self.policy.is_some() {
            notes.write(|story| {
                let told = &mut story.left.get_or_insert_default().0;
                told[range.clone()].copy_from_slice(&taken[range]);
            });
        }
    }

    fn refuse(&self, at: usize, remaining: Remaining, notes: &Notes) -> Failure {
        let limit = &self.limits[at];
        notes.write(|story| {
            story.limit = Some(Arc::clone(&limit.name));
            // Of the others is not told: what is left there depends on what this one lets through.
            let told = story.left.insert(Left::default());
            told.0[at] = Some(remaining);
        });
        let name = limit.is_told().then(|| Arc::clone(&limit.name));
        Failure::RateLimited(Excess { name, secs: remaining.secs, style: self.style })
    }
}

/// A request that has passed the limits of this gateway, and waits for what others have counted.
pub(super) struct Pending<'r> {
    limits: &'r RouteLimits,
    fleet: &'r Fleet,
    stage: Stage,
    question: Question,
    /// Of all limits of the stage.
    accounts: Box<[Account]>,
    taken: Taken,
    notes: Notes,
}

impl<'r> Pending<'r> {
    /// What the shared limits say; if they can't be asked, this gateway decides by what it has seen itself. Boxed, so that requests without
    /// such limits need no room for it.
    pub(super) fn decided(self: Box<Self>) -> Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'r>> {
        Box::pin(self.decide())
    }

    async fn decide(self: Box<Self>) -> Result<(), Failure> {
        let Self { limits, fleet, stage: Stage { own, shared }, question, accounts, mut taken, notes } = *self;
        let answers = fleet.ask(question).await;
        let now = Instant::now();
        let account = |at: usize| (&limits.limits[at].limiter, accounts[at - own.start]);
        for at in shared.clone() {
            let (limiter, account_here) = account(at);
            let elsewhere = answers.as_ref().map(|answers| answers[at - shared.start]);
            let decision = match elsewhere {
                Some(refused @ Decision::Refused(_)) => refused,
                elsewhere => {
                    // Counted here too: when nobody can be asked, this gateway goes on with what it has let through.
                    let here = limiter.take(account_here, now);
                    elsewhere.unwrap_or(here)
                }
            };
            if let Err(remaining) = limits.count(at, decision, &mut taken, &notes) {
                for at in (own.start..at).filter(|at| taken[*at].is_some()) {
                    let (limiter, account) = account(at);
                    limiter.give_back(account, now);
                }
                return Err(limits.refuse(at, remaining, &notes));
            }
        }
        limits.note_left(own.start..shared.end, &taken, &notes);
        Ok(())
    }
}

/// A request too many.
#[derive(Debug, thiserror::Error)]
#[error("over a rate limit, for {secs} seconds")]
pub(super) struct Excess {
    /// The limit, where clients are told of it.
    pub(super) name: Option<Arc<str>>,
    /// Seconds until one more may pass.
    pub(super) secs: u32,
    /// How the refusal is worded.
    pub(super) style: Style,
}

/// What is left of the limits that a request was counted by, in the order of the route's.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Left([Option<Remaining>; MOST_LIMITS]);

/// Says on an answer what is left. What an upstream says of limits of its own stays beside it: both fields are lists.
pub(super) fn tell(headers: &mut HeaderMap, route: &Route, left: &Left) {
    let Some((limits, policy)) = route.limits.as_ref().and_then(|limits| Some((limits, limits.policy.as_ref()?)))
    else {
        return;
    };
    let mut line = Line::default();
    for (limit, left) in limits.limits.iter().zip(&left.0).filter(|(limit, _)| limit.is_told()) {
        if let Some(Remaining { requests, secs }) = left {
            let comma = if line.length == 0 { "" } else { ", " };
            write!(line, "{comma}\"{}\";r={requests};t={secs}", limit.name).expect("`Line` has room for all of them");
        }
    }
    headers.append(RATE_LIMIT_POLICY, policy.clone());
    if line.length > 0 {
        let value = HeaderValue::from_bytes(&line.bytes[..line.length]);
        headers.append(RATE_LIMIT, value.expect("names of limits are letters, digits, `-._`"));
    }
}

/// A line that is written without an allocation: each limit has a name of 64 bytes at most and two numbers of ten digits.
struct Line {
    bytes: [u8; MOST_LIMITS * (64 + 2 * 10 + 10)],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; _], length: 0 }
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}
