//! Which rate limits a request is counted by, and what its answer says of them.
//!
//! Two times on the way of a request: before anybody looks at its token, by what anybody can see (its address, a header field, the route
//! itself), so that a flood of bad tokens costs little; and after its token was found good, by its claims. At each of these all limits must pass; if one refuses,
//! the request is counted by none of them. What was counted before the token was looked at stays counted.
//!
//! Answers for RFC 6585 section 4 with `serve::respond`, and for draft-ietf-httpapi-ratelimit-headers-11. Refuses to know how is counted:
//! `limit` does.

use std::fmt::{self, Write as _};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::context::{Client, Exchange, Notes};
use super::failure::Failure;
use crate::auth::{ClaimPath, Permit, Style};
use crate::limit::{Account, CountedBy, Decision, Key, Limiter, MOST_LIMITS, Remaining};
use crate::observe::LimitMeter;
use crate::snapshot::Route;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits of one route on one worker.
#[derive(Debug)]
pub struct RouteLimits {
    /// Those that need no token first.
    limits: Box<[RouteLimit]>,
    /// How many of them need none.
    early: usize,
    /// What every answer says of those that are told.
    policy: Option<HeaderValue>,
    style: Style,
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
    /// At most [`MOST_LIMITS`], whose refusals are worded in `style`; `None` if there are none.
    pub fn new(limits: impl IntoIterator<Item = RouteLimit>, style: Style) -> Option<Self> {
        let (early, late): (Vec<_>, Vec<_>) = limits.into_iter().partition(|limit| limit.claim.is_none());
        let (begun, limits) = (early.len(), early.into_iter().chain(late).collect::<Box<[_]>>());
        if limits.is_empty() {
            return None;
        }
        let told: Vec<_> = limits.iter().filter(|limit| limit.is_told()).map(|limit| limit.limiter.policy()).collect();
        let policy = (!told.is_empty())
            .then(|| HeaderValue::from_str(&told.join(", ")).expect("names of limits are letters, digits, `-._`"));
        Some(Self { limits, early: begun, policy, style })
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
}

/// Refuses what comes too often, as far as can be told before its token is looked at.
pub(super) fn admit_sender(route: &Route, exchange: &Exchange, client: &Client) -> Result<(), Failure> {
    let Some(limits) = &route.limits else { return Ok(()) };
    let headers = &exchange.head.headers;
    limits.take(0..limits.early, &exchange.notes, |limit| {
        let by = &limit.limiter.settings().by;
        let client = || Key::client(client.socket.ip(), by.ipv6_prefix());
        limit.limiter.account(match by {
            CountedBy::Route => Key::All,
            CountedBy::Header { name, .. } => only(headers, name).map_or_else(client, Key::Header),
            CountedBy::Client { .. } | CountedBy::Claim { .. } => client(),
        })
    })
}

/// Refuses what comes too often of whoever bears the token.
pub(super) fn admit_holder(
    route: &Route,
    exchange: &Exchange,
    client: &Client,
    permit: &Permit,
) -> Result<(), Failure> {
    let Some(limits) = &route.limits else { return Ok(()) };
    limits.take(limits.early..limits.limits.len(), &exchange.notes, |limit| {
        let claim = limit.claim.as_ref().and_then(|path| permit.claim(path));
        limit.limiter.account(match &claim {
            Some((issuer, value)) => Key::Claim { issuer, value },
            None => Key::client(client.socket.ip(), limit.limiter.settings().by.ipv6_prefix()),
        })
    })
}

/// The value of a field that says one thing.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.as_bytes();
    (values.next().is_none() && !value.is_empty()).then_some(value)
}

impl RouteLimits {
    /// Counts a request by the limits of `range`, or by none of them.
    fn take(
        &self,
        range: Range<usize>,
        notes: &Notes,
        account: impl Fn(&RouteLimit) -> Account,
    ) -> Result<(), Failure> {
        if range.is_empty() {
            return Ok(());
        }
        let now = Instant::now();
        let mut left = [None; MOST_LIMITS];
        for at in range.clone() {
            let limit = &self.limits[at];
            match limit.limiter.take(account(limit), now) {
                Decision::Passed(remaining) => {
                    limit.meter.passed();
                    left[at] = Some(remaining);
                }
                Decision::Refused(_) if limit.limiter.settings().dry_run => {
                    limit.meter.would_refuse();
                    notes.write(|story| story.limit = Some(Arc::clone(&limit.name)));
                }
                Decision::Refused(remaining) => {
                    limit.meter.refused();
                    // What is on trial and would have refused has counted nothing.
                    for at in (range.start..at).filter(|at| left[*at].is_some()) {
                        let limit = &self.limits[at];
                        limit.limiter.give_back(account(limit), now);
                    }
                    return Err(self.refuse(at, remaining, notes));
                }
            }
        }
        if self.policy.is_some() {
            notes.write(|story| {
                let told = &mut story.left.get_or_insert_default().0;
                told[range.clone()].copy_from_slice(&left[range]);
            });
        }
        Ok(())
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
