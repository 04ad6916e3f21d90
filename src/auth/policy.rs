//! What a route asks of a request.
//!
//! Owns demands and scopes. A policy is public only when it was made so by name; empty lists ask for a token all the same. Knows
//! neither the route's match nor how a token is verified.

use std::fmt::Write as _;
use std::sync::Arc;

use super::claims::Claims;
use super::denied::{Cause, Challenge};
use super::issuer::Issuer;
use super::settings::{Demand, Forward, Test};

/// Who may pass.
#[derive(Debug, Clone)]
pub struct Policy(Option<Arc<TokenPolicy>>);

/// A policy that asks for a token.
#[derive(Debug)]
pub(super) struct TokenPolicy {
    pub(super) issuer: Arc<Issuer>,
    pub(super) demands: Box<[Demand]>,
    pub(super) scopes: Box<[Box<str>]>,
    pub(super) forward: Box<[Forward]>,
    pub(super) challenge: Arc<Challenge>,
}

impl Policy {
    /// Everyone may pass; `Authorization` is not looked at.
    pub fn public() -> Self {
        Self(None)
    }

    /// Only who bears a good token of `issuer` that meets every one of `demands` and was granted every one of `scopes`. The claims
    /// named by `forward` are handed to the upstream.
    pub fn token(issuer: Arc<Issuer>, demands: Vec<Demand>, scopes: Vec<Box<str>>, forward: Vec<Forward>) -> Self {
        let challenge = Arc::new(Challenge::new(issuer.settings(), &scopes));
        let (demands, scopes, forward) = (demands.into(), scopes.into(), forward.into());
        Self(Some(Arc::new(TokenPolicy { issuer, demands, scopes, forward, challenge })))
    }

    /// Whether everyone may pass.
    pub fn is_public(&self) -> bool {
        self.0.is_none()
    }

    /// The issuer whose tokens are asked for.
    pub fn issuer(&self) -> Option<&Issuer> {
        self.0.as_ref().map(|policy| &*policy.issuer)
    }

    /// The policy in words, for `explain`: one clause a line, no final newline.
    pub fn describe(&self) -> String {
        let Some(policy) = &self.0 else {
            return "public: no token is asked for".to_owned();
        };
        policy.describe()
    }

    pub(super) fn demanded(&self) -> Option<&TokenPolicy> {
        self.0.as_deref()
    }
}

impl TokenPolicy {
    /// The route's own demands, asked of every request, cached token or not.
    pub(super) fn check_demands(&self, claims: &Claims) -> Result<(), Cause> {
        let unmet = self.demands.iter().find(|demand| judge(demand, claims) != Verdict::Met);
        unmet.map_or(Ok(()), |demand| Err(Cause::DemandUnmet(demand.claim.clone())))
    }

    pub(super) fn check_scopes(&self, claims: &Claims) -> Result<(), Cause> {
        if self.scopes.is_empty() || claims.grants_all(&self.scopes) { Ok(()) } else { Err(Cause::InsufficientScope) }
    }

    fn describe(&self) -> String {
        let settings = self.issuer.settings();
        let names = self.issuer.algorithms().iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
        let mut text = format!("a token of issuer `{}`, signed with {names}", settings.name);
        let mut clause = |words: String| {
            // Writing to a String does not fail.
            let _infallible = write!(text, "\n{words}");
        };
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
        settings.require.iter().chain(&self.demands).for_each(|demand| clause(in_words(demand)));
        if !self.scopes.is_empty() {
            clause(format!("scopes granted: {}", self.scopes.join(" ")));
        }
        self.forward.iter().for_each(|one| clause(format!("claim `{}` is forwarded as `{}`", one.claim, one.header)));
        text
    }
}

/// How a claim stands to a demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Missing,
    Unmet,
}

/// A claim that is missing fails every test.
pub(super) fn judge(demand: &Demand, claims: &Claims) -> Verdict {
    let Some(claim) = claims.find(&demand.claim) else {
        return Verdict::Missing;
    };
    let met = match &demand.test {
        Test::Equals(expected) => claim.equals(expected),
        Test::OneOf(accepted) => accepted.iter().any(|expected| claim.equals(expected)),
        Test::Present => !claim.is_null(),
    };
    if met { Verdict::Met } else { Verdict::Unmet }
}

fn in_words(demand: &Demand) -> String {
    match &demand.test {
        Test::Equals(value) => format!("claim `{}` is {value}", demand.claim),
        Test::OneOf(values) => {
            let values = values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("claim `{}` is one of: {values}", demand.claim)
        }
        Test::Present => format!("claim `{}` is present and not null", demand.claim),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::fixtures;
    use super::*;

    fn verdict(test: Test, claims: &str) -> Verdict {
        judge(&Demand { claim: "c".into(), test }, &Claims::parse(claims.as_bytes().to_vec()).unwrap())
    }

    #[test]
    fn a_missing_claim_fails_every_test() {
        for test in [Test::Present, Test::Equals(json!(null)), Test::OneOf(vec![json!(null)])] {
            assert_eq!(verdict(test, "{}"), Verdict::Missing);
        }
    }

    #[test]
    fn one_of_nothing_is_never_met() {
        assert_eq!(verdict(Test::OneOf(vec![]), r#"{"c":1}"#), Verdict::Unmet);
    }

    #[test]
    fn an_array_equals_only_the_same_array() {
        let admin = || Test::Equals(json!("admin"));
        assert_eq!(verdict(admin(), r#"{"c":"admin"}"#), Verdict::Met);
        assert_eq!(verdict(admin(), r#"{"c":["admin"]}"#), Verdict::Unmet);
        assert_eq!(verdict(Test::Equals(json!(["admin"])), r#"{"c":["admin"]}"#), Verdict::Met);
        assert_eq!(verdict(Test::Equals(json!(true)), r#"{"c":"true"}"#), Verdict::Unmet);
        assert_eq!(verdict(Test::Present, r#"{"c":null}"#), Verdict::Unmet);
    }

    #[test]
    fn empty_lists_ask_for_a_token_all_the_same() {
        let policy = Policy::token(fixtures::django(), vec![], vec![], vec![]);
        assert!(!policy.is_public() && policy.issuer().is_some());
        assert!(Policy::public().is_public());
    }

    #[test]
    fn the_description_names_every_condition() {
        let demand = Demand { claim: "is_staff".into(), test: Test::Equals(json!(true)) };
        let forward = Forward { header: "x-user-id".parse().unwrap(), claim: "user_id".into() };
        let text = Policy::token(fixtures::django(), vec![demand], vec!["read".into()], vec![forward]).describe();
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
