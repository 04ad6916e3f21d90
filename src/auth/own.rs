//! Paths that belong to a token: a template in which claims stand for a part of the path.
//!
//! Owns how it is written, and when a path lies below it. A claim fills one segment or a part of one, and never more: what could be read as
//! another path fills none. Knows no routes; the path it is asked about is the canonical one that routes and files go by.

use std::borrow::Cow;

use super::claims::Claims;
use super::json::Value;
use super::path::{ClaimPath, PathProblem};

/// A template like `/media/{sub}/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnPath {
    text: Box<str>,
    /// What stands between slashes, the empty text before the first included.
    segments: Box<[Segment]>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    before: Box<str>,
    /// The claim and what follows it.
    claim: Option<(ClaimPath, Box<str>)>,
}

/// Why a text is no template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnPathProblem {
    /// No slash at its beginning.
    #[error("does not begin with `/`")]
    Relative,
    /// A brace without its other.
    #[error("has a brace without its other")]
    Brace,
    /// Two claims side by side could share their letters in more than one way.
    #[error("has two claims in one segment")]
    TwoClaims,
    /// It is the same for all.
    #[error("names no claim, so it is everybody's")]
    NoClaim,
    /// What stands between the braces.
    #[error("names a claim that {0}")]
    Claim(PathProblem),
}

impl OwnPath {
    /// Reads a template as an operator writes it.
    pub fn parse(text: &str) -> Result<Self, OwnPathProblem> {
        if !text.starts_with('/') {
            return Err(OwnPathProblem::Relative);
        }
        let segments = text.trim_end_matches('/').split('/').map(Segment::parse).collect::<Result<Box<[_]>, _>>()?;
        if segments.iter().all(|segment| segment.claim.is_none()) {
            return Err(OwnPathProblem::NoClaim);
        }
        Ok(Self { text: text.into(), segments })
    }

    /// The template as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The template with `value` in the place of every claim.
    pub fn filled(&self, value: &str) -> String {
        let fill = |segment: &Segment| match &segment.claim {
            Some((_, after)) => format!("{}{value}{after}", segment.before),
            None => segment.before.to_string(),
        };
        self.segments.iter().map(fill).collect::<Vec<_>>().join("/")
    }

    /// Whether all that lies below it lies below `path`, whatever the claims are.
    pub fn is_below(&self, path: &str) -> bool {
        let mut own = self.segments.iter();
        path.trim_end_matches('/')
            .split('/')
            .all(|segment| own.next().is_some_and(|own| own.claim.is_none() && *own.before == *segment))
    }

    /// Whether a canonical path is the one these claims open, or below it.
    pub(super) fn covers(&self, claims: &Claims, path: &str) -> bool {
        let mut found = path.split('/');
        self.segments.iter().all(|segment| found.next().is_some_and(|found| segment.is(found, claims)))
    }
}

impl Segment {
    fn parse(text: &str) -> Result<Self, OwnPathProblem> {
        let Some((before, rest)) = text.split_once('{') else {
            let fixed = Self { before: text.into(), claim: None };
            return if text.contains('}') { Err(OwnPathProblem::Brace) } else { Ok(fixed) };
        };
        let (claim, after) = rest.split_once('}').ok_or(OwnPathProblem::Brace)?;
        if before.contains('}') || claim.contains('{') {
            return Err(OwnPathProblem::Brace);
        }
        if after.contains('{') {
            return Err(OwnPathProblem::TwoClaims);
        }
        if after.contains('}') {
            return Err(OwnPathProblem::Brace);
        }
        let claim = ClaimPath::parse(claim).map_err(OwnPathProblem::Claim)?;
        Ok(Self { before: before.into(), claim: Some((claim, after.into())) })
    }

    fn is(&self, found: &str, claims: &Claims) -> bool {
        let Some((claim, after)) = &self.claim else { return *self.before == *found };
        let Some(value) = claims.at(claim).and_then(segment_of) else { return false };
        let middle = found.strip_prefix(&*self.before).and_then(|rest| rest.strip_suffix(&**after));
        middle == Some(&*value)
    }
}

/// A claim that can stand between two slashes. `;` begins a parameter for some servers, which would go by what stands before it.
fn segment_of(claim: Value<'_>) -> Option<Cow<'_, str>> {
    let text = claim.as_str().or_else(|| integer(claim).map(Cow::Borrowed))?;
    let harmless = !text.chars().any(|letter| letter.is_control() || matches!(letter, '/' | '\\' | ';'));
    (harmless && !matches!(&*text, "" | "." | "..")).then_some(text)
}

/// The digits of a whole number, as they stand in the token.
fn integer(claim: Value<'_>) -> Option<&str> {
    let text = claim.as_json();
    let digits = text.strip_prefix('-').unwrap_or(text);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn covers(template: &str, claims: &serde_json::Value, path: &str) -> bool {
        let claims = Claims::parse(claims.to_string().into_bytes()).unwrap();
        OwnPath::parse(template).unwrap().covers(&claims, path)
    }

    #[test]
    fn a_path_is_own_at_and_below_the_filled_template() {
        let alice = json!({ "sub": "alice", "id": 7, "org": { "name": "acme" } });
        for (template, path) in [
            ("/media/{sub}/", "/media/alice"),
            ("/media/{sub}/", "/media/alice/"),
            ("/media/{sub}", "/media/alice/a/b c.pdf"),
            ("/media/user_{id}/x", "/media/user_7/x/y"),
            ("/{org.name}/{sub}.d", "/acme/alice.d/z"),
        ] {
            assert!(covers(template, &alice, path), "{template} {path}");
        }
        for (template, path) in [
            ("/media/{sub}/", "/media/alicex"),
            ("/media/{sub}/", "/media/bob/alice"),
            ("/media/{sub}/", "/media/"),
            ("/media/{sub}/", "/media"),
            ("/media/{sub}/", "/Media/alice"),
            ("/media/{sub}/", "/x/media/alice"),
            ("/media/user_{id}/x", "/media/user_7"),
            ("/media/user_{id}/x", "/media/user_77/x"),
            ("/media/{none}/", "/media/"),
            ("/media/{org}/", "/media/{\"name\":\"acme\"}"),
        ] {
            assert!(!covers(template, &alice, path), "{template} {path}");
        }
    }

    #[test]
    fn a_claim_that_is_no_one_segment_opens_nothing() {
        for value in [
            json!(""),
            json!("."),
            json!(".."),
            json!("a/b"),
            json!("a\\b"),
            json!("a\0"),
            json!("a\n"),
            json!("a;b"),
            json!(null),
            json!(true),
            json!(1.5),
            json!(["a"]),
        ] {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            for path in [format!("/media/{text}"), format!("/media/{text}/x"), "/media//x".into(), "/media/a".into()] {
                assert!(!covers("/media/{c}/", &json!({ "c": value }), &path), "{value} {path}");
            }
        }
        assert!(covers("/media/{c}/", &json!({ "c": "a b%2F\u{fc}" }), "/media/a b%2F\u{fc}/x"));
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, problem) in [
            ("media/{sub}", OwnPathProblem::Relative),
            ("/media/", OwnPathProblem::NoClaim),
            ("/media/{sub", OwnPathProblem::Brace),
            ("/media/sub}", OwnPathProblem::Brace),
            ("/media/{a{b}}", OwnPathProblem::Brace),
            ("/media/{a}b}", OwnPathProblem::Brace),
            ("/media/{a/b}", OwnPathProblem::Brace),
            ("/media/{a}-{b}", OwnPathProblem::TwoClaims),
            ("/media/{}", OwnPathProblem::Claim(PathProblem::Empty)),
        ] {
            assert_eq!(OwnPath::parse(text).unwrap_err(), problem, "{text}");
        }
    }

    #[test]
    fn a_template_lies_below_what_all_its_paths_lie_below() {
        let below = |template: &str, path| OwnPath::parse(template).unwrap().is_below(path);
        assert!(below("/media/{sub}/", "/media/") && below("/media/{sub}/", "/media") && below("/{sub}", "/"));
        assert!(below("/media/own/{sub}/", "/media/own/"));
        assert!(!below("/media/{sub}/", "/mediax") && !below("/media/{sub}/", "/media/own/"));
        assert!(!below("/media/x{sub}/", "/media/x"));
    }

    proptest! {
        #[test]
        fn only_the_filled_template_is_own(value in "[a-z./;\\\\%-]{0,6}", path in "(/[a-z./;%-]{0,6}){1,3}") {
            let own = covers("/m/{c}/", &json!({ "c": value }), &path);
            let (prefix, below) = (format!("/m/{value}"), format!("/m/{value}/"));
            prop_assert!(!own || path == prefix || path.starts_with(&below));
            prop_assert!(!own || value.split('/').count() == 1 && value != "..");
        }
    }
}
