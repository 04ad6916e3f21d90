//! A JSON Web Key Set, from a file or from a URL.
//!
//! Owns the reading of a set: what cannot be used here is skipped, never fails the set (RFC 7517 section 5), and what looks usable
//! but is wrong is reported. A symmetric member is accepted only from disk: one that a URL hands to everybody is no secret.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::jws::MAX_KID_BYTES;
use super::material::{BadKey, Curve, Material};
use super::settings::Algorithm;

/// Where a set came from, which decides what may be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// The operator's own file: a secret may be in it, and whatever cannot be used is worth a word.
    File,
    /// Anybody can read it and the operator cannot change it: no secrets, and what is not known here is for others.
    Url,
}

/// One usable member of a set.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) kid: Option<Box<str>>,
    /// The one algorithm the member says it is for.
    pub(super) alg: Option<Algorithm>,
    pub(super) material: Material,
}

/// Why a member is not used.
#[derive(Debug)]
pub(super) enum Unused {
    /// It is legitimately for someone else: another use, another kty, another operation.
    ForOthers(&'static str),
    /// It looks usable and is wrong.
    Bad(BadKey),
}

impl Unused {
    /// Why, in words.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::ForOthers(reason) => reason,
            Self::Bad(bad) => &bad.message,
        }
    }
}

impl From<BadKey> for Unused {
    fn from(bad: BadKey) -> Self {
        Self::Bad(bad)
    }
}

/// The usable members in order, and a complaint for each that looked usable and is not. `Err` only when this is no set at all.
pub(super) fn read(bytes: &[u8], origin: Origin) -> Result<(Vec<Member>, Vec<BadKey>), BadKey> {
    Ok(sort(&entries(bytes)?, origin))
}

/// The members of a set as they stand, none of them judged yet.
pub(super) fn entries(bytes: &[u8]) -> Result<Vec<Value>, BadKey> {
    let hint = "it must be `{\"keys\": [...]}` (RFC 7517); a PEM key belongs in `public_keys`";
    let mut set: Value = serde_json::from_slice(bytes).map_err(|_| BadKey::new("it is not JSON", hint))?;
    match set.get_mut("keys").map(Value::take) {
        Some(Value::Array(entries)) => Ok(entries),
        _ => Err(BadKey::new("it has no `keys` array", hint)),
    }
}

/// The usable members in order, and the complaints about the rest.
pub(super) fn sort(entries: &[Value], origin: Origin) -> (Vec<Member>, Vec<BadKey>) {
    let (mut members, mut complaints) = (Vec::new(), Vec::new());
    for (position, entry) in entries.iter().enumerate() {
        match judge(entry, origin) {
            Ok(member) => members.push(member),
            Err(Unused::ForOthers(_)) => {}
            Err(Unused::Bad(bad)) => complaints.push(located(bad, position, entry)),
        }
    }
    (members, complaints)
}

/// One member, if it can verify here.
pub(super) fn judge(entry: &Value, origin: Origin) -> Result<Member, Unused> {
    let Value::Object(entry) = entry else {
        return Err(malformed("it is not an object").into());
    };
    let kty = text(entry, "kty")?.ok_or_else(|| malformed("it has no `kty`"))?;
    if !matches!(kty, "RSA" | "EC" | "OKP" | "oct") {
        return Err(Unused::ForOthers("its `kty` is not supported"));
    }
    if !may_verify(entry)? {
        return Err(Unused::ForOthers("its `use` or `key_ops` is not for verifying"));
    }
    refuse_exposed(kty, entry, origin)?;
    let alg = read_alg(entry, origin)?;
    let kid = text(entry, "kid")?;
    if kid.is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
        return Err(malformed("its `kid` is longer than 256 bytes").into());
    }
    let material = read_material(kty, entry, origin)?;
    if alg.is_some_and(|alg| !material.fits(alg)) {
        return Err(malformed("its `alg` does not fit its key type or curve").into());
    }
    Ok(Member { kid: kid.map(Box::from), alg, material })
}

/// What was to stay secret is not verified with: whoever read the set can sign.
fn refuse_exposed(kty: &str, entry: &Map<String, Value>, origin: Origin) -> Result<(), BadKey> {
    if kty == "oct" && origin == Origin::Url {
        return Err(BadKey::new(
            "it is a shared secret that everybody can read",
            "have the issuer sign with a key pair; treat the secret as leaked",
        ));
    }
    if kty != "oct" && entry.contains_key("d") {
        return Err(BadKey::new(
            "it is a private key",
            "publish and configure only its public members; treat the key as leaked",
        ));
    }
    Ok(())
}

fn read_alg(entry: &Map<String, Value>, origin: Origin) -> Result<Option<Algorithm>, Unused> {
    let Some(name) = text(entry, "alg")? else { return Ok(None) };
    name.parse().map(Some).map_err(|_| match origin {
        Origin::Url => Unused::ForOthers("its `alg` is not supported"),
        Origin::File => Unused::Bad(BadKey::new(
            format!("its `alg` `{}` is not supported", name.escape_debug()),
            "the other keys of the set stay in use",
        )),
    })
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

fn read_material(kty: &str, entry: &Map<String, Value>, origin: Origin) -> Result<Material, Unused> {
    let material = match kty {
        "RSA" => Material::rsa(&number(entry, "n")?, &number(entry, "e")?),
        "EC" => {
            let (curve, width) = match text(entry, "crv")? {
                Some("P-256") => (Curve::P256, 32),
                Some("P-384") => (Curve::P384, 48),
                _ => return Err(foreign_curve(origin, "P-256 and P-384 are")),
            };
            let (x, y) = (number(entry, "x")?, number(entry, "y")?);
            if x.len() != width || y.len() != width {
                return Err(malformed("its coordinates are not as long as the curve demands").into());
            }
            Material::ec(curve, &[&[4][..], &x, &y].concat())
        }
        "OKP" => match text(entry, "crv")? {
            Some("Ed25519") => Material::ed25519(&number(entry, "x")?),
            _ => return Err(foreign_curve(origin, "Ed25519 is")),
        },
        _ => Material::secret(&number(entry, "k")?),
    };
    Ok(material?)
}

fn foreign_curve(origin: Origin, supported: &str) -> Unused {
    let what = "its curve is not supported";
    match origin {
        Origin::Url => Unused::ForOthers(what),
        Origin::File => Unused::Bad(BadKey::new(what, supported)),
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

fn located(bad: BadKey, position: usize, entry: &Value) -> BadKey {
    BadKey { message: format!("{}: {}", name_of(position, entry), bad.message), hint: bad.hint }
}

/// Names a member: by `kid` where it has one, else by its place.
pub(super) fn name_of(position: usize, entry: &Value) -> String {
    match entry.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("key `{}`", kid.chars().take(64).collect::<String>().escape_debug()),
        None => format!("key number {}", position + 1),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::super::fixtures;
    use super::*;

    fn skipped(entry: &Value, origin: Origin) -> bool {
        matches!(judge(entry, origin), Err(Unused::ForOthers(_)))
    }

    fn complained(entry: &Value, origin: Origin) -> bool {
        matches!(judge(entry, origin), Err(Unused::Bad(_)))
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
            assert_eq!(judge(&entry, Origin::File).unwrap().material.noun(), noun);
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
            assert!(skipped(&entry, Origin::File) && skipped(&entry, Origin::Url), "{entry}");
        }
        assert!(judge(&with(key, "key_ops", json!(["verify"])), Origin::Url).is_ok());
    }

    #[test]
    fn a_set_from_a_url_holds_no_secrets_and_may_hold_what_is_not_known_here() {
        let oct = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode([7; 32])});
        assert!(judge(&oct, Origin::File).is_ok() && complained(&oct, Origin::Url));
        let key = fixtures::ec256().jwk("a");
        for entry in [
            with(key.clone(), "crv", json!("P-521")),
            with(key.clone(), "crv", json!("secp256k1")),
            with(key.clone(), "alg", json!("ES512")),
            json!({"kty": "OKP", "crv": "Ed448", "x": "AAAA"}),
        ] {
            assert!(complained(&entry, Origin::File) && skipped(&entry, Origin::Url), "{entry}");
        }
        assert!(complained(&with(key, "d", json!("AAAA")), Origin::Url));
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
        let (members, complaints) = read(json!({ "keys": keys }).to_string().as_bytes(), Origin::File).unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(complaints.len(), bad.len());
        assert!(complaints[0].message.starts_with("key number 1:"), "{complaints:?}");
        assert!(complaints.iter().all(|complaint| !complaint.hint.is_empty()));
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bytes in [&b""[..], b"[]", b"{}", b"{\"keys\":{}}", b"-----BEGIN PUBLIC KEY-----"] {
            assert!(read(bytes, Origin::File).is_err());
        }
    }
}
