//! The published attacks on JWT verifiers, each with the reason it must be refused for.
//!
//! Sources: RFC 8725 sections 2 and 3, and the advisories known as algorithm confusion, psychic signatures, embedded key, `kid` injection,
//! critical-header bypass and parser differentials.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use serde_json::json;

use super::fixtures::{self, NOW};
use super::*;

/// Judges a token three ways (no cache, empty cache, warm cache) and by its trace; all must agree.
fn reason(policy: &Policy, token: &str) -> &'static str {
    let now = UnixSeconds::from_secs(NOW);
    let request = fixtures::Request::bearing(token);
    let judge = |authority: &Authority| match fixtures::judge(authority, policy, &request.asking()) {
        Ok(_) => "passed",
        Err(denied) => denied.reason(),
    };
    let remembering = fixtures::authority(16);
    let verdict = judge(&fixtures::authority(0));
    assert_eq!([judge(&remembering), judge(&remembering)], [verdict; 2], "the cache must not change the verdict");
    let steps = explain_token(policy, &Method::GET, "/", token, now);
    if let Some(wrong) = steps.iter().find(|step| !step.ok) {
        let told = wrong.detail.split(':').next().unwrap();
        assert!(told == verdict || verdict == "malformed_header", "{told} told, {verdict} meant");
    } else {
        assert!(verdict == "passed" || verdict == "malformed_header", "{verdict}");
    }
    verdict
}

fn corp_settings() -> IssuerSettings {
    let keys = json!({"keys": [fixtures::rsa().jwk("rsa-1"), fixtures::ec256().jwk("ec-1")]});
    IssuerSettings {
        keys: vec![KeySource::Jwks { bytes: keys.to_string().into_bytes(), label: "keys.json".into() }.into()],
        issuer: Some("https://id.example.com/".into()),
        audiences: vec!["orders".into()],
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256],
        ..IssuerSettings::named("corp")
    }
}

fn policy_of(settings: IssuerSettings) -> Policy {
    fixtures::policy(Arc::new(Issuer::compile(settings).unwrap().0), vec![])
}

fn corp() -> Policy {
    policy_of(corp_settings())
}

fn django() -> Policy {
    fixtures::policy(fixtures::django(), vec![])
}

fn good_claims() -> String {
    format!(r#"{{"iss":"https://id.example.com/","aud":"orders","sub":"ann","exp":{}}}"#, NOW + 300)
}

fn signed(header: &str) -> String {
    fixtures::ec256().sign(Algorithm::Es256, header, &good_claims())
}

fn claiming(claims: &str) -> String {
    fixtures::ec256().sign(Algorithm::Es256, r#"{"alg":"ES256","kid":"ec-1"}"#, claims)
}

/// Good claims with members replaced or added; a member set to `null` in `changes` is removed.
fn changed(changes: &serde_json::Value) -> String {
    let mut claims: serde_json::Value = serde_json::from_str(&good_claims()).unwrap();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claiming(&claims.to_string())
}

fn part(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

#[test]
fn the_honest_tokens_pass() {
    assert_eq!(reason(&corp(), &signed(r#"{"alg":"ES256","kid":"ec-1"}"#)), "passed");
    assert_eq!(reason(&corp(), &signed(r#"{"alg":"ES256"}"#)), "passed");
    let rsa = fixtures::rsa().sign(Algorithm::Rs256, r#"{"alg":"RS256","kid":"rsa-1"}"#, &good_claims());
    assert_eq!(reason(&corp(), &rsa), "passed");
    assert_eq!(reason(&django(), &fixtures::django_token(r#""user_id":"7""#)), "passed");
}

#[test]
fn none_in_every_spelling_and_wrong_case_name_no_algorithm() {
    for alg in
        ["none", "None", "NONE", "nOnE", "none ", "", "es256", "Es256", "ES256\\u0000", "ES512", "RS384", "HS256"]
    {
        for signature in ["", "AA"] {
            let token = format!("{}.{}.{signature}", part(&format!(r#"{{"alg":"{alg}"}}"#)), part(&good_claims()));
            assert_eq!(reason(&corp(), &token), "algorithm_not_allowed", "{alg}");
        }
    }
    let lower = fixtures::secret().sign(Algorithm::Hs256, r#"{"alg":"hs256"}"#, "{}");
    assert_eq!(reason(&django(), &lower), "algorithm_not_allowed");
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    for secret in
        [fixtures::rsa().spki_pem().into_bytes(), fixtures::rsa().spki(), fixtures::rsa().pkcs1_pem().into_bytes()]
    {
        let message = format!("{}.{}", part(r#"{"alg":"HS256","kid":"rsa-1"}"#), part(&good_claims()));
        let key = jsonwebtoken::EncodingKey::from_secret(&secret);
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256).unwrap();
        assert_eq!(reason(&corp(), &format!("{message}.{signature}")), "algorithm_not_allowed");
    }
}

#[test]
fn an_algorithm_of_another_family_than_the_named_key_finds_no_key() {
    let swapped = fixtures::ec256().sign(Algorithm::Es256, r#"{"alg":"ES256","kid":"rsa-1"}"#, &good_claims());
    assert_eq!(reason(&corp(), &swapped), "unknown_key");
    let mislabelled = fixtures::ec256().sign(Algorithm::Es256, r#"{"alg":"RS256","kid":"rsa-1"}"#, &good_claims());
    assert_eq!(reason(&corp(), &mislabelled), "bad_signature");
}

#[test]
fn psychic_malleable_and_der_signatures_fail() {
    let message = format!("{}.{}", part(r#"{"alg":"ES256","kid":"ec-1"}"#), part(&good_claims()));
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
        0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];
    let one = [&[0; 31][..], &[1]].concat();
    let good = signed(r#"{"alg":"ES256","kid":"ec-1"}"#);
    let raw = URL_SAFE_NO_PAD.decode(good.rsplit('.').next().unwrap()).unwrap();
    for signature in [
        vec![0; 64],
        [&[0; 32][..], &one].concat(),
        [&one[..], &[0; 32]].concat(),
        [&order[..], &order].concat(),
        vec![0xff; 64],
        vec![],
        raw[..63].to_vec(),
        [&raw[..], &[0]].concat(),
        der(&raw),
    ] {
        assert_eq!(
            reason(&corp(), &format!("{message}.{}", URL_SAFE_NO_PAD.encode(&signature))),
            "bad_signature",
            "{signature:?}"
        );
    }
}

/// The ASN.1 form of a raw ECDSA signature.
fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let mut body = number.to_vec();
        if body[0] & 0x80 != 0 {
            body.insert(0, 0);
        }
        [&[2, u8::try_from(body.len()).unwrap()][..], &body].concat()
    };
    let body = [integer(&raw[..32]), integer(&raw[32..])].concat();
    [&[0x30, u8::try_from(body.len()).unwrap()][..], &body].concat()
}

#[test]
fn a_key_the_token_brings_or_points_to_is_not_used() {
    let attacker = fixtures::ec384();
    let jwk = fixtures::ed().jwk("mine");
    let mine = |header: &str| {
        let message = format!("{}.{}", part(header), part(&good_claims()));
        let other = fixtures::ed();
        let by_other = other.sign(Algorithm::EdDsa, header, &good_claims());
        assert!(by_other.starts_with(&message));
        by_other
    };
    for header in [
        json!({"alg": "ES256", "jwk": jwk}),
        json!({"alg": "ES256", "jwk": attacker.jwk("mine"), "kid": "ec-1"}),
        json!({"alg": "ES256", "jku": "https://evil.example/keys.json"}),
        json!({"alg": "ES256", "x5u": "https://evil.example/cert.pem"}),
        json!({"alg": "ES256", "x5c": ["MIIB"]}),
    ] {
        assert_eq!(reason(&corp(), &mine(&header.to_string())), "bad_signature", "{header}");
        assert_eq!(reason(&corp(), &signed(&header.to_string())), "passed", "ignored, not refused: {header}");
    }
}

#[test]
fn a_kid_is_only_looked_up() {
    for kid in
        ["../../../../dev/null", "' OR 1=1 --", "ec-1\\u0000", "EC-1", "", "https://evil.example/", "ec-1 ", "|/bin/id"]
    {
        assert_eq!(reason(&corp(), &signed(&format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#))), "unknown_key", "{kid}");
    }
    let long = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(257));
    assert_eq!(reason(&corp(), &signed(&long)), "malformed_token");
    assert_eq!(reason(&corp(), &signed(r#"{"alg":"ES256","kid":["ec-1"]}"#)), "malformed_token");
}

#[test]
fn no_extension_is_understood() {
    for crit in [r#"["b64"]"#, r#"["x-unknown"]"#, "[]", r#"["alg"]"#, r#"["exp"]"#, "null", "\"b64\""] {
        let header = format!(r#"{{"alg":"ES256","crit":{crit}}}"#);
        assert_eq!(reason(&corp(), &signed(&header)), "unsupported_header", "{crit}");
    }
    for member in [r#""b64":false"#, r#""b64":"false""#, r#""b64":null"#, r#""zip":"DEF""#] {
        let header = format!(r#"{{"alg":"ES256",{member}}}"#);
        assert_eq!(reason(&corp(), &signed(&header)), "unsupported_header", "{member}");
    }
    assert_eq!(reason(&corp(), &signed(r#"{"alg":"ES256","b64":true}"#)), "passed");
}

#[test]
fn duplicate_members_are_refused_wherever_they_stand() {
    for header in [
        r#"{"alg":"none","alg":"ES256"}"#,
        r#"{"alg":"ES256","alg":"ES256"}"#,
        r#"{"alg":"ES256","\u0061lg":"none"}"#,
        r#"{"alg":"ES256","kid":"ec-1","kid":"x"}"#,
        r#"{"alg":"ES256","x":{"a":1,"a":1}}"#,
    ] {
        assert_eq!(reason(&corp(), &signed(header)), "malformed_token", "{header}");
    }
    for member in [r#""sub":"admin""#, r#""\u0073ub":"admin""#, r#""x":[{"a":1,"a":2}]"#] {
        let claims = good_claims().replacen('{', &format!("{{{member},"), 1);
        assert_eq!(reason(&corp(), &claiming(&claims)), "malformed_token", "{member}");
    }
}

#[test]
fn base64url_has_one_spelling() {
    let token = signed(r#"{"alg":"ES256","kid":"ec-1"}"#);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let last = signature.chars().last().unwrap();
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = alphabet.find(last).unwrap();
    let twin = &alphabet[bits ^ 1..][..1];
    let body = &signature[..signature.len() - 1];
    assert_eq!(reason(&corp(), &format!("{head}.{body}{twin}")), "malformed_token", "stray trailing bits");
    assert_eq!(reason(&corp(), &format!("{token}==")), "malformed_token", "padding");
    assert_eq!(reason(&corp(), &format!("{head}.+{signature}")), "malformed_token", "other alphabet");
    for (from, to) in [(".", ". "), (".", " ."), (".", "=.")] {
        assert_eq!(reason(&corp(), &token.replacen(from, to, 1)), "malformed_header", "{to:?}");
    }
}

#[test]
fn there_are_three_parts() {
    let token = signed(r#"{"alg":"ES256"}"#);
    let (two, _) = token.rsplit_once('.').unwrap();
    for odd in [
        two.to_owned(),
        format!("{token}."),
        format!("{token}.AA"),
        format!(".{token}"),
        format!("{two}..AA"),
        "x".to_owned(),
    ] {
        assert_eq!(reason(&corp(), &odd), "malformed_token", "{odd}");
    }
    assert_eq!(reason(&corp(), &format!("{two}.")), "bad_signature", "an empty signature is one that fails");
}

#[test]
fn a_date_is_a_number_in_range() {
    for value in ["\"1900000000\"", "null", "true", "[]", "{}", "-1", "-1e300", "1e18", "99999999999999999999999"] {
        for name in ["exp", "nbf", "iat"] {
            let claims = format!(r#"{{"iss":"https://id.example.com/","aud":"orders","exp":{},"x":1}}"#, NOW + 300);
            let claims = match name {
                "exp" => claims.replace(&(NOW + 300).to_string(), value),
                _ => claims.replace("\"x\":1", &format!("\"{name}\":{value}")),
            };
            assert_eq!(reason(&corp(), &claiming(&claims)), "malformed_claim", "{name}: {value}");
        }
    }
    for value in ["NaN", "Infinity", "1e999", "0x10", "+1", "01"] {
        let claims = good_claims().replace(&(NOW + 300).to_string(), value);
        assert_eq!(reason(&corp(), &claiming(&claims)), "malformed_token", "{value}");
    }
    let fraction = good_claims().replace(&(NOW + 300).to_string(), &format!("{NOW}.25"));
    assert_eq!(reason(&corp(), &claiming(&fraction)), "passed");
    assert_eq!(reason(&corp(), &changed(&json!({"exp": NOW}))), "expired");
    assert_eq!(reason(&corp(), &changed(&json!({"exp": 0}))), "expired");
    assert_eq!(reason(&corp(), &changed(&json!({"nbf": NOW + 1}))), "not_yet_valid");
    assert_eq!(reason(&corp(), &changed(&json!({"iat": NOW + 100_000}))), "not_yet_valid");
    assert_eq!(reason(&corp(), &changed(&json!({"exp": null}))), "missing_claim");
}

#[test]
fn depth_and_size_are_bounded() {
    let deep = good_claims().replacen('{', &format!("{{\"x\":{}{},", "[".repeat(2000), "]".repeat(2000)), 1);
    assert_eq!(reason(&corp(), &claiming(&deep)), "malformed_token");
    let header = format!(r#"{{"alg":"ES256","x":{}{}}}"#, "{\"a\":".repeat(200), "1".to_owned() + &"}".repeat(200));
    assert_eq!(reason(&corp(), &signed(&header)), "malformed_token");
    let large = good_claims().replacen('{', &format!("{{\"x\":\"{}\",", "x".repeat(48 * 1024)), 1);
    assert!(claiming(&large).len() > 64 * 1024);
    assert_eq!(reason(&corp(), &claiming(&large)), "oversized_token");
}

#[test]
fn issuer_and_audience_must_be_there_and_right() {
    for (changes, expected) in [
        (json!({"aud": null}), "missing_claim"),
        (json!({"iss": null}), "missing_claim"),
        (json!({"aud": {"orders": true}}), "wrong_audience"),
        (json!({"aud": []}), "wrong_audience"),
        (json!({"aud": "Orders"}), "wrong_audience"),
        (json!({"aud": "orders-admin"}), "wrong_audience"),
        (json!({"aud": ["orders", 7]}), "wrong_audience"),
        (json!({"iss": ["https://id.example.com/"]}), "wrong_issuer"),
        (json!({"iss": "https://id.example.com"}), "wrong_issuer"),
        (json!({"iss": "https://ID.example.com/"}), "wrong_issuer"),
        (json!({"aud": ["x", "orders"]}), "passed"),
    ] {
        assert_eq!(reason(&corp(), &changed(&changes)), expected, "{changes}");
    }
}

#[test]
fn claims_must_be_an_object() {
    for claims in ["", "null", "[]", "\"x\"", "1", "{} {}", "{\"a\":1", "\u{feff}{}"] {
        assert_eq!(reason(&corp(), &claiming(claims)), "malformed_token", "{claims:?}");
    }
}

#[test]
fn a_refresh_token_and_an_id_token_are_no_access_tokens() {
    let of_type = |token_type: &str| {
        fixtures::secret().sign(
            Algorithm::Hs256,
            r#"{"alg":"HS256","typ":"JWT"}"#,
            &format!(r#"{{{token_type}"exp":{},"jti":"a","user_id":1}}"#, NOW + 9),
        )
    };
    assert_eq!(reason(&django(), &of_type(r#""token_type":"access","#)), "passed");
    assert_eq!(reason(&django(), &of_type(r#""token_type":"refresh","#)), "wrong_token_type");
    assert_eq!(reason(&django(), &of_type(r#""token_type":["access"],"#)), "wrong_token_type");
    assert_eq!(reason(&django(), &of_type("")), "missing_claim");
    let by_typ = policy_of(IssuerSettings { typ: vec!["at+jwt".into()], ..corp_settings() });
    assert_eq!(reason(&by_typ, &signed(r#"{"alg":"ES256","typ":"JWT"}"#)), "wrong_token_type");
    assert_eq!(reason(&by_typ, &signed(r#"{"alg":"ES256"}"#)), "wrong_token_type");
    assert_eq!(reason(&by_typ, &signed(r#"{"alg":"ES256","typ":"application/AT+JWT"}"#)), "passed");
}

#[test]
fn simplejwt_tokens_lacking_id_or_user_are_refused() {
    let with = |members: &str| {
        let claims = format!(r#"{{"token_type":"access","exp":{}{members}}}"#, NOW + 9);
        fixtures::secret().sign(Algorithm::Hs256, r#"{"alg":"HS256","typ":"JWT"}"#, &claims)
    };
    assert_eq!(reason(&django(), &with(r#","user_id":1"#)), "missing_claim");
    assert_eq!(reason(&django(), &with(r#","jti":"a""#)), "missing_claim");
    assert_eq!(reason(&django(), &with(r#","jti":"a","user_id":null"#)), "claim_refused");
}

#[test]
fn one_issuers_key_verifies_nothing_for_another_even_under_one_kid() {
    let set = |pair: &fixtures::Pair| KeySource::Jwks {
        bytes: json!({"keys": [pair.jwk("shared")]}).to_string().into_bytes(),
        label: "set".into(),
    };
    let ours =
        policy_of(IssuerSettings { keys: vec![set(fixtures::ec256()).into()], algorithms: vec![], ..corp_settings() });
    let theirs =
        policy_of(IssuerSettings { keys: vec![set(fixtures::ec384()).into()], algorithms: vec![], ..corp_settings() });
    let token = signed(r#"{"alg":"ES256","kid":"shared"}"#);
    assert_eq!(reason(&ours, &token), "passed");
    assert_eq!(reason(&theirs, &token), "algorithm_not_allowed");

    let other_secret = policy_of(IssuerSettings {
        keys: vec![KeySource::Secret(Secret::new([1; 64])).into()],
        ..IssuerSettings::named("other")
    });
    assert_eq!(reason(&other_secret, &fixtures::django_token(r#""user_id":1"#)), "bad_signature");
}
