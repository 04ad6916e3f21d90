//! The judge of requests: policy and headers in, [`Permit`] or [`Denied`] out.
//!
//! Owns the sentence of this room: extract, verify (or remember), ask the route's demands, grant. RFC 6750.

use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::bearer;
use super::cache::TokenCache;
use super::denied::{Cause, Denied};
use super::permit::Permit;
use super::policy::{Policy, TokenPolicy};
use super::time::UnixSeconds;
use super::verify::{Verified, verify};
use crate::observe::WorkerMeter;

/// One worker's judge, with its memory of verified tokens.
pub struct Authority {
    cache: TokenCache,
    meter: Option<WorkerMeter>,
}

impl Authority {
    /// A judge that remembers at most `cache_entries` verified tokens (about 500 bytes each, 4.3 KB at most); 0 remembers none.
    pub fn new(cache_entries: usize) -> Self {
        Self { cache: TokenCache::new(cache_entries), meter: None }
    }

    /// Counts hits and misses of the cache on `meter`.
    #[must_use]
    pub fn counted_on(self, meter: WorkerMeter) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Whether a request with these headers may pass under `policy` at the moment `now`.
    pub fn authorize(&self, policy: &Policy, headers: &HeaderMap, now: UnixSeconds) -> Result<Permit, Denied> {
        let Some(policy) = policy.demanded() else {
            return Ok(Permit::public());
        };
        self.admit(policy, headers, now).map_err(|cause| Denied::new(cause, Arc::clone(&policy.challenge)))
    }

    /// Verified tokens remembered now.
    pub fn cached_tokens(&self) -> usize {
        self.cache.len()
    }

    fn admit(&self, policy: &TokenPolicy, headers: &HeaderMap, now: UnixSeconds) -> Result<Permit, Cause> {
        let token = bearer::extract(headers)?;
        let issuer = &*policy.issuer;
        let missed = || {
            self.meter.iter().for_each(WorkerMeter::cache_miss);
            verify(issuer, token, now)
        };
        let hit = |known: &Verified| {
            self.meter.iter().for_each(WorkerMeter::cache_hit);
            known.check_dates(issuer, now)
        };
        let verified = self.cache.get_or_verify(issuer, token, missed, hit)?;
        policy.check_demands(&verified.claims)?;
        policy.check_scopes(&verified.claims)?;
        Permit::grant(policy, verified, canonical(headers, token))
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cached_tokens", &self.cached_tokens()).finish()
    }
}

/// `Bearer <token>` with the token's exact bytes: the client's own field where it is already so, which costs no copy.
fn canonical(headers: &HeaderMap, token: &str) -> HeaderValue {
    let sent =
        headers.get(AUTHORIZATION).filter(|sent| sent.as_bytes().strip_prefix(b"Bearer ") == Some(token.as_bytes()));
    let mut value = sent.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&format!("Bearer {token}"))
            .expect("a b64token is visible ASCII, as bearer::extract proved")
    });
    value.set_sensitive(true);
    value
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::fixtures::{self, NOW};
    use super::super::{
        Algorithm, ClaimPath, Demand, Forward, Issuer, IssuerSettings, KeySource, Kind, Preset, Secret,
    };
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())])
    }

    fn plain() -> Policy {
        Policy::token(fixtures::django(), vec![], vec![], vec![])
    }

    fn at(secs: u64) -> UnixSeconds {
        UnixSeconds::from_secs(secs)
    }

    fn good() -> String {
        fixtures::django_token(r#""user_id":9007199254740993,"is_staff":true,"scope":"read","groups":["a","b"]"#)
    }

    #[test]
    fn a_public_policy_lets_everyone_pass_untouched() {
        let mut sent = headers("Bearer whatever");
        let permit = Authority::new(8).authorize(&Policy::public(), &sent, at(NOW)).unwrap();
        permit.apply(&mut sent);
        assert_eq!(sent[AUTHORIZATION], "Bearer whatever");
    }

    #[test]
    fn the_upstream_gets_the_canonical_field_and_the_claims() {
        let forward = |header: &'static str, claim: &str| Forward {
            header: header.parse().unwrap(),
            claim: ClaimPath::top(claim),
        };
        let forwards = vec![forward("x-user-id", "user_id"), forward("x-groups", "groups"), forward("x-none", "none")];
        let policy = Policy::token(fixtures::django(), vec![], vec![], forwards);
        let mut sent = headers(&format!("bearer   {}", good()));
        let permit = Authority::new(8).authorize(&policy, &sent, at(NOW)).unwrap();
        permit.apply(&mut sent);
        assert_eq!(sent[AUTHORIZATION], format!("Bearer {}", good()));
        assert_eq!(sent["x-user-id"], "9007199254740993");
        assert_eq!(sent["x-groups"], "a,b");
        assert!(!sent.contains_key("x-none"));
        assert_eq!(permit.subject(), Some("9007199254740993"));
        assert_eq!(permit.expires_at().unwrap().as_secs(), NOW + 300);
        assert!(!format!("{permit:?}").contains("ey"));
    }

    #[test]
    fn a_route_may_ask_more_than_the_issuer() {
        let authority = Authority::new(8);
        let kind_under = |demands, scopes: &[&str]| {
            let scopes = scopes.iter().map(|scope| Box::from(*scope)).collect();
            let policy = Policy::token(fixtures::django(), demands, scopes, vec![]);
            authority
                .authorize(&policy, &headers(&format!("Bearer {}", good())), at(NOW))
                .map_err(|denied| denied.kind())
        };
        let demand = |claim: &str, value: serde_json::Value| vec![Demand::equals(claim, value)];
        assert!(kind_under(demand("is_staff", json!(true)), &["read"]).is_ok());
        assert_eq!(kind_under(demand("is_staff", json!("true")), &[]).unwrap_err(), Kind::Forbidden);
        assert_eq!(kind_under(demand("absent", json!(true)), &[]).unwrap_err(), Kind::Forbidden);
        assert_eq!(kind_under(vec![], &["read", "write"]).unwrap_err(), Kind::InsufficientScope);
    }

    #[test]
    fn a_claim_that_is_no_header_value_is_refused() {
        let forward = Forward { header: "x-name".parse().unwrap(), claim: ClaimPath::top("name") };
        let policy = Policy::token(fixtures::django(), vec![], vec![], vec![forward]);
        let token = fixtures::django_token(r#""user_id":1,"name":"a\r\nx-admin: 1""#);
        let denied = Authority::new(0).authorize(&policy, &headers(&format!("Bearer {token}")), at(NOW)).unwrap_err();
        assert_eq!((denied.reason(), denied.kind()), ("unusable_claim", Kind::Forbidden));
    }

    #[test]
    fn only_verified_tokens_are_remembered_and_the_number_is_bounded() {
        let authority = Authority::new(4);
        for user in 0..50 {
            let token = fixtures::django_token(&format!(r#""user_id":{user}"#));
            let forged = format!("{}AAAA", &token[..token.len() - 4]);
            assert!(authority.authorize(&plain(), &headers(&format!("Bearer {forged}")), at(NOW)).is_err());
            if user == 0 {
                assert_eq!(authority.cached_tokens(), 0);
            }
            assert!(authority.authorize(&plain(), &headers(&format!("Bearer {token}")), at(NOW)).is_ok());
            assert!(authority.cached_tokens() <= 4);
        }
        assert_eq!(Authority::new(0).cached_tokens(), 0);
    }

    #[test]
    fn a_remembered_token_is_refused_by_another_issuer_and_after_a_key_change() {
        let authority = Authority::new(8);
        let sent = headers(&format!("Bearer {}", good()));
        assert!(authority.authorize(&plain(), &sent, at(NOW)).is_ok());
        let mut settings = IssuerSettings::named("django");
        Preset::SimpleJwt.apply(&mut settings);
        settings.keys = vec![KeySource::Secret(Secret::new([9; 50]))];
        let rotated = Arc::new(Issuer::compile(settings).unwrap().0);
        let policy = Policy::token(rotated, vec![], vec![], vec![]);
        let denied = authority.authorize(&policy, &sent, at(NOW)).unwrap_err();
        assert_eq!(denied.reason(), "bad_signature");
    }

    #[test]
    fn the_field_of_a_canonical_request_is_shared_not_copied() {
        let sent = headers("Bearer a.b.c");
        let value = canonical(&sent, "a.b.c");
        assert_eq!(value.as_bytes().as_ptr(), sent[AUTHORIZATION].as_bytes().as_ptr());
        assert!(value.is_sensitive());
    }

    fn outcome(authority: &Authority, policy: &Policy, token: &str, now: f64) -> Result<Option<String>, Cause> {
        let now = UnixSeconds::from_json(&now.to_string()).unwrap();
        let permit = authority.authorize(policy, &headers(&format!("Bearer {token}")), now);
        permit.map(|permit| permit.subject().map(str::to_owned)).map_err(|denied| denied.cause().clone())
    }

    proptest! {
        #[test]
        fn a_remembered_answer_is_the_fresh_answer(
            exp in -100_i64..400, nbf in -100_i64..400, iat in -100_i64..400, leeway in 0_u64..90,
            moments in prop::collection::vec(-500.0_f64..900.0, 1..12), staff in any::<bool>(),
        ) {
            let base = i64::try_from(NOW).unwrap();
            let mut settings = IssuerSettings::named("s");
            settings.keys = vec![KeySource::Secret(Secret::new(fixtures::SECRET))];
            settings.leeway_secs = leeway;
            let issuer = Arc::new(Issuer::compile(settings).unwrap().0);
            let demand = Demand::equals("staff", true);
            let policy = Policy::token(Arc::clone(&issuer), vec![demand], vec![], vec![]);
            let open = Policy::token(issuer, vec![], vec![], vec![]);
            let claims = format!(
                r#"{{"sub":"ann","exp":{},"nbf":{},"iat":{},"staff":{staff}}}"#, base + exp, base + nbf, base + iat
            );
            let token = fixtures::secret().sign(Algorithm::Hs256, r#"{"alg":"HS256"}"#, &claims);
            let (warm, cold) = (Authority::new(8), Authority::new(0));
            for moment in moments {
                let now = f64::from(u32::try_from(NOW).unwrap()) + moment;
                for policy in [&policy, &open, &policy] {
                    prop_assert_eq!(outcome(&warm, policy, &token, now), outcome(&cold, policy, &token, now));
                }
            }
        }
    }
}
