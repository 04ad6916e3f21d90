//! One certificate: read, matched with its key, and checked against the clock before any client sees it.
//!
//! Owns the reading of chain and key (RFC 7468, RFC 5280 section 4.1) and the reasons a certificate is refused. Refuses
//! to know trust: whether clients will believe the chain is theirs to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{ASN1Time, FromDer, GeneralName, X509Certificate};

use super::CertificateSource;

/// The subject Organization by which a development certificate is known.
pub(super) const DEVELOPMENT_MARK: &str = "Portcullis development certificate - do not trust";

/// What operators want to know about a certificate in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertInfo {
    /// The certificate's file name, from its source.
    pub label: String,
    /// DNS names (lower case) and IP addresses of the leaf, as it lists them.
    pub names: Vec<Box<str>>,
    /// The last moment at which the leaf is valid.
    pub not_after: SystemTime,
    /// Whether it is a development certificate, which nobody may trust.
    pub development: bool,
}

/// Whether the leaf of this PEM chain carries the development mark. What can't be read doesn't.
pub fn is_development(chain_pem: &[u8]) -> bool {
    read_chain(chain_pem).ok().and_then(|chain| Leaf::read(chain.first()?).ok()).is_some_and(|leaf| leaf.development)
}

/// A chain with its key, fit to be served.
#[derive(Debug)]
pub(super) struct Certificate {
    pub(super) info: CertInfo,
    pub(super) key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads and checks one source as of `now`.
    pub(super) fn load(
        source: &CertificateSource,
        provider: &CryptoProvider,
        now: SystemTime,
    ) -> Result<Self, CertificateProblem> {
        let chain = read_chain(&source.chain_pem)?;
        let leaf = Leaf::read(chain.first().ok_or(CertificateProblem::NoCertificate)?)?;
        leaf.check_validity(now)?;
        let key = read_key(&source.key_pem)?;
        let key = provider.key_provider.load_private_key(key).map_err(CertificateProblem::UnusableKey)?;
        let key = CertifiedKey::new(chain, key);
        check_key(&key)?;
        let Leaf { names, not_after, development, .. } = leaf;
        let info = CertInfo { label: source.label.clone(), names, not_after, development };
        Ok(Self { info, key: Arc::new(key) })
    }
}

/// Why a certificate can't be served.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateProblem {
    #[error("no certificate in the file")]
    NoCertificate,
    #[error("the certificate is not valid PEM")]
    ChainPem(#[source] rustls_pki_types::pem::Error),
    #[error("the certificate is not valid X.509")]
    Malformed(#[source] x509_parser::error::X509Error),
    #[error("no private key in the key file")]
    NoKey,
    #[error("the private key is encrypted")]
    EncryptedKey,
    // The parser's own words could quote the key, so they are left out.
    #[error("the private key is not valid PEM")]
    KeyPem,
    #[error("the private key can't be used")]
    UnusableKey(#[source] rustls::Error),
    #[error("the certificate can't be used")]
    Unusable(#[source] rustls::Error),
    #[error("the private key belongs to another certificate")]
    ForeignKey,
    #[error("the private key belongs to certificate {position} of the chain, not to the first")]
    LeafNotFirst {
        /// Where the matching certificate stands, counted from 1.
        position: usize,
    },
    #[error("the certificate expired on {}", humantime::format_rfc3339_seconds(*not_after))]
    Expired { not_after: SystemTime },
    #[error("the certificate is not valid before {}", humantime::format_rfc3339_seconds(*not_before))]
    NotYetValid { not_before: SystemTime },
}

impl CertificateProblem {
    /// What the operator can do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::NoCertificate | Self::ChainPem(_) | Self::Malformed(_) => {
                "`cert` names a PEM file with the chain, leaf first: -----BEGIN CERTIFICATE-----"
            }
            Self::NoKey | Self::KeyPem => {
                "`key` names a PEM file with a PKCS#8, PKCS#1 or SEC1 key: -----BEGIN PRIVATE KEY-----"
            }
            Self::EncryptedKey => "decrypt it once: openssl pkey -in old.key -out new.key",
            Self::UnusableKey(_) => {
                "use an ECDSA P-256, P-384 or P-521, an Ed25519, or an RSA key of 2048 bits or more"
            }
            Self::Unusable(_) => "have an X.509 version 3 certificate issued",
            Self::ForeignKey => "`cert` and `key` must come from the same request",
            Self::LeafNotFirst { .. } => "put the server's own certificate first, its issuers after it",
            Self::Expired { .. } => "renew it; files are read again when they change",
            Self::NotYetValid { .. } => "check this machine's clock",
        }
    }
}

/// What the leaf says of itself.
struct Leaf {
    names: Vec<Box<str>>,
    not_before: SystemTime,
    not_after: SystemTime,
    development: bool,
}

impl Leaf {
    fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateProblem> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|error| CertificateProblem::Malformed(error.into()))?;
        let names = certificate.subject_alternative_name().map_err(CertificateProblem::Malformed)?;
        let names = names.map(|san| san.value.general_names.iter().filter_map(server_name).collect());
        Ok(Self {
            names: names.unwrap_or_default(),
            not_before: moment(certificate.validity().not_before),
            not_after: moment(certificate.validity().not_after),
            development: certificate
                .subject()
                .iter_organization()
                .any(|organization| organization.as_str().is_ok_and(|text| text == DEVELOPMENT_MARK)),
        })
    }

    /// RFC 5280 section 4.1.2.5: both ends of the period belong to it.
    fn check_validity(&self, now: SystemTime) -> Result<(), CertificateProblem> {
        if now > self.not_after {
            return Err(CertificateProblem::Expired { not_after: self.not_after });
        }
        if now < self.not_before {
            return Err(CertificateProblem::NotYetValid { not_before: self.not_before });
        }
        Ok(())
    }
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, CertificateProblem> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(CertificateProblem::ChainPem)
}

fn read_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, CertificateProblem> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        // PKCS#8 says so in its label, the older formats in a `Proc-Type` header that spoils their base64.
        _ if memchr::memmem::find(pem, b"ENCRYPTED").is_some() => CertificateProblem::EncryptedKey,
        rustls_pki_types::pem::Error::NoItemsFound => CertificateProblem::NoKey,
        _ => CertificateProblem::KeyPem,
    })
}

/// The key must be the leaf's; if it is a later certificate's, the chain is upside down and the operator is told so.
fn check_key(key: &CertifiedKey) -> Result<(), CertificateProblem> {
    match key.keys_match() {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => Err(match position_of_leaf(key) {
            Some(position) => CertificateProblem::LeafNotFirst { position },
            None => CertificateProblem::ForeignKey,
        }),
        Err(error) => Err(CertificateProblem::Unusable(error)),
    }
}

fn position_of_leaf(key: &CertifiedKey) -> Option<usize> {
    let alone = |certificate: &CertificateDer<'static>| CertifiedKey::new(vec![certificate.clone()], key.key.clone());
    key.cert.iter().position(|certificate| alone(certificate).keys_match().is_ok()).map(|index| index + 1)
}

/// The part of a subject alternative name that clients compare with what they dialled (RFC 6125, RFC 5280 4.2.1.6).
fn server_name(name: &GeneralName<'_>) -> Option<Box<str>> {
    match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        GeneralName::IPAddress(octets) => Some(ip_address(octets)?.to_string().into()),
        _ => None,
    }
}

fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

/// Dates before 1970 count as 1970: both lie in the past.
fn moment(time: ASN1Time) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, DAY};
    use super::*;

    fn load(source: &CertificateSource) -> Result<Certificate, CertificateProblem> {
        Certificate::load(source, &rustls::crypto::aws_lc_rs::default_provider(), SystemTime::now())
    }

    #[test]
    fn names_are_read_from_the_leaf_in_lower_case() {
        let loaded = load(&testing::source("a", &["WWW.Example.com", "*.example.org", "10.0.0.7", "::1"])).unwrap();
        let names: Vec<&str> = loaded.info.names.iter().map(AsRef::as_ref).collect();
        assert_eq!(names, ["www.example.com", "*.example.org", "10.0.0.7", "::1"]);
        assert_eq!(loaded.info.label, "a");
        assert!(!loaded.info.development);
    }

    #[test]
    fn an_expired_certificate_is_refused_with_its_date() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let problem = load(&testing::source_valid("old", &["a.test"], then - DAY, then)).unwrap_err();
        assert_eq!(problem.to_string(), "the certificate expired on 2023-11-14T22:13:20Z");
    }

    #[test]
    fn a_certificate_from_the_future_is_refused() {
        let now = SystemTime::now();
        let problem = load(&testing::source_valid("new", &["a.test"], now + DAY, now + 2 * DAY)).unwrap_err();
        assert!(matches!(problem, CertificateProblem::NotYetValid { .. }));
    }

    #[test]
    fn the_last_second_of_validity_still_counts() {
        let end = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let source = testing::source_valid("edge", &["a.test"], end - DAY, end);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        assert!(Certificate::load(&source, &provider, end).is_ok());
        assert!(Certificate::load(&source, &provider, end + Duration::from_secs(1)).is_err());
        assert!(Certificate::load(&source, &provider, end - DAY).is_ok());
        assert!(Certificate::load(&source, &provider, end - DAY - Duration::from_secs(1)).is_err());
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let mut source = testing::source("a", &["a.test"]);
        source.key_pem = testing::source("b", &["a.test"]).key_pem;
        assert!(matches!(load(&source).unwrap_err(), CertificateProblem::ForeignKey));
    }

    #[test]
    fn a_chain_upside_down_is_told_apart_from_a_foreign_key() {
        let mut source = testing::source("a", &["a.test"]);
        source.chain_pem = [testing::source("b", &["b.test"]).chain_pem, source.chain_pem].concat();
        assert!(matches!(load(&source).unwrap_err(), CertificateProblem::LeafNotFirst { position: 2 }));
    }

    #[test]
    fn each_unreadable_file_has_its_own_message() {
        let good = testing::source("a", &["a.test"]);
        let chain = |pem: &[u8]| CertificateSource { chain_pem: pem.to_vec(), ..good.clone() };
        let key = |pem: &[u8]| CertificateSource { key_pem: pem.to_vec(), ..good.clone() };
        let message = |source: &CertificateSource| load(source).unwrap_err().to_string();

        assert_eq!(message(&chain(b"")), "no certificate in the file");
        assert_eq!(message(&chain(b"-----BEGIN CERTIFICATE-----\nAA")), "the certificate is not valid PEM");
        let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(message(&chain(junk)), "the certificate is not valid X.509");
        assert_eq!(message(&key(&good.chain_pem)), "no private key in the key file");
        assert_eq!(message(&key(b"-----BEGIN PRIVATE KEY-----\nAA")), "the private key is not valid PEM");
        let junk = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(message(&key(junk)), "the private key can't be used");
        let locked = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(message(&key(locked)), "the private key is encrypted");
    }

    #[test]
    fn only_the_mark_makes_a_development_certificate() {
        assert!(!is_development(&testing::source("a", &["localhost"]).chain_pem));
        assert!(!is_development(b"no certificate"));
    }
}
