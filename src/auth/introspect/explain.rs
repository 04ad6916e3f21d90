//! What would be asked about a token, told to its operator; and, if the operator says so, the asking.
//!
//! Owns the telling. The question and the checks are those of a request; nothing here lets anything pass.

use http::Method;

use super::answer::Answer;
use super::introspector::{Introspector, judge};
use crate::auth::bearer;
use crate::auth::denied::Cause;
use crate::auth::inspect::{Step, Trace, explain_claims, explain_token};
use crate::auth::issuer::Issuer;
use crate::auth::policy::{Candidate, Policy, TokenPolicy};
use crate::auth::time::UnixSeconds;
use crate::auth::verify::Verified;
use crate::fetch::Location;
use crate::observe::Chain;

/// Where a request of this method would have its token asked about; `None` where the token is judged by keys, or by nobody.
pub fn introspection_url<'p>(policy: &'p Policy, method: &Method, token: &str) -> Option<&'p Location> {
    let (_, candidate) = asked(policy, method, token)?;
    candidate.issuer.settings().introspection.as_ref().map(|settings| &settings.url)
}

/// As [`explain_token`], after asking the issuer where a request would ask it. Needs a runtime with sockets and time.
pub async fn explain_introspected(
    policy: &Policy,
    method: &Method,
    path: &str,
    token: &str,
    now: UnixSeconds,
) -> Vec<Step> {
    let Some((asking, candidate)) = asked(policy, method, token) else {
        return explain_token(policy, method, path, token, now);
    };
    let mut trace = Trace::default();
    if trace.step("form", bearer::well_formed(token.as_bytes()), |_| "a token of legal characters".to_owned()).is_none()
    {
        return trace.into_steps();
    }
    trace.tell("choice of issuer", true, format!("`{}`", candidate.issuer.name()));
    if let Some(verified) = introspected(&mut trace, &candidate.issuer, token).await {
        explain_claims(&mut trace, asking, candidate, &verified, path, now);
    }
    trace.into_steps()
}

fn asked<'p>(policy: &'p Policy, method: &Method, token: &str) -> Option<(&'p TokenPolicy, &'p Candidate)> {
    let policy = policy.asked(method).token()?;
    let position = policy.introspecting(token.as_bytes()).ok()??;
    Some((policy, &policy.candidates[position]))
}

async fn introspected(trace: &mut Trace, issuer: &Issuer, token: &str) -> Option<Verified> {
    let settings = issuer.settings().introspection.as_ref()?;
    match Introspector::new(settings.clone(), 0, None).ask(token).await {
        Ok(Answer::Active(claims)) => {
            trace.tell("introspection", true, format!("{} calls it active", settings.url));
            trace.step("claims", judge(issuer, claims), |_| {
                "`iss`, `aud` and what the issuer demands are met".to_owned()
            })
        }
        Ok(Answer::Inactive) => trace.step("introspection", Err(Cause::InactiveToken), |_: &Verified| String::new()),
        Err(error) => {
            let cause = Cause::IntrospectionUnavailable;
            trace.tell("introspection", false, format!("{}: {}: {}", cause.reason(), settings.url, Chain(&error)));
            None
        }
    }
}
