//! What is right and wrong with a published key set, in words for whoever publishes it.
//!
//! Owns the findings about a body; judges its members as a fetch does ([`jwks::judge`]), so that what it says is what happens.
//! Knows neither how the body came nor how the findings are shown. RFC 7517 sections 4 and 5, RFC 8725 section 3.

use serde_json::Value;

use super::super::jwks::{self, Member, Origin, Unused};
use super::super::settings::Family;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be.
    Good,
    /// It works, and could fail later.
    Warn,
    /// It fails, or is dangerous.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What was looked at, in a word.
    pub subject: &'static str,
    /// What was found. Text of the set is escaped in it.
    pub message: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: String,
}

impl Finding {
    /// As it should be.
    pub fn good(subject: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Good, subject, message: message.into(), advice: String::new() }
    }

    /// It works, and could fail later.
    pub fn warn(subject: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Warn, subject, message: message.into(), advice: advice.into() }
    }

    /// It fails, or is dangerous.
    pub fn bad(subject: &'static str, message: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { severity: Severity::Bad, subject, message: message.into(), advice: advice.into() }
    }
}

/// Examines the body of a key set as this gateway would read it from a URL.
pub fn check_key_set(body: &[u8]) -> Vec<Finding> {
    let entries = match jwks::entries(body) {
        Ok(entries) => entries,
        Err(bad) => return vec![Finding::bad("set", bad.message, advice_for_no_set(body, &bad.hint))],
    };
    let mut findings = Vec::new();
    let mut used = Vec::new();
    for (position, entry) in entries.iter().enumerate() {
        let name = jwks::name_of(position, entry);
        match jwks::judge(entry, Origin::Url) {
            Ok(member) => {
                findings.extend(check_labels(&name, entry, &member));
                used.push((name, member));
            }
            Err(unused) => findings.push(check_unused(&name, entry, unused)),
        }
    }
    findings.extend(check_kids(&used));
    findings.extend(check_families(&used));
    findings.push(check_overlap(used.len()));
    findings.insert(0, count(used.len(), entries.len()));
    findings
}

/// Metadata in place of the set is the usual mistake.
fn advice_for_no_set(body: &[u8], hint: &str) -> String {
    let metadata: Option<Value> = serde_json::from_slice(body).ok();
    match metadata.as_ref().and_then(|metadata| metadata.get("jwks_uri")?.as_str()) {
        Some(url) => format!("this is metadata; its key set is at {}", url.escape_debug()),
        None => hint.to_owned(),
    }
}

fn count(used: usize, all: usize) -> Finding {
    let message = format!("{used} of {all} can be used here");
    match used {
        0 => Finding::bad("keys", message, "publish a signing key of type RSA, EC (P-256, P-384) or OKP (Ed25519)"),
        _ => Finding::good("keys", message),
    }
}

fn check_unused(name: &str, entry: &Value, unused: Unused) -> Finding {
    // Looked at first: an encryption key that leaked is passed over by a fetch, and is a leak all the same.
    if is_exposed(entry) {
        let message = format!("{name} is published with its private or secret part");
        return Finding::bad("exposed", message, "take it out, make a new key, and treat this one as leaked");
    }
    match unused {
        Unused::ForOthers(reason)
            if entry.get("use").and_then(Value::as_str).is_some_and(|purpose| purpose != "sig") =>
        {
            Finding::good("unused", format!("{name} is passed over: {reason}"))
        }
        Unused::ForOthers(reason) => {
            let advice = "tokens signed with it are refused here: sign with a key of a supported algorithm";
            Finding::warn("unused", format!("{name} is passed over: {reason}"), advice)
        }
        Unused::Bad(bad) => Finding::bad("unused", format!("{name} is refused: {}", bad.message), bad.hint),
    }
}

fn is_exposed(entry: &Value) -> bool {
    let has = |names: &[&str]| names.iter().any(|name| entry.get(name).is_some());
    match entry.get("kty").and_then(Value::as_str) {
        Some("oct") => has(&["k"]),
        _ => has(&["d", "p", "q", "dp", "dq", "qi", "oth", "priv"]),
    }
}

/// What a usable key should say of itself.
fn check_labels(name: &str, entry: &Value, member: &Member) -> Vec<Finding> {
    let mut findings = Vec::new();
    if is_exposed(entry) {
        let advice = "take it out, make a new key, and treat this one as leaked";
        findings.push(Finding::bad("exposed", format!("{name} is published with private parts"), advice));
    }
    if member.kid.is_none() {
        let advice = "give every key a `kid`, and write it into the header of tokens";
        findings.push(Finding::warn("kid", format!("{name} has none, so tokens cannot name it"), advice));
    }
    if member.alg.is_none() {
        let usual = member.material.usual_algorithm();
        let advice = format!("set it; without, {usual} is assumed where the gateway's `algorithms` say nothing");
        findings.push(Finding::warn("alg", format!("{name} does not say for which algorithm it is"), advice));
    }
    if entry.get("use").is_none() && entry.get("key_ops").is_none() {
        let advice = "set `use` to `sig`, so that nobody encrypts with it";
        findings.push(Finding::warn("use", format!("{name} does not say what it is for"), advice));
    }
    findings
}

/// A `kid` may be in use once for each type of key (RFC 7517 section 4.5).
fn check_kids(used: &[(String, Member)]) -> Vec<Finding> {
    let again = |at: usize| {
        let (name, member) = &used[at];
        let same = |(_, other): &&(String, Member)| {
            other.kid.is_some() && other.kid == member.kid && other.material.family() == member.material.family()
        };
        used[..at].iter().find(same).map(|_| {
            let message = format!("{name} is there twice, and only the first is used");
            Finding::bad("kid", message, "give every key of one type a `kid` of its own")
        })
    };
    (0..used.len()).filter_map(again).collect()
}

fn check_families(used: &[(String, Member)]) -> Option<Finding> {
    let first = used.first()?.1.material.family();
    let mixed = used.iter().any(|(_, member)| member.material.family() != first);
    let kinds = |family| match family {
        Family::Hmac => "secret",
        Family::Rsa => "RSA",
        Family::Ec => "EC",
        Family::Ed => "Ed25519",
    };
    let mut names: Vec<_> = used.iter().map(|(_, member)| kinds(member.material.family())).collect();
    names.sort_unstable();
    names.dedup();
    let message = names.join(" and ");
    let advice = "name the algorithms that tokens really use in the gateway's `algorithms`";
    Some(if mixed { Finding::warn("types", message, advice) } else { Finding::good("types", message) })
}

fn check_overlap(used: usize) -> Finding {
    match used {
        0 | 1 => Finding::warn(
            "overlap",
            "there are not two signing keys, so the next rotation has no overlap",
            "publish the next key some time before it signs, and keep the old one until its last token has expired",
        ),
        _ => Finding::good("overlap", format!("{used} signing keys")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::super::fixtures;
    use super::*;

    fn labelled(mut key: Value, alg: &str) -> Value {
        key["alg"] = json!(alg);
        key["use"] = json!("sig");
        key
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn without(mut key: Value, name: &str) -> Value {
        key.as_object_mut().unwrap().remove(name);
        key
    }

    /// The subjects that are worse than good, with how bad they are.
    fn wrong(keys: &[Value]) -> Vec<(&'static str, Severity)> {
        let findings = check_key_set(json!({ "keys": keys }).to_string().as_bytes());
        let worse = findings.iter().filter(|finding| finding.severity != Severity::Good);
        worse.clone().for_each(|finding| assert!(!finding.advice.is_empty(), "{finding:?}"));
        worse.map(|finding| (finding.subject, finding.severity)).collect()
    }

    #[test]
    fn each_fault_is_found_and_nothing_else() {
        use Severity::{Bad, Warn};
        let (a, b) = (labelled(fixtures::ec256().jwk("a"), "ES256"), labelled(fixtures::ec384().jwk("b"), "ES384"));
        let rsa = labelled(fixtures::rsa().jwk("r"), "RS256");
        let oct = json!({"kty": "oct", "kid": "s", "k": "AAAA"});
        assert_eq!(wrong(&[a.clone(), b.clone()]), []);
        for (third, fault) in [
            (without(with(b.clone(), "x", a["x"].clone()), "kid"), ("unused", Bad)),
            (without(b.clone(), "kid"), ("kid", Warn)),
            (b.clone(), ("kid", Bad)),
            (with(without(b.clone(), "alg"), "kid", json!("c")), ("alg", Warn)),
            (with(without(b.clone(), "use"), "kid", json!("c")), ("use", Warn)),
            (with(with(b.clone(), "kid", json!("c")), "p", json!("AAAA")), ("exposed", Bad)),
            (with(b.clone(), "d", json!("AAAA")), ("exposed", Bad)),
            (with(with(b.clone(), "d", json!("AAAA")), "use", json!("enc")), ("exposed", Bad)),
            (with(oct.clone(), "use", json!("enc")), ("exposed", Bad)),
            (oct, ("exposed", Bad)),
            (with(rsa.clone(), "n", json!("AQAB")), ("unused", Bad)),
            (with(b.clone(), "alg", json!("ES512")), ("unused", Warn)),
            (rsa, ("types", Warn)),
        ] {
            assert_eq!(wrong(&[a.clone(), b.clone(), third.clone()]), [fault], "{third}");
        }
        assert_eq!(wrong(&[a.clone(), b.clone(), with(b.clone(), "use", json!("enc"))]), []);
        assert_eq!(wrong(&[a]), [("overlap", Warn)]);
        assert_eq!(wrong(&[]), [("keys", Bad), ("overlap", Warn)]);
    }

    #[test]
    fn metadata_in_place_of_the_set_is_recognised() {
        let findings = check_key_set(br#"{"jwks_uri":"https://a.test/keys"}"#);
        assert_eq!((findings.len(), findings[0].severity), (1, Severity::Bad));
        assert!(findings[0].advice.contains("https://a.test/keys"));
        assert_eq!(check_key_set(b"<html>")[0].severity, Severity::Bad);
    }
}
