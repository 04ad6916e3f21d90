//! The refusals of Django REST framework 3.18 with simplejwt 5.5, word for word.
//!
//! Owns the texts, so that a front end written against the application cannot tell who refused. Knows no status codes; DRF itself
//! answers 401 for every body here but the last, `bad_authorization_header` included.

use super::denied::{Cause, Denied, HeaderFault};
use super::dpop::Replay;
use super::link::LinkFault;

const NOT_PROVIDED: &str = r#"{"detail":"Authentication credentials were not provided."}"#;
const BAD_HEADER: &str =
    r#"{"detail":"Authorization header must contain two space-delimited values","code":"bad_authorization_header"}"#;
const NO_USER: &str = r#"{"detail":"Token contained no recognizable user identification","code":"token_not_valid"}"#;
/// As `SessionAuthentication.enforce_csrf` words it.
const CROSS_ORIGIN: &str = r#"{"detail":"CSRF Failed: Origin checking failed."}"#;
const UNAVAILABLE: &str = r#"{"detail":"Service temporarily unavailable, try again later."}"#;
/// DRF has no words for it.
const EXPIRED_LINK: &str = r#"{"detail":"The link has expired."}"#;
const NOT_PERMITTED: &str = r#"{"detail":"You do not have permission to perform this action."}"#;

/// The body of `AccessToken`'s refusal with one message, keys and separators as `JSONRenderer` writes them.
macro_rules! not_valid {
    ($message:literal) => {
        concat!(
            r#"{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":"#,
            r#"[{"token_class":"AccessToken","token_type":"access","message":""#,
            $message,
            r#""}]}"#
        )
    };
}

/// The JSON body simplejwt would have sent for this refusal.
pub fn drf_body(denied: &Denied) -> &'static str {
    match denied.cause() {
        Cause::MissingCredentials => NOT_PROVIDED,
        // Django joins two fields with a comma, which makes more than two words.
        Cause::TwoCredentials | Cause::MalformedHeader(HeaderFault::NoToken | HeaderFault::ExtraParts) => BAD_HEADER,
        Cause::Expired => not_valid!("Token is expired"),
        Cause::WrongTokenType(_) => not_valid!("Token has wrong type"),
        Cause::MissingClaim(claim) if **claim == *denied.subject_claim() => NO_USER,
        Cause::MissingClaim(claim) => match &**claim {
            "exp" => not_valid!("Token has no 'exp' claim"),
            "jti" => not_valid!("Token has no id"),
            "token_type" => not_valid!("Token has no type"),
            _ => not_valid!("Token is invalid"),
        },
        Cause::MalformedHeader(HeaderFault::Characters)
        | Cause::OversizedToken
        | Cause::MalformedToken(_)
        | Cause::AlgorithmNotAllowed
        | Cause::UnsupportedHeader(_)
        | Cause::WrongTyp
        | Cause::UnknownKey
        | Cause::BadSignature
        | Cause::MalformedClaim(_)
        | Cause::NotYetValid(_)
        | Cause::WrongIssuer
        | Cause::WrongAudience
        | Cause::ClaimRefused(_)
        | Cause::InactiveToken
        | Cause::Revoked
        | Cause::BoundToken(_)
        | Cause::Proof(_)
        | Cause::Replay(Replay::Seen)
        | Cause::NonceNeeded
        | Cause::UnboundToken => not_valid!("Token is invalid"),
        Cause::CrossOrigin => CROSS_ORIGIN,
        Cause::Link(LinkFault::Expired) => EXPIRED_LINK,
        Cause::KeysUnavailable | Cause::IntrospectionUnavailable | Cause::Replay(Replay::Full) => UNAVAILABLE,
        Cause::DemandUnmet(_)
        | Cause::NotOwnPath
        | Cause::InsufficientScope
        | Cause::UnusableClaim(_)
        | Cause::Link(_) => NOT_PERMITTED,
    }
}

/// The JSON body of DRF's `Throttled`, for a client that may come again in so many seconds.
pub fn drf_throttled(secs: u32) -> String {
    let seconds = if secs == 1 { "second" } else { "seconds" };
    format!(r#"{{"detail":"Request was throttled. Expected available in {secs} {seconds}."}}"#)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use super::super::Style;
    use super::super::bearer::Scheme;
    use super::super::denied::{Challenge, TokenFault};
    use super::*;

    fn body(cause: Cause) -> &'static str {
        let challenge = Challenge {
            style: Style::Drf,
            realm: "api".into(),
            subject_claim: "user_id".into(),
            scope: Box::default(),
            resource_metadata: None,
            login_url: None,
            scheme: Scheme::Bearer,
        };
        drf_body(&Denied::new(cause, Scheme::Bearer, Arc::new(challenge)))
    }

    #[test]
    fn an_expired_token_reads_as_simplejwt_says_it() {
        assert_eq!(
            body(Cause::Expired),
            r#"{"detail":"Given token not valid for any token type","code":"token_not_valid","messages":[{"token_class":"AccessToken","token_type":"access","message":"Token is expired"}]}"#
        );
    }

    #[test]
    fn a_request_too_many_reads_as_drf_says_it() {
        let text =
            |secs, time| format!(r#"{{"detail":"Request was throttled. Expected available in {secs} {time}."}}"#);
        assert_eq!(drf_throttled(1), text(1, "second"));
        assert_eq!(drf_throttled(86_400), text(86_400, "seconds"));
    }

    #[test]
    fn each_cause_has_its_message() {
        for (cause, text) in [
            (Cause::MissingClaim("jti".into()), "Token has no id"),
            (Cause::MissingClaim("exp".into()), "Token has no 'exp' claim"),
            (Cause::MissingClaim("token_type".into()), "Token has no type"),
            (Cause::WrongTokenType("token_type".into()), "Token has wrong type"),
            (Cause::MissingClaim("user_id".into()), "Token contained no recognizable user identification"),
            (Cause::BadSignature, "Token is invalid"),
            (Cause::NotYetValid("nbf"), "Token is invalid"),
            (Cause::MalformedToken(TokenFault::Parts), "Token is invalid"),
            (Cause::MalformedHeader(HeaderFault::Characters), "Token is invalid"),
            (Cause::MalformedHeader(HeaderFault::ExtraParts), "bad_authorization_header"),
            (Cause::TwoCredentials, "bad_authorization_header"),
            (Cause::MissingCredentials, "credentials were not provided."),
            (Cause::DemandUnmet("is_staff".into()), "You do not have permission"),
        ] {
            let body = body(cause);
            assert!(body.contains(text), "{body}");
            serde_json::from_str::<serde_json::Value>(body).unwrap();
        }
    }
}
