//! Proof that a policy was met.
//!
//! Owns what the upstream is told about who was let through. Only this room can make a [`Permit`], so nothing is forwarded without one.
//! Removing what a client sent in the place of identity headers is done before, elsewhere. RFC 9110 section 5.5.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};

use super::denied::Cause;
use super::json::Value;
use super::policy::TokenPolicy;
use super::time::UnixSeconds;
use super::verify::Verified;

/// Proof that a request met its policy.
#[must_use = "a permit is what the action consumes"]
pub struct Permit(Option<Granted>);

struct Granted {
    verified: Arc<Verified>,
    expires_at: Option<UnixSeconds>,
    authorization: HeaderValue,
    identity: Vec<(HeaderName, HeaderValue)>,
}

impl Permit {
    /// The permit of a public policy: it knows nobody and changes nothing.
    pub(super) fn public() -> Self {
        Self(None)
    }

    /// Words the claims as header values now, so that what cannot be worded is refused and not cut short later.
    pub(super) fn grant(
        policy: &TokenPolicy,
        verified: Arc<Verified>,
        authorization: HeaderValue,
    ) -> Result<Self, Cause> {
        let identity = identity_of(policy, &verified)?;
        let expires_at = verified.expires_at(&policy.issuer);
        Ok(Self(Some(Granted { verified, expires_at, authorization, identity })))
    }

    /// The subject of the token, as its issuer's `subject_claim` names it; a number reads as it was written.
    pub fn subject(&self) -> Option<&str> {
        self.0.as_ref()?.verified.subject.as_deref()
    }

    /// The moment from which the token would be refused, leeway included: no stream may live longer.
    pub fn expires_at(&self) -> Option<UnixSeconds> {
        self.0.as_ref()?.expires_at
    }

    /// Sets the identity headers and the canonical `Authorization: Bearer <token>`. A claim that is missing or `null` sets none, an array
    /// is joined with `,`, numbers and booleans stand as in the token. Under a public policy nothing is touched.
    pub fn apply(&self, headers: &mut HeaderMap) {
        let Some(granted) = &self.0 else {
            return;
        };
        headers.insert(AUTHORIZATION, granted.authorization.clone());
        for (name, value) in &granted.identity {
            headers.insert(name.clone(), value.clone());
        }
    }
}

impl fmt::Debug for Permit {
    /// A permit holds a credential: only its kind shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Permit(token)" } else { "Permit(public)" })
    }
}

/// The identity headers this token gives rise to, in the policy's order.
pub(super) fn identity_of(policy: &TokenPolicy, verified: &Verified) -> Result<Vec<(HeaderName, HeaderValue)>, Cause> {
    let mut identity = Vec::with_capacity(policy.forward.len());
    for forward in &policy.forward {
        let Some(claim) = verified.claims.at(&forward.claim).filter(|claim| !claim.is_null()) else {
            continue;
        };
        let value = header_value(claim).ok_or_else(|| Cause::UnusableClaim(forward.claim.as_str().into()))?;
        identity.push((forward.header.clone(), value));
    }
    Ok(identity)
}

fn header_value(claim: Value<'_>) -> Option<HeaderValue> {
    let Some(elements) = claim.as_array() else {
        return legal(&text_of(claim)?);
    };
    let texts = elements.into_iter().map(element).collect::<Option<Vec<_>>>()?;
    legal(&texts.join(","))
}

/// An element that is empty or holds the separator would read as another list.
fn element(value: Value<'_>) -> Option<Cow<'_, str>> {
    text_of(value).filter(|text| !text.is_empty() && !text.contains(',') && is_trimmed(text))
}

fn text_of(value: Value<'_>) -> Option<Cow<'_, str>> {
    value.as_str().or_else(|| value.is_plain().then(|| Cow::Borrowed(value.as_json())))
}

/// A field value arrives without its outer whitespace, so text that has some would arrive as another text. Characters beyond ASCII
/// go out as UTF-8 (`obs-text`); controls, tab included, are refused.
fn legal(text: &str) -> Option<HeaderValue> {
    let clean = is_trimmed(text) && !text.bytes().any(|byte| byte.is_ascii_control());
    if clean { HeaderValue::from_bytes(text.as_bytes()).ok() } else { None }
}

fn is_trimmed(text: &str) -> bool {
    !text.starts_with(' ') && !text.ends_with(' ')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::super::claims::Claims;
    use super::*;

    fn worded(json: &str) -> Option<Vec<u8>> {
        let claims = Claims::parse(format!(r#"{{"c":{json}}}"#).into_bytes()).unwrap();
        header_value(claims.find("c").unwrap()).map(|value| value.as_bytes().to_vec())
    }

    #[test]
    fn values_are_worded_as_documented() {
        for (json, value) in [
            (r#""ann""#, "ann"),
            (r#""a b""#, "a b"),
            (r#""""#, ""),
            (r#""Zo\u00eb""#, "Zoë"),
            ("9007199254740993", "9007199254740993"),
            ("-1.50", "-1.50"),
            ("true", "true"),
            (r#"["a","b",3]"#, "a,b,3"),
            ("[]", ""),
        ] {
            assert_eq!(worded(json).unwrap(), value.as_bytes(), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_worded_one_way_is_refused_not_truncated() {
        for json in [
            r#""a\r\nX-Admin: 1""#,
            r#""a\u0000""#,
            r#""a\tb""#,
            r#""a\u007f""#,
            r#"" a""#,
            r#""a ""#,
            r#"["a,b"]"#,
            r#"["a",""]"#,
            r#"["a"," b"]"#,
            r#"["a",null]"#,
            r#"["a",["b"]]"#,
            r#"{"a":1}"#,
        ] {
            assert_eq!(worded(json), None, "{json}");
        }
    }

    #[test]
    fn a_public_permit_touches_nothing() {
        let mut headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Basic dTpw"))]);
        let before = headers.clone();
        Permit::public().apply(&mut headers);
        assert_eq!(headers, before);
        assert_eq!(Permit::public().subject(), None);
    }

    proptest! {
        #[test]
        fn a_string_is_forwarded_whole_or_not_at_all(text in any::<String>()) {
            let json = serde_json::to_string(&text).unwrap();
            if let Some(value) = worded(&json) {
                prop_assert_eq!(value, text.as_bytes());
            }
        }
    }
}
