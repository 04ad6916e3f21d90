//! The claims of a token, compact enough to be kept by the ten thousand.
//!
//! Owns the reading of registered claims: dates, `iss`, `aud`, scopes. Judges nothing against a configuration.
//! RFC 7519 section 4.1, RFC 8693 section 4.2 (`scope`), RFC 6901.

use std::borrow::Cow;

use super::denied::{Cause, TokenFault};
use super::json::{Object, Value};
use super::path::{ClaimPath, Step};
use super::time::UnixSeconds;

/// A token's claims: the JSON as it was signed plus 8 bytes a top-level member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims(Object);

impl Claims {
    /// Reads the payload of a token.
    pub(super) fn parse(payload: Vec<u8>) -> Result<Self, Cause> {
        Object::parse(payload).map(Self).map_err(|fault| TokenFault::Claims(fault).into())
    }

    /// A top-level claim.
    pub(super) fn find(&self, name: &str) -> Option<Value<'_>> {
        self.0.find(name)
    }

    /// The claim at a path. A plain name costs what [`Self::find`] costs; below it, each step reads one object or array anew.
    pub(super) fn at(&self, path: &ClaimPath) -> Option<Value<'_>> {
        let (first, rest) = path.steps();
        rest.iter().try_fold(self.find(first)?, below)
    }

    /// The claims as they were signed.
    pub(super) fn as_json(&self) -> &str {
        self.0.as_json()
    }

    /// Bytes these claims hold on the heap.
    pub(super) fn heap_bytes(&self) -> usize {
        self.0.heap_bytes()
    }

    /// A `NumericDate` claim; present and unusable is a refusal, `null` included.
    pub(super) fn date(&self, name: &'static str) -> Result<Option<UnixSeconds>, Cause> {
        let read = |value: Value<'_>| UnixSeconds::from_json(value.as_json()).ok_or(Cause::MalformedClaim(name));
        self.find(name).map(read).transpose()
    }

    /// Whether `aud`, a string or an array of strings, holds one of `accepted`; `None` when the claim is missing.
    pub(super) fn audience_among(&self, accepted: &[Box<str>]) -> Option<bool> {
        let audience = self.find("aud")?;
        let texts = match audience.as_array() {
            Some(elements) => elements.into_iter().map(Value::as_str).collect::<Option<Vec<_>>>(),
            None => audience.as_str().map(|text| vec![text]),
        };
        Some(texts.is_some_and(|texts| texts.iter().any(|text| accepted.iter().any(|accepted| **accepted == **text))))
    }

    /// Whether every one of `needed` was granted, by `scope` or, where that is missing, `scp`: a space-delimited string or an
    /// array of strings. No other claim (`scopes`, `permissions`, `roles`) grants a scope.
    pub(super) fn grants_all(&self, needed: &[Box<str>]) -> bool {
        let granted = self.granted();
        needed.iter().all(|scope| grants(&granted, scope))
    }

    /// Whether one of `accepted` was granted, as [`Self::grants_all`] reads it; of none, none was.
    pub(super) fn grants_any(&self, accepted: &[Box<str>]) -> bool {
        let granted = self.granted();
        accepted.iter().any(|scope| grants(&granted, scope))
    }

    fn granted(&self) -> Vec<Cow<'_, str>> {
        self.find("scope").or_else(|| self.find("scp")).map(granted_by).unwrap_or_default()
    }

    /// A string as it reads, a number or boolean as it is written; `None` for anything else.
    pub(super) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        let value = self.find(name)?;
        value.as_str().or_else(|| value.is_plain().then_some(Cow::Borrowed(value.as_json())))
    }
}

fn below<'a>(value: Value<'a>, step: &Step) -> Option<Value<'a>> {
    value.member(&step.name).or_else(|| value.element(step.index?))
}

fn granted_by(claim: Value<'_>) -> Vec<Cow<'_, str>> {
    match claim.as_array() {
        Some(elements) => elements.into_iter().filter_map(Value::as_str).collect(),
        None => claim.as_str().into_iter().collect(),
    }
}

fn grants(granted: &[Cow<'_, str>], scope: &str) -> bool {
    granted.iter().any(|text| text.split(' ').any(|one| one == scope))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn claims(json: &str) -> Claims {
        Claims::parse(json.as_bytes().to_vec()).unwrap()
    }

    /// The same value with every `a` of a name or text written as an escape.
    fn escaped(value: &serde_json::Value) -> String {
        value.to_string().replace('a', "\\u0061")
    }

    #[test]
    fn a_date_is_a_number_in_range_or_a_refusal() {
        assert_eq!(claims(r#"{"exp":12.5}"#).date("exp").unwrap().unwrap().as_secs(), 12);
        assert_eq!(claims("{}").date("exp"), Ok(None));
        for json in [r#"{"exp":"12"}"#, r#"{"exp":null}"#, r#"{"exp":-1}"#, r#"{"exp":1e300}"#, r#"{"exp":[1]}"#] {
            assert_eq!(claims(json).date("exp"), Err(Cause::MalformedClaim("exp")), "{json}");
        }
    }

    #[test]
    fn an_audience_is_a_string_or_an_array_of_strings() {
        let accepted = ["orders".into(), "bills".into()];
        let among = |json: &str| claims(json).audience_among(&accepted);
        assert_eq!(among("{}"), None);
        assert_eq!(among(r#"{"aud":"bills"}"#), Some(true));
        assert_eq!(among(r#"{"aud":["x","orders"]}"#), Some(true));
        for json in [r#"{"aud":"Orders"}"#, r#"{"aud":[]}"#, r#"{"aud":["orders",1]}"#, r#"{"aud":{"orders":1}}"#] {
            assert_eq!(among(json), Some(false), "{json}");
        }
    }

    #[test]
    fn every_scope_needed_must_be_granted_as_a_whole_word() {
        let needed = ["read".into(), "write".into()];
        for json in [r#"{"scope":"write read"}"#, r#"{"scope":["read","write"]}"#, r#"{"scp":"x read write"}"#] {
            assert!(claims(json).grants_all(&needed), "{json}");
        }
        for json in [
            "{}",
            r#"{"scope":"read"}"#,
            r#"{"scope":"readwrite"}"#,
            r#"{"scope":1}"#,
            r#"{"scope":"read","scp":"write"}"#,
        ] {
            assert!(!claims(json).grants_all(&needed), "{json}");
        }
    }

    #[test]
    fn one_scope_of_several_is_enough_where_any_is_asked() {
        let accepted = ["read".into(), "write".into()];
        for json in [r#"{"scope":"read"}"#, r#"{"scope":["x","write"]}"#, r#"{"scp":"x write"}"#, r#"{"scp":["read"]}"#]
        {
            assert!(claims(json).grants_any(&accepted), "{json}");
        }
        for json in [
            "{}",
            r#"{"scope":""}"#,
            r#"{"scope":"readwrite"}"#,
            r#"{"scope":["readwrite",1]}"#,
            r#"{"scope":"x","scp":"read"}"#,
            r#"{"scope":null,"scp":"read"}"#,
            r#"{"scopes":"read","permissions":["read"],"roles":["read"]}"#,
        ] {
            assert!(!claims(json).grants_any(&accepted), "{json}");
        }
        assert!(!claims(r#"{"scope":"read"}"#).grants_any(&[]), "an empty list is no open door");
    }

    /// JSON with few names, so that paths often lead somewhere.
    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<i64>().prop_map(Into::into),
            "\\PC{0,4}".prop_map(Into::into)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
                prop::collection::btree_map("[ab01~/\"é]{1,2}", inner, 0..4).prop_map(serde_json::Value::from_iter),
            ]
        })
    }

    #[test]
    fn a_long_integer_keeps_every_digit() {
        assert_eq!(claims(r#"{"user_id":90071992547409931}"#).text("user_id").unwrap(), "90071992547409931");
        assert_eq!(claims(r#"{"user_id":{}}"#).text("user_id"), None);
    }

    proptest! {
        #[test]
        fn a_pointer_leads_where_json_pointers_lead(
            value in prop::collection::btree_map("[ab01~/\"é]{1,2}", any_json(), 0..5).prop_map(serde_json::Value::from_iter),
            pointer in "(/([ab\"é]|0|1|01|~0|~1|-){1,2}){1,5}",
        ) {
            let path = ClaimPath::parse(&pointer).unwrap();
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap(), escaped(&value)] {
                let found = claims(&text).at(&path).map(|found| serde_json::from_str(found.as_json()).unwrap());
                prop_assert_eq!(found.as_ref(), value.pointer(&pointer), "{}", text);
            }
        }

        #[test]
        fn a_dotted_path_leads_from_member_to_member(value in any_json(), names in prop::collection::vec("[ab01é]{1,2}", 1..4)) {
            let whole = serde_json::json!({ "top": value });
            let member = |value: &serde_json::Value, name: &String| value.as_object()?.get(name).cloned();
            let expected = names.iter().try_fold(value, |value, name| member(&value, name));
            let path = ClaimPath::parse(&format!("top.{}", names.join("."))).unwrap();
            let claims = claims(&whole.to_string());
            let found = claims.at(&path).map(|found| serde_json::from_str(found.as_json()).unwrap());
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(claims) = Claims::parse(bytes.clone()) {
                prop_assert_eq!(claims.as_json().as_bytes(), bytes);
            }
        }

        #[test]
        fn no_claim_value_panics(value in r#"([0-9eE+.-]{0,30}|"[ -~]{0,20}"|\[("[a-z ]{0,5}",?){0,4}\]|null|true)"#) {
            if let Ok(claims) = Claims::parse(format!(r#"{{"exp":{value},"aud":{value},"scope":{value}}}"#).into_bytes()) {
                let digit_first = value.starts_with(|first: char| first.is_ascii_digit());
                prop_assert!(digit_first || claims.date("exp").is_err());
                prop_assert!(claims.audience_among(&["a".into()]).is_some());
                prop_assert!(claims.grants_all(&[]));
            }
        }
    }
}
