//! One revocation: what it denies, until when, and its form in JSON.
//!
//! Owns what may be written about a revocation, whoever writes it: a line of the file, the journal or the admin API. Knows nothing of how
//! entries are kept. The claims are those of RFC 7519 section 4.1.

use std::fmt;
use std::time::UNIX_EPOCH;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde_json::{Value, json};

use super::super::settings::MOST_LEEWAY_SECS;
use super::super::time::UnixSeconds;

/// 9999-12-31T23:59:59Z: what is later was written in milliseconds.
const LATEST: u64 = 253_402_300_799;
/// Bytes of one `jti`, `sub` or issuer name; a token with a longer one can be revoked by its digest.
const LONGEST_VALUE: usize = 1024;

/// One revocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What is denied.
    pub revoked: Revoked,
    /// Unix time in seconds when the tokens concerned have expired by themselves, as their `exp` says; the issuer's leeway is added
    /// here. `None` holds for ever.
    pub until: Option<u64>,
}

/// What a revocation denies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revoked {
    /// The token of this identifier.
    Jti {
        /// The claim `jti`, byte for byte.
        jti: Box<str>,
        /// The issuer's name in the configuration; `None` is any issuer.
        issuer: Option<Box<str>>,
    },
    /// Every token of a subject that was issued before a moment.
    Sub {
        /// The subject, byte for byte.
        sub: Box<str>,
        /// Unix time in seconds. Tokens issued at this second pass, and tokens without `iat` do not.
        before: u64,
        /// The issuer's name in the configuration; `None` is any issuer.
        issuer: Option<Box<str>>,
    },
    /// One token, whatever it says.
    Token {
        /// SHA-256 of the token's bytes.
        digest: [u8; 32],
    },
}

/// What is wrong with a revocation as it was written. No variant holds what was written: it may be a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryFault {
    /// Not JSON, not an object, or a member twice.
    #[error("it is not one JSON object that has each member once")]
    Json,
    /// A member nobody knows.
    #[error("it has a member besides jti, sub, token, token_sha256, before, issuer and until")]
    UnknownMember,
    /// A member of the wrong type.
    #[error("`{0}` is not of its type")]
    Type(&'static str),
    /// Nothing, or two things at once.
    #[error("it must have exactly one of jti, sub and token")]
    NotOne,
    /// An option where it means nothing.
    #[error("`{0}` means nothing here")]
    Meaningless(&'static str),
    /// `sub` in a file says since when.
    #[error("a sub needs before=UNIX or before=RFC3339: tokens issued earlier are denied")]
    NoBefore,
    /// An empty or endless value.
    #[error("`{0}` must have 1 to {LONGEST_VALUE} bytes")]
    Length(&'static str),
    /// No moment.
    #[error("`{0}` is no time: write seconds since 1970, or RFC 3339 in UTC as in 2026-11-05T10:00:00Z")]
    Time(&'static str),
    /// No digest.
    #[error("a token's SHA-256 is 64 hexadecimal digits, or 43 letters of base64url")]
    Digest,
    /// A line that begins with another word.
    #[error("a line begins with jti, sub or token")]
    UnknownWord,
    /// A word after the value.
    #[error("after the value come issuer=, before= and until=, each once")]
    UnknownOption,
    /// A quote that isn't JSON.
    #[error("a quoted value is a JSON string, and a space follows it")]
    Quote,
    /// Not text.
    #[error("it is not UTF-8")]
    Utf8,
}

/// What tells one entry from another: adding the same key again extends the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key<'a> {
    Jti(&'a str, Option<&'a str>),
    Sub(&'a str, Option<&'a str>),
    Token(&'a [u8; 32]),
}

impl Entry {
    /// The revocation of one token, given as it is; only its digest is kept.
    pub fn of_token(token: &str, until: Option<u64>) -> Self {
        Self { revoked: Revoked::Token { digest: token_digest(token.as_bytes()) }, until }
    }

    /// Reads `{"jti": ...}`, `{"sub": ..., "before": ...}`, `{"token": ...}` or `{"token_sha256": ...}`, with `issuer` and `until`. Unknown
    /// and repeated members are refused. Without `before`, every token issued up to and within the second of `now` is meant: a token
    /// has no finer date.
    pub fn from_json(json: &[u8], now: UnixSeconds) -> Result<Self, EntryFault> {
        let mut draft = Draft::default();
        for (name, value) in members(json)? {
            draft.member(&name, &value)?;
        }
        draft.finish(Some(now.as_secs().saturating_add(1)))
    }

    /// The same form, never with a token.
    pub fn to_json(&self) -> Value {
        let mut json = match &self.revoked {
            Revoked::Jti { jti, .. } => json!({ "jti": jti }),
            Revoked::Sub { sub, before, .. } => json!({ "sub": sub, "before": before }),
            Revoked::Token { digest } => json!({ "token_sha256": hex(digest) }),
        };
        if let Some(issuer) = self.issuer() {
            json["issuer"] = issuer.into();
        }
        if let Some(until) = self.until {
            json["until"] = until.into();
        }
        json
    }

    /// The issuer it is limited to.
    pub fn issuer(&self) -> Option<&str> {
        match &self.revoked {
            Revoked::Jti { issuer, .. } | Revoked::Sub { issuer, .. } => issuer.as_deref(),
            Revoked::Token { .. } => None,
        }
    }

    /// Whether another is about the same: adding the one extends the other, and taking it back takes back both.
    pub fn is_about_the_same(&self, other: &Self) -> bool {
        self.key() == other.key()
    }

    /// Unix time in seconds when it denies nothing any more, the longest leeway included.
    pub fn forgotten_at(&self) -> Option<u64> {
        self.until.map(|until| until.saturating_add(MOST_LEEWAY_SECS.into()))
    }

    pub(super) fn key(&self) -> Key<'_> {
        match &self.revoked {
            Revoked::Jti { jti, issuer } => Key::Jti(jti, issuer.as_deref()),
            Revoked::Sub { sub, issuer, .. } => Key::Sub(sub, issuer.as_deref()),
            Revoked::Token { digest } => Key::Token(digest),
        }
    }

    /// Whether the tokens concerned could still pass: they do for the issuer's leeway after their `exp`.
    pub(super) fn holds_at(&self, now: UnixSeconds) -> bool {
        self.forgotten_at().is_none_or(|moment| now < UnixSeconds::from_secs(moment))
    }

    /// One entry that denies what both of the same key deny: the later `before`, the later `until`.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let until = self.until.zip(other.until).map(|(one, other)| one.max(other));
        let mut revoked = self.revoked.clone();
        if let (Revoked::Sub { before, .. }, Revoked::Sub { before: later, .. }) = (&mut revoked, &other.revoked) {
            *before = (*before).max(*later);
        }
        Self { revoked, until }
    }
}

/// What was written so far.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) jti: Option<Box<str>>,
    pub(super) sub: Option<Box<str>>,
    pub(super) digest: Option<[u8; 32]>,
    pub(super) before: Option<u64>,
    pub(super) issuer: Option<Box<str>>,
    pub(super) until: Option<u64>,
}

impl Draft {
    fn member(&mut self, name: &str, value: &Value) -> Result<(), EntryFault> {
        match name {
            "jti" => self.jti = Some(text("jti", value)?),
            "sub" => self.sub = Some(text("sub", value)?),
            "issuer" => self.issuer = Some(text("issuer", value)?),
            "token" | "token_sha256" if self.digest.is_some() => return Err(EntryFault::NotOne),
            "token" => {
                let token = value.as_str().ok_or(EntryFault::Type("token"))?.trim();
                let token = Some(token).filter(|token| !token.is_empty()).ok_or(EntryFault::Type("token"))?;
                self.digest = Some(token_digest(token.as_bytes()));
            }
            "token_sha256" => {
                self.digest = Some(read_digest(value.as_str().ok_or(EntryFault::Type("token_sha256"))?)?);
            }
            "before" => self.before = Some(moment("before", value)?),
            "until" => self.until = Some(moment("until", value)?),
            _ => return Err(EntryFault::UnknownMember),
        }
        Ok(())
    }

    /// The entry, if it is one. `before` stands in for what a `sub` does not say.
    pub(super) fn finish(self, before: Option<u64>) -> Result<Entry, EntryFault> {
        let Self { jti, sub, digest, before: said, issuer, until } = self;
        if sub.is_none() && said.is_some() {
            return Err(EntryFault::Meaningless("before"));
        }
        if digest.is_some() && issuer.is_some() {
            return Err(EntryFault::Meaningless("issuer"));
        }
        let revoked = match (jti, sub, digest) {
            (Some(jti), None, None) => Revoked::Jti { jti: bounded("jti", jti)?, issuer },
            (None, Some(sub), None) => {
                let before = said.or(before).ok_or(EntryFault::NoBefore)?;
                Revoked::Sub { sub: bounded("sub", sub)?, before, issuer }
            }
            (None, None, Some(digest)) => Revoked::Token { digest },
            _ => return Err(EntryFault::NotOne),
        };
        Ok(Entry { revoked, until })
    }
}

fn bounded(name: &'static str, value: Box<str>) -> Result<Box<str>, EntryFault> {
    if (1..=LONGEST_VALUE).contains(&value.len()) { Ok(value) } else { Err(EntryFault::Length(name)) }
}

fn text(name: &'static str, value: &Value) -> Result<Box<str>, EntryFault> {
    bounded(name, value.as_str().ok_or(EntryFault::Type(name))?.into())
}

/// A fraction of a second counts as a whole one, so that what is denied is never less than what was said.
fn moment(name: &'static str, value: &Value) -> Result<u64, EntryFault> {
    let secs = match value {
        Value::String(text) => return read_moment(name, text),
        Value::Number(number) if number.is_f64() => UnixSeconds::from_json(&number.to_string()).map(UnixSeconds::ceil),
        Value::Number(number) => number.as_u64(),
        _ => return Err(EntryFault::Type(name)),
    };
    secs.filter(|secs| *secs <= LATEST).ok_or(EntryFault::Time(name))
}

/// A moment as text: digits are seconds since 1970, anything else is RFC 3339 in UTC.
pub(super) fn read_moment(name: &'static str, text: &str) -> Result<u64, EntryFault> {
    let secs = if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        let at = humantime::parse_rfc3339(text).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        at.map(|since| since.as_secs() + u64::from(since.subsec_nanos() > 0))
    };
    secs.filter(|secs| *secs <= LATEST).ok_or(EntryFault::Time(name))
}

pub(super) fn read_digest(text: &str) -> Result<[u8; 32], EntryFault> {
    let bytes = match text.len() {
        64 => (0..64).step_by(2).map(|at| text.get(at..at + 2).and_then(byte)).collect::<Option<Vec<u8>>>(),
        43 => URL_SAFE_NO_PAD.decode(text).ok(),
        _ => None,
    };
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(EntryFault::Digest)
}

/// Two hexadecimal digits; `from_str_radix` alone would take a sign.
fn byte(digits: &str) -> Option<u8> {
    u8::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// What revokes a token: the SHA-256 of what was signed, which is all before the last dot of a JWS, and of the whole of any other token.
/// A signature may have a twin that verifies as well: with ECDSA, whoever has (r, s) has (r, n - s).
pub(in crate::auth) fn token_digest(token: &[u8]) -> [u8; 32] {
    let mut dots = memchr::memchr_iter(b'.', token);
    match (dots.next(), dots.next(), dots.next()) {
        (Some(_), Some(last), None) => digest_of(&token[..last]),
        _ => digest_of(token),
    }
}

/// The SHA-256 of a token's bytes.
pub(in crate::auth) fn digest_of(token: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        fmt::Write::write_fmt(&mut text, format_args!("{byte:02x}")).expect("a String takes every write");
        text
    })
}

/// The members of one object and nothing else; a repeated name is refused, because two readers could choose differently.
pub(super) fn members(json: &[u8]) -> Result<Vec<(String, Value)>, EntryFault> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = reader.deserialize_map(Members).map_err(|_| EntryFault::Json)?;
    reader.end().map_err(|_| EntryFault::Json)?;
    Ok(found)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        const MOST: usize = 16;
        let mut members: Self::Value = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Value>()? {
            if members.len() == MOST || members.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom("too many members, or one twice"));
            }
            members.push((name, value));
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn read(json: &str) -> Result<Entry, EntryFault> {
        Entry::from_json(json.as_bytes(), UnixSeconds::from_secs(NOW))
    }

    #[test]
    fn an_entry_is_read_back_as_it_was_shown() {
        for json in [
            r#"{"jti":"a b","issuer":"corp","until":1900000000}"#,
            r#"{"sub":"\u0007\n\"é","before":1700000000}"#,
            r#"{"token":"a.b.c","until":5}"#,
        ] {
            let entry = read(json).unwrap();
            assert_eq!(read(&entry.to_json().to_string()).unwrap(), entry);
        }
    }

    #[test]
    fn a_token_is_kept_as_its_digest_alone() {
        let entry = read(r#"{"token":" a.b.c\n"}"#).unwrap();
        assert_eq!(entry, Entry::of_token("a.b.c", None));
        let shown = entry.to_json().to_string();
        let digest = shown.split('"').nth(3).unwrap();
        assert_eq!(read(&format!(r#"{{"token_sha256":"{digest}"}}"#)).unwrap(), entry);
        let Revoked::Token { digest } = entry.revoked else { panic!("a digest") };
        assert_eq!(read_digest(&URL_SAFE_NO_PAD.encode(digest)).unwrap(), digest);
    }

    #[test]
    fn without_before_the_whole_present_second_is_meant() {
        let Revoked::Sub { before, .. } = read(r#"{"sub":"alice"}"#).unwrap().revoked else { panic!("a sub") };
        assert_eq!(before, NOW + 1);
    }

    #[test]
    fn times_are_seconds_or_rfc_3339_and_fractions_round_up() {
        let until = |value: &str| read(&format!(r#"{{"jti":"a","until":{value}}}"#)).map(|entry| entry.until.unwrap());
        assert_eq!(until("1.5"), Ok(2));
        assert_eq!(until("\"1970-01-01T00:01:00Z\""), Ok(60));
        assert_eq!(until("\"1970-01-01T00:01:00.25Z\""), Ok(61));
        assert_eq!(until("\"60\""), Ok(60));
        for wrong in ["-1", "1900000000000", "\"\"", "\"yesterday\"", "1e300"] {
            assert_eq!(until(wrong), Err(EntryFault::Time("until")), "{wrong}");
        }
        assert_eq!(until("null"), Err(EntryFault::Type("until")));
    }

    #[test]
    fn what_is_not_exactly_one_revocation_is_refused() {
        for (json, fault) in [
            ("", EntryFault::Json),
            ("[]", EntryFault::Json),
            (r#"{"jti":"a"} x"#, EntryFault::Json),
            (r#"{"jti":"a","jti":"b"}"#, EntryFault::Json),
            ("{}", EntryFault::NotOne),
            (r#"{"jti":"a","sub":"b"}"#, EntryFault::NotOne),
            (r#"{"token":"a","token_sha256":"b"}"#, EntryFault::NotOne),
            (r#"{"jti":"a","til":5}"#, EntryFault::UnknownMember),
            (r#"{"jti":7}"#, EntryFault::Type("jti")),
            (r#"{"jti":""}"#, EntryFault::Length("jti")),
            (r#"{"token":" "}"#, EntryFault::Type("token")),
            (r#"{"jti":"a","before":5}"#, EntryFault::Meaningless("before")),
            (r#"{"token":"a","issuer":"b"}"#, EntryFault::Meaningless("issuer")),
            (r#"{"token_sha256":"+f"}"#, EntryFault::Digest),
        ] {
            assert_eq!(read(json), Err(fault), "{json}");
        }
        let long = "x".repeat(LONGEST_VALUE + 1);
        assert_eq!(read(&format!(r#"{{"sub":"{long}"}}"#)), Err(EntryFault::Length("sub")));
        assert_eq!(read_digest(&"+f".repeat(32)), Err(EntryFault::Digest));
        assert_eq!(read_digest(&format!("{}é", "a".repeat(62))), Err(EntryFault::Digest));
    }

    #[test]
    fn a_revocation_outlives_its_token_by_the_longest_leeway() {
        let entry = read(r#"{"jti":"a","until":100}"#).unwrap();
        assert!(entry.holds_at(UnixSeconds::from_secs(99 + u64::from(MOST_LEEWAY_SECS))));
        assert!(!entry.holds_at(UnixSeconds::from_secs(100 + u64::from(MOST_LEEWAY_SECS))));
    }

    #[test]
    fn the_digest_of_a_signed_token_is_of_what_was_signed() {
        assert_eq!(token_digest(b"a.b.c"), token_digest(b"a.b.d"), "a signature may have a twin");
        assert_ne!(token_digest(b"a.b.c"), token_digest(b"a.c.c"));
        assert_ne!(token_digest(b"opaque.1"), token_digest(b"opaque.2"), "no signed token has two parts");
        assert_eq!(token_digest(b"a.b.c"), digest_of(b"a.b"));
        assert_eq!(Entry::of_token("a.b.c", None), Entry::of_token("a.b.d", None));
    }
}
