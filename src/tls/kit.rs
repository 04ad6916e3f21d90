//! The TLS configuration of a listener, for either wire it may run over.
//!
//! Owns protocol versions, ALPN (RFC 7301) and session tickets (RFC 5077, RFC 8446 section 4.6.1). 0-RTT stays off (RFC 8446 section
//! 8: replay).

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};

use super::acceptor::TlsProblem;
use super::clients::Clients;
use super::resolver::Names;
use super::{MinVersion, TlsSettings};

pub(super) const H2: &[u8] = b"h2";
pub(super) const H3: &[u8] = b"h3";
pub(super) const HTTP11: &[u8] = b"http/1.1";

/// What TLS runs over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire {
    Tcp,
    /// RFC 9001 section 4.2: TLS 1.3 and nothing older.
    Quic,
}

/// What a listener's handshakes are made of, whatever they run over.
pub(super) struct Kit<'k> {
    pub(super) settings: &'k TlsSettings,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) names: Arc<Names>,
    pub(super) clients: Option<&'k Clients>,
}

impl Kit<'_> {
    /// `tickets` are the keys in use, if they may stay.
    pub(super) fn configure(
        &self,
        wire: Wire,
        tickets: Option<Arc<dyn ProducesTickets>>,
    ) -> Result<ServerConfig, TlsProblem> {
        let general = |error: rustls::Error| TlsProblem::general(&error);
        let versions = match (wire, self.settings.min_version) {
            (Wire::Tcp, MinVersion::Tls12) => rustls::ALL_VERSIONS,
            (Wire::Tcp, MinVersion::Tls13) | (Wire::Quic, _) => &[&rustls::version::TLS13],
        };
        let protocols = match (wire, self.settings.http2) {
            (Wire::Tcp, true) => &[H2, HTTP11][..],
            (Wire::Tcp, false) => &[HTTP11],
            (Wire::Quic, _) => &[H3],
        };
        let verifier =
            self.clients.map_or_else(WebPkiClientVerifier::no_client_auth, |clients| Arc::clone(&clients.verifier));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(versions)
            .map_err(general)?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(&self.names) as _);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        // Sessions live with the clients, encrypted under keys that rotate every six hours: the server stores none.
        config.ticketer = tickets.map_or_else(aws_lc_rs::Ticketer::new, Ok).map_err(general)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // rustls sends two by default. Each is encrypted, authenticated and written in every full handshake; a keep-alive
        // client uses one at most, and gets the next when it resumes.
        config.send_tls13_tickets = 1;
        config.max_early_data_size = 0;
        Ok(config)
    }
}
