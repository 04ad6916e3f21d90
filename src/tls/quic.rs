//! The handshake of QUIC (RFC 9001): the same certificates, names and authorities, over another wire.
//!
//! TLS 1.3 alone, ALPN `h3` alone, no 0-RTT: what comes before the handshake is over may be a replay. Ticket keys are not those of TCP: a
//! session begun over one wire is not taken up over the other.

use std::io;
use std::sync::Arc;

use quinn::crypto::rustls::{HandshakeData, QuicServerConfig};
use rustls::server::ProducesTickets;
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::time::Instant;

use super::acceptor::{Acceptor, Handshake, HandshakeError, TlsProblem};
use super::clients;
use super::kit::{H3, Kit, Wire};

/// What shakes hands over QUIC for one listener.
#[derive(Clone)]
pub(super) struct Quic {
    config: Arc<QuicServerConfig>,
    tickets: Arc<dyn ProducesTickets>,
}

impl Quic {
    /// With the ticket keys of `before`, if they may stay.
    pub(super) fn configure(kit: &Kit<'_>, before: Option<&Self>) -> Result<Self, TlsProblem> {
        let config = kit.configure(Wire::Quic, before.map(|before| Arc::clone(&before.tickets)))?;
        let tickets = Arc::clone(&config.ticketer);
        let config = QuicServerConfig::try_from(config).map_err(|error| TlsProblem::general(&error))?;
        Ok(Self { config: Arc::new(config), tickets })
    }
}

impl Acceptor {
    /// What QUIC needs to shake hands for this listener; `None` if it is not answered.
    pub fn quic(&self) -> Option<Arc<dyn quinn::crypto::ServerConfig>> {
        self.quic.as_ref().map(|quic| Arc::clone(&quic.config) as _)
    }

    /// Shakes hands over QUIC. The connection is closed when that fails or isn't done by `deadline`.
    ///
    /// Dropping the future closes the connection.
    pub async fn accept_quic(
        &self,
        connecting: quinn::Connecting,
        deadline: Instant,
    ) -> Result<(quinn::Connection, Handshake), HandshakeError> {
        let quic = tokio::time::timeout_at(deadline, connecting)
            .await
            .map_err(|_| HandshakeError::Timeout)?
            .map_err(|error| HandshakeError::Failed(error.into()))?;
        let invalid = |error| HandshakeError::Failed(io::Error::new(io::ErrorKind::InvalidData, error));
        let agreed = quic.handshake_data().and_then(|agreed| agreed.downcast::<HandshakeData>().ok());
        if agreed.as_ref().and_then(|agreed| agreed.protocol.as_deref()) != Some(H3) {
            return Err(invalid(rustls::Error::NoApplicationProtocol)); // RFC 9001 section 8.1
        }
        let chain = quic.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'_>>>().ok());
        let chain = chain.as_deref().map(Vec::as_slice);
        // Whether the session is a resumed one is not told, so every chain is judged as those of resumed ones are.
        if let Some(clients) = &self.clients {
            clients.judge_again(chain, UnixTime::now()).map_err(invalid)?;
        }
        let shaken = Handshake {
            alpn_h2: false,
            server_name: agreed.and_then(|agreed| agreed.server_name).map(Into::into),
            version: "TLSv1.3",
            resumed: false,
            client_certificate: chain.and_then(|chain| chain.first()).map(clients::thumbprint),
        };
        Ok((quic, shaken))
    }
}

#[cfg(test)]
mod tests;
