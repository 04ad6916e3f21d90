//! What a route asks of a request, compiled.
//!
//! Owns which issuers' tokens a route takes and what they must say. A policy is public only when it was made so by name; empty lists ask
//! for a token all the same. Knows neither the route's match nor how a token is verified.

use std::fmt::Write as _;
use std::sync::Arc;

use http::Method;

use super::access::{Access, Forwarding, OriginGuard, Place, PolicySettings, RouteAuth, Rule};
use super::asking::is_safe;
use super::bearer::Scheme;
use super::claims::Claims;
use super::demand::{self, Verdict, judge};
use super::denied::{Cause, Challenge};
use super::issuer::Issuer;
use super::json::Value;
use super::settings::Demanded;

/// Who may pass.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What safe methods ask; `None` asks nothing.
    read: Option<Arc<TokenPolicy>>,
    /// What every other method asks.
    write: Option<Arc<TokenPolicy>>,
}

/// A policy that asks for a token.
#[derive(Debug)]
pub(super) struct TokenPolicy {
    pub(super) candidates: Box<[Candidate]>,
    pub(super) rule: Rule,
    pub(super) optional: bool,
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

impl Policy {
    /// Everyone may pass; `Authorization` is not looked at.
    pub fn public() -> Self {
        Self { read: None, write: None }
    }

    /// What `settings` ask; their indices name `issuers`.
    ///
    /// # Panics
    /// If an index names none of `issuers`: the settings are of another configuration.
    pub fn compile(settings: &RouteAuth, issuers: &[Arc<Issuer>]) -> Self {
        let forward = Arc::new(settings.forward.clone());
        let compile = |access: &Access| match access {
            Access::Public => None,
            Access::Token(settings) => Some(Arc::new(TokenPolicy::compile(settings, issuers, Arc::clone(&forward)))),
        };
        let read = compile(&settings.read);
        let write = if settings.write == settings.read { read.clone() } else { compile(&settings.write) };
        Self { read, write }
    }

    /// Whether everyone may pass, whatever the method.
    pub fn is_public(&self) -> bool {
        self.read.is_none() && self.write.is_none()
    }

    /// The issuer whose tokens are asked for, where it is only one.
    pub fn issuer(&self) -> Option<&Issuer> {
        let policy = self.write.as_deref().or(self.read.as_deref())?;
        match &*policy.candidates {
            [only] => Some(&only.issuer),
            _ => None,
        }
    }

    /// The policy in words, for `explain`: one clause a line, no final newline.
    pub fn describe(&self) -> String {
        let words = |policy: &Option<Arc<TokenPolicy>>| {
            policy.as_ref().map_or_else(|| "public: no token is asked for".to_owned(), |policy| policy.describe())
        };
        let (read, write) = (words(&self.read), words(&self.write));
        if read == write { read } else { format!("GET, HEAD, OPTIONS: {read}\nother methods: {write}") }
    }

    pub(super) fn asked(&self, method: &Method) -> Option<&Arc<TokenPolicy>> {
        if is_safe(method) { self.read.as_ref() } else { self.write.as_ref() }
    }
}

impl TokenPolicy {
    fn compile(settings: &PolicySettings, issuers: &[Arc<Issuer>], forward: Arc<Forwarding>) -> Self {
        let candidate = |index: &usize| Candidate { index: *index, issuer: Arc::clone(&issuers[*index]) };
        let candidates: Box<[Candidate]> = settings.issuers.iter().map(candidate).collect();
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
            rule: settings.rule.clone(),
            optional: settings.optional,
            places: settings.places.clone().into(),
            guard: settings.guard.clone(),
            forward,
            challenge: Arc::new(challenge),
        }
    }

    /// The position of the issuer that may have issued a token with these claims: the one that is called so, else the one that does not
    /// look at `iss`. At most one can be meant, so no token is ever tried with the keys of two.
    pub(super) fn choose(&self, claims: impl FnOnce() -> Result<Claims, Cause>) -> Result<usize, Cause> {
        if self.candidates.len() == 1 {
            return Ok(0); // its own check of `iss` says what is wrong
        }
        self.meant_by(&claims()?).ok_or(Cause::WrongIssuer)
    }

    /// Whether the candidate in this position is the one that [`Self::choose`] would choose for a token with these claims.
    pub(super) fn means(&self, position: usize, claims: &Claims) -> bool {
        self.candidates.len() == 1 || self.meant_by(claims) == Some(position)
    }

    fn meant_by(&self, claims: &Claims) -> Option<usize> {
        let iss = claims.find("iss").and_then(Value::as_str);
        let named = |candidate: &Candidate| match (&candidate.issuer.settings().issuer, &iss) {
            (Some(expected), Some(found)) => **expected == **found,
            _ => false,
        };
        let unnamed = |candidate: &Candidate| candidate.issuer.settings().issuer.is_none();
        self.candidates.iter().position(named).or_else(|| self.candidates.iter().position(unnamed))
    }

    /// The route's own demands, asked of every request, cached token or not.
    pub(super) fn check_rule(&self, claims: &Claims, issuer: usize) -> Result<(), Cause> {
        check(&self.rule, claims, issuer)
    }

    fn describe(&self) -> String {
        let mut text = String::new();
        let mut clause = |words: String| {
            let newline = if text.is_empty() { "" } else { "\n" };
            write!(text, "{newline}{words}").expect("a string takes any text");
        };
        for candidate in &self.candidates {
            describe_issuer(&candidate.issuer, &mut clause);
        }
        if let Some(words) = rule_in_words(&self.rule, &self.candidates) {
            clause(words);
        }
        if self.optional {
            clause("a request without a token passes too, as nobody".to_owned());
        }
        if *self.places != [Place::Authorization] {
            let places: Vec<String> = self.places.iter().map(ToString::to_string).collect();
            clause(format!("the token stands in {}", places.join(" or ")));
        }
        let forward = &self.forward;
        forward.claims.iter().for_each(|one| clause(format!("claim `{}` is forwarded as `{}`", one.claim, one.header)));
        if let Some(header) = &forward.all_claims {
            clause(format!("all claims are forwarded as `{header}`"));
        }
        if !forward.token {
            clause("the token is not sent on".to_owned());
        }
        if let Some(audience) = &forward.identity {
            clause(format!("an identity token for `{audience}` is sent on"));
        }
        text
    }
}

fn demands_key(candidate: &Candidate) -> bool {
    candidate.issuer.settings().binding.demanded == Demanded::Key
}

fn describe_issuer(issuer: &Issuer, clause: &mut impl FnMut(String)) {
    let settings = issuer.settings();
    let names = issuer.algorithms().iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let names = if names.is_empty() { "what its keys are for" } else { &names };
    clause(format!("a token of issuer `{}`, signed with {names}", settings.name));
    if let Some(iss) = &settings.issuer {
        clause(format!("claim `iss` is \"{iss}\""));
    }
    if !settings.audiences.is_empty() {
        clause(format!("claim `aud` holds one of: {}", settings.audiences.join(", ")));
    }
    if settings.require_exp {
        clause("claim `exp` is present".to_owned());
    }
    settings.required_claims.iter().for_each(|name| clause(format!("claim `{name}` is present")));
    settings.require.iter().for_each(|demand| clause(demand::in_words(demand)));
    match settings.binding.demanded {
        Demanded::Nothing => {}
        Demanded::Key => clause("it is bound to a key, which the request proves to hold (DPoP)".to_owned()),
        Demanded::Certificate => clause("it is bound to the client's certificate".to_owned()),
        Demanded::Either => clause("it is bound to a key (DPoP) or to the client's certificate".to_owned()),
    }
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
        Rule::From(_) | Rule::Claim(_) => {}
    }
}

fn check(rule: &Rule, claims: &Claims, issuer: usize) -> Result<(), Cause> {
    match rule {
        Rule::All(rules) => rules.iter().try_for_each(|rule| check(rule, claims, issuer)),
        Rule::Any(rules) => any(rules, claims, issuer),
        Rule::From(index) if *index == issuer => Ok(()),
        Rule::From(_) => Err(Cause::WrongIssuer),
        Rule::Claim(demand) if judge(demand, claims) == Verdict::Met => Ok(()),
        Rule::Claim(demand) => Err(Cause::DemandUnmet(demand.claim.as_str().into())),
        Rule::Scopes(scopes) if claims.grants_all(scopes) => Ok(()),
        Rule::AnyScope(scopes) if claims.grants_any(scopes) => Ok(()),
        Rule::Scopes(_) | Rule::AnyScope(_) => Err(Cause::InsufficientScope),
    }
}

/// The refusal told is that of the first alternative meant for this token's issuer.
fn any(rules: &[Rule], claims: &Claims, issuer: usize) -> Result<(), Cause> {
    let mut refusal = Cause::WrongIssuer;
    for rule in rules {
        match check(rule, claims, issuer) {
            Ok(()) => return Ok(()),
            Err(cause) if refusal == Cause::WrongIssuer => refusal = cause,
            Err(_) => {}
        }
    }
    Err(refusal)
}

fn rule_in_words(rule: &Rule, candidates: &[Candidate]) -> Option<String> {
    let joined = |rules: &[Rule], word: &str| {
        let words: Vec<String> = rules.iter().filter_map(|rule| rule_in_words(rule, candidates)).collect();
        match words.len() {
            0 | 1 => words.into_iter().next(),
            _ => Some(format!("({})", words.join(word))),
        }
    };
    Some(match rule {
        Rule::All(rules) => {
            let words: Vec<String> = rules.iter().filter_map(|rule| rule_in_words(rule, candidates)).collect();
            return (!words.is_empty()).then(|| words.join("\n"));
        }
        Rule::Any(rules) => {
            let one_line = |text: String| text.replace('\n', " and ");
            return joined(rules, " or ").map(one_line);
        }
        Rule::From(index) => {
            let name = candidates.iter().find(|candidate| candidate.index == *index)?.issuer.name();
            format!("the issuer is `{name}`")
        }
        Rule::Claim(demand) => demand::in_words(demand),
        Rule::Scopes(scopes) => format!("scopes granted: {}", scopes.join(" ")),
        Rule::AnyScope(scopes) => format!("one of these scopes granted: {}", scopes.join(" ")),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::fixtures;
    use super::super::settings::{ClaimPath, Demand, Forward};
    use super::*;

    fn claim(name: &str, value: serde_json::Value) -> Rule {
        Rule::Claim(Demand::equals(name, value))
    }

    fn verdict(rule: &Rule, claims: &str) -> Result<(), Cause> {
        check(rule, &Claims::parse(claims.as_bytes().to_vec()).unwrap(), 0)
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

    #[test]
    fn the_description_names_every_condition() {
        let rules = vec![claim("is_staff", json!(true)), Rule::Scopes(vec!["read".into()])];
        let forward = Forward { header: "x-user-id".parse().unwrap(), claim: ClaimPath::top("user_id") };
        let text = fixtures::policy_with(fixtures::django(), |settings, forwarding| {
            settings.rule = Rule::All(rules);
            forwarding.claims = vec![forward];
        })
        .describe();
        for part in [
            "issuer `django`, signed with HS256",
            "`exp` is present",
            "`jti` is present",
            "`token_type` is \"access\"",
            "`is_staff` is true",
            "granted: read",
            "`user_id` is forwarded as `x-user-id`",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
