//! The endpoints of an upstream as one worker chooses among them.
//!
//! Joins the rules of `balance` with what is known of each endpoint: its weight and priority, its presence, and the requests it has of this
//! worker. Those of other workers are not counted: a count that all share would be one more cache line for all cores to write to at
//! every request, and where choices are drawn at random, the workers spread theirs independently of one another.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use http::header::SET_COOKIE;
use http::{HeaderMap, Request};

use super::affinity::{Affinity, Seal, take_cookie};
use super::balance::{Candidate, Dice, Field, WHOLE, hash};
use super::endpoint::Endpoint;
use super::health::Ward;
use super::{Balance, OnBehalf, UpstreamSettings};

/// All endpoints, in the order of the settings.
#[derive(Debug)]
pub(super) struct Members {
    all: Vec<Member>,
    ward: Arc<Ward>,
    settings: Arc<UpstreamSettings>,
    dice: Dice,
}

#[derive(Debug)]
struct Member {
    endpoint: Endpoint,
    weight: u64,
    priority: u8,
    /// What it has gained and not spent, where endpoints take turns.
    credit: AtomicI64,
    /// Its address as a number.
    identity: u64,
    /// There if clients are to stay.
    seal: Option<Seal>,
}

/// What a request asks of the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing.
    Any,
    /// The endpoint of this key.
    Key(u64),
    /// The endpoint at this position, where it was before; or any, to stay at.
    Stay(Option<usize>),
}

impl Members {
    /// `endpoints` are in the order of the settings, and there is one at least.
    pub(super) fn new(endpoints: Vec<Endpoint>, ward: Arc<Ward>, settings: Arc<UpstreamSettings>) -> Self {
        let member = |(at, endpoint): (usize, Endpoint)| {
            let rank = settings.ranks.get(at).copied().unwrap_or_default();
            let seal = match &settings.balance {
                Balance::Sticky(sticky) => Some(Seal::new(sticky, endpoint.label())),
                _ => None,
            };
            Member {
                weight: u64::from(rank.weight) * WHOLE,
                priority: rank.priority,
                credit: AtomicI64::new(0),
                identity: hash(endpoint.label().as_bytes()),
                seal,
                endpoint,
            }
        };
        let all = endpoints.into_iter().enumerate().map(member).collect();
        Self { all, dice: Dice::new(RandomState::new().hash_one(0)), ward, settings }
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.all.iter().map(|member| &member.endpoint)
    }

    /// What a request wishes; a cookie of ours is taken out of it.
    pub(super) fn wish<B>(&self, request: &mut Request<B>, behalf: &OnBehalf) -> Wish {
        match &self.settings.balance {
            Balance::Hash { on, .. } if self.all.len() > 1 => {
                let key = Affinity::read(on, request.headers(), behalf.client.ip(), behalf.affinity);
                key.map_or(Wish::Any, |key| Wish::Key(key.number()))
            }
            Balance::Sticky(sticky) => {
                let is = |member: &Member, shown: &[u8]| member.seal.as_ref().is_some_and(|seal| seal.is(shown));
                let whose = |shown: &[u8]| self.all.iter().position(|member| is(member, shown));
                Wish::Stay(take_cookie(request.headers_mut(), &sticky.cookie, whose))
            }
            _ => Wish::Any,
        }
    }

    /// The position of an endpoint for a request, other than `not`, which has just failed it, if there is a choice: one that failed earlier
    /// may be well again. When too few are eligible, standing counts for nothing: a server that is said to be out of order may answer, one
    /// that is not asked does not. One that is drained, or that its name does not stand for any more, is used only when all are.
    pub(super) fn pick(&self, wish: Wish, not: Option<usize>) -> usize {
        if self.all.len() == 1 {
            return 0;
        }
        let heeded = self.ward.heeds_standing();
        let drained = |at: usize| self.all[at].endpoint.presence().is_out_of_use();
        let usable = |at: usize| !drained(at) && (!heeded || self.all[at].endpoint.standing.eligible());
        let other = self.choose(wish, |at| Some(at) != not && usable(at));
        let elsewhere = other.or_else(|| self.choose(wish, |at| Some(at) != not && !drained(at)));
        elsewhere.or_else(|| self.choose(wish, |at| !drained(at))).or_else(|| self.choose(wish, |_| true)).unwrap_or(0)
    }

    /// The position of an endpoint that is as good as the one at `at` for the same request at the same time, if there is one. Nobody is asked
    /// beside an endpoint that its client is to stay with, and none is that would not be used otherwise.
    pub(super) fn beside(&self, wish: Wish, at: usize) -> Option<usize> {
        if wish == Wish::Stay(Some(at)) {
            return None;
        }
        self.choose(wish, |other| {
            let Member { endpoint, priority, .. } = &self.all[other];
            let is_used = endpoint.standing.eligible() && !endpoint.presence().is_out_of_use();
            other != at && is_used && *priority == self.all[at].priority
        })
    }

    /// The endpoint at a position.
    pub(super) fn at(&self, at: usize) -> &Endpoint {
        &self.all[at].endpoint
    }

    fn choose(&self, wish: Wish, eligible: impl Fn(usize) -> bool) -> Option<usize> {
        if let Wish::Stay(Some(at)) = wish
            && eligible(at)
        {
            return Some(at);
        }
        let candidate = |at: usize| {
            let member = &self.all[at];
            Candidate {
                eligible: eligible(at),
                in_flight: u64::try_from(member.endpoint.leased()).unwrap_or(u64::MAX),
                weight: member.weight * member.endpoint.presence().share(self.settings.slow_start) / WHOLE,
                priority: member.priority,
            }
        };
        let field = Field::among(self.all.len(), candidate)?;
        match (&self.settings.balance, wish) {
            (Balance::Hash { most_percent, .. }, Wish::Key(key)) => {
                field.hashed(key, |at| self.all[at].identity, *most_percent)
            }
            (Balance::RoundRobin, _) => field.round_robin(|at| &self.all[at].credit),
            (Balance::Random, _) => field.random(&self.dice),
            (Balance::LeastRequests | Balance::Hash { .. } | Balance::Sticky(_), _) => field.least_requests(&self.dice),
        }
    }

    /// Gives the client of an answer the cookie of the endpoint that answered, unless it has that already. Whether it did.
    pub(super) fn keep(&self, wish: Wish, at: usize, secure: bool, headers: &mut HeaderMap) -> bool {
        let Wish::Stay(before) = wish else { return false };
        let given = self.all[at].seal.as_ref().filter(|_| before != Some(at)).map(|seal| seal.field(secure));
        let is_new = given.is_some();
        headers.extend(given.map(|field| (SET_COOKIE, field)));
        is_new
    }
}
