//! What `config::compile` hands to this room: certificates already read, and how handshakes go.

use std::time::Duration;

/// One certificate chain with its key, PEM bytes already read.
#[derive(Clone, PartialEq)]
pub struct CertificateSource {
    /// The chain, leaf first.
    pub chain_pem: Vec<u8>,
    /// The private key (PKCS#8, PKCS#1 or SEC1).
    pub key_pem: Vec<u8>,
    /// The certificate's file name, for messages and metrics.
    pub label: String,
}

/// How one TLS listener shakes hands.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsSettings {
    /// The certificates; the first is the default one.
    pub certificates: Vec<CertificateSource>,
    /// What a server name no certificate covers gets.
    pub unknown_name: UnknownName,
    /// The oldest protocol version accepted.
    pub min_version: MinVersion,
    /// Whether `h2` is offered by ALPN beside `http/1.1`.
    pub http2: bool,
    /// Whether QUIC is answered too, for HTTP/3.
    pub http3: bool,
    /// How long a handshake may take in all.
    pub handshake_timeout: Duration,
    /// Whose client certificates are accepted; `None` asks for none.
    pub client_ca: Option<ClientAuthorities>,
}

/// The authorities whose client certificates are accepted, PEM bytes already read.
#[derive(Clone, PartialEq)]
pub struct ClientAuthorities {
    /// Their certificates, each a root of trust.
    pub pem: Vec<u8>,
    /// The file's name, for messages.
    pub label: String,
    /// Whether a client may do without a certificate.
    pub certificates: ClientCertificates,
}

/// Whether a client may do without a certificate. One that doesn't verify is refused either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// A client without one gets no handshake.
    #[default]
    Required,
    /// A client without one is served; routes may tell the difference.
    Optional,
}

/// What a client gets whose server name no certificate covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownName {
    /// The first certificate.
    #[default]
    Default,
    /// A failed handshake.
    Refuse,
}

/// The oldest TLS version accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs)]
pub enum MinVersion {
    #[default]
    Tls12,
    Tls13,
}

impl std::fmt::Debug for ClientAuthorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ClientAuthorities({}, {:?})", self.label, self.certificates)
    }
}

impl std::fmt::Debug for CertificateSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CertificateSource({})", self.label)
    }
}
