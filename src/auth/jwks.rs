//! A JSON Web Key Set that came from a file.
//!
//! Owns the reading of a set: what cannot be used here is skipped, never fails the set (RFC 7517 section 5), and what looks usable
//! but is wrong is reported. A symmetric member is accepted only because the set was read from disk; a set from a URL must not
//! come through here.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jws::MAX_KID_BYTES;
use super::material::{BadKey, Curve, Material};
use super::settings::Algorithm;

/// One usable member of a set.
pub(super) struct Member {
    pub(super) kid: Option<Box<str>>,
    /// The one algorithm the member says it is for.
    pub(super) alg: Option<Algorithm>,
    pub(super) material: Material,
}

/// The usable members in order, and a complaint for each that looked usable and is not. `Err` only when this is no set at all.
pub(super) fn read(bytes: &[u8]) -> Result<(Vec<Member>, Vec<BadKey>), BadKey> {
    let hint = "it must be `{\"keys\": [...]}` (RFC 7517); a PEM key belongs in `public_keys`";
    let set: Value = serde_json::from_slice(bytes).map_err(|_| BadKey::new("it is not JSON", hint))?;
    let Some(Value::Array(entries)) = set.get("keys") else {
        return Err(BadKey::new("it has no `keys` array", hint));
    };
    let (mut members, mut complaints) = (Vec::new(), Vec::new());
    for (position, entry) in entries.iter().enumerate() {
        match read_entry(entry) {
            Ok(Some(member)) => members.push(member),
            Ok(None) => {}
            Err(bad) => complaints.push(located(bad, position, entry)),
        }
    }
    Ok((members, complaints))
}

/// `None` for a member that is legitimately for someone else: another use, another kty, another operation.
pub(super) fn read_entry(entry: &Value) -> Result<Option<Member>, BadKey> {
    let Value::Object(entry) = entry else {
        return Err(malformed("it is not an object"));
    };
    let kty = text(entry, "kty")?.ok_or_else(|| malformed("it has no `kty`"))?;
    if !matches!(kty, "RSA" | "EC" | "OKP" | "oct") || !may_verify(entry)? {
        return Ok(None);
    }
    if kty != "oct" && entry.contains_key("d") {
        return Err(BadKey::new(
            "it is a private key",
            "publish and configure only its public members; treat the key as leaked",
        ));
    }
    let alg = match text(entry, "alg")? {
        Some(name) => Some(name.parse().map_err(|_| {
            BadKey::new(
                format!("its `alg` `{}` is not supported", name.escape_debug()),
                "the other keys of the set stay in use",
            )
        })?),
        None => None,
    };
    let kid = text(entry, "kid")?;
    if kid.is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
        return Err(malformed("its `kid` is longer than 256 bytes"));
    }
    let material = read_material(kty, entry)?;
    if alg.is_some_and(|alg| !material.fits(alg)) {
        return Err(malformed("its `alg` does not fit its key type or curve"));
    }
    Ok(Some(Member { kid: kid.map(Box::from), alg, material }))
}

/// `use` absent or `sig`, `key_ops` absent or with `verify` (RFC 7517 sections 4.2, 4.3).
fn may_verify(entry: &Map<String, Value>) -> Result<bool, BadKey> {
    let for_signatures = text(entry, "use")?.is_none_or(|purpose| purpose == "sig");
    let operations = match entry.get("key_ops") {
        None => true,
        Some(Value::Array(operations)) => operations.iter().any(|operation| operation == "verify"),
        Some(_) => return Err(malformed("its `key_ops` is not an array")),
    };
    Ok(for_signatures && operations)
}

fn read_material(kty: &str, entry: &Map<String, Value>) -> Result<Material, BadKey> {
    match kty {
        "RSA" => Material::rsa(&number(entry, "n")?, &number(entry, "e")?),
        "EC" => {
            let (curve, width) = match text(entry, "crv")? {
                Some("P-256") => (Curve::P256, 32),
                Some("P-384") => (Curve::P384, 48),
                _ => return Err(BadKey::new("its curve is not supported", "P-256 and P-384 are")),
            };
            let (x, y) = (number(entry, "x")?, number(entry, "y")?);
            if x.len() != width || y.len() != width {
                return Err(malformed("its coordinates are not as long as the curve demands"));
            }
            Material::ec(curve, &[&[4][..], &x, &y].concat())
        }
        "OKP" => match text(entry, "crv")? {
            Some("Ed25519") => Material::ed25519(&number(entry, "x")?),
            _ => Err(BadKey::new("its curve is not supported", "Ed25519 is")),
        },
        _ => Material::secret(&number(entry, "k")?),
    }
}

fn number(entry: &Map<String, Value>, name: &str) -> Result<Vec<u8>, BadKey> {
    let encoded = text(entry, name)?.ok_or_else(|| malformed(&format!("it has no `{name}`")))?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| malformed(&format!("its `{name}` is not base64url without padding")))
}

fn text<'e>(entry: &'e Map<String, Value>, name: &str) -> Result<Option<&'e str>, BadKey> {
    match entry.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(malformed(&format!("its `{name}` is not a string"))),
    }
}

fn malformed(what: &str) -> BadKey {
    BadKey::new(what, "export the key set again from the issuer")
}

/// Names the member: by `kid` where it has one, else by its place.
fn located(bad: BadKey, position: usize, entry: &Value) -> BadKey {
    let name = match entry.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("key `{}`", kid.chars().take(64).collect::<String>().escape_debug()),
        None => format!("key number {}", position + 1),
    };
    BadKey { message: format!("{name}: {}", bad.message), hint: bad.hint }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::fixtures;
    use super::*;

    fn read_one(entry: &Value) -> Result<Option<Member>, BadKey> {
        read_entry(entry)
    }

    fn with(mut entry: Value, name: &str, value: Value) -> Value {
        entry[name] = value;
        entry
    }

    #[test]
    fn every_supported_kind_is_read() {
        for (entry, noun) in [
            (fixtures::rsa().jwk("a"), "RSA key"),
            (fixtures::ec256().jwk("a"), "EC key on P-256"),
            (fixtures::ec384().jwk("a"), "EC key on P-384"),
            (fixtures::ed().jwk("a"), "Ed25519 key"),
            (json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])}), "secret"),
        ] {
            assert_eq!(read_one(&entry).unwrap().unwrap().material.noun(), noun);
        }
    }

    #[test]
    fn what_is_for_someone_else_is_skipped_in_silence() {
        let key = fixtures::ec256().jwk("a");
        for entry in [
            with(key.clone(), "use", json!("enc")),
            with(key.clone(), "key_ops", json!(["sign"])),
            with(key.clone(), "key_ops", json!([])),
            json!({"kty": "AKP", "alg": "ML-DSA-44"}),
        ] {
            assert!(read_one(&entry).unwrap().is_none(), "{entry}");
        }
        assert!(read_one(&with(key, "key_ops", json!(["verify"]))).unwrap().is_some());
    }

    #[test]
    fn what_looks_usable_and_is_wrong_is_reported_and_the_rest_stays() {
        let (ec, rsa) = (fixtures::ec256().jwk("ec"), fixtures::rsa().jwk("rsa"));
        let bad = [
            json!(7),
            json!({"kid": "x"}),
            with(ec.clone(), "x", json!("AAAA")),
            with(ec.clone(), "y", ec["x"].clone()),
            with(ec.clone(), "crv", json!("P-384")),
            with(ec.clone(), "crv", json!("secp256k1")),
            with(ec.clone(), "alg", json!("RS256")),
            with(ec.clone(), "alg", json!("ES256K")),
            with(ec.clone(), "kid", json!(1)),
            with(ec.clone(), "d", json!("AAAA")),
            with(rsa.clone(), "n", json!("AQAB")),
            with(rsa.clone(), "e", json!("AQ")),
            with(rsa.clone(), "e", json!("AQAB=")),
            with(rsa.clone(), "kid", json!("k".repeat(300))),
            json!({"kty": "oct", "k": "c2hvcnQ"}),
        ];
        let keys: Vec<Value> = bad.iter().cloned().chain([ec, rsa]).collect();
        let (members, complaints) = read(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(complaints.len(), bad.len());
        assert!(complaints[0].message.starts_with("key number 1:"), "{complaints:?}");
        assert!(complaints.iter().all(|complaint| !complaint.hint.is_empty()));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bytes in [&b""[..], b"[]", b"{}", b"{\"keys\":{}}", b"-----BEGIN PUBLIC KEY-----"] {
            assert!(read(bytes).is_err());
        }
    }
}
