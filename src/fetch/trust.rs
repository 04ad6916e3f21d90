//! Whom a TLS client trusts: the operator's authorities and no others, or those of the operating system.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{FetchError, FetchSettings};

/// A TLS client with a provider named here: the process has no default one.
pub(super) fn client(settings: &FetchSettings) -> Result<ClientConfig, FetchError> {
    let roots = authorities(settings.ca_pem.as_deref(), settings.plain_http)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(FetchError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Those of `ca_pem` and no others, or those of the operating system, which must be some unless they `may_be_none`.
///
/// # Errors
/// [`FetchError::CaPem`] and [`FetchError::NoRoots`].
pub fn authorities(ca_pem: Option<&[u8]>, may_be_none: bool) -> Result<RootCertStore, FetchError> {
    match ca_pem {
        Some(pem) => of_operator(pem),
        None => of_system(may_be_none),
    }
}

/// Every certificate must be usable: an operator who named two authorities means both.
fn of_operator(pem: &[u8]) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| FetchError::CaPem)?;
        roots.add(certificate).map_err(|_| FetchError::CaPem)?;
    }
    if roots.is_empty() { Err(FetchError::CaPem) } else { Ok(roots) }
}

/// What of the system's store cannot be read is left out: stores are long, and some hold what is no authority.
fn of_system(may_be_none: bool) -> Result<RootCertStore, FetchError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() && !may_be_none { Err(FetchError::NoRoots) } else { Ok(roots) }
}
