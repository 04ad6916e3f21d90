//! What a route asks of a request.
//!
//! Owns demands and scopes. A policy is public only when it was made so by name; empty lists ask for a token all the same. Knows
//! neither the route's match nor how a token is verified.

use std::fmt::Write as _;
use std::sync::Arc;

use super::claims::Claims;
use super::demand::{Demand, Verdict, in_words, judge};
use super::denied::{Cause, Challenge};
use super::issuer::Issuer;
use super::settings::Forward;

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
        unmet.map_or(Ok(()), |demand| Err(Cause::DemandUnmet(demand.claim.as_str().into())))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures;
    use super::super::path::ClaimPath;
    use super::*;

    #[test]
    fn empty_lists_ask_for_a_token_all_the_same() {
        let policy = Policy::token(fixtures::django(), vec![], vec![], vec![]);
        assert!(!policy.is_public() && policy.issuer().is_some());
        assert!(Policy::public().is_public());
    }

    #[test]
    fn the_description_names_every_condition() {
        let demand = Demand::equals("is_staff", true);
        let forward = Forward { header: "x-user-id".parse().unwrap(), claim: ClaimPath::top("user_id") };
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
