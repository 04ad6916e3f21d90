//! Public keys in PEM: `SubjectPublicKeyInfo`, PKCS#1, or the certificate of the signer.
//!
//! Owns the formats (RFC 7468, RFC 5280 section 4.1.2.7, RFC 8410). A certificate is only the envelope of a key here: its dates and
//! its signer are not looked at. Private keys are refused: a verifier has no use for one.

use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_PKCS1_RSASSAPSS,
    OID_SIG_ED25519,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::material::{BadKey, Curve, Material};

/// Every public key of a PEM file, in order.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Material>, BadKey> {
    let blocks = Pem::iter_from_buffer(bytes).collect::<Result<Vec<_>, _>>().map_err(|_| {
        BadKey::new("it is not well-formed PEM", "the file must hold a whole `-----BEGIN PUBLIC KEY-----` block")
    })?;
    if blocks.is_empty() {
        return Err(BadKey::new(
            "it holds no PEM block",
            "the file must hold a `-----BEGIN PUBLIC KEY-----` block; a JSON key set belongs in `jwks_file`",
        ));
    }
    if blocks.iter().filter(|block| block.label == "CERTIFICATE").count() > 1 {
        return Err(BadKey::new(
            "it holds more than one certificate, and every one would be trusted to sign tokens",
            "keep the signer's own certificate and remove the chain",
        ));
    }
    blocks.iter().map(read_block).collect()
}

fn read_block(block: &Pem) -> Result<Material, BadKey> {
    match block.label.as_str() {
        "PUBLIC KEY" => whole(SubjectPublicKeyInfo::from_der(&block.contents)).and_then(|info| from_info(&info)),
        "RSA PUBLIC KEY" => whole(RSAPublicKey::from_der(&block.contents)).and_then(|key| from_rsa(&key)),
        "CERTIFICATE" => whole(X509Certificate::from_der(&block.contents))
            .and_then(|certificate| from_info(certificate.public_key())),
        label if label.ends_with("PRIVATE KEY") => Err(BadKey::new(
            "it holds a private key, which verifies nothing and must not lie here",
            "give the public half: `openssl pkey -in private.pem -pubout -out public.pem`",
        )),
        label => Err(BadKey::new(
            format!("a PEM block `{}` is no public key", label.escape_debug()),
            "PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE are understood",
        )),
    }
}

fn from_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Material, BadKey> {
    let kind = &info.algorithm.algorithm;
    let bits: &[u8] = &info.subject_public_key.data;
    if *kind == OID_PKCS1_RSAENCRYPTION {
        return whole(RSAPublicKey::from_der(bits)).and_then(|key| from_rsa(&key));
    }
    if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        return Material::ec(curve_of(info)?, bits);
    }
    if *kind == OID_SIG_ED25519 {
        return Material::ed25519(bits);
    }
    if *kind == OID_PKCS1_RSASSAPSS {
        return Err(BadKey::new(
            "the key is bound to RSASSA-PSS by its own type (`id-RSASSA-PSS`), which is not supported",
            "publish it as an ordinary RSA key (`rsaEncryption`); PS256 works with that",
        ));
    }
    Err(BadKey::new("the key's type is not supported", "RSA, EC on P-256 or P-384, and Ed25519 are"))
}

fn from_rsa(key: &RSAPublicKey<'_>) -> Result<Material, BadKey> {
    Material::rsa(key.modulus, key.exponent)
}

fn curve_of(info: &SubjectPublicKeyInfo<'_>) -> Result<Curve, BadKey> {
    let named = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
    match named {
        Some(oid) if oid == OID_EC_P256 => Ok(Curve::P256),
        Some(oid) if oid == OID_NIST_EC_P384 => Ok(Curve::P384),
        _ => Err(BadKey::new("the EC key's curve is not supported", "use P-256 (ES256) or P-384 (ES384)")),
    }
}

/// A DER value with nothing after it.
fn whole<T, E>(parsed: Result<(&[u8], T), E>) -> Result<T, BadKey> {
    match parsed {
        Ok(([], value)) => Ok(value),
        _ => Err(BadKey::new("a PEM block does not hold what its label says", "export the public key again")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::fixtures::{self, pem};
    use super::*;

    #[test]
    fn spki_pkcs1_and_certificates_are_read() {
        let rsa = fixtures::rsa();
        for (bytes, noun) in [
            (rsa.spki_pem(), "RSA key"),
            (rsa.pkcs1_pem(), "RSA key"),
            (fixtures::ec256().spki_pem(), "EC key on P-256"),
            (fixtures::ec384().spki_pem(), "EC key on P-384"),
            (fixtures::ed().spki_pem(), "Ed25519 key"),
            (fixtures::certificate_pem(), "EC key on P-256"),
        ] {
            let keys = read(bytes.as_bytes()).unwrap();
            assert_eq!(keys.iter().map(Material::noun).collect::<Vec<_>>(), [noun]);
        }
        let both = rsa.spki_pem() + &fixtures::ec256().spki_pem();
        assert_eq!(read(both.as_bytes()).unwrap().len(), 2);
    }

    #[test]
    fn a_private_key_is_refused_with_the_remedy() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            let refusal = read(pem(label, b"x").as_bytes()).err().unwrap();
            assert!(refusal.hint.contains("-pubout"), "{refusal:?}");
        }
    }

    #[test]
    fn damaged_and_foreign_files_are_refused() {
        let chain = fixtures::certificate_pem().repeat(2);
        let trailing = {
            let mut der = fixtures::ec256().spki();
            der.push(0);
            pem("PUBLIC KEY", &der)
        };
        for (bytes, text) in [
            ("", "no PEM block"),
            ("{\"keys\":[]}", "no PEM block"),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n", "well-formed"),
            (&pem("PUBLIC KEY", b"junk"), "what its label says"),
            (&trailing, "what its label says"),
            (&pem("DH PARAMETERS", b"x"), "no public key"),
            (&chain, "more than one certificate"),
        ] {
            let refusal = read(bytes.as_bytes()).err().unwrap();
            assert!(refusal.message.contains(text), "{refusal:?}");
        }
    }
}
