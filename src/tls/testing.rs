//! Certificates for this room's tests, made on the spot.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, KeyPair};

use super::CertificateSource;
use super::certificate::Certificate;

pub(super) const DAY: Duration = Duration::from_hours(24);

/// A valid ECDSA certificate for `names`.
pub(super) fn source(label: &str, names: &[&str]) -> CertificateSource {
    source_valid(label, names, SystemTime::now() - DAY, SystemTime::now() + 30 * DAY)
}

/// An ECDSA certificate for `names`, valid in the period given.
pub(super) fn source_valid(label: &str, names: &[&str], from: SystemTime, until: SystemTime) -> CertificateSource {
    signed(label, names, from, until, &KeyPair::generate().unwrap())
}

/// `source`, loaded.
pub(super) fn loaded(label: &str, names: &[&str]) -> Certificate {
    load(&source(label, names))
}

/// As `loaded`, with an RSA key.
pub(super) fn loaded_rsa(label: &str, names: &[&str]) -> Certificate {
    load(&source_rsa(label, names))
}

/// As `source`, with an RSA key.
pub(super) fn source_rsa(label: &str, names: &[&str]) -> CertificateSource {
    let key = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    signed(label, names, SystemTime::now() - DAY, SystemTime::now() + 30 * DAY, &key)
}

fn signed(label: &str, names: &[&str], from: SystemTime, until: SystemTime, key: &KeyPair) -> CertificateSource {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = from.into();
    params.not_after = until.into();
    let certificate = params.self_signed(key).unwrap();
    CertificateSource {
        chain_pem: certificate.pem().into_bytes(),
        key_pem: key.serialize_pem().into_bytes(),
        label: label.to_owned(),
    }
}

fn load(source: &CertificateSource) -> Certificate {
    Certificate::load(source, &rustls::crypto::aws_lc_rs::default_provider(), SystemTime::now()).unwrap()
}
