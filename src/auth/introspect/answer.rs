//! The answer: whether the token is active, and what it says (RFC 7662 section 2.2).

use crate::auth::claims::Claims;
use crate::auth::denied::Cause;
use crate::auth::json::Value;

/// What the issuer says of a token.
#[derive(Debug)]
pub(super) enum Answer {
    /// It may be used, as far as its issuer is concerned.
    Active(Claims),
    /// It may not; why is not told.
    Inactive,
}

/// Why an answer says nothing of the token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerFault {
    /// Not one JSON object that can be read one way only.
    #[error("the answer is no JSON object that can be read: {0}")]
    Unreadable(Cause),
    /// `active` is missing, or neither `true` nor `false`.
    #[error("the answer does not say `active`: true or false")]
    NotSaid,
}

/// Only the literal `true` is active: no text, no number, no second member of that name.
pub(super) fn read(body: Vec<u8>) -> Result<Answer, AnswerFault> {
    let claims = Claims::parse(body).map_err(AnswerFault::Unreadable)?;
    match claims.find("active").map(Value::as_json) {
        Some("true") => Ok(Answer::Active(claims)),
        Some("false") => Ok(Answer::Inactive),
        _ => Err(AnswerFault::NotSaid),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn is_active(json: &str) -> Option<bool> {
        read(json.as_bytes().to_vec()).ok().map(|answer| matches!(answer, Answer::Active(_)))
    }

    #[test]
    fn only_the_literal_true_is_active() {
        for active in [r#"{"active":true}"#, r#" {"sub":"a", "active" : true } "#, r#"{"\u0061ctive":true}"#] {
            assert_eq!(is_active(active), Some(true), "{active}");
        }
        assert_eq!(is_active(r#"{"active":false,"sub":"a"}"#), Some(false));
        for nothing in [
            "",
            "{}",
            "true",
            r#"[{"active":true}]"#,
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":[true]}"#,
            r#"{"Active":true}"#,
            r#"{"active":true,"active":true}"#,
            r#"{"active":false,"\u0061ctive":true}"#,
            r#"{"active":true}x"#,
            r#"{"active":true"#,
            "\u{feff}{\"active\":true}",
            "<html>",
        ] {
            assert_eq!(is_active(nothing), None, "{nothing}");
        }
    }

    fn values() -> impl Strategy<Value = serde_json::Value> {
        prop_oneof![
            any::<bool>().prop_map(|value| json!(value)),
            any::<i64>().prop_map(|value| json!(value)),
            "[a-z\"\\\\é]{0,6}".prop_map(|value| json!(value)),
            Just(json!("true")),
            Just(json!(null)),
            Just(json!({ "active": true })),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(!matches!(read(bytes), Ok(Answer::Active(_))), "chance does not spell it");
        }

        #[test]
        fn an_object_is_active_exactly_when_it_says_so(
            members in prop::collection::btree_map("(active|Active|sub|exp|a)", values(), 0..5),
        ) {
            let said = serde_json::to_string(&members).unwrap();
            let active = members.get("active");
            prop_assert_eq!(is_active(&said) == Some(true), active == Some(&json!(true)));
            prop_assert_eq!(is_active(&said) == Some(false), active == Some(&json!(false)));
        }

        #[test]
        fn a_changed_byte_never_makes_an_inactive_token_active(at in 0_usize..40, byte in any::<u8>()) {
            let mut body = br#"{"sub":"alice","active":false,"exp":99}"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            prop_assert!(!matches!(read(body), Ok(Answer::Active(_))));
        }
    }
}
