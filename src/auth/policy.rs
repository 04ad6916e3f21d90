//! What a route asks of a request, compiled.
//!
//! Owns which issuers' tokens a route takes and what they must say. A policy is public only when it was made so by name; empty lists ask
//! for a token all the same. Knows neither the route's match nor how a token is verified.

use std::sync::Arc;

use http::Method;

use super::access::{Access, Forwarding, OriginGuard, Place, PolicySettings, RouteAuth, Rule};
use super::asking::is_safe;
use super::bearer::{self, Scheme};
use super::claims::Claims;
use super::demand::{Verdict, judge};
use super::denied::{Cause, Challenge};
use super::issuer::Issuer;
use super::json::Value;
use super::jws::Jws;
use super::link::{self, LinkSettings, Links};
use super::place;
use super::settings::{Demanded, Style};

/// Who may pass.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What safe methods ask.
    read: Asked,
    /// What every other method asks.
    write: Asked,
}

/// What is asked of a request.
#[derive(Debug, Clone)]
pub(super) enum Asked {
    /// Nothing.
    Nothing,
    /// A signed link.
    Link(Arc<LinkPolicy>),
    /// A token, or what may stand in for one.
    Token(Arc<TokenPolicy>),
}

impl Asked {
    pub(super) fn token(&self) -> Option<&Arc<TokenPolicy>> {
        match self {
            Self::Token(policy) => Some(policy),
            Self::Nothing | Self::Link(_) => None,
        }
    }

    /// What verifies links, where they pass.
    pub(super) fn links(&self) -> Option<&Links> {
        match self {
            Self::Nothing => None,
            Self::Link(policy) => Some(&policy.links),
            Self::Token(policy) => policy.links.as_ref(),
        }
    }
}

/// A policy that asks for a signed link and nothing else.
#[derive(Debug)]
pub(super) struct LinkPolicy {
    pub(super) links: Links,
    pub(super) challenge: Arc<Challenge>,
}

/// A policy that asks for a token.
#[derive(Debug)]
pub(super) struct TokenPolicy {
    pub(super) candidates: Box<[Candidate]>,
    /// The position of the one candidate that is asked about its tokens.
    introspecting: Option<usize>,
    pub(super) rule: Rule,
    pub(super) optional: bool,
    /// What passes in the place of a token.
    pub(super) links: Option<Links>,
    pub(super) places: Box<[Place]>,
    pub(super) guard: Option<OriginGuard>,
    pub(super) forward: Arc<Forwarding>,
    pub(super) challenge: Arc<Challenge>,
}

/// An issuer whose tokens a policy takes, and how its rules call it.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) index: usize,
    pub(super) issuer: Arc<Issuer>,
}

impl Candidate {
    fn introspects(&self) -> bool {
        self.issuer.settings().introspection.is_some()
    }

    /// Whether `iss` is the name of this issuer.
    fn is_called_as(&self, claims: &Claims) -> bool {
        let found = claims.find("iss").and_then(Value::as_str);
        let expected = self.issuer.settings().issuer.as_deref();
        expected.is_some_and(|expected| found.is_some_and(|found| found == expected))
    }
}

impl Policy {
    /// Everyone may pass; `Authorization` is not looked at.
    pub fn public() -> Self {
        Self { read: Asked::Nothing, write: Asked::Nothing }
    }

    /// What `settings` ask; their indices name `issuers`.
    ///
    /// # Panics
    /// If an index names none of `issuers`: the settings are of another configuration.
    pub fn compile(settings: &RouteAuth, issuers: &[Arc<Issuer>]) -> Self {
        let forward = Arc::new(settings.forward.clone());
        let compile = |access: &Access| match access {
            Access::Public => Asked::Nothing,
            Access::Link(links) => Asked::Link(Arc::new(LinkPolicy::compile(links))),
            Access::Token(settings) => {
                Asked::Token(Arc::new(TokenPolicy::compile(settings, issuers, Arc::clone(&forward))))
            }
        };
        let read = compile(&settings.read);
        let write = if settings.write == settings.read { read.clone() } else { compile(&settings.write) };
        Self { read, write }
    }

    /// Whether everyone may pass, whatever the method.
    pub fn is_public(&self) -> bool {
        matches!((&self.read, &self.write), (Asked::Nothing, Asked::Nothing))
    }

    /// The issuer whose token everyone bears who passes, where it is only one.
    pub fn issuer(&self) -> Option<&Issuer> {
        let only = |asked: &Asked| match &**asked.token()? {
            TokenPolicy { candidates, optional: false, links: None, .. } if candidates.len() == 1 => {
                Some(candidates[0].index)
            }
            _ => None,
        };
        (only(&self.read)? == only(&self.write)?).then_some(())?;
        Some(&self.read.token()?.candidates[0].issuer)
    }

    /// In whose words clients are refused who bear a token, or should: the issuer's, or the gateway's own where there is none.
    pub fn style(&self) -> Style {
        let policy = self.read.token().or_else(|| self.write.token());
        policy.map_or(Style::Problem, |policy| policy.challenge.style)
    }

    /// Whether all tokens are of one issuer, so that a subject can mean one user only.
    pub fn is_of_one_issuer(&self) -> bool {
        let policies = [&self.read, &self.write].into_iter().filter_map(Asked::token);
        let mut issuers = policies.flat_map(|policy| &policy.candidates).map(|candidate| candidate.index);
        issuers.next().is_some_and(|first| issuers.all(|other| other == first))
    }

    /// A query without what stands where a token may, and without what makes a link of it, for whoever else is to be told of it.
    pub fn without_token(&self, method: &Method, query: Option<&str>) -> Option<String> {
        let asked = self.asked(method);
        let query = match (asked.links(), query) {
            (Some(_), Some(query)) => link::without_link(query),
            (_, query) => query.map(str::to_owned),
        };
        let places = asked.token().map_or(&[][..], |policy| &policy.places);
        let parameters = places.iter().filter_map(|place| match place {
            Place::Query(name) => Some(name),
            _ => None,
        });
        parameters.fold(query, |query, name| place::without_parameter(&query?, name))
    }

    pub(super) fn read(&self) -> &Asked {
        &self.read
    }

    pub(super) fn write(&self) -> &Asked {
        &self.write
    }

    pub(super) fn asked(&self, method: &Method) -> &Asked {
        if is_safe(method) { &self.read } else { &self.write }
    }
}

impl LinkPolicy {
    fn compile(settings: &LinkSettings) -> Self {
        let challenge = Challenge {
            style: Style::Problem,
            realm: Box::default(),
            subject_claim: Box::default(),
            scope: Box::default(),
            resource_metadata: None,
            login_url: None,
            scheme: Scheme::Bearer,
        };
        Self { links: Links::compile(settings), challenge: Arc::new(challenge) }
    }
}

impl TokenPolicy {
    fn compile(settings: &PolicySettings, issuers: &[Arc<Issuer>], forward: Arc<Forwarding>) -> Self {
        let candidate = |index: &usize| Candidate { index: *index, issuer: Arc::clone(&issuers[*index]) };
        let candidates: Box<[Candidate]> = settings.issuers.iter().map(candidate).collect();
        let introspecting = candidates.iter().position(Candidate::introspects);
        let spoken = candidates[0].issuer.settings();
        let mut scopes = Vec::new();
        collect_scopes(&settings.rule, &mut scopes);
        let challenge = Challenge {
            style: spoken.style,
            realm: spoken.realm.clone(),
            subject_claim: spoken.subject_claim.clone(),
            scope: scopes.join(" ").into_boxed_str(),
            resource_metadata: settings.resource_metadata.clone(),
            login_url: settings.login_url.clone(),
            scheme: if candidates.iter().all(demands_key) { Scheme::Dpop } else { Scheme::Bearer },
        };
        Self {
            candidates,
            introspecting,
            rule: settings.rule.clone(),
            optional: settings.optional,
            links: settings.links.as_ref().map(Links::compile),
            places: settings.places.clone().into(),
            guard: settings.guard.clone(),
            forward,
            challenge: Arc::new(challenge),
        }
    }

    /// The position of the issuer that is to be asked about this token: what is no JWS, and a JWS that is no other candidate's.
    pub(super) fn introspecting(&self, token: &[u8]) -> Result<Option<usize>, Cause> {
        let Some(position) = self.introspecting else { return Ok(None) };
        let token = bearer::well_formed(token)?;
        if self.candidates.len() == 1 {
            return Ok(Some(position));
        }
        let Ok(claims) = Jws::parse(token).and_then(|jws| jws.claims()) else { return Ok(Some(position)) };
        let Some(other) = self.with_keys(&claims) else { return Ok(Some(position)) };
        // One that is called as the token says goes before one that takes whatever is signed with its keys.
        let called = self.candidates[position].is_called_as(&claims) && !self.candidates[other].is_called_as(&claims);
        Ok(called.then_some(position))
    }

    /// The position of the issuer whose keys may have signed a token with these claims: the one that is called so, else the one that does
    /// not look at `iss`. At most one can be meant, so no token is ever tried with the keys of two.
    pub(super) fn choose(&self, claims: impl FnOnce() -> Result<Claims, Cause>) -> Result<usize, Cause> {
        if self.candidates.len() == 1 {
            return Ok(0); // its own check of `iss` says what is wrong
        }
        self.with_keys(&claims()?).ok_or(Cause::WrongIssuer)
    }

    /// Whether a token with these claims, known to be good to the issuer at this position, is that issuer's here.
    pub(super) fn is_meant(&self, position: usize, claims: &Claims) -> bool {
        self.candidates.len() == 1 || self.with_keys(claims) == Some(position)
    }

    fn with_keys(&self, claims: &Claims) -> Option<usize> {
        let position = |fits: &dyn Fn(&Candidate) -> bool| {
            self.candidates.iter().position(|candidate| !candidate.introspects() && fits(candidate))
        };
        position(&|candidate| candidate.is_called_as(claims))
            .or_else(|| position(&|candidate| candidate.issuer.settings().issuer.is_none()))
    }

    /// The route's own demands, asked of every request, cached token or not.
    pub(super) fn check_rule(&self, claims: &Claims, issuer: usize, path: &str) -> Result<(), Cause> {
        check(&self.rule, claims, issuer, path)
    }
}

fn demands_key(candidate: &Candidate) -> bool {
    candidate.issuer.settings().binding.demanded == Demanded::Key
}

fn collect_scopes<'r>(rule: &'r Rule, into: &mut Vec<&'r str>) {
    match rule {
        Rule::All(rules) | Rule::Any(rules) => rules.iter().for_each(|rule| collect_scopes(rule, into)),
        Rule::Scopes(scopes) | Rule::AnyScope(scopes) => {
            for scope in scopes {
                if !into.contains(&&**scope) {
                    into.push(scope);
                }
            }
        }
        Rule::From(_) | Rule::Claim(_) | Rule::Own(_) => {}
    }
}

fn check(rule: &Rule, claims: &Claims, issuer: usize, path: &str) -> Result<(), Cause> {
    match rule {
        Rule::All(rules) => rules.iter().try_for_each(|rule| check(rule, claims, issuer, path)),
        Rule::Any(rules) => any(rules, claims, issuer, path),
        Rule::From(index) if *index == issuer => Ok(()),
        Rule::From(_) => Err(Cause::WrongIssuer),
        Rule::Claim(demand) if judge(demand, claims) == Verdict::Met => Ok(()),
        Rule::Claim(demand) => Err(Cause::DemandUnmet(demand.claim.as_str().into())),
        Rule::Own(own) if own.covers(claims, path) => Ok(()),
        Rule::Own(_) => Err(Cause::NotOwnPath),
        Rule::Scopes(scopes) if claims.grants_all(scopes) => Ok(()),
        Rule::AnyScope(scopes) if claims.grants_any(scopes) => Ok(()),
        Rule::Scopes(_) | Rule::AnyScope(_) => Err(Cause::InsufficientScope),
    }
}

/// The refusal told is that of the first alternative meant for this token's issuer.
fn any(rules: &[Rule], claims: &Claims, issuer: usize, path: &str) -> Result<(), Cause> {
    let mut refusal = Cause::WrongIssuer;
    for rule in rules {
        match check(rule, claims, issuer, path) {
            Ok(()) => return Ok(()),
            Err(cause) if refusal == Cause::WrongIssuer => refusal = cause,
            Err(_) => {}
        }
    }
    Err(refusal)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::fixtures;
    use super::super::settings::Demand;
    use super::*;

    fn claim(name: &str, value: serde_json::Value) -> Rule {
        Rule::Claim(Demand::equals(name, value))
    }

    fn verdict(rule: &Rule, claims: &str) -> Result<(), Cause> {
        check(rule, &Claims::parse(claims.as_bytes().to_vec()).unwrap(), 0, "/")
    }

    #[test]
    fn all_of_nothing_is_met_and_any_of_nothing_is_not() {
        assert_eq!(verdict(&Rule::All(vec![]), "{}"), Ok(()));
        assert_eq!(verdict(&Rule::Any(vec![]), "{}"), Err(Cause::WrongIssuer));
    }

    #[test]
    fn alternatives_are_tried_in_order_and_the_first_meant_one_is_told() {
        let rule = Rule::Any(vec![
            Rule::All(vec![Rule::From(1), claim("a", json!(1))]),
            Rule::All(vec![Rule::From(0), claim("b", json!(1))]),
            Rule::All(vec![Rule::From(0), Rule::Scopes(vec!["write".into()])]),
        ]);
        assert_eq!(verdict(&rule, r#"{"b":1}"#), Ok(()));
        assert_eq!(verdict(&rule, r#"{"scope":"read write"}"#), Ok(()));
        assert_eq!(
            verdict(&rule, r#"{"a":1}"#),
            Err(Cause::DemandUnmet("b".into())),
            "it is another issuer's alternative"
        );
    }

    #[test]
    fn one_scope_of_several_may_be_enough() {
        let rule = Rule::AnyScope(vec!["read".into(), "write".into()]);
        assert_eq!(verdict(&rule, r#"{"scope":"write x"}"#), Ok(()));
        assert_eq!(verdict(&rule, r#"{"scope":"x"}"#), Err(Cause::InsufficientScope));
        assert_eq!(verdict(&rule, "{}"), Err(Cause::InsufficientScope));
    }

    #[test]
    fn empty_lists_ask_for_a_token_all_the_same() {
        let policy = fixtures::policy(fixtures::django(), vec![]);
        assert!(!policy.is_public() && policy.issuer().is_some());
        assert!(Policy::public().is_public());
    }
}
