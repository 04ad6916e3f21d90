//! TLS towards endpoints: whom the gateway believes, and who it says it is.
//!
//! Answers for RFC 9110 section 4.3.4 (the certificate must cover the name that is dialled), RFC 7301 (ALPN) and RFC 7469 section
//! 2.4 (what a pin is the digest of). Verification is on unless it is switched off by name; pins come on top of it. Refuses to know
//! what is spoken afterwards.

use std::io;
use std::sync::Arc;

use aws_lc_rs::digest;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs as provider, verify_tls12_signature, verify_tls13_signature,
};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::{ClientIdentity, UpstreamTls, Wire};
use crate::fetch::{FetchError, authorities};

/// Shakes hands with the TLS endpoints of one upstream.
#[derive(Clone)]
pub struct TlsClient {
    http1: TlsConnector,
    http2: TlsConnector,
    server_name: Option<Box<str>>,
}

/// Why an upstream's TLS settings can't be used; each names the key at fault.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum UpstreamTlsProblem {
    #[error("`ca_file` holds no certificate that can be trusted: it must be PEM")]
    CaPem,
    #[error("the operating system has no trusted authorities: name your own as `ca_file`")]
    NoRoots,
    #[error("`cert` and `key` can't be used together")]
    Identity(#[source] rustls::Error),
    #[error("`cert` or `key` is no valid PEM")]
    IdentityPem,
    #[error("`server_name` is neither a host name nor an address")]
    ServerName,
    #[error("tls can't be set up")]
    General(#[source] rustls::Error),
}

impl TlsClient {
    /// Reads authorities, identity and pins.
    pub fn compile(settings: &UpstreamTls) -> Result<Self, UpstreamTlsProblem> {
        let provider = Arc::new(provider::default_provider());
        let verifier = verifier(settings, &provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(UpstreamTlsProblem::General)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &settings.client {
            Some(identity) => with_identity(builder, identity)?,
            None => builder.with_no_client_auth(),
        };
        if let Some(name) = &settings.server_name {
            ServerName::try_from(&**name).map_err(|_| UpstreamTlsProblem::ServerName)?;
        }
        let offering = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self { http1: offering(b"http/1.1"), http2: offering(b"h2"), server_name: settings.server_name.clone() })
    }

    /// Shakes hands over `io` with the endpoint at `host`. An endpoint that does not agree on HTTP/2 can't be spoken HTTP/2 with; for
    /// HTTP/1.1 one that knows no ALPN will do.
    pub(super) async fn connect<IO>(&self, wire: Wire, host: &str, io: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = ServerName::try_from(name.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        if wire != Wire::Http2 {
            return self.http1.connect(name, io).await;
        }
        let stream = self.http2.connect(name, io).await?;
        match stream.get_ref().1.alpn_protocol() {
            Some(b"h2") => Ok(stream),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the endpoint did not agree on HTTP/2")),
        }
    }
}

impl std::fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsClient").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

type WithVerifier = rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>;

fn with_identity(builder: WithVerifier, identity: &ClientIdentity) -> Result<ClientConfig, UpstreamTlsProblem> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&identity.chain_pem).collect();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or(UpstreamTlsProblem::IdentityPem)?;
    let key = PrivateKeyDer::from_pem_slice(&identity.key_pem).map_err(|_| UpstreamTlsProblem::IdentityPem)?;
    builder.with_client_auth_cert(chain, key).map_err(UpstreamTlsProblem::Identity)
}

fn verifier(settings: &UpstreamTls, provider: &Arc<CryptoProvider>) -> Result<Arc<Recognised>, UpstreamTlsProblem> {
    let chain = if settings.verify {
        let roots = Arc::new(roots(settings.ca_pem.as_deref())?);
        let built = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider)).build();
        Some(built.map_err(|_| UpstreamTlsProblem::CaPem)?)
    } else {
        None
    };
    let algorithms = provider.signature_verification_algorithms;
    Ok(Arc::new(Recognised { chain, pins: settings.pins.clone(), algorithms }))
}

fn roots(ca_pem: Option<&[u8]>) -> Result<RootCertStore, UpstreamTlsProblem> {
    authorities(ca_pem, false).map_err(|error| match error {
        FetchError::NoRoots => UpstreamTlsProblem::NoRoots,
        _ => UpstreamTlsProblem::CaPem,
    })
}

/// Recognises an endpoint: by its chain unless that was switched off, and by its key if keys are pinned.
#[derive(Debug)]
struct Recognised {
    chain: Option<Arc<WebPkiServerVerifier>>,
    pins: Vec<[u8; 32]>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Recognised {
    /// RFC 7469 section 2.4: the digest is of the key with its algorithm, so that a renewed certificate keeps its pin.
    fn is_pinned(&self, leaf: &CertificateDer<'_>) -> bool {
        let Ok((_, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return false };
        let digest = digest::digest(&digest::SHA256, certificate.public_key().raw);
        self.pins.iter().any(|pin| pin == digest.as_ref())
    }
}

impl ServerCertVerifier for Recognised {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(chain) = &self.chain {
            chain.verify_server_cert(leaf, others, name, ocsp, now)?;
        }
        if self.pins.is_empty() || self.is_pinned(leaf) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
