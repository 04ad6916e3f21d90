//! Client certificates: who may connect, and what is told of who did (RFC 8446 section 4.3.2, RFC 8705).
//!
//! Owns the authorities a listener believes and the judgement of a client's chain, also of one that comes back with a session. Refuses
//! to know what a certificate's names mean: what leaves here is the leaf's SHA-256, which is what a token is bound to.

use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, UnixTime};

use super::{ClientAuthorities, ClientCertificates};

/// The authorities of one listener, read.
#[derive(Debug, Clone)]
pub(super) struct Clients {
    settings: ClientAuthorities,
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
}

/// Why the authorities can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthoritiesProblem {
    #[error("it is not valid PEM")]
    Pem(#[source] rustls_pki_types::pem::Error),
    #[error("it holds no certificate")]
    NoCertificate,
    #[error("certificate {position} can't be used")]
    Unusable {
        /// Counted from 1.
        position: usize,
        #[source]
        source: rustls::Error,
    },
    #[error("client certificates can't be verified")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
}

impl Clients {
    /// Every certificate of the file must be one to trust: a list that was half read would refuse half of the clients.
    pub(super) fn load(
        settings: &ClientAuthorities,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, AuthoritiesProblem> {
        let mut roots = RootCertStore::empty();
        for (index, certificate) in CertificateDer::pem_slice_iter(&settings.pem).enumerate() {
            let certificate = certificate.map_err(AuthoritiesProblem::Pem)?;
            roots.add(certificate).map_err(|source| AuthoritiesProblem::Unusable { position: index + 1, source })?;
        }
        if roots.is_empty() {
            return Err(AuthoritiesProblem::NoCertificate);
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match settings.certificates {
            ClientCertificates::Required => builder,
            ClientCertificates::Optional => builder.allow_unauthenticated(),
        };
        let verifier = builder.build().map_err(AuthoritiesProblem::Verifier)?;
        Ok(Self { settings: settings.clone(), verifier })
    }

    /// Whether what one of them let in, the other would let in too.
    pub(super) fn alike(one: Option<&Self>, other: Option<&Self>) -> bool {
        one.map(|clients| &clients.settings) == other.map(|clients| &clients.settings)
    }

    /// Judges the chain of a resumed session once more: the library takes it from the ticket unseen, and it may have expired since.
    pub(super) fn judge_again(&self, chain: Option<&[CertificateDer<'_>]>, now: UnixTime) -> Result<(), rustls::Error> {
        match chain.and_then(|chain| chain.split_first()) {
            Some((leaf, others)) => self.verifier.verify_client_cert(leaf, others, now).map(|_| ()),
            None if self.verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }
}

/// What RFC 8705 section 3.1 calls `x5t#S256`, before base64url.
pub(super) fn thumbprint(leaf: &CertificateDer<'_>) -> [u8; 32] {
    let mut thumbprint = [0; 32];
    thumbprint.copy_from_slice(digest::digest(&digest::SHA256, leaf).as_ref());
    thumbprint
}

impl AuthoritiesProblem {
    /// What the operator can do about it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Pem(_) | Self::NoCertificate | Self::Verifier(_) => {
                "`client_ca` names a PEM file with the authorities' certificates: -----BEGIN CERTIFICATE-----"
            }
            Self::Unusable { .. } => "remove it, or take the authority's own X.509 version 3 certificate",
        }
    }
}

#[cfg(test)]
mod tests;
