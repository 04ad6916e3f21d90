//! Each rule of RFC 9449 section 4.3, broken once.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fixtures::{self, NOW, Pair};
use super::super::{Algorithm, JwkFault, UnixSeconds};
use super::*;

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.e30.c2lnbmF0dXJl";
const ASYMMETRIC: [Algorithm; 4] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::Es384, Algorithm::EdDsa];

fn expected() -> Expectation<'static> {
    Expectation {
        method: "POST",
        scheme: "https",
        authority: "api.example.com",
        path: "/orders/7",
        access_token: TOKEN,
        now: UnixSeconds::from_secs(NOW),
        window_secs: 60,
        algorithms: &ASYMMETRIC,
    }
}

fn ath(token: &str) -> String {
    URL_SAFE_NO_PAD.encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes()))
}

fn claims() -> Value {
    json!({"jti": "7f3c", "htm": "POST", "htu": "https://api.example.com/orders/7", "iat": NOW, "ath": ath(TOKEN)})
}

fn jwk(pair: &Pair) -> Value {
    let mut jwk = pair.jwk("k");
    jwk.as_object_mut().unwrap().remove("kid");
    jwk
}

fn header(algorithm: Algorithm, pair: &Pair) -> Value {
    json!({"typ": "dpop+jwt", "alg": algorithm.name(), "jwk": jwk(pair)})
}

fn es256(header: &Value, claims: &Value) -> String {
    fixtures::ec256().sign(Algorithm::Es256, &header.to_string(), &claims.to_string())
}

fn ec_header() -> Value {
    header(Algorithm::Es256, fixtures::ec256())
}

/// A member replaced, or removed by `null`.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => object.as_object_mut().unwrap().remove(name),
        value => object.as_object_mut().unwrap().insert(name.to_owned(), value),
    };
    object
}

fn judged(header: &Value, claims: &Value) -> Result<Proof, ProofFault> {
    check_proof(&es256(header, claims), &expected())
}

#[test]
fn a_proof_of_every_algorithm_tells_its_key() {
    for (pair, algorithm) in [
        (fixtures::rsa(), Algorithm::Rs256),
        (fixtures::ec256(), Algorithm::Es256),
        (fixtures::ec384(), Algorithm::Es384),
        (fixtures::ed(), Algorithm::EdDsa),
    ] {
        let proof = pair.sign(algorithm, &header(algorithm, pair).to_string(), &claims().to_string());
        let proof = check_proof(&proof, &expected()).unwrap();
        let own = super::super::jwk::parse_public(&jwk(pair)).unwrap();
        assert_eq!(proof.thumbprint, own.thumbprint, "{algorithm}");
        assert_eq!((proof.issued_at, proof.nonce), (UnixSeconds::from_secs(NOW), None));
    }
}

#[test]
fn the_examples_of_the_specification_hold() {
    // RFC 9449 section 7.1, and the confirmation of its key in section 6.1.
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFV\
        ZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUV\
        CIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8y\
        cjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxh\
        AJpLjA";
    let expected = Expectation {
        method: "GET",
        scheme: "https",
        authority: "resource.example.org",
        path: "/protectedresource",
        access_token: "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        now: UnixSeconds::from_secs(1_562_262_618),
        ..expected()
    };
    let proof = check_proof(proof, &expected).unwrap();
    assert_eq!(URL_SAFE_NO_PAD.encode(proof.thumbprint), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
}

#[test]
fn the_header_is_of_a_proof_with_an_asymmetric_algorithm_that_is_listed() {
    for (name, value, fault) in [
        ("typ", Value::Null, ProofFault::WrongType),
        ("typ", json!("JWT"), ProofFault::WrongType),
        ("typ", json!("at+jwt"), ProofFault::WrongType),
        ("alg", json!("none"), ProofFault::AlgorithmNotAllowed),
        ("alg", json!("es256"), ProofFault::AlgorithmNotAllowed),
        ("alg", json!("PS256"), ProofFault::AlgorithmNotAllowed),
        ("jwk", Value::Null, ProofFault::NoKey),
        ("jwk", json!("k"), ProofFault::UnusableKey(JwkFault::Unusable)),
        ("jwk", with(jwk(fixtures::ec256()), "d", json!("AA")), ProofFault::UnusableKey(JwkFault::Private)),
        ("jwk", with(jwk(fixtures::ec256()), "alg", json!("ES384")), ProofFault::UnusableKey(JwkFault::Unusable)),
        ("jwk", jwk(fixtures::ec384()), ProofFault::UnusableKey(JwkFault::Unusable)),
        ("jwk", jwk(fixtures::secret()), ProofFault::UnusableKey(JwkFault::Symmetric)),
    ] {
        assert_eq!(judged(&with(ec_header(), name, value.clone()), &claims()).unwrap_err(), fault, "{name} {value}");
    }
    assert!(judged(&with(ec_header(), "typ", json!("application/DPoP+JWT")), &claims()).is_ok());
}

#[test]
fn a_symmetric_algorithm_is_refused_even_where_it_is_listed() {
    let proof = fixtures::secret().sign(
        Algorithm::Hs256,
        &header(Algorithm::Hs256, fixtures::secret()).to_string(),
        &claims().to_string(),
    );
    let expected = Expectation { algorithms: &[Algorithm::Hs256], ..expected() };
    assert_eq!(check_proof(&proof, &expected).unwrap_err(), ProofFault::AlgorithmNotAllowed);
}

#[test]
fn the_claims_are_of_this_request() {
    for (name, value, fault) in [
        ("htm", Value::Null, ProofFault::Claim("htm")),
        ("htm", json!(7), ProofFault::Claim("htm")),
        ("htm", json!("post"), ProofFault::WrongMethod),
        ("htm", json!("GET"), ProofFault::WrongMethod),
        ("htu", Value::Null, ProofFault::Claim("htu")),
        ("htu", json!("/orders/7"), ProofFault::WrongAddress),
        ("htu", json!("http://api.example.com/orders/7"), ProofFault::WrongAddress),
        ("htu", json!("https://api.example.com/orders/8"), ProofFault::WrongAddress),
        ("ath", Value::Null, ProofFault::Claim("ath")),
        ("ath", json!(ath("another")), ProofFault::WrongToken),
        ("ath", json!(ath(TOKEN) + "="), ProofFault::WrongToken),
        ("iat", Value::Null, ProofFault::Claim("iat")),
        ("iat", json!(NOW.to_string()), ProofFault::Claim("iat")),
        ("iat", json!(-1), ProofFault::Claim("iat")),
        ("jti", Value::Null, ProofFault::Claim("jti")),
        ("jti", json!(""), ProofFault::Claim("jti")),
        ("jti", json!(["7f3c"]), ProofFault::Claim("jti")),
        ("jti", json!("j".repeat(129)), ProofFault::Claim("jti")),
        ("nonce", json!(7), ProofFault::Claim("nonce")),
        ("nonce", json!("n".repeat(257)), ProofFault::Claim("nonce")),
    ] {
        assert_eq!(judged(&ec_header(), &with(claims(), name, value.clone())).unwrap_err(), fault, "{name} {value}");
    }
    assert!(judged(&ec_header(), &with(claims(), "jti", json!("j".repeat(128)))).is_ok());
    assert!(judged(&ec_header(), &with(claims(), "htu", json!("HTTPS://API.example.com:443/orders/7?a#b"))).is_ok());
    let nonced = judged(&ec_header(), &with(claims(), "nonce", json!("n-1"))).unwrap();
    assert_eq!(nonced.nonce.as_deref(), Some("n-1"));
}

#[test]
fn a_proof_is_good_from_a_little_before_its_date_to_the_end_of_the_window() {
    for (iat, verdict) in [
        (NOW + 10, Ok(())),
        (NOW + 11, Err(ProofFault::FromTheFuture)),
        (NOW - 60, Ok(())),
        (NOW - 61, Err(ProofFault::TooOld)),
        (0, Err(ProofFault::TooOld)),
    ] {
        assert_eq!(judged(&ec_header(), &with(claims(), "iat", json!(iat))).map(|_| ()), verdict, "{iat}");
    }
}

#[test]
fn the_signature_is_made_by_the_key_in_the_proof() {
    let foreign = fixtures::foreign_jwk();
    let forged = judged(&with(ec_header(), "jwk", foreign), &claims());
    assert_eq!(forged.unwrap_err(), ProofFault::BadSignature);
    let proof = es256(&ec_header(), &claims());
    let (message, _) = proof.rsplit_once('.').unwrap();
    for signature in ["", "AA", &URL_SAFE_NO_PAD.encode([0; 64]), &URL_SAFE_NO_PAD.encode([1; 64])] {
        let forged = check_proof(&format!("{message}.{signature}"), &expected());
        assert_eq!(forged.unwrap_err(), ProofFault::BadSignature, "{signature:?}");
    }
}

#[test]
fn what_can_be_read_in_two_ways_is_malformed() {
    let twice = ec_header().to_string().replacen('{', r#"{"typ":"dpop+jwt","#, 1);
    let inner = ec_header().to_string().replacen(r#""kty":"EC""#, r#""kty":"EC","kty":"EC""#, 1);
    let critical = with(ec_header(), "crit", json!(["b64"])).to_string();
    for header in [twice, inner, critical] {
        let proof = fixtures::ec256().sign(Algorithm::Es256, &header, &claims().to_string());
        assert_eq!(check_proof(&proof, &expected()).unwrap_err().reason(), "proof_malformed", "{header}");
    }
    let two_methods = claims().to_string().replacen('{', r#"{"htm":"GET","#, 1);
    let proof = fixtures::ec256().sign(Algorithm::Es256, &ec_header().to_string(), &two_methods);
    assert_eq!(check_proof(&proof, &expected()).unwrap_err().reason(), "proof_malformed");
    for text in ["", "a.b", "a.b.c.d", &format!("{}=", es256(&ec_header(), &claims()))] {
        assert_eq!(check_proof(text, &expected()).unwrap_err().reason(), "proof_malformed", "{text}");
    }
}

#[test]
fn a_request_has_one_proof() {
    let headers = |values: &[&'static [u8]]| -> HeaderMap {
        let fields = values.iter().map(|value| HeaderValue::from_bytes(value).unwrap());
        fields.map(|value| (http::HeaderName::from_static("dpop"), value)).fold(
            HeaderMap::new(),
            |mut map, (name, value)| {
                map.append(name, value);
                map
            },
        )
    };
    assert_eq!(the_proof(&headers(&[])).unwrap_err(), ProofFault::Missing);
    assert_eq!(the_proof(&headers(&[b"a.b.c", b"a.b.c"])).unwrap_err(), ProofFault::Repeated);
    assert_eq!(the_proof(&headers(&[b"\xff"])).unwrap_err().reason(), "proof_malformed");
    assert_eq!(the_proof(&headers(&[b"a.b.c"])).unwrap(), "a.b.c");
    let listed = the_proof(&headers(&[b"a.b.c, a.b.c"])).unwrap().to_owned();
    assert_eq!(check_proof(&listed, &expected()).unwrap_err().reason(), "proof_malformed");
}

#[test]
fn one_jti_of_two_keys_is_two_proofs() {
    let first = judged(&ec_header(), &claims()).unwrap();
    let other = fixtures::ed().sign(
        Algorithm::EdDsa,
        &header(Algorithm::EdDsa, fixtures::ed()).to_string(),
        &claims().to_string(),
    );
    assert_ne!(first.jti_digest, check_proof(&other, &expected()).unwrap().jti_digest);
    let again = judged(&ec_header(), &with(claims(), "iat", json!(NOW - 1))).unwrap();
    assert_eq!(first.jti_digest, again.jti_digest);
}

#[test]
fn a_fault_is_one_of_the_list_and_repeats_nothing_of_the_client() {
    let spiteful = with(with(claims(), "htm", json!("SPITE")), "htu", json!("SPITE"));
    for fault in [
        judged(&ec_header(), &spiteful).unwrap_err(),
        judged(&with(ec_header(), "alg", json!("SPITE")), &claims()).unwrap_err(),
        judged(&with(ec_header(), "jwk", json!({"kty": "SPITE"})), &claims()).unwrap_err(),
        judged(&with(ec_header(), "crit", json!(["SPITE"])), &claims()).unwrap_err(),
    ] {
        assert!(ProofFault::REASONS.contains(&fault.reason()));
        assert!(!format!("{fault} {fault:?}").contains("SPITE"), "{fault:?}");
    }
}

proptest! {
    #[test]
    fn no_text_panics_or_passes(text in "\\PC{0,200}") {
        prop_assert!(check_proof(&text, &expected()).is_err());
    }

    #[test]
    fn no_header_and_claims_panic(header in "\\PC{0,100}", claims in "\\PC{0,100}", signature: Vec<u8>) {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let text = format!("{}.{}.{}", part(header.as_bytes()), part(claims.as_bytes()), part(&signature));
        prop_assert!(check_proof(&text, &expected()).is_err());
    }

    #[test]
    fn a_changed_byte_is_never_a_proof(at in 0usize..400, byte: u8) {
        let proof = es256(&ec_header(), &claims());
        let mut changed = proof.clone().into_bytes();
        let at = at % changed.len();
        changed[at] = byte;
        let changed = String::from_utf8_lossy(&changed).into_owned();
        prop_assume!(changed != proof);
        prop_assert!(check_proof(&changed, &expected()).is_err());
    }

    #[test]
    fn a_proof_is_for_its_own_method_address_and_token_only(
        method in "(GET|POST|PUT|DELETE|PATCH)",
        authority in "(api|www)\\.example\\.(com|org)(:8443)?",
        path in "/[a-z]{0,3}(/[0-9])?",
        token in "[a-z]{1,3}",
        other in any::<(bool, bool, bool, bool)>(),
    ) {
        let htu = format!("https://{authority}{path}");
        let claims = json!({"jti": "j", "htm": method, "htu": htu, "iat": NOW, "ath": ath(&token)});
        let proof = es256(&ec_header(), &claims);
        let own = Expectation { method: &method, authority: &authority, path: &path, access_token: &token, ..expected() };
        prop_assert!(check_proof(&proof, &own).is_ok());
        let (longer_path, longer_token) = (format!("{path}x"), format!("{token}x"));
        let changed = Expectation {
            method: if other.0 { "HEAD" } else { own.method },
            scheme: if other.1 { "http" } else { own.scheme },
            path: if other.2 { &longer_path } else { own.path },
            access_token: if other.3 { &longer_token } else { own.access_token },
            ..own
        };
        let same = other == (false, false, false, false);
        prop_assert_eq!(check_proof(&proof, &changed).is_ok(), same);
    }
}
