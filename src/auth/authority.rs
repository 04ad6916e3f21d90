//! The judge of requests: policy and headers in, [`Permit`] or [`Denied`] out.
//!
//! Owns the sentence of this room: extract, verify (or remember), ask the route's demands, grant. RFC 6750.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use super::access::Place;
use super::asking::Asking;
use super::bearer::{self, Scheme};
use super::cache::TokenCache;
use super::denied::{Cause, Denied, Kind};
use super::dpop::Proof;
use super::generation::Generation;
use super::introspect::Introspectors;
use super::jws::Jws;
use super::link::Links;
use super::permit::Permit;
use super::place::{self, Found};
use super::policy::{Asked, LinkPolicy, Policy, TokenPolicy};
use super::possession::Possession;
use super::refusals::Refusals;
use super::revoke::{DenyList, digest_of, token_digest};
use super::settings::Algorithm;
use super::standing::{Standing, is_revoked};
use super::time::UnixSeconds;
use super::turnstile::Turnstile;
use super::verify::{Verified, verify};
use crate::observe::WorkerMeter;

/// One worker's judge, with its memory of verified tokens.
pub struct Authority {
    cache: TokenCache,
    refusals: Option<Refusals>,
    turnstile: Turnstile,
    revoked: Arc<DenyList>,
    possession: Arc<Possession>,
    introspectors: Introspectors,
    meter: Option<WorkerMeter>,
}

/// A token that its issuer vouches for, and the issuer's position among the policy's candidates.
struct Vouched {
    verified: Arc<Verified>,
    candidate: usize,
}

/// A token that nobody vouches for, and whether newer keys might.
struct Refused {
    cause: Cause,
    candidate: Option<usize>,
    /// The keys that did not sign it and never will have: they are not valid for a time only.
    for_good: Option<Generation>,
}

impl Authority {
    /// A judge that remembers at most `cache_entries` verified tokens (about 900 bytes each, 8.4 KB at most; 0 remembers none), as
    /// many for each issuer that is asked about its tokens, and shares with all others of the process what is revoked and which proofs
    /// were used.
    pub fn new(cache_entries: usize, revoked: Arc<DenyList>, possession: Arc<Possession>) -> Self {
        let turnstile = Turnstile::default();
        let introspectors = Introspectors::new(cache_entries);
        let refusals = (cache_entries > 0).then(Refusals::new);
        Self {
            cache: TokenCache::new(cache_entries),
            refusals,
            turnstile,
            introspectors,
            revoked,
            possession,
            meter: None,
        }
    }

    /// Counts hits and misses of the cache, and questions to issuers, on `meter`.
    #[must_use]
    pub fn counted_on(self, meter: WorkerMeter) -> Self {
        Self { meter: Some(meter), ..self }
    }

    /// Whether a request may pass under `policy`. Waits only where a token's key is unknown and its issuer may have a new one, where the
    /// issuer is asked about its tokens, and where many tokens are new at once.
    pub async fn authorize(&self, policy: &Policy, asking: &Asking<'_>) -> Result<Permit, Denied> {
        let policy = match policy.asked(asking.method) {
            Asked::Nothing => return Ok(Permit::public()),
            Asked::Link(policy) => return by_link(policy, asking),
            Asked::Token(policy) => policy,
        };
        let (cause, scheme) = match place::find(&policy.places, asking) {
            Err(Cause::MissingCredentials) => match in_its_place(policy, asking) {
                Ok(permit) => return Ok(permit),
                Err(cause) => (cause, policy.challenge.scheme),
            },
            Err(cause) => (cause, policy.challenge.scheme),
            Ok(found) => match self.admit(policy, asking, &found).await {
                Ok(permit) => return Ok(permit),
                Err(cause) => (cause, found.scheme),
            },
        };
        let denied = Denied::new(cause, scheme, Arc::clone(&policy.challenge));
        Err(if denied.kind() == Kind::NonceNeeded { denied.with_nonce(self.possession.nonce(asking)) } else { denied })
    }

    /// What is to be asked while something goes on that `permit` permitted; nothing where it needed no token.
    pub fn standing(&self, permit: &Permit) -> Option<Standing> {
        permit.standing(&self.revoked)
    }

    /// Verified tokens remembered now.
    pub fn cached_tokens(&self) -> usize {
        self.cache.len()
    }

    async fn admit(&self, policy: &Arc<TokenPolicy>, asking: &Asking<'_>, found: &Found<'_>) -> Result<Permit, Cause> {
        if let (Place::Cookie(_), Some(guard)) = (found.place, &policy.guard) {
            guard.check(asking)?;
        }
        // What hardly any request waits for is boxed: its room would be made, and moved, for each.
        let vouched = match policy.introspecting(found.token)? {
            Some(candidate) => Box::pin(self.introspect(policy, candidate, found.token, asking.now)).await?,
            None => match self.remembered(policy, found.token, asking.now)? {
                Some(known) => known,
                None => Box::pin(self.verify_anew(policy, bearer::well_formed(found.token)?, asking.now)).await?,
            },
        };
        let Vouched { verified, candidate } = &vouched;
        self.check_revoked(policy, &vouched, found.token, asking.now)?;
        let proof = self.check_possession(policy, &vouched, found, asking).await?;
        policy.check_rule(&verified.claims, policy.candidates[*candidate].index, asking.target.path())?;
        let permit = Permit::grant(policy, *candidate, Arc::clone(verified), found, asking.headers)?;
        proof.map_or(Ok(()), |proof| self.possession.use_up(&proof, asking))?;
        Ok(permit)
    }

    /// A token that was verified before by rules and keys that still hold; its dates are asked anew.
    fn remembered(&self, policy: &TokenPolicy, token: &[u8], now: UnixSeconds) -> Result<Option<Vouched>, Cause> {
        for (position, candidate) in policy.candidates.iter().enumerate() {
            let Ok(ring) = candidate.issuer.ring() else { continue };
            let Some(verified) = self.cache.get(token, ring.generation) else { continue };
            // Another route may have taken it for this issuer's without a look at `iss`.
            if verified.key.holds(now) && policy.is_meant(position, &verified.claims) {
                self.meter.iter().for_each(WorkerMeter::cache_hit);
                verified.check_dates(&candidate.issuer, now)?;
                return Ok(Some(Vouched { verified, candidate: position }));
            }
        }
        Ok(None)
    }

    /// A token whose issuer was asked about it, now or not long ago; its dates are asked anew.
    async fn introspect(
        &self,
        policy: &TokenPolicy,
        candidate: usize,
        token: &[u8],
        mut now: UnixSeconds,
    ) -> Result<Vouched, Cause> {
        let (issuer, digest) = (&policy.candidates[candidate].issuer, digest_of(token));
        let asker = self.introspectors.of(issuer, self.meter.as_ref()).ok_or(Cause::IntrospectionUnavailable)?;
        let verified = if let Some(known) = asker.recall(&digest, now) {
            self.meter.iter().for_each(WorkerMeter::cache_hit);
            known?
        } else {
            self.meter.iter().for_each(WorkerMeter::cache_miss);
            let begun = Instant::now();
            let vouched = asker.vouch(issuer, bearer::well_formed(token)?, &digest).await?;
            now = now.plus(begun.elapsed().as_secs()); // it may have expired meanwhile
            vouched
        };
        verified.check_dates(issuer, now)?;
        Ok(Vouched { verified, candidate })
    }

    /// Verifies a token, and once more if its key is unknown and a fetch brings the issuer's newest keys.
    async fn verify_anew(&self, policy: &TokenPolicy, token: &str, now: UnixSeconds) -> Result<Vouched, Cause> {
        self.meter.iter().for_each(WorkerMeter::cache_miss);
        self.introspectors.forget_gone();
        let digest = digest_of(token.as_bytes());
        if self.was_refused(policy, digest) {
            return Err(Cause::BadSignature);
        }
        let refused = match self.turnstile.pass(|| self.verify(policy, token, now)).await {
            Ok(vouched) => return Ok(vouched),
            Err(refused) => refused,
        };
        let begun = Instant::now();
        let remote = refused.candidate.and_then(|position| policy.candidates[position].issuer.remote());
        match remote {
            Some(remote) if remote.refetch().await => {
                let now = now.plus(begun.elapsed().as_secs()); // it may have expired meanwhile
                let again = self.turnstile.pass(|| self.verify(policy, token, now)).await;
                again.map_err(|refused| refused.cause)
            }
            Some(remote) if remote.is_failing() => Err(Cause::KeysUnavailable), // its key may be one that can't be had
            Some(_) => Err(refused.cause),
            None => {
                if let (Some(refusals), Some(keys)) = (&self.refusals, refused.for_good) {
                    refusals.remember(digest, keys);
                }
                Err(refused.cause)
            }
        }
    }

    /// Whether the keys in force are known not to have signed this token. Asked only where there is no choice of issuers.
    fn was_refused(&self, policy: &TokenPolicy, digest: [u8; 32]) -> bool {
        let (Some(refusals), [only]) = (&self.refusals, &*policy.candidates) else { return false };
        only.issuer.ring().is_ok_and(|ring| refusals.knows(digest, ring.generation))
    }

    fn verify(&self, policy: &TokenPolicy, token: &str, now: UnixSeconds) -> Result<Vouched, Refused> {
        let final_word = |cause| Refused { cause, candidate: None, for_good: None };
        let jws = Jws::parse(token).map_err(final_word)?;
        let candidate = policy.choose(|| jws.claims()).map_err(final_word)?;
        let newer_keys_may_help = |cause| Refused { cause, candidate: Some(candidate), for_good: None };
        let issuer = &policy.candidates[candidate].issuer;
        let ring = issuer.ring().map_err(newer_keys_may_help)?;
        let known = jws.header.kid.as_deref().is_some_and(|kid| ring.keys.has(kid));
        let told_by_keys = issuer.settings().algorithms.is_empty() && jws.header.alg.parse::<Algorithm>().is_ok();
        let verified = verify(issuer, &ring, jws, now).map_err(|cause| match cause {
            Cause::UnknownKey => newer_keys_may_help(cause),
            // Newer keys may say another algorithm.
            Cause::AlgorithmNotAllowed if told_by_keys && !known => newer_keys_may_help(cause),
            Cause::BadSignature => Refused {
                cause,
                candidate: (!known).then_some(candidate), // of a key without `kid`, a newer one may be meant
                for_good: (!ring.keys.has_dates()).then_some(ring.generation),
            },
            cause => final_word(cause),
        })?;
        let verified = Arc::new(verified);
        self.cache.insert(token.as_bytes(), ring.generation, &verified);
        Ok(Vouched { verified, candidate })
    }

    /// Asked of every request, cached token or not.
    fn check_revoked(
        &self,
        policy: &TokenPolicy,
        vouched: &Vouched,
        token: &[u8],
        now: UnixSeconds,
    ) -> Result<(), Cause> {
        if self.revoked.is_empty() {
            return Ok(());
        }
        let digests = if self.revoked.needs_digest() {
            // Whoever digested the whole token meant this one, even if that spares its twin.
            [token_digest(token), digest_of(token)]
        } else {
            [[0; 32]; 2]
        };
        let issuer = policy.candidates[vouched.candidate].issuer.name();
        let revoked = is_revoked(&self.revoked, issuer, &vouched.verified, &digests, now);
        if revoked { Err(Cause::Revoked) } else { Ok(()) }
    }

    /// A proof's signature is checked in turn with the tokens'.
    async fn check_possession(
        &self,
        policy: &TokenPolicy,
        vouched: &Vouched,
        found: &Found<'_>,
        asking: &Asking<'_>,
    ) -> Result<Option<Proof>, Cause> {
        let binding = policy.candidates[vouched.candidate].issuer.settings().binding;
        let check = || self.possession.check(binding, vouched.verified.bound_to.as_deref(), found, asking);
        if vouched.verified.bound_to.is_some() { Box::pin(self.turnstile.pass(check)).await } else { check() }
    }
}

/// Where nothing but a link passes.
fn by_link(policy: &LinkPolicy, asking: &Asking<'_>) -> Result<Permit, Denied> {
    let refused = |fault| Denied::new(Cause::Link(fault), Scheme::Bearer, Arc::clone(&policy.challenge));
    policy.links.judge(asking).map(|_| Permit::link()).map_err(refused)
}

/// Who passes without a token: whoever has a link, and where it is optional, nobody. A bad link never passes.
fn in_its_place(policy: &TokenPolicy, asking: &Asking<'_>) -> Result<Permit, Cause> {
    if let Some(links) = policy.links.as_ref().filter(|_| Links::are_in(asking.target)) {
        return links.judge(asking).map(|_| Permit::link()).map_err(Cause::Link);
    }
    if policy.optional { Ok(Permit::nobody()) } else { Err(Cause::MissingCredentials) }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("cached_tokens", &self.cached_tokens()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::header::AUTHORIZATION;
    use http::{HeaderName, Method};
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::access::{Access, PolicySettings, RouteAuth, Rule};
    use super::super::fixtures::{self, NOW, Request};
    use super::super::{
        Algorithm, ClaimPath, Demand, Forward, Forwarding, Issuer, IssuerSettings, KeySource, Kind, OriginGuard, Secret,
    };
    use super::*;

    fn plain() -> Policy {
        fixtures::policy(fixtures::django(), vec![])
    }

    fn good() -> String {
        fixtures::django_token(r#""user_id":9007199254740993,"is_staff":true,"scope":"read","groups":["a","b"]"#)
    }

    fn bearing(authority: &Authority, policy: &Policy, token: &str) -> Result<Permit, Denied> {
        fixtures::judge(authority, policy, &Request::bearing(token).asking())
    }

    #[test]
    fn a_public_policy_lets_everyone_pass_untouched() {
        let request = Request::bearing("whatever");
        let permit = fixtures::judge(&fixtures::authority(8), &Policy::public(), &request.asking()).unwrap();
        let mut headers = request.headers().clone();
        permit.apply(&mut headers);
        assert_eq!(&headers, request.headers());
    }

    #[test]
    fn the_upstream_gets_the_canonical_field_and_the_claims() {
        let forward = |header: &'static str, claim: &str| Forward {
            header: header.parse().unwrap(),
            claim: ClaimPath::top(claim),
        };
        let forwards = vec![forward("x-user-id", "user_id"), forward("x-groups", "groups"), forward("x-none", "none")];
        let policy = fixtures::policy_with(fixtures::django(), |_, forwarding| {
            forwarding.claims = forwards;
            forwarding.all_claims = Some(HeaderName::from_static("x-claims"));
        });
        let request = Request::new(Method::GET, "/", &[("authorization", &format!("bearer   {}", good()))]);
        let permit = fixtures::judge(&fixtures::authority(8), &policy, &request.asking()).unwrap();
        let mut sent = request.headers().clone();
        permit.apply(&mut sent);
        assert_eq!(sent[AUTHORIZATION], format!("Bearer {}", good()));
        assert_eq!(sent["x-user-id"], "9007199254740993");
        assert_eq!(sent["x-groups"], "a,b");
        assert!(!sent.contains_key("x-none"));
        assert_eq!(sent["x-claims"], good().split('.').nth(1).unwrap());
        assert_eq!(permit.subject(), Some("9007199254740993"));
        assert_eq!(permit.expires_at().unwrap().as_secs(), NOW + 300);
        assert!(!format!("{permit:?}").contains("ey"));
    }

    #[test]
    fn a_token_that_is_not_to_be_sent_on_is_taken_out_wherever_it_stood() {
        let policy = fixtures::policy_with(fixtures::django(), |settings, forwarding| {
            settings.places = vec![Place::Authorization, Place::Cookie("jwt".into()), Place::Query("token".into())];
            forwarding.token = false;
        });
        for (uri, field, value, left) in [
            ("/", "authorization", format!("Bearer {}", good()), None),
            ("/", "cookie", format!("a=1; jwt={}", good()), Some("a=1")),
        ] {
            let request = Request::new(Method::GET, uri, &[(field, &value)]);
            let permit = fixtures::judge(&fixtures::authority(8), &policy, &request.asking()).unwrap();
            let mut sent = request.headers().clone();
            permit.apply(&mut sent);
            assert_eq!(sent.get(field).map(|value| value.to_str().unwrap()), left);
            assert!(!permit.is_private());
        }
        let query = format!("a=1&token={}", good());
        let request = Request::new(Method::GET, &format!("/?{query}"), &[]);
        let permit = fixtures::judge(&fixtures::authority(8), &policy, &request.asking()).unwrap();
        assert_eq!(permit.query(Some(&query)).unwrap(), "a=1");
        assert!(permit.is_private());
    }

    #[test]
    fn a_cookie_is_not_spent_by_another_site() {
        let policy = |guard| {
            fixtures::policy_with(fixtures::django(), |settings, _| {
                settings.places = vec![Place::Authorization, Place::Cookie("jwt".into())];
                settings.guard = guard;
            })
        };
        let cookie = format!("jwt={}", good());
        let reason = |policy: &Policy, method, fields: &[(&'static str, &str)]| {
            let request = Request::new(method, "/", fields);
            fixtures::judge(&fixtures::authority(8), policy, &request.asking()).map_err(|denied| denied.reason())
        };
        let guarded = policy(Some(OriginGuard::default()));
        let (own, other) = (("origin", "https://gateway.test"), ("origin", "https://evil.example"));
        let bearer = format!("Bearer {}", good());
        assert!(reason(&guarded, Method::POST, &[("cookie", &cookie), own]).is_ok());
        assert!(reason(&guarded, Method::GET, &[("cookie", &cookie), other]).is_ok());
        assert!(reason(&guarded, Method::POST, &[("authorization", &bearer), other]).is_ok(), "no site can send this");
        assert_eq!(reason(&guarded, Method::POST, &[("cookie", &cookie), other]).unwrap_err(), "cross_origin");
        assert_eq!(reason(&guarded, Method::POST, &[("cookie", &cookie)]).unwrap_err(), "cross_origin");
        assert!(reason(&policy(None), Method::POST, &[("cookie", &cookie), other]).is_ok());
    }

    #[test]
    fn an_optional_policy_takes_no_token_but_no_bad_one() {
        let policy = fixtures::policy_with(fixtures::django(), |settings, _| settings.optional = true);
        let judged = |fields: &[(&'static str, &str)]| {
            fixtures::judge(&fixtures::authority(8), &policy, &Request::new(Method::GET, "/", fields).asking())
        };
        assert_eq!(judged(&[]).unwrap().subject(), None);
        assert!(judged(&[("authorization", "Basic dTpw")]).is_ok());
        assert!(judged(&[("authorization", &format!("Bearer {}", good()))]).unwrap().subject().is_some());
        assert_eq!(judged(&[("authorization", "Bearer a.b.c")]).unwrap_err().reason(), "malformed_token");
        assert_eq!(judged(&[("authorization", "Bearer")]).unwrap_err().reason(), "malformed_header");
    }

    #[test]
    fn reads_and_writes_may_ask_different_things() {
        let access = |optional| Access::Token(Box::new(PolicySettings { optional, ..PolicySettings::of_issuer(0) }));
        let settings = RouteAuth { read: access(true), write: access(false), forward: Forwarding::default() };
        let policy = Policy::compile(&settings, &[fixtures::django()]);
        let passes = |method: Method| {
            fixtures::judge(&fixtures::authority(8), &policy, &Request::new(method, "/", &[]).asking()).is_ok()
        };
        assert!([Method::GET, Method::HEAD, Method::OPTIONS].into_iter().all(passes));
        assert!(
            ![Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::from_bytes(b"BREW").unwrap()]
                .into_iter()
                .any(passes)
        );
        assert!(policy.describe().contains("other methods"));
    }

    #[test]
    fn a_route_may_ask_more_than_the_issuer() {
        let authority = fixtures::authority(8);
        let kind_under = |rules| {
            bearing(&authority, &fixtures::policy(fixtures::django(), rules), &good()).map_err(|denied| denied.kind())
        };
        let demand = |claim: &str, value: serde_json::Value| Rule::Claim(Demand::equals(claim, value));
        let scopes = |names: &[&str]| Rule::Scopes(names.iter().map(|name| Box::from(*name)).collect());
        assert!(kind_under(vec![demand("is_staff", json!(true)), scopes(&["read"])]).is_ok());
        assert_eq!(kind_under(vec![demand("is_staff", json!("true"))]).unwrap_err(), Kind::Forbidden);
        assert_eq!(kind_under(vec![demand("absent", json!(true))]).unwrap_err(), Kind::Forbidden);
        assert_eq!(kind_under(vec![scopes(&["read", "write"])]).unwrap_err(), Kind::InsufficientScope);
    }

    #[test]
    fn several_issuers_are_told_apart_by_iss_and_nobody_signs_for_another() {
        let named = |name: &str, iss: Option<&str>, pair: &fixtures::Pair| {
            let settings =
                IssuerSettings { keys: vec![pair.key()], issuer: iss.map(Into::into), ..IssuerSettings::named(name) };
            Arc::new(Issuer::compile(settings).unwrap().0)
        };
        let issuers = [
            named("a", Some("https://a/"), fixtures::ec256()),
            named("b", Some("https://b/"), fixtures::rsa()),
            named("c", None, fixtures::ed()),
        ];
        let settings = PolicySettings { issuers: vec![0, 1, 2], ..PolicySettings::of_issuer(0) };
        let access = Access::Token(Box::new(settings));
        let auth = RouteAuth { read: access.clone(), write: access, forward: Forwarding::default() };
        let policy = Policy::compile(&auth, &issuers);
        let authority = fixtures::authority(8);
        let who = |pair: &fixtures::Pair, algorithm: Algorithm, iss: &str| {
            let claims = format!(r#"{{"exp":{}{iss}}}"#, NOW + 9);
            let token = pair.sign(algorithm, &format!(r#"{{"alg":"{algorithm}"}}"#), &claims);
            let first = bearing(&authority, &policy, &token).map(|permit| permit.issuer().unwrap().name().to_owned());
            let again = bearing(&authority, &policy, &token).map(|permit| permit.issuer().unwrap().name().to_owned());
            assert_eq!(first.as_ref().ok(), again.as_ref().ok());
            first.map_err(|denied| denied.reason())
        };
        assert_eq!(who(fixtures::ec256(), Algorithm::Es256, r#","iss":"https://a/""#).unwrap(), "a");
        assert_eq!(who(fixtures::rsa(), Algorithm::Rs256, r#","iss":"https://b/""#).unwrap(), "b");
        assert_eq!(who(fixtures::ed(), Algorithm::EdDsa, "").unwrap(), "c");
        assert_eq!(who(fixtures::ed(), Algorithm::EdDsa, r#","iss":"https://d/""#).unwrap(), "c");
        for (pair, algorithm, iss) in [
            (fixtures::rsa(), Algorithm::Rs256, r#","iss":"https://a/""#),
            (fixtures::ec256(), Algorithm::Es256, r#","iss":"https://b/""#),
            (fixtures::ec256(), Algorithm::Es256, ""),
            (fixtures::ed(), Algorithm::EdDsa, r#","iss":"https://a/""#),
        ] {
            assert_eq!(who(pair, algorithm, iss).unwrap_err(), "algorithm_not_allowed");
        }
    }

    #[test]
    fn a_token_remembered_under_one_policy_is_another_issuers_under_the_next() {
        let named = |name: &str, iss: Option<&str>, pair: &fixtures::Pair| {
            let issuer = iss.map(Into::into);
            let settings = IssuerSettings { keys: vec![pair.key()], issuer, ..IssuerSettings::named(name) };
            Arc::new(Issuer::compile(settings).unwrap().0)
        };
        let issuers = [named("any", None, fixtures::ec256()), named("b", Some("https://b/"), fixtures::ec384())];
        let taking = |issuers: Vec<usize>, all: &[Arc<Issuer>]| {
            let access = Access::Token(Box::new(PolicySettings { issuers, ..PolicySettings::of_issuer(0) }));
            Policy::compile(&RouteAuth { read: access.clone(), write: access, forward: Forwarding::default() }, all)
        };
        let (one, both) = (taking(vec![0], &issuers), taking(vec![0, 1], &issuers));
        let claims = format!(r#"{{"exp":{},"iss":"https://b/"}}"#, NOW + 9);
        let token = fixtures::ec256().sign(Algorithm::Es256, r#"{"alg":"ES256"}"#, &claims);
        let authority = fixtures::authority(8);
        assert!(bearing(&authority, &one, &token).is_ok(), "the one issuer does not look at `iss`");
        assert_eq!(bearing(&authority, &both, &token).unwrap_err().reason(), "algorithm_not_allowed");
    }

    #[test]
    fn a_claim_that_is_no_header_value_is_refused() {
        let forward = Forward { header: "x-name".parse().unwrap(), claim: ClaimPath::top("name") };
        let policy = fixtures::policy_with(fixtures::django(), |_, forwarding| forwarding.claims = vec![forward]);
        let token = fixtures::django_token(r#""user_id":1,"name":"a\r\nx-admin: 1""#);
        let denied = bearing(&fixtures::authority(0), &policy, &token).unwrap_err();
        assert_eq!((denied.reason(), denied.kind()), ("unusable_claim", Kind::Forbidden));
    }

    #[test]
    fn only_verified_tokens_are_remembered_and_the_number_is_bounded() {
        let authority = fixtures::authority(4);
        for user in 0..50 {
            let token = fixtures::django_token(&format!(r#""user_id":{user}"#));
            let forged = format!("{}AAAA", &token[..token.len() - 4]);
            assert!(bearing(&authority, &plain(), &forged).is_err());
            if user == 0 {
                assert_eq!(authority.cached_tokens(), 0);
            }
            assert!(bearing(&authority, &plain(), &token).is_ok());
            assert!(authority.cached_tokens() <= 4);
        }
        assert_eq!(fixtures::authority(0).cached_tokens(), 0);
    }

    #[test]
    fn a_remembered_token_is_refused_by_another_issuer_and_after_a_key_change() {
        let authority = fixtures::authority(8);
        assert!(bearing(&authority, &plain(), &good()).is_ok());
        let mut settings = fixtures::django_settings();
        settings.keys = vec![KeySource::Secret(Secret::new([9; 50])).into()];
        let rotated = fixtures::policy(Arc::new(Issuer::compile(settings).unwrap().0), vec![]);
        assert_eq!(bearing(&authority, &rotated, &good()).unwrap_err().reason(), "bad_signature");
    }

    fn outcome(authority: &Authority, policy: &Policy, token: &str, now: f64) -> Result<Option<String>, Cause> {
        let mut request = Request::bearing(token);
        request.now = UnixSeconds::from_json(&now.to_string()).unwrap();
        let permit = fixtures::judge(authority, policy, &request.asking());
        permit.map(|permit| permit.subject().map(str::to_owned)).map_err(|denied| denied.cause().clone())
    }

    proptest! {
        #[test]
        fn a_remembered_answer_is_the_fresh_answer(
            exp in -100_i64..400, nbf in -100_i64..400, iat in -100_i64..400, leeway in 0_u64..90,
            key_from in prop::option::of(-100_i64..400), key_until in prop::option::of(-100_i64..400),
            moments in prop::collection::vec(-500.0_f64..900.0, 1..12), staff in any::<bool>(),
        ) {
            let base = i64::try_from(NOW).unwrap();
            let at = |offset: i64| UnixSeconds::from_secs(u64::try_from(base + offset).unwrap());
            let mut settings = IssuerSettings::named("s");
            settings.keys = vec![fixtures::secret().key()];
            settings.keys[0].not_before = key_from.map(at);
            settings.keys[0].not_after = key_until.map(at);
            settings.leeway_secs = leeway;
            let issuer = Arc::new(Issuer::compile(settings).unwrap().0);
            let demand = Rule::Claim(Demand::equals("staff", true));
            let policy = fixtures::policy(Arc::clone(&issuer), vec![demand]);
            let open = fixtures::policy(issuer, vec![]);
            let claims = format!(
                r#"{{"sub":"ann","exp":{},"nbf":{},"iat":{},"staff":{staff}}}"#, base + exp, base + nbf, base + iat
            );
            let token = fixtures::secret().sign(Algorithm::Hs256, r#"{"alg":"HS256"}"#, &claims);
            let (warm, cold) = (fixtures::authority(8), fixtures::authority(0));
            for moment in moments {
                let now = f64::from(u32::try_from(NOW).unwrap()) + moment;
                for policy in [&policy, &open, &policy] {
                    prop_assert_eq!(outcome(&warm, policy, &token, now), outcome(&cold, policy, &token, now));
                }
            }
        }
    }
}
