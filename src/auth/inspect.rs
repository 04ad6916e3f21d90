//! A token laid open for its operator: what it says, and why it passes or not.
//!
//! Owns the telling. The checks are the ones requests go through; nothing here lets anything pass.

use http::Method;

use super::asking::Asking;
use super::claims::Claims;
use super::denied::Cause;
use super::issuer::Issuer;
use super::json::Value;
use super::jws::Jws;
use super::link::Links;
use super::permit::identity_of;
use super::policy::{Asked, Candidate, Policy, TokenPolicy};
use super::settings::Demanded;
use super::time::UnixSeconds;
use super::verify::{Verified, check_algorithm, check_signature, check_typ};

/// What a token says of itself; nothing of it is proved.
#[derive(Debug, Clone, PartialEq)]
pub struct Inspection {
    /// The protected header, as JSON.
    pub header: String,
    /// The claims, as JSON with every digit.
    pub claims: String,
    /// `alg` as the token spells it.
    pub algorithm: String,
    /// `kid`, where there is one.
    pub kid: Option<String>,
    /// `iat`, where it is a usable date.
    pub issued_at: Option<UnixSeconds>,
    /// `nbf`, where it is a usable date.
    pub not_before: Option<UnixSeconds>,
    /// `exp`, where it is a usable date.
    pub expires_at: Option<UnixSeconds>,
    /// Length of the signature in bytes.
    pub signature_bytes: usize,
}

/// One check of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What was looked at.
    pub name: &'static str,
    /// Whether it was in order.
    pub ok: bool,
    /// What was found, or the cause of the refusal.
    pub detail: String,
}

/// Decodes a token without verifying it, as strictly as a request's is read.
pub fn inspect(token: &str) -> Result<Inspection, Cause> {
    let jws = Jws::parse(token)?;
    let claims = Claims::parse(jws.payload)?;
    let date = |name| claims.find(name).map(Value::as_json).and_then(UnixSeconds::from_json);
    Ok(Inspection {
        header: jws.header.object.as_json().to_owned(),
        claims: claims.as_json().to_owned(),
        algorithm: jws.header.alg.into(),
        kid: jws.header.kid.map(Into::into),
        issued_at: date("iat"),
        not_before: date("nbf"),
        expires_at: date("exp"),
        signature_bytes: jws.signature.len(),
    })
}

/// Every check a request of this method, for this canonical path, with this token goes through under `policy`, in order. The first that is not `ok` is why it is denied; the
/// later ones are told as far as they can be, so that one run shows all that is wrong.
pub fn explain_token(policy: &Policy, method: &Method, path: &str, token: &str, now: UnixSeconds) -> Vec<Step> {
    match policy.asked(method) {
        Asked::Nothing => vec![Step { name: "policy", ok: true, detail: "public: no token is asked for".to_owned() }],
        Asked::Link(_) => {
            vec![Step { name: "policy", ok: false, detail: "no token passes, only a signed link".to_owned() }]
        }
        Asked::Token(policy) => explain(policy, path, token, now),
    }
}

/// How a request without a token is judged where links pass; `None` where they don't, or where it is no link and need not be one.
pub fn explain_link(policy: &Policy, asking: &Asking<'_>) -> Option<Step> {
    let asked = policy.asked(asking.method);
    let links = asked.links().filter(|_| asked.token().is_none() || Links::are_in(asking.target))?;
    let mut trace = Trace::default();
    let judged = links.judge(asking).map_err(Cause::Link);
    trace.step("link", judged, |until| {
        format!("signed with a secret of this route, good for {} more seconds", asking.now.until(*until).as_secs())
    });
    trace.0.pop()
}

fn explain(policy: &TokenPolicy, path: &str, token: &str, now: UnixSeconds) -> Vec<Step> {
    let mut trace = Trace::default();
    if let Ok(Some(position)) = policy.introspecting(token.as_bytes()) {
        let name = policy.candidates[position].issuer.name();
        trace.tell(
            "introspection",
            false,
            format!("issuer `{name}` is not asked here, so nothing is known of the token"),
        );
        return trace.0;
    }
    let Some(jws) =
        trace.step("form", Jws::parse(token), |_| "three parts, strict base64url, readable header".to_owned())
    else {
        return trace.0;
    };
    let Some(candidate) = trace.step("choice of issuer", policy.choose(|| jws.claims()), |position| {
        format!("`{}`", policy.candidates[*position].issuer.name())
    }) else {
        return trace.0;
    };
    let candidate = &policy.candidates[candidate];
    let issuer = &candidate.issuer;
    let Some(ring) = trace.step("keys", issuer.ring(), |ring| format!("{} in use", ring.keys.len())) else {
        return trace.0;
    };
    let algorithm = trace.step("algorithm", check_algorithm(&ring, &jws.header), |one| format!("{one} is accepted"));
    trace.step("type", check_typ(issuer, &jws.header), |()| told(jws.header.typ.as_deref(), "`typ` is"));
    if let Some(algorithm) = algorithm {
        let signature = check_signature(&ring, algorithm, &jws, now);
        trace.step("signature", signature, |key| {
            let by = told(key.kid.as_deref(), "verified by the key whose `kid` is");
            format!("{by}; {}", told(jws.header.kid.as_deref(), "the token's `kid` is"))
        });
    }
    let read = Verified::read(issuer, jws.payload);
    let Some(verified) = trace.step("claims", read, |verified| told(verified.subject.as_deref(), "the subject is"))
    else {
        return trace.0;
    };
    explain_claims(&mut trace, policy, candidate, &verified, path, now);
    trace.0
}

/// What is asked of claims that their issuer vouches for.
pub(super) fn explain_claims(
    trace: &mut Trace,
    policy: &TokenPolicy,
    candidate: &Candidate,
    verified: &Verified,
    path: &str,
    now: UnixSeconds,
) {
    let Candidate { index, issuer } = candidate;
    trace.step("dates", verified.check_dates(issuer, now), |()| validity(verified, issuer, now));
    trace.step("issuer", verified.check_issuer(issuer), |()| "`iss` is in order".to_owned());
    trace.step("audience", verified.check_audience(issuer), |()| "`aud` is in order".to_owned());
    trace.step("required claims", verified.check_presence(issuer), |()| "all present".to_owned());
    trace.step("issuer demands", verified.check_demands(issuer), |()| "all met".to_owned());
    trace.step("possession", binding(issuer, verified), |words| (*words).to_owned());
    trace.step("route demands", policy.check_rule(&verified.claims, *index, path), |()| "all met".to_owned());
    trace.step("forwarded claims", identity_of(policy, verified), |identity| {
        let names: Vec<&str> = identity.iter().map(|(name, _)| name.as_str()).collect();
        if names.is_empty() { "none".to_owned() } else { format!("set {}", names.join(", ")) }
    });
}

/// What a request would have to prove besides; a token of which no request can prove it is refused here.
fn binding(issuer: &Issuer, verified: &Verified) -> Result<&'static str, Cause> {
    match (&verified.bound_to, issuer.settings().binding.demanded) {
        (Some(bound_to), demanded) => {
            bound_to.can_meet(demanded).map(|()| "it is bound: a request must also prove to come from its holder")
        }
        (None, Demanded::Nothing) => Ok("it is bound to nobody: whoever bears it may use it"),
        (None, _) => Err(Cause::UnboundToken),
    }
}

/// The checks so far.
#[derive(Default)]
pub(super) struct Trace(Vec<Step>);

impl Trace {
    pub(super) fn into_steps(self) -> Vec<Step> {
        self.0
    }

    pub(super) fn tell(&mut self, name: &'static str, ok: bool, detail: String) {
        self.0.push(Step { name, ok, detail });
    }

    pub(super) fn step<T>(
        &mut self,
        name: &'static str,
        result: Result<T, Cause>,
        detail: impl FnOnce(&T) -> String,
    ) -> Option<T> {
        let (ok, detail) = match &result {
            Ok(value) => (true, detail(value)),
            Err(cause) => (false, format!("{}: {cause}", cause.reason())),
        };
        self.tell(name, ok, detail);
        result.ok()
    }
}

fn told(value: Option<&str>, what: &str) -> String {
    match value {
        Some(value) => format!("{what} `{}`", value.escape_debug()),
        None => format!("{what} not given"),
    }
}

fn validity(verified: &Verified, issuer: &Issuer, now: UnixSeconds) -> String {
    match verified.expires_at(issuer) {
        Some(end) => format!("good for {} more seconds", end.as_secs().saturating_sub(now.as_secs())),
        None => "never expires".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures::{self, NOW};
    use super::super::{Algorithm, Rule};
    use super::*;

    #[test]
    fn a_token_is_laid_open_with_every_digit() {
        let claims = format!(r#"{{"user_id":90071992547409931, "exp":{NOW}}}"#);
        let token = fixtures::secret().sign(Algorithm::Hs256, r#"{"alg":"HS256","kid":"k"}"#, &claims);
        let seen = inspect(&token).unwrap();
        assert_eq!((seen.claims, seen.algorithm.as_str(), seen.kid.as_deref()), (claims, "HS256", Some("k")));
        assert_eq!((seen.expires_at.unwrap().as_secs(), seen.signature_bytes), (NOW, 32));
        assert!(inspect("a.b").is_err());
    }

    #[test]
    fn a_trace_shows_all_that_is_wrong_at_once() {
        let policy = fixtures::policy(fixtures::django(), vec![Rule::Scopes(vec!["read".into()])]);
        let token = fixtures::django_token(r#""scope":"write""#);
        let steps = explain_token(&policy, &Method::GET, "/", &token, UnixSeconds::from_secs(NOW + 900));
        let wrong: Vec<&str> = steps.iter().filter(|step| !step.ok).map(|step| step.name).collect();
        assert_eq!(wrong, ["dates", "issuer demands", "route demands"]);
        assert!(steps.iter().any(|step| step.name == "signature" && step.ok));
    }

    #[test]
    fn a_public_policy_asks_nothing() {
        let steps = explain_token(&Policy::public(), &Method::GET, "/", "x", UnixSeconds::from_secs(NOW));
        assert!(steps.len() == 1 && steps[0].ok);
    }
}
