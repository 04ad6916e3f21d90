//! The way in over QUIC: one listener's UDP socket on one worker, from the first datagram to `serve`.
//!
//! Unlike TCP's sockets, this one carries the connections too. So when the listener goes, its connections are bidden farewell, and the
//! socket closes when the last of them has gone or when the grace is over.

use std::sync::Arc;
use std::time::Duration;

use quinn::ServerConfig;
use tokio::time::{Instant, timeout};

use super::worker::{Entrance, refused};
use crate::http::http3::Code;
use crate::listen::{Attempt, ConnectionLimit, Decision, Ends, Guard, QuicIncoming, QuicSocket};
use crate::observe::{Handshake, ListenerMeter, QuicAttempt, TlsVersion};
use crate::serve::{Worker, serve_http3, transport};
use crate::shutdown::{Drain, Tasks};
use crate::tls::{Acceptor, HandshakeError};

/// How long clients are told that the grace is over; of a short grace a quarter.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// One listener on one worker, over QUIC.
#[derive(Clone)]
pub(super) struct Hatch {
    pub(super) entrance: Arc<Entrance>,
    pub(super) meter: ListenerMeter,
    pub(super) worker: Arc<Worker>,
    /// QUIC's own tasks, which outlast the connections by as long as datagrams may still come; nobody waits for them.
    pub(super) drivers: Tasks,
    pub(super) grace: Duration,
}

impl Hatch {
    /// Lets connections in until told to shut; then waits for those that are left.
    pub(super) async fn stand_open(self, socket: QuicSocket, bounds: (ConnectionLimit, Guard), shutting: Drain) {
        let Some(mut incoming) = self.incoming(socket, bounds) else { return };
        let connections = Tasks::new();
        loop {
            tokio::select! {
                attempt = incoming.accept() => {
                    let Some(attempt) = attempt else {
                        tracing::error!(listener = %self.entrance.name, "quic is answered no more: restart the gateway");
                        return;
                    };
                    connections.spawn(self.clone().receive(attempt, shutting.clone()));
                }
                () = shutting.begun() => break,
            }
        }
        incoming.shut();
        let last_words = LAST_WORDS.min(self.grace / 4);
        if timeout(self.grace.saturating_sub(last_words), connections.finished()).await.is_err() {
            tracing::debug!(listener = %self.entrance.name, connections = connections.count(), "quic connections are cut");
        }
        timeout(last_words, incoming.close(Code::NoError.value())).await.ok(); // who hears nothing finds out by itself
    }

    fn incoming(&self, socket: QuicSocket, bounds: (ConnectionLimit, Guard)) -> Option<QuicIncoming> {
        let acceptor = self.entrance.tls.load_full()?;
        let config = ServerConfig::with_crypto(acceptor.quic()?);
        let meter = self.meter.clone();
        let decided = move |decision| {
            meter.attempted(match decision {
                Decision::Accepted => QuicAttempt::Accepted,
                Decision::Retried => QuicAttempt::Retried,
                Decision::Refused => QuicAttempt::Refused,
                Decision::OverBounds(refusal) => {
                    meter.refused(refused(refusal));
                    QuicAttempt::Refused
                }
            });
        };
        let meter = self.meter.clone();
        match QuicIncoming::new(socket, config, bounds, &self.drivers, decided, move |_| meter.accept_failed()) {
            Ok(incoming) => Some(incoming),
            Err(error) => {
                tracing::error!(listener = %self.entrance.name, %error, "cannot answer quic on this listener");
                None
            }
        }
    }

    /// Shakes hands, then serves. A reload in between changes the certificates, as it does over TCP.
    async fn receive(self, attempt: Attempt, leaving: Drain) {
        let Some(acceptor) = self.entrance.tls.load_full() else { return };
        let Some(crypto) = acceptor.quic() else { return };
        let open = self.meter.accepted();
        let mut config = ServerConfig::with_crypto(crypto);
        config.transport_config(Arc::new(transport(&self.worker.live.current().limits)));
        self.shake(attempt, &acceptor, config, leaving).await;
        drop(open);
    }

    async fn shake(self, attempt: Attempt, acceptor: &Acceptor, config: ServerConfig, leaving: Drain) {
        let deadline = Instant::now() + acceptor.handshake_timeout();
        let ends = Ends { client: attempt.client, local: attempt.local };
        let begun = attempt.accept(Arc::new(config));
        let shaken = match begun {
            Ok((connecting, beginning, admission)) => {
                let shaken = acceptor.accept_quic(connecting, deadline).await;
                drop(beginning);
                shaken.map(|shaken| (shaken, admission))
            }
            Err(error) => Err(HandshakeError::Failed(error.into())),
        };
        match shaken {
            Ok(((quic, shaken), admission)) => {
                self.meter.handshake(Handshake::Done(TlsVersion::Tls13));
                let accepted = self.entrance.admitted(ends, acceptor, &shaken);
                serve_http3(quic, accepted, self.worker, leaving).await;
                drop(admission);
            }
            Err(error) => self.entrance.turned_away(&self.meter, ends.client, &error),
        }
    }
}
