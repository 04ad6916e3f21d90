//! What is counted of clients that were refused at a listener, and what is read of those that are here.

use super::super::crowd::Crowd;
use super::cells::ListenerCells;
use super::family::Family;
use super::sheet::Sheet;

pub(super) const CONNECTIONS_REFUSED: Family = Family::counter(
    "portcullis_connections_refused_total",
    "Client connections closed before their handshake or first request, by the bound they were over.",
    &["listener", "reason"],
);
pub(super) const CLIENTS: Family = Family::gauge(
    "portcullis_clients",
    "Clients with connections open: IPv4 addresses and IPv6 networks of 64 bits, without trusted proxies.",
    &[],
);
pub(super) const HANDSHAKES_UNDER_WAY: Family =
    Family::gauge("portcullis_handshakes_under_way", "TLS handshakes begun and not yet ended.", &[]);

/// The bound that a refused connection was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverBound {
    /// Connections of one client.
    Connections,
    /// Handshakes a second of one client.
    Handshakes,
    /// Handshakes a second of all clients.
    AllHandshakes,
    /// Handshakes at once.
    HandshakesUnderWay,
}

impl OverBound {
    pub(super) const ALL: [Self; 4] =
        [Self::Connections, Self::Handshakes, Self::AllHandshakes, Self::HandshakesUnderWay];

    /// The `reason` label: the key of the configuration, if there is one.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Connections => "connections_per_address",
            Self::Handshakes => "handshakes_per_address_sec",
            Self::AllHandshakes => "handshakes_per_sec",
            Self::HandshakesUnderWay => "handshakes_under_way",
        }
    }
}

pub(super) fn read(sheet: &mut Sheet, listener: &str, shards: &[&ListenerCells]) {
    for over in OverBound::ALL {
        let count = shards.iter().map(|shard| shard.refused[over as usize].value()).sum::<u64>();
        sheet.put(&CONNECTIONS_REFUSED, &[listener, over.label()], count);
    }
}

pub(super) fn read_crowd(sheet: &mut Sheet, crowd: &Crowd) {
    let (clients, handshakes) = crowd.numbers();
    sheet.put(&CLIENTS, &[], u64::try_from(clients).unwrap_or(u64::MAX));
    sheet.put(&HANDSHAKES_UNDER_WAY, &[], u64::try_from(handshakes).unwrap_or(u64::MAX));
}
